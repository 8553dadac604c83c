//! What a worker core does to a burst of packets.
//!
//! ```text
//! control core                                            worker (one per core)
//!  Publisher<Snapshot>    configuration and duty ───────▶  Worker::turn, for ever
//!  Publisher<Neighbours>  who is where ─────────────────▶
//!  ControlRings           packets and changes of sessions, both ways, bounded
//!  WorkerCounters         ◀───────────────────────── what happened, drops by reason
//! ```
//!
//! [`Worker`] is generic over [`PortIo`], so that tests run it over cables in memory. Nothing here
//! reads a clock: a turn is given its time, but for the [`Gate`] of a unit with a witness. [`Resolver`] is the exception to "a worker's matter": the
//! control core's half of address resolution, kept beside the [`Neighbours`] that it makes.

mod attachment;
mod batch;
mod counters;
mod distribution;
mod egress;
mod fragment;
mod gate;
mod hash;
mod interface;
mod limiter;
mod nat;
mod neighbour;
mod neighbours;
mod picker;
mod policy;
mod port;
mod publish;
mod reassembly;
mod relays;
mod rings;
mod route;
mod sharing;
mod snapshot;
mod ways;
mod worker;

pub use counters::{Drop, Event, Traffic, WorkerCounters};
pub use distribution::{Distribution, Duty, Member, Pick};
pub use gate::{Gate, Lease};
pub use interface::{
    Interface, InterfaceAddress, InterfaceId, InterfaceRole, InterfaceSet, MAX_INTERFACES, Prefix,
};
pub use limiter::TokenBucket;
pub use nat::{FIRST_PORT, PORT_CLASSES, PortSpace};
pub use neighbour::{
    DiscardReason, Evidence, NeighbourEntry, NeighbourState, Resolution, Resolver, ResolverSettings,
};
pub use neighbours::{Neighbour, Neighbours};
pub use policy::{DestinationNat, Match, Policy, PolicyAction, PolicySet, Question, SourceNat};
pub use port::{MemoryPort, PortIo, QueuePair};
pub use publish::{Published, Publisher};
pub use rings::{
    ControlRings, DeltaKind, DeltaNotice, DirtyRanges, Injected, PuntReason, Punted, RingSizes,
    TableCommand, WorkerRings, connect,
};
pub use route::{Hop, NextHop, Route, Routes};
pub use snapshot::{HEARTBEAT_ETHERTYPE, Limits, Snapshot, SnapshotError, SnapshotSettings};
pub use worker::{COMMANDS_AT_ONCE, Now, Worker, WorkerParts, prefetch_commands};
