//! Picks the unit that is to own a new session, as the distribution says.

use packet::{Tuple, toeplitz};

use crate::distribution::{Distribution, Pick};
use crate::hash::KeyedHash;
use crate::sharing::{IDS, Sharing};

/// Picks for one worker.
#[derive(Debug)]
pub(crate) struct Picker {
    hash: KeyedHash,
    /// Sessions picked for.
    picked: u64,
    /// Sessions picked for since the worker last entered all of them into its table, by unit.
    ahead: [u32; IDS],
}

impl Picker {
    /// Workers begin their turns at different slots.
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            hash: KeyedHash::new(),
            picked: u64::from(worker),
            ahead: [0; IDS],
        }
    }

    /// The owner of a new session with this original tuple; `None` when nobody is named. `owned` tells how
    /// many sessions of the worker's table are a unit's.
    ///
    /// What depends on the tuple must be the same for all workers and all units, so it is the hash
    /// that NICs steer by. It has 16 bits, of which the lower ones chose the worker: multiplied, so
    /// that the slots of one worker's sessions are as many as those of all.
    pub(crate) fn pick(
        &mut self,
        distribution: &Distribution,
        sharing: &Sharing,
        tuple: &Tuple,
        owned: impl Fn(u8) -> u64,
    ) -> Option<u8> {
        let slots = distribution.slots.len() as u64;
        if slots == 0 {
            return None;
        }
        let slot = match distribution.pick {
            Pick::InTurn => self.next() % slots,
            Pick::Fewest => return self.fewest(sharing, owned),
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

    /// Everything that was picked for is in the worker's table, or given up.
    pub(crate) fn entered(&mut self) {
        self.ahead = [0; IDS];
    }

    /// The unit that has the fewest sessions for its part, the first of equal ones.
    fn fewest(&mut self, sharing: &Sharing, owned: impl Fn(u8) -> u64) -> Option<u8> {
        let has = |unit: u8| owned(unit) + u64::from(self.ahead[usize::from(unit)]);
        let takers = sharing.takers().map(|(unit, part)| (unit, part, has(unit)));
        // Compared as has / part, without dividing.
        let (unit, ..) = takers.min_by(|a, b| (a.2 * b.1).cmp(&(b.2 * a.1)))?;
        self.ahead[usize::from(unit)] += 1;
        Some(unit)
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
    use crate::distribution::Duty;

    fn tuple(client: u8, port: u16) -> Tuple {
        let server = Ipv4Addr::new(198, 51, 100, 7);
        Tuple::v4(Ipv4Addr::new(192, 0, 2, client), port, server, 443, 6)
    }

    /// What is picked by a worker whose table is empty.
    fn picked(picker: &mut Picker, distribution: &Distribution, tuple: &Tuple) -> Option<u8> {
        let sharing = Sharing::new(distribution, 1, Duty::Primary, 0);
        picker.pick(distribution, &sharing, tuple, |_| 0)
    }

    fn picks(pick: Pick, tuples: impl Iterator<Item = Tuple>) -> Vec<u8> {
        let distribution = Distribution {
            pick,
            slots: vec![1, 2, 3],
            ..Distribution::default()
        };
        let mut picker = Picker::new(0);
        tuples
            .map(|tuple| picked(&mut picker, &distribution, &tuple).unwrap())
            .collect()
    }

    /// How many of the picks were for each unit.
    fn shares(picks: &[u8]) -> [usize; 3] {
        [1, 2, 3].map(|unit| picks.iter().filter(|pick| **pick == unit).count())
    }

    #[test]
    fn without_slots_nobody_is_picked() {
        for pick in [Pick::InTurn, Pick::Fewest] {
            let nobody = Distribution {
                pick,
                ..Distribution::default()
            };
            let picked = picked(&mut Picker::new(0), &nobody, &tuple(1, 1));
            assert_eq!(picked, None);
        }
    }

    #[test]
    fn in_turn_is_exactly_even_and_workers_begin_apart() {
        let picks = picks(Pick::InTurn, (0..300).map(|port| tuple(1, port)));
        assert_eq!(shares(&picks), [100; 3]);
        let slots = Distribution {
            slots: vec![1, 2, 3],
            ..Distribution::default()
        };
        let first = |worker| picked(&mut Picker::new(worker), &slots, &tuple(1, 1));
        assert_eq!([0, 1, 2].map(first), [1, 2, 3].map(Some));
    }

    /// Sessions that units own after bursts of so many began, of which they had `before`.
    fn after_bursts(before: [u64; 3], slots: &[u8], burst: usize, bursts: usize) -> [u64; 3] {
        let distribution = Distribution {
            pick: Pick::Fewest,
            slots: slots.to_vec(),
            ..Distribution::default()
        };
        let sharing = Sharing::new(&distribution, 1, Duty::Primary, 0);
        let (mut picker, mut table) = (Picker::new(0), before);
        for _ in 0..bursts {
            let picks: Vec<u8> = (0..burst)
                .map(|_| {
                    let owned = |unit| table[usize::from(unit) - 1];
                    let picked = picker.pick(&distribution, &sharing, &tuple(1, 1), owned);
                    picked.unwrap()
                })
                .collect();
            for unit in picks {
                table[usize::from(unit) - 1] += 1;
            }
            picker.entered();
        }
        table
    }

    #[test]
    fn who_has_the_fewest_gets_the_next_one_within_a_burst_as_well() {
        for burst in [1, 64] {
            let bursts = 6_400 / burst;
            let even = after_bursts([0; 3], &[1, 2, 3], burst, bursts);
            assert_eq!(even, [2_134, 2_133, 2_133]);
            let apart = after_bursts([5_000, 1_000, 0], &[1, 2, 3], burst, bursts);
            assert_eq!(apart, [5_000, 3_700, 3_700], "nobody is given too many");
            let weighted = after_bursts([0; 3], &[2, 1, 2, 3, 2], burst, bursts);
            assert_eq!(weighted, [1_280, 3_840, 1_280]);
        }
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
                let by =
                    |worker, tuple| picked(&mut Picker::new(worker), &distribution(pick), tuple);
                assert_eq!(by(0, &forth), by(1, &forth.reversed()));
            }
            let by_hosts =
                |tuple| picked(&mut Picker::new(0), &distribution(Pick::Addresses), tuple);
            assert_eq!(by_hosts(&forth), by_hosts(&other_port));
        }
    }
}
