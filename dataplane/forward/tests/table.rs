//! The table behind the packets: limits, ageing, changes of other cores, sessions of other units.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, ACK, SYN, sound};
use common::*;
use forward::{DeltaKind, Limits, TableCommand};
use packet::Tuple;
use session::{Flags, State, Timeouts, Version};

fn udp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 53, 17)
}

fn tcp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 80, 6)
}

#[test]
fn exhausted_ports_refuse_and_disturb_nobody() {
    let mut gateway = Gateway::new(Plan {
        limits: Limits {
            port_probes: 8_192,
            ..Limits::default()
        },
        sessions: 8_192,
        ..Plan::default()
    });
    // A unit has 4,032 ports for each server.
    for port in 1..=4_600u16 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
        if port % 64 == 0 {
            gateway.turn();
        }
    }
    gateway.turn();
    let counts = gateway.counts();
    assert_eq!(counts["sessions_created"], 4_032);
    assert_eq!(counts["drop nat_ports_exhausted"], 4_600 - 4_032);
    let elsewhere = Tuple::v4(CLIENT, 1, FAR, 53, 17);
    gateway.sent(WAN);
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &elsewhere, b"x"), WAN);
    assert_eq!(out.len(), 1, "another server has ports of its own");
}

#[test]
fn a_full_table_evicts_the_half_open_and_keeps_the_rest() {
    let mut gateway = Gateway::new(Plan {
        sessions: 8,
        ..Plan::default()
    });
    let before = gateway.counts();
    for port in 1..=8 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
    }
    gateway.turn();
    for frame in gateway.sent(WAN) {
        gateway.send(
            WAN,
            &frames::udp(WAN, &sound(&frame).tuple.reversed(), b"y"),
        );
    }
    gateway.turn();
    assert_eq!(gateway.sent(LAN).len(), 8);
    for port in 9..=11 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 16),
            ("drop table_full", 3),
            ("lan rx", 11),
            ("lan tx", 8),
            ("policy 0", 11),
            ("sessions_created", 8),
            ("source_nat", 8),
            ("wan rx", 8),
            ("wan tx", 8),
        ],
    );
    assert!(gateway.session(&udp_tuple(1)).is_some());
}

#[test]
fn sessions_evicted_within_a_burst_take_their_packets_along() {
    let mut gateway = Gateway::new(Plan {
        sessions: 4,
        ..Plan::default()
    });
    let before = gateway.counts();
    for port in 1..=10 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
    }
    gateway.turn();
    assert_eq!(gateway.sent(WAN).len(), 4);
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 16),
            ("drop table_full", 6),
            ("lan rx", 10),
            ("policy 0", 10),
            ("sessions_created", 10),
            ("sessions_evicted", 6),
            ("source_nat", 10),
            ("wan tx", 4),
        ],
    );
}

#[test]
fn a_flood_of_handshakes_leaves_a_full_table_to_those_that_are_in_it() {
    const ROOM: u32 = 512;
    const BURSTS: u64 = 40;
    let mut gateway = Gateway::new(Plan {
        sessions: ROOM,
        ..Plan::default()
    });
    // Half of the table is confirmed, the other half is half open.
    let established: Vec<Tuple> = (1..=256).map(udp_tuple).collect();
    for tuples in established.chunks(64) {
        for tuple in tuples {
            gateway.send(LAN, &frames::udp(LAN, tuple, b"x"));
        }
        gateway.turn();
        for frame in gateway.sent(WAN) {
            let reply = sound(&frame).tuple.reversed();
            gateway.send(WAN, &frames::udp(WAN, &reply, b"y"));
        }
        gateway.turn();
        gateway.sent(LAN);
    }
    let mut strangers = (1..).map(|n| Tuple::v4(CLIENT, n, FAR, 80, 6));
    let mut flood = |gateway: &mut Gateway, packets| {
        for tuple in strangers.by_ref().take(packets) {
            gateway.send(LAN, &frames::tcp(LAN, &tuple, SYN, 1, 0));
        }
    };
    for _ in 0..4 {
        flood(&mut gateway, 64);
        gateway.turn();
        gateway.sent(WAN);
    }
    assert_eq!(gateway.readers[0].len(), ROOM);

    // A handshake begins, and its answer is under way while the flood goes on.
    let client = tcp_tuple(9_999);
    gateway.send(LAN, &frames::tcp(LAN, &client, SYN, 100, 0));
    gateway.turn();
    let hidden = sound(&gateway.sent(WAN)[0]).tuple;
    let before = gateway.counts();
    let mut packets = established.iter().cycle();
    for _ in 0..BURSTS {
        flood(&mut gateway, 32);
        for tuple in packets.by_ref().take(32) {
            gateway.send(LAN, &frames::udp(LAN, tuple, b"x"));
        }
        // No idle turn between the bursts.
        let now = gateway.now;
        gateway.workers[0].turn(now);
        gateway.sent(WAN);
    }
    // The grants that were saved up, and one for each turn.
    let evicted = 63 + BURSTS;
    let flooded = BURSTS * 32;
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 2 * evicted),
            ("drop eviction_limited", flooded - evicted),
            ("lan rx", BURSTS * 64),
            ("policy 0", flooded),
            ("sessions_created", evicted),
            ("sessions_evicted", evicted),
            ("source_nat", evicted),
            ("wan tx", flooded + evicted),
        ],
    );
    let answer = frames::tcp(WAN, &hidden.reversed(), SYN | ACK, 900, 101);
    assert_eq!(gateway.pass_through(WAN, &answer, LAN).len(), 1);
    let last = frames::tcp(LAN, &client, ACK, 101, 901);
    assert_eq!(gateway.pass_through(LAN, &last, WAN).len(), 1);
    let client = gateway.session(&client).unwrap();
    assert_eq!(client.state, State::Established);
    assert!(
        established
            .iter()
            .all(|tuple| gateway.session(tuple).is_some())
    );
}

#[test]
fn idle_sessions_end_and_are_reported() {
    let mut gateway = Gateway::new(Plan::default());
    gateway.pass_through(LAN, &frames::udp(LAN, &udp_tuple(4_000), b"x"), WAN);
    let created = gateway.control[0].deltas.pop().unwrap();
    let before = gateway.counts();
    gateway.pass(299);
    gateway.turn();
    assert!(gateway.session(&udp_tuple(4_000)).is_some());
    gateway.pass(2);
    gateway.turn();
    assert!(gateway.session(&udp_tuple(4_000)).is_none());
    gateway.assert_moved(&before, &[("deltas", 1), ("sessions_expired", 1)]);
    let removed = gateway.control[0].deltas.pop().unwrap();
    assert_eq!(removed.kind, DeltaKind::Remove);
    assert_eq!(
        (removed.tuple, removed.version),
        (created.tuple, created.version)
    );
}

#[test]
fn other_timeouts_hold_from_the_next_timer_on() {
    let mut gateway = Gateway::new(Plan::default());
    let with = |udp_unreplied| {
        TableCommand::Timeouts(Timeouts {
            udp_unreplied,
            ..Timeouts::default()
        })
    };
    gateway.pass_through(LAN, &frames::udp(LAN, &udp_tuple(1), b"x"), WAN);
    let before = gateway.counts();
    gateway.control[0].commands.push(with(1_000)).unwrap();
    gateway.pass(301);
    gateway.turn();
    assert!(gateway.session(&udp_tuple(1)).is_some(), "lives longer now");
    gateway.assert_moved(&before, &[]);

    gateway.control[0].commands.push(with(50)).unwrap();
    gateway.turn();
    gateway.pass_through(LAN, &frames::udp(LAN, &udp_tuple(2), b"x"), WAN);
    let before = gateway.counts();
    gateway.pass(51);
    gateway.turn();
    assert!(gateway.session(&udp_tuple(2)).is_none());
    assert!(
        gateway.session(&udp_tuple(1)).is_some(),
        "its timer is set already"
    );
    gateway.assert_moved(&before, &[("deltas", 1), ("sessions_expired", 1)]);
    gateway.pass(700);
    gateway.turn();
    assert!(gateway.session(&udp_tuple(1)).is_none());
}

#[test]
fn many_sessions_end_over_several_turns() {
    let mut gateway = Gateway::new(Plan::default());
    for port in 1..=200 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
        if port % 50 == 0 {
            gateway.turn();
        }
    }
    gateway.sent(WAN);
    gateway.pass(400);
    let now = gateway.now;
    gateway.workers[0].turn(now);
    assert_eq!(gateway.counts()["sessions_expired"], 64);
    for _ in 0..3 {
        gateway.workers[0].turn(now);
    }
    assert_eq!(
        gateway.counts()["sessions_expired"],
        200,
        "{:?}",
        gateway.counts()
    );
}

/// A session that unit 1 had, as its delta says.
fn of_another_unit(tuple: Tuple, state: State) -> session::Session {
    let reply = Tuple::v4(SERVER, tuple.dst_port, WAN_ADDRESS, 1_024, tuple.protocol);
    session::Session {
        tuples: [tuple, reply],
        version: Version::first_of(4),
        state,
        flags: Flags(Flags::SOURCE_NAT),
        owner: 1,
        ..session::Session::default()
    }
}

#[test]
fn a_session_of_another_unit_is_adopted_when_its_packet_comes() {
    let mut gateway = Gateway::new(Plan {
        duty: forward::Duty::Idle,
        ..Plan::default()
    });
    let tuple = tcp_tuple(4_000);
    let remote = of_another_unit(tuple, State::Established);
    gateway.control[0]
        .commands
        .push(TableCommand::Apply(remote, 70_000))
        .unwrap();
    gateway.turn();
    let data = frames::tcp(LAN, &tuple, ACK, 5_000, 6_000);
    let before = gateway.counts();
    assert!(gateway.pass_through(LAN, &data, WAN).is_empty());
    gateway.assert_moved(&before, &[("drop not_primary", 1), ("lan rx", 1)]);

    gateway.set_duty(forward::Duty::Primary, TERM + 1);
    let before = gateway.counts();
    let out = gateway.pass_through(LAN, &data, WAN);
    assert_eq!(sound(&out[0]).tuple, remote.tuples[1].reversed());
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 1),
            ("sessions_adopted", 1),
            ("wan tx", 1),
        ],
    );
    let adopted = gateway.session(&tuple).unwrap();
    assert_eq!(adopted.owner, UNIT);
    assert_eq!(adopted.version.term(), TERM + 1);
    let before = gateway.counts();
    assert_eq!(gateway.pass_through(LAN, &data, WAN).len(), 1);
    gateway.assert_moved(&before, &[("lan rx", 1), ("wan tx", 1)]);
}

#[test]
fn a_subordinate_keeps_sessions_and_a_primary_gives_them_a_second_life() {
    let mut gateway = Gateway::new(Plan {
        duty: forward::Duty::Idle,
        ..Plan::default()
    });
    let tuple = udp_tuple(4_000);
    let remote = of_another_unit(tuple, State::Replied);
    gateway.control[0]
        .commands
        .push(TableCommand::Apply(remote, 100))
        .unwrap();
    gateway.turn();
    for _ in 0..20 {
        gateway.pass(500);
        gateway.turn();
    }
    assert!(
        gateway.session(&tuple).is_some(),
        "the primary says when it ends"
    );
    gateway.set_duty(forward::Duty::Primary, TERM + 1);
    gateway.pass(200);
    gateway.turn();
    assert!(
        gateway.session(&tuple).is_some(),
        "its idle time begins again"
    );
    let before = gateway.counts();
    gateway.pass(3_100);
    gateway.turn();
    assert!(gateway.session(&tuple).is_none());
    gateway.assert_moved(&before, &[("deltas", 1), ("sessions_expired", 1)]);
}

#[test]
fn changes_by_others_are_entered_by_version() {
    let mut gateway = Gateway::new(Plan {
        duty: forward::Duty::Idle,
        sessions: 1,
        ..Plan::default()
    });
    let before = gateway.counts();
    let first = of_another_unit(udp_tuple(1), State::Replied);
    let second = of_another_unit(udp_tuple(2), State::Replied);
    let second = session::Session {
        tuples: [
            second.tuples[0],
            Tuple {
                dst_port: 1_040,
                ..second.tuples[1]
            },
        ],
        ..second
    };
    let commands = [
        TableCommand::Apply(first, 100),
        TableCommand::Apply(
            session::Session {
                version: Version(1),
                ..first
            },
            100,
        ),
        TableCommand::Apply(second, 100),
        TableCommand::Retract(first.tuples[0], Version(1)),
        TableCommand::Retract(first.tuples[0], first.version),
        TableCommand::Apply(second, 100),
        TableCommand::Clear(second.tuples[1]),
        TableCommand::Clear(second.tuples[1]),
    ];
    for command in commands {
        gateway.control[0].commands.push(command).unwrap();
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("remote_full", 1),
            ("remote_stale", 1),
            ("sessions_applied", 2),
            ("sessions_cleared", 1),
            ("sessions_retracted", 1),
        ],
    );
}

#[test]
fn a_worker_is_not_idle_while_changes_wait() {
    let mut gateway = Gateway::new(Plan::default());
    for port in 0..100 {
        let tuple = Tuple::v4(CLIENT, 1_000 + port, SERVER, 443, 6);
        let command = TableCommand::Retract(tuple, Version(1));
        gateway.control[0].commands.push(command).unwrap();
    }
    let now = gateway.now;
    let turns: Vec<usize> = (0..3).map(|_| gateway.workers[0].turn(now)).collect();
    assert_eq!(turns.iter().sum::<usize>(), 100);
    assert!(turns[0] > 0 && turns[1] > 0 && turns[2] == 0, "{turns:?}");
}

#[test]
fn a_full_delta_ring_marks_the_range() {
    let mut gateway = Gateway::new(Plan {
        rings: forward::RingSizes {
            deltas: 2,
            ..forward::RingSizes::default()
        },
        ..Plan::default()
    });
    let before = gateway.counts();
    for port in 1..=4 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
    }
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 4),
            ("deltas_overflowed", 2),
            ("lan rx", 4),
            ("policy 0", 4),
            ("sessions_created", 4),
            ("source_nat", 4),
            ("wan tx", 4),
        ],
    );
    // The tests' ranges are the lower bytes of the source port.
    assert_eq!(gateway.control[0].dirty.take(), [1 << 3 | 1 << 4, 0, 0, 0]);
    assert_eq!(gateway.control[0].dirty.take(), [0; 4]);
}

#[test]
fn one_source_cannot_have_all_sessions() {
    let mut gateway = Gateway::new(Plan {
        per_source: Some(2),
        ..Plan::default()
    });
    for port in 1..=5 {
        gateway.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"));
    }
    let before = gateway.counts();
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 2),
            ("drop source_limit", 3),
            ("lan rx", 5),
            ("policy 0", 5),
            ("sessions_created", 2),
            ("source_nat", 2),
            ("wan tx", 2),
        ],
    );
}
