//! The ICMP header (RFC 792) and the errors that a gateway sends.

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header; the offending datagram of an error, or the data of an echo, follows.
pub const HEADER_LEN: u16 = 8;

/// Answer to an echo.
pub const ECHO_REPLY: u8 = 0;
/// Error: could not be delivered.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Deprecated by RFC 6633.
pub const SOURCE_QUENCH: u8 = 4;
/// A better first hop; means something on the segment only.
pub const REDIRECT: u8 = 5;
/// "Answer this."
pub const ECHO_REQUEST: u8 = 8;
/// Error: the TTL, or the time for reassembly, ran out.
pub const TIME_EXCEEDED: u8 = 11;
/// Error: a field of the header was wrong.
pub const PARAMETER_PROBLEM: u8 = 12;
/// "What time is it?"
pub const TIMESTAMP_REQUEST: u8 = 13;
/// Answer to that.
pub const TIMESTAMP_REPLY: u8 = 14;

/// The header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`ECHO_REQUEST`] and the others.
    pub message_type: u8,
    /// Refines the type.
    pub code: u8,
    /// Internet checksum of the whole message, without a pseudo-header.
    pub checksum: U16,
    /// Queries: which of the sender's queries.
    pub id: U16,
    /// Queries: sequence number. "Fragmentation needed": MTU of the next hop (RFC 1191 section 4).
    pub sequence: U16,
}

/// Why a gateway refuses a datagram, as it tells the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No route.
    NetUnreachable,
    /// A route, but the neighbour does not answer.
    HostUnreachable,
    /// Nobody listens (an address of the gateway itself).
    PortUnreachable,
    /// Larger than the link and not to be fragmented.
    FragmentationNeeded {
        /// What would fit, in bytes from the IP header on.
        mtu: u16,
    },
    /// A policy says no (RFC 1812 section 5.2.7.1).
    Prohibited,
    /// The TTL ran out on the way.
    TtlExceeded,
}

impl Problem {
    /// ICMP type and code.
    #[must_use]
    pub const fn type_and_code(self) -> (u8, u8) {
        match self {
            Self::NetUnreachable => (DESTINATION_UNREACHABLE, 0),
            Self::HostUnreachable => (DESTINATION_UNREACHABLE, 1),
            Self::PortUnreachable => (DESTINATION_UNREACHABLE, 3),
            Self::FragmentationNeeded { .. } => (DESTINATION_UNREACHABLE, 4),
            Self::Prohibited => (DESTINATION_UNREACHABLE, 13),
            Self::TtlExceeded => (TIME_EXCEEDED, 0),
        }
    }

    /// The next-hop MTU field; zero for all but [`Problem::FragmentationNeeded`].
    #[must_use]
    pub const fn mtu(self) -> u16 {
        match self {
            Self::FragmentationNeeded { mtu } => mtu,
            _ => 0,
        }
    }
}
