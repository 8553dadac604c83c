//! Looking up, one key or a burst of them with all of its cache misses in flight together.

use packet::{Tuple, ipv4};

use super::Shard;
use crate::entry::Entry;
use crate::index::Home;
use crate::key::Key;
use crate::memory;
use crate::model::{Direction, Hit, SessionId};

/// Keys in a burst at the most.
const BURST: usize = 64;

impl Shard {
    /// The session of packets that arrive as `tuple`.
    #[must_use]
    pub fn lookup(&self, tuple: &Tuple) -> Option<Hit> {
        self.lookup_key(&Key::from(tuple))
    }

    /// The session of packets that arrive as the tuple of `key`.
    #[must_use]
    pub fn lookup_key(&self, key: &Key) -> Option<Hit> {
        self.find(self.home(key), key)
    }

    /// True when `hit` still is the answer to `key`.
    #[must_use]
    pub fn confirms(&self, hit: Hit, key: &Key) -> bool {
        let entry = self.entry(hit.id());
        entry.is_occupied() && entry.half(hit.direction()).matches(key)
    }

    /// Answers [`Shard::lookup_key`] for each of `keys`, in `hits` at the same place. Bit `i` of what
    /// it returns is set when `keys[i]` was not found. The line of the direction that was hit, and of
    /// TCP sessions the other one too, are in the cache or on their way afterwards.
    ///
    /// # Panics
    /// When there are more than 64 keys, or fewer `hits`.
    pub fn lookup_burst(&self, keys: &[Key], hits: &mut [Option<Hit>]) -> u64 {
        assert!(keys.len() <= BURST, "a burst has at most 64 keys");
        let hits = &mut hits[..keys.len()];
        let index = &self.shared.index;
        let mut homes = [Home::default(); BURST];
        // First miss: the buckets.
        for (home, key) in homes.iter_mut().zip(keys) {
            *home = self.home(key);
            index.prefetch(*home);
        }
        let homes = &homes[..keys.len()];
        let chained = self.seek(keys, homes, hits);
        self.seek_further(keys, homes, hits, chained);
        self.settle(keys, homes, hits)
    }

    /// Asks for all that the insertion of a session with `keys` will touch, when `ahead` others will
    /// be inserted before it. A hint: what is asked for and not used costs its cache lines.
    pub fn prefetch_insert(&self, keys: [&Key; 2], ahead: usize) {
        for key in keys {
            self.shared.index.prefetch(self.home(key));
        }
        if let Some(sources) = &self.sources {
            sources.prefetch(self.shared.hasher.source(keys[0]));
        }
        if let Some(&slot) = self.free.iter().rev().nth(ahead) {
            let entry = self.entry(SessionId(slot));
            memory::prefetch(entry.half(Direction::Original));
            memory::prefetch(entry.half(Direction::Reply));
            self.wheel.prefetch(slot);
            self.half_open.prefetch(slot);
        }
    }

    /// Second miss: the entries that the tags point to. Gives those that may be in an overflow
    /// bucket.
    #[inline]
    fn seek(&self, keys: &[Key], homes: &[Home], hits: &mut [Option<Hit>]) -> u64 {
        let (index, entries): (_, &[Entry]) = (&self.shared.index, &self.shared.entries);
        let mut chained = 0;
        for (i, ((hit, home), key)) in hits.iter_mut().zip(homes).zip(keys).enumerate() {
            let (candidate, more) = index.first(*home);
            chained |= u64::from(candidate.is_none() && more) << i;
            prefetch(entries, candidate, key);
            *hit = candidate;
        }
        chained
    }

    /// The same for those whose home bucket is full and has not got their tag.
    #[inline]
    fn seek_further(&self, keys: &[Key], homes: &[Home], hits: &mut [Option<Hit>], chained: u64) {
        let index = &self.shared.index;
        for i in bits(chained) {
            index.prefetch_overflow(homes[i]);
        }
        for i in bits(chained) {
            hits[i] = index.first_overflow(homes[i]);
            prefetch(&self.shared.entries, hits[i], &keys[i]);
        }
    }

    /// Compares the candidates; only a false tag needs the whole search. Gives the misses.
    #[inline]
    fn settle(&self, keys: &[Key], homes: &[Home], hits: &mut [Option<Hit>]) -> u64 {
        let mut misses = 0;
        for (i, ((hit, home), key)) in hits.iter_mut().zip(homes).zip(keys).enumerate() {
            if let Some(candidate) = *hit
                && !self.half(candidate).matches(key)
            {
                *hit = self.find(*home, key);
            }
            misses |= u64::from(hit.is_none()) << i;
        }
        misses
    }
}

/// Asks for what a packet of `key` will need of the session that it probably belongs to.
#[inline]
fn prefetch(entries: &[Entry], candidate: Option<Hit>, key: &Key) {
    // Without branches: where there is no candidate, or no need of a second line, one that is asked
    // for anyway is asked for again.
    let hit = candidate.unwrap_or(Hit::FIRST);
    let entry = &entries[hit.id().0 as usize];
    let other = match (key.protocol() == ipv4::PROTOCOL_TCP, hit.direction()) {
        (false, direction) => direction,
        (true, direction) => direction.other(),
    };
    memory::prefetch(entry.half(hit.direction()));
    memory::prefetch(entry.half(other));
}

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (position < u64::BITS).then_some(position as usize)
    })
}
