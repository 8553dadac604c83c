//! A bounded ring of packet buffers between threads: many producers, one consumer.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::{cell::Cell, ffi::c_uint};

use dpdk_sys::{rte_mbuf, rte_ring};

use crate::error::{c_name, describe, last};
use crate::{Burst, Eal, Error, Mbuf, log};

/// The ring itself. Freed, with what is left in it, when the last end is dropped.
#[derive(Debug)]
pub struct Ring(NonNull<rte_ring>);

// SAFETY: an rte_ring with several producers and one consumer is made for this; the type system
// keeps the consumer single: `Consumer` is neither `Clone` nor `Sync`, and pops through `&mut self`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// The end that puts buffers in. Clones feed the same ring.
#[derive(Clone, Debug)]
pub struct Producer(Arc<Ring>);

/// The end that takes buffers out: one per ring, used by one thread at a time.
#[derive(Debug)]
pub struct Consumer(Arc<Ring>, PhantomData<Cell<()>>);

impl Ring {
    /// A ring for `size` buffers.
    ///
    /// # Errors
    /// [`Error::Create`] when the name is taken or longer than 28 bytes, `size` is zero, or memory
    /// is short.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a ring is only ever seen by its two ends"
    )]
    pub fn new(_eal: &Eal, name: &str, size: u32) -> Result<(Producer, Consumer), Error> {
        const KIND: &str = "ring";
        let refused = |cause| Error::Create {
            kind: KIND,
            name: name.to_owned(),
            cause,
        };
        let c_name = c_name(KIND, name, 28)?;
        if size == 0 {
            return Err(refused(
                "a ring needs room for at least one buffer".to_owned(),
            ));
        }
        // SAFETY: EAL runs, as `_eal` shows; the name is a C string, copied by the call; constants.
        let (ring, _) = log::capture(|| unsafe {
            dpdk_sys::rte_ring_create(
                c_name.as_ptr(),
                size,
                dpdk_sys::tg_socket_any,
                dpdk_sys::tg_ring_flags,
            )
        });
        let Some(ring) = NonNull::new(ring) else {
            return Err(refused(describe(last())));
        };
        let ring = Arc::new(Self(ring));
        Ok((Producer(Arc::clone(&ring)), Consumer(ring, PhantomData)))
    }

    fn len(&self) -> usize {
        // SAFETY: the ring lives as long as `self`.
        unsafe { dpdk_sys::tg_ring_count(self.0.as_ptr()) as usize }
    }

    /// Adds what fits of the buffers at `first`; the ring owns as many as it answers.
    ///
    /// # Safety
    /// `first` points to `count` owned buffers.
    unsafe fn enqueue(&self, first: *const *mut rte_mbuf, count: usize) -> usize {
        let count = c_uint::try_from(count).unwrap_or(c_uint::MAX);
        // SAFETY: as the caller promises.
        unsafe { dpdk_sys::tg_ring_enqueue(self.0.as_ptr(), first, count) as usize }
    }

    /// Takes up to `count` buffers; the caller owns as many as it answers.
    ///
    /// # Safety
    /// `first` has room for `count` pointers, and no other thread takes from the ring.
    unsafe fn dequeue(&self, first: *mut *mut rte_mbuf, count: usize) -> usize {
        let count = c_uint::try_from(count).unwrap_or(c_uint::MAX);
        // SAFETY: as the caller promises.
        unsafe { dpdk_sys::tg_ring_dequeue(self.0.as_ptr(), first, count) as usize }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut left = Burst::new();
        loop {
            // SAFETY: nobody else has the ring any more.
            let count = unsafe { self.dequeue(left.room().as_mut_ptr().cast(), Burst::CAPACITY) };
            if count == 0 {
                break;
            }
            // SAFETY: the call filled `count` slots.
            unsafe { left.grow(count) };
            left.clear();
        }
        // SAFETY: the last end is gone.
        unsafe { dpdk_sys::rte_ring_free(self.0.as_ptr()) };
    }
}

impl Producer {
    /// Adds one buffer.
    ///
    /// # Errors
    /// Gives the buffer back when the ring is full.
    pub fn push(&self, mbuf: Mbuf) -> Result<(), Mbuf> {
        // SAFETY: `Mbuf` is one pointer, and `mbuf` is one buffer that we own.
        let sent = unsafe { self.0.enqueue((&raw const mbuf).cast(), 1) };
        if sent == 0 {
            return Err(mbuf);
        }
        std::mem::forget(mbuf); // The ring owns it now.
        Ok(())
    }

    /// Adds what fits, from the front of `burst`; the rest stays in it. Tells how many were added.
    pub fn push_burst(&self, burst: &mut Burst) -> usize {
        // SAFETY: `Mbuf` is one pointer, and the burst owns all that it holds.
        let sent = unsafe { self.0.enqueue(burst.as_ptr().cast(), burst.len()) };
        // SAFETY: the ring owns the first `sent` now.
        unsafe { burst.forget_front(sent) };
        sent
    }

    /// Buffers in the ring now; an estimate while others work.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the ring is empty now; an estimate while others work.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Consumer {
    /// Takes the oldest buffer.
    pub fn pop(&mut self) -> Option<Mbuf> {
        let mut mbuf = std::ptr::null_mut();
        // SAFETY: room for one; `&mut self` of the only consumer.
        unsafe { self.0.dequeue(&raw mut mbuf, 1) };
        // SAFETY: null when there was none, else ours alone.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Takes the oldest buffers, as many as there are and as `burst` has room for, and adds them to
    /// it. Tells how many.
    pub fn pop_burst(&mut self, burst: &mut Burst) -> usize {
        let room = burst.room();
        // SAFETY: `Mbuf` is one pointer; `&mut self` of the only consumer.
        let count = unsafe { self.0.dequeue(room.as_mut_ptr().cast(), room.len()) };
        // SAFETY: the call filled `count` slots.
        unsafe { burst.grow(count) };
        count
    }

    /// Buffers in the ring now; an estimate while others work.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the ring is empty now; an estimate while others work.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
