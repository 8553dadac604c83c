//! Frames that the gateway sends of its own accord, written into the caller's buffer.
//!
//! Every function gives the length of the frame (at least [`ethernet::MIN_FRAME`], padded with
//! zeros), or `None` if the buffer is too short or if there must be no such frame: the reason is
//! with each function. Nothing is sent here and no rate is limited; that is the caller's part.

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::{Mac, Tuple, checksum, ethernet, ipv4, vlan};

mod icmp;
mod neighbour;
mod tcp;

pub use icmp::{icmp_echo_reply, icmp_echo_request, icmp_error};
pub use neighbour::{
    arp_announcement, arp_announcement_reply, arp_reply, arp_request, neighbour_advertisement,
};
pub use tcp::tcp_reset;

/// TTL of packets that start here (RFC 1700).
const TTL: u8 = 64;
/// Bytes that hold every frame made here but an echo reply, which is as long as its request.
pub const ROOM: usize = 18 + 576;

/// Ends of one hop on a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Own MAC: the virtual one for what cluster addresses say, the unit's own for its own.
    pub source: Mac,
    /// MAC of the neighbour.
    pub destination: Mac,
    /// VLAN identifier; zero for an untagged frame.
    pub vlan: u16,
}

impl Link {
    /// To one neighbour, untagged.
    #[must_use]
    pub const fn new(source: Mac, destination: Mac) -> Self {
        Self {
            source,
            destination,
            vlan: 0,
        }
    }

    /// To every station of the segment, untagged.
    #[must_use]
    pub const fn broadcast(source: Mac) -> Self {
        Self::new(source, Mac::BROADCAST)
    }
}

/// Writes the Ethernet header, and a tag if there is a VLAN. Gives its length and room for `len`
/// bytes after it.
fn start<'a>(
    out: &'a mut [u8],
    link: &Link,
    ether_type: u16,
    len: usize,
) -> Option<(usize, &'a mut [u8])> {
    let header_len = if link.vlan == 0 {
        ethernet::HEADER_LEN
    } else {
        ethernet::HEADER_LEN + vlan::TAG_LEN
    };
    let frame_len = (header_len + len).max(ethernet::MIN_FRAME);
    let (headers, rest) = out.get_mut(..frame_len)?.split_at_mut_checked(header_len)?;
    let (header, tag) = ethernet::Header::mut_from_prefix(headers).ok()?;
    header.destination = link.destination;
    header.source = link.source;
    if link.vlan == 0 {
        header.ether_type.set(ether_type);
    } else {
        header.ether_type.set(ethernet::TYPE_VLAN);
        let (tag, _) = vlan::Tag::mut_from_prefix(tag).ok()?;
        tag.control.set(link.vlan & 0x0fff);
        tag.ether_type.set(ether_type);
    }
    let (payload, padding) = rest.split_at_mut_checked(len)?;
    padding.fill(0);
    Some((frame_len, payload))
}

/// What differs between the IPv4 headers that start here.
struct Datagram {
    traffic_class: u8,
    dont_fragment: bool,
    id: u16,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
}

impl Datagram {
    /// The common case: one packet, never fragmented, so its identification says nothing
    /// (RFC 6864 section 4.1).
    const fn atomic(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            traffic_class: 0,
            dont_fragment: true,
            id: 0,
            protocol,
            source,
            destination,
        }
    }

    /// Writes Ethernet and IPv4 headers. Gives the frame's length and room for `len` bytes of
    /// payload.
    fn start<'a>(
        &self,
        out: &'a mut [u8],
        link: &Link,
        len: usize,
    ) -> Option<(usize, &'a mut [u8])> {
        let header_len = usize::from(ipv4::HEADER_LEN);
        let total_len = u16::try_from(header_len + len).ok()?;
        let (frame_len, datagram) = start(out, link, ethernet::TYPE_IPV4, usize::from(total_len))?;
        let (header, payload) = datagram.split_at_mut_checked(header_len)?;
        let flags = if self.dont_fragment {
            ipv4::DONT_FRAGMENT
        } else {
            0
        };
        let mut view = ipv4::Header {
            version_ihl: ipv4::VERSION_IHL,
            traffic_class: self.traffic_class,
            total_len: U16::new(total_len),
            id: U16::new(self.id),
            fragment: U16::new(flags),
            ttl: TTL,
            protocol: self.protocol,
            checksum: U16::ZERO,
            source: self.source.octets(),
            destination: self.destination.octets(),
        };
        view.checksum.set(checksum::checksum(view.as_bytes()));
        view.write_to(header).ok()?;
        Some((frame_len, payload))
    }
}

/// True if an answer may go to the sender of this: from one station to one station (RFC 1122
/// section 3.2.2). [`crate::parse`] has seen to the source.
fn is_between_stations(frame: &[u8], tuple: &Tuple) -> bool {
    let Ok((header, _)) = ethernet::Header::ref_from_prefix(frame) else {
        return false;
    };
    let Some(destination) = tuple.dst_v4() else {
        return false;
    };
    !header.destination.is_group() && !destination.is_multicast() && !destination.is_broadcast()
}

#[cfg(test)]
mod tests;
