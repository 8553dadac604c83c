//! Header views, parsing and checksum arithmetic. No DPDK, no allocation.

mod mac;
mod tuple;

pub use mac::{Mac, MacParseError};
pub use tuple::Tuple;
