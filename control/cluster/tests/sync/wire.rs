//! The frames and records, byte by byte, and what bytes that are none do.

use std::net::Ipv4Addr;

use cluster::sync::frame::{self, Content, MAX_FRAME, Position, Receipt};
use cluster::sync::record::{
    Answers, MAX_RECORD, Record, RepairBegin, SKIPPABLE, put_change, put_repair_begin,
    put_repair_end, take_record,
};
use cluster::sync::{Limits, Malformed, Sync, SyncSettings};
use cluster::{Boot, Delta, RangeSet, Time, UnitId};
use packet::Tuple;
use proptest::prelude::*;
use session::{Flags, Session, State, TcpSide, Tick, Version};

use crate::table::Table;

fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

fn udp() -> Session {
    let original = Tuple::v4(
        Ipv4Addr::new(10, 0, 0, 1),
        5_000,
        Ipv4Addr::new(192, 0, 2, 7),
        53,
        17,
    );
    Session {
        tuples: [original, original.reversed()],
        version: Version(0x0000_0300_0000_0009),
        state: State::Replied,
        flags: Flags(0),
        owner: 2,
        policy: 0x0104,
        ..Session::default()
    }
}

fn translated_tcp() -> Session {
    let side = TcpSide {
        end: 0x0102_0304,
        max_end: 0x0506_0708,
        max_window: 0x0009_0A0B,
        scale: 7,
        sack: true,
    };
    let mut session = udp();
    session.tuples[0].protocol = 6;
    session.tuples[1] = Tuple::v4(
        Ipv4Addr::new(192, 0, 2, 7),
        53,
        Ipv4Addr::new(198, 51, 100, 1),
        40_000,
        6,
    );
    session.state = State::Established;
    session.flags = Flags(Flags::SOURCE_NAT);
    session.tcp = [
        side,
        TcpSide {
            scale: TcpSide::NO_SCALE,
            sack: false,
            ..side
        },
    ];
    session
}

fn record(delta: &Delta) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_change(&mut bytes, delta);
    bytes
}

const UDP_ORIGINAL: [u8; 13] = [10, 0, 0, 1, 192, 0, 2, 7, 0x13, 0x88, 0, 53, 17];

#[test]
fn an_update_of_a_udp_session_is_33_bytes() {
    let head = [1, 31, 1, 1, 0, 2, 1, 4];
    let version_and_remaining = [0, 0, 3, 0, 0, 0, 0, 9, 0, 0, 0x0B, 0xB8];
    let expected = [&head[..], &version_and_remaining, &UDP_ORIGINAL].concat();
    let delta = Delta::Upsert {
        session: udp(),
        remaining: 3_000,
    };
    assert_eq!(record(&delta), expected);
}

#[test]
fn an_update_of_a_translated_tcp_session_is_72_bytes() {
    let head = [1, 70, 15, 4, 1, 2, 1, 4];
    let version_and_remaining = [0, 0, 3, 0, 0, 0, 0, 9, 0, 0, 0x0B, 0xB8];
    let original = [10, 0, 0, 1, 192, 0, 2, 7, 0x13, 0x88, 0, 53, 6];
    let reply = [192, 0, 2, 7, 198, 51, 100, 1, 0, 53, 0x9C, 0x40, 6];
    let windows = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 10, 11];
    let expected = [
        &head[..],
        &version_and_remaining,
        &original,
        &reply,
        &windows,
        &[0x87],
        &windows,
        &[0x0F],
    ]
    .concat();
    let delta = Delta::Upsert {
        session: translated_tcp(),
        remaining: 3_000,
    };
    assert_eq!(record(&delta), expected);
    assert_eq!(expected.len(), 72);
}

#[test]
fn a_remove_and_the_marks_of_a_repair() {
    let delta = Delta::Remove {
        tuple: udp().tuples[0],
        version: Version(9),
    };
    let expected = [&[2, 22, 1][..], &[0, 0, 0, 0, 0, 0, 0, 9], &UDP_ORIGINAL].concat();
    assert_eq!(record(&delta), expected);

    let mut ranges = RangeSet::EMPTY;
    ranges.insert(0);
    let mut bytes = Vec::new();
    put_repair_begin(
        &mut bytes,
        &RepairBegin {
            id: 5,
            ranges,
            floor: Version(7),
            authoritative: true,
            shards: 4,
            targets: 0b110,
            answers: Answers(&[2, 0, 0, 0, 8]),
        },
    );
    put_repair_end(&mut bytes, 5);
    let mut expected = vec![3, 54, 0, 0, 0, 5];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([0; 24]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 4, 0, 6, 2, 0, 0, 0, 8]);
    expected.extend([4, 4, 0, 0, 0, 5]);
    assert_eq!(bytes, expected);
}

#[test]
fn the_heads_of_frames() {
    let boot = Boot(0x0102_0304_0506_0708);
    let head = |kind, to| vec![1, kind, to, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    let mut data = head(1, 0);
    data.extend([0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(frame::begin_data(boot, 3, 9), data);
    let again = frame::address_data(&data, Some(unit(2)), 4);
    assert_eq!((again[2], again[29]), (2, 4));

    let receipt = Receipt {
        shard: 1,
        applied: 6,
        waiting: 0b101,
    };
    let mut acknowledgement = head(2, 0);
    acknowledgement.extend([4, 0, 0, 0, 0, 0, 0, 0, 0x0B, 0, 1, 0, 0, 0, 0, 0, 0, 0, 6]);
    acknowledgement.extend([0; 15]);
    acknowledgement.push(5);
    let sent = frame::acknowledge(boot, unit(4), Boot(11), &[receipt]);
    assert_eq!(sent, acknowledgement);

    let mut request = head(3, 4);
    request.extend([0, 0, 0, 8]);
    request.extend([0xFF; 32]);
    assert_eq!(frame::request(boot, unit(4), 8, &RangeSet::ALL), request);

    let position = Position {
        shard: 2,
        next: 300,
        base: 299,
    };
    let mut positions = head(4, 4);
    positions.extend([0, 2, 0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 0, 0, 0, 1, 43]);
    assert_eq!(
        frame::positions(boot, Some(unit(4)), &[position]),
        positions
    );

    let parsed = frame::parse(&sent).unwrap();
    let Content::Acknowledge {
        origin, receipts, ..
    } = parsed.content
    else {
        panic!("an acknowledgement was read as {parsed:?}");
    };
    assert_eq!(
        (origin, receipts.iter().collect::<Vec<_>>()),
        (unit(4), vec![receipt])
    );
}

#[test]
fn the_digests_of_two_ranges() {
    let boot = Boot(0x0102_0304_0506_0708);
    let digest = |bucket: u16| match bucket {
        0xFE00 => Some(0x0A0B_0C0D),
        0xFE01 => Some(0),
        0xFEFF => Some(1),
        0xFF00.. => Some(0),
        _ => None,
    };
    let mut expected = vec![1, 5, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    expected.extend([0x80, 1]);
    expected.extend([0xFE, 0, 0, 2]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
    expected.extend([0; 16]);
    expected.extend([0x80, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0, 0x0A, 0x0B, 0x0C, 0x0D, 255, 0, 0, 0, 1]);
    expected.extend([0xFF, 1, 0, 0]);
    let (body, next) = frame::digests(boot, 0x8001, 0xFE, |_| false, digest);
    assert_eq!((&body, next), (&expected, None));

    let Content::Digests { targets, ranges } = frame::parse(&body).unwrap().content else {
        panic!("no digests");
    };
    let told: Vec<(u8, Vec<(u8, u32)>)> = ranges
        .iter()
        .map(|range| (range.range, range.quiet_buckets().collect()))
        .collect();
    assert_eq!(targets, 0x8001);
    assert_eq!(told[0], (0xFE, vec![(0, 0x0A0B_0C0D), (1, 0), (255, 1)]));
    assert_eq!((told[1].0, told[1].1.len()), (0xFF, 256));
    for end in 15..body.len() - 4 {
        // But for the end of the first range.
        assert_eq!(
            frame::parse(&body[..end]),
            Err(Malformed::Truncated),
            "{end}"
        );
    }
    let mut unsorted = body;
    unsorted[14 + 36] = 255;
    assert_eq!(frame::parse(&unsorted), Err(Malformed::BadValue));
}

#[test]
fn digests_of_full_tables_take_a_frame_for_each_range() {
    let mut range = Some(0);
    let mut frames = 0;
    while let Some(first) = range {
        let (body, next) = frame::digests(
            Boot(1),
            1,
            first,
            |_| false,
            |bucket| Some(u32::from(bucket) + 1),
        );
        assert!(body.len() <= MAX_FRAME && frame::parse(&body).is_ok());
        range = next;
        frames += 1;
    }
    assert_eq!(frames, 256);
}

#[test]
fn unknown_records_are_skipped_only_if_they_may_be() {
    let known = record(&Delta::Upsert {
        session: udp(),
        remaining: 1,
    });
    let mut bytes = vec![SKIPPABLE | 9, 3, 1, 2, 3];
    bytes.extend(&known);
    let mut rest = &bytes[..];
    assert!(matches!(
        take_record(&mut rest),
        Ok(Some(Record::Change(_)))
    ));
    assert_eq!(take_record(&mut rest), Ok(None));
    assert_eq!(
        take_record(&mut &[9, 3, 1, 2, 3][..]),
        Err(Malformed::UnknownRecord(9))
    );
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let mut frame = frame::begin_data(Boot(1), 0, 1);
    assert_eq!(frame::parse(&frame), Err(Malformed::BadValue), "no records");
    frame.extend(record(&Delta::Upsert {
        session: udp(),
        remaining: 1,
    }));
    assert!(frame::parse(&frame).is_ok());
    assert_eq!(
        frame::parse(&frame[..frame.len() - 1]),
        Err(Malformed::Truncated)
    );
    assert_eq!(frame::parse(&[0; MAX_FRAME + 1]), Err(Malformed::Oversized));
    frame[0] = 2;
    assert_eq!(frame::parse(&frame), Err(Malformed::ForeignVersion(2)));
    frame[0] = 1;
    frame[1] = 9;
    assert_eq!(frame::parse(&frame), Err(Malformed::UnknownFrame(9)));
    frame[1] = 1;
    frame[29] = 2;
    assert_eq!(
        frame::parse(&frame),
        Err(Malformed::BadValue),
        "base beyond number"
    );
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).to_ipv6_mapped().octets()),
        any::<[u8; 16]>(),
    ];
    let domain = prop_oneof![Just((0, 0)), (any::<u8>(), 0..=0x0fff_u16)];
    (address.clone(), address, any::<(u16, u16, u8)>(), domain).prop_map(
        |(src, dst, (src_port, dst_port, protocol), (zone, vlan))| Tuple {
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            zone,
            vlan,
        },
    )
}

fn any_side() -> impl Strategy<Value = TcpSide> {
    (any::<(u32, u32, u32)>(), 0..=15_u8, any::<bool>()).prop_map(
        |((end, max_end, max_window), scale, sack)| TcpSide {
            end,
            max_end,
            max_window,
            scale,
            sack,
        },
    )
}

fn any_session() -> impl Strategy<Value = Session> {
    const STATES: [State; 4] = [
        State::Unreplied,
        State::SynSent,
        State::TimeWait,
        State::Reset,
    ];
    (
        (any_tuple(), proptest::option::of(any_tuple())),
        (any::<u64>(), any::<u8>(), 1..=16_u8, any::<u16>()),
        proptest::sample::select(&STATES[..]),
        proptest::option::of((any_side(), any_side())),
    )
        .prop_map(
            |((original, reply), (version, flags, owner, policy), state, tcp)| Session {
                tuples: [original, reply.unwrap_or_else(|| original.reversed())],
                version: Version(version),
                state,
                flags: Flags(flags),
                owner,
                policy,
                tcp: tcp.map_or_else(Default::default, |(a, b)| [a, b]),
                last_seen: Tick(0),
                assigned: false,
            },
        )
}

proptest! {
    #[test]
    fn every_session_survives_the_wire(session in any_session(), remaining: u32) {
        for delta in [
            Delta::Upsert { session, remaining },
            Delta::Remove { tuple: session.tuples[0], version: session.version },
        ] {
            let bytes = record(&delta);
            prop_assert!(bytes.len() <= MAX_RECORD);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_record(&mut rest), Ok(Some(Record::Change(delta))));
            prop_assert!(rest.is_empty());
            for end in 1..bytes.len() {
                prop_assert!(take_record(&mut &bytes[..end]).is_err());
            }
        }
    }

    /// The table has no room for such values, and would change them.
    #[test]
    fn values_that_nothing_has_are_refused(
        session in any_session(), owner in prop_oneof![Just(0), 17_u8..], vlan in 0x1000_u16..,
    ) {
        let [original, reply] = session.tuples;
        let tagged = Tuple { vlan, ..original };
        for session in [
            Session { owner, ..session },
            Session { tuples: [tagged, Tuple { vlan, ..reply }], ..session },
        ] {
            let bytes = record(&Delta::Upsert { session, remaining: 1 });
            prop_assert_eq!(take_record(&mut &bytes[..]), Err(Malformed::BadValue));
        }
    }

    #[test]
    fn altered_frames_are_refused_or_harmless(
        sessions in proptest::collection::vec(any_session(), 1..8),
        changes in proptest::collection::vec((0..400_usize, any::<u8>()), 0..6),
    ) {
        let mut frame = frame::begin_data(Boot(1), 0, 1);
        for session in sessions {
            put_change(&mut frame, &Delta::Upsert { session, remaining: 1 });
        }
        for (position, value) in changes {
            if let Some(byte) = frame.get_mut(position) {
                *byte = value;
            }
        }
        let mut sync = Sync::new(SyncSettings {
            unit: unit(1),
            boot: Boot(1),
            shards: 1,
            session_sync: true,
            limits: Limits::default(),
        });
        sync.peer_up(unit(2), Boot(1), 1);
        let table = Table::new(1);
        let refused = sync.handle(unit(2), &frame, Time(1)).is_err();
        prop_assert_eq!(sync.counters().malformed, u64::from(refused));
        let outputs = std::iter::from_fn(|| sync.poll(&table, Time(1))).take(100).count();
        prop_assert!(outputs < 100, "it never comes to rest");
    }
}
