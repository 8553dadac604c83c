//! Which unit does what with packets of users: the duty of this one, and how the primary hands sessions
//! to the others.
//!
//! Plain values inside a [`Snapshot`](crate::Snapshot). The control core decides; workers only read.

use packet::Mac;

use crate::interface::InterfaceId;

/// What this unit does with packets of users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// Nothing: they are dropped.
    #[default]
    Idle,
    /// It receives all of them on the virtual MACs, and passes on what other units process.
    Primary,
    /// It processes what other units pass to its own MACs.
    Owner {
        /// Id of the primary.
        primary: u8,
    },
    /// It was primary, and passes to its successor what the switches still send here.
    Relay {
        /// Id of the successor.
        to: u8,
    },
}

impl Duty {
    /// True when the virtual MACs and cluster addresses are this unit's.
    #[must_use]
    pub const fn is_primary(self) -> bool {
        matches!(self, Self::Primary)
    }

    /// True when this unit takes packets of users in.
    #[must_use]
    pub const fn takes_users(self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// True when it takes those in that come to the virtual MACs.
    #[must_use]
    pub const fn takes_virtual(self) -> bool {
        matches!(self, Self::Primary | Self::Relay { .. })
    }
}

/// How the owner of a new session is picked from the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// One slot after the other. Each worker counts for itself.
    #[default]
    InTurn,
    /// One of the unit that owns the fewest sessions for its slots. Each worker counts in its own shard, where
    /// it enters those that it hands to others too: so the count is exact when the next one begins.
    Fewest,
    /// Any slot.
    Random,
    /// By source and destination address, the same for both directions.
    Addresses,
    /// By addresses, ports and protocol, the same for both directions.
    Tuple,
}

/// A unit of the cluster that is alive, this one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id (1..=16).
    pub unit: u8,
    /// True when it may own sessions: those that it has stay with it.
    pub owns: bool,
    /// Its own MACs by [`InterfaceId`] of this unit; `None` where it is not reached.
    pub stations: Vec<Option<Mac>>,
    /// Likewise the MACs that its frames come from, also where it was not reached when it spoke last.
    pub sources: Vec<Option<Mac>>,
}

/// How sessions are distributed over the units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How a slot is chosen for a new session.
    pub pick: Pick,
    /// Ids of units, 256 at the most, each as often as its share says. None: all new sessions are
    /// this unit's.
    pub slots: Vec<u8>,
    /// The units that are alive.
    pub members: Vec<Member>,
}

impl Distribution {
    /// The unit of this id, if it is alive.
    #[must_use]
    pub fn member(&self, unit: u8) -> Option<&Member> {
        self.members.iter().find(|member| member.unit == unit)
    }

    /// True when `unit` is alive and may own sessions.
    #[must_use]
    pub fn owns(&self, unit: u8) -> bool {
        self.member(unit).is_some_and(|member| member.owns)
    }

    /// The own MAC of `unit` on an interface.
    #[must_use]
    pub fn station(&self, unit: u8, interface: InterfaceId) -> Option<Mac> {
        *self.member(unit)?.stations.get(interface.index())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_alive_owns_nothing_and_is_nowhere() {
        let station = Mac([2, 0, 0, 0, 0, 1]);
        let member = |unit, owns| Member {
            unit,
            owns,
            stations: vec![None, Some(station)],
            sources: vec![None, Some(station)],
        };
        let distribution = Distribution {
            members: vec![member(1, true), member(2, false)],
            ..Distribution::default()
        };
        assert_eq!(
            [1, 2, 3].map(|unit| distribution.owns(unit)),
            [true, false, false]
        );
        for (unit, interface, expected) in [
            (1, 0, None),
            (1, 1, Some(station)),
            (1, 2, None),
            (2, 1, Some(station)),
            (3, 1, None),
        ] {
            let found = distribution.station(unit, InterfaceId(interface));
            assert_eq!(found, expected, "unit {unit}, interface {interface}");
        }
    }
}
