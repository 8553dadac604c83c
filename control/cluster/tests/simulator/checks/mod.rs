//! What must hold after every step. The same in `docs/protocol.md`, in the same words.

mod causes;
mod lease;
pub(crate) mod owners;
mod planted;
mod roles;
mod sessions;

use cluster::{Command, Delta, UnitId};

use crate::world::World;
use causes::Causes;
use roles::Roles;
use sessions::Sessions;

#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) roles: Roles,
    causes: Causes,
    sessions: Sessions,
}

impl Checks {
    pub(crate) fn new(units: usize) -> Self {
        Self {
            roles: Roles::new(units),
            causes: Causes::new(units),
            sessions: Sessions::new(units),
        }
    }

    /// A unit starts with nothing.
    pub(crate) fn started(&mut self, unit: usize, now: u64) {
        self.roles.started(unit);
        self.causes.started(unit, now);
        self.sessions.started(unit);
    }

    pub(crate) fn killed(&mut self, unit: usize) {
        self.roles.started(unit);
    }

    /// A frame of another unit was accepted.
    pub(crate) fn heard(&mut self, unit: usize, from: usize, now: u64) {
        self.causes.heard(unit, from, now);
    }

    /// A unit's control core stops.
    pub(crate) fn stops(&mut self, unit: usize, now: u64) {
        self.causes.stops(unit, now);
    }

    /// It goes on.
    pub(crate) fn goes_on(&mut self, unit: usize, now: u64) {
        self.causes.goes_on(unit, now);
    }

    pub(crate) fn commanded(&mut self, unit: usize, command: Command) {
        self.causes.commanded(unit, command);
    }

    pub(crate) fn announced(&mut self, unit: usize) {
        self.roles.announced(unit);
    }

    pub(crate) fn promoted(world: &mut World, unit: usize, term: u32) {
        Roles::promoted(world, unit, term);
    }

    pub(crate) fn demoted(world: &mut World, unit: usize) {
        Roles::role_changed(world, unit);
    }

    /// The state machine wants nothing more: everything that it did has to have a reason by now.
    pub(crate) fn told_why(world: &mut World, unit: usize) {
        Causes::check(world, unit);
        Roles::term_never_falls(world, unit);
    }

    /// A unit began to ask for the lease of the witness.
    pub(crate) fn claimed(world: &mut World, unit: usize) {
        Causes::claimed(world, unit);
    }

    /// A unit told its peers of changes.
    pub(crate) fn pushed(&mut self, unit: usize, changes: &[(u16, Delta)]) {
        self.sessions.pushed(unit, changes);
    }

    /// A unit was told of a change.
    pub(crate) fn told(world: &mut World, unit: usize, from: UnitId, delta: &Delta) {
        Sessions::told(world, unit, from.index(), delta);
    }

    pub(crate) fn acknowledged(world: &mut World, unit: usize) {
        Sessions::acknowledged(world, unit);
    }

    pub(crate) fn tables_changed(world: &mut World, unit: usize) {
        Sessions::changed(world, unit);
    }

    /// A unit passed a packet on, which came to it from `from` if that was a unit.
    pub(crate) fn passed_on(world: &World, unit: usize, from: Option<UnitId>, to: UnitId) {
        owners::passed_once(world, unit, from, to);
    }

    pub(crate) fn after_step(world: &mut World) {
        lease::one_transmits(world);
        Roles::after_step(world);
    }

    /// At the end of a run.
    pub(crate) fn at_the_end(world: &World) {
        Roles::announcements(world);
        Sessions::tables_agree(world);
        owners::one_owner(world);
    }
}
