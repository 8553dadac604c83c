//! What must hold after every step.

use std::collections::{BTreeMap, HashSet};

use cluster::{Boot, Delta, Role};
use packet::Tuple;
use session::Version;

use crate::options::MS;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Checks {
    promotions: HashSet<(usize, Boot, u32)>,
    /// By unit: the highest term of this start.
    terms: Vec<(Option<Boot>, u32)>,
    /// By unit: announcements since its promotion.
    announced: Vec<u32>,
    /// By pair: since when both are primary and hear each other.
    dual_since: Vec<Vec<Option<u64>>>,
    /// By unit: what it told its peers while primary, and did not remove.
    told: Vec<BTreeMap<Tuple, Version>>,
    /// By unit: what it said that it holds of that.
    held: Vec<BTreeMap<Tuple, Version>>,
    /// No unit may become primary or cease to be.
    pub(crate) frozen: bool,
}

impl Checks {
    pub(crate) fn new(units: usize) -> Self {
        Self {
            promotions: HashSet::new(),
            terms: vec![(None, 0); units],
            announced: vec![0; units],
            dual_since: vec![vec![None; units]; units],
            told: vec![BTreeMap::new(); units],
            held: vec![BTreeMap::new(); units],
            frozen: false,
        }
    }

    pub(crate) fn announced(&mut self, unit: usize) {
        self.announced[unit] += 1;
    }

    pub(crate) fn promoted(world: &mut World, unit: usize, term: u32) {
        if world.units[unit].serving.is_none() {
            Self::role_changed(world, unit);
            world.checks.announced[unit] = 0;
            Self::nothing_acknowledged_is_lost(world, unit);
        }
        let Some(node) = &world.units[unit].node else {
            return;
        };
        let promotion = (unit, node.settings().boot, term);
        let first = world.checks.promotions.insert(promotion);
        assert!(first, "unit {} was promoted twice in term {term}", unit + 1);
    }

    /// A unit starts with nothing.
    pub(crate) fn started(&mut self, unit: usize) {
        self.told[unit].clear();
        self.held[unit].clear();
    }

    /// A primary told its peers of a change.
    pub(crate) fn pushed(world: &mut World, unit: usize, delta: &Delta) {
        let checks = &mut world.checks;
        match delta {
            Delta::Upsert { session, .. } => {
                checks.told[unit].insert(session.tuples[0], session.version);
            }
            Delta::Remove { tuple, .. } => {
                checks.told[unit].remove(tuple);
                checks.held.iter_mut().for_each(|held| {
                    held.remove(tuple);
                });
            }
        }
    }

    /// What a synced peer acknowledged to the only primary is in that peer's table.
    pub(crate) fn acknowledged(world: &mut World, primary: usize) {
        let serving = world
            .units
            .iter()
            .filter(|unit| unit.serving.is_some())
            .count();
        let clock = world.units[primary].clock(world.now);
        let Some(node) = world.units[primary].node.as_ref().filter(|_| serving == 1) else {
            return;
        };
        if !world.options.session_sync {
            return;
        }
        for peer in node.status(clock).peers {
            let index = peer.unit.index();
            let same = world.units[index].node.as_ref();
            let same = same.is_some_and(|node| node.settings().boot == peer.boot);
            let lacks = peer.lag.segments + peer.lag.deltas + u64::from(peer.lag.dirty);
            if !(same && peer.alive && peer.verified && peer.synced) || lacks > 0 {
                continue;
            }
            for (tuple, version) in &world.checks.told[primary] {
                let held = world.units[index].table.get(tuple);
                assert!(
                    held.is_some_and(|session| session.version >= *version),
                    "unit {} acknowledged {tuple:?} and does not have it",
                    peer.unit
                );
            }
            world.checks.held[index] = world.checks.told[primary].clone();
        }
    }

    /// Whoever becomes primary has all that it acknowledged and nobody removed.
    fn nothing_acknowledged_is_lost(world: &mut World, unit: usize) {
        for (tuple, version) in &world.checks.held[unit] {
            let held = world.units[unit].table.get(tuple);
            assert!(
                held.is_some_and(|session| session.version >= *version),
                "unit {} is primary and lost {tuple:?}",
                unit + 1
            );
        }
        // What others told before may from now on be removed by this one.
        let checks = &mut world.checks;
        checks
            .told
            .iter_mut()
            .chain(&mut checks.held)
            .for_each(BTreeMap::clear);
    }

    /// At the end of a run: all units hold the same sessions, in the same state.
    pub(crate) fn tables_agree(world: &World) {
        let mut primaries = world.units.iter().filter(|unit| unit.serving.is_some());
        let Some(primary) = primaries.next().filter(|_| world.options.session_sync) else {
            return;
        };
        for unit in &world.units {
            let synced = unit
                .node
                .as_ref()
                .map(|node| node.status(unit.clock(world.now)).synced);
            assert_eq!(synced, Some(true), "unit {} is not synced", unit.id);
            let same = unit.table.contents() == primary.table.contents();
            assert!(
                same,
                "units {} and {} hold different sessions",
                unit.id, primary.id
            );
        }
    }

    /// A unit becomes primary or ceases to be.
    pub(crate) fn role_changed(world: &World, unit: usize) {
        let served = world.units[unit].serving.is_some();
        let becomes = world.units[unit].role() == Some(Role::Primary);
        if served || becomes {
            assert!(
                !world.checks.frozen,
                "unit {} changed its role without a cause",
                unit + 1
            );
            assert!(
                !is_quiet(world),
                "unit {} changed its role in the quiet",
                unit + 1
            );
        }
    }

    pub(crate) fn after_step(world: &mut World) {
        Self::terms_never_fall(world);
        Self::one_of_two_steps_down(world);
        if is_quiet(world) {
            one_primary_per_component(world);
        }
    }

    fn terms_never_fall(world: &mut World) {
        for (unit, seen) in world.units.iter().zip(&mut world.checks.terms) {
            let Some(node) = &unit.node else { continue };
            let boot = Some(node.settings().boot);
            if seen.0 == boot {
                assert!(node.term() >= seen.1, "the term of unit {} fell", unit.id);
            }
            *seen = (boot, node.term());
        }
    }

    fn one_of_two_steps_down(world: &mut World) {
        for a in 0..world.units.len() {
            for b in 0..a {
                let primary = |unit: usize| world.units[unit].role() == Some(Role::Primary);
                let dual = primary(a) && primary(b) && world.connected(a, b);
                let since = world.checks.dual_since[a][b];
                world.checks.dual_since[a][b] =
                    dual.then(|| since.unwrap_or(world.now).max(world.disturbed));
                let lasts = since.map_or(0, |since| world.now.saturating_sub(since));
                assert!(
                    !dual || lasts <= world.options.dual_bound(),
                    "units {} and {} hear each other and stay primary for {} ms",
                    b + 1,
                    a + 1,
                    lasts / MS
                );
            }
        }
    }

    /// At the end of a run: whoever is primary has told the network.
    pub(crate) fn announcements(world: &World) {
        for (unit, announced) in world.units.iter().zip(&world.checks.announced) {
            assert!(
                unit.serving.is_none() || *announced >= 3,
                "unit {} was silent",
                unit.id
            );
        }
    }
}

/// Nothing was disturbed for so long that all must be settled; and no frame is lost by chance.
fn is_quiet(world: &World) -> bool {
    world.options.loss == 0 && world.now > world.disturbed + world.options.settle_bound()
}

/// In every component whose units all hear each other, and hear nobody else even one way, exactly one
/// of those that can serve is primary.
fn one_primary_per_component(world: &World) {
    let all = 0..world.units.len();
    for unit in all.clone() {
        if !world.units[unit].runs() {
            continue;
        }
        let component: Vec<usize> = all
            .clone()
            .filter(|other| *other == unit || world.connected(unit, *other))
            .collect();
        let clean = component.iter().all(|a| {
            all.clone().filter(|b| a != b).all(|b| {
                if component.contains(&b) {
                    world.connected(*a, b)
                } else {
                    world.separated(*a, b)
                }
            })
        });
        if !clean {
            continue;
        }
        let able = component
            .iter()
            .filter(|member| can_serve(world, **member, component.len()));
        let expected = usize::from(able.count() > 0);
        let primaries = component
            .iter()
            .filter(|unit| world.units[**unit].role() == Some(Role::Primary));
        let found = primaries.count();
        assert_eq!(
            found,
            expected,
            "primaries of the component of unit {}",
            unit + 1
        );
    }
}

fn can_serve(world: &World, index: usize, members: usize) -> bool {
    let unit = &world.units[index];
    let monitored = usize::from(world.options.links > 1);
    let linked = unit.carriers[monitored..].iter().any(|up| *up) || members > 1;
    unit.workers && linked && unit.role() != Some(Role::Maintenance)
}
