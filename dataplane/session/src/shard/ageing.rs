//! Timers that are due.

use super::Shard;
use crate::lists::Kind;
use crate::model::{Session, SessionId, Tick};

/// When to look again at a session that another unit is responsible for.
const LOOK_AGAIN: u32 = 10 * Tick::PER_SECOND;

/// What to do with a session whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ageing {
    /// It ends.
    Normal,
    /// Another unit is responsible and will say so when it ends: look again in ten seconds, or
    /// earlier if ageing itself is minutes late.
    Defer,
    /// Its owner died, and what that had seen of it lately is not known here: its idle time starts
    /// again, once.
    Adopt,
}

impl Shard {
    /// Looks at sessions whose timer is due, `budget` of them at the most; returns how many.
    /// `decide` is asked about those that were idle for too long, `expired` gets those that ended.
    pub fn age(
        &mut self,
        now: Tick,
        budget: usize,
        mut decide: impl FnMut(&Session) -> Ageing,
        mut expired: impl FnMut(SessionId, Session),
    ) -> usize {
        let mut looked = 0;
        while looked < budget {
            let due = self.wheel.due(&self.lists, now);
            let slots = due.slots();
            let slots = &slots[..slots.len().min(budget - looked)];
            if slots.is_empty() {
                break;
            }
            self.prefetch_due(slots, now);
            for &slot in slots {
                if let Some(session) = self.look_at_timer(SessionId(slot), now, &mut decide) {
                    expired(SessionId(slot), session);
                }
            }
            looked += slots.len();
        }
        looked
    }

    /// Asks for all that the timers of `slots` will touch, and for the slots that come next.
    fn prefetch_due(&self, slots: &[u32], now: Tick) {
        for &slot in slots {
            if let Some(next) = self.lists.next(Kind::Timer, slot) {
                self.prefetch_slot(SessionId(next));
            }
        }
        for &slot in slots {
            if self.deadline_of(SessionId(slot)) <= now {
                let _homes = self.prefetch_keys(SessionId(slot));
            }
        }
    }

    /// Ends a session whose time is over, or puts its timer off.
    fn look_at_timer(
        &mut self,
        id: SessionId,
        now: Tick,
        decide: &mut impl FnMut(&Session) -> Ageing,
    ) -> Option<Session> {
        let deadline = self.deadline_of(id);
        if deadline > now {
            self.wheel.reschedule(&mut self.lists, id.0, deadline);
            return None;
        }
        match decide(&self.session(id)) {
            Ageing::Defer => {
                let due = now.plus(LOOK_AGAIN);
                self.wheel.reschedule(&mut self.lists, id.0, due);
                self.shared.counters.deferred.add();
                None
            }
            Ageing::Adopt if !self.entry(id).is_reprieved() => {
                self.entry(id).reprieve(now);
                let due = self.deadline_of(id);
                self.wheel.reschedule(&mut self.lists, id.0, due);
                self.shared.counters.reprieved.add();
                None
            }
            Ageing::Adopt | Ageing::Normal => {
                let session = self.take(id)?;
                self.shared.counters.expired.add();
                Some(session)
            }
        }
    }

    /// [`Shard::deadline`] of the session in a slot.
    fn deadline_of(&self, id: SessionId) -> Tick {
        let entry = self.entry(id);
        let timeout = self.timeouts.of(entry.state(), entry.protocol());
        entry.last_seen().plus(timeout)
    }
}
