//! What a configuration means for the data plane and for the cluster: pure translation.

use cluster::{
    Boot, ConfigPart, Key, LinkKind, LinkSettings, LiveSettings, Schedule, Settings, Station,
    UnitId,
};
use config::{Config, InterfaceIndex, Ipv4Net, Zone};
use forward::{
    DestinationNat, Distribution, Duty, Interface, InterfaceAddress, InterfaceId, InterfaceRole,
    InterfaceSet, Limits, Member, Pick, Policy, PolicyAction, Prefix, Route, SnapshotSettings,
    SourceNat,
};
use packet::Mac;
use session::Session;

use crate::policies;

/// Name and version as the peers and operators see them.
pub(crate) const SOFTWARE: &str = concat!("tidegate ", env!("CARGO_PKG_VERSION"));

/// The address that the primary's frames leave from on an interface: locally administered, made of
/// the cluster's id and the position of the interface, so that all units compute the same.
pub(crate) fn virtual_mac(cluster: u16, interface: InterfaceIndex) -> Mac {
    let [high, low] = cluster.to_be_bytes();
    Mac([0x02, 0x74, 0x67, high, low, interface.0])
}

/// Where the frames of a cluster go: a multicast address of its own, so that switches flood it and
/// no host's stack sees it.
pub(crate) fn cluster_multicast(cluster: u16) -> Mac {
    let [high, low] = cluster.to_be_bytes();
    Mac([0x03, 0x74, 0x67, high, low, 0x00])
}

/// The interfaces that are links of the cluster, in the order of their `LinkId`s.
pub(crate) fn links(config: &Config) -> Vec<InterfaceIndex> {
    config
        .interfaces()
        .filter(|(_, interface)| interface.carries_heartbeats() || interface.monitored)
        .map(|(index, _)| index)
        .collect()
}

/// What the cluster's state machine is told; `macs` are the unit's own, by interface.
pub(crate) fn cluster(config: &Config, macs: &[Mac], unit: UnitId, boot: Boot) -> Settings {
    let links = links(config).into_iter().map(|index| {
        let interface = config.interface(index);
        let kind = match interface.role {
            config::InterfaceRole::Sync => LinkKind::Sync,
            config::InterfaceRole::Traffic if interface.critical => LinkKind::Critical,
            config::InterfaceRole::Traffic => LinkKind::Monitored,
        };
        let weight = if interface.monitored {
            u16::from(interface.weight)
        } else {
            0
        };
        LinkSettings {
            name: interface.name.clone(),
            kind,
            weight,
        }
    });
    let monitors = config.monitors.iter().map(|monitor| LinkSettings {
        name: monitor.name.clone(),
        kind: LinkKind::Monitored,
        weight: u16::from(monitor.weight),
    });
    let cluster = &config.cluster;
    Settings {
        cluster: cluster.id,
        unit,
        name: config.unit.name.clone(),
        priority: config.unit.priority,
        preempt: cluster.preempt,
        heartbeat_interval: cluster.heartbeat_interval,
        heartbeat_loss: cluster.heartbeat_loss,
        hello_holddown: cluster.hello_holddown,
        age_margin: cluster.age_margin,
        announce_count: cluster.announce_count,
        announce_interval: cluster.announce_interval,
        key: Key::new(*cluster.key.bytes()),
        boot,
        last_term: 0,
        links: links.chain(monitors).collect(),
        config_hash: config.hash(),
        config_parts: config_parts(config),
        software: SOFTWARE.to_owned(),
        session_sync: cluster.session_sync,
        shards: u16::try_from(config.cpu.workers.len()).unwrap_or(u16::MAX),
        witness: config.witness.as_ref().map(|witness| witness.lease),
        schedule: schedule(cluster.schedule),
        weight: config.unit.weight,
        stations: stations(config, macs),
        protocol: cluster::envelope::VERSION,
    }
}

/// The unit's own MACs on its traffic interfaces.
fn stations(config: &Config, macs: &[Mac]) -> Vec<Station> {
    let interfaces = config.interfaces().zip(macs);
    interfaces
        .filter(|((_, interface), _)| interface.role == config::InterfaceRole::Traffic)
        .map(|((_, interface), &mac)| Station {
            interface: cluster::name_key(&interface.name),
            mac,
        })
        .collect()
}

const fn schedule(schedule: config::Schedule) -> Schedule {
    match schedule {
        config::Schedule::None => Schedule::None,
        config::Schedule::Hub => Schedule::Hub,
        config::Schedule::RoundRobin => Schedule::RoundRobin,
        config::Schedule::WeightedRoundRobin => Schedule::WeightedRoundRobin,
        config::Schedule::LeastConnections => Schedule::LeastConnections,
        config::Schedule::Random => Schedule::Random,
        config::Schedule::Ip => Schedule::Ip,
        config::Schedule::IpPort => Schedule::IpPort,
    }
}

/// A duty, as the workers know it.
pub(crate) const fn duty(duty: cluster::Duty) -> Duty {
    match duty {
        cluster::Duty::Idle => Duty::Idle,
        cluster::Duty::Primary => Duty::Primary,
        cluster::Duty::Owner { primary } => Duty::Owner {
            primary: primary.get(),
        },
        cluster::Duty::Relay { to } => Duty::Relay { to: to.get() },
    }
}

/// The interface of a key that travels between units.
pub(crate) fn interface_of(key: u32, interfaces: &[Interface]) -> Option<InterfaceId> {
    (0..)
        .map(InterfaceId)
        .zip(interfaces)
        .find(|(_, interface)| cluster::name_key(&interface.name) == key)
        .map(|(id, _)| id)
}

/// A distribution, as the workers of a unit with these interfaces know it.
pub(crate) fn distribution(
    distribution: &cluster::Distribution,
    interfaces: &[Interface],
) -> Distribution {
    let by_interface = |stations: &[cluster::Station]| {
        let mac = |interface: &Interface| {
            let key = cluster::name_key(&interface.name);
            let found = stations.iter().find(|station| station.interface == key);
            found.map(|station| station.mac)
        };
        interfaces.iter().map(mac).collect()
    };
    let members = distribution.members.iter().map(|member| Member {
        unit: member.unit.get(),
        owns: member.owns,
        stations: by_interface(&member.stations),
        sources: by_interface(&member.sources),
    });
    Distribution {
        pick: match distribution.pick {
            cluster::Pick::InTurn => Pick::InTurn,
            cluster::Pick::Fewest => Pick::Fewest,
            cluster::Pick::Random => Pick::Random,
            cluster::Pick::Addresses => Pick::Addresses,
            cluster::Pick::Tuple => Pick::Tuple,
        },
        slots: distribution.slots.iter().map(|unit| unit.get()).collect(),
        members: members.collect(),
    }
}

/// What of it may change while the unit runs.
pub(crate) fn live(config: &Config) -> LiveSettings {
    LiveSettings {
        priority: config.unit.priority,
        preempt: config.cluster.preempt,
        schedule: schedule(config.cluster.schedule),
        weight: config.unit.weight,
        config_hash: config.hash(),
        config_parts: config_parts(config),
    }
}

fn config_parts(config: &Config) -> Vec<ConfigPart> {
    let parts = config.parts().into_iter();
    parts
        .map(|(name, digest)| ConfigPart { name, digest })
        .collect()
}

/// What the workers' snapshot is built from; `macs` are the unit's own, by interface.
pub(crate) fn snapshot(config: &Config, macs: &[Mac]) -> SnapshotSettings {
    SnapshotSettings {
        unit: config.unit.id,
        interfaces: interfaces(config, macs),
        routes: config.routes.iter().map(route).collect(),
        policies: numbered_policies(&config.policies),
        workers: u16::try_from(config.cpu.workers.len()).unwrap_or(u16::MAX),
        heartbeat_ethertype: config.cluster.ether_type,
        limits: Limits::default(),
    }
}

fn interfaces(config: &Config, macs: &[Mac]) -> Vec<Interface> {
    config
        .interfaces()
        .zip(macs)
        .map(|((index, interface), &mac)| {
            let traffic = interface.role == config::InterfaceRole::Traffic;
            Interface {
                name: interface.name.clone(),
                role: if traffic {
                    InterfaceRole::Traffic
                } else {
                    InterfaceRole::Sync
                },
                mac,
                virtual_mac: traffic.then(|| virtual_mac(config.cluster.id, index)),
                mtu: interface.mtu,
                cluster_addresses: interface.cluster_addresses.iter().map(address).collect(),
                unit_address: interface.unit_address.as_ref().map(address),
            }
        })
        .collect()
}

fn address(net: &Ipv4Net) -> InterfaceAddress {
    InterfaceAddress::new(net.address, net.prefix)
}

fn prefix(net: &Ipv4Net) -> Prefix {
    Prefix::new(net.address, net.prefix)
}

/// The worker's position of a configured interface.
pub(crate) fn interface_id(index: InterfaceIndex) -> InterfaceId {
    InterfaceId(index.0)
}

fn route(route: &config::Route) -> Route {
    let (interface, gateway) = match route.next_hop {
        config::NextHop::Gateway { interface, address } => (interface, Some(address)),
        config::NextHop::Link(interface) => (interface, None),
    };
    Route {
        to: prefix(&route.to),
        interface: interface_id(interface),
        gateway,
    }
}

fn zone(zone: &Zone) -> InterfaceSet {
    match zone {
        Zone::Any => InterfaceSet::ANY,
        Zone::Interfaces(members) => members.iter().copied().map(interface_id).collect(),
    }
}

/// The policies with their numbers.
fn numbered_policies(configured: &[config::Policy]) -> Vec<Policy> {
    let names = configured.iter().map(|policy| policy.name.as_str());
    let numbered = configured.iter().zip(policies::numbers(names));
    numbered
        .map(|(configured, number)| policy(configured, number))
        .collect()
}

fn policy(policy: &config::Policy, number: u16) -> Policy {
    let private = policy.durability == config::Durability::None;
    Policy {
        name: policy.name.clone(),
        number: number | if private { Session::PRIVATE } else { 0 },
        from: zone(&policy.from),
        to: zone(&policy.to),
        source: policy.source.iter().map(prefix).collect(),
        destination: policy.destination.iter().map(prefix).collect(),
        protocols: policy.protocol.number().into_iter().collect(),
        destination_ports: policy
            .destination_ports
            .iter()
            .map(|range| range.first..=range.last)
            .collect(),
        action: match policy.action {
            config::Action::Allow => PolicyAction::Allow,
            config::Action::Deny => PolicyAction::Deny,
            config::Action::Reject => PolicyAction::Reject,
        },
        source_nat: match policy.source_nat {
            None => SourceNat::None,
            Some(config::SourceNat::Masquerade) => SourceNat::Masquerade,
            Some(config::SourceNat::Address(address)) => SourceNat::Address(address),
        },
        destination_nat: policy.destination_nat.map(|nat| DestinationNat {
            address: nat.address,
            port: nat.port,
        }),
        acked: policy.durability == config::Durability::Acked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_moved_by_a_private_one_keep_what_their_sessions_say() {
        let policy = |name: &str, durability| config::Policy {
            name: name.to_owned(),
            from: Zone::Any,
            to: Zone::Any,
            source: Vec::new(),
            destination: Vec::new(),
            protocol: config::Protocol::Any,
            destination_ports: Vec::new(),
            action: config::Action::Allow,
            source_nat: None,
            destination_nat: None,
            durability,
        };
        let mut configured = vec![
            policy("web", config::Durability::Async),
            policy("out", config::Durability::Acked),
        ];
        let number = |of: &[Policy], name| of.iter().find(|p| p.name == name).unwrap().number;
        let before = numbered_policies(&configured);
        configured.insert(0, policy("dns", config::Durability::None));
        let after = numbered_policies(&configured);
        for name in ["web", "out"] {
            assert_eq!(number(&before, name), number(&after, name));
            assert_eq!(number(&after, name) & Session::PRIVATE, 0);
        }
        assert_ne!(number(&after, "dns") & Session::PRIVATE, 0);
    }

    #[test]
    fn stations_are_found_by_the_names_of_interfaces() {
        let interface = |name: &str| Interface {
            name: name.to_owned(),
            role: InterfaceRole::Traffic,
            mac: Mac::ZERO,
            virtual_mac: None,
            mtu: 1_500,
            cluster_addresses: Vec::new(),
            unit_address: None,
        };
        let interfaces = ["wan", "lan", "dmz"].map(interface);
        let station = |name: &str, last| cluster::Station {
            interface: cluster::name_key(name),
            mac: Mac([2, 0, 0, 0, 0, last]),
        };
        let [Some(first), Some(second)] = [1, 2].map(UnitId::new) else {
            panic!("ids of units");
        };
        let from = cluster::Distribution {
            pick: cluster::Pick::Tuple,
            slots: vec![second, first, second],
            members: vec![cluster::Member {
                unit: second,
                owns: true,
                stations: vec![station("wan", 2)],
                sources: vec![station("lan", 1), station("wan", 2)],
            }],
        };
        let to = distribution(&from, &interfaces);
        assert_eq!(
            (to.pick, to.slots.as_slice()),
            (Pick::Tuple, &[2, 1, 2][..])
        );
        let last = |id| to.station(2, InterfaceId(id)).map(|mac| mac.0[5]);
        assert_eq!([last(0), last(1), last(2)], [Some(2), None, None]);
        let sources = to.member(2).map(|member| member.sources.as_slice());
        let named = [2, 1].map(|last| Some(Mac([2, 0, 0, 0, 0, last])));
        assert_eq!(sources, Some(&[named[0], named[1], None][..]));
        assert!(to.owns(2) && !to.owns(1));
        let key = cluster::name_key("dmz");
        assert_eq!(interface_of(key, &interfaces), Some(InterfaceId(2)));
        assert_eq!(interface_of(key + 1, &interfaces), None);
    }

    /// A unit waits for both steps of a hand-over, for its successor, and relays for ten heartbeats.
    #[test]
    fn systemd_waits_for_the_longest_hand_over() {
        let service = include_str!("../../../deploy/tidegated@.service");
        let mut lines = service.lines();
        let patience = lines.find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let patience = humantime::parse_duration(patience.unwrap()).unwrap();
        let longest = cluster::HANDOVER_PATIENCE * 2
            + config::Cluster::HELLO_HOLDDOWN_MAX
            + config::Cluster::HEARTBEAT_INTERVAL_MAX * 10;
        assert_eq!(longest.as_secs(), 162);
        assert!(patience > longest, "{patience:?}");
    }
}
