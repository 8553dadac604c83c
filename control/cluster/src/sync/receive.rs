//! The receiving half of [`Sync`]: frames in, changes out.

use std::time::Duration;

use super::frame::{self, Content, Receipts};
use super::incoming::{Arrival, Event as Item};
use super::peer::Peer;
use super::record::{Record, take_record};
use super::{Event, Malformed, Output, Sync};
use crate::range::bucket_of;
use crate::{Boot, Delta, RangeSet, SessionSource, UnitId, range_of};

/// Multiple of the settling time for which a unit has been whole before it knows what it owns: longer than
/// any change needs to its table.
const KNOWS_ITS_OWN: u32 = 20;

impl Sync {
    /// Takes in a frame that `from` sent.
    ///
    /// # Errors
    /// What is wrong with it. It was counted and changed nothing.
    pub fn handle(&mut self, from: UnitId, body: &[u8], now: crate::Time) -> Result<(), Malformed> {
        self.now = self.now.max(now);
        if !self.settings.session_sync {
            return Ok(());
        }
        let frame = frame::parse(body).inspect_err(|_| self.counters.malformed += 1)?;
        if !self.knows(from, frame.boot) {
            self.counters.strangers += 1;
            return Ok(());
        }
        if frame.to.is_some_and(|to| to != self.settings.unit) {
            return Ok(());
        }
        self.deadline = crate::Time(0);
        match frame.content {
            Content::Digests { targets, ranges } => self.take_digests(from, targets, &ranges),
            Content::Data {
                shard,
                number,
                base,
                records,
            } => self.take_segment(from, shard, number, base, records),
            Content::Acknowledge {
                origin,
                boot,
                receipts,
            } => self.take_acknowledgement(from, origin, boot, &receipts),
            Content::Request { id, ranges } => self.take_request(from, id, ranges),
            Content::Positions(positions) => {
                let Some(peer) = self.peers[from.index()].as_deref_mut() else {
                    return Ok(());
                };
                for position in positions.iter() {
                    if let Some(stream) = peer.streams.get_mut(usize::from(position.shard)) {
                        stream.advance_floor(position.base);
                        stream.due = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn knows(&self, unit: UnitId, boot: Boot) -> bool {
        self.peers[unit.index()]
            .as_deref()
            .is_some_and(|peer| peer.up && peer.boot == boot)
    }

    fn take_segment(&mut self, from: UnitId, shard: u16, number: u64, base: u64, records: &[u8]) {
        let window = self.settings.limits.window;
        let stream = self.peers[from.index()]
            .as_deref_mut()
            .and_then(|peer| peer.streams.get_mut(usize::from(shard)));
        let Some(stream) = stream else {
            self.counters.strangers += 1;
            return;
        };
        stream.advance_floor(base);
        let count = match stream.accept(number, records, window) {
            Arrival::Next => &mut self.counters.segments_received,
            Arrival::Early => &mut self.counters.segments_early,
            Arrival::Duplicate => &mut self.counters.segments_duplicate,
            Arrival::Beyond => &mut self.counters.segments_beyond,
        };
        *count += 1;
    }

    fn take_acknowledgement(
        &mut self,
        from: UnitId,
        origin: UnitId,
        boot: Boot,
        receipts: &Receipts<'_>,
    ) {
        if origin == self.settings.unit {
            if boot == self.settings.boot {
                self.take_receipts(from, receipts);
            } else {
                self.counters.acknowledgements_foreign += 1;
            }
            return;
        }
        let others: Vec<usize> = self
            .live_peers()
            .map(|(unit, _)| unit)
            .filter(|unit| *unit != origin)
            .map(UnitId::index)
            .collect();
        let Some(peer) = self.peers[origin.index()].as_deref_mut() else {
            return;
        };
        if peer.boot != boot {
            return;
        }
        for receipt in receipts.iter() {
            if let Some(stream) = peer.streams.get_mut(usize::from(receipt.shard)) {
                let heard = &mut stream.heard[from.index()];
                *heard = receipt.applied.max(*heard);
                let lowest = others.iter().map(|unit| stream.heard[*unit]).min();
                stream.release_retained(lowest.unwrap_or(u64::MAX));
            }
        }
    }

    /// The next change of any peer to apply.
    pub(super) fn apply_next(&mut self, table: &dyn SessionSource) -> Option<Output> {
        loop {
            let (from, shard, item) = self.next_item()?;
            match item {
                Item::Change(delta) => {
                    self.note_applied(from, shard, &delta);
                    if let Some(output) = self.application(from, shard, table, delta) {
                        return Some(output);
                    }
                }
                Item::Begin(begin) => self.begin_collection(from, shard, begin),
                Item::End(id) => self.end_collection(from, shard, id),
                Item::Gap(segments) => {
                    self.counters.gaps += 1;
                    self.counters.segments_lost += segments;
                    self.recover(from);
                    return Some(Output::Event(Event::Gap { from, segments }));
                }
            }
        }
    }

    /// What to do about a change, if anything. One that the version alone would not let through is preceded by a
    /// removal.
    fn application(
        &mut self,
        from: UnitId,
        shard: usize,
        table: &dyn SessionSource,
        delta: Delta,
    ) -> Option<Output> {
        let apply = Output::Apply { from, delta };
        let Delta::Upsert { session, .. } = &delta else {
            return Some(apply);
        };
        match self.overridden(from, shard, table, session) {
            Some(removal @ Output::Apply { .. }) => {
                self.outbox.push_front(apply);
                Some(removal)
            }
            Some(other) => Some(other),
            None => (!self.knows_better(from, shard, table, &delta)).then_some(apply),
        }
    }

    /// The next thing in any stream; a stream is read to its end before another.
    fn next_item(&mut self) -> Option<(UnitId, usize, Item)> {
        if let Some((unit, shard)) = self.reading {
            if let Some(item) = self.next_in(unit, shard) {
                return Some((unit, shard, item));
            }
            self.reading = None;
        }
        for unit in UnitId::all() {
            let shards = self.peers[unit.index()]
                .as_deref()
                .map_or(0, |peer| peer.streams.len());
            for shard in 0..shards {
                if let Some(item) = self.next_in(unit, shard) {
                    self.reading = Some((unit, shard));
                    return Some((unit, shard, item));
                }
            }
        }
        None
    }

    fn next_in(&mut self, from: UnitId, shard: usize) -> Option<Item> {
        let retain = if self.live & !from.bit() == 0 {
            0
        } else {
            self.settings.limits.window
        };
        let peer = self.peers[from.index()].as_deref_mut()?;
        peer.streams
            .get_mut(shard)?
            .next(self.settings.unit, retain)
    }

    /// Bookkeeping for a change that is handed out.
    fn note_applied(&mut self, from: UnitId, shard: usize, delta: &Delta) {
        self.counters.deltas_applied += 1;
        self.last_applied = self.now;
        self.highest = self.highest.max(delta.version());
        let bucket = bucket_of(delta.tuple());
        self.digests.touch(bucket, self.now);
        let [range, _] = bucket.to_be_bytes();
        let regular = self.now >= self.calm_at && self.is_first_hand(from, delta);
        let late = self.primary != Some(from) && !regular;
        let collecting = |peer: &Peer| !peer.collections.is_empty();
        let collected = self.peers.iter().flatten().any(|peer| collecting(peer));
        if collected {
            self.mention(from, shard, range, delta);
        }
        if late {
            self.counters.deltas_late += 1;
            self.suspect(range);
        }
    }

    /// Notes for the repairs that come in that a session exists.
    fn mention(&mut self, from: UnitId, shard: usize, range: u8, delta: &Delta) {
        let fingerprint = self.fingerprints.of(delta.tuple());
        let limit = self.settings.limits.mentioned;
        let owner = match delta {
            Delta::Upsert { session, .. } if self.many_writers => Some(session.owner),
            _ => None,
        };
        let units = UnitId::all().zip(&mut self.peers);
        for (unit, peer) in units.filter_map(|(unit, peer)| Some((unit, peer.as_mut()?))) {
            for collection in &mut peer.collections {
                // Whether an owner's session exists, nobody else can say.
                if unit != from && owner == Some(unit.get()) {
                    continue;
                }
                // Before its begin a stream tells what may be gone by now.
                let begun = collection.begun.get(shard) == Some(&true);
                if unit == from && begun {
                    collection.progress = self.now;
                }
                if unit != from || begun {
                    collection.mention(range, fingerprint, delta, limit);
                }
            }
        }
    }

    /// Whether an owner tells of its own session. A removal names no owner; only an owner tells of one.
    fn is_first_hand(&self, from: UnitId, delta: &Delta) -> bool {
        let own = match delta {
            Delta::Upsert { session, .. } => session.owner == from.get(),
            Delta::Remove { .. } => true,
        };
        self.many_writers && own
    }

    /// Whether a unit tells this one of a session of its own: nothing that it does not know. If the session is
    /// gone, who tells had not heard of that yet; then it is told again, and with it all who believed it. One
    /// with whom this unit never had a common state may have kept what an earlier start of this unit owned, and
    /// have told others of it.
    fn knows_better(
        &mut self,
        from: UnitId,
        shard: usize,
        table: &dyn SessionSource,
        delta: &Delta,
    ) -> bool {
        let Delta::Upsert { session, .. } = delta else {
            return false;
        };
        let own = self.many_writers && session.owner == self.settings.unit.get();
        let strange = |(unit, peer): (UnitId, &Peer)| peer.fresh && (unit == from || !peer.in_step);
        let strange = own && self.live_peers().any(strange);
        if !own || strange || !self.knows_its_own() {
            return false;
        }
        let (tuple, version) = (session.tuples[0], session.version);
        if let Some((held, _)) = table.find(&tuple) {
            return held.version >= version;
        }
        self.counters.deltas_contradicted += 1;
        let shard = u16::try_from(shard).unwrap_or_default();
        self.enqueue(shard, Delta::Remove { tuple, version }, None);
        true
    }

    /// True when the table shows every session that this unit may own: it has been whole for a while, for what was
    /// just copied may be in no table yet.
    #[must_use]
    pub fn knows_its_own(&self) -> bool {
        self.whole && self.now >= self.whole_since + self.patience_to_know()
    }

    pub(super) fn patience_to_know(&self) -> Duration {
        self.settings.limits.settle * KNOWS_ITS_OWN
    }

    /// Two origins wrote in this range, and the order of streams does not say who was last.
    fn suspect(&mut self, range: u8) {
        self.suspect.insert(range);
        self.suspect_since = self.suspect_since.min(self.now);
    }

    /// An owner is dead. What it had told and another unit missed, which was away then, nobody but those that
    /// heard it can tell: beyond the last segments that one lacks no one knows what.
    pub(super) fn stand_in_for(&mut self, dead: UnitId) {
        let Some(peer) = self.peers[dead.index()].as_deref() else {
            return;
        };
        let (live, now) = (self.live, self.now);
        let lacks = |unit: UnitId| {
            peer.streams.iter().any(|stream| {
                // What is retained is passed on, to those that are up.
                let retained = stream.retained.front().map(|(number, _)| *number);
                let passed_on = retained.filter(|_| live & unit.bit() != 0);
                let first = passed_on.unwrap_or(stream.applied() + 1);
                stream.heard[unit.index()] + 1 < first
            })
        };
        let others = UnitId::all().filter(|unit| *unit != dead && self.many_writers);
        let lacking: Vec<UnitId> = others.filter(|unit| lacks(*unit)).collect();
        for unit in lacking {
            if let Some(peer) = self.peers[unit.index()].as_deref_mut() {
                peer.soil(&RangeSet::ALL, now);
            }
        }
    }

    /// Queues what a unit that is dead, or was primary, sent last and another survivor is not known to have.
    pub(super) fn inherit(&mut self, from: UnitId) {
        let others: Vec<usize> = self
            .live_peers()
            .map(|(unit, _)| unit.index())
            .filter(|unit| *unit != from.index())
            .collect();
        let Some(peer) = self.peers[from.index()].as_deref_mut() else {
            return;
        };
        let mut behind = !self.live;
        for (shard, stream) in (0_u16..).zip(&mut peer.streams) {
            let lowest = others.iter().map(|unit| stream.heard[*unit]).min();
            stream.release_retained(lowest.unwrap_or(u64::MAX));
            let retained = std::mem::take(&mut stream.retained);
            let first = retained.front().map_or(stream.applied() + 1, |(n, _)| *n);
            for unit in &others {
                let applied = stream.applied();
                let heard = &mut stream.heard[*unit];
                behind |= u16::from(*heard + 1 < first) << unit;
                *heard = applied.max(*heard);
            }
            self.inherited
                .extend(retained.into_iter().map(|(_, records)| (shard, records)));
        }
        if self.last_primary.is_some_and(|(last, _)| last == from) {
            self.behind |= behind;
        }
    }

    /// Passes inherited segments on while there is room.
    pub(super) fn feed_inherited(&mut self) {
        while self.room() > self.settings.limits.waiting / 2 {
            let Some((shard, records)) = self.inherited.pop_front() else {
                return;
            };
            let mut rest = &*records;
            while let Ok(Some(record)) = take_record(&mut rest) {
                if let Record::Change(delta) = record {
                    self.counters.deltas_relayed += 1;
                    self.suspect(range_of(delta.tuple()));
                    self.enqueue(shard, delta, None);
                }
            }
        }
    }
}
