//! The way of nearly every packet: an untagged, whole IPv4 datagram without options that carries
//! UDP, or TCP without SYN, and has hops left.
//!
//! [`Plain::read`] is [`crate::parse`] for such a frame and refuses all others. It looks at the
//! frame's structure alone. Whether addresses and ports make sense is not asked: a packet that has a
//! session has those of packets that were parsed in full before, and one without goes to
//! [`crate::parse`] anyway.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{self, fold_three};
use crate::{ethernet, ipv4, tcp};

/// Start of the IPv4 header.
const L3: u16 = 14;
/// Start of the transport header.
const L4: u16 = L3 + ipv4::HEADER_LEN;
/// Bits of the fragment word that only fragments have.
const FRAGMENTED: u16 = ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK;
/// What a lower TTL adds to the sum over a header: `~m + m'` of the word that holds it, whatever
/// the word was (RFC 1624 equation 3).
const ONE_HOP_LESS: u32 = 0xfeff;

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
    checksum: U16,
    addresses: [u8; 8],
    ports: [u8; 4],
    /// Of UDP; of TCP, the upper half of the sequence number.
    udp_len: U16,
    /// Of UDP; of TCP, the lower half of the sequence number.
    udp_checksum: U16,
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

/// What else of a plain packet matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    /// End of the datagram in the frame; what follows is padding.
    pub end: u16,
    /// [`ipv4::PROTOCOL_TCP`] or [`ipv4::PROTOCOL_UDP`].
    pub protocol: u8,
}

impl Plain {
    /// Reads a frame; `None` unless it is plain and sound. The IPv4 header checksum is verified.
    #[must_use]
    #[inline]
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
        let payload = total_len.wrapping_sub(ipv4::HEADER_LEN);
        let sound = match head.protocol {
            ipv4::PROTOCOL_UDP => {
                let len = head.udp_len.get();
                (len >= crate::udp::HEADER_LEN) & (len <= payload) & (total_len >= L4 - L3 + 8)
            }
            ipv4::PROTOCOL_TCP => is_sound_tcp(frame, total_len),
            _ => false,
        };
        let plain = Self {
            // At most the frame's length.
            end: total_len.wrapping_add(L3),
            protocol: head.protocol,
        };
        let ends = Ends {
            addresses: head.addresses,
            ports: head.ports,
        };
        sound.then_some((plain, ends))
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
        Some(tcp::Segment {
            seq: header.seq.get(),
            ack: header.ack.get(),
            window: header.window.get(),
            flags: header.flags,
            payload_len: (self.end - L4).checked_sub(header.header_len())?,
            scale: None,
            sack_permitted: false,
        })
    }

    /// Bytes of the datagram, as an MTU counts them.
    #[must_use]
    pub const fn datagram_len(&self) -> u16 {
        self.end - L3
    }
}

/// A header that lies within the datagram, and no SYN, whose options would have to be read.
#[inline]
fn is_sound_tcp(frame: &[u8], total_len: u16) -> bool {
    let Ok((header, _)) = tcp::Header::ref_from_prefix(&frame[usize::from(L4)..]) else {
        return false;
    };
    let header_len = header.header_len();
    (header_len >= tcp::HEADER_LEN)
        & (header_len + ipv4::HEADER_LEN <= total_len)
        & (header.flags & tcp::SYN == 0)
}

/// What a plain packet leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Destination and source station.
    pub stations: ethernet::Stations,
    /// From whom to whom.
    pub ends: Ends,
    /// `~m + m'` summed over the words of the addresses and folded (RFC 1624 equation 3).
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
    let header = u32::from(!head.checksum.get()) + u32::from(to.header_delta) + ONE_HOP_LESS;
    head.checksum.set(!fold_three(header));
    head.addresses = to.ends.addresses;
    head.ports = to.ends.ports;
    let delta = u32::from(to.transport_delta);
    if plain.protocol == ipv4::PROTOCOL_UDP {
        let old = head.udp_checksum.get();
        if old != 0 {
            let new = !fold_three(u32::from(!old) + delta);
            head.udp_checksum.set(checksum::nonzero(new));
        }
    } else if let Some(field) = rest.get_mut(8..10).and_then(|f| f.first_chunk_mut::<2>()) {
        let old = u16::from_be_bytes(*field);
        *field = (!fold_three(u32::from(!old) + delta)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests;
