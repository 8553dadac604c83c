//! The neighbours' Ethernet addresses, as the workers read them.
//!
//! An open-addressing table that the control core builds anew for each change and publishes; the
//! state behind it is kept by [`Resolver`](crate::Resolver).

use std::net::Ipv4Addr;

use packet::Mac;

use crate::interface::InterfaceId;

/// One resolved neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface that it is on.
    pub interface: InterfaceId,
    /// Its IP address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// All neighbours that packets can be sent to. Read-only.
#[derive(Debug)]
pub struct Neighbours {
    /// A power of two, at most half full, so that every probe ends at an empty slot.
    slots: Box<[Option<Neighbour>]>,
}

impl Neighbours {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::build(&[])
    }

    /// The table of these neighbours; of two entries for one address the later counts.
    #[must_use]
    pub fn build(neighbours: &[Neighbour]) -> Self {
        let mut table = Self {
            slots: vec![None; (neighbours.len() * 2).next_power_of_two().max(2)].into(),
        };
        for neighbour in neighbours {
            let slot = table.slot(neighbour.interface, neighbour.address);
            table.slots[slot] = Some(*neighbour);
        }
        table
    }

    /// Ethernet address of `address` on `interface`.
    #[must_use]
    pub fn look_up(&self, interface: InterfaceId, address: Ipv4Addr) -> Option<Mac> {
        self.slots[self.slot(interface, address)].map(|neighbour| neighbour.mac)
    }

    /// How many neighbours there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot that holds the neighbour, or the empty one where it belongs.
    fn slot(&self, interface: InterfaceId, address: Ipv4Addr) -> usize {
        let key = u64::from(address.to_bits()) << 8 | u64::from(interface.0);
        let mask = self.slots.len() - 1;
        // Fibonacci hashing: the upper half of the product is well mixed.
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while let Some(held) = &self.slots[slot]
            && (held.interface != interface || held.address != address)
        {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn finds_what_was_built_in_and_nothing_else() {
        let mut model = HashMap::new();
        let mut list = Vec::new();
        for n in 0..5_000u32 {
            // Every address on two interfaces, some twice with another Ethernet address.
            let [_, _, high, low] = n.to_be_bytes();
            let neighbour = Neighbour {
                interface: InterfaceId(low & 1),
                address: Ipv4Addr::from_bits(0x0a00_0000 + n % 4_000),
                mac: Mac([2, 0, 0, 0, high, low]),
            };
            model.insert((neighbour.interface, neighbour.address), neighbour.mac);
            list.push(neighbour);
        }
        let table = Neighbours::build(&list);
        assert_eq!(table.len(), model.len());
        for interface in [0, 1, 2].map(InterfaceId) {
            for n in 0..6_000 {
                let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
                let expected = model.get(&(interface, address)).copied();
                assert_eq!(table.look_up(interface, address), expected);
            }
        }
        assert_eq!(
            Neighbours::none().look_up(InterfaceId(0), Ipv4Addr::LOCALHOST),
            None
        );
    }
}
