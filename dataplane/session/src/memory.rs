//! Memory of the table, prefetching and the comparison of tags: the only module with `unsafe`.
//!
//! [`Array`] is a zeroed anonymous mapping, in huge pages where they are asked for and to be had,
//! faulted in when it is made, so that no worker ever takes a page fault on it.

#![expect(
    unsafe_code,
    reason = "mappings, prefetch instructions and vector comparison have no safe interface"
)]

use std::ops::{Deref, DerefMut};

/// Which pages to ask the kernel for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Ordinary pages.
    #[default]
    Plain,
    /// Reserved huge pages; where there are none, transparent ones; else ordinary pages.
    Huge,
}

/// Which pages a table got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backing {
    /// Ordinary pages.
    Plain,
    /// Ordinary pages that the kernel was advised to merge into huge ones.
    Transparent,
    /// Reserved huge pages.
    Huge,
}

/// The kernel did not give the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes of session table")]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

#[cfg(not(loom))]
mod mapping {
    use std::ffi::c_void;
    use std::ptr::{self, NonNull};

    use rustix::mm::{self, Advice, MapFlags, ProtFlags};

    use super::{Backing, Memory, OutOfMemory};

    /// Bytes of a huge page, and of the smallest mapping that is worth one.
    const HUGE_PAGE: usize = 2 << 20;
    /// Bytes of an ordinary page.
    const PAGE: usize = 4 << 10;

    /// A private anonymous mapping, zeroed, readable and writable, unmapped on drop.
    pub(super) struct Mapping {
        start: NonNull<c_void>,
        bytes: usize,
        pub(super) backing: Backing,
    }

    // SAFETY: the mapping belongs to this value alone and has no tie to the thread that made it.
    unsafe impl Send for Mapping {}
    // SAFETY: a shared `Mapping` gives out its address only; what lies there is shared under the
    // rules of the element type, which `Array` demands to be `Sync`.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub(super) fn new(bytes: usize, memory: Memory) -> Result<Self, OutOfMemory> {
            let huge = memory == Memory::Huge && bytes >= HUGE_PAGE;
            let reserved = bytes.next_multiple_of(HUGE_PAGE);
            let mut mapping = match huge.then(|| map(reserved, MapFlags::HUGETLB)).flatten() {
                Some(start) => Self {
                    start,
                    bytes: reserved,
                    backing: Backing::Huge,
                },
                None => {
                    let bytes = bytes.next_multiple_of(if huge { HUGE_PAGE } else { PAGE });
                    let start = map(bytes, MapFlags::empty()).ok_or(OutOfMemory { bytes })?;
                    Self {
                        start,
                        bytes,
                        backing: Backing::Plain,
                    }
                }
            };
            if huge && mapping.backing == Backing::Plain && mapping.advise(Advice::LinuxHugepage) {
                mapping.backing = Backing::Transparent;
            }
            mapping.populate();
            Ok(mapping)
        }

        pub(super) fn start(&self) -> NonNull<c_void> {
            self.start
        }

        /// Faults every page in.
        fn populate(&mut self) {
            if !self.advise(Advice::LinuxPopulateWrite) {
                // SAFETY: the mapping is `bytes` long, writable, and `&mut self` with no `Array`
                // made of it yet excludes every other access.
                unsafe { ptr::write_bytes(self.start.as_ptr().cast::<u8>(), 0, self.bytes) };
            }
        }

        fn advise(&mut self, advice: Advice) -> bool {
            // SAFETY: the range is exactly our own mapping, and neither advice that is used here
            // changes its contents.
            unsafe { mm::madvise(self.start.as_ptr(), self.bytes, advice) }.is_ok()
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the range is exactly our own mapping, and the borrows that `Array` gave out
            // have ended. A failure would only leak.
            let _ = unsafe { mm::munmap(self.start.as_ptr(), self.bytes) };
        }
    }

    fn map(bytes: usize, flags: MapFlags) -> Option<NonNull<c_void>> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                bytes,
                protection,
                MapFlags::PRIVATE | flags,
            )
        };
        NonNull::new(start.ok()?)
    }
}

/// An element that may start its life as zeroed memory.
#[cfg(not(loom))]
pub(crate) trait Element: zerocopy::FromZeros + Sync + Send {}
#[cfg(not(loom))]
impl<T: zerocopy::FromZeros + Sync + Send> Element for T {}

/// A slice of fixed length that lives in its own mapping, zeroed at first.
#[cfg(not(loom))]
pub(crate) struct Array<T> {
    mapping: mapping::Mapping,
    len: usize,
    elements: std::marker::PhantomData<[T]>,
}

#[cfg(not(loom))]
impl<T: Element> Array<T> {
    /// # Errors
    /// When the kernel refuses the mapping.
    pub(crate) fn new(len: usize, memory: Memory) -> Result<Self, OutOfMemory> {
        const { assert!(align_of::<T>() <= 4096 && !std::mem::needs_drop::<T>()) };
        let bytes = len
            .checked_mul(size_of::<T>())
            .filter(|&b| b <= isize::MAX as usize / 2);
        let bytes = bytes.ok_or(OutOfMemory { bytes: usize::MAX })?.max(1);
        let mapping = mapping::Mapping::new(bytes, memory)?;
        Ok(Self {
            mapping,
            len,
            elements: std::marker::PhantomData,
        })
    }

    pub(crate) fn backing(&self) -> Backing {
        self.mapping.backing
    }
}

#[cfg(not(loom))]
impl<T: Element> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, which `new` asserts to be enough for `T`, at least
        // `len * size_of::<T>()` bytes long (checked there), and lives as long as `self`. All-zero
        // bytes are a valid `T` (`FromZeros`), and through shared references nothing but the atomics
        // inside `T` can change.
        unsafe { std::slice::from_raw_parts(self.mapping.start().cast::<T>().as_ptr(), self.len) }
    }
}

#[cfg(not(loom))]
impl<T: Element> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = self.mapping.start().cast::<T>().as_ptr();
        // SAFETY: as in `deref`; and `&mut self` makes this the only reference into the mapping.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

/// An element of the models' arrays: loom's atomics live on the heap.
#[cfg(loom)]
pub(crate) trait Element: Default {}
#[cfg(loom)]
impl<T: Default> Element for T {}

/// A slice of fixed length.
#[cfg(loom)]
pub(crate) struct Array<T>(Box<[T]>);

#[cfg(loom)]
impl<T: Element> Array<T> {
    pub(crate) fn new(len: usize, _: Memory) -> Result<Self, OutOfMemory> {
        Ok(Self((0..len).map(|_| T::default()).collect()))
    }

    pub(crate) fn backing(&self) -> Backing {
        Backing::Plain
    }
}

#[cfg(loom)]
impl<T: Element> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(loom)]
impl<T: Element> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for the cache line in which `target` begins.
#[inline]
pub fn prefetch<T>(target: &T) {
    prefetch_line(std::slice::from_ref(target), 0);
}

/// Asks for the cache line that is `line` lines behind the one in which `array` begins. There may be no
/// such line: then nothing happens.
#[inline]
pub(crate) fn prefetch_line<T>(array: &[T], line: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = array.as_ptr().cast::<i8>().wrapping_add(line * LINE);
        // SAFETY: a prefetch reads nothing that the program could see and never faults, wherever the
        // address leads.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (array, line);
}

/// Which of eight 16-bit lanes equal `tag`: bits `2i` and `2i + 1` stand for lane `i`, four to a word.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn matching_lanes(words: [u64; 2], tag: u16) -> u32 {
    use core::arch::x86_64::{_mm_cmpeq_epi16, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi16};
    // SAFETY: SSE2 is part of x86_64, and the intrinsics work on values alone.
    let mask = unsafe {
        let lanes = _mm_set_epi64x(words[1].cast_signed(), words[0].cast_signed());
        _mm_movemask_epi8(_mm_cmpeq_epi16(lanes, _mm_set1_epi16(tag.cast_signed())))
    };
    mask.cast_unsigned()
}

/// Which of eight 16-bit lanes equal `tag`: bits `2i` and `2i + 1` stand for lane `i`, four to a word.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn matching_lanes(words: [u64; 2], tag: u16) -> u32 {
    matching_lanes_portable(words, tag)
}

/// [`matching_lanes`] in ordinary arithmetic.
#[cfg(any(all(test, not(loom)), not(target_arch = "x86_64")))]
fn matching_lanes_portable(words: [u64; 2], tag: u16) -> u32 {
    let lanes = words.into_iter().flat_map(|word| {
        let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
        [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
    });
    lanes.zip(0..8).fold(0, |mask, (lane, i)| {
        mask | if lane == tag { 3 << (2 * i) } else { 0 }
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays_are_zeroed_and_of_the_length_asked_for() {
        for memory in [Memory::Plain, Memory::Huge] {
            for len in [0, 1, 511, 513, 600_000] {
                let array = Array::<AtomicU64>::new(len, memory).unwrap();
                assert_eq!(array.len(), len);
                assert!(array.iter().all(|word| word.load(Ordering::Relaxed) == 0));
                if let Some(last) = array.last() {
                    last.store(7, Ordering::Relaxed);
                    assert_eq!(array[len - 1].load(Ordering::Relaxed), 7);
                }
                if memory == Memory::Plain {
                    assert_eq!(array.backing(), Backing::Plain);
                }
            }
        }
    }

    #[test]
    fn an_impossible_size_is_refused() {
        assert!(Array::<AtomicU64>::new(usize::MAX / 4, Memory::Plain).is_err());
        assert!(Array::<AtomicU64>::new(1 << 58, Memory::Huge).is_err());
    }

    proptest! {
        #[test]
        fn lanes_agree_with_a_plain_loop(mut lanes: [u16; 8], tag: u16, equal: u8) {
            for (i, lane) in lanes.iter_mut().enumerate() {
                if equal >> i & 1 == 1 {
                    *lane = tag;
                }
            }
            let expected = (0..8).filter(|&i| lanes[i] == tag).fold(0, |mask, i| mask | 3 << (2 * i));
            let word = |half: &[u16]| {
                half.iter().rev().fold(0, |word, &lane| word << 16 | u64::from(lane))
            };
            let words = [word(&lanes[..4]), word(&lanes[4..])];
            prop_assert_eq!(matching_lanes(words, tag), expected);
            prop_assert_eq!(matching_lanes_portable(words, tag), expected);
        }
    }
}
