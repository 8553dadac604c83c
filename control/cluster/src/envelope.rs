//! The one envelope of all frames between units: who sent it, sealed against reading, forging and
//! replay.
//!
//! ```text
//!  0        1        2        3        4        5        6        7
//! +--------+--------+-----------------+--------+--------+-----------------+
//! | version| kind   | cluster         | unit   | to     | length of body  |
//! +--------+--------+-----------------+--------+--------+-----------------+
//! | boot of the sender                                                    |
//! +-----------------------------------------------------------------------+
//! | sequence                                                              |
//! +-----------------------------------------------------------------------+
//! | body, encrypted, `length` bytes | tag, 16 bytes | padding, ignored ... |
//! ```
//!
//! All integers are big-endian. The version is the newest that every live peer of the sender speaks. `to` is the addressee's id, or zero for all. The header is authenticated
//! (AEAD_CHACHA20_POLY1305, RFC 8439); the key is derived for each start of each unit (HKDF-SHA256,
//! RFC 5869, no salt, info = "tidegate" ‖ cluster ‖ unit ‖ boot) and the nonce is four zero bytes and
//! the sequence. So a nonce never repeats under a key: a unit counts one sequence over all of its links,
//! and a new start has a new key.
//!
//! A [`Window`] refuses what was seen before. It cannot tell a recording of a start that it never heard;
//! that is for the peer's state, which trusts a start only once it has echoed our own.

use std::fmt;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Boot, Key, UnitId};

/// The newest version of everything that is on the wire.
pub const VERSION: u8 = 2;
/// The oldest version that is still understood.
pub const FIRST_VERSION: u8 = 1;
/// Bytes before the body.
pub const HEADER_LEN: usize = 24;
/// Bytes after it.
pub const TAG_LEN: usize = 16;
/// The longest body: with header and tag it fills an Ethernet frame of 1,500 bytes.
pub const MAX_BODY: usize = 1_500 - HEADER_LEN - TAG_LEN;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A [`Heartbeat`](crate::heartbeat::Heartbeat).
    Heartbeat = 1,
    /// A frame of [session synchronisation](crate::sync).
    Sync = 2,
    /// [Neighbours](crate::Neighbour) that the primary resolved. Since version 2.
    Neighbours = 3,
}

impl Kind {
    const fn from_wire(kind: u8, version: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Heartbeat),
            2 => Some(Self::Sync),
            3 if version >= 2 => Some(Self::Neighbours),
            _ => None,
        }
    }
}

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rejection {
    /// Shorter than it says, or than a header.
    Truncated = 0,
    /// Another version of the protocol.
    Version,
    /// Another cluster's id.
    Cluster,
    /// A kind that this version does not know.
    Kind,
    /// No unit has such an id.
    Unit,
    /// This unit's own frame came back: a loop in the network.
    Own,
    /// The id of this unit or of a live peer, from another start: two units have one id.
    DuplicateUnit,
    /// For another unit.
    Addressee,
    /// The tag is wrong: another key, or forged.
    Authentication,
    /// The sequence was seen before or is too old.
    Replayed,
    /// A start of the peer that is over.
    OldBoot,
    /// Sealed rightly, but the body makes no sense.
    Malformed,
    /// State from a unit that has not yet proved to be no recording.
    Unverified,
    /// A link that carries no heartbeats.
    Link,
}

impl Rejection {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::Truncated,
        Self::Version,
        Self::Cluster,
        Self::Kind,
        Self::Unit,
        Self::Own,
        Self::DuplicateUnit,
        Self::Addressee,
        Self::Authentication,
        Self::Replayed,
        Self::OldBoot,
        Self::Malformed,
        Self::Unverified,
        Self::Link,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Version => "foreign_version",
            Self::Cluster => "foreign_cluster",
            Self::Kind => "unknown_kind",
            Self::Unit => "bad_unit",
            Self::Own => "own_frame",
            Self::DuplicateUnit => "duplicate_unit",
            Self::Addressee => "other_addressee",
            Self::Authentication => "bad_authentication",
            Self::Replayed => "replayed",
            Self::OldBoot => "old_boot",
            Self::Malformed => "malformed",
            Self::Unverified => "unverified",
            Self::Link => "unexpected_link",
        }
    }
}

impl Rejection {
    /// What it means.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Truncated => "Shorter than it says, or than a header.",
            Self::Version => "Another version of the protocol.",
            Self::Cluster => "Another cluster's id.",
            Self::Kind => "A kind that this version does not know.",
            Self::Unit => "No unit has such an id.",
            Self::Own => "This unit's own frame came back: a loop in the network.",
            Self::DuplicateUnit => {
                "The id of this unit or of a live peer, from another start: two units have one id."
            }
            Self::Addressee => "For another unit.",
            Self::Authentication => "The tag is wrong: another key, or forged.",
            Self::Replayed => "The sequence was seen before or is too old.",
            Self::OldBoot => "A start of the peer that is over.",
            Self::Malformed => "Sealed rightly, but the body makes no sense.",
            Self::Unverified => "State from a unit that has not yet proved to be no recording.",
            Self::Link => "A link that carries no heartbeats.",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The header of a frame, as read: nothing of it is to be believed before the body was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of the protocol that the frame is written in.
    pub version: u8,
    /// What the body is.
    pub kind: Kind,
    /// The cluster.
    pub cluster: u16,
    /// Who sent it.
    pub unit: UnitId,
    /// Whom it is for; all, if nobody is named.
    pub to: Option<UnitId>,
    /// Bytes of the body without the tag.
    pub length: u16,
    /// The start of the sender.
    pub boot: Boot,
    /// Its place among all frames of that start.
    pub sequence: u64,
}

impl Header {
    /// Reads the header of a frame and checks that the frame is as long as it says.
    ///
    /// # Errors
    /// [`Rejection::Truncated`], [`Rejection::Version`], [`Rejection::Kind`] or [`Rejection::Unit`].
    pub fn decode(frame: &[u8]) -> Result<Self, Rejection> {
        let (bytes, rest) = frame
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Rejection::Truncated)?;
        let [version, kind, c0, c1, unit, to, l0, l1, tail @ ..] = bytes;
        if !(FIRST_VERSION..=VERSION).contains(version) {
            return Err(Rejection::Version);
        }
        let kind = Kind::from_wire(*kind, *version).ok_or(Rejection::Kind)?;
        let to = match to {
            0 => None,
            id => Some(UnitId::new(*id).ok_or(Rejection::Unit)?),
        };
        let length = u16::from_be_bytes([*l0, *l1]);
        if usize::from(length) > MAX_BODY || rest.len() < usize::from(length) + TAG_LEN {
            return Err(Rejection::Truncated);
        }
        let (words, _) = tail.as_chunks::<8>();
        Ok(Self {
            version: *version,
            kind,
            cluster: u16::from_be_bytes([*c0, *c1]),
            unit: UnitId::new(*unit).ok_or(Rejection::Unit)?,
            to,
            length,
            boot: Boot(u64::from_be_bytes(words[0])),
            sequence: u64::from_be_bytes(words[1]),
        })
    }

    /// As on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.version;
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.cluster.to_be_bytes());
        bytes[4] = self.unit.get();
        bytes[5] = self.to.map_or(0, UnitId::get);
        bytes[6..8].copy_from_slice(&self.length.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.boot.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }
}

/// Seals or opens the frames of one start of one unit.
#[derive(Clone)]
pub struct Seal(ChaCha20Poly1305);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

impl Seal {
    /// The seal of a unit's start.
    #[must_use]
    pub fn new(key: &Key, cluster: u16, unit: UnitId, boot: Boot) -> Self {
        let mut derived = Zeroizing::new([0; Key::LEN]);
        Hkdf::<Sha256>::new(None, key.bytes())
            .expand_multi_info(
                &[
                    b"tidegate",
                    &cluster.to_be_bytes(),
                    &[unit.get()],
                    &boot.0.to_be_bytes(),
                ],
                derived.as_mut(),
            )
            .expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        Self(ChaCha20Poly1305::new((&*derived).into()))
    }

    fn nonce(sequence: u64) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&sequence.to_be_bytes());
        nonce
    }

    /// The frame of this header and body; the header's `length` is set here.
    ///
    /// # Panics
    /// If the body is longer than [`MAX_BODY`].
    #[must_use]
    pub fn close(&self, mut header: Header, body: &[u8]) -> Vec<u8> {
        assert!(
            body.len() <= MAX_BODY,
            "a body of {} bytes fits no frame",
            body.len()
        );
        header.length = u16::try_from(body.len()).expect("MAX_BODY fits");
        let associated = header.encode();
        let mut frame = Vec::with_capacity(HEADER_LEN + body.len() + TAG_LEN);
        frame.extend_from_slice(&associated);
        frame.extend_from_slice(body);
        let tag = self
            .0
            .encrypt_inout_detached(
                &Self::nonce(header.sequence),
                &associated,
                (&mut frame[HEADER_LEN..]).into(),
            )
            .expect("a frame is far shorter than the cipher's limit");
        frame.extend_from_slice(&tag);
        frame
    }

    /// The body of a frame whose header was read by [`Header::decode`].
    ///
    /// # Errors
    /// [`Rejection::Authentication`] when the tag does not fit, [`Rejection::Truncated`] when the header
    /// is not that of the frame.
    pub fn open(&self, header: &Header, frame: &[u8]) -> Result<Vec<u8>, Rejection> {
        let sealed = frame.get(HEADER_LEN..).ok_or(Rejection::Truncated)?;
        let (body, rest) = sealed
            .split_at_checked(usize::from(header.length))
            .ok_or(Rejection::Truncated)?;
        let tag = rest.first_chunk::<TAG_LEN>().ok_or(Rejection::Truncated)?;
        let mut body = body.to_vec();
        self.0
            .decrypt_inout_detached(
                &Self::nonce(header.sequence),
                &frame[..HEADER_LEN],
                body.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| Rejection::Authentication)?;
        Ok(body)
    }
}

/// Which sequences of a start were seen: everything up to the highest but the last [`Window::SIZE`]
/// counts as seen (RFC 6479's ring of words). Links reorder against each other, so it is wide.
#[derive(Clone, Debug)]
pub struct Window {
    highest: u64,
    seen: [u64; Self::WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            highest: 0,
            seen: [0; Self::WORDS],
        }
    }
}

impl Window {
    const WORDS: usize = 64;
    /// How far behind the highest a sequence may be. One word of the ring is being overwritten.
    pub const SIZE: u64 = (Self::WORDS as u64 - 1) * 64;

    /// True when the sequence was not seen. Sequences start at 1.
    #[must_use]
    pub fn is_fresh(&self, sequence: u64) -> bool {
        if sequence > self.highest {
            return true;
        }
        sequence != 0
            && self.highest - sequence < Self::SIZE
            && self.seen[Self::word(sequence)] & Self::bit(sequence) == 0
    }

    /// Marks an authentic sequence as seen.
    pub fn mark(&mut self, sequence: u64) {
        if sequence > self.highest {
            let skipped = (sequence / 64 - self.highest / 64).min(Self::WORDS as u64);
            for word in 1..=skipped {
                self.seen[Self::word((self.highest / 64 + word) * 64)] = 0;
            }
            self.highest = sequence;
        }
        self.seen[Self::word(sequence)] |= Self::bit(sequence);
    }

    /// The highest sequence seen; zero before the first.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    const fn word(sequence: u64) -> usize {
        (sequence / 64 % Self::WORDS as u64) as usize
    }

    const fn bit(sequence: u64) -> u64 {
        1 << (sequence % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn unit(id: u8) -> UnitId {
        UnitId::new(id).unwrap()
    }

    fn header() -> Header {
        Header {
            version: 1,
            kind: Kind::Heartbeat,
            cluster: 0x0102,
            unit: unit(3),
            to: Some(unit(4)),
            length: 5,
            boot: Boot(0x1122_3344_5566_7788),
            sequence: 0x99,
        }
    }

    fn seal() -> Seal {
        Seal::new(&Key::new([7; 32]), 0x0102, unit(3), header().boot)
    }

    #[test]
    fn golden_frame() {
        let frame = seal().close(header(), b"hello");
        let expected = [
            "01010102030400051122334455667788",
            "0000000000000099",
            GOLDEN_BODY,
        ]
        .concat();
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert_eq!(Header::decode(&frame), Ok(header()));
        assert_eq!(seal().open(&header(), &frame).as_deref(), Ok(&b"hello"[..]));
    }

    /// Computed apart from this crate, from the texts of RFC 5869 and RFC 8439.
    const GOLDEN_BODY: &str = "27284c222774db0c902bfc426985455e6ba630a069";

    #[test]
    fn padding_is_ignored() {
        let mut frame = seal().close(header(), b"hello");
        frame.resize(46, 0xEE);
        let header = Header::decode(&frame).unwrap();
        assert_eq!(seal().open(&header, &frame).as_deref(), Ok(&b"hello"[..]));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frame = seal().close(header(), b"hello");
        for bit in 0..frame.len() * 8 {
            let mut forged = frame.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let opened = Header::decode(&forged).and_then(|header| seal().open(&header, &forged));
            assert!(opened.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let frame = seal().close(header(), b"hello");
        for len in 0..frame.len() {
            assert_eq!(Header::decode(&frame[..len]), Err(Rejection::Truncated));
        }
    }

    #[test]
    fn seals_differ_by_cluster_unit_boot_and_key() {
        let frame = seal().close(header(), b"hello");
        let key = Key::new([7; 32]);
        for other in [
            Seal::new(&Key::new([8; 32]), 0x0102, unit(3), header().boot),
            Seal::new(&key, 0x0103, unit(3), header().boot),
            Seal::new(&key, 0x0102, unit(4), header().boot),
            Seal::new(&key, 0x0102, unit(3), Boot(1)),
        ] {
            assert_eq!(
                other.open(&header(), &frame),
                Err(Rejection::Authentication)
            );
        }
    }

    #[test]
    fn the_window_refuses_what_it_cannot_know() {
        let mut window = Window::default();
        assert!(!window.is_fresh(0));
        window.mark(10_000);
        assert!(!window.is_fresh(10_000));
        assert!(window.is_fresh(10_000 - Window::SIZE + 1));
        assert!(!window.is_fresh(10_000 - Window::SIZE));
        assert!(window.is_fresh(u64::MAX));
        window.mark(u64::MAX);
        assert!(!window.is_fresh(10_001));
    }

    proptest! {
        #[test]
        fn the_window_accepts_each_sequence_once(steps in proptest::collection::vec((0..3_u8, 0..5_000_u64), 1..400)) {
            let (mut window, mut seen, mut highest) = (Window::default(), HashSet::new(), 0_u64);
            for (kind, offset) in steps {
                let sequence = match kind {
                    0 => highest + 1 + offset % 3,
                    1 => highest.saturating_sub(offset),
                    _ => highest + offset,
                };
                let known = sequence != 0
                    && (sequence > highest || highest - sequence < Window::SIZE);
                prop_assert_eq!(window.is_fresh(sequence), known && !seen.contains(&sequence));
                if window.is_fresh(sequence) {
                    window.mark(sequence);
                    seen.insert(sequence);
                    highest = highest.max(sequence);
                }
            }
        }
    }
}
