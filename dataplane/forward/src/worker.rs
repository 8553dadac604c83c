//! One worker: one core, one shard of the session table, one queue of every port.
//!
//! ```text
//!  receive ─▶ parse ─▶ look up ─▶ (assign) ─┬─▶ track ─▶ route ─▶ translate ─▶ transmit
//!     ▲                              │      └─▶ admit ──▲
//!  other workers                 other units   (a miss)
//! ```
//!
//! Parsing a packet begins its look-up, and while the packets that have a session are sent, one after the
//! other, the memory brings the sessions of those behind them. Admission goes through what is left of the
//! burst. So cache misses are in flight together, and while there is work to do. A plain packet
//! ([`packet::plain`]) of a session takes a way of its own through the stages: its session knows the
//! translation, and remembers where it went before. Everything else, and every first packet, goes the
//! general way.
//!
//! Owned and called by one thread. A turn neither allocates, locks, logs, reads a clock nor makes a
//! system call that the ports beneath do not make; each of its parts is bounded. Every buffer that
//! comes in is transmitted, handed to another core, or dropped under a counted reason.
//!
//! Routing comes before translation because an ICMP error quotes the packet as its sender sent it
//! (RFC 1812 section 4.3.2.3), and whether the packet fits is known when its way out is.

use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use session::{Reader, Shard, Tick};

use crate::batch::Batch;
use crate::counters::{Drop, Event, WorkerCounters};
use crate::egress::Egress;
use crate::gate::Gate;
use crate::interface::InterfaceId;
use crate::limiter::{Evictions, TokenBucket};
use crate::nat::PortChooser;
use crate::neighbours::Neighbours;
use crate::picker::Picker;
use crate::port::PortIo;
use crate::publish::{Published, Subscription};
use crate::reassembly::Datagrams;
use crate::rings::{PuntReason, Punted, WorkerRings};
use crate::snapshot::Snapshot;
use crate::ways::Ways;

mod admit;
mod answer;
mod assign;
mod classify;
mod decision;
mod enter;
mod forward;
mod handover;
mod newcomer;
mod opening;
mod table;

use handover::Handover;

pub use table::{COMMANDS_AT_ONCE, prefetch_commands};

/// Frames that the control core may inject per turn.
const INJECTED_PER_TURN: usize = 64;
/// Changes of other cores to the shard per turn.
const COMMANDS_PER_TURN: usize = 64;
/// Timers looked at per turn.
const TIMERS_PER_TURN: usize = 64;

/// The time of a turn, read by the caller once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of a monotonic clock.
    pub nanos: u64,
    /// The same moment in the session table's time.
    pub tick: Tick,
}

/// What a worker is made of. Everything is allocated by now.
pub struct WorkerParts<P> {
    /// Number of the worker: its shard, its reader and its rings have the same.
    pub index: u16,
    /// Its share of every port, by [`InterfaceId`].
    pub ports: Vec<P>,
    /// Where buffers for its own packets come from.
    pub pool: Mempool,
    /// The sessions that are its own.
    pub shard: Shard,
    /// Readers of all workers' shards, its own included, by number.
    pub readers: Vec<Reader>,
    /// Its ends of the rings.
    pub rings: WorkerRings,
    /// Configuration and duty.
    pub snapshot: Published<Snapshot>,
    /// Resolved neighbours.
    pub neighbours: Published<Neighbours>,
    /// Its counters.
    pub counters: Arc<WorkerCounters>,
}

/// A worker. See the module's head.
pub struct Worker<P> {
    snapshot: Subscription<Snapshot>,
    neighbours: Subscription<Neighbours>,
    /// Addresses of what the ways of the last turn went by.
    seen: (usize, usize),
    core: Core<P>,
}

/// Everything of a worker but what it reads from the control core.
struct Core<P> {
    index: u16,
    egress: Egress<P>,
    pool: Mempool,
    shard: Shard,
    readers: Vec<Reader>,
    rings: WorkerRings,
    counters: Arc<WorkerCounters>,
    chooser: PortChooser,
    picker: Picker,
    replies: TokenBucket,
    evictions: Evictions,
    datagrams: Datagrams,
    handover: Handover,
    ways: Ways,
    /// Tick of the last turn that finished its ageing.
    aged: Tick,
    burst: Burst,
    batch: Batch,
}

/// What one turn goes by.
#[derive(Clone, Copy)]
struct Scene<'a> {
    snapshot: &'a Snapshot,
    neighbours: &'a Neighbours,
    now: Now,
}

/// Where the packets of a burst come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Port,
    Worker,
}

impl<P: PortIo> Worker<P> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: WorkerParts<P>) -> Self {
        Self {
            snapshot: Subscription::new(parts.snapshot),
            neighbours: Subscription::new(parts.neighbours),
            seen: (0, 0),
            core: Core {
                index: parts.index,
                egress: Egress::new(parts.ports, Arc::clone(&parts.counters)),
                pool: parts.pool,
                shard: parts.shard,
                readers: parts.readers,
                rings: parts.rings,
                counters: parts.counters,
                chooser: PortChooser::default(),
                picker: Picker::new(parts.index),
                replies: TokenBucket::default(),
                evictions: Evictions::default(),
                datagrams: Datagrams::new(),
                handover: Handover::new(),
                ways: Ways::new(),
                aged: Tick(0),
                burst: Burst::new(),
                batch: Batch::new(),
            },
        }
    }

    /// The same worker, sending from virtual stations only while the gate is open.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.core.egress.set_gate(gate);
        self
    }

    /// Does everything that is there to do now, within bounds. Returns how much that was, packets and changes
    /// that other cores want: the caller may idle after a turn without any.
    pub fn turn(&mut self, now: Now) -> usize {
        let scene = Scene {
            snapshot: self.snapshot.load(),
            neighbours: self.neighbours.load(),
            now,
        };
        // What is subscribed to stays alive until it is replaced, so another value is elsewhere.
        let seen = (
            scene.snapshot.ways_by(),
            std::ptr::from_ref(scene.neighbours).addr(),
        );
        if seen != self.seen {
            if seen.0 != self.seen.0 {
                self.core.ways.begin_epoch();
                self.core.change_duty(&scene);
            }
            self.core
                .ways
                .look_up_again(scene.snapshot, scene.neighbours);
            self.seen = seen;
        }
        self.core.turn(&scene)
    }

    /// Sessions in this worker's shard.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.core.shard
    }
}

impl<P: PortIo> Core<P> {
    fn turn(&mut self, scene: &Scene<'_>) -> usize {
        self.counters.happened(Event::Turns);
        self.evictions.begin_turn();
        let mut done = self.send_injected() + self.obey_commands(scene);
        self.age(scene);
        if self.handover.is_active() {
            done += self.let_go(scene);
        }
        done += self.take_over(scene);
        for index in 0..self.egress.len() {
            let interface = InterfaceId(u8::try_from(index).unwrap_or(u8::MAX));
            done += self.receive(scene, interface);
        }
        self.egress.flush();
        done
    }

    /// One burst of a port.
    fn receive(&mut self, scene: &Scene<'_>, interface: InterfaceId) -> usize {
        let received = self.egress.receive(interface, &mut self.burst);
        // An idle gateway does nothing but this: moving the burst costs more than looking.
        if received == 0 {
            return 0;
        }
        let mut burst = std::mem::take(&mut self.burst);
        let attachment = scene.snapshot.attachment(interface);
        let first = burst.iter().next().map(Mbuf::data);
        if let (Some(attachment), Some(first)) = (attachment, first)
            && attachment.is_to_virtual(first)
        {
            self.counters.came_to_virtual(interface);
        }
        if self.handover.is_active() {
            self.receive_in_handover(scene, interface, &mut burst);
            self.burst = burst;
            return received;
        }
        self.parse(scene, Origin::Port, interface, burst.drain());
        self.burst = burst;
        self.run(scene, Origin::Port);
        received
    }

    /// A burst of packets that other workers handed over.
    fn take_over(&mut self, scene: &Scene<'_>) -> usize {
        let mut packets = 0;
        for worker in 0..self.rings.from_workers.len() {
            let mut taken = 0;
            while taken < Burst::CAPACITY
                && let Ok(handed) = self.rings.from_workers[worker].pop()
            {
                let frame = std::iter::once(handed.mbuf);
                self.parse(scene, Origin::Worker, handed.ingress, frame);
                taken += 1;
            }
            if taken > 0 {
                self.counters.add(Event::TakenOver, taken);
                self.run(scene, Origin::Worker);
            }
            packets += taken;
        }
        packets
    }

    /// The stages that a parsed burst goes through.
    fn run(&mut self, scene: &Scene<'_>, origin: Origin) {
        self.counters.happened(Event::Bursts);
        let mut left = self.batch.positions();
        if scene.snapshot.sharing().is_active() {
            self.look_up();
            self.assign(scene);
        } else {
            self.forward_known(scene);
            left = self.batch.misses;
        }
        if self.batch.misses != 0 {
            self.admit(scene, origin);
        }
        if left != 0 {
            self.forward(scene, left);
        }
        self.batch.clear();
    }

    /// Sends what the control core wants sent, before anything else: heartbeats are among it.
    fn send_injected(&mut self) -> usize {
        let mut frames = 0;
        while frames < INJECTED_PER_TURN
            && let Ok(injected) = self.rings.inject.pop()
        {
            frames += 1;
            if self.egress.send(injected.interface, injected.mbuf) {
                self.counters.happened(Event::Injected);
            }
        }
        if frames > 0 {
            self.egress.flush();
        }
        frames
    }

    /// Gives a packet to the control core. What anybody can send leaves room in the ring for what
    /// the cluster lives by: a flood must not look like the death of a unit.
    fn punt(&mut self, reason: PuntReason, interface: InterfaceId, mbuf: Mbuf) {
        let capacity = self.rings.punt.buffer().capacity();
        let (event, reserved) = match reason {
            PuntReason::Heartbeat => (Event::PuntedHeartbeat, 0),
            PuntReason::Arp => (Event::PuntedArp, capacity / 4),
            PuntReason::Local => (Event::PuntedLocal, capacity / 2),
            PuntReason::NeighbourMissing { .. } => (Event::PuntedNeighbour, capacity / 2),
            PuntReason::Unconfirmed { .. } => (Event::PuntedUnconfirmed, capacity / 2),
        };
        if self.rings.punt.slots() <= reserved {
            self.counters.lose(Drop::PuntFull);
            return;
        }
        let punted = Punted {
            reason,
            interface,
            mbuf,
        };
        match self.rings.punt.push(punted) {
            Ok(()) => self.counters.happened(event),
            Err(_full) => self.counters.lose(Drop::PuntFull),
        }
    }
}

/// A worker is made by the control core and moved to its own thread.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::QueuePair;

    #[test]
    fn a_worker_can_be_moved_to_its_thread() {
        fn moves<T: Send>() -> usize {
            size_of::<T>()
        }
        assert!(moves::<Worker<QueuePair>>() > 0);
    }
}
