//! Who holds what: how far each peer is in this unit's streams, and this unit in theirs.

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::peer::{self, Peer};
use super::serve::Repair;
use super::{Lag, Position, Sync};
use crate::UnitId;

impl Sync {
    /// True when every live peer holds all that was pushed so far.
    #[must_use]
    pub fn acknowledged_by_all(&self) -> bool {
        let mut live = self.live_peers().peekable();
        if live.peek().is_none() {
            return true;
        }
        let sent = self.overflow.is_empty()
            && self.repair.is_none()
            && self.inherited.is_empty()
            && self.streams.iter().all(|stream| stream.waiting() == 0);
        sent && live.all(|(_, peer)| self.has_everything(peer))
    }

    /// Where the streams end, in a moment in which they have all that was pushed.
    #[must_use]
    pub fn ends(&self) -> Option<Vec<u64>> {
        let all = self.overflow.is_empty()
            && self.inherited.is_empty()
            && self.streams.iter().all(|stream| stream.waiting() == 0);
        all.then(|| self.streams.iter().map(Outgoing::next).collect())
    }

    /// True when a live peer holds all that was pushed before the streams [ended](Self::ends) there.
    #[must_use]
    pub fn holds(&self, unit: UnitId, ends: &[u64]) -> bool {
        if !self.settings.session_sync {
            return true;
        }
        let served = |repair: &Repair| repair.targets & unit.bit() != 0;
        let peer = self.peers[unit.index()].as_deref();
        let Some(peer) = peer.filter(|peer| peer.up && !peer.fresh && peer.dirty.is_empty()) else {
            return false;
        };
        let reached = peer.progress.iter().zip(ends);
        !self.repair.as_ref().is_some_and(served)
            && reached
                .into_iter()
                .all(|(progress, end)| progress.acked + 1 >= *end)
    }

    /// How far a peer is behind; nothing for one that was never up.
    #[must_use]
    pub fn lag(&self, unit: UnitId) -> Lag {
        let Some(peer) = self.peers[unit.index()].as_deref() else {
            return Lag::default();
        };
        let mut lag = Lag {
            dirty: peer.dirty.len(),
            stuck: peer.stuck.is_some(),
            ..Lag::default()
        };
        for (stream, progress) in self.streams.iter().zip(&peer.progress) {
            lag.segments += stream.next() - 1 - progress.acked;
            lag.deltas += stream.waiting() as u64;
            let held = (progress.acked + 1).max(stream.base())..stream.next();
            for segment in held.filter_map(|number| stream.segment(number)) {
                lag.deltas += u64::from(segment.deltas);
                lag.age = lag.age.max(self.now.since(segment.first_sent));
            }
        }
        lag
    }

    /// Where this unit's streams are.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        (0..self.settings.shards)
            .zip(&self.streams)
            .map(|(shard, stream)| Position {
                shard,
                next: stream.next(),
                base: stream.base(),
            })
    }

    /// Up to which segment each stream of a peer was applied.
    pub fn applied(&self, unit: UnitId) -> impl Iterator<Item = u64> + '_ {
        let peer = self.peers[unit.index()].as_deref();
        peer.into_iter()
            .flat_map(|peer| peer.streams.iter().map(Incoming::applied))
    }

    /// How far this unit's streams to a peer are, by shard: the last segment, and up to which the peer
    /// acknowledged all.
    pub fn sent_to(&self, unit: UnitId) -> impl Iterator<Item = (u64, u64)> + '_ {
        let peer = self.peers[unit.index()].as_deref();
        let progress = peer.into_iter().flat_map(|peer| &peer.progress);
        self.streams
            .iter()
            .zip(progress)
            .map(|(stream, progress)| (stream.next() - 1, progress.acked))
    }

    /// How far the streams of a peer are here, by shard: the last segment that is known of, and up to
    /// which all were applied.
    pub fn received_from(&self, unit: UnitId) -> impl Iterator<Item = (u64, u64)> + '_ {
        let peer = self.peers[unit.index()].as_deref();
        let streams = peer.into_iter().flat_map(|peer| &peer.streams);
        streams.map(|stream| (stream.newest(), stream.applied()))
    }

    pub(super) fn holders_of_everything(&self) -> u16 {
        let idle = self.overflow.is_empty() && self.streams.iter().all(|s| s.waiting() == 0);
        // What other owners told it, this unit's streams do not say.
        let holds = |peer: &Peer| self.has_everything(peer) && (peer.in_step || !self.many_writers);
        let holders = self
            .live_peers()
            .filter(|(_, peer)| idle && !peer.fresh && holds(peer));
        holders.fold(0, |mask, (unit, _)| mask | unit.bit())
    }

    pub(super) fn has_everything(&self, peer: &Peer) -> bool {
        let acknowledged =
            |(stream, progress): (&Outgoing, &peer::Progress)| progress.acked + 1 == stream.next();
        // Who never copied a primary's state cannot have all of it.
        let copied = !peer.fresh || self.primary != Some(self.settings.unit);
        copied && peer.dirty.is_empty() && self.streams.iter().zip(&peer.progress).all(acknowledged)
    }
}
