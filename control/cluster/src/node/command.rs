//! What operators ask for: hand over, hold out, leave.

use super::{HANDOVER_PATIENCE, Planned};
use crate::{Action, Command, HandOver, Node, Refusal, Role, Time, UnitId};

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
        self.plan(Some(to), HandOver::Command, now)
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

    fn plan(&mut self, to: Option<UnitId>, reason: HandOver, now: Time) -> Result<(), Refusal> {
        if self
            .planned
            .is_some_and(|planned| planned.reason != HandOver::Preempt)
        {
            return Err(Refusal::HandingOver);
        }
        self.planned = Some(Planned {
            to,
            reason,
            deadline: now + HANDOVER_PATIENCE,
        });
        Ok(())
    }

    fn begin_maintenance(&mut self, now: Time) -> Result<(), Refusal> {
        if self.role == Role::Primary {
            self.successor().ok_or(Refusal::NoSuccessor)?;
            return self.plan(None, HandOver::Maintenance, now);
        }
        self.maintenance = true;
        Ok(())
    }

    fn end_maintenance(&mut self) {
        self.maintenance = false;
        if self
            .planned
            .is_some_and(|planned| planned.reason == HandOver::Maintenance)
        {
            self.planned = None;
        }
    }

    fn leave(&mut self, now: Time) {
        let waits = HANDOVER_PATIENCE * 2 + self.settings.hello_holddown;
        self.leaving = Some(now + waits);
        if self.role == Role::Primary {
            let deadline = now + HANDOVER_PATIENCE;
            self.planned = Some(Planned {
                to: None,
                reason: HandOver::Leave,
                deadline,
            });
        }
    }

    /// Leaves once the successor is primary and the peers hold everything, or in time.
    pub(super) fn finish_leaving(&mut self, now: Time) {
        let Some(deadline) = self.leaving else { return };
        let done = self.yielding.is_none() && self.peers_hold_all();
        if !done && now < deadline {
            return;
        }
        self.left = true;
        self.beat_due = now;
        self.beat(now);
        self.actions.push_back(Action::Left);
    }
}
