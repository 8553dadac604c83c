//! Without the lease of the witness nothing leaves from a virtual station, and everything else does.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::frames::{self, macs};
use common::{CLIENT, Gateway, LAN, Plan, SERVER, WAN, mbuf, unit_mac, virtual_mac};
use forward::{Gate, Injected, Lease};
use packet::{Mac, Tuple};

/// A gateway of one worker behind a gate, with its lease and the clock that the gate reads.
fn gated() -> (Gateway, Arc<Lease>, Arc<AtomicU64>) {
    let mut gateway = Gateway::new(Plan::default());
    let lease = Arc::new(Lease::none());
    let clock = Arc::new(AtomicU64::new(1_000));
    let reader = Arc::clone(&clock);
    let stations = [Some(virtual_mac(LAN)), Some(virtual_mac(WAN)), None];
    let gate = Gate::new(
        Arc::clone(&lease),
        move || reader.load(Ordering::Relaxed),
        stations,
    );
    let worker = gateway.workers.pop().unwrap();
    gateway.workers.push(worker.with_gate(gate));
    (gateway, lease, clock)
}

/// Packets of so many new sessions.
fn send(gateway: &mut Gateway, packets: u16) {
    for port in 0..packets {
        let tuple = Tuple::v4(CLIENT, 4_000 + port, SERVER, 53, 17);
        gateway.send(LAN, &frames::udp(LAN, &tuple, b"x"));
    }
}

#[test]
fn packets_leave_only_before_the_end_of_the_lease() {
    let (mut gateway, lease, clock) = gated();
    let before = gateway.counts();
    send(&mut gateway, 10);
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 0);
    gateway.assert_moved(
        &before,
        &[
            ("lan rx", 10),
            ("policy 0", 10),
            ("drop no_lease", 10),
            ("sessions_created", 10),
            ("source_nat", 10),
            ("deltas", 10),
        ],
    );

    lease.set_end(2_000);
    clock.store(1_999, Ordering::Relaxed);
    send(&mut gateway, 10);
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 10);

    // The clock went on within the turn: the turn's own time does not count.
    clock.store(2_000, Ordering::Relaxed);
    send(&mut gateway, 10);
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 0);
}

#[test]
fn what_leaves_from_the_units_own_station_is_not_held_back() {
    let (mut gateway, lease, clock) = gated();
    let from = |source: Mac| {
        let mut frame = vec![0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&source.0);
        frame
    };
    let sources = [
        unit_mac(LAN),
        virtual_mac(LAN),
        unit_mac(LAN),
        virtual_mac(LAN),
    ];
    let inject = |gateway: &mut Gateway| {
        for source in sources {
            let mbuf = mbuf(&from(source));
            let interface = LAN;
            let injected = Injected { interface, mbuf };
            gateway.control[0].inject.push(injected).unwrap();
        }
        gateway.turn();
        let sent = gateway.sent(LAN);
        sent.iter().map(|frame| macs(frame).1).collect::<Vec<_>>()
    };
    assert_eq!(inject(&mut gateway), [unit_mac(LAN), unit_mac(LAN)]);
    lease.set_end(clock.load(Ordering::Relaxed) + 1);
    assert_eq!(inject(&mut gateway), sources);
}
