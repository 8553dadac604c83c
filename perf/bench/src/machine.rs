//! The machine that figures belong to.

use std::fs;
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What figures depend on, beside the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name for itself.
    pub cpu: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The version of the DPDK that is linked.
    pub dpdk: String,
    /// Reserved huge pages and their size, such as "5000 of 2048 kB".
    pub huge_pages: String,
    /// When the figures were taken, UTC, RFC 3339.
    pub date: String,
}

impl Machine {
    /// This machine, now. What the kernel does not tell is "unknown".
    #[must_use]
    pub fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let pages = field("/proc/meminfo", "HugePages_Total").unwrap_or_else(unknown);
        let size = field("/proc/meminfo", "Hugepagesize").unwrap_or_else(unknown);
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |release| release.trim().to_owned()),
            dpdk: dpdk::version(),
            huge_pages: format!("{pages} of {size}"),
            date: now(),
        }
    }
}

/// The first value of `name` in a file of lines `name: value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a report says when it was made; nothing is measured by it"
)]
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
