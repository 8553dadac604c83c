//! `[[monitor]]` and `link_failed_signal`: what they mean, and every mistake in them.

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{Folder, RIGHT, refused};
use config::{InterfaceIndex, MonitorKind};

const ROUTER: &str =
    "[[monitor]]\nname = \"router\"\ninterface = \"wan\"\ntarget = \"198.51.100.254\"\n";

fn with(monitor: &str) -> String {
    format!("{RIGHT}\n{monitor}")
}

#[test]
fn a_monitor_asks_by_arp_every_second_unless_told_otherwise() {
    let config = Folder::new().right(&with(ROUTER));
    let [monitor] = &config.monitors[..] else {
        panic!("{:?}", config.monitors)
    };
    assert_eq!(monitor.name, "router");
    assert_eq!(monitor.interface, InterfaceIndex(1));
    assert_eq!(monitor.target, Ipv4Addr::new(198, 51, 100, 254));
    assert_eq!(
        (monitor.kind, monitor.loss, monitor.weight),
        (MonitorKind::Arp, 3, 1)
    );
    assert_eq!(monitor.interval, Duration::from_secs(1));
    let icmp = "[[monitor]]\nname = \"host\"\ninterface = \"lan\"\ntarget = \"192.0.2.7\"\nkind = \"icmp\"\n\
                interval = \"250ms\"\nloss = 5\nweight = 10";
    let config = Folder::new().right(&with(icmp));
    assert_eq!(config.monitors[0].kind, MonitorKind::Icmp);
    assert_eq!(config.monitors[0].weight, 10);
}

#[test]
fn units_agree_on_what_monitors_count_and_each_has_its_targets() {
    let folder = Folder::new();
    let hash = |text: &str| folder.right(&with(text)).hash();
    let usual = hash(ROUTER);
    assert_eq!(usual, hash(&ROUTER.replace("254", "253")));
    assert_ne!(usual, hash(&format!("{ROUTER}weight = 2")));
    assert_ne!(usual, folder.right(RIGHT).hash());
}

#[test]
fn mistakes_of_monitors() {
    let refuse = |monitor: &str, key: &str, cause: &str, remedy: &str| {
        refused(
            "[limits]",
            &format!("{monitor}\n[limits]"),
            key,
            cause,
            remedy,
        );
    };
    let line = |from: &str, to: &str| ROUTER.replace(from, to);
    refuse(
        &line("interface = \"wan\"", "interface = \"sync\" # here"),
        "monitor[router].interface",
        "\"sync\" is a sync interface, which carries no user's packet",
        "write a traffic interface: lan, wan",
    );
    refuse(
        &line("198.51.100.254\"", "192.0.2.9\" # here"),
        "monitor[router].target",
        "192.0.2.9 is on no network of interface \"wan\"",
        "write the address of a neighbour, such as the router that users are sent to",
    );
    refuse(
        &line("198.51.100.254\"", "198.51.100.2\" # here"),
        "monitor[router].target",
        "198.51.100.2 is an address of this gateway",
        "write the address of another host",
    );
    refuse(
        &format!("{ROUTER}kind = \"icmp\" # here\n"),
        "monitor[router].kind",
        "interface \"wan\" has no unit_address, and an echo request needs a sender that is this unit alone",
        "give interface \"wan\" a unit_address, or write kind = \"arp\"",
    );
}

#[test]
fn a_monitor_needs_a_name_of_its_own_and_a_place_among_sixteen() {
    let folder = Folder::new();
    let twice = with(&format!("{ROUTER}\n{ROUTER}"));
    let problems = folder.parse(&twice).unwrap_err().to_string();
    assert!(
        problems.contains("give each monitor a name of its own"),
        "{problems}"
    );
    // Of the interfaces, lan and sync are links.
    let many = |count: u8| -> String {
        let each = (0..count).map(|index| ROUTER.replace("router", &format!("r{index}")));
        with(&each.collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(folder.right(&many(14)).monitors.len(), 14);
    let problems = folder.parse(&many(16)).unwrap_err().to_string();
    assert!(
        problems.contains("monitor[r14].name: is one too many"),
        "{problems}"
    );
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn a_signal_needs_a_link_that_can_be_taken_down() {
    let signal = "role = \"traffic\"\ncritical = true\nlink_failed_signal = true # here";
    let right = RIGHT.replacen("role = \"traffic\"\ncritical = true", signal, 1);
    let config = Folder::new().right(&right);
    assert!(config.interfaces[0].link_failed_signal && !config.interfaces[1].link_failed_signal);
    refused(
        "device = \"af_packet:lan0\"\nrole = \"traffic\"\ncritical = true",
        &format!("device = \"null\"\n{signal}"),
        "interface[lan].link_failed_signal",
        "the device is no kernel interface, whose link can be taken down",
        "remove it, or use an af_packet or af_xdp device",
    );
    refused(
        "role = \"sync\"",
        "role = \"sync\"\nlink_failed_signal = true # here",
        "interface[sync].link_failed_signal",
        "no switch learns a virtual MAC on a sync interface",
        "remove it, or write role = \"traffic\"",
    );
}
