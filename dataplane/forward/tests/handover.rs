//! A planned hand-over: the old primary relays, its successor processes at once, and nothing is lost or
//! overtaken.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, SYN, macs, sound};
use common::units::{Units, own_mac};
use common::*;
use forward::{Duty, InterfaceId};
use packet::Tuple;
use packet::build::arp_announcement;

const MILLISECOND: u64 = 1_000_000;

fn tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 53, 17)
}

fn numbered(port: u16, number: u32) -> Vec<u8> {
    frames::udp(LAN, &tuple(port), &number.to_be_bytes())
}

/// The numbers of packets, in the order in which they left.
fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    let payload = |frame: &Vec<u8>| u32::from_be_bytes(*frame[42..].first_chunk().unwrap());
    frames.iter().map(payload).collect()
}

/// What a switch floods when the unit announces that it has the virtual MAC.
fn announcement(interface: InterfaceId) -> Vec<u8> {
    let mut frame = [0; 60];
    arp_announcement(&mut frame, virtual_mac(interface), 0, LAN_ADDRESS).unwrap();
    frame.to_vec()
}

/// Unit 1 is primary of a cluster that shares nothing, with one session.
fn before() -> (Units, Tuple) {
    let mut units = Units::pair(1, vec![masquerade(), inbound()]);
    units.slots.clear();
    units.excused = vec![2];
    units.publish(TERM);
    let out = units.through(LAN, &numbered(4_000, 0), WAN);
    assert_eq!(macs(&out[0]).1, virtual_mac(WAN));
    units.settle();
    (units, sound(&out[0]).tuple)
}

/// Unit 1 yields and relays; the switches still send to it.
fn relay(units: &mut Units) {
    units.duties.insert(1, Duty::Relay { to: 2 });
    units.switched = Some(1);
    units.excused = vec![1];
    units.publish(TERM);
}

/// Unit 2 hears of it and is promoted.
fn promote(units: &mut Units) {
    units.primary = 2;
    units.publish(TERM + 1);
}

/// Time passes for both.
fn wait(units: &mut Units, nanos: u64) {
    for unit in [1, 2] {
        units.unit(unit).now.nanos += nanos;
    }
}

#[test]
fn the_successor_processes_what_is_relayed_before_and_after_its_promotion() {
    let (mut units, hidden) = before();
    let [old, new] = [1, 2].map(|unit| units.gateway(unit).counts());
    relay(&mut units);
    let out = units.through(LAN, &numbered(4_000, 1), WAN);
    assert_eq!(numbers(&out), [1]);
    assert_eq!(sound(&out[0]).tuple, hidden, "the translation stays");
    assert_eq!(macs(&out[0]).1, own_mac(2, WAN), "not promoted yet");
    // A new session, and a reply of the old one.
    assert_eq!(units.through(LAN, &numbered(4_001, 2), WAN).len(), 1);
    let reply = frames::udp(WAN, &hidden.reversed(), b"back");
    assert_eq!(units.through(WAN, &reply, LAN).len(), 1);
    promote(&mut units);
    let out = units.through(LAN, &numbered(4_000, 3), WAN);
    assert_eq!(numbers(&out), [3]);
    assert_eq!(macs(&out[0]).1, virtual_mac(WAN));
    units.gateway(1).assert_moved(
        &old,
        &[
            ("lan rx", 3),
            ("lan tx", 4),
            ("markers_sent", 2),
            ("relayed", 4),
            ("wan rx", 1),
            ("wan tx", 2),
        ],
    );
    units.gateway(2).assert_moved(
        &new,
        &[
            ("deltas", 3),
            ("lan rx", 4),
            ("lan tx", 1),
            ("markers_taken", 2),
            ("policy 0", 1),
            ("redirects_taken", 3),
            ("sessions_adopted", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
            ("wan rx", 2),
            ("wan tx", 3),
        ],
    );
}

#[test]
fn no_packet_overtakes_those_that_are_relayed() {
    let (mut units, _) = before();
    relay(&mut units);
    units.run();
    promote(&mut units);
    units.unit(2).turn();
    // Two wait at the old primary when the announcement arrives behind them; the switch moves.
    for number in [1, 2] {
        units.send(LAN, &numbered(4_000, number));
    }
    units.unit(1).send(LAN, &announcement(LAN));
    units.switched = None;
    for number in [3, 4] {
        units.send(LAN, &numbered(4_000, number));
    }
    wait(&mut units, MILLISECOND);
    units.unit(2).turn();
    units.switch(2);
    assert!(units.got(WAN).is_empty(), "held");
    units.run();
    // Another turn sends what was held.
    units.unit(2).turn();
    units.switch(2);
    assert_eq!(numbers(&units.got(WAN)), [1, 2, 3, 4]);
    let counts = units.gateway(2).counts();
    assert_eq!((counts["held"], counts["markers_taken"]), (2, 3));
    assert_eq!(units.gateway(1).counts()["markers_sent"], 3);

    // From now on nothing is held there.
    assert_eq!(numbers(&units.through(LAN, &numbered(4_000, 5), WAN)), [5]);
}

#[test]
fn each_interface_waits_for_its_own_marker() {
    let (mut units, hidden) = before();
    relay(&mut units);
    units.run();
    promote(&mut units);
    units.run();
    units.unit(1).send(LAN, &announcement(LAN));
    units.run();
    units.switched = None;
    units.send(LAN, &numbered(4_000, 1));
    units.send(WAN, &frames::udp(WAN, &hidden.reversed(), b"held"));
    units.run();
    assert_eq!(numbers(&units.got(WAN)), [1]);
    assert!(units.got(LAN).is_empty());
    wait(&mut units, 20 * MILLISECOND);
    units.run();
    assert_eq!(units.got(LAN).len(), 1, "no marker came: let go in time");
    assert_eq!(units.gateway(2).counts()["held"], 1);
}

#[test]
fn after_a_failure_nothing_is_held() {
    let (mut units, _) = before();
    units.primary = 2;
    units.excused.clear();
    units.kill(1);
    let out = units.through(LAN, &numbered(4_000, 1), WAN);
    assert_eq!(numbers(&out), [1]);
    assert_eq!(units.gateway(2).counts().get("held"), None);
}

#[test]
fn a_full_hold_lets_go_instead_of_losing() {
    let (mut units, _) = before();
    relay(&mut units);
    units.run();
    promote(&mut units);
    units.run();
    units.switched = None;
    let mut out = Vec::new();
    for number in 1..=1_200 {
        units.send(LAN, &numbered(4_000, number));
        if number % 50 == 0 {
            units.turn_once(2);
            out.extend(numbers(&units.got(WAN)));
        }
    }
    while out.len() < 1_200 {
        units.turn_once(2);
        let more = numbers(&units.got(WAN));
        assert!(!more.is_empty(), "lost after {} packets", out.len());
        out.extend(more);
    }
    assert_eq!(out, (1..=1_200).collect::<Vec<_>>());
    let counts = units.gateway(2).counts();
    assert_eq!(counts["holds_ended"], 1);
    assert!(counts["held"] > 1_024, "{counts:?}");
}

#[test]
fn a_third_unit_keeps_its_sessions_while_the_primary_changes() {
    let mut units = Units::new(common::units::Site {
        workers: vec![1, 1, 1],
        pick: forward::Pick::InTurn,
        slots: vec![3],
        policies: vec![masquerade()],
    });
    let by_third = |units: &mut Units, number| {
        let out = units.through(LAN, &numbered(4_000, number), WAN);
        assert_eq!(numbers(&out), [number]);
        assert_eq!(macs(&out[0]).1, own_mac(3, WAN));
    };
    by_third(&mut units, 1);
    relay(&mut units);
    // Not told yet, and told.
    by_third(&mut units, 2);
    units.settle();
    by_third(&mut units, 3);
    promote(&mut units);
    by_third(&mut units, 4);
    units.switched = None;
    wait(&mut units, 20 * MILLISECOND);
    by_third(&mut units, 5);
    assert_eq!(units.gateway(3).counts()["sessions_created"], 1);
    assert_eq!(units.gateway(3).counts().get("sessions_adopted"), None);
}

#[test]
fn packets_to_the_gateway_itself_are_not_answered_by_who_is_not_primary() {
    let (mut units, _) = before();
    relay(&mut units);
    let ping = frames::echo(LAN, &Tuple::v4(CLIENT, 9, LAN_ADDRESS, 0, 1));
    let to_unit = frames::echo(LAN, &Tuple::v4(CLIENT, 9, LAN_UNIT, 0, 1));
    let before = units.gateway(2).counts();
    units.send(LAN, &ping);
    units.send(LAN, &to_unit);
    units.run();
    assert!(units.got(LAN).is_empty());
    assert_eq!(
        units.unit(1).punted().len(),
        1,
        "its own address it answers for"
    );
    let stale = units.gateway(2).counts()["drop redirect_stale"];
    assert_eq!(stale - before.get("drop redirect_stale").unwrap_or(&0), 1);
}

#[test]
fn a_marker_of_a_stranger_is_the_control_cores_business() {
    let (mut units, _) = before();
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&own_mac(2, LAN).0);
    frame[6..12].copy_from_slice(&CLIENT_MAC.0);
    frame[12..21].copy_from_slice(&[0x88, 0xb5, 2, 240, 0, 0, 1, 2, 1]);
    units.send(LAN, &frame);
    units.run();
    assert_eq!(units.unit(2).punted().len(), 1);
    assert_eq!(units.gateway(2).counts().get("markers_taken"), None);
    let syn = frames::tcp(
        LAN,
        &Tuple {
            protocol: 6,
            ..tuple(1)
        },
        SYN,
        1,
        0,
    );
    assert_eq!(units.through(LAN, &syn, WAN).len(), 1);
}
