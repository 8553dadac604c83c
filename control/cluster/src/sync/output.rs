//! What the machine tells its driver: what to do, what happened, why a frame was refused.

use std::time::Duration;

use packet::Tuple;

use super::frame;
use crate::{Delta, UnitId};

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Send {
        /// For whom; `None` for all units.
        to: Option<UnitId>,
        /// At most [`frame::MAX_FRAME`] bytes.
        body: Vec<u8>,
    },
    /// Make the table reflect a change of another unit, in the order of these outputs.
    Apply {
        /// Whose change.
        from: UnitId,
        /// The change.
        delta: Delta,
    },
    /// Have the session with this original tuple, of which this unit is the owner, told to all in a newer
    /// version: another unit has another state of the present one.
    Restate {
        /// How packets of its original direction arrive.
        tuple: Tuple,
    },
    /// A wanted repair by this unit is complete.
    Synced {
        /// The unit whose state was copied.
        from: UnitId,
    },
    /// Something that an operator may want to know.
    Event(Event),
}

/// Something that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Segments of a peer were lost for good; a repair is asked for.
    Gap {
        /// Whose.
        from: UnitId,
        /// How many.
        segments: u64,
    },
    /// A repair was begun for peers.
    RepairBegun {
        /// Which units asked for it or missed something, bit 0 for unit 1.
        targets: u16,
        /// How many of the 256 ranges.
        ranges: u32,
    },
    /// A repair was sent.
    RepairSent {
        /// As it began.
        targets: u16,
        /// Sessions in it.
        sessions: u64,
    },
    /// This unit's table differs from the primary's where nothing has changed for a while; the ranges are
    /// asked for.
    TablesDiffer {
        /// The primary.
        from: UnitId,
        /// How many of the 256 ranges.
        ranges: u32,
        /// How many of the 65,536 buckets.
        buckets: u32,
    },
    /// A peer is behind and takes nothing in.
    PeerStuck {
        /// Which.
        peer: UnitId,
        /// For how long.
        silence: Duration,
    },
    /// A peer that was stuck takes changes in again, or has them all.
    PeerMoves {
        /// Which.
        peer: UnitId,
        /// How long it was stuck.
        after: Duration,
    },
    /// A peer asked for by this unit copied its state here.
    RepairReceived {
        /// Whose state.
        from: UnitId,
        /// Sessions that were removed because it did not mention them.
        swept: u64,
    },
}

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends early.
    #[error("the frame ends in the middle of a field")]
    Truncated,
    /// It is longer than any frame may be.
    #[error("the frame is longer than {} bytes", frame::MAX_FRAME)]
    Oversized,
    /// Bytes follow its end.
    #[error("a record has bytes beyond its end")]
    Surplus,
    /// It speaks another version.
    #[error("version {0} of the synchronisation format, this unit speaks {version}", version = frame::VERSION)]
    ForeignVersion(u8),
    /// Its kind is not known.
    #[error("unknown kind of frame {0}")]
    UnknownFrame(u8),
    /// It has a record that must be understood and is not.
    #[error("unknown record {0}, and it may not be skipped")]
    UnknownRecord(u8),
    /// A field has a value that it cannot have.
    #[error("a field has an impossible value")]
    BadValue,
}

/// How far a peer is behind this unit's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Segments that it has not acknowledged.
    pub segments: u64,
    /// Changes in them, and those that wait.
    pub deltas: u64,
    /// Since when the oldest of them is on its way.
    pub age: Duration,
    /// Ranges to be repaired.
    pub dirty: u32,
    /// It takes nothing in.
    pub stuck: bool,
}
