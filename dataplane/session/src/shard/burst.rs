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
/// How many buckets are asked for before the first of them is looked at. Of 8, 12 and 16, with bursts of
/// 32 and 64 keys, this one took the fewest cycles in tables that are larger than the caches.
const AHEAD: usize = 16;

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
        let entries: &[Entry] = &self.shared.entries;
        let mut search = Search::default();
        let ahead = AHEAD.min(keys.len());
        let mut more = 0;
        // First miss: the buckets. Second miss: the entries that the tags point to, or overflow buckets.
        // One follows the other in one loop, so that there are always enough of both on their way.
        for step in 0..keys.len() + ahead {
            if let Some(key) = keys.get(step) {
                let home = index.home(hasher.key(key));
                search.homes[step] = home;
                index.prefetch(home.bucket());
            }
            let Some(i) = step.checked_sub(ahead) else {
                continue;
            };
            let word = index.first(search.homes[i]);
            search.words[i] = word;
            if word.is_more() {
                more |= 1_u64 << i;
                index.prefetch_overflow(word);
            } else {
                prefetch_session(entries, word, &keys[i]);
            }
        }
        // Few keys are in overflow buckets, but there are some in nearly every burst: their entries are
        // asked for before those of all others are looked at.
        for i in bits(more) {
            let word = index.first_overflow(search.words[i], search.homes[i].tag());
            search.words[i] = word;
            prefetch_session(entries, word, &keys[i]);
        }
        let mut misses = 0;
        for (i, (hit, key)) in hits.iter_mut().zip(keys).enumerate() {
            if more >> i & 1 == 0 {
                *hit = self.settle(search.words[i], key);
                misses |= u64::from(hit.is_none()) << i;
            }
        }
        for i in bits(more) {
            hits[i] = self.settle(search.words[i], &keys[i]);
            misses |= u64::from(hits[i].is_none()) << i;
        }
        misses
    }

    /// Compares the candidate; only a false tag needs the whole search.
    #[inline]
    fn settle(&self, word: Word, key: &Key) -> Option<Hit> {
        let hit = word.hit()?;
        if self.half(hit).matches(key) {
            Some(hit)
        } else {
            self.lookup_key(key)
        }
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

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (position < u64::BITS).then_some(position as usize)
    })
}
