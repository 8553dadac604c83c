//! The configuration: schema, validation and difference.
//!
//! Owns the TOML schema and everything that can be known about a configuration without starting a
//! gateway. Used by the daemon to start and reload, and by the operator's command to check files
//! offline; needs no DPDK, no socket and no privilege.
//!
//! A [`Config`] that exists is valid: names are resolved to indices, addresses belong to networks,
//! numbers are in range, and the cluster key is loaded. Nobody has to check it again.
//!
//! The way of a file: `document` finds the values and their lines, `value` turns each into its
//! type, and `sections`, `interfaces`, `routes` and `policies` check what they are to each other.
//! Each of them reports *all* problems that it finds, and goes on. `facts` says what a
//! configuration means, one line per key; the hash and the difference are made of these.

mod address;
mod device;
mod diff;
mod document;
mod facts;
mod interfaces;
mod key;
mod load;
mod model;
mod monitors;
mod policies;
mod problem;
mod routes;
mod sections;
mod value;
mod witness;

pub use address::Ipv4Net;
pub use device::{Device, DeviceError};
pub use diff::{Change, Effect, diff};
pub use key::Key;
pub use load::check_cluster;
pub use model::{
    Action, Cluster, Config, Cpu, DestinationNat, Durability, Idle, Interface, InterfaceIndex,
    InterfaceRole, Limits, Management, Memory, NextHop, Policy, PortRange, Protocol, Route,
    Schedule, SourceNat, Timeouts, Unit, Zone,
};
pub use monitors::{Monitor, MonitorKind};
pub use problem::{Problem, Problems, Severity};
pub use witness::{Endpoint, Tls, Witness};
