//! The gate before the virtual stations: without the lease of the witness no frame leaves from them.
//!
//! The control core moves the end of the [`Lease`] on with each renewal; each worker looks before it
//! gives a burst to a device. It looks at a clock of its own and not at the time of its turn: a process
//! that is stopped (SIGSTOP, a debugger) in the middle of a turn goes on there when it wakes, and the
//! monotonic clock went on meanwhile. What can still leave is the one burst that a device was being given
//! at that moment.
//!
//! Only a unit with a witness has a gate. Its cost is one reading of the clock per burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::{Burst, Mbuf};
use packet::Mac;

use crate::interface::InterfaceId;

/// Until when this unit may send from its virtual stations, in nanoseconds of the workers' clock. Written
/// by the control core, read by all workers.
#[derive(Debug, Default)]
pub struct Lease(AtomicU64);

impl Lease {
    /// No lease: nothing may be sent.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Moves the end, forwards or back.
    pub fn set_end(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Release);
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What a worker asks before it sends.
pub struct Gate {
    lease: Arc<Lease>,
    clock: Box<dyn Fn() -> u64 + Send>,
    /// By interface.
    stations: Box<[Option<Mac>]>,
}

impl Gate {
    /// The gate before `stations`, the virtual ones by interface. The clock is the one that the end of the
    /// lease is told in; it must not make a system call.
    #[must_use]
    pub fn new(
        lease: Arc<Lease>,
        clock: impl Fn() -> u64 + Send + 'static,
        stations: impl IntoIterator<Item = Option<Mac>>,
    ) -> Self {
        Self {
            lease,
            clock: Box::new(clock),
            stations: stations.into_iter().collect(),
        }
    }

    /// Takes frames out that may not leave by this interface now; returns how many.
    #[inline]
    pub(crate) fn hold_back(&self, interface: InterfaceId, frames: &mut Burst) -> usize {
        if (self.clock)() < self.lease.end() {
            return 0;
        }
        match self.stations.get(interface.index()) {
            Some(Some(station)) => take_out(*station, frames),
            _ => 0,
        }
    }
}

/// Takes the frames of one source out.
#[cold]
fn take_out(source: Mac, frames: &mut Burst) -> usize {
    let before = frames.len();
    let mut rest = Burst::new();
    for mbuf in frames.drain() {
        if !is_from(&mbuf, source) {
            // Both bursts are of one size, so the other has room.
            let _ = rest.push(mbuf);
        }
    }
    *frames = rest;
    before - frames.len()
}

fn is_from(mbuf: &Mbuf, source: Mac) -> bool {
    mbuf.data().get(6..12) == Some(&source.0[..])
}
