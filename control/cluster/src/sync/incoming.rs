//! One stream of another unit: segments are put in order, and handed out change by change.
//!
//! Owned by [`Peer`](super::peer::Peer), one for each shard of the origin. Invariants: changes are handed
//! out in the order of the stream; a segment counts as applied when its last record was handed out,
//! never before; no more than `window` segments wait.

use std::collections::VecDeque;

use super::frame::Receipt;
use super::record::{Record, RepairBegin, take_record};
use crate::{Delta, RangeSet, UnitId};
use session::Version;

/// What comes out of a stream, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A change to apply.
    Change(Delta),
    /// A repair begins.
    Begin(Begin),
    /// A repair is complete in this stream.
    End(u32),
    /// So many segments are lost for good.
    Gap(u64),
}

/// [`RepairBegin`] with the answer that concerns this unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    pub(super) id: u32,
    pub(super) ranges: RangeSet,
    pub(super) floor: Version,
    pub(super) authoritative: bool,
    pub(super) shards: u16,
    pub(super) targets: u16,
    pub(super) answer: Option<u32>,
}

impl Begin {
    fn new(begin: &RepairBegin<'_>, unit: UnitId) -> Self {
        Self {
            id: begin.id,
            ranges: begin.ranges,
            floor: begin.floor,
            authoritative: begin.authoritative,
            shards: begin.shards,
            targets: begin.targets,
            answer: begin.answers.of(unit),
        }
    }
}

/// What became of a segment that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one.
    Next,
    /// It waits for an earlier one.
    Early,
    /// It was here before.
    Duplicate,
    /// It is too far ahead to wait for.
    Beyond,
}

/// One stream of another unit.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The segment that is being handed out or awaited; 0 before anything was heard.
    expected: u64,
    /// What the origin holds begins here.
    floor: u64,
    /// Segments from `expected` on.
    waiting: VecDeque<Option<Box<[u8]>>>,
    /// How far the first of them was handed out.
    offset: usize,
    /// An acknowledgement is due.
    pub(super) due: bool,
    /// What other units acknowledged of this stream, by unit.
    pub(super) heard: [u64; UnitId::MAX as usize],
    /// Applied segments that another live unit may lack, with their numbers.
    pub(super) retained: VecDeque<(u64, Box<[u8]>)>,
}

impl Incoming {
    /// All segments up to this one were applied or are known to be lost.
    pub(super) const fn applied(&self) -> u64 {
        self.expected.saturating_sub(1)
    }

    /// The last segment that arrived, also out of order.
    pub(super) fn newest(&self) -> u64 {
        self.applied() + self.waiting.len() as u64
    }

    /// True once anything of the stream was heard.
    pub(super) const fn is_known(&self) -> bool {
        self.expected != 0
    }

    /// The origin holds nothing before `base`.
    pub(super) fn advance_floor(&mut self, base: u64) {
        if self.expected == 0 {
            self.expected = base;
        }
        self.floor = self.floor.max(base);
    }

    /// Takes a segment's records in. At most `window` segments wait.
    pub(super) fn accept(&mut self, number: u64, records: &[u8], window: usize) -> Arrival {
        self.due = true;
        let Some(ahead) = number.checked_sub(self.expected) else {
            return Arrival::Duplicate;
        };
        let Some(ahead) = usize::try_from(ahead).ok().filter(|ahead| *ahead < window) else {
            return Arrival::Beyond;
        };
        if self.waiting.len() <= ahead {
            self.waiting.resize(ahead + 1, None);
        }
        if self.waiting[ahead].is_some() {
            return Arrival::Duplicate;
        }
        self.waiting[ahead] = Some(records.into());
        if ahead == 0 {
            Arrival::Next
        } else {
            Arrival::Early
        }
    }

    /// The next thing in the stream, if it is here. `unit` is who reads, `retain` whether applied
    /// segments are kept for others.
    pub(super) fn next(&mut self, unit: UnitId, retain: usize) -> Option<Event> {
        loop {
            let Some(Some(records)) = self.waiting.front() else {
                return self.skip_lost();
            };
            let mut rest = records.get(self.offset..).unwrap_or_default();
            let event = match take_record(&mut rest) {
                Ok(Some(Record::Change(delta))) => Event::Change(delta),
                Ok(Some(Record::RepairBegin(begin))) => Event::Begin(Begin::new(&begin, unit)),
                Ok(Some(Record::RepairEnd { id })) => Event::End(id),
                // Records were checked when the frame came in, so an error is their end too.
                Ok(None) | Err(_) => {
                    self.finish_segment(retain);
                    continue;
                }
            };
            self.offset = records.len() - rest.len();
            return Some(event);
        }
    }

    fn finish_segment(&mut self, retain: usize) {
        if let Some(Some(records)) = self.waiting.pop_front()
            && retain > 0
        {
            self.retained.push_back((self.expected, records));
            while self.retained.len() > retain {
                self.retained.pop_front();
            }
        }
        self.expected += 1;
        self.offset = 0;
        self.due = true;
    }

    /// Passes over segments that are neither here nor held by the origin any more.
    fn skip_lost(&mut self) -> Option<Event> {
        let before = self.expected;
        while self.expected < self.floor {
            match self.waiting.front() {
                Some(Some(_)) => break,
                Some(None) => {
                    self.waiting.pop_front();
                    self.expected += 1;
                }
                None => self.expected = self.floor,
            }
        }
        if self.expected == before {
            return None;
        }
        self.due = true;
        Some(Event::Gap(self.expected - before))
    }

    /// What an acknowledgement of this stream says now.
    pub(super) fn receipt(&self, shard: u16) -> Receipt {
        let waiting = self
            .waiting
            .iter()
            .skip(1)
            .take(128)
            .enumerate()
            .filter(|(_, segment)| segment.is_some())
            .fold(0, |bits, (n, _)| bits | 1 << n);
        Receipt {
            shard,
            applied: self.applied(),
            waiting,
        }
    }

    /// Drops retained segments up to `number`.
    pub(super) fn release_retained(&mut self, number: u64) {
        while self.retained.front().is_some_and(|(n, _)| *n <= number) {
            self.retained.pop_front();
        }
    }
}
