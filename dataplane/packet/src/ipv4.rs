//! The IPv4 header (RFC 791) and its options.

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;

/// Bytes of a header without options.
pub const HEADER_LEN: u16 = 20;
/// First byte of a header without options: version 4, five words.
pub const VERSION_IHL: u8 = 0x45;
/// Flag of [`Header::fragment`]: must not be fragmented.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag of [`Header::fragment`]: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Bits of [`Header::fragment`] that hold the offset, in units of eight bytes.
pub const OFFSET_MASK: u16 = 0x1fff;

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// The header without its options.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits) and header length in words of four bytes (4 bits).
    pub version_ihl: u8,
    /// Differentiated services (RFC 2474) and congestion notification (RFC 3168).
    pub traffic_class: u8,
    /// Bytes of header and payload.
    pub total_len: U16,
    /// Common to the fragments of one datagram (RFC 6864).
    pub id: U16,
    /// [`DONT_FRAGMENT`], [`MORE_FRAGMENTS`] and the fragment offset.
    pub fragment: U16,
    /// Hops that are left.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Internet checksum of the header with its options.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Header {
    /// Version; 4 unless the header lies.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes of header and options as the header claims.
    #[must_use]
    pub const fn header_len(&self) -> u16 {
        ((self.version_ihl & 0x0f) as u16) * 4
    }

    /// Source address.
    #[must_use]
    pub const fn source_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.source)
    }

    /// Destination address.
    #[must_use]
    pub const fn destination_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.destination)
    }
}

/// Looks through an option list. `Some(true)` if it holds a source route (LSRR or SSRR, RFC 791
/// section 3.1; RFC 7126 sections 4.3 and 4.4 advise to drop those), `None` if it is malformed.
pub(crate) fn has_source_route(mut options: &[u8]) -> Option<bool> {
    let mut found = false;
    while let [kind, rest @ ..] = options {
        match *kind {
            OPTION_END => break,
            OPTION_NOP => options = rest,
            kind => {
                let len = usize::from(*rest.first()?);
                if len < 2 {
                    return None;
                }
                found |= kind == OPTION_LOOSE_SOURCE_ROUTE || kind == OPTION_STRICT_SOURCE_ROUTE;
                options = options.get(len..)?;
            }
        }
    }
    Some(found)
}

/// Refuses addresses that RFC 1812 section 5.3.7 and RFC 6890 forbid on a wire; one branch for
/// those that are in order.
#[inline]
pub(crate) fn check_addresses(source: [u8; 4], destination: [u8; 4]) -> Result<(), Malformed> {
    let odd = |first: u8, limit: u8| (first == 0) | (first == 127) | (first >= limit);
    if odd(source[0], 224) | odd(destination[0], 240) | (source == destination) {
        return judge_addresses(source, destination);
    }
    Ok(())
}

#[cold]
fn judge_addresses(source: [u8; 4], destination: [u8; 4]) -> Result<(), Malformed> {
    match source[0] {
        0 => return Err(Malformed::SourceZero),
        127 => return Err(Malformed::SourceLoopback),
        224..=239 => return Err(Malformed::SourceMulticast),
        240..=255 => return Err(Malformed::SourceBroadcast),
        _ => {}
    }
    if source == destination {
        return Err(Malformed::SourceIsDestination);
    }
    if Ipv4Addr::from_octets(destination).is_broadcast() {
        return Ok(());
    }
    Err(Malformed::DestinationInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_lists() {
        for (options, expected) in [
            (&[][..], Some(false)),
            (&[1, 1, 1, 0], Some(false)),
            (&[0, 0xff, 0xff, 0xff], Some(false)),
            (&[148, 4, 0, 0], Some(false)),
            (&[131, 7, 4, 192, 0, 2, 1, 0], Some(true)),
            (&[1, 137, 7, 4, 192, 0, 2, 1], Some(true)),
            (&[148, 0, 0, 0], None),
            (&[148, 1, 0, 0], None),
            (&[1, 1, 1, 148], None),
            (&[148, 5, 0, 0], None),
        ] {
            assert_eq!(has_source_route(options), expected, "{options:?}");
        }
    }
}
