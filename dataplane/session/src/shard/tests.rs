//! Tests of the shard: rule by rule here, against a plain model in [`model`].

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use packet::Tuple;
use packet::tcp::{ACK, FIN, RST, SYN, Segment};

use super::*;
use crate::model::{Flags, State, TcpSide};
use crate::tcp::{self, Invalid, Verdict};

mod ageing;
mod model;
mod passage;
mod remote;

const NOW: Tick = Tick::START;
const TERM: u32 = 1;

/// A UDP session, number `i`, with its source translated: both tuples are its own.
fn session(i: u32) -> Session {
    let client = Ipv4Addr::from_bits(0x0a00_0000 + i);
    let server = Ipv4Addr::new(192, 0, 2, 80);
    let outside = Ipv4Addr::from_bits(0xc633_6400 + i / 60_000);
    let port = u16::try_from(1_024 + i % 60_000).unwrap();
    Session {
        tuples: [
            Tuple::v4(client, 5_000, server, 53, 17),
            Tuple::v4(server, 53, outside, port, 17),
        ],
        owner: 1,
        version: Version(u64::from(i) + 1),
        flags: Flags(Flags::SOURCE_NAT),
        ..Session::default()
    }
}

fn in_state(i: u32, state: State) -> Session {
    let mut session = Session {
        state,
        ..session(i)
    };
    if !matches!(state, State::Unreplied | State::Replied) {
        session
            .tuples
            .iter_mut()
            .for_each(|tuple| tuple.protocol = 6);
    }
    session
}

fn shard(capacity: u32) -> Shard {
    Shard::new(Settings::new(capacity), Memory::Plain).unwrap()
}

/// Ages until nothing is due; what expired, by client.
fn age(shard: &mut Shard, now: Tick, decision: Ageing) -> Vec<Tuple> {
    let mut expired = Vec::new();
    shard.age(
        now,
        usize::MAX,
        |_| decision,
        |_, session| expired.push(session.tuples[0]),
    );
    expired
}

fn key(session: &Session, direction: Direction) -> Key {
    Key::from(&session.tuples[direction as usize])
}

fn original(i: u32) -> Tuple {
    session(i).tuples[0]
}

#[test]
fn both_directions_are_found_until_removed() {
    let mut shard = shard(1_000);
    let ids: Vec<_> = (0..1_000)
        .map(|i| shard.insert(session(i), NOW).unwrap().id)
        .collect();
    for (i, &id) in (0..).zip(&ids) {
        let expected = Session {
            last_seen: NOW,
            ..session(i)
        };
        for direction in [Direction::Original, Direction::Reply] {
            let hit = shard.lookup(&expected.tuples[direction as usize]).unwrap();
            assert_eq!(hit, Hit::new(id, direction));
            assert!(shard.confirms(hit, &key(&expected, direction)));
            assert_eq!(
                shard.outgoing(hit),
                expected.tuples[direction.other() as usize].reversed()
            );
        }
        assert_eq!(shard.session(id), expected);
    }
    for (i, id) in (0..).zip(ids) {
        assert_eq!(shard.remove(id).unwrap().tuples, session(i).tuples);
        assert_eq!(shard.remove(id), None);
        assert!(
            session(i)
                .tuples
                .iter()
                .all(|tuple| shard.lookup(tuple).is_none())
        );
        let hit = Hit::new(id, Direction::Original);
        assert!(!shard.confirms(hit, &key(&session(i), Direction::Original)));
    }
    assert!(shard.is_empty());
}

#[test]
fn a_capacity_out_of_range_is_refused() {
    for asked in [0, Settings::MAX_CAPACITY + 1] {
        let refused = Shard::new(Settings::new(asked), Memory::Plain).err();
        assert_eq!(refused, Some(Error::Capacity { asked }));
    }
}

#[test]
fn bursts_of_any_length_answer_like_single_lookups() {
    let mut shard = shard(3_000);
    for i in 0..3_000 {
        shard.insert(session(i), NOW).unwrap();
    }
    for len in [0, 1, 15, 16, 17, 31, 64] {
        // The last third is not there.
        let tuples: Vec<_> = (0..len)
            .map(|i| session(i * 71).tuples[i as usize % 2])
            .collect();
        let keys: Vec<_> = tuples.iter().map(Key::from).collect();
        let beyond = Some(Hit::new(SessionId(9), Direction::Reply));
        let mut hits = vec![beyond; 80];
        let misses = shard.lookup_burst(&keys, &mut hits);
        for (i, (tuple, hit)) in tuples.iter().zip(&hits).enumerate() {
            assert_eq!(*hit, shard.lookup(tuple));
            assert_eq!(misses >> i & 1 == 1, hit.is_none());
        }
        assert_eq!(
            misses.count_ones(),
            u32::try_from((len as usize).saturating_sub(43)).unwrap()
        );
        assert!(hits[keys.len()..].iter().all(|hit| *hit == beyond));
    }
}

#[test]
#[should_panic(expected = "at most 64 keys")]
fn a_burst_is_no_longer_than_the_misses_that_it_can_tell() {
    shard(1).lookup_burst(&[Key::default(); 65], &mut [None; 65]);
}

#[test]
fn asking_for_an_insertion_ahead_changes_nothing() {
    let settings = Settings {
        per_source_limit: Some(9),
        ..Settings::new(3)
    };
    let mut shard = Shard::new(settings, Memory::Plain).unwrap();
    for i in 0..3 {
        let new = session(i);
        let keys = new.tuples.each_ref().map(Key::from);
        for ahead in [0, 1, 2, 3, usize::MAX] {
            let prepared = shard.prefetch_insert(keys.each_ref(), ahead);
            shard.prefetch_overflow(prepared);
        }
        assert_eq!(shard.lookup(&new.tuples[0]), None);
        assert_eq!(shard.insert(new, NOW).unwrap().id, SessionId(i));
    }
}

#[test]
fn a_burst_of_removals_takes_out_what_single_ones_would() {
    for len in [0, 1, 2, 9, 10, 64, 65] {
        let settings = Settings {
            per_source_limit: Some(200),
            ..Settings::new(100)
        };
        let mut shard = Shard::new(settings, Memory::Plain).unwrap();
        for i in 0..90 {
            shard.insert(session(i), NOW).unwrap();
        }
        // In no order, one of them twice, one vacant.
        let mut ids: Vec<_> = (0..len).map(|i| SessionId(i * 7 % 90)).collect();
        ids.extend([SessionId(0), SessionId(99)]);
        let mut removed = Vec::new();
        shard.remove_burst(&ids, |id, session| removed.push((id, session.tuples)));
        let expected: Vec<_> = (0..len.max(1))
            .map(|i| i * 7 % 90)
            .map(|i| (SessionId(i), session(i).tuples))
            .collect();
        assert_eq!(removed, expected);
        for i in 0..90 {
            let gone = expected.contains(&(SessionId(i), session(i).tuples));
            for tuple in &session(i).tuples {
                assert_eq!(shard.lookup(tuple).is_none(), gone);
            }
        }
        let count = u32::try_from(expected.len()).unwrap();
        assert_eq!(shard.len(), 90 - count);
        assert_eq!(shard.statistics().removed, u64::from(count));
    }
}

#[test]
fn a_session_costs_at_most_192_bytes_all_in() {
    for capacity in [1_000_000, 1_048_577] {
        let settings = Settings {
            per_source_limit: Some(100),
            ..Settings::new(capacity)
        };
        let shard = Shard::new(settings, Memory::Plain).unwrap();
        let Footprint {
            entries,
            index,
            lists,
            ..
        } = shard.footprint();
        let each = (entries + index + lists) as f64 / f64::from(capacity);
        assert!((128.0..=192.0).contains(&each), "{each}");
    }
}

#[test]
fn a_taken_tuple_is_refused_in_either_direction() {
    let mut shard = shard(4);
    let id = shard.insert(session(1), NOW).unwrap().id;
    let mut other = session(2);
    other.tuples[1] = session(1).tuples[1];
    let hit = Hit::new(id, Direction::Reply);
    assert_eq!(shard.insert(other, NOW), Err(Refused::Exists(hit)));
    assert_eq!(shard.lookup(&original(2)), None);
    assert_eq!(shard.statistics().refused_exists, 1);
}

#[test]
fn a_full_shard_evicts_the_oldest_half_open_session_and_no_other() {
    let mut shard = shard(4);
    let states = [
        State::Established,
        State::SynSent,
        State::Unreplied,
        State::Replied,
    ];
    for (i, state) in (0..).zip(states) {
        assert_eq!(
            shard
                .insert(in_state(i, state), NOW.plus(i))
                .unwrap()
                .evicted,
            None
        );
    }
    // Being seen does not make a half-open session younger.
    let oldest = in_state(1, State::SynSent);
    shard.touch(shard.lookup(&oldest.tuples[0]).unwrap(), NOW.plus(9));
    for (i, evicted) in [(10, 1), (11, 2)] {
        let inserted = shard
            .insert(in_state(i, State::Established), NOW.plus(10))
            .unwrap();
        assert_eq!(
            inserted.evicted.unwrap().tuples,
            in_state(evicted, states[evicted as usize]).tuples
        );
    }
    assert_eq!(shard.insert(session(12), NOW), Err(Refused::Full));
    let statistics = shard.statistics();
    assert_eq!((statistics.evicted, statistics.refused_full), (2, 1));
    assert_eq!((statistics.sessions, statistics.half_open), (4, 0));
}

#[test]
fn half_open_sessions_have_a_limit_of_their_own() {
    let settings = Settings {
        half_open_limit: Some(2),
        ..Settings::new(10)
    };
    let mut shard = Shard::new(settings, Memory::Plain).unwrap();
    for i in 0..2 {
        assert_eq!(shard.insert(session(i), NOW).unwrap().evicted, None);
    }
    let confirmed = shard.insert(in_state(7, State::Replied), NOW).unwrap();
    assert_eq!(confirmed.evicted, None);
    assert_eq!(
        shard
            .insert(session(2), NOW)
            .unwrap()
            .evicted
            .unwrap()
            .tuples[0],
        original(0)
    );
    assert_eq!(shard.statistics().half_open, 2);
}

#[test]
fn a_source_has_a_limit_and_gets_room_back() {
    let settings = Settings {
        per_source_limit: Some(2),
        ..Settings::new(10)
    };
    let mut shard = Shard::new(settings, Memory::Plain).unwrap();
    let from_one_source = |i| {
        let mut session = session(i);
        session.tuples[0].src = original(0).src;
        session.tuples[0].src_port += u16::try_from(i).unwrap();
        session
    };
    let id = shard.insert(from_one_source(0), NOW).unwrap().id;
    shard.insert(from_one_source(1), NOW).unwrap();
    assert_eq!(
        shard.insert(from_one_source(2), NOW),
        Err(Refused::SourceLimit)
    );
    assert!(shard.insert(session(5), NOW).is_ok());
    shard.remove(id);
    assert!(shard.insert(from_one_source(2), NOW).is_ok());
    assert_eq!(shard.statistics().refused_source, 1);
}

#[test]
fn the_first_datagram_back_is_a_change() {
    let mut shard = shard(1);
    let id = shard.insert(session(0), NOW).unwrap().id;
    let (to, back) = (Direction::Original, Direction::Reply);
    let expected = [
        (to, Verdict::Pass),
        (back, Verdict::PassChanged),
        (back, Verdict::Pass),
    ];
    for (direction, verdict) in expected {
        assert_eq!(
            shard.datagram(Hit::new(id, direction), NOW.plus(5), 3),
            verdict
        );
    }
    let session = shard.session(id);
    assert_eq!(
        (session.state, session.version),
        (State::Replied, Version::first_of(3))
    );
    assert_eq!(
        (session.last_seen, shard.statistics().half_open),
        (NOW.plus(5), 0)
    );
}

#[test]
fn tracking_stores_windows_states_and_versions() {
    let mut shard = shard(1);
    let syn = Segment {
        seq: 10,
        window: 500,
        flags: SYN,
        ..Segment::default()
    };
    let opened = tcp::open(&syn);
    let mut new = in_state(0, opened.state);
    new.tcp = opened.sides;
    let id = shard.insert(new, NOW).unwrap().id;
    let steps = [
        (
            Direction::Reply,
            SYN | ACK,
            50,
            11,
            0,
            Verdict::PassChanged,
            State::SynReceived,
        ),
        (
            Direction::Original,
            ACK,
            11,
            51,
            0,
            Verdict::PassChanged,
            State::Established,
        ),
        (
            Direction::Original,
            ACK,
            11,
            51,
            90,
            Verdict::Pass,
            State::Established,
        ),
        (
            Direction::Reply,
            ACK,
            9_999,
            51,
            0,
            Verdict::Drop(Invalid::OutOfWindow),
            State::Established,
        ),
        (
            Direction::Reply,
            FIN | ACK,
            51,
            101,
            0,
            Verdict::PassChanged,
            State::FinWait,
        ),
    ];
    let mut version = shard.session(id).version;
    for (direction, flags, seq, ack, payload_len, verdict, state) in steps {
        let segment = Segment {
            seq,
            ack,
            window: 500,
            flags,
            payload_len,
            ..Segment::default()
        };
        assert_eq!(
            shard.track(Hit::new(id, direction), &segment, NOW.plus(1), TERM),
            verdict
        );
        let session = shard.session(id);
        assert_eq!(session.state, state);
        assert_eq!(session.version > version, verdict == Verdict::PassChanged);
        version = session.version;
    }
    let session = shard.session(id);
    assert_eq!((session.tcp[0].end, session.tcp[1].end), (101, 52));
    assert_eq!(session.flags, Flags(Flags::SOURCE_NAT | Flags::FIN_REPLY));
    assert_eq!((session.owner, session.tuples), (1, new.tuples));
    let statistics = shard.statistics();
    assert_eq!((statistics.tcp_out_of_window, statistics.half_open), (1, 0));
}

#[test]
fn readers_see_what_the_shard_has() {
    let mut shard = shard(10);
    let reader = shard.reader();
    for i in 0..5 {
        shard.insert(session(i), NOW).unwrap();
    }
    shard.remove(SessionId(2));
    let mut seen = Vec::new();
    reader.scan(1, u32::MAX, |id, session| {
        seen.push((id.0, session.tuples[0]))
    });
    assert_eq!(seen, [(1, original(1)), (3, original(3)), (4, original(4))]);
    assert_eq!(reader.get(SessionId(2)), None);
    assert_eq!(reader.get(SessionId(10)), None);
    assert_eq!((reader.len(), reader.capacity()), (4, 10));
    assert_eq!(reader.statistics(), shard.statistics());
    let (hit, found) = reader.lookup(&session(3).tuples[1]).unwrap();
    assert_eq!(hit, Hit::new(SessionId(3), Direction::Reply));
    assert_eq!(found, shard.session(hit.id()));
}

#[test]
fn every_counter_has_a_name_and_a_description() {
    let mut shard = shard(1);
    shard.insert(session(0), NOW).unwrap();
    let named: Vec<_> = shard
        .statistics()
        .iter()
        .filter(|(_, _, value)| *value != 0)
        .collect();
    assert_eq!(
        named,
        [
            ("sessions", "Sessions in the shard now.", 1),
            (
                "half_open",
                "Sessions that only one side has confirmed now.",
                1
            ),
            ("inserted", "Sessions opened here.", 1),
        ]
    );
}
