//! One unit of the cluster: the state machine that the daemon drives.
//!
//! [`Node`] owns what a unit knows and what it is. The driver calls it from one thread: it hands in what
//! happened with the time, then calls [`Node::poll`] until that returns nothing, and comes back at
//! [`Node::next_deadline`] at the latest. Every call ends in [`Node::decide`](roles), so that a role
//! changes in the very call that gave the reason.
//!
//! ```text
//!                  +-----------+  a primary is known   +-------------+
//!        start --> | candidate | --------------------> | subordinate |
//!                  |           | <-------------------- |             |
//!                  +-----------+   it is gone, and     +-------------+
//!                    |   ^         another is better      |       ^
//!         best, or   |   |                     best, or   |       | hands over,
//!         alone      |   | can serve again     overdue    |       | or loses against
//!                    |   |                                v       | another primary
//!                    |  +----------+  cannot serve     +-------------+
//!                    |  | isolated | <---------------- |   primary   |
//!                    |  +----------+  (from any role)  +-------------+
//!                    |                                    ^
//!                    +------------------------------------+
//!
//!        maintenance: entered from any role by command; from primary by way of a hand-over
//! ```
//!
//! Invariants:
//!
//! 1. The term never falls. A promotion raises it, to one that is dealt to this unit (term modulo 16 is 16
//!    less its id): so a term has one primary, and that is promoted in it once.
//! 2. A unit does not promote itself while it hears a serving primary, or hears from a peer that does.
//! 3. Two primaries that hear each other compare the same fields in the same order, so one steps down.
//! 4. A sitting primary goes only because it cannot serve, lost (3), was told to, or a peer is strictly
//!    better; equal health never moves the role. What got better counts only once it was stable.
//! 5. Where there is a witness, a primary has its lease.
//! 6. Silence while this unit was itself stopped is nobody's death.

mod beat;
mod command;
mod distribute;
mod hand_over;
mod links;
mod neighbours;
mod receive;
mod replication;
mod report;
mod roles;
mod room;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::VecDeque;
use std::time::Duration;

use crate::envelope::Seal;
use crate::history::{Cause, History, Transition};
use crate::peer::Peer;
use crate::settings::SettingsError;
use crate::sync::{Limits, Sync, SyncSettings};
use crate::{
    Action, Counters, Event, HandOverReport, Health, LiveSettings, Load, Role, SessionSource,
    Settings, Time, UnitId,
};
use distribute::Told;
use hand_over::{Planned, Relay};
use links::Flapping;
use neighbours::Telling;
use witness::Witness;

/// How long a planned hand-over waits for the peers to hold all sessions.
pub const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);

/// The shortest time that an improvement of a unit's links must last before it counts.
pub const MIN_HOLD: Duration = Duration::from_secs(1);

/// The longest such time, of links that fail again and again.
pub const MAX_HOLD: Duration = Duration::from_secs(60);

/// A hand-over that waits for the successor's promotion. Until then this unit is not eligible.
#[derive(Clone, Copy, Debug)]
struct Yielding {
    to: UnitId,
    term: u32,
    since: Time,
    until: Time,
}

/// Nobody is primary, as far as this unit knows.
#[derive(Clone, Copy, Debug)]
struct Vacancy {
    /// Why it came.
    cause: Cause,
    /// Since when this unit could have taken the role.
    eligible_since: Option<Time>,
    /// When it takes it although another is better.
    overdue_at: Time,
}

/// Two primaries, this unit being one of them.
#[derive(Clone, Copy, Debug)]
struct Dual {
    peer: UnitId,
    since: Time,
}

/// A unit of the cluster, without any I/O.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    now: Time,
    seal: Seal,
    sequence: u64,
    peers: [Option<Box<Peer>>; UnitId::MAX as usize],
    links_up: Vec<bool>,
    workers: bool,
    load: Load,

    role: Role,
    role_since: Time,
    /// The highest term known.
    term: u32,
    /// Who told the term, when it was not this unit's own promotion.
    term_from: Option<UnitId>,
    /// The primary that this unit follows.
    primary: Option<UnitId>,
    /// When the reports of others about the primary run out.
    reported_until: Time,
    /// The term in which they report it; 0 while it is heard.
    reported_term: u32,
    capable_since: Time,
    listening_until: Time,
    /// Until when a cluster that is not this unit's counts as heard.
    strange_until: Time,
    health: Health,
    /// Better health that waits to be believed: its weight, and since when.
    improving: Option<(u16, Time)>,
    flapping: Flapping,
    vacancy: Option<Vacancy>,
    planned: Option<Planned>,
    yielding: Option<Yielding>,
    relay: Option<Relay>,
    /// By unit: how often it did not become primary when this unit handed over to it.
    declined: [Flapping; UnitId::MAX as usize],
    hand_over: Option<HandOverReport>,
    dual: Option<Dual>,
    witness: Option<Witness>,
    maintenance: bool,
    /// Leaving, at this time at the latest.
    leaving: Option<Time>,
    /// Before this it does not leave, being an owner.
    retired_at: Time,
    left: bool,
    /// It was polled: what it is told before that is how things stand at its start, not what happened.
    begun: bool,

    told: Told,
    telling: Telling,
    /// The table has no room for all sessions of the primary.
    short: bool,
    sync: Sync,
    /// The last thing that synchronisation wanted was a change to apply.
    applying: bool,
    /// The primary and its term, as synchronisation was told.
    sync_primary: Option<(UnitId, u32)>,
    beat_due: Time,
    announcements: u32,
    announce_due: Time,
    actions: VecDeque<Action>,
    history: History,
    counters: Counters,
}

impl Node {
    /// A fresh unit: candidate, listening. Its links count as down and its workers as stopped until
    /// [`Node::handle_link`] and [`Node::handle_workers`] say otherwise, best before the first
    /// [`Node::poll`]: until then it decides nothing.
    ///
    /// # Errors
    /// Settings that it cannot work with.
    pub fn new(settings: Settings, now: Time) -> Result<Self, SettingsError> {
        settings.validate()?;
        let total = settings.links.iter().map(|link| link.weight).sum();
        let mut node = Self {
            seal: Seal::new(
                &settings.key,
                settings.cluster,
                settings.unit,
                settings.boot,
            ),
            sync: Sync::new(SyncSettings {
                unit: settings.unit,
                boot: settings.boot,
                shards: settings.shards.max(1),
                session_sync: settings.session_sync,
                limits: Limits::default(),
            }),
            told: Told::default(),
            telling: Telling::default(),
            short: false,
            applying: false,
            sync_primary: None,
            links_up: vec![false; settings.links.len()],
            witness: settings.witness.map(|_| Witness::default()),
            listening_until: now + settings.hello_holddown,
            strange_until: Time(0),
            term: settings.last_term,
            settings,
            now,
            sequence: 0,
            peers: [const { None }; UnitId::MAX as usize],
            workers: false,
            load: Load::default(),
            role: Role::Candidate,
            role_since: now,
            term_from: None,
            primary: None,
            reported_until: Time(0),
            reported_term: 0,
            capable_since: now,
            health: Health { healthy: 0, total },
            improving: None,
            flapping: Flapping::default(),
            vacancy: None,
            planned: None,
            yielding: None,
            relay: None,
            declined: [Flapping::default(); UnitId::MAX as usize],
            hand_over: None,
            dual: None,
            maintenance: false,
            leaving: None,
            retired_at: Time(0),
            left: false,
            begun: false,
            beat_due: now,
            announcements: 0,
            announce_due: Time::NEVER,
            actions: VecDeque::new(),
            history: History::default(),
            counters: Counters::default(),
        };
        node.history.record(Transition {
            time: now,
            from: Role::Candidate,
            to: Role::Candidate,
            term: node.term,
            cause: Cause::Started,
        });
        Ok(node)
    }

    /// Tells what the unit is busy with; goes out with the next heartbeat.
    pub fn handle_load(&mut self, load: Load, now: Time) {
        self.observe(now);
        self.load = load;
    }

    /// Follows a configuration that changed while it runs; goes out with the next heartbeat.
    pub fn handle_settings(&mut self, settings: LiveSettings, now: Time) {
        self.observe(now);
        self.settings.priority = settings.priority;
        self.settings.preempt = settings.preempt;
        self.settings.schedule = settings.schedule;
        self.settings.weight = settings.weight;
        self.settings.config_hash = settings.config_hash;
        self.settings.config_parts = settings.config_parts;
        self.distribution_is_stale();
        self.beat_due = now;
        self.decide(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self, table: &dyn SessionSource, now: Time) -> Option<Action> {
        self.begun = true;
        if self.applying && self.actions.is_empty() && !self.left {
            // A change to apply is followed by others, and nothing is to be decided between them.
            if let Some(action) = self.replicate(table, now) {
                return Some(action);
            }
        }
        if self.actions.is_empty() && !self.left {
            self.observe(now);
            self.decide(now);
            self.announce(now);
            self.beat(now);
            self.tell_neighbours(now);
            let action = if self.actions.is_empty() {
                self.replicate(table, now)
            } else {
                self.actions.pop_front()
            };
            self.mark_ends();
            return action;
        }
        self.actions.pop_front()
    }

    /// When [`Node::poll`] must be called again, at the latest, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        if !self.actions.is_empty() {
            return self.now;
        }
        if self.left {
            return Time::NEVER;
        }
        let future = |time: Time| if time > self.now { time } else { Time::NEVER };
        let timers = [
            self.beat_due,
            self.announce_due,
            future(self.listening_until),
            future(self.strange_until),
            future(self.reported_until),
            future(self.retired_at),
            self.improving
                .map_or(Time::NEVER, |(_, since)| since + self.hold(since)),
            self.hand_over_deadline(),
            // Once that is over, the lease may still be waited for.
            self.vacancy
                .map_or(Time::NEVER, |vacancy| future(vacancy.overdue_at)),
            self.leaving.unwrap_or(Time::NEVER),
            if self.tells_neighbours() {
                self.telling.deadline()
            } else {
                Time::NEVER
            },
            self.witness
                .map_or(Time::NEVER, |witness| witness.deadline(self.now)),
            self.sync.next_deadline(),
        ];
        let peers = self
            .peers
            .iter()
            .flatten()
            .map(|peer| self.peer_deadline(peer));
        timers.into_iter().chain(peers).min().unwrap_or(Time::NEVER)
    }

    /// Roles and terms that this unit had, and why, oldest first.
    pub fn transitions(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.history.iter()
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes note of the time. A call that comes much later than it should means that this unit was
    /// stopped (SIGSTOP, a debugger, a starved core): frames may be waiting unread, so what it did not
    /// hear meanwhile says nothing about its peers. Every wait for others goes on where it was.
    fn observe(&mut self, now: Time) {
        let interval = self.settings.heartbeat_interval;
        let gap = now.since(self.now);
        self.now = self.now.max(now);
        if gap <= interval * 2 {
            return;
        }
        self.counters.pauses += 1;
        let pause = gap - interval;
        self.peers
            .iter_mut()
            .flatten()
            .for_each(|peer| peer.forgive(pause));
        // Nobody knows what they did meanwhile.
        UnitId::all().for_each(|unit| self.sync.in_step(unit, false));
        self.listening_until = self.listening_until + pause;
        self.reported_until = self.reported_until + pause;
        if let Some(yielding) = &mut self.yielding {
            yielding.until = yielding.until + pause;
        }
        if let Some(since) = self
            .vacancy
            .as_mut()
            .and_then(|v| v.eligible_since.as_mut())
        {
            *since = *since + pause;
        }
    }

    fn peer(&self, unit: UnitId) -> Option<&Peer> {
        self.peers[unit.index()].as_deref()
    }

    fn peer_mut(&mut self, unit: UnitId) -> Option<&mut Peer> {
        self.peers[unit.index()].as_deref_mut()
    }

    /// Peers that are alive and known to be no recordings.
    fn trusted(&self) -> impl Iterator<Item = &Peer> {
        self.peers
            .iter()
            .flatten()
            .map(Box::as_ref)
            .filter(|peer| peer.trusted())
    }

    fn event(&mut self, event: Event) {
        self.actions.push_back(Action::Event(event));
    }

    /// How long better links must last before they count, which they have been since then.
    fn hold(&self, since: Time) -> Duration {
        self.flapping.hold(self.usual_hold(), since)
    }

    fn usual_hold(&self) -> Duration {
        self.settings.hello_holddown.max(MIN_HOLD)
    }
}
