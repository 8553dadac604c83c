//! What operators ask for: hand over, hold out, leave.

use std::time::Duration;

use super::HANDOVER_PATIENCE;
use crate::{Action, Cause, Command, Duty, HandOver, Node, Refusal, Role, Schedule, Time, UnitId};

/// How long an owner that leaves goes on, so that the primary hears of it and what is under way comes.
const RETIREMENT: Duration = Duration::from_millis(50);

impl Node {
    /// Does what the operator asks for, or says why not.
    ///
    /// # Errors
    /// [`Refusal`], with the reason and what would be right.
    pub fn handle_command(&mut self, command: Command, now: Time) -> Result<(), Refusal> {
        self.observe(now);
        if self.leaving.is_some() || self.left {
            return Err(Refusal::Leaving);
        }
        match command {
            Command::Failover { to } => self.fail_over(to, now)?,
            Command::Maintenance(true) => self.begin_maintenance(now)?,
            Command::Maintenance(false) => self.end_maintenance(),
            Command::Leave => self.leave(now),
        }
        self.beat_due = now;
        self.distribution_is_stale();
        self.decide(now);
        Ok(())
    }

    fn fail_over(&mut self, to: Option<UnitId>, now: Time) -> Result<(), Refusal> {
        if self.role != Role::Primary {
            return Err(match self.primary {
                Some(primary) => Refusal::NotPrimary {
                    role: self.role,
                    primary,
                },
                None => Refusal::NoPrimary { role: self.role },
            });
        }
        let to = match to {
            Some(unit) => unit,
            None => self.successor().ok_or(Refusal::NoSuccessor)?,
        };
        self.check_successor(to)?;
        self.order(Some(to), HandOver::Command, now)
    }

    /// Refuses a successor that would hand back at once, or lose sessions.
    fn check_successor(&self, unit: UnitId) -> Result<(), Refusal> {
        if unit == self.settings.unit {
            return Err(Refusal::AlreadyPrimary(unit));
        }
        let peer = self.peer(unit).filter(|peer| peer.trusted());
        let peer = peer.ok_or(Refusal::NotHeard(unit))?;
        if !self.acceptable(unit) {
            return Err(Refusal::NotEligible {
                unit,
                role: peer.beat.role,
            });
        }
        if !peer.beat.synced {
            return Err(Refusal::NotSynced(unit));
        }
        let (health, own) = (peer.beat.health.healthy, self.health.healthy);
        if health < own {
            return Err(Refusal::LessHealthy { unit, health, own });
        }
        if self.settings.preempt && self.settings.priority > peer.beat.priority {
            return Err(Refusal::PreemptWouldReturn { unit });
        }
        Ok(())
    }

    fn order(&mut self, to: Option<UnitId>, reason: HandOver, now: Time) -> Result<(), Refusal> {
        let ordered = |reason| reason != HandOver::Preempt;
        if (self.planned.as_ref()).is_some_and(|planned| ordered(planned.reason)) {
            return Err(Refusal::HandingOver);
        }
        if self.plan(to, reason, now) {
            Ok(())
        } else {
            Err(Refusal::NoSuccessor)
        }
    }

    fn begin_maintenance(&mut self, now: Time) -> Result<(), Refusal> {
        if self.role == Role::Primary {
            return self.order(None, HandOver::Maintenance, now);
        }
        self.maintenance = true;
        Ok(())
    }

    fn end_maintenance(&mut self) {
        self.maintenance = false;
        if self
            .planned
            .as_ref()
            .is_some_and(|planned| planned.reason == HandOver::Maintenance)
        {
            self.cancel_plan();
        }
    }

    fn leave(&mut self, now: Time) {
        let waits = HANDOVER_PATIENCE * 2 + self.settings.hello_holddown + self.relay_time();
        self.leaving = Some(now + waits);
        let owner = matches!(self.duty(), Duty::Owner { .. });
        if owner && self.schedule() != Schedule::None {
            self.retired_at = now + RETIREMENT;
        }
        if self.role == Role::Primary && !self.plan(None, HandOver::Leave, now) {
            self.set_role(Role::Candidate, Cause::Leaving, now);
        }
    }

    /// Leaves once the successor is primary and the peers hold everything, or in time.
    pub(super) fn finish_leaving(&mut self, now: Time) {
        let Some(deadline) = self.leaving else { return };
        let handed_over = self.yielding.is_none() && self.relaying().is_none();
        let done = handed_over && now >= self.retired_at && self.peers_hold_all();
        if !done && now < deadline {
            return;
        }
        self.left = true;
        self.beat_due = now;
        self.beat(now);
        self.actions.push_back(Action::Left);
    }
}
