//! Interfaces as the workers see them: names, addresses and the bounds that come with them.
//!
//! Plain values inside a [`Snapshot`](crate::Snapshot); nothing here changes once it is published.

use std::net::Ipv4Addr;

use packet::Mac;

/// How many interfaces a unit can have: an [`InterfaceSet`] is one machine word.
pub const MAX_INTERFACES: usize = 64;

/// Position of an interface in the configuration. A worker's ports, the counters and the
/// neighbours use the same positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u8);

impl InterfaceId {
    /// The position as an index into a slice.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceSet(u64);

impl InterfaceSet {
    /// Every interface.
    pub const ANY: Self = Self(u64::MAX);
    /// No interface.
    pub const NONE: Self = Self(0);

    /// The set with one more member. Ids from [`MAX_INTERFACES`] on are in no set.
    #[must_use]
    pub const fn with(self, id: InterfaceId) -> Self {
        if id.index() < MAX_INTERFACES {
            Self(self.0 | 1 << id.0)
        } else {
            self
        }
    }

    /// True when `id` is a member.
    #[must_use]
    pub const fn contains(self, id: InterfaceId) -> bool {
        id.index() < MAX_INTERFACES && self.0 >> id.0 & 1 == 1
    }
}

impl FromIterator<InterfaceId> for InterfaceSet {
    fn from_iter<I: IntoIterator<Item = InterfaceId>>(ids: I) -> Self {
        ids.into_iter().fold(Self::NONE, Self::with)
    }
}

/// A block of addresses. Bits beyond the length are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    network: u32,
    mask: u32,
}

impl Prefix {
    /// Every IPv4 address.
    pub const ALL: Self = Self {
        network: 0,
        mask: 0,
    };

    /// The block of `length` leading bits (32 at the most) that `address` lies in.
    #[must_use]
    pub const fn new(address: Ipv4Addr, length: u8) -> Self {
        let mask = match length {
            0 => 0,
            1..=31 => u32::MAX << (32 - length),
            _ => u32::MAX,
        };
        Self {
            network: address.to_bits() & mask,
            mask,
        }
    }

    /// True when `address` lies in the block.
    #[must_use]
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.network
    }

    /// The lowest address.
    #[must_use]
    pub const fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// The highest address.
    #[must_use]
    pub const fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network | !self.mask)
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn length(&self) -> u8 {
        u8::try_from(self.mask.count_ones()).unwrap_or(32)
    }
}

/// An address of an interface together with the network that it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    /// The address itself.
    pub address: Ipv4Addr,
    /// The connected network.
    pub network: Prefix,
}

impl InterfaceAddress {
    /// As operators write it: `192.0.2.1/24`.
    #[must_use]
    pub const fn new(address: Ipv4Addr, length: u8) -> Self {
        Self {
            address,
            network: Prefix::new(address, length),
        }
    }

    /// True for the network's own broadcast addresses, the old all-zeros one included. Networks of
    /// one or two addresses have none (RFC 3021).
    #[must_use]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.network.length() < 31
            && (address == self.network.broadcast() || address == self.network.network())
    }
}

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterfaceRole {
    /// Carries the users' packets.
    Traffic,
    /// Carries heartbeats and state between units, never a user's packet.
    Sync,
}

/// One interface of this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name in the configuration.
    pub name: String,
    /// What it is for.
    pub role: InterfaceRole,
    /// The unit's own address on the segment.
    pub mac: Mac,
    /// The cluster's address on the segment: ours only while primary.
    pub virtual_mac: Option<Mac>,
    /// Largest IP datagram that may leave, in bytes.
    pub mtu: u16,
    /// Addresses that move with the primary role.
    pub cluster_addresses: Vec<InterfaceAddress>,
    /// Address of this unit alone.
    pub unit_address: Option<InterfaceAddress>,
}

impl Interface {
    /// The address that frames leave from: the virtual one while primary.
    #[must_use]
    pub fn source_mac(&self, primary: bool) -> Mac {
        self.virtual_mac.filter(|_| primary).unwrap_or(self.mac)
    }

    /// All addresses, the cluster's first.
    pub fn addresses(&self) -> impl Iterator<Item = &InterfaceAddress> {
        self.cluster_addresses.iter().chain(&self.unit_address)
    }

    /// True when `address` is this interface's: cluster addresses only while primary.
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr, primary: bool) -> bool {
        self.unit_address.is_some_and(|own| own.address == address)
            || primary
                && self
                    .cluster_addresses
                    .iter()
                    .any(|shared| shared.address == address)
    }

    /// The address that the gateway speaks from when it answers `peer` on this interface: one in
    /// the peer's network if there is one. The unit's own only where there is no cluster address
    /// or this unit may not use it.
    #[must_use]
    pub fn speaking_address(&self, peer: Ipv4Addr, primary: bool) -> Option<Ipv4Addr> {
        let shared = self.cluster_address(peer).filter(|_| primary);
        shared.or(self.unit_address.map(|own| own.address))
    }

    /// The cluster address that shares a network with `peer`, or the first one.
    #[must_use]
    pub fn cluster_address(&self, peer: Ipv4Addr) -> Option<Ipv4Addr> {
        self.cluster_addresses
            .iter()
            .find(|shared| shared.network.contains(peer))
            .or(self.cluster_addresses.first())
            .map(|shared| shared.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_every_length() {
        let address = Ipv4Addr::new(203, 0, 113, 77);
        for length in 0..=32 {
            let prefix = Prefix::new(address, length);
            assert_eq!(prefix.length(), length);
            assert!(prefix.contains(address));
            assert!(prefix.contains(prefix.network()) && prefix.contains(prefix.broadcast()));
            let outside = Ipv4Addr::from_bits(prefix.broadcast().to_bits().wrapping_add(1));
            assert_eq!(prefix.contains(outside), length == 0);
        }
    }

    #[test]
    fn small_networks_have_no_broadcast_address() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let has = |length, last| {
            InterfaceAddress::new(address, length).is_broadcast(Ipv4Addr::new(192, 0, 2, last))
        };
        assert!(has(24, 255) && has(24, 0) && has(30, 3));
        assert!(!has(24, 1) && !has(31, 0) && !has(32, 1));
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: InterfaceSet = [0, 5, 63, 64].map(InterfaceId).into_iter().collect();
        assert!(set.contains(InterfaceId(0)) && set.contains(InterfaceId(63)));
        assert!(!set.contains(InterfaceId(1)) && !set.contains(InterfaceId(64)));
        assert!(InterfaceSet::ANY.contains(InterfaceId(7)));
        assert!(!InterfaceSet::NONE.contains(InterfaceId(0)));
    }

    #[test]
    fn only_the_primary_speaks_from_a_cluster_address() {
        let lan = Interface {
            name: "lan".into(),
            role: InterfaceRole::Traffic,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            virtual_mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            mtu: 1500,
            cluster_addresses: vec![
                InterfaceAddress::new(Ipv4Addr::new(192, 0, 2, 1), 24),
                InterfaceAddress::new(Ipv4Addr::new(10, 0, 0, 1), 8),
            ],
            unit_address: Some(InterfaceAddress::new(Ipv4Addr::new(192, 0, 2, 11), 24)),
        };
        let peer = Ipv4Addr::new(10, 9, 9, 9);
        assert_eq!(
            lan.speaking_address(peer, true),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(
            lan.speaking_address(peer, false),
            Some(Ipv4Addr::new(192, 0, 2, 11))
        );
        assert!(lan.owns(Ipv4Addr::new(10, 0, 0, 1), true));
        assert!(!lan.owns(Ipv4Addr::new(10, 0, 0, 1), false));
        assert_eq!(lan.source_mac(true), Mac([2, 0, 0, 0, 0, 9]));
        assert_eq!(lan.source_mac(false), Mac([2, 0, 0, 0, 0, 1]));
    }
}
