//! Choice of the translated port, or ICMP identifier, of a new session.
//!
//! Ports are divided between the units: unit `u` uses those with `port % 16 == u - 1`. So two units
//! never choose the same port, not even for sessions that a dead peer had begun and had not yet told
//! anybody about. ICMP identifiers are divided between the workers of a unit as well, because their
//! replies come to whichever worker and cannot be steered by the identifier.

use std::hash::{BuildHasher, RandomState};

use packet::Tuple;

/// How many classes ports are divided into: one for each possible unit id.
pub const PORT_CLASSES: u16 = 16;

/// The lowest translated port: the well-known ones are never used.
pub const FIRST_PORT: u16 = 1024;

/// An arithmetic progression of ports or identifiers that one chooser may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpace {
    first: u16,
    step: u16,
    count: u16,
}

impl PortSpace {
    /// Ports of a unit (1..=16), for TCP and UDP. All its workers share them; the one that a reply
    /// is steered to is the one that may use the port.
    #[must_use]
    pub const fn ports(unit: u8) -> Self {
        Self {
            first: FIRST_PORT + class(unit),
            step: PORT_CLASSES,
            count: (u16::MAX - FIRST_PORT) / PORT_CLASSES + 1,
        }
    }

    /// ICMP identifiers of one of a unit's workers, of which there are at most 4096.
    #[must_use]
    pub const fn identifiers(unit: u8, worker: u16, workers: u16) -> Self {
        let per_unit = 4096;
        let workers = if workers == 0 { 1 } else { workers };
        Self {
            first: (worker % per_unit) * PORT_CLASSES + class(unit),
            step: PORT_CLASSES.wrapping_mul(workers),
            count: per_unit / workers,
        }
    }

    /// The port at a position, which wraps around.
    fn at(self, position: u64) -> u16 {
        let index = position % u64::from(self.count.max(1));
        let port = u64::from(self.first) + index * u64::from(self.step);
        u16::try_from(port).unwrap_or(self.first)
    }
}

const fn class(unit: u8) -> u16 {
    unit.wrapping_sub(1) as u16 % PORT_CLASSES
}

/// Chooses ports that an outsider cannot predict (RFC 6056).
#[derive(Debug, Default)]
pub struct PortChooser {
    /// Keyed at random when it is made.
    hasher: RandomState,
    /// Makes a second session between the same ends start elsewhere.
    sessions: u64,
}

impl PortChooser {
    /// The reply tuple with the first destination port of the space that `free` accepts, tried from
    /// a pseudo-random start on; `None` when `probes` of them were not free. Costs at most `probes`
    /// calls of `free`, however full the space is.
    pub fn choose(
        &mut self,
        reply: Tuple,
        space: PortSpace,
        probes: u32,
        mut free: impl FnMut(&Tuple) -> bool,
    ) -> Option<Tuple> {
        self.sessions = self.sessions.wrapping_add(1);
        let start = self.hasher.hash_one((reply, self.sessions)) >> 16;
        let tries = u64::from(probes).min(u64::from(space.count));
        (0..tries)
            .map(|probe| Tuple {
                dst_port: space.at(start + probe),
                ..reply
            })
            .find(|candidate| free(candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all(space: PortSpace) -> HashSet<u16> {
        (0..u64::from(space.count)).map(|n| space.at(n)).collect()
    }

    #[test]
    fn units_share_all_ports_and_no_port_is_of_two() {
        let mut seen = HashSet::new();
        for unit in 1..=16 {
            for port in all(PortSpace::ports(unit)) {
                assert!(port >= FIRST_PORT);
                assert_eq!(port % 16, u16::from(unit) - 1);
                assert!(seen.insert(port));
            }
        }
        assert_eq!(seen.len(), 65536 - 1024);
    }

    #[test]
    fn workers_share_no_identifier() {
        for workers in [1, 2, 3, 7, 16] {
            let mut seen = HashSet::new();
            for unit in [1, 2, 16] {
                for worker in 0..workers {
                    let space = PortSpace::identifiers(unit, worker, workers);
                    for id in all(space) {
                        assert_eq!(id % 16, u16::from(unit) - 1);
                        assert!(seen.insert(id));
                    }
                }
            }
            assert_eq!(seen.len(), 3 * usize::from(4096 / workers * workers));
        }
    }

    #[test]
    fn an_exhausted_space_costs_no_more_than_its_probes() {
        let mut chooser = PortChooser::default();
        let space = PortSpace::ports(3);
        let mut asked = 0;
        let chosen = chooser.choose(Tuple::default(), space, 128, |_| {
            asked += 1;
            false
        });
        assert_eq!((chosen, asked), (None, 128));
    }

    #[test]
    fn every_port_of_a_space_can_be_had() {
        let mut chooser = PortChooser::default();
        let space = PortSpace::identifiers(2, 1, 2);
        let mut taken = HashSet::new();
        for _ in 0..space.count {
            let chosen = chooser
                .choose(Tuple::default(), space, u32::MAX, |t| {
                    !taken.contains(&t.dst_port)
                })
                .unwrap();
            assert!(taken.insert(chosen.dst_port));
        }
        assert_eq!(taken, all(space));
    }

    #[test]
    fn the_start_differs_from_session_to_session() {
        let mut chooser = PortChooser::default();
        let starts: HashSet<u16> = (0..64)
            .filter_map(|_| chooser.choose(Tuple::default(), PortSpace::ports(1), 1, |_| true))
            .map(|tuple| tuple.dst_port)
            .collect();
        assert!(starts.len() > 32, "{starts:?}");
    }
}
