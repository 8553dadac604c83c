//! Frames that are no packets of users, rings to and from the control core, roles.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::net::Ipv4Addr;

use common::frames::{self, Ip, SYN, USUAL, sound};
use common::*;
use forward::{InterfaceId, Limits, Neighbours, Policy, PolicyAction, PuntReason, RingSizes};
use packet::build::{Link, arp_request};
use packet::{Mac, Tuple};

fn question() -> Tuple {
    Tuple::v4(CLIENT, 4_000, SERVER, 53, 17)
}

/// An Ethernet frame without IP.
fn raw(destination: Mac, ether_type: u16) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&CLIENT_MAC.0);
    frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
    frame
}

fn arp() -> Vec<u8> {
    let mut frame = vec![0; 60];
    let link = Link::broadcast(CLIENT_MAC);
    let len = arp_request(&mut frame, &link, CLIENT, LAN_ADDRESS).unwrap();
    frame.truncate(len);
    frame
}

/// A frame with an 802.1Q tag.
fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let [high, low] = tag.to_be_bytes();
    [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
}

#[test]
fn each_kind_of_frame_has_its_counter() {
    let mut gateway = Gateway::new(Plan::default());
    let user = frames::udp(LAN, &question(), b"x");
    let multicast = Tuple::v4(CLIENT, 1, Ipv4Addr::new(224, 0, 0, 5), 1, 17);
    let directed = Tuple::v4(CLIENT, 1, Ipv4Addr::new(198, 51, 100, 255), 1, 17);
    let limited = Tuple::v4(CLIENT, 1, Ipv4Addr::BROADCAST, 1, 17);
    let mut bad_sum = user.clone();
    bad_sum[24] ^= 0xff;
    let source_route = Ip {
        options: &[131, 3, 4, 0],
        ..USUAL
    };
    let mut from_all = user.clone();
    from_all[6..12].fill(0xff);
    let group = Mac([3, 0x74, 0x67, 0, 7, 0]);
    for (frame, counter) in [
        (frames::to_mac(user.clone(), SERVER_MAC), "drop foreign_mac"),
        (raw(virtual_mac(LAN), 0x9999), "drop unknown_ethertype"),
        (raw(virtual_mac(LAN), 38), "drop unknown_ethertype"),
        (tagged(&user, 7), "drop vlan_tagged"),
        (
            frames::to_mac(user.clone(), Mac::BROADCAST),
            "drop link_broadcast",
        ),
        (
            frames::to_mac(frames::udp(LAN, &multicast, b""), group),
            "drop multicast",
        ),
        (frames::udp(LAN, &multicast, b""), "drop multicast"),
        (frames::udp(LAN, &directed, b""), "drop broadcast"),
        (frames::udp(LAN, &limited, b""), "drop broadcast"),
        (
            frames::to_mac(frames::udp(LAN, &limited, b""), Mac::BROADCAST),
            "drop broadcast",
        ),
        (bad_sum, "drop bad_checksum"),
        (from_all, "drop group_source"),
        (user[..20].to_vec(), "drop truncated"),
        (user[..3].to_vec(), "drop truncated"),
        (
            frames::packet(LAN, &question(), source_route, frames::NO_SEGMENT, b""),
            "drop source_route",
        ),
        (raw(virtual_mac(LAN), 0x88b5), "punted_heartbeat"),
        (raw(group, 0x88b5), "punted_heartbeat"),
        (arp(), "punted_arp"),
    ] {
        let before = gateway.counts();
        gateway.send(LAN, &frame);
        gateway.turn();
        gateway.assert_moved(&before, &[(counter, 1), ("lan rx", 1)]);
    }
    let reasons: Vec<_> = gateway
        .punted()
        .iter()
        .map(|punted| punted.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            PuntReason::Heartbeat,
            PuntReason::Heartbeat,
            PuntReason::Arp
        ]
    );
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut gateway = Gateway::new(Plan::default());
    let frame = tagged(&frames::udp(LAN, &question(), b"x"), 5 << 13);
    assert_eq!(gateway.pass_through(LAN, &frame, WAN).len(), 1);
}

#[test]
fn ipv6_is_counted() {
    let mut gateway = Gateway::new(Plan::default());
    let mut frame = Vec::new();
    let [source, destination] =
        [1, 2].map(|n| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
    etherparse::PacketBuilder::ethernet2(CLIENT_MAC.0, virtual_mac(LAN).0)
        .ipv6(source, destination, 64)
        .udp(1, 2)
        .write(&mut frame, b"x")
        .unwrap();
    let before = gateway.counts();
    gateway.send(LAN, &frame);
    gateway.turn();
    gateway.assert_moved(&before, &[("drop ipv6", 1), ("lan rx", 1)]);
}

#[test]
fn a_subordinate_forwards_nothing_and_hears_arp() {
    let mut gateway = Gateway::new(Plan {
        duty: forward::Duty::Idle,
        ..Plan::default()
    });
    let user = frames::udp(LAN, &question(), b"x");
    let to_cluster = frames::echo(LAN, &Tuple::v4(CLIENT, 1, LAN_ADDRESS, 0, 1));
    let to_unit = frames::echo(LAN, &Tuple::v4(CLIENT, 1, LAN_UNIT, 0, 1));
    for (frame, counter) in [
        (user.clone(), "drop not_primary"),
        (frames::to_mac(user, unit_mac(LAN)), "drop not_primary"),
        (
            frames::to_mac(to_cluster, unit_mac(LAN)),
            "drop not_primary",
        ),
        (frames::to_mac(to_unit, unit_mac(LAN)), "punted_local"),
        (arp(), "punted_arp"),
    ] {
        let before = gateway.counts();
        gateway.send(LAN, &frame);
        gateway.turn();
        gateway.assert_moved(&before, &[(counter, 1), ("lan rx", 1)]);
    }
}

#[test]
fn a_sync_interface_carries_no_packet_of_users() {
    let mut gateway = Gateway::with_policies(vec![Policy::any("all", PolicyAction::Allow)]);
    let before = gateway.counts();
    let user = frames::udp(SYNC, &question(), b"x");
    gateway.send(SYNC, &frames::to_mac(user, unit_mac(SYNC)));
    gateway.send(SYNC, &raw(unit_mac(SYNC), 0x88b5));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("drop not_traffic", 1),
            ("punted_heartbeat", 1),
            ("sync rx", 2),
        ],
    );
}

#[test]
fn an_unknown_neighbour_is_a_matter_of_the_control_core() {
    let mut gateway = Gateway::new(Plan::default());
    gateway.neighbours.publish(Neighbours::none());
    let before = gateway.counts();
    let far = Tuple::v4(CLIENT, 4_000, FAR, 53, 17);
    gateway.send(LAN, &frames::udp(LAN, &far, b"x"));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 1),
            ("policy 0", 1),
            ("punted_neighbour", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
        ],
    );
    let mut punted = gateway.punted();
    let punted = punted.pop().unwrap();
    assert_eq!(punted.interface, LAN);
    assert_eq!(
        punted.reason,
        PuntReason::NeighbourMissing {
            interface: WAN,
            next_hop: ROUTER
        }
    );
    // Ready to leave but for its destination.
    let mut mbuf = punted.mbuf;
    assert_eq!(frames::macs(mbuf.data()), (Mac::ZERO, virtual_mac(WAN)));
    let layout = sound(mbuf.data());
    assert_eq!((layout.tuple.src_v4(), layout.ttl), (Some(WAN_ADDRESS), 63));
    mbuf.data_mut()[..6].copy_from_slice(&ROUTER_MAC.0);

    let before = gateway.counts();
    let inject = forward::Injected {
        interface: WAN,
        mbuf,
    };
    gateway.control[0].inject.push(inject).unwrap();
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 1);
    gateway.assert_moved(&before, &[("injected", 1), ("wan tx", 1)]);
}

#[test]
fn a_frame_for_no_interface_is_counted() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    let inject = forward::Injected {
        interface: InterfaceId(9),
        mbuf: mbuf(&arp()),
    };
    gateway.control[0].inject.push(inject).unwrap();
    gateway.turn();
    gateway.assert_moved(&before, &[("drop no_interface", 1)]);
}

#[test]
fn full_rings_drop_and_count() {
    let mut gateway = Gateway::new(Plan {
        rings: RingSizes {
            punt: 2,
            ..RingSizes::default()
        },
        cable: 4,
        ..Plan::default()
    });
    let before = gateway.counts();
    for _ in 0..4 {
        gateway.send(LAN, &arp());
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop punt_full", 2), ("lan rx", 4), ("punted_arp", 2)],
    );

    // Nobody takes what is sent: the cable holds four frames.
    let before = gateway.counts();
    for _ in 0..2 {
        for _ in 0..3 {
            gateway.send(LAN, &frames::udp(LAN, &question(), b"x"));
        }
        gateway.turn();
    }
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("drop transmit_full", 2),
            ("lan rx", 6),
            ("policy 0", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
            ("wan tx", 4),
        ],
    );
}

#[test]
fn a_flood_leaves_room_for_arp_and_heartbeats() {
    let mut gateway = Gateway::new(Plan {
        rings: RingSizes {
            punt: 8,
            ..RingSizes::default()
        },
        ..Plan::default()
    });
    let local = frames::echo(LAN, &Tuple::v4(CLIENT, 9, LAN_ADDRESS, 0, 1));
    let heartbeat = raw(unit_mac(LAN), 0x88b5);
    let before = gateway.counts();
    for frame in [local, arp(), heartbeat] {
        for _ in 0..5 {
            gateway.send(LAN, &frame);
        }
        gateway.turn();
    }
    gateway.assert_moved(
        &before,
        &[
            ("drop punt_full", 7),
            ("lan rx", 15),
            ("punted_arp", 2),
            ("punted_heartbeat", 2),
            ("punted_local", 4),
        ],
    );
}

#[test]
fn the_time_to_live_runs_out_here() {
    let mut gateway = Gateway::new(Plan::default());
    let short = |ttl| {
        let ip = Ip { ttl, ..USUAL };
        frames::packet(LAN, &question(), ip, frames::NO_SEGMENT, b"x")
    };
    let before = gateway.counts();
    let answer = gateway.pass_through(LAN, &short(1), LAN);
    assert_eq!(&answer[0][34..36], [11, 0]);
    assert_eq!(sound(&answer[0]).tuple, question().reversed());
    assert_eq!(&answer[0][26..30], LAN_ADDRESS.octets());
    gateway.assert_moved(
        &before,
        &[
            ("drop ttl_exceeded", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 0", 1),
        ],
    );
    assert!(gateway.session(&question()).is_none());

    assert_eq!(sound(&gateway.pass_through(LAN, &short(2), WAN)[0]).ttl, 1);
    let before = gateway.counts();
    let answer = gateway.pass_through(LAN, &short(1), LAN);
    assert_eq!(
        sound(&answer[0]).tuple,
        question().reversed(),
        "quoted as its sender knows it"
    );
    gateway.assert_moved(
        &before,
        &[
            ("drop ttl_exceeded", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
        ],
    );
}

#[test]
fn answers_are_limited() {
    let mut gateway = Gateway::new(Plan {
        limits: Limits {
            replies_per_second: 10,
            replies_burst: 3,
            ..Limits::default()
        },
        policies: vec![Policy::any("reject", PolicyAction::Reject)],
        ..Plan::default()
    });
    let before = gateway.counts();
    for port in 1..=20 {
        let tuple = Tuple::v4(CLIENT, port, SERVER, 80, 6);
        gateway.send(LAN, &frames::tcp(LAN, &tuple, SYN, 1, 0));
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("drop policy_reject", 20),
            ("lan rx", 20),
            ("lan tx", 3),
            ("policy 0", 20),
            ("replies_limited", 17),
            ("tcp_resets", 3),
        ],
    );
}

#[test]
fn without_a_route_the_sender_is_told() {
    let mut gateway = Gateway::with_policies(vec![Policy::any("all", PolicyAction::Allow)]);
    // The network of the sync interface is connected, and no way for packets of users.
    let tuple = Tuple::v4(CLIENT, 1, Ipv4Addr::new(10, 9, 9, 1), 53, 17);
    let before = gateway.counts();
    let answer = gateway.pass_through(LAN, &frames::udp(LAN, &tuple, b""), LAN);
    assert_eq!(sound(&answer[0]).tuple, tuple.reversed());
    assert_eq!(&answer[0][34..36], [3, 0]);
    gateway.assert_moved(
        &before,
        &[
            ("drop no_route", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
        ],
    );
}

#[test]
fn a_port_without_queues_gives_and_takes_nothing() {
    let mut port: Option<forward::MemoryPort> = None;
    let mut burst = dpdk::Burst::new();
    assert_eq!(forward::PortIo::receive(&mut port, &mut burst), 0);
    burst.push(mbuf(&arp())).unwrap();
    assert_eq!(forward::PortIo::transmit(&mut port, &mut burst), 0);
    assert_eq!(burst.len(), 1, "the unsent stay");
}
