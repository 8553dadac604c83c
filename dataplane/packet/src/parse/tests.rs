use super::*;
use crate::ipv6;
use crate::samples::{self, CLIENT, ROUTER, SERVER, with_ip};
use crate::tcp::Segment;

fn sample(name: &str) -> Vec<u8> {
    let all = samples::all();
    all.into_iter()
        .find(|(n, _)| *n == name)
        .unwrap_or_else(|| panic!("no {name}"))
        .1
}

/// The sample with some bytes changed, and the IPv4 header checksum right again.
fn changed(name: &str, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = sample(name);
    for (offset, byte) in changes {
        frame[*offset] = *byte;
    }
    let len = 4 * usize::from(frame[14] & 0x0f);
    if frame[12..14] == [8, 0] && len >= 20 && frame.len() >= 14 + len {
        frame[24..26].fill(0);
        let value = checksum::checksum(&frame[14..14 + len]);
        frame[24..26].copy_from_slice(&value.to_be_bytes());
    }
    frame
}

/// A sample, offsets in it with what to put there, and what the parser says to that.
type Case<'a> = (&'a str, &'a [(usize, u8)], Malformed);

fn assert_reasons(cases: &[Case<'_>]) {
    for (name, changes, reason) in cases {
        assert_eq!(
            parse(&changed(name, changes)),
            Err(*reason),
            "{name} with {changes:?}"
        );
    }
}

#[test]
fn samples_are_of_the_kind_that_they_are_named_after() {
    for (name, frame) in samples::all() {
        let layout = parse(&frame).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kind = format!("{:?}", layout.kind).to_lowercase();
        let expected = name.split('-').next().unwrap();
        assert!(kind.starts_with(expected), "{name}: {kind}");
        let fragment = match name.split('-').nth(1) {
            Some("first") => Fragment::First,
            Some("later") => Fragment::Later,
            _ => Fragment::None,
        };
        assert_eq!(layout.fragment, fragment, "{name}");
        assert_eq!(
            layout.source_route,
            name.ends_with("source-route"),
            "{name}"
        );
        assert_eq!(
            layout.vlan,
            if name == "tcp-vlan" { 42 } else { 0 },
            "{name}"
        );
    }
}

#[test]
fn plain_tcp() {
    let frame = sample("tcp-data");
    let expected = Layout {
        tuple: Tuple::v4(CLIENT.into(), 40_000, SERVER.into(), 443, 6),
        l4: 34,
        ttl: 64,
        dont_fragment: true,
        tcp_flags: tcp::ACK | tcp::PSH,
        ..Layout::plain(Kind::Tcp, 14, 59, 0)
    };
    assert_eq!(parse(&frame), Ok(expected));
    // Padding of the frame is not part of the datagram.
    let padded = [&frame[..], &[0; 7]].concat();
    assert_eq!(parse(&padded), Ok(expected));
    let segment = Segment::read(&padded, &expected).unwrap();
    let flags = tcp::ACK | tcp::PSH;
    let expected = Segment {
        seq: 7,
        ack: 9,
        window: 512,
        flags,
        payload_len: 5,
        ..segment
    };
    assert_eq!((segment, segment.scale), (expected, None));
}

#[test]
fn syn_options() {
    let frame = sample("tcp-syn");
    let segment = Segment::read(&frame, &parse(&frame).unwrap()).unwrap();
    let expected = Segment {
        seq: 1_000,
        ack: 0,
        window: 64_240,
        flags: tcp::SYN,
        payload_len: 0,
        scale: Some(7),
        sack_permitted: true,
    };
    assert_eq!(segment, expected);
}

#[test]
fn queries_and_their_replies_are_each_others_reverse() {
    let request = parse(&sample("icmpquery-request")).unwrap();
    assert_eq!(
        request.tuple,
        Tuple::v4(CLIENT.into(), 77, SERVER.into(), 0, 1)
    );
    let reply = parse(&changed(
        "icmpquery-reply",
        &[
            (26, 198),
            (27, 51),
            (28, 100),
            (29, 20),
            (30, 192),
            (31, 0),
            (32, 2),
            (33, 10),
        ],
    ));
    assert_eq!(reply.unwrap().tuple, request.tuple.reversed());
}

#[test]
fn errors_travel_in_reverse() {
    for (name, ports) in [
        ("icmperror-tcp", (443, 40_000, 6)),
        ("icmperror-tcp-short", (443, 40_000, 6)),
        ("icmperror-options", (443, 40_000, 6)),
        ("icmperror-udp", (53, 5_353, 17)),
        ("icmperror-echo", (0, 77, 1)),
    ] {
        let layout = parse(&sample(name)).unwrap();
        let (src_port, dst_port, protocol) = ports;
        let expected = Tuple::v4(SERVER.into(), src_port, CLIENT.into(), dst_port, protocol);
        assert_eq!(layout.tuple, expected, "{name}");
        let embedded_l4 = if name.ends_with("options") { 70 } else { 62 };
        assert_eq!(
            (layout.embedded_l3(), layout.embedded_l4),
            (42, embedded_l4),
            "{name}"
        );
        assert_eq!(Segment::read(&sample(name), &layout), None);
    }
}

#[test]
fn fragments() {
    let first = parse(&sample("tcp-first")).unwrap();
    let later = parse(&sample("tcp-later")).unwrap();
    assert_eq!((first.fragment_id, later.fragment_id), (0x1234, 0x1234));
    assert_eq!(
        first.tuple,
        Tuple::v4(CLIENT.into(), 40_000, SERVER.into(), 443, 6)
    );
    assert_eq!(
        later.tuple,
        Tuple {
            src_port: 0,
            dst_port: 0,
            ..first.tuple
        }
    );
    assert_eq!(later.tcp_flags, 0);
    let first = parse(&sample("ipv6-first")).unwrap();
    let later = parse(&sample("ipv6-later")).unwrap();
    assert_eq!(
        (first.fragment_id, later.fragment_id),
        (0xabcd_1234, 0xabcd_1234)
    );
    assert_eq!(
        later.tuple,
        Tuple {
            src_port: 0,
            dst_port: 0,
            ..first.tuple
        }
    );
}

#[test]
fn lying_ipv4_headers() {
    assert_reasons(&[
        ("tcp-syn", &[(14, 0x55)], Malformed::BadVersion),
        ("tcp-syn", &[(14, 0x65)], Malformed::BadVersion),
        ("tcp-syn", &[(14, 0x44)], Malformed::BadHeaderLength),
        ("tcp-syn", &[(14, 0x40)], Malformed::BadHeaderLength),
        ("udp-empty", &[(14, 0x4f)], Malformed::Truncated),
        ("tcp-syn", &[(17, 19)], Malformed::BadTotalLength),
        ("tcp-syn", &[(17, 0)], Malformed::BadTotalLength),
        ("tcp-record-route", &[(17, 27)], Malformed::BadTotalLength),
        ("tcp-syn", &[(17, 61)], Malformed::BadTotalLength),
        (
            "tcp-syn",
            &[(16, 0xff), (17, 0xff)],
            Malformed::BadTotalLength,
        ),
        ("tcp-syn", &[(17, 39)], Malformed::Truncated),
        ("tcp-record-route", &[(35, 0)], Malformed::BadOptions),
        ("tcp-record-route", &[(35, 9)], Malformed::BadOptions),
    ]);
    let mut frame = sample("tcp-syn");
    frame[22] ^= 1;
    assert_eq!(parse(&frame), Err(Malformed::BadChecksum));
    let mut frame = sample("tcp-record-route");
    frame[40] ^= 1;
    assert_eq!(parse(&frame), Err(Malformed::BadChecksum));
    assert_eq!(parse(&vec![0; MAX_FRAME + 1]), Err(Malformed::TooLong));
}

#[test]
fn martians() {
    let same = &[(30, 192), (31, 0), (32, 2), (33, 10)];
    assert_reasons(&[
        ("udp", &[(26, 0)], Malformed::SourceZero),
        ("udp", &[(26, 127)], Malformed::SourceLoopback),
        ("udp", &[(26, 224)], Malformed::SourceMulticast),
        ("udp", &[(26, 239)], Malformed::SourceMulticast),
        ("udp", &[(26, 240)], Malformed::SourceBroadcast),
        (
            "udp",
            &[(26, 255), (27, 255), (28, 255), (29, 255)],
            Malformed::SourceBroadcast,
        ),
        ("udp", same, Malformed::SourceIsDestination),
        ("udp", &[(30, 0)], Malformed::DestinationInvalid),
        ("udp", &[(30, 127)], Malformed::DestinationInvalid),
        ("udp", &[(30, 240)], Malformed::DestinationInvalid),
    ]);
    let broadcast = changed("udp", &[(30, 255), (31, 255), (32, 255), (33, 255)]);
    assert_eq!(parse(&broadcast).map(|l| l.kind), Ok(Kind::Udp));
    let multicast = changed("udp", &[(30, 224)]);
    assert_eq!(parse(&multicast).map(|l| l.kind), Ok(Kind::Udp));
}

#[test]
fn lying_transport_headers() {
    assert_reasons(&[
        ("tcp-syn", &[(46, 0x40)], Malformed::BadTcpOffset),
        ("tcp-syn", &[(46, 0xb0)], Malformed::BadTcpOffset),
        ("tcp-syn", &[(34, 0), (35, 0)], Malformed::BadPort),
        ("tcp-syn", &[(36, 0), (37, 0)], Malformed::BadPort),
        ("tcp-syn", &[(55, 0)], Malformed::BadTcpOptions),
        ("tcp-syn", &[(55, 200)], Malformed::BadTcpOptions),
        ("udp", &[(39, 7)], Malformed::BadUdpLength),
        ("udp", &[(39, 14)], Malformed::BadUdpLength),
        ("udp", &[(38, 255)], Malformed::BadUdpLength),
        ("udp", &[(36, 0), (37, 0)], Malformed::BadPort),
        (
            "icmpquery-request",
            &[(34, icmp::REDIRECT)],
            Malformed::UnwantedIcmp,
        ),
        (
            "icmpquery-request",
            &[(34, icmp::SOURCE_QUENCH)],
            Malformed::UnwantedIcmp,
        ),
        ("icmpquery-request", &[(17, 27)], Malformed::Truncated),
    ]);
    // Only those of SYNs are read, a datagram may be shorter than its packet, and a source port
    // of zero says that no answer is expected.
    for good in [
        changed("tcp-syn", &[(47, tcp::ACK), (55, 0)]),
        changed("udp", &[(39, 12)]),
        changed("udp", &[(34, 0), (35, 0)]),
    ] {
        assert!(parse(&good).is_ok());
    }
}

#[test]
fn hostile_fragments() {
    let fragment = |word: u16, protocol, payload: &[u8]| {
        let mut frame = with_ip(|_| {}, protocol, payload);
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame[24..26].fill(0);
        let value = checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&value.to_be_bytes());
        parse(&frame).map(|layout| layout.fragment)
    };
    let more = ipv4::MORE_FRAGMENTS;
    assert_eq!(fragment(more, 6, &[9; 16]), Err(Malformed::TinyFragment));
    assert_eq!(fragment(1, 6, &[9; 16]), Err(Malformed::TinyFragment));
    assert_eq!(fragment(1, 17, &[9; 16]), Ok(Fragment::Later));
    assert_eq!(fragment(2, 6, &[9; 16]), Ok(Fragment::Later));
    assert_eq!(fragment(2, 6, &[]), Err(Malformed::BadFragment));
    assert_eq!(fragment(2 | more, 6, &[9; 15]), Err(Malformed::BadFragment));
    assert_eq!(fragment(2 | more, 6, &[9; 16]), Ok(Fragment::Later));
    // The reassembled datagram: 20 + 8 * 8,188 + 11 bytes is the most.
    assert_eq!(fragment(8_188, 17, &[9; 11]), Ok(Fragment::Later));
    assert_eq!(fragment(8_188, 17, &[9; 12]), Err(Malformed::BadFragment));
}

#[test]
fn hostile_errors() {
    // The embedded IP header begins at 42, its transport header at 62.
    assert_reasons(&[
        ("icmperror-tcp", &[(42, 0x65)], Malformed::BadEmbedded),
        ("icmperror-tcp", &[(42, 0x44)], Malformed::BadEmbedded),
        (
            "icmperror-tcp",
            &[(42, 0x4f), (44, 1)],
            Malformed::TruncatedEmbedded,
        ),
        ("icmperror-tcp", &[(45, 39)], Malformed::BadEmbedded),
        ("icmperror-tcp", &[(49, 1)], Malformed::BadEmbedded),
        ("icmperror-tcp", &[(54, 1)], Malformed::EmbeddedMismatch),
        ("icmperror-tcp", &[(33, 11)], Malformed::EmbeddedMismatch),
        ("icmperror-tcp", &[(17, 47)], Malformed::TruncatedEmbedded),
        ("icmperror-tcp", &[(17, 55)], Malformed::TruncatedEmbedded),
        (
            "icmperror-echo",
            &[(62, icmp::DESTINATION_UNREACHABLE)],
            Malformed::BadEmbedded,
        ),
    ]);
    let enough = changed("icmperror-tcp", &[(17, 56)]);
    assert_eq!(parse(&enough).map(|l| l.kind), Ok(Kind::IcmpError));
    assert_ne!(CLIENT, ROUTER);
}

#[test]
fn hostile_arp() {
    assert_reasons(&[
        ("arp-request", &[(15, 2)], Malformed::BadArp),
        ("arp-request", &[(16, 0x86)], Malformed::BadArp),
        ("arp-request", &[(18, 8)], Malformed::BadArp),
        ("arp-request", &[(19, 16)], Malformed::BadArp),
        ("arp-request", &[(21, 3)], Malformed::BadArp),
        ("arp-request", &[(22, 1)], Malformed::BadArp),
        ("arp-request", &[(28, 224)], Malformed::BadArp),
    ]);
    let probe = changed("arp-request", &[(28, 0), (29, 0), (30, 0), (31, 0)]);
    assert_eq!(parse(&probe).map(|l| l.kind), Ok(Kind::Arp));
}

/// An IPv6 frame whose next headers are `chain`, eight bytes each, and then UDP.
fn v6_chain(chain: &[u8]) -> Result<Layout, Malformed> {
    let mut frame = sample("ipv6-udp")[..54].to_vec();
    let mut next = chain.iter().skip(1).chain(&[17]);
    frame[20] = *chain.first().unwrap_or(&17);
    for _ in chain {
        frame.extend([*next.next().unwrap(), 0, 0, 0, 0, 0, 0, 0]);
    }
    frame.extend([0x14, 0xe9, 0, 53, 0, 8, 0, 0]);
    let len = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    parse(&frame)
}

#[test]
fn ipv6_extension_headers() {
    for len in 0..=ipv6::MAX_EXTENSIONS {
        let layout = v6_chain(&vec![ipv6::DESTINATION_OPTIONS; len]).unwrap();
        assert_eq!(usize::from(layout.l4), 54 + 8 * len);
        assert_eq!((layout.tuple.src_port, layout.tuple.dst_port), (5_353, 53));
    }
    let many = vec![ipv6::DESTINATION_OPTIONS; ipv6::MAX_EXTENSIONS + 1];
    assert_eq!(v6_chain(&many), Err(Malformed::LoopingHeaders));
    let late = [ipv6::DESTINATION_OPTIONS, ipv6::HOP_BY_HOP];
    assert_eq!(v6_chain(&late), Err(Malformed::LoopingHeaders));
    assert!(v6_chain(&[ipv6::HOP_BY_HOP, ipv6::AUTHENTICATION]).is_ok());
}

#[test]
fn hostile_ipv6() {
    assert_reasons(&[
        ("ipv6-udp", &[(14, 0x45)], Malformed::BadVersion),
        ("ipv6-udp", &[(18, 0xff)], Malformed::BadTotalLength),
        ("ipv6-udp", &[(19, 7)], Malformed::Truncated),
        ("ipv6-udp", &[(20, ipv6::ROUTING)], Malformed::Truncated),
        ("ipv6-udp", &[(22, 0xff)], Malformed::SourceMulticast),
        (
            "ipv6-first",
            &[(62, ipv4::PROTOCOL_TCP)],
            Malformed::TinyFragment,
        ),
    ]);
    let mut mapped = sample("ipv6-udp");
    mapped[22..32].fill(0);
    mapped[32..34].fill(0xff);
    assert_eq!(parse(&mapped), Err(Malformed::MappedAddress));
    mapped[22..38].fill(0);
    assert_eq!(parse(&mapped), Err(Malformed::SourceZero));
    mapped[37] = 1;
    assert_eq!(parse(&mapped), Err(Malformed::SourceLoopback));
}

#[test]
fn tags() {
    let frame = sample("tcp-vlan");
    let layout = parse(&frame).unwrap();
    assert_eq!((layout.l3, layout.l4, layout.vlan), (18, 38, 42));
    // A second tag is somebody else's business.
    let stacked = [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
    let layout = parse(&stacked).unwrap();
    assert_eq!(
        (layout.kind, layout.vlan),
        (Kind::Other(ethernet::TYPE_VLAN), 7)
    );
    assert_eq!(parse(&frame[..17]), Err(Malformed::Truncated));
}

#[test]
fn reasons_have_counters() {
    for (index, reason) in Malformed::ALL.iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert_eq!(
            Malformed::ALL
                .iter()
                .filter(|r| r.name() == reason.name())
                .count(),
            1
        );
        assert!(
            reason
                .name()
                .bytes()
                .all(|b| b == b'_' || b.is_ascii_lowercase())
        );
    }
}
