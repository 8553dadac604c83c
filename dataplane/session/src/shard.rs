//! The shard: a worker's part of the session table, and everything that the worker does with it.
//!
//! Owns the memory of its sessions. One thread at a time uses it (`&mut self` for every change);
//! others hold a [`Reader`].
//!
//! Invariants, between two calls:
//! - every session has exactly two keys in the index, one for each direction;
//! - its slot is on the wheel, at or before its deadline, or at the horizon (a deadline that new
//!   timeouts brought nearer counts from the next timer or change of state);
//! - its slot is on the list of half-open sessions exactly when its state is half open;
//! - slots without a session are on the free stack;
//! - `clock` is at least every version that the shard has seen.

mod ageing;
mod burst;
mod passage;
mod prefetch;
mod remote;
mod removal;
#[cfg(all(test, not(loom)))]
mod tests;

pub use ageing::Ageing;
pub use burst::Search;
pub use prefetch::Prepared;
pub use remote::{Applied, Displaced};

use crate::concurrency::Arc;
use crate::entry::Entry;
use crate::hash::Hasher;
use crate::index::{Home, Index, Pool};
use crate::key::Key;
use crate::lists::{Kind, Lists};
use crate::memory::{Array, Backing, Memory, OutOfMemory};
use crate::model::{Direction, Hit, Session, SessionId, Tick, Version};
use crate::reader::{Reader, Shared};
use crate::settings::{Settings, Timeouts, is_half_open};
use crate::sources::Sources;
use crate::statistics::{Counters, Owners, Statistics};
use crate::wheel::Wheel;

/// The list of half-open sessions, oldest first, behind those of the wheel.
const HALF_OPEN: u32 = Wheel::LISTS;

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
    lists: Lists,
    wheel: Wheel,
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
            owners: Owners::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            pool,
            free: (0..capacity).rev().collect(),
            lists: Lists::new(capacity, Wheel::LISTS + 1, memory)?,
            wheel: Wheel::new(),
            half_open_limit: settings.half_open_limit.unwrap_or(capacity).into(),
            sources: settings
                .per_source_limit
                .map(|limit| Sources::new(limit, capacity, memory))
                .transpose()?,
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
            lists: self.lists.bytes() + sources + free,
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

    /// Goes by other idle times from now on; a session's next timer applies them, or a change of state
    /// that shortens its time.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// A version that is newer than every one that the shard has seen, for a change made in `term`.
    pub fn next_version(&mut self, term: u32) -> Version {
        self.clock = self.clock.next(term);
        self.clock
    }

    /// The session in a slot; all zero when there is none.
    ///
    /// # Panics
    /// When `id` is beyond the capacity; this holds for every method that takes an id.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Session {
        self.entry(id).session()
    }

    /// The unit that processes the session.
    #[inline]
    #[must_use]
    pub fn owner(&self, hit: Hit) -> u8 {
        self.entry(hit.id()).owner(hit.direction())
    }

    /// Sessions here that `unit` owns, provisional ones included.
    #[must_use]
    pub fn owned(&self, unit: u8) -> u32 {
        u32::try_from(self.shared.owners.of(unit).get()).unwrap_or(u32::MAX)
    }

    /// True when the session is provisional, see [`Session::is_provisional`].
    #[must_use]
    pub fn is_provisional(&self, id: SessionId) -> bool {
        self.entry(id).version() == Version::PROVISIONAL
    }

    /// Notes that `unit` owns the session from now on, which no peer has to hear of from here: the new
    /// owner will tell. Until then the session is [assigned](Session::assigned).
    pub fn assign(&mut self, hit: Hit, unit: u8) {
        let before = self.owner(hit);
        self.entry(hit.id()).assign(unit);
        self.count_owner(before, unit);
    }

    /// Opens a session. `session.version` should come from [`Shard::next_version`], and for TCP
    /// `state` and `tcp` from [`crate::tcp::open`]; `last_seen` becomes `now`.
    ///
    /// When there is no slot, or the limit of half-open sessions is reached by another one, the
    /// oldest half-open session is evicted.
    ///
    /// # Errors
    /// When a tuple is taken, the source is at its limit, or no slot can be had. Nothing changed.
    pub fn insert(&mut self, mut session: Session, now: Tick) -> Result<Inserted, Refused> {
        session.last_seen = now;
        let keys = Key::both(&session.tuples);
        let homes = self.homes(&keys);
        let taken = self
            .find(homes[0], &keys[0])
            .or_else(|| self.find(homes[1], &keys[1]));
        if let Some(hit) = taken {
            self.shared.counters.refused_exists.add();
            return Err(Refused::Exists(hit));
        }
        if let Some(sources) = &self.sources
            && sources.is_exhausted(self.shared.hasher.source(&keys[0]))
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
        let Some(id) = self.place(&session, &keys, homes, now) else {
            self.shared.counters.refused_full.add();
            return Err(Refused::Full);
        };
        self.shared.counters.inserted.add();
        Ok(Inserted { id, evicted })
    }

    #[inline]
    fn entry(&self, id: SessionId) -> &Entry {
        &self.shared.entries[id.0 as usize]
    }

    #[inline]
    fn home(&self, key: &Key) -> Home {
        self.shared.index.home(self.shared.hasher.key(key))
    }

    #[inline]
    fn homes(&self, [original, reply]: &[Key; 2]) -> [Home; 2] {
        [self.home(original), self.home(reply)]
    }

    #[inline]
    fn find(&self, home: Home, key: &Key) -> Option<Hit> {
        let entries: &[Entry] = &self.shared.entries;
        self.shared.index.find(home, |hit| {
            entries[hit.id().0 as usize]
                .half(hit.direction())
                .matches(key)
        })
    }

    fn count_owner(&self, before: u8, now: u8) {
        if before != now {
            self.shared.owners.of(before).subtract();
            self.shared.owners.of(now).add();
        }
    }

    /// Keeps the list and the count of half-open sessions. One that stays half open keeps its age.
    #[inline]
    fn list_half_open(&mut self, slot: u32, was: bool, is: bool) {
        match (was, is) {
            (false, true) => {
                self.lists.push(Kind::HalfOpen, HALF_OPEN, slot);
                self.shared.counters.half_open.add();
            }
            (true, false) => {
                self.lists.unlink(Kind::HalfOpen, slot);
                self.shared.counters.half_open.subtract();
            }
            _ => {}
        }
    }

    /// Takes the oldest half-open session out. Under a flood this goes on, so the two that follow are
    /// asked for: of the first, which is here by now, the buckets, and of the second the rest.
    fn evict(&mut self) -> Option<Session> {
        let oldest = self.lists.front(Kind::HalfOpen, HALF_OPEN)?;
        let session = self.take(SessionId(oldest))?;
        self.shared.counters.evicted.add();
        if let Some(first) = self.lists.front(Kind::HalfOpen, HALF_OPEN) {
            self.prefetch_keys(SessionId(first));
            if let Some(second) = self.lists.next(Kind::HalfOpen, first) {
                self.prefetch_slot(SessionId(second));
            }
        }
        Some(session)
    }

    /// Gives a session a slot, keys and a timer. `None` when there is no slot.
    fn place(
        &mut self,
        session: &Session,
        keys: &[Key; 2],
        homes: [Home; 2],
        now: Tick,
    ) -> Option<SessionId> {
        if self.is_empty() {
            self.wheel.restart(now);
        }
        let slot = self.free.pop()?;
        self.clock = self.clock.max(session.version);
        // The entry first: whoever finds a key finds the session.
        let id = SessionId(slot);
        self.shared.entries[slot as usize].store(session, keys);
        let [original, reply] = homes;
        let Self { shared, pool, .. } = self;
        shared
            .index
            .insert(pool, original, Hit::new(id, Direction::Original));
        shared
            .index
            .insert(pool, reply, Hit::new(id, Direction::Reply));
        if let Some(sources) = &mut self.sources {
            sources.add(shared.hasher.source(&keys[0]));
        }
        shared.counters.sessions.add();
        shared.owners.of(session.owner).add();
        self.list_half_open(slot, false, is_half_open(session.state));
        let due = self.deadline(session);
        self.wheel.schedule(&mut self.lists, slot, due);
        Some(id)
    }

    /// When a session ends if no packet comes.
    fn deadline(&self, session: &Session) -> Tick {
        session
            .last_seen
            .plus(self.timeouts.of(session.state, session.tuples[0].protocol))
    }
}
