//! A unit's real session table, and what can happen to it without a word.

use std::collections::BTreeMap;

use cluster::{Delta, SessionSource};
use packet::Tuple;
use session::{Memory, Reader, Session, SessionId, Settings, Shard, Tick, Version};

/// Slots of a shard.
const SLOTS: u32 = 256;

pub(crate) struct Table {
    shards: Vec<Shard>,
    readers: Vec<Reader>,
}

impl Table {
    pub(crate) fn new(shards: u16) -> Self {
        let shards: Vec<Shard> = (0..shards)
            .map(|_| Shard::new(Settings::new(SLOTS), Memory::Plain).unwrap())
            .collect();
        let readers = shards.iter().map(Shard::reader).collect();
        Self { shards, readers }
    }

    pub(crate) fn shard_of(&self, tuple: &Tuple) -> u16 {
        tuple.src_port % u16::try_from(self.shards.len()).unwrap()
    }

    pub(crate) fn shard(&mut self, tuple: &Tuple) -> &mut Shard {
        let shard = self.shard_of(tuple);
        &mut self.shards[usize::from(shard)]
    }

    pub(crate) fn apply(&mut self, delta: &Delta) {
        match delta {
            Delta::Upsert { session, remaining } => {
                self.shard(&session.tuples[0])
                    .apply(session, *remaining, Tick(10_000));
            }
            Delta::Remove { tuple, version } => {
                self.shard(tuple).retract(tuple, *version);
            }
        }
    }

    /// Loses a session without a word.
    pub(crate) fn lose(&mut self, tuple: &Tuple) {
        let shard = self.shard(tuple);
        if let Some(hit) = shard.lookup(tuple) {
            shard.remove(hit.id());
        }
    }

    /// Changes a session without a word, as `change` does.
    pub(crate) fn corrupt(&mut self, tuple: &Tuple, change: impl FnOnce(&mut Session)) {
        let shard = self.shard(tuple);
        if let Some(hit) = shard.lookup(tuple)
            && let Some(mut session) = shard.remove(hit.id())
        {
            change(&mut session);
            shard.apply(&session, 3_000, Tick(10_000));
        }
    }

    /// Who owns the session.
    pub(crate) fn owner(&self, tuple: &Tuple) -> Option<u8> {
        self.find(tuple).map(|(session, _)| session.owner)
    }

    /// Every session: version and state by tuple.
    pub(crate) fn contents(&self) -> BTreeMap<Tuple, (Version, u8)> {
        let mut all = BTreeMap::new();
        for reader in &self.readers {
            reader.scan(0, SLOTS, |_, session| {
                all.insert(session.tuples[0], (session.version, session.state as u8));
            });
        }
        all
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
        let session = self.readers[usize::from(shard)].get(SessionId(slot))?;
        Some((session, 3_000))
    }

    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        let (_, session) = self.readers[usize::from(self.shard_of(original))].lookup(original)?;
        Some((session, 3_000))
    }
}
