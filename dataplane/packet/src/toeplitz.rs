//! Receive-side scaling: the hash that a NIC computes, and the table that turns it into a worker.
//!
//! With a key that repeats every 16 bits the Toeplitz hash is symmetric: both directions of a flow
//! hash alike (Woo and Park, "Scalable TCP session monitoring with symmetric receive-side scaling",
//! 2012). The price is that it has 16 bits of entropy, so it chooses workers and nothing else.

use crate::{Tuple, ipv4};

/// The key that NICs are given.
pub const SYMMETRIC_KEY: [u8; 40] = {
    let mut key = [0; 40];
    let mut i = 0;
    while i < key.len() {
        key[i] = if i % 2 == 0 { 0x6d } else { 0x5a };
        i += 1;
    }
    key
};

/// The Toeplitz hash as NICs define it: for every bit that is set in `input`, the 32 bits of the
/// key that begin at the same position. Inputs are at most 36 bytes.
#[must_use]
pub fn hash_bytes(key: &[u8; 40], input: &[u8]) -> u32 {
    let mut hash = 0;
    for (bytes, byte) in key.windows(5).zip(input) {
        let window = bytes.iter().fold(0u64, |w, b| w << 8 | u64::from(*b));
        for bit in 0..8u32 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (window >> (8 - bit)) & 0xffff_ffff;
            }
        }
    }
    let [_, _, _, _, a, b, c, d] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Hash under [`SYMMETRIC_KEY`] of an input of one word whose upper or lower byte is the index.
/// The key repeats after 16 bits, so the upper half of the hash equals the lower.
const BYTE_HASHES: [[u16; 256]; 2] = {
    let mut tables = [[0; 256]; 2];
    let mut position = 0u32;
    while position < 2 {
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                if byte & (0x80 >> bit) != 0 {
                    tables[position as usize][byte] ^= 0x6d5au16.rotate_left(position * 8 + bit);
                }
                bit += 1;
            }
            byte += 1;
        }
        position += 1;
    }
    tables
};

/// The hash of a packet of this flow as a NIC with [`SYMMETRIC_KEY`] computes it: over addresses
/// and ports for TCP and UDP, over the addresses for all else. The same for both directions.
///
/// NICs hash fragments of TCP and UDP by the addresses alone, which is what the tuple of a later
/// fragment gives; for a first fragment ask [`hash_addresses`].
#[must_use]
pub fn hash(tuple: &Tuple) -> u32 {
    let ports = match tuple.protocol {
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => tuple.src_port ^ tuple.dst_port,
        _ => 0,
    };
    hash_word(fold_addresses(tuple) ^ ports)
}

/// The hash over the addresses alone.
#[must_use]
pub fn hash_addresses(tuple: &Tuple) -> u32 {
    hash_word(fold_addresses(tuple))
}

/// What a port adds to the hash of a TCP or UDP tuple that has none in its place. The hash is linear:
/// `hash(with) == hash(without) ^ hash_port(port)`.
#[must_use]
pub fn hash_port(port: u16) -> u32 {
    hash_word(port)
}

/// The hash is linear and every 16-bit word of the input meets the same bits of the key, so the
/// exclusive or of all words stands for them. The prefixes of two IPv4-mapped addresses cancel out.
fn fold_addresses(tuple: &Tuple) -> u16 {
    let both = u128::from_be_bytes(tuple.src) ^ u128::from_be_bytes(tuple.dst);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = both.to_be_bytes();
    let high = a ^ c ^ e ^ g ^ i ^ k ^ m ^ o;
    let low = b ^ d ^ f ^ h ^ j ^ l ^ n ^ p;
    u16::from_be_bytes([high, low])
}

fn hash_word(word: u16) -> u32 {
    let [high, low] = word.to_be_bytes();
    let half = BYTE_HASHES[0][usize::from(high)] ^ BYTE_HASHES[1][usize::from(low)];
    u32::from(half) << 16 | u32::from(half)
}

/// Which worker a flow belongs to: the redirection table of a NIC, indexed by the low bits of the
/// hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    table: [u16; Self::ENTRIES],
}

impl Steering {
    /// Entries of the table, as most NICs have.
    pub const ENTRIES: usize = 128;

    /// Spreads the flows evenly over workers `0..workers`. No worker counts as one.
    #[must_use]
    pub fn even(workers: u16) -> Self {
        let mut table = [0; Self::ENTRIES];
        let mut worker = 0;
        for entry in &mut table {
            *entry = worker;
            worker = if worker + 1 < workers { worker + 1 } else { 0 };
        }
        Self { table }
    }

    /// Takes a table that a NIC uses.
    #[must_use]
    pub const fn new(table: [u16; Self::ENTRIES]) -> Self {
        Self { table }
    }

    /// The table, to give to a NIC.
    #[must_use]
    pub const fn table(&self) -> &[u16; Self::ENTRIES] {
        &self.table
    }

    /// The worker of a flow; the same for both directions.
    #[must_use]
    pub fn worker(&self, tuple: &Tuple) -> u16 {
        self.worker_of_hash(hash(tuple))
    }

    /// The worker that a NIC gives a packet with this hash.
    #[must_use]
    pub const fn worker_of_hash(&self, hash: u32) -> u16 {
        let [.., low] = hash.to_be_bytes();
        self.table[low as usize % Self::ENTRIES]
    }
}

#[cfg(test)]
mod tests;
