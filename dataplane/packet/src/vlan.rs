//! The 802.1Q tag, which follows the Ethernet header when its EtherType is
//! [`crate::ethernet::TYPE_VLAN`].

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a tag.
pub const TAG_LEN: usize = 4;

/// A tag, from after the EtherType that announces it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tag {
    /// Priority (3 bits), drop eligibility (1 bit), VLAN identifier (12 bits).
    pub control: U16,
    /// What follows the tag.
    pub ether_type: U16,
}

impl Tag {
    /// The VLAN identifier; zero is a priority tag, which belongs to no VLAN.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.control.get() & 0x0fff
    }
}
