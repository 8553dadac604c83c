//! What the table hashes and compares: a tuple in the form that a worker reads off the wire.
//!
//! ```text
//! word 0   source port 16 | destination port 16 | protocol 8 | zone 8 | VLAN 12 | 0 3 | IPv4 1
//! word 1   IPv4: source and destination address        IPv6: words 1 and 2 are the source
//! word 2…  IPv4: zero                                  IPv6: words 3 and 4 are the destination
//! ```
//!
//! Addresses and ports stand as on the wire, so the key of an IPv4 packet is two loads and a shift.
//! Two tuples have one key only if they differ in nothing but the upper four bits of `vlan`, which no
//! VLAN identifier has.

use packet::Tuple;

/// Set in word 0 when both addresses are IPv4.
const V4: u64 = 1 << 63;
/// Bits of a VLAN identifier (IEEE 802.1Q).
const VLAN: u16 = 0x0fff;
/// The four bytes before the IPv4 address in an IPv4-mapped one. The eight before them are zero.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// A [`Tuple`] as look-ups want it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Key(pub(crate) [u64; 5]);

impl Key {
    /// The key of an IPv4 packet of no zone and no VLAN, with `addresses` (source, destination) and
    /// `ports` (source, destination) as native-endian loads of the eight and four bytes on the wire.
    /// For ICMP queries the ports are as [`Tuple`] has them, in network order.
    #[inline]
    #[must_use]
    pub const fn v4(addresses: u64, ports: u32, protocol: u8) -> Self {
        Self([
            ports as u64 | (protocol as u64) << 32 | V4,
            addresses,
            0,
            0,
            0,
        ])
    }

    /// The keys of a session's tuples.
    #[inline]
    pub(crate) fn both([original, reply]: &[Tuple; 2]) -> [Self; 2] {
        [Self::from(original), Self::from(reply)]
    }

    /// The tuple whose key this is.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        let [w0, w1, w2, w3, w4] = self.0;
        let (src, dst) = if self.is_v4() {
            let [a, b, c, d, e, f, g, h] = w1.to_ne_bytes();
            (mapped([a, b, c, d]), mapped([e, f, g, h]))
        } else {
            (
                zerocopy::transmute!([w1, w2]),
                zerocopy::transmute!([w3, w4]),
            )
        };
        let [a, b, c, d] = low(w0).to_ne_bytes();
        let [protocol, zone, e, f] = high(w0).to_le_bytes();
        Tuple {
            src,
            dst,
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
            protocol,
            zone,
            vlan: u16::from_le_bytes([e, f]) & VLAN,
        }
    }

    /// True when both addresses are IPv4, so that two words say all.
    #[inline]
    pub(crate) const fn is_v4(&self) -> bool {
        self.0[0] & V4 != 0
    }

    #[inline]
    pub(crate) const fn protocol(&self) -> u8 {
        high(self.0[0]).to_le_bytes()[0]
    }

    /// Source and destination port, as on the wire.
    pub(crate) const fn ports(&self) -> u32 {
        low(self.0[0])
    }

    /// Source and destination address of an IPv4 key, as on the wire.
    pub(crate) const fn addresses(&self) -> u64 {
        self.0[1]
    }

    /// The source address, in as many words as it has.
    #[inline]
    pub(crate) fn source(&self) -> [u64; 2] {
        if self.is_v4() {
            let [a, b, c, d, ..] = self.0[1].to_ne_bytes();
            [u64::from(u32::from_ne_bytes([a, b, c, d])), V4]
        } else {
            [self.0[1], self.0[2]]
        }
    }
}

impl From<&Tuple> for Key {
    #[inline]
    fn from(tuple: &Tuple) -> Self {
        let ports: u32 = zerocopy::transmute!([tuple.src_port.to_be(), tuple.dst_port.to_be()]);
        let [e, f] = (tuple.vlan & VLAN).to_le_bytes();
        let domain = u32::from_le_bytes([tuple.protocol, tuple.zone, e, f]);
        let w0 = u64::from(ports) | u64::from(domain) << 32;
        let src: [u32; 4] = zerocopy::transmute!(tuple.src);
        let dst: [u32; 4] = zerocopy::transmute!(tuple.dst);
        let v4 = src[0] | src[1] | dst[0] | dst[1] == 0 && [src[2], dst[2]] == [MAPPED; 2];
        if v4 {
            let addresses = zerocopy::transmute!([src[3], dst[3]]);
            return Self([w0 | V4, addresses, 0, 0, 0]);
        }
        let [w1, w2]: [u64; 2] = zerocopy::transmute!(src);
        let [w3, w4]: [u64; 2] = zerocopy::transmute!(dst);
        Self([w0, w1, w2, w3, w4])
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tuple().fmt(f)
    }
}

/// The key of the same flow, seen from its other end.
pub(crate) const fn reverse_ports(ports: u32) -> u32 {
    ports.rotate_left(16)
}

/// Source and destination address of an IPv4 packet, exchanged.
pub(crate) const fn reverse_addresses(addresses: u64) -> u64 {
    addresses.rotate_left(32)
}

fn mapped(address: [u8; 4]) -> [u8; 16] {
    zerocopy::transmute!([0, 0, MAPPED, u32::from_ne_bytes(address)])
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
pub(crate) const fn low(word: u64) -> u32 {
    word as u32
}

pub(crate) const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// Addresses of both families, and some that only look like IPv4.
    fn address() -> impl Strategy<Value = [u8; 16]> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(mapped),
            any::<[u8; 16]>(),
            any::<[u8; 4]>().prop_map(|a| std::array::from_fn(|i| if i < 4 { a[i] } else { 0 })),
        ]
    }

    prop_compose! {
        fn tuple()(
            src in address(), dst in address(), src_port: u16, dst_port: u16, protocol: u8,
            zone: u8, vlan in 0..=VLAN,
        ) -> Tuple {
            Tuple { src, dst, src_port, dst_port, protocol, zone, vlan }
        }
    }

    proptest! {
        #[test]
        fn keys_and_tuples_are_the_same(tuple in tuple()) {
            prop_assert_eq!(Key::from(&tuple).tuple(), tuple);
            prop_assert_eq!(Key::from(&tuple).is_v4(), tuple.is_v4());
            prop_assert_eq!(Key::from(&tuple).protocol(), tuple.protocol);
        }

        #[test]
        fn an_address_has_the_same_source_whatever_else_differs(one in tuple(), other in tuple()) {
            let other = Tuple { src: one.src, dst: one.dst, ..other };
            prop_assert_eq!(Key::from(&one).source(), Key::from(&other).source());
        }

        #[test]
        fn keys_off_the_wire_are_those_of_tuples(
            src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, protocol: u8,
        ) {
            let tuple = Tuple::v4(src.into(), src_port, dst.into(), dst_port, protocol);
            let wire = [src, dst].concat();
            let ports = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
            let key = Key::v4(
                u64::from_ne_bytes(wire.try_into().unwrap()),
                u32::from_ne_bytes(ports.try_into().unwrap()),
                protocol,
            );
            prop_assert_eq!(key, Key::from(&tuple));
            let back = Key::v4(
                reverse_addresses(key.addresses()), reverse_ports(key.ports()), protocol,
            );
            prop_assert_eq!(back, Key::from(&tuple.reversed()));
        }
    }

    #[test]
    fn a_vlan_identifier_has_twelve_bits() {
        let address = Ipv4Addr::LOCALHOST;
        let tuple = |vlan| Tuple {
            vlan,
            ..Tuple::v4(address, 1, address, 2, 6)
        };
        assert_eq!(Key::from(&tuple(0xf123)), Key::from(&tuple(0x0123)));
        assert_ne!(Key::from(&tuple(0x0fff)), Key::from(&tuple(0x07ff)));
    }
}
