//! The worker's loop allocates nothing: not for packets of sessions, new sessions, drops, answers,
//! fragments, ageing, or changes by others. A process of its own, whose allocator counts.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::frames::{self, ACK, Ip, NO_SEGMENT, SYN, USUAL};
use common::*;
use forward::TableCommand;
use packet::Tuple;
use session::Version;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting calls of each thread.
struct Counting;

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One of everything that comes to a gateway.
fn frames_of_all_kinds(round: u16) -> Vec<(forward::InterfaceId, Vec<u8>)> {
    let datagram = Tuple::v4(CLIENT, 4_000, SERVER, 53, 17);
    let connection = Tuple::v4(CLIENT, 4_000, SERVER, 80, 6);
    let large = [0; 1_400];
    vec![
        (LAN, frames::udp(LAN, &datagram, b"of a session")),
        (
            LAN,
            frames::udp(
                LAN,
                &Tuple {
                    src_port: 5_000 + round,
                    ..datagram
                },
                b"new",
            ),
        ),
        (LAN, frames::tcp(LAN, &connection, SYN, 1, 0)),
        (
            LAN,
            frames::tcp(
                LAN,
                &Tuple {
                    src_port: 5_000 + round,
                    ..connection
                },
                ACK,
                1,
                1,
            ),
        ),
        (LAN, frames::udp(LAN, &datagram, &large)),
        (
            LAN,
            frames::packet(LAN, &datagram, Ip { ttl: 1, ..USUAL }, NO_SEGMENT, b"x"),
        ),
        (
            LAN,
            frames::fragment(
                LAN,
                &datagram,
                Ip {
                    fragment: (0, true),
                    ..USUAL
                },
                &large[..64],
            ),
        ),
        (
            LAN,
            frames::echo(LAN, &Tuple::v4(CLIENT, 1, LAN_ADDRESS, 0, 1)),
        ),
        (
            WAN,
            frames::tcp(
                WAN,
                &Tuple::v4(FAR, 5_000 + round, WAN_ADDRESS, 8_080, 6),
                SYN,
                1,
                0,
            ),
        ),
        (WAN, vec![0; 60]),
    ]
}

#[test]
fn a_turn_allocates_nothing() {
    let mut gateway = Gateway::new(Plan {
        workers: 2,
        ..Plan::narrow(1_000)
    });
    // Set-up on first use is over by then: the snapshot's reservation, the standard library's.
    for round in 0..4 {
        for (interface, frame) in frames_of_all_kinds(round) {
            gateway.send_to(usize::from(round % 2), interface, &frame);
        }
        gateway.turn();
    }
    let mut allocations = 0;
    for round in 4..40 {
        for (interface, frame) in frames_of_all_kinds(round) {
            gateway.send_to(usize::from(round % 2), interface, &frame);
        }
        let remote = session::Session {
            tuples: [1, 2].map(|host| Tuple::v4([10, 0, 0, host].into(), round, FAR, 9, 17)),
            version: Version(1),
            owner: 1,
            ..session::Session::default()
        };
        let command = TableCommand::Apply(remote, 10);
        gateway.control[0].commands.push(command).unwrap();
        gateway.pass(50);
        let before = ALLOCATIONS.get();
        gateway.turn();
        allocations += ALLOCATIONS.get() - before;
        for interface in [LAN, WAN] {
            gateway.sent(interface);
        }
        gateway.punted();
    }
    let counts = gateway.counts();
    for happened in [
        "sessions_created",
        "sessions_expired",
        "sessions_applied",
        "handed_over",
        "fragmented",
        "icmp_errors",
        "punted_local",
        "drop foreign_mac",
        "drop tcp_not_syn",
    ] {
        assert!(counts.contains_key(happened), "{happened}: {counts:?}");
    }
    assert_eq!(allocations, 0);
}
