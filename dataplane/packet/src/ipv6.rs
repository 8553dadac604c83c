//! The IPv6 header and its extension headers (RFC 8200).

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the fixed header.
pub const HEADER_LEN: u16 = 40;
/// How many extension headers are followed before a packet counts as an attack (RFC 8504
/// section 5.3 lets a receiver choose; each kind may sensibly appear once, destination options twice).
pub const MAX_EXTENSIONS: usize = 8;

/// Extension header: options for every hop, only as the first one.
pub const HOP_BY_HOP: u8 = 0;
/// Extension header: routing.
pub const ROUTING: u8 = 43;
/// Extension header: fragment.
pub const FRAGMENT: u8 = 44;
/// Extension header: authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;
/// Extension header: options for the destination.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// The fixed header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
    pub version_class_label: U32,
    /// Bytes after this header.
    pub payload_len: U16,
    /// What follows.
    pub next_header: u8,
    /// Hops that are left.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// How every extension header but the fragment header begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extension {
    /// What follows.
    pub next_header: u8,
    /// Length beyond the first eight bytes, in units of eight (of four for authentication,
    /// less two).
    pub length: u8,
    /// Routing type, or option bytes.
    pub routing_type: u8,
    /// Segments left, or option bytes.
    pub segments_left: u8,
    /// To eight bytes.
    pub data: [u8; 4],
}

/// The fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FragmentHeader {
    /// What follows.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of eight bytes (13 bits), reserved (2 bits), more fragments (1 bit).
    pub offset_more: U16,
    /// Common to the fragments of one datagram.
    pub id: U32,
}
