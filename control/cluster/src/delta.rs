//! What changes in the session table, and how the protocol reads the table.

use std::ops::Range;

use packet::Tuple;
use session::{Session, Version};

/// One change to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// The session is new or changed.
    Upsert {
        /// Its state.
        session: Session,
        /// [Ticks](session::Tick) until it expires, unless a packet comes.
        remaining: u32,
    },
    /// The session is gone.
    Remove {
        /// How packets of its original direction arrived.
        tuple: Tuple,
        /// The version that it had; a newer session of the same tuple stays.
        version: Version,
    },
}

impl Delta {
    /// The original tuple of the session.
    #[must_use]
    pub const fn tuple(&self) -> &Tuple {
        match self {
            Self::Upsert { session, .. } => &session.tuples[0],
            Self::Remove { tuple, .. } => tuple,
        }
    }

    /// The version that orders this change among others of its session.
    #[must_use]
    pub const fn version(&self) -> Version {
        match self {
            Self::Upsert { session, .. } => session.version,
            Self::Remove { version, .. } => *version,
        }
    }
}

/// The session table, as bulk copies and repairs read it. Lock-free readers of the shards behind it.
pub trait SessionSource {
    /// How many shards the table has.
    fn shards(&self) -> u16;
    /// How many slots a shard has.
    fn slots(&self, shard: u16) -> u32;
    /// The session in a slot and its remaining [ticks](session::Tick), if the slot is in use.
    fn read(&self, shard: u16, slot: u32) -> Option<(Session, u32)>;
    /// Shows the sessions in some slots of a shard, each with its slot, in the order of these.
    fn scan(&self, shard: u16, slots: Range<u32>, show: &mut dyn FnMut(u32, &Session)) {
        for slot in slots {
            if let Some((session, _)) = self.read(shard, slot) {
                show(slot, &session);
            }
        }
    }
    /// The session with this original tuple.
    fn find(&self, original: &Tuple) -> Option<(Session, u32)>;
}
