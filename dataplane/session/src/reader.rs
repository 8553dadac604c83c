//! What other cores see of a shard.

use packet::Tuple;

use crate::concurrency::Arc;
use crate::entry::Entry;
use crate::hash::Hasher;
use crate::index::Index;
use crate::key::Key;
use crate::memory::{self, Array};
use crate::model::{Direction, Hit, Session, SessionId};
use crate::statistics::{Counters, Owners, Statistics};

/// What the writer and the readers share. Its own cache lines keep it apart from the count of those who
/// share it, which readers write; the counters have lines of their own for what readers only read.
#[repr(align(128))]
pub(crate) struct Shared {
    pub(crate) index: Index,
    pub(crate) entries: Array<Entry>,
    pub(crate) hasher: Hasher,
    pub(crate) counters: Counters,
    pub(crate) owners: Owners,
}

/// A view of a shard from any thread, while its worker changes it.
///
/// Every session that a reader returns was in the table as a whole at some moment of the call.
/// A session that is there during the whole of a [`Reader::lookup`] is found, also while the writer
/// moves its keys: the search is repeated when its bucket changed. One that the worker is just
/// opening, closing, or replacing by a newer one may be seen or not; while it is being opened, one
/// direction may be found before the other.
///
/// Reading waits only for a store sequence of a few nanoseconds; it does not block the writer ever.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The session of packets that arrive as `tuple`.
    #[must_use]
    pub fn lookup(&self, tuple: &Tuple) -> Option<(Hit, Session)> {
        let shared = &self.shared;
        let key = Key::from(tuple);
        let home = shared.index.home(shared.hasher.key(&key));
        shared.index.find_shared(home, |hit| {
            let session = shared.entries.get(hit.id().0 as usize)?.read()?;
            let arrives = Key::from(&session.tuples[hit.direction() as usize]);
            (arrives == key).then_some((hit, session))
        })
    }

    /// The session in a slot, `None` when that is vacant or beyond the capacity.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.shared.entries.get(id.0 as usize)?.read()
    }

    /// Asks for the memory of a slot that [`Reader::get`] will read soon.
    pub fn prefetch(&self, id: SessionId) {
        for line in [Direction::Original, Direction::Reply] {
            let line = Hit::line(Hit::new(id, line).to_bits());
            memory::prefetch_line(&self.shared.entries, line);
        }
    }

    /// Shows the sessions in the `count` slots from `from` on, in the slots' order.
    pub fn scan(&self, from: u32, count: u32, mut show: impl FnMut(SessionId, Session)) {
        for slot in from..from.saturating_add(count).min(self.capacity()) {
            if let Some(session) = self.get(SessionId(slot)) {
                show(SessionId(slot), session);
            }
        }
    }

    /// Slots of the shard.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.shared.entries.len()).unwrap_or(u32::MAX)
    }

    /// Sessions in the shard.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.shared.counters.sessions.get()).unwrap_or(u32::MAX)
    }

    /// Sessions in the shard that `unit` owns, provisional ones included.
    #[must_use]
    pub fn owned(&self, unit: u8) -> u32 {
        u32::try_from(self.shared.owners.of(unit).get()).unwrap_or(u32::MAX)
    }

    /// True when there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the shard has counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.read()
    }
}
