//! What operators see and do.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use api::{ConfigView, EventView, ReloadResult};
use tidegate_lab::{CLIENT_LAN, Host, Programs, SERVER_WAN};

use crate::site::{Site, assert_all_kept, assert_undisturbed, text};

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
    site.unit(2).stop().unwrap();
    assert_eq!(
        site.tidegate(2, &["status"]).status.code(),
        Some(1),
        "nobody answers"
    );
}

#[test]
fn a_wrong_configuration_does_not_start() {
    let site = Site::prepare();
    let unit = site.unit(1);
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

/// The hash of the configuration that a unit runs with.
fn running_hash(site: &Site, unit: u8) -> String {
    let request = "curl -s --unix-socket";
    let socket = site.unit(unit).socket();
    let url = "http://unit/v1/config";
    let answer = site.run(
        Host::Unit(unit),
        &format!("{request} {} {url}", socket.display()),
    );
    serde_json::from_slice::<ConfigView>(&answer.stdout)
        .unwrap()
        .hash
}

/// Whether a policy of the unit rejects a datagram to that port of the server, and tells its sender.
fn is_rejected(site: &Site, unit: u8, port: u16) -> bool {
    let before = site.counter(unit, "drop_policy_reject");
    let socket = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 0))?))
        .unwrap();
    socket.connect((SERVER_WAN, port)).unwrap();
    let wait = Duration::from_secs(3);
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.send(b"may I?").unwrap();
    // The policy's refusal and that of the server's closed port are different errors.
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    let told = error.kind() == ErrorKind::HostUnreachable;
    let counted = site.counter(unit, "drop_policy_reject") == before + 1;
    assert_eq!(told, counted, "{error}");
    counted
}

const REJECTING: &str = r#"[[policy]]
name = "not-there"
from = "lan"
to = "wan"
protocol = "udp"
destination_ports = [4100]
action = "reject"

[[policy]]
name = "in"
"#;

#[test]
fn a_reload_takes_effect_at_once_and_ends_no_session() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let stream = site.start_stream();
    let primary = site.primary().id();
    assert!(!is_rejected(&site, primary, 4_100));
    for unit in [1, 2] {
        site.edit(unit, "[[policy]]\nname = \"in\"\n", REJECTING);
        let done: ReloadResult = site.ask(unit, "config reload");
        let changed = done.applied.iter().map(|change| change.key.as_str());
        assert!(
            changed.clone().any(|key| key == "policy[not-there].action"),
            "{:?}",
            changed.collect::<Vec<_>>()
        );
    }
    assert_eq!(running_hash(&site, 1), running_hash(&site, 2));
    assert!(is_rejected(&site, primary, 4_100));
    assert!(!is_rejected(&site, primary, 4_101));
    for unit in [1, 2] {
        site.wait_until("the units to agree", || {
            let events: Vec<EventView> = site.ask(unit, "events");
            let last = events.iter().rfind(|event| {
                event.kind == "configuration" && !event.message.contains("reloaded")
            });
            last.is_none_or(|event| event.message.contains("the same configuration"))
        });
    }
    assert_all_kept(sessions, 10);
    assert_undisturbed(stream);
}

#[test]
fn a_reload_that_is_refused_changes_nothing() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let stream = site.start_stream();
    let primary = site.primary().id();
    let path = site.unit(primary).config();
    let good = fs::read_to_string(&path).unwrap();
    let before = running_hash(&site, primary);
    let refusal = |file: String| {
        fs::write(&path, file).unwrap();
        let reload = site.tidegate(primary, &["config", "reload"]);
        assert_eq!(reload.status.code(), Some(1));
        assert_eq!(running_hash(&site, primary), before);
        text(&reload.stderr)
    };

    let said = refusal(
        good.replace("preempt = false", "preempt = \"no\"")
            .replace("priority", "priorty"),
    );
    assert!(
        said.contains("preempt") && said.contains("priorty"),
        "both mistakes at once: {said}"
    );

    // What could be followed at once is not, together with what could not.
    let said = refusal(
        good.replace("heartbeat_loss = 10", "heartbeat_loss = 11")
            .replace("[[policy]]\nname = \"in\"\n", REJECTING),
    );
    assert!(said.contains("cluster.heartbeat_loss"), "{said}");
    assert!(said.contains("restart"), "{said}");
    assert!(!is_rejected(&site, primary, 4_100));

    fs::write(&path, &good).unwrap();
    let done: ReloadResult = site.ask(primary, "config reload");
    assert!(done.applied.is_empty(), "{done:?}");
    assert_all_kept(sessions, 10);
    assert_undisturbed(stream);
}

/// Checks that a text is OpenMetrics as far as scrapers depend on it.
fn assert_open_metrics(metrics: &str) {
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.starts_with("tidegate_"), "{line}");
        assert!(
            series.contains("unit=\"1\"") && series.contains("cluster=\"7\""),
            "{line}"
        );
    }
    let families = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let mut names: Vec<_> = families.map(|l| l.split(' ').next().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "each family is told once");
}

#[test]
fn metrics_are_served_on_the_socket_and_on_the_configured_address() {
    let site = Site::prepare();
    let management = "[management]\n";
    let listening = "[management]\nmetrics = \"127.0.0.1:9464\"\n";
    site.edit(1, management, listening);
    site.start();
    let socket = site.unit(1).socket();
    let over_socket = format!("--unix-socket {} http://unit/metrics", socket.display());
    for place in [over_socket.as_str(), "http://127.0.0.1:9464/metrics"] {
        let metrics = site.run(
            Host::Unit(1),
            &format!("curl -s -w %{{content_type}} {place}"),
        );
        let all = text(&metrics.stdout);
        let (metrics, kind) = all.rsplit_once('\n').unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert_open_metrics(&format!("{metrics}\n"));
        let primary = metrics
            .lines()
            .find(|line| line.starts_with("tidegate_primary{"))
            .unwrap();
        let expected = if site.primary().id() == 1 { "1" } else { "0" };
        assert!(primary.ends_with(&format!("}} {expected}")), "{primary}");
    }
}
