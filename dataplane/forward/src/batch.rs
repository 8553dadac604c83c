//! The packets of one burst on their way through the stages, as a struct of arrays.
//!
//! A packet keeps its position from parsing to transmission. The stage that decides its fate takes
//! the buffer out of `mbufs`; later stages skip the empty place.

use dpdk::{Burst, Mbuf};
use packet::{Fragment, Kind, Layout, Tuple};
use session::Hit;

use crate::interface::InterfaceId;

/// Packets in a batch at most.
pub(crate) const CAPACITY: usize = Burst::CAPACITY;

/// The state of one burst. Lives as long as its worker, so that nothing is set up per burst.
pub(crate) struct Batch {
    /// Positions in use: all arrays mean something below this.
    pub(crate) len: usize,
    /// Buffers that are still on their way.
    pub(crate) mbufs: [Option<Mbuf>; CAPACITY],
    /// Interfaces that they came in by.
    pub(crate) ingress: [InterfaceId; CAPACITY],
    /// What is in them.
    pub(crate) layouts: [Layout; CAPACITY],
    /// Tuples that sessions are looked up by: as in the layouts, but for later fragments.
    pub(crate) tuples: [Tuple; CAPACITY],
    /// Sessions found.
    pub(crate) hits: [Option<Hit>; CAPACITY],
    /// Tuples that they leave with.
    pub(crate) outgoing: [Tuple; CAPACITY],
    /// Destinations of these, as the routes want them.
    pub(crate) destinations: [u32; CAPACITY],
    /// Next hop ids of these.
    pub(crate) next_hops: [u32; CAPACITY],
    /// Set when a session began in this burst: other packets of the burst may belong to it, and
    /// were looked up before.
    pub(crate) inserted: bool,
    /// Set when a session was evicted in this burst: hits found earlier may be void.
    pub(crate) evicted: bool,
    /// Set when the table had no room, so that the rest of the burst does not search for some.
    pub(crate) table_full: bool,
}

/// The layout of no packet.
pub(crate) const NOTHING: Layout = Layout {
    tuple: NO_TUPLE,
    kind: Kind::Other(0),
    fragment_id: 0,
    l3: 0,
    l4: 0,
    end: 0,
    embedded_l4: 0,
    vlan: 0,
    ttl: 0,
    fragment: Fragment::None,
    dont_fragment: false,
    source_route: false,
    tcp_flags: 0,
};

const NO_TUPLE: Tuple = Tuple {
    src: [0; 16],
    dst: [0; 16],
    src_port: 0,
    dst_port: 0,
    protocol: 0,
    zone: 0,
    vlan: 0,
};

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            len: 0,
            mbufs: [const { None }; CAPACITY],
            ingress: [InterfaceId(0); CAPACITY],
            layouts: [NOTHING; CAPACITY],
            tuples: [NO_TUPLE; CAPACITY],
            hits: [None; CAPACITY],
            outgoing: [NO_TUPLE; CAPACITY],
            destinations: [0; CAPACITY],
            next_hops: [0; CAPACITY],
            inserted: false,
            evicted: false,
            table_full: false,
        }
    }

    /// Ready for the next burst.
    pub(crate) fn clear(&mut self) {
        debug_assert!(
            self.mbufs.iter().all(Option::is_none),
            "a packet was forgotten"
        );
        self.len = 0;
        self.inserted = false;
        self.evicted = false;
        self.table_full = false;
    }

    /// Adds a packet. A burst never has more of them than there are places.
    pub(crate) fn push(&mut self, ingress: InterfaceId, mbuf: Mbuf, layout: &Layout, tuple: Tuple) {
        let position = self.len;
        self.mbufs[position] = Some(mbuf);
        self.ingress[position] = ingress;
        self.layouts[position] = *layout;
        self.tuples[position] = tuple;
        self.len += 1;
    }
}
