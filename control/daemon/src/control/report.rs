//! What operators see. Called between two turns, so every view is of one moment.

use std::time::Duration;

use api::{
    ClusterView, CounterView, EventView, Health, InterfaceCounters, InterfaceStatus, InterfaceView,
    LinkState, LinkView, NeighbourView, Peer, PolicyView, Role, RouteView, SessionCount, Status,
    StreamView, SyncPeerView, SyncView, TransitionView, UnitView, Why,
};
use cluster::{LinkKind, PeerStatus, RangeSet, UnitId};
use config::{Action, InterfaceRole, NextHop, Policy, Protocol, Zone};
use dpdk::MacFilter;
use forward::{InterfaceId, NeighbourState, Snapshot, WorkerCounters};
use packet::Mac;
use session::Tick;

use super::Control;
use crate::clock::Clock;
use crate::log;
use crate::moment::rfc3339;
use crate::plan::SOFTWARE;
use crate::sessions::Copies;

impl Control {
    pub(crate) fn status(&self) -> Status {
        let now = self.clock.now();
        let node = self.node.status(now);
        Status {
            unit: node.unit.get(),
            name: node.name.clone(),
            role: role(node.role),
            term: node.term,
            cluster: self.config.cluster.id,
            uptime_s: self.clock.uptime().as_secs(),
            synced: node.synced,
            sessions: SessionCount {
                total: self.table.len(),
                capacity: self.table.capacity(),
            },
            peers: node
                .peers
                .iter()
                .map(|peer| Peer {
                    unit: peer.unit.get(),
                    alive: peer.alive,
                    role: role(peer.role),
                    synced: peer.synced,
                    lag: peer.lag.deltas,
                })
                .collect(),
            interfaces: self.interface_status(),
            software: SOFTWARE.to_owned(),
            warnings: self.warnings(&node),
        }
    }

    fn interface_status(&self) -> Vec<InterfaceStatus> {
        let each = (0..)
            .map(InterfaceId)
            .zip(&self.interfaces)
            .zip(&self.config.interfaces);
        each.map(|((id, side), interface)| {
            let counters = self.interface_counters(id);
            InterfaceStatus {
                name: interface.name.clone(),
                link: link(side.up),
                mac: Mac(side.port.mac()).to_string(),
                rx_packets: counters.rx_packets,
                tx_packets: counters.tx_packets,
            }
        })
        .collect()
    }

    /// What the workers have counted; for sync interfaces, which they have no part in, the device.
    fn interface_counters(&self, id: InterfaceId) -> InterfaceCounters {
        let device = self.interfaces[id.index()]
            .port
            .statistics()
            .unwrap_or_default();
        let losses = InterfaceCounters {
            rx_missed: device.rx_missed + device.rx_no_buffer,
            rx_errors: device.rx_errors + device.rx_too_long,
            tx_errors: device.tx_errors,
            ..InterfaceCounters::default()
        };
        if self.config.interfaces[id.index()].role == InterfaceRole::Sync {
            return InterfaceCounters {
                rx_packets: device.rx_packets,
                rx_bytes: device.rx_bytes,
                tx_packets: device.tx_packets,
                tx_bytes: device.tx_bytes,
                ..losses
            };
        }
        self.workers
            .iter()
            .map(|worker| worker.counters.traffic(id))
            .fold(losses, |sum, one| InterfaceCounters {
                rx_packets: sum.rx_packets + one.rx_packets,
                rx_bytes: sum.rx_bytes + one.rx_bytes,
                tx_packets: sum.tx_packets + one.tx_packets,
                tx_bytes: sum.tx_bytes + one.tx_bytes,
                ..sum
            })
    }

    fn warnings(&self, node: &cluster::Status) -> Vec<String> {
        let mut warnings = Vec::new();
        for (side, interface) in self.interfaces.iter().zip(&self.config.interfaces) {
            if !side.up {
                warnings.push(format!("Interface {} has no link.", interface.name));
            }
        }
        for peer in node.peers.iter().filter(|peer| peer.alive && peer.verified) {
            if !peer.configuration_agrees {
                let parts = match peer.differences.as_slice() {
                    [] => String::new(),
                    parts => format!(": {}", parts.join(", ")),
                };
                warnings.push(format!(
                    "Unit {} has a different configuration{parts}.",
                    peer.unit
                ));
            }
        }
        if !node
            .peers
            .iter()
            .any(|peer| peer.alive && peer.eligible && peer.synced)
        {
            warnings.push("No other unit could take over now.".to_owned());
        }
        warnings.extend(self.config.warnings().iter().map(ToString::to_string));
        warnings
    }

    pub(crate) fn cluster(&self) -> ClusterView {
        let now = self.clock.now();
        let node = self.node.status(now);
        let own = UnitView {
            unit: node.unit.get(),
            name: Some(node.name.clone()),
            alive: true,
            role: role(node.role),
            term: node.term,
            health: health(node.health, node.workers),
            age_s: node.age.as_secs(),
            priority: node.priority,
            links: node
                .links
                .iter()
                .filter(|link| link.kind != LinkKind::Monitored || link.weight > 0)
                .map(|link| LinkView {
                    name: link.name.clone(),
                    up: link.up,
                    last_heard_ms: None,
                })
                .collect(),
            synced: node.synced,
            lag: 0,
            lag_ms: 0,
            stuck: false,
            weight: self.config.unit.weight,
            slots: self.slots_of(node.unit.get()),
            owned: self.owned(),
            share_permille: 0,
            config_match: true,
            config_differs: Vec::new(),
            software: SOFTWARE.to_owned(),
        };
        let mut units: Vec<_> = node.peers.iter().map(|peer| self.peer(peer)).collect();
        units.push(own);
        units.sort_by_key(|unit| unit.unit);
        share_out(&mut units);
        ClusterView {
            cluster: self.config.cluster.id,
            unit: node.unit.get(),
            term: node.term,
            primary: node.primary.map(UnitId::get),
            witness: self.witness_view(),
            schedule: self.config.cluster.schedule.name().to_owned(),
            slots: u32::try_from(self.current().distribution.slots.len()).unwrap_or(u32::MAX),
            units,
        }
    }

    fn peer(&self, peer: &PeerStatus) -> UnitView {
        UnitView {
            unit: peer.unit.get(),
            name: (!peer.name.is_empty()).then(|| peer.name.clone()),
            alive: peer.alive,
            role: role(peer.role),
            term: peer.term,
            health: health(peer.health, peer.role != cluster::Role::Isolated),
            age_s: peer.age.as_secs(),
            priority: peer.priority,
            links: peer
                .links
                .iter()
                .map(|link| LinkView {
                    name: self.link_name(link.link),
                    up: link.heard,
                    last_heard_ms: link.last_heard.map(milliseconds),
                })
                .collect(),
            synced: peer.synced,
            lag: peer.lag.deltas,
            lag_ms: milliseconds(peer.lag.age),
            stuck: peer.lag.stuck,
            weight: peer.weight,
            slots: self.slots_of(peer.unit.get()),
            owned: peer.load.owned.into(),
            share_permille: 0,
            config_match: peer.configuration_agrees,
            config_differs: peer.differences.clone(),
            software: peer.software.clone(),
        }
    }

    /// How many slots of the schedule are a unit's.
    fn slots_of(&self, unit: u8) -> u32 {
        let snapshot = self.current();
        let slots = snapshot.distribution.slots.iter();
        u32::try_from(slots.filter(|&&of| of == unit).count()).unwrap_or(u32::MAX)
    }

    fn link_name(&self, link: cluster::LinkId) -> String {
        self.links
            .get(link.index())
            .and_then(|interface| self.config.interfaces.get(interface.index()))
            .map_or_else(String::new, |interface| interface.name.clone())
    }

    pub(crate) fn why(&self) -> Why {
        let since_start = self.clock.uptime();
        let wall = Clock::wall();
        let transitions = self
            .node
            .transitions()
            .map(|transition| {
                let at = Duration::from_nanos(transition.time.0);
                TransitionView {
                    time: rfc3339(wall.saturating_sub(since_start.saturating_sub(at))),
                    uptime_ms: milliseconds(at),
                    from: role(transition.from),
                    to: role(transition.to),
                    term: transition.term,
                    cause: transition.cause.to_string(),
                }
            })
            .collect();
        Why {
            role: role(self.node.role()),
            term: self.node.term(),
            transitions,
        }
    }

    pub(crate) fn interfaces(&self) -> Vec<InterfaceView> {
        let snapshot = self.snapshot.current();
        let each = (0..)
            .map(InterfaceId)
            .zip(&self.interfaces)
            .zip(&self.config.interfaces);
        each.map(|((id, side), interface)| {
            let info = side.port.info();
            let traffic = interface.role == InterfaceRole::Traffic;
            InterfaceView {
                name: interface.name.clone(),
                device: interface.device.to_string(),
                driver: info.driver.clone(),
                role: if traffic { "traffic" } else { "sync" }.to_owned(),
                critical: interface.critical,
                monitored: interface.monitored,
                link: link(side.up),
                mac: Mac(side.port.mac()).to_string(),
                virtual_mac: snapshot
                    .interface(id)
                    .and_then(|interface| interface.virtual_mac)
                    .map(|mac| mac.to_string()),
                mac_filter: match side.mac_filter {
                    Some(MacFilter::Hardware) => "hardware",
                    Some(MacFilter::Promiscuous) => "promiscuous",
                    None => "",
                }
                .to_owned(),
                mtu: info.mtu,
                cluster_addresses: interface
                    .cluster_addresses
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                unit_address: interface.unit_address.map(|address| address.to_string()),
                counters: self.interface_counters(id),
            }
        })
        .collect()
    }

    pub(crate) fn neighbours(&self) -> Vec<NeighbourView> {
        self.host
            .resolver
            .iter(self.table.now)
            .map(|entry| NeighbourView {
                interface: self
                    .config
                    .interfaces
                    .get(entry.neighbour.interface.index())
                    .map_or_else(String::new, |interface| interface.name.clone()),
                address: entry.neighbour.address,
                mac: (entry.state != NeighbourState::Incomplete)
                    .then(|| entry.neighbour.mac.to_string()),
                state: match entry.state {
                    NeighbourState::Incomplete => "incomplete",
                    NeighbourState::Reachable => "reachable",
                    NeighbourState::Stale => "stale",
                    NeighbourState::Probe => "probe",
                }
                .to_owned(),
                age_s: u64::from(entry.age / Tick::PER_SECOND),
                queued: u32::try_from(entry.waiting).unwrap_or(u32::MAX),
            })
            .collect()
    }

    pub(crate) fn routes(&self) -> Vec<RouteView> {
        let name = |index| self.config.interface(index).name.clone();
        let connected = self.config.interfaces.iter().flat_map(|interface| {
            interface.addresses().map(|address| RouteView {
                to: address.network().to_string(),
                via: None,
                interface: interface.name.clone(),
                origin: "connected".to_owned(),
            })
        });
        let fixed = self.config.routes.iter().map(|route| {
            let (via, interface) = match route.next_hop {
                NextHop::Gateway { interface, address } => (Some(address), name(interface)),
                NextHop::Link(interface) => (None, name(interface)),
            };
            RouteView {
                to: route.to.to_string(),
                via,
                interface,
                origin: "static".to_owned(),
            }
        });
        let mut routes: Vec<RouteView> = Vec::new();
        // A cluster address and a unit address share their network.
        for route in connected.chain(fixed) {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        routes
    }

    pub(crate) fn policies(&self) -> Vec<PolicyView> {
        let zone = |zone: &Zone| match zone {
            Zone::Any => "any".to_owned(),
            Zone::Interfaces(members) => members
                .iter()
                .map(|&index| self.config.interface(index).name.as_str())
                .collect::<Vec<_>>()
                .join(","),
        };
        let snapshot = self.current();
        let numbers = snapshot.policies.iter().map(|policy| policy.number);
        (1..)
            .zip(self.config.policies.iter().zip(numbers))
            .map(|(position, (policy, number))| PolicyView {
                position,
                name: policy.name.clone(),
                from: zone(&policy.from),
                to: zone(&policy.to),
                matches: matches(policy),
                action: match policy.action {
                    Action::Allow => "allow",
                    Action::Deny => "deny",
                    Action::Reject => "reject",
                }
                .to_owned(),
                source_nat: policy.source_nat.map(|nat| nat.to_string()),
                destination_nat: policy.destination_nat.map(|nat| nat.to_string()),
                hits: self.sum(|counters| counters.policy_hits(number)),
            })
            .collect()
    }

    fn sum(&self, read: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.workers
            .iter()
            .map(|worker| read(&worker.counters))
            .sum()
    }

    /// Every counter of the unit, each under a name of its own.
    pub(crate) fn counters(&self) -> Vec<CounterView> {
        let mut totals = Totals::default();
        for worker in &self.workers {
            totals.add("drop_", worker.counters.drops());
            totals.add("", worker.counters.events());
        }
        for reader in self.table.readers() {
            totals.add("table_", reader.statistics().iter());
        }
        totals.add("", self.counters.iter());
        totals.add("", self.outgoing.counters.iter());
        let dropped = "Lines of the log that were dropped because nothing took them.";
        totals.add("", [("log_dropped", dropped, log::dropped())].into_iter());
        totals.add("cluster_", self.node.counters().iter());
        let refused = self.node.counters();
        let rejections = refused.rejections();
        totals.add(
            "cluster_rejected_",
            rejections.map(|(why, n)| (why.name(), why.help(), n)),
        );
        totals.add("sync_", self.node.sync_counters().iter());
        totals.0
    }

    pub(crate) fn events(&self) -> Vec<EventView> {
        self.events.view()
    }

    pub(crate) fn sync(&self) -> SyncView {
        let node = self.node.status(self.clock.now());
        let sync = self.node.synchronisation();
        let counters = sync.counters();
        let peers = node
            .peers
            .iter()
            .map(|peer| SyncPeerView {
                unit: peer.unit.get(),
                alive: peer.alive,
                synced: peer.synced,
                sent: streams(sync.sent_to(peer.unit)),
                received: streams(sync.received_from(peer.unit)),
                lag_deltas: peer.lag.deltas,
                lag_ms: milliseconds(peer.lag.age),
            })
            .collect();
        SyncView {
            enabled: self.config.cluster.session_sync,
            synced: node.synced,
            resent: counters.segments_resent,
            repairs_sent: counters.repairs_sent,
            repairs_received: counters.repairs_received,
            peers,
        }
    }

    /// Who holds copies of this unit's sessions: units that are in step, with the ranges in which they
    /// may lack something. Asked after sessions were read, it is true of each of them.
    pub(crate) fn copies(&self) -> Copies {
        let node = self.node.status(self.clock.now());
        // What the workers have told and nobody has read yet is on its way to no one.
        let unread = self.workers.iter().any(|worker| !worker.deltas.is_empty());
        let lacking = |peer: &PeerStatus| {
            if unread {
                RangeSet::ALL
            } else {
                self.node.synchronisation().unconfirmed(peer.unit)
            }
        };
        let peers = node.peers.iter().filter(|peer| peer.alive && peer.synced);
        Copies {
            unit: node.unit.get(),
            peers: peers.map(|peer| (peer.unit.get(), lacking(peer))).collect(),
        }
    }

    /// Sessions that this unit owns.
    pub(crate) fn owned(&self) -> u64 {
        self.table.owned(self.config.unit.id)
    }

    /// Names of the policies, by their number in sessions.
    pub(crate) fn policy_names(&self) -> Vec<String> {
        self.config
            .policies
            .iter()
            .map(|policy| policy.name.clone())
            .collect()
    }

    /// The snapshot that the workers follow.
    pub(super) fn current(&self) -> std::sync::Arc<Snapshot> {
        self.snapshot.current()
    }
}

/// Tells each living unit its part of the sessions that they own together.
fn share_out(units: &mut [UnitView]) {
    let alive = |unit: &&mut UnitView| unit.alive;
    let total: u64 = units.iter_mut().filter(alive).map(|unit| unit.owned).sum();
    for unit in units.iter_mut().filter(alive) {
        let permille = unit.owned.saturating_mul(1_000) / total.max(1);
        unit.share_permille = u16::try_from(permille).unwrap_or(1_000);
    }
}

/// Streams by shard, from pairs of (last segment, acknowledged or applied).
fn streams(positions: impl Iterator<Item = (u64, u64)>) -> Vec<StreamView> {
    (0..)
        .zip(positions)
        .map(|(shard, (sent, acknowledged))| StreamView {
            shard,
            sent,
            acknowledged,
        })
        .collect()
}

/// Counters by name, summed over workers and shards, in the order in which they came.
#[derive(Default)]
struct Totals(Vec<CounterView>);

impl Totals {
    fn add(
        &mut self,
        prefix: &str,
        counters: impl Iterator<Item = (&'static str, &'static str, u64)>,
    ) {
        for (name, help, value) in counters {
            let name = format!("{prefix}{name}");
            match self.0.iter_mut().find(|total| total.name == name) {
                Some(total) => total.value += value,
                None => self.0.push(CounterView {
                    name,
                    value,
                    help: help.trim().to_owned(),
                }),
            }
        }
    }
}

/// What a policy matches besides interfaces, as an operator would say it.
fn matches(policy: &Policy) -> String {
    fn list<T: ToString>(values: &[T]) -> String {
        values
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }
    let mut parts = Vec::new();
    match policy.protocol {
        Protocol::Any => {}
        Protocol::Tcp => parts.push("tcp".to_owned()),
        Protocol::Udp => parts.push("udp".to_owned()),
        Protocol::Icmp => parts.push("icmp".to_owned()),
    }
    if !policy.destination_ports.is_empty() {
        parts.push(list(&policy.destination_ports));
    }
    if !policy.source.is_empty() {
        parts.push(format!("from {}", list(&policy.source)));
    }
    if !policy.destination.is_empty() {
        parts.push(format!("to {}", list(&policy.destination)));
    }
    parts.join(" ")
}

fn role(role: cluster::Role) -> Role {
    match role {
        cluster::Role::Candidate => Role::Candidate,
        cluster::Role::Subordinate => Role::Subordinate,
        cluster::Role::Primary => Role::Primary,
        cluster::Role::Isolated => Role::Isolated,
        cluster::Role::Maintenance => Role::Maintenance,
    }
}

fn health(health: cluster::Health, workers: bool) -> Health {
    Health {
        links: u32::from(health.healthy),
        links_total: u32::from(health.total),
        workers,
    }
}

fn link(up: bool) -> LinkState {
    if up { LinkState::Up } else { LinkState::Down }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
