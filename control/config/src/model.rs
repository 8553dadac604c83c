//! What a valid configuration is: plain, typed, resolved values.
//!
//! Only [`Config::load`] and [`Config::parse`] make one. Lists keep the order of the file where
//! order has a meaning: of policies the first match wins, and interfaces are numbered by it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Ipv4Net;
use crate::device::Device;
use crate::key::Key;
use crate::monitors::Monitor;
use crate::problem::Problem;
use crate::witness::Witness;

/// A checked configuration of one unit.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this unit is.
    pub unit: Unit,
    /// Which cores it uses.
    pub cpu: Cpu,
    /// How much memory it takes.
    pub memory: Memory,
    /// The cluster that it belongs to.
    pub cluster: Cluster,
    /// Who decides when units hear nothing of each other; nobody when absent.
    pub witness: Option<Witness>,
    /// The interfaces, in the order of the file; [`InterfaceIndex`] counts in it.
    pub interfaces: Vec<Interface>,
    /// The hosts whose answers count like links, in the order of the file.
    pub monitors: Vec<Monitor>,
    /// The static routes, in the order of the file; no two have the same destination.
    pub routes: Vec<Route>,
    /// The policies, in the order of the file: the first match wins.
    pub policies: Vec<Policy>,
    /// How long idle sessions live.
    pub timeouts: Timeouts,
    /// How many sessions of a kind there may be.
    pub limits: Limits,
    /// How operators reach the unit.
    pub management: Management,
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    pub(crate) warnings: Vec<Problem>,
}

impl Config {
    /// The file that this configuration was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The text of the file, as it was when it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The interface that `index` stands for.
    ///
    /// # Panics
    ///
    /// If `index` was taken from another configuration that has more interfaces.
    #[must_use]
    pub fn interface(&self, index: InterfaceIndex) -> &Interface {
        &self.interfaces[usize::from(index.0)]
    }

    /// All interfaces with their indices.
    pub fn interfaces(&self) -> impl Iterator<Item = (InterfaceIndex, &Interface)> {
        (0..=u8::MAX).map(InterfaceIndex).zip(&self.interfaces)
    }
}

/// The position of an interface in [`Config::interfaces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceIndex(pub u8);

/// `[unit]`: who this unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Unique in the cluster, 1..=16.
    pub id: u8,
    /// Unique in the cluster; names the default socket.
    pub name: String,
    /// The higher wins an election that nothing else decides, 1..=255.
    pub priority: u8,
    /// How many new sessions it gets, beside its peers' weights; with 0 it gets none.
    pub weight: u8,
}

/// `[cpu]`: which cores the unit uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The core of the control core; among `workers` only when `idle` is [`Idle::Sleep`].
    pub control: u16,
    /// One core per worker: at least one, none twice.
    pub workers: Vec<u16>,
    /// What a worker does when there is nothing to do.
    pub idle: Idle,
}

/// What a worker does when bursts come back empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Asks again at once: the lowest latency, a whole core.
    Spin,
    /// Backs off to short sleeps.
    Sleep,
}

/// `[memory]`: how much the unit takes at start; it takes no more later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Use huge pages for packets and sessions.
    pub huge_pages: bool,
    /// Capacity of the session table, over all shards.
    pub sessions: u32,
}

/// `[cluster]`: the cluster that the unit belongs to.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster's number; part of the virtual MAC. 1..=65535.
    pub id: u16,
    /// Where the key was read from, made absolute by the configuration file's folder.
    pub key_file: PathBuf,
    /// The key that all units of the cluster share.
    pub key: Key,
    /// How often a heartbeat is sent on every link.
    pub heartbeat_interval: Duration,
    /// How many heartbeats in a row must be missing before a peer counts as dead.
    pub heartbeat_loss: u32,
    /// How long a fresh unit listens before it may become primary alone.
    pub hello_holddown: Duration,
    /// Differences of age below this count as equal in an election.
    pub age_margin: Duration,
    /// How many times addresses are announced after a promotion.
    pub announce_count: u32,
    /// The time between two announcements.
    pub announce_interval: Duration,
    /// EtherType of heartbeats and state.
    pub ether_type: u16,
    /// A higher priority takes the primary role from a sitting primary.
    pub preempt: bool,
    /// The rule by which the primary hands new sessions to units.
    pub schedule: Schedule,
    /// Copy sessions to the peers.
    pub session_sync: bool,
    /// How long the first packet of a session waits at most until a peer has the session, under
    /// policies of [`Durability::Acked`].
    pub acked_timeout: Duration,
}

impl Cluster {
    /// The longest [`Cluster::heartbeat_interval`].
    pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(10);
    /// The longest [`Cluster::hello_holddown`], which is no shorter than what it takes to find a peer dead.
    pub const HELLO_HOLDDOWN_MAX: Duration = Duration::from_secs(60);
}

/// The rule by which the primary hands new sessions to units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The primary owns every session.
    None,
    /// By a hash of both addresses, the same for both directions: for units that are joined by hubs.
    Hub,
    /// One after the other.
    RoundRobin,
    /// One after the other, each as often as its weight says.
    WeightedRoundRobin,
    /// The unit that owns the fewest sessions for its weight.
    LeastConnections,
    /// By chance.
    Random,
    /// By a hash of both addresses: all sessions of two hosts are one unit's.
    Ip,
    /// By a hash of addresses, protocol and ports.
    IpPort,
}

impl Schedule {
    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hub => "hub",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::Random => "random",
            Self::Ip => "ip",
            Self::IpPort => "ip-port",
        }
    }
}

/// `[[interface]]`: one port of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What policies and routes call it.
    pub name: String,
    /// The device behind it.
    pub device: Device,
    /// What it carries.
    pub role: InterfaceRole,
    /// A traffic interface that also carries heartbeats, and whose link counts in the election.
    pub critical: bool,
    /// The link counts in the election. Always true for critical interfaces, never for sync ones.
    pub monitored: bool,
    /// How much a monitored link counts in the election, 1..=255.
    pub weight: u8,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Take the link down for a moment when this unit ceases to be primary. Only with devices that are
    /// kernel interfaces.
    pub link_failed_signal: bool,
    /// Addresses that move with the primary role, each with its network.
    pub cluster_addresses: Vec<Ipv4Net>,
    /// The address that stays with this unit.
    pub unit_address: Option<Ipv4Net>,
}

impl Interface {
    /// True when heartbeats are sent and heard on it.
    #[must_use]
    pub fn carries_heartbeats(&self) -> bool {
        self.role == InterfaceRole::Sync || self.critical
    }

    /// Every address on it: cluster addresses first, then the unit's own.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Net> {
        self.cluster_addresses
            .iter()
            .chain(&self.unit_address)
            .copied()
    }
}

/// What an interface carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceRole {
    /// The users' packets.
    Traffic,
    /// Heartbeats and state between units, never a user's packet.
    Sync,
}

/// `[[route]]`: one static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination; its host bits are zero.
    pub to: Ipv4Net,
    /// Where its packets go.
    pub next_hop: NextHop,
}

/// Where the packets of a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To a router on a connected network.
    Gateway {
        /// The interface that the router is connected to.
        interface: InterfaceIndex,
        /// The router's address.
        address: Ipv4Addr,
    },
    /// The destination itself is on this interface's link.
    Link(InterfaceIndex),
}

/// `[[policy]]`: what happens to the first packet of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Unique; names its counter.
    pub name: String,
    /// Where the packet came in.
    pub from: Zone,
    /// Where it goes out, after destination NAT and routing.
    pub to: Zone,
    /// Source networks; any when empty. Host bits are zero.
    pub source: Vec<Ipv4Net>,
    /// Destination networks before destination NAT; any when empty. Host bits are zero.
    pub destination: Vec<Ipv4Net>,
    /// The protocol.
    pub protocol: Protocol,
    /// Destination ports before destination NAT; any when empty. Only with TCP and UDP.
    pub destination_ports: Vec<PortRange>,
    /// What to do with a packet that matches.
    pub action: Action,
    /// The source address and port that the session gets. Only with [`Action::Allow`].
    pub source_nat: Option<SourceNat>,
    /// The inner server that the session goes to. Only with [`Action::Allow`].
    pub destination_nat: Option<DestinationNat>,
    /// What the peers must know before the session's packets go on.
    pub durability: Durability,
}

/// A set of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Every traffic interface.
    Any,
    /// These; at least one.
    Interfaces(Vec<InterfaceIndex>),
}

impl Zone {
    /// True when `interface` belongs to the zone.
    #[must_use]
    pub fn contains(&self, interface: InterfaceIndex) -> bool {
        match self {
            Self::Any => true,
            Self::Interfaces(members) => members.contains(&interface),
        }
    }
}

/// The protocol that a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

impl Protocol {
    /// The IP protocol number, unless all match.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Icmp => Some(1),
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
        }
    }
}

/// Ports from `first` to `last`, both included; `first` is not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

/// What a policy does with a packet that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a session.
    Allow,
    /// Drop.
    Deny,
    /// Drop, and tell the sender: a TCP reset or ICMP "administratively prohibited".
    Reject,
}

/// The source address that a session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceNat {
    /// The first cluster address of the outgoing interface.
    Masquerade,
    /// This cluster address of the outgoing interface.
    Address(Ipv4Addr),
}

/// The inner server that a session goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationNat {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port; the original one when absent.
    pub port: Option<u16>,
}

/// What the peers must know before a session's packets go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The session is never copied.
    None,
    /// The session is copied while its packets go on.
    Async,
    /// The first packet waits until a peer has the session, for [`Cluster::acked_timeout`] at most.
    Acked,
}

/// `[timeouts]`: how long an idle session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, established (RFC 5382 section 5: at least 2 h 4 min).
    pub tcp_established: Duration,
    /// TCP, closing or reset (RFC 5382 section 5: at least 4 min).
    pub tcp_transitory: Duration,
    /// TCP, handshake not complete.
    pub tcp_syn: Duration,
    /// UDP seen in both directions (RFC 4787 section 4.3: at least 2 min).
    pub udp_replied: Duration,
    /// UDP that nobody has answered.
    pub udp_unreplied: Duration,
    /// ICMP query that was answered (RFC 5508 section 3.2: at least 60 s).
    pub icmp_replied: Duration,
    /// ICMP query that nobody has answered.
    pub icmp_unreplied: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: Duration::from_secs(7_440),
            tcp_transitory: Duration::from_secs(240),
            tcp_syn: Duration::from_secs(30),
            udp_replied: Duration::from_secs(300),
            udp_unreplied: Duration::from_secs(30),
            icmp_replied: Duration::from_secs(60),
            icmp_unreplied: Duration::from_secs(30),
        }
    }
}

/// `[limits]`: how many sessions of a kind there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Half-open sessions over all shards; bounded by the table alone when absent.
    pub half_open: Option<u32>,
    /// Sessions of one source address; unbounded when absent.
    pub per_source: Option<u32>,
}

/// `[management]`: how operators reach the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// The unix socket of the management API.
    pub socket: PathBuf,
    /// Where metrics are served over TCP as well; nowhere when absent.
    pub metrics: Option<SocketAddr>,
}
