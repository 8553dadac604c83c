//! Looking up, one key or a burst of them with all of its cache misses in flight together.

use std::ops::Range;

use packet::{Tuple, ipv4};

use super::Shard;
use crate::entry::Entry;
use crate::hash::Hasher;
use crate::index::{Home, View, Word};
use crate::key::Key;
use crate::memory;
use crate::model::{Hit, Tick};
use crate::rewrite::Rewrite;

/// Keys in a burst at the most.
const BURST: usize = 64;

/// A burst of look-ups on their way, by position. Lives as long as who asks, so that nothing is set up for
/// a burst. The answers are good as long as the shard is not changed.
///
/// ```text
/// Shard::ask     hash a key, ask the memory for its bucket          each key
/// Shard::narrow  compare tags, ask the memory for the sessions      a group of keys, two groups ahead
/// Shard::settle  compare the key                                    each key
/// ```
///
/// So both misses of the keys overlap with each other and with what the caller does between two calls. Who
/// runs further ahead is slower: a core can wait for so many lines only.
pub struct Search {
    homes: [Home; BURST],
    words: [Word; BURST],
    /// Keys that are in overflow buckets which were asked for, as bits.
    overflown: u64,
}

impl Search {
    /// Keys that are narrowed down together.
    pub const GROUP: usize = 8;
}

impl Default for Search {
    fn default() -> Self {
        Self {
            homes: [Home::default(); BURST],
            words: [Word::default(); BURST],
            overflown: 0,
        }
    }
}

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
        let mut search = Search::default();
        let group = |number: usize| {
            let start = (number * Search::GROUP).min(keys.len());
            start..(start + Search::GROUP).min(keys.len())
        };
        let groups = keys.len().div_ceil(Search::GROUP);
        let mut misses = 0;
        for step in 0..groups + 4 {
            for at in group(step) {
                self.ask(&mut search, at, &keys[at]);
            }
            if let Some(narrowed) = step.checked_sub(2) {
                self.narrow(&mut search, group(narrowed));
            }
            let Some(settled) = step.checked_sub(4) else {
                continue;
            };
            for at in group(settled) {
                hits[at] = self.settle(&search, at, &keys[at]);
                misses |= u64::from(hits[at].is_none()) << at;
            }
        }
        misses
    }

    /// Begins the look-up of the key at position `at` of a burst.
    ///
    /// # Panics
    /// When `at` is 64 or more.
    #[inline]
    pub fn ask(&self, search: &mut Search, at: usize, key: &Key) {
        let (hasher, index) = (self.shared.hasher, self.shared.index.view());
        let home = home_of(hasher, index, key);
        search.homes[at] = home;
        index.prefetch(home.bucket());
    }

    /// Compares the tags of the keys at these positions, and searches the overflow buckets for those of the
    /// call before: the last call of a burst is one without any.
    ///
    /// # Panics
    /// When a position is 64 or more.
    pub fn narrow(&self, search: &mut Search, keys: Range<usize>) {
        let (index, entries) = (self.shared.index.view(), &*self.shared.entries);
        for at in bits(std::mem::take(&mut search.overflown)) {
            let home = search.homes[at];
            let word = index.first_overflow(search.words[at], home.tag());
            search.words[at] = word;
            prefetch_session::<true>(entries, word, home);
        }
        let marks = search.homes[keys.clone()]
            .iter()
            .fold(0, |marks, home| marks | home.mark());
        match marks {
            0 => compare_tags::<false>(index, entries, search, keys),
            _ => compare_tags::<true>(index, entries, search, keys),
        }
    }

    /// The answer for the key at position `at`.
    ///
    /// # Panics
    /// When `at` is 64 or more.
    #[inline]
    #[must_use]
    pub fn settle(&self, search: &Search, at: usize, key: &Key) -> Option<Hit> {
        let hit = search.words[at].hit()?;
        if self.half(hit).matches(key) {
            Some(hit)
        } else {
            // A false tag: only the whole search tells.
            self.lookup_key(key)
        }
    }

    /// [`Shard::settle`] and [`Shard::pass_datagram`] of what it finds. `None` also where only the whole
    /// search tells: nothing was done then.
    ///
    /// # Panics
    /// When `at` is 64 or more.
    // Together, the session's line is worked out once.
    #[inline]
    #[must_use]
    pub fn settle_datagram(
        &mut self,
        search: &Search,
        at: usize,
        key: &Key,
        unit: u8,
        now: Tick,
    ) -> Option<Rewrite> {
        let hit = search.words[at].hit()?;
        let half = self.half(hit);
        match half.matches(key) {
            true => half.pass_datagram(hit.direction(), unit, now),
            false => None,
        }
    }
}

/// Compares the tags of keys, and asks for what they lead to; `MARKED` if there are marks among them.
#[inline]
fn compare_tags<const MARKED: bool>(
    index: View<'_>,
    entries: &[Entry],
    search: &mut Search,
    keys: Range<usize>,
) {
    let homes = &search.homes[keys.clone()];
    let words = &mut search.words[keys.clone()];
    for ((at, home), word) in keys.zip(homes).zip(words) {
        *word = index.first(*home);
        if word.is_more() {
            search.overflown |= 1_u64 << at;
            index.prefetch_overflow(*word);
        } else {
            prefetch_session::<MARKED>(entries, *word, *home);
        }
    }
}

/// Asks for what a packet will need of the session that `word` is about.
#[inline]
fn prefetch_session<const MARKED: bool>(entries: &[Entry], word: Word, home: Home) {
    memory::prefetch_line(entries, word.line());
    if MARKED {
        // Without a branch: where there is no mark, the same line is asked for again.
        memory::prefetch_line(entries, word.line() ^ home.mark());
    }
}

/// Where a key belongs, marked when both lines of its session will be needed: those of TCP are.
#[inline]
fn home_of(hasher: Hasher, index: View<'_>, key: &Key) -> Home {
    let home = index.home(hasher.key(key));
    home.marked(key.protocol() == ipv4::PROTOCOL_TCP)
}

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (position < u64::BITS).then_some(position as usize)
    })
}
