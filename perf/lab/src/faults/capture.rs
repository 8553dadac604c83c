//! Captures of what every port of the switch received, kept when something was wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::clock::{Found, wait_for};
use crate::namespace::Namespace;
use crate::process::ProcessId;
use crate::tool;

/// Where captures are kept.
const KEPT: &str = "/var/tmp/tidegate-lab";
/// The bytes of each frame that are captured: all headers, and the beginning of the payload.
const SNAP: &str = "128";

/// A running capture, in files of 20 MB of which the last ten are kept.
#[derive(Debug)]
pub(crate) struct Capture {
    process: Child,
    directory: PathBuf,
}

impl Capture {
    /// Starts to capture in the namespace of the switch.
    pub(crate) fn start(switch: &Namespace, name: &str) -> Result<Self> {
        let directory = Path::new(KEPT).join(name);
        crate::lab::remove_directory(&directory)?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        let mut command = switch.command("tcpdump");
        command
            .args([
                "-i", "any", "-Q", "in", "-s", SNAP, "-B", "8192", "-n", "-q",
            ])
            .args(["-C", "20", "-W", "10", "-Z", "root", "-w"])
            .arg(directory.join("switch.pcap"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .map_err(|error| tool::explain(&command, error))?;
        let capture = Self { process, directory };
        wait_for("tcpdump to capture", Duration::from_secs(5), || {
            let begun = fs::read_dir(&capture.directory)?.next().is_some();
            Ok(if begun {
                Found::Yes(())
            } else {
                Found::NotYet("there is no file".to_owned())
            })
        })?;
        Ok(capture)
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends it. Without `keep`, the files are removed.
    pub(crate) fn finish(mut self, keep: bool) -> Result<()> {
        let pid = i32::try_from(self.process.id()).context("a process number is positive")?;
        if let Some(process) = ProcessId::of(pid) {
            process.signal(Signal::INT)?;
        }
        self.process.wait()?;
        if keep {
            return Ok(());
        }
        crate::lab::remove_directory(&self.directory)
    }
}
