//! One valid frame of every kind that the parser tells apart, built by another implementation.
//! Also the seeds of the fuzz target: see `examples/fuzz_seeds.rs`.

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, IpFragOffset, IpHeaders,
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, TcpHeader, TcpOptionElement, VlanId, icmpv4,
};

pub(crate) const CLIENT: [u8; 4] = [192, 0, 2, 10];
pub(crate) const SERVER: [u8; 4] = [198, 51, 100, 20];
pub(crate) const ROUTER: [u8; 4] = [203, 0, 113, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const CLIENT_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SERVER_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A name and a frame each. The name's first part is the kind.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = v4();
    all.extend(errors());
    all.extend(v6());
    all.push(("arp-request", arp(ArpOperation::REQUEST)));
    all.push(("arp-reply", arp(ArpOperation::REPLY)));
    all.push((
        "other-lldp",
        [&[0xff; 12][..], &[0x88, 0xcc, 1, 2, 3]].concat(),
    ));
    all
}

fn v4() -> Vec<(&'static str, Vec<u8>)> {
    let builder = || ethernet().ipv4(CLIENT, SERVER, 64);
    let tagged = |id| ethernet().single_vlan(VlanId::try_new(id).unwrap());
    let tcp = || transport_tcp(b"");
    let mut all = vec![
        ("tcp-syn", syn()),
        (
            "tcp-ack",
            built(builder().tcp(40_000, 443, 7, 512).ack(9), b""),
        ),
        (
            "tcp-data",
            built(builder().tcp(40_000, 443, 7, 512).ack(9).psh(), b"hello"),
        ),
        (
            "tcp-fin",
            built(builder().tcp(40_000, 443, 7, 512).ack(9).fin(), b""),
        ),
        (
            "tcp-rst",
            built(builder().tcp(40_000, 443, 7, 0).rst(), b""),
        ),
        (
            "tcp-vlan",
            built(
                tagged(42).ipv4(CLIENT, SERVER, 64).tcp(40_000, 443, 7, 512),
                b"x",
            ),
        ),
        ("udp", built(builder().udp(5_353, 53), b"query")),
        ("udp-empty", built(builder().udp(5_353, 53), b"")),
        (
            "icmpquery-request",
            built(builder().icmpv4_echo_request(77, 1), b"ping"),
        ),
        (
            "icmpquery-reply",
            built(builder().icmpv4_echo_reply(77, 1), b"ping"),
        ),
        (
            "tcp-record-route",
            with_ip(|ip| options(ip, &[7, 7, 4, 0, 0, 0, 0, 0]), 6, &tcp()),
        ),
        (
            "tcp-source-route",
            with_ip(|ip| options(ip, &[131, 7, 4, 9, 9, 9, 9, 0]), 6, &tcp()),
        ),
        (
            "tcp-first",
            with_ip(|ip| fragment(ip, 0, true), 6, &transport_tcp(b"1234")),
        ),
        (
            "tcp-later",
            with_ip(|ip| fragment(ip, 64, false), 6, b"rest"),
        ),
        ("otherip-gre", with_ip(|_| {}, 47, &[0, 0, 8, 0])),
    ];
    let mut unchecked = built(builder().udp(5_353, 53), b"query");
    unchecked[40..42].fill(0);
    all.push(("udp-unchecked", unchecked));
    all
}

fn errors() -> Vec<(&'static str, Vec<u8>)> {
    let unreachable = |header| Icmpv4Type::DestinationUnreachable(header);
    let needed = || icmpv4::DestUnreachableHeader::FragmentationNeeded {
        next_hop_mtu: 1_400,
    };
    let exceeded = icmpv4::TimeExceededCode::TtlExceededInTransit;
    let builder = || ethernet().ipv4(ROUTER, CLIENT, 63);
    let quoted = |name: &str| {
        let (_, frame) = v4()
            .into_iter()
            .find(|(sample, _)| *sample == name)
            .unwrap();
        frame[14..].to_vec()
    };
    let error = |kind, datagram: &[u8]| built(builder().icmpv4(kind), datagram);
    vec![
        (
            "icmperror-tcp",
            error(unreachable(needed()), &quoted("tcp-data")),
        ),
        (
            "icmperror-tcp-short",
            error(Icmpv4Type::TimeExceeded(exceeded), &quoted("tcp-ack")[..28]),
        ),
        (
            "icmperror-options",
            error(unreachable(needed()), &quoted("tcp-record-route")),
        ),
        (
            "icmperror-udp",
            error(
                unreachable(icmpv4::DestUnreachableHeader::Port),
                &quoted("udp"),
            ),
        ),
        (
            "icmperror-udp-unchecked",
            error(unreachable(needed()), &quoted("udp-unchecked")),
        ),
        (
            "icmperror-echo",
            error(
                Icmpv4Type::TimeExceeded(exceeded),
                &quoted("icmpquery-request"),
            ),
        ),
    ]
}

fn v6() -> Vec<(&'static str, Vec<u8>)> {
    let builder = || ethernet().ipv6(CLIENT_V6, SERVER_V6, 64);
    let udp = [0x14, 0xe9, 0, 53, 0, 8, 0, 0];
    let options =
        Ipv6RawExtHeader::new_raw(IpNumber::IPV6_FRAGMENTATION_HEADER, &[1, 4, 0, 0, 0, 0])
            .unwrap();
    let routing = |kind| Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[kind, 1, 0, 0, 0, 0]).unwrap();
    let part = |offset, more| {
        let offset = IpFragOffset::try_new(offset).unwrap();
        Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, 0xabcd_1234).to_bytes()
    };
    vec![
        (
            "ipv6-tcp",
            built(builder().tcp(40_000, 443, 7, 512).syn(), b""),
        ),
        ("ipv6-udp", built(builder().udp(5_353, 53), b"query")),
        (
            "ipv6-echo",
            built(builder().icmpv6_echo_request(77, 1), b"ping"),
        ),
        (
            "ipv6-first",
            raw_v6(
                60,
                &[&options.to_bytes()[..], &part(0, true), &udp].concat(),
            ),
        ),
        (
            "ipv6-later",
            raw_v6(44, &[&part(8, false)[..], b"rest"].concat()),
        ),
        (
            "ipv6-atomic",
            raw_v6(44, &[&part(0, false)[..], &udp].concat()),
        ),
        (
            "ipv6-source-route",
            raw_v6(43, &[&routing(0).to_bytes()[..], &udp].concat()),
        ),
        (
            "ipv6-routing",
            raw_v6(43, &[&routing(2).to_bytes()[..], &udp].concat()),
        ),
    ]
}

/// A SYN as hosts send them, with every usual option.
pub(crate) fn syn() -> Vec<u8> {
    let mut header = TcpHeader::new(40_000, 443, 1_000, 64_240);
    header.syn = true;
    header
        .set_options(&[
            TcpOptionElement::MaximumSegmentSize(1_460),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::Timestamp(1, 0),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
        ])
        .unwrap();
    built(ethernet().ipv4(CLIENT, SERVER, 64).tcp_header(header), b"")
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(CLIENT_MAC, GATEWAY_MAC)
}

/// Steps of the builder end in functions of one name but no common trait.
pub(crate) trait Finish {
    fn finish(self, out: &mut Vec<u8>, payload: &[u8]);
}

macro_rules! finish {
    ($($header:ty),*) => { $(impl Finish for etherparse::PacketBuilderStep<$header> {
        fn finish(self, out: &mut Vec<u8>, payload: &[u8]) {
            self.write(out, payload).unwrap();
        }
    })* };
}
finish!(
    TcpHeader,
    etherparse::UdpHeader,
    etherparse::Icmpv4Header,
    etherparse::Icmpv6Header
);

pub(crate) fn built(step: impl Finish, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    step.finish(&mut out, payload);
    out
}

fn transport_tcp(payload: &[u8]) -> Vec<u8> {
    built(
        ethernet().ipv4(CLIENT, SERVER, 64).tcp(40_000, 443, 7, 512),
        payload,
    )[34..]
        .to_vec()
}

fn options(header: &mut Ipv4Header, list: &[u8]) {
    header.options = list.try_into().unwrap();
}

fn fragment(header: &mut Ipv4Header, offset: u16, more: bool) {
    header.dont_fragment = false;
    header.identification = 0x1234;
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.more_fragments = more;
}

/// An IPv4 frame with a header as `change` makes it; lengths and checksum are right.
pub(crate) fn with_ip(
    change: impl FnOnce(&mut Ipv4Header),
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = Ipv4Header::new(0, 64, IpNumber(protocol), CLIENT, SERVER).unwrap();
    change(&mut header);
    let headers = IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
    let mut out = Vec::new();
    ethernet()
        .ip(headers)
        .write(&mut out, IpNumber(protocol), payload)
        .unwrap();
    out
}

fn raw_v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: u16::try_from(payload.len()).unwrap(),
        next_header: IpNumber(next_header),
        hop_limit: 64,
        source: CLIENT_V6,
        destination: SERVER_V6,
    };
    [
        &GATEWAY_MAC[..],
        &CLIENT_MAC,
        &[0x86, 0xdd],
        &header.to_bytes(),
        payload,
    ]
    .concat()
}

fn arp(operation: ArpOperation) -> Vec<u8> {
    let target: &[u8] = if operation == ArpOperation::REQUEST {
        &[0; 6]
    } else {
        &GATEWAY_MAC
    };
    let message = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &CLIENT_MAC,
        &CLIENT,
        target,
        &SERVER,
    )
    .unwrap();
    let mut out = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, [0xff; 6])
        .arp(message)
        .write(&mut out)
        .unwrap();
    out
}
