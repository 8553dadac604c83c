//! What comes in: links, frames, packets of the workers, changes of sessions.

use arrayvec::ArrayVec;
use cluster::envelope::{Header, Kind};
use cluster::{Load, RangeSet, Time};
use dpdk::Mbuf;
use forward::{DeltaKind, DeltaNotice, InterfaceId, PuntReason};

use packet::Mac;
use session::Version;

use super::{Control, WORKER_PATIENCE};
use crate::clock::tick;
use crate::conflicts::Conflict;
use crate::host::Outlet;
use crate::startup::ETHERNET_HEADER;
use crate::strangers::Place;
use crate::withheld::Leaving;
use api::EventLevel;

/// Packets of one worker per turn.
const PUNTED_PER_TURN: usize = 256;
/// Changes of sessions per turn.
const DELTAS_PER_TURN: usize = 4_096;
/// Of these, how many are read from the table at once, with their memory asked for ahead.
const DELTAS_AT_ONCE: usize = 32;
/// Bursts of one sync interface per turn.
const BURSTS_PER_TURN: usize = 16;
/// So many changes of other units may wait for a worker before frames with more of them have to wait.
const DEFERRED_MAX: usize = 65_536;
/// So many frames wait, as many as peers send before they hear that some have come; more are dropped, and sent
/// again by their senders.
const POSTPONED_MAX: usize = 1_024;
/// How many of them are taken in per turn.
const POSTPONED_PER_TURN: usize = 128;

/// Whether a frame on a sync interface is of the kind that peers send many of.
fn tells_of_sessions(frame: &[u8]) -> bool {
    let payload = frame.get(ETHERNET_HEADER..).unwrap_or_default();
    Header::decode(payload).is_ok_and(|header| header.kind == Kind::Sync)
}

impl Control {
    pub(super) fn take_carriers(&mut self, now: Time) {
        while let Ok(change) = self.carriers.try_recv() {
            self.link_changed(change.interface, change.up, now);
        }
    }

    /// An interface gained or lost its carrier.
    pub(super) fn link_changed(&mut self, index: usize, up: bool, now: Time) {
        let Some(interface) = self.interfaces.get_mut(index) else {
            return;
        };
        if interface.up == up {
            return;
        }
        interface.up = up;
        if let Some(link) = interface.link {
            self.node.handle_link(link, up, now);
        }
        let name = &self.config.interfaces[index].name;
        let (level, message) = if up {
            (EventLevel::Info, format!("interface {name}: link up"))
        } else {
            (EventLevel::Warning, format!("interface {name}: link down"))
        };
        self.events.record(now, level, "link", message);
        if !up && let Ok(id) = u8::try_from(index) {
            self.host.resolver.flush(InterfaceId(id));
        }
    }

    /// Takes in what came by sync interfaces. While a worker has fallen behind, frames with changes of sessions
    /// wait, and nothing else does: a unit that is busy copying hears its peers all the same.
    pub(super) fn take_sync_frames(&mut self, now: Time) {
        let mut workers = self.workers.iter();
        let behind = workers.any(|worker| worker.deferred.len() > DEFERRED_MAX);
        if !behind {
            for _ in 0..POSTPONED_PER_TURN {
                let Some((interface, mbuf)) = self.postponed.pop_front() else {
                    break;
                };
                self.take_sync_frame(interface, mbuf.data(), now);
            }
        }
        let in_order = !behind && self.postponed.is_empty();
        for interface in 0..self.outgoing.sync.len() {
            for _ in 0..BURSTS_PER_TURN {
                let Some(queues) = &mut self.outgoing.sync[interface] else {
                    break;
                };
                let mut received = std::mem::take(&mut self.received);
                let count = queues.receive.receive(&mut received);
                for mbuf in received.drain() {
                    if in_order || !tells_of_sessions(mbuf.data()) {
                        self.take_sync_frame(interface, mbuf.data(), now);
                    } else {
                        self.postpone(interface, mbuf);
                    }
                }
                self.received = received;
                if count == 0 {
                    break;
                }
            }
        }
    }

    fn postpone(&mut self, interface: usize, mbuf: Mbuf) {
        if self.postponed.len() < POSTPONED_MAX {
            self.counters.sync_frames_postponed += 1;
            self.postponed.push_back((interface, mbuf));
        } else {
            self.counters.sync_frames_dropped += 1;
        }
    }

    /// A frame that came by a sync interface.
    fn take_sync_frame(&mut self, interface: usize, frame: &[u8], now: Time) {
        let ether_type = self.config.cluster.ether_type.to_be_bytes();
        match frame.split_at_checked(ETHERNET_HEADER) {
            Some((header, _)) if header[12..] == ether_type => {
                self.take_cluster_frame(interface, frame, now);
            }
            _ => self.counters.sync_interface_strangers += 1,
        }
    }

    pub(super) fn take_punted(&mut self, now: Time) {
        let snapshot = self.snapshot.current();
        for index in 0..self.workers.len() {
            for _ in 0..PUNTED_PER_TURN {
                let Ok(punted) = self.workers[index].punted.pop() else {
                    break;
                };
                if punted.reason == PuntReason::Heartbeat {
                    self.take_cluster_frame(punted.interface.index(), punted.mbuf.data(), now);
                    continue;
                }
                if let PuntReason::Unconfirmed {
                    interface,
                    next_hop,
                    version,
                } = punted.reason
                {
                    let mbuf = punted.mbuf;
                    let packet = Leaving {
                        interface,
                        next_hop,
                        mbuf,
                    };
                    self.withhold(index, packet, version, now);
                    continue;
                }
                self.hear_monitors(&punted, now);
                let conflict = self.host.handle(
                    punted,
                    &snapshot,
                    tick(now),
                    &mut self.counters,
                    &mut self.outgoing,
                );
                if let Some(conflict) = conflict {
                    self.tell_conflict(&conflict, now);
                }
            }
        }
    }

    fn tell_conflict(&mut self, conflict: &Conflict, now: Time) {
        if !self.conflicts.is_news(conflict, now) {
            return;
        }
        let name = &self.config.interfaces[conflict.interface.index()].name;
        let message = format!(
            "interface {name}: {} is also used by {}; give one of them another address",
            conflict.address, conflict.station
        );
        self.events
            .record(now, EventLevel::Error, "address_conflict", message);
    }

    /// A frame of the cluster.
    fn take_cluster_frame(&mut self, interface: usize, frame: &[u8], now: Time) {
        let side = self.interfaces.get(interface);
        let link = side.and_then(|side| side.link);
        let (Some(link), Some(payload)) = (link, frame.get(ETHERNET_HEADER..)) else {
            return;
        };
        if let Some(reason) = self.node.handle_frame(link, payload, now) {
            let place = Place {
                interface: &self.config.interfaces[interface].name,
                cluster: self.config.cluster.id,
            };
            self.strangers
                .meet(reason, frame, &place, now, &mut self.events);
        }
    }

    /// Has a first packet wait until a peer has its session.
    fn withhold(&mut self, worker: usize, packet: Leaving, change: Option<Version>, now: Time) {
        let shard = u16::try_from(worker).unwrap_or(u16::MAX);
        let until = now + self.config.cluster.acked_timeout;
        let (node, counters) = (&self.node, &mut self.counters);
        let back = self
            .withheld
            .hold(packet, (shard, change), until, node, counters);
        if let Some(packet) = back {
            self.let_go(packet, now);
        }
    }

    /// Sends the first packets whose sessions a peer has by now.
    pub(super) fn release_withheld(&mut self, now: Time) {
        let workers = &self.workers;
        let read = |shard: u16| {
            workers
                .get(usize::from(shard))
                .map_or(Version(0), |worker| worker.read)
        };
        let released = self
            .withheld
            .release(now, &self.node, read, &mut self.counters);
        for packet in released {
            self.let_go(packet, now);
        }
    }

    fn let_go(&mut self, packet: Leaving, now: Time) {
        let Leaving {
            interface,
            next_hop,
            mbuf,
        } = packet;
        if mbuf.data().starts_with(&Mac::ZERO.0) {
            self.host
                .resolver
                .wait(interface, next_hop, mbuf, tick(now));
        } else {
            self.outgoing.forward(interface, mbuf);
        }
    }

    /// Hands the workers' changes to the peers' streams, as far as these have room: what waits in a
    /// ring is merged there with what comes later, and a ring that overflows is repaired.
    pub(super) fn take_deltas(&mut self, now: Time) {
        for (shard, worker) in (0..).zip(&mut self.workers) {
            let mut room = self.node.sync_room().min(DELTAS_PER_TURN);
            let mut batch = ArrayVec::<DeltaNotice, DELTAS_AT_ONCE>::new();
            while room > 0 {
                while batch.len() < room.min(DELTAS_AT_ONCE)
                    && let Ok(notice) = worker.deltas.pop()
                {
                    self.table.prefetch(shard, notice.id);
                    batch.push(notice);
                }
                if batch.is_empty() {
                    break;
                }
                room -= batch.len();
                for notice in batch.drain(..) {
                    if notice.kind != DeltaKind::Remove {
                        worker.read = worker.read.max(notice.version);
                    }
                    match self.table.change(shard, &notice) {
                        Some(delta) if notice.kind == DeltaKind::Begin => {
                            self.node.push_born(shard, delta, notice.version, now);
                        }
                        Some(delta) => self.node.push(shard, delta, now),
                        None => {}
                    }
                }
            }
            let dirty = worker.dirty.take();
            if dirty != [0; 4] {
                self.node.overflowed(RangeSet::from_words(dirty));
            }
        }
    }

    pub(super) fn watch_workers(&mut self, now: Time) {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let turns = worker.counters.turns();
            if turns != worker.turns {
                worker.turns = turns;
                worker.turned = now;
            }
            let stalled = turns == 0 || now.since(worker.turned) > WORKER_PATIENCE;
            if stalled && !worker.stalled {
                self.counters.worker_stalls += 1;
                let message = format!("worker {index} has stopped turning");
                self.events
                    .record(now, EventLevel::Error, "worker", message);
            }
            worker.stalled = stalled;
        }
        let alive = self.workers.iter().all(|worker| !worker.stalled);
        self.node.handle_workers(alive, now);
    }

    /// What need not be looked at in every turn.
    pub(super) fn keep_house(&mut self, now: Time) {
        self.announce_until_heard(now);
        for index in 0..self.interfaces.len() {
            let interface = &self.interfaces[index];
            if !interface.watched
                && let Ok(link) = interface.port.link()
            {
                self.link_changed(index, link.up, now);
            }
        }
        let packets = self.packets_received();
        let (before, forwarded) = std::mem::replace(&mut self.forwarded, (now, packets));
        let elapsed = now.since(before).as_millis().max(1);
        let rate = u128::from(packets.saturating_sub(forwarded)) * 1_000 / elapsed;
        self.node.handle_load(
            Load {
                sessions: u32::try_from(self.table.len()).unwrap_or(u32::MAX),
                owned: u32::try_from(self.owned()).unwrap_or(u32::MAX),
                capacity: u32::try_from(self.table.capacity()).unwrap_or(u32::MAX),
                packets_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
                busy_permille: 0,
            },
            now,
        );
    }

    fn packets_received(&self) -> u64 {
        let interfaces = (0..).map(InterfaceId).take(self.interfaces.len());
        interfaces
            .flat_map(|id| {
                self.workers
                    .iter()
                    .map(move |worker| worker.counters.traffic(id))
            })
            .map(|traffic| traffic.rx_packets)
            .sum()
    }
}
