//! Header views, parsing and checksum arithmetic. No DPDK, no allocation, no `unsafe`.
//!
//! A frame is parsed once, into a [`Layout`]; [`translate`], [`decrement_ttl`] and the builders
//! trust that. Nearly all frames go a shorter way, [`plain`]. [`toeplitz`] says which worker a flow belongs to, [`build`] makes the frames that
//! the gateway sends of its own accord.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod plain;
pub mod tcp;
pub mod toeplitz;
pub mod udp;
pub mod vlan;

mod layout;
mod mac;
mod parse;
#[cfg(test)]
mod samples;
mod translate;
mod tuple;

pub use layout::{Fragment, Kind, Layout, Malformed};
pub use mac::{Mac, MacParseError};
pub use parse::parse;
pub use translate::{decrement_ttl, translate};
pub use tuple::Tuple;

/// The longest frame that is accepted, without its check sequence: a payload of 9,216 bytes, the
/// Ethernet header and one VLAN tag.
pub const MAX_FRAME: usize = 9_216 + 18;
