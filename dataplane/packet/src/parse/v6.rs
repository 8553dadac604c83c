//! IPv6: the fixed header and a bounded walk over the extension headers.

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use super::{Start, Upper, check_fragment, length, parse_tcp, parse_udp, short_or};
use crate::{Fragment, Kind, Layout, Malformed, Tuple, icmp, ipv4, ipv6};

/// ICMPv6 echo request and reply (RFC 4443 section 4).
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

pub(super) fn parse(packet: &[u8], start: Start) -> Result<Layout, Malformed> {
    let (header, rest) = ipv6::Header::ref_from_prefix(packet).map_err(|_| Malformed::Truncated)?;
    if header.version_class_label.get() >> 28 != 6 {
        return Err(Malformed::BadVersion);
    }
    let payload = rest
        .get(..usize::from(header.payload_len.get()))
        .ok_or(Malformed::BadTotalLength)?;
    let end = ipv6::HEADER_LEN + length(payload);
    let mut layout = Layout {
        tuple: Tuple {
            src: header.source,
            dst: header.destination,
            ..Tuple::default()
        },
        ttl: header.hop_limit,
        dont_fragment: true,
        ..Layout::plain(Kind::Ipv6, start.l3, start.at(end), start.vlan)
    };
    let payload = skip_extensions(&mut layout, header.next_header, payload)?;
    layout.l4 = layout.end - length(payload);
    check_addresses(header, layout.tuple.protocol)?;
    if layout.fragment == Fragment::Later {
        return Ok(layout);
    }
    let upper = match layout.tuple.protocol {
        ipv4::PROTOCOL_TCP => parse_tcp(payload),
        ipv4::PROTOCOL_UDP => parse_udp(payload, layout.fragment),
        ipv6::PROTOCOL_ICMPV6 => parse_icmp(payload),
        _ => Ok(Upper::new(Kind::Ipv6)),
    }
    .map_err(|reason| short_or(reason, layout.fragment))?;
    layout.tuple.src_port = upper.src_port;
    layout.tuple.dst_port = upper.dst_port;
    layout.tcp_flags = upper.tcp_flags;
    Ok(layout)
}

/// Walks to the transport header; sets the protocol and what the extension headers say. Gives what
/// follows them, which for a later fragment is data.
fn skip_extensions<'a>(
    layout: &mut Layout,
    first: u8,
    payload: &'a [u8],
) -> Result<&'a [u8], Malformed> {
    let mut next = first;
    let mut rest = payload;
    for position in 0..=ipv6::MAX_EXTENSIONS {
        layout.tuple.protocol = next;
        let unit = match next {
            ipv6::HOP_BY_HOP if position > 0 => return Err(Malformed::LoopingHeaders),
            ipv6::FRAGMENT if layout.fragment != Fragment::None => {
                return Err(Malformed::LoopingHeaders);
            }
            ipv6::FRAGMENT => {
                let (header, after) = ipv6::FragmentHeader::ref_from_prefix(rest)
                    .map_err(|_| Malformed::Truncated)?;
                layout.tuple.protocol = header.next_header;
                note_fragment(layout, header, after)?;
                (next, rest) = (header.next_header, after);
                if layout.fragment == Fragment::Later {
                    return Ok(rest);
                }
                continue;
            }
            ipv6::AUTHENTICATION => 4,
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => 8,
            _ => return Ok(rest),
        };
        let (header, _) =
            ipv6::Extension::ref_from_prefix(rest).map_err(|_| Malformed::Truncated)?;
        // Routing type 0 lets a sender bounce packets between routers (RFC 5095).
        layout.source_route |= next == ipv6::ROUTING && header.routing_type == 0;
        let len = 8 + usize::from(header.length) * unit;
        rest = rest.get(len..).ok_or(Malformed::Truncated)?;
        next = header.next_header;
    }
    Err(Malformed::LoopingHeaders)
}

/// A fragment header with neither offset nor more to come makes no fragment (RFC 6946).
fn note_fragment(
    layout: &mut Layout,
    header: &ipv6::FragmentHeader,
    data: &[u8],
) -> Result<(), Malformed> {
    let offset_more = header.offset_more.get();
    let (offset, more) = (offset_more >> 3, offset_more & 1 != 0);
    if offset == 0 && !more {
        return Ok(());
    }
    layout.fragment_id = header.id.get();
    // The fixed header does not count here: only its payload is limited to 65,535 bytes.
    layout.fragment = check_fragment(header.next_header, 0, offset, more, data)?;
    Ok(())
}

/// Refuses addresses that must not be on a wire (RFC 4291 sections 2.5 and 2.7, RFC 6890).
fn check_addresses(header: &ipv6::Header, protocol: u8) -> Result<(), Malformed> {
    let source = Ipv6Addr::from_octets(header.source);
    let destination = Ipv6Addr::from_octets(header.destination);
    // Tuples hold IPv4 addresses in this form, so these could pose as an IPv4 flow.
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        return Err(Malformed::MappedAddress);
    }
    // Duplicate address detection has no source yet (RFC 4862 section 5.4.2).
    if source.is_unspecified() && protocol != ipv6::PROTOCOL_ICMPV6 {
        return Err(Malformed::SourceZero);
    }
    if source.is_loopback() {
        return Err(Malformed::SourceLoopback);
    }
    if source.is_multicast() {
        return Err(Malformed::SourceMulticast);
    }
    if destination.is_unspecified() || destination.is_loopback() {
        return Err(Malformed::DestinationInvalid);
    }
    if source == destination {
        return Err(Malformed::SourceIsDestination);
    }
    Ok(())
}

fn parse_icmp(message: &[u8]) -> Result<Upper, Malformed> {
    let (header, _) = icmp::Header::ref_from_prefix(message).map_err(|_| Malformed::Truncated)?;
    let id = header.id.get();
    Ok(match header.message_type {
        ECHO_REQUEST => Upper {
            src_port: id,
            ..Upper::new(Kind::Ipv6)
        },
        ECHO_REPLY => Upper {
            dst_port: id,
            ..Upper::new(Kind::Ipv6)
        },
        _ => Upper::new(Kind::Ipv6),
    })
}
