//! One packet buffer.
//!
//! Invariant: an [`Mbuf`] is a single segment with one owner, and `data_off + data_len <= buf_len`.
//! [`RxQueue`](crate::RxQueue) and [`Mempool`](crate::Mempool) establish it; everything here keeps it.

use std::fmt;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;

/// A packet buffer with one frame: one pointer, owned. Dropping it gives it back to its pool.
///
/// It may be sent to another thread, but not shared between two.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: the buffer has one owner, and pools take buffers back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `mbuf` is a single-segment buffer that nobody else owns.
    pub(crate) unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    fn raw(&self) -> &rte_mbuf {
        // SAFETY: we own it, and `&self` keeps writers out.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: we own it, and `&mut self` keeps everybody else out.
        unsafe { self.0.as_mut() }
    }

    fn set_len(&mut self, len: u16) {
        let raw = self.raw_mut();
        raw.data_len = len;
        raw.pkt_len = u32::from(len);
    }

    /// Length of the frame in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.raw().data_len)
    }

    /// Whether the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let raw = self.raw();
        // SAFETY: data_off + data_len <= buf_len, and all of a pool's memory is initialised.
        unsafe {
            let start = raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off));
            std::slice::from_raw_parts(start, usize::from(raw.data_len))
        }
    }

    /// The frame, to be changed in place.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: as in `data`, and `&mut self` keeps everybody else out.
        unsafe {
            let start = raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off));
            std::slice::from_raw_parts_mut(start, usize::from(raw.data_len))
        }
    }

    /// Asks for the first cache line of the frame, which will be read soon.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let raw = self.raw();
            let start = raw.buf_addr.cast::<i8>();
            // SAFETY: a prefetch reads nothing that the program could see and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(usize::from(raw.data_off))) };
        }
    }

    /// Bytes that [`Mbuf::append`] could add.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let raw = self.raw();
        usize::from(raw.buf_len) - usize::from(raw.data_off) - usize::from(raw.data_len)
    }

    /// Makes the frame `count` bytes longer at its end and returns them; their content is whatever
    /// the buffer held. `None`, and no change, when there is no room.
    #[must_use]
    pub fn append(&mut self, count: usize) -> Option<&mut [u8]> {
        if count > self.tailroom() {
            return None;
        }
        let before = self.len();
        self.set_len(u16::try_from(before + count).ok()?);
        Some(&mut self.data_mut()[before..])
    }

    /// Cuts `count` bytes off the end. False, and no change, when the frame is shorter.
    #[must_use]
    pub fn trim(&mut self, count: usize) -> bool {
        let Some(len) = self
            .len()
            .checked_sub(count)
            .and_then(|len| u16::try_from(len).ok())
        else {
            return false;
        };
        self.set_len(len);
        true
    }

    /// Empties the buffer and forgets what a port said about the frame.
    pub fn clear(&mut self) {
        // SAFETY: a constant.
        let headroom = unsafe { dpdk_sys::tg_mbuf_headroom };
        let raw = self.raw_mut();
        raw.data_off = headroom.min(raw.buf_len);
        raw.ol_flags = 0;
        self.set_len(0);
    }

    /// Makes `frame` the content. False, and an empty buffer, when it is too long.
    #[must_use]
    pub fn copy_from_slice(&mut self, frame: &[u8]) -> bool {
        self.clear();
        match self.append(frame.len()) {
            Some(data) => {
                data.copy_from_slice(frame);
                true
            }
            None => false,
        }
    }

    /// The DPDK number of the port on which it arrived ([`Port::number`](crate::Port::number)).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.raw().port
    }

    /// The VLAN tag (TCI) that the device took off the frame, when it did.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        // SAFETY: a constant.
        let flag = unsafe { dpdk_sys::tg_mbuf_rx_vlan_stripped };
        let raw = self.raw();
        (raw.ol_flags & flag != 0).then_some(raw.vlan_tci)
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: we own it, and do not touch it again.
        unsafe { dpdk_sys::tg_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes from port {})", self.len(), self.port())
    }
}
