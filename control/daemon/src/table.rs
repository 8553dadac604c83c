//! The session table as the control core and the operators read it: the lock-free readers of all
//! shards, and the clock of their ticks.

use std::ops::Range;

use cluster::{Delta, SessionSource};
use forward::{DeltaKind, DeltaNotice};
use packet::Tuple;
use session::{Reader, Session, SessionId, Tick, Timeouts};

/// All shards at one moment.
#[derive(Clone)]
pub(crate) struct Table {
    /// This unit's id.
    unit: u8,
    readers: Vec<Reader>,
    timeouts: Timeouts,
    /// Remaining times are told as of this tick.
    pub(crate) now: Tick,
}

impl Table {
    /// The table of this unit.
    pub(crate) fn new(unit: u8, readers: Vec<Reader>, timeouts: Timeouts) -> Self {
        Self {
            unit,
            readers,
            timeouts,
            now: Tick(0),
        }
    }

    /// A session as the peers get it, if they do.
    fn told(&self, session: &Session) -> Option<Session> {
        is_copied(session).then(|| session.as_told_by(self.unit))
    }

    /// Goes by other idle times; returns those it went by.
    pub(crate) fn set_timeouts(&mut self, timeouts: Timeouts) -> Timeouts {
        std::mem::replace(&mut self.timeouts, timeouts)
    }

    /// The readers, by worker.
    pub(crate) fn readers(&self) -> &[Reader] {
        &self.readers
    }

    /// Sessions in all shards.
    pub(crate) fn len(&self) -> u64 {
        self.readers
            .iter()
            .map(|reader| u64::from(reader.len()))
            .sum()
    }

    /// Sessions in all shards that `unit` owns.
    pub(crate) fn owned(&self, unit: u8) -> u64 {
        self.readers
            .iter()
            .map(|reader| u64::from(reader.owned(unit)))
            .sum()
    }

    /// Sessions that fit into all shards.
    pub(crate) fn capacity(&self) -> u64 {
        self.readers
            .iter()
            .map(|reader| u64::from(reader.capacity()))
            .sum()
    }

    /// The session in a slot.
    pub(crate) fn get(&self, shard: u16, id: SessionId) -> Option<Session> {
        self.readers.get(usize::from(shard))?.get(id)
    }

    /// Asks for the memory of a session that [`Table::change`] will read soon.
    pub(crate) fn prefetch(&self, shard: u16, id: SessionId) {
        if let Some(reader) = self.readers.get(usize::from(shard)) {
            reader.prefetch(id);
        }
    }

    /// The change that a worker's notice is about, as the peers get it.
    pub(crate) fn change(&self, shard: u16, notice: &DeltaNotice) -> Option<Delta> {
        if notice.kind == DeltaKind::Remove {
            return Some(Delta::Remove {
                tuple: notice.tuple,
                version: notice.version,
            });
        }
        let session = self.told(&self.get(shard, notice.id)?)?;
        // Another session may have the slot by now; its own notice follows.
        (session.tuples[0] == notice.tuple).then(|| Delta::Upsert {
            remaining: self.remaining(&session),
            session,
        })
    }

    /// Ticks that a session has left if no packet comes.
    pub(crate) fn remaining(&self, session: &Session) -> u32 {
        self.timeouts.remaining(session, self.now)
    }
}

/// True for sessions that the peers get: none of what was only handed to one of them.
pub(crate) fn is_copied(session: &Session) -> bool {
    !session.is_provisional() && !session.is_private()
}

/// The table as the peers may see it.
impl SessionSource for Table {
    fn shards(&self) -> u16 {
        u16::try_from(self.readers.len()).unwrap_or(u16::MAX)
    }

    fn slots(&self, shard: u16) -> u32 {
        self.readers
            .get(usize::from(shard))
            .map_or(0, Reader::capacity)
    }

    fn read(&self, shard: u16, slot: u32) -> Option<(Session, u32)> {
        let session = self.told(&self.get(shard, SessionId(slot))?)?;
        Some((session, self.remaining(&session)))
    }

    fn scan(&self, shard: u16, slots: Range<u32>, show: &mut dyn FnMut(u32, &Session)) {
        if let Some(reader) = self.readers.get(usize::from(shard)) {
            reader.scan(slots.start, slots.end - slots.start, |id, session| {
                if let Some(session) = self.told(&session) {
                    show(id.0, &session);
                }
            });
        }
    }

    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        self.readers.iter().find_map(|reader| {
            let (_, session) = reader.lookup(original)?;
            let session = self.told(&session)?;
            (session.tuples[0] == *original).then(|| (session, self.remaining(&session)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session::{Memory, Settings, Shard, State, Version};
    use std::net::Ipv4Addr;

    #[test]
    fn peers_see_no_session_of_a_private_policy() {
        let mut shard = Shard::new(Settings::new(16), Memory::Plain).unwrap();
        let [copied, private] = [0, Session::PRIVATE].map(|policy| {
            let [client, server] = [100, 200].map(|host| Ipv4Addr::new(192, 0, 2, host));
            let original = Tuple::v4(client, 1_000 | policy, server, 53, 17);
            let session = Session {
                tuples: [original, original.reversed()],
                version: Version(1),
                state: State::Replied,
                policy: 7 | policy,
                ..Session::default()
            };
            (shard.insert(session, Tick(0)).unwrap().id.0, original)
        });
        let table = Table::new(1, vec![shard.reader()], Timeouts::default());
        assert!(table.read(0, private.0).is_none());
        assert!(table.find(&private.1).is_none());
        assert!(table.read(0, copied.0).is_some());
        assert!(table.find(&copied.1).is_some());
        assert_eq!(table.len(), 2, "operators see both");
    }

    #[test]
    fn peers_see_a_session_that_was_only_handed_to_its_owner_as_this_units() {
        let mut shard = Shard::new(Settings::new(16), Memory::Plain).unwrap();
        let [client, server] = [100, 200].map(|host| Ipv4Addr::new(192, 0, 2, host));
        let original = Tuple::v4(client, 1_000, server, 53, 17);
        let session = Session {
            tuples: [original, original.reversed()],
            version: Version(1),
            state: State::Replied,
            owner: 2,
            ..Session::default()
        };
        let id = shard.insert(session, Tick(0)).unwrap().id;
        let table = Table::new(1, vec![shard.reader()], Timeouts::default());
        let told = |table: &Table| {
            let mut scanned = Vec::new();
            table.scan(0, id.0..id.0 + 1, &mut |_, session| {
                scanned.push(session.owner)
            });
            let read = table.read(0, id.0).map(|(session, _)| session.owner);
            let found = table.find(&original).map(|(session, _)| session.owner);
            assert_eq!((read, found), (Some(scanned[0]), Some(scanned[0])));
            scanned[0]
        };
        assert_eq!(told(&table), 2);
        let hit = shard.lookup(&original).unwrap();
        shard.assign(hit, 3);
        assert_eq!(told(&table), 1);
        assert_eq!(shard.owner(hit), 3, "it gets the packets");
        let adopted = Session {
            version: Version(2),
            owner: 3,
            ..session
        };
        shard.apply(&adopted, 300, Tick(0));
        assert_eq!(told(&table), 3);
    }
}
