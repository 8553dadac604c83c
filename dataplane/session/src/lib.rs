//! The sharded lock-free session table, TCP tracking and ageing. No DPDK.

mod model;

pub use model::{Direction, Flags, Session, State, TcpSide, Tick, Version};
