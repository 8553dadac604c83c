//! The benchmarks of the worker run, and find what they must: not how fast it is, but that every row is
//! there, and that nothing was dropped, since that ends a run.

use std::process::Command;

use serde_json::Value;

fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
        .arg("--json")
        .args(arguments)
        .args(["--no-huge", "--rounds", "1"])
        .output()
        .expect("it starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["rows"].as_array().expect("rows").clone()
}

fn whats(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["what"].as_str()).collect()
}

const SMALL: [&str; 5] = ["forward", "--sessions", "1000", "--packets", "20000"];

#[test]
fn every_kind_of_packet_passes() {
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--only", "stages,paths"]);
    let rows = rows(&arguments);
    let whats = whats(&rows);
    for nat in ["no NAT", "NAT"] {
        for kind in ["UDP 64 B", "TCP 64 B", "UDP IMIX", "UDP 64 B replies"] {
            let what = format!("{kind}, {nat}");
            assert!(whats.contains(&what.as_str()), "{what}: {whats:?}");
        }
    }
    let stages: Vec<f64> = rows
        .iter()
        .filter(|row| {
            row["what"]
                .as_str()
                .is_some_and(|what| what.starts_with("stage: "))
        })
        .filter_map(|row| row["ours"].as_f64())
        .collect();
    assert_eq!(stages.len(), 3);
    assert!(stages.iter().all(|cycles| *cycles > 0.0));
}

#[test]
fn established_sessions_survive_floods() {
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--only", "floods"]);
    let rows = rows(&arguments);
    assert_eq!(
        whats(&rows),
        ["SYN flood on a full table, NAT", "every port in use, NAT"]
    );
    assert!(rows.iter().all(|row| row["ratio"].as_f64() > Some(0.0)));
}

/// Each peer of a part that needs `programs` has a row.
fn has_peers(part: &str, peers: &[&str]) {
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--only", part]);
    let rows = rows(&arguments);
    for peer in peers {
        let beside = |row: &&Value| row["peer_name"] == *peer;
        let row = rows.iter().find(beside).expect(peer);
        assert!(row["peer"].as_f64() > Some(0.0) && row["ratio"].as_f64() > Some(0.0));
    }
}

#[test]
fn the_sketch_runs_beside_it() {
    has_peers("sketch", &["sketch in C"]);
}

#[test]
fn testpmd_runs_beside_it() {
    has_peers("testpmd", &["testpmd io", "testpmd mac", "testpmd macswap"]);
}

#[test]
fn l3fwd_runs_beside_it() {
    has_peers("l3fwd", &["l3fwd em", "l3fwd lpm"]);
}

#[test]
fn sessions_begin_and_their_changes_are_streamed() {
    let rows = rows(&["connect", "--sessions", "5000"]);
    let share = |row: &&Value| row["unit"] == "%";
    let streamed = rows
        .iter()
        .find(share)
        .expect("the share that was streamed");
    assert!(streamed["ours"].as_f64() > Some(0.0));
    assert!(whats(&rows).contains(&"new TCP sessions, NAT"));
}

#[test]
fn packets_are_steered_or_handed_over() {
    let rows = rows(&["scale", "--sessions", "2000"]);
    let whats = whats(&rows);
    assert_eq!(whats[0], "1 worker");
    if whats.len() > 1 {
        assert_eq!(
            whats[1..3],
            ["2 workers, steered", "2 workers, handing over"]
        );
    }
}

#[test]
fn a_unit_joins_beside_a_worker() {
    let rows = rows(&["join", "--sessions", "20000", "--packets", "200000"]);
    assert_eq!(
        whats(&rows),
        [
            "UDP 64 B, NAT, while a unit joins",
            "all sessions are copied"
        ]
    );
    assert!(rows[0]["ratio"].as_f64() > Some(0.0));
    assert!(rows[1]["ours"].as_f64() > Some(0.0));
}
