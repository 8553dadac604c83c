//! What this unit does with users' packets, and which unit gets whose: as the workers are told it.

use std::fmt;

use packet::Mac;

use crate::{Pick, UnitId};

/// What this unit does with users' packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Nothing.
    #[default]
    Idle,
    /// Receives on the virtual MAC, processes what it owns and passes the rest on to its owners.
    Primary,
    /// Processes what the primary passes on.
    Owner {
        /// Who may pass frames on to this unit.
        primary: UnitId,
    },
    /// Was primary, and passes everything that still comes on to its successor.
    Relay {
        /// The successor.
        to: UnitId,
    },
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Primary => f.write_str("primary"),
            Self::Owner { primary } => write!(f, "owner under unit {primary}"),
            Self::Relay { to } => write!(f, "relay to unit {to}"),
        }
    }
}

/// Where a unit is reached on a traffic interface: its own MAC, never the virtual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Station {
    /// The interface, see [`name_key`].
    pub interface: u32,
    /// The unit's own MAC there.
    pub mac: Mac,
}

/// A unit that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub unit: UnitId,
    /// Sessions may belong to it; those that do stay with it. Otherwise they go to others, packet by packet.
    pub owns: bool,
    /// Where it is reached. Interfaces whose link is down there are left out.
    pub stations: Vec<Station>,
    /// Where its frames come from: every station that it named, also of an interface whose link was down when it
    /// spoke last. The link may be up again before the word of it is here.
    pub sources: Vec<Station>,
}

/// Which unit gets which new session, and where units are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]

pub struct Distribution {
    /// How a worker finds the slot of a new session.
    pub pick: Pick,
    /// Who gets which; none: this unit keeps all new sessions.
    pub slots: Vec<UnitId>,
    /// This unit and all that are alive, by id. Who is not named owns nothing.
    pub members: Vec<Member>,
}

/// An interface or a part of the configuration by its name, the same on all units: FNV-1a of 32 bits. Part of
/// the wire format.
#[must_use]
pub fn name_key(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::name_key;

    #[test]
    fn keys_of_names_are_those_of_fnv() {
        // From the test vectors of the algorithm's authors.
        assert_eq!(name_key(""), 0x811C_9DC5);
        assert_eq!(name_key("a"), 0xE40C_292C);
        assert_eq!(name_key("foobar"), 0xBF9C_F968);
    }
}
