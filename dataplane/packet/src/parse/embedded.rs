//! The datagram that an ICMP error quotes. Only its IP header and the first eight bytes after it
//! are sure to be there (RFC 792), so it is judged by these.

use zerocopy::FromBytes;

use crate::{Layout, Malformed, Tuple, icmp, ipv4, tcp, udp};

/// Completes the layout of an ICMP error, of which `message` is all from its ICMP header on. The header
/// checksum of the quoted datagram is not looked at: routers on the way changed its TTL, and
/// RFC 5508 section 4.1 lets it pass.
#[cold]
pub(super) fn parse(layout: Layout, message: &[u8]) -> Result<Layout, Malformed> {
    let quoted = message
        .get(usize::from(icmp::HEADER_LEN)..)
        .unwrap_or_default();
    let (header, _) =
        ipv4::Header::ref_from_prefix(quoted).map_err(|_| Malformed::TruncatedEmbedded)?;
    let header_len = header.header_len();
    if header.version() != 4 || header_len < ipv4::HEADER_LEN {
        return Err(Malformed::BadEmbedded);
    }
    let transport_len = match header.protocol {
        ipv4::PROTOCOL_TCP => tcp::HEADER_LEN,
        ipv4::PROTOCOL_UDP => udp::HEADER_LEN,
        ipv4::PROTOCOL_ICMP => icmp::HEADER_LEN,
        _ => 0,
    };
    // No errors about later fragments (RFC 1122 section 3.2.2): nothing tells their session.
    if header.fragment.get() & ipv4::OFFSET_MASK != 0
        || header.total_len.get() < header_len + transport_len
    {
        return Err(Malformed::BadEmbedded);
    }
    let l4 = usize::from(header_len);
    let needed = if transport_len == 0 { 0 } else { 8 };
    let start = quoted
        .get(l4..l4 + needed)
        .ok_or(Malformed::TruncatedEmbedded)?;
    let mut tuple = Tuple::v4(
        header.source_ip(),
        0,
        header.destination_ip(),
        0,
        header.protocol,
    );
    (tuple.src_port, tuple.dst_port) = ports(header.protocol, start)?;
    let tuple = tuple.reversed();
    // An error goes to the source of what caused it, and that is what NAT will make of both; so
    // an error cannot be smuggled to anybody but the flow's own end.
    if tuple.dst != layout.tuple.dst {
        return Err(Malformed::EmbeddedMismatch);
    }
    Ok(Layout {
        tuple,
        embedded_l4: layout.embedded_l3() + header_len,
        ..layout
    })
}

/// Source and destination port of a flow, from the first eight bytes of its transport header.
fn ports(protocol: u8, start: &[u8]) -> Result<(u16, u16), Malformed> {
    match protocol {
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => {
            let (header, _) =
                udp::Header::ref_from_prefix(start).map_err(|_| Malformed::TruncatedEmbedded)?;
            Ok((header.source.get(), header.destination.get()))
        }
        ipv4::PROTOCOL_ICMP => {
            let (header, _) =
                icmp::Header::ref_from_prefix(start).map_err(|_| Malformed::TruncatedEmbedded)?;
            match header.message_type {
                icmp::ECHO_REQUEST | icmp::TIMESTAMP_REQUEST => Ok((header.id.get(), 0)),
                icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY => Ok((0, header.id.get())),
                // No errors about errors.
                _ => Err(Malformed::BadEmbedded),
            }
        }
        _ => Ok((0, 0)),
    }
}
