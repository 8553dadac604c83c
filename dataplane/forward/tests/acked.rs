//! First packets of sessions that a peer has to hold before anything of them leaves.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, sound};
use common::*;
use forward::{Injected, Policy, PuntReason, RingSizes};
use packet::Tuple;

fn gateway(rings: RingSizes) -> Gateway {
    let acked = Policy {
        acked: true,
        ..masquerade()
    };
    Gateway::new(Plan {
        policies: vec![acked],
        rings,
        ..Plan::default()
    })
}

fn question() -> Tuple {
    Tuple::v4(CLIENT, 4_000, FAR, 53, 17)
}

#[test]
fn the_first_packet_waits_and_the_next_ones_pass() {
    let mut gateway = gateway(RingSizes::default());
    let before = gateway.counts();
    gateway.send(LAN, &frames::udp(LAN, &question(), b"one"));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 1),
            ("policy 0", 1),
            ("punted_unconfirmed", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
        ],
    );
    let punted = gateway.punted().pop().unwrap();
    let session = gateway.session(&question()).unwrap();
    assert_eq!(
        punted.reason,
        PuntReason::Unconfirmed {
            interface: WAN,
            next_hop: ROUTER,
            version: Some(session.version),
        }
    );
    let notice = gateway.control[0].deltas.pop().unwrap();
    assert_eq!(notice.version, session.version, "the change comes first");
    // Translated, and addressed to the router.
    let mbuf = punted.mbuf;
    assert_eq!(frames::macs(mbuf.data()), (ROUTER_MAC, virtual_mac(WAN)));
    let layout = sound(mbuf.data());
    assert_eq!((layout.tuple.src_v4(), layout.ttl), (Some(WAN_ADDRESS), 63));

    let before = gateway.counts();
    let interface = WAN;
    let injected = Injected { interface, mbuf };
    gateway.control[0].inject.push(injected).unwrap();
    gateway.send(LAN, &frames::udp(LAN, &question(), b"two"));
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 2);
    gateway.assert_moved(&before, &[("injected", 1), ("lan rx", 1), ("wan tx", 2)]);
}

#[test]
fn a_change_that_found_no_room_confirms_nothing() {
    let mut gateway = gateway(RingSizes {
        deltas: 1,
        ..RingSizes::default()
    });
    for port in [4_000, 4_001] {
        let tuple = Tuple::v4(CLIENT, port, FAR, 53, 17);
        gateway.send(LAN, &frames::udp(LAN, &tuple, b"x"));
    }
    gateway.turn();
    let known: Vec<bool> = gateway
        .punted()
        .iter()
        .map(|punted| {
            matches!(
                punted.reason,
                PuntReason::Unconfirmed {
                    version: Some(_),
                    ..
                }
            )
        })
        .collect();
    assert_eq!(known, [true, false]);
    assert_ne!(gateway.control[0].dirty.take(), [0; 4]);
}

#[test]
fn the_pieces_of_a_first_packet_that_is_cut_wait_all() {
    let acked = Policy {
        acked: true,
        ..masquerade()
    };
    let mut gateway = Gateway::new(Plan {
        policies: vec![acked],
        ..Plan::narrow(1_000)
    });
    let before = gateway.counts();
    gateway.send(LAN, &frames::udp(LAN, &question(), &[0; 1_400]));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("fragmented", 1),
            ("fragments_made", 2),
            ("lan rx", 1),
            ("policy 0", 1),
            ("punted_unconfirmed", 2),
            ("sessions_created", 1),
            ("source_nat", 1),
        ],
    );
    assert_eq!(gateway.sent(WAN).len(), 0);
    let version = gateway.session(&question()).unwrap().version;
    for punted in gateway.punted() {
        let waits = PuntReason::Unconfirmed {
            interface: WAN,
            next_hop: ROUTER,
            version: Some(version),
        };
        assert_eq!(punted.reason, waits);
        let macs = frames::macs(punted.mbuf.data());
        assert_eq!(macs, (ROUTER_MAC, virtual_mac(WAN)));
    }
}
