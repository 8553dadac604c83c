//! The safe side of DPDK: every DPDK unsafe ends here.
//!
//! ```text
//! Eal ─┬─ Mempool ── Mbuf, Burst      packet buffers
//!      ├─ Port ── RxQueue, TxQueue    devices; a queue belongs to one thread
//!      ├─ Fib                         longest-prefix match, built once, read by all
//!      ├─ Hash, Lines                 DPDK's hash table and plain memory, to measure against
//!      └─ clock, Registered           the cycle counter; a thread's buffer cache
//! ```
//!
//! [`Eal`] is started once per process and never stopped: what it hands out may live as long as the
//! process. Everything is sized when it is created. The calls that a worker makes per burst
//! ([`RxQueue::receive`], [`TxQueue::transmit`], [`Fib::lookup_burst`], [`clock::cycles`], and all of
//! [`Mbuf`] and [`Burst`]) neither allocate nor lock nor log, and make no system call that the driver
//! beneath does not make.

#![allow(
    unsafe_code,
    reason = "this crate is where DPDK's unsafe code is made safe"
)]

mod burst;
pub mod clock;
mod device;
mod eal;
mod error;
mod fib;
mod hash;
mod kernel;
mod lines;
mod log;
mod mbuf;
mod mempool;
mod open;
mod port;
mod queue;
mod rss;

pub use burst::{Burst, Drain};
pub use device::Device;
pub use eal::{Eal, EalSettings, Registered, register_thread, version};
pub use error::{Error, Fault};
pub use fib::{Fib, NextHop};
pub use hash::{Full, Hash, HashKey};
pub use lines::{Line, Lines, heap_allocated};
pub use log::log_to;
pub use mbuf::Mbuf;
pub use mempool::Mempool;
pub use port::{Link, MacFilter, Port, PortInfo, PortSettings, Rss, Statistics};
pub use queue::{RxQueue, TxQueue};
pub use rss::softrss;
