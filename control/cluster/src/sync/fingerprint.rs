//! Sessions by 64 bits: a keyed hash of the original tuple, local to one process.
//!
//! It multiplies and folds machine words (after wyhash). The key is secret, so nobody can aim sessions at
//! each other's fingerprints; two of ten million share one with a probability of one in 300,000.

use std::hash::{BuildHasher, RandomState};

use packet::Tuple;

/// Makes fingerprints.
#[derive(Debug)]
pub(super) struct Fingerprints {
    keys: [u64; 7],
}

impl Fingerprints {
    /// With a key of its own.
    pub(super) fn new() -> Self {
        let seeds = RandomState::new();
        Self {
            keys: std::array::from_fn(|index| seeds.hash_one(index)),
        }
    }

    /// The fingerprint of the session with this original tuple.
    pub(super) fn of(&self, tuple: &Tuple) -> u64 {
        let k = &self.keys;
        let [s0, s1] = words(&tuple.src);
        let [d0, d1] = words(&tuple.dst);
        let rest = u64::from(tuple.src_port)
            | u64::from(tuple.dst_port) << 16
            | u64::from(tuple.vlan) << 32
            | u64::from(tuple.protocol) << 48
            | u64::from(tuple.zone) << 56;
        let addresses = fold(s0 ^ k[0], s1 ^ k[1]) ^ fold(d0 ^ k[2], d1 ^ k[3]);
        // Once leaves ports that follow each other in a pattern.
        fold(fold(addresses ^ rest ^ k[4], k[5]), k[6])
    }
}

fn words(address: &[u8; 16]) -> [u64; 2] {
    let (words, _) = address.as_chunks::<8>();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

/// Multiplies to 128 bits and folds the halves.
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
    u64::try_from(low ^ high).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    #[test]
    fn every_field_counts() {
        let fingerprints = Fingerprints::new();
        let plain = Tuple::v4(
            Ipv4Addr::new(10, 0, 0, 1),
            1_024,
            Ipv4Addr::new(192, 0, 2, 1),
            443,
            6,
        );
        let [mut src, mut dst] = [plain.src, plain.dst];
        src[0] = 1;
        dst[15] = 2;
        let changed = [
            plain,
            plain.reversed(),
            Tuple { src, ..plain },
            Tuple { dst, ..plain },
            Tuple {
                src_port: 1_025,
                ..plain
            },
            Tuple {
                dst_port: 444,
                ..plain
            },
            Tuple {
                protocol: 17,
                ..plain
            },
            Tuple { zone: 1, ..plain },
            Tuple { vlan: 1, ..plain },
        ];
        let all: HashSet<u64> = changed.iter().map(|tuple| fingerprints.of(tuple)).collect();
        assert_eq!(all.len(), changed.len());
        assert_ne!(fingerprints.of(&plain), Fingerprints::new().of(&plain));
    }

    #[test]
    fn neighbouring_ports_spread_over_high_and_low_bits() {
        let fingerprints = Fingerprints::new();
        let server = Ipv4Addr::new(192, 0, 2, 1);
        let all: Vec<u64> = (0..16_384_u16)
            .map(|port| fingerprints.of(&Tuple::v4(server, port, server, 443, 6)))
            .collect();
        for shift in [0, 56] {
            let mut counts = [0_u32; 256];
            for hash in &all {
                counts[usize::try_from(hash >> shift & 255).unwrap()] += 1;
            }
            assert!(
                counts.iter().all(|n| (20..120).contains(n)),
                "bits from {shift}: {counts:?}"
            );
        }
    }
}
