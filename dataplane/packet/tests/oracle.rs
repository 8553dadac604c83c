//! Random valid packets, built and judged by another implementation, etherparse: what it says of a
//! packet is what our parser says, and after each translation it finds every checksum right when
//! it computes them from nothing.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::Ipv4Addr;

use etherparse::{
    Icmpv4Type, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, NetSlice, PacketBuilder,
    SlicedPacket, TransportSlice, VlanId, icmpv4,
};
use packet::{Kind, Tuple, tcp};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp {
        seq: u32,
        ack: u32,
        window: u16,
        syn: bool,
    },
    Udp {
        checked: bool,
    },
    Echo {
        request: bool,
    },
}

/// A packet, as its sender would describe it.
#[derive(Clone, Debug)]
struct Case {
    tuple: Tuple,
    transport: Transport,
    vlan: Option<u16>,
    ttl: u8,
    options: &'static [u8],
    payload: Vec<u8>,
}

/// Unicast addresses that may cross a gateway.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>()
        .prop_filter("unicast", |a| !matches!(a[0], 0 | 127 | 224..))
        .prop_map(Ipv4Addr::from)
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (address(), 1u16.., address(), 1u16..)
        .prop_filter("two ends", |(src, _, dst, _)| src != dst)
        .prop_map(|(src, src_port, dst, dst_port)| Tuple::v4(src, src_port, dst, dst_port, 0))
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u16>(), any::<bool>()).prop_map(
            |(seq, ack, window, syn)| Transport::Tcp {
                seq,
                ack,
                window,
                syn
            }
        ),
        any::<bool>().prop_map(|checked| Transport::Udp { checked }),
        any::<bool>().prop_map(|request| Transport::Echo { request }),
    ]
}

/// What `tuple` looks like for this transport.
fn shaped(tuple: Tuple, transport: Transport) -> Tuple {
    match transport {
        Transport::Tcp { .. } => Tuple {
            protocol: 6,
            ..tuple
        },
        Transport::Udp { .. } => Tuple {
            protocol: 17,
            ..tuple
        },
        Transport::Echo { request: true } => Tuple {
            protocol: 1,
            dst_port: 0,
            ..tuple
        },
        Transport::Echo { request: false } => Tuple {
            protocol: 1,
            src_port: 0,
            ..tuple
        },
    }
}

fn case() -> impl Strategy<Value = Case> {
    let options = prop_oneof![
        4 => Just(&[][..]),
        1 => Just(&[1, 1, 1, 0][..]),
        1 => Just(&[7, 7, 4, 0, 0, 0, 0, 0][..]),
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (
        tuple(),
        transport(),
        proptest::option::of(1u16..4_095),
        any::<u8>(),
        options,
        payload,
    )
        .prop_map(|(tuple, transport, vlan, ttl, options, payload)| {
            let tuple = shaped(tuple, transport);
            Case {
                tuple,
                transport,
                vlan,
                ttl,
                options,
                payload,
            }
        })
}

impl Case {
    fn frame(&self) -> Vec<u8> {
        let (src, dst) = (self.tuple.src_v4().unwrap(), self.tuple.dst_v4().unwrap());
        let mut header =
            Ipv4Header::new(0, self.ttl, IpNumber::UDP, src.octets(), dst.octets()).unwrap();
        header.options = self.options.try_into().unwrap();
        let ip = IpHeaders::Ipv4(header, Ipv4Extensions::default());
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match self.vlan {
            Some(id) => ethernet.single_vlan(VlanId::try_new(id).unwrap()).ip(ip),
            None => ethernet.ip(ip),
        };
        let (src_port, dst_port) = (self.tuple.src_port, self.tuple.dst_port);
        let mut out = Vec::new();
        match self.transport {
            Transport::Tcp {
                seq,
                ack,
                window,
                syn,
            } => {
                let builder = builder.tcp(src_port, dst_port, seq, window).ack(ack);
                let builder = if syn { builder.syn() } else { builder.psh() };
                builder.write(&mut out, &self.payload).unwrap();
            }
            Transport::Udp { checked } => {
                builder
                    .udp(src_port, dst_port)
                    .write(&mut out, &self.payload)
                    .unwrap();
                if !checked {
                    let at = out.len() - self.payload.len() - 2;
                    out[at..at + 2].fill(0);
                }
            }
            Transport::Echo { request: true } => {
                builder
                    .icmpv4_echo_request(src_port, 1)
                    .write(&mut out, &self.payload)
                    .unwrap();
            }
            Transport::Echo { request: false } => {
                builder
                    .icmpv4_echo_reply(dst_port, 1)
                    .write(&mut out, &self.payload)
                    .unwrap();
            }
        }
        out
    }

    fn kind(&self) -> Kind {
        match self.transport {
            Transport::Tcp { .. } => Kind::Tcp,
            Transport::Udp { .. } => Kind::Udp,
            Transport::Echo { request } => Kind::IcmpQuery { request },
        }
    }

    /// Length of the Ethernet header and tag.
    fn l3(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    /// The datagram of [`Case::frame`] in an ICMP error to its source, cut to `quoted` bytes.
    fn error(&self, router: Ipv4Addr, quoted: usize) -> Vec<u8> {
        let datagram = &self.frame()[self.l3()..];
        let minimum = 20 + self.options.len() + 8;
        let quoted = &datagram[..quoted.clamp(minimum, datagram.len())];
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
        let mut out = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(router.octets(), self.tuple.src_v4().unwrap().octets(), 60)
            .icmpv4(kind)
            .write(&mut out, quoted)
            .unwrap();
        out
    }
}

/// Every checksum of a whole datagram, computed from nothing.
fn assert_checksums(datagram: &[u8]) {
    let sliced = SlicedPacket::from_ip(datagram).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("not IPv4");
    };
    let header = ip.header().to_header();
    assert_eq!(
        header.header_checksum,
        header.calc_header_checksum(),
        "IPv4"
    );
    match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = tcp.calc_checksum_ipv4(header.source, header.destination);
            assert_eq!(tcp.checksum(), expected.unwrap(), "TCP");
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
            assert_eq!(udp.checksum(), expected.unwrap(), "UDP");
        }
        Some(TransportSlice::Udp(_)) => {}
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!(
                icmp.checksum(),
                icmp.icmp_type().calc_checksum(icmp.payload()),
                "ICMP"
            );
        }
        other => panic!("unexpected {other:?}"),
    }
}

fn udp_is_unchecked(datagram: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(datagram).unwrap();
    matches!(sliced.transport, Some(TransportSlice::Udp(udp)) if udp.checksum() == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn parsing(case in case()) {
        let frame = case.frame();
        let layout = packet::parse(&frame).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        prop_assert_eq!(layout.tuple, case.tuple);
        prop_assert_eq!(layout.kind, case.kind());
        prop_assert_eq!(layout.ttl, case.ttl);
        prop_assert_eq!(layout.vlan, case.vlan.unwrap_or(0));
        prop_assert_eq!(usize::from(layout.l3), case.l3());
        prop_assert_eq!(usize::from(layout.end), frame.len());
        let payload = sliced.ip_payload().unwrap().payload;
        prop_assert_eq!(&frame[usize::from(layout.l4)..], payload);
        let segment = tcp::Segment::read(&frame, &layout);
        if let Transport::Tcp { seq, ack, window, syn } = case.transport {
            let expected = tcp::Segment {
                seq,
                ack,
                window,
                flags: tcp::ACK | if syn { tcp::SYN } else { tcp::PSH },
                payload_len: u16::try_from(case.payload.len()).unwrap(),
                scale: None,
                sack_permitted: false,
            };
            prop_assert_eq!(segment, Some(expected));
        } else {
            prop_assert_eq!(segment, None);
        }
    }

    #[test]
    fn translation(case in case(), to in tuple()) {
        let mut frame = case.frame();
        let before = frame.clone();
        let layout = packet::parse(&frame).unwrap();
        let to = shaped(to, case.transport);
        packet::translate(&mut frame, &layout, &to);
        assert_checksums(&frame[case.l3()..]);
        prop_assert_eq!(udp_is_unchecked(&frame[case.l3()..]), udp_is_unchecked(&before[case.l3()..]));
        let translated = packet::parse(&frame).unwrap();
        prop_assert_eq!(translated, packet::Layout { tuple: to, ..layout });
        packet::translate(&mut frame, &translated, &case.tuple);
        prop_assert_eq!(frame, before, "there and back again");
    }

    #[test]
    fn hops(case in case()) {
        let mut frame = case.frame();
        let layout = packet::parse(&frame).unwrap();
        packet::decrement_ttl(&mut frame, &layout);
        assert_checksums(&frame[case.l3()..]);
        prop_assert_eq!(packet::parse(&frame).unwrap().ttl, case.ttl.saturating_sub(1));
    }

    #[test]
    fn errors(case in case(), router in address(), to in tuple(), quoted in 0usize..300) {
        prop_assume!(router != case.tuple.src_v4().unwrap());
        let mut frame = case.error(router, quoted);
        let layout = packet::parse(&frame).unwrap();
        let reversed = case.tuple.reversed();
        prop_assert_eq!(layout.kind, Kind::IcmpError);
        prop_assert_eq!(layout.tuple, reversed);

        let to = shaped(to, case.transport).reversed();
        packet::translate(&mut frame, &layout, &to);
        // The outer message is whole; the embedded one if it was not cut.
        assert_checksums(&frame[14..]);
        let translated = packet::parse(&frame).unwrap();
        prop_assert_eq!(translated.tuple, to);
        let embedded = &frame[usize::from(layout.embedded_l3())..];
        if embedded.len() == case.frame().len() - case.l3() {
            assert_checksums(embedded);
        }
        let outer = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        prop_assert_eq!(outer.destination, to.dst_v4().unwrap().octets());
        prop_assert_eq!(outer.source, to.src_v4().unwrap().octets(), "a router behind NAT is hidden");

        // Where only the destination changes, the router keeps its own name.
        let mut frame = case.error(router, quoted);
        let to = Tuple { src: reversed.src, ..to };
        prop_assume!(to.src != to.dst && to.dst_v4() != Some(router));
        packet::translate(&mut frame, &layout, &to);
        assert_checksums(&frame[14..]);
        let outer = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        prop_assert_eq!(outer.source, router.octets());
        prop_assert_eq!(packet::parse(&frame).unwrap().tuple, to);
    }
}
