//! Raw bindings to the installed libdpdk, plus a C shim for its static inlines.
//!
//! Declarations only: what they mean is in DPDK's own documentation, who may call them is decided in
//! the crate `dpdk`, the only user. Names that begin with `rte_` are DPDK's, those with `tg_` are the
//! shim's (`shim/shim.h`). No structure of DPDK is laid out here except [`rte_mbuf`], whose offsets
//! `shim.c` checks against the installed headers.

#![allow(unsafe_code, reason = "declarations of foreign functions")]
#![allow(
    non_camel_case_types,
    reason = "C names, so that DPDK's documentation can be searched"
)]
#![allow(missing_docs, reason = "documented by DPDK and shim.h")]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// The first cache line of a packet buffer and a filler of the second; offsets are pinned in `shim.c`.
#[repr(C, align(64))]
pub struct rte_mbuf {
    pub buf_addr: *mut c_void,
    _iova_or_next: u64,
    pub data_off: u16,
    pub refcnt: u16,
    pub nb_segs: u16,
    pub port: u16,
    pub ol_flags: u64,
    pub packet_type: u32,
    pub pkt_len: u32,
    pub data_len: u16,
    pub vlan_tci: u16,
    _hash: [u32; 2],
    pub vlan_tci_outer: u16,
    pub buf_len: u16,
    pub pool: *mut rte_mempool,
    _second_line: [u64; 8],
}

const _: () = assert!(size_of::<rte_mbuf>() == 128);
const _: () = assert!(std::mem::offset_of!(rte_mbuf, data_off) == 16);
const _: () = assert!(std::mem::offset_of!(rte_mbuf, ol_flags) == 24);
const _: () = assert!(std::mem::offset_of!(rte_mbuf, vlan_tci_outer) == 52);
const _: () = assert!(std::mem::offset_of!(rte_mbuf, pool) == 56);

macro_rules! opaque {
    ($($name:ident),*) => { $(
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
            _not_send_sync_unpin: std::marker::PhantomData<(*mut u8, std::marker::PhantomPinned)>,
        }
    )* };
}
opaque!(rte_device, rte_fib, rte_hash, rte_mempool);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct tg_port_info {
    pub driver: [c_char; 64],
    pub device: *mut rte_device,
    pub rss_types: u64,
    pub max_frame: u32,
    pub max_rx_queues: u16,
    pub max_tx_queues: u16,
    pub min_mtu: u16,
    pub max_mtu: u16,
    pub reta_size: u16,
    pub hash_key_size: u16,
}

#[repr(C)]
pub struct tg_port_config {
    pub rss_types: u64,
    pub rss_key: *const u8,
    pub rss_key_size: u16,
    pub rx_queues: u16,
    pub tx_queues: u16,
    pub mtu: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct tg_link {
    pub speed_mbps: u32,
    pub up: u8,
    pub full_duplex: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct tg_port_stats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub rx_no_buffer: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

pub type tg_log_writer = extern "C" fn(*mut c_void, *const c_char, usize) -> isize;

unsafe extern "C" {
    pub static tg_mbuf_rx_vlan_stripped: u64;
    pub static tg_mbuf_headroom: u16;
    pub static tg_socket_any: c_int;
    pub static tg_speed_unknown: u32;
    pub static tg_rss_types: u64;
    pub static tg_rss_types_required: u64;

    pub fn tg_log_open(writer: tg_log_writer) -> c_int;
    pub fn tg_errno() -> c_int;
    pub fn tg_thread_is_registered() -> c_int;
    pub fn tg_cycles() -> u64;
    pub fn tg_port_find(device: *const c_char) -> c_int;
    pub fn tg_port_info(port: u16, info: *mut tg_port_info) -> c_int;
    pub fn tg_port_configure(port: u16, config: *const tg_port_config) -> c_int;
    pub fn tg_port_set_reta(port: u16, queues: *const u16, size: u16) -> c_int;
    pub fn tg_port_link(port: u16, link: *mut tg_link) -> c_int;
    pub fn tg_port_stats(port: u16, stats: *mut tg_port_stats) -> c_int;
    pub fn tg_rx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16;
    pub fn tg_tx_burst(port: u16, queue: u16, mbufs: *mut *mut rte_mbuf, count: u16) -> u16;
    pub fn tg_mbuf_alloc(pool: *mut rte_mempool) -> *mut rte_mbuf;
    pub fn tg_mbuf_alloc_bulk(
        pool: *mut rte_mempool,
        mbufs: *mut *mut rte_mbuf,
        count: c_uint,
    ) -> c_int;
    pub fn tg_mbuf_free(mbuf: *mut rte_mbuf);
    pub fn tg_mbuf_linearize(mbuf: *mut rte_mbuf) -> c_int;
    pub fn tg_fib_create(
        name: *const c_char,
        max_routes: c_int,
        wide: c_int,
        tables: u32,
        default_next_hop: u64,
    ) -> *mut rte_fib;
    pub fn tg_softrss(input: *const [u32; 9], count: u32, key: *const [u8; 40]) -> u32;
    pub fn tg_hash_create(name: *const c_char, entries: u32, key_size: u32) -> *mut rte_hash;
    pub fn tg_heap_allocated() -> u64;

    pub fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    pub fn rte_eal_get_runtime_dir() -> *const c_char;
    pub fn rte_strerror(error: c_int) -> *const c_char;
    pub fn rte_version() -> *const c_char;
    pub fn rte_get_tsc_hz() -> u64;
    pub fn rte_thread_register() -> c_int;
    pub fn rte_thread_unregister();

    pub fn rte_dev_probe(devargs: *const c_char) -> c_int;
    pub fn rte_dev_remove(device: *mut rte_device) -> c_int;

    pub fn rte_pktmbuf_pool_create(
        name: *const c_char,
        buffers: c_uint,
        cache_size: c_uint,
        private_size: u16,
        data_room_size: u16,
        socket: c_int,
    ) -> *mut rte_mempool;
    pub fn rte_mempool_in_use_count(pool: *const rte_mempool) -> c_uint;
    pub fn rte_pktmbuf_free_bulk(mbufs: *mut *mut rte_mbuf, count: c_uint);

    pub fn rte_fib_add(fib: *mut rte_fib, address: u32, depth: u8, next_hop: u64) -> c_int;
    pub fn rte_fib_lookup_bulk(
        fib: *mut rte_fib,
        addresses: *mut u32,
        next_hops: *mut u64,
        count: c_int,
    ) -> c_int;
    pub fn rte_fib_free(fib: *mut rte_fib);

    pub fn rte_hash_free(hash: *mut rte_hash);
    pub fn rte_hash_add_key_data(
        hash: *const rte_hash,
        key: *const c_void,
        data: *mut c_void,
    ) -> c_int;
    pub fn rte_hash_del_key(hash: *const rte_hash, key: *const c_void) -> i32;
    pub fn rte_hash_free_key_with_position(hash: *const rte_hash, position: i32) -> c_int;
    pub fn rte_hash_lookup_data(
        hash: *const rte_hash,
        key: *const c_void,
        data: *mut *mut c_void,
    ) -> c_int;
    pub fn rte_hash_lookup_bulk_data(
        hash: *const rte_hash,
        keys: *mut *const c_void,
        count: u32,
        hits: *mut u64,
        data: *mut *mut c_void,
    ) -> c_int;

    pub fn rte_zmalloc_socket(
        kind: *const c_char,
        bytes: usize,
        alignment: c_uint,
        socket: c_int,
    ) -> *mut c_void;
    pub fn rte_free(memory: *mut c_void);

    pub fn rte_eth_dev_socket_id(port: u16) -> c_int;
    pub fn rte_eth_dev_adjust_nb_rx_tx_desc(port: u16, rx: *mut u16, tx: *mut u16) -> c_int;
    pub fn rte_eth_rx_queue_setup(
        port: u16,
        queue: u16,
        descriptors: u16,
        socket: c_uint,
        config: *const c_void,
        pool: *mut rte_mempool,
    ) -> c_int;
    pub fn rte_eth_tx_queue_setup(
        port: u16,
        queue: u16,
        descriptors: u16,
        socket: c_uint,
        config: *const c_void,
    ) -> c_int;
    pub fn rte_eth_dev_start(port: u16) -> c_int;
    pub fn rte_eth_dev_stop(port: u16) -> c_int;
    pub fn rte_eth_dev_close(port: u16) -> c_int;
    pub fn rte_eth_macaddr_get(port: u16, mac: *mut [u8; 6]) -> c_int;
    pub fn rte_eth_dev_mac_addr_add(port: u16, mac: *mut [u8; 6], pool: u32) -> c_int;
    pub fn rte_eth_dev_mac_addr_remove(port: u16, mac: *mut [u8; 6]) -> c_int;
    pub fn rte_eth_promiscuous_enable(port: u16) -> c_int;
    pub fn rte_eth_promiscuous_disable(port: u16) -> c_int;
    pub fn rte_eth_allmulticast_enable(port: u16) -> c_int;
}
