//! What peers say, and taking over what was theirs.

use packet::Tuple;

use super::Shard;
use crate::key::Key;
use crate::model::{Direction, Flags, Session, SessionId, State, Tick, Version};
use crate::settings::is_half_open;

/// The sessions that gave way to a peer's: two at the most had one of its tuples, one was half open
/// and evicted for its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Displaced {
    sessions: [Option<Session>; 3],
}

impl Displaced {
    /// True when none had to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.iter().all(Option::is_none)
    }

    fn push(&mut self, session: Option<Session>) {
        if let Some(place) = self.sessions.iter_mut().find(|place| place.is_none()) {
            *place = session;
        }
    }
}

impl IntoIterator for Displaced {
    type Item = Session;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Session>, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.sessions.into_iter().flatten()
    }
}

/// What became of a session that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "returned by value, without an allocation"
)]
pub enum Applied {
    /// It was new here.
    Inserted(Displaced),
    /// It replaced an older version of itself.
    Updated,
    /// What is here is as new or newer.
    Stale,
    /// No slot could be had.
    Full,
}

impl Shard {
    /// Takes over a session that a peer sent, if it is newer than what is here. It has
    /// `remaining` ticks to live unless packets come or the peer says more.
    ///
    /// Sessions here that have one of its tuples and are older give way. Between different sessions
    /// of the same version the higher owner wins, then the higher tuple, so that all units choose
    /// alike.
    pub fn apply(&mut self, remote: &Session, remaining: u32, now: Tick) -> Applied {
        self.clock = self.clock.max(remote.version);
        let timeout = self.timeouts.of(remote.state, remote.tuples[0].protocol);
        // So that `last_seen + timeout` is `now + remaining`, as far as ticks reach back.
        let last_seen = Tick(now.plus(remaining.min(timeout)).since(Tick(timeout)));
        let session = Session {
            last_seen,
            ..*remote
        };
        let keys = Key::both(&remote.tuples);
        let holders = keys
            .each_ref()
            .map(|key| self.lookup_key(key).map(|hit| hit.id()));
        for holder in holders.into_iter().flatten() {
            if precedence(&self.session(holder)) >= precedence(&session) {
                self.shared.counters.applied_stale.add();
                return Applied::Stale;
            }
        }
        match holders {
            [Some(id), Some(other)] if id == other && self.entry(id).keys() == keys => {
                self.replace(id, &session, &keys);
                self.shared.counters.applied_update.add();
                Applied::Updated
            }
            _ => self.apply_new(&session, &keys, holders, now),
        }
    }

    /// A peer closed the session whose original tuple is `tuple`, at `version`. False when there is
    /// none, or ours is newer.
    pub fn retract(&mut self, tuple: &Tuple, version: Version) -> bool {
        self.clock = self.clock.max(version);
        match self.lookup(tuple) {
            Some(hit)
                if hit.direction() == Direction::Original
                    && self.entry(hit.id()).version() <= version =>
            {
                self.shared.counters.retracted.add();
                self.take(hit.id()).is_some()
            }
            _ => {
                self.shared.counters.retracted_stale.add();
                false
            }
        }
    }

    /// Makes `unit` the owner of a session of a peer that is gone, in `term`. Its idle time starts
    /// again; the windows of a TCP session are to be learnt again. Peers have to hear of it.
    pub fn adopt(&mut self, id: SessionId, unit: u8, term: u32, now: Tick) {
        if !self.entry(id).is_occupied() {
            return;
        }
        let session = self.session(id);
        let relearn = match session.state {
            State::Unreplied | State::Replied => 0,
            _ => Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY,
        };
        let adopted = Session {
            owner: unit,
            version: self.next_version(term),
            flags: session.flags.with(relearn),
            last_seen: now,
            assigned: false,
            ..session
        };
        self.replace(id, &adopted, &self.entry(id).keys());
        self.shared.counters.adopted.add();
    }

    fn apply_new(
        &mut self,
        session: &Session,
        keys: &[Key; 2],
        holders: [Option<SessionId>; 2],
        now: Tick,
    ) -> Applied {
        let mut displaced = Displaced::default();
        for holder in holders.into_iter().flatten() {
            if let Some(old) = self.take(holder) {
                self.shared.counters.displaced.add();
                displaced.push(Some(old));
            }
        }
        if self.free.is_empty() {
            displaced.push(self.evict());
        }
        let homes = self.homes(keys);
        if self.place(session, keys, homes, now).is_some() {
            self.shared.counters.applied_new.add();
            Applied::Inserted(displaced)
        } else {
            self.shared.counters.applied_full.add();
            Applied::Full
        }
    }

    /// Stores `session`, whose `keys` are those of the slot.
    fn replace(&mut self, id: SessionId, session: &Session, keys: &[Key; 2]) {
        let was_half_open = is_half_open(self.entry(id).state());
        self.count_owner(self.entry(id).owner(Direction::Original), session.owner);
        self.entry(id).store(session, keys);
        self.list_half_open(id.0, was_half_open, is_half_open(session.state));
        let due = self.deadline(session);
        self.wheel.reschedule(&mut self.lists, id.0, due);
    }
}

fn precedence(session: &Session) -> (Version, u8, Tuple) {
    // Equal in all three is the same session, told again.
    (session.version, session.owner, session.tuples[0])
}
