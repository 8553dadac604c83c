//! Several units share the sessions: the primary passes packets on, their owners process them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::collections::BTreeSet;

use common::frames::{self, ACK, FIN, Ip, NO_SEGMENT, SYN, USUAL, macs, sound};
use common::units::{Site, Units, own_mac, to_unit};
use common::*;
use forward::{InterfaceId, Pick, Policy, PolicyAction, TableCommand};
use packet::{Mac, Tuple};
use session::State;

fn udp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 53, 17)
}

fn tcp_tuple(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 80, 6)
}

fn only(frames: Vec<Vec<u8>>) -> Vec<u8> {
    let [frame] = &frames[..] else {
        panic!("{} frames instead of one", frames.len());
    };
    frame.clone()
}

/// From which MAC a frame came, and whether all of it is sound.
#[track_caller]
fn sent_by(frame: &[u8]) -> Mac {
    sound(frame);
    macs(frame).1
}

#[test]
fn the_owner_translates_and_sends_from_its_own_mac() {
    let mut units = Units::pair(2, vec![masquerade(), inbound()]);
    let [primary, owner] = [1, 2].map(|unit| units.gateway(unit).counts());
    let tuple = udp_tuple(4_000);
    let out = only(units.through(LAN, &frames::udp(LAN, &tuple, b"question"), WAN));
    let hidden = sound(&out).tuple;
    assert_eq!(macs(&out), (SERVER_MAC, own_mac(2, WAN)));
    assert_eq!(hidden.src_v4(), Some(WAN_ADDRESS));
    assert_eq!(hidden.src_port % 16, 1, "a port of unit 2");
    assert_eq!(sound(&out).ttl, 63, "passing on costs no hop");
    let provisional = units.session(1, &tuple).unwrap();
    assert!(provisional.is_provisional());
    assert_eq!(provisional.owner, 2);
    units.settle();
    let told = units.session(1, &tuple).unwrap();
    assert_eq!((told.owner, told.tuples), (2, [tuple, hidden.reversed()]));

    let reply = frames::udp(WAN, &hidden.reversed(), b"answer");
    let back = only(units.through(WAN, &reply, LAN));
    assert_eq!(sound(&back).tuple, tuple.reversed());
    assert_eq!(macs(&back), (CLIENT_MAC, own_mac(2, LAN)));
    units.settle();
    let states = [1, 2].map(|unit| units.session(unit, &tuple).unwrap().state);
    assert_eq!(states, [State::Replied; 2]);

    units.gateway(1).assert_moved(
        &primary,
        &[
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 0", 1),
            ("redirected", 2),
            ("sessions_applied", 2),
            ("sessions_assigned", 1),
            ("wan rx", 1),
            ("wan tx", 1),
        ],
    );
    units.gateway(2).assert_moved(
        &owner,
        &[
            ("deltas", 2),
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 0", 1),
            ("redirects_taken", 2),
            ("sessions_created", 1),
            ("source_nat", 1),
            ("wan rx", 1),
            ("wan tx", 1),
        ],
    );
    let owned = [1, 2].map(|unit| units.gateway(1).readers[0].owned(unit));
    assert_eq!(owned, [0, 1]);
}

/// A connection from its SYN to its last ACK, while changes arrive or none does.
fn connection(policies: Vec<Policy>, told: bool) {
    let mut units = Units::pair(2, policies);
    let tuple = tcp_tuple(4_000);
    let step = |units: &mut Units, from: InterfaceId, to, frame: Vec<u8>| {
        let out = only(units.through(from, &frame, to));
        assert_eq!(sent_by(&out), own_mac(2, to));
        if told {
            units.settle();
        }
        sound(&out).tuple
    };
    let lan = |flags, seq, ack| frames::tcp(LAN, &tuple, flags, seq, ack);
    let hidden = step(&mut units, LAN, WAN, lan(SYN, 100, 0));
    let wan = |flags, seq, ack| frames::tcp(WAN, &hidden.reversed(), flags, seq, ack);
    assert_eq!(
        step(&mut units, WAN, LAN, wan(SYN | ACK, 900, 101)),
        tuple.reversed()
    );
    assert_eq!(step(&mut units, LAN, WAN, lan(ACK, 101, 901)), hidden);
    let state = |units: &Units| units.session(2, &tuple).unwrap().state;
    assert_eq!(state(&units), State::Established);
    step(&mut units, LAN, WAN, lan(ACK, 101, 901));
    step(&mut units, WAN, LAN, wan(ACK, 901, 101));
    step(&mut units, LAN, WAN, lan(FIN | ACK, 101, 901));
    step(&mut units, WAN, LAN, wan(FIN | ACK, 901, 102));
    step(&mut units, LAN, WAN, lan(ACK, 102, 902));
    assert_eq!(state(&units), State::TimeWait);
    units.settle();
    assert_eq!(units.session(1, &tuple).unwrap().state, State::TimeWait);
    let counts = units.gateway(1).counts();
    assert_eq!(counts["redirected"], 8);
    assert_eq!(counts["sessions_assigned"], 1);
    assert_eq!(units.gateway(2).counts()["sessions_created"], 1);
}

#[test]
fn a_translated_connection_lives_at_its_owner() {
    connection(vec![masquerade()], true);
}

#[test]
fn a_plain_connection_lives_at_its_owner() {
    connection(vec![plain()], true);
}

#[test]
fn replies_find_the_owner_before_it_has_told_of_the_session() {
    connection(vec![masquerade()], false);
    connection(vec![plain()], false);
}

#[test]
fn an_echo_and_its_reply_find_the_owner_before_it_told() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = Tuple::v4(CLIENT, 77, SERVER, 0, 1);
    let out = only(units.through(LAN, &frames::echo(LAN, &tuple), WAN));
    let reply = frames::echo(WAN, &sound(&out).tuple.reversed());
    let back = only(units.through(WAN, &reply, LAN));
    assert_eq!(sound(&back).tuple, tuple.reversed());
    assert_eq!(sent_by(&back), own_mac(2, LAN));
}

#[test]
fn errors_and_fragments_follow_their_session() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = udp_tuple(4_000);
    let out = only(units.through(LAN, &frames::udp(LAN, &tuple, b"x"), WAN));
    // Before the owner told, and after.
    for _ in 0..2 {
        let error = frames::too_big(WAN, ROUTER, &out, 1_280);
        let back = only(units.through(WAN, &error, LAN));
        assert_eq!(sent_by(&back), own_mac(2, LAN));
        assert_eq!(sound(&back).tuple.dst_v4(), Some(CLIENT));
        units.settle();
    }
    let piece = |offset, more, payload: &[u8]| {
        let ip = Ip {
            fragment: (offset, more),
            ..USUAL
        };
        frames::fragment(LAN, &tuple, ip, payload)
    };
    let mut datagram = [0; 32];
    datagram[..6].copy_from_slice(&[0x0f, 0xa0, 0, 53, 0, 40]);
    let first = only(units.through(LAN, &piece(0, true, &datagram), WAN));
    let second = only(units.through(LAN, &piece(4, false, b"the rest"), WAN));
    for fragment in [first, second] {
        assert_eq!(macs(&fragment).1, own_mac(2, WAN));
        assert_eq!(fragment[26..30], WAN_ADDRESS.octets());
    }
}

#[test]
fn answers_of_an_owner_go_to_who_sent_the_packet() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = udp_tuple(4_000);
    units.through(LAN, &frames::udp(LAN, &tuple, b"x"), WAN);
    units.settle();
    let spent = frames::packet(LAN, &tuple, Ip { ttl: 1, ..USUAL }, NO_SEGMENT, b"x");
    let answer = only(units.through(LAN, &spent, LAN));
    assert_eq!(macs(&answer), (CLIENT_MAC, own_mac(2, LAN)));
    assert_eq!(
        answer[26..30],
        LAN_ADDRESS.octets(),
        "it speaks for the cluster"
    );
}

#[test]
fn new_sessions_go_in_turn_and_stay_where_they_are() {
    let mut units = Units::new(Site {
        workers: vec![1, 1, 1],
        pick: Pick::InTurn,
        slots: vec![1, 2, 3],
        policies: vec![masquerade()],
    });
    for port in 1..=30 {
        let frame = frames::udp(LAN, &udp_tuple(port), b"x");
        let first = only(units.through(LAN, &frame, WAN));
        // Nothing has been told, and it is another one's turn.
        let second = only(units.through(LAN, &frame, WAN));
        assert_eq!(first, second);
    }
    units.settle();
    for unit in 1..=3 {
        let gateway = units.gateway(unit);
        assert_eq!(gateway.counts()["sessions_created"], 10);
        let owned = [1, 2, 3].map(|owner| gateway.readers[0].owned(owner));
        assert_eq!(owned, [10; 3], "unit {unit} knows whose all are");
    }
}

#[test]
fn the_unit_with_the_fewest_sessions_gets_the_next_one() {
    let mut units = Units::new(Site {
        workers: vec![1, 1, 1],
        pick: Pick::Fewest,
        slots: vec![1],
        policies: vec![masquerade()],
    });
    let begin = |units: &mut Units, ports: std::ops::Range<u16>| {
        for port in ports {
            only(units.through(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"), WAN));
        }
        [1, 2, 3].map(|owner| units.gateway(1).readers[0].owned(owner))
    };
    assert_eq!(begin(&mut units, 1..21), [20, 0, 0]);
    units.deal(vec![1, 2, 3, 3]);
    // What was handed out counts before anybody tells of it.
    assert_eq!(begin(&mut units, 21..61), [20, 14, 26]);
    units.settle();
    assert_eq!(begin(&mut units, 61..81), [20, 20, 40]);
    assert_eq!(begin(&mut units, 81..101), [25, 25, 50]);
}

#[test]
fn what_policy_refuses_is_not_passed_on() {
    let denied = Policy {
        protocols: vec![17],
        ..Policy::any("no", PolicyAction::Deny)
    };
    let mut units = Units::pair(2, vec![denied, masquerade()]);
    let before = units.gateway(1).counts();
    assert!(
        units
            .through(LAN, &frames::udp(LAN, &udp_tuple(1), b"x"), WAN)
            .is_empty()
    );
    let lost = frames::tcp(LAN, &tcp_tuple(1), ACK, 1, 1);
    assert!(units.through(LAN, &lost, WAN).is_empty());
    units.gateway(1).assert_moved(
        &before,
        &[
            ("drop policy_deny", 1),
            ("drop tcp_not_syn", 1),
            ("lan rx", 2),
            ("policy 0", 1),
            ("policy 1", 1),
        ],
    );
}

#[test]
fn sessions_of_a_dead_owner_go_on_at_the_primary() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = udp_tuple(4_000);
    let frame = frames::udp(LAN, &tuple, b"x");
    let hidden = sound(&only(units.through(LAN, &frame, WAN))).tuple;
    units.settle();
    units.kill(2);
    let before = units.gateway(1).counts();
    let out = only(units.through(LAN, &frame, WAN));
    assert_eq!(sound(&out).tuple, hidden, "the translation stays");
    assert_eq!(sent_by(&out), virtual_mac(WAN));
    assert_eq!(units.session(1, &tuple).unwrap().owner, 1);
    units.gateway(1).assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("lan rx", 1),
            ("sessions_adopted", 1),
            ("wan tx", 1),
        ],
    );
}

#[test]
fn a_session_that_died_with_its_owner_begins_anew() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = udp_tuple(4_000);
    let frame = frames::udp(LAN, &tuple, b"x");
    units.through(LAN, &frame, WAN);
    units.kill(2);
    // Several in one burst: the first ends what was provisional and begins the session.
    for _ in 0..3 {
        units.send(LAN, &frame);
    }
    units.run();
    let out = units.got(WAN);
    assert_eq!(out.len(), 3);
    assert!(
        out.iter()
            .all(|frame| sound(frame).tuple.src_port.is_multiple_of(16))
    );
    assert_eq!(units.gateway(1).counts()["sessions_created"], 1);
    assert_eq!(units.gateway(1).readers[0].len(), 1);
}

#[test]
fn sessions_of_a_unit_in_maintenance_move_as_they_are() {
    let mut units = Units::new(Site {
        workers: vec![1, 1, 1],
        pick: Pick::InTurn,
        slots: vec![2],
        policies: vec![masquerade()],
    });
    let tuple = tcp_tuple(4_000);
    let syn = frames::tcp(LAN, &tuple, SYN, 100, 0);
    let hidden = sound(&only(units.through(LAN, &syn, WAN))).tuple;
    let answer = frames::tcp(WAN, &hidden.reversed(), SYN | ACK, 900, 101);
    units.through(WAN, &answer, LAN);
    units.through(LAN, &frames::tcp(LAN, &tuple, ACK, 101, 901), WAN);
    units.settle();
    units.excused = vec![2];
    units.slots = vec![3];
    units.publish(TERM);
    let [primary, third] = [1, 3].map(|unit| units.gateway(unit).counts());
    for _ in 0..2 {
        let frame = frames::tcp(LAN, &tuple, ACK, 101, 901);
        let out = only(units.through(LAN, &frame, WAN));
        assert_eq!(sound(&out).tuple, hidden);
        assert_eq!(sent_by(&out), own_mac(3, WAN));
    }
    units.gateway(1).assert_moved(
        &primary,
        &[
            ("lan rx", 2),
            ("lan tx", 2),
            ("redirected", 2),
            ("sessions_reassigned", 1),
        ],
    );
    units.gateway(3).assert_moved(
        &third,
        &[
            ("deltas", 1),
            ("lan rx", 2),
            ("redirects_taken", 2),
            ("sessions_adopted", 1),
            ("wan tx", 2),
        ],
    );
    units.settle();
    let owners = [1, 2, 3].map(|unit| units.session(unit, &tuple).unwrap().owner);
    assert_eq!(owners, [3; 3]);
}

#[test]
fn who_hands_a_session_on_answers_for_it_until_the_new_owner_tells() {
    let mut units = Units::new(Site {
        workers: vec![1, 1, 1],
        pick: Pick::InTurn,
        slots: vec![2],
        policies: vec![masquerade()],
    });
    let [aged, restated] = [4_000, 4_001].map(udp_tuple);
    for tuple in [aged, restated] {
        units.through(LAN, &frames::udp(LAN, &tuple, b"x"), WAN);
    }
    units.settle();
    units.excused = vec![2];
    units.slots = vec![3];
    units.publish(TERM);
    for tuple in [aged, restated] {
        units.send(LAN, &frames::udp(LAN, &tuple, b"x"));
        units.unit(1).turn();
        assert_eq!(units.unit(1).sent(LAN).len(), 1, "and lost on its way");
        let handed = units.session(1, &tuple).unwrap();
        assert_eq!((handed.owner, handed.as_told_by(1).owner), (3, 1));
    }
    let restate = TableCommand::Restate(restated);
    units.unit(1).control[0].commands.push(restate).unwrap();
    units.run();
    units.settle();
    let owners = [1, 2, 3].map(|unit| units.session(unit, &restated).unwrap().owner);
    assert_eq!(owners, [1; 3], "it is told as its own");
    assert_eq!(units.session(1, &aged).unwrap().owner, 3);
    units.pass(301);
    units.run();
    units.settle();
    for unit in [1, 2, 3] {
        assert!(units.session(unit, &aged).is_none(), "unit {unit}");
    }
}

#[test]
fn a_unit_that_may_own_no_more_keeps_what_it_has_not_told_of() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let frame = frames::udp(LAN, &udp_tuple(4_000), b"x");
    let first = only(units.through(LAN, &frame, WAN));
    units.excused = vec![2];
    units.slots = vec![1];
    units.publish(TERM);
    assert_eq!(
        only(units.through(LAN, &frame, WAN)),
        first,
        "one translation"
    );
    units.settle();
    let then = only(units.through(LAN, &frame, WAN));
    assert_eq!(sound(&then).tuple, sound(&first).tuple);
    assert_eq!(
        sent_by(&then),
        virtual_mac(WAN),
        "known now, and the primary's"
    );
}

#[test]
fn replies_to_nobody_end_at_the_unit_whose_port_it_would_be() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let [primary, owner] = [1, 2].map(|unit| units.gateway(unit).counts());
    let to = |port| Tuple::v4(SERVER, 53, WAN_ADDRESS, port, 17);
    for port in [2_001, 2_001 + 16, 1_009, 2_002] {
        assert!(
            units
                .through(WAN, &frames::udp(WAN, &to(port), b"x"), LAN)
                .is_empty()
        );
    }
    // Unit 2 has two of the ports; one is too low, and one is of a unit that there is not.
    units.gateway(1).assert_moved(
        &primary,
        &[
            ("punted_local", 2),
            ("redirected", 2),
            ("wan rx", 4),
            ("wan tx", 2),
        ],
    );
    units.gateway(2).assert_moved(
        &owner,
        &[
            ("drop redirect_stale", 2),
            ("redirects_taken", 2),
            ("wan rx", 2),
        ],
    );
}

#[test]
fn a_session_that_its_owner_never_tells_of_is_forgotten() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let tuple = udp_tuple(4_000);
    units.send(LAN, &frames::udp(LAN, &tuple, b"x"));
    units.unit(1).turn();
    assert!(units.session(1, &tuple).unwrap().is_provisional());
    let before = units.gateway(1).counts();
    // Packets do not keep it: who tells nothing for so long does not have it.
    for _ in 0..4 {
        units.pass(90);
        units.send(LAN, &frames::udp(LAN, &tuple, b"x"));
        units.unit(1).turn();
    }
    let counts = units.gateway(1).counts();
    assert_eq!(counts["provisional_expired"], 1);
    assert_eq!(counts["sessions_assigned"], 2);
    assert_eq!(
        counts.get("deltas"),
        before.get("deltas"),
        "nobody hears of it"
    );
}

#[test]
fn the_owner_ages_its_sessions_and_the_primary_those_of_the_dead() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let [at_owner, at_dead] = [4_000, 4_001].map(udp_tuple);
    units.through(LAN, &frames::udp(LAN, &at_owner, b"x"), WAN);
    units.settle();
    units.pass(301);
    units.run();
    assert!(units.session(2, &at_owner).is_none(), "thirty seconds");
    assert!(units.session(1, &at_owner).is_some(), "not its to end");
    units.settle();
    assert!(units.session(1, &at_owner).is_none(), "told");
    assert_eq!(units.gateway(2).counts()["sessions_expired"], 1);

    units.through(LAN, &frames::udp(LAN, &at_dead, b"x"), WAN);
    units.settle();
    units.kill(2);
    units.pass(301);
    units.run();
    assert!(
        units.session(1, &at_dead).is_some(),
        "a second time to live"
    );
    units.pass(301);
    units.run();
    assert!(units.session(1, &at_dead).is_none());
}

#[test]
fn only_units_reach_an_owner_by_its_own_mac() {
    let mut units = Units::pair(2, vec![masquerade()]);
    let before = units.gateway(2).counts();
    let frame = to_unit(2, LAN, frames::udp(LAN, &udp_tuple(1), b"x"));
    let spent = frames::packet(LAN, &udp_tuple(2), Ip { ttl: 1, ..USUAL }, NO_SEGMENT, b"x");
    units.send(LAN, &frame);
    units.send(LAN, &to_unit(2, LAN, spent));
    units.run();
    assert!(units.got(WAN).is_empty() && units.got(LAN).is_empty());
    units
        .gateway(2)
        .assert_moved(&before, &[("drop not_primary", 2), ("lan rx", 2)]);
}

#[test]
fn what_was_passed_on_is_not_passed_on_again() {
    // Both believe that the other owns the session, and that they are primary.
    let mut units = Units::pair(2, vec![plain()]);
    units.duties.insert(2, forward::Duty::Primary);
    units.slots = vec![1, 2];
    units.publish(TERM);
    for port in 0..8 {
        units.send(LAN, &frames::udp(LAN, &udp_tuple(port), b"once"));
        units.unit(1).turn();
        let passed = units.unit(1).sent(LAN);
        let Some(passed) = passed.first() else {
            continue;
        };
        units.unit(2).send(LAN, passed);
        units.unit(2).turn();
        assert!(units.unit(2).sent(LAN).is_empty(), "not back to unit 1");
        assert_eq!(units.unit(2).sent(WAN).len(), 1);
    }
    assert_eq!(units.gateway(2).counts().get("redirected"), None);
    assert!(units.gateway(2).counts()["sessions_created"] >= 3);
}

#[test]
fn units_with_different_numbers_of_workers_share_sessions() {
    let mut units = Units::new(Site {
        workers: vec![3, 1, 2],
        pick: Pick::Tuple,
        slots: vec![1, 2, 3, 2],
        policies: vec![masquerade()],
    });
    let mut owners = BTreeSet::new();
    for port in 1_000..1_060 {
        let tuple = udp_tuple(port);
        let out = only(units.through(LAN, &frames::udp(LAN, &tuple, b"x"), WAN));
        let hidden = sound(&out).tuple;
        if port % 2 == 0 {
            units.settle();
        }
        let reply = frames::udp(WAN, &hidden.reversed(), b"y");
        let back = only(units.through(WAN, &reply, LAN));
        assert_eq!(sound(&back).tuple, tuple.reversed());
        let again = only(units.through(LAN, &frames::udp(LAN, &tuple, b"z"), WAN));
        assert_eq!(sound(&again).tuple, hidden);
        assert_eq!(sent_by(&again), sent_by(&out));
        owners.insert(hidden.src_port % 16 + 1);
        units.settle();
    }
    assert_eq!(owners, BTreeSet::from([1, 2, 3]));
}

#[test]
fn the_same_hosts_have_the_same_owner_by_address() {
    let mut units = Units::new(Site {
        workers: vec![2, 1, 1],
        pick: Pick::Addresses,
        slots: vec![1, 2, 3],
        policies: vec![masquerade()],
    });
    let owners: BTreeSet<u16> = (1_000..1_030)
        .map(|port| {
            let out = only(units.through(LAN, &frames::udp(LAN, &udp_tuple(port), b"x"), WAN));
            sound(&out).tuple.src_port % 16
        })
        .collect();
    assert_eq!(owners.len(), 1);
}

#[test]
fn a_new_primary_keeps_every_owner_that_is_alive() {
    let mut units = Units::new(Site {
        workers: vec![1, 1, 1],
        pick: Pick::InTurn,
        slots: vec![1, 2, 3],
        policies: vec![masquerade()],
    });
    let frame = |port| frames::udp(LAN, &udp_tuple(port), b"x");
    let hidden: Vec<Tuple> = (1..=9)
        .map(|port| sound(&only(units.through(LAN, &frame(port), WAN))).tuple)
        .collect();
    units.settle();
    units.primary = 2;
    units.slots = vec![2, 3];
    units.kill(1);
    let adopted: Vec<u64> = (1..=9)
        .zip(&hidden)
        .map(|(port, hidden)| {
            let out = only(units.through(LAN, &frame(port), WAN));
            assert_eq!(sound(&out).tuple, *hidden);
            let by_third = sent_by(&out) == own_mac(3, WAN);
            assert!(by_third || sent_by(&out) == virtual_mac(WAN));
            u64::from(by_third)
        })
        .collect();
    // Three of the third unit, and what was the first's is shared by both.
    assert!(adopted.iter().sum::<u64>() >= 4, "{adopted:?}");
    let kept = units.gateway(3).counts();
    assert_eq!(kept["sessions_created"], 3);
}
