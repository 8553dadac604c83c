//! Real sockets in the namespaces of client and server that measure what the cluster does to them.

mod crowd;
mod tcp;
mod transfer;
mod udp;

pub use crowd::{Crowd, CrowdOutcome};
pub use tcp::{TcpOutcome, TcpSessions};
pub use transfer::Transfer;
pub use udp::{Loss, UdpRecord, UdpStream};

use std::net::UdpSocket;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::tool;

/// Room for what a socket has received and nobody has read, in bytes: of small datagrams, each of which the
/// kernel counts as 768, about 87,000, since it doubles the value. By default there is room for 277.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Lets a socket keep what arrives while its reader waits for a core: a datagram that the gateway forwarded
/// must not be lost in the host that measures.
///
/// # Errors
///
/// When the caller lacks CAP_NET_ADMIN, as whoever made the socket's namespace does not.
pub(crate) fn widen(socket: &UdpSocket) -> Result<()> {
    set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER)
        .context("the receive buffer of a UDP socket cannot be widened")
}

/// Gives the calling thread a real-time priority (SCHED_RR), where the system permits it: a probe
/// that waits for a core measures the waiting. Returns whether it was permitted.
pub(crate) fn raise_priority() -> bool {
    let thread = rustix::thread::gettid().as_raw_pid().to_string();
    tool::run("chrt", &["--rr", "--pid", "20", &thread]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_widened_socket_keeps_what_nobody_reads() {
        const SENT: usize = 20_000;
        let inbox = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let outbox = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        // Who has not the capability has to do with what there is room for by default.
        let widened = widen(&inbox).is_ok();
        let to = inbox.local_addr().expect("it is bound");
        for _ in 0..SENT {
            outbox.send_to(&[0; 64], to).expect("loopback takes it");
        }
        inbox.set_nonblocking(true).expect("a socket");
        let mut datagram = [0; 64];
        let kept = (0..SENT).take_while(|_| inbox.recv(&mut datagram).is_ok());
        assert_eq!(kept.count() == SENT, widened);
    }
}
