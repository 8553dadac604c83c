//! What is stored comes back.

use proptest::prelude::*;

use packet::Tuple;
use packet::tcp::{ACK, FIN, PSH, SYN};

use super::*;
use crate::tcp::Outcome;

/// The unit that packets are seen by.
const UNIT: u8 = 3;

fn entry() -> Entry {
    zerocopy::FromZeros::new_zeroed()
}

fn keys(session: &Session) -> [Key; 2] {
    session.tuples.each_ref().map(Key::from)
}

fn address() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|a| std::net::Ipv4Addr::from(a).to_ipv6_mapped().octets()),
        any::<[u8; 16]>(),
    ]
}

prop_compose! {
    fn tuple()(
        src in address(), dst in address(), src_port: u16, dst_port: u16, protocol: u8, zone: u8,
        vlan in 0_u16..4_096,
    ) -> Tuple {
        Tuple { src, dst, src_port, dst_port, protocol, zone, vlan }
    }
}

prop_compose! {
    /// What the tracker makes: a window of 16 bits, scaled or of a SYN.
    fn side()(
        end: u32, max_end: u32, window: u16, syn: bool,
        scale in prop_oneof![0_u8..15, Just(TcpSide::NO_SCALE)], sack: bool,
    ) -> TcpSide {
        let shift = if syn || scale == TcpSide::NO_SCALE { 0 } else { scale };
        TcpSide { end, max_end, max_window: u32::from(window) << shift, scale, sack }
    }
}

prop_compose! {
    fn session()(
        tuples in [tuple(), tuple()], version: u64, state in 0_u8..8, flags in 0_u8..64,
        owner in 0_u8..=16, policy: u16, tcp in [side(), side()], last_seen: u32, assigned: bool,
    ) -> Session {
        Session {
            tuples,
            version: Version(version),
            state: State::from_bits(state),
            flags: Flags(flags),
            owner,
            policy,
            tcp,
            last_seen: Tick(last_seen),
            assigned,
        }
    }
}

proptest! {
    #[test]
    fn a_session_comes_back_as_it_was(first in session(), second in session()) {
        let entry = entry();
        prop_assert_eq!(entry.read(), None);
        for stored in [first, second] {
            entry.store(&stored, &keys(&stored));
            prop_assert_eq!(entry.read(), Some(stored));
            prop_assert_eq!(entry.session(), stored);
            prop_assert_eq!(entry.keys(), keys(&stored));
            prop_assert_eq!(entry.protocol(), stored.tuples[0].protocol);
            for (direction, key) in [Direction::Original, Direction::Reply].into_iter().zip(keys(&stored)) {
                prop_assert!(entry.half(direction).matches(&key));
                prop_assert_eq!(entry.owner(direction), stored.owner);
            }
        }
        entry.vacate();
        prop_assert_eq!(entry.read(), None);
        prop_assert_eq!(entry.session(), Session::default());
    }

    #[test]
    fn a_connection_changes_and_nothing_else(
        before in session(), after in session(), now: u32, version: Option<u64>,
    ) {
        let entry = entry();
        entry.store(&before, &keys(&before));
        entry.reprieve(before.last_seen);
        let connection = Connection { state: after.state, flags: after.flags, sides: after.tcp };
        let version = version.map(Version);
        entry.store_connection(&connection, version);
        entry.half(Direction::Reply).touch(Tick(now));
        let expected = Session {
            state: after.state,
            flags: after.flags,
            tcp: after.tcp,
            version: version.unwrap_or(before.version),
            last_seen: before.last_seen.max(Tick(now)),
            ..before
        };
        prop_assert_eq!(entry.read(), Some(expected));
        prop_assert_eq!(entry.connection(), connection);
        prop_assert!(entry.is_reprieved());
    }

    #[test]
    fn one_word_of_difference_is_no_match(stored in session(), word in 0_usize..5, bit in 0..64) {
        let entry = entry();
        entry.store(&stored, &keys(&stored));
        for (direction, key) in [Direction::Original, Direction::Reply].into_iter().zip(keys(&stored)) {
            let mut other = key;
            if !key.is_v4() || word < 2 {
                other.0[word] ^= 1_u64 << bit;
                prop_assert!(!entry.half(direction).matches(&other));
            }
        }
    }

    /// What only a peer's mistake can be is kept as what lets no less pass, if it can be.
    #[test]
    fn windows_that_nobody_announces_are_rounded_up(max_window: u32, scale in 0_u8..16) {
        let side = TcpSide { max_window, scale, ..TcpSide::default() };
        let kept = Window::of(&side).expand(scale);
        let shift = Window::shift(scale);
        prop_assert!(kept.abs_diff(max_window) < 1 << shift || kept == 0xffff << shift);
        prop_assert!(kept >= max_window || kept == 0xffff << shift);
    }
}

#[test]
fn bits_beyond_those_that_mean_something_are_not_kept() {
    let entry = entry();
    let session = Session {
        flags: Flags(0xff),
        owner: 0xff,
        ..Session::default()
    };
    entry.store(&session, &keys(&session));
    let kept = entry.session();
    assert_eq!((kept.flags, kept.owner), (Flags(0x3f), 31));
    assert_eq!(kept.policy, 0);
}

/// Sequence numbers near `base`, where the windows are, or anywhere.
fn near(base: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        (-70_000_i32..70_000).prop_map(move |off| base.wrapping_add_signed(off)),
        (-2_i32..3).prop_map(move |off| base.wrapping_add_signed(off)),
        any::<u32>(),
    ]
}

/// A side whose windows are open, and which has sent something near `end`.
fn open_side(end: u32) -> impl Strategy<Value = TcpSide> {
    (side(), near(end), 0_u32..200_000).prop_map(|(side, end, room)| TcpSide {
        end,
        max_end: end.wrapping_add(room),
        ..side
    })
}

prop_compose! {
    /// A TCP session of this unit, mostly, and mostly established.
    fn connected()(ends in any::<[u32; 2]>())(
        base in session(), original in open_side(ends[0]), reply in open_side(ends[1]),
        v4 in any::<[[u8; 4]; 2]>(), owner in prop_oneof![9 => Just(UNIT), 1 => 1_u8..=16],
        state in prop_oneof![9 => Just(State::Established), 1 => (2_u8..8).prop_map(State::from_bits)],
        flags in prop_oneof![9 => 0_u8..4, 1 => 0_u8..64],
    ) -> Session {
        let v4 = v4.map(|address| std::net::Ipv4Addr::from(address).to_ipv6_mapped().octets());
        let tuples = base.tuples.map(|tuple| Tuple {
            src: v4[0], dst: v4[1], protocol: 6, ..tuple
        });
        Session { tuples, owner, state, flags: Flags(flags), tcp: [original, reply], ..base }
    }
}

prop_compose! {
    /// A segment from `sender` to `receiver` that may or may not belong.
    fn segment(sender: TcpSide, receiver: TcpSide)(
        seq in prop_oneof![near(sender.end), near(sender.max_end)],
        ack in prop_oneof![near(receiver.end), near(receiver.max_end)],
        window in any::<u16>(), flags in prop_oneof![9 => Just(ACK), 5 => Just(ACK | PSH), 1 => any::<u8>()],
        payload_len in prop_oneof![Just(0), 0_u16..1_461, any::<u16>()],
    ) -> Segment {
        Segment { seq, ack, window, flags, payload_len, ..Segment::default() }
    }
}

prop_compose! {
    fn passage()(session in connected(), replies in any::<bool>())(
        segment in segment(session.tcp[usize::from(replies)], session.tcp[usize::from(!replies)]),
        session in Just(session), replies in Just(replies),
    ) -> (Session, Direction, Segment) {
        let direction = if replies { Direction::Reply } else { Direction::Original };
        (session, direction, segment)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The short way does what the long one does, or nothing; and it does it for every segment that
    /// it is there for.
    #[test]
    fn a_segment_passes_the_short_way_as_the_long_one((stored, direction, segment) in passage()) {
        let entry = entry();
        entry.store(&stored, &keys(&stored));
        let before = entry.connection();
        let now = stored.last_seen.plus(3);
        let passed = entry.pass_segment(direction, UNIT, &segment, now);
        let outcome = tcp::track(&before, direction, &segment);
        if let Some(rewrite) = passed {
            prop_assert_eq!(Some(rewrite), entry.half(direction).rewrite());
            let Outcome::Advance(next) = outcome else {
                return Err(TestCaseError::fail(format!("{outcome:?}")));
            };
            let expected = Session {
                tcp: next.sides,
                last_seen: entry.last_seen(),
                ..stored
            };
            prop_assert_eq!(entry.read(), Some(expected));
            prop_assert_eq!(entry.half(direction).last_seen.load(Ordering::Relaxed), now.0);
            prop_assert_eq!(stored.owner, UNIT);
        } else {
            prop_assert_eq!(entry.read(), Some(stored));
            let relearns = stored.flags.0 & (Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY) != 0;
            let window = |sides: &[TcpSide; 2]| sides[direction as usize].max_window;
            let ordinary = matches!(outcome, Outcome::Advance(next)
                if window(&next.sides) == window(&before.sides) && segment.flags & FIN == 0);
            prop_assert!(
                !ordinary || relearns || stored.owner != UNIT
                    || stored.state != State::Established || segment.flags & SYN != 0
            );
        }
    }
}
