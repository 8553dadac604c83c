//! Sweeping after repairs: what a complete one did not mention is stale, or newer than it.
//!
//! A part of the table in each turn, once it shows everything that was handed out before the repair began.
//! Invariant: only what nobody mentioned since the begin, and what is not newer than its floor, is removed, on
//! the word of who decides about it.

use std::collections::VecDeque;
use std::ops::Range;

use arrayvec::ArrayVec;
use session::Session;

use super::incoming::Begin;
use super::mentioned::Mentioned;
use super::peer::Collection;
use super::{Event, Output, Sync};
use crate::range::bucket_of;
use crate::{Delta, RangeSet, SessionSource, Time, UnitId, range_of};

/// Slots that are swept together.
const SWEPT_AT_ONCE: u32 = 32;

/// Who has the last word on a session, as seen in a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWord {
    /// The unit that sent the repair.
    Said,
    /// This unit.
    Own,
    /// Another unit, which is alive.
    Of(UnitId),
    /// Not the unit that sent the repair.
    None,
}

/// What a complete repair says of sessions that it does not mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing.
    Void,
    /// That is not known yet.
    Open,
    /// The primary's word: they are gone, unless an owner knows better.
    Primary,
    /// An owner's word: those of its own are gone.
    Owner,
}

/// Takes the oldest repair that can be swept after.
fn take_ended(collections: &mut VecDeque<Collection>, now: Time) -> Option<Collection> {
    let ready = |c: &Collection| c.sweep.is_some() && now >= c.visible;
    let position = collections.iter().position(ready)?;
    collections.remove(position)
}

impl Sync {
    /// Looks for stale sessions after repairs, a part of the table at a time.
    pub(super) fn sweep(&mut self, table: &dyn SessionSource) {
        let now = self.now;
        for unit in UnitId::all() {
            let Some(peer) = self.peers[unit.index()].as_deref_mut() else {
                continue;
            };
            let Some(mut collection) = take_ended(&mut peer.collections, now) else {
                continue;
            };
            if self.sweep_after(table, unit, &mut collection) {
                self.finish_collection(unit, &mut collection);
            } else if let Some(peer) = self.peers[unit.index()].as_deref_mut() {
                peer.collections.push_front(collection);
            }
        }
    }

    /// Sweeps as far as the turn allows; true at the end.
    fn sweep_after(
        &mut self,
        table: &dyn SessionSource,
        from: UnitId,
        collection: &mut Collection,
    ) -> bool {
        let of_primary = match self.standing(from, collection) {
            Standing::Void => return true,
            Standing::Open => return false,
            Standing::Primary => true,
            Standing::Owner => false,
        };
        let (Some((mut shard, mut slot)), Some(mentioned)) =
            (collection.sweep, &mut collection.mentioned)
        else {
            return true;
        };
        let begin = &collection.begin;
        while shard < table.shards() {
            let slots = table.slots(shard);
            if slot >= slots {
                (shard, slot) = (shard + 1, 0);
                continue;
            }
            if self.budget.slots == 0 {
                collection.sweep = Some((shard, slot));
                collection.progress = self.now;
                return false;
            }
            let end = slots.min(slot + self.budget.slots.min(SWEPT_AT_ONCE));
            self.budget.slots -= end - slot;
            for doubtful in self.doubtful(table, shard, slot..end, begin, mentioned) {
                let Some((session, remaining)) = table.read(shard, doubtful) else {
                    continue;
                };
                // Another session may have the slot by now.
                let range = range_of(&session.tuples[0]);
                if !begin.ranges.contains(range) {
                    continue;
                }
                let newest = mentioned.newest(range, self.fingerprints.of(&session.tuples[0]));
                let stale = newest.is_none() && session.version <= begin.floor;
                let newer = newest.is_none_or(|newest| newest < session.version);
                if newest.is_some_and(|newest| newest <= session.version) {
                    mentioned.settle(range);
                }
                match self.judge(&session, from, of_primary) {
                    LastWord::Said if stale => self.sweep_out(from, &session),
                    LastWord::Of(owner) if stale => {
                        collection.unsaid[owner.index()].insert(range);
                    }
                    LastWord::None => {}
                    LastWord::Said if !of_primary => {}
                    _ if newer => {
                        self.counters.sessions_told += 1;
                        self.enqueue(shard, Delta::Upsert { session, remaining }, None);
                    }
                    _ => {}
                }
            }
            slot = end;
        }
        true
    }

    /// Of some slots, [`SWEPT_AT_ONCE`] at the most, those whose sessions the repair did not mention as they are, or
    /// as they will be. What was mentioned is in no cache, so all of it is asked for before it is looked at.
    fn doubtful(
        &self,
        table: &dyn SessionSource,
        shard: u16,
        slots: Range<u32>,
        begin: &Begin,
        mentioned: &mut Mentioned,
    ) -> ArrayVec<u32, { SWEPT_AT_ONCE as usize }> {
        let mut read = ArrayVec::<_, { SWEPT_AT_ONCE as usize }>::new();
        table.scan(shard, slots, &mut |slot, session| {
            let range = range_of(&session.tuples[0]);
            if begin.ranges.contains(range) {
                let fingerprint = self.fingerprints.of(&session.tuples[0]);
                mentioned.prefetch(range, fingerprint);
                read.push((slot, range, fingerprint, session.version));
            }
        });
        let mut doubtful = ArrayVec::new();
        for (slot, range, fingerprint, version) in read {
            match mentioned.newest(range, fingerprint) {
                Some(newest) if newest > version => {}
                Some(newest) if newest == version => mentioned.settle(range),
                _ => doubtful.push(slot),
            }
        }
        doubtful
    }

    /// What a repair by `from` says of what it does not mention.
    fn standing(&self, from: UnitId, collection: &Collection) -> Standing {
        if !collection.begin.authoritative {
            return Standing::Void;
        }
        let want = self.peers[from.index()]
            .as_deref()
            .and_then(|peer| peer.want.as_ref());
        match self.primary {
            Some(primary) if primary == from && collection.is_premature(want) => Standing::Void,
            Some(primary) if primary == from => Standing::Primary,
            // Its last word; what was written since is above the floor.
            Some(_) if collection.inherited => Standing::Primary,
            Some(_) if self.many_writers => Standing::Owner,
            Some(_) => Standing::Void,
            // It may be the primary still, once it is heard again.
            None => Standing::Open,
        }
    }

    /// Who has the last word on a session that `from` tells of, or does not: its owner while that is alive,
    /// where sessions have owners, and the primary otherwise.
    fn judge(&self, session: &Session, from: UnitId, of_primary: bool) -> LastWord {
        let owner = UnitId::new(session.owner).filter(|_| self.many_writers);
        match owner {
            Some(owner) if owner == self.settings.unit => LastWord::Own,
            Some(owner) if owner == from => LastWord::Said,
            _ if !of_primary => LastWord::None,
            Some(owner) if self.live_peers().any(|(unit, _)| unit == owner) => LastWord::Of(owner),
            _ => LastWord::Said,
        }
    }

    fn sweep_out(&mut self, from: UnitId, stale: &Session) {
        let delta = Delta::Remove {
            tuple: stale.tuples[0],
            version: stale.version,
        };
        self.digests.touch(bucket_of(delta.tuple()), self.now);
        self.outbox.push_back(Output::Apply { from, delta });
        self.counters.sessions_swept += 1;
        self.swept += 1;
        self.last_applied = self.now;
    }

    fn finish_collection(&mut self, from: UnitId, collection: &mut Collection) {
        self.counters.repairs_received += 1;
        let swept = std::mem::take(&mut self.swept);
        let event = Event::RepairReceived { from, swept };
        self.outbox.push_back(Output::Event(event));
        for (owner, ranges) in UnitId::all().zip(&collection.unsaid) {
            if !ranges.is_empty() {
                self.want(owner, *ranges, false);
            }
        }
        let Some(peer) = self.peers[from.index()].as_deref_mut() else {
            return;
        };
        if collection.begin.authoritative && collection.begin.ranges == RangeSet::ALL {
            peer.fresh = false;
        }
        let settled_by_primary = swept > 0 && !self.many_writers;
        let mentioned = collection.mentioned.as_mut();
        let mentioned = mentioned.filter(|_| settled_by_primary);
        let refused = mentioned.map_or(RangeSet::EMPTY, Mentioned::refused);
        if swept > 0 && self.primary == Some(self.settings.unit) {
            // Swept on its predecessor's word; the others have to hear it from this unit.
            self.overflow = self.overflow.union(&collection.begin.ranges);
        }
        let answered = peer
            .want
            .take_if(|want| collection.begin.answer == Some(want.id));
        let Some(want) = answered else {
            if !refused.is_empty() {
                self.want(from, refused, false);
            }
            return;
        };
        if self.many_writers && !collection.begin.authoritative {
            // An owner that is not whole yet. When it is, it will know what is gone.
            self.suspect = self.suspect.union(&want.ranges);
            self.suspect_since = self.suspect_since.min(self.now);
        }
        if want.full {
            // It has what this unit sent before it asked, and this unit has all of its state.
            peer.copied = true;
            peer.fresh = false;
        }
        if !refused.is_empty() {
            self.want(from, refused, want.needed);
        } else if want.needed {
            if self.primary == Some(from) {
                self.become_whole();
            }
            self.outbox.push_back(Output::Synced { from });
        }
        self.want_copies();
    }
}
