//! One stream of this unit: what waits to be sent, and what was sent and is still held.
//!
//! Owned by [`Sync`](super::Sync), one for each shard of the local table. Invariants: segments are
//! numbered from 1 without holes; `base = next - held segments`; a segment is dropped only from the
//! front; no more than one change waits per session.

use std::collections::VecDeque;

use packet::Tuple;
use session::Version;

use super::frame::{MAX_FRAME, begin_data};
use super::queue::{Pushed, Queue};
use super::record::{MAX_RECORD, RepairBegin, put_change, put_repair_begin, put_repair_end};
use crate::range::bucket_of;
use crate::{Boot, Delta, RangeSet, Time};

/// A sealed segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// The data frame as it goes out, but for destination and base.
    pub(super) frame: Vec<u8>,
    /// Ranges that are incomplete at a unit that never gets this segment.
    pub(super) ranges: RangeSet,
    /// Changes in it.
    pub(super) deltas: u32,
    /// When it first went out; [`Time::NEVER`] before that.
    pub(super) first_sent: Time,
    /// When it last went out.
    pub(super) last_sent: Time,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    boot: Boot,
    shard: u16,
    pending: Queue,
    /// The highest version that was ever put into a segment.
    told: Version,
    open: Option<Segment>,
    window: VecDeque<Segment>,
    next: u64,
    /// Number of the next segment that never went out.
    pub(super) unsent: u64,
}

impl Outgoing {
    pub(super) fn new(boot: Boot, shard: u16) -> Self {
        Self {
            boot,
            shard,
            pending: Queue::default(),
            told: Version(0),
            open: None,
            window: VecDeque::new(),
            next: 1,
            unsent: 1,
        }
    }

    /// Number of the segment after the last sealed one.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The lowest segment held; `next` if none is.
    pub(super) fn base(&self) -> u64 {
        self.next - self.window.len() as u64
    }

    pub(super) fn held(&self) -> usize {
        self.window.len()
    }

    /// Sessions whose changes wait.
    pub(super) fn waiting_tuples(&self) -> impl Iterator<Item = &Tuple> {
        self.pending.iter().map(Delta::tuple)
    }

    /// Places that waiting changes take.
    pub(super) const fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let position = usize::try_from(number.checked_sub(self.base())?).ok()?;
        self.window.get(position)
    }

    pub(super) fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let position = usize::try_from(number.checked_sub(self.base())?).ok()?;
        self.window.get_mut(position)
    }

    /// Drops the lowest segment held.
    pub(super) fn release(&mut self) -> Option<Segment> {
        let segment = self.window.pop_front();
        self.unsent = self.unsent.max(self.base());
        segment
    }

    /// Queues a change of the session with this fingerprint; `born` as [`Queue::push`] has it.
    pub(super) fn push(&mut self, fingerprint: u64, delta: Delta, born: Option<Version>) -> Pushed {
        self.pending.push(fingerprint, delta, born, self.told)
    }

    /// Seals what waits into segments, `limit` held ones at the most, and shows the bucket of each change;
    /// returns how many.
    pub(super) fn cut(&mut self, limit: usize, mut touch: impl FnMut(u16)) -> u64 {
        if self.pending.len() == 0 || self.held() >= limit {
            return 0;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let cut = pending.drain(|delta| {
            touch(self.append(delta));
            self.held() < limit
        });
        self.pending = pending;
        self.seal();
        cut
    }

    /// Appends a change to the segment being filled; returns its bucket.
    pub(super) fn append(&mut self, delta: &Delta) -> u16 {
        self.told = self.told.max(delta.version());
        let segment = self.open();
        put_change(&mut segment.frame, delta);
        let bucket = bucket_of(delta.tuple());
        let [range, _] = bucket.to_be_bytes();
        segment.ranges.insert(range);
        segment.deltas += 1;
        self.seal_if_full();
        bucket
    }

    /// Appends the head of a repair to the segment being filled.
    pub(super) fn append_begin(&mut self, begin: &RepairBegin<'_>) {
        let segment = self.open();
        put_repair_begin(&mut segment.frame, begin);
        segment.ranges = segment.ranges.union(&begin.ranges);
        self.seal_if_full();
    }

    /// Appends the end of the repair of `ranges` to the segment being filled.
    pub(super) fn append_end(&mut self, id: u32, ranges: &RangeSet) {
        let segment = self.open();
        put_repair_end(&mut segment.frame, id);
        segment.ranges = segment.ranges.union(ranges);
        self.seal_if_full();
    }

    /// Seals the segment being filled, if there is one.
    pub(super) fn seal(&mut self) {
        if let Some(segment) = self.open.take() {
            self.window.push_back(segment);
            self.next += 1;
        }
    }

    fn open(&mut self) -> &mut Segment {
        self.open.get_or_insert_with(|| Segment {
            frame: begin_data(self.boot, self.shard, self.next),
            ranges: RangeSet::EMPTY,
            deltas: 0,
            first_sent: Time::NEVER,
            last_sent: Time(0),
        })
    }

    fn seal_if_full(&mut self) {
        let full = |segment: &Segment| segment.frame.len() + MAX_RECORD > MAX_FRAME;
        if self.open.as_ref().is_some_and(full) {
            self.seal();
        }
    }
}
