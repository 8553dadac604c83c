//! Cache lines in DPDK's memory, for what is measured against it.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use crate::error::{describe, last};
use crate::{Eal, Error};

/// One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u64; 8]);

/// An array of cache lines, zero at first, of the same memory as DPDK's own tables.
#[derive(Debug)]
pub struct Lines {
    start: NonNull<Line>,
    count: usize,
}

// SAFETY: the memory is this value's alone and tied to no thread.
unsafe impl Send for Lines {}

impl Lines {
    /// `count` lines.
    ///
    /// # Errors
    /// [`Error::Create`] when `count` is zero or memory is short.
    pub fn new(_eal: &Eal, count: usize) -> Result<Self, Error> {
        let refused = |cause| Error::Create {
            kind: "array",
            name: format!("of {count} lines"),
            cause,
        };
        let bytes = count.saturating_mul(size_of::<Line>());
        // SAFETY: EAL runs, as `_eal` shows; a static C string, and a constant.
        let start = unsafe {
            dpdk_sys::rte_zmalloc_socket(c"lines".as_ptr(), bytes, 64, dpdk_sys::tg_socket_any)
        };
        match NonNull::new(start.cast::<Line>()) {
            Some(start) => Ok(Self { start, count }),
            None => Err(refused(describe(last()))),
        }
    }

    /// Asks for a line before it is needed.
    ///
    /// # Panics
    /// When there is no such line.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = std::ptr::from_ref(&self[index]).cast::<i8>();
            // SAFETY: a prefetch reads nothing that the program could see and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = &self[index];
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: `count` lines, aligned and zeroed by `new`, ours until the drop.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as above, and `&mut self` excludes every other access.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; the borrows have ended.
        unsafe { dpdk_sys::rte_free(self.start.as_ptr().cast()) };
    }
}

/// Bytes that are allocated in DPDK's memory, by whomever.
#[must_use]
pub fn heap_allocated(_eal: &Eal) -> u64 {
    // SAFETY: EAL runs, as `_eal` shows; reads statistics under DPDK's lock.
    unsafe { dpdk_sys::tg_heap_allocated() }
}
