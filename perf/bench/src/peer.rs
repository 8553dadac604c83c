//! Programs of others that are measured beside ours: started, told what to do, read and ended here.
//!
//! Each is a child process with DPDK of its own, on the core that the benchmark measures on, and does
//! nothing while it is not its turn. What has to be compiled is compiled when it is needed, by `cc`
//! with the flags of the installed DPDK, and last those of the environment's `CFLAGS`.

mod child;
pub(crate) mod l3fwd;
pub(crate) mod sketch;
pub(crate) mod testpmd;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::EalArgs;
use child::Child;

/// How the peers' DPDK is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The core that is measured on.
    pub(crate) core: u16,
    /// Another one, for a peer that does not measure with its first.
    pub(crate) spare_core: Option<u16>,
    /// Whether memory comes from huge pages.
    pub(crate) huge_pages: bool,
}

impl Site {
    /// The site of a benchmark with these arguments on a machine with these cores.
    pub(crate) fn of(args: &EalArgs, cores: &[u16]) -> Result<Self> {
        let core = args.core()?;
        Ok(Self {
            core,
            spare_core: cores.iter().copied().find(|other| *other != core),
            huge_pages: !args.no_huge,
        })
    }

    /// DPDK's options for a process with these cores, the first of them its main one, and these
    /// virtual devices.
    fn eal(&self, name: &str, cores: &[u16], devices: &[&str]) -> Vec<String> {
        let cores: Vec<String> = cores.iter().map(u16::to_string).collect();
        let prefix = format!("tidegate-bench-{name}-{}", process::id());
        let mut options = vec![
            "-l".to_owned(),
            cores.join(","),
            format!("--main-lcore={}", cores[0]),
            format!("--file-prefix={prefix}"),
        ];
        options.extend(["--no-pci", "--no-telemetry"].map(str::to_owned));
        if self.huge_pages {
            options.push("--in-memory".to_owned());
        } else {
            options.extend(["--no-huge", "--no-shconf", "-m", "1024"].map(str::to_owned));
        }
        options.extend(devices.iter().map(|device| format!("--vdev={device}")));
        options.push("--".to_owned());
        options
    }
}

/// A folder for what is built and generated; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Workshop(PathBuf);

impl Workshop {
    /// Makes the folder.
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tidegate-bench-{}", process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Compiles C sources of this folder, with DPDK, into a program; its path.
    fn compile(&self, program: &str, sources: &[PathBuf], flags: &[&str]) -> Result<PathBuf> {
        let output = self.0.join(program);
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-march=native", "-w"]).args(flags);
        compiler.args(pkg_config("--cflags")?);
        compiler.args(env::var("CFLAGS").unwrap_or_default().split_whitespace());
        compiler.args(sources);
        compiler.arg("-o").arg(&output).args(pkg_config("--libs")?);
        let done = compiler.output().context("cc cannot be started")?;
        ensure!(
            done.status.success(),
            "{program} does not compile: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(output)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The installed DPDK's flags of one kind.
fn pkg_config(kind: &str) -> Result<Vec<String>> {
    let done = Command::new("pkg-config")
        .args([kind, "libdpdk"])
        .output()
        .context("pkg-config cannot be started")?;
    ensure!(done.status.success(), "pkg-config does not know libdpdk");
    let flags = String::from_utf8(done.stdout)?;
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

/// Finds `key` in a line and reads the number that follows it.
fn number_after(line: &str, key: &str) -> Option<f64> {
    let (_, rest) = line.split_once(key)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// Starts a program with arguments.
fn start(name: &str, program: impl AsRef<OsStr>, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments);
    Child::start(name, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_lines() {
        let line = "  CPU cycles/packet=26.12 (total cycles=5 / total RX packets=2) at 2596 MHz";
        assert_eq!(number_after(line, "cycles/packet="), Some(26.12));
        assert_eq!(number_after(line, "RX packets="), Some(2.0));
        assert_eq!(number_after(line, "TX packets="), None);
    }

    #[test]
    fn dpdk_is_told_what_a_site_says() {
        let site = Site {
            core: 1,
            spare_core: Some(0),
            huge_pages: true,
        };
        let options = site.eal("x", &[0, 1], &["net_null0"]).join(" ");
        assert!(options.starts_with("-l 0,1 --main-lcore=0 --file-prefix=tidegate-bench-x-"));
        assert!(options.ends_with("--no-pci --no-telemetry --in-memory --vdev=net_null0 --"));
    }
}
