//! What is stored comes back.

use proptest::prelude::*;

use packet::Tuple;

use super::*;

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
        owner in 0_u8..=16, policy: u16, tcp in [side(), side()], last_seen: u32,
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
