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
}

/// Where the control core's frames leave.
pub(crate) struct Outgoing {
    pool: Mempool,
    /// To the first worker, which has a queue on every traffic interface.
    inject: Producer<Injected>,
    /// By interface; none where workers have the queues.
    pub(crate) sync: Vec<Option<SyncQueues>>,
    burst: Burst,
    pub(crate) counters: OutgoingCounters,
}

impl Outgoing {
    pub(crate) fn new(
        pool: Mempool,
        inject: Producer<Injected>,
        sync: Vec<Option<(RxQueue, TxQueue)>>,
    ) -> Self {
        let queues = |(receive, transmit)| SyncQueues { receive, transmit };
        Self {
            pool,
            inject,
            sync: sync.into_iter().map(|pair| pair.map(queues)).collect(),
            burst: Burst::new(),
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

    /// Sends a frame that is given in pieces.
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
            // The burst is empty between calls, so the frame fits.
            let _ = self.burst.push(mbuf);
            if queues.transmit.transmit(&mut self.burst) == 0 {
                self.counters.control_transmit_full += 1;
                self.burst.clear();
            }
        } else if self.inject.push(Injected { interface, mbuf }).is_err() {
            self.counters.control_inject_full += 1;
        }
    }
}
