//! `[[policy]]`: reading them, and checking them against the interfaces.

use crate::address::Ipv4Net;
use crate::document::{Located, Refusal, Report, Section};
use crate::interfaces::Interfaces;
use crate::model::{
    Action, DestinationNat, Durability, InterfaceIndex, Policy, PortRange, Protocol, SourceNat,
    Zone,
};
use crate::value;

/// The most policies that a unit can have.
const POLICIES_MAX: usize = 4_096;
/// Longest name of a policy.
const NAME_MAX: usize = 32;

const PROTOCOLS: &[(&str, Protocol)] = &[
    ("any", Protocol::Any),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("icmp", Protocol::Icmp),
];
const ACTIONS: &[(&str, Action)] = &[
    ("allow", Action::Allow),
    ("deny", Action::Deny),
    ("reject", Action::Reject),
];
const DURABILITIES: &[(&str, Durability)] = &[
    ("none", Durability::None),
    ("async", Durability::Async),
    ("acked", Durability::Acked),
];

/// A policy as far as it could be read.
struct Draft {
    line: usize,
    key: String,
    name: Option<Located<String>>,
    from: Option<Zone>,
    to: Option<Zone>,
    source: Vec<Located<Ipv4Net>>,
    destination: Vec<Located<Ipv4Net>>,
    protocol: Option<Located<Protocol>>,
    destination_ports: Vec<Located<PortRange>>,
    action: Option<Located<Action>>,
    source_nat: Option<Located<SourceNat>>,
    destination_nat: Option<Located<DestinationNat>>,
    durability: Option<Located<Durability>>,
    has_destination: bool,
}

impl Draft {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }
}

pub(crate) fn read(
    root: &Section<'_, '_>,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<Vec<Policy>> {
    let mut drafts: Vec<Draft> = Vec::new();
    for section in root.sections("policy", "name") {
        let draft = read_one(section, interfaces, report);
        check_name(&draft, &drafts, report);
        check_ports(&draft, report);
        check_action(&draft, report);
        check_source_nat(&draft, interfaces, report);
        check_destination_nat(&draft, interfaces, report);
        drafts.push(draft);
    }
    if let Some(draft) = drafts.get(POLICIES_MAX) {
        let cause = format!("there are {} policies", drafts.len());
        let refusal = Refusal::new(cause, format!("write at most {POLICIES_MAX}"));
        report.error(draft.line, "policy", refusal);
    }
    let lines: Vec<(usize, String)> = drafts.iter().map(|d| (d.line, d.key("name"))).collect();
    let policies: Vec<Policy> = drafts.into_iter().map(build).collect::<Option<_>>()?;
    warn_unreachable(&policies, &lines, report);
    Some(policies)
}

fn read_one(section: Section<'_, '_>, interfaces: &Interfaces, report: &Report) -> Draft {
    let draft = Draft {
        line: section.line(),
        key: section.key("name").trim_end_matches(".name").to_owned(),
        name: section.required("name", "name = \"out\"", value::name(NAME_MAX)),
        from: zone(&section, "from", interfaces, report),
        to: zone(&section, "to", interfaces, report),
        source: section.list("source", value::network),
        destination: section.list("destination", value::network),
        protocol: section.or("protocol", Protocol::Any, value::choice(PROTOCOLS)),
        destination_ports: section.list("destination_ports", value::ports),
        action: section.required("action", "action = \"allow\"", value::choice(ACTIONS)),
        source_nat: section.optional("source_nat", value::source_nat),
        destination_nat: section.optional("destination_nat", value::destination_nat),
        durability: section.or("durability", Durability::Async, value::choice(DURABILITIES)),
        has_destination: section.has("destination"),
    };
    section.finish();
    draft
}

/// Reads a zone: `"any"`, the name of an interface, or a list of names. Absent means any.
fn zone(
    section: &Section<'_, '_>,
    key: &'static str,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<Zone> {
    if !section.has(key) {
        return Some(Zone::Any);
    }
    let members: Vec<Located<Option<InterfaceIndex>>> = section.list(key, |value| {
        match value::string(value, "the name of an interface, or \"any\"")? {
            "any" => Ok(None),
            name => interfaces.traffic(name).map(Some),
        }
    });
    if members.len() > 1
        && let Some(any) = members.iter().find(|member| member.value.is_none())
    {
        let refusal = Refusal::new("\"any\" stands beside a name", "keep one of the two");
        report.error(any.line, section.key(key), refusal);
    }
    let named: Vec<InterfaceIndex> = members.iter().filter_map(|member| member.value).collect();
    match members[..] {
        // Empty, or every name was refused: either has been reported.
        [] => None,
        [Located { value: None, .. }] => Some(Zone::Any),
        _ => Some(Zone::Interfaces(named)),
    }
}

fn check_name(draft: &Draft, before: &[Draft], report: &Report) {
    let Some(name) = &draft.name else { return };
    let same = |other: &&Draft| other.name.as_ref().is_some_and(|n| n.value == name.value);
    if let Some(other) = before.iter().find(same) {
        let cause = format!("\"{}\" is the policy on line {}", name.value, other.line);
        let refusal = Refusal::new(cause, "give each policy a name of its own");
        report.error(name.line, draft.key("name"), refusal);
    }
}

fn check_ports(draft: &Draft, report: &Report) {
    let Some(protocol) = &draft.protocol else {
        return;
    };
    if matches!(protocol.value, Protocol::Tcp | Protocol::Udp) {
        return;
    }
    let remedy = "write protocol = \"tcp\" or \"udp\" in this policy";
    if let Some(ports) = draft.destination_ports.first() {
        let refusal = Refusal::new("needs a protocol that has ports", remedy);
        report.error(ports.line, draft.key("destination_ports"), refusal);
    }
    if let Some(nat) = draft
        .destination_nat
        .as_ref()
        .filter(|nat| nat.value.port.is_some())
    {
        let refusal = Refusal::new("has a port, so it needs a protocol that has ports", remedy);
        report.error(nat.line, draft.key("destination_nat"), refusal);
    }
}

/// Only what is allowed can be translated.
fn check_action(draft: &Draft, report: &Report) {
    let Some(action) = draft.action.as_ref().filter(|a| a.value != Action::Allow) else {
        return;
    };
    let lines = [
        ("source_nat", draft.source_nat.as_ref().map(|nat| nat.line)),
        (
            "destination_nat",
            draft.destination_nat.as_ref().map(|nat| nat.line),
        ),
    ];
    for (key, line) in lines {
        if let Some(line) = line {
            let name = action_name(action.value);
            let cause = format!("has no effect, since the action is \"{name}\"");
            let refusal = Refusal::new(cause, "remove it, or write action = \"allow\"");
            report.error(line, draft.key(key), refusal);
        }
    }
}

/// How an action is written.
pub(crate) fn action_name(action: Action) -> &'static str {
    let mut names = ACTIONS.iter().filter(|(_, value)| *value == action);
    names.next().map_or("", |(name, _)| name)
}

/// How a protocol is written.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    let mut names = PROTOCOLS.iter().filter(|(_, value)| *value == protocol);
    names.next().map_or("", |(name, _)| name)
}

/// How a durability is written.
pub(crate) fn durability_name(durability: Durability) -> &'static str {
    let mut names = DURABILITIES
        .iter()
        .filter(|(_, value)| *value == durability);
    names.next().map_or("", |(name, _)| name)
}

/// The source address must be one that moves with the primary role, on the way out.
fn check_source_nat(draft: &Draft, interfaces: &Interfaces, report: &Report) {
    let (Some(nat), Some(to)) = (&draft.source_nat, &draft.to) else {
        return;
    };
    let outgoing = match to {
        Zone::Any => interfaces.all_traffic(),
        Zone::Interfaces(members) => members.clone(),
    };
    let refusal = match nat.value {
        SourceNat::Masquerade => {
            let bare = outgoing
                .iter()
                .find(|index| !interfaces.has_cluster_address(**index));
            let Some(bare) = bare else { return };
            Refusal::new(
                format!(
                    "\"{}\" has no cluster address to take",
                    interfaces.name(*bare)
                ),
                "add cluster_addresses to that interface, or write another interface into to",
            )
        }
        SourceNat::Address(address) => {
            let offered: Vec<_> = outgoing
                .iter()
                .flat_map(|index| interfaces.cluster_addresses(*index))
                .collect();
            if offered.contains(&address) {
                return;
            }
            let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
            Refusal::new(
                format!("{address} is no cluster address of the outgoing interface"),
                format!("write \"masquerade\" or one of: {}", offered.join(", ")),
            )
        }
    };
    report.error(nat.line, draft.key("source_nat"), refusal);
}

/// The original destination must be written, and packets to it must reach the gateway.
fn check_destination_nat(draft: &Draft, interfaces: &Interfaces, report: &Report) {
    let Some(nat) = &draft.destination_nat else {
        return;
    };
    if !draft.has_destination {
        let cause = "needs the address that clients use";
        let remedy = "add a line such as destination = \"198.51.100.1\", a cluster address";
        report.error(
            nat.line,
            draft.key("destination_nat"),
            Refusal::new(cause, remedy),
        );
    }
    if interfaces.owns(nat.value.address) {
        let cause = format!("{} is the gateway's own address", nat.value.address);
        let refusal = Refusal::new(cause, "write the address of the server behind the gateway");
        report.error(nat.line, draft.key("destination_nat"), refusal);
    }
    for destination in &draft.destination {
        let net = destination.value;
        let Some((interface, connected)) = interfaces.connected(net.address) else {
            // Routed to the gateway by others: no address of an interface, but as good.
            continue;
        };
        let cluster = interfaces.cluster_addresses(interface);
        if net.prefix == 32 && cluster.contains(&net.address) {
            continue;
        }
        let name = interfaces.name(interface);
        let refusal = Refusal::new(
            format!(
                "{net} lies in {connected} of \"{name}\" and is no cluster address, so nobody answers ARP for it"
            ),
            format!("write a cluster address, or add it to the cluster_addresses of \"{name}\""),
        );
        report.error(destination.line, draft.key("destination"), refusal);
    }
}

/// Warns of the first policy behind one that matches everything.
fn warn_unreachable(policies: &[Policy], lines: &[(usize, String)], report: &Report) {
    let matches_all = |policy: &Policy| {
        policy.from == Zone::Any
            && policy.to == Zone::Any
            && policy.source.is_empty()
            && policy.destination.is_empty()
            && policy.protocol == Protocol::Any
    };
    let Some(last) = policies.iter().position(matches_all) else {
        return;
    };
    if let Some((line, key)) = lines.get(last + 1) {
        let cause = format!(
            "is never reached: \"{}\" above matches everything",
            policies[last].name
        );
        let refusal = Refusal::new(cause, "move it up, or remove it");
        report.warning(*line, key.clone(), refusal);
    }
}

fn build(draft: Draft) -> Option<Policy> {
    fn values<T>(list: Vec<Located<T>>) -> Vec<T> {
        list.into_iter().map(|located| located.value).collect()
    }
    Some(Policy {
        name: draft.name?.value,
        from: draft.from?,
        to: draft.to?,
        source: values(draft.source),
        destination: values(draft.destination),
        protocol: draft.protocol?.value,
        destination_ports: values(draft.destination_ports),
        action: draft.action?.value,
        source_nat: draft.source_nat.map(|nat| nat.value),
        destination_nat: draft.destination_nat.map(|nat| nat.value),
        durability: draft.durability?.value,
    })
}
