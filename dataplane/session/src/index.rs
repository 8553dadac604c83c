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
use crate::key::{high, low};
use crate::memory::{self, Array, Backing, Memory, OutOfMemory};
use crate::model::Hit;
use crate::seqlock::Sequence;

/// Items in a bucket.
const WIDTH: u32 = 8;
/// Where in a bucket's words the overflow bucket stands.
const NEXT: usize = WIDTH as usize;
/// Home buckets hold this share of their items when the table is full.
const LOAD_PERCENT: u64 = 80;

/// One cache line of keys.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Bucket {
    /// Four tags to a word, the first in its lowest bits; a zero tag is a free place.
    tags: [AtomicU64; 2],
    /// [`Hit`]s, as bits; and behind them the overflow bucket, counted from one, or zero when there is
    /// none.
    words: [AtomicU32; NEXT + 1],
    /// Of a home bucket: the version of its whole chain.
    version: Sequence,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The places whose tag is `tag`, two bits each.
    #[inline]
    fn matching(&self, tag: u16) -> u32 {
        // Acquire: whoever sees a tag sees the word and the entry that were stored before it.
        let tags = [
            self.tags[0].load(Ordering::Acquire),
            self.tags[1].load(Ordering::Acquire),
        ];
        memory::matching_lanes(tags, tag)
    }

    /// The hits whose tag is `tag`.
    #[inline]
    fn hits(&self, tag: u16) -> impl Iterator<Item = (u32, Hit)> {
        let mut places = self.matching(tag) & 0x5555;
        std::iter::from_fn(move || {
            while places != 0 {
                let at = places.trailing_zeros() / 2;
                places &= places - 1;
                if let Some(hit) = self.hit(at) {
                    return Some((at, hit));
                }
            }
            None
        })
    }

    /// What the first place with this tag holds; where there is none, the overflow bucket or zero.
    #[inline]
    fn first(&self, tag: u16) -> Word {
        let places = self.matching(tag) | 1 << (2 * WIDTH);
        let at = places.trailing_zeros() as usize / 2;
        Word(self.words[at.min(NEXT)].load(Ordering::Relaxed))
    }

    #[inline]
    fn hit(&self, at: u32) -> Option<Hit> {
        Hit::from_bits(self.words[at as usize].load(Ordering::Relaxed))
    }

    #[inline]
    fn next(&self) -> &AtomicU32 {
        &self.words[NEXT]
    }

    fn tag(&self, at: u32) -> u16 {
        let (word, shift) = self.tag_at(at);
        let [a, b, ..] = (word.load(Ordering::Relaxed) >> shift).to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    fn set_tag(&self, at: u32, tag: u16) {
        let (word, shift) = self.tag_at(at);
        let others = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(others | u64::from(tag) << shift, Ordering::Release);
    }

    /// The word of a tag, and where in it.
    #[inline]
    fn tag_at(&self, at: u32) -> (&AtomicU64, u32) {
        (&self.tags[(at / 4) as usize], at % 4 * 16)
    }

    fn publish(&self, at: u32, tag: u16, hit: Hit) {
        self.words[at as usize].store(hit.to_bits(), Ordering::Relaxed);
        self.set_tag(at, tag);
    }

    /// How many items there are: they fill a bucket from its first place on.
    fn items(&self) -> u32 {
        (self.matching(0) | 1 << (2 * WIDTH)).trailing_zeros() / 2
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

/// What a look at a bucket gives: a [`Hit`] that may be the right one, the overflow bucket to look at
/// next, or zero.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Word(u32);

impl Word {
    #[inline]
    pub(crate) fn hit(self) -> Option<Hit> {
        Hit::from_bits(self.0)
    }

    /// True when there is an overflow bucket to look at next.
    #[inline]
    pub(crate) fn is_more(self) -> bool {
        self.0 != 0 && self.hit().is_none()
    }

    /// The cache line of the entries that the hit is about; some line if it is no hit.
    #[inline]
    pub(crate) fn line(self) -> usize {
        Hit::line(self.0)
    }
}

/// Where a key belongs: its home bucket, in the lower half, its tag, and above that a mark. One word, so
/// that a burst of them is set up and kept in few instructions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Home(u64);

impl Home {
    /// Bit of the mark; nothing is above it.
    const MARK: u32 = 48;

    const fn new(bucket: u32, tag: u16) -> Self {
        Self(bucket as u64 | (tag as u64) << 32)
    }

    #[inline]
    pub(crate) const fn bucket(self) -> u32 {
        low(self.0)
    }

    #[inline]
    pub(crate) const fn tag(self) -> u16 {
        let [a, b, ..] = high(self.0).to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// The same place with a mark, which is the caller's own.
    #[inline]
    pub(crate) const fn marked(self, mark: bool) -> Self {
        Self(self.0 | (mark as u64) << Self::MARK)
    }

    /// 1 if it is marked, else 0.
    #[inline]
    pub(crate) const fn mark(self) -> usize {
        (self.0 >> Self::MARK) as usize
    }
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

    /// Where a key with this hash belongs.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> Home {
        self.view().home(hash)
    }

    /// What bursts look at.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View {
            buckets: &self.buckets,
            homes: self.homes.into(),
        }
    }

    /// The writer's search: the first hit that `accept` takes.
    #[inline]
    pub(crate) fn find(&self, home: Home, mut accept: impl FnMut(Hit) -> bool) -> Option<Hit> {
        let mut bucket = self.home_bucket(home);
        loop {
            if let Some((_, hit)) = bucket.hits(home.tag()).find(|&(_, hit)| accept(hit)) {
                return Some(hit);
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
        let version = &self.home_bucket(home).version;
        'again: loop {
            let count = version.begin();
            let mut bucket = self.home_bucket(home);
            loop {
                let found = bucket.hits(home.tag()).find_map(|(_, hit)| accept(hit));
                if found.is_some() {
                    return found;
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
        let mut last = self.home_bucket(home);
        while let Some(next) = self.overflow(last) {
            last = next;
        }
        let items = last.items();
        if items < WIDTH {
            last.publish(items, home.tag(), hit);
            return;
        }
        let number = self.take(pool);
        self.bucket(number).publish(0, home.tag(), hit);
        last.next().store(number + 1, Ordering::Release);
    }

    /// Takes a key away and closes the gap with the last one of its chain.
    pub(crate) fn remove(&self, pool: &mut Pool, home: Home, hit: Hit) {
        let first = self.home_bucket(home);
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

    fn locate(&self, home: Home, wanted: Hit) -> Option<(&Bucket, u32)> {
        let mut bucket = self.home_bucket(home);
        loop {
            if let Some((at, _)) = bucket.hits(home.tag()).find(|&(_, hit)| hit == wanted) {
                return Some((bucket, at));
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
        pool.returned = bucket.next().load(Ordering::Relaxed);
        bucket.next().store(0, Ordering::Relaxed);
        number
    }

    /// Unlinks the empty bucket that follows `before`.
    fn give_back(&self, pool: &mut Pool, before: &Bucket) {
        let number = before.next().load(Ordering::Relaxed);
        before.next().store(0, Ordering::Release);
        self.bucket(number - 1)
            .next()
            .store(pool.returned, Ordering::Relaxed);
        pool.returned = number;
    }

    #[inline]
    fn home_bucket(&self, home: Home) -> &Bucket {
        &self.buckets[home.bucket() as usize]
    }

    #[inline]
    fn bucket(&self, number: u32) -> &Bucket {
        &self.buckets[number as usize]
    }

    #[inline]
    fn overflow(&self, bucket: &Bucket) -> Option<&Bucket> {
        self.view().overflow(bucket)
    }
}

/// The buckets as a burst sees them, in values that stay in registers: what an [`Index`] refers to
/// would be read again after every acquiring load.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    buckets: &'a [Bucket],
    homes: u64,
}

impl<'a> View<'a> {
    /// Splits a hash: low bits choose the bucket, high bits are the tag.
    #[inline]
    pub(crate) fn home(self, hash: u64) -> Home {
        let [.., a, b] = hash.to_le_bytes();
        // A zero tag stands for a free place.
        let tag = u16::from_le_bytes([a, b]) | 1;
        Home::new(high(u64::from(low(hash)) * self.homes), tag)
    }

    #[inline]
    pub(crate) fn prefetch(self, bucket: u32) {
        memory::prefetch_line(self.buckets, bucket as usize);
    }

    /// Asks for the overflow bucket behind a home bucket, where there is one.
    #[inline]
    pub(crate) fn prefetch_next(self, home: Home) {
        let next = self.buckets[home.bucket() as usize].next();
        let next = next.load(Ordering::Relaxed) as usize;
        // Without a branch: where there is none, the home bucket is asked for again.
        let line = if next == 0 {
            home.bucket() as usize
        } else {
            next - 1
        };
        memory::prefetch_line(self.buckets, line);
    }

    /// A look at the home bucket, without branches.
    #[inline]
    pub(crate) fn first(self, home: Home) -> Word {
        self.buckets[home.bucket() as usize].first(home.tag())
    }

    /// Asks for the overflow bucket that `word` is about.
    #[inline]
    pub(crate) fn prefetch_overflow(self, word: Word) {
        memory::prefetch_line(self.buckets, (word.0 as usize).wrapping_sub(1));
    }

    /// The search of the overflow buckets from the one on that `word` is about.
    #[inline]
    pub(crate) fn first_overflow(self, mut word: Word, tag: u16) -> Word {
        while word.is_more() {
            word = self.buckets[word.0 as usize - 1].first(tag);
        }
        word
    }

    #[inline]
    fn overflow(self, bucket: &Bucket) -> Option<&'a Bucket> {
        let next = bucket.next().load(Ordering::Acquire);
        (next != 0).then(|| &self.buckets[(next - 1) as usize])
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
