//! Picks the unit that is to own a new session, as the distribution says.

use packet::{Tuple, toeplitz};

use crate::distribution::{Distribution, Pick};
use crate::hash::KeyedHash;

/// Picks for one worker.
#[derive(Debug)]
pub(crate) struct Picker {
    hash: KeyedHash,
    /// Sessions picked for.
    picked: u64,
}

impl Picker {
    /// Workers begin their turns at different slots.
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            hash: KeyedHash::new(),
            picked: u64::from(worker),
        }
    }

    /// The owner of a new session with this original tuple; `None` when nobody is named.
    ///
    /// What depends on the tuple must be the same for all workers and all units, so it is the hash
    /// that NICs steer by. It has 16 bits, of which the lower ones chose the worker: multiplied, so
    /// that the slots of one worker's sessions are as many as those of all.
    pub(crate) fn pick(&mut self, distribution: &Distribution, tuple: &Tuple) -> Option<u8> {
        let slots = distribution.slots.len() as u64;
        if slots == 0 {
            return None;
        }
        let slot = match distribution.pick {
            Pick::InTurn => self.next() % slots,
            Pick::Random => {
                let number = self.next();
                scale(self.hash.number(number, 0) >> 32, slots)
            }
            Pick::Addresses => scale(spread(toeplitz::hash_addresses(tuple)), slots),
            Pick::Tuple => scale(spread(toeplitz::hash(tuple)), slots),
        };
        distribution
            .slots
            .get(usize::try_from(slot).unwrap_or(usize::MAX))
            .copied()
    }

    fn next(&mut self) -> u64 {
        let number = self.picked;
        self.picked = number.wrapping_add(1);
        number
    }
}

/// 32 bits that all depend on all of `hash`.
fn spread(hash: u32) -> u64 {
    let product = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ product >> 29) & 0xffff_ffff
}

/// A slot of `slots`, from 32 bits.
fn scale(bits: u64, slots: u64) -> u64 {
    (bits * slots) >> 32
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn tuple(client: u8, port: u16) -> Tuple {
        let server = Ipv4Addr::new(198, 51, 100, 7);
        Tuple::v4(Ipv4Addr::new(192, 0, 2, client), port, server, 443, 6)
    }

    fn picks(pick: Pick, tuples: impl Iterator<Item = Tuple>) -> Vec<u8> {
        let distribution = Distribution {
            pick,
            slots: vec![1, 2, 3],
            ..Distribution::default()
        };
        let mut picker = Picker::new(0);
        tuples
            .map(|tuple| picker.pick(&distribution, &tuple).unwrap())
            .collect()
    }

    /// How many of the picks were for each unit.
    fn shares(picks: &[u8]) -> [usize; 3] {
        [1, 2, 3].map(|unit| picks.iter().filter(|pick| **pick == unit).count())
    }

    #[test]
    fn without_slots_nobody_is_picked() {
        let picked = Picker::new(0).pick(&Distribution::default(), &tuple(1, 1));
        assert_eq!(picked, None);
    }

    #[test]
    fn in_turn_is_exactly_even_and_workers_begin_apart() {
        let picks = picks(Pick::InTurn, (0..300).map(|port| tuple(1, port)));
        assert_eq!(shares(&picks), [100; 3]);
        let slots = Distribution {
            slots: vec![1, 2, 3],
            ..Distribution::default()
        };
        let first = |worker| Picker::new(worker).pick(&slots, &tuple(1, 1));
        assert_eq!([0, 1, 2].map(first), [1, 2, 3].map(Some));
    }

    #[test]
    fn random_and_hashed_picks_are_even_enough() {
        let hosts = (0..=255).map(|client| tuple(client, 1));
        let ports = |worker: u16| (0..3_000).map(move |n| tuple(1, n * 2 + worker));
        // Of one worker of two the lowest bit of the hash is always the same.
        for picks in [
            picks(Pick::Random, ports(0)),
            picks(Pick::Tuple, ports(0)),
            picks(Pick::Tuple, ports(1)),
            picks(Pick::Addresses, hosts),
        ] {
            for share in shares(&picks) {
                let percent = share * 100 / picks.len();
                assert!((25..=42).contains(&percent), "{:?}", shares(&picks));
            }
        }
    }

    #[test]
    fn both_directions_pick_alike_whatever_the_worker() {
        let distribution = |pick| Distribution {
            pick,
            slots: (1..=16).collect(),
            ..Distribution::default()
        };
        for port in 0..100 {
            let forth = tuple(9, port);
            let other_port = tuple(9, port + 1_000);
            for pick in [Pick::Addresses, Pick::Tuple] {
                let by = |worker, tuple| Picker::new(worker).pick(&distribution(pick), tuple);
                assert_eq!(by(0, &forth), by(1, &forth.reversed()));
            }
            let by_hosts = |tuple| Picker::new(0).pick(&distribution(Pick::Addresses), tuple);
            assert_eq!(by_hosts(&forth), by_hosts(&other_port));
        }
    }
}
