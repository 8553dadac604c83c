//! Who should be primary: orders on what units say of themselves, and nothing else. No state.
//!
//! Three questions have three orders, on purpose:
//!
//! - *Nobody is primary.* [`ranking`] selects over all units that could be it, not pair by pair: ages
//!   within the margin count as equal, and that is not transitive.
//! - *Two are.* [`Claim`] is a total order on what both have on the wire, so both come to the same end
//!   without another message. No age in it: ages are measured, and differ by a frame's delay.
//! - *One is.* It stays, unless a peer is strictly healthier, or preempts. Equal health never moves the
//!   role, so nothing moves back when a link heals. That rule needs no order; it is in the node.

use std::cmp::Reverse;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::UnitId;

/// All units of a cluster, at the most.
pub(crate) type Units<T> = ArrayVec<T, { UnitId::MAX as usize }>;

/// What counts in the election when nobody is primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) unit: UnitId,
    /// Healthy link weight.
    pub(crate) health: u16,
    pub(crate) synced: bool,
    pub(crate) age: Duration,
    pub(crate) priority: u8,
    pub(crate) preempt: bool,
}

/// The units in the order in which they should become primary.
pub(crate) fn ranking(mut standings: Units<Standing>, age_margin: Duration) -> Units<UnitId> {
    let mut order = Units::new();
    while let Some(position) = best(&standings, age_margin) {
        order.push(standings.remove(position).unit);
    }
    order
}

/// The best of all: health, synced, age beyond the margin, priority, lower id. Where any unit preempts,
/// priority goes before age.
fn best(standings: &[Standing], age_margin: Duration) -> Option<usize> {
    let preempt = standings.iter().any(|s| s.preempt);
    let merit = |s: &Standing| (s.health, s.synced, if preempt { s.priority } else { 0 });
    let top = standings.iter().map(merit).max()?;
    let oldest = standings
        .iter()
        .filter(|s| merit(s) == top)
        .map(|s| s.age)
        .max()?;
    standings
        .iter()
        .enumerate()
        .filter(|(_, s)| merit(s) == top && s.age + age_margin >= oldest)
        .max_by_key(|(_, s)| (s.priority, Reverse(s.unit)))
        .map(|(position, _)| position)
}

/// A unit's claim to stay primary against another primary. The greater one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) term: u32,
    pub(crate) health: u16,
    pub(crate) priority: u8,
    pub(crate) unit: Reverse<UnitId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARGIN: Duration = Duration::from_secs(300);

    fn unit(id: u8) -> UnitId {
        UnitId::new(id).unwrap()
    }

    fn standing(id: u8, health: u16, synced: bool, age_s: u64, priority: u8) -> Standing {
        let age = Duration::from_secs(age_s);
        Standing {
            unit: unit(id),
            health,
            synced,
            age,
            priority,
            preempt: false,
        }
    }

    fn order(standings: &[Standing]) -> Vec<u8> {
        let standings = standings.iter().copied().collect();
        ranking(standings, MARGIN)
            .iter()
            .map(|unit| unit.get())
            .collect()
    }

    #[test]
    fn each_criterion_decides_only_where_the_ones_before_are_equal() {
        let cases: [(&str, [Standing; 2]); 6] = [
            (
                "health",
                [standing(2, 2, false, 0, 1), standing(1, 1, true, 9_999, 9)],
            ),
            (
                "synced",
                [standing(2, 1, true, 0, 1), standing(1, 1, false, 9_999, 9)],
            ),
            (
                "age",
                [standing(2, 1, true, 301, 1), standing(1, 1, true, 0, 9)],
            ),
            (
                "priority",
                [standing(2, 1, true, 0, 9), standing(1, 1, true, 300, 1)],
            ),
            (
                "id",
                [standing(1, 1, true, 0, 9), standing(2, 1, true, 300, 9)],
            ),
            (
                "last",
                [standing(1, 0, false, 0, 0), standing(2, 0, false, 0, 0)],
            ),
        ];
        for (name, [first, second]) in cases {
            let expected = [first.unit.get(), second.unit.get()];
            assert_eq!(order(&[first, second]), expected, "{name}");
            assert_eq!(order(&[second, first]), expected, "{name}");
        }
    }

    #[test]
    fn preempt_moves_priority_before_age() {
        let mut old = standing(1, 1, true, 9_999, 1);
        let young = standing(2, 1, true, 0, 9);
        assert_eq!(order(&[old, young]), [1, 2]);
        old.preempt = true;
        assert_eq!(order(&[old, young]), [2, 1]);
    }

    #[test]
    fn ages_within_the_margin_of_the_oldest_are_equal_though_that_is_not_transitive() {
        // 1 and 2 are equal, 2 and 3 are, 1 and 3 are not: pairwise, each would be beaten.
        let (a, b, c) = (
            standing(1, 1, true, 600, 1),
            standing(2, 1, true, 400, 2),
            standing(3, 1, true, 200, 3),
        );
        for standings in [[a, b, c], [c, b, a], [b, c, a]] {
            assert_eq!(order(&standings), [2, 1, 3]);
        }
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        (
            1..=16_u8,
            0..3_u16,
            any::<bool>(),
            0..1_000_u64,
            0..3_u8,
            any::<bool>(),
        )
            .prop_map(|(id, health, synced, age, priority, preempt)| Standing {
                preempt,
                ..standing(id, health, synced, age, priority)
            })
    }

    proptest! {
        #[test]
        fn a_ranking_names_every_unit_once_whatever_the_order_of_hearing(
            mut standings in proptest::collection::vec(any_standing(), 1..8), seed in any::<usize>()
        ) {
            standings.sort_by_key(|s| s.unit);
            standings.dedup_by_key(|s| s.unit);
            let first = order(&standings);
            let middle = seed % standings.len();
            standings.rotate_left(middle);
            prop_assert_eq!(&order(&standings), &first);
            let mut sorted = first;
            sorted.sort_unstable();
            let mut units: Vec<u8> = standings.iter().map(|s| s.unit.get()).collect();
            units.sort_unstable();
            prop_assert_eq!(sorted, units);
        }
    }
}
