//! Taking sessions out, one or a burst of them with their cache misses in flight together.

use super::Shard;
use crate::index::Home;
use crate::model::{Direction, Hit, Session, SessionId};
use crate::settings::is_half_open;

/// How many removals a step of one is ahead of the next. A step asks for what the next one reads; in
/// tables that are larger than the caches each removal takes about as long as such a line needs.
const AHEAD: usize = 3;
/// Steps before a session is taken out.
const STEPS: usize = 3;
/// Homes that are remembered from the second step to the last: a power of two.
const REMEMBERED: usize = (STEPS * AHEAD).next_power_of_two();

impl Shard {
    /// Takes a session out. `None` when the slot is vacant.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.take(id)?;
        self.shared.counters.removed.add();
        Some(session)
    }

    /// [`Shard::remove`] for each of `ids`, in order. `removed` gets those that there were.
    ///
    /// # Panics
    /// When an id is beyond the capacity.
    pub fn remove_burst(&mut self, ids: &[SessionId], mut removed: impl FnMut(SessionId, Session)) {
        let mut homes = [[Home::default(); 2]; REMEMBERED];
        for step in 0..ids.len() + STEPS * AHEAD {
            // First miss: the session and its links.
            if let Some(&id) = ids.get(step) {
                self.prefetch_slot(id);
            }
            // Second miss: what those lead to.
            if let Some(i) = step.checked_sub(AHEAD)
                && let Some(&id) = ids.get(i)
            {
                homes[i % REMEMBERED] = self.prefetch_keys(id);
            }
            // Third miss, of one bucket in five: a removal goes to the end of its chain.
            if let Some(i) = step.checked_sub(2 * AHEAD)
                && i < ids.len()
            {
                for home in homes[i % REMEMBERED] {
                    self.shared.index.view().prefetch_next(home);
                }
            }
            let Some(i) = step.checked_sub(STEPS * AHEAD) else {
                continue;
            };
            if let Some(session) = self.take_from(ids[i], homes[i % REMEMBERED]) {
                self.shared.counters.removed.add();
                removed(ids[i], session);
            }
        }
    }

    /// Undoes `Shard::place`.
    pub(super) fn take(&mut self, id: SessionId) -> Option<Session> {
        let homes = self.homes(&self.entry(id).keys());
        self.take_from(id, homes)
    }

    /// [`Shard::take`] where the homes of the session's keys are known. Those of a vacant slot may be
    /// any.
    fn take_from(&mut self, id: SessionId, [original, reply]: [Home; 2]) -> Option<Session> {
        let entry = self.entry(id);
        if !entry.is_occupied() {
            return None;
        }
        let session = entry.session();
        if let Some(sources) = &mut self.sources {
            let keys = self.shared.entries[id.0 as usize].keys();
            sources.subtract(self.shared.hasher.source(&keys[0]));
        }
        let Self { shared, pool, .. } = self;
        shared
            .index
            .remove(pool, original, Hit::new(id, Direction::Original));
        shared
            .index
            .remove(pool, reply, Hit::new(id, Direction::Reply));
        shared.entries[id.0 as usize].vacate();
        shared.counters.sessions.subtract();
        shared.owners.of(session.owner).subtract();
        self.list_half_open(id.0, is_half_open(session.state), false);
        self.wheel.cancel(&mut self.lists, id.0);
        self.free.push(id.0);
        Some(session)
    }
}
