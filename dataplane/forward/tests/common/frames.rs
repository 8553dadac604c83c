//! Frames made and judged by another implementation, etherparse.

use std::net::Ipv4Addr;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, NetSlice, PacketBuilder, PacketBuilderStep,
    SlicedPacket, TransportSlice,
};
use forward::InterfaceId;
use packet::{Layout, Mac, Tuple};

use super::{
    CLIENT, CLIENT_MAC, FAR, LAN, LAN_ADDRESS, ROUTER_MAC, SERVER, WAN, WAN_ADDRESS, virtual_mac,
};

pub const FIN: u8 = packet::tcp::FIN;
pub const SYN: u8 = packet::tcp::SYN;
pub const RST: u8 = packet::tcp::RST;
pub const ACK: u8 = packet::tcp::ACK;

/// How a packet differs from the usual one.
#[derive(Clone, Copy)]
pub struct Ip {
    pub ttl: u8,
    pub dont_fragment: bool,
    pub id: u16,
    pub options: &'static [u8],
    /// Offset in units of eight bytes, and whether more fragments follow.
    pub fragment: (u16, bool),
}

pub const USUAL: Ip = Ip {
    ttl: 64,
    dont_fragment: false,
    id: 0x1234,
    options: &[],
    fragment: (0, false),
};

/// A TCP segment's own fields.
#[derive(Clone, Copy)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
}

type Builder = PacketBuilderStep<IpHeaders>;

/// Ethernet and IP headers of a packet with this tuple that a neighbour on `ingress` sends to the
/// cluster's MAC.
fn start(ingress: InterfaceId, tuple: &Tuple, ip: Ip) -> Builder {
    let source = if ingress == LAN {
        CLIENT_MAC
    } else {
        ROUTER_MAC
    };
    let [from, to] = [tuple.src_v4(), tuple.dst_v4()].map(|address| address.unwrap().octets());
    let mut header = Ipv4Header::new(0, ip.ttl, IpNumber(tuple.protocol), from, to).unwrap();
    header.dont_fragment = ip.dont_fragment;
    header.identification = ip.id;
    header.options = ip.options.try_into().unwrap();
    header.fragment_offset = ip.fragment.0.try_into().unwrap();
    header.more_fragments = ip.fragment.1;
    PacketBuilder::ethernet2(source.0, virtual_mac(ingress).0)
        .ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
}

/// A packet of the tuple's protocol: TCP as given by `segment`, a datagram, or an ICMP echo.
pub fn packet(
    ingress: InterfaceId,
    tuple: &Tuple,
    ip: Ip,
    segment: Segment,
    payload: &[u8],
) -> Vec<u8> {
    let builder = start(ingress, tuple, ip);
    let mut out = Vec::new();
    match tuple.protocol {
        6 => {
            let mut tcp = builder.tcp(tuple.src_port, tuple.dst_port, segment.seq, 60_000);
            if segment.flags & ACK != 0 {
                tcp = tcp.ack(segment.ack);
            }
            if segment.flags & SYN != 0 {
                tcp = tcp.syn();
            }
            if segment.flags & FIN != 0 {
                tcp = tcp.fin();
            }
            if segment.flags & RST != 0 {
                tcp = tcp.rst();
            }
            tcp.write(&mut out, payload).unwrap();
        }
        17 => {
            let udp = builder.udp(tuple.src_port, tuple.dst_port);
            udp.write(&mut out, payload).unwrap();
        }
        1 if tuple.dst_port == 0 => {
            let echo = builder.icmpv4_echo_request(tuple.src_port, 1);
            echo.write(&mut out, payload).unwrap();
        }
        1 => {
            let echo = builder.icmpv4_echo_reply(tuple.dst_port, 1);
            echo.write(&mut out, payload).unwrap();
        }
        protocol => builder
            .write(&mut out, IpNumber(protocol), payload)
            .unwrap(),
    }
    out
}

pub fn udp(ingress: InterfaceId, tuple: &Tuple, payload: &[u8]) -> Vec<u8> {
    assert_eq!(tuple.protocol, 17);
    packet(ingress, tuple, USUAL, NO_SEGMENT, payload)
}

pub fn echo(ingress: InterfaceId, tuple: &Tuple) -> Vec<u8> {
    assert_eq!(tuple.protocol, 1);
    packet(ingress, tuple, USUAL, NO_SEGMENT, b"ping")
}

pub fn tcp(ingress: InterfaceId, tuple: &Tuple, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    assert_eq!(tuple.protocol, 6);
    packet(ingress, tuple, USUAL, Segment { flags, seq, ack }, b"")
}

pub const NO_SEGMENT: Segment = Segment {
    flags: 0,
    seq: 0,
    ack: 0,
};

/// A fragment of a datagram: raw bytes after the IP header.
pub fn fragment(ingress: InterfaceId, tuple: &Tuple, ip: Ip, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let builder = start(ingress, tuple, ip);
    builder
        .write(&mut out, IpNumber(tuple.protocol), payload)
        .unwrap();
    out
}

/// "Destination unreachable, fragmentation needed" about the packet in `offender`, from `source`.
pub fn too_big(ingress: InterfaceId, source: Ipv4Addr, offender: &[u8], mtu: u16) -> Vec<u8> {
    let layout = packet::parse(offender).unwrap();
    let tuple = Tuple::v4(source, 0, layout.tuple.src_v4().unwrap(), 0, 1);
    let [high, low] = mtu.to_be_bytes();
    let mut out = Vec::new();
    start(ingress, &tuple, USUAL)
        .icmpv4_raw(3, 4, [0, 0, high, low])
        .write(&mut out, &offender[14..14 + 28])
        .unwrap();
    out
}

/// One of everything that comes to a gateway with a narrow WAN. Rounds differ in their new sessions.
pub fn of_all_kinds(round: u16) -> Vec<(InterfaceId, Vec<u8>)> {
    let datagram = Tuple::v4(CLIENT, 4_000, SERVER, 53, 17);
    let connection = Tuple::v4(CLIENT, 4_000, SERVER, 80, 6);
    let large = [0; 1_400];
    vec![
        (LAN, udp(LAN, &datagram, b"of a session")),
        (
            LAN,
            udp(
                LAN,
                &Tuple {
                    src_port: 5_000 + round,
                    ..datagram
                },
                b"new",
            ),
        ),
        (LAN, tcp(LAN, &connection, SYN, 1, 0)),
        (
            LAN,
            tcp(
                LAN,
                &Tuple {
                    src_port: 5_000 + round,
                    ..connection
                },
                ACK,
                1,
                1,
            ),
        ),
        (LAN, udp(LAN, &datagram, &large)),
        (
            LAN,
            packet(LAN, &datagram, Ip { ttl: 1, ..USUAL }, NO_SEGMENT, b"x"),
        ),
        (
            LAN,
            fragment(
                LAN,
                &datagram,
                Ip {
                    fragment: (0, true),
                    ..USUAL
                },
                &large[..64],
            ),
        ),
        (LAN, echo(LAN, &Tuple::v4(CLIENT, 1, LAN_ADDRESS, 0, 1))),
        (
            WAN,
            tcp(
                WAN,
                &Tuple::v4(FAR, 5_000 + round, WAN_ADDRESS, 8_080, 6),
                SYN,
                1,
                0,
            ),
        ),
        (WAN, vec![0; 60]),
    ]
}

/// Some of what two workers count, given these frames and a change of a peer's.
pub const WHAT_ALL_KINDS_DO: [&str; 9] = [
    "sessions_created",
    "sessions_expired",
    "sessions_applied",
    "handed_over",
    "fragmented",
    "icmp_errors",
    "punted_local",
    "drop foreign_mac",
    "drop tcp_not_syn",
];

/// The same frame for another station.
pub fn to_mac(mut frame: Vec<u8>, destination: Mac) -> Vec<u8> {
    frame[..6].copy_from_slice(&destination.0);
    frame
}

/// Layout of a frame, and of each checksum that it is right when computed from nothing.
#[track_caller]
pub fn sound(frame: &[u8]) -> Layout {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("not IPv4: {sliced:?}");
    };
    let header = ip.header().to_header();
    assert_eq!(
        header.header_checksum,
        header.calc_header_checksum(),
        "IPv4 checksum"
    );
    let payload = ip.payload().payload;
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = tcp.calc_checksum_ipv4(header.source, header.destination);
            assert_eq!(Ok(tcp.checksum()), sum, "TCP checksum");
        }
        Some(TransportSlice::Udp(udp)) => {
            let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
            assert_eq!(Ok(udp.checksum()), sum, "UDP checksum");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert!(packet::checksum::is_valid(payload), "ICMP checksum");
            assert_eq!(icmp.slice().len(), payload.len());
        }
        other => assert!(other.is_none(), "{other:?}"),
    }
    packet::parse(frame).unwrap()
}

/// Ethernet destination and source.
pub fn macs(frame: &[u8]) -> (Mac, Mac) {
    (
        Mac(*frame[..6].first_chunk().unwrap()),
        Mac(*frame[6..12].first_chunk().unwrap()),
    )
}
