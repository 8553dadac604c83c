use super::*;
use crate::parse;
use crate::samples::{self, CLIENT, SERVER, built};

fn sample(name: &str) -> Vec<u8> {
    samples::all()
        .into_iter()
        .find(|(n, _)| *n == name)
        .unwrap()
        .1
}

fn translated(name: &str, to: &Tuple) -> (Vec<u8>, Vec<u8>) {
    let before = sample(name);
    let mut after = before.clone();
    let layout = parse(&before).unwrap();
    translate(&mut after, &layout, to);
    (before, after)
}

/// A fragment's ports are in its first one, and the checksum covers all of them.
#[test]
fn fragments() {
    let to = Tuple::v4([10, 0, 0, 1].into(), 5, [10, 0, 0, 2].into(), 6, 6);
    let (before, after) = translated("tcp-later", &to);
    assert_eq!(after[34..], before[34..]);
    assert_eq!(
        parse(&after).unwrap().tuple,
        Tuple {
            src_port: 0,
            dst_port: 0,
            ..to
        }
    );
    let (before, after) = translated("tcp-first", &to);
    assert_eq!(parse(&after).unwrap().tuple, to);
    let checksum = |frame: &[u8]| u16::from_be_bytes([frame[50], frame[51]]);
    let sum = |frame: &[u8]| {
        let addresses = crate::checksum::sum(&frame[26..34]);
        crate::checksum::fold(addresses + crate::checksum::sum(&frame[34..]))
    };
    assert_ne!(checksum(&before), checksum(&after));
    assert_eq!(sum(&before), sum(&after));
}

/// Of all source ports one leads to a sum of zero, which must not be sent as "no checksum".
#[test]
fn computed_zero_of_udp() {
    let mut zeros = 0;
    let frame = sample("udp");
    let layout = parse(&frame).unwrap();
    for src_port in 0..=u16::MAX {
        let mut copy = frame.clone();
        let to = Tuple {
            src_port,
            ..layout.tuple
        };
        translate(&mut copy, &layout, &to);
        assert_ne!(copy[40..42], [0, 0]);
        zeros += u32::from(copy[40..42] == [0xff, 0xff]);
    }
    // Port 0 and port 65,535 are the same to the sum, so there may be two.
    assert!((1..=2).contains(&zeros), "{zeros}");
}

#[test]
fn unchecked_udp_stays_unchecked() {
    let to = Tuple::v4([10, 0, 0, 1].into(), 5, [10, 0, 0, 2].into(), 6, 17);
    let (_, after) = translated("udp-unchecked", &to);
    assert_eq!(after[40..42], [0, 0]);
    let (_, after) = translated("icmperror-udp-unchecked", &to);
    assert_eq!(after[68..70], [0, 0]);
    assert!(crate::checksum::is_valid(&after[34..]));
}

/// A wrong checksum is for the receiver to find.
#[test]
fn wrong_checksums_stay_wrong() {
    for at in [50, 51] {
        let mut frame = sample("tcp-data");
        let mut good = frame.clone();
        frame[at] ^= 0x10;
        let layout = parse(&frame).unwrap();
        let to = Tuple::v4([10, 0, 0, 1].into(), 5, [10, 0, 0, 2].into(), 6, 6);
        translate(&mut frame, &layout, &to);
        translate(&mut good, &layout, &to);
        assert_ne!(frame[50..52], good[50..52]);
        assert_eq!(parse(&frame).unwrap().tuple, to);
    }
}

#[test]
fn other_protocols_change_addresses_only() {
    let to = Tuple::v4([10, 0, 0, 1].into(), 0, [10, 0, 0, 2].into(), 0, 47);
    let (before, after) = translated("otherip-gre", &to);
    assert_eq!(after[34..], before[34..]);
    assert_eq!(parse(&after).unwrap().tuple, to);
}

#[test]
fn nothing_else_is_touched() {
    let to = Tuple::v4([10, 0, 0, 1].into(), 5, [10, 0, 0, 2].into(), 6, 6);
    for name in ["arp-request", "ipv6-tcp", "other-lldp"] {
        let (before, after) = translated(name, &to);
        assert_eq!(before, after, "{name}");
    }
    let same = Tuple::v4(CLIENT.into(), 40_000, SERVER.into(), 443, 6);
    let (before, after) = translated("tcp-data", &same);
    assert_eq!(before, after);
}

#[test]
fn hop_limits() {
    let mut frame = sample("ipv6-tcp");
    let layout = parse(&frame).unwrap();
    decrement_ttl(&mut frame, &layout);
    assert_eq!(parse(&frame).unwrap(), Layout { ttl: 63, ..layout });
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(CLIENT, SERVER, 0);
    let mut frame = built(builder.udp(1, 2), b"");
    let layout = parse(&frame).unwrap();
    decrement_ttl(&mut frame, &layout);
    assert_eq!(parse(&frame).unwrap().ttl, 0);
}
