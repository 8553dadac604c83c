//! A traffic generator on two DPDK ports: one sends, the other counts what arrives.
//!
//! ```text
//! Flows ── Template ──▶ Endpoint (sender)  ──▶  device under test  ──▶  Endpoint (receiver)
//!                 tag, number, time                                      loss, order, latency
//! ```
//!
//! Every frame carries the number of its run, its own number and the moment at which it was made, so
//! that late frames of an earlier run are told apart, and loss, order and latency are known without
//! any state per flow. Both ends live in one thread: it takes one core, and there is one clock.

mod endpoint;
mod frame;
mod run;

pub use endpoint::{Endpoint, buffers, pool};
pub use frame::{Flows, LARGEST_FRAME, SMALLEST_FRAME, Stamp, Template};
pub use run::{Load, Outcome, PERCENTILES, Pace, run};
