//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Kind, Layout, Mac, ethernet};

/// Bytes of a message.
pub const MESSAGE_LEN: usize = 28;
/// Hardware type of Ethernet.
pub const HARDWARE_ETHERNET: u16 = 1;
/// "Who has the target address?"
pub const REQUEST: u16 = 1;
/// "The sender address is at the sender's MAC."
pub const REPLY: u16 = 2;

/// A message.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Message {
    /// [`HARDWARE_ETHERNET`].
    pub hardware: U16,
    /// [`ethernet::TYPE_IPV4`].
    pub protocol: U16,
    /// Bytes of a hardware address: 6.
    pub hardware_len: u8,
    /// Bytes of a protocol address: 4.
    pub protocol_len: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: U16,
    /// MAC of the sender; what its neighbours learn.
    pub sender_mac: Mac,
    /// IPv4 address of the sender; zero in a probe (RFC 5227 section 2.1.1).
    pub sender: [u8; 4],
    /// MAC of the target; meaningless in a request.
    pub target_mac: Mac,
    /// IPv4 address of the target.
    pub target: [u8; 4],
}

impl Message {
    /// The message of a frame whose layout says [`Kind::Arp`].
    #[must_use]
    pub fn read<'a>(frame: &'a [u8], layout: &Layout) -> Option<&'a Self> {
        if layout.kind != Kind::Arp {
            return None;
        }
        let (message, _) = Self::ref_from_prefix(frame.get(usize::from(layout.l3)..)?).ok()?;
        Some(message)
    }

    /// IPv4 address of the sender.
    #[must_use]
    pub const fn sender_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.sender)
    }

    /// IPv4 address of the target.
    #[must_use]
    pub const fn target_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.target)
    }

    /// True for IPv4 over Ethernet, a known operation, and a sender that is one station.
    pub(crate) fn is_sound(&self) -> bool {
        self.hardware.get() == HARDWARE_ETHERNET
            && self.protocol.get() == ethernet::TYPE_IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
            && matches!(self.operation.get(), REQUEST | REPLY)
            && !self.sender_mac.is_group()
            && self.sender_mac != Mac::ZERO
            && !self.sender_ip().is_multicast()
            && !self.sender_ip().is_broadcast()
            && !self.sender_ip().is_loopback()
    }
}
