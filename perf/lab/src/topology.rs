//! The namespaces, bridges and cables of a lab.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::namespace::Namespace;
use crate::tool;

/// The client's address, in 192.0.2.0/24 (RFC 5737).
pub const CLIENT_LAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// The cluster's address on the client's side: the client's default gateway.
pub const CLUSTER_LAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The server's first address, in 198.51.100.0/24 (RFC 5737).
pub const SERVER_WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);
/// The cluster's address on the server's side, from which the client's traffic seems to come.
pub const CLUSTER_WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// How many more addresses the server has, from 198.51.100.101 on: each is a destination of its
/// own, so that one source port makes as many sessions.
pub const SERVER_CROWD: u8 = 100;

/// The most units that a cluster can have.
const MAX_UNITS: u8 = 16;

/// One broadcast domain of the lab, with a learning bridge in the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The client's side.
    Lan,
    /// The server's side.
    Wan,
    /// Between the units.
    Sync,
}

impl Segment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Wan, Self::Sync];

    /// Its name, which its bridge bears too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Sync => "sync",
        }
    }

    /// The interface of a unit in this segment.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Lan => "lan0",
            Self::Wan => "wan0",
            Self::Sync => "sync0",
        }
    }
}

impl FromStr for Segment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|segment| text == segment.name() || text == segment.interface())
            .ok_or_else(|| anyhow!("there is no interface `{text}`: a unit has lan, wan and sync"))
    }
}

/// One host of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The host in the lan segment.
    Client,
    /// The host in the wan segment.
    Server,
    /// The bridges of all segments.
    Switch,
    /// A unit of the cluster, by its id.
    Unit(u8),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Server => f.write_str("server"),
            Self::Switch => f.write_str("switch"),
            Self::Unit(id) => write!(f, "u{id}"),
        }
    }
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            "switch" => Ok(Self::Switch),
            _ => parse_unit(text).map(Self::Unit).with_context(|| {
                format!(
                    "there is no host `{text}`: the hosts are client, server, switch, u1, u2, …"
                )
            }),
        }
    }
}

/// Reads the id of a unit: `u2`, or just `2`.
///
/// # Errors
///
/// When it is neither, or not one of 1 to 16.
pub fn parse_unit(text: &str) -> Result<u8> {
    let id = text.strip_prefix('u').unwrap_or(text).parse().unwrap_or(0);
    ensure!(
        (1..=MAX_UNITS).contains(&id),
        "`{text}` is no unit: units are u1 to u{MAX_UNITS}"
    );
    Ok(id)
}

/// The wiring of one lab. Dropping the value removes nothing: see [`Topology::demolish`].
#[derive(Clone, Debug)]
pub struct Topology {
    prefix: String,
    units: u8,
}

impl Topology {
    /// The wiring of that name and size; nothing is built yet.
    ///
    /// # Errors
    ///
    /// When the prefix is not 1 to 12 lower-case letters or digits, or there are not 1 to 16 units.
    pub fn new(prefix: &str, units: u8) -> Result<Self> {
        let fits = (1..=12).contains(&prefix.len())
            && prefix
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        ensure!(
            fits,
            "the prefix `{prefix}` is not 1 to 12 lower-case letters or digits"
        );
        ensure!(
            (1..=MAX_UNITS).contains(&units),
            "a cluster has 1 to {MAX_UNITS} units, not {units}"
        );
        Ok(Self {
            prefix: prefix.to_owned(),
            units,
        })
    }

    /// The common beginning of the namespaces' names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The ids of the units.
    pub fn units(&self) -> std::ops::RangeInclusive<u8> {
        1..=self.units
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        [Host::Switch, Host::Client, Host::Server]
            .into_iter()
            .chain(self.units().map(Host::Unit))
    }

    /// The namespace of a host.
    pub fn namespace(&self, host: Host) -> Namespace {
        Namespace::named(format!("{}-{host}", self.prefix))
    }

    /// Whether a namespace of this lab exists.
    pub fn exists(&self) -> bool {
        !self.leftovers().is_empty()
    }

    /// Builds everything, or nothing.
    ///
    /// # Errors
    ///
    /// When a namespace of that name exists, a program is missing, or the kernel refuses.
    pub fn build(&self) -> Result<()> {
        if self.exists() {
            bail!(
                "lab `{}` is up already, at least in part: `tidegate-lab down --prefix {}` removes it",
                self.prefix,
                self.prefix
            );
        }
        self.try_build().inspect_err(|_| {
            // The first error is the one to tell; what is left over is found by the next `down`.
            let _ = self.demolish();
        })
    }

    /// Kills whatever lives in the namespaces of this lab and removes them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn demolish(&self) -> Result<()> {
        for namespace in self.leftovers() {
            for process in namespace.processes()? {
                process.kill()?;
            }
            namespace.delete()?;
        }
        Ok(())
    }

    /// Pulls or plugs the cable between a unit and the switch. The unit loses its carrier.
    ///
    /// # Errors
    ///
    /// When there is no such port.
    pub fn set_link(&self, unit: u8, segment: Segment, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        let port = port(Host::Unit(unit), segment);
        self.namespace(Host::Switch)
            .ip(&format!("link set {port} {state}\n"))
    }

    /// Makes the switch drop what comes from and goes to a unit in one segment, with the carrier
    /// left up: each direction by itself, so that cuts can be one-way.
    ///
    /// # Errors
    ///
    /// When `nft` is missing or fails.
    pub fn set_cut(
        &self,
        unit: u8,
        segment: Segment,
        from_unit: bool,
        to_unit: bool,
    ) -> Result<()> {
        self.load_in_switch(&cut_rules(unit, segment, from_unit, to_unit))
    }

    /// Makes the switch drop what comes from and goes to a unit, in all segments at one stroke, with
    /// the carriers left up; or pass it again.
    ///
    /// # Errors
    ///
    /// When `nft` is missing or fails.
    pub fn set_isolated(&self, unit: u8, from_unit: bool, to_unit: bool) -> Result<()> {
        let rules = Segment::ALL.map(|segment| cut_rules(unit, segment, from_unit, to_unit));
        self.load_in_switch(&rules.concat())
    }

    /// Loads nftables rules into the switch, all of them or none.
    fn load_in_switch(&self, rules: &str) -> Result<()> {
        let switch = self.namespace(Host::Switch);
        tool::feed(
            "ip",
            &["netns", "exec", switch.name(), "nft", "-f", "-"],
            rules,
        )?;
        Ok(())
    }

    /// Behind which port of a segment the switch has learned a MAC.
    ///
    /// # Errors
    ///
    /// When `bridge` is missing or fails.
    pub fn learned_port(&self, segment: Segment, mac: &str) -> Result<Option<String>> {
        let switch = self.namespace(Host::Switch);
        let shown = tool::run(
            "bridge",
            &["-n", switch.name(), "fdb", "show", "br", segment.name()],
        )?;
        // MAC dev PORT master BRIDGE
        Ok(shown.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == mac).then(|| words.nth(1).map(str::to_owned))?
        }))
    }

    fn try_build(&self) -> Result<()> {
        for host in self.hosts() {
            self.namespace(host).create()?;
        }
        let switch = self.namespace(Host::Switch);
        // A switch passes what it is given: where the kernel's bridges call the packet filter, they
        // drop packets that are malformed.
        for filter in ["iptables", "ip6tables", "arptables"] {
            switch.set_sysctl(&format!("net/bridge/bridge-nf-call-{filter}"), "0")?;
        }
        for segment in Segment::ALL {
            switch.ip(&format!(
                "link add {0} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set {0} up\n",
                segment.name()
            ))?;
        }
        self.plug(Host::Client, Segment::Lan, "lan0")?;
        self.plug(Host::Server, Segment::Wan, "wan0")?;
        for unit in self.units() {
            for segment in Segment::ALL {
                self.plug(Host::Unit(unit), segment, segment.interface())?;
            }
            self.namespace(Host::Unit(unit))
                .set_sysctl("net/ipv4/ip_forward", "0")?;
        }
        self.address()
    }

    /// Lays a cable from the switch to a host.
    fn plug(&self, host: Host, segment: Segment, interface: &str) -> Result<()> {
        let namespace = self.namespace(host);
        let port = port(host, segment);
        let switch = self.namespace(Host::Switch);
        switch.ip(&format!(
            "link add {port} mtu 1500 type veth peer name {interface} mtu 1500 netns {}\n\
             link set {port} master {} up\n",
            namespace.name(),
            segment.name()
        ))?;
        namespace.disable_offloads(interface)?;
        switch.disable_offloads(&port)?;
        namespace.ip(&format!("link set {interface} up\n"))
    }

    /// Gives client and server their addresses. The server has no route to the client's network,
    /// so that it only ever sees translated packets.
    fn address(&self) -> Result<()> {
        self.namespace(Host::Client).ip(&format!(
            "address add {CLIENT_LAN}/24 dev lan0\nroute add default via {CLUSTER_LAN}\n"
        ))?;
        let mut batch = format!("address add {SERVER_WAN}/24 dev wan0\n");
        for address in crowd_addresses() {
            batch += &format!("address add {address}/24 dev wan0\n");
        }
        self.namespace(Host::Server).ip(&batch)
    }

    fn leftovers(&self) -> Vec<Namespace> {
        Namespace::all()
            .into_iter()
            .filter(|name| {
                name.strip_prefix(&self.prefix)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|host| host.parse::<Host>().is_ok())
            })
            .map(Namespace::named)
            .collect()
    }
}

/// The server's further addresses.
pub(crate) fn crowd_addresses() -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(SERVER_WAN) + 1;
    (first..first + u32::from(SERVER_CROWD)).map(Ipv4Addr::from)
}

/// The switch's port for a host in a segment.
fn port(host: Host, segment: Segment) -> String {
    format!("{host}-{}", segment.name())
}

/// The rules that cut a unit off in one segment, in place of those that were there.
fn cut_rules(unit: u8, segment: Segment, from_unit: bool, to_unit: bool) -> String {
    let port = port(Host::Unit(unit), segment);
    let table = format!("cut-{port}");
    // Declared first, so that deleting is no error the first time.
    let mut rules = format!("table bridge {table} {{ }}\ndelete table bridge {table}\n");
    if from_unit || to_unit {
        rules += &format!("table bridge {table} {{\n");
        if from_unit {
            rules += &drop_chain("from", "prerouting", "iifname", &port);
        }
        if to_unit {
            rules += &drop_chain("to", "postrouting", "oifname", &port);
        }
        rules += "}\n";
    }
    rules
}

fn drop_chain(name: &str, hook: &str, key: &str, port: &str) -> String {
    format!(
        "  chain {name} {{\n    type filter hook {hook} priority 0; policy accept;\n    \
         {key} \"{port}\" counter drop\n  }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_read_back_what_they_print() {
        for host in [
            Host::Client,
            Host::Server,
            Host::Switch,
            Host::Unit(1),
            Host::Unit(16),
        ] {
            assert_eq!(
                host.to_string().parse::<Host>().expect("its own name"),
                host
            );
        }
        for wrong in ["u0", "u17", "router", "", "u"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefixes_that_make_bad_names_are_refused() {
        for wrong in ["", "Tide", "a-b", "a/b", "averylongprefix"] {
            assert!(Topology::new(wrong, 2).is_err(), "{wrong}");
        }
        assert!(Topology::new("tg", 0).is_err());
        assert!(Topology::new("tg", 17).is_err());
        assert_eq!(
            Topology::new("tg", 2)
                .expect("both are fine")
                .hosts()
                .count(),
            5
        );
    }

    #[test]
    fn ports_fit_the_kernels_names() {
        for segment in Segment::ALL {
            assert!(port(Host::Unit(MAX_UNITS), segment).len() <= 15);
        }
    }

    #[test]
    fn the_crowd_stays_in_the_servers_network() {
        let addresses: Vec<_> = crowd_addresses().collect();
        assert_eq!(addresses.first(), Some(&Ipv4Addr::new(198, 51, 100, 101)));
        assert_eq!(addresses.last(), Some(&Ipv4Addr::new(198, 51, 100, 200)));
    }
}
