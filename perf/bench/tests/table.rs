//! The program as people run it: `table` at its smallest, in ordinary pages, as an ordinary user.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
        .args(arguments)
        .output()
        .unwrap()
}

fn small_table(output: &Path) -> Output {
    let folder = output.to_str().unwrap();
    bench(&[
        "--json",
        "--output",
        folder,
        "table",
        "--no-huge",
        "--sessions",
        "1000",
        "--rounds",
        "1",
        "--block",
        "1",
        "--bursts",
        "1,32",
    ])
}

#[test]
fn a_small_table_is_measured_and_written() {
    let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
    let output = small_table(&folder);
    assert!(output.status.success(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = std::fs::read(folder.join("table.json")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        printed,
        serde_json::from_slice::<serde_json::Value>(&written).unwrap()
    );

    let rows = printed["rows"].as_array().unwrap();
    let count = |what: &str| {
        let named = |row: &&serde_json::Value| row["what"].as_str().unwrap().starts_with(what);
        rows.iter().filter(named).count()
    };
    // Two bursts each; hits also beside the hash alone, and once beside the memory itself.
    for (what, expected) in [
        ("look-up, hit", 5),
        ("look-up, miss", 2),
        ("insert", 2),
        ("remove", 2),
        ("memory", 1),
        ("expire", 1),
        ("timer", 1),
    ] {
        assert_eq!(count(what), expected, "{what}");
    }
    for row in rows {
        assert_eq!(row["sessions"], 1_000);
        let (ours, peer) = (row["ours"].as_f64().unwrap(), row["peer"].as_f64());
        assert!(ours > 0.0, "{row}");
        if let Some(peer) = peer {
            // One round, and less is better in all rows.
            assert!(
                (row["ratio"].as_f64().unwrap() - peer / ours).abs() < 1e-9,
                "{row}"
            );
        }
    }
}

#[test]
fn wrong_usage_is_refused_before_anything_is_measured() {
    for arguments in [["table", "--sessions", "0"], ["table", "--bursts", "65"]] {
        assert_eq!(bench(&arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = bench(&["table", "--no-huge", "--core", "60000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("core 60000 does not exist"));
}
