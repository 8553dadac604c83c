//! Frames on their way out, collected per port and sent as bursts.

use std::sync::Arc;

use dpdk::{Burst, Mbuf};

use crate::counters::{Drop, WorkerCounters};
use crate::gate::Gate;
use crate::interface::InterfaceId;
use crate::port::PortIo;

/// A worker's ports, by [`InterfaceId`].
pub(crate) struct Egress<P> {
    ports: Vec<Port<P>>,
    counters: Arc<WorkerCounters>,
    gate: Option<Gate>,
}

struct Port<P> {
    io: P,
    pending: Burst,
}

impl<P: PortIo> Egress<P> {
    pub(crate) fn new(ports: Vec<P>, counters: Arc<WorkerCounters>) -> Self {
        let pending = |io| Port {
            io,
            pending: Burst::new(),
        };
        Self {
            ports: ports.into_iter().map(pending).collect(),
            counters,
            gate: None,
        }
    }

    /// Sends from virtual stations only while the gate is open.
    pub(crate) fn set_gate(&mut self, gate: Gate) {
        self.gate = Some(gate);
    }

    /// How many ports there are.
    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }

    /// Takes what arrived at a port, and asks the memory for the frames.
    pub(crate) fn receive(&mut self, interface: InterfaceId, burst: &mut Burst) -> usize {
        let Some(port) = self.ports.get_mut(interface.index()) else {
            return 0;
        };
        let received = port.io.receive(burst);
        if received > 0 {
            let ask_and_measure = |mbuf: &Mbuf| {
                mbuf.prefetch();
                mbuf.len()
            };
            let bytes = burst.iter().map(ask_and_measure).sum();
            self.counters.received(interface, received, bytes);
        }
        received
    }

    /// Puts a frame on its way. False, and a counted drop, when there is no such port.
    #[inline(always)]
    pub(crate) fn send(&mut self, interface: InterfaceId, mbuf: Mbuf) -> bool {
        let Some(port) = self.ports.get_mut(interface.index()) else {
            self.counters.lose(Drop::NoInterface);
            return false;
        };
        if port.pending.is_full() {
            port.flush(interface, &self.counters, self.gate.as_ref());
        }
        // There is room now, so the burst gives nothing back.
        let _ = port.pending.push(mbuf);
        true
    }

    /// Sends everything that is on its way.
    pub(crate) fn flush(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            if !port.pending.is_empty() {
                let interface = InterfaceId(u8::try_from(index).unwrap_or(u8::MAX));
                port.flush(interface, &self.counters, self.gate.as_ref());
            }
        }
    }
}

impl<P: PortIo> Port<P> {
    /// Sends the pending frames, trying twice; what is left then is dropped.
    fn flush(&mut self, interface: InterfaceId, counters: &WorkerCounters, gate: Option<&Gate>) {
        if let Some(gate) = gate {
            let held_back = gate.hold_back(interface, &mut self.pending);
            counters.lose_many(Drop::NoLease, held_back);
        }
        let frames = self.pending.len();
        let bytes: usize = self.pending.iter().map(Mbuf::len).sum();
        let mut sent = self.io.transmit(&mut self.pending);
        if sent < frames {
            sent += self.io.transmit(&mut self.pending);
        }
        let unsent: usize = self.pending.iter().map(Mbuf::len).sum();
        counters.sent(interface, sent, bytes - unsent);
        if !self.pending.is_empty() {
            counters.lose_many(Drop::TransmitFull, self.pending.len());
            self.pending.clear();
        }
    }
}
