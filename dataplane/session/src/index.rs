//! From a tuple's hash to the entry that may hold it: cache-line buckets with overflow chains.
//!
//! A hash names one home bucket. A bucket is one cache line: eight tags of 16 bits, eight words
//! (slot and direction), the link of an overflow bucket and a version. There are enough home
//! buckets for a load of 80 % when every slot of the shard is in use; then 93 % of all keys lie in
//! their home bucket and nearly all others in the next one.
//!
//! **Room.** A chain is compact: only its last bucket may have free places, because a removal moves
//! the chain's last item into the gap. So `k` overflow buckets need more than `8k` keys, and a
//! pool of a quarter of the shard's capacity can never run out: an insertion fails only when there
//! is no free slot.
//!
//! **Readers.** The writer publishes a key by storing its word and then its tag (release). A
//! removal moves an item or recycles a bucket, so it raises the home bucket's version around its
//! stores. A reader that finds a key has checked it against the entry, so it needs no version; a
//! reader that finds nothing retries until the version held still while it looked. So a key that is
//! present all the time is found, whatever the writer moves.

use crate::concurrency::{AtomicU32, AtomicU64, Ordering};
use crate::memory::{self, Array, Backing, Memory, OutOfMemory};
use crate::model::Direction;
use crate::seqlock::Sequence;

/// Items in a bucket.
const WIDTH: u32 = 8;
/// Home buckets hold this share of their items when the table is full.
const LOAD_PERCENT: u64 = 80;

/// Where a key leads: the slot of its session and the direction that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub(crate) fn new(slot: u32, direction: Direction) -> Self {
        Self(slot << 1 | direction as u32)
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) fn direction(self) -> Direction {
        if self.0 & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }
}

/// One cache line of keys.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Bucket {
    /// Four tags to a word; a zero tag is a free place.
    tags: [AtomicU64; 2],
    places: [AtomicU32; 8],
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
    fn place(&self, at: u32) -> Place {
        Place(self.places[at as usize].load(Ordering::Relaxed))
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

    fn publish(&self, at: u32, tag: u16, place: Place) {
        self.places[at as usize].store(place.0, Ordering::Relaxed);
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

    pub(crate) fn prefetch_overflow(&self, home: Home) {
        if let Some(next) = self.overflow(self.bucket(home.bucket)) {
            memory::prefetch(next);
        }
    }

    /// The first place in the home bucket that has the key's tag, else anything in the chain.
    #[inline]
    pub(crate) fn first(&self, home: Home) -> Candidate {
        let bucket = self.bucket(home.bucket);
        let matching = bucket.matching(home.tag);
        if matching != 0 {
            Candidate::Place(bucket.place(matching.trailing_zeros()))
        } else if bucket.next.load(Ordering::Relaxed) == 0 {
            Candidate::None
        } else {
            Candidate::Chain
        }
    }

    /// The writer's search: the first place that `accept` takes.
    #[inline]
    pub(crate) fn find(&self, home: Home, mut accept: impl FnMut(Place) -> bool) -> Option<Place> {
        let mut bucket = self.bucket(home.bucket);
        loop {
            let mut matching = bucket.matching(home.tag);
            while matching != 0 {
                let place = bucket.place(matching.trailing_zeros());
                if accept(place) {
                    return Some(place);
                }
                matching &= matching - 1;
            }
            bucket = self.overflow(bucket)?;
        }
    }

    /// Any thread's search: what `accept` makes of the first place that it takes.
    pub(crate) fn find_shared<T>(
        &self,
        home: Home,
        mut accept: impl FnMut(Place) -> Option<T>,
    ) -> Option<T> {
        let version = &self.bucket(home.bucket).version;
        'again: loop {
            let count = version.begin();
            let mut bucket = self.bucket(home.bucket);
            loop {
                let mut matching = bucket.matching(home.tag);
                while matching != 0 {
                    if let Some(found) = accept(bucket.place(matching.trailing_zeros())) {
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
    pub(crate) fn insert(&self, pool: &mut Pool, home: Home, place: Place) {
        let mut last = self.bucket(home.bucket);
        while let Some(next) = self.overflow(last) {
            last = next;
        }
        let items = last.items();
        if items < WIDTH {
            last.publish(items, home.tag, place);
            return;
        }
        let number = self.take(pool);
        self.bucket(number).publish(0, home.tag, place);
        last.next.store(number + 1, Ordering::Release);
    }

    /// Takes a key away and closes the gap with the last one of its chain.
    pub(crate) fn remove(&self, pool: &mut Pool, home: Home, place: Place) {
        let first = self.bucket(home.bucket);
        let Some((holder, at)) = self.locate(home, place) else {
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
            if !(std::ptr::eq(holder, last) && at == end) {
                holder.publish(at, last.tag(end), last.place(end));
            }
            last.set_tag(end, 0);
            if let (0, Some(before)) = (end, before) {
                self.give_back(pool, before);
            }
        });
    }

    fn locate(&self, home: Home, place: Place) -> Option<(&Bucket, u32)> {
        let mut bucket = self.bucket(home.bucket);
        loop {
            let mut matching = bucket.matching(home.tag);
            while matching != 0 {
                let at = matching.trailing_zeros();
                if bucket.place(at) == place {
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

/// What one look at the home bucket tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// No key with this tag.
    None,
    /// Probably here.
    Place(Place),
    /// Perhaps in an overflow bucket.
    Chain,
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
