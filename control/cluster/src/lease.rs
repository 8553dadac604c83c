//! The lease of the witness: what a unit wants of it, and what it is told about it.
//!
//! The witness is a store outside of the cluster that gives one lease to one unit at a time. Both values
//! say how things are, not what happened: the latest of each is all that counts, and a driver may lose
//! or repeat any but the last.

use crate::{Time, UnitId};

/// What a unit wants of the witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseWish {
    /// Grows with every change of `hold`, so that no answer to an earlier wish counts.
    pub round: u32,
    /// True to get and keep the lease, false to give it back.
    pub hold: bool,
}

/// Who has the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseHolder {
    /// Not known: the witness does not answer.
    #[default]
    Unknown,
    /// Nobody.
    Nobody,
    /// This unit, in this start.
    Own,
    /// Another unit, or this one in an earlier start; `None` if what it wrote makes no sense.
    Other(Option<UnitId>),
}

/// What a unit is told about the witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseReport {
    /// The wish that this answers.
    pub round: u32,
    /// What the unit holds at the witness is its own until then, by this unit's clock: counted from
    /// before the witness was asked, and less what clocks may differ. In the past when the witness does
    /// not answer.
    pub until: Time,
    /// Who has the lease.
    pub holder: LeaseHolder,
}

/// The witness as a unit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Whether it answers.
    pub answers: bool,
    /// Who has the lease.
    pub holder: LeaseHolder,
    /// For how much longer this unit may be primary.
    pub remaining: std::time::Duration,
}
