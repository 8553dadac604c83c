//! Looking up, one key or a burst of them with all of its cache misses in flight together.

use packet::{Tuple, ipv4};

use super::Shard;
use crate::entry::Entry;
use crate::index::{Home, Word};
use crate::key::Key;
use crate::memory;
use crate::model::Hit;

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
        let (hasher, index) = (self.shared.hasher, self.shared.index.view());
        let mut search = Search::default();
        // First miss: the buckets.
        for (home, key) in search.homes.iter_mut().zip(keys) {
            *home = index.home(hasher.key(key));
            index.prefetch(home.bucket);
        }
        // Second miss: the entries that the tags point to.
        let entries: &[Entry] = &self.shared.entries;
        for ((word, home), key) in search.words.iter_mut().zip(&search.homes).zip(keys) {
            *word = index.first(*home);
            prefetch_session(entries, *word, key);
        }
        let mut misses = 0;
        let mut more = 0;
        for (i, (hit, key)) in hits.iter_mut().zip(keys).enumerate() {
            let word = search.words[i];
            *hit = word.hit();
            if hit.is_some_and(|hit| matches(entries, hit, key)) {
                continue;
            }
            if hit.is_some() {
                *hit = self.lookup_key(key);
            } else {
                more |= u64::from(word.is_more()) << i;
            }
            misses |= u64::from(hit.is_none()) << i;
        }
        if more == 0 {
            misses
        } else {
            misses & !self.look_further(&mut search, more, keys, hits)
        }
    }

    /// Looks for keys that are not in their home bucket, but perhaps in an overflow bucket. Gives those
    /// that were found.
    fn look_further(
        &self,
        search: &mut Search,
        more: u64,
        keys: &[Key],
        hits: &mut [Option<Hit>],
    ) -> u64 {
        let (index, entries) = (self.shared.index.view(), &self.shared.entries);
        for i in bits(more) {
            index.prefetch_overflow(search.words[i]);
        }
        for i in bits(more) {
            hits[i] = index.first_overflow(search.words[i], search.homes[i].tag);
            if let Some(hit) = hits[i] {
                memory::prefetch_line(entries, Hit::line(hit.to_bits()));
            }
        }
        let mut found = 0;
        for i in bits(more) {
            if hits[i].is_some_and(|hit| !matches(entries, hit, &keys[i])) {
                hits[i] = self.lookup_key(&keys[i]);
            }
            found |= u64::from(hits[i].is_some()) << i;
        }
        found
    }
}

/// What a burst of look-ups knows of each key so far.
struct Search {
    homes: [Home; BURST],
    words: [Word; BURST],
}

impl Default for Search {
    fn default() -> Self {
        Self {
            homes: [Home::default(); BURST],
            words: [Word::default(); BURST],
        }
    }
}

/// Asks for what a packet of `key` will need of the session that `word` is about.
#[inline]
fn prefetch_session(entries: &[Entry], word: Word, key: &Key) {
    // Without branches: a line that is not needed is another one that is asked for anyway.
    let line = word.line();
    let both = usize::from(key.protocol() == ipv4::PROTOCOL_TCP);
    memory::prefetch_line(entries, line);
    memory::prefetch_line(entries, line ^ both);
}

#[inline]
fn matches(entries: &[Entry], hit: Hit, key: &Key) -> bool {
    entries[hit.id().0 as usize]
        .half(hit.direction())
        .matches(key)
}

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (position < u64::BITS).then_some(position as usize)
    })
}
