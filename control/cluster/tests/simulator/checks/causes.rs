//! Every change of a role has a cause in `why`, and the cause is true.

use cluster::{Cause, Command, HandOver, LeaseHolder, Role, Transition, UnitId};

use crate::world::World;

/// A clock that drifts makes a silence this much shorter, as a divisor.
const DRIFT: u64 = 400;

/// What happened to a unit since it started.
#[derive(Clone, Debug, Default)]
struct Past {
    started: u64,
    failover: bool,
    maintenance_begun: bool,
    maintenance_ended: bool,
    left: bool,
    was_primary: bool,
    /// It heard nobody when it began to ask for the lease, which is why it did.
    claimed_alone: bool,
    /// By other unit: it was not heard then.
    claimed_without: Vec<bool>,
    stepped_down: bool,
    yielded_to: Vec<UnitId>,
    /// By other unit: when a frame of it was accepted last.
    heard: Vec<Option<u64>>,
    /// By other unit: for how long this one was stopped since then.
    stopped: Vec<u64>,
    /// Since when it is stopped.
    stops: Option<u64>,
    /// By other unit: the longest time between two frames of it.
    silent: Vec<u64>,
    /// The last transition that was judged.
    judged: Option<Transition>,
}

impl Past {
    fn new(units: usize, started: u64) -> Self {
        Self {
            started,
            heard: vec![None; units],
            stopped: vec![0; units],
            silent: vec![0; units],
            ..Self::default()
        }
    }
}

#[derive(Debug)]
pub(super) struct Causes {
    pasts: Vec<Past>,
    /// By unit: what it once was, in any start. Frames outlive who sent them.
    ever: Vec<Past>,
}

impl Causes {
    pub(super) fn new(units: usize) -> Self {
        let fresh = Past::new(units, 0);
        Self {
            pasts: vec![fresh.clone(); units],
            ever: vec![fresh; units],
        }
    }

    pub(super) fn started(&mut self, unit: usize, now: u64) {
        let units = self.pasts.len();
        self.pasts[unit] = Past::new(units, now);
    }

    pub(super) fn stops(&mut self, unit: usize, now: u64) {
        self.pasts[unit].stops = Some(now);
    }

    pub(super) fn goes_on(&mut self, unit: usize, now: u64) {
        let past = &mut self.pasts[unit];
        let length = past.stops.take().map_or(0, |since| now - since);
        past.stopped.iter_mut().for_each(|sum| *sum += length);
    }

    pub(super) fn heard(&mut self, unit: usize, from: usize, now: u64) {
        let past = &mut self.pasts[unit];
        let silent = now - past.heard[from].unwrap_or(past.started);
        past.silent[from] = past.silent[from].max(silent);
        past.heard[from] = Some(now);
        past.stopped[from] = 0;
    }

    pub(super) fn commanded(&mut self, unit: usize, command: Command) {
        for past in [&mut self.pasts[unit], &mut self.ever[unit]] {
            match command {
                Command::Failover { .. } => past.failover = true,
                Command::Maintenance(true) => past.maintenance_begun = true,
                Command::Maintenance(false) => past.maintenance_ended = true,
                Command::Leave => past.left = true,
            }
        }
    }

    pub(super) fn claimed(world: &mut World, unit: usize) {
        let alone = is_alone(world, unit);
        let unheard = (0..world.units.len()).map(|other| !hears(world, unit, other));
        let unheard = unheard.collect();
        let past = &mut world.checks.causes.pasts[unit];
        (past.claimed_alone, past.claimed_without) = (alone, unheard);
    }

    /// **No role change without a cause in `why`.** Judges what is new there, and that the role is what
    /// the last one says.
    pub(super) fn check(world: &mut World, unit: usize) {
        let Some(node) = &world.units[unit].node else {
            return;
        };
        let judged = world.checks.causes.pasts[unit].judged;
        let known = judged.and_then(|last| node.transitions().rposition(|t| *t == last));
        let fresh: Vec<Transition> = node
            .transitions()
            .skip(known.map_or(0, |position| position + 1))
            .copied()
            .collect();
        let mut role = judged.map_or(Role::Candidate, |last| last.to);
        let (role_now, term_now) = (node.role(), node.term());
        for transition in fresh {
            let first = world.checks.causes.pasts[unit].judged.is_none();
            assert_eq!(transition.from, role, "unit {}: {transition:?}", unit + 1);
            assert!(
                is_true(world, unit, &transition, first),
                "unit {} gives a cause that is none: {transition:?}",
                unit + 1
            );
            role = transition.to;
            world.checks.causes.remember(unit, &transition);
        }
        let last = world.checks.causes.pasts[unit].judged;
        assert_eq!(
            last.map(|last| last.to),
            Some(role_now),
            "unit {} changed its role without a cause",
            unit + 1
        );
        assert!(
            role_now != Role::Primary || last.is_some_and(|last| last.term == term_now),
            "unit {} changed its term without a cause",
            unit + 1
        );
    }

    fn remember(&mut self, unit: usize, transition: &Transition) {
        for past in [&mut self.pasts[unit], &mut self.ever[unit]] {
            past.was_primary |= transition.to == Role::Primary;
            past.stepped_down |= transition.from == Role::Primary && transition.to != Role::Primary;
            if let Cause::Yielded { to, .. } = transition.cause {
                past.yielded_to.push(to);
            }
            past.judged = Some(*transition);
        }
    }
}

fn is_true(world: &World, index: usize, transition: &Transition, first: bool) -> bool {
    let causes = &world.checks.causes;
    let (past, unit) = (&causes.pasts[index], &world.units[index]);
    let ever = |other: UnitId| &causes.ever[other.index()];
    let monitored = usize::from(world.options.links > 1);
    match transition.cause {
        Cause::Started => first,
        Cause::PrimaryFound { primary }
        | Cause::PrimaryReported { primary, .. }
        | Cause::PrimaryUnreported { primary } => primary != unit.id && ever(primary).was_primary,
        Cause::NoPrimary => !first,
        Cause::Alone => past.claimed_alone || is_alone(world, index),
        Cause::Elected { of } => of >= 1 && usize::from(of) <= world.units.len(),
        Cause::PrimaryDied { primary, .. } => {
            let longest = past.silent[primary.index()];
            let unheard = past.claimed_without.get(primary.index()) == Some(&true);
            longest >= detection(world) || !hears(world, index, primary.index()) || unheard
        }
        Cause::PrimaryLeft { primary } => ever(primary).left,
        Cause::PrimaryStopped { primary, .. } => {
            let started_anew = world.units[primary.index()].starts > 1;
            ever(primary).stepped_down || started_anew
        }
        Cause::PrimaryUnproven { primary } => may_hear(world, index, primary.index()),
        Cause::HandedOver { by } => ever(by).yielded_to.contains(&unit.id),
        Cause::Overdue { expected } => expected != unit.id,
        Cause::Yielded { to, reason } => to != unit.id && calls_for(world, index, reason),
        Cause::DualPrimary { winner, term } => {
            let roles = &world.checks.roles;
            winner != unit.id && roles.is_primary_of(winner.index(), term)
        }
        Cause::TermRaised { by } => by != unit.id,
        Cause::WorkersStopped => !unit.told.forwards,
        Cause::LinksLost => unit.told.carriers[monitored..].iter().all(|up| !up),
        Cause::LeaseLost => unit.courier.as_ref().is_some_and(|courier| {
            let told = courier.told;
            told.holder != LeaseHolder::Own || told.until <= transition.time
        }),
        Cause::Recovered => unit.told.forwards,
        Cause::MaintenanceBegun => past.maintenance_begun,
        Cause::MaintenanceEnded => past.maintenance_ended,
        Cause::Leaving => past.left,
    }
}

/// Whether a unit hears nobody who stays.
fn is_alone(world: &World, unit: usize) -> bool {
    let ever = &world.checks.causes.ever;
    (0..world.units.len()).all(|other| !hears(world, unit, other) || ever[other].left)
}

/// Whether a frame of another unit was accepted so lately that it lives, by whatever clock.
fn hears(world: &World, unit: usize, other: usize) -> bool {
    let heard = world.checks.causes.pasts[unit].heard[other];
    heard.is_some_and(|at| world.now < at + detection(world))
}

/// Whether it may live by a clock that is slow, for a unit to whom the time that it was stopped itself is nobody's
/// silence.
fn may_hear(world: &World, unit: usize, other: usize) -> bool {
    let detection = world.options.detection();
    let past = &world.checks.causes.pasts[unit];
    let silence = past.stopped[other] + detection + detection / DRIFT;
    past.heard[other].is_some_and(|at| world.now <= at + silence)
}

/// The shortest silence that may be one of a detection time by a clock that drifts: frames between two
/// heartbeats, and copies of a heartbeat that come after the first one, postpone nothing.
fn detection(world: &World) -> u64 {
    let detection = world.options.detection();
    detection - detection / DRIFT - world.options.interval
}

fn calls_for(world: &World, index: usize, reason: HandOver) -> bool {
    let past = &world.checks.causes.pasts[index];
    let unit = &world.units[index];
    let monitored = usize::from(world.options.links > 1);
    match reason {
        HandOver::Health => unit.told.carriers[monitored..].iter().any(|up| !up),
        HandOver::Preempt => world.options.preempt,
        HandOver::Command => past.failover,
        HandOver::Maintenance => past.maintenance_begun,
        HandOver::Leave => past.left,
        HandOver::Workers => !unit.told.forwards,
    }
}
