//! The ways out that a worker's sessions remember by number: everything that a plain packet needs to
//! leave, in sixteen bytes.
//!
//! A way has the number of its neighbour's place in the published table. It is worked out when a
//! session first asks for it in an epoch, and good for that epoch alone; so nothing has to be cleared
//! when something else is published, only the epoch counted on.

use packet::ethernet::Stations;
use session::Path;

use crate::interface::InterfaceId;
use crate::neighbours::Neighbours;
use crate::route::Hop;
use crate::snapshot::Snapshot;

/// Ways that are remembered at most. Sessions whose neighbour has a later place ask for every packet.
const CAPACITY: usize = 1 << 16;

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

/// The ways of one worker.
pub(crate) struct Ways {
    ways: Box<[Way]>,
    epoch: u32,
}

impl Ways {
    pub(crate) fn new() -> Self {
        let nowhere = Way {
            stations: Stations::from_words(0, 0),
            mtu: 0,
            interface: InterfaceId(0),
        };
        Self {
            ways: vec![nowhere; CAPACITY].into(),
            epoch: 0,
        }
    }

    /// Everything that was remembered is void: the snapshot or the neighbours are others.
    pub(crate) fn begin_epoch(&mut self) {
        // Zero is of no epoch.
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    /// The way that a session remembers, if it is still good.
    #[inline]
    pub(crate) fn remembered(&self, path: Path) -> Option<&Way> {
        if path.epoch != self.epoch {
            return None;
        }
        self.ways.get(path.index as usize)
    }

    /// Works out the way to the neighbour of a hop, for sessions to remember. `None` when nobody knows
    /// the neighbour yet, or it is beyond what is remembered.
    pub(crate) fn work_out(
        &mut self,
        snapshot: &Snapshot,
        neighbours: &Neighbours,
        hop: Hop,
    ) -> Option<(Path, Way)> {
        let (index, station) = neighbours.find(hop.interface, hop.neighbour)?;
        let attachment = snapshot.attachment(hop.interface)?;
        let way = self.ways.get_mut(index as usize)?;
        *way = Way {
            stations: attachment.stations_to(station),
            mtu: attachment.mtu,
            interface: hop.interface,
        };
        let epoch = self.epoch;
        Some((Path { index, epoch }, *way))
    }
}
