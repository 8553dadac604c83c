//! The worker's dealings with the session table: looking up, tracking, ageing, changes of others.

use arrayvec::ArrayVec;
use packet::plain::Plain;
use packet::tcp::Segment;
use packet::{Fragment, Kind, Tuple};
use session::{Ageing, Applied, Hit, Invalid, Rewrite, Session, SessionId, Shard, Verdict};

use super::{COMMANDS_PER_TURN, Core, Scene, TIMERS_PER_TURN};
use crate::counters::{Drop, Event};
use crate::distribution::Duty;
use crate::port::PortIo;
use crate::rings::{DeltaKind, DeltaNotice, TableCommand, WorkerRings};

/// Commands whose memory is asked for together.
pub const COMMANDS_AT_ONCE: usize = 32;

impl<P: PortIo> Core<P> {
    /// Finds the sessions of the burst.
    pub(super) fn look_up(&mut self) {
        let batch = &mut self.batch;
        self.shard.narrow(&mut batch.search, 0..batch.len);
        self.shard.narrow(&mut batch.search, 0..0);
        batch.misses = 0;
        let found = batch.hits.iter_mut().zip(&batch.keys).take(batch.len);
        for (position, (hit, key)) in found.enumerate() {
            *hit = self.shard.settle(&batch.search, position, key);
            batch.misses |= u64::from(hit.is_none()) << position;
        }
    }

    /// Tells the session of a plain TCP packet about it. `None` when the long way has to: nothing was
    /// told then.
    #[inline]
    pub(super) fn track_plain(
        &mut self,
        scene: &Scene<'_>,
        position: usize,
        plain: Plain,
        hit: Hit,
    ) -> Option<Result<Rewrite, Drop>> {
        let (unit, now) = (scene.snapshot.unit, scene.now.tick);
        let frame = self.batch.mbufs[position].as_ref()?.data();
        let segment = plain.segment(frame)?;
        match self.shard.pass_segment(hit, unit, &segment, now) {
            Some(rewrite) => Some(Ok(rewrite)),
            None => self.track_segment(scene, hit, &segment),
        }
    }

    /// [`Core::track_plain`] for a segment that does more than to move the windows.
    #[inline(never)]
    fn track_segment(
        &mut self,
        scene: &Scene<'_>,
        hit: Hit,
        segment: &Segment,
    ) -> Option<Result<Rewrite, Drop>> {
        if self.shard.owner(hit) != scene.snapshot.unit {
            return None;
        }
        let (now, term) = (scene.now.tick, scene.snapshot.term);
        let verdict = self.shard.track(hit, segment, now, term);
        match self.settle(hit, verdict) {
            Ok(()) => self.shard.rewrite(hit).map(Ok),
            Err(reason) => Some(Err(reason)),
        }
    }

    /// Tells the session of a packet about it.
    pub(super) fn track(
        &mut self,
        scene: &Scene<'_>,
        position: usize,
        hit: Hit,
    ) -> Result<(), Drop> {
        // A session that began in this burst may have taken the slot of this one.
        if self.batch.evicted && !self.shard.confirms(hit, &self.batch.keys[position]) {
            return Err(Drop::TableFull);
        }
        let (now, term) = (scene.now.tick, scene.snapshot.term);
        if self.shard.owner(hit) != scene.snapshot.unit {
            self.adopt(scene, hit.id())?;
        }
        let layout = &self.batch.layouts[position];
        let verdict = match layout.kind {
            _ if layout.fragment == Fragment::Later => {
                self.shard.touch(hit, now);
                Verdict::Pass
            }
            // Errors neither refresh nor end a session (RFC 5508 section 7.2).
            Kind::IcmpError => Verdict::Pass,
            Kind::Tcp => {
                let frame = self.batch.mbufs[position].as_ref().map(|mbuf| mbuf.data());
                let segment = frame
                    .and_then(|frame| Segment::read(frame, layout))
                    .ok_or(Drop::TcpBadFlags)?;
                self.shard.track(hit, &segment, now, term)
            }
            _ => self.shard.datagram(hit, now, term),
        };
        self.settle(hit, verdict)
    }

    /// Carries out what the session table says of a packet.
    #[inline]
    fn settle(&mut self, hit: Hit, verdict: Verdict) -> Result<(), Drop> {
        match verdict {
            Verdict::Pass => Ok(()),
            Verdict::PassChanged => {
                let session = self.shard.session(hit.id());
                self.report(DeltaKind::Upsert, hit.id(), &session);
                Ok(())
            }
            Verdict::Drop(reason) => Err(drop_of(reason)),
        }
    }

    /// Takes over the session of another unit: one that owns no more, or that the primary takes it from.
    /// Nobody knows what has become of one that was only handed out.
    #[cold]
    fn adopt(&mut self, scene: &Scene<'_>, id: SessionId) -> Result<(), Drop> {
        let snapshot = scene.snapshot;
        if self.shard.is_provisional(id) {
            self.shard.remove(id);
            self.batch.evicted = true;
            return Err(Drop::RedirectStale);
        }
        self.shard
            .adopt(id, snapshot.unit, snapshot.term, scene.now.tick);
        self.counters.happened(Event::SessionsAdopted);
        let session = self.shard.session(id);
        self.report(DeltaKind::Upsert, id, &session);
        Ok(())
    }

    /// Reports a change that the table has by now; false when there was no room for that. Peers do not hear
    /// of provisional sessions.
    pub(super) fn report(&mut self, kind: DeltaKind, id: SessionId, session: &Session) -> bool {
        if session.is_provisional() {
            return true;
        }
        let told = notify(&mut self.rings, kind, id, session);
        self.counters.happened(Event::Deltas);
        if !told {
            self.counters.happened(Event::DeltasOverflowed);
        }
        told
    }

    /// Makes the changes that other cores want; returns how many.
    pub(super) fn obey_commands(&mut self, scene: &Scene<'_>) -> usize {
        let mut left = COMMANDS_PER_TURN;
        let mut commands = ArrayVec::<TableCommand, COMMANDS_AT_ONCE>::new();
        while left > 0 {
            while !commands.is_full()
                && let Ok(command) = self.rings.commands.pop()
            {
                commands.push(command);
            }
            if commands.is_empty() {
                break;
            }
            left = left.saturating_sub(commands.len());
            prefetch_commands(&self.shard, &commands);
            for command in commands.drain(..) {
                self.obey(scene, command);
            }
        }
        COMMANDS_PER_TURN - left
    }

    fn obey(&mut self, scene: &Scene<'_>, command: TableCommand) {
        match command {
            TableCommand::Apply(session, remaining) => self.apply(scene, &session, remaining),
            TableCommand::Retract(tuple, version) => {
                if self.shard.retract(&tuple, version) {
                    self.counters.happened(Event::SessionsRetracted);
                }
            }
            TableCommand::Restate(tuple) => self.restate(scene, &tuple),
            TableCommand::Clear(tuple) => self.clear(&tuple),
            TableCommand::Timeouts(timeouts) => self.shard.set_timeouts(timeouts),
        }
    }

    fn apply(&mut self, scene: &Scene<'_>, session: &Session, remaining: u32) {
        match self.shard.apply(session, remaining, scene.now.tick) {
            Applied::Inserted(displaced) => {
                self.counters.happened(Event::SessionsApplied);
                // Other units settle conflicts alike; what the primary evicts, only it knows.
                if scene.snapshot.is_primary() {
                    for gone in displaced {
                        self.report(DeltaKind::Remove, SessionId(0), &gone);
                    }
                }
            }
            Applied::Updated => self.counters.happened(Event::SessionsApplied),
            Applied::Stale => self.counters.happened(Event::RemoteStale),
            Applied::Full => self.counters.happened(Event::RemoteFull),
        }
    }

    /// Tells a session of this unit in a newer version.
    fn restate(&mut self, scene: &Scene<'_>, tuple: &Tuple) {
        if let Some(hit) = self.shard.lookup(tuple)
            && self
                .shard
                .session(hit.id())
                .as_told_by(scene.snapshot.unit)
                .owner
                == scene.snapshot.unit
        {
            // It is no provisional one: these have no owner here.
            let _ = self.adopt(scene, hit.id());
        }
    }

    fn clear(&mut self, tuple: &Tuple) {
        if let Some(hit) = self.shard.lookup(tuple)
            && let Some(session) = self.shard.remove(hit.id())
        {
            self.counters.happened(Event::SessionsCleared);
            self.report(DeltaKind::Remove, hit.id(), &session);
        }
    }

    /// Looks at timers that are due, a few per turn, until the tick's are done.
    pub(super) fn age(&mut self, scene: &Scene<'_>) {
        let (now, snapshot) = (scene.now.tick, scene.snapshot);
        if self.aged >= now {
            return;
        }
        // An owner is responsible for its sessions, and the primary for those of the dead as well.
        let decide = |session: &Session| {
            let owner = session.as_told_by(snapshot.unit).owner;
            match (snapshot.duty, owner == snapshot.unit) {
                _ if session.is_provisional() => Ageing::Normal,
                (Duty::Primary, true) => Ageing::Normal,
                (Duty::Owner { .. }, true) if snapshot.sharing().owns(owner) => Ageing::Normal,
                (Duty::Primary, false) if !snapshot.sharing().owns(owner) => Ageing::Adopt,
                _ => Ageing::Defer,
            }
        };
        let Self {
            rings, counters, ..
        } = self;
        let looked = self.shard.age(now, TIMERS_PER_TURN, decide, |id, session| {
            if session.is_provisional() {
                counters.happened(Event::ProvisionalExpired);
                return;
            }
            counters.happened(Event::SessionsExpired);
            counters.happened(Event::Deltas);
            if !notify(rings, DeltaKind::Remove, id, &session) {
                counters.happened(Event::DeltasOverflowed);
            }
        });
        if looked < TIMERS_PER_TURN {
            self.aged = now;
        }
    }
}

/// Asks for the memory that peers' changes will touch, so that the cache misses of all are in flight together:
/// buckets, then what these lead to, then what that leads to. Of [`COMMANDS_AT_ONCE`] commands at the most.
pub fn prefetch_commands(shard: &Shard, commands: &[TableCommand]) {
    let prepared = |(ahead, command): (usize, &TableCommand)| match command {
        TableCommand::Apply(session, _) => Some(shard.prefetch_apply(&session.tuples, ahead)),
        TableCommand::Retract(tuple, _) => Some(shard.prefetch_retract(tuple)),
        _ => None,
    };
    let changes = commands.iter().take(COMMANDS_AT_ONCE).enumerate();
    let sought: ArrayVec<_, COMMANDS_AT_ONCE> = changes.filter_map(prepared).collect();
    for prepared in &sought {
        shard.prefetch_found(prepared);
    }
    for prepared in &sought {
        shard.prefetch_linked(prepared);
    }
}

/// Puts a notice into the ring, or marks the session's range when there is no room: false then.
fn notify(rings: &mut WorkerRings, kind: DeltaKind, id: SessionId, session: &Session) -> bool {
    let notice = DeltaNotice {
        kind,
        tuple: session.tuples[0],
        id,
        version: session.version,
    };
    let room = rings.deltas.push(notice).is_ok();
    if !room {
        rings.dirty.mark(&notice.tuple);
    }
    room
}

fn drop_of(reason: Invalid) -> Drop {
    match reason {
        Invalid::OutOfWindow => Drop::TcpOutOfWindow,
        Invalid::BadReset => Drop::TcpBadReset,
        Invalid::BadSyn => Drop::TcpBadSyn,
        Invalid::BadFlags => Drop::TcpBadFlags,
        Invalid::BadHandshake => Drop::TcpBadHandshake,
    }
}
