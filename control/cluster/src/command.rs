//! What an operator may ask for, and why it may be refused.

use thiserror::Error;

use crate::{Role, UnitId};

/// An operator's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hand the primary role over, once the peers hold all sessions.
    Failover {
        /// To this unit; without it, to the best one.
        to: Option<UnitId>,
    },
    /// Hold this unit out of the election, or let it take part again.
    Maintenance(bool),
    /// Hand over if primary, say goodbye, then [`Action::Left`](crate::Action::Left).
    Leave,
}

/// Why a command is refused, and what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// See the message.
    #[error("this unit's role is {role}, not primary; ask unit {primary}")]
    NotPrimary {
        /// What this unit is.
        role: Role,
        /// Who is primary.
        primary: UnitId,
    },
    /// See the message.
    #[error("this unit's role is {role} and it knows of no primary; see `tidegate cluster why`")]
    NoPrimary {
        /// What this unit is.
        role: Role,
    },
    /// See the message.
    #[error("unit {0} is this unit, which is primary already")]
    AlreadyPrimary(UnitId),
    /// See the message.
    #[error("unit {0} is not heard; see `tidegate cluster` for the units that are")]
    NotHeard(UnitId),
    /// See the message.
    #[error("unit {unit} is {role} and cannot take over now; wait, or end its maintenance")]
    NotEligible {
        /// The unit asked for.
        unit: UnitId,
        /// What it is.
        role: Role,
    },
    /// See the message.
    #[error("unit {0} is still synchronising and sessions would be lost; wait until it is synced")]
    NotSynced(UnitId),
    /// See the message.
    #[error(
        "unit {unit} has a link weight of {health} against {own} here and would hand back at once; repair its links first"
    )]
    LessHealthy {
        /// The unit asked for.
        unit: UnitId,
        /// Its healthy weight.
        health: u16,
        /// The healthy weight of this unit.
        own: u16,
    },
    /// See the message.
    #[error(
        "preempt is on and unit {unit} has a lower priority: the role would come back at once; put this unit into maintenance instead"
    )]
    PreemptWouldReturn {
        /// The unit asked for.
        unit: UnitId,
    },
    /// See the message.
    #[error("no other unit can take over; start one, or stop this one if the outage is meant")]
    NoSuccessor,
    /// See the message.
    #[error("a hand-over is under way already; wait for its end")]
    HandingOver,
    /// See the message.
    #[error("this unit is leaving the cluster")]
    Leaving,
}
