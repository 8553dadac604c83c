//! Real sockets in the namespaces of client and server that measure what the cluster does to them.

mod crowd;
mod tcp;
mod transfer;
mod udp;

pub use crowd::{Crowd, CrowdOutcome};
pub use tcp::{TcpOutcome, TcpSessions};
pub use transfer::Transfer;
pub use udp::{Loss, UdpRecord, UdpStream};

use crate::tool;

/// Gives the calling thread a real-time priority (SCHED_RR), where the system permits it: a probe
/// that waits for a core measures the waiting. Returns whether it was permitted.
pub(crate) fn raise_priority() -> bool {
    let thread = rustix::thread::gettid().as_raw_pid().to_string();
    tool::run("chrt", &["--rr", "--pid", "20", &thread]).is_ok()
}
