//! The queues of a port. Each belongs to one thread at a time: its methods take `&mut self`, and it
//! can be sent but not shared.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dpdk_sys::rte_mbuf;

use crate::Burst;
use crate::port::Opened;

/// Where frames arrive. The port stays open as long as one of its queues lives.
#[derive(Debug)]
pub struct RxQueue {
    port: Arc<Opened>,
    queue: u16,
    not_sync: PhantomData<Cell<()>>,
}

/// Where frames are sent. The port stays open as long as one of its queues lives.
#[derive(Debug)]
pub struct TxQueue {
    port: Arc<Opened>,
    queue: u16,
    not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(crate) fn new(port: Arc<Opened>, queue: u16) -> Self {
        Self {
            port,
            queue,
            not_sync: PhantomData,
        }
    }

    /// Adds the frames that have arrived to `burst`, as many as it has room for. Tells how many.
    ///
    /// A frame that its driver spread over several buffers is copied into the first. If it is longer
    /// than that, it is dropped and counted
    /// ([`Statistics::rx_too_long`](crate::Statistics::rx_too_long)).
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let room = burst.room();
        let first = room.as_mut_ptr().cast::<*mut rte_mbuf>();
        let wanted = u16::try_from(room.len()).unwrap_or(u16::MAX);
        // SAFETY: the port is open and started, the queue ours; `first` has room for `wanted`.
        let received =
            unsafe { dpdk_sys::tg_rx_burst(self.port.number, self.queue, first, wanted) };
        let received = usize::from(received);
        // SAFETY: the driver filled `received` slots with buffers that are ours alone.
        let kept = unsafe { self.join_segments(first, received) };
        // SAFETY: the first `kept` slots hold single-segment buffers.
        unsafe { burst.grow(kept) };
        kept
    }

    /// Makes every buffer a single segment, drops those that cannot be, closes the gaps, and tells
    /// how many are left.
    ///
    /// # Safety
    /// `first` points to `count` owned buffers.
    unsafe fn join_segments(&self, first: *mut *mut rte_mbuf, count: usize) -> usize {
        // Nearly always all of them are, which takes one branch to tell.
        let others = (0..count).fold(0, |others, index| {
            // SAFETY: index < count, and the buffer is owned.
            others | unsafe { (**first.add(index)).nb_segs ^ 1 }
        });
        if others == 0 {
            return count;
        }
        let mut kept = 0;
        for index in 0..count {
            // SAFETY: index < count.
            let mbuf = unsafe { *first.add(index) };
            // SAFETY: an owned buffer.
            let single = unsafe { (*mbuf).nb_segs == 1 } || unsafe { self.join(mbuf) };
            if single {
                // SAFETY: kept <= index < count.
                unsafe { ptr::write(first.add(kept), mbuf) };
                kept += 1;
            }
        }
        kept
    }

    /// Copies the segments of `mbuf` into the first, or frees it. Tells which.
    ///
    /// # Safety
    /// `mbuf` is an owned buffer.
    #[cold]
    unsafe fn join(&self, mbuf: *mut rte_mbuf) -> bool {
        // SAFETY: as the caller promises; it is freed once, and not used afterwards.
        unsafe {
            let joined = dpdk_sys::tg_mbuf_linearize(mbuf) == 0;
            if !joined {
                dpdk_sys::tg_mbuf_free(mbuf);
                self.port.too_long.fetch_add(1, Ordering::Relaxed);
            }
            joined
        }
    }
}

impl TxQueue {
    pub(crate) fn new(port: Arc<Opened>, queue: u16) -> Self {
        Self {
            port,
            queue,
            not_sync: PhantomData,
        }
    }

    /// Sends what the device takes, from the front of `burst`; the unsent stay in it, in order.
    /// Tells how many were sent.
    pub fn transmit(&mut self, burst: &mut Burst) -> usize {
        let first = burst.as_mut_ptr().cast::<*mut rte_mbuf>();
        let count = u16::try_from(burst.len()).unwrap_or(u16::MAX);
        // SAFETY: the port is open and started, the queue ours; `first` points to `count` buffers.
        let sent = unsafe { dpdk_sys::tg_tx_burst(self.port.number, self.queue, first, count) };
        // SAFETY: the driver owns the first `sent` now.
        unsafe { burst.forget_front(usize::from(sent)) };
        usize::from(sent)
    }
}
