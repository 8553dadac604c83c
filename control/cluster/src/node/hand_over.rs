//! A planned hand-over, step by step, so that no packet is lost and none overtakes another.
//!
//! 1. *Prepare.* All slots are the successor's: no new session begins here, and what workers still put into
//!    their rings comes out.
//! 2. *Drain.* Until the successor holds every session that began here.
//! 3. *Yield.* This unit ceases to be primary and names the successor, which promotes itself.
//! 4. *Relay.* What still comes to this unit, because switches have not learned yet, it passes on.
//!
//! A primary that must go at once (its links, its workers) begins with the third. A successor that takes no
//! frames from others (version 1, or none of its stations known) gets the second and the third.

use std::time::Duration;

use super::{HANDOVER_PATIENCE, Yielding};
use crate::history::{Cause, HandOver, HandOverReport, HandOverStep};
use crate::{Event, Node, Role, Time, UnitId};

/// How long workers get to hear that no new session begins here, and their changes to come out of the rings.
const PREPARE: Duration = Duration::from_millis(10);
/// Once the successor holds every session that was there, sessions still change. For so long a moment is
/// awaited in which it holds that too: then this unit need not copy everything back.
const GRACE: Duration = Duration::from_millis(20);
/// Switches that did not hear the successor's announcement hear its traffic meanwhile.
const MIN_RELAY: Duration = Duration::from_secs(1);

/// A hand-over that is prepared.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// To this unit, or to whoever is best.
    to: Option<UnitId>,
    /// Who it is at this time.
    heir: UnitId,
    pub(super) reason: HandOver,
    step: Step,
    /// When this step began.
    since: Time,
    /// When it goes on in any case.
    pub(super) deadline: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Prepare,
    Drain {
        /// Where the streams ended when the workers began no more sessions.
        ends: Option<Vec<u64>>,
        /// Since when the successor has that.
        reached: Option<Time>,
    },
}

/// A unit that was primary passes frames on to its successor, or to the one that stays of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    to: UnitId,
    /// Set when the successor's promotion was heard.
    until: Option<Time>,
}

impl Node {
    /// The latest hand-over by this unit: how far it is, and how long its steps took.
    #[must_use]
    pub const fn hand_over_report(&self) -> Option<&HandOverReport> {
        self.hand_over.as_ref()
    }

    /// To whom this unit is about to hand over, or has just.
    pub(super) fn heir(&self) -> Option<UnitId> {
        let planned = self.planned.as_ref().map(|planned| planned.heir);
        planned.or(self.yielding.map(|yielding| yielding.to))
    }

    /// Begins to hand over; to whoever is best if no unit is named. False when nobody can take over.
    pub(super) fn plan(&mut self, to: Option<UnitId>, reason: HandOver, now: Time) -> bool {
        let Some(heir) = to.or_else(|| self.successor()) else {
            return false;
        };
        self.planned = Some(Planned {
            to,
            heir,
            reason,
            step: Step::Prepare,
            since: now,
            deadline: now + HANDOVER_PATIENCE,
        });
        self.hand_over = Some(HandOverReport::new(heir, reason));
        self.distribution_is_stale();
        true
    }

    pub(super) fn cancel_plan(&mut self) {
        if self.planned.take().is_some() {
            self.distribution_is_stale();
            self.advance_report(HandOverStep::Cancelled, None);
        }
    }

    /// Who gets all new sessions because it is about to take over.
    pub(super) fn preparing_for(&self) -> Option<UnitId> {
        let heir = self.planned.as_ref()?.heir;
        self.takes_frames(heir).then_some(heir)
    }

    /// Whether frames can be passed on to this unit.
    fn takes_frames(&self, unit: UnitId) -> bool {
        let peer = self.peer(unit).filter(|peer| peer.trusted());
        self.speaks_of_schedules(unit) && peer.is_some_and(|p| !p.beat.stations.is_empty())
    }

    /// Takes the next step of a hand-over, or ends it. True if the role changed.
    pub(super) fn step_planned(&mut self, now: Time) -> bool {
        if self.planned.is_none()
            && let Some(to) = self.preempting_peer()
        {
            self.plan(Some(to), HandOver::Preempt, now);
        }
        let Some(mut planned) = self.planned.take() else {
            return false;
        };
        if !self.acceptable(planned.heir) {
            let other = self.successor().filter(|_| planned.to.is_none());
            let Some(other) = other else {
                return self.give_up(planned, now);
            };
            planned.heir = other;
            planned.step = Step::Prepare;
            planned.since = now;
            self.distribution_is_stale();
        }
        let (heir, reason) = (planned.heir, planned.reason);
        let ready = self.advance(&mut planned, now) || now >= planned.deadline;
        if !ready {
            self.planned = Some(planned);
            return false;
        }
        let took = now.since(planned.since);
        self.advance_report(HandOverStep::Yielding, Some(took));
        self.yield_to(heir, reason, now);
        true
    }

    fn give_up(&mut self, planned: Planned, now: Time) -> bool {
        let reason = planned.reason;
        self.planned = Some(planned);
        self.cancel_plan();
        if self.leaving.is_some() {
            self.set_role(Role::Candidate, Cause::Leaving, now);
            return true;
        }
        self.event(Event::HandOverCancelled { reason });
        false
    }

    /// Prepares and drains; true when that is done.
    fn advance(&mut self, planned: &mut Planned, now: Time) -> bool {
        if planned.step == Step::Prepare {
            if self.takes_frames(planned.heir) && now < planned.since + PREPARE {
                return false;
            }
            let took = now.since(planned.since);
            self.advance_report(HandOverStep::Draining, Some(took));
            planned.since = now;
            planned.step = Step::Drain {
                ends: None,
                reached: None,
            };
        }
        let Step::Drain { ends, reached } = &mut planned.step else {
            return false;
        };
        if self.peers_hold_all() {
            return true;
        }
        let held = ends
            .as_ref()
            .is_some_and(|ends| self.sync.holds(planned.heir, ends));
        if held {
            return now >= *reached.get_or_insert(now) + GRACE;
        }
        // It did before a third unit died, whose last word it lacks.
        *reached = None;
        false
    }

    /// Notes where the streams end, in a moment in which everything is in them.
    pub(super) fn mark_ends(&mut self) {
        if let Some(Planned {
            step: Step::Drain { ends, .. },
            ..
        }) = &mut self.planned
            && ends.is_none()
        {
            *ends = self.sync.ends();
        }
    }

    /// When the next step is due.
    pub(super) fn hand_over_deadline(&self) -> Time {
        let planned = self.planned.as_ref().map_or(Time::NEVER, |planned| {
            let step = match &planned.step {
                Step::Prepare => planned.since + PREPARE,
                Step::Drain { reached, .. } => reached.map_or(Time::NEVER, |time| time + GRACE),
            };
            step.min(planned.deadline)
        });
        let relay = self.relay.and_then(|relay| relay.until);
        let yielding = self.yielding.map(|yielding| yielding.until);
        [relay, yielding]
            .into_iter()
            .flatten()
            .fold(planned, Time::min)
    }

    /// Ceases to be primary in favour of this unit.
    pub(super) fn yield_to(&mut self, to: UnitId, reason: HandOver, now: Time) {
        let role = match reason {
            HandOver::Workers => Role::Isolated,
            HandOver::Maintenance => Role::Maintenance,
            _ => Role::Subordinate,
        };
        self.maintenance |= reason == HandOver::Maintenance;
        let detection = self.settings.detection();
        self.yielding = Some(Yielding {
            to,
            term: self.term,
            since: now,
            until: now + self.settings.hello_holddown.max(detection * 2),
        });
        self.relay = (self.workers && self.takes_frames(to)).then_some(Relay { to, until: None });
        let planned = |report: &HandOverReport| {
            report.step == HandOverStep::Yielding && (report.to, report.reason) == (to, reason)
        };
        if !self.hand_over.as_ref().is_some_and(planned) {
            let mut report = HandOverReport::new(to, reason);
            report.step = HandOverStep::Yielding;
            self.hand_over = Some(report);
        }
        self.set_role(role, Cause::Yielded { to, reason }, now);
    }

    /// Ceases to be primary because another one is and stays: what still comes here is that one's.
    pub(super) fn give_way(&mut self, to: UnitId, cause: Cause, term: u32, now: Time) {
        // That one may not have heard yet that there were two. It has to, since it announces again then.
        self.beat_due = now;
        self.beat(now);
        self.term = self.term.max(term);
        self.relay = self.takes_frames(to).then(|| Relay {
            to,
            until: Some(now + self.relay_time()),
        });
        self.set_role(Role::Subordinate, cause, now);
    }

    /// Yielding ends when a later primary is known, when the successor cannot take over, or in time.
    pub(super) fn end_yielding(&mut self, now: Time) {
        self.end_relay(now);
        let Some(yielding) = self.yielding else {
            return;
        };
        let heard = self.heard_primary().and_then(|unit| self.peer(unit));
        let taken = heard.filter(|peer| peer.beat.term > yielding.term);
        let hopeless = !self
            .peer(yielding.to)
            .is_some_and(|peer| peer.trusted() && (peer.beat.eligible || peer.claims_primary()));
        if let Some(by) = taken.map(|peer| peer.unit) {
            if by != yielding.to {
                self.declined[yielding.to.index()].fail(now);
            }
            self.succeeded(by, now.since(yielding.since), now);
        } else if hopeless || now >= yielding.until {
            self.declined[yielding.to.index()].fail(now);
            self.relay = None;
            self.advance_report(HandOverStep::Cancelled, None);
        } else {
            return;
        }
        self.yielding = None;
        self.beat_due = now;
        self.distribution_is_stale();
    }

    /// A later primary was heard: `by`, usually the one that was named.
    fn succeeded(&mut self, by: UnitId, took: Duration, now: Time) {
        self.relay = self.relay.filter(|relay| relay.to == by);
        let until = now + self.relay_time();
        let relays = self.relay.is_some();
        if let Some(state) = &mut self.relay {
            state.until = Some(until);
        }
        let step = if relays {
            HandOverStep::Relaying
        } else {
            HandOverStep::Done
        };
        self.advance_report(step, Some(took));
        if let Some(report) = &self.hand_over {
            let report = report.clone();
            self.event(Event::HandedOver(report));
        }
    }

    /// How long it passes frames on after it heard of the successor's promotion.
    pub(super) fn relay_time(&self) -> Duration {
        MIN_RELAY.max(self.settings.heartbeat_interval * 10)
    }

    /// The relay ends in time, or when its successor is gone or primary no longer.
    fn end_relay(&mut self, now: Time) {
        let Some(Relay { to, until }) = self.relay else {
            return;
        };
        let serves = match until {
            None => true,
            Some(until) => now < until && self.heard_primary() == Some(to),
        };
        let heard = self.peer(to).is_some_and(|peer| peer.trusted());
        if !serves || !heard || !self.workers || self.role == Role::Primary {
            self.relay = None;
            self.beat_due = now;
            self.distribution_is_stale();
            let report = self.hand_over.as_ref();
            if report.is_some_and(|report| report.step == HandOverStep::Relaying) {
                self.advance_report(HandOverStep::Done, None);
            }
        }
    }

    /// To whom this unit passes everything on.
    pub(super) fn relaying(&self) -> Option<UnitId> {
        self.relay.map(|relay| relay.to)
    }

    fn advance_report(&mut self, step: HandOverStep, took: Option<Duration>) {
        let Some(report) = &mut self.hand_over else {
            return;
        };
        if let Some(took) = took {
            match report.step {
                HandOverStep::Preparing => report.prepare = took,
                HandOverStep::Draining => report.drain = took,
                HandOverStep::Yielding => report.promotion = Some(took),
                HandOverStep::Relaying | HandOverStep::Done | HandOverStep::Cancelled => {}
            }
        }
        report.step = step;
    }
}
