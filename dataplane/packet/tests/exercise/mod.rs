//! What a gateway may do to any frame at all, with the promises that it relies on as assertions.
//! Shared by the fuzz target `parse` and by the tests that replay its seeds and crashers.

use std::net::Ipv4Addr;

use packet::build::{self, Link};
use packet::icmp::Problem;
use packet::{Fragment, Kind, Layout, MAX_FRAME, Mac, Tuple, arp, checksum, ipv4, parse, tcp};

/// Does it all to the frame, and again with a right IPv4 header checksum, without which hardly any
/// random change would be looked at closely.
pub(crate) fn exercise(frame: &[u8]) {
    forward(frame);
    let mut repaired = frame.to_vec();
    repair(&mut repaired);
    forward(&repaired);
}

fn repair(frame: &mut [u8]) {
    let l3 = if frame.get(12..14) == Some(&[0x81, 0]) {
        18
    } else {
        14
    };
    let len = 4 * usize::from(frame.get(l3).copied().unwrap_or_default() & 0x0f);
    if let Some(header) = frame.get_mut(l3..l3 + len).filter(|h| h.len() >= 20) {
        header[10..12].fill(0);
        let value = checksum::checksum(header);
        header[10..12].copy_from_slice(&value.to_be_bytes());
    }
}

/// Parses the frame; translates it and builds every answer to it if there is anything to answer.
fn forward(frame: &[u8]) {
    let Ok(layout) = parse(frame) else {
        return;
    };
    check_layout(frame, &layout);
    if matches!(layout.kind, Kind::Arp | Kind::Ipv6 | Kind::Other(_)) {
        let mut copy = frame.to_vec();
        packet::translate(&mut copy, &layout, &other_tuple(&layout));
        assert_eq!(copy, frame, "only IPv4 is translated");
        return;
    }
    check_translation(frame, &layout);
    check_hop(frame, &layout);
    check_answers(frame, &layout);
}

fn check_layout(frame: &[u8], layout: &Layout) {
    assert!(usize::from(layout.end) <= frame.len());
    assert!(layout.l3 <= layout.end);
    assert!(layout.l4 == 0 || (layout.l3 < layout.l4 && layout.l4 <= layout.end));
    assert!(layout.embedded_l4 <= layout.end);
    assert_eq!(layout.embedded_l4 != 0, layout.is_error());
    assert_eq!(
        arp::Message::read(frame, layout).is_some(),
        layout.kind == Kind::Arp
    );
    let is_tcp = layout.tuple.protocol == ipv4::PROTOCOL_TCP && !layout.is_error();
    let segment = tcp::Segment::read(frame, layout);
    assert_eq!(
        segment.is_some(),
        is_tcp && layout.fragment != Fragment::Later
    );
    assert_eq!(segment.map_or(0, |s| s.flags), layout.tcp_flags);
}

/// A tuple that differs from the layout's in every field that a translation may change.
fn other_tuple(layout: &Layout) -> Tuple {
    let old = &layout.tuple;
    let address = |a: [u8; 4], other: Option<Ipv4Addr>| {
        let last = if other == Some(Ipv4Addr::from(a)) {
            a[3] ^ 1
        } else {
            a[3]
        };
        Ipv4Addr::new(a[0], a[1], a[2], last)
    };
    // The same number on both sides could come to stand in both addresses of an outer header.
    let src = address([198, 18, 0, 2], old.src_v4());
    let dst = address([198, 19, 0, 4], old.dst_v4());
    let port = |old: u16, new: u16| if old == 0 { 0 } else { new };
    let (src_port, dst_port) = (port(old.src_port, 40_001), port(old.dst_port, 50_001));
    Tuple::v4(src, src_port, dst, dst_port, old.protocol)
}

fn check_translation(frame: &[u8], layout: &Layout) {
    let to = other_tuple(layout);
    let mut copy = frame.to_vec();
    packet::translate(&mut copy, layout, &to);
    assert_eq!(
        parse(&copy),
        Ok(Layout {
            tuple: to,
            ..*layout
        })
    );
    assert_eq!(
        message_is_valid(frame, layout),
        message_is_valid(&copy, layout)
    );
}

/// The ICMP checksum of a whole message; other protocols are checked by an oracle in the tests.
fn message_is_valid(frame: &[u8], layout: &Layout) -> bool {
    let is_icmp = matches!(layout.kind, Kind::IcmpError | Kind::IcmpQuery { .. });
    is_icmp && checksum::is_valid(&frame[usize::from(layout.l4)..usize::from(layout.end)])
}

fn check_hop(frame: &[u8], layout: &Layout) {
    let mut copy = frame.to_vec();
    packet::decrement_ttl(&mut copy, layout);
    let ttl = layout.ttl.saturating_sub(1);
    assert_eq!(parse(&copy), Ok(Layout { ttl, ..*layout }));
}

fn check_answers(frame: &[u8], layout: &Layout) {
    let link = Link::new(Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 8]));
    let mut room = [0; MAX_FRAME];
    let back = layout.tuple.reversed();
    let from = if layout.tuple.src_v4() == Some(Ipv4Addr::new(192, 0, 2, 1)) {
        Ipv4Addr::new(192, 0, 2, 2)
    } else {
        Ipv4Addr::new(192, 0, 2, 1)
    };
    for problem in [
        Problem::NetUnreachable,
        Problem::HostUnreachable,
        Problem::PortUnreachable,
        Problem::FragmentationNeeded { mtu: 1_280 },
        Problem::Prohibited,
        Problem::TtlExceeded,
    ] {
        let Some(len) = build::icmp_error(&mut room, &link, from, frame, layout, problem) else {
            continue;
        };
        let answer = &room[..len];
        let parsed = parse(answer).expect("errors that we send are errors that we accept");
        assert_eq!((parsed.kind, parsed.tuple), (Kind::IcmpError, back));
        assert!(message_is_valid(answer, &parsed));
        assert!(parsed.datagram_len() <= 576);
        let again = build::icmp_error(&mut [0; MAX_FRAME], &link, from, answer, &parsed, problem);
        assert_eq!(again, None, "no errors about errors");
    }
    if let Some(len) = build::icmp_echo_reply(&mut room, &link, frame, layout) {
        let parsed = parse(&room[..len]).expect("our own reply");
        assert_eq!(
            (parsed.kind, parsed.tuple),
            (Kind::IcmpQuery { request: false }, back)
        );
        assert!(message_is_valid(&room[..len], &parsed));
    }
    if let Some(len) = build::tcp_reset(&mut room, &link, frame, layout) {
        let parsed = parse(&room[..len]).expect("our own reset");
        assert_eq!((parsed.kind, parsed.tuple), (Kind::Tcp, back));
        assert_ne!(parsed.tcp_flags & tcp::RST, 0);
    }
}
