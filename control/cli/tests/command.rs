//! The command as operators and scripts meet it: what it asks, what it shows, how it ends.

mod common;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use common::{Folder, Unit, command, stderr, stdout, tidegate};
use serde_json::json;

fn status() -> serde_json::Value {
    json!({
        "unit": 1, "name": "gw-a", "role": "primary", "term": 4, "cluster": 7, "uptime_s": 3700,
        "synced": true, "sessions": { "total": 250, "capacity": 1000 },
        "peers": [{ "unit": 2, "alive": true, "role": "subordinate", "synced": true, "lag": 3 }],
        "interfaces": [{ "name": "lan", "link": "up", "mac": "02:00:00:00:00:01",
                         "rx_packets": 12, "tx_packets": 34567 }],
        "software": "tidegated 0.1.0", "warnings": ["link sync of unit 2 is down"],
        "a_field_of_a_later_version": true,
    })
}

#[test]
fn status_is_readable() {
    let unit = Unit::answering(200, &status().to_string());
    let output = tidegate(&unit.socket(), &["status"]);
    assert_eq!(
        stdout(&output),
        "unit 1 \"gw-a\" of cluster 7: primary, term 4, synced\n\
         up 1 h 1 min, 250 of 1000 sessions (25 %), tidegated 0.1.0\n\
         warning: link sync of unit 2 is down\n\
         \n\
         PEER  ALIVE  ROLE         SYNCED  LAG\n   \
         2  yes    subordinate  yes       3\n\
         \n\
         INTERFACE  LINK  MAC                RX PACKETS  TX PACKETS\n\
         lan        up    02:00:00:00:00:01          12       34567\n"
    );
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
    assert_eq!(unit.requests(), ["GET /v1/status"]);
}

#[test]
fn json_is_the_units_own() {
    let body = "{ \"unit\" : 1,   \"spaces\": \"as they are\" }";
    let unit = Unit::answering(200, body);
    let output = tidegate(&unit.socket(), &["--json", "status"]);
    assert_eq!(stdout(&output), format!("{body}\n"));
}

/// Every command: its request, an answer, and a text that its table shows.
#[test]
fn every_command_asks_and_shows() {
    let why = json!({ "role": "primary", "term": 2, "transitions": [{ "time": "2026-11-22T01:00:00.000Z",
        "uptime_ms": 1234, "from": "subordinate", "to": "primary", "term": 2,
        "cause": "unit 1 is silent" }] });
    let cluster = json!({ "cluster": 7, "unit": 2, "term": 2, "primary": 1, "schedule": "none", "units": [{
        "unit": 1, "name": null, "alive": true, "role": "primary", "term": 2,
        "health": { "links": 1, "links_total": 2, "workers": false }, "age_s": 61, "priority": 100,
        "links": [{ "name": "sync", "up": false, "last_heard_ms": 5 }], "synced": true, "lag": 0,
        "config_match": false, "config_differs": ["cluster.preempt", "policy"], "software": "x" }] });
    let differing = cluster.clone();
    let mut shares = cluster.clone();
    shares["slots"] = json!(3);
    let extra = [
        ("weight", 3),
        ("slots", 2),
        ("owned", 9),
        ("share_permille", 900),
        ("lag", 4),
        ("lag_ms", 5),
    ];
    for (field, value) in extra {
        shares["units"][0][field] = json!(value);
    }
    let flow = json!({ "source": "192.0.2.9", "source_port": 5, "destination": "203.0.113.1",
        "destination_port": 80 });
    let sessions = json!({ "total": 9, "matched": 5, "sessions": [{ "protocol": "tcp",
        "state": "established", "original": flow, "reply": flow, "owner": 1, "copies": [2, 3], "policy": "out",
        "idle_s": 1, "expires_s": 7439, "version": "10000000001" }] });
    let interface = json!([{ "name": "lan", "device": "af_packet:lan0", "driver": "net_af_packet",
        "role": "traffic", "critical": true, "monitored": true, "link": "up",
        "mac": "02:00:00:00:00:01", "virtual_mac": "02:74:67:00:07:00", "mac_filter": "promiscuous",
        "mtu": 1500, "cluster_addresses": ["192.0.2.1/24"], "unit_address": "192.0.2.11/24",
        "counters": { "rx_packets": 1, "rx_bytes": 2, "rx_missed": 3, "rx_errors": 4,
                      "tx_packets": 5, "tx_bytes": 6, "tx_errors": 7 } }]);
    let stream = json!({ "shard": 0, "sent": 9, "acknowledged": 8 });
    let sync = json!({ "enabled": true, "synced": false, "peers": [{ "unit": 2, "alive": true,
        "synced": true, "sent": [stream], "received": [], "lag_deltas": 1, "lag_ms": 2 }],
        "resent": 3, "repairs_sent": 4, "repairs_received": 5 });
    let reload =
        json!({ "hash": "00ff", "applied": [{ "key": "unit.priority", "from": "1", "to": "2" }] });
    let done = json!({ "message": "unit 2 takes over" });
    let failover = json!({ "message": "unit 2 is primary", "to": 2, "steps": [
        { "step": "drain", "about": "all is acknowledged", "took_us": 1_050 },
        { "step": "promote", "about": "unit 2 was heard", "took_us": 20 }] });
    for (arguments, request, answer, shown) in [
        (
            "cluster",
            "GET /v1/cluster",
            cluster,
            "1/2, workers stopped  1 min 1 s",
        ),
        (
            "cluster",
            "GET /v1/cluster",
            differing,
            "unit 1 is configured differently: cluster.preempt, policy\n",
        ),
        (
            "cluster",
            "GET /v1/cluster",
            shares,
            "   1       3    2/3      9  90.0 %    4       5\n",
        ),
        (
            "cluster why",
            "GET /v1/cluster/why",
            why,
            "1.234 s  subordinate  primary     2  unit 1 is silent",
        ),
        (
            "cluster failover",
            "POST /v1/cluster/failover {\"to\":null}",
            done.clone(),
            "unit 2 takes over\n",
        ),
        (
            "cluster failover --to 2",
            "POST /v1/cluster/failover {\"to\":2}",
            failover,
            "drain    1.050 ms  all is acknowledged\npromote  0.020 ms  unit 2 was heard\n\nin all 1.070 ms\n",
        ),
        (
            "cluster maintenance on",
            "POST /v1/cluster/maintenance {\"on\":true}",
            done.clone(),
            "unit 2 takes over\n",
        ),
        (
            "cluster maintenance off",
            "POST /v1/cluster/maintenance {\"on\":false}",
            done,
            "unit 2 takes over\n",
        ),
        (
            "sessions",
            "GET /v1/sessions?limit=100",
            sessions.clone(),
            "192.0.2.9:5 > 203.0.113.1:80  192.0.2.9:5 > 203.0.113.1:80      1  2,3     out",
        ),
        (
            "sessions --protocol udp --address 192.0.2.1 --limit 1",
            "GET /v1/sessions?address=192.0.2.1&protocol=17&limit=1",
            sessions,
            "5 of 9 sessions match; 1 are shown",
        ),
        (
            "sessions clear --port 80",
            "DELETE /v1/sessions?port=80",
            json!({ "cleared": 3 }),
            "3 sessions cleared\n",
        ),
        (
            "sessions clear --all",
            "DELETE /v1/sessions?",
            json!({ "cleared": 3 }),
            "3 sessions cleared\n",
        ),
        (
            "interfaces",
            "GET /v1/interfaces",
            interface,
            "192.0.2.1/24, 192.0.2.11/24 (unit)",
        ),
        (
            "neighbours",
            "GET /v1/neighbours",
            json!([{ "interface": "lan", "address": "192.0.2.9", "mac": null,
            "state": "incomplete", "age_s": 1, "queued": 2 }]),
            "192.0.2.9  -    incomplete  1 s       2",
        ),
        ("routes", "GET /v1/routes", json!([]), "no route\n"),
        (
            "policies",
            "GET /v1/policies",
            json!([{ "position": 1, "name": "out", "from": "lan", "to": "wan",
            "matches": "", "action": "allow", "source_nat": "masquerade", "destination_nat": null, "hits": 77 }]),
            "1  out   lan   wan  all      allow   masquerade  -                  77",
        ),
        (
            "events",
            "GET /v1/events",
            json!([{ "time": "T", "uptime_ms": 1, "level": "warning", "kind": "link_down",
            "message": "sync is down" }]),
            "T     warning  link_down  sync is down",
        ),
        ("sync", "GET /v1/sync", sync, "0: 8/9"),
        (
            "config reload",
            "POST /v1/config/reload",
            reload,
            "unit.priority  1     2",
        ),
    ] {
        let unit = Unit::answering(200, &answer.to_string());
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = tidegate(&unit.socket(), &arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(unit.requests(), [request]);
        let text = stdout(&output);
        assert!(
            text.contains(shown),
            "{arguments:?} shows\n{text}not {shown:?}"
        );
    }
}

#[test]
fn counters_at_zero_are_hidden_unless_asked_for() {
    let counter = |name: &str, value: u64| json!({ "name": name, "value": value, "help": "helps" });
    let answer = json!([counter("drop_ttl", 0), counter("drop_full", 2)]).to_string();
    let unit = Unit::answering(200, &answer);
    let text = stdout(&tidegate(&unit.socket(), &["counters"]));
    assert!(
        text.contains("drop_full      2  helps") && !text.contains("drop_ttl"),
        "{text}"
    );
    assert!(
        text.ends_with("1 more are at zero; --all shows them\n"),
        "{text}"
    );
    let text = stdout(&tidegate(&unit.socket(), &["counters", "--all"]));
    assert!(
        text.contains("drop_ttl") && text.contains("drop_full"),
        "{text}"
    );
}

#[test]
fn a_refusal_is_told_with_its_remedy() {
    let body = json!({ "error": "this unit is not primary", "remedy": "ask unit 2" });
    let unit = Unit::answering(409, &body.to_string());
    let output = tidegate(&unit.socket(), &["cluster", "failover"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "tidegate: this unit is not primary; ask unit 2\n"
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn nobody_there_is_told_by_the_sockets_name() {
    let folder = Folder::new();
    let socket = folder.file("none.sock");
    let output = tidegate(&socket, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains(&socket.display().to_string()), "{message}");
    assert!(message.contains("is tidegated running?"), "{message}");
}

#[test]
fn an_answer_of_another_shape_is_a_failure() {
    let unit = Unit::answering(200, "[]");
    let output = tidegate(&unit.socket(), &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("of one version?"),
        "{}",
        stderr(&output)
    );
    let unit = Unit::answering(500, "no JSON");
    let output = tidegate(&unit.socket(), &["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("status 500"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [
        &["sttus"][..],
        &[],
        &["cluster", "failover", "--to", "17"],
        &["sessions", "--state", "open"],
        &["sessions", "clear"],
        &["config", "check"],
    ] {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(
        command().arg("--help").output().unwrap().status.code(),
        Some(0)
    );
    assert_eq!(
        command().arg("--version").output().unwrap().status.code(),
        Some(0)
    );
}

/// Whoever stops reading, as `head` does, is no reason to complain, least of all to panic.
#[test]
fn a_closed_pipe_is_no_failure() {
    let help = "x".repeat(1_000);
    let counter = json!({ "name": "a", "value": 1, "help": help });
    // More than a pipe holds, so that the command is still writing when the reader goes.
    let unit = Unit::answering(200, &json!(vec![counter; 2_000]).to_string());
    for arguments in [&["counters"][..], &["--json", "counters"]] {
        let mut child = command()
            .arg("--socket")
            .arg(unit.socket())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = command().args(["man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("can't write the answer"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_and_manual_are_made_without_a_unit() {
    let output = command().args(["completions", "bash"]).output().unwrap();
    assert!(stdout(&output).contains("maintenance"));
    let output = command().arg("man").output().unwrap();
    assert!(stdout(&output).starts_with(".ie") && stdout(&output).contains("tidegate"));
}

/// A configuration of unit `id`, and its key, in `folder`.
fn configuration(folder: &Folder, id: u8, priority: u8) -> std::path::PathBuf {
    let key = folder.write("cluster.key", &"a5".repeat(32));
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let text = format!(
        "unit = {{ id = {id}, name = \"gw-{id}\", priority = {priority} }}\n\
         cpu = {{ workers = [1] }}\n\
         cluster = {{ id = 7, key_file = \"cluster.key\" }}\n\
         [[interface]]\nname = \"lan\"\ndevice = \"null\"\nrole = \"traffic\"\ncritical = true\n\
         cluster_addresses = [\"192.0.2.1/24\"]\n"
    );
    folder.write(&format!("gw-{id}-{priority}.toml"), &text)
}

fn check(files: &[&Path], json: bool) -> std::process::Output {
    let mut command = command();
    command
        .args(json.then_some("--json"))
        .args(["config", "check"])
        .args(files);
    command.output().expect("it runs")
}

#[test]
fn a_configuration_is_checked_without_a_unit() {
    let folder = Folder::new();
    let (a, b) = (configuration(&folder, 1, 5), configuration(&folder, 2, 5));
    let output = check(&[&a, &b], false);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("valid; unit 2 \"gw-2\" of cluster 7"),
        "{}",
        stdout(&output)
    );
    let output = check(&[&a], true);
    assert_eq!(stdout(&output), "{\"problems\":[],\"valid\":true}\n");
}

#[test]
fn a_bad_configuration_ends_with_two_and_all_problems() {
    let folder = Folder::new();
    let good = configuration(&folder, 1, 5);
    let text = std::fs::read_to_string(&good).unwrap();
    let bad = folder.write(
        "bad.toml",
        &text.replace("\"null\"", "\"nil\"").replace("= 7", "= 0"),
    );
    let output = check(&[&bad, &good], false);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(2), "")
    );
    let message = stderr(&output);
    assert!(
        message.contains("bad.toml:3: cluster.id: 0 is out of range"),
        "{message}"
    );
    assert!(
        message.contains("bad.toml:6: interface[lan].device: \"nil\" is no kind"),
        "{message}"
    );
    let output = check(&[&bad], true);
    assert_eq!(output.status.code(), Some(2));
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&answer["valid"], &answer["problems"][0]["line"]),
        (&json!(false), &json!(3))
    );
    let same_id = configuration(&folder, 1, 6);
    let output = check(&[&good, &same_id], false);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("unit.id: 1 is the id of the unit in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_file_is_compared_with_another_and_with_the_running_unit() {
    let folder = Folder::new();
    let (old, new) = (configuration(&folder, 1, 5), configuration(&folder, 1, 6));
    let expected = "KEY            FROM  TO  BY\nunit.priority  5     6   reload\n";
    let output = command()
        .args(["config", "diff"])
        .args([&old, &new])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    let running =
        json!({ "file": old, "text": std::fs::read_to_string(&old).unwrap(), "hash": "0" });
    let unit = Unit::answering(200, &running.to_string());
    let output = tidegate(&unit.socket(), &["config", "diff", new.to_str().unwrap()]);
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    assert_eq!(unit.requests(), ["GET /v1/config"]);
    let output = tidegate(&unit.socket(), &["config", "diff", old.to_str().unwrap()]);
    assert_eq!(stdout(&output), "No difference in meaning.\n");
}
