//! Telling the other units of neighbours, and being told.
//!
//! Soft state: the primary tells of new ones at once, and of all of them again in time.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::envelope::{Kind, Rejection};
use crate::{Action, Neighbour, Node, Role, Time, UnitId};

/// How often a primary tells of all neighbours again.
const REPEAT: Duration = Duration::from_secs(1);
/// The most frames in which it does so at a time; the others follow the next time.
const MAX_FRAMES: usize = 64;

/// What a primary tells.
#[derive(Debug, Default)]
pub(super) struct Telling {
    known: BTreeSet<Neighbour>,
    /// Not told yet.
    news: Vec<Neighbour>,
    /// Where the repetition goes on: behind this one.
    told: Option<Neighbour>,
    repeat_at: Time,
}

impl Telling {
    /// The next ones to repeat, from the first again after the last.
    fn repetition(&mut self) -> Vec<Neighbour> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.told.map_or(Unbounded, Excluded);
        let limit = MAX_FRAMES * Neighbour::MAX_LISTED;
        let list: Vec<_> = (self.known.range((from, Unbounded)).copied())
            .take(limit)
            .collect();
        self.told = list.last().copied().filter(|_| list.len() == limit);
        list
    }

    /// When it has something to tell.
    pub(super) fn deadline(&self) -> Time {
        if !self.news.is_empty() {
            Time(0)
        } else if self.known.is_empty() {
            Time::NEVER
        } else {
            self.repeat_at
        }
    }
}

impl Node {
    /// The neighbours that this unit knows now, all of them. While it is primary it tells the others.
    pub fn handle_neighbours(&mut self, neighbours: &[Neighbour]) {
        let known: BTreeSet<_> = neighbours.iter().copied().collect();
        let telling = &mut self.telling;
        telling
            .news
            .extend(known.difference(&telling.known).copied());
        telling.news.retain(|neighbour| known.contains(neighbour));
        telling.known = known;
    }

    /// Whether anybody wants to hear of neighbours from this unit.
    pub(super) fn tells_neighbours(&self) -> bool {
        self.role == Role::Primary && self.version() > 1 && self.trusted().next().is_some()
    }

    /// Tells what is new, and everything when it is time.
    pub(super) fn tell_neighbours(&mut self, now: Time) {
        if !self.tells_neighbours() {
            self.telling.news.clear();
            self.telling.repeat_at = now;
            return;
        }
        let mut list = std::mem::take(&mut self.telling.news);
        if now >= self.telling.repeat_at {
            list.extend(self.telling.repetition());
            self.telling.repeat_at = now + REPEAT;
        }
        for part in list.chunks(Neighbour::MAX_LISTED) {
            self.send_to_peers(Kind::Neighbours, None, &Neighbour::encode(part));
        }
    }

    /// What a verified peer told; only a primary is believed.
    pub(super) fn accept_neighbours(&mut self, from: UnitId, body: &[u8]) -> Result<(), Rejection> {
        let entries = Neighbour::decode(body).map_err(|_| Rejection::Malformed)?;
        let primary = self.peer(from).is_some_and(|peer| peer.claims_primary());
        if primary && self.role != Role::Primary {
            self.actions.push_back(Action::Neighbours { from, entries });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_repeated_in_turns() {
        let neighbour = |n: u32| Neighbour {
            interface: 1,
            address: std::net::Ipv4Addr::from(n).into(),
            mac: packet::Mac([2, 0, 0, 0, 0, 1]),
        };
        let limit = u32::try_from(MAX_FRAMES * Neighbour::MAX_LISTED).unwrap();
        let mut telling = Telling {
            known: (0..limit + 5).map(neighbour).collect(),
            ..Telling::default()
        };
        let lengths = [(); 3].map(|()| telling.repetition().len());
        let limit = usize::try_from(limit).unwrap();
        assert_eq!(lengths, [limit, 5, limit]);
    }
}
