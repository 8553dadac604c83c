//! Hints: cache lines that an operation will touch, asked for before it, so that the misses of many
//! operations are in flight together.

use super::Shard;
use crate::index::Home;
use crate::key::Key;
use crate::memory;
use crate::model::{Direction, SessionId};

/// Where an insertion will look.
#[derive(Clone, Copy, Debug)]
pub struct Prepared([Home; 2]);

impl Shard {
    /// Asks for all that the insertion of a session with `keys` will touch, when `ahead` others will
    /// be inserted before it. A hint: what is asked for and not used costs its cache lines.
    pub fn prefetch_insert(&self, keys: [&Key; 2], ahead: usize) -> Prepared {
        let homes = keys.map(|key| self.home(key));
        for home in homes {
            self.shared.index.view().prefetch(home.bucket());
        }
        if let Some(sources) = &self.sources {
            sources.prefetch(self.shared.hasher.source(keys[0]));
        }
        if let Some(&slot) = self.free.iter().rev().nth(ahead) {
            self.prefetch_slot(SessionId(slot));
        }
        Prepared(homes)
    }

    /// Asks for the overflow buckets that the insertion will look at. Best some insertions after
    /// [`Shard::prefetch_insert`], whose buckets are looked at.
    #[inline]
    pub fn prefetch_overflow(&self, Prepared(homes): Prepared) {
        for home in homes {
            self.shared.index.view().prefetch_next(home);
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

    /// Asks for what the keys and links of the session in a slot lead to. Answers where its keys are.
    #[inline]
    pub(super) fn prefetch_keys(&self, id: SessionId) -> [Home; 2] {
        let keys = self.entry(id).keys();
        let homes = self.homes(&keys);
        for home in homes {
            self.shared.index.view().prefetch(home.bucket());
        }
        if let Some(sources) = &self.sources {
            sources.prefetch(self.shared.hasher.source(&keys[0]));
        }
        self.lists.prefetch_neighbours(id.0);
        homes
    }
}
