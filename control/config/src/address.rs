//! IPv4 addresses with the length of their network's prefix.

use std::fmt;
use std::net::Ipv4Addr;

/// An address and its network, as in `192.0.2.1/24`; a network alone when its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    /// The address, host bits included.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits, 0..=32.
    pub prefix: u8,
}

impl Ipv4Net {
    /// The network of one address.
    #[must_use]
    pub const fn host(address: Ipv4Addr) -> Self {
        Self {
            address,
            prefix: 32,
        }
    }

    /// The netmask, such as `255.255.255.0`.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix);
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// The network: the same with its host bits zero.
    #[must_use]
    pub fn network(self) -> Self {
        Self {
            address: self.address & self.mask(),
            ..self
        }
    }

    /// The broadcast address; none in networks of one or two addresses (RFC 3021).
    #[must_use]
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        (self.prefix < 31).then(|| self.address | !self.mask())
    }

    /// True when `address` is in the network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network().address
    }

    /// True when the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }

    /// True when a host can have this address in this network: a unicast address that is neither
    /// the network's own nor its broadcast address.
    #[must_use]
    pub fn is_host(self) -> bool {
        let special = self.address.is_unspecified()
            || self.address.is_loopback()
            || self.address.is_multicast()
            || self.address.octets()[0] == 0
            || self.address.octets()[0] >= 240;
        let edge = self.prefix < 31
            && (self.address == self.network().address || Some(self.address) == self.broadcast());
        !special && !edge
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(a: [u8; 4], prefix: u8) -> Ipv4Net {
        Ipv4Net {
            address: a.into(),
            prefix,
        }
    }

    #[test]
    fn masks_cover_every_prefix() {
        assert_eq!(net([0; 4], 0).mask(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(net([0; 4], 1).mask(), Ipv4Addr::new(128, 0, 0, 0));
        assert_eq!(net([0; 4], 24).mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(net([0; 4], 32).mask(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn hosts_are_neither_edges_nor_special() {
        assert!(net([192, 0, 2, 1], 24).is_host());
        assert!(!net([192, 0, 2, 0], 24).is_host());
        assert!(!net([192, 0, 2, 255], 24).is_host());
        assert!(net([192, 0, 2, 0], 31).is_host());
        assert!(net([192, 0, 2, 255], 32).is_host());
        assert!(!net([224, 0, 0, 1], 24).is_host());
        assert!(!net([127, 0, 0, 1], 8).is_host());
        assert!(!net([0, 0, 0, 1], 8).is_host());
        assert!(!net([255, 255, 255, 255], 32).is_host());
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let wide = net([10, 0, 0, 0], 8);
        let narrow = net([10, 1, 2, 3], 24);
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!narrow.overlaps(net([10, 1, 3, 0], 24)));
        assert!(net([0; 4], 0).contains(Ipv4Addr::BROADCAST));
    }
}
