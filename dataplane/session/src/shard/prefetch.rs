//! Hints: cache lines that an operation will touch, asked for before it, so that the misses of many
//! operations are in flight together.

use super::Shard;
use crate::key::Key;
use crate::memory;
use crate::model::{Direction, SessionId};

impl Shard {
    /// Asks for all that the insertion of a session with `keys` will touch, when `ahead` others will
    /// be inserted before it. A hint: what is asked for and not used costs its cache lines.
    pub fn prefetch_insert(&self, keys: [&Key; 2], ahead: usize) {
        for key in keys {
            self.shared.index.view().prefetch(self.home(key).bucket());
        }
        if let Some(sources) = &self.sources {
            sources.prefetch(self.shared.hasher.source(keys[0]));
        }
        if let Some(&slot) = self.free.iter().rev().nth(ahead) {
            self.prefetch_slot(SessionId(slot));
        }
    }

    /// Asks for all that the removal of the sessions in these slots will touch. For a few at a time:
    /// so many that they stay in the first cache until they are removed.
    ///
    /// # Panics
    /// When an id is beyond the capacity.
    pub fn prefetch_remove(&self, ids: &[SessionId]) {
        for &id in ids {
            self.prefetch_slot(id);
        }
        for &id in ids {
            self.prefetch_keys(id);
        }
    }

    /// Asks for what has a place for each slot.
    #[inline]
    pub(super) fn prefetch_slot(&self, id: SessionId) {
        let entry = self.entry(id);
        memory::prefetch(entry.half(Direction::Original));
        memory::prefetch(entry.half(Direction::Reply));
        self.lists.prefetch(id.0);
    }

    /// Asks for what the keys and links of the session in a slot lead to.
    #[inline]
    pub(super) fn prefetch_keys(&self, id: SessionId) {
        let keys = self.entry(id).keys();
        for key in &keys {
            self.shared.index.view().prefetch(self.home(key).bucket());
        }
        if let Some(sources) = &self.sources {
            sources.prefetch(self.shared.hasher.source(&keys[0]));
        }
        self.lists.prefetch_neighbours(id.0);
    }
}
