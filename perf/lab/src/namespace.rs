//! One network namespace of the kernel, by its name under `/run/netns`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::ProcessId;
use crate::tool;

/// Where `ip netns` keeps the names.
const DIRECTORY: &str = "/run/netns";

/// A named network namespace. The value is only the name: dropping it removes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of that name, whether it exists or not.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The names of all namespaces of this machine.
    pub fn all() -> Vec<String> {
        let Ok(entries) = fs::read_dir(DIRECTORY) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it exists now.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Creates it, with the loopback interface up and IPv6 off: the lab's hosts speak when asked.
    ///
    /// # Errors
    ///
    /// When it exists, or the caller may not create one.
    pub fn create(&self) -> Result<()> {
        tool::run("ip", &["netns", "add", &self.name])?;
        self.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        self.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        self.ip("link set lo up\n")
    }

    /// Removes it with all its interfaces. Removing none is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn delete(&self) -> Result<()> {
        if self.exists() {
            tool::run("ip", &["netns", "del", &self.name])?;
        }
        Ok(())
    }

    /// The processes that live in it.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn processes(&self) -> Result<Vec<ProcessId>> {
        let listed = tool::run("ip", &["netns", "pids", &self.name])?;
        Ok(listed
            .split_whitespace()
            .filter_map(|pid| ProcessId::of(pid.parse().ok()?))
            .collect())
    }

    /// A command that will run inside; `program` replaces `ip`, so that its process is the child.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref());
        command
    }

    /// Runs `ip` commands inside, one to a line, as one batch.
    ///
    /// # Errors
    ///
    /// At the first command that fails.
    pub fn ip(&self, batch: &str) -> Result<()> {
        tool::feed("ip", &["-n", &self.name, "-batch", "-"], batch)
            .with_context(|| format!("in namespace {}, commands:\n{batch}", self.name))?;
        Ok(())
    }

    /// Switches off, for one interface, everything that makes veth pass partial checksums and
    /// segments larger than the MTU: a gateway on AF_PACKET would see them as they are.
    ///
    /// # Errors
    ///
    /// When `ethtool` fails.
    pub fn disable_offloads(&self, interface: &str) -> Result<()> {
        let off = [
            "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off",
        ];
        tool::output(self.command("ethtool").args(["-K", interface]).args(off))?;
        Ok(())
    }

    /// Writes one kernel parameter of this namespace (path below `/proc/sys`). One that this kernel
    /// does not have (built without IPv6) is left alone.
    ///
    /// # Errors
    ///
    /// When it exists and cannot be written.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        let value = value.to_owned();
        self.run(move || {
            if path.exists() {
                fs::write(&path, value).with_context(|| path.display().to_string())?;
            }
            Ok(())
        })
    }

    /// Runs a closure on a thread inside and returns its result. Sockets opened there belong to the
    /// namespace wherever they are used later.
    ///
    /// # Errors
    ///
    /// The closure's own, or when the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("the thread in namespace {} panicked", self.name))?
        })
    }

    fn enter(&self) -> Result<()> {
        let file = File::open(self.path())
            .with_context(|| format!("there is no namespace {}: is the lab up?", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("namespace {} cannot be entered: root is needed", self.name))
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }
}
