//! Timers that are due.

use super::Shard;
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
        for looked in 0..budget {
            let Some(slot) = self.wheel.due(now) else {
                return looked;
            };
            let id = SessionId(slot);
            let session = self.session(id);
            let deadline = self.deadline(&session);
            if deadline > now {
                self.wheel.schedule(slot, deadline);
                continue;
            }
            match decide(&session) {
                Ageing::Defer => {
                    self.wheel.schedule(slot, now.plus(LOOK_AGAIN));
                    self.shared.counters.deferred.add();
                }
                Ageing::Adopt if !self.entry(id).is_reprieved() => {
                    self.entry(id).reprieve(now);
                    let due = now.plus(self.timeouts.of(session.state, session.tuples[0].protocol));
                    self.wheel.schedule(slot, due);
                    self.shared.counters.reprieved.add();
                }
                Ageing::Adopt | Ageing::Normal => {
                    if let Some(session) = self.take(id) {
                        self.shared.counters.expired.add();
                        expired(id, session);
                    }
                }
            }
        }
        budget
    }
}
