//! The key that all units of a cluster share, and the file that holds it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Shortest passphrase that is accepted, in characters.
const PASSPHRASE_MIN: usize = 16;
/// Longest key file that is read, in bytes: `key_file = "/dev/zero"` must end too.
const FILE_MAX: usize = 4_096;
/// A key in hexadecimal digits.
const HEX_LEN: usize = 64;
/// Keeps the hash of a passphrase apart from every other use of SHA-256.
const PASSPHRASE_DOMAIN: &[u8] = b"tidegate cluster key from a passphrase\0";

/// The 32 bytes of a cluster key; zeroed when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short name for the key that tells two keys apart and says nothing else about them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"tidegate cluster key fingerprint\0");
        hash.update(self.0.as_slice());
        hash.finalize()[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

/// Why a key could not be had from its file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("is no regular file")]
    NoFile,
    #[error("holds {0} characters, too few for a key")]
    TooShort(usize),
    #[error("holds more than one line")]
    ManyLines,
}

/// A key and whether everybody on the machine can read its file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) key: Key,
    pub(crate) world_readable: bool,
}

/// Reads the key from a file of one line: 64 hexadecimal digits, or else a passphrase.
pub(crate) fn load(path: &Path) -> Result<Loaded, KeyError> {
    let metadata = fs::metadata(path)?;
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(KeyError::NoFile);
    }
    // Reserved beforehand, so that growing leaves no copy of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX));
    File::open(path)?
        .take(FILE_MAX as u64)
        .read_to_string(&mut text)?;
    Ok(Loaded {
        key: parse(&text)?,
        world_readable: metadata.permissions().mode() & 0o004 != 0,
    })
}

fn parse(text: &str) -> Result<Key, KeyError> {
    let line = text.trim();
    if line.contains('\n') {
        return Err(KeyError::ManyLines);
    }
    if let Some(bytes) = from_hex(line) {
        return Ok(Key(bytes));
    }
    let characters = line.chars().count();
    if characters < PASSPHRASE_MIN {
        return Err(KeyError::TooShort(characters));
    }
    let mut hash = Sha256::new();
    hash.update(PASSPHRASE_DOMAIN);
    hash.update(line.as_bytes());
    Ok(Key(Zeroizing::new(hash.finalize().into())))
}

fn from_hex(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    if line.len() != HEX_LEN || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, digits) in bytes.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
        let digits = str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_the_key_itself() {
        let text = format!("{}\n", "0a".repeat(32));
        assert_eq!(parse(&text).unwrap().bytes(), &[10; 32]);
    }

    #[test]
    fn a_passphrase_is_hashed_without_its_line_end() {
        let plain = parse("correct horse battery").unwrap();
        assert_eq!(plain, parse("correct horse battery\r\n").unwrap());
        assert_ne!(plain, parse("correct horse batterz").unwrap());
        // sha256sum of the domain and the passphrase: a changed derivation splits clusters.
        assert_eq!(plain.bytes()[..4], [0x1c, 0x17, 0xf2, 0xff]);
    }

    #[test]
    fn short_and_long_files_are_refused() {
        assert!(matches!(
            parse("fifteen letters"),
            Err(KeyError::TooShort(15))
        ));
        assert!(parse("sixteen letters!").is_ok());
        assert!(matches!(parse(""), Err(KeyError::TooShort(0))));
        assert!(matches!(
            parse("first line of the file\nsecond line"),
            Err(KeyError::ManyLines)
        ));
    }

    #[test]
    fn what_never_ends_is_not_read() {
        assert!(matches!(
            load(Path::new("/dev/zero")),
            Err(KeyError::NoFile)
        ));
        assert!(matches!(load(Path::new("/")), Err(KeyError::NoFile)));
    }

    #[test]
    fn printing_a_key_does_not_show_it() {
        let key = parse(&"ab".repeat(32)).unwrap();
        let shown = format!("{key:?}");
        assert!(
            shown.starts_with("Key(") && !shown.contains("abab"),
            "{shown}"
        );
    }
}
