//! A keyed hash for what a worker looks up or draws by tuple outside of the session table.
//!
//! It multiplies and folds machine words, as the table's own hash does. With a key from the system's
//! generator a sender can neither aim at a slot nor foresee a draw. It is no cipher: whoever could see
//! many of its values in full might find the key, so none leaves the process in full.

use std::hash::{BuildHasher, Hasher, RandomState};

use packet::Tuple;

/// The hash of one owner. No two agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedHash {
    keys: [u64; 6],
}

impl KeyedHash {
    /// With a key that nobody knows.
    pub(crate) fn new() -> Self {
        // The standard library keys each of these from the system's generator.
        let key = |n: u64| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u64(n);
            hasher.finish()
        };
        Self {
            keys: [0, 1, 2, 3, 4, 5].map(key),
        }
    }

    /// The hash of a tuple and a number.
    pub(crate) fn tuple(&self, tuple: &Tuple, number: u64) -> u64 {
        let words: [u64; 5] = zerocopy::transmute!(*tuple);
        let k = &self.keys;
        let source = fold(words[0] ^ k[0], words[1] ^ k[1]);
        let destination = fold(words[2] ^ k[2], words[3] ^ k[3]);
        self.number(fold(source ^ words[4], destination ^ k[4]), number)
    }

    /// The hash of two numbers.
    pub(crate) fn number(&self, one: u64, other: u64) -> u64 {
        let k = &self.keys;
        // Consecutive numbers multiplied once differ by a step, which whoever sees two can continue.
        fold(fold(one ^ k[5], other ^ k[0]) ^ k[1], k[2])
    }
}

/// Multiplies to 128 bits and folds the halves.
fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = a.carrying_mul(b, 0);
    low ^ high
}
