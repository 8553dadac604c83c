//! What a configuration means: one fact per key, spelled the same however the file spelled it.
//!
//! Defaults are facts like any other, so writing one out changes nothing. Lists whose order has a
//! meaning have a fact for their order.

use std::fmt::Display;

use crate::diff::Effect;
use crate::model::{
    Config, DestinationNat, Idle, Interface, InterfaceRole, NextHop, Policy, PortRange, SourceNat,
    Zone,
};
use crate::policies::{action_name, durability_name, protocol_name};
use crate::sections::ACKED_TIMEOUT_DEFAULT;
use crate::value::show;

/// Who must agree on a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All units of the cluster.
    Cluster,
    /// This unit alone.
    Unit,
}

/// One thing that a configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) scope: Scope,
    pub(crate) effect: Effect,
}

/// Collects facts of one table.
struct Table<'f> {
    facts: &'f mut Vec<Fact>,
    name: String,
    effect: Effect,
}

impl Table<'_> {
    fn say(&mut self, scope: Scope, key: &str, value: impl Display) {
        self.say_with(self.effect, scope, key, value);
    }

    fn say_with(&mut self, effect: Effect, scope: Scope, key: &str, value: impl Display) {
        self.facts.push(Fact {
            key: format!("{}.{key}", self.name),
            value: value.to_string(),
            scope,
            effect,
        });
    }

    fn say_if(&mut self, scope: Scope, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.say(scope, key, value);
        }
    }
}

/// Every fact, in the order of the schema.
pub(crate) fn facts(config: &Config) -> Vec<Fact> {
    let mut facts = Vec::new();
    unit(config, &mut facts);
    cluster(config, &mut facts);
    witness(config, &mut facts);
    let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    order(
        &mut facts,
        "interface",
        Effect::Restart,
        names(&mut config.interfaces.iter().map(|i| i.name.as_str())),
    );
    for item in &config.interfaces {
        interface(item, &mut facts);
    }
    monitors(config, &mut facts);
    routes(config, &mut facts);
    order(
        &mut facts,
        "policy",
        Effect::Live,
        names(&mut config.policies.iter().map(|p| p.name.as_str())),
    );
    for item in &config.policies {
        policy(config, item, &mut facts);
    }
    bounds(config, &mut facts);
    facts
}

fn table<'f>(facts: &'f mut Vec<Fact>, name: impl Into<String>, effect: Effect) -> Table<'f> {
    Table {
        facts,
        name: name.into(),
        effect,
    }
}

/// The order of a list: of policies the first match wins, and interfaces number the links.
fn order(facts: &mut Vec<Fact>, list: &str, effect: Effect, names: String) {
    facts.push(Fact {
        key: format!("order of {list}"),
        value: names,
        scope: Scope::Cluster,
        effect,
    });
}

/// What is a unit's own.
fn unit(config: &Config, facts: &mut Vec<Fact>) {
    let mut unit = table(facts, "unit", Effect::Restart);
    unit.say(Scope::Unit, "id", config.unit.id);
    unit.say(Scope::Unit, "name", &config.unit.name);
    unit.say_with(Effect::Live, Scope::Unit, "priority", config.unit.priority);
    unit.say_with(Effect::Live, Scope::Unit, "weight", config.unit.weight);

    let mut cpu = table(facts, "cpu", Effect::Restart);
    cpu.say(Scope::Unit, "control", config.cpu.control);
    cpu.say(Scope::Unit, "workers", join(&config.cpu.workers));
    let idle = match config.cpu.idle {
        Idle::Spin => "spin",
        Idle::Sleep => "sleep",
    };
    cpu.say(Scope::Unit, "idle", idle);

    let mut memory = table(facts, "memory", Effect::Restart);
    memory.say(Scope::Unit, "huge_pages", config.memory.huge_pages);
    memory.say(Scope::Unit, "sessions", config.memory.sessions);

    let mut management = table(facts, "management", Effect::Restart);
    management.say(Scope::Unit, "socket", config.management.socket.display());
    management.say_if(Scope::Unit, "metrics", config.management.metrics);
}

fn cluster(config: &Config, facts: &mut Vec<Fact>) {
    let cluster = &config.cluster;
    let mut table = table(facts, "cluster", Effect::Restart);
    table.say(Scope::Cluster, "id", cluster.id);
    table.say(Scope::Unit, "key_file", cluster.key_file.display());
    // The key itself is compared by the frames: they are refused where it differs.
    table.say(
        Scope::Unit,
        "key",
        format!("key {}", cluster.key.fingerprint()),
    );
    table.say(
        Scope::Cluster,
        "heartbeat_interval",
        show(cluster.heartbeat_interval),
    );
    table.say(Scope::Cluster, "heartbeat_loss", cluster.heartbeat_loss);
    table.say(
        Scope::Cluster,
        "hello_holddown",
        show(cluster.hello_holddown),
    );
    table.say(Scope::Cluster, "age_margin", show(cluster.age_margin));
    table.say(Scope::Cluster, "announce_count", cluster.announce_count);
    table.say(
        Scope::Cluster,
        "announce_interval",
        show(cluster.announce_interval),
    );
    table.say(
        Scope::Cluster,
        "ether_type",
        format!("{:#06X}", cluster.ether_type),
    );
    table.say_with(Effect::Live, Scope::Cluster, "preempt", cluster.preempt);
    let schedule = cluster.schedule.name();
    table.say_with(Effect::Live, Scope::Cluster, "schedule", schedule);
    table.say(Scope::Cluster, "session_sync", cluster.session_sync);
    // A unit of a release that does not know a key agrees with its default.
    let scope = if cluster.acked_timeout == ACKED_TIMEOUT_DEFAULT {
        Scope::Unit
    } else {
        Scope::Cluster
    };
    let acked_timeout = show(cluster.acked_timeout);
    table.say_with(Effect::Live, scope, "acked_timeout", acked_timeout);
}

/// Units may reach it by different ways, but all must have one.
fn witness(config: &Config, facts: &mut Vec<Fact>) {
    if let Some(witness) = &config.witness {
        let mut table = table(facts, "witness", Effect::Restart);
        table.say(Scope::Unit, "endpoints", join(&witness.endpoints));
        if let Some(tls) = &witness.tls {
            table.say(Scope::Unit, "ca", tls.ca.display());
            if let Some((cert, key)) = &tls.identity {
                table.say(Scope::Unit, "cert", cert.display());
                table.say(Scope::Unit, "key", key.display());
            }
        }
        table.say(Scope::Cluster, "lease", show(witness.lease));
    }
}

fn interface(interface: &Interface, facts: &mut Vec<Fact>) {
    let name = format!("interface[{}]", interface.name);
    let mut table = table(facts, name, Effect::Restart);
    table.say(Scope::Unit, "device", &interface.device);
    let role = match interface.role {
        InterfaceRole::Traffic => "traffic",
        InterfaceRole::Sync => "sync",
    };
    table.say(Scope::Cluster, "role", role);
    table.say(Scope::Cluster, "critical", interface.critical);
    table.say(Scope::Cluster, "monitored", interface.monitored);
    table.say(Scope::Cluster, "weight", interface.weight);
    table.say(Scope::Cluster, "mtu", interface.mtu);
    table.say(
        Scope::Unit,
        "link_failed_signal",
        interface.link_failed_signal,
    );
    // The first one is what "masquerade" takes, so the order stays as it is.
    if !interface.cluster_addresses.is_empty() {
        let addresses = join(&interface.cluster_addresses);
        table.say(Scope::Cluster, "cluster_addresses", addresses);
    }
    table.say_if(Scope::Unit, "unit_address", interface.unit_address);
}

/// Monitors by name: their order in the file means nothing. Each unit may have targets of its own, but what
/// they count must be the same.
fn monitors(config: &Config, facts: &mut Vec<Fact>) {
    let mut monitors: Vec<_> = config.monitors.iter().collect();
    monitors.sort_by_key(|monitor| &monitor.name);
    for monitor in monitors {
        let name = format!("monitor[{}]", monitor.name);
        let mut table = table(facts, name, Effect::Restart);
        let interface = &config.interface(monitor.interface).name;
        table.say(Scope::Unit, "interface", interface);
        table.say(Scope::Unit, "target", monitor.target);
        table.say(Scope::Unit, "kind", monitor.kind.name());
        table.say(Scope::Cluster, "interval", show(monitor.interval));
        table.say(Scope::Cluster, "loss", monitor.loss);
        table.say(Scope::Cluster, "weight", monitor.weight);
    }
}

/// Routes by destination: their order in the file means nothing.
fn routes(config: &Config, facts: &mut Vec<Fact>) {
    let mut routes: Vec<_> = config.routes.iter().collect();
    routes.sort_by_key(|route| route.to);
    for route in routes {
        let mut table = table(facts, format!("route[{}]", route.to), Effect::Live);
        match route.next_hop {
            NextHop::Gateway { address, .. } => table.say(Scope::Cluster, "via", address),
            NextHop::Link(index) => {
                table.say(Scope::Cluster, "interface", &config.interface(index).name);
            }
        }
    }
}

fn policy(config: &Config, policy: &Policy, facts: &mut Vec<Fact>) {
    let zone = |zone: &Zone| match zone {
        Zone::Any => "any".to_owned(),
        Zone::Interfaces(members) => {
            let mut names: Vec<_> = members
                .iter()
                .map(|index| config.interface(*index).name.as_str())
                .collect();
            names.sort_unstable();
            names.dedup();
            names.join(", ")
        }
    };
    let mut table = table(facts, format!("policy[{}]", policy.name), Effect::Live);
    table.say(Scope::Cluster, "from", zone(&policy.from));
    table.say(Scope::Cluster, "to", zone(&policy.to));
    table.say_if(Scope::Cluster, "source", set(&policy.source));
    table.say_if(Scope::Cluster, "destination", set(&policy.destination));
    table.say(Scope::Cluster, "protocol", protocol_name(policy.protocol));
    table.say_if(
        Scope::Cluster,
        "destination_ports",
        set(&policy.destination_ports),
    );
    table.say(Scope::Cluster, "action", action_name(policy.action));
    table.say_if(Scope::Cluster, "source_nat", policy.source_nat);
    table.say_if(Scope::Cluster, "destination_nat", policy.destination_nat);
    table.say(
        Scope::Cluster,
        "durability",
        durability_name(policy.durability),
    );
}

fn bounds(config: &Config, facts: &mut Vec<Fact>) {
    let timeouts = &config.timeouts;
    let mut table = table(facts, "timeouts", Effect::Live);
    for (key, value) in [
        ("tcp_established", timeouts.tcp_established),
        ("tcp_transitory", timeouts.tcp_transitory),
        ("tcp_syn", timeouts.tcp_syn),
        ("udp_replied", timeouts.udp_replied),
        ("udp_unreplied", timeouts.udp_unreplied),
        ("icmp_replied", timeouts.icmp_replied),
        ("icmp_unreplied", timeouts.icmp_unreplied),
    ] {
        table.say(Scope::Cluster, key, show(value));
    }
    table.name = "limits".into();
    table.effect = Effect::Restart;
    table.say_if(Scope::Cluster, "half_open", config.limits.half_open);
    table.say_if(Scope::Cluster, "per_source", config.limits.per_source);
}

fn join<T: Display>(values: &[T]) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// The values of a list whose order means nothing; nothing if there are none.
fn set<T: Display + Ord + Copy>(values: &[T]) -> Option<String> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then(|| join(&values))
}

impl Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Display for SourceNat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Masquerade => f.write_str("masquerade"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Display for DestinationNat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}
