//! Clusters, clients, servers and switches in network namespaces; faults and probes.
//!
//! A lab is one switch namespace with a learning Linux bridge per segment, a client, a server, and
//! one namespace per unit in which a `tidegated` runs:
//!
//! ```text
//!  client ──┐ lan (bridge)  ┌── u1 ──┐  wan (bridge) ┌── server
//!  .100     ├───────────────┤        ├───────────────┤   .100, .101 … .200
//!           │ 192.0.2.0/24  └── u2 ──┘ 198.51.100/24 │
//!           cluster .1         │  │      cluster .1
//!                          sync (bridge)
//! ```
//!
//! [`Topology`] owns the namespaces, [`Lab`] the units that run in them, [`probe`] what measures
//! the traffic through them, and [`failover`], [`faults`], [`join`] and [`demo`] the experiments, which [`goals`]
//! measures all. Everything needs root.
//! All state of a running lab is in `/run/tidegate-lab/PREFIX/`, so that each command of the
//! program finds what an earlier one left.

pub mod clock;
pub mod demo;
pub mod failover;
pub mod faults;
pub mod goals;
pub mod join;
pub mod keepalived;
mod lab;
mod namespace;
pub mod probe;
mod process;
pub mod tool;
mod topology;
mod unit;

pub use lab::{Lab, LabSettings};
pub use namespace::Namespace;
pub use process::ProcessId;
pub use topology::{
    CLIENT_LAN, CLUSTER_LAN, CLUSTER_WAN, Host, SERVER_CROWD, SERVER_WAN, Segment, Topology,
    parse_unit,
};
pub use unit::{Programs, Unit};
