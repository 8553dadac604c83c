//! The shard: a worker's part of the session table, and everything that the worker does with it.
//!
//! Owns the memory of its sessions. One thread at a time uses it (`&mut self` for every change);
//! others hold a [`Reader`].
//!
//! Invariants, between two calls:
//! - every session has exactly two keys in the index, one for each direction;
//! - its slot is on the wheel, at or before its deadline, or at the horizon;
//! - its slot is on the list of half-open sessions exactly when its state is half open;
//! - slots without a session are on the free stack;
//! - `clock` is at least every version that the shard has seen.

mod ageing;
mod burst;
mod remote;
#[cfg(all(test, not(loom)))]
mod tests;

use packet::Tuple;
use packet::tcp::Segment;

pub use ageing::Ageing;
pub use remote::{Applied, Displaced};

use crate::concurrency::Arc;
use crate::entry::Entry;
use crate::hash::{self, Hasher, Words};
use crate::index::{Home, Index, Place, Pool};
use crate::lists::Lists;
use crate::memory::{self, Array, Backing, Memory, OutOfMemory};
use crate::model::{Direction, Session, State, Tick, Version};
use crate::reader::{Reader, Shared};
use crate::settings::{Settings, Timeouts, is_half_open};
use crate::sources::Sources;
use crate::statistics::{Counters, Statistics};
use crate::tcp::{self, Connection, Outcome, Verdict};
use crate::wheel::Wheel;

/// The only list of [`Shard::half_open`].
const OLDEST_FIRST: u32 = 0;

/// The slot of a session in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A session that was found, and which of its directions the tuple was.
///
/// Good until the shard next removes or replaces a session (also by eviction, by ageing, or at a
/// peer's wish). Within a burst where that may have happened, ask [`Shard::confirms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The slot.
    pub id: SessionId,
    /// The direction.
    pub direction: Direction,
}

/// A session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Its slot.
    pub id: SessionId,
    /// The half-open session that made room for it: peers have to hear of that.
    pub evicted: Option<Session>,
}

/// A session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Every slot holds a session that is not half open.
    Full,
    /// One of its tuples belongs to this one.
    Exists(Hit),
    /// Its source has as many as it may.
    SourceLimit,
}

/// A shard could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The capacity is zero or too large.
    #[error("a shard holds 1 to {max} sessions, not {asked}", max = Settings::MAX_CAPACITY)]
    Capacity {
        /// What was asked for.
        asked: u32,
    },
    /// The kernel did not give the memory.
    #[error("no memory for {bytes} bytes of session table")]
    OutOfMemory {
        /// Bytes that were asked for at once.
        bytes: usize,
    },
}

impl From<OutOfMemory> for Error {
    fn from(OutOfMemory { bytes }: OutOfMemory) -> Self {
        Self::OutOfMemory { bytes }
    }
}

/// The memory that a shard took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of sessions.
    pub entries: usize,
    /// Bytes of the index.
    pub index: usize,
    /// Bytes of timers, lists and limits.
    pub lists: usize,
    /// The smaller kind of pages of those that entries and index lie in.
    pub backing: Backing,
}

/// One worker's sessions.
pub struct Shard {
    shared: Arc<Shared>,
    pool: Pool,
    free: Vec<u32>,
    wheel: Wheel,
    half_open: Lists,
    half_open_limit: u64,
    sources: Option<Sources>,
    timeouts: Timeouts,
    clock: Version,
}

impl Shard {
    /// Takes all the memory that the shard will ever use.
    ///
    /// # Errors
    /// When the capacity is out of range or the memory is not to be had.
    pub fn new(settings: Settings, memory: Memory) -> Result<Self, Error> {
        let capacity = settings.capacity;
        if !(1..=Settings::MAX_CAPACITY).contains(&capacity) {
            return Err(Error::Capacity { asked: capacity });
        }
        let (index, pool) = Index::new(capacity, memory)?;
        let shared = Shared {
            index,
            entries: Array::new(capacity as usize, memory)?,
            hasher: Hasher::new(settings.seed),
            counters: Counters::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            pool,
            free: (0..capacity).rev().collect(),
            wheel: Wheel::new(capacity),
            half_open: Lists::new(capacity, 1),
            half_open_limit: settings.half_open_limit.unwrap_or(capacity).into(),
            sources: settings
                .per_source_limit
                .map(|limit| Sources::new(limit, capacity)),
            timeouts: settings.timeouts,
            clock: Version::default(),
        })
    }

    /// A view for other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Slots.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        // As many as `new` was asked for, which was 32 bits.
        u32::try_from(self.shared.entries.len()).unwrap_or(u32::MAX)
    }

    /// Sessions.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.capacity() - u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    /// True when there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.read()
    }

    /// The memory that [`Shard::new`] took.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let sources = self.sources.as_ref().map_or(0, Sources::bytes);
        let free = size_of_val(self.free.as_slice()).max(self.free.capacity() * 4);
        Footprint {
            entries: size_of_val::<[Entry]>(&self.shared.entries),
            index: self.shared.index.bytes(),
            lists: self.wheel.bytes() + self.half_open.bytes() + sources + free,
            backing: self
                .shared
                .entries
                .backing()
                .min(self.shared.index.backing()),
        }
    }

    /// The idle times that the shard goes by.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Goes by other idle times from now on; a session's next timer or change of state applies them.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// A version that is newer than every one that the shard has seen, for a change made in `term`.
    pub fn next_version(&mut self, term: u32) -> Version {
        self.clock = self.clock.next(term);
        self.clock
    }

    /// The session of packets that arrive as `tuple`.
    #[must_use]
    pub fn lookup(&self, tuple: &Tuple) -> Option<Hit> {
        let words = hash::words(tuple);
        self.find(self.home(&words), &words)
    }

    /// True when `hit` still is the answer to `tuple`.
    #[must_use]
    pub fn confirms(&self, hit: Hit, tuple: &Tuple) -> bool {
        let entry = self.entry(hit.id);
        entry.meta().is_occupied() && entry.matches(hit.direction, &hash::words(tuple))
    }

    /// The session in a slot; all zero when there is none.
    ///
    /// # Panics
    /// When `id` is beyond the capacity; this holds for every method that takes an id.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Session {
        self.entry(id).session()
    }

    /// The tuple that a packet of `hit` leaves the gateway with.
    #[must_use]
    pub fn outgoing(&self, hit: Hit) -> Tuple {
        self.entry(hit.id).tuple(hit.direction.other()).reversed()
    }

    /// The unit that processes the session.
    #[must_use]
    pub fn owner(&self, id: SessionId) -> u8 {
        self.entry(id).meta().owner()
    }

    /// Opens a session. `session.version` should come from [`Shard::next_version`], and for TCP
    /// `state` and `tcp` from [`tcp::open`]; `last_seen` becomes `now`.
    ///
    /// When there is no slot, or the limit of half-open sessions is reached by another one, the
    /// oldest half-open session is evicted.
    ///
    /// # Errors
    /// When a tuple is taken, the source is at its limit, or no slot can be had. Nothing changed.
    pub fn insert(&mut self, session: Session, now: Tick) -> Result<Inserted, Refused> {
        let session = Session {
            last_seen: now,
            ..session
        };
        let words = session.tuples.map(|tuple| hash::words(&tuple));
        let homes = words.map(|words| self.home(&words));
        // The misses of both buckets and of the slot in flight together.
        homes
            .iter()
            .for_each(|home| self.shared.index.prefetch(*home));
        if let Some(&slot) = self.free.last() {
            memory::prefetch(self.entry(SessionId(slot)));
        }
        let taken = self
            .find(homes[0], &words[0])
            .or_else(|| self.find(homes[1], &words[1]));
        if let Some(hit) = taken {
            self.shared.counters.refused_exists.add();
            return Err(Refused::Exists(hit));
        }
        let source = self.shared.hasher.source(&words[0]);
        if self
            .sources
            .as_ref()
            .is_some_and(|sources| sources.is_exhausted(source))
        {
            self.shared.counters.refused_source.add();
            return Err(Refused::SourceLimit);
        }
        let at_limit = is_half_open(session.state)
            && self.shared.counters.half_open.get() >= self.half_open_limit;
        let evicted = if at_limit || self.free.is_empty() {
            self.evict()
        } else {
            None
        };
        let Some(id) = self.place(&session, homes, now) else {
            self.shared.counters.refused_full.add();
            return Err(Refused::Full);
        };
        self.shared.counters.inserted.add();
        Ok(Inserted { id, evicted })
    }

    /// Takes a session out. `None` when the slot is vacant.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.take(id)?;
        self.shared.counters.removed.add();
        Some(session)
    }

    /// A packet of the session was seen: its idle time starts again.
    #[inline]
    pub fn touch(&mut self, hit: Hit, now: Tick) {
        self.entry(hit.id).touch(now);
    }

    /// A datagram or query of a session that is not TCP: its idle time starts again, and the first
    /// one in the reply direction changes its state.
    pub fn datagram(&mut self, hit: Hit, now: Tick, term: u32) -> Verdict {
        let entry = self.entry(hit.id);
        entry.touch(now);
        if hit.direction == Direction::Original || entry.meta().state() != State::Unreplied {
            return Verdict::Pass;
        }
        let connection = Connection {
            state: State::Replied,
            ..entry.connection()
        };
        self.change(hit.id, &connection, now, term);
        Verdict::PassChanged
    }

    /// Tracks a segment of a TCP session. A segment that belongs restarts the idle time. With
    /// [`Verdict::PassChanged`] the session has a new version in `term`.
    pub fn track(&mut self, hit: Hit, segment: &Segment, now: Tick, term: u32) -> Verdict {
        let entry = self.entry(hit.id);
        let connection = entry.connection();
        match tcp::track(&connection, hit.direction, segment) {
            Outcome::Ignore => Verdict::Pass,
            Outcome::Advance(next) => {
                entry.touch(now);
                if next != connection {
                    entry.store_connection(&next, None);
                }
                Verdict::Pass
            }
            Outcome::Change(next) => {
                entry.touch(now);
                if next.state == State::SynSent && connection.state != State::SynSent {
                    self.shared.counters.reopened.add();
                }
                self.change(hit.id, &next, now, term);
                Verdict::PassChanged
            }
            Outcome::Drop(reason) => {
                self.shared.counters.invalid(reason);
                Verdict::Drop(reason)
            }
        }
    }

    #[inline]
    fn entry(&self, id: SessionId) -> &Entry {
        &self.shared.entries[id.0 as usize]
    }

    #[inline]
    fn home(&self, words: &Words) -> Home {
        self.shared.index.home(self.shared.hasher.tuple(words))
    }

    #[inline]
    fn find(&self, home: Home, words: &Words) -> Option<Hit> {
        let entries = &self.shared.entries;
        let place = self.shared.index.find(home, |place| {
            entries[place.slot() as usize].matches(place.direction(), words)
        })?;
        Some(Hit {
            id: SessionId(place.slot()),
            direction: place.direction(),
        })
    }

    /// Stores a change that peers have to know, and moves the timer, which may have come nearer.
    fn change(&mut self, id: SessionId, connection: &Connection, now: Tick, term: u32) {
        let version = self.next_version(term);
        let entry = self.entry(id);
        let was_half_open = is_half_open(entry.meta().state());
        entry.store_connection(connection, Some(version));
        let protocol = entry.tuple(Direction::Original).protocol;
        let due = now.plus(self.timeouts.of(connection.state, protocol));
        self.list_half_open(id.0, was_half_open, is_half_open(connection.state));
        self.wheel.schedule(id.0, due);
    }

    /// Keeps the list and the count of half-open sessions. One that stays half open keeps its age.
    fn list_half_open(&mut self, slot: u32, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                self.half_open.push(OLDEST_FIRST, slot);
                self.shared.counters.half_open.add();
            }
            (true, false) => {
                self.half_open.unlink(slot);
                self.shared.counters.half_open.subtract();
            }
            _ => {}
        }
    }

    /// Takes the oldest half-open session out.
    #[cold]
    fn evict(&mut self) -> Option<Session> {
        let oldest = self.half_open.front(OLDEST_FIRST)?;
        let session = self.take(SessionId(oldest))?;
        self.shared.counters.evicted.add();
        Some(session)
    }

    /// Gives a session a slot, keys and a timer. `None` when there is no slot.
    fn place(&mut self, session: &Session, homes: [Home; 2], now: Tick) -> Option<SessionId> {
        if self.is_empty() {
            self.wheel.restart(now);
        }
        let slot = self.free.pop()?;
        self.clock = self.clock.max(session.version);
        // The entry first: whoever finds a key finds the session.
        self.shared.entries[slot as usize].store(session);
        for (direction, home) in [Direction::Original, Direction::Reply]
            .into_iter()
            .zip(homes)
        {
            self.shared
                .index
                .insert(&mut self.pool, home, Place::new(slot, direction));
        }
        if let Some(sources) = &mut self.sources {
            sources.add(self.shared.hasher.source(&hash::words(&session.tuples[0])));
        }
        self.shared.counters.sessions.add();
        self.list_half_open(slot, false, is_half_open(session.state));
        self.wheel.schedule(slot, self.deadline(session));
        Some(SessionId(slot))
    }

    /// Undoes [`Self::place`].
    fn take(&mut self, id: SessionId) -> Option<Session> {
        let session = self
            .entry(id)
            .meta()
            .is_occupied()
            .then(|| self.session(id))?;
        for direction in [Direction::Original, Direction::Reply] {
            let home = self.home(&hash::words(&session.tuples[direction as usize]));
            self.shared
                .index
                .remove(&mut self.pool, home, Place::new(id.0, direction));
        }
        self.shared.entries[id.0 as usize].vacate();
        if let Some(sources) = &mut self.sources {
            sources.subtract(self.shared.hasher.source(&hash::words(&session.tuples[0])));
        }
        self.shared.counters.sessions.subtract();
        self.list_half_open(id.0, is_half_open(session.state), false);
        self.wheel.cancel(id.0);
        self.free.push(id.0);
        Some(session)
    }

    fn deadline(&self, session: &Session) -> Tick {
        session
            .last_seen
            .plus(self.timeouts.of(session.state, session.tuples[0].protocol))
    }
}
