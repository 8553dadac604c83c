//! DPDK's hash table of 16-byte keys: what our session table is measured against.
//!
//! It is made as a gateway would make it: hashed with CRC-32, and with readers that take no lock
//! (`RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF`). With such readers a deleted key's slot is free again
//! only when the writer says that no reader looks at it any more; here `&mut self` says so.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys::rte_hash;

use crate::error::{c_name, describe, last};
use crate::{Eal, Error, log};

/// Bytes of a key.
const KEY_SIZE: u32 = 16;
const _: () = assert!(size_of::<HashKey>() == 16);
/// Keys that DPDK looks up at once, at the most.
const BURST: usize = 64;

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A key: sixteen bytes, compared and hashed as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(16))]
pub struct HashKey(pub [u8; 16]);

/// There is no room for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash table has no room for the key")]
pub struct Full;

/// A table of keys with a number each.
#[derive(Debug)]
pub struct Hash(NonNull<rte_hash>);

// SAFETY: the table is tied to no thread; what changes it takes `&mut self`.
unsafe impl Send for Hash {}

impl Hash {
    /// A table for `entries` keys. As it has two places of eight for each key, it may be full a
    /// little earlier.
    ///
    /// # Errors
    /// [`Error::Create`] when `entries` is below 8 or above 2³⁰, or memory is short.
    pub fn new(_eal: &Eal, entries: u32) -> Result<Self, Error> {
        const KIND: &str = "hash table";
        let name = format!("hash.{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let c_name = c_name(KIND, &name, 26)?;
        // SAFETY: EAL runs, as `_eal` shows; the name is a C string, copied by the call.
        let (hash, said) = log::capture(|| unsafe {
            dpdk_sys::tg_hash_create(c_name.as_ptr(), entries, KEY_SIZE)
        });
        let Some(hash) = NonNull::new(hash) else {
            let cause = if said.is_empty() {
                describe(last())
            } else {
                said
            };
            return Err(Error::Create {
                kind: KIND,
                name,
                cause,
            });
        };
        Ok(Self(hash))
    }

    /// Gives `key` the number `data`, in the place of one that it may have had.
    ///
    /// # Errors
    /// When there is no room.
    #[inline]
    pub fn insert(&mut self, key: &HashKey, data: usize) -> Result<(), Full> {
        let data = ptr::without_provenance_mut::<c_void>(data);
        // SAFETY: the table is ours; the key is as long as it expects, and copied. The number is
        // handed back as it is and never followed.
        match unsafe { dpdk_sys::rte_hash_add_key_data(self.0.as_ptr(), pointer(key), data) } {
            0 => Ok(()),
            _ => Err(Full),
        }
    }

    /// Takes `key` out. False when it was not there.
    #[inline]
    pub fn remove(&mut self, key: &HashKey) -> bool {
        // SAFETY: the table is ours; the key is as long as it expects.
        let position = unsafe { dpdk_sys::rte_hash_del_key(self.0.as_ptr(), pointer(key)) };
        if position < 0 {
            return false;
        }
        // SAFETY: the position was given by the call above, and `&mut self` excludes readers.
        unsafe { dpdk_sys::rte_hash_free_key_with_position(self.0.as_ptr(), position) == 0 }
    }

    /// The number of `key`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: &HashKey) -> Option<usize> {
        let mut data = ptr::null_mut();
        // SAFETY: the key is as long as the table expects; `data` is written only by the call.
        let position =
            unsafe { dpdk_sys::rte_hash_lookup_data(self.0.as_ptr(), pointer(key), &raw mut data) };
        (position >= 0).then(|| data.addr())
    }

    /// The numbers of `keys`, 64 at the most, at the same places in `data`. Answers with a bit for
    /// each key that was found; of the others `data` keeps what it had.
    ///
    /// # Panics
    /// When there are more than 64 keys, or `data` is shorter.
    #[inline]
    pub fn lookup_burst(&self, keys: &[HashKey], data: &mut [usize]) -> u64 {
        assert!(keys.len() <= BURST && data.len() >= keys.len());
        if keys.is_empty() {
            return 0;
        }
        let mut pointers = [ptr::null(); BURST];
        for (to, key) in pointers.iter_mut().zip(keys) {
            *to = pointer(key);
        }
        let count = u32::try_from(keys.len()).unwrap_or(0);
        let mut hits = 0;
        // SAFETY: `count` pointers to keys of the right length and room for as many numbers, which
        // the table never follows; a `usize` is as wide as the pointer that is written over it.
        unsafe {
            dpdk_sys::rte_hash_lookup_bulk_data(
                self.0.as_ptr(),
                pointers.as_mut_ptr(),
                count,
                &raw mut hits,
                data.as_mut_ptr().cast(),
            );
        }
        hits
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: nobody else has the table.
        unsafe { dpdk_sys::rte_hash_free(self.0.as_ptr()) };
    }
}

fn pointer(key: &HashKey) -> *const c_void {
    ptr::from_ref(key).cast()
}
