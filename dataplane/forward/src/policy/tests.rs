use packet::Tuple;
use proptest::prelude::*;

use super::*;

const WEB: Tuple = Tuple::v4(
    Ipv4Addr::new(192, 0, 2, 100),
    40_000,
    Ipv4Addr::new(203, 0, 113, 9),
    443,
    TCP,
);

/// Where a packet goes that is not translated.
const OUT: Hop = Hop {
    interface: InterfaceId(2),
    neighbour: Ipv4Addr::new(198, 51, 100, 254),
};

fn question(tuple: &Tuple, hop: Option<Hop>) -> Question {
    Question {
        ingress: InterfaceId(1),
        protocol: tuple.protocol,
        source: tuple.src_v4().unwrap(),
        destination: tuple.dst_v4().unwrap(),
        destination_port: tuple.dst_port,
        hop,
    }
}

fn matches(policy: &Policy, tuple: &Tuple) -> bool {
    let set = PolicySet::resolved(vec![policy.clone()], |_| None);
    set.first_match(&question(tuple, Some(OUT))).is_some()
}

#[test]
fn each_condition_alone() {
    let any = || Policy::any("any", PolicyAction::Allow);
    let prefix = |a, b, c, d, length| vec![Prefix::new(Ipv4Addr::new(a, b, c, d), length)];
    for (policy, expected) in [
        (any(), true),
        (
            Policy {
                from: InterfaceSet::NONE.with(InterfaceId(1)),
                ..any()
            },
            true,
        ),
        (
            Policy {
                from: InterfaceSet::NONE.with(InterfaceId(2)),
                ..any()
            },
            false,
        ),
        (
            Policy {
                source: prefix(192, 0, 2, 0, 24),
                ..any()
            },
            true,
        ),
        (
            Policy {
                source: prefix(192, 0, 2, 0, 26),
                ..any()
            },
            false,
        ),
        (
            Policy {
                destination: prefix(203, 0, 113, 9, 32),
                ..any()
            },
            true,
        ),
        (
            Policy {
                destination: prefix(192, 0, 2, 0, 24),
                ..any()
            },
            false,
        ),
        (
            Policy {
                protocols: vec![UDP, TCP],
                ..any()
            },
            true,
        ),
        (
            Policy {
                protocols: vec![UDP],
                ..any()
            },
            false,
        ),
        (
            Policy {
                destination_ports: vec![1..=9, 443..=443],
                ..any()
            },
            true,
        ),
        (
            Policy {
                destination_ports: vec![80..=442, 444..=65_535],
                ..any()
            },
            false,
        ),
    ] {
        assert_eq!(matches(&policy, &WEB), expected, "{policy:?}");
    }
}

#[test]
fn ports_match_nothing_that_has_none() {
    let ports = Policy {
        destination_ports: vec![0..=65_535],
        ..Policy::any("ports", PolicyAction::Allow)
    };
    for (protocol, expected) in [(TCP, true), (UDP, true), (1, false), (47, false)] {
        assert_eq!(matches(&ports, &Tuple { protocol, ..WEB }), expected);
    }
}

#[test]
fn the_way_out_is_a_condition_too() {
    let inner = Ipv4Addr::new(192, 0, 2, 80);
    let to = |id| InterfaceSet::NONE.with(InterfaceId(id));
    let plain = Policy {
        to: to(2),
        ..Policy::any("plain", PolicyAction::Allow)
    };
    let translated = Policy {
        to: to(3),
        destination_nat: Some(DestinationNat {
            address: inner,
            port: None,
        }),
        ..plain.clone()
    };
    let elsewhere = Hop {
        interface: InterfaceId(3),
        neighbour: inner,
    };
    let set = |policy: &Policy| {
        PolicySet::resolved(vec![policy.clone()], |address| {
            (address == inner).then_some(elsewhere)
        })
    };
    let hop = |policy: &Policy, hop| {
        let set = set(policy);
        set.first_match(&question(&WEB, hop)).map(|found| found.hop)
    };
    assert_eq!(hop(&plain, Some(OUT)), Some(OUT));
    assert_eq!(hop(&plain, Some(elsewhere)), None);
    assert_eq!(hop(&plain, None), None);
    assert_eq!(hop(&translated, Some(OUT)), Some(elsewhere));
    assert_eq!(hop(&translated, None), Some(elsewhere));
    let not_there = Policy {
        to: to(2),
        ..translated
    };
    assert_eq!(hop(&not_there, Some(OUT)), None);
}

/// What a policy means, condition by condition.
fn means(policy: &Policy, question: &Question, translated: Option<Hop>) -> Option<Hop> {
    let ported = matches!(question.protocol, TCP | UDP);
    let hop = match policy.destination_nat {
        Some(_) => translated,
        None => question.hop,
    }?;
    let all = [
        policy.to.contains(hop.interface),
        policy.from.contains(question.ingress),
        any_or(&policy.protocols, |protocol| *protocol == question.protocol),
        any_or(&policy.source, |prefix| prefix.contains(question.source)),
        any_or(&policy.destination, |prefix| {
            prefix.contains(question.destination)
        }),
        any_or(&policy.destination_ports, |ports| {
            ported && ports.contains(&question.destination_port)
        }),
    ];
    (all == [true; 6]).then_some(hop)
}

/// True when the list is empty or one of its members satisfies `matches`.
fn any_or<T>(list: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}

/// Few values for each field, so that policies and packets meet, and the extremes.
fn an_address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        3 => (0..2u8, 0..4u8, 0..8u8).prop_map(|(b, c, d)| Ipv4Addr::new(10, b, c, d)),
        1 => prop_oneof![Just(Ipv4Addr::UNSPECIFIED), Just(Ipv4Addr::BROADCAST)],
    ]
}

fn a_port() -> impl Strategy<Value = u16> {
    prop_oneof![0..8u16, Just(u16::MAX)]
}

fn prefixes() -> impl Strategy<Value = Vec<Prefix>> {
    let length = prop_oneof![Just(0), Just(8), 20..=32u8];
    let prefix = (an_address(), length).prop_map(|(a, length)| Prefix::new(a, length));
    prop_oneof![1 => Just(vec![]), 1 => prop::collection::vec(prefix, 1..4)]
}

fn port_ranges() -> impl Strategy<Value = Vec<RangeInclusive<u16>>> {
    let range = (a_port(), a_port()).prop_map(|(a, b)| a..=b);
    prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(range, 1..4)]
}

fn interfaces() -> impl Strategy<Value = InterfaceSet> {
    let some = prop::collection::vec((0..4u8).prop_map(InterfaceId), 1..4);
    prop_oneof![
        Just(InterfaceSet::ANY),
        some.prop_map(InterfaceSet::from_iter)
    ]
}

fn a_policy() -> impl Strategy<Value = Policy> {
    let protocols = prop::collection::vec(prop::sample::select(vec![TCP, UDP, 1, 47]), 0..3);
    let nat = prop::option::weighted(0.2, an_address());
    let fields = (
        (interfaces(), interfaces(), protocols, nat),
        (prefixes(), prefixes(), port_ranges()),
    );
    fields.prop_map(
        |((from, to, protocols, nat), (source, destination, destination_ports))| Policy {
            from,
            to,
            source,
            destination,
            protocols,
            destination_ports,
            destination_nat: nat.map(|address| DestinationNat {
                address,
                port: None,
            }),
            ..Policy::any("some", PolicyAction::Allow)
        },
    )
}

fn a_packet() -> impl Strategy<Value = (Tuple, InterfaceId, Option<Hop>)> {
    let protocol = prop::sample::select(vec![TCP, UDP, 1, 47, 255]);
    let tuple = (an_address(), a_port(), an_address(), a_port(), protocol)
        .prop_map(|(src, sport, dst, dport, protocol)| Tuple::v4(src, sport, dst, dport, protocol));
    let hop = (0..4u8, an_address()).prop_map(|(interface, neighbour)| Hop {
        interface: InterfaceId(interface),
        neighbour,
    });
    (tuple, (0..5u8).prop_map(InterfaceId), prop::option::of(hop))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// More policies than one block holds; most match little, so that late ones decide too.
    #[test]
    fn compiled_policies_mean_what_each_of_them_says(
        policies in prop::collection::vec(a_policy(), 0..150),
        packets in prop::collection::vec(a_packet(), 1..50),
    ) {
        // Some addresses lead nowhere.
        let resolve = |address: Ipv4Addr| {
            let [.., last] = address.octets();
            let interface = InterfaceId(last % 4);
            (last % 3 != 0).then_some(Hop { interface, neighbour: address })
        };
        let set = PolicySet::resolved(policies.clone(), resolve);
        for (tuple, ingress, hop) in &packets {
            let question = Question { ingress: *ingress, ..question(tuple, *hop) };
            let expected = policies.iter().enumerate().find_map(|(index, policy)| {
                let translated = policy.destination_nat.and_then(|nat| resolve(nat.address));
                Some((index, means(policy, &question, translated)?))
            });
            let found = set.first_match(&question);
            prop_assert_eq!(found.map(|found| (usize::from(found.index), found.hop)), expected);
        }
    }
}
