//! One session in memory: 128 bytes, all of it atomics. Each direction has a cache line that says all
//! a datagram of that direction needs: its key, how it leaves, when it was last seen.
//!
//! ```text
//! byte   0          8                            40          44    48          56           60
//! line 0 key word 0 key words 1-4, or rewrite    last seen   hot   version     TCP windows  sequence
//! line 1 key word 0 key words 1-4, or rewrite    last seen   hot   TCP side 0  TCP side 1
//! ```
//!
//! An IPv4 key ends with word 1. Where both keys are IPv4, words 2 to 4 of each line hold the
//! [`Rewrite`] of that direction, made when the session was stored; other sessions leave as the
//! reverse of the other line's key.
//!
//! The writer stores relaxed under the entry's sequence; readers on other cores copy the entry and
//! retry when the sequence moved. The writer itself reads without looking at the sequence, which
//! compiles to plain loads. Two fields are stored outside of the sequence: `last_seen`, one word in
//! each line, so that a packet that changes nothing else costs one store, and the path of a rewrite,
//! which readers do not look at.

use std::hint::select_unpredictable;

use packet::tcp::Segment;

use crate::concurrency::{AtomicU32, AtomicU64, Ordering};
use crate::key::{Key, high, low};
use crate::model::{Direction, Flags, Session, State, TcpSide, Tick, Version};
use crate::rewrite::{Path, Rewrite};
use crate::seqlock::Sequence;
use crate::tcp::{self, Connection};

/// What a slot holds.
#[repr(C, align(128))]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Entry {
    original: Half,
    version: AtomicU64,
    /// What does not depend on the scale of [`TcpSide::max_window`], 16 bits a side.
    windows: AtomicU32,
    sequence: Sequence,
    reply: Half,
    /// `end` and `max_end`, by direction.
    sides: [AtomicU64; 2],
}

/// What belongs to one direction.
#[repr(C)]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Half {
    words: [AtomicU64; 5],
    last_seen: AtomicU32,
    hot: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Entry>() == 128 && align_of::<Entry>() == 128);
    assert!(std::mem::offset_of!(Entry, reply) == 64);
};

/// The small fields of one half. All zero is a vacant slot.
///
/// The lower 16 bits are the same in both halves. Above them the original half has what was in the
/// options of both SYNs, the reply half the policy.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hot(u32);

impl Hot {
    const STATE: u32 = 0x0007;
    const OCCUPIED: u32 = 0x0008;
    const FLAGS_SHIFT: u32 = 4;
    const FLAGS: u32 = 0x3f << Self::FLAGS_SHIFT;
    const RELEARN: u32 =
        ((Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY) as u32) << Self::FLAGS_SHIFT;
    const OWNER_SHIFT: u32 = 10;
    const OWNER: u32 = 0x1f << Self::OWNER_SHIFT;
    /// Words 2 to 4 hold a rewrite.
    const REWRITES: u32 = 0x8000;
    const COMMON: u32 = 0xffff;

    /// Original half, local to this table: the session's time was restarted once after its owner died.
    const REPRIEVED: u32 = 1 << 31;
    /// Original half, local to this table: its owner has not told of the session since it got it here.
    const ASSIGNED: u32 = 1 << 30;
    /// Original half: where the options of each side begin.
    const OPTIONS_SHIFT: [u32; 2] = [16, 22];
    const SCALE: u32 = 0x0f;
    const SACK: u32 = 0x10;
    /// The largest window is kept in units of the scale.
    const WIDE: u32 = 0x20;
    /// Reply half.
    const POLICY_SHIFT: u32 = 16;

    fn common(session: &Session, rewrites: bool) -> u32 {
        Self::OCCUPIED
            | session.state as u32
            | u32::from(session.flags.0) << Self::FLAGS_SHIFT & Self::FLAGS
            | Self::owner_bits(session.owner)
            | if rewrites { Self::REWRITES } else { 0 }
    }

    /// Units are numbered from 1 to 16.
    fn owner_bits(unit: u8) -> u32 {
        u32::from(unit.min(31)) << Self::OWNER_SHIFT
    }

    fn owned_by(self, unit: u8) -> Self {
        Self(self.0 & !Self::OWNER | Self::owner_bits(unit))
    }

    fn with(self, state: State, flags: Flags) -> Self {
        let kept = self.0 & !(Self::STATE | Self::FLAGS);
        Self(kept | state as u32 | u32::from(flags.0) << Self::FLAGS_SHIFT & Self::FLAGS)
    }

    fn with_options(self, windows: &[Window; 2], sides: &[TcpSide; 2]) -> Self {
        let mut word = self.0 & (Self::COMMON | Self::REPRIEVED | Self::ASSIGNED);
        for ((shift, window), side) in Self::OPTIONS_SHIFT.into_iter().zip(windows).zip(sides) {
            let sack = if side.sack { Self::SACK } else { 0 };
            let wide = if window.wide { Self::WIDE } else { 0 };
            word |= (u32::from(side.scale) & Self::SCALE | sack | wide) << shift;
        }
        Self(word)
    }

    fn options(self, direction: Direction) -> u32 {
        self.0 >> Self::OPTIONS_SHIFT[direction as usize]
    }

    fn is_occupied(self) -> bool {
        self.0 & Self::OCCUPIED != 0
    }

    fn state(self) -> State {
        State::from_bits((self.0 & Self::STATE).to_le_bytes()[0])
    }

    fn flags(self) -> Flags {
        Flags(((self.0 & Self::FLAGS) >> Self::FLAGS_SHIFT).to_le_bytes()[0])
    }

    fn owner(self) -> u8 {
        ((self.0 & Self::OWNER) >> Self::OWNER_SHIFT).to_le_bytes()[0]
    }

    fn policy(self) -> u16 {
        let [_, _, a, b] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

/// [`TcpSide::max_window`] in 17 bits.
///
/// What a side announces is 16 bits, scaled or (in its SYN) not. So every value that the tracker makes
/// fits; what else a peer might send is rounded up, or down to the largest that fits.
#[derive(Clone, Copy)]
struct Window {
    value: u16,
    wide: bool,
}

impl Window {
    fn of(side: &TcpSide) -> Self {
        u16::try_from(side.max_window).map_or_else(
            |_| {
                let shift = Self::shift(side.scale);
                let rounded = u64::from(side.max_window).div_ceil(1 << shift);
                let value = u16::try_from(rounded).unwrap_or(u16::MAX);
                Self { value, wide: true }
            },
            |value| Self { value, wide: false },
        )
    }

    #[inline]
    fn both([original, reply]: &[TcpSide; 2]) -> [Self; 2] {
        [Self::of(original), Self::of(reply)]
    }

    fn expand(self, scale: u8) -> u32 {
        u32::from(self.value) << if self.wide { Self::shift(scale) } else { 0 }
    }

    fn shift(scale: u8) -> u32 {
        if scale == TcpSide::NO_SCALE {
            0
        } else {
            u32::from(scale)
        }
    }
}

impl Half {
    /// The writer's comparison: true when packets of this direction arrive as `key` says.
    #[inline]
    pub(crate) fn matches(&self, key: &Key) -> bool {
        let differs = |i: usize| self.words[i].load(Ordering::Relaxed) ^ key.0[i];
        differs(0) | differs(1) == 0 && (key.is_v4() || differs(2) | differs(3) | differs(4) == 0)
    }

    /// How packets of this direction arrive.
    fn key(&self) -> Key {
        let mut key = Key(std::array::from_fn(|i| {
            self.words[i].load(Ordering::Relaxed)
        }));
        if key.is_v4() {
            key.0[2..].fill(0);
        }
        key
    }

    /// How packets of this direction leave, where both keys are IPv4.
    #[inline]
    pub(crate) fn rewrite(&self) -> Option<Rewrite> {
        let hot = self.hot.load(Ordering::Relaxed);
        (hot & Hot::REWRITES != 0).then(|| self.rewrite_words())
    }

    /// [`Half::rewrite`], for a datagram of a session that `unit` owns and whose state it leaves as
    /// it is; it is seen `now`. `None` when any of that is not so, and nothing was done.
    #[inline]
    pub(crate) fn pass_datagram(
        &self,
        direction: Direction,
        unit: u8,
        now: Tick,
    ) -> Option<Rewrite> {
        const REPLIED: u32 = State::Replied as u32;
        let expected =
            Hot::OCCUPIED | Hot::REWRITES | REPLIED | u32::from(unit) << Hot::OWNER_SHIFT;
        // To the original direction unreplied is as good; the two states differ in one bit. Without a branch.
        let state = Hot::STATE & !REPLIED | (direction as u32 * REPLIED);
        let wanted = Hot::OCCUPIED | Hot::REWRITES | Hot::OWNER | state;
        if (self.hot.load(Ordering::Relaxed) ^ expected) & wanted != 0 {
            return None;
        }
        self.touch(now);
        Some(self.rewrite_words())
    }

    #[inline]
    fn rewrite_words(&self) -> Rewrite {
        Rewrite::from_words([2, 3, 4].map(|i| self.words[i].load(Ordering::Relaxed)))
    }

    /// Remembers the way out, where there is a rewrite.
    #[inline]
    pub(crate) fn set_path(&self, path: Path) {
        if self.hot.load(Ordering::Relaxed) & Hot::REWRITES != 0 {
            self.words[4].store(path.to_word(), Ordering::Relaxed);
        }
    }

    /// Restarts the timer.
    #[inline]
    pub(crate) fn touch(&self, now: Tick) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    fn hot(&self) -> Hot {
        Hot(self.hot.load(Ordering::Relaxed))
    }

    fn set_hot(&self, hot: Hot) {
        self.hot.store(hot.0, Ordering::Relaxed);
    }

    fn store(&self, key: &Key, rewrite: Option<Rewrite>, hot: Hot, last_seen: Tick) {
        let [w0, w1, mut w2, mut w3, mut w4] = key.0;
        if let Some(rewrite) = rewrite {
            [w2, w3, w4] = rewrite.to_words();
        }
        for (cell, word) in self.words.iter().zip([w0, w1, w2, w3, w4]) {
            cell.store(word, Ordering::Relaxed);
        }
        self.touch(last_seen);
        self.set_hot(hot);
    }
}

impl Entry {
    /// The half of `direction`.
    #[inline]
    pub(crate) fn half(&self, direction: Direction) -> &Half {
        let is_original = direction == Direction::Original;
        select_unpredictable(is_original, &self.original, &self.reply)
    }

    /// Makes this the entry of `session`, whose keys are `keys`.
    pub(crate) fn store(&self, session: &Session, keys: &[Key; 2]) {
        let rewrites = Rewrite::of(keys);
        let common = Hot(Hot::common(session, rewrites.is_some()));
        let windows = Window::both(&session.tcp);
        let assigned = if session.assigned { Hot::ASSIGNED } else { 0 };
        let hot = Hot(common.0 | assigned).with_options(&windows, &session.tcp);
        let reply_hot = Hot(common.0 | u32::from(session.policy) << Hot::POLICY_SHIFT);
        let [rewrite, reply_rewrite] = match rewrites {
            Some([original, reply]) => [Some(original), Some(reply)],
            None => [None; 2],
        };
        self.sequence.write(|| {
            self.original
                .store(&keys[0], rewrite, hot, session.last_seen);
            self.version.store(session.version.0, Ordering::Relaxed);
            self.store_windows(&windows);
            self.reply
                .store(&keys[1], reply_rewrite, reply_hot, session.last_seen);
            self.store_sides(&session.tcp);
        });
    }

    /// Makes the slot vacant.
    pub(crate) fn vacate(&self) {
        self.sequence.write(|| {
            self.original.set_hot(Hot(0));
            self.reply.set_hot(Hot(0));
        });
    }

    /// Changes what TCP tracking changes. `version` is `None` while nothing changed that a peer
    /// has to know.
    pub(crate) fn store_connection(&self, connection: &Connection, version: Option<Version>) {
        let windows = Window::both(&connection.sides);
        let (state, flags) = (connection.state, connection.flags);
        let hot = self.original.hot().with(state, flags);
        let reply_hot = self.reply.hot().with(state, flags);
        self.sequence.write(|| {
            self.original
                .set_hot(hot.with_options(&windows, &connection.sides));
            self.reply.set_hot(reply_hot);
            self.store_windows(&windows);
            self.store_sides(&connection.sides);
            if let Some(version) = version {
                self.version.store(version.0, Ordering::Relaxed);
            }
        });
    }

    /// The rewrite for a segment that travels in `direction`, seen `now`, of an established session
    /// that `unit` owns: one that moves the limits of its windows and nothing else. `None` when any of
    /// that is not so, and nothing was done.
    #[inline]
    pub(crate) fn pass_segment(
        &self,
        direction: Direction,
        unit: u8,
        segment: &Segment,
        now: Tick,
    ) -> Option<Rewrite> {
        const WANTED: u32 = Hot::OCCUPIED | Hot::REWRITES | Hot::OWNER | Hot::STATE | Hot::RELEARN;
        let expected = Hot::OCCUPIED
            | Hot::REWRITES
            | State::Established as u32
            | u32::from(unit) << Hot::OWNER_SHIFT;
        let hot = self.original.hot();
        if (hot.0 ^ expected) & WANTED != 0 {
            return None;
        }
        let windows = self.windows.load(Ordering::Relaxed);
        let sender = self.side(hot, windows, direction);
        let receiver = self.side(hot, windows, direction.other());
        let (next_sender, next_receiver) = tcp::pass(sender, receiver, segment)?;
        // A window larger than all before it may be kept in other units than they were.
        if next_sender.max_window != sender.max_window {
            return None;
        }
        let sent = &self.sides[direction as usize];
        let received = &self.sides[direction.other() as usize];
        self.sequence.write(|| {
            sent.store(limits(&next_sender), Ordering::Relaxed);
            received.store(limits(&next_receiver), Ordering::Relaxed);
        });
        let half = self.half(direction);
        half.touch(now);
        Some(half.rewrite_words())
    }

    /// Restarts the timer and remembers that this was done for an owner that died.
    pub(crate) fn reprieve(&self, now: Tick) {
        let hot = Hot(self.original.hot().0 | Hot::REPRIEVED);
        self.sequence.write(|| self.original.set_hot(hot));
        self.original.touch(now);
    }

    /// Makes `unit` the owner, which was not told by any unit, and changes nothing else.
    pub(crate) fn assign(&self, unit: u8) {
        let [original, reply] = [&self.original, &self.reply].map(|half| half.hot().owned_by(unit));
        self.sequence.write(|| {
            self.original.set_hot(Hot(original.0 | Hot::ASSIGNED));
            self.reply.set_hot(reply);
        });
    }

    pub(crate) fn is_occupied(&self) -> bool {
        self.original.hot().is_occupied()
    }

    pub(crate) fn is_reprieved(&self) -> bool {
        self.original.hot().0 & Hot::REPRIEVED != 0
    }

    pub(crate) fn state(&self) -> State {
        self.original.hot().state()
    }

    pub(crate) fn owner(&self, direction: Direction) -> u8 {
        self.half(direction).hot().owner()
    }

    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Ordering::Relaxed))
    }

    /// The IP protocol that the session is of.
    pub(crate) fn protocol(&self) -> u8 {
        self.original.key().protocol()
    }

    /// When the last packet of either direction was seen.
    pub(crate) fn last_seen(&self) -> Tick {
        let seen = |half: &Half| half.last_seen.load(Ordering::Relaxed);
        Tick(seen(&self.original).max(seen(&self.reply)))
    }

    /// The writer's view of how packets of each direction arrive.
    pub(crate) fn keys(&self) -> [Key; 2] {
        [self.original.key(), self.reply.key()]
    }

    /// The writer's view of the TCP part.
    pub(crate) fn connection(&self) -> Connection {
        let hot = self.original.hot();
        Connection {
            state: hot.state(),
            flags: hot.flags(),
            sides: self.tcp(hot),
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

    fn copy(&self) -> Option<Session> {
        let hot = self.original.hot();
        hot.is_occupied().then(|| Session {
            tuples: [self.original.key().tuple(), self.reply.key().tuple()],
            version: self.version(),
            state: hot.state(),
            flags: hot.flags(),
            owner: hot.owner(),
            policy: self.reply.hot().policy(),
            tcp: self.tcp(hot),
            last_seen: self.last_seen(),
            assigned: hot.0 & Hot::ASSIGNED != 0,
        })
    }

    fn store_windows(&self, [original, reply]: &[Window; 2]) {
        let word = u32::from(original.value) | u32::from(reply.value) << 16;
        self.windows.store(word, Ordering::Relaxed);
    }

    fn store_sides(&self, sides: &[TcpSide; 2]) {
        for (cell, side) in self.sides.iter().zip(sides) {
            cell.store(limits(side), Ordering::Relaxed);
        }
    }

    fn tcp(&self, hot: Hot) -> [TcpSide; 2] {
        let windows = self.windows.load(Ordering::Relaxed);
        [Direction::Original, Direction::Reply].map(|direction| self.side(hot, windows, direction))
    }

    /// One side of what `hot` of the original half, [`Entry::windows`] and [`Entry::sides`] say.
    #[inline]
    fn side(&self, hot: Hot, windows: u32, direction: Direction) -> TcpSide {
        let options = hot.options(direction);
        let [low_byte, high_byte, ..] = (windows >> (16 * direction as u32)).to_le_bytes();
        let window = Window {
            value: u16::from_le_bytes([low_byte, high_byte]),
            wide: options & Hot::WIDE != 0,
        };
        let scale = (options & Hot::SCALE).to_le_bytes()[0];
        let limits = self.sides[direction as usize].load(Ordering::Relaxed);
        TcpSide {
            end: low(limits),
            max_end: high(limits),
            max_window: window.expand(scale),
            scale,
            sack: options & Hot::SACK != 0,
        }
    }
}

/// [`TcpSide::end`] and [`TcpSide::max_end`] as they are kept.
#[inline]
fn limits(side: &TcpSide) -> u64 {
    u64::from(side.end) | u64::from(side.max_end) << 32
}

#[cfg(all(test, not(loom)))]
mod tests;
