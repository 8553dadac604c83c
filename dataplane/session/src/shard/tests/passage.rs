//! What packets do to their session, through the shard.

use packet::tcp::PSH;

use super::*;
use crate::rewrite::{Path, Rewrite};

const UNIT: u8 = 1;

fn both(id: SessionId) -> [Hit; 2] {
    [Direction::Original, Direction::Reply].map(|direction| Hit::new(id, direction))
}

/// The tuple that a rewrite makes of packets of UDP.
fn leaving(rewrite: Rewrite) -> Tuple {
    Key::v4(rewrite.addresses, rewrite.ports, 17).tuple()
}

#[test]
fn a_datagram_passes_the_short_way_when_it_changes_nothing() {
    let mut shard = shard(1);
    let id = shard.insert(session(7), NOW).unwrap().id;
    let [to, back] = both(id);
    let now = NOW.plus(5);
    assert_eq!(
        shard.pass_datagram(back, UNIT, now),
        None,
        "an answer is a change"
    );
    assert_eq!(shard.session(id).last_seen, NOW);
    let rewrite = shard.pass_datagram(to, UNIT, now).unwrap();
    assert_eq!(leaving(rewrite), shard.outgoing(to));
    assert_eq!(shard.session(id).last_seen, now);

    assert_eq!(shard.datagram(back, now, TERM), Verdict::PassChanged);
    for (ticks, hit) in [(7, back), (8, to)] {
        let rewrite = shard.pass_datagram(hit, UNIT, NOW.plus(ticks)).unwrap();
        assert_eq!(leaving(rewrite), shard.outgoing(hit));
        assert_eq!(shard.rewrite(hit), Some(rewrite));
        assert_eq!(shard.session(id).last_seen, NOW.plus(ticks));
    }
    shard.remove(id);
    assert!(
        both(id)
            .iter()
            .all(|&hit| shard.pass_datagram(hit, UNIT, now).is_none())
    );
}

#[test]
fn everything_else_takes_the_long_way() {
    let tcp = |state| in_state(1, state);
    let replied = in_state(2, State::Replied);
    let mut v6 = replied;
    v6.tuples.iter_mut().for_each(|tuple| tuple.src[0] = 0x20);
    let others = [
        tcp(State::SynSent),
        tcp(State::SynReceived),
        tcp(State::Established),
        tcp(State::FinWait),
        tcp(State::TimeWait),
        tcp(State::Reset),
        Session {
            owner: 2,
            ..replied
        },
        Session {
            owner: 16,
            ..replied
        },
        v6,
    ];
    for other in others {
        let mut shard = shard(1);
        let id = shard.insert(other, NOW).unwrap().id;
        for hit in both(id) {
            assert_eq!(
                shard.pass_datagram(hit, UNIT, NOW.plus(5)),
                None,
                "{other:?}"
            );
            assert_eq!(shard.rewrite(hit).is_some(), other.tuples[0].is_v4());
        }
        assert_eq!(shard.session(id).last_seen, NOW);
    }
}

#[test]
fn either_direction_keeps_a_session_alive() {
    for direction in [Direction::Original, Direction::Reply] {
        let mut shard = shard(1);
        let id = shard.insert(in_state(1, State::Replied), NOW).unwrap().id;
        let hit = Hit::new(id, direction);
        assert!(shard.pass_datagram(hit, UNIT, NOW.plus(2_000)).is_some());
        assert_eq!(age(&mut shard, NOW.plus(4_999), Ageing::Normal), []);
        assert_eq!(age(&mut shard, NOW.plus(5_000), Ageing::Normal).len(), 1);
    }
}

#[test]
fn a_path_is_kept_for_each_direction_until_the_session_is_stored_anew() {
    let mut shard = shard(2);
    let id = shard.insert(in_state(1, State::Replied), NOW).unwrap().id;
    let [to, back] = both(id);
    let path = |index| Path { index, epoch: 9 };
    shard.set_path(to, path(1));
    shard.set_path(back, path(2));
    let paths = |shard: &Shard| both(id).map(|hit| shard.rewrite(hit).map(|r| r.path));
    assert_eq!(paths(&shard), [Some(path(1)), Some(path(2))]);
    assert_eq!(
        shard.pass_datagram(to, UNIT, NOW).map(|r| r.path),
        Some(path(1))
    );
    shard.adopt(id, 2, TERM, NOW);
    assert_eq!(paths(&shard), [Some(Path::default()); 2]);

    let mut v6 = in_state(2, State::Replied);
    v6.tuples.iter_mut().for_each(|tuple| tuple.src[0] = 0x20);
    let id = shard.insert(v6, NOW).unwrap().id;
    for hit in both(id) {
        shard.set_path(hit, path(3));
    }
    assert_eq!(shard.session(id).tuples, v6.tuples);
    assert_eq!(
        both(id).map(|hit| shard.outgoing(hit)),
        [v6.tuples[1].reversed(), v6.tuples[0].reversed(),]
    );
}

#[test]
fn a_change_of_state_that_gives_more_time_leaves_the_timer_for_later() {
    let mut shard = shard(1);
    let id = shard.insert(session(1), NOW).unwrap().id;
    let back = Hit::new(id, Direction::Reply);
    assert_eq!(
        shard.datagram(back, NOW.plus(100), TERM),
        Verdict::PassChanged
    );
    // Due as unreplied, and put back by ageing.
    let looked = |shard: &mut Shard, now| shard.age(now, 9, |_| Ageing::Normal, |_, _| {});
    assert_eq!(looked(&mut shard, NOW.plus(299)), 0);
    assert_eq!(looked(&mut shard, NOW.plus(300)), 1);
    assert_eq!(age(&mut shard, NOW.plus(3_099), Ageing::Normal), []);
    assert_eq!(age(&mut shard, NOW.plus(3_100), Ageing::Normal).len(), 1);
}

/// Opens a connection through the tracker; numbers of both sides start at zero.
fn connect(shard: &mut Shard) -> SessionId {
    let segment = |flags, seq, ack| Segment {
        seq,
        ack,
        window: 60_000,
        flags,
        scale: (flags & SYN != 0).then_some(7),
        sack_permitted: flags & SYN != 0,
        payload_len: 0,
    };
    let syn = segment(SYN, u32::MAX, 0);
    let opened = tcp::open(&syn);
    let opening = Session {
        tcp: opened.sides,
        ..in_state(1, opened.state)
    };
    let id = shard.insert(opening, NOW).unwrap().id;
    let [to, back] = both(id);
    for (hit, segment) in [
        (back, segment(SYN | ACK, u32::MAX, 0)),
        (to, segment(ACK, 0, 0)),
    ] {
        assert_eq!(shard.pass_segment(hit, UNIT, &segment, NOW), None);
        let verdict = shard.track(hit, &segment, NOW, TERM);
        assert_eq!(verdict, Verdict::PassChanged);
    }
    // The answering side's first scaled window.
    let verdict = shard.track(back, &segment(ACK, 0, 0), NOW, TERM);
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(shard.session(id).state, State::Established);
    id
}

#[test]
fn bulk_transfer_takes_the_short_way_in_both_directions() {
    for sender in [0, 1] {
        let mut shard = shard(1);
        let id = connect(&mut shard);
        let hits = both(id);
        let (data, acks) = (hits[sender], hits[1 - sender]);
        let version = shard.session(id).version;
        // Four gigabytes and more: the numbers wrap.
        for round in 0..40_000_u32 {
            let now = NOW.plus(round);
            let seq = round.wrapping_mul(120_000);
            for i in 0..2 {
                let segment = Segment {
                    seq: seq.wrapping_add(i * 60_000),
                    window: 60_000,
                    flags: ACK | PSH,
                    payload_len: 60_000,
                    ..Segment::default()
                };
                let rewrite = shard.pass_segment(data, UNIT, &segment, now).unwrap();
                assert_eq!(Some(rewrite), shard.rewrite(data));
            }
            let ack = Segment {
                ack: seq.wrapping_add(120_000),
                window: 60_000 - u16::try_from(round % 500).unwrap(),
                flags: ACK,
                ..Segment::default()
            };
            assert!(shard.pass_segment(acks, UNIT, &ack, now).is_some());
            let session = shard.session(id);
            assert_eq!(session.tcp[sender].end, ack.ack);
            let granted = u32::from(ack.window) << 7;
            assert!(session.tcp[sender].max_end.wrapping_sub(ack.ack) >= granted);
            assert_eq!((session.last_seen, session.version), (now, version));
        }
    }
}

#[test]
fn what_may_end_or_open_a_connection_never_takes_the_short_way() {
    let mut shard = shard(1);
    let id = connect(&mut shard);
    let before = shard.session(id);
    let ordinary = Segment {
        window: 1_000,
        flags: ACK,
        ..Segment::default()
    };
    let others = (0..=u8::MAX)
        .filter(|flags| flags & (ACK | FIN | SYN | RST) != ACK)
        .map(|flags| Segment { flags, ..ordinary })
        .chain([
            Segment {
                seq: 60_000 << 8,
                ..ordinary
            },
            Segment {
                seq: u32::MAX << 24,
                ..ordinary
            },
            Segment {
                ack: 60_000 << 8,
                ..ordinary
            },
            Segment {
                ack: 1 << 31,
                ..ordinary
            },
            // Larger than any before.
            Segment {
                window: 60_001,
                ..ordinary
            },
        ]);
    let now = NOW.plus(7);
    for segment in others {
        for hit in both(id) {
            let passed = shard.pass_segment(hit, UNIT, &segment, now);
            assert_eq!(passed, None, "{segment:?}");
        }
    }
    let [to, _] = both(id);
    assert_eq!(shard.pass_segment(to, UNIT + 1, &ordinary, now), None);
    assert_eq!(shard.session(id), before);
    assert!(shard.pass_segment(to, UNIT, &ordinary, now).is_some());
    shard.remove(id);
    assert_eq!(shard.pass_segment(to, UNIT, &ordinary, now), None);
}

#[test]
fn readers_see_both_sides_of_a_segment() {
    const ROUNDS: u32 = 400_000;
    let mut shard = shard(1);
    let id = connect(&mut shard);
    let tuple = shard.session(id).tuples[0];
    let reader = shard.reader();
    let [to, back] = both(id);
    let mut number = 0_u32;
    // Both sides always say the same: each segment sends as much as it acknowledges.
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = &reader;
                scope.spawn(move || {
                    let mut seen = 0;
                    while seen < ROUNDS {
                        let (_, session) = reader.lookup(&tuple).unwrap();
                        let [original, reply] = session.tcp;
                        assert_eq!(original.end, reply.end);
                        seen = original.end;
                    }
                })
            })
            .collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            for hit in [to, back] {
                number = number.wrapping_add(1);
                let segment = Segment {
                    seq: number - 1,
                    ack: number,
                    window: 60_000,
                    flags: ACK,
                    payload_len: 1,
                    ..Segment::default()
                };
                assert!(shard.pass_segment(hit, UNIT, &segment, NOW).is_some());
            }
        }
    });
}
