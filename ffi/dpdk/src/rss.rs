//! The hash of receive-side scaling as DPDK computes it in software: what a NIC does, to test against.

/// The Toeplitz hash of `words` under `key`. For IPv4 the words are source address, destination
/// address and, for whole TCP and UDP datagrams, source port above destination port, each in the
/// machine's order.
///
/// # Panics
/// When there are more than nine words, for which the key is too short.
#[must_use]
pub fn softrss(key: &[u8; 40], words: &[u32]) -> u32 {
    let mut input = [0; 9];
    input[..words.len()].copy_from_slice(words);
    // At most nine, as the copy shows.
    let count = u32::try_from(words.len()).unwrap_or(0);
    // SAFETY: reads the three arguments, arrays as long as the declaration says.
    unsafe { dpdk_sys::tg_softrss(&raw const input, count, key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first line of Microsoft's "Verifying the RSS hash calculation".
    #[test]
    fn hashes_as_nics_do() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let addresses = [[66, 9, 149, 187], [161, 142, 100, 80]].map(u32::from_be_bytes);
        assert_eq!(softrss(&key, &addresses), 0x323e_8fc2);
        let [source, destination] = addresses;
        let words = [source, destination, 2_794 << 16 | 1_766];
        assert_eq!(softrss(&key, &words), 0x51cc_c178);
    }
}
