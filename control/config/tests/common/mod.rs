//! A folder with a key file, and a configuration that is right in every line.

// Not every test file uses all of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use config::{Config, Problem, Problems, Severity};

/// A configuration that uses every table, and is right.
pub(crate) const RIGHT: &str = r#"[unit]
id = 1
name = "gw-a"
priority = 200

[cpu]
control = 0
workers = [1]
idle = "sleep"

[memory]
huge_pages = false
sessions = 250_000

[cluster]
id = 7
key_file = "cluster.key"
heartbeat_interval = "10ms"
heartbeat_loss = 3
hello_holddown = "1s"
ether_type = 0x88B5
schedule = "none"

[[interface]]
name = "lan"
device = "af_packet:lan0"
role = "traffic"
critical = true
cluster_addresses = ["192.0.2.1/24"]
unit_address = "192.0.2.11/24"

[[interface]]
name = "wan"
device = "af_packet:wan0"
role = "traffic"
cluster_addresses = [
    "198.51.100.1/24",
    "198.51.100.2/24",
]

[[interface]]
name = "sync"
device = "af_packet:sync0"
role = "sync"

[[route]]
to = "0.0.0.0/0"
via = "198.51.100.254"

[[policy]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
source_nat = "masquerade"

[[policy]]
name = "in"
from = "wan"
destination = ["198.51.100.1"]
protocol = "tcp"
destination_ports = [8080, "9000-9010"]
action = "allow"
destination_nat = "192.0.2.100:80"

[timeouts]
tcp_established = "2h 4m"

[limits]
half_open = 50_000

[management]
socket = "/run/tidegate/gw-a.sock"
metrics = "127.0.0.1:9464"
"#;

/// A folder of its own, removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A folder that holds a good `cluster.key`.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-config-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder.write("cluster.key", &"5a".repeat(32), 0o600);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Config, Problems> {
        Config::parse(text.to_owned(), &self.0.join("gw-a.toml"))
    }

    /// The configuration that `text` is.
    pub(crate) fn right(&self, text: &str) -> Config {
        self.parse(text)
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    /// What is wrong with `text`.
    pub(crate) fn wrong(&self, text: &str) -> Vec<Problem> {
        match self.parse(text) {
            Ok(config) => panic!("accepted: {config:?}\n{text}"),
            Err(Problems(problems)) => problems,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `RIGHT` with the one place that reads `from` replaced.
pub(crate) fn replaced(from: &str, to: &str) -> String {
    assert_eq!(RIGHT.matches(from).count(), 1, "{from:?} must stand once");
    RIGHT.replacen(from, to, 1)
}

/// The line, counted from one, that ends with the mark `# here`.
pub(crate) fn marked_line(text: &str) -> usize {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.ends_with("# here"));
    let (index, _) = lines.next().expect("a line is marked");
    assert!(lines.next().is_none(), "one line is marked");
    index + 1
}

/// Replaces `from` by `to` in the right configuration and expects one error.
#[track_caller]
pub(crate) fn refused(from: &str, to: &str, key: &str, cause: &str, remedy: &str) {
    let text = replaced(from, to);
    refused_text(&text, key, cause, remedy);
}

/// Expects one error of `text`, at its line that is marked `# here`.
#[track_caller]
pub(crate) fn refused_text(text: &str, key: &str, cause: &str, remedy: &str) {
    let folder = Folder::new();
    let problems = folder.wrong(text);
    let [problem] = &problems[..] else {
        panic!("one problem was expected:\n{}", Problems(problems));
    };
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(problem.file, folder.path().join("gw-a.toml"));
    assert_eq!(problem.line, Some(marked_line(text)), "{problem}");
    assert_eq!(problem.key, key, "{problem}");
    let folder = folder.path().display().to_string();
    assert_eq!(problem.cause.replace(&folder, "FOLDER"), cause);
    assert_eq!(problem.remedy.replace(&folder, "FOLDER"), remedy);
}
