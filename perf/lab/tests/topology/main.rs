//! The topology and the probes against gateways made of the kernel: what they report about a
//! known outage is what happened. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it stands, helpers included"
)]

mod judges;
mod site;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use site::{GATEWAY_LAN, GATEWAY_WAN, Site, unique_prefix};
use tidegate_lab::failover::{Contender, Fault, Victim};
use tidegate_lab::keepalived::{Keepalived, KeepalivedSettings};
use tidegate_lab::probe::{Crowd, TcpSessions, UdpStream};
use tidegate_lab::{Host, Namespace, Segment, Topology, tool};

/// Whether one ping from a host is answered within a second.
fn pings(from: &Namespace, to: &str) -> bool {
    tool::output(from.command("ping").args(["-c", "1", "-W", "1", to])).is_ok()
}

#[test]
fn a_topology_is_whole_and_leaves_nothing() {
    let site = Site::build();
    let topology = &site.topology;
    for unit in topology.units() {
        let namespace = topology.namespace(Host::Unit(unit));
        for segment in Segment::ALL {
            let interface = segment.interface();
            let features =
                tool::output(namespace.command("ethtool").args(["-k", interface])).unwrap();
            for feature in [
                "tx-checksumming",
                "tcp-segmentation-offload",
                "generic-receive-offload",
            ] {
                assert!(
                    features.contains(&format!("{feature}: off")),
                    "{interface}: {features}"
                );
            }
            let ipv6 = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            let disabled = namespace.run(|| Ok(fs::read_to_string(ipv6).unwrap_or("1".into())));
            assert_eq!(disabled.unwrap().trim(), "1");
        }
        let shown = tool::run("ip", &["-n", namespace.name(), "-4", "address", "show"]).unwrap();
        assert!(
            !shown.contains("lan0"),
            "a unit's kernel has no address: {shown}"
        );
    }

    let again = Topology::new(topology.prefix(), 2)
        .unwrap()
        .build()
        .unwrap_err();
    assert!(again.to_string().contains("is up already"), "{again}");
    assert!(site.client().exists(), "the refused one took nothing down");

    topology.demolish().unwrap();
    let left: Vec<_> = Namespace::all()
        .into_iter()
        .filter(|name| name.starts_with(topology.prefix()))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    topology.demolish().unwrap();
}

#[test]
fn demolishing_ends_what_lives_in_it() {
    let site = Site::build();
    let mut child = site.client().command("sleep").arg("300").spawn().unwrap();
    tidegate_lab::clock::wait_for("the process to be inside", Duration::from_secs(5), || {
        Ok(match site.client().processes()?.first() {
            Some(process) => tidegate_lab::clock::Found::Yes(*process),
            None => tidegate_lab::clock::Found::NotYet("none is".into()),
        })
    })
    .unwrap();
    site.topology.demolish().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed");
}

#[test]
fn a_pulled_cable_is_seen_by_the_unit_and_by_the_stream() {
    let site = Site::build();
    site.forward_in_kernel(1, "masquerade");
    let stream = UdpStream::start(&site.client(), &site.server(), 1_000).unwrap();
    let before = stream.offered();
    site.topology.set_link(1, Segment::Lan, false).unwrap();
    let seen = site
        .topology
        .namespace(Host::Unit(1))
        .run(|| Ok(carrier("lan0")))
        .unwrap();
    assert_eq!(seen, "0");
    sleep(Duration::from_millis(300));
    let after = stream.offered();
    site.topology.set_link(1, Segment::Lan, true).unwrap();
    stream.wait_steady(stream.offered()).unwrap();
    let record = stream.stop().unwrap();

    let out = after - before;
    let loss = record.total_loss();
    assert!(out >= 250, "the stream went on offering: {out}");
    assert!(
        (out - 20..out + 100).contains(&loss.lost),
        "{loss:?} while {out} were offered"
    );
    assert_eq!(loss.blocked, Duration::from_millis(loss.lost));
    assert!(loss.longest_gap >= Duration::from_millis(250), "{loss:?}");
    assert_eq!(
        record.loss(0..before - 5).lost,
        0,
        "nothing is lost before the fault"
    );
}

/// The carrier of an interface of the namespace in which this thread is. `/sys` shows the
/// namespace of its mount, so the kernel is asked by `ip`.
fn carrier(interface: &str) -> String {
    let shown = tool::run("ip", &["-o", "link", "show", interface]).unwrap();
    if shown.contains("LOWER_UP") {
        "1".into()
    } else {
        "0".into()
    }
}

#[test]
fn a_gratuitous_arp_moves_the_traffic() {
    let site = Site::build();
    let topology = &site.topology;
    site.forward_in_kernel(1, "masquerade");
    let stream = UdpStream::start(&site.client(), &site.server(), 1_000).unwrap();
    let port = |segment, mac| topology.learned_port(segment, mac).unwrap();
    assert_eq!(port(Segment::Lan, GATEWAY_LAN).as_deref(), Some("u1-lan"));

    // The first gateway falls silent with its carrier up; the second has the same MACs.
    for segment in [Segment::Lan, Segment::Wan] {
        topology.set_cut(1, segment, true, true).unwrap();
    }
    site.forward_in_kernel(2, "masquerade");
    site.announce(2);
    stream.wait_steady(stream.offered()).unwrap();
    assert_eq!(port(Segment::Lan, GATEWAY_LAN).as_deref(), Some("u2-lan"));
    assert_eq!(port(Segment::Wan, GATEWAY_WAN).as_deref(), Some("u2-wan"));
    assert!(stream.stop().unwrap().total_loss().lost > 0);
}

#[test]
fn cuts_are_one_way_or_both_and_heal() {
    let site = Site::build();
    let topology = &site.topology;
    for unit in topology.units() {
        let namespace = topology.namespace(Host::Unit(unit));
        namespace
            .ip(&format!("address add 203.0.113.{unit}/24 dev sync0\n"))
            .unwrap();
    }
    let first = topology.namespace(Host::Unit(1));
    assert!(pings(&first, "203.0.113.2"));
    for (from_unit, to_unit) in [(true, false), (false, true), (true, true)] {
        topology
            .set_cut(1, Segment::Sync, from_unit, to_unit)
            .unwrap();
        assert!(
            !pings(&first, "203.0.113.2"),
            "from {from_unit}, to {to_unit}"
        );
    }
    topology.set_cut(1, Segment::Sync, false, false).unwrap();
    assert!(pings(&first, "203.0.113.2"));
}

#[test]
fn kept_and_reset_connections_are_told_apart() {
    let site = Site::build();
    site.forward_in_kernel(1, "masquerade");
    let sessions = TcpSessions::open(&site.client(), &site.server(), 10).unwrap();
    let outcome = sessions.finish().unwrap();
    assert_eq!((outcome.total, outcome.kept, outcome.reset), (10, 10, 0));

    let sessions = TcpSessions::open(&site.client(), &site.server(), 4).unwrap();
    site.load_rules(
        1,
        "table ip breaker {\n  chain forward {\n    type filter hook forward priority 0;\n    \
         iifname \"lan0\" meta l4proto tcp reject with tcp reset\n  }\n}\n",
    );
    let outcome = sessions.finish().unwrap();
    assert_eq!((outcome.total, outcome.kept, outcome.reset), (4, 0, 4));
}

#[test]
fn a_crowd_notices_when_its_translations_change() {
    let site = Site::build();
    site.forward_in_kernel(1, "masquerade to :10000-19999");
    let crowd = Crowd::settle(&site.client(), &site.server(), 2_000).unwrap();
    let outcome = crowd.check().unwrap();
    assert_eq!((outcome.kept, outcome.total), (2_000, 2_000));

    // A gateway without the first one's sessions takes over.
    for segment in [Segment::Lan, Segment::Wan] {
        site.topology.set_link(1, segment, false).unwrap();
    }
    site.forward_in_kernel(2, "masquerade to :20000-29999");
    site.announce(2);
    assert_eq!(crowd.check().unwrap().kept, 0);
}

#[test]
fn the_peer_survives_what_it_is_measured_by() {
    let peer = Keepalived::up(&KeepalivedSettings {
        prefix: unique_prefix(),
        // Patience with a machine that is busy otherwise.
        advert_cs: 10,
    })
    .unwrap();
    let topology = Contender::topology(&peer).clone();
    let survive = |fault| {
        let stream = UdpStream::start(
            &topology.namespace(Host::Client),
            &topology.namespace(Host::Server),
            1_000,
        )?;
        let strike = peer.strike(fault, Victim::Primary)?;
        let promotion = peer.wait_promotion(&strike)?;
        stream.wait_steady(stream.offered())?;
        stream.stop()?;
        peer.heal(&strike)?;
        peer.wait_holding(1)?;
        anyhow::Ok((strike.unit, promotion.unit))
    };
    let survived = [Fault::Kill, Fault::Link, Fault::Planned].map(survive);
    let logs = peer.log_ends();
    peer.down().unwrap();
    let units = survived.map(|units| units.unwrap_or_else(|error| panic!("{error:#}\n{logs}")));
    assert!(
        units
            .iter()
            .all(|(struck, promoted)| struck + promoted == 3)
    );
}
