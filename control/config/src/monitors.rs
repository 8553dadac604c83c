//! `[[monitor]]`: hosts whose answers count in the election like links.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::document::{Located, Refusal, Report, Section};
use crate::interfaces::{Interfaces, LINKS_MAX};
use crate::model::InterfaceIndex;
use crate::value;

const SECOND: Duration = Duration::from_secs(1);

/// `[[monitor]]`: one host that is asked whether it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Unique; what events call it.
    pub name: String,
    /// By which interface it is asked.
    pub interface: InterfaceIndex,
    /// Its address.
    pub target: Ipv4Addr,
    /// How it is asked.
    pub kind: MonitorKind,
    /// How often it is asked.
    pub interval: Duration,
    /// So many questions without an answer, and it counts as down.
    pub loss: u32,
    /// How much it counts in the election, 1..=255.
    pub weight: u8,
}

/// How a monitor asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorKind {
    /// By ARP, without an address of its own (the probe of RFC 5227).
    Arp,
    /// By ICMP echo, from the unit's address.
    Icmp,
}

impl MonitorKind {
    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::Icmp => "icmp",
        }
    }
}

/// Reads all of them; nothing if any has a mistake.
pub(crate) fn read(
    root: &Section<'_, '_>,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<Vec<Monitor>> {
    let mut names: Vec<Located<String>> = Vec::new();
    let mut monitors = Vec::new();
    for section in root.sections("monitor", "name") {
        let line = section.line();
        let name = section.required("name", "name = \"router\"", value::name(15));
        if let Some(name) = &name {
            if let Some(other) = names.iter().find(|other| other.value == name.value) {
                let cause = format!("\"{}\" is on line {} already", name.value, other.line);
                let refusal = Refusal::new(cause, "give each monitor a name of its own");
                report.error(name.line, section.key("name"), refusal);
            }
            names.push(name.clone());
        }
        if interfaces.links() + names.len() == LINKS_MAX + 1 {
            let cause = format!(
                "is one too many: a unit has at most {LINKS_MAX} links and monitors, and {} interfaces \
                 carry heartbeats or count",
                interfaces.links()
            );
            let key = section.key("name");
            report.error(line, key, Refusal::new(cause, "remove the least important"));
        }
        monitors.push(read_one(&section, name, interfaces, report));
        section.finish();
    }
    monitors.into_iter().collect()
}

fn read_one(
    section: &Section<'_, '_>,
    name: Option<Located<String>>,
    interfaces: &Interfaces,
    report: &Report,
) -> Option<Monitor> {
    const KINDS: &[(&str, MonitorKind)] = &[
        (MonitorKind::Arp.name(), MonitorKind::Arp),
        (MonitorKind::Icmp.name(), MonitorKind::Icmp),
    ];
    let interface = section.required("interface", "interface = \"wan\"", |value| {
        interfaces.traffic(value::string(value, "the name of an interface")?)
    });
    let target = section.required("target", "target = \"198.51.100.254\"", value::ipv4);
    let kind = section.or("kind", MonitorKind::Arp, value::choice(KINDS));
    let interval = section.or(
        "interval",
        SECOND,
        value::duration(SECOND / 10..=60 * SECOND),
    );
    let loss = section.or("loss", 3, value::number(1..=100));
    let weight = section.or("weight", 1, value::number(1..=u8::MAX));
    if let (Some(interface), Some(target), Some(kind)) = (&interface, &target, &kind) {
        check(section, interface, target, kind, interfaces, report);
    }
    Some(Monitor {
        name: name?.value,
        interface: interface?.value,
        target: target?.value,
        kind: kind?.value,
        interval: interval?.value,
        loss: loss?.value,
        weight: weight?.value,
    })
}

/// What a monitor needs of its interface to be able to ask.
fn check(
    section: &Section<'_, '_>,
    interface: &Located<InterfaceIndex>,
    target: &Located<Ipv4Addr>,
    kind: &Located<MonitorKind>,
    interfaces: &Interfaces,
    report: &Report,
) {
    let name = interfaces.name(interface.value);
    if kind.value == MonitorKind::Icmp && !interfaces.has_unit_address(interface.value) {
        let cause = format!(
            "interface \"{name}\" has no unit_address, and an echo request needs a sender that is this \
             unit alone"
        );
        let remedy = format!("give interface \"{name}\" a unit_address, or write kind = \"arp\"");
        report.error(kind.line, section.key("kind"), Refusal::new(cause, remedy));
    }
    let connected = interfaces.connected(target.value);
    if connected.map(|(index, _)| index) != Some(interface.value) {
        let cause = format!("{} is on no network of interface \"{name}\"", target.value);
        let remedy = "write the address of a neighbour, such as the router that users are sent to";
        report.error(
            target.line,
            section.key("target"),
            Refusal::new(cause, remedy),
        );
    } else if interfaces.owns(target.value) {
        let cause = format!("{} is an address of this gateway", target.value);
        let remedy = "write the address of another host";
        report.error(
            target.line,
            section.key("target"),
            Refusal::new(cause, remedy),
        );
    }
}
