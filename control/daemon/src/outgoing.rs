//! The control core's way out: its own queues on sync interfaces, the first worker elsewhere.

use dpdk::{Burst, Mbuf, Mempool, RxQueue, TxQueue};
use forward::{Injected, InterfaceId};
use rtrb::Producer;

use crate::counters::OutgoingCounters;
use crate::host::Outlet;

/// The queues of a sync interface, which nobody else touches.
pub(crate) struct SyncQueues {
    pub(crate) receive: RxQueue,
    transmit: TxQueue,
    /// What goes out with the next flush.
    burst: Burst,
}

impl SyncQueues {
    /// Sends what was gathered; returns how many frames found no room.
    fn flush(&mut self) -> usize {
        self.transmit.transmit(&mut self.burst);
        let unsent = self.burst.len();
        self.burst.clear();
        unsent
    }
}

/// Where the control core's frames leave.
pub(crate) struct Outgoing {
    pool: Mempool,
    /// To the first worker, which has a queue on every traffic interface.
    inject: Producer<Injected>,
    /// By interface; none where workers have the queues.
    pub(crate) sync: Vec<Option<SyncQueues>>,
    /// Sync interfaces have frames to flush.
    gathered: bool,
    pub(crate) counters: OutgoingCounters,
}

impl Outgoing {
    pub(crate) fn new(
        pool: Mempool,
        inject: Producer<Injected>,
        sync: Vec<Option<(RxQueue, TxQueue)>>,
    ) -> Self {
        let queues = |(receive, transmit)| SyncQueues {
            receive,
            transmit,
            burst: Burst::new(),
        };
        Self {
            pool,
            inject,
            sync: sync.into_iter().map(|pair| pair.map(queues)).collect(),
            gathered: false,
            counters: OutgoingCounters::default(),
        }
    }

    /// A buffer with a copy of a frame.
    pub(crate) fn buffer(&mut self, frame: &[u8]) -> Option<Mbuf> {
        let buffer = self.pool.allocate().and_then(|mut mbuf| {
            mbuf.append(frame.len())?.copy_from_slice(frame);
            Some(mbuf)
        });
        self.counters.control_no_buffers += u64::from(buffer.is_none());
        buffer
    }

    /// Sends what was gathered for sync interfaces: one call of a driver, which for most of those is a system
    /// call, for all of it.
    pub(crate) fn flush(&mut self) {
        if !std::mem::take(&mut self.gathered) {
            return;
        }
        for queues in self.sync.iter_mut().flatten() {
            if !queues.burst.is_empty() {
                self.counters.control_transmit_full += queues.flush() as u64;
            }
        }
    }

    /// Sends a frame that is given in pieces; on a sync interface with the next flush.
    pub(crate) fn send_pieces(&mut self, interface: InterfaceId, pieces: &[&[u8]]) {
        let Some(mut mbuf) = self.pool.allocate() else {
            self.counters.control_no_buffers += 1;
            return;
        };
        for piece in pieces {
            match mbuf.append(piece.len()) {
                Some(room) => room.copy_from_slice(piece),
                None => {
                    self.counters.control_no_buffers += 1;
                    return;
                }
            }
        }
        self.forward(interface, mbuf);
    }
}

impl Outlet for Outgoing {
    fn send(&mut self, interface: InterfaceId, frame: &[u8]) {
        self.send_pieces(interface, &[frame]);
    }

    fn forward(&mut self, interface: InterfaceId, mbuf: Mbuf) {
        if let Some(Some(queues)) = self.sync.get_mut(interface.index()) {
            // A full burst is flushed at once, so the frame fits.
            let _ = queues.burst.push(mbuf);
            self.gathered = true;
            if queues.burst.is_full() {
                self.flush();
            }
        } else if self.inject.push(Injected { interface, mbuf }).is_err() {
            self.counters.control_inject_full += 1;
        }
    }
}
