//! The sharded lock-free session table, TCP tracking and ageing. No DPDK.
//!
//! One [`Shard`] belongs to one worker, its only writer; every [`Reader`] of it may look at any time
//! from any thread, without a lock and without stopping the writer. All memory is taken when the
//! shard is made.

mod concurrency;
mod entry;
mod hash;
mod index;
mod key;
mod lists;
mod memory;
mod model;
mod reader;
mod rewrite;
mod seqlock;
mod settings;
mod shard;
mod sources;
mod statistics;
pub mod tcp;
mod wheel;

pub use key::Key;
pub use memory::{Backing, Memory, prefetch};
pub use model::{Direction, Flags, Hit, Session, SessionId, State, TcpSide, Tick, Version};
pub use packet::tcp::Segment;
pub use reader::Reader;
pub use rewrite::{Path, Rewrite};
pub use settings::{Settings, Timeouts};
pub use shard::{
    Ageing, Applied, Displaced, Error, Footprint, Inserted, Prepared, Refused, Search, Shard,
};
pub use statistics::Statistics;
pub use tcp::{Invalid, Verdict};
