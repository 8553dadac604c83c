//! From bytes to a [`Layout`].
//!
//! Everything here is hostile until proven otherwise: each header is bounds-checked once, by the
//! cast to its view, and every length that the frame states is compared with what is there. The way
//! of a plain IPv4 packet without options and fragments is straight; all else leaves it early, to
//! functions marked cold.

use zerocopy::FromBytes;

use crate::{
    Fragment, Kind, Layout, MAX_FRAME, Malformed, Tuple, arp, checksum, ethernet, icmp, ipv4, tcp,
    udp, vlan,
};

mod embedded;
mod v6;

/// Finds out what `frame`, from its Ethernet header on and without its check sequence, carries.
/// Never panics. The IPv4 header checksum is verified; those of transport headers are not, since
/// a gateway passes a wrong one on unrepaired.
///
/// # Errors
///
/// The reason why nobody can have meant to send this frame to be forwarded.
pub fn parse(frame: &[u8]) -> Result<Layout, Malformed> {
    if frame.len() > MAX_FRAME {
        return Err(Malformed::TooLong);
    }
    let (header, packet) =
        ethernet::Header::ref_from_prefix(frame).map_err(|_| Malformed::Truncated)?;
    let ether_type = header.ether_type.get();
    let start = Start { l3: 14, vlan: 0 };
    if ether_type == ethernet::TYPE_IPV4 {
        return parse_ipv4(packet, start);
    }
    parse_other(ether_type, packet, start)
}

/// Where the network header of a frame begins.
#[derive(Clone, Copy)]
struct Start {
    l3: u16,
    vlan: u16,
}

impl Start {
    /// Offset in the frame of an offset in the packet. Frames are shorter than [`MAX_FRAME`], so
    /// this cannot overflow.
    fn at(self, offset: u16) -> u16 {
        self.l3 + offset
    }
}

/// Everything but untagged IPv4.
fn parse_other(ether_type: u16, packet: &[u8], start: Start) -> Result<Layout, Malformed> {
    match ether_type {
        ethernet::TYPE_VLAN if start.l3 == 14 => {
            let (tag, packet) =
                vlan::Tag::ref_from_prefix(packet).map_err(|_| Malformed::Truncated)?;
            let start = Start {
                l3: 18,
                vlan: tag.id(),
            };
            match tag.ether_type.get() {
                ethernet::TYPE_IPV4 => parse_ipv4(packet, start),
                ether_type => parse_other(ether_type, packet, start),
            }
        }
        ethernet::TYPE_IPV6 => v6::parse(packet, start),
        ethernet::TYPE_ARP => {
            let (message, rest) =
                arp::Message::ref_from_prefix(packet).map_err(|_| Malformed::Truncated)?;
            if !message.is_sound() {
                return Err(Malformed::BadArp);
            }
            let end = length(packet) - length(rest);
            Ok(Layout::plain(
                Kind::Arp,
                start.l3,
                start.at(end),
                start.vlan,
            ))
        }
        other => {
            let end = start.at(length(packet));
            Ok(Layout::plain(Kind::Other(other), start.l3, end, start.vlan))
        }
    }
}

/// Length of a part of a frame; frames are no longer than [`MAX_FRAME`].
fn length(part: &[u8]) -> u16 {
    u16::try_from(part.len()).unwrap_or(u16::MAX)
}

fn parse_ipv4(packet: &[u8], start: Start) -> Result<Layout, Malformed> {
    let (header, _) = ipv4::Header::ref_from_prefix(packet).map_err(|_| Malformed::Truncated)?;
    let (header_len, source_route) = if header.version_ihl == ipv4::VERSION_IHL {
        if !checksum::is_valid_header(zerocopy::transmute_ref!(header)) {
            return Err(Malformed::BadChecksum);
        }
        (ipv4::HEADER_LEN, false)
    } else {
        check_long_header(header, packet)?
    };
    let total_len = header.total_len.get();
    let payload = packet
        .get(usize::from(header_len)..usize::from(total_len))
        .ok_or(Malformed::BadTotalLength)?;
    ipv4::check_addresses(header.source, header.destination)?;

    let (word, protocol) = (header.fragment.get(), header.protocol);
    let (offset, more) = (word & ipv4::OFFSET_MASK, word & ipv4::MORE_FRAGMENTS != 0);
    let (fragment, fragment_id) = if (offset != 0) | more {
        let fragment = check_fragment(protocol, header_len, offset, more, payload)?;
        (fragment, u32::from(header.id.get()))
    } else {
        (Fragment::None, 0)
    };
    let upper = parse_upper(protocol, fragment, payload)?;
    let (source, destination) = (header.source_ip(), header.destination_ip());
    let layout = Layout {
        tuple: Tuple::v4(
            source,
            upper.src_port,
            destination,
            upper.dst_port,
            protocol,
        ),
        kind: upper.kind,
        fragment_id,
        l3: start.l3,
        l4: start.at(header_len),
        end: start.at(total_len),
        embedded_l4: 0,
        vlan: start.vlan,
        ttl: header.ttl,
        fragment,
        dont_fragment: word & ipv4::DONT_FRAGMENT != 0,
        source_route,
        tcp_flags: upper.tcp_flags,
    };
    if upper.kind == Kind::IcmpError {
        return embedded::parse(layout, payload);
    }
    Ok(layout)
}

/// What the transport header says. A layout is made at once, when all of it is known: one that is
/// filled in bit by bit gets copied.
#[derive(Clone, Copy)]
struct Upper {
    kind: Kind,
    src_port: u16,
    dst_port: u16,
    tcp_flags: u8,
}

impl Upper {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            src_port: 0,
            dst_port: 0,
            tcp_flags: 0,
        }
    }
}

fn parse_upper(protocol: u8, fragment: Fragment, payload: &[u8]) -> Result<Upper, Malformed> {
    if fragment == Fragment::Later {
        return Ok(Upper::new(match protocol {
            ipv4::PROTOCOL_TCP => Kind::Tcp,
            ipv4::PROTOCOL_UDP => Kind::Udp,
            _ => Kind::OtherIp,
        }));
    }
    match protocol {
        ipv4::PROTOCOL_TCP => parse_tcp(payload),
        ipv4::PROTOCOL_UDP => parse_udp(payload, fragment),
        ipv4::PROTOCOL_ICMP => parse_icmp(payload),
        _ => Ok(Upper::new(Kind::OtherIp)),
    }
    .map_err(|reason| short_or(reason, fragment))
}

/// A first fragment that lacks part of its transport header is an attack on filters (RFC 1858
/// section 3), not an accident.
fn short_or(reason: Malformed, fragment: Fragment) -> Malformed {
    if fragment == Fragment::First && reason == Malformed::Truncated {
        Malformed::TinyFragment
    } else {
        reason
    }
}

/// Header length and whether there is a source route, for a header with options or a lying one.
#[cold]
fn check_long_header(header: &ipv4::Header, packet: &[u8]) -> Result<(u16, bool), Malformed> {
    if header.version() != 4 {
        return Err(Malformed::BadVersion);
    }
    let header_len = header.header_len();
    if header_len < ipv4::HEADER_LEN {
        return Err(Malformed::BadHeaderLength);
    }
    let bytes = packet
        .get(..usize::from(header_len))
        .ok_or(Malformed::Truncated)?;
    if !checksum::is_valid(bytes) {
        return Err(Malformed::BadChecksum);
    }
    let source_route = ipv4::has_source_route(&bytes[20..]).ok_or(Malformed::BadOptions)?;
    Ok((header_len, source_route))
}

/// Which fragment it is; refuses those that only attacks contain. `offset` is in units of eight
/// bytes, and `header_len` what the reassembled datagram counts besides its payload.
#[cold]
fn check_fragment(
    protocol: u8,
    header_len: u16,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> Result<Fragment, Malformed> {
    let end = usize::from(header_len) + usize::from(offset) * 8 + payload.len();
    let ragged = more && !payload.len().is_multiple_of(8);
    if payload.is_empty() || ragged || end > usize::from(u16::MAX) {
        return Err(Malformed::BadFragment);
    }
    match offset {
        0 => Ok(Fragment::First),
        // RFC 1858 section 3.2 and RFC 3128: nothing may overwrite the ports and flags of TCP.
        1 if protocol == ipv4::PROTOCOL_TCP => Err(Malformed::TinyFragment),
        _ => Ok(Fragment::Later),
    }
}

fn parse_tcp(segment: &[u8]) -> Result<Upper, Malformed> {
    let (header, _) = tcp::Header::ref_from_prefix(segment).map_err(|_| Malformed::Truncated)?;
    let header_len = usize::from(header.header_len());
    if header_len < usize::from(tcp::HEADER_LEN) || header_len > segment.len() {
        return Err(Malformed::BadTcpOffset);
    }
    let (src_port, dst_port) = (header.source.get(), header.destination.get());
    if (src_port == 0) | (dst_port == 0) {
        return Err(Malformed::BadPort);
    }
    if header.flags & tcp::SYN != 0 {
        check_syn(&segment[usize::from(tcp::HEADER_LEN)..header_len])?;
    }
    Ok(Upper {
        kind: Kind::Tcp,
        src_port,
        dst_port,
        tcp_flags: header.flags,
    })
}

#[cold]
fn check_syn(options: &[u8]) -> Result<(), Malformed> {
    tcp::Options::read(options)
        .map(|_| ())
        .ok_or(Malformed::BadTcpOptions)
}

fn parse_udp(datagram: &[u8], fragment: Fragment) -> Result<Upper, Malformed> {
    let (header, _) = udp::Header::ref_from_prefix(datagram).map_err(|_| Malformed::Truncated)?;
    let len = header.length.get();
    // Of a first fragment the length covers what is still to come.
    let too_long = usize::from(len) > datagram.len() && fragment == Fragment::None;
    if (len < udp::HEADER_LEN) | too_long {
        return Err(Malformed::BadUdpLength);
    }
    let (src_port, dst_port) = (header.source.get(), header.destination.get());
    if dst_port == 0 {
        return Err(Malformed::BadPort);
    }
    Ok(Upper {
        src_port,
        dst_port,
        ..Upper::new(Kind::Udp)
    })
}

fn parse_icmp(message: &[u8]) -> Result<Upper, Malformed> {
    let (header, _) = icmp::Header::ref_from_prefix(message).map_err(|_| Malformed::Truncated)?;
    let id = header.id.get();
    match header.message_type {
        icmp::ECHO_REQUEST | icmp::TIMESTAMP_REQUEST => Ok(Upper {
            src_port: id,
            ..Upper::new(Kind::IcmpQuery { request: true })
        }),
        icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY => Ok(Upper {
            dst_port: id,
            ..Upper::new(Kind::IcmpQuery { request: false })
        }),
        icmp::DESTINATION_UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => {
            Ok(Upper::new(Kind::IcmpError))
        }
        icmp::REDIRECT | icmp::SOURCE_QUENCH => Err(Malformed::UnwantedIcmp),
        _ => Ok(Upper::new(Kind::OtherIp)),
    }
}

#[cfg(test)]
mod tests;
