//! What the peers are known to hold, for whoever asks about single sessions.

use super::Sync;
use crate::{RangeSet, UnitId, range_of};

impl Sync {
    /// True when there is a live peer to hold anything.
    #[must_use]
    pub const fn has_peers(&self) -> bool {
        self.live != 0
    }

    /// The last segment of a shard's stream, in a moment in which all that was pushed is in segments: a mark
    /// for [`Sync::is_confirmed`].
    #[must_use]
    pub fn mark(&self, shard: u16) -> Option<u64> {
        let stream = self.streams.get(usize::from(shard))?;
        (stream.waiting() == 0).then(|| stream.next() - 1)
    }

    /// True when a live peer has acknowledged the shard's stream up to a [mark](Sync::mark).
    #[must_use]
    pub fn is_confirmed(&self, shard: u16, mark: u64) -> bool {
        let mut progress = self
            .live_peers()
            .filter_map(|(_, peer)| peer.progress.get(usize::from(shard)));
        progress.any(|progress| progress.acked >= mark)
    }

    /// Ranges in which a peer may lack something that was pushed here since it is up: a change that it has
    /// not acknowledged, or state that this unit has yet to send to it. What was there before it has from
    /// the primary, once it says that it is whole. Every range of a peer that is down.
    #[must_use]
    pub fn unconfirmed(&self, unit: UnitId) -> RangeSet {
        let peer = self.peers[unit.index()].as_deref();
        let Some(peer) = peer.filter(|peer| peer.up) else {
            return RangeSet::ALL;
        };
        let mut ranges = self.overflow.union(&peer.dirty);
        if let Some((_, asked)) = &peer.request {
            ranges = ranges.union(asked);
        }
        if let Some(repair) = self.repair.as_ref().filter(|r| r.targets & unit.bit() != 0) {
            ranges = ranges.union(&repair.ranges);
        }
        for (stream, progress) in self.streams.iter().zip(&peer.progress) {
            for tuple in stream.waiting_tuples() {
                ranges.insert(range_of(tuple));
            }
            for number in (progress.acked + 1).max(stream.base())..stream.next() {
                let segment = stream.segment(number).filter(|_| !progress.has(number));
                ranges = segment.map_or(ranges, |segment| ranges.union(&segment.ranges));
            }
        }
        ranges
    }
}
