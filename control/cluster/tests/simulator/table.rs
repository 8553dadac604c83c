//! A unit's real session table, and the sessions that its users make.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cluster::{Delta, SessionSource};
use packet::Tuple;
use session::{
    Flags, Memory, Reader, Session, Settings, Shard, State, TcpSide, Tick, Timeouts, Version,
};

const CAPACITY: u32 = 256;
/// Remaining time of every session: long, since nothing ages here.
const REMAINING: u32 = 74_400;

pub(crate) struct Table {
    shards: Vec<Shard>,
    readers: Vec<Reader>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("sessions", &self.contents().len())
            .finish()
    }
}

/// The tuple of the n-th of the users' connections.
pub(crate) fn tuple(n: u16) -> Tuple {
    Tuple::v4(
        Ipv4Addr::new(10, 0, 0, 1),
        1_024 + n,
        Ipv4Addr::new(192, 0, 2, 1),
        443,
        6,
    )
}

impl Table {
    pub(crate) fn new(shards: u16) -> Self {
        let settings = Settings {
            timeouts: Timeouts::default(),
            ..Settings::new(CAPACITY)
        };
        let shards: Vec<Shard> = (0..shards)
            .map(|_| Shard::new(settings, Memory::Plain).unwrap())
            .collect();
        let readers = shards.iter().map(Shard::reader).collect();
        Self { shards, readers }
    }

    fn shard_of(&self, tuple: &Tuple) -> usize {
        usize::from(tuple.src_port) % self.shards.len()
    }

    pub(crate) fn get(&self, tuple: &Tuple) -> Option<Session> {
        self.readers[self.shard_of(tuple)]
            .lookup(tuple)
            .map(|(_, session)| session)
    }

    pub(crate) fn contents(&self) -> BTreeMap<Tuple, Version> {
        let mut all = BTreeMap::new();
        for reader in &self.readers {
            reader.scan(0, reader.capacity(), |_, session| {
                all.insert(session.tuples[0], session.version);
            });
        }
        all
    }

    /// Creates the session, or changes it: a new version in this term.
    pub(crate) fn change(&mut self, tuple: Tuple, term: u32, now: Tick) -> (u16, Delta) {
        let index = self.shard_of(&tuple);
        let old = self.remove_slot(index, &tuple);
        let shard = &mut self.shards[index];
        let version = shard
            .next_version(term)
            .max(old.map_or(Version(0), |v| v.next(term)));
        let session = Session {
            tuples: [tuple, tuple.reversed()],
            version,
            state: State::Established,
            flags: Flags::default(),
            owner: 1,
            policy: 0,
            tcp: [TcpSide::default(); 2],
            last_seen: now,
        };
        shard.apply(&session, REMAINING, now);
        (
            u16::try_from(index).unwrap(),
            Delta::Upsert {
                session,
                remaining: REMAINING,
            },
        )
    }

    /// Removes the session.
    pub(crate) fn remove(&mut self, tuple: Tuple) -> Option<(u16, Delta)> {
        let index = self.shard_of(&tuple);
        let version = self.remove_slot(index, &tuple)?;
        Some((
            u16::try_from(index).unwrap(),
            Delta::Remove { tuple, version },
        ))
    }

    fn remove_slot(&mut self, index: usize, tuple: &Tuple) -> Option<Version> {
        let shard = &mut self.shards[index];
        let hit = shard.lookup(tuple)?;
        shard.remove(hit.id()).map(|session| session.version)
    }

    /// Makes the table reflect a peer's change.
    pub(crate) fn apply(&mut self, delta: &Delta, now: Tick) {
        let index = self.shard_of(delta.tuple());
        match delta {
            Delta::Upsert { session, remaining } => {
                self.shards[index].apply(session, *remaining, now);
            }
            Delta::Remove { tuple, version } => {
                self.shards[index].retract(tuple, *version);
            }
        }
    }
}

impl SessionSource for Table {
    fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap()
    }

    fn slots(&self, shard: u16) -> u32 {
        self.readers[usize::from(shard)].capacity()
    }

    fn read(&self, shard: u16, slot: u32) -> Option<(Session, u32)> {
        let session = self.readers[usize::from(shard)].get(session::SessionId(slot))?;
        Some((session, REMAINING))
    }

    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        self.get(original).map(|session| (session, REMAINING))
    }
}
