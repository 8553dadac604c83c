//! The key of a session: who talks to whom, in one direction.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One direction of a flow. Forty bytes, five machine words, no padding, so that it can be hashed,
/// compared and copied as words.
///
/// IPv4 addresses are stored as IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2). Ports are in
/// the machine's order. For an ICMP query the identifier stands in the port of the side that asked,
/// and the other port is zero; so a request and its reply are each other's [`Tuple::reversed`].
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C, align(8))]
pub struct Tuple {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port, or the identifier of an ICMP request.
    pub src_port: u16,
    /// Destination port, or the identifier of an ICMP reply.
    pub dst_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Room for a routing domain; zero today.
    pub zone: u8,
    /// VLAN that both directions use; zero when untagged. Zero today.
    pub vlan: u16,
}

impl Tuple {
    /// The tuple of an IPv4 packet.
    #[must_use]
    pub const fn v4(
        src: Ipv4Addr,
        src_port: u16,
        dst: Ipv4Addr,
        dst_port: u16,
        protocol: u8,
    ) -> Self {
        Self {
            src: src.to_ipv6_mapped().octets(),
            dst: dst.to_ipv6_mapped().octets(),
            src_port,
            dst_port,
            protocol,
            zone: 0,
            vlan: 0,
        }
    }

    /// The same flow seen from its other end.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..*self
        }
    }

    /// True when both addresses are IPv4.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.src_v4().is_some() && self.dst_v4().is_some()
    }

    /// The source as an IPv4 address, if it is one.
    #[must_use]
    pub const fn src_v4(&self) -> Option<Ipv4Addr> {
        mapped_v4(self.src)
    }

    /// The destination as an IPv4 address, if it is one.
    #[must_use]
    pub const fn dst_v4(&self) -> Option<Ipv4Addr> {
        mapped_v4(self.dst)
    }

    /// The source address as operators write it.
    #[must_use]
    pub const fn src_ip(&self) -> IpAddr {
        Ipv6Addr::from_octets(self.src).to_canonical()
    }

    /// The destination address as operators write it.
    #[must_use]
    pub const fn dst_ip(&self) -> IpAddr {
        Ipv6Addr::from_octets(self.dst).to_canonical()
    }
}

/// The IPv4 address that an IPv4-mapped one stands for. As the standard library's, in two loads and a
/// comparison: this is asked for every packet that has no session.
const fn mapped_v4(address: [u8; 16]) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address;
    match u128::from_be_bytes(address) >> 32 {
        0xffff => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}:{} > {}:{}",
            self.protocol,
            self.src_ip(),
            self.src_port,
            self.dst_ip(),
            self.dst_port
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_what_the_standard_library_says() {
        let mut near = vec![[0; 16], [0xff; 16]];
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        near.push(mapped);
        near.extend((0..16).map(|at| {
            let mut changed = mapped;
            changed[at] ^= 1;
            changed
        }));
        for address in near {
            let expected = Ipv6Addr::from_octets(address).to_ipv4_mapped();
            assert_eq!(mapped_v4(address), expected, "{address:?}");
        }
    }
}
