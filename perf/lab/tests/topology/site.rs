//! A topology that vanishes with the test, and a gateway made of the kernel, to check topology and
//! probes against something that is known to work.

use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_lab::{CLUSTER_LAN, CLUSTER_WAN, Host, Namespace, Topology, tool};

/// The MACs of the gateway, wherever it is.
pub(crate) const GATEWAY_LAN: &str = "02:00:5e:00:00:01";
/// See [`GATEWAY_LAN`].
pub(crate) const GATEWAY_WAN: &str = "02:00:5e:00:00:02";

/// A prefix that no other test on this machine has.
pub(crate) fn unique_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{:x}n{}", id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A topology of two units, removed at the end of the test however that ends.
pub(crate) struct Site {
    pub(crate) topology: Topology,
}

impl Site {
    pub(crate) fn build() -> Self {
        let topology = Topology::new(&unique_prefix(), 2).unwrap();
        topology.build().unwrap();
        Self { topology }
    }

    pub(crate) fn client(&self) -> Namespace {
        self.topology.namespace(Host::Client)
    }

    pub(crate) fn server(&self) -> Namespace {
        self.topology.namespace(Host::Server)
    }

    /// Makes the kernel of a unit's namespace the gateway. `source_nat` is an nftables statement.
    pub(crate) fn forward_in_kernel(&self, unit: u8, source_nat: &str) {
        let namespace = self.topology.namespace(Host::Unit(unit));
        namespace
            .ip(&format!(
                "link set lan0 address {GATEWAY_LAN}\nlink set wan0 address {GATEWAY_WAN}\n\
                 address add {CLUSTER_LAN}/24 dev lan0\naddress add {CLUSTER_WAN}/24 dev wan0\n"
            ))
            .unwrap();
        self.load_rules(
            unit,
            &format!(
                "table ip gateway {{\n  chain post {{\n    type nat hook postrouting priority 100;\n    \
                 oifname \"wan0\" meta l4proto {{ tcp, udp }} {source_nat}\n  }}\n}}\n"
            ),
        );
        namespace.set_sysctl("net/ipv4/ip_forward", "1").unwrap();
    }

    /// Loads nftables rules into a unit's namespace.
    pub(crate) fn load_rules(&self, unit: u8, rules: &str) {
        let namespace = self.topology.namespace(Host::Unit(unit));
        tool::feed(
            "ip",
            &["netns", "exec", namespace.name(), "nft", "-f", "-"],
            rules,
        )
        .unwrap();
    }

    /// Announces the gateway's addresses from a unit by gratuitous ARP.
    pub(crate) fn announce(&self, unit: u8) {
        let namespace = self.topology.namespace(Host::Unit(unit));
        for (interface, address) in [("lan0", CLUSTER_LAN), ("wan0", CLUSTER_WAN)] {
            let mut command = namespace.command("arping");
            command.args([
                "-U",
                "-c",
                "1",
                "-w",
                "1",
                "-I",
                interface,
                &address.to_string(),
            ]);
            // Nobody answers an announcement, which `arping` takes for a failure.
            command
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = self.topology.demolish() {
            eprintln!("{} was not removed: {error:#}", self.topology.prefix());
        }
    }
}
