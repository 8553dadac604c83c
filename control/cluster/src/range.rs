//! The session space cut into 256 ranges, so that what was lost can be named in 32 bytes.

use packet::Tuple;

/// Range of the session with this original tuple: the upper 8 bits of FNV-1a (64 bits) over source,
/// destination, both ports (big-endian), protocol, zone and VLAN (big-endian), multiplied once more by
/// 0x9E3779B97F4A7C15 because FNV mixes its upper bits last. Part of the wire format: all units must
/// agree on it.
#[must_use]
pub fn range_of(original: &Tuple) -> u8 {
    let [range, _] = bucket_of(original).to_be_bytes();
    range
}

/// A finer division: the range of the session, then eight more bits of its hash.
#[must_use]
pub(crate) fn bucket_of(original: &Tuple) -> u16 {
    let mut hash = if original.is_v4() {
        let source = octets(SOURCE_V4, &original.src[12..]);
        octets(mapped(source), &original.dst[12..])
    } else {
        octets(octets(BASIS, &original.src), &original.dst)
    };
    hash = octets(hash, &original.src_port.to_be_bytes());
    hash = octets(hash, &original.dst_port.to_be_bytes());
    hash = octets(hash, &[original.protocol]);
    hash = if (original.zone, original.vlan) == (0, 0) {
        hash.wrapping_mul(power(3))
    } else {
        let [high, low] = original.vlan.to_be_bytes();
        octets(hash, &[original.zone, high, low])
    };
    let [high, low, ..] = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    u16::from_be_bytes([high, low])
}

const BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0100_0000_01B3;
/// After the first twelve bytes of a source that is an IPv4 address.
const SOURCE_V4: u64 = mapped(BASIS);

/// FNV-1a goes on over `bytes`.
#[inline]
fn octets(hash: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(hash, mix)
}

/// FNV-1a goes on over what all IPv4 addresses begin with: ten zeros, each no more than a multiplication, and
/// two bytes of ones.
const fn mapped(hash: u64) -> u64 {
    let hash = hash.wrapping_mul(power(10)) ^ 0xFF;
    (hash.wrapping_mul(PRIME) ^ 0xFF).wrapping_mul(PRIME)
}

const fn power(exponent: u32) -> u64 {
    PRIME.wrapping_pow(exponent)
}

/// A set of ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RangeSet([u64; 4]);

impl RangeSet {
    /// No range.
    pub const EMPTY: Self = Self([0; 4]);
    /// Every range: the whole table.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Adds a range.
    pub const fn insert(&mut self, range: u8) {
        self.0[range as usize >> 6] |= 1 << (range & 63);
    }

    /// Takes a range out.
    pub const fn remove(&mut self, range: u8) {
        self.0[range as usize >> 6] &= !(1 << (range & 63));
    }

    /// True when the range is in the set.
    #[must_use]
    pub const fn contains(&self, range: u8) -> bool {
        self.0[range as usize >> 6] & (1 << (range & 63)) != 0
    }

    /// True when no range is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// How many ranges are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Ranges that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Ranges that are in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        let words = [0, 64, 128, 192].into_iter().zip(self.0);
        words.flat_map(|(first, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                Some(first + u8::try_from(bit).ok()?)
            })
        })
    }

    /// As on the wire: four big-endian words, range 0 in the lowest bit of the first.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The set of these bits, range 0 in the lowest bit of the first word.
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The inverse of [`RangeSet::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        Self(std::array::from_fn(|i| u64::from_be_bytes(words[i])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_set_keeps_what_was_inserted() {
        let mut set = RangeSet::EMPTY;
        for range in [0, 63, 64, 200, 255] {
            set.insert(range);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 200, 255]);
        set.remove(64);
        assert_eq!(set.len(), 4);
        assert_eq!(RangeSet::from_bytes(&set.to_bytes()), set);
        assert_eq!(RangeSet::ALL.difference(&set).len(), 252);
        assert_eq!(RangeSet::ALL.difference(&set).union(&set), RangeSet::ALL);
    }

    /// As the documentation has it, byte by byte.
    fn plain(tuple: &Tuple) -> u8 {
        let mut bytes = [tuple.src, tuple.dst].concat();
        bytes.extend(tuple.src_port.to_be_bytes());
        bytes.extend(tuple.dst_port.to_be_bytes());
        bytes.extend([tuple.protocol, tuple.zone]);
        bytes.extend(tuple.vlan.to_be_bytes());
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        let hash = bytes.iter().fold(0xCBF2_9CE4_8422_2325, mix);
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]
    }

    proptest! {
        #[test]
        fn shortcuts_lead_to_the_same_range(
            v4 in any::<bool>(),
            plain_domain in any::<bool>(),
            src in any::<u128>(),
            dst in any::<u128>(),
            ports in any::<(u16, u16)>(),
            (protocol, zone, vlan) in any::<(u8, u8, u16)>(),
        ) {
            let address = |bits: u128| if v4 {
                (0xFFFF_0000_0000 | bits & 0xFFFF_FFFF).to_be_bytes()
            } else {
                bits.to_be_bytes()
            };
            let (zone, vlan) = if plain_domain { (0, 0) } else { (zone, vlan) };
            let (src, dst) = (address(src), address(dst));
            let (src_port, dst_port) = ports;
            let tuple = Tuple { src, dst, src_port, dst_port, protocol, zone, vlan };
            prop_assert_eq!(range_of(&tuple), plain(&tuple));
        }
    }

    #[test]
    fn ranges_spread_over_neighbouring_ports() {
        let mut seen = RangeSet::EMPTY;
        for port in 1024..4096 {
            seen.insert(range_of(&Tuple::v4(
                Ipv4Addr::new(10, 0, 0, 1),
                port,
                Ipv4Addr::new(192, 0, 2, 1),
                443,
                6,
            )));
        }
        assert_eq!(seen, RangeSet::ALL);
    }
}
