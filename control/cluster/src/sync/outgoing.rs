//! One stream of this unit: what waits to be sent, and what was sent and is still held.
//!
//! Owned by [`Sync`](super::Sync), one for each shard of the local table. Invariants: segments are
//! numbered from 1 without holes; `base = next - held segments`; a segment is dropped only from the
//! front; no more than one change waits per session.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use packet::Tuple;

use super::frame::{MAX_FRAME, begin_data};
use super::record::{MAX_RECORD, RepairBegin, put_change, put_repair_begin, put_repair_end};
use crate::{Boot, Delta, RangeSet, Time, range_of};

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

/// Sessions that peers may hold, by fingerprint of the original tuple: all others can be born and die
/// in the queue without a word. Two sessions of one fingerprint (one in 2^64) cost one needless
/// remove at the most while both live.
#[derive(Debug, Default)]
pub(super) struct Announced {
    seeds: RandomState,
    known: HashSet<u64>,
}

impl Announced {
    pub(super) fn fingerprint(&self, tuple: &Tuple) -> u64 {
        self.seeds.hash_one(tuple)
    }

    pub(super) fn note(&mut self, delta: &Delta) {
        let fingerprint = self.fingerprint(delta.tuple());
        match delta {
            Delta::Upsert { .. } => self.known.insert(fingerprint),
            Delta::Remove { .. } => self.known.remove(&fingerprint),
        };
    }

    fn knows(&self, tuple: &Tuple) -> bool {
        self.known.contains(&self.fingerprint(tuple))
    }
}

/// What [`Outgoing::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// It took the place of an older change of the same session.
    Merged,
    /// The session was born and died in the queue: nothing will be sent.
    Cancelled,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    boot: Boot,
    shard: u16,
    pending: Vec<Option<Delta>>,
    index: HashMap<Tuple, usize>,
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
            pending: Vec::new(),
            index: HashMap::new(),
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
        self.pending.iter().flatten().map(Delta::tuple)
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

    /// Queues a change. Changes of one session merge into the newest.
    pub(super) fn push(&mut self, delta: Delta, announced: &Announced) -> Pushed {
        let tuple = *delta.tuple();
        let Some(&position) = self.index.get(&tuple) else {
            self.index.insert(tuple, self.pending.len());
            self.pending.push(Some(delta));
            return Pushed::Queued;
        };
        let waiting = self.pending[position].as_ref();
        if waiting.is_some_and(|waiting| waiting.version() > delta.version()) {
            return Pushed::Merged;
        }
        if matches!(delta, Delta::Remove { .. }) && !announced.knows(&tuple) {
            self.pending[position] = None;
            self.index.remove(&tuple);
            return Pushed::Cancelled;
        }
        self.pending[position] = Some(delta);
        Pushed::Merged
    }

    /// Seals what waits into segments, `limit` held ones at the most; returns how many changes.
    pub(super) fn cut(&mut self, limit: usize, announced: &mut Announced) -> u64 {
        if self.pending.is_empty() || self.held() >= limit {
            return 0;
        }
        let mut pending = std::mem::take(&mut self.pending);
        let mut taken = 0;
        let mut cut = 0;
        for delta in &pending {
            if self.held() >= limit {
                break;
            }
            taken += 1;
            if let Some(delta) = delta {
                self.append(delta, announced);
                cut += 1;
            }
        }
        pending.drain(..taken);
        self.pending = pending;
        self.index.clear();
        for (position, delta) in self.pending.iter().enumerate() {
            if let Some(delta) = delta {
                self.index.insert(*delta.tuple(), position);
            }
        }
        self.seal();
        cut
    }

    /// Appends a change to the segment being filled.
    pub(super) fn append(&mut self, delta: &Delta, announced: &mut Announced) {
        announced.note(delta);
        let segment = self.open();
        put_change(&mut segment.frame, delta);
        segment.ranges.insert(range_of(delta.tuple()));
        segment.deltas += 1;
        self.seal_if_full();
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
