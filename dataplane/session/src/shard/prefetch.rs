//! Hints: cache lines that an operation will touch, asked for before it, so that the misses of many
//! operations are in flight together.

use packet::Tuple;

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

    /// Asks for the buckets of a session that a peer tells of, and for a slot, for the case that it is new and
    /// `ahead` others are before it.
    pub fn prefetch_apply(&self, tuples: &[Tuple; 2], ahead: usize) -> Prepared {
        let keys = Key::both(tuples);
        self.prefetch_insert(keys.each_ref(), ahead)
    }

    /// Asks for the bucket of a session that a peer says is gone.
    pub fn prefetch_retract(&self, original: &Tuple) -> Prepared {
        let home = self.home(&Key::from(original));
        self.shared.index.view().prefetch(home.bucket());
        Prepared([home; 2])
    }

    /// Asks for what the buckets lead to: the slots of sessions that are there, or overflow buckets. Best some
    /// sessions after [`Shard::prefetch_apply`] or [`Shard::prefetch_retract`].
    pub fn prefetch_found(&self, Prepared(homes): &Prepared) {
        let view = self.shared.index.view();
        for home in homes {
            let word = view.first(*home);
            match word.hit() {
                Some(hit) => self.prefetch_slot(hit.id()),
                None if word.is_more() => view.prefetch_overflow(word),
                None => {}
            }
        }
    }

    /// Asks for what the slots lead to: the buckets of their keys, and the timers beside theirs. Best some
    /// sessions after [`Shard::prefetch_found`].
    pub fn prefetch_linked(&self, Prepared([home, _]): &Prepared) {
        if let Some(hit) = self.shared.index.view().first(*home).hit() {
            self.prefetch_keys(hit.id());
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
