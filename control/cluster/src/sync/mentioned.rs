//! The sessions that a repair mentioned, each with its newest version.
//!
//! Owned by a [`Collection`](super::peer::Collection). There is one open-addressed index for each range, so that
//! what grows at a time is small and no heartbeat waits for it. Notes come faster than memory answers: each range
//! gathers some and enters them together, with all their cache lines asked for first.
//!
//! Invariant: an index is filled to five eighths at the most, so a search ends, mostly in the line it begins in.

use session::{Version, prefetch};

use crate::RangeSet;

/// Notes of a range that are entered together.
const TOGETHER: usize = 64;
/// Places of the smallest index.
const SMALLEST: usize = 128;

/// That a session exists. No fingerprint of zero: such a place is free.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    fingerprint: u64,
    version: Version,
}

/// What was mentioned in one range.
#[derive(Debug, Default)]
struct Index {
    /// Not entered yet; [`TOGETHER`] at the most.
    recent: Vec<Note>,
    /// None, or a power of two.
    places: Vec<Note>,
    taken: usize,
    /// Sessions of which it was said that they are gone, or that the table was seen to hold.
    settled: usize,
}

/// The sessions that were mentioned.
#[derive(Debug)]
pub(super) struct Mentioned {
    ranges: Box<[Index; 256]>,
    sessions: usize,
}

impl Default for Mentioned {
    fn default() -> Self {
        Self {
            ranges: Box::new(std::array::from_fn(|_| Index::default())),
            sessions: 0,
        }
    }
}

impl Mentioned {
    /// Notes a session; returns how many there are, but for the last few.
    pub(super) fn note(&mut self, range: u8, fingerprint: u64, version: Version) -> usize {
        let index = &mut self.ranges[usize::from(range)];
        if index.recent.is_empty() {
            index.recent.reserve_exact(TOGETHER);
        }
        index.recent.push(Note {
            fingerprint: fingerprint.max(1),
            version,
        });
        if index.recent.len() == TOGETHER {
            self.sessions += index.enter_recent();
        }
        self.sessions
    }

    /// Asks for what [`Mentioned::newest`] will look at.
    pub(super) fn prefetch(&self, range: u8, fingerprint: u64) {
        self.ranges[usize::from(range)].prefetch(fingerprint);
    }

    /// The newest version of a session that was mentioned.
    pub(super) fn newest(&mut self, range: u8, fingerprint: u64) -> Option<Version> {
        let index = &mut self.ranges[usize::from(range)];
        self.sessions += index.enter_recent();
        index.find(fingerprint.max(1))
    }

    /// One of the sessions of this range is gone, or in the table as it should be.
    pub(super) const fn settle(&mut self, range: u8) {
        self.ranges[range as usize].settled += 1;
    }

    /// Ranges with a session that should be in the table and is not: one that was stale had its tuple. A
    /// session that was settled twice may hide another one; digests find that.
    pub(super) fn refused(&mut self) -> RangeSet {
        let mut refused = RangeSet::EMPTY;
        for (range, index) in (0..=u8::MAX).zip(self.ranges.iter_mut()) {
            self.sessions += index.enter_recent();
            if index.taken > index.settled {
                refused.insert(range);
            }
        }
        refused
    }
}

impl Index {
    /// Enters the recent notes; returns how many sessions were new.
    fn enter_recent(&mut self) -> usize {
        if self.recent.is_empty() {
            return 0;
        }
        let before = self.taken;
        if (before + self.recent.len()) * 8 > self.places.len() * 5 {
            self.grow();
        }
        let recent = std::mem::take(&mut self.recent);
        for note in &recent {
            self.prefetch(note.fingerprint);
        }
        for note in &recent {
            self.enter(*note);
        }
        self.recent = recent;
        self.recent.clear();
        self.taken - before
    }

    #[cold]
    fn grow(&mut self) {
        let room = (self.places.len() * 2).max(SMALLEST);
        let places = std::mem::replace(&mut self.places, vec![Note::default(); room]);
        self.taken = 0;
        for note in places {
            if note.fingerprint != 0 {
                self.enter(note);
            }
        }
    }

    fn prefetch(&self, fingerprint: u64) {
        if let Some(place) = self.places.get(self.home(fingerprint)) {
            prefetch(place);
        }
    }

    /// Where the search for a fingerprint begins.
    fn home(&self, fingerprint: u64) -> usize {
        let mask = self.places.len().wrapping_sub(1);
        usize::try_from(fingerprint).unwrap_or_default() & mask
    }

    fn enter(&mut self, note: Note) {
        let mask = self.places.len() - 1;
        let mut at = self.home(note.fingerprint);
        loop {
            let place = &mut self.places[at];
            if place.fingerprint == 0 {
                *place = note;
                self.taken += 1;
                return;
            }
            if place.fingerprint == note.fingerprint {
                place.version = place.version.max(note.version);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, fingerprint: u64) -> Option<Version> {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = self.home(fingerprint);
        loop {
            let place = self.places.get(at)?;
            if place.fingerprint == fingerprint {
                return Some(place.version);
            }
            if place.fingerprint == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Beside a map, with sessions that are mentioned again, that share a home, and of fingerprint zero.
        #[test]
        fn it_knows_what_a_map_knows(
            notes in prop::collection::vec((0..3_u8, 0..400_u64, 0..9_u64), 0..2_000),
            spread in prop::sample::select(vec![1_u64, 1 << 20, 0x9E37_79B9_7F4A_7C15]),
        ) {
            let mut mentioned = Mentioned::default();
            let mut model: HashMap<(u8, u64), Version> = HashMap::new();
            for (range, session, version) in notes {
                let fingerprint = session.wrapping_mul(spread);
                mentioned.note(range, fingerprint, Version(version));
                let newest = model.entry((range, fingerprint.max(1))).or_default();
                *newest = Version(version).max(*newest);
            }
            for range in 0..4 {
                for session in 0..400_u64 {
                    let fingerprint = session.wrapping_mul(spread);
                    let known = model.get(&(range, fingerprint.max(1))).copied();
                    prop_assert_eq!(mentioned.newest(range, fingerprint), known);
                }
            }
            prop_assert_eq!(mentioned.sessions, model.len());
        }
    }

    #[test]
    fn it_tells_how_many_there_are_but_for_the_last_few() {
        let mut mentioned = Mentioned::default();
        let noted = (0..10_000).map(|n| mentioned.note(7, n * 3 + 1, Version(1)));
        let last = noted.last().unwrap();
        assert!((10_000 - TOGETHER..=10_000).contains(&last), "{last}");
    }
}
