//! Who takes part: units, their starts, their roles and their links.

use std::fmt;

/// Fixed identity of a unit within its cluster, 1..=16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(u8);

impl UnitId {
    /// The highest id, and so the most units a cluster can have.
    pub const MAX: u8 = 16;

    /// The id, if it is within 1..=16.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        if id >= 1 && id <= Self::MAX {
            Some(Self(id))
        } else {
            None
        }
    }

    /// All ids there can be.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::MAX).map(Self)
    }

    /// As it travels on the wire and as operators write it.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Position in an array of [`UnitId::MAX`] elements.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Its place in a set of units.
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << self.index()
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of a unit: Unix seconds in the upper 32 bits, random in the lower. So a later start is
/// greater as long as the wall clock did not step back, and two units that were given the same id
/// can be told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub u64);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a unit does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Negotiating: fresh, or no primary is known.
    Candidate = 0,
    /// A primary is known, and it is another unit.
    Subordinate = 1,
    /// Owns the cluster addresses and the virtual MAC.
    Primary = 2,
    /// Cannot serve: its workers stopped, or all of its monitored links are down and no peer is heard.
    Isolated = 3,
    /// Held out by the operator.
    Maintenance = 4,
}

impl Role {
    /// All roles, in the order of their wire values.
    pub const ALL: [Self; 5] = [
        Self::Candidate,
        Self::Subordinate,
        Self::Primary,
        Self::Isolated,
        Self::Maintenance,
    ];

    /// The role with this wire value.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Candidate),
            1 => Some(Self::Subordinate),
            2 => Some(Self::Primary),
            3 => Some(Self::Isolated),
            4 => Some(Self::Maintenance),
            _ => None,
        }
    }

    /// As it is shown to operators.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Subordinate => "subordinate",
            Self::Primary => "primary",
            Self::Isolated => "isolated",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Position of a link in [`Settings::links`](crate::Settings::links).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u8);

impl LinkId {
    /// Position in an array of links.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
