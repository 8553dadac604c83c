//! Pools of packet buffers.

use std::ffi::c_uint;
use std::ptr::NonNull;

use dpdk_sys::{rte_mbuf, rte_mempool};

use crate::error::{c_name, describe, last};
use crate::{Burst, Eal, Error, Mbuf, log};

/// Buffers kept aside per registered thread, so that allocating and freeing touch no shared line.
const CACHE: u32 = 256;

/// A fixed number of buffers, allocated and freed by any thread. Clones share the buffers.
///
/// A pool is never given back before the process ends, like every memory that is sized at start: so
/// an [`Mbuf`] need not count references to its pool.
#[derive(Clone, Debug)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    data_room: u16,
}

// SAFETY: DPDK's mempools are made for concurrent use; the pool is never freed.
unsafe impl Send for Mempool {}
// SAFETY: as above; every call through `&self` is one of the multi-producer, multi-consumer ones.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// A pool of `buffers` buffers, each with room for a frame of `data_room` bytes (the headroom
    /// before it comes on top).
    ///
    /// # Errors
    /// [`Error::Create`] when the name is taken or longer than 25 bytes, `buffers` is zero,
    /// `data_room` does not fit, or memory is short.
    pub fn new(_eal: &Eal, name: &str, buffers: u32, data_room: u16) -> Result<Self, Error> {
        const KIND: &str = "packet buffer pool";
        let refused = |cause| Error::Create {
            kind: KIND,
            name: name.to_owned(),
            cause,
        };
        let c_name = c_name(KIND, name, 25)?;
        if buffers == 0 {
            return Err(refused("a pool needs at least one buffer".to_owned()));
        }
        // SAFETY: two constants.
        let (headroom, socket) = unsafe { (dpdk_sys::tg_mbuf_headroom, dpdk_sys::tg_socket_any) };
        let Some(room) = data_room.checked_add(headroom) else {
            return Err(refused(format!(
                "buffers of {data_room} bytes are too large"
            )));
        };
        // DPDK wants 1.5 caches' worth of buffers at the least; small pools go without.
        let cache = if buffers >= 8 * CACHE { CACHE } else { 0 };
        // SAFETY: EAL runs, as `_eal` shows; the name is a C string, copied by the call.
        let (pool, _) = log::capture(|| unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), buffers, cache, 0, room, socket)
        });
        let Some(pool) = NonNull::new(pool) else {
            let cause = describe(last());
            return Err(refused(format!(
                "{buffers} buffers of {room} bytes: {cause}"
            )));
        };
        Ok(Self { pool, data_room })
    }

    /// An empty buffer, or `None` when the pool has none left.
    #[must_use]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the process.
        let mbuf = unsafe { dpdk_sys::tg_mbuf_alloc(self.pool.as_ptr()) };
        // SAFETY: a fresh buffer, ours alone.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Adds `count` empty buffers to `burst`: all of them, or none when the pool or the burst lacks
    /// the room. Tells whether it did.
    #[must_use]
    pub fn allocate_burst(&self, burst: &mut Burst, count: usize) -> bool {
        let room = burst.room();
        if count > room.len() {
            return false;
        }
        let first = room.as_mut_ptr().cast::<*mut rte_mbuf>();
        let wanted = c_uint::try_from(count).unwrap_or(0); // A burst is far shorter than that.
        // SAFETY: `first` has room for `count` pointers; on success all were written.
        let status = unsafe { dpdk_sys::tg_mbuf_alloc_bulk(self.pool.as_ptr(), first, wanted) };
        if status != 0 {
            return false;
        }
        // SAFETY: the call filled `count` slots with buffers that are ours alone.
        unsafe { burst.grow(count) };
        true
    }

    /// Room for a frame in each buffer, in bytes.
    #[must_use]
    pub fn data_room(&self) -> usize {
        usize::from(self.data_room)
    }

    /// Buffers that are in use now, those in the receive queues of ports included. An estimate, slow.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as the process.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.pool.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}
