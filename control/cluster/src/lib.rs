//! The high-availability protocol as pure state machines.
//!
//! No socket, clock, thread or device: what happened and when goes in, [actions](Action) come out. The
//! daemon and the simulator drive the very same [`Node`].

mod action;
mod command;
mod delta;
mod distribution;
mod election;
pub mod envelope;
pub mod heartbeat;
mod history;
mod keeper;
mod lease;
mod neighbour;
mod node;
mod peer;
mod range;
mod schedule;
mod settings;
mod status;
pub mod sync;
mod time;
mod unit;
mod wire;

pub use action::Action;
pub use command::{Command, Refusal};
pub use delta::{Delta, SessionSource};
pub use distribution::{Distribution, Duty, Member, Station, name_key};
pub use envelope::Rejection;
pub use history::{Cause, Event, HandOver, HandOverReport, HandOverStep, Transition};
pub use keeper::{LeaseAnswer, LeaseId, LeaseKeeper, LeaseRequest};
pub use lease::{LeaseHolder, LeaseReport, LeaseWish, WitnessStatus};
pub use neighbour::Neighbour;
pub use node::{HANDOVER_PATIENCE, MAX_HOLD, MIN_HOLD, Node};
pub use range::{RangeSet, range_of};
pub use schedule::{Pick, SLOTS, Schedule, Taker, slots};
pub use settings::{
    ConfigPart, Key, LinkKind, LinkSettings, LiveSettings, Settings, SettingsError,
};
pub use status::{Counters, Health, LinkStatus, Load, PeerLinkStatus, PeerStatus, Status};
pub use time::Time;
pub use unit::{Boot, LinkId, Role, UnitId};
