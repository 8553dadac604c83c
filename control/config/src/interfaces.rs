//! `[[interface]]`: reading them, and checking them against each other.

use std::net::Ipv4Addr;

use crate::address::Ipv4Net;
use crate::device::Device;
use crate::document::{Located, Refusal, Report, Section, join, nearest};
use crate::model::{Interface, InterfaceIndex, InterfaceRole};
use crate::value;

/// The most interfaces that a unit can have.
const INTERFACES_MAX: usize = 64;
/// The most links and monitors that a unit can have, as the cluster's frames number them.
pub(crate) const LINKS_MAX: usize = 16;
/// The smallest MTU of IPv4 that hosts may rely on (RFC 791 section 3.1).
const MTU_MIN: u16 = 576;
/// The largest frame that the data plane has buffers for.
const MTU_MAX: u16 = 9_216;
/// Frames between units need this much.
const MTU_HEARTBEAT: u16 = 1_500;
/// Longest name of an interface, as in Linux.
const NAME_MAX: usize = 15;

/// An interface as far as it could be read.
struct Draft {
    key: String,
    line: usize,
    name: Option<Located<String>>,
    device: Option<Located<Device>>,
    role: Option<Located<InterfaceRole>>,
    critical: Option<Located<bool>>,
    monitored: Option<Located<bool>>,
    weight: Option<Located<u8>>,
    mtu: Option<Located<u16>>,
    link_failed_signal: Option<Located<bool>>,
    cluster_addresses: Vec<Located<Ipv4Net>>,
    unit_address: Option<Located<Ipv4Net>>,
    /// Cluster addresses are written, be they right or wrong.
    has_cluster_address: bool,
    /// Any address is written, be it right or wrong.
    has_address: bool,
    has_weight: bool,
}

impl Draft {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.key)
    }

    fn role(&self) -> Option<InterfaceRole> {
        self.role.as_ref().map(|role| role.value)
    }

    fn name(&self) -> Option<&str> {
        self.name.as_ref().map(|name| name.value.as_str())
    }

    fn addresses(&self) -> impl Iterator<Item = (&'static str, &Located<Ipv4Net>)> {
        let cluster = self.cluster_addresses.iter();
        cluster.map(|address| ("cluster_addresses", address)).chain(
            self.unit_address
                .iter()
                .map(|address| ("unit_address", address)),
        )
    }

    fn is(value: Option<&Located<bool>>) -> bool {
        value.is_some_and(|value| value.value)
    }

    /// Whether it carries heartbeats, or counts in the election.
    fn is_link(&self) -> bool {
        self.role() == Some(InterfaceRole::Sync)
            || Self::is(self.critical.as_ref())
            || Self::is(self.monitored.as_ref())
    }
}

/// All interfaces of the file, also those with mistakes, so that what refers to them by name or
/// by address is judged on its own.
pub(crate) struct Interfaces {
    drafts: Vec<Draft>,
}

impl Interfaces {
    pub(crate) fn read(root: &Section<'_, '_>, report: &Report) -> Self {
        let sections = root.sections("interface", "name");
        let drafts = sections
            .into_iter()
            .map(|section| read(section, report))
            .collect();
        let interfaces = Self { drafts };
        interfaces.check_set(root, report);
        for draft in &interfaces.drafts {
            check_role(draft, report);
            check_mtu(draft, report);
            check_signal(draft, report);
        }
        interfaces.check_names(report);
        interfaces.check_addresses(report);
        interfaces
    }

    /// The checked interfaces; nothing if any of them has a mistake.
    pub(crate) fn build(self) -> Option<Vec<Interface>> {
        self.drafts.into_iter().map(build).collect()
    }

    fn indexed(&self) -> impl Iterator<Item = (InterfaceIndex, &Draft)> {
        (0..=u8::MAX).map(InterfaceIndex).zip(&self.drafts)
    }

    fn draft(&self, index: InterfaceIndex) -> Option<&Draft> {
        self.drafts.get(usize::from(index.0))
    }

    /// Names of the traffic interfaces.
    fn traffic_names(&self) -> Vec<&str> {
        let drafts = self.drafts.iter();
        let mut names: Vec<&str> = drafts
            .filter(|draft| draft.role() != Some(InterfaceRole::Sync))
            .filter_map(Draft::name)
            .collect();
        names.dedup();
        names
    }

    /// The traffic interface called `name`.
    pub(crate) fn traffic(&self, name: &str) -> Result<InterfaceIndex, Refusal> {
        let names = self.traffic_names();
        let Some((index, draft)) = self.indexed().find(|(_, d)| d.name() == Some(name)) else {
            let cause = format!("there is no interface \"{name}\"");
            let all = match names[..] {
                [] => "there is no traffic interface".to_owned(),
                _ => format!("there are {}", join(names.iter().copied())),
            };
            let remedy = match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"? ({all})"),
                None => all,
            };
            return Err(Refusal::new(cause, remedy));
        };
        if draft.role() == Some(InterfaceRole::Sync) {
            let cause = format!("\"{name}\" is a sync interface, which carries no user's packet");
            let remedy = format!("write a traffic interface: {}", join(names));
            return Err(Refusal::new(cause, remedy));
        }
        Ok(index)
    }

    pub(crate) fn name(&self, index: InterfaceIndex) -> &str {
        self.draft(index).and_then(Draft::name).unwrap_or("?")
    }

    /// Every traffic interface.
    pub(crate) fn all_traffic(&self) -> Vec<InterfaceIndex> {
        self.indexed()
            .filter(|(_, draft)| draft.role() == Some(InterfaceRole::Traffic))
            .map(|(index, _)| index)
            .collect()
    }

    /// True when `interface` has cluster addresses, be they right or wrong.
    pub(crate) fn has_cluster_address(&self, interface: InterfaceIndex) -> bool {
        self.draft(interface)
            .is_some_and(|draft| draft.has_cluster_address)
    }

    /// The cluster addresses of `interface`.
    pub(crate) fn cluster_addresses(&self, interface: InterfaceIndex) -> Vec<Ipv4Addr> {
        let draft = self.draft(interface).into_iter();
        draft
            .flat_map(|draft| &draft.cluster_addresses)
            .map(|located| located.value.address)
            .collect()
    }

    /// True when `interface` has a unit address, be it right or wrong.
    pub(crate) fn has_unit_address(&self, interface: InterfaceIndex) -> bool {
        self.draft(interface)
            .is_some_and(|draft| draft.unit_address.is_some())
    }

    /// True when `address` is one of the gateway's own.
    pub(crate) fn owns(&self, address: Ipv4Addr) -> bool {
        let mut addresses = self.drafts.iter().flat_map(Draft::addresses);
        addresses.any(|(_, own)| own.value.address == address)
    }

    /// How many are links of the cluster: they carry heartbeats, or count in the election.
    pub(crate) fn links(&self) -> usize {
        self.drafts.iter().filter(|draft| draft.is_link()).count()
    }

    /// The interface whose network holds `address`, that with the longest prefix.
    pub(crate) fn connected(&self, address: Ipv4Addr) -> Option<(InterfaceIndex, Ipv4Net)> {
        self.networks()
            .filter(|(_, net)| net.contains(address))
            .max_by_key(|(_, net)| net.prefix)
    }

    /// Every connected network, with its interface.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (InterfaceIndex, Ipv4Net)> {
        self.indexed().flat_map(|(index, draft)| {
            let addresses = draft.addresses();
            addresses.map(move |(_, address)| (index, address.value.network()))
        })
    }

    fn check_set(&self, root: &Section<'_, '_>, report: &Report) {
        if !root.has("interface") {
            let refusal = Refusal::new("is missing", "add a table [[interface]] for each port");
            report.error(root.line(), "interface", refusal);
            return;
        }
        if self.drafts.len() > INTERFACES_MAX {
            let line = self.drafts[INTERFACES_MAX].line;
            let cause = format!("there are {} interfaces", self.drafts.len());
            let remedy = format!("write at most {INTERFACES_MAX}");
            report.error(line, "interface", Refusal::new(cause, remedy));
        } else if let Some(link) = self.drafts.iter().filter(|d| d.is_link()).nth(LINKS_MAX) {
            let cause = format!(
                "is one too many: {} interfaces carry heartbeats or count in the election, and a unit has at most \
                 {LINKS_MAX} such links",
                self.links()
            );
            let remedy = "remove critical and monitored from the least important";
            report.error(link.line, "interface", Refusal::new(cause, remedy));
        }
        let line = self.drafts.first().map_or(root.line(), |draft| draft.line);
        let roles_known = self.drafts.iter().all(|draft| draft.role.is_some());
        let heartbeats = |draft: &Draft| {
            draft.role() == Some(InterfaceRole::Sync) || Draft::is(draft.critical.as_ref())
        };
        if roles_known && self.all_traffic().is_empty() {
            let refusal = Refusal::new(
                "no interface carries traffic",
                "add an [[interface]] with role = \"traffic\"",
            );
            report.error(line, "interface", refusal);
        }
        if roles_known && !self.drafts.iter().any(heartbeats) {
            let refusal = Refusal::new(
                "no interface carries heartbeats, so the unit will never hear a peer",
                "add an interface with role = \"sync\", or write critical = true on one",
            );
            report.warning(line, "interface", refusal);
        }
    }

    fn check_names(&self, report: &Report) {
        for (index, draft) in self.drafts.iter().enumerate() {
            let before = &self.drafts[..index];
            if let Some(name) = &draft.name
                && let Some(other) = before.iter().find(|d| d.name() == Some(&name.value))
            {
                let cause = format!("\"{}\" is the interface on line {}", name.value, other.line);
                let refusal = Refusal::new(cause, "give each interface a name of its own");
                report.error(name.line, draft.key("name"), refusal);
            }
            if let Some(device) = draft.device.as_ref().filter(|d| !d.value.is_shareable())
                && let Some(other) = before
                    .iter()
                    .filter_map(|d| d.device.as_ref())
                    .find(|other| other.value == device.value)
            {
                let cause = format!("\"{}\" is used on line {}", device.value, other.line);
                let refusal = Refusal::new(cause, "give each interface a device of its own");
                report.error(device.line, draft.key("device"), refusal);
            }
        }
    }

    /// No address twice, no network on two interfaces.
    fn check_addresses(&self, report: &Report) {
        let all: Vec<_> = self
            .indexed()
            .flat_map(|(index, draft)| {
                draft
                    .addresses()
                    .map(move |(key, a)| (index, draft, key, a))
            })
            .collect();
        for (position, (index, draft, key, address)) in all.iter().enumerate() {
            for (other_index, other_draft, _, other) in &all[..position] {
                let refusal = if other.value.address == address.value.address {
                    Refusal::new(
                        format!(
                            "{} is on line {} already",
                            address.value.address, other.line
                        ),
                        "write each address once; a cluster address is not also a unit address",
                    )
                } else if index != other_index && other.value.overlaps(address.value) {
                    Refusal::new(
                        format!(
                            "{} overlaps {} of interface \"{}\"",
                            address.value.network(),
                            other.value.network(),
                            other_draft.name().unwrap_or("?")
                        ),
                        "give each interface networks of its own",
                    )
                } else {
                    continue;
                };
                report.error(address.line, draft.key(key), refusal);
                break;
            }
        }
    }
}

fn read(section: Section<'_, '_>, report: &Report) -> Draft {
    const ROLES: &[(&str, InterfaceRole)] = &[
        ("traffic", InterfaceRole::Traffic),
        ("sync", InterfaceRole::Sync),
    ];
    let key = section.key("name").trim_end_matches(".name").to_owned();
    if section.has("vlan") {
        let line = section.optional("vlan", |_| Ok(())).map_or(0, |v| v.line);
        let refusal = Refusal::new(
            "is not offered by this release",
            "remove it, and give the interface a device that carries untagged frames",
        );
        report.error(line, section.key("vlan"), refusal);
    }
    let critical = section.or("critical", false, value::boolean);
    let draft = Draft {
        key,
        line: section.line(),
        name: section.required("name", "name = \"lan\"", |value| {
            match value::name(NAME_MAX)(value)? {
                name if name == "any" => Err(Refusal::new(
                    "\"any\" stands for every interface in policies",
                    "write another name",
                )),
                name => Ok(name),
            }
        }),
        device: section.required("device", "device = \"af_packet:lan0\"", value::device),
        role: section.required("role", "role = \"traffic\"", value::choice(ROLES)),
        monitored: section.or("monitored", Draft::is(critical.as_ref()), value::boolean),
        critical,
        weight: section.or("weight", 1, value::number(1..=u8::MAX)),
        mtu: section.or("mtu", MTU_HEARTBEAT, value::number(MTU_MIN..=MTU_MAX)),
        link_failed_signal: section.or("link_failed_signal", false, value::boolean),
        cluster_addresses: section.list("cluster_addresses", value::interface_address),
        unit_address: section.optional("unit_address", value::interface_address),
        has_cluster_address: section.has("cluster_addresses"),
        has_address: section.has("cluster_addresses") || section.has("unit_address"),
        has_weight: section.has("weight"),
    };
    section.finish();
    draft
}

/// What an interface must and must not have by its role.
fn check_role(draft: &Draft, report: &Report) {
    let refuse = |line, key: &str, cause: &str, remedy: &str| {
        report.error(line, draft.key(key), Refusal::new(cause, remedy));
    };
    match draft.role() {
        Some(InterfaceRole::Sync) => {
            if let Some((key, address)) = draft.addresses().next() {
                let cause = "a sync interface has no addresses";
                refuse(
                    address.line,
                    key,
                    cause,
                    "remove it: frames between units carry no IP",
                );
            }
            for (key, flag) in [
                ("critical", &draft.critical),
                ("monitored", &draft.monitored),
            ] {
                if let Some(flag) = flag.as_ref().filter(|flag| flag.value) {
                    let cause = "a sync interface carries heartbeats always and never counts in \
                                 the election";
                    refuse(
                        flag.line,
                        key,
                        cause,
                        "remove it, or write role = \"traffic\"",
                    );
                    break;
                }
            }
        }
        Some(InterfaceRole::Traffic) if !draft.has_address => {
            let cause = "is missing, and so is unit_address: a traffic interface needs an address";
            let remedy = "add a line such as cluster_addresses = [\"192.0.2.1/24\"]";
            refuse(draft.line, "cluster_addresses", cause, remedy);
        }
        _ => {}
    }
    let critical_unmonitored = Draft::is(draft.critical.as_ref())
        && draft.monitored.as_ref().is_some_and(|flag| !flag.value);
    if let Some(flag) = draft.monitored.as_ref().filter(|_| critical_unmonitored) {
        let cause = "is false, but a critical interface counts in the election";
        refuse(
            flag.line,
            "monitored",
            cause,
            "remove it, or write critical = false",
        );
    }
    let counts = Draft::is(draft.critical.as_ref()) || Draft::is(draft.monitored.as_ref());
    if let Some(weight) = draft
        .weight
        .as_ref()
        .filter(|_| draft.has_weight && !counts)
    {
        let cause = "has no effect, since the interface does not count in the election";
        refuse(
            weight.line,
            "weight",
            cause,
            "remove it, or write critical or monitored = true",
        );
    }
}

/// Only the links of users' segments are worth a signal, and only the kernel's can be taken down.
fn check_signal(draft: &Draft, report: &Report) {
    let Some(signal) = draft.link_failed_signal.as_ref().filter(|flag| flag.value) else {
        return;
    };
    let is_kernels = |device: &Located<Device>| device.value.kernel_interface().is_some();
    let (cause, remedy) = if draft.role() == Some(InterfaceRole::Sync) {
        (
            "no switch learns a virtual MAC on a sync interface",
            "remove it, or write role = \"traffic\"",
        )
    } else if draft
        .device
        .as_ref()
        .is_some_and(|device| !is_kernels(device))
    {
        (
            "the device is no kernel interface, whose link can be taken down",
            "remove it, or use an af_packet or af_xdp device",
        )
    } else {
        return;
    };
    let key = draft.key("link_failed_signal");
    report.error(signal.line, key, Refusal::new(cause, remedy));
}

fn check_mtu(draft: &Draft, report: &Report) {
    let heartbeats =
        draft.role() == Some(InterfaceRole::Sync) || Draft::is(draft.critical.as_ref());
    if let Some(mtu) = draft
        .mtu
        .as_ref()
        .filter(|mtu| heartbeats && mtu.value < MTU_HEARTBEAT)
    {
        let cause = format!("{} is too small for the frames between units", mtu.value);
        let remedy = format!("write at least {MTU_HEARTBEAT}");
        report.error(mtu.line, draft.key("mtu"), Refusal::new(cause, remedy));
    }
}

fn build(draft: Draft) -> Option<Interface> {
    Some(Interface {
        name: draft.name?.value,
        device: draft.device?.value,
        role: draft.role?.value,
        critical: draft.critical?.value,
        monitored: draft.monitored?.value,
        weight: draft.weight?.value,
        mtu: draft.mtu?.value,
        link_failed_signal: draft.link_failed_signal?.value,
        cluster_addresses: draft
            .cluster_addresses
            .into_iter()
            .map(|a| a.value)
            .collect(),
        unit_address: draft.unit_address.map(|address| address.value),
    })
}
