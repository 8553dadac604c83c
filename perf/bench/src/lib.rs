//! Benchmarks of the data plane, each beside its peer in the same run.
//!
//! ```text
//! table     the session table beside rte_hash and the memory itself
//! forward   the worker's pipeline beside testpmd, l3fwd and the sketch of a NAT gateway
//! connect   new sessions
//! sync      changes of sessions between two control cores
//! join      the worker's speed while another unit copies all sessions
//! scale     one worker to many, steered and handed over
//! system    client, gateway and server in namespaces, beside testpmd and the kernel
//! rfc2544   throughput, latency and back-to-back frames of any two ports
//! page      the results of all of them as one page with plots
//! ```
//!
//! Each subcommand is a module with its arguments and a function `run` that puts [`Row`]s into a
//! [`Report`]. The machine's speed changes from minute to minute, so what is compared runs in
//! alternation ([`paired`]) and is reported as a ratio with its spread.

pub mod connect;
mod eal;
pub mod forward;
pub mod join;
mod machine;
pub mod page;
mod pairing;
pub mod peer;
mod report;
pub mod rfc2544;
pub mod scale;
pub mod sync;
pub mod system;
pub mod table;
pub mod traffic;
mod unit;

pub use eal::{EalArgs, cores};
pub use machine::Machine;
pub use pairing::{Better, Figure, Paired, paired, repeated};
pub use report::{Report, Row};
