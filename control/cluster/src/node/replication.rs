//! The session table's part in the protocol: local changes go to the peers, theirs come here.

use crate::{Delta, Node, RangeSet, Time};

impl Node {
    /// Takes a local change, in the order of its shard's ring.
    pub fn push(&mut self, _shard: u16, _delta: Delta, now: Time) {
        self.observe(now);
    }

    /// Changes in these ranges were lost before they came here: the peers get the ranges whole.
    pub fn overflowed(&mut self, _ranges: RangeSet) {}

    /// How many changes [`Node::push`] takes before its window overflows.
    #[must_use]
    pub const fn sync_room(&self) -> usize {
        usize::MAX
    }

    /// Whether this unit holds all sessions, as far as it knows.
    pub(super) const fn is_synced(&self) -> bool {
        true
    }

    /// Whether the peers hold every session that this unit changed.
    pub(super) const fn peers_hold_all(&self) -> bool {
        true
    }
}
