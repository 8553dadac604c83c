//! The table's own hash: 64 bits, keyed, local to one process.
//!
//! The Toeplitz hash of the NIC has only 16 bits of entropy under its symmetric key, and its key is
//! public. This one multiplies and folds machine words (after wyhash); with a secret seed a sender
//! cannot aim sessions at one bucket.

use crate::key::Key;

/// A keyed hash.
#[derive(Clone, Copy)]
pub(crate) struct Hasher {
    keys: [u64; 6],
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self {
            keys: std::array::from_fn(|_| splitmix(&mut state)),
        }
    }

    /// The hash of a key.
    #[inline]
    pub(crate) fn key(&self, key: &Key) -> u64 {
        let (w, k) = (&key.0, &self.keys);
        let mut hash = fold(w[0] ^ k[0], w[1] ^ k[1]);
        if !key.is_v4() {
            hash = fold(hash ^ w[2] ^ k[2], w[3] ^ k[3]) ^ w[4];
        }
        // Once more: what one multiplication makes of successive ports is a progression.
        fold(hash ^ k[4], k[5])
    }

    /// The hash of the source address alone.
    #[inline]
    pub(crate) fn source(&self, key: &Key) -> u64 {
        let (source, k) = (key.source(), &self.keys);
        fold(fold(source[0] ^ k[5], source[1] ^ k[4]) ^ k[3], k[2])
    }
}

/// Multiplies to 128 bits and folds the halves.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}

/// The generator of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use packet::Tuple;

    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// What gateways see: successive ports, addresses, both, the same over IPv6, and replies.
    const PATTERNS: [fn(u32) -> Tuple; 5] = [
        |i| Tuple::v4(client(0), port(i), SERVER, 443, 6),
        |i| Tuple::v4(client(i), 5_000, SERVER, 53, 17),
        |i| Tuple::v4(client(i / 256), port(i % 256), SERVER, 443, 6),
        |i| PATTERNS[0](i).reversed(),
        |i| Tuple {
            src: Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(i / 256)).octets(),
            dst: Ipv6Addr::from_bits((0x2001_0db8 << 96) + (1 << 80)).octets(),
            ..PATTERNS[2](i)
        },
    ];

    fn client(i: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(0x0a00_0000 + i)
    }

    fn port(i: u32) -> u16 {
        let [a, b, ..] = i.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// Neighbouring tuples must spread like random ones, over buckets and over tags, whatever the
    /// seed.
    #[test]
    fn neighbouring_tuples_spread_evenly() {
        for seed in 0..16 {
            let hasher = Hasher::new(seed);
            for (number, pattern) in PATTERNS.iter().enumerate() {
                for shift in [20, 48] {
                    let mut counts = vec![0_u32; 4_096];
                    for i in 0..65_536_u32 {
                        let hash = hasher.key(&Key::from(&pattern(i)));
                        counts[usize::try_from(hash >> shift & 4_095).unwrap()] += 1;
                    }
                    let mean = 16.0;
                    let chi: f64 = counts
                        .iter()
                        .map(|&n| (f64::from(n) - mean).powi(2) / mean)
                        .sum();
                    // 4,095 degrees of freedom: the mean is 4,095 and six deviations are 543.
                    assert!(
                        (3_552.0..4_638.0).contains(&chi),
                        "seed {seed}, pattern {number}, bits from {shift}: {chi}"
                    );
                }
            }
        }
    }

    #[test]
    fn seeds_and_directions_give_different_hashes() {
        let tuple = PATTERNS[0](7);
        let hash = Hasher::new(1).key(&Key::from(&tuple));
        assert_ne!(hash, Hasher::new(2).key(&Key::from(&tuple)));
        assert_ne!(hash, Hasher::new(1).key(&Key::from(&tuple.reversed())));
    }

    #[test]
    fn every_word_of_a_long_key_counts() {
        let hasher = Hasher::new(1);
        let hashes: std::collections::HashSet<_> = (0..6)
            .map(|word| {
                let mut words = [1_u64; 5];
                if let Some(word) = words.get_mut(word) {
                    *word = 2;
                }
                hasher.key(&Key(words))
            })
            .collect();
        assert_eq!(hashes.len(), 6);
    }
}
