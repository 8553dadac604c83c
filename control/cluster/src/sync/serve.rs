//! Serving repairs out of the table; the other side is in the module `repair`.
//!
//! A repair fills free window space and no more, a part of the table in each turn. It begins once the table
//! shows what was applied, or it would leave out what a unit has just flushed. Invariant: ranges are dirty for
//! a peer, or in a repair that it gets, or nothing of them is missing there.

use std::time::Duration;

use session::Version;

use super::peer::Peer;
use super::record::{Answers, RepairBegin};
use super::{Event, Output, Sync};
use crate::{Delta, RangeSet, SessionSource, Time, UnitId, range_of};

/// A peer that misses something asks within a round trip. Where the acknowledgements were lost instead of
/// the segments it has no reason to: then the repair begins unasked after so long.
pub(super) const NEGLECT: Duration = Duration::from_millis(300);
/// Multiple of the settling time after which a repair begins although changes still come in.
const SETTLE_AT_MOST: u32 = 4;

/// A repair that is being sent.
#[derive(Debug)]
pub(super) struct Repair {
    id: u32,
    pub(super) ranges: RangeSet,
    pub(super) targets: u16,
    answers: Vec<u8>,
    authoritative: bool,
    floor: Version,
    sessions: u64,
    cursors: Vec<Cursor>,
}

/// How far a repair is in one stream.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    Unbegun,
    /// Next is this slot of this shard of the table.
    Reading(u16, u32),
    Ended,
}

impl Peer {
    /// It should have asked for what it misses by now.
    fn is_neglected(&self, now: Time) -> bool {
        !self.dirty.is_empty() && now >= self.dirty_since + NEGLECT
    }
}

impl Sync {
    /// Takes in that a peer wants a repair.
    pub(super) fn take_request(&mut self, from: UnitId, id: u32, ranges: RangeSet) {
        let now = self.now;
        let repairing = self
            .repair
            .as_ref()
            .is_some_and(|repair| repair.targets & from.bit() != 0);
        if let Some(peer) = self.peers[from.index()].as_deref_mut() {
            let newest = peer.request.map_or(peer.answered, |(id, _)| id);
            // A unit that asks once more for what was answered has not seen the answer's begin.
            let unseen =
                id == newest && peer.request.is_none() && now >= peer.answered_at + NEGLECT;
            if id > newest || (unseen && !repairing) {
                peer.request = Some((id, ranges));
            }
        }
    }

    /// Takes a unit that is down out of the repair being sent: it will miss the rest.
    pub(super) fn withdraw_target(&mut self, unit: UnitId) {
        let Some(repair) = &mut self.repair else {
            return;
        };
        if repair.targets & unit.bit() == 0 {
            return;
        }
        repair.targets &= !unit.bit();
        if let Some(peer) = self.peers[unit.index()].as_deref_mut() {
            peer.soil(&repair.ranges, self.now);
        }
        if repair.targets == 0 {
            self.repair = None;
        }
    }

    /// Sends as much of a repair as windows and turn allow.
    pub(super) fn serve(&mut self, table: &dyn SessionSource) {
        if self.repair.is_none() {
            self.begin_repair();
        }
        let Some(mut repair) = self.repair.take() else {
            return;
        };
        for shard in 0..self.streams.len() {
            self.serve_stream(&mut repair, shard, table);
        }
        let ended = |cursor: &Cursor| matches!(cursor, Cursor::Ended);
        if repair.cursors.iter().all(ended) {
            self.counters.repairs_sent += 1;
            self.outbox.push_back(Output::Event(Event::RepairSent {
                targets: repair.targets,
                sessions: repair.sessions,
            }));
        } else {
            self.repair = Some(repair);
        }
    }

    /// What there is to repair, once the table shows what was applied.
    fn begin_repair(&mut self) {
        if !self.wants_repair() {
            self.serve_since = Time::NEVER;
            return;
        }
        self.serve_since = self.serve_since.min(self.now);
        if self.now < self.settled() {
            return;
        }
        self.serve_since = Time::NEVER;
        let overflow = std::mem::take(&mut self.overflow);
        let mut ranges = overflow;
        let (mut targets, mut answers) = (0, Vec::new());
        for (unit, peer) in UnitId::all().zip(&mut self.peers) {
            let Some(peer) = peer else { continue };
            if !peer.up {
                peer.soil(&overflow, self.now);
                continue;
            }
            if let Some((id, asked)) = peer.request.take() {
                ranges = ranges.union(&peer.owed(&asked));
                peer.answered = id;
                peer.answered_at = self.now;
                answers.push(unit.get());
                answers.extend(id.to_be_bytes());
                targets |= unit.bit();
            } else if peer.is_neglected(self.now) {
                ranges = ranges.union(&peer.dirty);
                targets |= unit.bit();
            } else if !overflow.is_empty() {
                targets |= unit.bit();
            }
        }
        if targets == 0 {
            return;
        }
        for (unit, peer) in UnitId::all().zip(&mut self.peers) {
            if let Some(peer) = peer.as_deref_mut().filter(|_| targets & unit.bit() != 0) {
                peer.dirty = peer.dirty.difference(&ranges);
                peer.fresh &= ranges != RangeSet::ALL;
            }
        }
        self.start_repair(ranges, targets, answers);
    }

    fn start_repair(&mut self, ranges: RangeSet, targets: u16, answers: Vec<u8>) {
        let primary = self.primary == Some(self.settings.unit);
        let term = Version::first_of(self.term);
        let authoritative = self.has_last_word();
        if !authoritative && (primary || self.many_writers) {
            self.unsettled = self.unsettled.union(&ranges);
        }
        self.repairs += 1;
        self.counters.repairs_begun += 1;
        self.repair = Some(Repair {
            id: self.repairs,
            ranges,
            targets,
            answers,
            authoritative,
            floor: self.highest.max(term),
            sessions: 0,
            cursors: vec![Cursor::Unbegun; self.streams.len()],
        });
        self.outbox.push_back(Output::Event(Event::RepairBegun {
            targets,
            ranges: ranges.len(),
        }));
    }

    pub(super) fn wants_repair(&self) -> bool {
        let calls = |peer: &Peer| peer.request.is_some() || peer.is_neglected(self.now);
        !self.overflow.is_empty() || self.live_peers().any(|(_, peer)| calls(peer))
    }

    /// When the table shows what was applied, or waiting for that has to end.
    pub(super) fn settled(&self) -> Time {
        let settle = self.settings.limits.settle;
        if self.last_applied == Time(0) {
            return Time(0);
        }
        (self.last_applied + settle).min(self.serve_since + settle * SETTLE_AT_MOST)
    }

    fn serve_stream(&mut self, repair: &mut Repair, shard: usize, table: &dyn SessionSource) {
        let room = (self.settings.limits.repair_window as u64)
            .saturating_sub(self.in_flight(shard))
            .min(self.budget.segments as u64);
        let limit = self.streams[shard].next() + room;
        let step = self.settings.shards;
        while self.streams[shard].next() < limit && self.budget.slots > 0 {
            let stream = &mut self.streams[shard];
            match &mut repair.cursors[shard] {
                // What waits may be older than the table; behind the begin it would count as mentioned.
                Cursor::Unbegun if stream.waiting() > 0 => break,
                cursor @ Cursor::Unbegun => {
                    stream.append_begin(&RepairBegin {
                        id: repair.id,
                        ranges: repair.ranges,
                        floor: repair.floor,
                        authoritative: repair.authoritative,
                        shards: step,
                        targets: repair.targets,
                        answers: Answers(&repair.answers),
                    });
                    *cursor = Cursor::Reading(u16::try_from(shard).unwrap_or(u16::MAX), 0);
                }
                cursor @ &mut Cursor::Reading(from, _) if from >= table.shards() => {
                    stream.append_end(repair.id, &repair.ranges);
                    *cursor = Cursor::Ended;
                }
                Cursor::Reading(from, slot) if *slot >= table.slots(*from) => {
                    (*from, *slot) = (from.saturating_add(step), 0);
                }
                Cursor::Reading(from, slot) => {
                    self.budget.slots -= 1;
                    if let Some((session, remaining)) = table.read(*from, *slot)
                        && repair.ranges.contains(range_of(&session.tuples[0]))
                    {
                        let delta = Delta::Upsert { session, remaining };
                        self.digests.touch(stream.append(&delta), self.now);
                        repair.sessions += 1;
                        self.counters.sessions_repaired += 1;
                    }
                    *slot += 1;
                }
                Cursor::Ended => break,
            }
        }
        self.streams[shard].seal();
    }
}
