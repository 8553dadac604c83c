//! The sending half of [`Sync`]: cutting segments, sending them, sending them again, letting them go.

use super::frame::{self, MAX_POSITIONS, MAX_RECEIPTS, Position, Receipt, Receipts};
use super::peer::Peer;
use super::{Output, Sync};
use crate::{Time, UnitId};

/// A segment this many places behind one that arrived is taken for lost, not for reordered.
const OVERTAKEN_BY: u64 = 3;
/// The most segments sent again to one peer in one stream at a time.
const RESEND: usize = 32;
/// Part of the window that may be held for peers that are down.
const HELD_FOR_ABSENT: usize = 4;

impl Sync {
    /// Seals what waits into segments as far as the windows have room.
    pub(super) fn cut(&mut self) {
        for shard in 0..self.streams.len() {
            if self.streams[shard].waiting() > 0 {
                self.release_acknowledged(shard);
                self.cut_stream(shard);
            }
        }
    }

    fn cut_stream(&mut self, shard: usize) {
        let (limit, now) = (self.settings.limits.window, self.now);
        let digests = &mut self.digests;
        let touch = |bucket| digests.touch(bucket, now);
        self.counters.deltas_sent += self.streams[shard].cut(limit, touch);
    }

    /// Moves the window of a stream on, over what is not acknowledged, until what waits fits.
    #[cold]
    pub(super) fn make_room(&mut self, shard: usize) {
        let limit = self.settings.limits.window;
        self.release_acknowledged(shard);
        while self.streams[shard].waiting() > 0 {
            if self.streams[shard].held() >= limit {
                self.release(shard);
            }
            self.cut_stream(shard);
        }
    }

    /// Lets the lowest segment go; it is dirty for who has not got it.
    fn release(&mut self, shard: usize) {
        let number = self.streams[shard].base();
        let Some(segment) = self.streams[shard].release() else {
            return;
        };
        for peer in self.peers.iter_mut().flatten() {
            if !peer.progress[shard].has(number) {
                peer.soil(&segment.ranges, self.now);
                self.counters.segments_abandoned += 1;
            }
        }
    }

    /// Lets go what all live peers have; for those that are down a part of the window is held.
    pub(super) fn release_acknowledged(&mut self, shard: usize) {
        let live = self.lowest_acknowledged(shard, |peer| peer.up);
        let all = self.lowest_acknowledged(shard, |_| true);
        let spare = self.settings.limits.window / HELD_FOR_ABSENT;
        while self.streams[shard].held() > 0 {
            let number = self.streams[shard].base();
            if number > live || (number > all && self.streams[shard].held() <= spare) {
                break;
            }
            self.release(shard);
        }
    }

    fn lowest_acknowledged(&self, shard: usize, of: impl Fn(&Peer) -> bool) -> u64 {
        let peers = self.peers.iter().flatten().filter(|peer| of(peer));
        let lowest = peers.map(|peer| peer.progress[shard].acked).min();
        lowest.unwrap_or(self.streams[shard].next() - 1)
    }

    /// Segments of a stream that some live peer has not acknowledged.
    pub(super) fn in_flight(&self, shard: usize) -> u64 {
        let lowest = self.lowest_acknowledged(shard, |peer| peer.up);
        let stream = &self.streams[shard];
        stream.next() - 1 - lowest.max(stream.base() - 1)
    }

    /// Sends segments that never went out.
    pub(super) fn transmit(&mut self) {
        let live = self.live_peers().next().is_some();
        for shard in 0..self.streams.len() {
            let stream = &mut self.streams[shard];
            let base = stream.base();
            while stream.unsent < stream.next() && self.budget.segments > 0 {
                let number = stream.unsent;
                stream.unsent += 1;
                let Some(segment) = stream.segment_mut(number) else {
                    continue;
                };
                segment.first_sent = self.now;
                segment.last_sent = self.now;
                if live {
                    let body = frame::address_data(&segment.frame, None, base);
                    self.outbox.push_back(Output::Send { to: None, body });
                    self.counters.segments_sent += 1;
                    self.budget.segments -= 1;
                }
            }
            self.release_acknowledged(shard);
        }
    }

    /// Sends again what live peers miss, and tells those that miss what is held no more.
    pub(super) fn retransmit(&mut self) {
        for unit in UnitId::all() {
            let Some(mut peer) = self.peers[unit.index()].take() else {
                continue;
            };
            if peer.up {
                self.retransmit_to(unit, &mut peer);
            }
            self.peers[unit.index()] = Some(peer);
        }
    }

    fn retransmit_to(&mut self, unit: UnitId, peer: &mut Peer) {
        let (timeout, overtaken) = (peer.patience.timeout(), peer.patience.overtaken());
        let mut timed_out = false;
        let mut behind = Vec::new();
        for (shard, stream) in (0_u16..).zip(&mut self.streams) {
            let progress = peer.progress[usize::from(shard)];
            if progress.acked + 1 >= stream.unsent {
                continue;
            }
            let base = stream.base();
            if progress.acked + 1 < base && behind.len() < MAX_POSITIONS {
                let next = stream.next();
                behind.push(Position { shard, next, base });
            }
            let highest = progress.highest();
            for number in progress.missing(base..stream.unsent).take(RESEND) {
                let Some(segment) = stream.segment_mut(number) else {
                    break;
                };
                let passed = number + OVERTAKEN_BY <= highest;
                let patience = if passed { overtaken } else { timeout };
                if self.now < segment.last_sent + patience {
                    continue;
                }
                if self.budget.segments == 0 {
                    return;
                }
                timed_out |= !passed;
                segment.last_sent = self.now;
                let to = Some(unit);
                let body = frame::address_data(&segment.frame, to, base);
                self.outbox.push_back(Output::Send { to, body });
                self.counters.segments_resent += 1;
                self.budget.segments -= 1;
            }
        }
        if timed_out {
            peer.patience.back_off();
        }
        if !behind.is_empty() && self.now >= peer.tell {
            peer.tell = self.now + timeout;
            let to = Some(unit);
            let body = frame::positions(self.settings.boot, to, &behind);
            self.outbox.push_back(Output::Send { to, body });
            self.counters.positions_sent += 1;
        }
    }

    /// Takes in what a peer acknowledges of this unit's streams.
    pub(super) fn take_receipts(&mut self, from: UnitId, receipts: &Receipts<'_>) {
        let now = self.now;
        let Some(peer) = self.peers[from.index()].as_deref_mut() else {
            return;
        };
        for receipt in receipts.iter() {
            let shard = usize::from(receipt.shard);
            let Some(stream) = self.streams.get(shard) else {
                self.counters.acknowledgements_foreign += 1;
                continue;
            };
            let progress = &mut peer.progress[shard];
            if receipt.applied >= stream.unsent {
                self.counters.acknowledgements_foreign += 1;
                continue;
            }
            if receipt.applied < progress.acked {
                continue;
            }
            self.counters.acknowledgements_received += 1;
            if receipt.applied > progress.acked {
                peer.patience.relax();
                if let Some(segment) = stream.segment(receipt.applied)
                    && segment.first_sent == segment.last_sent
                {
                    peer.patience.sample(now.since(segment.first_sent));
                }
                peer.moved = now;
                progress.acked = receipt.applied;
                progress.waiting = receipt.waiting;
            } else {
                progress.waiting |= receipt.waiting;
            }
        }
        for receipt in receipts.iter() {
            if usize::from(receipt.shard) < self.streams.len() {
                self.release_acknowledged(usize::from(receipt.shard));
            }
        }
    }

    /// Sends acknowledgements of everything that is due.
    pub(super) fn acknowledge(&mut self) {
        let boot = self.settings.boot;
        for (unit, peer) in UnitId::all().zip(&mut self.peers) {
            let Some(peer) = peer.as_deref_mut().filter(|peer| peer.up) else {
                continue;
            };
            let mut receipts: Vec<Receipt> = Vec::new();
            for (shard, stream) in (0_u16..).zip(&mut peer.streams) {
                if std::mem::take(&mut stream.due) && stream.is_known() {
                    receipts.push(stream.receipt(shard));
                }
            }
            for part in receipts.chunks(MAX_RECEIPTS) {
                let body = frame::acknowledge(boot, unit, peer.boot, part);
                self.outbox.push_back(Output::Send { to: None, body });
                self.counters.acknowledgements_sent += 1;
            }
        }
    }

    /// When something has to be sent or sent again.
    pub(super) fn send_deadline(&self) -> Time {
        let mut deadline = Time::NEVER;
        for (_, peer) in self.live_peers() {
            let timeout = peer.patience.timeout();
            for (stream, progress) in self.streams.iter().zip(&peer.progress) {
                if progress.acked + 1 >= stream.next() {
                    continue;
                }
                if progress.acked + 1 < stream.base() {
                    deadline = deadline.min(peer.tell);
                }
                let first = progress.missing(stream.base()..stream.unsent).next();
                if let Some(segment) = first.and_then(|number| stream.segment(number)) {
                    deadline = deadline.min(segment.last_sent + timeout);
                }
            }
        }
        deadline
    }

    /// Forgets what a unit's earlier boot acknowledged.
    pub(super) fn forget_receipts_of(&mut self, unit: UnitId) {
        for peer in self.peers.iter_mut().flatten() {
            for stream in &mut peer.streams {
                stream.heard[unit.index()] = 0;
            }
        }
    }
}
