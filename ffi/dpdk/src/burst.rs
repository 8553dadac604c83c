//! Up to [`Burst::CAPACITY`] packet buffers that travel together.

use std::ffi::c_uint;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::{fmt, ptr, slice};

use dpdk_sys::rte_mbuf;

use crate::Mbuf;

/// Packet buffers in order of arrival, owned. Dropping it frees them all at once.
///
/// Derefs to a slice of [`Mbuf`]s.
///
/// Invariant: the first `len` slots are initialised, no other is read.
pub struct Burst {
    slots: [MaybeUninit<Mbuf>; Self::CAPACITY],
    len: usize,
}

impl Burst {
    /// How many buffers a burst can hold.
    pub const CAPACITY: usize = 64;

    /// An empty burst.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: [const { MaybeUninit::uninit() }; Self::CAPACITY],
            len: 0,
        }
    }

    /// Whether no further buffer fits.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        // As `push` asks, so that who asked before is not asked again.
        self.len >= Self::CAPACITY
    }

    /// Adds a buffer at the end.
    ///
    /// # Errors
    /// Gives the buffer back when the burst is full.
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.slots.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes the last buffer.
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot was initialised, and is beyond `len` from now on.
        Some(unsafe { self.slots[self.len].assume_init_read() })
    }

    /// Takes all buffers, in order. Those that the iterator has not given out when it is dropped are
    /// freed.
    pub fn drain(&mut self) -> Drain<'_> {
        let end = std::mem::take(&mut self.len);
        Drain(self.slots[..end].iter_mut())
    }

    /// Frees all buffers.
    pub fn clear(&mut self) {
        let len = std::mem::take(&mut self.len);
        free(&mut self.slots[..len]);
    }

    /// The slots that are free.
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        &mut self.slots[self.len..]
    }

    /// # Safety
    /// The first `count` slots of [`Burst::room`] were initialised.
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        debug_assert!(self.len + count <= Self::CAPACITY);
        self.len += count;
    }

    /// Forgets the first `count` buffers, which have got another owner, and closes the gap.
    ///
    /// # Safety
    /// `count` is at most the length, and the caller gave those buffers away.
    pub(crate) unsafe fn forget_front(&mut self, count: usize) {
        debug_assert!(count <= self.len);
        let rest = self.len - count;
        if count > 0 && rest > 0 {
            let first = self.slots.as_mut_ptr();
            // SAFETY: both ranges lie within the first `len` slots.
            unsafe { ptr::copy(first.add(count), first, rest) };
        }
        self.len = rest;
    }
}

/// Frees the buffers of `slots`, all of which are initialised and must not be read afterwards.
fn free(slots: &mut [MaybeUninit<Mbuf>]) {
    let first = slots.as_mut_ptr().cast::<*mut rte_mbuf>();
    // A burst is far shorter than that; were it not, leaking would be the safe thing.
    let count = c_uint::try_from(slots.len()).unwrap_or(0);
    // SAFETY: `Mbuf` is one pointer; the private callers give up all of these buffers.
    unsafe { dpdk_sys::rte_pktmbuf_free_bulk(first, count) };
}

impl Deref for Burst {
    type Target = [Mbuf];

    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Burst {
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The buffers of a [`Burst`], by value.
///
/// Invariant: all slots that are left are initialised, and belong to nobody else.
#[derive(Debug)]
pub struct Drain<'a>(slice::IterMut<'a, MaybeUninit<Mbuf>>);

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    fn next(&mut self) -> Option<Mbuf> {
        let slot = self.0.next()?;
        // SAFETY: it is initialised, and not among those that are left any more.
        Some(unsafe { slot.assume_init_read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        free(std::mem::take(&mut self.0).into_slice());
    }
}
