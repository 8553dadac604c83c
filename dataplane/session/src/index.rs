//! From a tuple's hash to the entry that may hold it: cache-line buckets with overflow chains.
//!
//! A hash names one home bucket. A bucket is one cache line: eight tags of 16 bits, eight hits
//! (slot and direction), the link of an overflow bucket and a version. There are enough home
//! buckets for a load of 80 % when every slot of the shard is in use; then 93 % of all keys lie in
//! their home bucket and nearly all others in the next one.
//!
//! **Room.** A chain is compact: only its last bucket may have free places, because a removal moves
//! the chain's last item into the gap. So `k` overflow buckets need more than `8k` keys, and a
//! pool of a quarter of the shard's capacity can never run out: an insertion fails only when there
//! is no free slot.
//!
//! **Readers.** The writer publishes a key by storing its hit and then its tag (release). A
//! removal moves an item or recycles a bucket, so it raises the home bucket's version around its
//! stores. A reader that finds a key has checked it against the entry, so it needs no version; a
//! reader that finds nothing retries until the version held still while it looked. So a key that is
//! present all the time is found, whatever the writer moves.

use crate::concurrency::{AtomicU32, AtomicU64, Ordering};
use crate::memory::{self, Array, Backing, Memory, OutOfMemory};
use crate::model::Hit;
use crate::seqlock::Sequence;

/// Items in a bucket.
const WIDTH: u32 = 8;
/// Home buckets hold this share of their items when the table is full.
const LOAD_PERCENT: u64 = 80;

/// One cache line of keys.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Bucket {
    /// Four tags to a word; a zero tag is a free place.
    tags: [AtomicU64; 2],
    /// [`Hit`]s, as bits.
    hits: [AtomicU32; 8],
    /// The overflow bucket, counted from one; zero when there is none.
    next: AtomicU32,
    /// Of a home bucket: the version of its whole chain.
    version: Sequence,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The places whose tag is `tag`, as bits.
    #[inline]
    fn matching(&self, tag: u16) -> u8 {
        // Acquire: whoever sees a tag sees the place and the entry that were stored before it.
        let words = [
            self.tags[0].load(Ordering::Acquire),
            self.tags[1].load(Ordering::Acquire),
        ];
        memory::matching_lanes(words, tag)
    }

    #[inline]
    fn hit(&self, at: u32) -> Option<Hit> {
        Hit::from_bits(self.hits[at as usize].load(Ordering::Relaxed))
    }

    /// The first hit whose tag is `tag`.
    #[inline]
    fn first(&self, tag: u16) -> Option<Hit> {
        let matching = self.matching(tag);
        let bits = self.hits[matching.trailing_zeros() as usize % 8].load(Ordering::Relaxed);
        Hit::from_bits(if matching == 0 { 0 } else { bits })
    }

    fn tag(&self, at: u32) -> u16 {
        let bytes = self.tags[(at / 4) as usize]
            .load(Ordering::Relaxed)
            .to_le_bytes();
        let byte = (at % 4) as usize * 2;
        u16::from_le_bytes([bytes[byte], bytes[byte + 1]])
    }

    fn set_tag(&self, at: u32, tag: u16) {
        let word = &self.tags[(at / 4) as usize];
        let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
        let byte = (at % 4) as usize * 2;
        bytes[byte..byte + 2].copy_from_slice(&tag.to_le_bytes());
        word.store(u64::from_le_bytes(bytes), Ordering::Release);
    }

    fn publish(&self, at: u32, tag: u16, hit: Hit) {
        self.hits[at as usize].store(hit.to_bits(), Ordering::Relaxed);
        self.set_tag(at, tag);
    }

    /// How many items there are: they fill a bucket from its first place on.
    fn items(&self) -> u32 {
        self.matching(0).trailing_zeros().min(WIDTH)
    }
}

/// The overflow buckets that are in no chain. Belongs to the writer.
pub(crate) struct Pool {
    /// First of the returned ones, counted from one, linked by `next`.
    returned: u32,
    /// The next one that was never used.
    fresh: u32,
}

/// The buckets: home buckets first, overflow buckets after them.
pub(crate) struct Index {
    buckets: Array<Bucket>,
    homes: u32,
}

/// The key's home bucket and tag.
#[derive(Clone, Copy, Default)]
pub(crate) struct Home {
    bucket: u32,
    tag: u16,
}

impl Index {
    /// The index of a shard with `capacity` slots, each of which has two keys, and its pool.
    pub(crate) fn new(capacity: u32, memory: Memory) -> Result<(Self, Pool), OutOfMemory> {
        let keys = u64::from(capacity) * 2;
        let homes = (keys * 100)
            .div_ceil(LOAD_PERCENT * u64::from(WIDTH))
            .max(1);
        // Below 2^30 slots, which `Settings` guarantees, both counts fit in 32 bits.
        let out_of_memory = |_| OutOfMemory { bytes: usize::MAX };
        let homes = u32::try_from(homes).map_err(out_of_memory)?;
        let overflow = u32::try_from(keys.div_ceil(u64::from(WIDTH))).map_err(out_of_memory)?;
        let buckets = Array::new(homes as usize + overflow as usize, memory)?;
        Ok((
            Self { buckets, homes },
            Pool {
                returned: 0,
                fresh: homes,
            },
        ))
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[Bucket]>(&self.buckets)
    }

    pub(crate) fn backing(&self) -> Backing {
        self.buckets.backing()
    }

    /// Splits a hash: low bits choose the bucket, high bits are the tag.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> Home {
        let share = (hash & 0xffff_ffff) * u64::from(self.homes);
        Home {
            bucket: (share >> 32) as u32,
            tag: ((hash >> 48) as u16).max(1),
        }
    }

    #[inline]
    pub(crate) fn prefetch(&self, home: Home) {
        memory::prefetch(self.bucket(home.bucket));
    }

    /// The first hit in the home bucket that has the key's tag, and whether there is more to the
    /// chain. Without branches, for bursts.
    #[inline]
    pub(crate) fn first(&self, home: Home) -> (Option<Hit>, bool) {
        let bucket = self.bucket(home.bucket);
        let more = bucket.next.load(Ordering::Relaxed) != 0;
        (bucket.first(home.tag), more)
    }

    /// Asks for the first overflow bucket.
    pub(crate) fn prefetch_overflow(&self, home: Home) {
        if let Some(next) = self.overflow(self.bucket(home.bucket)) {
            memory::prefetch(next);
        }
    }

    /// The first hit in the overflow buckets that has the key's tag.
    pub(crate) fn first_overflow(&self, home: Home) -> Option<Hit> {
        let mut bucket = self.bucket(home.bucket);
        loop {
            bucket = self.overflow(bucket)?;
            if let Some(hit) = bucket.first(home.tag) {
                return Some(hit);
            }
        }
    }

    /// The writer's search: the first hit that `accept` takes.
    #[inline]
    pub(crate) fn find(&self, home: Home, mut accept: impl FnMut(Hit) -> bool) -> Option<Hit> {
        let mut bucket = self.bucket(home.bucket);
        loop {
            let mut matching = bucket.matching(home.tag);
            while matching != 0 {
                let hit = bucket.hit(matching.trailing_zeros());
                if let Some(hit) = hit.filter(|&hit| accept(hit)) {
                    return Some(hit);
                }
                matching &= matching - 1;
            }
            bucket = self.overflow(bucket)?;
        }
    }

    /// Any thread's search: what `accept` makes of the first hit that it takes.
    pub(crate) fn find_shared<T>(
        &self,
        home: Home,
        mut accept: impl FnMut(Hit) -> Option<T>,
    ) -> Option<T> {
        let version = &self.bucket(home.bucket).version;
        'again: loop {
            let count = version.begin();
            let mut bucket = self.bucket(home.bucket);
            loop {
                let mut matching = bucket.matching(home.tag);
                while matching != 0 {
                    let hit = bucket.hit(matching.trailing_zeros());
                    if let Some(found) = hit.and_then(&mut accept) {
                        return Some(found);
                    }
                    matching &= matching - 1;
                }
                let next = self.overflow(bucket);
                // A bucket that was recycled meanwhile leads into another chain.
                if !version.unchanged(count) {
                    continue 'again;
                }
                bucket = next?;
            }
        }
    }

    /// Adds a key that is not there yet.
    pub(crate) fn insert(&self, pool: &mut Pool, home: Home, hit: Hit) {
        let mut last = self.bucket(home.bucket);
        while let Some(next) = self.overflow(last) {
            last = next;
        }
        let items = last.items();
        if items < WIDTH {
            last.publish(items, home.tag, hit);
            return;
        }
        let number = self.take(pool);
        self.bucket(number).publish(0, home.tag, hit);
        last.next.store(number + 1, Ordering::Release);
    }

    /// Takes a key away and closes the gap with the last one of its chain.
    pub(crate) fn remove(&self, pool: &mut Pool, home: Home, hit: Hit) {
        let first = self.bucket(home.bucket);
        let Some((holder, at)) = self.locate(home, hit) else {
            return;
        };
        let mut before = None;
        let mut last = first;
        while let Some(next) = self.overflow(last) {
            before = Some(last);
            last = next;
        }
        let end = last.items() - 1;
        first.version.write(|| {
            if let Some(moved) = last.hit(end)
                && moved != hit
            {
                holder.publish(at, last.tag(end), moved);
            }
            last.set_tag(end, 0);
            if let (0, Some(before)) = (end, before) {
                self.give_back(pool, before);
            }
        });
    }

    fn locate(&self, home: Home, hit: Hit) -> Option<(&Bucket, u32)> {
        let mut bucket = self.bucket(home.bucket);
        loop {
            let mut matching = bucket.matching(home.tag);
            while matching != 0 {
                let at = matching.trailing_zeros();
                if bucket.hit(at) == Some(hit) {
                    return Some((bucket, at));
                }
                matching &= matching - 1;
            }
            bucket = self.overflow(bucket)?;
        }
    }

    fn take(&self, pool: &mut Pool) -> u32 {
        if pool.returned == 0 {
            // Never past the end: see the module's head.
            pool.fresh += 1;
            return pool.fresh - 1;
        }
        let number = pool.returned - 1;
        let bucket = self.bucket(number);
        pool.returned = bucket.next.load(Ordering::Relaxed);
        bucket.next.store(0, Ordering::Relaxed);
        number
    }

    /// Unlinks the empty bucket that follows `before`.
    fn give_back(&self, pool: &mut Pool, before: &Bucket) {
        let number = before.next.load(Ordering::Relaxed);
        before.next.store(0, Ordering::Release);
        self.bucket(number - 1)
            .next
            .store(pool.returned, Ordering::Relaxed);
        pool.returned = number;
    }

    #[inline]
    fn bucket(&self, number: u32) -> &Bucket {
        &self.buckets[number as usize]
    }

    #[inline]
    fn overflow(&self, bucket: &Bucket) -> Option<&Bucket> {
        let next = bucket.next.load(Ordering::Acquire);
        (next != 0).then(|| self.bucket(next - 1))
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
