//! Which unit gets which new session: the slots that workers pick from.
//!
//! Pure: weights go in, a row of unit ids comes out, the same on every unit that is told the same.
//! Invariants: every slot names a unit with a weight above zero; a unit's share of the slots is its share
//! of the weights, as near as whole slots allow; where the address decides, a unit that comes or goes moves
//! hardly more than its own slots.

use std::cmp::Reverse;
use std::fmt;

use crate::UnitId;
use crate::election::Units;

/// By which rule the primary hands new sessions to units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// It keeps all of them.
    #[default]
    None,
    /// By source and destination address, for units that are joined by hubs.
    Hub,
    /// One after the other, all units alike.
    RoundRobin,
    /// One after the other, each as often as its weight says.
    WeightedRoundRobin,
    /// To the unit that owns the fewest sessions for its weight.
    LeastConnections,
    /// By chance, in proportion to the weights.
    Random,
    /// By source and destination address.
    Ip,
    /// By addresses, ports and protocol.
    IpPort,
}

impl Schedule {
    /// All schedules.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Hub,
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::Random,
        Self::Ip,
        Self::IpPort,
    ];

    /// As it is configured and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hub => "hub",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::Random => "random",
            Self::Ip => "ip",
            Self::IpPort => "ip-port",
        }
    }

    /// How a worker finds the slot of a new session.
    #[must_use]
    pub const fn pick(self) -> Pick {
        match self {
            Self::Hub | Self::Ip => Pick::Addresses,
            Self::IpPort => Pick::Tuple,
            Self::Random => Pick::Random,
            Self::LeastConnections => Pick::Fewest,
            Self::None | Self::RoundRobin | Self::WeightedRoundRobin => Pick::InTurn,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a worker finds the slot of a new session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pick {
    /// The next one.
    #[default]
    InTurn,
    /// One of the unit that owns the fewest sessions for its slots, as the worker's own table says now.
    Fewest,
    /// Any.
    Random,
    /// By a hash of source and destination address, the same in both directions.
    Addresses,
    /// By a hash of addresses, ports and protocol, the same in both directions.
    Tuple,
}

/// A unit that may get new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// Which.
    pub unit: UnitId,
    /// Its part relative to the others; 0: no new sessions.
    pub weight: u8,
}

/// The most slots, and the number of them where a hash decides.
pub const SLOTS: usize = 256;

/// Who gets which slot; none if the schedule is `none` or no unit takes new sessions.
#[must_use]
pub fn slots(schedule: Schedule, takers: &[Taker]) -> Vec<UnitId> {
    let takers: Units<Taker> = takers.iter().filter(|t| t.weight > 0).copied().collect();
    if takers.is_empty() {
        return Vec::new();
    }
    let weights: Units<u64> = takers.iter().map(|t| u64::from(t.weight)).collect();
    match schedule {
        Schedule::None => Vec::new(),
        Schedule::Hub | Schedule::Ip | Schedule::IpPort => rendezvous(&takers, &weights),
        Schedule::RoundRobin => takers.iter().map(|taker| taker.unit).collect(),
        Schedule::WeightedRoundRobin | Schedule::LeastConnections | Schedule::Random => {
            let common = weights.iter().copied().fold(0, gcd);
            let whole: u64 = weights.iter().map(|weight| weight / common).sum();
            let length = usize::try_from(whole).map_or(SLOTS, |whole| whole.min(SLOTS));
            in_turn(&takers, &quotas(&weights, 1, length))
        }
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// So many slots for each of `parts` as their proportions say (Webster's divisors), none of them below
/// `least` unless its part is nothing.
fn quotas(parts: &[u64], least: u64, slots: usize) -> Units<u64> {
    let mut quotas: Units<u64> = parts.iter().map(|part| least.min(*part)).collect();
    let given: u64 = quotas.iter().sum();
    for _ in given..slots as u64 {
        // Compared as parts[a] / (2 quotas[a] + 1), without dividing.
        let neediest = (0..parts.len()).max_by(|&a, &b| {
            let (left, right) = (
                parts[a] * (2 * quotas[b] + 1),
                parts[b] * (2 * quotas[a] + 1),
            );
            left.cmp(&right).then(b.cmp(&a))
        });
        if let Some(neediest) = neediest {
            quotas[neediest] += 1;
        }
    }
    quotas
}

/// A row in which each unit comes as often as its quota says, spread evenly.
fn in_turn(takers: &[Taker], quotas: &[u64]) -> Vec<UnitId> {
    let total: i64 = quotas.iter().map(|quota| quota.cast_signed()).sum();
    let mut credit: Units<i64> = quotas.iter().map(|_| 0).collect();
    let mut row = Vec::new();
    for _ in 0..total {
        for (credit, quota) in credit.iter_mut().zip(quotas) {
            *credit += quota.cast_signed();
        }
        let richest = (0..takers.len()).max_by_key(|&n| (credit[n], Reverse(n)));
        if let Some(richest) = richest {
            credit[richest] -= total;
            row.push(takers[richest].unit);
        }
    }
    row
}

/// Slots and units bid for each other by hash, and the highest bid that both can still keep is served
/// first. So shares are exact, and what others bid moves a slot only through the quotas.
fn rendezvous(takers: &[Taker], weights: &[u64]) -> Vec<UnitId> {
    let mut left = quotas(weights, 1, SLOTS);
    let mut bids: Vec<(u64, usize, usize)> = Vec::with_capacity(SLOTS * takers.len());
    for (position, taker) in takers.iter().enumerate() {
        bids.extend((0..SLOTS).map(|slot| (bid(slot, taker.unit), slot, position)));
    }
    bids.sort_unstable_by_key(|bid| Reverse(*bid));
    let mut slots = vec![None; SLOTS];
    for (_, slot, position) in bids {
        if slots[slot].is_none() && left[position] > 0 {
            left[position] -= 1;
            slots[slot] = Some(takers[position].unit);
        }
    }
    slots.into_iter().flatten().collect()
}

/// The finalizer of splitmix64 over slot and unit.
fn bid(slot: usize, unit: UnitId) -> u64 {
    let mut x = (slot as u64) << 8 | u64::from(unit.get());
    x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taker(id: u8, weight: u8) -> Taker {
        Taker {
            unit: UnitId::new(id).unwrap(),
            weight,
        }
    }

    fn ids(schedule: Schedule, takers: &[Taker]) -> Vec<u8> {
        slots(schedule, takers)
            .iter()
            .map(|unit| unit.get())
            .collect()
    }

    fn count(slots: &[u8], id: u8) -> usize {
        slots.iter().filter(|slot| **slot == id).count()
    }

    #[test]
    fn round_robin_knows_no_weight_but_zero() {
        let takers = [taker(1, 1), taker(2, 9), taker(3, 0)];
        assert_eq!(ids(Schedule::RoundRobin, &takers), [1, 2]);
        assert_eq!(ids(Schedule::None, &takers), []);
        for schedule in Schedule::ALL {
            assert_eq!(ids(schedule, &[taker(3, 0)]), [], "{schedule}");
        }
    }

    #[test]
    fn weights_are_spread_evenly_over_the_shortest_row() {
        let takers = [taker(1, 10), taker(2, 2), taker(3, 2)];
        for schedule in [Schedule::WeightedRoundRobin, Schedule::LeastConnections] {
            assert_eq!(ids(schedule, &takers), [1, 1, 2, 1, 3, 1, 1]);
        }
        let uneven = [taker(1, 255), taker(2, 254), taker(3, 1)];
        let row = ids(Schedule::WeightedRoundRobin, &uneven);
        assert_eq!([1, 2, 3].map(|id| count(&row, id)), [128, 127, 1]);
    }

    fn any_takers() -> impl Strategy<Value = Vec<Taker>> {
        let weights = proptest::collection::vec(any::<u8>(), 1..=16);
        weights.prop_map(|weights| {
            (1..)
                .zip(weights)
                .map(|(id, weight)| taker(id, weight))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_slot_names_a_unit_that_takes_sessions(takers in any_takers()) {
            for schedule in Schedule::ALL {
                let row = slots(schedule, &takers);
                prop_assert!(row.len() <= SLOTS);
                let takes = takers.iter().any(|t| t.weight > 0) && schedule != Schedule::None;
                prop_assert_eq!(!row.is_empty(), takes);
                for unit in row {
                    prop_assert!(takers.iter().any(|t| t.unit == unit && t.weight > 0));
                }
            }
        }

        #[test]
        fn shares_follow_the_weights(takers in any_takers()) {
            let total: usize = takers.iter().map(|t| usize::from(t.weight)).sum();
            for schedule in [Schedule::WeightedRoundRobin, Schedule::Random, Schedule::Ip] {
                let row = ids(schedule, &takers);
                for taker in &takers {
                    let (found, weight) = (count(&row, taker.unit.get()), usize::from(taker.weight));
                    prop_assert_eq!(found > 0, weight > 0);
                    // What each unit has at least shifts the others by a slot or two.
                    let expected = weight * row.len();
                    prop_assert!((found * total).abs_diff(expected) <= 3 * total, "{:?}", taker);
                }
            }
        }

        #[test]
        fn few_slots_move_when_a_unit_comes_or_goes(
            takers in any_takers(), gone in any::<prop::sample::Index>()
        ) {
            let equal: Vec<Taker> = takers.iter().map(|t| Taker { weight: 1, ..*t }).collect();
            prop_assume!(equal.len() > 1);
            let before = slots(Schedule::Ip, &equal);
            let gone = equal[gone.index(equal.len())].unit;
            let rest: Vec<Taker> = equal.iter().filter(|t| t.unit != gone).copied().collect();
            let after = slots(Schedule::Ip, &rest);
            let own = before.iter().filter(|unit| **unit == gone).count();
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            prop_assert!(moved <= 2 * own, "{} slots moved, it had {}", moved, own);
        }
    }
}
