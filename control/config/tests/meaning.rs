//! What a configuration means: defaults, hash and difference, whatever the spelling.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Folder, RIGHT, replaced};
use config::{Config, Effect, InterfaceIndex, NextHop, PortRange, Schedule, Timeouts, Zone, diff};
use proptest::prelude::*;

#[test]
fn names_are_resolved() {
    let folder = Folder::new();
    let config = folder.right(RIGHT);
    assert_eq!(config.cluster.key.bytes(), &[0x5a; 32]);
    assert_eq!(config.cluster.key_file, folder.path().join("cluster.key"));
    let wan = InterfaceIndex(1);
    let interface = config.interface(wan);
    assert_eq!((interface.name.as_str(), interface.mtu), ("wan", 1_500));
    assert_eq!(
        config.routes[0].next_hop,
        NextHop::Gateway {
            interface: wan,
            address: [198, 51, 100, 254].into()
        }
    );
    assert_eq!(config.policies[0].to, Zone::Interfaces(vec![wan]));
    assert_eq!(config.policies[1].to, Zone::Any);
    let ports = [(8_080, 8_080), (9_000, 9_010)].map(|(first, last)| PortRange { first, last });
    assert_eq!(config.policies[1].destination_ports, ports);
    assert!(config.interfaces[0].monitored && !config.interfaces[1].monitored);
}

#[test]
fn defaults_are_the_documented_ones() {
    let text = r#"
        unit = { id = 3, name = "gw" }
        cpu = { workers = 1 }
        cluster = { id = 1, key_file = "cluster.key" }
        [[interface]]
        name = "sync"
        device = "null"
        role = "sync"
        [[interface]]
        name = "lan"
        device = "null"
        role = "traffic"
        unit_address = "192.0.2.1/24"
    "#;
    let config = Folder::new().right(text);
    assert_eq!(config.unit.priority, 100);
    assert_eq!(
        config.cluster.heartbeat_interval,
        Duration::from_millis(100)
    );
    assert_eq!(config.cluster.age_margin, Duration::from_secs(300));
    assert_eq!(config.cluster.announce_count, 5);
    assert_eq!(config.cluster.announce_interval, Duration::from_millis(200));
    assert_eq!(config.cluster.ether_type, 0x88B5);
    assert!(config.cluster.session_sync && !config.cluster.preempt);
    assert_eq!(config.cluster.schedule, Schedule::None);
    assert_eq!(config.cluster.acked_timeout, Duration::from_millis(20));
    assert_eq!(config.unit.weight, 1);
    assert_eq!(config.memory.sessions, 1_000_000);
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.management.socket, Path::new("/run/tidegate/gw.sock"));
    assert_eq!(config.management.metrics, None);
}

/// The keys that differ between the right configuration and one with a replacement, with their
/// effects.
fn changes(from: &str, to: &str) -> Vec<(String, Effect)> {
    let folder = Folder::new();
    let (old, new) = (folder.right(RIGHT), folder.right(&replaced(from, to)));
    let changes = diff(&old, &new).into_iter();
    changes.map(|change| (change.key, change.effect)).collect()
}

#[test]
fn each_change_names_its_key_and_its_effect() {
    for (from, to, key, effect) in [
        (
            "priority = 200",
            "priority = 1",
            "unit.priority",
            Effect::Live,
        ),
        (
            "priority = 200",
            "priority = 200\nweight = 3",
            "unit.weight",
            Effect::Live,
        ),
        (
            "schedule = \"none\"",
            "schedule = \"least-connections\"",
            "cluster.schedule",
            Effect::Live,
        ),
        (
            "schedule = \"none\"",
            "acked_timeout = \"5ms\"",
            "cluster.acked_timeout",
            Effect::Live,
        ),
        (
            "source_nat = \"masquerade\"",
            "source_nat = \"masquerade\"\ndurability = \"acked\"",
            "policy[out].durability",
            Effect::Live,
        ),
        ("id = 7", "id = 9", "cluster.id", Effect::Restart),
        (
            "schedule = \"none\"",
            "preempt = true",
            "cluster.preempt",
            Effect::Live,
        ),
        (
            "workers = [1]",
            "workers = [2]",
            "cpu.workers",
            Effect::Restart,
        ),
        ("sessions = 250_000", "", "memory.sessions", Effect::Restart),
        (
            "af_packet:lan0",
            "tap:lan0",
            "interface[lan].device",
            Effect::Restart,
        ),
        (
            "198.51.100.254",
            "198.51.100.253",
            "route[0.0.0.0/0].via",
            Effect::Live,
        ),
        (
            "source_nat = \"masquerade\"",
            "",
            "policy[out].source_nat",
            Effect::Live,
        ),
        (
            "\"2h 4m\"",
            "\"2h 5m\"",
            "timeouts.tcp_established",
            Effect::Live,
        ),
        (
            "half_open = 50_000",
            "half_open = 1",
            "limits.half_open",
            Effect::Restart,
        ),
        (
            "metrics = \"127.0.0.1:9464\"",
            "",
            "management.metrics",
            Effect::Restart,
        ),
    ] {
        assert_eq!(
            changes(from, to),
            [(key.to_owned(), effect)],
            "{from} -> {to}"
        );
    }
}

#[test]
fn parts_name_what_hashes_differ_in() {
    let folder = Folder::new();
    let old = folder.right(RIGHT);
    let differing = |from: &str, to: &str| -> Vec<String> {
        let new = folder.right(&replaced(from, to));
        let pairs = old.parts().into_iter().zip(new.parts());
        let names = pairs.filter(|(old, new)| {
            assert_eq!(old.0, new.0, "units of one release have the same parts");
            old.1 != new.1
        });
        let names: Vec<String> = names.map(|(old, _)| old.0).collect();
        assert_eq!(names.is_empty(), old.hash() == new.hash(), "{from} -> {to}");
        names
    };
    for (from, to, part) in [
        ("id = 7", "id = 9", "cluster.id"),
        ("schedule = \"none\"", "preempt = true", "cluster.preempt"),
        (
            "schedule = \"none\"",
            "acked_timeout = \"5ms\"",
            "cluster.acked_timeout",
        ),
        ("source_nat = \"masquerade\"", "", "policy"),
        ("198.51.100.254", "198.51.100.253", "route"),
        ("half_open = 50_000", "", "limits.half_open"),
        ("\"2h 4m\"", "\"2h 5m\"", "timeouts.tcp_established"),
    ] {
        assert_eq!(differing(from, to), [part], "{from} -> {to}");
    }
    for (from, to) in [
        ("priority = 200", "priority = 1"),
        ("af_packet:lan0", "tap:lan0"),
    ] {
        assert_eq!(differing(from, to), [""; 0], "{from} -> {to}");
    }
}

#[test]
fn a_change_tells_both_values() {
    let folder = Folder::new();
    let old = folder.right(RIGHT);
    let new = folder.right(&replaced(
        "source_nat = \"masquerade\"",
        "source_nat = \"198.51.100.2\"",
    ));
    let change = &diff(&old, &new)[0];
    assert_eq!(change.from.as_deref(), Some("masquerade"));
    assert_eq!(change.to.as_deref(), Some("198.51.100.2"));
    let without = folder.right(&replaced("source_nat = \"masquerade\"", ""));
    assert_eq!(diff(&old, &without)[0].to, None);
    assert_eq!(diff(&without, &old)[0].from, None);
}

#[test]
fn the_order_of_policies_has_a_meaning_and_that_of_routes_has_none() {
    let folder = Folder::new();
    let policy =
        |name: &str| format!("[[policy]]\nname = \"{name}\"\naction = \"deny\"\nfrom = \"lan\"\n");
    let route = |to: &str| format!("[[route]]\nto = \"{to}\"\ninterface = \"lan\"\n");
    let with = |parts: [String; 2]| folder.right(&format!("{RIGHT}{}", parts.concat()));
    let (ab, ba) = (
        with([policy("a"), policy("b")]),
        with([policy("b"), policy("a")]),
    );
    assert_ne!(ab.hash(), ba.hash());
    assert_eq!(diff(&ab, &ba)[0].key, "order of policy");
    let (ab, ba) = (
        with([route("10.0.0.0/8"), route("11.0.0.0/8")]),
        with([route("11.0.0.0/8"), route("10.0.0.0/8")]),
    );
    assert_eq!(ab.hash(), ba.hash());
    assert_eq!(diff(&ab, &ba), []);
}

#[test]
fn what_is_a_units_own_does_not_count_in_the_hash() {
    let folder = Folder::new();
    let hash = folder.right(RIGHT).hash();
    for (from, to) in [
        ("id = 1\n", "id = 2\n"),
        ("name = \"gw-a\"", "name = \"gw-b\""),
        ("priority = 200", "priority = 100"),
        ("priority = 200", "priority = 200\nweight = 0"),
        ("workers = [1]", "workers = [1, 2]"),
        ("sessions = 250_000", "sessions = 500_000"),
        ("af_packet:lan0", "af_xdp:eth0"),
        ("192.0.2.11/24", "192.0.2.12/24"),
        ("metrics = \"127.0.0.1:9464\"", ""),
    ] {
        assert_eq!(
            folder.right(&replaced(from, to)).hash(),
            hash,
            "{from} -> {to}"
        );
    }
    for (from, to) in [
        ("id = 7", "id = 8"),
        ("critical = true", "critical = false"),
        ("schedule = \"none\"", "schedule = \"ip\""),
        ("schedule = \"none\"", "acked_timeout = \"5ms\""),
        ("198.51.100.2/24", "198.51.100.3/24"),
        ("via = \"198.51.100.254\"", "interface = \"wan\""),
        ("192.0.2.100:80", "192.0.2.100:81"),
        ("8080, ", ""),
        ("name = \"out\"", "name = \"outwards\""),
    ] {
        assert_ne!(
            folder.right(&replaced(from, to)).hash(),
            hash,
            "{from} -> {to}"
        );
    }
}

/// The hash travels between units of different versions: a change of it must be on purpose.
#[test]
fn the_hash_is_pinned() {
    assert_eq!(
        format!("{:016x}", Folder::new().right(RIGHT).hash()),
        "3c2ced8e5cdb0e57"
    );
}

#[test]
fn every_schedule_is_read_by_its_name() {
    let folder = Folder::new();
    for (name, schedule) in [
        ("none", Schedule::None),
        ("hub", Schedule::Hub),
        ("round-robin", Schedule::RoundRobin),
        ("weighted-round-robin", Schedule::WeightedRoundRobin),
        ("least-connections", Schedule::LeastConnections),
        ("random", Schedule::Random),
        ("ip", Schedule::Ip),
        ("ip-port", Schedule::IpPort),
    ] {
        let text = replaced("schedule = \"none\"", &format!("schedule = \"{name}\""));
        assert_eq!(folder.right(&text).cluster.schedule, schedule);
        assert_eq!(schedule.name(), name);
    }
}

#[test]
fn the_examples_are_right_and_mean_the_same() {
    let folder = Folder::new();
    let load = |name: &str| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../deploy")
            .join(name);
        let text = std::fs::read_to_string(source).unwrap();
        let config = Config::load(&folder.write(name, &text, 0o600)).unwrap();
        assert_eq!(config.warnings(), []);
        config
    };
    let units = [load("gw-a.toml"), load("gw-b.toml")];
    config::check_cluster(&units).unwrap();
    assert_eq!(units[0].hash(), units[1].hash());
}

/// A policy as a test writes it, in one of two spellings.
#[derive(Clone, Debug)]
struct Written {
    from: Vec<usize>,
    ports: Vec<(u16, u16)>,
    action: &'static str,
    source: Vec<(u32, u8)>,
    seconds: u64,
}

const NAMES: [&str; 2] = ["lan", "wan"];

fn written() -> impl Strategy<Value = Written> {
    (
        proptest::sample::subsequence(vec![0, 1], 0..=2),
        proptest::collection::vec((1_u16..=65_535, 0_u16..100), 0..4),
        proptest::sample::select(&["allow", "deny", "reject"][..]),
        proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..4),
        1_u64..604_800,
    )
        .prop_map(|(from, ports, action, source, seconds)| Written {
            from,
            ports: ports
                .into_iter()
                .map(|(first, more)| (first, first.saturating_add(more)))
                .collect(),
            action,
            source,
            seconds,
        })
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.join(", "))
}

impl Written {
    /// Sparing: defaults absent, lists as they are.
    fn plain(&self) -> String {
        let mut text = format!(
            "[[policy]]\nname = \"p\"\nprotocol = \"udp\"\naction = \"{}\"\n",
            self.action
        );
        if !self.from.is_empty() {
            let names: Vec<String> = self
                .from
                .iter()
                .map(|i| format!("\"{}\"", NAMES[*i]))
                .collect();
            text += &format!("from = {}\n", list(&names));
        }
        if !self.ports.is_empty() {
            let ports: Vec<String> = self
                .ports
                .iter()
                .map(|(a, b)| format!("\"{a}-{b}\""))
                .collect();
            text += &format!("destination_ports = {}\n", list(&ports));
        }
        if !self.source.is_empty() {
            text += &format!("source = {}\n", list(&self.networks()));
        }
        text
    }

    /// Lavish: defaults written out, lists backwards and doubled, other quotes and spaces.
    fn ornate(&self) -> String {
        let mut text = "[[ policy ]] # The same again.\ndurability   = 'async'\n".to_owned();
        let mut names: Vec<String> = self
            .from
            .iter()
            .rev()
            .map(|i| format!("'{}'", NAMES[*i]))
            .collect();
        if names.is_empty() {
            names.push("'any'".into());
        }
        text += &format!("to = \"any\"\nfrom = {}\n", list(&names));
        let doubled = |mut items: Vec<String>| {
            items.extend(items.clone());
            items.reverse();
            items
        };
        if !self.ports.is_empty() {
            let ports = self.ports.iter().map(|(a, b)| {
                if a == b {
                    format!("{a:#x}")
                } else {
                    format!("'{a} - {b}'")
                }
            });
            text += &format!("destination_ports = {}\n", list(&doubled(ports.collect())));
        }
        if !self.source.is_empty() {
            text += &format!("source = {}\n", list(&doubled(self.networks())));
        }
        text + &format!(
            "action = '{}'\nprotocol = 'udp'\nname = \"\\u0070\"\n",
            self.action
        )
    }

    fn networks(&self) -> Vec<String> {
        let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let network = |(bits, prefix): &(u32, u8)| {
            format!(
                "\"{}/{prefix}\"",
                std::net::Ipv4Addr::from_bits(bits & mask(*prefix))
            )
        };
        self.source.iter().map(network).collect()
    }
}

proptest! {
    #[test]
    fn spelling_does_not_change_the_meaning(written in written()) {
        let folder = Folder::new();
        let base = replaced("tcp_established = \"2h 4m\"", "TIMEOUT");
        let with = |policy: String, timeout: String| {
            folder.right(&(base.replace("TIMEOUT", &timeout) + &policy))
        };
        let seconds = written.seconds;
        let plain = with(written.plain(), format!("udp_replied = \"{seconds}s\""));
        let ornate = with(
            written.ornate(),
            format!("tcp_established = '124min'\nudp_replied = '{}m {}s'", seconds / 60, seconds % 60),
        );
        prop_assert_eq!(diff(&plain, &ornate), vec![]);
        prop_assert_eq!(plain.hash(), ornate.hash());
    }

    /// Whatever is cut out of or put into a file, it is judged and never breaks the judge.
    #[test]
    fn damaged_files_are_judged(
        cut in 0..RIGHT.len(),
        length in 0_usize..40,
        inserted in proptest::sample::select(&["", "\"", "[", "]]", "=", "\n", "-1", "[[policy]]\n", "{}", "é"][..]),
    ) {
        let end = (cut + length).min(RIGHT.len());
        let text = format!("{}{inserted}{}", &RIGHT[..cut], &RIGHT[end..]);
        if let Err(problems) = Folder::new().parse(&text) {
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(problems.0.iter().any(|problem| problem.severity == config::Severity::Error));
            for problem in &problems.0 {
                prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{}", problem);
                prop_assert!(!problem.cause.is_empty() && !problem.remedy.is_empty());
            }
        }
    }
}
