//! Where a gateway is measured: three namespaces and two cables.
//!
//! ```text
//!   client               gateway               server
//!   lan0 ───────────── lan0   wan0 ───────────── wan0
//!   192.0.2.100        .1     .1            198.51.100.100 …
//! ```
//!
//! Invariant: nothing of it outlives this program, however it ends. A janitor, a process of its own,
//! waits for the end of a pipe that only this program holds, and then kills what lives in the
//! namespaces and removes them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use packet::Mac;
use tidegate_lab::{CLIENT_LAN, CLUSTER_LAN, Namespace, SERVER_WAN, tool};

/// Of the gateway's interface on the client's side.
const GATEWAY_LAN: Mac = Mac([0x02, 0x00, 0x5e, 0x00, 0x00, 0x01]);
/// Of the one on the server's side.
const GATEWAY_WAN: Mac = Mac([0x02, 0x00, 0x5e, 0x00, 0x00, 0x02]);
/// The client's MAC.
pub(super) const CLIENT: Mac = Mac([0x02, 0x00, 0x5e, 0x00, 0x00, 0x0c]);
/// The server's MAC.
pub(super) const SERVER: Mac = Mac([0x02, 0x00, 0x5e, 0x00, 0x00, 0x0d]);
/// How many addresses the server has: each is a destination of its own, with ports of its own.
const SERVER_ADDRESSES: u8 = 64;

/// Waits until its input ends; then ends and removes what it was told.
const JANITOR: &str = r#"
cat >/dev/null
directory=$1
shift
for name in "$@"; do
    for process in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$process"; done
done
for name in "$@"; do
    ip netns del "$name" 2>/dev/null
    # What testpmd leaves under its prefix.
    rm -rf "/run/dpdk/$name"
done
rm -rf "$directory"
"#;

/// The namespaces, gone when the value is.
#[derive(Debug)]
pub(super) struct Site {
    prefix: String,
    directory: PathBuf,
    janitor: Option<Child>,
}

impl Site {
    /// Builds one under a name that no other on this machine has.
    ///
    /// # Errors
    /// Without root, or when a program is missing.
    pub(super) fn build() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            rustix::process::geteuid().is_root(),
            "namespaces need root: run it with sudo"
        );
        let prefix = format!("tgb{:x}n{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut site = Self {
            directory: Path::new("/run").join(format!("tidegate-bench-{prefix}")),
            prefix,
            janitor: None,
        };
        // Before anything is there to be removed.
        site.janitor = Some(site.hire_janitor()?);
        fs::create_dir(&site.directory)
            .with_context(|| format!("{} cannot be made", site.directory.display()))?;
        for namespace in site.namespaces() {
            namespace.create()?;
        }
        site.lay_cable("client", "lan0", [CLIENT, GATEWAY_LAN])?;
        site.lay_cable("server", "wan0", [SERVER, GATEWAY_WAN])?;
        site.address()?;
        Ok(site)
    }

    /// The client's namespace.
    pub(super) fn client(&self) -> Namespace {
        self.namespace("client")
    }

    /// The gateway's.
    pub(super) fn gateway(&self) -> Namespace {
        self.namespace("gateway")
    }

    /// The server's.
    pub(super) fn server(&self) -> Namespace {
        self.namespace("server")
    }

    /// For files of this site: configuration, log, sockets.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All addresses of the server.
    pub(super) fn server_addresses() -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(SERVER_WAN);
        (first..first + u32::from(SERVER_ADDRESSES)).map(Ipv4Addr::from)
    }

    /// Takes XDP programs off the gateway's interfaces that a killed process has left there, and with
    /// which every later frame would be looked at by them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn remove_programs(&self) -> Result<()> {
        self.gateway()
            .ip("link set lan0 xdp off\nlink set wan0 xdp off\n")
    }

    fn namespace(&self, host: &str) -> Namespace {
        Namespace::named(format!("{}-{host}", self.prefix))
    }

    fn namespaces(&self) -> [Namespace; 3] {
        [self.client(), self.gateway(), self.server()]
    }

    fn hire_janitor(&self) -> Result<Child> {
        let mut command = Command::new("sh");
        command
            .args(["-c", JANITOR, "janitor"])
            .arg(&self.directory);
        for namespace in self.namespaces() {
            command.arg(namespace.name());
        }
        // In a group of its own: Ctrl-C is for the benchmark, and then the janitor has work to do.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        command
            .spawn()
            .map_err(|error| tool::explain(&command, error))
    }

    /// A cable from a host to the gateway, the interface having the same name at both ends.
    fn lay_cable(&self, host: &str, interface: &str, macs: [Mac; 2]) -> Result<()> {
        let (host, gateway) = (self.namespace(host), self.gateway());
        let [near, far] = macs;
        host.ip(&format!(
            "link add {interface} address {near} type veth peer name {interface} address {far} netns {}\n",
            gateway.name()
        ))?;
        for end in [&host, &gateway] {
            end.disable_offloads(interface)?;
            end.ip(&format!("link set {interface} up\n"))?;
        }
        Ok(())
    }

    fn address(&self) -> Result<()> {
        self.client().ip(&format!(
            "address add {CLIENT_LAN}/24 dev lan0\nroute add default via {CLUSTER_LAN}\n"
        ))?;
        let batch: String = Self::server_addresses()
            .map(|address| format!("address add {address}/24 dev wan0\n"))
            .collect();
        self.server().ip(&batch)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            // It ends within moments; its failures are its own, since nobody could do better.
            let _ = janitor.wait();
        }
    }
}
