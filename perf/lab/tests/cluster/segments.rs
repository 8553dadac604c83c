//! Switches and hosts on the segments: what they did not hear is said again, what they should forget is
//! signalled, and hosts that fall silent count in the election.

use std::thread::sleep;
use std::time::Duration;

use api::{EventView, Role};
use tidegate_lab::failover::Fault;
use tidegate_lab::{Host, Segment};

use crate::site::{Site, assert_all_kept, text};

/// Messages of one kind of event of a unit.
fn told(site: &Site, unit: u8, kind: &str) -> Vec<String> {
    let events: Vec<EventView> = site.ask(unit, "events");
    let of_kind = events.into_iter().filter(|event| event.kind == kind);
    of_kind.map(|event| event.message).collect()
}

fn nft(site: &Site, rules: &str) {
    let mut command = site.switch().command("nft");
    assert!(command.arg(rules).status().unwrap().success());
}

#[test]
fn a_promotion_that_was_not_heard_is_announced_until_it_is() {
    let site = Site::up();
    let stream = site.start_stream();
    let (old, new) = (site.primary().id(), site.subordinate().id());
    // The new primary's announcements get lost, and so does all else that would teach the switch.
    let port = format!("u{new}-lan");
    nft(
        &site,
        &format!(
            "add table bridge deaf; add chain bridge deaf from {{ type filter hook prerouting priority -400 ; }}; \
             add rule bridge deaf from iifname {port} ether saddr 02:74:67:00:07:00 drop"
        ),
    );
    let (strike, promotion) = site.strike(Fault::Silent);
    assert_eq!((strike.unit, promotion.unit), (old, new));
    site.wait_counter(new, "announcements_repeated", 2);
    let behind = |unit: u8| {
        let learned = site
            .lab
            .topology()
            .learned_port(Segment::Lan, "02:74:67:00:07:00");
        learned
            .unwrap()
            .is_none_or(|port| port == format!("u{unit}-lan"))
    };
    nft(&site, "delete table bridge deaf");
    site.wait_until("the switch to learn where the virtual MAC is", || {
        behind(new)
    });
    site.wait_until("the promotion to be heard", || {
        told(&site, new, "announcement")
            .iter()
            .any(|line| line.contains("interface lan: the promotion was heard"))
    });
    stream.stop().unwrap();
}

#[test]
fn a_unit_that_ceased_to_be_primary_has_the_switch_forget_it_where_so_configured() {
    let site = Site::prepare();
    for unit in [1, 2] {
        let role = "device = \"af_packet:lan0\"\n";
        site.edit(unit, role, &format!("{role}link_failed_signal = true\n"));
    }
    site.start();
    let old = site.primary().id();
    let sessions = site.open_tcp(5);
    site.lab
        .topology()
        .set_link(old, Segment::Wan, false)
        .unwrap();
    site.wait_until("the signal", || {
        site.counter(old, "link_failed_signals") == 1
    });
    let is_up = || {
        let shown = site.run(Host::Unit(old), "ip -o link show lan0");
        text(&shown.stdout).contains("state UP")
    };
    site.wait_until("the link to go down", || !is_up());
    site.wait_until("the link to come back", is_up);
    site.lab
        .topology()
        .set_link(old, Segment::Wan, true)
        .unwrap();
    site.lab.wait_whole().unwrap();
    assert_ne!(site.primary().id(), old);
    site.lab.wait_healthy(old).unwrap();
    assert_all_kept(sessions, 5);
    // In order it hands over without.
    let planned = site.primary().id();
    site.strike(Fault::Planned);
    site.lab.wait_whole().unwrap();
    assert_eq!(site.counter(planned, "link_failed_signals"), 0);
}

/// A monitor of the server, by each unit, over ARP.
const MONITOR: &str = "[[monitor]]\nname = \"server\"\ninterface = \"wan\"\ntarget = \"198.51.100.100\"\n\
                       interval = \"100ms\"\nloss = 10\n\n[management]";

#[test]
fn a_unit_that_does_not_reach_what_it_monitors_hands_over() {
    let site = Site::prepare();
    for unit in [1, 2] {
        site.edit(unit, "[management]", MONITOR);
    }
    site.start();
    let sessions = site.open_tcp(5);
    let (old, new) = (site.primary().id(), site.subordinate().id());
    let health = |unit: u8| {
        let view: api::ClusterView = site.ask(unit, "cluster");
        view.units.iter().find(|of| of.unit == unit).unwrap().health
    };
    for unit in [old, new] {
        site.wait_until("the monitor to count", || {
            health(unit).links == health(unit).links_total
        });
        assert_eq!(health(unit).links_total, 3);
        assert!(site.counter(unit, "monitor_questions") > 0);
    }
    // Its carrier stays, its frames to the server do not get through; heartbeats go by other links.
    site.lab
        .topology()
        .set_cut(old, Segment::Wan, true, true)
        .unwrap();
    site.wait_until("the other unit to take over", || {
        site.unit(new).status().unwrap().role == Role::Primary
    });
    assert!(
        told(&site, old, "monitor")
            .iter()
            .any(|line| line.contains("198.51.100.100 does not answer"))
    );
    assert_eq!(health(old).links, 2);
    site.lab
        .topology()
        .set_cut(old, Segment::Wan, false, false)
        .unwrap();
    site.wait_until("the host to answer", || {
        told(&site, old, "monitor")
            .iter()
            .any(|line| line.contains("198.51.100.100 answers"))
    });
    site.lab.wait_whole().unwrap();
    assert_eq!(site.primary().id(), new, "what healed moves nothing");
    assert_all_kept(sessions, 5);
}

#[test]
fn a_split_brain_heals_and_both_tell_for_how_long_it_was() {
    let site = Site::up();
    let (stays, falls) = (site.primary().id(), site.subordinate().id());
    let cut = |on: bool| {
        for segment in [Segment::Sync, Segment::Lan, Segment::Wan] {
            let topology = site.lab.topology();
            topology.set_cut(falls, segment, on, on).unwrap();
        }
    };
    let roles = || [stays, falls].map(|unit| site.unit(unit).status().unwrap().role);
    cut(true);
    site.wait_until("both to be primary", || roles() == [Role::Primary; 2]);
    sleep(Duration::from_millis(500));
    let announced = site.counter(stays, "cluster_announcements");
    cut(false);
    site.lab.wait_whole().unwrap();
    let primary = site.primary().id();
    site.wait_counter(primary, "cluster_announcements", announced + 1);
    for unit in [stays, falls] {
        let end = match unit == primary {
            true => "this unit stays",
            false => "this unit stepped down",
        };
        let lines = told(&site, unit, "dual_primary");
        let ended = lines.iter().filter(|line| line.ends_with(end));
        assert!(ended.count() >= 1, "unit {unit}: {lines:?}");
        assert!(
            lines.iter().any(|line| line.contains(" for up to ")),
            "{lines:?}"
        );
        assert!(site.counter(unit, "cluster_dual_primaries") >= 1);
    }
    let lasted = [stays, falls].map(|unit| site.counter(unit, "cluster_dual_primary_ms"));
    // It was cut off for longer than it took to find that out.
    assert!(
        lasted.iter().all(|ms| (500..20_000).contains(ms)),
        "{lasted:?}"
    );
}

#[test]
fn a_monitor_by_icmp_asks_from_the_units_own_address() {
    let site = Site::prepare();
    for unit in [1, 2] {
        let icmp = MONITOR.replace("interval", "kind = \"icmp\"\ninterval");
        site.edit(unit, "[management]", &icmp);
        let device = "device = \"af_packet:wan0\"\n";
        let address = format!("{device}unit_address = \"198.51.100.{}/24\"\n", 10 + unit);
        site.edit(unit, device, &address);
    }
    site.start();
    for unit in [1, 2] {
        site.wait_counter(unit, "monitor_questions", 20);
        assert_eq!(told(&site, unit, "monitor"), Vec::<String>::new());
    }
    // It is the host's answers that count: without them both see it.
    let server = site.server();
    server
        .ip("address del 198.51.100.100/24 dev wan0\n")
        .unwrap();
    for unit in [1, 2] {
        site.wait_until("the host to be missed", || {
            !told(&site, unit, "monitor").is_empty()
        });
    }
}
