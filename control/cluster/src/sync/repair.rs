//! Whose state to follow, and repairs: wanting them and collecting them. They are served in the module `serve`,
//! and swept after in `sweep`.
//!
//! ```text
//! asker                                         server
//!   want, flush own segments  ── Request{id} ──▶  settle, then in every stream:
//!   collect what is mentioned ◀── RepairBegin{answers id}
//!                             ◀── upserts of the ranges, among live changes
//!   sweep what is stale       ◀── RepairEnd
//! ```
//!
//! One repair runs at a time; it answers all requests that were there when it began. A request is
//! asked again until a repair answers it; a gap in any stream of the server voids what was collected,
//! and the asker asks anew. So a repair counts as received only if every segment of it was applied.

use std::time::Duration;

use session::Version;

use super::incoming::Begin;
use super::mentioned::Mentioned;
use super::peer::{Collection, Peer, Want};
use super::serve::NEGLECT;
use super::{Output, Sync, frame};
use crate::{Delta, RangeSet, Time, UnitId};

/// After this a request is sent again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Late changes are gathered this long before the primary is asked for their ranges.
const SUSPICION: Duration = Duration::from_millis(100);
/// A repair without progress for so long is asked for anew.
const STALLED: Duration = Duration::from_secs(3);
/// Repairs of one peer that come in at a time.
const COLLECTIONS: usize = 4;

impl Collection {
    fn new(begin: Begin, streams: usize, now: Time, settle: Duration) -> Self {
        Self {
            begin,
            begun: vec![false; streams],
            open: vec![false; streams],
            ended: 0,
            mentioned: Some(Mentioned::default()),
            sweep: None,
            progress: now,
            inherited: false,
            unsaid: [RangeSet::EMPTY; UnitId::MAX as usize],
            visible: now + settle,
        }
    }

    /// Whether the primary began it without all that this unit has to give it before it asks, as `want`
    /// says. The one that answers covers everything, so nothing stale is overlooked.
    pub(super) fn is_premature(&self, want: Option<&Want>) -> bool {
        want.is_some_and(|want| want.needed && want.full && self.begin.answer != Some(want.id))
    }

    /// Notes that a session exists, or is gone.
    pub(super) fn mention(&mut self, range: u8, fingerprint: u64, delta: &Delta, limit: usize) {
        if !self.begin.ranges.contains(range) {
            return;
        }
        let Some(mentioned) = &mut self.mentioned else {
            return;
        };
        if matches!(delta, Delta::Remove { .. }) {
            mentioned.settle(range);
        }
        if mentioned.note(range, fingerprint, delta.version()) > limit {
            self.mentioned = None;
        }
    }
}

// Whose state to follow.
impl Sync {
    /// True when a later term's changes are already mixed with this unit's.
    pub(super) const fn overtaken(&self) -> bool {
        self.highest.term() > self.term
    }

    /// `unit` is primary in `term`, since now.
    pub(super) fn follow(&mut self, unit: UnitId, term: u32) {
        let predecessor = self.last_primary.map(|(last, _)| last);
        if unit == self.settings.unit {
            self.keep_last_word(predecessor);
        } else if !self.many_writers {
            self.unsettled = RangeSet::EMPTY;
        }
        // The successor may have been in step and yet lack what its predecessor sent last, also one that lives.
        if let Some(last) = predecessor.filter(|last| *last != unit) {
            self.inherit(last);
        }
        let was_whole = self.whole;
        let continues = was_whole && self.continues(unit, term);
        for (other, peer) in UnitId::all().zip(&mut self.peers) {
            if let Some(peer) = peer {
                peer.copied = false;
                if other != unit && peer.want.as_ref().is_some_and(|want| want.needed) {
                    peer.want = None;
                }
            }
        }
        let same = self.last_primary == Some((unit, term));
        self.last_primary = Some((unit, term));
        if unit != self.settings.unit && !continues {
            self.whole = false;
            if !same {
                self.offer(unit, was_whole);
                self.suspect = RangeSet::EMPTY;
                self.want(unit, RangeSet::ALL, true);
            }
        }
        if !same {
            let peers = self.peers.iter_mut().flatten();
            peers.for_each(|peer| peer.in_step = false);
            self.behind = 0;
        }
        self.want_copies();
    }

    /// A primary that was not in step may lack what this unit alone is left to hold: it gets everything,
    /// and is asked for its own state after that. With a unit that is not whole nobody is in step.
    pub(super) fn offer(&mut self, unit: UnitId, whole: bool) {
        let (now, holds) = (self.now, self.highest > Version(0));
        let in_time = whole && self.behind & unit.bit() == 0;
        let peer = self.peers[unit.index()].as_deref_mut();
        if let Some(peer) = peer.filter(|peer| holds && !(in_time && peer.in_step)) {
            peer.soil(&RangeSet::ALL, now);
            // It does not know that there is something to ask for.
            peer.dirty_since = now - NEGLECT;
        }
    }

    /// This unit succeeds `predecessor`, whose complete repairs are still swept after.
    fn keep_last_word(&mut self, predecessor: Option<UnitId>) {
        let Some(peer) = predecessor.and_then(|unit| self.peers[unit.index()].as_deref_mut())
        else {
            return;
        };
        let want = peer.want.as_ref();
        for collection in &mut peer.collections {
            collection.inherited = collection.sweep.is_some() && !collection.is_premature(want);
        }
    }

    /// True when the state of this unit is that of the new primary but for what its stream will say.
    fn continues(&self, unit: UnitId, term: u32) -> bool {
        match self.last_primary {
            Some((last, last_term)) if last == unit => last_term == term,
            Some((last, _)) if last == self.settings.unit => self.heirs & unit.bit() != 0,
            _ => false,
        }
    }

    /// The primary has another state than the one that this unit knew.
    pub(super) fn lose_continuity(&mut self) {
        self.whole = false;
        self.last_primary = self.primary.map(|unit| (unit, self.term));
    }

    /// The table did not show for some time what was handed out: what was done on its word may be wrong.
    pub fn distrust_table(&mut self) {
        if !self.settings.session_sync {
            return;
        }
        self.lose_continuity();
        for peer in self.peers.iter_mut().flatten() {
            peer.want = None;
            peer.collections.clear();
            peer.copied = false;
        }
        self.want_copies();
        self.deadline = Time(0);
    }

    /// Sees to it that a unit that is not whole becomes so.
    pub(super) fn want_copies(&mut self) {
        let Some(primary) = self.primary.filter(|_| !self.whole) else {
            return;
        };
        if primary != self.settings.unit {
            let wanted = self.peers[primary.index()]
                .as_deref()
                .is_none_or(|peer| peer.want.as_ref().is_some_and(|want| want.needed));
            if !wanted {
                self.want(primary, RangeSet::ALL, true);
            }
            return;
        }
        // A primary that is not whole takes what anybody has. When nobody has more, it is.
        let rest: Vec<(UnitId, bool)> = self
            .live_peers()
            .filter(|(_, peer)| !peer.copied)
            .map(|(unit, peer)| (unit, peer.want.as_ref().is_some_and(|want| want.full)))
            .collect();
        for (unit, _) in rest.iter().filter(|(_, wanted)| !wanted) {
            self.want(*unit, RangeSet::ALL, true);
        }
        if rest.is_empty() {
            self.become_whole();
        }
    }

    /// This unit holds everything; what it repaired before, it repairs again with the last word.
    pub(super) fn become_whole(&mut self) {
        self.whole = true;
        self.settle();
    }

    /// Whether the repairs of this unit say what is gone: the primary's if it is whole, and an owner's, of what is
    /// its own, once it knows that.
    pub(super) fn has_last_word(&self) -> bool {
        let primary = self.primary == Some(self.settings.unit);
        self.whole && primary || self.many_writers && self.knows_its_own()
    }

    /// Repairs again what was repaired without the last word, if this unit has it now.
    pub(super) fn settle(&mut self) {
        if self.has_last_word() {
            let unsettled = std::mem::take(&mut self.unsettled);
            self.overflow = self.overflow.union(&unsettled);
        }
    }

    /// When there is something to settle.
    pub(super) fn settle_deadline(&self) -> Time {
        if self.unsettled.is_empty() || !self.whole || !self.many_writers {
            return Time::NEVER;
        }
        self.whole_since.min(self.now) + self.patience_to_know()
    }

    /// Wants a repair by `unit`; replaces an earlier want that it includes.
    pub(super) fn want(&mut self, unit: UnitId, ranges: RangeSet, needed: bool) {
        let now = self.now;
        let Some(peer) = self.peers[unit.index()].as_deref_mut() else {
            return;
        };
        self.requests += 1;
        let before = peer.want.take();
        let ranges = before.as_ref().map_or(ranges, |w| w.ranges.union(&ranges));
        peer.want = Some(Want {
            ranges,
            needed: needed || before.as_ref().is_some_and(|w| w.needed),
            overrides: before.is_some_and(|w| w.overrides),
            full: ranges == RangeSet::ALL,
            id: self.requests,
            flush: None,
            ask: now,
            asked: false,
        });
    }

    pub(super) fn drop_want(&mut self, unit: UnitId) {
        if let Some(peer) = self.peers[unit.index()].as_deref_mut() {
            peer.want = None;
        }
    }

    /// A stream of `from` has a gap: what was collected is incomplete, and what it knows to be missing
    /// is wanted with it.
    pub(super) fn recover(&mut self, from: UnitId) {
        let mut ranges = RangeSet::EMPTY;
        if let Some(peer) = self.peers[from.index()].as_deref_mut() {
            for voided in peer.collections.drain(..) {
                ranges = ranges.union(&voided.begin.ranges);
            }
        }
        let needed = self.primary == Some(from);
        if needed {
            self.whole = false;
        }
        self.want(from, ranges, needed);
    }
}

// Asking and collecting.
impl Sync {
    /// Sends the requests that are due.
    pub(super) fn ask(&mut self) {
        self.settle_suspects();
        let flushed = self.inherited.is_empty() && self.streams.iter().all(|s| s.waiting() == 0);
        for unit in UnitId::all() {
            let Some(mut peer) = self.peers[unit.index()].take() else {
                continue;
            };
            if peer.up {
                self.ask_peer(unit, &mut peer, flushed);
            }
            self.peers[unit.index()] = Some(peer);
        }
    }

    fn ask_peer(&mut self, unit: UnitId, peer: &mut Peer, flushed: bool) {
        let Some(want) = &mut peer.want else { return };
        let answer = |c: &Collection| c.begin.answer == Some(want.id);
        if let Some(position) = peer.collections.iter().position(answer) {
            let collection = &peer.collections[position];
            if self.now < collection.progress + STALLED {
                return;
            }
            peer.collections.remove(position);
            self.requests += 1;
            want.id = self.requests;
            want.asked = false;
            want.ask = self.now;
        }
        if self.now < want.ask {
            return;
        }
        if !want.asked {
            let repairing = self.repair.as_ref();
            if !flushed
                || !peer.dirty.is_empty()
                || repairing.is_some_and(|repair| repair.targets & unit.bit() != 0)
            {
                want.flush = None;
                return;
            }
            let streams = &self.streams;
            let marks = want
                .flush
                .get_or_insert_with(|| streams.iter().map(|stream| stream.next()).collect());
            let reached = peer.progress.iter().zip(marks);
            if reached.into_iter().any(|(p, mark)| p.acked + 1 < *mark) {
                return;
            }
            want.asked = true;
        }
        want.ask = self.now + ASK_AGAIN;
        let body = frame::request(self.settings.boot, unit, want.id, &want.ranges);
        let to = Some(unit);
        self.outbox.push_back(Output::Send { to, body });
        self.counters.repairs_asked += 1;
    }

    /// The primary's table decides about the ranges in which somebody wrote late.
    fn settle_suspects(&mut self) {
        let Some(primary) = self.primary.filter(|_| !self.suspect.is_empty()) else {
            return;
        };
        if self.now < self.suspect_since + SUSPICION {
            return;
        }
        let suspect = std::mem::take(&mut self.suspect);
        self.suspect_since = Time::NEVER;
        if primary == self.settings.unit {
            self.overflow = self.overflow.union(&suspect);
        } else {
            self.want(primary, suspect, false);
        }
    }

    /// A repair begins in a stream of `from`.
    pub(super) fn begin_collection(&mut self, from: UnitId, shard: usize, begin: Begin) {
        let (now, settle) = (self.now, self.settings.limits.settle);
        let Some(peer) = self.peers[from.index()].as_deref_mut() else {
            return;
        };
        if begin.targets & self.settings.unit.bit() == 0 {
            return;
        }
        let streams = peer.streams.len();
        // Its end would have come before: its server gave it up.
        peer.collections
            .retain(|c| c.begin.id >= begin.id || c.open.get(shard) != Some(&true));
        let newest = peer.collections.back().map(|c| c.begin.id);
        if newest.is_none_or(|id| id < begin.id) {
            peer.collections
                .push_back(Collection::new(begin, streams, now, settle));
        }
        for collection in &mut peer.collections {
            if collection.begin.id == begin.id
                && let (Some(begun), Some(open)) = (
                    collection.begun.get_mut(shard),
                    collection.open.get_mut(shard),
                )
            {
                (*begun, *open) = (true, true);
            }
        }
        // Those that have ended only wait for the table; to ask for them again would never end.
        let mut unended = (0..)
            .zip(&peer.collections)
            .filter(|(_, c)| c.sweep.is_none());
        let oldest = unended.next().map_or(0, |(position, _)| position);
        if unended.count() >= COLLECTIONS
            && let Some(given_up) = peer.collections.remove(oldest)
        {
            self.want(from, given_up.begin.ranges, false);
            // Not at once: the repairs came too fast.
            if let Some(want) = self.peers[from.index()]
                .as_mut()
                .and_then(|p| p.want.as_mut())
            {
                want.ask = now + ASK_AGAIN;
            }
        }
    }

    /// A repair is complete in a stream of `from`.
    pub(super) fn end_collection(&mut self, from: UnitId, shard: usize, id: u32) {
        let now = self.now;
        let Some(peer) = self.peers[from.index()].as_deref_mut() else {
            return;
        };
        for collection in peer.collections.iter_mut().filter(|c| c.begin.id == id) {
            if let Some(open) = collection.open.get_mut(shard) {
                *open = false;
            }
            collection.ended += 1;
            collection.progress = now;
            let begun = collection.begun.iter().filter(|begun| **begun).count();
            let shards = collection.begin.shards;
            if collection.ended == shards && begun == usize::from(shards) {
                collection.sweep = Some((0, 0));
            }
        }
    }

    /// When something has to be asked, asked again, or served.
    pub(super) fn repair_deadline(&self) -> Time {
        let mut deadline = Time::NEVER;
        if self.primary.is_some() && !self.suspect.is_empty() {
            deadline = self.suspect_since + SUSPICION;
        }
        if self.repair.is_none() && self.wants_repair() {
            deadline = deadline.min(self.settled());
        }
        for (_, peer) in self.live_peers() {
            // One that is neglected already waits for the table to settle, as above.
            let neglect = peer.dirty_since + NEGLECT;
            if !peer.dirty.is_empty() && self.repair.is_none() && self.now < neglect {
                deadline = deadline.min(neglect);
            }
            for collection in peer.collections.iter().filter(|c| c.sweep.is_some()) {
                if self.now < collection.visible {
                    deadline = deadline.min(collection.visible);
                }
            }
            let Some(want) = &peer.want else { continue };
            let answer = |c: &&Collection| c.begin.answer == Some(want.id);
            match peer.collections.iter().find(answer) {
                Some(collection) => {
                    deadline = deadline.min(collection.progress + STALLED);
                }
                _ if want.asked => deadline = deadline.min(want.ask),
                _ => {}
            }
        }
        deadline
    }
}
