//! What this unit knows of one other unit, in both directions.
//!
//! Owned by [`Sync`](super::Sync); one per unit that was ever up. What a unit of the same boot missed
//! while it was down is remembered here, so that its return costs a repair of that and no more.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::incoming::{Begin, Incoming};
use super::mentioned::Mentioned;
use crate::{Boot, RangeSet, Time, UnitId};

/// How far a peer is in one of this unit's streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// It has all segments up to this one.
    pub(super) acked: u64,
    /// Bit n: it has segment `acked + 2 + n` too.
    pub(super) waiting: u128,
}

impl Progress {
    /// True when the peer has the segment.
    pub(super) fn has(&self, number: u64) -> bool {
        match number.checked_sub(self.acked + 2) {
            None => number <= self.acked,
            Some(bit) => bit < 128 && self.waiting >> bit & 1 == 1,
        }
    }

    /// Those of these segments that the peer lacks, as far ahead as it can say what it has.
    pub(super) fn missing(self, held: Range<u64>) -> impl Iterator<Item = u64> {
        ((self.acked + 1).max(held.start)..held.end)
            .take(128)
            .filter(move |number| !self.has(*number))
    }

    /// The highest segment that the peer is known to have.
    pub(super) fn highest(&self) -> u64 {
        match 128 - self.waiting.leading_zeros() {
            0 => self.acked,
            bits => self.acked + 1 + u64::from(bits),
        }
    }
}

/// Time until a segment is sent again (the estimator of RFC 6298, with limits for one Ethernet hop).
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    smoothed: Option<Duration>,
    variation: Duration,
    backoff: u32,
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(20);
    const MIN: Duration = Duration::from_millis(5);
    const MAX: Duration = Duration::from_millis(200);

    pub(super) const fn new() -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            backoff: 0,
        }
    }

    /// A segment that went out once was acknowledged after `sample`.
    pub(super) fn sample(&mut self, sample: Duration) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample);
            self.variation = sample / 2;
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
        self.smoothed = Some((smoothed * 7 + sample) / 8);
    }

    /// The peer moved on.
    pub(super) fn relax(&mut self) {
        self.backoff = 0;
    }

    /// The peer did not answer in time.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(6);
    }

    /// Silence after which a segment is sent again.
    pub(super) fn timeout(&self) -> Duration {
        let base = self
            .smoothed
            .map_or(Self::FIRST, |smoothed| smoothed + self.variation * 4);
        (base.clamp(Self::MIN, Self::MAX) * (1 << self.backoff)).min(Self::MAX)
    }

    /// Age after which a segment that later ones overtook is taken for lost.
    pub(super) fn overtaken(&self) -> Duration {
        self.smoothed
            .unwrap_or(Self::FIRST)
            .clamp(Self::MIN / 5, Self::MAX)
    }
}

/// A repair that this unit wants from the peer.
#[derive(Clone, Debug)]
pub(super) struct Want {
    /// Ranges wanted, besides those that the peer knows this unit missed.
    pub(super) ranges: RangeSet,
    /// Without it this unit's state is not whole.
    pub(super) needed: bool,
    /// A copy of everything.
    pub(super) full: bool,
    /// Id of the request.
    pub(super) id: u32,
    /// Positions in this unit's own streams that the peer must have before it is asked.
    pub(super) flush: Option<Vec<u64>>,
    /// When to ask, or to ask again.
    pub(super) ask: Time,
    /// It was asked.
    pub(super) asked: bool,
    /// The tables differ: of two states of one version the peer's is right.
    pub(super) overrides: bool,
}

/// A repair that comes in.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) begin: Begin,
    /// In which streams it began.
    pub(super) begun: Vec<bool>,
    /// In which of these it has not ended.
    pub(super) open: Vec<bool>,
    /// Streams in which it ended.
    pub(super) ended: u16,
    /// The sessions mentioned since it began; `None` once they were too many.
    pub(super) mentioned: Option<Mentioned>,
    /// Where the search for stale sessions is: shard and slot.
    pub(super) sweep: Option<(u16, u32)>,
    /// When it last made progress.
    pub(super) progress: Time,
    /// Ranges with sessions that it does not mention, of other units that are alive, by unit: these decide.
    pub(super) unsaid: [RangeSet; UnitId::MAX as usize],
    /// It was complete when its origin was succeeded by this unit: that one's last word.
    pub(super) inherited: bool,
    /// When the table shows everything that was handed out before it began.
    pub(super) visible: Time,
}

/// Another unit.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) boot: Boot,
    pub(super) up: bool,
    /// How far it is in this unit's streams.
    pub(super) progress: Vec<Progress>,
    /// Ranges of which it missed segments.
    pub(super) dirty: RangeSet,
    /// Since when there are such ranges, or since when it is up with them.
    pub(super) dirty_since: Time,
    /// It held all that this unit did, when they last had the same primary.
    pub(super) in_step: bool,
    /// Neither unit ever copied all of the other's state, so nothing is known of what it lacks.
    pub(super) fresh: bool,
    /// The newest repair that it asked for: id and ranges.
    pub(super) request: Option<(u32, RangeSet)>,
    /// The newest request that a repair answered.
    pub(super) answered: u32,
    /// When that repair began.
    pub(super) answered_at: Time,
    pub(super) patience: Patience,
    /// When it last took something in, or had all there was.
    pub(super) moved: Time,
    /// Since when it is stuck.
    pub(super) stuck: Option<Time>,
    /// When it may be told again where the streams are.
    pub(super) tell: Time,
    /// Its streams.
    pub(super) streams: Vec<Incoming>,
    pub(super) want: Option<Want>,
    /// Repairs that come in or are swept after, oldest first: a new one may begin in one stream while an
    /// older has not ended in another.
    pub(super) collections: VecDeque<Collection>,
    /// All of its state was copied since this unit was last not whole.
    pub(super) copied: bool,
}

impl Peer {
    /// A peer that was not known in this boot. `bases` are where this unit's streams begin now.
    pub(super) fn new(
        boot: Boot,
        shards: u16,
        bases: impl Iterator<Item = u64>,
        now: Time,
    ) -> Self {
        let progress = bases.map(|base| Progress {
            acked: base - 1,
            waiting: 0,
        });
        Self {
            boot,
            up: true,
            progress: progress.collect(),
            dirty: RangeSet::EMPTY,
            dirty_since: Time::NEVER,
            in_step: false,
            fresh: true,
            request: None,
            answered: 0,
            answered_at: Time(0),
            patience: Patience::new(),
            moved: now,
            stuck: None,
            tell: Time(0),
            streams: (0..shards).map(|_| Incoming::default()).collect(),
            want: None,
            collections: VecDeque::new(),
            copied: false,
        }
    }

    /// Notes that it misses something in these ranges.
    pub(super) fn soil(&mut self, ranges: &RangeSet, now: Time) {
        if self.dirty.is_empty() {
            self.dirty_since = now;
        }
        self.dirty = self.dirty.union(ranges);
    }

    /// Ranges that a repair for it has to cover, if it asked for `ranges`.
    pub(super) fn owed(&self, ranges: &RangeSet) -> RangeSet {
        if self.fresh {
            RangeSet::ALL
        } else {
            self.dirty.union(ranges)
        }
    }
}
