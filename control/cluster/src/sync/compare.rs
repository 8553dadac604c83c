//! Comparing this unit's table with the primary's, by digests, and mending what differs.
//!
//! ```text
//! primary                                        peer
//!   pass over the table                            pass over the table
//!   digests of quiet buckets ── Digests ─────────▶ compare those that are quiet here too
//!                            ◀── Request{ranges} ── they differ: say so, ask for their ranges
//!   repair of the ranges     ────────────────────▶ of two states of one version the primary's wins,
//!                                                  but for sessions of which this unit is the owner
//! ```
//!
//! Invariant: a comparison changes nothing but by a repair. A difference that is none, because a change was
//! long on its way, costs the repair of a range.

use std::time::Duration;

use session::Session;

use super::digest::hash_of;
use super::frame::{self, DigestList};
use super::peer::Peer;
use super::{Event, Output, Sync};
use crate::{Delta, RangeSet, SessionSource, Time, UnitId};

/// After a pass, until what the workers did during it was read from their rings.
const REPORTED: Duration = Duration::from_millis(100);
/// Frames of digests in one turn.
const FRAMES_PER_TURN: usize = 4;
/// A peer whose oldest outstanding segment is older is too far behind to be compared with.
const BEHIND: Duration = Duration::from_secs(1);
/// Differences are gathered so long before their ranges are asked for.
const GATHER: Duration = Duration::from_millis(100);

/// What there is to tell of this unit's table, and what was found in comparing.
#[derive(Debug)]
pub(super) struct Comparison {
    /// The range to tell next, and when; all were told without it.
    telling: Option<(u8, Time)>,
    /// Ranges of this table that differ from the primary's, since when, and in how many buckets.
    differing: RangeSet,
    differing_since: Time,
    buckets: u32,
}

impl Comparison {
    pub(super) const fn new() -> Self {
        Self {
            telling: None,
            differing: RangeSet::EMPTY,
            differing_since: Time::NEVER,
            buckets: 0,
        }
    }
}

impl Sync {
    /// Reads the table, tells its digests, asks for what differs; a part of each in each turn.
    pub(super) fn compare(&mut self, table: &dyn SessionSource) {
        if self.live == 0 || !self.compared {
            return;
        }
        if self.digests.read(table, self.now) {
            self.counters.digest_passes += 1;
            self.comparison.telling = Some((0, self.now + REPORTED));
        }
        self.tell_digests();
        self.settle_differences();
    }

    /// When [`Sync::compare`] has something to do.
    pub(super) fn comparison_deadline(&self) -> Time {
        if self.live == 0 || !self.compared {
            return Time::NEVER;
        }
        let telling = self.comparison.telling.map_or(Time::NEVER, |(_, due)| due);
        let gathered = self.comparison.differing_since + GATHER;
        self.digests.due().min(telling).min(gathered)
    }

    fn tell_digests(&mut self) {
        let Some((mut range, due)) = self.comparison.telling.filter(|(_, due)| self.now >= *due)
        else {
            return;
        };
        self.comparison.telling = None;
        let targets = self.comparable();
        if self.primary != Some(self.settings.unit) || !self.whole || targets == 0 {
            return;
        }
        for _ in 0..FRAMES_PER_TURN {
            let empty = |range| self.digests.is_empty(range);
            let quiet = |bucket| self.digests.quiet(bucket);
            let (body, next) = frame::digests(self.settings.boot, targets, range, empty, quiet);
            self.outbox.push_back(Output::Send { to: None, body });
            self.counters.digests_sent += 1;
            let Some(next) = next else { return };
            range = next;
        }
        self.comparison.telling = Some((range, due.max(self.now) + Duration::from_millis(1)));
    }

    /// Peers whose tables should be like this one, bit 0 for unit 1.
    fn comparable(&self) -> u16 {
        let repaired = self.repair.as_ref().map_or(0, |repair| repair.targets);
        let in_time = |peer: &Peer| {
            let mut oldest = self.streams.iter().zip(&peer.progress);
            oldest.all(|(stream, progress)| {
                let segment = stream.segment(progress.acked + 1);
                segment.is_none_or(|segment| self.now < segment.first_sent + BEHIND)
            })
        };
        self.live_peers()
            .filter(|(unit, peer)| {
                let complete = !peer.fresh && peer.dirty.is_empty() && peer.request.is_none();
                complete && repaired & unit.bit() == 0 && in_time(peer)
            })
            .fold(0, |mask, (unit, _)| mask | unit.bit())
    }

    /// Takes in what the primary says of its table.
    pub(super) fn take_digests(&mut self, from: UnitId, targets: u16, list: &DigestList<'_>) {
        // What a repair brings touches its buckets; what it makes stale goes at its end.
        let repairing = |peer: &Peer| {
            let mut collections = peer.collections.iter();
            peer.want.is_some() || collections.any(|collection| collection.sweep.is_some())
        };
        let busy = self.peers[from.index()].as_deref().is_none_or(repairing);
        let meant = targets & self.settings.unit.bit() != 0;
        if busy || !meant || !self.compared || !self.whole || self.primary != Some(from) {
            return;
        }
        for theirs in list.iter() {
            if theirs.is_empty() && self.digests.is_empty(theirs.range) {
                self.counters.digests_compared += 256;
                continue;
            }
            let mut differences = 0;
            for (bucket, sum) in theirs.quiet_buckets() {
                let Some(ours) = self
                    .digests
                    .quiet(u16::from_be_bytes([theirs.range, bucket]))
                else {
                    continue;
                };
                self.counters.digests_compared += 1;
                differences += u32::from(ours != sum);
            }
            if differences > 0 {
                self.counters.digests_different += u64::from(differences);
                self.comparison.differing.insert(theirs.range);
                self.comparison.buckets += differences;
                self.comparison.differing_since = self.comparison.differing_since.min(self.now);
            }
        }
    }

    /// Asks the primary for the ranges that differ.
    fn settle_differences(&mut self) {
        if self.now < self.comparison.differing_since + GATHER {
            return;
        }
        let ranges = std::mem::take(&mut self.comparison.differing);
        let buckets = std::mem::take(&mut self.comparison.buckets);
        self.comparison.differing_since = Time::NEVER;
        let Some(from) = self.primary.filter(|unit| *unit != self.settings.unit) else {
            return;
        };
        self.outbox.push_back(Output::Event(Event::TablesDiffer {
            from,
            ranges: ranges.len(),
            buckets,
        }));
        self.want(from, ranges, false);
        if let Some(want) = self.peers[from.index()]
            .as_deref_mut()
            .and_then(|p| p.want.as_mut())
        {
            want.overrides = true;
        }
    }

    /// What to do about a state that the primary sent because the tables differ, if this table has another one
    /// of the same version: versions do not say then which is right.
    pub(super) fn overridden(
        &mut self,
        from: UnitId,
        shard: usize,
        table: &dyn SessionSource,
        session: &Session,
    ) -> Option<Output> {
        let tuple = session.tuples[0];
        let range = crate::range_of(&tuple);
        let peer = self.peers[from.index()].as_deref()?;
        let want = peer.want.as_ref().filter(|want| want.overrides)?;
        let overriding = peer.collections.iter().any(|collection| {
            collection.begin.answer == Some(want.id)
                && collection.begun.get(shard) == Some(&true)
                && collection.begin.ranges.contains(range)
        });
        let (held, _) = overriding.then(|| table.find(&tuple)).flatten()?;
        if held.version != session.version || hash_of(&held) == hash_of(session) {
            return None;
        }
        self.counters.sessions_overridden += 1;
        if held.owner == self.settings.unit.get() {
            return Some(Output::Restate { tuple });
        }
        let delta = Delta::Remove {
            tuple,
            version: held.version,
        };
        Some(Output::Apply { from, delta })
    }

    /// Peers that have been behind for so long without taking anything in that somebody has to look.
    pub(super) fn watch_peers(&mut self) {
        let (now, streams) = (self.now, &self.streams);
        for (unit, peer) in UnitId::all().zip(&mut self.peers) {
            let Some(peer) = peer.as_deref_mut().filter(|peer| peer.up) else {
                continue;
            };
            let mut progress = streams.iter().zip(&peer.progress);
            let behind = progress.any(|(stream, progress)| progress.acked + 1 < stream.unsent);
            if !behind {
                peer.moved = now;
            }
            let silence = now.since(peer.moved);
            let stuck = silence >= STUCK;
            if stuck == peer.stuck.is_some() {
                continue;
            }
            let event = match peer.stuck.take() {
                None => {
                    peer.stuck = Some(peer.moved);
                    Event::PeerStuck {
                        peer: unit,
                        silence,
                    }
                }
                Some(since) => Event::PeerMoves {
                    peer: unit,
                    after: now.since(since),
                },
            };
            self.outbox.push_back(Output::Event(event));
        }
    }
}

/// A peer that takes nothing in for so long, although there is something, is stuck.
const STUCK: Duration = Duration::from_secs(1);
