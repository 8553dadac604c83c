//! What is done to every IPv4 packet of one direction of a session, worked out when it is stored.

use packet::checksum::fold;
use packet::ipv4;

use crate::key::{Key, high, low, reverse_addresses, reverse_ports};

/// Where packets of one direction leave, as the worker found out for the last one. Its owner says
/// what the numbers mean; the table only keeps them, and forgets them when the session is stored anew
/// (that is, when it is opened, adopted, or replaced by a peer's version).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// A number of the worker's own.
    pub index: u32,
    /// When it was found out; zero stands for no path at all.
    pub epoch: u32,
}

impl Path {
    #[inline]
    pub(crate) const fn to_word(self) -> u64 {
        self.index as u64 | (self.epoch as u64) << 32
    }
}

/// How the IPv4 packets of one direction leave.
///
/// **Checksums.** A delta is the one's complement sum, over all words that change, of `~m + m'`: two
/// bytes as on the wire, native-endian. After RFC 1624, equation 3, with [`packet::checksum::add`], and
/// the checksums in the same order,
///
/// ```text
/// new = !add(!old, delta)
/// ```
///
/// A session that changes nothing has deltas of zero, which leave every checksum as it is. For UDP, a
/// checksum of zero stays zero, and a new one of zero becomes 0xffff. Neither delta covers the TTL.
/// The outcome is that of [`packet::translate`], to the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Source and destination address: the eight bytes on the wire, native-endian.
    pub addresses: u64,
    /// Source and destination port: the four bytes on the wire, native-endian. For an ICMP query the
    /// half that is not zero is the identifier; for protocols without ports both are zero.
    pub ports: u32,
    /// For the checksum of the IPv4 header: what the addresses change.
    pub header_delta: u16,
    /// For the checksum of TCP and UDP: what addresses and ports change. For ICMP: what the
    /// identifier changes. For other protocols zero.
    pub transport_delta: u16,
    /// The way out, if [`crate::Shard::set_path`] was told.
    pub path: Path,
}

impl Rewrite {
    /// The rewrites of both directions of a session that has `keys`, if both are IPv4 and of one
    /// protocol.
    pub(crate) fn of(keys: &[Key; 2]) -> Option<[Self; 2]> {
        let [original, reply] = keys;
        let possible = original.is_v4() && reply.is_v4() && original.protocol() == reply.protocol();
        possible.then(|| {
            [
                Self::between(original, reply),
                Self::between(reply, original),
            ]
        })
    }

    /// The rewrite of packets that arrive as `key`, while those of the other direction arrive as
    /// `other`.
    fn between(key: &Key, other: &Key) -> Self {
        let addresses = reverse_addresses(other.addresses());
        let ports = reverse_ports(other.ports());
        let mut rewrite = Self {
            addresses,
            ports,
            header_delta: 0,
            transport_delta: 0,
            path: Path::default(),
        };
        if (addresses, ports) == (key.addresses(), key.ports()) {
            return rewrite;
        }
        let of_addresses = difference(low(key.addresses()), low(addresses))
            + difference(high(key.addresses()), high(addresses));
        let of_ports = difference(key.ports(), ports);
        rewrite.header_delta = fold(of_addresses);
        rewrite.transport_delta = match key.protocol() {
            ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => fold(of_addresses + of_ports),
            // The identifier stands on the side that asked; the other port is zero.
            ipv4::PROTOCOL_ICMP if key.ports() != ports => fold(of_ports),
            _ => 0,
        };
        rewrite
    }

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; 3] {
        let deltas = self.header_delta as u64 | (self.transport_delta as u64) << 16;
        [
            self.addresses,
            self.ports as u64 | deltas << 32,
            self.path.to_word(),
        ]
    }

    #[inline]
    pub(crate) const fn from_words([addresses, rest, path]: [u64; 3]) -> Self {
        let [.., a, b, c, d] = rest.to_le_bytes();
        Self {
            addresses,
            ports: low(rest),
            header_delta: u16::from_le_bytes([a, b]),
            transport_delta: u16::from_le_bytes([c, d]),
            path: Path {
                index: low(path),
                epoch: high(path),
            },
        }
    }
}

/// `~m + m'` of two words at once, in whatever order their bytes stand.
const fn difference(old: u32, new: u32) -> u64 {
    !old as u64 + new as u64
}

#[cfg(all(test, not(loom)))]
mod tests;
