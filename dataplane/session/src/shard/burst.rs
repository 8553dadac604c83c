//! Looking up a burst: all of its cache misses in flight together.

use packet::Tuple;

use super::{Hit, SessionId, Shard};
use crate::hash::{self, Words};
use crate::index::{Candidate, Home};
use crate::memory;

/// Tuples in a burst at the most.
const BURST: usize = 64;

impl Shard {
    /// Answers [`Shard::lookup`] for each of `tuples`, in `hits` at the same place.
    ///
    /// # Panics
    /// When `hits` is shorter than `tuples`.
    pub fn lookup_burst(&self, tuples: &[Tuple], hits: &mut [Option<Hit>]) {
        let hits = &mut hits[..tuples.len()];
        for (tuples, hits) in tuples.chunks(BURST).zip(hits.chunks_mut(BURST)) {
            self.lookup_chunk(tuples, hits);
        }
    }

    fn lookup_chunk(&self, tuples: &[Tuple], hits: &mut [Option<Hit>]) {
        let index = &self.shared.index;
        let mut homes = [Home::default(); BURST];
        let mut candidates = [Candidate::None; BURST];
        // First miss: the buckets.
        for (home, tuple) in homes.iter_mut().zip(tuples) {
            *home = self.home(&hash::words(tuple));
            index.prefetch(*home);
        }
        // Second miss: the entries that the tags point to.
        for (candidate, home) in candidates.iter_mut().zip(&homes[..tuples.len()]) {
            *candidate = index.first(*home);
            match *candidate {
                Candidate::None => {}
                Candidate::Place(place) => memory::prefetch(self.entry(SessionId(place.slot()))),
                Candidate::Chain => index.prefetch_overflow(*home),
            }
        }
        let looked = candidates.iter().zip(&homes).zip(tuples);
        for (hit, ((candidate, home), tuple)) in hits.iter_mut().zip(looked) {
            *hit = self.settle(*candidate, *home, &hash::words(tuple));
        }
    }

    /// Compares the candidate; only a false tag or an overflow bucket needs the whole search.
    #[inline]
    fn settle(&self, candidate: Candidate, home: Home, words: &Words) -> Option<Hit> {
        match candidate {
            Candidate::None => None,
            Candidate::Place(place) => {
                let (id, direction) = (SessionId(place.slot()), place.direction());
                if self.entry(id).matches(direction, words) {
                    Some(Hit { id, direction })
                } else {
                    self.find(home, words)
                }
            }
            Candidate::Chain => self.find(home, words),
        }
    }
}
