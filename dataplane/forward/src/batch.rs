//! The packets of one burst on their way through the stages, as a struct of arrays.
//!
//! A packet keeps its position from parsing to transmission. Whoever decides its fate takes the
//! buffer out of `mbufs`; everything after that skips the empty place.

use dpdk::{Burst, Mbuf};
use packet::plain::{Ends, Plain};
use packet::{Fragment, Kind, Layout, Tuple};
use session::{Hit, Key, Search, Shard, Version};

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
    /// What sessions are looked up by.
    pub(crate) keys: [Key; CAPACITY],
    /// Where their sessions are being looked for.
    pub(crate) search: Search,
    /// Sessions found, of packets that do not leave as soon as theirs is.
    pub(crate) hits: [Option<Hit>; CAPACITY],
    /// Positions of packets for which none was found, as bits.
    pub(crate) misses: u64,
    /// Positions of packets that are not plain, as bits: nearly none.
    general: u64,
    /// Positions of packets that were plain until they began their session, as bits: it knows of them.
    begun: u64,
    /// What plain packets say.
    pub(crate) plains: [Plain; CAPACITY],
    /// What is in the others.
    pub(crate) layouts: [Layout; CAPACITY],
    /// Tuples of the others' sessions: as in the layouts, but for later fragments.
    pub(crate) tuples: [Tuple; CAPACITY],
    /// First packets of sessions that a peer must have before they leave, as bits.
    withheld: u64,
    /// The changes that tell of these, by position.
    changes: [Option<Version>; CAPACITY],
    /// Set when a session was evicted in this burst: hits found earlier may be void.
    pub(crate) evicted: bool,
}

const _: () = assert!(CAPACITY <= u64::BITS as usize);

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
            keys: [Key::default(); CAPACITY],
            search: Search::default(),
            hits: [None; CAPACITY],
            misses: 0,
            general: 0,
            begun: 0,
            withheld: 0,
            changes: [None; CAPACITY],
            plains: [Plain::default(); CAPACITY],
            layouts: [NOTHING; CAPACITY],
            tuples: [NO_TUPLE; CAPACITY],
            evicted: false,
        }
    }

    /// Ready for the next burst.
    pub(crate) fn clear(&mut self) {
        debug_assert!(
            self.mbufs.iter().all(Option::is_none),
            "a packet was forgotten"
        );
        self.len = 0;
        self.general = 0;
        self.begun = 0;
        self.withheld = 0;
        self.evicted = false;
    }

    /// Adds a plain packet, and begins to look for its session. A burst never has more packets than there
    /// are places.
    #[inline]
    pub(crate) fn push_plain(
        &mut self,
        shard: &Shard,
        ingress: InterfaceId,
        mbuf: Mbuf,
        (plain, ends): (Plain, Ends),
    ) {
        let position = self.len;
        let addresses = u64::from_ne_bytes(ends.addresses);
        let ports = u32::from_ne_bytes(ends.ports);
        let key = Key::v4(addresses, ports, plain.protocol);
        shard.ask(&mut self.search, position, &key);
        self.keys[position] = key;
        self.plains[position] = plain;
        self.place(ingress, mbuf);
    }

    /// Adds any other packet, and begins to look for its session.
    pub(crate) fn push(
        &mut self,
        shard: &Shard,
        ingress: InterfaceId,
        mbuf: Mbuf,
        layout: &Layout,
        tuple: Tuple,
    ) {
        let position = self.len;
        let key = Key::from(&tuple);
        shard.ask(&mut self.search, position, &key);
        self.keys[position] = key;
        self.layouts[position] = *layout;
        self.tuples[position] = tuple;
        self.general |= 1 << position;
        self.place(ingress, mbuf);
    }

    #[inline]
    fn place(&mut self, ingress: InterfaceId, mbuf: Mbuf) {
        self.ingress[self.len] = ingress;
        let before = self.mbufs[self.len].replace(mbuf);
        debug_assert!(before.is_none(), "a packet was forgotten");
        // Spares the packet the question whether there is something to free.
        std::mem::forget(before);
        self.len += 1;
    }

    /// All positions in use, as bits.
    pub(crate) fn positions(&self) -> u64 {
        1_u64
            .unbounded_shl(u32::try_from(self.len).unwrap_or(u64::BITS))
            .wrapping_sub(1)
    }

    /// True for a packet that takes the short way.
    #[inline]
    pub(crate) fn is_plain(&self, position: usize) -> bool {
        self.general >> position & 1 == 0
    }

    /// A packet has begun its session. True if it is plain: then it takes a short way of its own.
    pub(crate) fn begin(&mut self, position: usize) -> bool {
        let plain = !self.general & 1 << position;
        self.general |= plain;
        self.begun |= plain;
        plain != 0
    }

    /// True for a plain packet that has begun its session. It is an ordinary one from here on.
    pub(crate) fn take_begun(&mut self, position: usize) -> bool {
        let begun = self.begun & 1 << position;
        self.begun ^= begun;
        self.general &= !begun;
        begun != 0
    }

    /// A packet must not leave before a peer has its session, of which the change of this version tells.
    pub(crate) fn withhold(&mut self, position: usize, version: Option<Version>) {
        self.withheld |= 1 << position;
        self.changes[position] = version;
    }

    /// What [`Batch::withhold`] said of a packet.
    pub(crate) fn withheld(&self, position: usize) -> Option<Option<Version>> {
        (self.withheld >> position & 1 == 1).then(|| self.changes[position])
    }

    /// A plain packet takes the long way from here on, with this layout.
    pub(crate) fn generalise(&mut self, position: usize, layout: &Layout) {
        self.layouts[position] = *layout;
        self.tuples[position] = layout.tuple;
        self.general |= 1 << position;
    }
}
