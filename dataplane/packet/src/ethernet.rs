//! The Ethernet II header (IEEE 802.3).

use zerocopy::little_endian::{U32, U64};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Mac;

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// The shortest frame without its check sequence; shorter ones are padded with zeros.
pub const MIN_FRAME: usize = 60;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const TYPE_VLAN: u16 = 0x8100;

/// The header of an untagged frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// What follows: an EtherType, or a length below 1,536.
    pub ether_type: U16,
}

/// Destination and source of a frame, as it begins with them; twelve bytes in two words, because every
/// packet that leaves gets them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Stations {
    first: U64,
    rest: U32,
}

impl Stations {
    /// A frame from `source` to `destination`.
    #[must_use]
    #[inline]
    pub const fn new(destination: Mac, source: Mac) -> Self {
        Self::from_words(destination.word(), source.word())
    }

    /// The same from [`Mac::word`]s.
    #[must_use]
    #[inline]
    pub const fn from_words(destination: u64, source: u64) -> Self {
        let [_, _, c, d, e, f, _, _] = source.to_le_bytes();
        Self {
            first: U64::new(destination | source << 48),
            rest: U32::from_bytes([c, d, e, f]),
        }
    }
}
