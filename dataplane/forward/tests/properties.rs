//! What holds for any packet: addresses and checksums survive the way there and back, and every
//! packet is accounted for.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use common::frames::{self, SYN, Segment, USUAL, sound};
use common::*;
use forward::{InterfaceId, Limits, Policy, PolicyAction, RingSizes};
use packet::Tuple;
use proptest::prelude::*;

/// Unicast addresses that are neither the gateway's own nor on its segments.
fn outside() -> impl Strategy<Value = Ipv4Addr> + Clone {
    any::<[u8; 4]>()
        .prop_filter("unicast, and beyond the router", |a| {
            !matches!(a[0], 0 | 10 | 127 | 224..)
                && a[..3] != [192, 0, 2]
                && a[..3] != [198, 51, 100]
        })
        .prop_map(Ipv4Addr::from)
}

fn outward() -> impl Strategy<Value = Tuple> + Clone {
    let protocol = prop_oneof![Just(6), Just(17), Just(1)];
    (2..255u8, 1..=u16::MAX, outside(), 1..=u16::MAX, protocol).prop_map(
        |(host, src_port, dst, dst_port, protocol)| {
            let src = Ipv4Addr::new(192, 0, 2, host);
            let dst_port = if protocol == 1 { 0 } else { dst_port };
            Tuple::v4(src, src_port, dst, dst_port, protocol)
        },
    )
}

const OPENING: Segment = Segment {
    flags: SYN,
    seq: 7_000,
    ack: 0,
};
const ANSWER: Segment = Segment {
    flags: SYN | frames::ACK,
    seq: 9_000,
    ack: 7_001,
};

/// Neighbours for every host of the LAN, so that all replies can be delivered.
fn whole_lan() -> forward::Neighbours {
    let mut all = usual_neighbours();
    all.extend((2..255).map(|host| forward::Neighbour {
        interface: LAN,
        address: Ipv4Addr::new(192, 0, 2, host),
        mac: CLIENT_MAC,
    }));
    forward::Neighbours::build(&all)
}

/// The tests share a pool, and one of them looks at how many of its buffers are in use.
static THE_POOL: Mutex<()> = Mutex::new(());

#[test]
fn any_packet_finds_its_way_there_and_back() {
    let _alone = THE_POOL.lock();
    for workers in [1u16, 3] {
        let gateway = RefCell::new(Gateway::new(Plan {
            workers,
            sessions: 65_536,
            ..Plan::default()
        }));
        gateway.borrow_mut().neighbours.publish(whole_lan());
        let case = (
            outward(),
            prop::collection::vec(any::<u8>(), 0..64),
            any::<[u8; 2]>(),
        );
        let runner = &mut proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let property = runner.run(&case, |(tuple, payload, queues)| {
            let gateway = &mut *gateway.borrow_mut();
            let [there, back] = queues.map(|queue| usize::from(queue) % usize::from(workers));
            if gateway.session(&tuple).is_some() || tuple.src_v4() == Some(LAN_UNIT) {
                return Ok(());
            }
            let frame = frames::packet(LAN, &tuple, USUAL, OPENING, &payload);
            gateway.send_to(there, LAN, &frame);
            gateway.turn();
            let out = gateway.sent(WAN);
            prop_assert_eq!(out.len(), 1);
            let hidden = sound(&out[0]).tuple;
            prop_assert_eq!(hidden.src_v4(), Some(WAN_ADDRESS));
            prop_assert_eq!((hidden.dst, hidden.dst_port), (tuple.dst, tuple.dst_port));
            prop_assert!(out[0].ends_with(&payload));

            let reply = frames::packet(WAN, &hidden.reversed(), USUAL, ANSWER, &payload);
            gateway.send_to(back, WAN, &reply);
            gateway.turn();
            let inward = gateway.sent(LAN);
            prop_assert_eq!(inward.len(), 1);
            prop_assert_eq!(sound(&inward[0]).tuple, tuple.reversed());
            prop_assert!(inward[0].ends_with(&payload));
            for rings in &mut gateway.control {
                while rings.deltas.pop().is_ok() {}
            }
            Ok(())
        });
        property.unwrap();
    }
}

/// A frame that is right, or nearly, or not at all.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let right = (
        outward(),
        prop::collection::vec(any::<u8>(), 0..1_200),
        0..32u8,
    )
        .prop_map(|(tuple, payload, flags)| {
            let segment = Segment { flags, ..OPENING };
            frames::packet(LAN, &tuple, USUAL, segment, &payload)
        });
    let garbage = prop::collection::vec(any::<u8>(), 1..200);
    let bent = (
        right.clone(),
        prop::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        any::<u16>(),
    )
        .prop_map(|(mut frame, changes, cut)| {
            for (position, byte) in changes {
                let len = frame.len();
                frame[usize::from(position) % len] = byte;
            }
            frame.truncate(usize::from(cut) % frame.len() + 1);
            frame
        });
    let to_us = frames::echo(LAN, &Tuple::v4(CLIENT, 1, LAN_ADDRESS, 0, 1));
    prop_oneof![4 => right, 4 => bent, 1 => garbage, 1 => Just(to_us)]
}

/// The frame as it comes to this interface, if it was meant for the gateway at all.
fn addressed_to(interface: InterfaceId, mut frame: Vec<u8>) -> Vec<u8> {
    if frame.starts_with(&virtual_mac(LAN).0) {
        let mac = if interface == SYNC {
            unit_mac(SYNC)
        } else {
            virtual_mac(interface)
        };
        frame[..6].copy_from_slice(&mac.0);
    }
    frame
}

/// Packets that came in, or were made here, against what became of them.
fn balance(gateway: &Gateway) -> (u64, u64) {
    let counts = gateway.counts();
    let sum = |names: &[&str]| -> u64 { names.iter().filter_map(|name| counts.get(*name)).sum() };
    let dropped: u64 = counts
        .iter()
        .filter(|(name, _)| name.starts_with("drop "))
        .map(|(_, count)| count)
        .sum();
    let came = sum(&[
        "lan rx",
        "wan rx",
        "sync rx",
        "icmp_errors",
        "tcp_resets",
        "fragments_made",
    ]);
    let went = sum(&["lan tx", "wan tx", "sync tx", "fragmented"])
        + sum(&[
            "punted_arp",
            "punted_heartbeat",
            "punted_local",
            "punted_neighbour",
        ]);
    // Within a unit packets are handed over and taken over as often.
    assert_eq!(counts.get("handed_over"), counts.get("taken_over"));
    (came, went + dropped)
}

/// Exhausts whatever is scarce, which chance alone does not always do: the tables by sessions that
/// were answered, the cables by packets that nobody takes, the rings by packets for the gateway.
fn exhaust(gateway: &mut Gateway) {
    for interface in [LAN, WAN, SYNC] {
        gateway.sent(interface);
    }
    let mut passing = None;
    for port in 30_001..30_065 {
        let question = frames::udp(LAN, &Tuple::v4(CLIENT, port, FAR, 30_000, 17), b"?");
        if let [frame] = &gateway.pass_through(LAN, &question, WAN)[..] {
            let answer = sound(frame).tuple.reversed();
            gateway.send(WAN, &frames::udp(WAN, &answer, b"!"));
            gateway.turn();
            gateway.sent(LAN);
            passing = Some(question);
        }
    }
    let to_us = frames::echo(LAN, &Tuple::v4(CLIENT, 1, LAN_ADDRESS, 0, 1));
    for frame in [passing.unwrap(), to_us] {
        for _ in 0..2 {
            for worker in 0..gateway.workers.len() {
                (0..50).for_each(|_| gateway.send_to(worker, LAN, &frame));
            }
            gateway.turn();
        }
    }
}

#[test]
fn every_packet_is_accounted_for() {
    let _alone = THE_POOL.lock();
    let reject = Policy {
        destination_ports: vec![1..=20_000],
        ..Policy::any("reject", PolicyAction::Reject)
    };
    for workers in [1u16, 3] {
        let in_use = dpdk().1.in_use();
        {
            // Everything is scarce: sessions, rings, cables, ports.
            let gateway = RefCell::new(Gateway::new(Plan {
                workers,
                policies: vec![reject.clone(), masquerade(), inbound()],
                sessions: 2,
                cable: 60,
                limits: Limits {
                    port_probes: 2,
                    ..Limits::default()
                },
                rings: RingSizes {
                    punt: 2,
                    deltas: 20,
                    handover: 4,
                    ..RingSizes::default()
                },
                ..Plan::narrow(600)
            }));
            let runner = &mut proptest::test_runner::TestRunner::new(ProptestConfig {
                cases: 300,
                failure_persistence: None,
                ..ProptestConfig::default()
            });
            let bursts = prop::collection::vec((hostile(), 0..3u8, any::<u8>()), 1..40);
            let property = runner.run(&bursts, |burst| {
                let gateway = &mut *gateway.borrow_mut();
                for (frame, interface, queue) in burst {
                    let queue = usize::from(queue) % usize::from(workers);
                    let interface = InterfaceId(interface);
                    gateway.send_to(queue, interface, &addressed_to(interface, frame));
                }
                gateway.turn();
                gateway.pass(1);
                if gateway.now.tick.0.is_multiple_of(64) {
                    for interface in [LAN, WAN, SYNC] {
                        gateway.sent(interface);
                    }
                    gateway.punted();
                }
                let (came, went) = balance(gateway);
                prop_assert_eq!(came, went);
                Ok(())
            });
            property.unwrap();
            let gateway = &mut *gateway.borrow_mut();
            exhaust(gateway);
            let (came, went) = balance(gateway);
            assert_eq!(came, went);
            let counts = gateway.counts();
            for scarce in ["drop table_full", "drop punt_full", "drop transmit_full"] {
                assert!(
                    counts.contains_key(scarce),
                    "{scarce} was not provoked: {counts:?}"
                );
            }
        }
        assert_eq!(
            dpdk().1.in_use(),
            in_use,
            "every buffer is back in its pool"
        );
    }
}
