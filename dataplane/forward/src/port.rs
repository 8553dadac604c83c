//! Where a worker's packets come from and go to.
//!
//! [`PortIo`] is the seam between the worker and the outside: a pair of DPDK queues in production,
//! [`MemoryPort`] in tests. The worker is compiled for each, so the loop calls neither through a
//! pointer.

use dpdk::{Burst, Mbuf, RxQueue, TxQueue};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// One worker's share of a port.
pub trait PortIo {
    /// Adds frames that arrived to the burst, as many as fit; returns how many.
    fn receive(&mut self, burst: &mut Burst) -> usize;

    /// Sends frames from the front of the burst; returns how many. The unsent stay in it.
    fn transmit(&mut self, burst: &mut Burst) -> usize;
}

/// Queues of a DPDK port. A worker may have no receive queue on a port that has fewer of them than
/// there are workers, but needs a transmit queue on every one.
#[derive(Debug)]
pub struct QueuePair {
    /// Where frames come from.
    pub receive: Option<RxQueue>,
    /// Where frames go to.
    pub transmit: TxQueue,
}

impl PortIo for QueuePair {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.receive
            .as_mut()
            .map_or(0, |queue| queue.receive(burst))
    }

    fn transmit(&mut self, burst: &mut Burst) -> usize {
        self.transmit.transmit(burst)
    }
}

/// A port that a worker has no part in: a sync interface belongs to the control core.
impl<P: PortIo> PortIo for Option<P> {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.as_mut().map_or(0, |port| port.receive(burst))
    }

    fn transmit(&mut self, burst: &mut Burst) -> usize {
        self.as_mut().map_or(0, |port| port.transmit(burst))
    }
}

/// One end of a cable in memory.
#[derive(Debug)]
pub struct MemoryPort {
    incoming: Consumer<Mbuf>,
    outgoing: Producer<Mbuf>,
}

impl MemoryPort {
    /// Both ends of a cable that holds `depth` frames each way.
    #[must_use]
    pub fn pair(depth: usize) -> (Self, Self) {
        let (left, to_left) = RingBuffer::new(depth);
        let (right, to_right) = RingBuffer::new(depth);
        let near = Self {
            incoming: to_left,
            outgoing: right,
        };
        let far = Self {
            incoming: to_right,
            outgoing: left,
        };
        (near, far)
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// Gives the frame back when the cable holds no more.
    pub fn send(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.outgoing
            .push(mbuf)
            .map_err(|PushError::Full(mbuf)| mbuf)
    }

    /// The next frame that arrived.
    pub fn take(&mut self) -> Option<Mbuf> {
        self.incoming.pop().ok()
    }
}

impl PortIo for MemoryPort {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        while !burst.is_full()
            && let Ok(mbuf) = self.incoming.pop()
        {
            // There is room, so the burst gives nothing back.
            let _ = burst.push(mbuf);
        }
        burst.len() - before
    }

    fn transmit(&mut self, burst: &mut Burst) -> usize {
        let mut unsent = Burst::new();
        // Looked at once: frames leave in order even if the other end makes room meanwhile.
        let room = self.outgoing.slots().min(burst.len());
        for (position, mbuf) in burst.drain().enumerate() {
            if position >= room {
                // Both bursts are of one size, so the other has room.
                let _ = unsent.push(mbuf);
            } else if let Err(PushError::Full(mbuf)) = self.outgoing.push(mbuf) {
                let _ = unsent.push(mbuf);
            }
        }
        *burst = unsent;
        room
    }
}
