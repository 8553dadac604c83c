//! Packets larger than the next link, and packets that come in pieces.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, Ip, NO_SEGMENT, USUAL, sound};
use common::*;
use dpdk::Mempool;
use packet::{Fragment, Tuple};

fn tuple() -> Tuple {
    Tuple::v4(CLIENT, 4_000, SERVER, 53, 17)
}

fn narrow() -> Gateway {
    Gateway::new(Plan::narrow(1_000))
}

fn payload(len: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(len).collect()
}

/// The datagram that these fragments make, and that they are sound.
fn put_together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut pieces: Vec<(usize, bool, Vec<u8>)> = fragments
        .iter()
        .map(|frame| {
            let sliced = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
            let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
                panic!("{sliced:?}");
            };
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            (
                usize::from(header.fragments_offset().value()) * 8,
                header.more_fragments(),
                ip.payload().payload.to_vec(),
            )
        })
        .collect();
    pieces.sort();
    let mut datagram = Vec::new();
    let last = pieces.len() - 1;
    for (index, (offset, more, data)) in pieces.iter().enumerate() {
        assert_eq!((*offset, *more), (datagram.len(), index != last));
        datagram.extend_from_slice(data);
    }
    datagram
}

#[test]
fn a_large_packet_is_cut() {
    let mut gateway = narrow();
    let before = gateway.counts();
    let data = payload(1_400);
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &tuple(), &data), WAN);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|frame| frame.len() <= 1_014));
    let datagram = put_together(&out);
    assert_eq!(datagram.len(), 1_408);
    assert!(datagram.ends_with(&data));
    // The checksum over the pieces put together is right for the addresses that they bear.
    let (source, destination) = (&out[0][26..30], &out[0][30..34]);
    let sum = packet::checksum::pseudo_header(source, destination, 17, 1_408)
        + packet::checksum::sum(&datagram);
    assert_eq!(packet::checksum::fold(sum), 0xffff);
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("fragmented", 1),
            ("fragments_made", 2),
            ("lan rx", 1),
            ("policy 0", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
            ("wan tx", 2),
        ],
    );
}

#[test]
fn options_that_are_not_to_be_copied_stay_in_the_first_fragment() {
    let mut gateway = narrow();
    // Record route (7) is not copied, router alert (148) is.
    let ip = Ip {
        options: &[7, 3, 4, 148, 4, 0, 0, 0],
        ..USUAL
    };
    let frame = frames::packet(LAN, &tuple(), ip, NO_SEGMENT, &payload(1_400));
    let out = gateway.pass_through(LAN, &frame, WAN);
    assert_eq!(put_together(&out).len(), 1_408);
    assert_eq!(out[0][34..42], [7, 3, 4, 148, 4, 0, 0, 0]);
    assert_eq!(out[1][34..42], [1, 1, 1, 148, 4, 0, 0, 0]);
}

#[test]
fn a_large_packet_that_must_not_be_cut_is_refused() {
    let mut gateway = narrow();
    let ip = Ip {
        dont_fragment: true,
        ..USUAL
    };
    let frame = frames::packet(LAN, &tuple(), ip, NO_SEGMENT, &payload(1_400));
    let before = gateway.counts();
    let answer = gateway.pass_through(LAN, &frame, LAN);
    assert_eq!(&answer[0][34..36], [3, 4]);
    assert_eq!(&answer[0][40..42], 1_000u16.to_be_bytes());
    assert_eq!(
        sound(&answer[0]).tuple,
        tuple().reversed(),
        "quoted as its sender knows it"
    );
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("drop too_big", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
            ("policy 0", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
        ],
    );
}

#[test]
fn an_empty_pool_costs_the_packet_that_needs_it() {
    let pool = Mempool::new(&dpdk().0, "tiny", 1, 2_048).unwrap();
    let mut gateway = Gateway::new(Plan {
        pool: Some(pool),
        ..Plan::narrow(1_000)
    });
    let before = gateway.counts();
    gateway.send(LAN, &frames::udp(LAN, &tuple(), &payload(1_400)));
    gateway.turn();
    gateway.assert_moved(
        &before,
        &[
            ("deltas", 1),
            ("drop no_buffers", 1),
            ("lan rx", 1),
            ("policy 0", 1),
            ("sessions_created", 1),
            ("source_nat", 1),
        ],
    );
}

/// The fragments of a datagram of this tuple, as its sender makes them.
fn pieces(tuple: &Tuple, id: u16, len: usize) -> Vec<Vec<u8>> {
    let whole = frames::packet(LAN, tuple, USUAL, NO_SEGMENT, &payload(len));
    let datagram = &whole[34..];
    let count = datagram.len().div_ceil(800);
    (0u16..)
        .zip(datagram.chunks(800))
        .map(|(index, piece)| {
            let ip = Ip {
                id,
                fragment: (index * 100, usize::from(index) + 1 < count),
                ..USUAL
            };
            frames::fragment(LAN, tuple, ip, piece)
        })
        .collect()
}

#[test]
fn fragments_follow_the_first_of_their_datagram() {
    for workers in [1, 4] {
        let mut gateway = Gateway::new(Plan {
            workers,
            ..Plan::default()
        });
        let fragments = pieces(&tuple(), 77, 3_000);
        assert_eq!(fragments.len(), 4);
        for (queue, fragment) in fragments.iter().enumerate() {
            gateway.send_to(queue % usize::from(workers), LAN, fragment);
            gateway.turn();
        }
        let out = gateway.sent(WAN);
        assert_eq!(out.len(), 4, "{workers} workers: {:?}", gateway.counts());
        let datagram = put_together(&out);
        let (source, destination) = (&out[0][26..30], &out[0][30..34]);
        assert_eq!(source, WAN_ADDRESS.octets());
        let len = u16::try_from(datagram.len()).unwrap();
        let sum = packet::checksum::pseudo_header(source, destination, 17, len)
            + packet::checksum::sum(&datagram);
        assert_eq!(packet::checksum::fold(sum), 0xffff);
    }
}

#[test]
fn a_fragment_without_its_first_is_dropped() {
    let mut gateway = Gateway::new(Plan::default());
    let fragments = pieces(&tuple(), 77, 3_000);
    let before = gateway.counts();
    gateway.send(LAN, &fragments[1]);
    gateway.turn();
    gateway.assert_moved(&before, &[("drop fragment", 1), ("lan rx", 1)]);

    assert_eq!(gateway.pass_through(LAN, &fragments[0], WAN).len(), 1);
    gateway.pass(101);
    let before = gateway.counts();
    assert!(gateway.pass_through(LAN, &fragments[1], WAN).is_empty());
    gateway.assert_moved(&before, &[("drop fragment", 1), ("lan rx", 1)]);
}

#[test]
fn a_refused_datagram_is_refused_in_all_its_parts() {
    let mut gateway = Gateway::with_policies(vec![forward::Policy {
        protocols: vec![6],
        ..plain()
    }]);
    let before = gateway.counts();
    for fragment in pieces(&tuple(), 77, 2_000) {
        gateway.send(LAN, &fragment);
    }
    gateway.turn();
    gateway.assert_moved(&before, &[("drop policy_default", 3), ("lan rx", 3)]);
}

#[test]
fn fragments_too_large_for_the_next_link_are_cut_again() {
    let mut gateway = Gateway::new(Plan::narrow(500));
    for fragment in pieces(&tuple(), 77, 2_000) {
        gateway.send(LAN, &fragment);
    }
    gateway.turn();
    let out = gateway.sent(WAN);
    assert_eq!(out.len(), 5);
    assert!(put_together(&out).ends_with(&payload(2_000)));
    let kinds: Vec<_> = out
        .iter()
        .map(|frame| packet::parse(frame).unwrap().fragment)
        .collect();
    assert_eq!(kinds[0], Fragment::First);
    assert!(kinds[1..].iter().all(|kind| *kind == Fragment::Later));
}
