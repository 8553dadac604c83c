//! The way of nearly every packet: an untagged, whole IPv4 datagram without options that carries
//! UDP or TCP, and has hops left.
//!
//! [`Plain::read`] is [`crate::parse`] for such a frame and refuses all others. It looks at the
//! frame's structure alone. Whether addresses and ports make sense is not asked: a packet that has a
//! session has those of packets that were asked about before. Of one that has none, [`Ends::check`]
//! says it.

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum;
use crate::{Malformed, Tuple, ethernet, ipv4, tcp};

/// Start of the IPv4 header.
const L3: u16 = 14;
/// Start of the transport header.
const L4: u16 = L3 + ipv4::HEADER_LEN;
/// Bits of the fragment word that only fragments have.
const FRAGMENTED: u16 = ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK;
/// What a lower TTL adds to the sum over a header: `~m + m'` of the word that holds it, whatever
/// the word was (RFC 1624 equation 3), as on the wire.
const ONE_HOP_LESS: u16 = u16::from_be(0xfeff);

/// Everything of a plain frame up to the ports and what follows them in UDP.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    stations: ethernet::Stations,
    ether_type: U16,
    version_ihl: u8,
    traffic_class: u8,
    total_len: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    addresses: [u8; 8],
    ports: [u8; 4],
    /// Of UDP; of TCP, the upper half of the sequence number.
    udp_len: U16,
    /// Of UDP; of TCP, the lower half of the sequence number.
    udp_checksum: [u8; 2],
}

const HEAD_LEN: usize = 42;
const _: () = assert!(size_of::<Head>() == HEAD_LEN);

/// Who a plain packet is from and for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Source and destination address, eight bytes as they stand on the wire.
    pub addresses: [u8; 8],
    /// Source and destination port, four bytes as they stand on the wire.
    pub ports: [u8; 4],
}

impl Ends {
    /// The ends of a frame that [`Plain::read`] accepted. `None` if it is too short to be one.
    #[must_use]
    #[inline]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (head, _) = Head::ref_from_prefix(frame).ok()?;
        Some(Self {
            addresses: head.addresses,
            ports: head.ports,
        })
    }

    /// Source and destination address.
    #[must_use]
    #[inline]
    pub const fn hosts(&self) -> [Ipv4Addr; 2] {
        let [a, b, c, d, e, f, g, h] = self.addresses;
        [Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h)]
    }

    /// Source and destination port, in the machine's order.
    #[must_use]
    #[inline]
    pub const fn services(&self) -> [u16; 2] {
        let [a, b, c, d] = self.ports;
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    }

    /// The tuple of a packet of `protocol`.
    #[must_use]
    pub const fn tuple(&self, protocol: u8) -> Tuple {
        let ([source, destination], [from, to]) = (self.hosts(), self.services());
        Tuple::v4(source, from, destination, to, protocol)
    }

    /// Whether a plain packet of `protocol` may be from and for these.
    ///
    /// # Errors
    ///
    /// What [`crate::parse`] says of the packet.
    #[inline]
    pub fn check(&self, protocol: u8) -> Result<(), Malformed> {
        let [a, b, c, d, e, f, g, h] = self.addresses;
        ipv4::check_addresses([a, b, c, d], [e, f, g, h])?;
        let [source, destination] = self.services();
        let unanswerable = (protocol == ipv4::PROTOCOL_TCP) & (source == 0);
        if (destination == 0) | unanswerable {
            return Err(Malformed::BadPort);
        }
        Ok(())
    }
}

/// What else of a plain packet matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// End of the datagram in the frame; what follows is padding.
    pub end: u16,
    /// [`ipv4::PROTOCOL_TCP`] or [`ipv4::PROTOCOL_UDP`].
    pub protocol: u8,
    /// Flags of the TCP header; zero for UDP.
    pub tcp_flags: u8,
}

impl Plain {
    /// Reads a frame; `None` unless it is plain and sound. The IPv4 header checksum is verified.
    // Where it is a call, what it returns goes through memory, for each packet.
    #[must_use]
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<(Self, Ends)> {
        let (head, _) = Head::ref_from_prefix(frame).ok()?;
        let total_len = head.total_len.get();
        let end = usize::from(total_len) + usize::from(L3);
        let header: &[u8; 20] = frame[usize::from(L3)..].first_chunk()?;
        // One branch for all: they hold for nearly every packet.
        let plain = (head.ether_type.get() == ethernet::TYPE_IPV4)
            & (head.version_ihl == ipv4::VERSION_IHL)
            & (head.fragment.get() & FRAGMENTED == 0)
            & (head.ttl > 1)
            & (end <= frame.len())
            & (frame.len() <= crate::MAX_FRAME)
            & checksum::is_valid_header(header);
        if !plain {
            return None;
        }
        let tcp_flags = match head.protocol {
            ipv4::PROTOCOL_UDP => {
                let len = head.udp_len.get();
                let within = u32::from(len) + u32::from(ipv4::HEADER_LEN) <= u32::from(total_len);
                ((len >= crate::udp::HEADER_LEN) & within).then_some(0)
            }
            ipv4::PROTOCOL_TCP => sound_tcp_flags(frame, total_len),
            _ => None,
        }?;
        let plain = Self {
            // At most the frame's length.
            end: total_len.wrapping_add(L3),
            protocol: head.protocol,
            tcp_flags,
        };
        let ends = Ends {
            addresses: head.addresses,
            ports: head.ports,
        };
        Some((plain, ends))
    }

    /// The segment of a plain TCP frame that [`Plain::read`] gave this for. `None` if it is not TCP.
    #[must_use]
    #[inline]
    pub fn segment(&self, frame: &[u8]) -> Option<tcp::Segment> {
        if self.protocol != ipv4::PROTOCOL_TCP {
            return None;
        }
        let segment = frame.get(usize::from(L4)..usize::from(self.end))?;
        let (header, _) = tcp::Header::ref_from_prefix(segment).ok()?;
        let options = match header.flags & tcp::SYN {
            0 => tcp::Options::default(),
            _ => syn_options(frame, header.header_len())?,
        };
        Some(tcp::Segment {
            seq: header.seq.get(),
            ack: header.ack.get(),
            window: header.window.get(),
            flags: header.flags,
            payload_len: (self.end - L4).checked_sub(header.header_len())?,
            scale: options.scale,
            sack_permitted: options.sack_permitted,
        })
    }

    /// Bytes of the datagram, as an MTU counts them.
    #[must_use]
    pub const fn datagram_len(&self) -> u16 {
        self.end - L3
    }
}

/// The flags of a header that lies within the datagram and, if it is that of a SYN, has options that
/// can be read.
#[inline]
fn sound_tcp_flags(frame: &[u8], total_len: u16) -> Option<u8> {
    let (header, _) = tcp::Header::ref_from_prefix(&frame[usize::from(L4)..]).ok()?;
    let header_len = header.header_len();
    let sound = (header_len >= tcp::HEADER_LEN) & (header_len + ipv4::HEADER_LEN <= total_len);
    let unread = (header.flags & tcp::SYN != 0) & (header_len > tcp::HEADER_LEN);
    if !sound || (unread && syn_options(frame, header_len).is_none()) {
        return None;
    }
    Some(header.flags)
}

/// The options of a SYN, whose header is `header_len` long and within the frame. `None` if they
/// cannot be read.
#[inline(never)]
fn syn_options(frame: &[u8], header_len: u16) -> Option<tcp::Options> {
    let options = usize::from(L4 + tcp::HEADER_LEN)..usize::from(L4 + header_len);
    frame.get(options).and_then(tcp::Options::read)
}

/// What a plain packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Destination and source station.
    pub stations: ethernet::Stations,
    /// From whom to whom.
    pub ends: Ends,
    /// `~m + m'` summed over the words of the addresses and folded (RFC 1624 equation 3): two bytes as
    /// on the wire, native-endian.
    pub header_delta: u16,
    /// The same over addresses and ports.
    pub transport_delta: u16,
}

/// Rewrites a frame that [`Plain::read`] accepted, and takes one from its TTL. A transport checksum
/// that was wrong stays wrong by as much.
#[inline]
pub fn rewrite(frame: &mut [u8], plain: &Plain, to: &Leaving) {
    let Ok((head, rest)) = Head::mut_from_prefix(frame) else {
        return;
    };
    head.stations = to.stations;
    head.ttl = head.ttl.wrapping_sub(1);
    let header = !u16::from_ne_bytes(head.checksum);
    let header = checksum::add(checksum::add(header, to.header_delta), ONE_HOP_LESS);
    head.checksum = (!header).to_ne_bytes();
    head.addresses = to.ends.addresses;
    head.ports = to.ends.ports;
    let corrected = |old: u16| !checksum::add(!old, to.transport_delta);
    if plain.protocol == ipv4::PROTOCOL_UDP {
        let old = u16::from_ne_bytes(head.udp_checksum);
        if old != 0 {
            head.udp_checksum = checksum::nonzero(corrected(old)).to_ne_bytes();
        }
    } else if let Some(field) = rest.get_mut(8..10).and_then(|f| f.first_chunk_mut::<2>()) {
        *field = corrected(u16::from_ne_bytes(*field)).to_ne_bytes();
    }
}

#[cfg(test)]
mod tests;
