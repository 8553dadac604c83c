//! The sharded lock-free session table, TCP tracking and ageing. No DPDK.
//!
//! One [`Shard`] belongs to one worker, its only writer; every [`Reader`] of it may look at any time
//! from any thread, without a lock and without stopping the writer. All memory is taken when the
//! shard is made.

mod concurrency;
mod entry;
mod hash;
mod index;
mod lists;
mod memory;
mod model;
mod reader;
mod seqlock;
mod settings;
mod shard;
mod sources;
mod statistics;
pub mod tcp;
mod wheel;

pub use memory::{Backing, Memory};
pub use model::{Direction, Flags, Session, State, TcpSide, Tick, Version};
pub use packet::tcp::Segment;
pub use reader::Reader;
pub use settings::{Settings, Timeouts};
pub use shard::{
    Ageing, Applied, Displaced, Error, Footprint, Hit, Inserted, Refused, SessionId, Shard,
};
pub use statistics::Statistics;
pub use tcp::{Invalid, Verdict};
