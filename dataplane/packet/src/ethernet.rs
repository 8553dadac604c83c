//! The Ethernet II header (IEEE 802.3).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Mac;

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of both station addresses, with which a frame begins.
pub const STATIONS_LEN: usize = 12;
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
