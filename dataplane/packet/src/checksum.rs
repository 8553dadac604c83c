//! The Internet checksum: whole (RFC 1071) and incremental (RFC 1624).
//!
//! Sums are kept as plain integers and folded once. What is summed here is read in network order,
//! except for the check of a header of 20 bytes, which uses that validity does not depend on the
//! order (RFC 1071 section 2 (B)).

/// Folds a sum of 16-bit words into 16 bits, end-around.
#[must_use]
#[inline]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Sum of the 16-bit words of `bytes`; an odd last byte is padded with zero.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<4>();
    let mut sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_be_bytes(*w)))
        .sum();
    let mut last = [0; 4];
    last[..odd.len()].copy_from_slice(odd);
    sum += u64::from(u32::from_be_bytes(last));
    sum
}

/// The Internet checksum of `bytes`, in which the checksum field itself must be zero.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// True if `header`, with its checksum field, sums to "minus zero". An all-zero header does not.
#[must_use]
pub fn is_valid(header: &[u8]) -> bool {
    fold(sum(header)) == 0xffff
}

/// [`is_valid`] for a header of 20 bytes, in few instructions. A sum is folded end-around by adding its
/// halves crosswise: what is carried out of the lower one goes into the upper one, which is the result.
#[must_use]
#[inline]
pub(crate) fn is_valid_header(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_ne_bytes(*w)))
        .sum();
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    sum.wrapping_add(sum.rotate_left(16)) >= 0xffff_0000
}

/// Sum of the pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 8200 section 8.1): the
/// addresses in network order, four or sixteen bytes each.
#[must_use]
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: u16) -> u64 {
    sum(source) + sum(destination) + u64::from(protocol) + u64::from(length)
}

/// Checksum of a locally built TCP or UDP segment whose checksum field is zero, with the sum of its
/// [`pseudo_header`]. For UDP a zero must be sent as 0xffff: see [`nonzero`].
#[must_use]
pub fn transport(pseudo_header: u64, segment: &[u8]) -> u16 {
    !fold(pseudo_header + sum(segment))
}

/// The one's complement sum of two words. In whatever order the bytes of both stand, those of the sum
/// stand (RFC 1071 section 2 (B)).
#[must_use]
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // Never more than a word: with a carry the sum is below 0xffff.
    sum + carry as u16
}

/// UDP sends a checksum of zero as 0xffff, since zero means none (RFC 768).
#[must_use]
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Collects what changed in a covered range, and then corrects checksums by it: RFC 1624 equation
/// 3, `HC' = ~(~HC + ~m + m')`, for any number of words. It never yields 0xffff where the full sum
/// would give 0x0000, which equation 2 of RFC 1141 does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Update(u64);

impl Update {
    /// One word changed.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// An IPv4 address changed.
    #[must_use]
    pub const fn address(self, old: [u8; 4], new: [u8; 4]) -> Self {
        let (old, new) = (u32::from_be_bytes(old), u32::from_be_bytes(new));
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// The checksum that covers what changed.
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }

    /// The same for UDP over IPv4: no checksum stays none, and a computed zero becomes 0xffff.
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            0
        } else {
            nonzero(self.apply(checksum))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook loop, as an oracle.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        // Section 4: HC = 0xdd2f, m = 0x5555, m' = 0x3285; the answer is 0x0000, not 0xffff.
        assert_eq!(Update::default().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn udp_zeros() {
        let update = Update::default().word(0x5555, 0x3285);
        assert_eq!(update.apply_udp(0xdd2f), 0xffff);
        assert_eq!(update.apply_udp(0), 0);
    }

    #[test]
    fn all_zero_header_is_invalid() {
        assert!(!is_valid(&[0; 20]));
        assert!(!is_valid_header(&[0; 20]));
    }

    proptest! {
        #[test]
        fn words_are_added_as_their_sum_is_folded(words: [u16; 3]) {
            let added = words.into_iter().fold(0, add);
            prop_assert_eq!(added, fold(words.iter().map(|word| u64::from(*word)).sum()));
            let swapped = words.map(u16::swap_bytes).into_iter().fold(0, add);
            prop_assert_eq!(swapped, added.swap_bytes());
        }

        #[test]
        fn whole_sum_is_the_textbook_one(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(checksum(&bytes), reference(&bytes));
        }

        #[test]
        fn header_sum_is_order_independent(header in any::<[u8; 20]>(), repair in any::<bool>()) {
            let mut header = header;
            if repair {
                header[10..12].fill(0);
                let value = reference(&header);
                header[10..12].copy_from_slice(&value.to_be_bytes());
            }
            prop_assert_eq!(is_valid_header(&header), is_valid(&header));
        }

        #[test]
        fn update_equals_recomputation(
            old in any::<[u8; 12]>(), new in any::<[u8; 12]>(), rest in any::<[u8; 8]>(),
        ) {
            // Part of a real checksum's range is never all zero: there the two zeros coincide.
            prop_assume!(rest != [0; 8]);
            let before = checksum(&[&old[..], &rest].concat());
            let after = checksum(&[&new[..], &rest].concat());
            let word = |b: &[u8; 12], i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
            let address = |b: &[u8; 12], i: usize| [b[i], b[i + 1], b[i + 2], b[i + 3]];
            let update = Update::default()
                .address(address(&old, 0), address(&new, 0))
                .address(address(&old, 4), address(&new, 4))
                .word(word(&old, 8), word(&new, 8))
                .word(word(&old, 10), word(&new, 10));
            prop_assert_eq!(update.apply(before), after);
        }
    }
}
