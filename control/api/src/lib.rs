//! The types of the management API, and its client.
//!
//! The API is HTTP/1.1 and JSON over a unix socket, so `curl --unix-socket` works too. The daemon
//! answers with these types and the operator's command reads them; neither defines any of its own.
//! A field may be added at any time, so readers ignore those that they don't know; none is ever
//! renamed or removed.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/cluster` | [`ClusterView`] |
//! | `GET /v1/cluster/why` | [`Why`] |
//! | `POST /v1/cluster/failover` with [`FailoverRequest`] | [`FailoverView`], when it is over |
//! | `POST /v1/cluster/maintenance` with [`MaintenanceRequest`] | [`FailoverView`] |
//! | `GET /v1/sessions?`[`SessionFilter`] | [`SessionsView`] |
//! | `DELETE /v1/sessions?`[`SessionFilter`] | [`Cleared`] |
//! | `GET /v1/interfaces` | list of [`InterfaceView`] |
//! | `GET /v1/neighbours` | list of [`NeighbourView`] |
//! | `GET /v1/routes` | list of [`RouteView`] |
//! | `GET /v1/policies` | list of [`PolicyView`] |
//! | `GET /v1/counters` | list of [`CounterView`] |
//! | `GET /v1/events` | list of [`EventView`], oldest first |
//! | `GET /v1/sync` | [`SyncView`] |
//! | `GET /v1/config` | [`ConfigView`] |
//! | `POST /v1/config/reload` | [`ReloadResult`] |
//! | `GET /metrics` | Prometheus text |
//!
//! Anything that is refused or fails is answered with a status of 400 or above and an
//! [`ErrorBody`].

mod client;
mod filter;
pub mod path;
mod view;

pub use client::{Client, Error};
pub use filter::{FilterError, SESSION_STATES, SessionFilter, parse_protocol};
pub use hyper::Method;
pub use view::*;
