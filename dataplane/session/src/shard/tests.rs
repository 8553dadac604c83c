//! Tests of the shard.

use std::net::Ipv4Addr;

use super::*;
use crate::model::Flags;

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

fn shard(capacity: u32) -> Shard {
    Shard::new(Settings::new(capacity), Memory::Plain).unwrap()
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
            assert_eq!(hit, Hit { id, direction });
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
    }
    assert!(shard.is_empty());
}
