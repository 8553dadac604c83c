//! Who is primary, in which term, for how long, and how often that changes.

use std::collections::BTreeMap;

use cluster::Role;

use super::lease;
use crate::options::MS;
use crate::unit::{Pace, Unit};
use crate::world::World;

/// Times that the role may move after the last fault: an election, the better of two primaries, whose
/// links or priority then give way to the best, and one that dies of what had been done to it before.
const MOVES: u32 = 4;

/// Time from one look at who serves to the next.
const LOOK: u64 = 100 * MS;

#[derive(Debug)]
pub(crate) struct Roles {
    /// By term: who was promoted in it.
    promoted: BTreeMap<u32, usize>,
    /// By unit: the highest term of this start.
    terms: Vec<u32>,
    /// By unit: announcements since its promotion.
    announced: Vec<u32>,
    /// By pair: since when both are primary and hear each other.
    dual_since: BTreeMap<(usize, usize), u64>,
    /// Promotions since the last fault.
    moves: u32,
    /// That fault.
    fault: u64,
    /// The last time that better links of some unit did not count yet: the longer the more often they failed.
    doubted: u64,
    /// By unit: since when nobody of its component is primary though somebody could be.
    vacant: Vec<Option<u64>>,
    /// When that was looked at last.
    looked: u64,
    /// The roles when the components were looked at last, and the last fault by then.
    settled: (u64, Vec<Option<Role>>),
    /// No unit may become primary or cease to be.
    pub(crate) frozen: bool,
}

impl Roles {
    pub(super) fn new(units: usize) -> Self {
        Self {
            promoted: BTreeMap::new(),
            terms: vec![0; units],
            announced: vec![0; units],
            dual_since: BTreeMap::new(),
            moves: 0,
            fault: 0,
            doubted: 0,
            vacant: vec![None; units],
            looked: 0,
            settled: (0, Vec::new()),
            frozen: false,
        }
    }

    pub(super) fn started(&mut self, unit: usize) {
        self.terms[unit] = 0;
    }

    /// Whether a unit was promoted in a term.
    pub(super) fn is_primary_of(&self, unit: usize, term: u32) -> bool {
        self.promoted.get(&term) == Some(&unit)
    }

    pub(super) fn announced(&mut self, unit: usize) {
        self.announced[unit] += 1;
    }

    /// **One primary per term.**
    pub(super) fn promoted(world: &mut World, unit: usize, term: u32) {
        if world.units[unit].serving.is_none() {
            Self::role_changed(world, unit);
            Self::no_oscillation(world);
            world.checks.roles.announced[unit] = 0;
        }
        if let Some(first) = world.checks.roles.promoted.insert(term, unit) {
            let (first, unit) = (first + 1, unit + 1);
            assert!(
                first != unit,
                "unit {unit} was promoted twice in term {term}"
            );
            panic!("units {first} and {unit} were both promoted in term {term}");
        }
    }

    /// **No oscillation.**
    fn no_oscillation(world: &mut World) {
        if world.options.chance() > 0 || world.store.slow {
            return;
        }
        let roles = &mut world.checks.roles;
        if roles.fault < world.disturbed {
            (roles.fault, roles.moves) = (world.disturbed, 0);
        }
        roles.moves += 1;
        assert!(
            roles.moves <= MOVES * u32::try_from(world.units.len()).unwrap(),
            "the role moved {} times since the last fault",
            roles.moves
        );
    }

    /// A unit becomes primary or ceases to be.
    pub(super) fn role_changed(world: &World, unit: usize) {
        let served = world.units[unit].serving.is_some();
        if served || world.units[unit].is_primary() {
            assert!(
                !world.checks.roles.frozen,
                "unit {} changed its role though only a subordinate failed",
                unit + 1
            );
            assert!(
                !is_quiet(world),
                "unit {} changed its role in the quiet",
                unit + 1
            );
        }
    }

    /// **A term never falls.**
    pub(super) fn term_never_falls(world: &mut World, unit: usize) {
        let Some(node) = &world.units[unit].node else {
            return;
        };
        let term = node.term();
        let highest = &mut world.checks.roles.terms[unit];
        assert!(term >= *highest, "the term of unit {} fell", unit + 1);
        *highest = term;
    }

    pub(super) fn after_step(world: &mut World) {
        Self::one_of_two_steps_down(world);
        if (0..world.units.len()).any(|unit| doubts_links(world, unit)) {
            world.checks.roles.doubted = world.now;
        }
        if is_quiet(world) && Self::have_changed(world) {
            if world.options.witness.is_some() {
                lease::one_primary(world);
            } else {
                one_primary_per_component(world);
            }
        }
        if world.now >= world.checks.roles.looked + LOOK {
            world.checks.roles.looked = world.now;
            Self::somebody_serves(world);
        }
    }

    /// **Somebody serves.** Also while frames are lost by chance, which may make two believe each other dead.
    fn somebody_serves(world: &mut World) {
        let bound = 2 * world.options.settle_bound();
        let from = world.disturbed.max(world.checks.roles.doubted);
        for unit in 0..world.units.len() {
            let since = world.checks.roles.vacant[unit].unwrap_or(world.now);
            let vacant = is_vacant(world, unit).then_some(since);
            world.checks.roles.vacant[unit] = vacant;
            let lasts = vacant.map_or(0, |since| world.now.saturating_sub(since.max(from)));
            assert!(
                lasts <= bound,
                "nobody serves in the component of unit {} for {} ms",
                unit + 1,
                lasts / MS
            );
        }
    }

    /// Whether anything happened to roles or between units since the components were looked at.
    fn have_changed(world: &mut World) -> bool {
        let (fault, roles) = &world.checks.roles.settled;
        let now = world.units.iter().map(Unit::role);
        if *fault == world.disturbed && now.clone().eq(roles.iter().copied()) {
            return false;
        }
        let now = now.collect();
        world.checks.roles.settled = (world.disturbed, now);
        true
    }

    /// **Two that hear each other do not both stay primary.**
    fn one_of_two_steps_down(world: &mut World) {
        let primaries: Vec<usize> = (0..world.units.len())
            .filter(|unit| world.units[*unit].is_primary())
            .collect();
        if primaries.len() < 2 && world.checks.roles.dual_since.is_empty() {
            return;
        }
        let before = std::mem::take(&mut world.checks.roles.dual_since);
        for (position, a) in primaries.iter().enumerate() {
            for b in &primaries[..position] {
                if !world.connected(*a, *b) || is_impaired(world, *a) || is_impaired(world, *b) {
                    continue;
                }
                let since = before.get(&(*a, *b)).copied().unwrap_or(world.now);
                let since = since.max(world.disturbed);
                world.checks.roles.dual_since.insert((*a, *b), since);
                let lasts = world.now.saturating_sub(since);
                assert!(
                    lasts <= world.options.dual_bound(),
                    "units {} and {} hear each other and stay primary for {} ms",
                    b + 1,
                    a + 1,
                    lasts / MS
                );
            }
        }
    }

    /// Whoever is primary has told the network.
    pub(super) fn announcements(world: &World) {
        for (unit, announced) in world.units.iter().zip(&world.checks.roles.announced) {
            assert!(
                unit.serving.is_none() || *announced >= 3,
                "unit {} was silent",
                unit.id
            );
        }
    }
}

/// Whether a unit has links that it does not believe in yet.
fn doubts_links(world: &World, index: usize) -> bool {
    let unit = &world.units[index];
    let monitored = usize::from(world.options.links > 1);
    let up = unit.carriers[monitored..].iter().filter(|up| **up).count();
    let node = unit.node.as_ref().filter(|_| unit.runs());
    node.is_some_and(|node| usize::from(node.health().healthy) < up)
}

fn is_impaired(world: &World, unit: usize) -> bool {
    world.units[unit].pace != Pace::Running
}

/// Nothing was disturbed for so long that all must be settled; and no frame is lost by chance.
pub(super) fn is_quiet(world: &World) -> bool {
    world.options.chance() == 0
        && !world.store.slow
        && world.now
            > world.disturbed.max(world.checks.roles.doubted) + world.options.settle_bound()
        && !(0..world.units.len()).any(|unit| {
            world.units[unit].doomed.is_some() || matches!(world.units[unit].pace, Pace::Slow(_))
        })
}

/// **Bounded time to one primary.** In every component whose units all hear each other, and hear nobody
/// else even one way, exactly one of those that can serve is primary.
fn one_primary_per_component(world: &World) {
    let all = 0..world.units.len();
    for unit in all.clone() {
        if !world.units[unit].runs() {
            continue;
        }
        let component = component_of(world, unit);
        if component[0] < unit || !is_clean(world, &component) {
            continue;
        }
        let able = component
            .iter()
            .filter(|member| can_serve(world, **member, component.len()));
        let expected = usize::from(able.count() > 0);
        let primaries = component
            .iter()
            .filter(|unit| world.units[**unit].is_primary());
        assert_eq!(
            primaries.count(),
            expected,
            "primaries of the component of unit {}",
            unit + 1
        );
    }
}

/// Whether nobody is primary among the units that this one and each other hear, though one can serve.
fn is_vacant(world: &World, unit: usize) -> bool {
    if !world.units[unit].runs() || world.units[unit].is_primary() {
        return false;
    }
    let component = component_of(world, unit);
    let troubled =
        |member: &usize| is_impaired(world, *member) || world.units[*member].doomed.is_some();
    is_clean(world, &component)
        && !component.iter().any(troubled)
        && !component
            .iter()
            .any(|member| world.units[*member].is_primary())
        && component
            .iter()
            .any(|member| can_serve(world, *member, component.len()) && may_lead(world, *member))
}

/// With a witness, of all components together one has a primary: one whose units reach it.
fn may_lead(world: &World, unit: usize) -> bool {
    let led = world.units.iter().any(|unit| unit.is_primary());
    world.options.witness.is_none() || !led && world.store.answers(unit)
}

/// A unit that runs, and all that it hears and is heard by.
pub(super) fn component_of(world: &World, unit: usize) -> Vec<usize> {
    (0..world.units.len())
        .filter(|other| *other == unit || world.connected(unit, *other))
        .collect()
}

/// Whether all of these units hear each other, and nobody else.
pub(super) fn is_clean(world: &World, component: &[usize]) -> bool {
    component.iter().all(|a| {
        (0..world.units.len()).filter(|b| a != b).all(|b| {
            if component.contains(&b) {
                world.connected(*a, b)
            } else {
                world.separated(*a, b)
            }
        })
    })
}

pub(super) fn can_serve(world: &World, index: usize, members: usize) -> bool {
    let unit = &world.units[index];
    let monitored = usize::from(world.options.links > 1);
    let linked = unit.carriers[monitored..].iter().any(|up| *up) || members > 1;
    unit.forwards && linked && unit.role() != Some(Role::Maintenance)
}
