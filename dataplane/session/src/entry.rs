//! One session in memory: 128 bytes, two adjacent cache lines, all of it atomics.
//!
//! The writer stores relaxed under the entry's sequence; readers on other cores copy the entry and
//! retry when the sequence moved. The writer itself reads without looking at the sequence, which
//! compiles to plain loads. `last_seen` alone is stored outside of the sequence: it is one word, so
//! it cannot be torn, and a packet that changes nothing else costs one store.
//!
//! ```text
//! line 0: sequence 4 | last_seen 4 | original tuple 40 | meta 8 | version 8
//! line 1: reply tuple 40 | windows 24
//! ```

use packet::Tuple;

use crate::concurrency::{AtomicU32, AtomicU64, Ordering};
use crate::hash::{self, Words};
use crate::model::{Direction, Flags, Session, State, TcpSide, Tick, Version};
use crate::seqlock::Sequence;
use crate::tcp::Connection;

/// What a slot holds.
#[repr(C, align(128))]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Entry {
    sequence: Sequence,
    last_seen: AtomicU32,
    original: [AtomicU64; 5],
    meta: AtomicU64,
    version: AtomicU64,
    reply: [AtomicU64; 5],
    windows: [AtomicU64; 3],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 128 && align_of::<Entry>() == 128);

/// The small fields, packed in one word. All zero is a vacant slot.
#[derive(Clone, Copy)]
pub(crate) struct Meta(u64);

impl Meta {
    const OCCUPIED: u8 = 0x80;
    /// Local to this table: its time was restarted once after its owner died.
    const REPRIEVED: u8 = 0x40;
    const STATE: u8 = 0x07;
    const SACK: u8 = 0x10;
    const SCALE: u8 = 0x0f;

    fn of(session: &Session) -> Self {
        let policy = session.policy.to_le_bytes();
        Self(u64::from_le_bytes([
            session.state as u8 | Self::OCCUPIED,
            session.flags.0,
            session.owner,
            Self::options(&session.tcp[0]),
            Self::options(&session.tcp[1]),
            0,
            policy[0],
            policy[1],
        ]))
    }

    fn with(self, connection: &Connection) -> Self {
        let mut bytes = self.0.to_le_bytes();
        bytes[0] = bytes[0] & !Self::STATE | connection.state as u8;
        bytes[1] = connection.flags.0;
        for (byte, side) in bytes[3..5].iter_mut().zip(&connection.sides) {
            *byte = Self::options(side);
        }
        Self(u64::from_le_bytes(bytes))
    }

    fn options(side: &TcpSide) -> u8 {
        (side.scale & Self::SCALE) | if side.sack { Self::SACK } else { 0 }
    }

    fn byte(self, index: usize) -> u8 {
        self.0.to_le_bytes()[index]
    }

    pub(crate) fn is_occupied(self) -> bool {
        self.byte(0) & Self::OCCUPIED != 0
    }

    pub(crate) fn is_reprieved(self) -> bool {
        self.byte(0) & Self::REPRIEVED != 0
    }

    pub(crate) fn state(self) -> State {
        State::from_bits(self.byte(0) & Self::STATE)
    }

    fn flags(self) -> Flags {
        Flags(self.byte(1))
    }

    pub(crate) fn owner(self) -> u8 {
        self.byte(2)
    }

    fn policy(self) -> u16 {
        u16::from_le_bytes([self.byte(6), self.byte(7)])
    }
}

impl Entry {
    /// Makes this the entry of `session`.
    pub(crate) fn store(&self, session: &Session) {
        self.sequence.write(|| {
            self.last_seen.store(session.last_seen.0, Ordering::Relaxed);
            store(&self.original, hash::words(&session.tuples[0]));
            store(&self.reply, hash::words(&session.tuples[1]));
            self.meta.store(Meta::of(session).0, Ordering::Relaxed);
            self.version.store(session.version.0, Ordering::Relaxed);
            store(&self.windows, pack(&session.tcp));
        });
    }

    /// Makes the slot vacant.
    pub(crate) fn vacate(&self) {
        self.sequence
            .write(|| self.meta.store(0, Ordering::Relaxed));
    }

    /// Changes what TCP tracking changes. `version` is `None` while nothing changed that a peer
    /// has to know.
    pub(crate) fn store_connection(&self, connection: &Connection, version: Option<Version>) {
        let meta = self.meta().with(connection);
        self.sequence.write(|| {
            self.meta.store(meta.0, Ordering::Relaxed);
            store(&self.windows, pack(&connection.sides));
            if let Some(version) = version {
                self.version.store(version.0, Ordering::Relaxed);
            }
        });
    }

    /// Restarts the timer.
    #[inline]
    pub(crate) fn touch(&self, now: Tick) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    /// Restarts the timer and remembers that this was done for an owner that died.
    pub(crate) fn reprieve(&self, now: Tick) {
        let mut bytes = self.meta().0.to_le_bytes();
        bytes[0] |= Meta::REPRIEVED;
        self.sequence.write(|| {
            self.meta
                .store(u64::from_le_bytes(bytes), Ordering::Relaxed)
        });
        self.touch(now);
    }

    /// The writer's view of the small fields.
    pub(crate) fn meta(&self) -> Meta {
        Meta(self.meta.load(Ordering::Relaxed))
    }

    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Relaxed))
    }

    pub(crate) fn last_seen(&self) -> Tick {
        Tick(self.last_seen.load(Ordering::Relaxed))
    }

    /// The writer's view of how packets of `direction` arrive.
    #[inline]
    pub(crate) fn tuple(&self, direction: Direction) -> Tuple {
        zerocopy::transmute!(load(self.words(direction)))
    }

    /// The writer's comparison: true when packets of `direction` arrive as `tuple`.
    #[inline]
    pub(crate) fn matches(&self, direction: Direction, tuple: &Words) -> bool {
        // Without branches: the words are in one or two lines that are both wanted anyway.
        let words = self.words(direction);
        (0..5).fold(0, |rest, i| {
            rest | (words[i].load(Ordering::Relaxed) ^ tuple[i])
        }) == 0
    }

    /// The writer's view of the TCP part.
    pub(crate) fn connection(&self) -> Connection {
        let meta = self.meta();
        let sides = unpack(load(&self.windows), meta);
        Connection {
            state: meta.state(),
            flags: meta.flags(),
            sides,
        }
    }

    /// The writer's view of the session; all zero when the slot is vacant.
    pub(crate) fn session(&self) -> Session {
        self.copy().unwrap_or_default()
    }

    /// Any thread's view: a session that was in this slot as a whole at some moment of the call.
    pub(crate) fn read(&self) -> Option<Session> {
        self.sequence.read(|| self.copy())
    }

    fn words(&self, direction: Direction) -> &[AtomicU64; 5] {
        match direction {
            Direction::Original => &self.original,
            Direction::Reply => &self.reply,
        }
    }

    fn copy(&self) -> Option<Session> {
        let meta = self.meta();
        meta.is_occupied().then(|| Session {
            tuples: [
                self.tuple(Direction::Original),
                self.tuple(Direction::Reply),
            ],
            version: self.version(),
            state: meta.state(),
            flags: meta.flags(),
            owner: meta.owner(),
            policy: meta.policy(),
            tcp: unpack(load(&self.windows), meta),
            last_seen: self.last_seen(),
        })
    }
}

fn store<const N: usize>(to: &[AtomicU64; N], words: [u64; N]) {
    for (cell, word) in to.iter().zip(words) {
        cell.store(word, Ordering::Relaxed);
    }
}

fn load<const N: usize>(from: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| from[i].load(Ordering::Relaxed))
}

fn pack([a, b]: &[TcpSide; 2]) -> [u64; 3] {
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [
        join(a.end, a.max_end),
        join(b.end, b.max_end),
        join(a.max_window, b.max_window),
    ]
}

fn unpack(words: [u64; 3], meta: Meta) -> [TcpSide; 2] {
    let halves = |word: u64| {
        let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
        (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        )
    };
    let windows = halves(words[2]);
    let side = |word: u64, max_window: u32, packed: u8| {
        let (end, max_end) = halves(word);
        let scale = packed & Meta::SCALE;
        TcpSide {
            end,
            max_end,
            max_window,
            scale,
            sack: packed & Meta::SACK != 0,
        }
    };
    [
        side(words[0], windows.0, meta.byte(3)),
        side(words[1], windows.1, meta.byte(4)),
    ]
}
