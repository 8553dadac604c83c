//! Real units, end to end: what clients, servers and operators see of a cluster, and what they see
//! of its failures. Needs root and the built `tidegated` and `tidegate`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it stands, helpers included"
)]

mod conflicts;
mod copies;
mod failover;
mod faults;
mod full_table;
mod hostile;
mod membership;
mod operators;
mod schedules;
mod segments;
mod site;
mod traffic;
mod wire;
mod witness;
