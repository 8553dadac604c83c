//! The table's own hash: 64 bits, keyed, local to one process.
//!
//! The Toeplitz hash of the NIC has only 16 bits of entropy under its symmetric key, and its key is
//! public. This one multiplies and folds machine words (after wyhash); with a secret seed a sender
//! cannot aim sessions at one bucket.

use packet::Tuple;

/// A tuple as the words that are hashed and compared.
pub(crate) type Words = [u64; 5];

/// The words of `tuple`.
#[inline]
pub(crate) fn words(tuple: &Tuple) -> Words {
    zerocopy::transmute!(*tuple)
}

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

    /// The hash of a tuple.
    #[inline]
    pub(crate) fn tuple(&self, words: &Words) -> u64 {
        let k = &self.keys;
        let source = fold(words[0] ^ k[0], words[1] ^ k[1]);
        let destination = fold(words[2] ^ k[2], words[3] ^ k[3]);
        fold(source ^ words[4] ^ k[4], destination ^ k[5])
    }

    /// The hash of the source address alone.
    pub(crate) fn source(&self, words: &Words) -> u64 {
        let k = &self.keys;
        fold(fold(words[0] ^ k[5], words[1] ^ k[4]) ^ k[3], k[2])
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
    use std::net::Ipv4Addr;

    use super::*;

    /// Sequential ports and addresses are what gateways see; they must spread like random ones.
    #[test]
    fn neighbouring_tuples_fill_buckets_evenly() {
        let hasher = Hasher::new(1);
        let mut counts = vec![0_u32; 4_096];
        for i in 0..65_536_u32 {
            let source = Ipv4Addr::from_bits(0x0a00_0000 + i / 256);
            let port = 1_024 + u16::try_from(i % 256).unwrap();
            let tuple = Tuple::v4(source, port, Ipv4Addr::new(192, 0, 2, 1), 443, 6);
            counts[usize::try_from(hasher.tuple(&words(&tuple)) & 4_095).unwrap()] += 1;
        }
        let mean = 16.0;
        let chi: f64 = counts
            .iter()
            .map(|&n| (f64::from(n) - mean).powi(2) / mean)
            .sum();
        // 4,095 degrees of freedom: the mean is 4,095 and six deviations are 543.
        assert!((3_552.0..4_638.0).contains(&chi), "{chi}");
    }

    #[test]
    fn seeds_and_directions_give_different_hashes() {
        let tuple = Tuple::v4(
            Ipv4Addr::new(10, 0, 0, 1),
            1,
            Ipv4Addr::new(10, 0, 0, 2),
            2,
            17,
        );
        let hash = Hasher::new(1).tuple(&words(&tuple));
        assert_ne!(hash, Hasher::new(2).tuple(&words(&tuple)));
        assert_ne!(hash, Hasher::new(1).tuple(&words(&tuple.reversed())));
    }
}
