//! Every role against every event.

use super::*;
use Role::Isolated as I;

type Event = (&'static str, fn(&mut Bench), [Role; 5]);

/// What each event makes of a candidate, subordinate, primary, isolated and held-out unit.
const TABLE: [Event; 17] = [
    (
        "a primary of a higher term",
        |b| b.beat(|h| (h.role, h.term) = (P, 33)),
        [S, S, S, I, M],
    ),
    (
        "a primary of no term",
        |b| b.beat(|h| h.role = P),
        [S, S, P, I, M],
    ),
    ("an equal subordinate", |b| b.beat(|_| {}), [C, P, P, I, M]),
    (
        "an unverified primary",
        |b| {
            b.beat(|h| {
                h.role = P;
                h.heard.clear();
            })
        },
        [C, S, P, I, M],
    ),
    ("silence", |b| b.idle(40), [C, P, P, I, M]),
    (
        "silence beyond the hold-down",
        |b| b.idle(110),
        [P, P, P, I, M],
    ),
    ("workers stop", |b| b.workers(false), [I, I, I, I, M]),
    ("workers run", |b| b.workers(true), [C, S, P, C, M]),
    (
        "the monitored link fails",
        |b| {
            b.node.handle_link(LinkId(1), false, b.now);
            b.drain();
        },
        [I, S, S, I, M],
    ),
    (
        "maintenance begins",
        |b| {
            _ = b.command(Command::Maintenance(true));
        },
        [M, M, M, M, M],
    ),
    (
        "maintenance ends",
        |b| {
            _ = b.command(Command::Maintenance(false));
        },
        [C, S, P, I, C],
    ),
    (
        "fail over",
        |b| {
            _ = b.command(Command::Failover { to: None });
        },
        [C, S, S, I, M],
    ),
    (
        "leave",
        |b| {
            _ = b.command(Command::Leave);
        },
        [C, S, S, I, M],
    ),
    (
        "the peer yields to this unit",
        |b| {
            b.beat(|h| {
                h.yielding = true;
                h.eligible = false;
                h.successor = UnitId::new(1);
            })
        },
        [C, P, P, I, M],
    ),
    (
        "the peer yields to another",
        |b| {
            b.beat(|h| {
                h.yielding = true;
                h.eligible = false;
                h.successor = UnitId::new(3);
            })
        },
        // The other is not heard here, but may be by the one that yields.
        [C, C, P, I, M],
    ),
    (
        "the peer leaves",
        |b| {
            b.beat(|h| {
                h.leaving = true;
                h.eligible = false;
            })
        },
        [C, P, P, I, M],
    ),
    (
        "a healthier subordinate",
        |b| {
            b.beat(|h| {
                h.health = Health {
                    healthy: 2,
                    total: 2,
                }
            })
        },
        [C, C, S, I, M],
    ),
];

#[test]
fn every_role_meets_every_event() {
    for (name, happen, expected) in TABLE {
        for (from, to) in [C, S, P, I, M].into_iter().zip(expected) {
            let mut bench = Bench::in_role(from);
            happen(&mut bench);
            assert_eq!(bench.node.role(), to, "{name}, when {from}");
        }
    }
}

#[test]
fn who_does_not_take_the_role_is_given_it_ever_less_often() {
    let better = |beat: &mut Heartbeat| {
        beat.health = Health {
            healthy: 2,
            total: 2,
        };
    };
    let mut bench = Bench::in_role(P);
    bench.pass(120_000, better);
    let given = bench.node.transitions().filter(|t| t.from == P);
    let times: Vec<Time> = given.map(|t| t.time).collect();
    let pauses: Vec<u64> = times
        .windows(2)
        .map(|t| t[1].since(t[0]).as_secs())
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32]);
    // A command is obeyed all the same.
    bench
        .command(Command::Failover { to: Some(unit(2)) })
        .unwrap();
    bench.pass(1_100, better);
    let last = bench.node.transitions().rfind(|t| t.from == P).unwrap();
    assert!(last.time > times[times.len() - 1]);
}
