//! Neighbours that the primary resolved, for the units that own sessions through them.

use std::net::IpAddr;

use packet::Mac;

/// A station of users' networks, as the primary knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The interface that it is behind, see [`interface_key`](crate::interface_key).
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}
