use super::*;
use crate::icmp::Problem;
use crate::samples::{self, CLIENT, CLIENT_MAC, GATEWAY_MAC, ROUTER, SERVER, with_ip};
use crate::{Kind, Layout, MAX_FRAME, arp, parse};

const OWN: Mac = Mac(GATEWAY_MAC);
const NEIGHBOUR: Mac = Mac(CLIENT_MAC);
const LINK: Link = Link::new(OWN, NEIGHBOUR);

fn sample(name: &str) -> (Vec<u8>, Layout) {
    let (_, frame) = samples::all()
        .into_iter()
        .find(|(n, _)| *n == name)
        .unwrap();
    let layout = parse(&frame).unwrap();
    (frame, layout)
}

/// What a builder wrote. The buffer is dirty, so that forgotten bytes show.
fn written(build: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Vec<u8>> {
    let mut out = vec![0xaa; MAX_FRAME];
    let len = build(&mut out)?;
    assert!(len >= ethernet::MIN_FRAME);
    assert_eq!(
        out[len..],
        vec![0xaa; MAX_FRAME - len],
        "nothing beyond the frame"
    );
    out.truncate(len);
    Some(out)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn padded(hex: &str) -> Vec<u8> {
    let mut frame = bytes(hex);
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn arp_messages() {
    let (own, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 10));
    let request = written(|out| arp_request(out, &Link::broadcast(OWN), own, other)).unwrap();
    let expected = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001
        020000000002 c0000201 000000000000 c000020a";
    assert_eq!(request, padded(expected));
    let reply = written(|out| arp_reply(out, &LINK, own, other)).unwrap();
    let expected = "020000000001 020000000002 0806 0001 0800 06 04 0002
        020000000002 c0000201 020000000001 c000020a";
    assert_eq!(reply, padded(expected));
    for frame in [request, reply] {
        let layout = parse(&frame).unwrap();
        let message = arp::Message::read(&frame, &layout).unwrap();
        assert_eq!((message.sender_ip(), message.target_ip()), (own, other));
    }
}

#[test]
fn announcements() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let request = written(|out| arp_announcement(out, OWN, 0, address)).unwrap();
    let expected = "ffffffffffff 020000000002 0806 0001 0800 06 04 0001
        020000000002 c0000201 000000000000 c0000201";
    assert_eq!(request, padded(expected));
    let reply = written(|out| arp_announcement_reply(out, OWN, 42, address)).unwrap();
    let expected = "ffffffffffff 020000000002 8100 002a 0806 0001 0800 06 04 0002
        020000000002 c0000201 020000000002 c0000201";
    assert_eq!(reply, padded(expected));
    assert_eq!(parse(&reply).unwrap().vlan, 42);
}

#[test]
fn neighbour_advertisements() {
    let address = "2001:db8::1".parse().unwrap();
    let frame = written(|out| neighbour_advertisement(out, OWN, 0, address)).unwrap();
    let expected = "333300000001 020000000002 86dd 60000000 0020 3a ff
        20010db8000000000000000000000001 ff020000000000000000000000000001
        88 00 ???? a0000000 20010db8000000000000000000000001 02 01 020000000002";
    let mut expected = bytes(&expected.replace("????", "0000"));
    let body = etherparse::Icmpv6Slice::from_slice(&frame[54..]).unwrap();
    let source = frame[22..38].try_into().unwrap();
    let destination = frame[38..54].try_into().unwrap();
    assert!(body.is_checksum_valid(source, destination));
    expected[56..58].copy_from_slice(&frame[56..58]);
    assert_eq!(frame, expected);
}

#[test]
fn echo_replies() {
    let (frame, layout) = sample("icmpquery-request");
    let reply = written(|out| icmp_echo_reply(out, &LINK, &frame, &layout)).unwrap();
    let parsed = parse(&reply).unwrap();
    assert_eq!(parsed.kind, Kind::IcmpQuery { request: false });
    assert_eq!(parsed.tuple, layout.tuple.reversed());
    let message = &reply[usize::from(parsed.l4)..usize::from(parsed.end)];
    assert!(checksum::is_valid(message));
    assert_eq!(
        message[4..],
        frame[38..],
        "identifier, sequence and data come back"
    );
    assert_eq!(reply[..12], [CLIENT_MAC, GATEWAY_MAC].concat());

    let mut wrong = frame.clone();
    wrong[36] ^= 1;
    assert_eq!(icmp_echo_reply(&mut [0; 99], &LINK, &wrong, &layout), None);
    for name in ["icmpquery-reply", "icmperror-echo", "udp", "arp-request"] {
        let (frame, layout) = sample(name);
        assert_eq!(
            icmp_echo_reply(&mut [0; 99], &LINK, &frame, &layout),
            None,
            "{name}"
        );
    }
}

#[test]
fn errors() {
    let cases = [
        (Problem::NetUnreachable, [3, 0, 0, 0]),
        (Problem::HostUnreachable, [3, 1, 0, 0]),
        (Problem::PortUnreachable, [3, 3, 0, 0]),
        (Problem::FragmentationNeeded { mtu: 1_400 }, [3, 4, 5, 120]),
        (Problem::Prohibited, [3, 13, 0, 0]),
        (Problem::TtlExceeded, [11, 0, 0, 0]),
    ];
    let (frame, layout) = sample("udp");
    for (problem, [kind, code, mtu_high, mtu_low]) in cases {
        let error = written(|out| icmp_error(out, &LINK, ROUTER.into(), &frame, &layout, problem));
        let error = error.unwrap();
        let parsed = parse(&error).unwrap();
        assert_eq!(
            (parsed.kind, parsed.tuple),
            (Kind::IcmpError, layout.tuple.reversed())
        );
        assert_eq!(error[15], 0xc0);
        assert_eq!(error[26..34], [ROUTER, CLIENT].concat());
        let message = &error[34..usize::from(parsed.end)];
        assert!(checksum::is_valid(message));
        assert_eq!(message[..2], [kind, code]);
        assert_eq!(message[4..8], [0, 0, mtu_high, mtu_low]);
        assert_eq!(message[8..], frame[14..], "quoted as it came");
    }
}

#[test]
fn errors_quote_576_bytes() {
    let frame = with_ip(|_| {}, 47, &[7; 1_400]);
    let layout = parse(&frame).unwrap();
    let problem = Problem::FragmentationNeeded { mtu: 1_280 };
    let error = written(|out| icmp_error(out, &LINK, ROUTER.into(), &frame, &layout, problem));
    let error = error.unwrap();
    assert_eq!(
        (parse(&error).unwrap().datagram_len(), error.len()),
        (576, 590)
    );
    let tagged = Link { vlan: 42, ..LINK };
    let error = written(|out| icmp_error(out, &tagged, ROUTER.into(), &frame, &layout, problem));
    assert_eq!(error.unwrap().len(), ROOM);
}

#[test]
fn silence() {
    let error = |frame: &[u8], layout: &Layout| {
        let mut out = [0; ROOM];
        icmp_error(
            &mut out,
            &LINK,
            ROUTER.into(),
            frame,
            layout,
            Problem::TtlExceeded,
        )
    };
    for name in [
        "icmperror-tcp",
        "tcp-later",
        "arp-request",
        "ipv6-tcp",
        "other-lldp",
    ] {
        let (frame, layout) = sample(name);
        assert_eq!(error(&frame, &layout), None, "{name}");
    }
    let unknown = with_ip(|_| {}, ipv4::PROTOCOL_ICMP, &[200, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(error(&unknown, &parse(&unknown).unwrap()), None);
    for destination in [[224, 0, 0, 1], [255; 4]] {
        let frame = with_ip(|ip| ip.destination = destination, 47, &[0; 8]);
        assert_eq!(
            error(&frame, &parse(&frame).unwrap()),
            None,
            "{destination:?}"
        );
    }
    let (mut frame, layout) = sample("udp");
    assert!(error(&frame, &layout).is_some());
    frame[..6].fill(0xff);
    assert_eq!(error(&frame, &layout), None, "sent to the whole segment");
    let (frame, layout) = sample("tcp-first");
    assert!(error(&frame, &layout).is_some());
}

#[test]
fn resets() {
    use crate::tcp::{ACK, RST, Segment};
    // Sequence, acknowledgement and flags; RFC 9293 section 3.5.2, groups 1 and 2.
    for (name, expected) in [
        ("tcp-syn", (0, 1_001, RST | ACK)),
        ("tcp-data", (9, 0, RST)),
        ("tcp-fin", (9, 0, RST)),
        ("tcp-vlan", (0, 8, RST | ACK)),
    ] {
        let (frame, layout) = sample(name);
        let reset = written(|out| tcp_reset(out, &LINK, &frame, &layout)).unwrap();
        let parsed = parse(&reset).unwrap();
        assert_eq!(parsed.tuple, layout.tuple.reversed());
        let segment = Segment::read(&reset, &parsed).unwrap();
        assert_eq!(
            (segment.seq, segment.ack, segment.flags),
            expected,
            "{name}"
        );
        assert_eq!((segment.window, segment.payload_len), (0, 0));
        let bytes = &reset[usize::from(parsed.l4)..usize::from(parsed.end)];
        let oracle = etherparse::TcpSlice::from_slice(bytes).unwrap();
        assert_eq!(
            oracle.calc_checksum_ipv4(SERVER, CLIENT).unwrap(),
            oracle.checksum()
        );
    }
    for name in [
        "tcp-rst",
        "tcp-first",
        "tcp-later",
        "udp",
        "icmperror-tcp",
        "ipv6-tcp",
    ] {
        let (frame, layout) = sample(name);
        assert_eq!(
            tcp_reset(&mut [0; ROOM], &LINK, &frame, &layout),
            None,
            "{name}"
        );
    }
}

#[test]
fn short_buffers_are_refused() {
    let (tcp_frame, tcp) = sample("tcp-syn");
    let (echo_frame, echo) = sample("icmpquery-request");
    let address = Ipv4Addr::new(192, 0, 2, 1);
    type Build<'a> = Box<dyn Fn(&mut [u8]) -> Option<usize> + 'a>;
    let builders: Vec<Build<'_>> = vec![
        Box::new(|out| arp_request(out, &LINK, address, address)),
        Box::new(|out| arp_announcement(out, OWN, 42, address)),
        Box::new(|out| neighbour_advertisement(out, OWN, 0, "2001:db8::1".parse().unwrap())),
        Box::new(|out| icmp_echo_reply(out, &LINK, &echo_frame, &echo)),
        Box::new(|out| {
            icmp_error(
                out,
                &LINK,
                address,
                &tcp_frame,
                &tcp,
                Problem::HostUnreachable,
            )
        }),
        Box::new(|out| tcp_reset(out, &LINK, &tcp_frame, &tcp)),
    ];
    for build in &builders {
        let mut room = [0; ROOM];
        let len = build(&mut room).unwrap();
        assert_eq!(build(&mut room[..len]), Some(len));
        for short in 0..len {
            assert_eq!(build(&mut room[..short]), None, "{short} of {len}");
        }
    }
}
