use proptest::prelude::*;

use super::*;
use crate::checksum::fold;
use crate::{Fragment, Kind, Layout, Mac, Tuple, decrement_ttl, parse, samples, translate};

/// What `parse` would have to say of a frame that is plain.
fn is_plain(frame: &[u8], layout: &Layout) -> bool {
    matches!(layout.kind, Kind::Udp | Kind::Tcp)
        && layout.fragment == Fragment::None
        && (layout.l3, layout.l4) == (L3, L4)
        && layout.ttl > 1
        && frame[12..14] == ethernet::TYPE_IPV4.to_be_bytes()
}

fn agree(frame: &[u8]) -> Result<(), TestCaseError> {
    match (Plain::read(frame), parse(frame)) {
        (Some((plain, ends)), Ok(layout)) => {
            prop_assert!(is_plain(frame, &layout));
            prop_assert_eq!(ends.tuple(plain.protocol), layout.tuple);
            prop_assert_eq!(Ends::of(frame), Some(ends));
            prop_assert_eq!(ends.check(plain.protocol), Ok(()));
            prop_assert_eq!(plain.tcp_flags, layout.tcp_flags);
            prop_assert_eq!(plain.end, layout.end);
            prop_assert_eq!(plain.datagram_len(), layout.datagram_len());
            prop_assert_eq!(plain.segment(frame), tcp::Segment::read(frame, &layout));
        }
        // Who a packet is from and for is all that `Plain::read` leaves open.
        (Some((plain, ends)), Err(reason)) => {
            prop_assert_eq!(ends.check(plain.protocol), Err(reason));
        }
        (None, Ok(layout)) => prop_assert!(!is_plain(frame, &layout)),
        (None, Err(_)) => {}
    }
    Ok(())
}

/// What leaves for `to`, computed from the tuples alone.
fn leaving(from: &Tuple, to: &Tuple) -> Leaving {
    let octets = |tuple: &Tuple| [tuple.src_v4().unwrap(), tuple.dst_v4().unwrap()];
    let [old, new] = [octets(from), octets(to)];
    let difference = |old: u16, new: u16| u64::from(!old) + u64::from(new);
    let addresses: u64 = std::iter::zip(old, new)
        .map(|(old, new)| u64::from(!old.to_bits()) + u64::from(new.to_bits()))
        .sum();
    let ports = difference(from.src_port, to.src_port) + difference(from.dst_port, to.dst_port);
    let mut out = Leaving {
        stations: ethernet::Stations::new(Mac([2, 0, 0, 0, 0, 8]), Mac([2, 0, 0, 0, 0, 9])),
        ends: Ends::default(),
        header_delta: fold(addresses).to_be(),
        transport_delta: fold(addresses + ports).to_be(),
    };
    out.ends.addresses[..4].copy_from_slice(&new[0].octets());
    out.ends.addresses[4..].copy_from_slice(&new[1].octets());
    out.ends.ports[..2].copy_from_slice(&to.src_port.to_be_bytes());
    out.ends.ports[2..].copy_from_slice(&to.dst_port.to_be_bytes());
    out
}

/// The two zeros of ones' complement are one number; of UDP only one of them may be sent.
fn with_one_zero(mut frame: Vec<u8>, protocol: u8) -> Vec<u8> {
    if protocol == ipv4::PROTOCOL_TCP && frame[50..52] == [0xff, 0xff] {
        frame[50..52].fill(0);
    }
    frame
}

fn rewritten_alike(frame: &[u8], to: Tuple) -> Result<(), TestCaseError> {
    let (Some((plain, _)), Ok(layout)) = (Plain::read(frame), parse(frame)) else {
        return Ok(());
    };
    let to = Tuple {
        protocol: plain.protocol,
        ..to
    };
    let leaving = leaving(&layout.tuple, &to);
    let mut fast = frame.to_vec();
    rewrite(&mut fast, &plain, &leaving);
    let mut slow = frame.to_vec();
    translate(&mut slow, &layout, &to);
    decrement_ttl(&mut slow, &layout);
    slow[..12].copy_from_slice(&[2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9]);
    let protocol = plain.protocol;
    prop_assert_eq!(with_one_zero(fast, protocol), with_one_zero(slow, protocol));
    Ok(())
}

#[test]
fn every_kind_of_frame_and_every_end_of_it() {
    let mut plain = 0;
    for (name, frame) in samples::all() {
        agree(&frame).unwrap();
        plain += u32::from(Plain::read(&frame).is_some());
        for end in 0..frame.len() {
            agree(&frame[..end]).unwrap();
            assert_eq!(Plain::read(&frame[..end]), None, "{name} up to {end}");
        }
        let padded = [&frame[..], &[0; 20]].concat();
        agree(&padded).unwrap();
    }
    assert!(plain >= 5, "{plain}");
}

fn sample() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(samples::all()).prop_map(|(_, frame)| frame)
}

/// A tuple whose addresses are IPv4.
fn target() -> impl Strategy<Value = Tuple> {
    any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(|(src, sp, dst, dp)| Tuple::v4(src.into(), sp, dst.into(), dp, 0))
}

fn plain_sample() -> impl Strategy<Value = Vec<u8>> {
    let frames = samples::all().into_iter().map(|(_, frame)| frame);
    let plain = frames.filter(|frame| Plain::read(frame).is_some());
    proptest::sample::select(plain.collect::<Vec<_>>())
}

/// Addresses and ports, many of them such as nobody has.
fn strange_ends() -> impl Strategy<Value = Ends> {
    let octet = prop_oneof![
        Just(0u8),
        Just(127),
        Just(224),
        Just(240),
        Just(255),
        any::<u8>()
    ];
    let octets = prop::collection::vec(octet, 8);
    let port = prop_oneof![Just(0u16), any::<u16>()];
    (octets, any::<bool>(), [port.clone(), port]).prop_map(|(octets, same, [from, to])| {
        let mut ends = Ends::default();
        ends.addresses.copy_from_slice(&octets);
        if same {
            ends.addresses.copy_within(..4, 4);
        }
        ends.ports[..2].copy_from_slice(&from.to_be_bytes());
        ends.ports[2..].copy_from_slice(&to.to_be_bytes());
        ends
    })
}

proptest! {
    #[test]
    fn says_of_ends_what_the_parser_says(frame in plain_sample(), ends in strange_ends()) {
        let mut frame = frame;
        frame[26..34].copy_from_slice(&ends.addresses);
        frame[34..38].copy_from_slice(&ends.ports);
        frame[24..26].fill(0);
        let sum = checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let (plain, read) = Plain::read(&frame).unwrap();
        prop_assert_eq!(read, ends);
        prop_assert_eq!(ends.check(plain.protocol).err(), parse(&frame).err());
    }

    /// With the header checksum made right again, so that what is behind it is reached.
    #[test]
    fn agrees_with_the_parser_on_damaged_frames(
        frame in sample(), at in 12usize..60, value: u8, repair: bool,
    ) {
        let mut frame = frame;
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        if repair && frame.len() >= 34 {
            frame[24..26].fill(0);
            let sum = checksum::checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        agree(&frame)?;
    }

    #[test]
    fn rewrites_as_the_general_way_does(
        frame in sample(), to in target(), same: bool, checksum: u16,
    ) {
        let mut frame = frame;
        if let Some(field) = frame.get_mut(40..42) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        let from = parse(&frame).map(|layout| layout.tuple);
        let to = from.ok().filter(|from| same && from.is_v4()).unwrap_or(to);
        rewritten_alike(&frame, to)?;
    }
}

/// No checksum stays none.
#[test]
fn udp_without_a_checksum() {
    let (_, mut frame) = samples::all()
        .into_iter()
        .find(|(name, _)| *name == "udp")
        .unwrap();
    frame[40..42].fill(0);
    let to = Tuple::v4([10, 1, 2, 3].into(), 9, [10, 3, 2, 1].into(), 8, 17);
    let (plain, ends) = Plain::read(&frame).unwrap();
    let leaving = leaving(&ends.tuple(plain.protocol), &to);
    rewrite(&mut frame, &plain, &leaving);
    assert_eq!(frame[40..42], [0, 0]);
    assert_eq!(parse(&frame).unwrap().tuple, to);
}
