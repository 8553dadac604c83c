//! Rewrites against [`packet::translate`], on frames.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use proptest::prelude::*;

use packet::{Kind, Tuple, checksum, parse, translate};

use super::*;

const L4: usize = 34;

/// How a frame's transport checksum is: right, wrong by something, or (UDP) absent.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Right,
    Wrong(u16),
    Absent,
}

/// An Ethernet frame with an IPv4 packet of `tuple`.
fn frame(tuple: &Tuple, payload: &[u8], sum: Sum) -> Vec<u8> {
    let ports = [tuple.src_port.to_be_bytes(), tuple.dst_port.to_be_bytes()].concat();
    let udp_len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let (mut segment, field) = match tuple.protocol {
        ipv4::PROTOCOL_TCP => {
            let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
            ([&ports[..], &rest].concat(), 16)
        }
        ipv4::PROTOCOL_UDP => ([&ports[..], &udp_len, &[0, 0]].concat(), 6),
        ipv4::PROTOCOL_ICMP => {
            let kind = if tuple.dst_port == 0 { 8 } else { 0 };
            let id = (tuple.src_port | tuple.dst_port).to_be_bytes();
            ([&[kind, 0, 0, 0][..], &id, &[0, 7]].concat(), 2)
        }
        _ => (ports.clone(), usize::MAX),
    };
    segment.extend(payload);
    let addresses = [&tuple.src[12..], &tuple.dst[12..]].concat();
    if field != usize::MAX {
        let len = u16::try_from(segment.len()).unwrap();
        let pseudo = match tuple.protocol {
            ipv4::PROTOCOL_ICMP => 0,
            protocol => checksum::pseudo_header(&addresses[..4], &addresses[4..], protocol, len),
        };
        let right = checksum::transport(pseudo, &segment);
        let value = match sum {
            Sum::Right => checksum::nonzero(right),
            Sum::Wrong(by) => right.wrapping_add(by),
            Sum::Absent => 0,
        };
        segment[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }
    let len = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
    let mut header = [
        0x45,
        0,
        len[0],
        len[1],
        0,
        9,
        0,
        0,
        64,
        tuple.protocol,
        0,
        0,
    ]
    .to_vec();
    header.extend(addresses);
    let value = checksum::checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&value);
    [
        &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..],
        &header,
        &segment,
    ]
    .concat()
}

/// What the documentation of [`Rewrite`] says.
fn apply(frame: &mut [u8], protocol: u8, rewrite: &Rewrite) {
    let correct = |field: &mut [u8], delta: u16| {
        let old = u16::from_ne_bytes([field[0], field[1]]);
        field.copy_from_slice(&(!checksum::add(!old, delta)).to_ne_bytes());
    };
    frame[26..34].copy_from_slice(&rewrite.addresses.to_ne_bytes());
    correct(&mut frame[24..26], rewrite.header_delta);
    let ports = rewrite.ports.to_ne_bytes();
    let segment = &mut frame[L4..];
    match protocol {
        ipv4::PROTOCOL_TCP => {
            segment[..4].copy_from_slice(&ports);
            correct(&mut segment[16..18], rewrite.transport_delta);
        }
        ipv4::PROTOCOL_UDP => {
            segment[..4].copy_from_slice(&ports);
            if segment[6..8] != [0, 0] {
                correct(&mut segment[6..8], rewrite.transport_delta);
                if segment[6..8] == [0, 0] {
                    segment[6..8].fill(0xff);
                }
            }
        }
        ipv4::PROTOCOL_ICMP => {
            segment[4] = ports[0] | ports[2];
            segment[5] = ports[1] | ports[3];
            correct(&mut segment[2..4], rewrite.transport_delta);
        }
        _ => assert_eq!(rewrite.transport_delta, 0),
    }
}

/// Addresses that a packet on a wire may have.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    (1_u8..100, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

prop_compose! {
    /// Arriving tuples of a session, of which source, destination, ports, all or nothing are
    /// translated.
    fn tuples()(
        [client, server, outside, inside] in [address(), address(), address(), address()],
        ports in [1_u16.., 1_u16.., 1_u16.., 1_u16..], protocol in prop::sample::select(vec![1, 6, 17, 47]),
        translated: [bool; 4],
    ) -> [Tuple; 2] {
        let choose = |i: usize, new, old| if translated[i] { new } else { old };
        let (source, destination) = (choose(0, outside, client), choose(1, inside, server));
        let port = |i: usize| if translated[i] { ports[i] } else { ports[i - 2] };
        let [from, to] = match protocol {
            6 | 17 => [(ports[0], ports[1]), (port(2), port(3))],
            1 => [(ports[0], 0), (port(2), 0)],
            _ => [(0, 0), (0, 0)],
        };
        let leaving = Tuple::v4(source, to.0, destination, to.1, protocol);
        [Tuple::v4(client, from.0, server, from.1, protocol), leaving.reversed()]
    }
}

fn sums() -> impl Strategy<Value = Sum> {
    prop_oneof![
        4 => Just(Sum::Right),
        1 => any::<u16>().prop_map(Sum::Wrong),
        1 => Just(Sum::Absent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, ..ProptestConfig::default() })]

    #[test]
    fn frames_leave_as_translate_makes_them(
        tuples in tuples(), payload in prop::collection::vec(any::<u8>(), 0..20), sum in sums(),
        reply: bool,
    ) {
        let keys = tuples.each_ref().map(Key::from);
        let rewrite = Rewrite::of(&keys).unwrap()[usize::from(reply)];
        prop_assert_eq!(Rewrite::from_words(rewrite.to_words()), rewrite);
        let [arriving, other] = if reply { [tuples[1], tuples[0]] } else { tuples };
        prop_assume!(arriving.src != arriving.dst);
        let mut expected = frame(&arriving, &payload, sum);
        let mut found = expected.clone();
        let layout = parse(&expected).unwrap();
        prop_assert_eq!(layout.tuple, arriving);
        prop_assert!(layout.kind != Kind::Ipv6);
        translate(&mut expected, &layout, &other.reversed());
        apply(&mut found, arriving.protocol, &rewrite);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn only_sessions_of_one_protocol_and_ipv4_have_rewrites() {
    let v4 = Tuple::v4([10, 0, 0, 1].into(), 1, [10, 0, 0, 2].into(), 2, 17);
    let v6 = Tuple {
        src: [0x20; 16],
        dst: [0x21; 16],
        ..v4
    };
    let icmp = Tuple { protocol: 1, ..v4 };
    let has = |a: Tuple, b: Tuple| Rewrite::of(&[Key::from(&a), Key::from(&b)]).is_some();
    assert!(has(v4, v4.reversed()));
    assert!(!has(v6, v6.reversed()) && !has(v4, v6) && !has(v6, v4) && !has(v4, icmp));
}

#[test]
fn a_path_survives_its_words() {
    let keys = [Key::v4(1, 2, 17), Key::v4(3, 4, 17)];
    let [rewrite, _] = Rewrite::of(&keys).unwrap();
    assert_eq!(rewrite.path, Path::default());
    let path = Path {
        index: 0x1234_5678,
        epoch: u32::MAX,
    };
    let told = Rewrite { path, ..rewrite };
    assert_eq!(Rewrite::from_words(told.to_words()), told);
}
