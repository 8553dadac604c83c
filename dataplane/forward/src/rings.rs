//! The rings between workers and the control core, and from worker to worker.
//!
//! All are bounded and have one producer and one consumer. A full ring is a normal event: the
//! packet is dropped and counted, or, for changes of sessions, the range is marked for repair.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::Mbuf;
use packet::Tuple;
use rtrb::{Consumer, Producer, RingBuffer};
use session::{Session, SessionId, Timeouts, Version};

use crate::interface::InterfaceId;

/// Why a packet goes to the control core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PuntReason {
    /// ARP, whatever it says.
    Arp,
    /// A frame of the heartbeats' EtherType.
    Heartbeat,
    /// For one of the gateway's own addresses.
    Local,
    /// Ready to leave but for the neighbour's Ethernet address: only the frame's destination is
    /// missing.
    NeighbourMissing {
        /// Interface that it is to leave by.
        interface: InterfaceId,
        /// Neighbour to ask for.
        next_hop: Ipv4Addr,
    },
    /// The first packet of a session that a peer has to hold before anything of it leaves. Ready to leave,
    /// but perhaps for the frame's destination, which is zero then.
    Unconfirmed {
        /// Interface that it is to leave by.
        interface: InterfaceId,
        /// Neighbour that it is to leave to.
        next_hop: Ipv4Addr,
        /// Version of the change that tells of the session, which is in the ring before the packet is;
        /// nothing if it found no room.
        version: Option<Version>,
    },
}

/// A packet for the control core.
#[derive(Debug)]
pub struct Punted {
    /// Why.
    pub reason: PuntReason,
    /// Interface that it came in by.
    pub interface: InterfaceId,
    /// The frame.
    pub mbuf: Mbuf,
}

/// A frame that the control core wants sent as it is.
#[derive(Debug)]
pub struct Injected {
    /// Interface to send it by.
    pub interface: InterfaceId,
    /// The frame.
    pub mbuf: Mbuf,
}

/// A packet on its way to the worker that it belongs to.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) ingress: InterfaceId,
    pub(crate) mbuf: Mbuf,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaKind {
    /// It is new: the state is in the table.
    Begin,
    /// It has changed: the state is in the table.
    Upsert,
    /// It is gone.
    Remove,
}

/// Notice of a change to a session, sent after the table changed. Small: the control core reads the
/// session itself when it gets to it, so many changes cost one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaNotice {
    /// What happened.
    pub kind: DeltaKind,
    /// Tuple of the original direction.
    pub tuple: Tuple,
    /// Slot in this worker's shard; it may hold another session by the time it is read.
    pub id: SessionId,
    /// Version of the change.
    pub version: Version,
}

/// A change to a worker's shard, or to how it ages, that somebody else wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCommand {
    /// Another unit's state of a session, and the ticks that it has left.
    Apply(Session, u32),
    /// Another unit removed the session with this original tuple at this version.
    Retract(Tuple, Version),
    /// The session with this original tuple is this unit's, and another has another state of its version:
    /// all have to hear of it in a newer one.
    Restate(Tuple),
    /// An operator wants the session gone that either tuple of which is this.
    Clear(Tuple),
    /// The configuration has other idle times. A session's next packet that changes its state, or
    /// its next timer, applies them: a longer time holds for every session, a shorter one for those
    /// that are there already within the horizon of the timing wheel, fourteen minutes.
    Timeouts(Timeouts),
}

/// The ranges of sessions whose changes found a full ring, one bit each.
#[derive(Debug)]
pub struct DirtyRanges {
    words: [AtomicU64; 4],
    range_of: fn(&Tuple) -> u8,
}

impl DirtyRanges {
    /// None. `range_of` is the cluster's own division of sessions, by the original tuple.
    #[must_use]
    pub fn new(range_of: fn(&Tuple) -> u8) -> Self {
        Self {
            words: [const { AtomicU64::new(0) }; 4],
            range_of,
        }
    }

    /// Marks the range of a session.
    pub(crate) fn mark(&self, original: &Tuple) {
        let range = (self.range_of)(original);
        self.words[usize::from(range >> 6)].fetch_or(1 << (range & 63), Ordering::Release);
    }

    /// Takes all marks away and returns them, range 0 in the lowest bit of the first word.
    #[must_use]
    pub fn take(&self) -> [u64; 4] {
        std::array::from_fn(|word| {
            // A plain load first: nearly always there is nothing to take.
            match self.words[word].load(Ordering::Relaxed) {
                0 => 0,
                _ => self.words[word].swap(0, Ordering::Acquire),
            }
        })
    }
}

/// How many items each ring holds, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Packets to the control core. A quarter is kept for heartbeats, another for ARP.
    pub punt: usize,
    /// Packets from the control core.
    pub inject: usize,
    /// Changes of sessions to the control core.
    pub deltas: usize,
    /// Changes of sessions from the control core.
    pub commands: usize,
    /// Packets from each other worker.
    pub handover: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            punt: 1_024,
            inject: 1_024,
            deltas: 16_384,
            commands: 4_096,
            handover: 1_024,
        }
    }
}

/// A worker's ends.
#[derive(Debug)]
pub struct WorkerRings {
    pub(crate) punt: Producer<Punted>,
    pub(crate) inject: Consumer<Injected>,
    pub(crate) deltas: Producer<DeltaNotice>,
    pub(crate) commands: Consumer<TableCommand>,
    pub(crate) dirty: Arc<DirtyRanges>,
    /// To each worker by its number; nothing to itself.
    pub(crate) to_workers: Vec<Option<Producer<Handed>>>,
    /// From each other worker.
    pub(crate) from_workers: Vec<Consumer<Handed>>,
}

/// The control core's ends of one worker's rings.
#[derive(Debug)]
pub struct ControlRings {
    /// Packets from the worker.
    pub punted: Consumer<Punted>,
    /// Packets to the worker.
    pub inject: Producer<Injected>,
    /// Changes of the worker's sessions.
    pub deltas: Consumer<DeltaNotice>,
    /// Changes that the worker is to make.
    pub commands: Producer<TableCommand>,
    /// What did not fit into `deltas`.
    pub dirty: Arc<DirtyRanges>,
}

/// Makes all rings of a unit: for each worker, its ends and the control core's.
#[must_use]
pub fn connect(
    workers: u16,
    sizes: RingSizes,
    range_of: fn(&Tuple) -> u8,
) -> (Vec<WorkerRings>, Vec<ControlRings>) {
    let (mut ours, control): (Vec<_>, Vec<_>) = (0..workers)
        .map(|_| pair_with_control(sizes, range_of))
        .unzip();
    for from in 0..ours.len() {
        for to in 0..ours.len() {
            let producer = (from != to).then(|| {
                let (producer, consumer) = RingBuffer::new(sizes.handover);
                ours[to].from_workers.push(consumer);
                producer
            });
            ours[from].to_workers.push(producer);
        }
    }
    (ours, control)
}

fn pair_with_control(sizes: RingSizes, range_of: fn(&Tuple) -> u8) -> (WorkerRings, ControlRings) {
    let (punt, punted) = RingBuffer::new(sizes.punt);
    let (injector, inject) = RingBuffer::new(sizes.inject);
    let (delta, deltas) = RingBuffer::new(sizes.deltas);
    let (commander, commands) = RingBuffer::new(sizes.commands);
    let dirty = Arc::new(DirtyRanges::new(range_of));
    let worker = WorkerRings {
        punt,
        inject,
        deltas: delta,
        commands,
        dirty: Arc::clone(&dirty),
        to_workers: Vec::new(),
        from_workers: Vec::new(),
    };
    let control = ControlRings {
        punted,
        inject: injector,
        deltas,
        commands: commander,
        dirty,
    };
    (worker, control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once() {
        let dirty = DirtyRanges::new(|tuple| tuple.protocol);
        let tuple = |protocol| Tuple {
            protocol,
            ..Tuple::default()
        };
        for range in [0, 63, 64, 255, 255] {
            dirty.mark(&tuple(range));
        }
        assert_eq!(dirty.take(), [1 | 1 << 63, 1, 0, 1 << 63]);
        assert_eq!(dirty.take(), [0; 4]);
    }

    #[test]
    fn every_worker_reaches_every_other() {
        let (workers, control) = connect(3, RingSizes::default(), |_| 0);
        assert_eq!((workers.len(), control.len()), (3, 3));
        for (index, worker) in workers.iter().enumerate() {
            assert_eq!(worker.from_workers.len(), 2);
            for (to, producer) in worker.to_workers.iter().enumerate() {
                assert_eq!(producer.is_none(), to == index);
            }
        }
    }
}
