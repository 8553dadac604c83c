//! A unit's workers: real shards of the session table, the rings to and from the control core, and what
//! they do to the users' packets that this unit processes. After `dataplane/forward`, without frames. Whose
//! a packet is, is decided in `assign`.

use std::collections::{BTreeMap, VecDeque};

use cluster::{Delta, Duty, RangeSet, SessionSource, UnitId, range_of};
use packet::Tuple;
use session::{
    Ageing, Applied, Flags, Hit, Memory, Reader, Session, SessionId, Settings, Shard, State, Tick,
    Timeouts, Verdict, Version, tcp,
};

use crate::assign::Post;
use crate::options::Mistake;
use crate::random::Random;
use crate::users::{Packet, reply_tuple};

const CAPACITY: u32 = 128;
/// Ports of a unit, of which there are so few that they are used again soon.
const PORTS: u64 = 32;
/// Ports are divided between the units, as `forward::nat` does it.
pub(crate) const CLASSES: u16 = 16;
pub(crate) const FIRST_PORT: u16 = 1_024;
/// Ports that are tried for a new session.
const TRIES: usize = 4;
/// Short, so that sessions end by themselves within a run.
const TIMEOUTS: Timeouts = Timeouts {
    established: 400,
    transitory: 20,
    syn: 30,
    udp_replied: 80,
    udp_unreplied: 30,
    icmp_replied: 30,
    icmp_unreplied: 30,
};

/// What a worker did to the table, for those who check.
#[derive(Clone, Copy)]
pub(crate) enum Happened {
    /// A session is new, and hidden behind a port that was free here.
    Opened(Session),
    /// A session ended here: closed, idle for too long, or in the way of a new one.
    Ended(Session),
    /// A session went because a peer said so.
    Gave(Session),
    /// A session is not here, since a newer one of another unit has one of its tuples.
    Yielded(Session),
}

impl std::fmt::Debug for Happened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, session) = match self {
            Self::Opened(session) => ("opens", session),
            Self::Ended(session) => ("ends", session),
            Self::Gave(session) => ("gives up", session),
            Self::Yielded(session) => ("yields", session),
        };
        let ([original, reply], version) = (session.tuples, session.version.0);
        let port = reply.dst_port;
        write!(
            f,
            "{what} {original:?}, port {port}, version {version:x}, owner {}",
            session.owner
        )
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It went on, its client hidden behind this port.
    Forwarded(u16),
    /// It is this unit's to process.
    Passed(UnitId),
    Dropped,
}

/// A change for the control core, as it lies in the ring.
#[derive(Clone, Copy, Debug)]
enum Notice {
    Changed(SessionId, Tuple),
    Ended(Tuple, Version),
}

/// What the control core wants done to the table.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Change(Delta),
    Restate(Tuple),
}

pub(crate) struct Workers {
    pub(crate) unit: u8,
    pub(crate) post: Post,
    pub(crate) shards: Vec<Shard>,
    readers: Vec<Reader>,
    /// Changes for the control core, by shard; no more than `ring` of each.
    notices: Vec<VecDeque<Notice>>,
    ring: usize,
    /// What did not fit.
    dirty: RangeSet,
    /// What the control core wants done.
    commands: VecDeque<Wanted>,
    /// Sessions that an owner was picked for.
    pub(crate) picked: usize,
    pub(crate) mistake: Option<Mistake>,
    pub(crate) happened: Vec<Happened>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("sessions", &self.contents().len())
            .finish_non_exhaustive()
    }
}

impl Workers {
    pub(crate) fn new(unit: u8, shards: u16, ring: usize) -> Self {
        let settings = Settings {
            timeouts: TIMEOUTS,
            ..Settings::new(CAPACITY)
        };
        let shards: Vec<Shard> = (0..shards)
            .map(|_| Shard::new(settings, Memory::Plain).unwrap())
            .collect();
        Self {
            unit,
            post: Post::default(),
            readers: shards.iter().map(Shard::reader).collect(),
            notices: shards.iter().map(|_| VecDeque::new()).collect(),
            shards,
            ring,
            dirty: RangeSet::EMPTY,
            commands: VecDeque::new(),
            picked: 0,
            mistake: None,
            happened: Vec::new(),
        }
    }

    /// The worker that a session's packets come to. Steering finds it for replies too.
    pub(crate) fn home(&self, original: &Tuple) -> usize {
        usize::from(original.src_port) % self.shards.len()
    }

    /// The session that has this tuple in either direction, as peers are told of it. What was only handed to
    /// another unit is none.
    pub(crate) fn get(&self, tuple: &Tuple) -> Option<Session> {
        let found = self.readers.iter().find_map(|reader| reader.lookup(tuple));
        let session = found.map(|(_, session)| session.as_told_by(self.unit));
        session.filter(|session| !session.is_provisional())
    }

    /// The newest version of a session that this unit holds, or will in the next turn.
    pub(crate) fn version(&self, original: &Tuple) -> Option<Version> {
        let coming = self.commands.iter().filter_map(|wanted| match wanted {
            Wanted::Change(delta) if delta.tuple() == original => Some(delta),
            _ => None,
        });
        let here = self.get(original).filter(|s| s.tuples[0] == *original);
        coming
            .map(Delta::version)
            .chain(here.map(|s| s.version))
            .max()
    }

    pub(crate) fn contents(&self) -> BTreeMap<Tuple, Version> {
        let mut all = BTreeMap::new();
        for reader in &self.readers {
            reader.scan(0, reader.capacity(), |_, session| {
                if !session.is_provisional() {
                    all.insert(session.tuples[0], session.version);
                }
            });
        }
        all
    }

    /// Tells a session of its packet. Who gets a packet of a session that it does not own takes it over;
    /// nobody knows what became of one that was only handed out.
    pub(crate) fn track(&mut self, shard: usize, hit: Hit, packet: &Packet, now: Tick) -> Fate {
        let term = self.post.term;
        let table = &mut self.shards[shard];
        if table.owner(hit) != self.unit {
            if self.mistake == Some(Mistake::NoAdoption) {
                return Fate::Dropped;
            }
            if table.is_provisional(hit.id()) {
                table.remove(hit.id());
                return Fate::Dropped;
            }
            table.adopt(hit.id(), self.unit, term, now);
            self.report(shard, hit.id());
        }
        let table = &mut self.shards[shard];
        let verdict = match &packet.segment {
            Some(segment) => table.track(hit, segment, now, term),
            None => table.datagram(hit, now, term),
        };
        let port = table.session(hit.id()).tuples[1].dst_port;
        match verdict {
            Verdict::Pass => Fate::Forwarded(port),
            Verdict::PassChanged => {
                self.report(shard, hit.id());
                Fate::Forwarded(port)
            }
            Verdict::Drop(_) => Fate::Dropped,
        }
    }

    /// Begins a session of this unit.
    pub(crate) fn admit(&mut self, packet: &Packet, now: Tick, random: &mut Random) -> Fate {
        let shard = self.home(&packet.tuple);
        let Some(port) = self.free_port(&packet.tuple, shard, random) else {
            return Fate::Dropped;
        };
        let opened = packet.segment.as_ref().map(tcp::open);
        let table = &mut self.shards[shard];
        let session = Session {
            tuples: [packet.tuple, reply_tuple(&packet.tuple, port)],
            version: table.next_version(self.post.term),
            state: opened.map_or(State::Unreplied, |tcp| tcp.state),
            flags: Flags(Flags::SOURCE_NAT),
            owner: self.unit,
            tcp: opened.map(|tcp| tcp.sides).unwrap_or_default(),
            ..Session::default()
        };
        let Ok(inserted) = table.insert(session, now) else {
            return Fate::Dropped;
        };
        self.give_way(shard, inserted.evicted);
        self.happened.push(Happened::Opened(session));
        self.report(shard, inserted.id);
        Fate::Forwarded(port)
    }

    /// Peers hear of what was evicted from its owner, and from the primary.
    pub(crate) fn give_way(&mut self, shard: usize, evicted: Option<Session>) {
        match evicted {
            Some(gone) if self.post.is_primary() || gone.owner == self.unit => {
                self.end(shard, &gone);
            }
            Some(gone) => self.happened.push(Happened::Yielded(gone)),
            None => {}
        }
    }

    /// A port of this unit's class that steers replies to this worker, and that no session here has.
    fn free_port(&self, original: &Tuple, shard: usize, random: &mut Random) -> Option<u16> {
        let workers = self.shards.len() as u64;
        let drawn = (0..TRIES).map(|_| random.within(0..PORTS / workers) * workers + shard as u64);
        let class = match self.mistake {
            Some(Mistake::NoPortClasses) => 0,
            _ => u16::from(self.unit - 1),
        };
        let ports: Vec<u16> = drawn
            .map(|n| FIRST_PORT + class + CLASSES * u16::try_from(n).unwrap())
            .collect();
        let free = |port: &u16| self.get(&reply_tuple(original, *port)).is_none();
        ports.into_iter().find(free)
    }

    /// An operator ends a session.
    pub(crate) fn clear(&mut self, tuple: &Tuple) {
        for shard in 0..self.shards.len() {
            if let Some(hit) = self.shards[shard].lookup(tuple)
                && let Some(session) = self.shards[shard].remove(hit.id())
            {
                self.end(shard, &session);
            }
        }
    }

    /// Looks at timers. An owner is responsible for its sessions, the primary for those of the dead as well.
    pub(crate) fn age(&mut self, now: Tick) {
        for shard in 0..self.shards.len() {
            let Self {
                unit, post, shards, ..
            } = self;
            let decide = |session: &Session| {
                let owner = session.as_told_by(*unit).owner;
                match (post.duty, owner == *unit) {
                    _ if session.is_provisional() => Ageing::Normal,
                    (Duty::Primary, true) => Ageing::Normal,
                    (Duty::Owner { .. }, true) if post.owns(*unit) => Ageing::Normal,
                    (Duty::Primary, false) if !post.owns(owner) => Ageing::Adopt,
                    _ => Ageing::Defer,
                }
            };
            let mut expired = Vec::new();
            shards[shard].age(now, 64, decide, |_, session| expired.push(session));
            for session in &expired {
                self.end(shard, session);
            }
        }
    }

    /// A session is over. Nobody heard of one that was only handed out.
    fn end(&mut self, shard: usize, session: &Session) {
        if session.is_provisional() {
            return;
        }
        self.happened.push(Happened::Ended(*session));
        self.notify(shard, Notice::Ended(session.tuples[0], session.version));
    }

    fn report(&mut self, shard: usize, id: SessionId) {
        let session = self.shards[shard].session(id);
        self.notify(shard, Notice::Changed(id, session.tuples[0]));
    }

    fn notify(&mut self, shard: usize, notice: Notice) {
        let ring = &mut self.notices[shard];
        if ring.len() < self.ring {
            ring.push_back(notice);
        } else {
            let (Notice::Changed(_, tuple) | Notice::Ended(tuple, _)) = notice;
            self.dirty.insert(range_of(&tuple));
        }
    }

    /// Takes the changes out of the rings, in their order, as the control core reads them.
    pub(crate) fn take_changes(&mut self, now: Tick) -> Vec<(u16, Delta)> {
        let mut changes = Vec::new();
        for (shard, ring) in (0_u16..).zip(&mut self.notices) {
            for notice in ring.drain(..) {
                let delta = match notice {
                    Notice::Ended(tuple, version) => Some(Delta::Remove { tuple, version }),
                    Notice::Changed(id, tuple) => {
                        let session = self.readers[usize::from(shard)].get(id);
                        let same =
                            session.filter(|now| now.tuples[0] == tuple && !now.is_provisional());
                        same.map(|session| Delta::Upsert {
                            session: session.as_told_by(self.unit),
                            remaining: TIMEOUTS.remaining(&session, now),
                        })
                    }
                };
                changes.extend(delta.map(|delta| (shard, delta)));
            }
        }
        changes
    }

    pub(crate) fn take_dirty(&mut self) -> RangeSet {
        std::mem::take(&mut self.dirty)
    }

    /// Whether the control core has something to take.
    pub(crate) fn has_news(&self) -> bool {
        !self.dirty.is_empty() || self.notices.iter().any(|ring| !ring.is_empty())
    }

    /// The control core wants a peer's change made. True when nothing waited before.
    pub(crate) fn command(&mut self, delta: Delta) -> bool {
        self.want(Wanted::Change(delta))
    }

    /// The control core wants a session of this unit told in a newer version. True as above.
    pub(crate) fn restate(&mut self, tuple: Tuple) -> bool {
        self.want(Wanted::Restate(tuple))
    }

    fn want(&mut self, wanted: Wanted) -> bool {
        self.commands.push_back(wanted);
        self.commands.len() == 1
    }

    /// Does what the control core wants.
    pub(crate) fn obey(&mut self, now: Tick) {
        while let Some(wanted) = self.commands.pop_front() {
            match wanted {
                Wanted::Change(Delta::Upsert { session, remaining }) => {
                    self.apply(&session, remaining, now);
                }
                Wanted::Change(Delta::Remove { tuple, version }) => {
                    let (shard, before) = (self.home(&tuple), self.get(&tuple));
                    if self.shards[shard].retract(&tuple, version) {
                        self.happened.extend(before.map(Happened::Gave));
                    }
                }
                Wanted::Restate(tuple) => self.tell_again(&tuple, now),
            }
        }
    }

    fn tell_again(&mut self, tuple: &Tuple, now: Tick) {
        let (shard, term) = (self.home(tuple), self.post.term);
        let table = &mut self.shards[shard];
        if let Some(hit) = table.lookup(tuple)
            && table.session(hit.id()).as_told_by(self.unit).owner == self.unit
        {
            table.adopt(hit.id(), self.unit, term, now);
            self.report(shard, hit.id());
        }
    }

    fn apply(&mut self, new: &Session, remaining: u32, now: Tick) {
        let (shard, primary) = (self.home(&new.tuples[0]), self.post.is_primary());
        match self.shards[shard].apply(new, remaining, now) {
            Applied::Inserted(displaced) => {
                for gone in displaced.into_iter().filter(|gone| !gone.is_provisional()) {
                    self.happened.push(Happened::Yielded(gone));
                    if primary {
                        // All units settle it alike, so it is over everywhere.
                        self.happened.push(Happened::Ended(gone));
                        self.notify(shard, Notice::Ended(gone.tuples[0], gone.version));
                    }
                }
            }
            Applied::Stale if self.version(&new.tuples[0]) < Some(new.version) => {
                self.happened.push(Happened::Yielded(*new));
                if primary {
                    self.happened.push(Happened::Ended(*new));
                }
            }
            Applied::Updated | Applied::Stale | Applied::Full => {}
        }
    }

    /// The table as the control core reads it.
    pub(crate) fn source(&self, now: Tick) -> Source<'_> {
        Source { workers: self, now }
    }
}

/// The table at one moment.
pub(crate) struct Source<'a> {
    workers: &'a Workers,
    now: Tick,
}

impl SessionSource for Source<'_> {
    fn shards(&self) -> u16 {
        u16::try_from(self.workers.shards.len()).unwrap()
    }

    fn slots(&self, shard: u16) -> u32 {
        self.workers.readers[usize::from(shard)].capacity()
    }

    fn read(&self, shard: u16, slot: u32) -> Option<(Session, u32)> {
        let session = self.workers.readers[usize::from(shard)].get(SessionId(slot))?;
        (!session.is_provisional()).then_some(())?;
        let remaining = TIMEOUTS.remaining(&session, self.now);
        Some((session.as_told_by(self.workers.unit), remaining))
    }

    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        let session = self.workers.get(original)?;
        let found = session.tuples[0] == *original;
        found.then(|| (session, TIMEOUTS.remaining(&session, self.now)))
    }
}
