//! What the protocol asks its driver to do.

use packet::Tuple;

use crate::{Delta, Distribution, Duty, Event, LeaseWish, LinkId, Neighbour, Role, UnitId};

/// One thing to do, in the order in which [`Node::poll`](crate::Node::poll) returns them.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a frame on a link. The driver adds the Ethernet header: multicast destination
    /// `03:74:67:<cluster, two bytes>:00`, the unit's own MAC as the source, the cluster's EtherType.
    Send {
        /// Where.
        link: LinkId,
        /// What follows the Ethernet header.
        payload: Vec<u8>,
    },
    /// Become primary: take the virtual MAC and answer for the cluster addresses. A sitting primary gets
    /// it again when its term is raised; doing it twice must do no harm.
    Promote {
        /// The term that this unit writes sessions in from now on.
        term: u32,
    },
    /// Cease to be primary: give the virtual MAC up and fall silent.
    Demote {
        /// The role that this unit has now.
        role: Role,
        /// The highest term known.
        term: u32,
    },
    /// The role changed, but neither into primary nor out of it.
    RoleChanged {
        /// The role that this unit has now.
        role: Role,
        /// The highest term known.
        term: u32,
    },
    /// What this unit wants of the witness from now on. Comes after the demotion that it follows from, so
    /// that the unit is silent before another one can get the lease.
    Lease(LeaseWish),
    /// What the workers do with users' packets from now on. Comes before the [`Action::Promote`] or
    /// [`Action::Demote`] that it belongs to.
    Duty {
        /// What they do.
        duty: Duty,
        /// The term that this unit writes sessions in.
        term: u32,
    },
    /// Which unit gets which new session from now on, and where units are reached. Comes before the
    /// [`Action::Duty`] that names one of them.
    Distribute(Distribution),
    /// The primary told of neighbours that it resolved; it does so again every second.
    Neighbours {
        /// Who told.
        from: UnitId,
        /// The neighbours.
        entries: Vec<Neighbour>,
    },
    /// Announce every address once, now.
    Announce,
    /// Apply a peer's change to the session table, in the order given.
    Apply {
        /// Whose change it is.
        from: UnitId,
        /// The change.
        delta: Delta,
    },
    /// Have the session with this original tuple, which this unit owns, told to all in a newer version.
    Restate {
        /// How packets of its original direction arrive.
        tuple: Tuple,
    },
    /// Something worth telling the operator.
    Event(Event),
    /// The unit has left the cluster in order: the process may end.
    Left,
}
