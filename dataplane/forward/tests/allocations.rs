//! The worker's loop allocates nothing: not for packets of sessions, new sessions, drops, answers,
//! fragments, ageing, or changes by others. A process of its own, whose allocator counts.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::*;
use forward::{Distribution, Member, Pick, TableCommand};

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

/// Allocations that the turns of a unit make under a distribution of sessions, and what it counted.
fn allocations(distribution: Distribution) -> (u64, Counts) {
    let mut gateway = Gateway::new(Plan {
        workers: 2,
        ..Plan::narrow(1_000)
    });
    let current = gateway.snapshot.current();
    let next = current.with_distribution(Arc::new(distribution));
    gateway.snapshot.publish(next);
    // Set-up on first use is over by then: the snapshot's reservation, the standard library's.
    for round in 0..4 {
        for (interface, frame) in frames::of_all_kinds(round) {
            gateway.send_to(usize::from(round % 2), interface, &frame);
        }
        gateway.turn();
    }
    let mut allocations = 0;
    for round in 4..40 {
        for (interface, frame) in frames::of_all_kinds(round) {
            gateway.send_to(usize::from(round % 2), interface, &frame);
        }
        let remote = session_of_a_peer(round);
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
    (allocations, gateway.counts())
}

#[test]
fn a_turn_allocates_nothing() {
    let (allocations, counts) = allocations(Distribution::default());
    for happened in frames::WHAT_ALL_KINDS_DO {
        assert!(counts.contains_key(happened), "{happened}: {counts:?}");
    }
    assert_eq!(allocations, 0);
}

#[test]
fn nor_does_one_that_passes_packets_to_other_units() {
    let other = Member {
        unit: 1,
        owns: true,
        stations: [LAN, WAN].map(|id| Some(units::own_mac(1, id))).to_vec(),
        sources: [LAN, WAN].map(|id| Some(units::own_mac(1, id))).to_vec(),
    };
    let (allocations, counts) = allocations(Distribution {
        pick: Pick::InTurn,
        slots: vec![UNIT, 1],
        members: vec![other],
    });
    for happened in ["redirected", "sessions_assigned", "sessions_created"] {
        assert!(counts[happened] > 10, "{happened}: {counts:?}");
    }
    assert_eq!(allocations, 0);
}
