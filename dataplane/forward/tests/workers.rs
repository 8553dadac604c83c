//! Several workers: every packet of a session is handled by the worker that has it, wherever it
//! arrives.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, ACK, SYN, sound};
use common::*;
use forward::{RingSizes, TableCommand};
use packet::Tuple;
use packet::toeplitz::Steering;

const WORKERS: u16 = 4;

fn cluster() -> Gateway {
    Gateway::new(Plan {
        workers: WORKERS,
        ..Plan::default()
    })
}

/// Worker that hardware with our key would give the tuple to.
fn home(tuple: &Tuple) -> usize {
    Steering::even(WORKERS).worker(tuple).into()
}

fn datagram(port: u16) -> Tuple {
    Tuple::v4(CLIENT, port, SERVER, 53, 17)
}

#[test]
fn steered_by_hardware_nothing_is_handed_over() {
    let mut gateway = cluster();
    for port in 1_000..1_200 {
        let tuple = datagram(port);
        gateway.send_to(home(&tuple), LAN, &frames::udp(LAN, &tuple, b"x"));
        gateway.turn();
        let out = gateway.sent(WAN);
        let reply = sound(&out[0]).tuple.reversed();
        assert_eq!(
            home(&reply),
            home(&tuple),
            "replies come to the same worker"
        );
        gateway.send_to(home(&reply), WAN, &frames::udp(WAN, &reply, b"y"));
        gateway.turn();
        assert_eq!(sound(&gateway.sent(LAN)[0]).tuple, tuple.reversed());
    }
    let counts = gateway.counts();
    assert_eq!(counts.get("handed_over"), None);
    assert_eq!(counts["sessions_created"], 200);
    assert!(gateway.readers.iter().all(|reader| reader.len() > 20));
}

#[test]
fn arriving_anywhere_packets_reach_the_worker_of_their_session() {
    let mut gateway = cluster();
    let (mut handed, before) = (0, gateway.counts());
    for port in 1_000..1_100 {
        let tuple = datagram(port);
        let arrives = usize::from(port) % 4;
        gateway.send_to(arrives, LAN, &frames::udp(LAN, &tuple, b"x"));
        gateway.turn();
        let out = gateway.sent(WAN);
        let reply = sound(&out[0]).tuple.reversed();
        gateway.send_to((arrives + 1) % 4, WAN, &frames::udp(WAN, &reply, b"y"));
        gateway.turn();
        assert_eq!(sound(&gateway.sent(LAN)[0]).tuple, tuple.reversed());
        let elsewhere = |queue| u64::from(home(&tuple) != queue);
        handed += elsewhere(arrives) + elsewhere((arrives + 1) % 4);
    }
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 200),
            ("handed_over", handed),
            ("lan rx", 100),
            ("lan tx", 100),
            ("policy 0", 100),
            ("sessions_created", 100),
            ("source_nat", 100),
            ("taken_over", handed),
            ("wan rx", 100),
            ("wan tx", 100),
        ],
    );
}

#[test]
fn replies_that_steer_elsewhere_are_found_in_the_other_shards() {
    let mut gateway = cluster();
    let mut elsewhere = 0;
    for port in 5_000..5_050 {
        // Inward through destination NAT: the reply tuple is what it is.
        let tuple = Tuple::v4(FAR, port, WAN_ADDRESS, 8_080, 6);
        let queue = home(&tuple);
        gateway.send_to(queue, WAN, &frames::tcp(WAN, &tuple, SYN, 100, 0));
        gateway.turn();
        let reply = sound(&gateway.sent(LAN)[0]).tuple.reversed();
        elsewhere += u64::from(home(&reply) != queue);
        let answer = frames::tcp(LAN, &reply, SYN | ACK, 900, 101);
        gateway.send_to(home(&reply), LAN, &answer);
        gateway.turn();
        assert_eq!(sound(&gateway.sent(WAN)[0]).tuple, tuple.reversed());
    }
    assert!(elsewhere > 10);
    assert_eq!(gateway.counts()["handed_over"], elsewhere);
}

#[test]
fn echoes_come_back_through_any_worker() {
    let mut gateway = cluster();
    for id in 1..=64 {
        let tuple = Tuple::v4(CLIENT, id, SERVER, 0, 1);
        gateway.send_to(home(&tuple), LAN, &frames::echo(LAN, &tuple));
        gateway.turn();
        let reply = sound(&gateway.sent(WAN)[0]).tuple.reversed();
        gateway.send_to(home(&reply), WAN, &frames::echo(WAN, &reply));
        gateway.turn();
        assert_eq!(sound(&gateway.sent(LAN)[0]).tuple, tuple.reversed());
    }
}

#[test]
fn errors_come_to_the_session_by_what_they_quote() {
    let mut gateway = cluster();
    for port in 1_000..1_020 {
        let tuple = datagram(port);
        gateway.send_to(home(&tuple), LAN, &frames::udp(LAN, &tuple, b"x"));
        gateway.turn();
        let out = gateway.sent(WAN);
        let error = frames::too_big(WAN, ROUTER, &out[0], 1_280);
        gateway.send_to(usize::from(port) % 4, WAN, &error);
        gateway.turn();
        assert_eq!(sound(&gateway.sent(LAN)[0]).tuple, tuple.reversed());
    }
}

#[test]
fn sessions_in_a_foreign_shard_keep_their_ports() {
    // As after a restart with another number of workers: the session lies where nothing steers.
    let mut gateway = cluster();
    let tuple = datagram(1_000);
    let out = {
        gateway.send_to(home(&tuple), LAN, &frames::udp(LAN, &tuple, b"x"));
        gateway.turn();
        gateway.sent(WAN)
    };
    let hidden = sound(&out[0]).tuple;
    let session = gateway.session(&tuple).unwrap();
    let foreign = (home(&tuple) + 1) % 4;
    let mut restarted = cluster();
    let command = TableCommand::Apply(session, 300);
    restarted.control[foreign].commands.push(command).unwrap();
    restarted.turn();
    let before = restarted.counts();
    for (queue, frame, from, to, expected) in [
        (
            home(&tuple),
            frames::udp(LAN, &tuple, b"x"),
            LAN,
            WAN,
            hidden,
        ),
        (
            (foreign + 2) % 4,
            frames::udp(WAN, &hidden.reversed(), b"y"),
            WAN,
            LAN,
            tuple.reversed(),
        ),
    ] {
        restarted.send_to(queue, from, &frame);
        restarted.turn();
        assert_eq!(sound(&restarted.sent(to)[0]).tuple, expected);
    }
    let created = restarted.counts().get("sessions_created").copied();
    assert_eq!((created, before.get("sessions_created")), (None, None));
}

#[test]
fn a_full_ring_between_workers_drops_and_counts() {
    let mut gateway = Gateway::new(Plan {
        workers: 2,
        rings: RingSizes {
            handover: 2,
            ..RingSizes::default()
        },
        ..Plan::default()
    });
    let steering = Steering::even(2);
    let foreign: Vec<Tuple> = (1_000..)
        .map(datagram)
        .filter(|tuple| steering.worker(tuple) == 1)
        .take(5)
        .collect();
    for tuple in &foreign {
        gateway.send_to(0, LAN, &frames::udp(LAN, tuple, b"x"));
    }
    let before = gateway.counts();
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 2),
            ("drop handover_full", 3),
            ("handed_over", 2),
            ("lan rx", 5),
            ("policy 0", 2),
            ("sessions_created", 2),
            ("source_nat", 2),
            ("taken_over", 2),
            ("wan tx", 2),
        ],
    );
}

#[test]
fn a_packet_whose_session_ended_on_the_way_goes_no_further() {
    let mut gateway = cluster();
    // A session in the shard of a worker that its reply tuple does not steer to.
    let (tuple, reply) = (5_000..6_000)
        .map(|port| Tuple::v4(FAR, port, WAN_ADDRESS, 8_080, 17))
        .map(|tuple| (tuple, Tuple::v4(CLIENT, 80, FAR, tuple.src_port, 17)))
        .find(|(tuple, reply)| home(tuple) != home(reply))
        .unwrap();
    let (owner, other) = (home(&tuple), home(&reply));
    gateway.send_to(owner, WAN, &frames::udp(WAN, &tuple, b"x"));
    gateway.turn();
    assert_eq!(gateway.sent(LAN).len(), 1);
    gateway.send_to(other, LAN, &frames::udp(LAN, &reply, b"y"));
    let before = gateway.counts();
    let now = gateway.now;
    gateway.workers[other].turn(now);
    let clear = TableCommand::Clear(tuple);
    gateway.control[owner].commands.push(clear).unwrap();
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("drop handover_stale", 1),
            ("handed_over", 1),
            ("lan rx", 1),
            ("sessions_cleared", 1),
            ("taken_over", 1),
        ],
    );
}
