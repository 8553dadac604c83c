//! Real units, end to end: what clients, servers and operators see of a cluster, and what they see
//! of its failures. Needs root and the built `tidegated` and `tidegate`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it stands, helpers included"
)]

mod site;

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use api::Role;
use site::{Site, ask_once, serve_once};
use tidegate_lab::clock::{Found, wait_for};
use tidegate_lab::failover::Fault;
use tidegate_lab::probe::{Crowd, TcpSessions, UdpStream};
use tidegate_lab::{CLIENT_LAN, CLUSTER_LAN, CLUSTER_WAN, Host, Programs, SERVER_WAN, Segment};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn traffic_passes_translated_both_ways() {
    let site = Site::up();
    for (host, address) in [
        (Host::Client, CLUSTER_LAN),
        (Host::Server, CLUSTER_WAN),
        (Host::Client, SERVER_WAN),
    ] {
        let ping = site.run(
            host,
            &[
                "ping",
                "-c",
                "3",
                "-i",
                "0.2",
                "-W",
                "2",
                &address.to_string(),
            ],
        );
        assert!(
            ping.status.success(),
            "{host} to {address}: {}",
            text(&ping.stdout)
        );
    }

    // Source NAT: the server sees the cluster's address, and could not answer any other.
    let served = serve_once(&site.server(), (SERVER_WAN, 4_000));
    ask_once(&site.client(), (SERVER_WAN, 4_000));
    assert_eq!(served.join().unwrap().ip(), CLUSTER_WAN);

    // Destination NAT: the cluster's port 8080 is the client's.
    let served = serve_once(&site.client(), (CLIENT_LAN, 8_080));
    ask_once(&site.server(), (CLUSTER_WAN, 8_080));
    assert_eq!(served.join().unwrap().ip(), SERVER_WAN);
}

#[test]
fn icmp_errors_come_back() {
    let site = Site::up();
    let ping = site.run(
        Host::Client,
        &[
            "ping",
            "-c",
            "1",
            "-t",
            "1",
            "-W",
            "2",
            &SERVER_WAN.to_string(),
        ],
    );
    let said = text(&ping.stdout);
    assert!(said.contains(&format!("From {CLUSTER_LAN}")), "{said}");
    assert!(said.contains("Time to live exceeded"), "{said}");

    // The server's "port unreachable" is about the translated packet; it has to reach the socket
    // that sent the original.
    let socket = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 0))?))
        .unwrap();
    socket.connect((SERVER_WAN, 4_001)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    socket.send(b"anybody there?").unwrap();
    assert_eq!(
        socket.recv(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn what_no_policy_allows_is_dropped_and_counted() {
    let site = Site::up();
    let id = site.lab.primary().unwrap().0.id();
    let dropped = || site.counter(id, "drop_policy_default");
    let before = dropped();
    site.server()
        .ip(&format!("route add {CLIENT_LAN}/32 via {CLUSTER_WAN}\n"))
        .unwrap();
    let inner = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 4_002))?))
        .unwrap();
    inner
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let outer = site
        .server()
        .run(|| Ok(UdpSocket::bind((SERVER_WAN, 0))?))
        .unwrap();
    for _ in 0..3 {
        outer.send_to(b"let me in", (CLIENT_LAN, 4_002)).unwrap();
    }
    assert_eq!(
        inner.recv(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(dropped() - before, 3);
}

#[test]
fn every_command_answers_for_people_and_for_programs() {
    let site = Site::up();
    let commands: [&[&str]; 11] = [
        &["status"],
        &["cluster"],
        &["cluster", "why"],
        &["sessions"],
        &["interfaces"],
        &["neighbours"],
        &["routes"],
        &["policies"],
        &["counters"],
        &["events"],
        &["sync"],
    ];
    for command in commands {
        let table = site.tidegate(1, command);
        assert!(
            table.status.success(),
            "{command:?}: {}",
            text(&table.stderr)
        );
        let json = site.tidegate(1, &[&["--json"], command].concat());
        assert!(json.status.success(), "{command:?}: {}", text(&json.stderr));
        serde_json::from_slice::<serde_json::Value>(&json.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error} in {}", text(&json.stdout)));
    }

    let status: serde_json::Value =
        serde_json::from_slice(&site.tidegate(1, &["--json", "status"]).stdout).unwrap();
    assert_eq!(status["unit"], 1);
    assert_eq!(status["cluster"], 7);
    assert_eq!(status["sessions"]["capacity"], 250_000);
    assert_eq!(status["peers"][0]["unit"], 2);
    let interfaces: Vec<_> = status["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(interfaces, ["lan", "wan", "sync"]);

    assert_eq!(
        site.tidegate(1, &["moor"]).status.code(),
        Some(2),
        "no such command"
    );
    site.lab.unit(2).unwrap().stop().unwrap();
    assert_eq!(
        site.tidegate(2, &["status"]).status.code(),
        Some(1),
        "nobody answers"
    );
}

#[test]
fn a_killed_primary_costs_no_connection_and_comes_back_as_a_subordinate() {
    let site = Site::up();
    let (strike, promotion) = site.survive(Fault::Kill);
    strike.heal(&site.lab).unwrap();
    site.lab.wait_whole().unwrap();
    let back = site.lab.unit(strike.unit).unwrap().status().unwrap();
    assert_eq!((back.role, back.term), (Role::Subordinate, promotion.term));
    assert_eq!(site.lab.primary().unwrap().0.id(), promotion.unit);
}

#[test]
fn a_pulled_cable_costs_no_connection_and_moves_back_nothing() {
    let site = Site::up();
    let (strike, promotion) = site.survive(Fault::Link);
    assert_eq!(
        site.lab.unit(strike.unit).unwrap().status().unwrap().role,
        Role::Subordinate
    );
    strike.heal(&site.lab).unwrap();
    site.lab.wait_whole().unwrap();
    let (primary, status) = site.lab.primary().unwrap();
    assert_eq!(
        (primary.id(), status.term),
        (promotion.unit, promotion.term),
        "it does not preempt"
    );
}

#[test]
fn a_planned_failover_costs_no_connection() {
    let site = Site::up();
    site.survive(Fault::Planned);
    site.lab.wait_whole().unwrap();
}

#[test]
fn a_primary_that_was_only_asleep_steps_down() {
    let site = Site::up();
    let (strike, promotion) = site.survive(Fault::Silent);
    site.lab.unit(strike.unit).unwrap().thaw().unwrap();
    site.lab.wait_whole().unwrap();
    let (primary, status) = site.lab.primary().unwrap();
    assert_eq!(
        (primary.id(), status.term),
        (promotion.unit, promotion.term)
    );
    // The switch has to find the new one again after both have spoken.
    let stream = UdpStream::start(&site.client(), &site.server(), 1_000).unwrap();
    assert!(stream.stop().unwrap().total_loss().lost < 100);
}

#[test]
fn a_primary_that_is_asked_to_leave_hands_over_first() {
    let site = Site::up();
    let sessions = TcpSessions::open(&site.client(), &site.server(), 10).unwrap();
    site.lab.wait_holding(10).unwrap();
    let (old, before) = site.lab.primary().unwrap();
    old.stop().unwrap();
    let (_, after) = site
        .lab
        .primary()
        .expect("it left only when another had taken over");
    assert!(after.term > before.term);
    assert_eq!(sessions.finish().unwrap().kept, 10);
}

#[test]
fn a_subordinates_failure_changes_no_role() {
    let site = Site::up();
    let stream = UdpStream::start(&site.client(), &site.server(), 1_000).unwrap();
    let (primary, before) = site.lab.primary().unwrap();
    let other = site
        .lab
        .units()
        .iter()
        .find(|unit| unit.id() != primary.id())
        .unwrap();
    other.kill().unwrap();
    wait_for(
        "the primary to miss its peer",
        Duration::from_secs(5),
        || {
            let alive = primary.status()?.peers.iter().any(|peer| peer.alive);
            Ok(if alive {
                Found::NotYet("it has not".into())
            } else {
                Found::Yes(())
            })
        },
    )
    .unwrap();
    other.start().unwrap();
    site.lab.wait_whole().unwrap();
    let (now, after) = site.lab.primary().unwrap();
    assert_eq!((now.id(), after.term), (primary.id(), before.term));
    let loss = stream.stop().unwrap().total_loss();
    assert!(
        loss.lost <= 5,
        "a subordinate's failure is nobody's outage: {loss:?}"
    );
}

#[test]
fn a_flapping_sync_link_costs_no_session_and_no_role() {
    let site = Site::up();
    let crowd = Crowd::settle(&site.client(), &site.server(), 2_000).unwrap();
    let (primary, before) = site.lab.primary().unwrap();
    for _ in 0..5 {
        site.lab
            .topology()
            .set_link(primary.id(), Segment::Sync, false)
            .unwrap();
        crowd.check().unwrap();
        site.lab
            .topology()
            .set_link(primary.id(), Segment::Sync, true)
            .unwrap();
    }
    site.lab.wait_holding(2_000).unwrap();
    let (now, after) = site.lab.primary().unwrap();
    assert_eq!((now.id(), after.term), (primary.id(), before.term));
    assert_eq!(crowd.check().unwrap().kept, 2_000);
}

#[test]
fn a_unit_that_joins_holds_every_session_and_can_take_over() {
    let site = Site::prepare();
    let [first, second] = site.lab.units() else {
        panic!("two units")
    };
    first.start().unwrap();
    site.lab.wait_whole().unwrap();
    let crowd = Crowd::settle(&site.client(), &site.server(), 5_000).unwrap();
    second.start().unwrap();
    site.lab.wait_holding(5_000).unwrap();
    assert_eq!(
        site.lab.primary().unwrap().0.id(),
        first.id(),
        "who comes later does not preempt"
    );
    first.kill().unwrap();
    site.lab.wait_holding(5_000).unwrap();
    assert_eq!(crowd.check().unwrap().kept, 5_000);
}

#[test]
fn a_unit_with_another_key_takes_nothing_over() {
    let site = Site::prepare();
    let [first, second] = site.lab.units() else {
        panic!("two units")
    };
    first.start().unwrap();
    site.lab.wait_whole().unwrap();
    let before = first.status().unwrap();
    let stream = UdpStream::start(&site.client(), &site.server(), 1_000).unwrap();

    let config = fs::read_to_string(second.config()).unwrap();
    let other_key = site.lab.directory().join("other.key");
    fs::write(&other_key, "00112233445566778899aabbccddeeff".repeat(2)).unwrap();
    fs::set_permissions(&other_key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(second.config(), config.replace("cluster.key", "other.key")).unwrap();
    second.start().unwrap();
    let name = "cluster_rejected_bad_authentication";
    wait_for("refused heartbeats", Duration::from_secs(5), || {
        let refused = site.counter(1, name);
        Ok(if refused > 100 {
            Found::Yes(())
        } else {
            Found::NotYet(format!("{refused} refused"))
        })
    })
    .unwrap();
    let after = first.status().unwrap();
    assert_eq!((after.role, after.term), (Role::Primary, before.term));
    assert_ne!(second.status().unwrap().role, Role::Primary);
    let loss = stream.stop().unwrap().total_loss();
    assert!(loss.lost <= 5, "{loss:?}");
}

#[test]
fn a_wrong_configuration_does_not_start() {
    let site = Site::prepare();
    let unit = site.lab.unit(1).unwrap();
    let programs = Programs::find().unwrap();
    let check = || {
        Command::new(programs.daemon())
            .arg("--check")
            .arg("--config")
            .arg(unit.config())
            .output()
            .unwrap()
    };
    let good = check();
    assert!(good.status.success(), "{}", text(&good.stderr));

    let config = fs::read_to_string(unit.config()).unwrap();
    let wrong = config
        .replace("priority = 100", "priorty = 100")
        .replace("id = 7", "id = \"seven\"");
    fs::write(unit.config(), wrong).unwrap();
    let bad = check();
    let said = text(&bad.stderr);
    assert_eq!(bad.status.code(), Some(2), "{said}");
    assert!(
        said.contains("priorty") && said.contains("id"),
        "both mistakes at once: {said}"
    );
    assert!(unit.start().is_err(), "it does not start either");

    let cli = Command::new(programs.cli())
        .args(["config", "check"])
        .arg(unit.config())
        .output()
        .unwrap();
    assert_eq!(cli.status.code(), Some(2), "{}", text(&cli.stderr));
}
