//! Sessions from their first packet on: policy, translation, replies, errors.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::net::Ipv4Addr;

use common::frames::{self, ACK, RST, SYN, Segment, USUAL, sound};
use common::*;
use forward::{
    DeltaKind, DestinationNat, InterfaceSet, Policy, PolicyAction, Prefix, PuntReason, SourceNat,
};
use packet::Tuple;
use session::{Flags, State};

fn udp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 53, 17)
}

fn tcp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 80, 6)
}

fn echo_tuple(id: u16) -> Tuple {
    Tuple::v4(CLIENT, id, SERVER, 0, 1)
}

/// Everything that is counted when a session begins and its packet leaves.
const BEGUN: [(&str, u64); 6] = [
    ("deltas", 1),
    ("lan rx", 1),
    ("policy 0", 1),
    ("sessions_created", 1),
    ("source_nat", 1),
    ("wan tx", 1),
];

#[test]
fn a_datagram_is_hidden_and_its_reply_finds_back() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    let tuple = udp_tuple(4_000);
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &tuple, b"question"), WAN);
    let [frame] = &out[..] else { panic!("{out:?}") };
    let layout = sound(frame);
    assert_eq!(layout.tuple.src_v4(), Some(WAN_ADDRESS));
    assert_eq!(layout.tuple.dst_v4(), Some(SERVER));
    assert_eq!(layout.tuple.dst_port, 53);
    assert_eq!(layout.tuple.src_port % 16, u16::from(UNIT) - 1);
    assert!(layout.tuple.src_port >= 1_024);
    assert_eq!(layout.ttl, 63);
    assert_eq!(frames::macs(frame), (SERVER_MAC, virtual_mac(WAN)));
    assert_eq!(&frame[42..], b"question");
    gateway.assert_moved(&before, &BEGUN);

    let before = gateway.counts();
    let reply = frames::udp(WAN, &layout.tuple.reversed(), b"answer");
    let back = gateway.pass_through(WAN, &reply, LAN);
    let [frame] = &back[..] else {
        panic!("{back:?}")
    };
    assert_eq!(sound(frame).tuple, tuple.reversed());
    assert_eq!(frames::macs(frame), (CLIENT_MAC, virtual_mac(LAN)));
    gateway.assert_moved(&before, &[("deltas", 1), ("lan tx", 1), ("wan rx", 1)]);

    let session = gateway.session(&tuple).unwrap();
    assert_eq!((session.state, session.owner), (State::Replied, UNIT));
    assert_eq!(session.flags, Flags(Flags::SOURCE_NAT));
    let notices: Vec<_> = std::iter::from_fn(|| gateway.control[0].deltas.pop().ok()).collect();
    let kinds: Vec<_> = notices.iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [DeltaKind::Begin, DeltaKind::Upsert]);
    assert!(notices[0].version < notices[1].version);
    assert_eq!(notices[1].version, session.version);
    assert_eq!(gateway.readers[0].get(notices[1].id), Some(session));
}

#[test]
fn packets_of_one_burst_share_the_session_that_the_first_begins() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    let frame = frames::udp(LAN, &udp_tuple(4_000), b"x");
    for _ in 0..10 {
        gateway.send(LAN, &frame);
    }
    gateway.turn();
    let out = gateway.sent(WAN);
    assert_eq!(out.len(), 10);
    assert!(out.iter().all(|sent| *sent == out[0]));
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 10),
            ("policy 0", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
            ("wan tx", 10),
        ],
    );
}

#[test]
fn an_echo_keeps_its_identifier_at_home() {
    let mut gateway = Gateway::new(Plan::default());
    let tuple = echo_tuple(77);
    let out = gateway.pass_through(LAN, &frames::echo(LAN, &tuple), WAN);
    let hidden = sound(&out[0]).tuple;
    assert_eq!(hidden.src_v4(), Some(WAN_ADDRESS));
    assert_eq!(hidden.src_port % 16, u16::from(UNIT) - 1);
    let reply = frames::echo(WAN, &hidden.reversed());
    let back = gateway.pass_through(WAN, &reply, LAN);
    assert_eq!(sound(&back[0]).tuple, tuple.reversed());
}

#[test]
fn a_connection_from_handshake_to_data() {
    let mut gateway = Gateway::new(Plan::default());
    let tuple = tcp_tuple(4_000);
    let out = gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, SYN, 100, 0), WAN);
    let hidden = sound(&out[0]).tuple;
    let answer = frames::tcp(WAN, &hidden.reversed(), SYN | ACK, 900, 101);
    let back = gateway.pass_through(WAN, &answer, LAN);
    assert_eq!(sound(&back[0]).tuple, tuple.reversed());
    let out = gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, ACK, 101, 901), WAN);
    assert_eq!(sound(&out[0]).tuple, hidden);
    assert_eq!(gateway.session(&tuple).unwrap().state, State::Established);

    let before = gateway.counts();
    let astray = frames::tcp(WAN, &hidden.reversed(), ACK, 0x7000_0000, 101);
    assert!(gateway.pass_through(WAN, &astray, LAN).is_empty());
    let blind = frames::tcp(WAN, &hidden.reversed(), RST, 1_901, 0);
    assert!(gateway.pass_through(WAN, &blind, LAN).is_empty());
    gateway.assert_moved(
        &before,
        &[
            ("drop tcp_bad_reset", 1),
            ("drop tcp_out_of_window", 1),
            ("wan rx", 2),
        ],
    );
}

#[test]
fn tcp_begins_with_a_syn() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    for flags in [ACK, SYN | ACK, RST, RST | ACK, SYN | RST, SYN | frames::FIN] {
        gateway.send(LAN, &frames::tcp(LAN, &tcp_tuple(4_000), flags, 100, 1));
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop tcp_not_syn", 6), ("lan rx", 6), ("policy 0", 6)],
    );
}

#[test]
fn destination_nat_leads_to_the_inner_server_and_back() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    let tuple = Tuple::v4(FAR, 5_000, WAN_ADDRESS, 8_080, 6);
    let inside = gateway.pass_through(WAN, &frames::tcp(WAN, &tuple, SYN, 100, 0), LAN);
    let translated = sound(&inside[0]).tuple;
    assert_eq!(translated, Tuple::v4(FAR, 5_000, CLIENT, 80, 6));
    assert_eq!(frames::macs(&inside[0]), (CLIENT_MAC, virtual_mac(LAN)));
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("destination_nat", 1),
            ("lan tx", 1),
            ("policy 1", 1),
            ("sessions_created", 1),
            ("wan rx", 1),
        ],
    );
    let answer = frames::tcp(LAN, &translated.reversed(), SYN | ACK, 900, 101);
    let outside = gateway.pass_through(LAN, &answer, WAN);
    assert_eq!(sound(&outside[0]).tuple, tuple.reversed());
    assert_eq!(frames::macs(&outside[0]).0, ROUTER_MAC);
}

#[test]
fn hairpin_reaches_the_inner_server_through_the_outer_address() {
    let neighbour = Ipv4Addr::new(192, 0, 2, 200);
    let hairpin = Policy {
        from: InterfaceSet::NONE.with(LAN),
        to: InterfaceSet::NONE.with(LAN),
        destination: vec![Prefix::new(WAN_ADDRESS, 32)],
        destination_nat: Some(DestinationNat {
            address: CLIENT,
            port: Some(80),
        }),
        source_nat: SourceNat::Masquerade,
        ..Policy::any("hairpin", PolicyAction::Allow)
    };
    let mut gateway = Gateway::with_policies(vec![hairpin]);
    let tuple = Tuple::v4(neighbour, 5_000, WAN_ADDRESS, 8_080, 6);
    let inside = gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, SYN, 100, 0), LAN);
    let translated = sound(&inside[0]).tuple;
    assert_eq!(translated.src_v4(), Some(LAN_ADDRESS));
    assert_eq!(
        (translated.dst_v4(), translated.dst_port),
        (Some(CLIENT), 80)
    );
    gateway
        .neighbours
        .publish(forward::Neighbours::build(&[forward::Neighbour {
            interface: LAN,
            address: neighbour,
            mac: SERVER_MAC,
        }]));
    let answer = frames::tcp(LAN, &translated.reversed(), SYN | ACK, 900, 101);
    let back = gateway.pass_through(LAN, &answer, LAN);
    assert_eq!(sound(&back[0]).tuple, tuple.reversed());
    assert_eq!(frames::macs(&back[0]).0, SERVER_MAC);
}

#[test]
fn the_first_policy_that_matches_decides() {
    let deny = Policy {
        destination: vec![Prefix::new(SERVER, 32)],
        destination_ports: vec![53..=53],
        ..Policy::any("deny", PolicyAction::Deny)
    };
    let reject = Policy {
        destination: vec![Prefix::new(FAR, 32)],
        ..Policy::any("reject", PolicyAction::Reject)
    };
    let mut gateway = Gateway::with_policies(vec![deny, reject, plain()]);
    let before = gateway.counts();
    gateway.send(LAN, &frames::udp(LAN, &udp_tuple(4_000), b"x"));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop policy_deny", 1), ("lan rx", 1), ("policy 0", 1)],
    );

    let before = gateway.counts();
    let to_far = Tuple::v4(CLIENT, 4_000, FAR, 443, 6);
    let answer = gateway.pass_through(LAN, &frames::tcp(LAN, &to_far, SYN, 100, 0), LAN);
    let reset = sound(&answer[0]);
    assert_eq!(
        (reset.tuple, reset.tcp_flags),
        (to_far.reversed(), RST | ACK)
    );
    assert_eq!(frames::macs(&answer[0]), (CLIENT_MAC, virtual_mac(LAN)));
    gateway.assert_moved(
        &before,
        &[
            ("drop policy_reject", 1),
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 1", 1),
            ("tcp_resets", 1),
        ],
    );

    let before = gateway.counts();
    let to_far = Tuple {
        protocol: 17,
        ..to_far
    };
    let answer = gateway.pass_through(LAN, &frames::udp(LAN, &to_far, b"x"), LAN);
    let error = sound(&answer[0]);
    assert_eq!(error.tuple, to_far.reversed());
    assert_eq!(&answer[0][34..36], [3, 13]);
    assert_eq!(&answer[0][26..30], LAN_ADDRESS.octets());
    gateway.assert_moved(
        &before,
        &[
            ("drop policy_reject", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 1", 1),
        ],
    );

    let before = gateway.counts();
    let out = gateway.pass_through(LAN, &frames::tcp(LAN, &tcp_tuple(4_000), SYN, 1, 0), WAN);
    assert_eq!(sound(&out[0]).tuple, tcp_tuple(4_000));
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 1),
            ("policy 2", 1),
            ("sessions_created", 1),
            ("wan tx", 1),
        ],
    );
}

#[test]
fn what_no_policy_matches_is_dropped() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    let inward = Tuple::v4(FAR, 5_000, CLIENT, 22, 6);
    gateway.send(WAN, &frames::tcp(WAN, &inward, SYN, 100, 0));
    gateway.turn();
    gateway.assert_moved(&before, &[("drop policy_default", 1), ("wan rx", 1)]);
}

#[test]
fn icmp_errors_find_their_session_and_leave_it_alone() {
    let mut gateway = Gateway::new(Plan::default());
    let tuple = udp_tuple(4_000);
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &tuple, b"question"), WAN);
    let seen = gateway.session(&tuple).unwrap();
    gateway.pass(7);
    let before = gateway.counts();
    let error = frames::too_big(WAN, ROUTER, &out[0], 1_280);
    let inward = gateway.pass_through(WAN, &error, LAN);
    let layout = sound(&inward[0]);
    assert_eq!(layout.tuple, tuple.reversed());
    assert_eq!(
        &inward[0][26..30],
        ROUTER.octets(),
        "the router's own address stays"
    );
    assert_eq!(&inward[0][30..34], CLIENT.octets());
    assert_eq!(&inward[0][40..42], 1_280u16.to_be_bytes());
    gateway.assert_moved(&before, &[("lan tx", 1), ("wan rx", 1)]);
    assert_eq!(gateway.session(&tuple), Some(seen));

    // The other way: the client complains about the reply.
    let reply = frames::udp(WAN, &sound(&out[0]).tuple.reversed(), b"answer");
    let back = gateway.pass_through(WAN, &reply, LAN);
    let error = frames::too_big(LAN, CLIENT, &back[0], 1_000);
    let outward = gateway.pass_through(LAN, &error, WAN);
    let layout = sound(&outward[0]);
    assert_eq!(layout.tuple, sound(&out[0]).tuple);
    assert_eq!(&outward[0][26..30], WAN_ADDRESS.octets());
    assert_eq!(&outward[0][30..34], SERVER.octets());
}

#[test]
fn icmp_without_a_session_is_dropped() {
    let mut gateway = Gateway::with_policies(vec![Policy::any("all", PolicyAction::Allow)]);
    let before = gateway.counts();
    gateway.send(LAN, &frames::echo(LAN, &Tuple::v4(CLIENT, 0, SERVER, 9, 1)));
    let offender = frames::udp(WAN, &Tuple::v4(SERVER, 53, CLIENT, 4_000, 17), b"x");
    gateway.send(LAN, &frames::too_big(LAN, CLIENT, &offender, 1_000));
    gateway.turn();
    gateway.assert_moved(&before, &[("drop icmp_no_session", 2), ("lan rx", 2)]);
}

#[test]
fn protocols_without_ports_pass_but_cannot_be_hidden() {
    let gre = Tuple::v4(CLIENT, 0, SERVER, 0, 47);
    let frame = frames::packet(LAN, &gre, USUAL, frames::NO_SEGMENT, b"tunnel");
    let mut gateway = Gateway::with_policies(vec![plain()]);
    let out = gateway.pass_through(LAN, &frame, WAN);
    assert_eq!(sound(&out[0]).tuple, gre);

    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    gateway.send(LAN, &frame);
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop nat_protocol", 1), ("lan rx", 1), ("policy 0", 1)],
    );
}

#[test]
fn a_packet_for_the_gateway_itself_goes_to_the_control_core() {
    let mut gateway = Gateway::new(Plan::default());
    let before = gateway.counts();
    gateway.send(
        LAN,
        &frames::echo(LAN, &Tuple::v4(CLIENT, 9, LAN_ADDRESS, 0, 1)),
    );
    let unit = frames::echo(LAN, &Tuple::v4(CLIENT, 9, LAN_UNIT, 0, 1));
    gateway.send(LAN, &frames::to_mac(unit, unit_mac(LAN)));
    gateway.send(
        WAN,
        &frames::tcp(WAN, &Tuple::v4(FAR, 5_000, WAN_ADDRESS, 22, 6), SYN, 1, 0),
    );
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("lan rx", 2), ("punted_local", 3), ("wan rx", 1)],
    );
    let punted = gateway.punted();
    assert!(
        punted
            .iter()
            .all(|punted| punted.reason == PuntReason::Local)
    );
    assert_eq!(punted[0].interface, LAN);
    assert_eq!(punted[2].interface, WAN);
}

#[test]
fn a_segment_with_data_keeps_its_payload_and_checksum() {
    let mut gateway = Gateway::with_policies(vec![masquerade()]);
    let tuple = tcp_tuple(4_000);
    let syn = Segment {
        flags: SYN,
        seq: 7,
        ack: 0,
    };
    let frame = frames::packet(LAN, &tuple, USUAL, syn, &[0xa5; 1_001]);
    let out = gateway.pass_through(LAN, &frame, WAN);
    sound(&out[0]);
    assert!(out[0].ends_with(&[0xa5; 1_001]));
}

#[test]
fn a_source_is_translated_to_the_address_that_a_policy_names() {
    let alias = Ipv4Addr::new(198, 51, 100, 77);
    let mut gateway = Gateway::with_policies(vec![Policy {
        source_nat: SourceNat::Address(alias),
        ..masquerade()
    }]);
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &udp_tuple(4_000), b"x"), WAN);
    let hidden = sound(&out[0]).tuple;
    assert_eq!(hidden.src_v4(), Some(alias));
    let back = gateway.pass_through(WAN, &frames::udp(WAN, &hidden.reversed(), b"y"), LAN);
    assert_eq!(sound(&back[0]).tuple, udp_tuple(4_000).reversed());
}

#[test]
fn nothing_is_hidden_behind_an_address_that_is_not_there() {
    let mut plan = Plan::default();
    plan.interfaces[WAN.index()].cluster_addresses.clear();
    let mut gateway = Gateway::new(plan);
    let before = gateway.counts();
    let tuple = Tuple::v4(CLIENT, 4_000, FAR, 53, 17);
    gateway.send(LAN, &frames::udp(LAN, &tuple, b"x"));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop nat_no_address", 1), ("lan rx", 1), ("policy 0", 1)],
    );
}

#[test]
fn two_sessions_cannot_have_one_reply() {
    let direct = Policy {
        from: InterfaceSet::NONE.with(WAN),
        ..Policy::any("direct", PolicyAction::Allow)
    };
    let mut gateway = Gateway::with_policies(vec![inbound(), direct]);
    let translated = Tuple::v4(FAR, 5_000, WAN_ADDRESS, 8_080, 17);
    gateway.pass_through(WAN, &frames::udp(WAN, &translated, b"x"), LAN);
    let before = gateway.counts();
    let direct = Tuple::v4(FAR, 5_000, CLIENT, 80, 17);
    gateway.send(WAN, &frames::udp(WAN, &direct, b"x"));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[("drop session_conflict", 1), ("policy 1", 1), ("wan rx", 1)],
    );
}

#[test]
fn tcp_that_does_not_fit_has_a_counter_for_each_reason() {
    let mut gateway = Gateway::with_policies(vec![plain()]);
    let tuple = tcp_tuple(4_000);
    gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, SYN, 100, 0), WAN);
    let before = gateway.counts();
    gateway.send(LAN, &frames::tcp(LAN, &tuple, SYN | ACK, 100, 5));
    gateway.turn();
    gateway.assert_moved(&before, &[("drop tcp_bad_handshake", 1), ("lan rx", 1)]);
    let reply = tuple.reversed();
    gateway.pass_through(WAN, &frames::tcp(WAN, &reply, SYN | ACK, 900, 101), LAN);
    gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, ACK, 101, 901), WAN);
    let before = gateway.counts();
    gateway.send(LAN, &frames::tcp(LAN, &tuple, 0, 101, 0));
    gateway.send(LAN, &frames::tcp(LAN, &tuple, SYN, 150, 0));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("drop tcp_bad_flags", 1),
            ("drop tcp_bad_syn", 1),
            ("lan rx", 2),
        ],
    );
}
