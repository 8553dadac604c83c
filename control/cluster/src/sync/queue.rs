//! What waits to be put into segments: one change per session, its newest.
//!
//! Owned by one stream. Invariants: no two changes of one session wait; the order is that in which sessions
//! came; a session that no peer can know and that is gone again leaves nothing behind.

use session::Version;

use crate::Delta;

/// What [`Queue::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// It took the place of an older change of the same session.
    Merged,
    /// The session was born and died in the queue: nothing will be sent.
    Cancelled,
}

/// The changes of one stream that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: Vec<Place>,
    index: Index,
}

#[derive(Debug)]
struct Place {
    fingerprint: u64,
    delta: Option<Delta>,
    /// The version in which the session began, if all that was heard of it is here.
    born: Option<Version>,
}

impl Queue {
    /// Places that are taken; those of sessions that are gone count.
    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    /// The changes, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Delta> {
        self.places.iter().filter_map(|place| place.delta.as_ref())
    }

    /// Queues a change. Changes of one session merge into the newest. `born` is the version in which the
    /// session began when this is its first change, `sent` the highest version that was ever sent: a session
    /// that began later is known to nobody.
    pub(super) fn push(
        &mut self,
        fingerprint: u64,
        delta: Delta,
        born: Option<Version>,
        sent: Version,
    ) -> Pushed {
        let places = &self.places;
        let same = |position: usize| {
            let place = &places[position];
            place.fingerprint == fingerprint
                && place
                    .delta
                    .as_ref()
                    .is_some_and(|waiting| waiting.tuple() == delta.tuple())
        };
        let Some(position) = self.index.find(fingerprint, same) else {
            self.append(Place {
                fingerprint,
                delta: Some(delta),
                born,
            });
            return Pushed::Queued;
        };
        let place = &mut self.places[position];
        let newer = |waiting: &Delta| waiting.version() > delta.version();
        if place.delta.as_ref().is_some_and(newer) {
            return Pushed::Merged;
        }
        let unheard_of = place.born.is_some_and(|born| born > sent);
        if matches!(delta, Delta::Remove { .. }) && unheard_of {
            place.delta = None;
            return Pushed::Cancelled;
        }
        place.delta = Some(delta);
        Pushed::Merged
    }

    /// Takes changes off the front while `take` wants more; returns how many it got.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&Delta) -> bool) -> u64 {
        let (mut seen, mut taken) = (0, 0);
        for place in &self.places {
            seen += 1;
            if let Some(delta) = &place.delta {
                taken += 1;
                if !take(delta) {
                    break;
                }
            }
        }
        self.places.drain(..seen);
        self.index.clear();
        for position in 0..self.places.len() {
            self.index
                .insert(self.places[position].fingerprint, position);
        }
        taken
    }

    fn append(&mut self, place: Place) {
        let position = self.places.len();
        if self.index.is_crowded(position) {
            self.index = Index::with_room_for(position * 2 + 64);
            for (position, place) in self.places.iter().enumerate() {
                self.index.insert(place.fingerprint, position);
            }
        }
        self.index.insert(place.fingerprint, position);
        self.places.push(place);
    }
}

/// Positions by fingerprint: open addressing, emptied by counting up.
#[derive(Debug, Default)]
struct Index {
    /// None, or a power of two.
    slots: Vec<Slot>,
    /// Slots of other rounds are free; no slot is of round 0.
    round: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    round: u32,
    position: u32,
}

impl Index {
    fn with_room_for(places: usize) -> Self {
        Self {
            slots: vec![Slot::default(); (places * 2).next_power_of_two()],
            round: 1,
        }
    }

    /// More than half of it is taken when `places` are.
    const fn is_crowded(&self, places: usize) -> bool {
        places * 2 >= self.slots.len()
    }

    fn clear(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.slots.fill(Slot::default());
            self.round = 1;
        }
    }

    /// The first one for which `holds`.
    fn find(&self, fingerprint: u64, holds: impl Fn(usize) -> bool) -> Option<usize> {
        self.probe(fingerprint)
            .map(|slot| self.slots[slot])
            .take_while(|slot| slot.round == self.round)
            .map(|slot| slot.position as usize)
            .find(|position| holds(*position))
    }

    fn insert(&mut self, fingerprint: u64, position: usize) {
        let free = self
            .probe(fingerprint)
            .find(|slot| self.slots[*slot].round != self.round);
        if let (Some(slot), Ok(position)) = (free, u32::try_from(position)) {
            let round = self.round;
            self.slots[slot] = Slot { round, position };
        }
    }

    /// Slots in the order in which one is looked for; at least half are free.
    fn probe(&self, fingerprint: u64) -> impl Iterator<Item = usize> + use<> {
        let slots = self.slots.len();
        // A table is far smaller than 32 bits count.
        let first = usize::try_from(fingerprint & 0xFFFF_FFFF).unwrap_or_default();
        (0..slots).map(move |step| (first + step) & (slots - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::Tuple;
    use proptest::prelude::*;
    use session::Session;
    use std::collections::BTreeMap;

    fn tuple(number: u16) -> Tuple {
        Tuple {
            src_port: number,
            ..Tuple::default()
        }
    }

    fn update(number: u16, version: u64) -> Delta {
        Delta::Upsert {
            session: Session {
                tuples: [tuple(number), tuple(number).reversed()],
                version: Version(version),
                ..Session::default()
            },
            remaining: 0,
        }
    }

    fn removal(number: u16, version: u64) -> Delta {
        Delta::Remove {
            tuple: tuple(number),
            version: Version(version),
        }
    }

    fn drained(queue: &mut Queue) -> Vec<Delta> {
        let mut all = Vec::new();
        queue.drain(|delta| {
            all.push(*delta);
            true
        });
        all
    }

    #[test]
    fn what_nobody_knows_and_is_gone_leaves_nothing() {
        let mut queue = Queue::default();
        let sent = Version(4);
        assert_eq!(
            queue.push(1, update(1, 5), Some(Version(5)), sent),
            Pushed::Queued
        );
        assert_eq!(queue.push(1, removal(1, 5), None, sent), Pushed::Cancelled);
        assert_eq!(drained(&mut queue), []);
    }

    #[test]
    fn what_a_repair_may_have_told_is_removed_aloud() {
        for (born, sent) in [(Some(Version(5)), Version(5)), (None, Version(4))] {
            let mut queue = Queue::default();
            queue.push(1, update(1, 6), born, sent);
            assert_eq!(queue.push(1, removal(1, 6), None, sent), Pushed::Merged);
            assert_eq!(drained(&mut queue), [removal(1, 6)]);
        }
    }

    #[test]
    fn a_removal_that_waits_is_not_forgotten_for_a_rebirth() {
        let mut queue = Queue::default();
        queue.push(1, removal(1, 5), None, Version(5));
        queue.push(1, update(1, 6), Some(Version(6)), Version(5));
        queue.push(1, removal(1, 7), None, Version(5));
        assert_eq!(drained(&mut queue), [removal(1, 7)]);
    }

    #[test]
    fn a_part_may_be_taken() {
        let mut queue = Queue::default();
        for number in 0..10 {
            queue.push(number.into(), update(number, 1), None, Version(0));
        }
        let mut left = 3;
        let taken = queue.drain(|_| {
            left -= 1;
            left > 0
        });
        assert_eq!((taken, queue.len()), (3, 7));
        assert_eq!(
            queue.push(5, update(5, 2), None, Version(0)),
            Pushed::Merged
        );
        assert_eq!(queue.len(), 7);
    }

    proptest! {
        /// Fingerprints of two bits: all that collides, collides.
        #[test]
        fn each_session_waits_once_with_its_newest_change(
            changes in proptest::collection::vec((0..3_000_u16, any::<bool>()), 1..4_000),
        ) {
            let (mut queue, mut model) = (Queue::default(), BTreeMap::new());
            for (version, (number, gone)) in (1..).zip(changes) {
                let delta = if gone { removal(number, version) } else { update(number, version) };
                queue.push((u64::from(number % 4) << 40) + u64::from(number) / 2, delta, None, Version(0));
                model.insert(number, delta);
            }
            let all = drained(&mut queue);
            prop_assert_eq!(all.len(), model.len());
            for delta in all {
                prop_assert_eq!(model.get(&delta.tuple().src_port), Some(&delta));
            }
            prop_assert_eq!(queue.len(), 0);
        }
    }
}
