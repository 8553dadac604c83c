//! The ways out that a worker's sessions remember by number: everything that a plain packet needs to
//! leave, in sixteen bytes.
//!
//! A way belongs to a hop, and which hop a destination has is a matter of the snapshot: with another
//! one an epoch begins, and no session remembers anything. Other neighbours are looked up for all ways
//! at once, and sessions do not notice. A way whose neighbour is not known lets nothing pass.

use std::net::Ipv4Addr;

use hashbrown::HashTable;
use packet::ethernet::Stations;
use session::Path;

use crate::interface::InterfaceId;
use crate::neighbours::Neighbours;
use crate::route::Hop;
use crate::snapshot::Snapshot;

/// Ways at most. When more hops are in use, all are forgotten and begun anew.
const CAPACITY: usize = 4_096;

/// A way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// With which frames begin.
    pub(crate) stations: Stations,
    /// Largest IP datagram that may leave, in bytes.
    pub(crate) mtu: u16,
    /// By which interface they leave.
    pub(crate) interface: InterfaceId,
}

const _: () = assert!(size_of::<Way>() == 16);

/// The ways of one worker. Takes all of its memory when it is made.
pub(crate) struct Ways {
    ways: Vec<Way>,
    /// Where each of them leads.
    neighbours: Vec<Ipv4Addr>,
    /// Positions by hop.
    positions: HashTable<u32>,
    epoch: u32,
}

impl Ways {
    pub(crate) fn new() -> Self {
        Self {
            ways: Vec::with_capacity(CAPACITY),
            neighbours: Vec::with_capacity(CAPACITY),
            positions: HashTable::with_capacity(CAPACITY),
            epoch: 0,
        }
    }

    /// Forgets everything: the snapshot is another.
    pub(crate) fn begin_epoch(&mut self) {
        self.ways.clear();
        self.neighbours.clear();
        self.positions.clear();
        // Zero is of no epoch.
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    /// Looks all neighbours up again: they are others.
    pub(crate) fn look_up_again(&mut self, snapshot: &Snapshot, neighbours: &Neighbours) {
        for (way, address) in self.ways.iter_mut().zip(&self.neighbours) {
            let hop = Hop {
                interface: way.interface,
                neighbour: *address,
            };
            *way = way_by(hop, snapshot, neighbours);
        }
    }

    /// The way that a session remembers, if it is still good.
    #[inline]
    pub(crate) fn remembered(&self, path: Path) -> Option<&Way> {
        if path.epoch != self.epoch {
            return None;
        }
        self.ways.get(path.index as usize)
    }

    /// The way by a hop, for sessions to remember.
    pub(crate) fn by(&mut self, hop: Hop, snapshot: &Snapshot, neighbours: &Neighbours) -> Path {
        let (ways, addresses) = (&self.ways, &self.neighbours);
        let is_by = |&at: &u32| {
            let at = at as usize;
            ways[at].interface == hop.interface && addresses[at] == hop.neighbour
        };
        if let Some(&index) = self.positions.find(hash(hop), is_by) {
            let epoch = self.epoch;
            return Path { index, epoch };
        }
        if self.ways.len() == CAPACITY {
            self.begin_epoch();
        }
        // Far fewer than the word holds.
        let index = u32::try_from(self.ways.len()).unwrap_or(u32::MAX);
        self.ways.push(way_by(hop, snapshot, neighbours));
        self.neighbours.push(hop.neighbour);
        let (ways, addresses) = (&self.ways, &self.neighbours);
        self.positions.insert_unique(hash(hop), index, |&at| {
            hash(Hop {
                interface: ways[at as usize].interface,
                neighbour: addresses[at as usize],
            })
        });
        let epoch = self.epoch;
        Path { index, epoch }
    }
}

fn way_by(hop: Hop, snapshot: &Snapshot, neighbours: &Neighbours) -> Way {
    let mac = neighbours.look_up(hop.interface, hop.neighbour);
    let known = mac.zip(snapshot.attachment(hop.interface));
    known.map_or(
        Way {
            stations: Stations::from_words(0, 0),
            mtu: 0,
            interface: hop.interface,
        },
        |(mac, attachment)| Way {
            stations: attachment.stations_to(mac),
            mtu: attachment.mtu,
            interface: hop.interface,
        },
    )
}

/// Fibonacci hashing; the table wants its entropy in the upper bits as well as in the lower ones.
fn hash(hop: Hop) -> u64 {
    let key = u64::from(hop.neighbour.to_bits()) << 8 | u64::from(hop.interface.0);
    let product = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
