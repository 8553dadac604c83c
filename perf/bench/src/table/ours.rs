//! Our side: one shard, as full as it may be.

use anyhow::{Result, ensure};
use session::{
    Backing, Direction, Flags, Footprint, Hit, Key, Memory, Prepared, Session, SessionId, Settings,
    Shard, Tick, Verdict,
};

use super::churn::Table;
use super::flows::{Expected, Way, flow_of};

/// The slot of a session that is not there.
const NOWHERE: SessionId = SessionId(u32::MAX);
const NOW: Tick = Tick::START;
const TERM: u32 = 1;
/// One of so many answers is compared with the entry that it points to: each would bring a line more
/// into the cache than the look-up did.
const LOOKED_INTO: usize = 64;

/// The session `flow`, with source NAT.
pub(super) fn session(flow: u32) -> Session {
    Session {
        tuples: Way::both(flow).map(Way::tuple),
        flags: Flags(Flags::SOURCE_NAT),
        owner: 1,
        ..Session::default()
    }
}

/// Bytes of all parts.
fn total(footprint: &Footprint) -> usize {
    footprint.entries + footprint.index + footprint.lists
}

/// Bytes for one session of a shard that has all that a shard can have.
pub(super) fn bytes_per_session(sessions: u32, memory: Memory) -> Result<f64> {
    let settings = Settings {
        per_source_limit: Some(sessions),
        ..Settings::new(sessions)
    };
    let footprint = Shard::new(settings, memory)?.footprint();
    Ok(total(&footprint) as f64 / f64::from(sessions))
}

/// A shard, and where in it each session is.
pub(super) struct Ours {
    shard: Shard,
    slots: Vec<SessionId>,
    keys: Vec<Key>,
    hits: Vec<Option<Hit>>,
    staged: Vec<Session>,
    prepared: Vec<Prepared>,
    staged_slots: Vec<SessionId>,
}

impl Ours {
    /// An empty shard for `sessions`.
    pub(super) fn new(sessions: u32, memory: Memory) -> Result<Self> {
        let shard = Shard::new(Settings::new(sessions), memory)?;
        let footprint = shard.footprint();
        // Tables that are smaller than a few huge pages lie in ordinary ones.
        let asked = memory == Memory::Huge && sessions >= 100_000;
        super::ensure_huge(asked, footprint.backing == Backing::Huge, total(&footprint))?;
        Ok(Self {
            shard,
            slots: vec![NOWHERE; sessions as usize],
            keys: Vec::new(),
            hits: Vec::new(),
            staged: Vec::new(),
            prepared: Vec::new(),
            staged_slots: Vec::new(),
        })
    }

    /// Bytes that look-ups read.
    pub(super) fn bytes_looked_at(&self) -> usize {
        let footprint = self.shard.footprint();
        footprint.entries + footprint.index
    }
}

impl Table for Ours {
    fn stage_look_ups(&mut self, ways: &[Way]) {
        self.keys.clear();
        self.keys
            .extend(ways.iter().map(|way| Key::from(&way.tuple())));
        self.hits.clear();
        self.hits.resize(ways.len(), None);
    }

    fn look_up(&mut self, burst: usize) {
        if burst == 1 {
            for (hit, key) in self.hits.iter_mut().zip(&self.keys) {
                *hit = self.shard.lookup_key(key);
            }
            return;
        }
        for (hits, keys) in self.hits.chunks_mut(burst).zip(self.keys.chunks(burst)) {
            self.shard.lookup_burst(keys, hits);
        }
    }

    fn check_look_ups(&self, ways: &[Way], expected: Expected) -> Result<()> {
        for (i, (hit, way)) in self.hits.iter().zip(ways).enumerate() {
            let right = match (expected, hit) {
                (Expected::Miss, None) => true,
                (Expected::Hit, Some(hit)) => {
                    hit.direction() == way.direction
                        && (i % LOOKED_INTO != 0
                            || flow_of(&self.shard.session(hit.id()).tuples[0]) == way.flow)
                }
                _ => false,
            };
            ensure!(
                right,
                "{way:?} was looked up: {hit:?} is not the {expected:?} that it is"
            );
        }
        Ok(())
    }

    fn stage_sessions(&mut self, flows: &[u32]) {
        self.staged.clear();
        self.staged.extend(flows.iter().map(|&flow| session(flow)));
        self.staged_slots.clear();
        let slots = flows.iter().map(|&flow| self.slots[flow as usize]);
        self.staged_slots.extend(slots);
    }

    fn insert(&mut self, burst: usize) -> usize {
        let mut done = 0;
        let sessions = self.staged.chunks(burst);
        for (sessions, slots) in sessions.zip(self.staged_slots.chunks_mut(burst)) {
            if burst > 1 {
                self.prepared.clear();
                for (ahead, session) in sessions.iter().enumerate() {
                    let [original, reply] = session.tuples.each_ref().map(Key::from);
                    let keys = [&original, &reply];
                    self.prepared.push(self.shard.prefetch_insert(keys, ahead));
                }
                for &prepared in &self.prepared {
                    self.shard.prefetch_overflow(prepared);
                }
            }
            for (session, slot) in sessions.iter().zip(slots) {
                let session = Session {
                    version: self.shard.next_version(TERM),
                    ..*session
                };
                let Ok(inserted) = self.shard.insert(session, NOW) else {
                    return done;
                };
                *slot = inserted.id;
                done += usize::from(inserted.evicted.is_none());
            }
        }
        done
    }

    /// Every session is answered, so that those that are removed are ordinary ones.
    fn stage_inserted(&mut self) -> Result<()> {
        for (session, &id) in self.staged.iter().zip(&self.staged_slots) {
            let reply = Hit::new(id, Direction::Reply);
            let verdict = self.shard.datagram(reply, NOW, TERM);
            ensure!(
                verdict == Verdict::PassChanged,
                "the first reply: {verdict:?}"
            );
            self.slots[flow_of(&session.tuples[0]) as usize] = id;
        }
        Ok(())
    }

    fn remove(&mut self, burst: usize) -> usize {
        let mut done = 0;
        for slots in self.staged_slots.chunks(burst) {
            self.shard.remove_burst(slots, |_, _| done += 1);
        }
        done
    }
}
