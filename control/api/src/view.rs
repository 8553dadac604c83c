//! What the API says, type by type.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a unit does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Carries the traffic.
    Primary,
    /// Follows, ready to take over.
    Subordinate,
    /// Negotiating.
    Candidate,
    /// Alone or fenced.
    Isolated,
    /// Held out by the operator.
    Maintenance,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Subordinate => "subordinate",
            Self::Candidate => "candidate",
            Self::Isolated => "isolated",
            Self::Maintenance => "maintenance",
        })
    }
}

/// Whether a link has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It has.
    Up,
    /// It has not.
    Down,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// The unit at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The unit's id.
    pub unit: u8,
    /// The unit's name.
    pub name: String,
    /// What it does now.
    pub role: Role,
    /// The term that it knows.
    pub term: u32,
    /// The cluster's id.
    pub cluster: u16,
    /// Seconds since the unit started.
    pub uptime_s: u64,
    /// It holds everything that the primary holds.
    pub synced: bool,
    /// How full the session table is.
    pub sessions: SessionCount,
    /// The other units that it has heard since it started.
    pub peers: Vec<Peer>,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Its software's name and version.
    pub software: String,
    /// What the operator should know now, one sentence each; empty when all is well.
    pub warnings: Vec<String>,
}

/// How full the session table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCount {
    /// Sessions in the table.
    pub total: u64,
    /// Sessions that fit.
    pub capacity: u64,
}

/// Another unit at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub unit: u8,
    /// Heartbeats are heard on at least one link.
    pub alive: bool,
    /// The role that it last told.
    pub role: Role,
    /// It said that it holds everything that the primary holds.
    pub synced: bool,
    /// Changes of ours that it has not acknowledged.
    pub lag: u64,
}

/// An interface at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Whether it has a carrier.
    pub link: LinkState,
    /// The unit's own MAC address on it.
    pub mac: String,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// The cluster as this unit sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster: u16,
    /// The unit that says so.
    pub unit: u8,
    /// The term that it knows.
    pub term: u32,
    /// The unit that it takes for the primary.
    pub primary: Option<u8>,
    /// The schedule.
    pub schedule: String,
    /// Slots over which the primary spreads new sessions; zero while it keeps all to itself.
    #[serde(default)]
    pub slots: u32,
    /// The witness, if the cluster has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessView>,
    /// All units that it knows, itself included, by id.
    pub units: Vec<UnitView>,
}

/// The witness whose lease a unit needs to be primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessView {
    /// It answers this unit.
    pub answers: bool,
    /// The unit that has its lease, where that is known.
    pub holder: Option<u8>,
    /// For how much longer the unit that answers may be primary.
    pub lease_ms: u64,
}

/// One unit of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitView {
    /// Its id.
    pub unit: u8,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Heartbeats are heard on at least one link. True for the unit that answers.
    pub alive: bool,
    /// The role that it last told.
    pub role: Role,
    /// The term that it last told.
    pub term: u32,
    /// How healthy it is.
    pub health: Health,
    /// Age as primary-capable, in seconds.
    pub age_s: u64,
    /// Its priority.
    pub priority: u8,
    /// The links by which it is heard; for the unit that answers, its own.
    pub links: Vec<LinkView>,
    /// It holds everything that the primary holds.
    pub synced: bool,
    /// Changes of ours that it has not acknowledged.
    pub lag: u64,
    /// Age of the oldest of them in milliseconds; zero when there is none.
    #[serde(default)]
    pub lag_ms: u64,
    /// It is behind and has taken nothing in for a second.
    #[serde(default)]
    pub stuck: bool,
    /// How much of the new sessions it is to get, beside the weights of the others.
    #[serde(default)]
    pub weight: u8,
    /// Slots of the schedule that are its own; nobody but the primary has any to tell.
    #[serde(default)]
    pub slots: u32,
    /// Sessions that it owns, as it last told.
    #[serde(default)]
    pub owned: u64,
    /// What part that is of the sessions that all living units own, in thousandths.
    #[serde(default)]
    pub share_permille: u16,
    /// Its configuration means the same as ours.
    pub config_match: bool,
    /// Keys and lists in which it does not, as far as both tell.
    #[serde(default)]
    pub config_differs: Vec<String>,
    /// Its software's name and version.
    pub software: String,
}

/// What the election weighs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Sum of the weights of the monitored links that are up.
    pub links: u32,
    /// Sum of the weights of all monitored links.
    pub links_total: u32,
    /// The workers forward.
    pub workers: bool,
}

/// One link to a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// The interface.
    pub name: String,
    /// A valid frame was heard on it within the detection time; for the own unit: it has a carrier.
    pub up: bool,
    /// Milliseconds since the last valid frame; none when there never was one, or for the own unit.
    pub last_heard_ms: Option<u64>,
}

/// Why the unit has the role that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The role now.
    pub role: Role,
    /// The term now.
    pub term: u32,
    /// The last transitions, the newest last.
    pub transitions: Vec<TransitionView>,
}

/// One change of role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionView {
    /// When, as RFC 3339 with milliseconds.
    pub time: String,
    /// When, in milliseconds since the unit started.
    pub uptime_ms: u64,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// The term after.
    pub term: u32,
    /// Why, as a sentence.
    pub cause: String,
}

/// Asks for a planned failover; refused by every unit but the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailoverRequest {
    /// The unit that is to be primary; the best one when absent.
    #[serde(default)]
    pub to: Option<u8>,
}

/// A planned failover, after its end. Units of an earlier release answer when it begins, and with the message alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverView {
    /// What happened, as a sentence.
    pub message: String,
    /// The unit that is primary now.
    #[serde(default)]
    pub to: Option<u8>,
    /// What it took, step by step.
    #[serde(default)]
    pub steps: Vec<StepView>,
}

/// One step of a planned failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `prepare`, `drain` or `promote`.
    pub step: String,
    /// What happened in it, as a sentence.
    pub about: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// Holds the unit out of the election, or lets it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// True to hold it out.
    pub on: bool,
}

/// Sessions that match a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsView {
    /// Sessions in the table when it was read.
    pub total: u64,
    /// Sessions that match; at least `sessions.len()`.
    pub matched: u64,
    /// The first of them, at most the filter's limit.
    pub sessions: Vec<SessionView>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// `tcp`, `udp`, `icmp`, or the protocol's number.
    pub protocol: String,
    /// `unreplied`, `replied`, `syn_sent`, `syn_received`, `established`, `fin_wait`, `time_wait`
    /// or `reset`.
    pub state: String,
    /// How packets of the original direction arrive.
    pub original: FlowView,
    /// How packets of the reply direction arrive.
    pub reply: FlowView,
    /// The unit that processes it.
    pub owner: u8,
    /// Other units that are known to hold it: asked of its owner, those that have acknowledged all
    /// changes in its part of the table; asked of another unit, that one.
    #[serde(default)]
    pub copies: Vec<u8>,
    /// The policy that admitted it; its number when that policy is gone.
    pub policy: String,
    /// Seconds since the last packet that this unit has seen or was told of.
    pub idle_s: u64,
    /// Seconds until it expires if no packet comes.
    pub expires_s: u64,
    /// Its version, as a hexadecimal number.
    pub version: String,
}

/// One direction of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// Source address.
    pub source: String,
    /// Source port, or the identifier of an ICMP request.
    pub source_port: u16,
    /// Destination address.
    pub destination: String,
    /// Destination port, or the identifier of an ICMP reply.
    pub destination_port: u16,
}

impl fmt::Display for FlowView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{} > {}:{}",
            self.source, self.source_port, self.destination, self.destination_port
        )
    }
}

/// How many sessions a clear has hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Sessions that were removed, or are being removed.
    pub cleared: u64,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// The device's spelling.
    pub device: String,
    /// The driver that runs it.
    pub driver: String,
    /// `traffic` or `sync`.
    pub role: String,
    /// Carries heartbeats, and its link counts in the election.
    pub critical: bool,
    /// Its link counts in the election.
    pub monitored: bool,
    /// Whether it has a carrier.
    pub link: LinkState,
    /// The unit's own MAC address.
    pub mac: String,
    /// The cluster's virtual MAC address; none on sync interfaces.
    pub virtual_mac: Option<String>,
    /// How both addresses are received: `hardware` or `promiscuous`.
    pub mac_filter: String,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Addresses that move with the primary role, with prefix length.
    pub cluster_addresses: Vec<String>,
    /// The unit's own address, with prefix length.
    pub unit_address: Option<String>,
    /// What went through it.
    pub counters: InterfaceCounters,
}

/// What went through an interface since the unit started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets that the device lost for want of buffers or descriptors.
    pub rx_missed: u64,
    /// Packets that the device refused.
    pub rx_errors: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that the device failed to send.
    pub tx_errors: u64,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourView {
    /// The interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address; none while it is being asked for.
    pub mac: Option<String>,
    /// `incomplete`, `reachable`, `stale` or `probe`.
    pub state: String,
    /// Seconds since the state was last confirmed.
    pub age_s: u64,
    /// Packets that wait for it.
    pub queued: u32,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// The destination, with prefix length.
    pub to: String,
    /// The router; none when the destination is on the link.
    pub via: Option<Ipv4Addr>,
    /// The outgoing interface.
    pub interface: String,
    /// `connected` or `static`.
    pub origin: String,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Its place in the order, from one.
    pub position: u32,
    /// Its name.
    pub name: String,
    /// Incoming interfaces, or `any`.
    pub from: String,
    /// Outgoing interfaces, or `any`.
    pub to: String,
    /// What else it matches, such as `tcp 80,443 to 198.51.100.1/32`; empty when nothing.
    pub matches: String,
    /// `allow`, `deny` or `reject`.
    pub action: String,
    /// The source address that sessions get, or `masquerade`.
    pub source_nat: Option<String>,
    /// The server that sessions go to.
    pub destination_nat: Option<String>,
    /// First packets of sessions that it decided.
    pub hits: u64,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterView {
    /// Its name, as in the metrics.
    pub name: String,
    /// Its value since the unit started.
    pub value: u64,
    /// What it counts.
    pub help: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLevel {
    /// All is well.
    Info,
    /// Redundancy or quality is reduced.
    Warning,
    /// Service is affected.
    Error,
}

impl fmt::Display for EventLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When, as RFC 3339 with milliseconds.
    pub time: String,
    /// When, in milliseconds since the unit started.
    pub uptime_ms: u64,
    /// How bad it is.
    pub level: EventLevel,
    /// What kind of thing, in snake case.
    pub kind: String,
    /// What happened, as a sentence.
    pub message: String,
}

/// How the copying of state goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncView {
    /// Sessions are copied to the peers at all.
    pub enabled: bool,
    /// This unit holds everything that the primary holds.
    pub synced: bool,
    /// Segments that were sent again, to any peer.
    pub resent: u64,
    /// Repairs and copies that were sent whole.
    pub repairs_sent: u64,
    /// Repairs and copies that were received whole.
    pub repairs_received: u64,
    /// One entry per peer.
    pub peers: Vec<SyncPeerView>,
}

/// How the copying of state to and from one peer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPeerView {
    /// The peer.
    pub unit: u8,
    /// It is heard.
    pub alive: bool,
    /// It said that it holds everything that the primary holds.
    pub synced: bool,
    /// Our streams to it.
    pub sent: Vec<StreamView>,
    /// Its streams to us.
    pub received: Vec<StreamView>,
    /// Changes that it has not acknowledged.
    pub lag_deltas: u64,
    /// Age of the oldest of them in milliseconds; zero when there is none.
    pub lag_ms: u64,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamView {
    /// The shard of the sender.
    pub shard: u16,
    /// The last segment that was sent, or of which is known.
    pub sent: u64,
    /// The last segment up to which everything is acknowledged, or applied.
    pub acknowledged: u64,
}

/// The configuration that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The file's text, as it was when it was read.
    pub text: String,
    /// Hash of its cluster-wide meaning, as a hexadecimal number.
    pub hash: String,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadResult {
    /// Hash of the cluster-wide meaning that runs now, as a hexadecimal number.
    pub hash: String,
    /// Changes that are in effect now. A reload that would need a restart is refused as a whole.
    pub applied: Vec<ChangeView>,
}

/// One change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// The key.
    pub key: String,
    /// The value before; none when the key is new.
    pub from: Option<String>,
    /// The value after; none when the key is gone.
    pub to: Option<String>,
}

/// Why something was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What would be right.
    pub remedy: String,
}
