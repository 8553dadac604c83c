//! The benchmarks that need root: gateways in namespaces, between the ends of a generator. They show
//! that everything starts, forwards, is counted and goes away again, not how fast it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, id};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tidegate_lab::clock::{Found, wait_for};
use tidegate_lab::{Namespace, ProcessId, Programs};

/// How long a benchmark may take until its namespaces are there, or gone.
const PATIENCE: Duration = Duration::from_secs(20);

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command.arg("--json").args(arguments);
    command
}

/// The rows of a report.
fn rows(output: &Output) -> Vec<Value> {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["rows"].as_array().expect("rows").clone()
}

/// The namespaces of one benchmark.
fn namespaces_of(process: u32) -> Vec<String> {
    let prefix = format!("tgb{process:x}n");
    let mut names = Namespace::all();
    names.retain(|name| name.starts_with(&prefix));
    names
}

fn start(arguments: &[&str]) -> Child {
    bench(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[test]
fn every_gateway_forwards_and_leaves_nothing_behind() {
    let child = start(&["system", "--quick", "--no-huge", "--rounds", "1"]);
    let process = child.id();
    let rows = rows(&child.wait_with_output().expect("it ends"));
    for device in ["af_packet", "af_xdp", "memif"] {
        for peer in ["testpmd macswap", "kernel masquerade"] {
            let found = rows.iter().any(|row| {
                row["what"].as_str().unwrap().ends_with(device)
                    && row["unit"] == "Mpps"
                    && row["peer_name"].as_str().unwrap().starts_with(peer)
                    && row["ratio"].as_f64().unwrap() > 0.0
            });
            assert!(found, "{device} beside {peer}: {rows:?}");
        }
        let latencies = rows
            .iter()
            .filter(|row| row["unit"] == "µs" && row["what"].as_str().unwrap().contains(device));
        assert!(latencies.count() >= 3, "{device}: {rows:?}");
    }
    assert_eq!(namespaces_of(process), Vec::<String>::new());
}

#[test]
fn tcp_stacks_talk_through_a_gateway() {
    let output = bench(&[
        "system",
        "--no-huge",
        "--rounds",
        "1",
        "--time",
        "1s",
        "--device",
        "af_packet",
        "--measure",
        "throughput,connections",
    ])
    .output()
    .expect("it starts");
    let rows = rows(&output);
    assert_eq!(rows.len(), 4, "two measures, two peers: {rows:?}");
    for row in rows {
        let what = row["what"].as_str().unwrap();
        let least = if what.contains("connections") {
            100.0
        } else {
            0.01
        };
        assert!(row["ours"].as_f64().unwrap() > least, "{row}");
        assert!(row["peer"].as_f64().unwrap() > least, "{row}");
    }
}

#[test]
fn an_interrupted_benchmark_takes_its_namespaces_along() {
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = start(&["system", "--no-huge", "--device", "af_packet"]);
        let process = child.id();
        wait_for("the namespaces", PATIENCE, || {
            Ok(match namespaces_of(process).len() {
                3 => Found::Yes(()),
                count => Found::NotYet(format!("there are {count}")),
            })
        })
        .expect("they are made");
        let running = ProcessId::of(i32::try_from(process).unwrap()).expect("it runs");
        running.signal(signal).expect("our own child");
        child.wait().expect("it ends");
        wait_for("the namespaces to go", PATIENCE, || {
            let left = namespaces_of(process);
            Ok(if left.is_empty() {
                Found::Yes(())
            } else {
                Found::NotYet(format!("{left:?}"))
            })
        })
        .expect("the janitor removes them");
    }
}

/// A `tidegated` that waits at two memifs for their other ends.
struct Gateway {
    folder: PathBuf,
    process: Child,
}

impl Gateway {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("tidegate-rfc2544-{}", id()));
        fs::create_dir(&folder).expect("a new folder");
        let key = folder.join("cluster.key");
        fs::write(&key, "5a".repeat(32)).expect("a new file");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("our own file");
        let config = folder.join("gateway.toml");
        fs::write(&config, configuration(&folder)).expect("a new file");
        let process = Command::new(Programs::find().expect("it is built").daemon())
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("a new file"))
            .spawn()
            .expect("it starts");
        let gateway = Self { folder, process };
        wait_for("the memifs", PATIENCE, || {
            let missing = ["lan", "wan"].map(|side| socket(&gateway.folder, side));
            let missing = missing.into_iter().find(|socket| !socket.exists());
            Ok(match missing {
                None => Found::Yes(()),
                Some(socket) => Found::NotYet(format!("{} is missing", socket.display())),
            })
        })
        .expect("it opens them");
        gateway
    }

    fn device(&self, side: &str) -> String {
        format!("memif:{}", socket(&self.folder, side).display())
    }
}

fn socket(folder: &Path, side: &str) -> PathBuf {
    folder.join(side).with_extension("sock")
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(folder: &Path) -> String {
    format!(
        r#"[unit]
id = 1
name = "rfc2544"
[cpu]
control = 0
workers = [1]
idle = "sleep"
[memory]
huge_pages = false
sessions = 10_000
[cluster]
id = 7
key_file = "cluster.key"
heartbeat_loss = 3
hello_holddown = "300ms"
[[interface]]
name = "lan"
device = "memif:{},role=server"
role = "traffic"
cluster_addresses = ["192.0.2.1/24"]
[[interface]]
name = "wan"
device = "memif:{},role=server"
role = "traffic"
cluster_addresses = ["198.51.100.1/24"]
[[policy]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
source_nat = "masquerade"
[management]
socket = "{}"
"#,
        socket(folder, "lan").display(),
        socket(folder, "wan").display(),
        folder.join("api.sock").display()
    )
}

#[test]
fn rfc2544_finds_the_throughput_of_a_gateway() {
    let gateway = Gateway::start();
    let output = bench(&["rfc2544", "--quick", "--no-huge", "--core", "0"])
        .args([
            "--tx",
            &gateway.device("lan"),
            "--rx",
            &gateway.device("wan"),
        ])
        .args(["--gateway", "192.0.2.1", "--flows", "100", "--loss", "0.01"])
        .args(["--max-rate", "0.2"])
        .output()
        .expect("it starts");
    let log = fs::read_to_string(gateway.folder.join("log")).unwrap_or_default();
    assert!(
        output.status.success(),
        "{log}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = rows(&output);
    let figure = |beginning: &str| {
        let row = rows
            .iter()
            .find(|row| row["what"].as_str().unwrap().starts_with(beginning));
        row.unwrap_or_else(|| panic!("{beginning}: {rows:?}"))["ours"]
            .as_f64()
            .unwrap()
    };
    let throughput = figure("throughput, 64 bytes");
    assert!(
        (0.001..=0.2).contains(&throughput),
        "{throughput} Mpps of 0.2"
    );
    for load in [10, 50, 100] {
        let least = figure(&format!(
            "latency, 64 bytes, {load} % of the throughput, median"
        ));
        let most = figure(&format!(
            "latency, 64 bytes, {load} % of the throughput, 99.9 %"
        ));
        assert!(0.0 < least && least <= most, "{least} to {most} µs");
    }
    assert!(figure("back-to-back, 64 bytes") >= 1.0);
    assert!(
        rows.iter()
            .all(|row| row["sessions"] == 100 && row["ratio"].is_null())
    );
}
