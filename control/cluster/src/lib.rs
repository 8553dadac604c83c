//! The high-availability protocol as pure state machines.
//!
//! No socket, clock, thread or device: what happened and when goes in, actions come out.

mod delta;
mod range;
pub mod sync;
mod time;
mod unit;

pub use delta::{Delta, SessionSource};
pub use range::{RangeSet, range_of};
pub use time::Time;
pub use unit::{Boot, LinkId, Role, UnitId};
