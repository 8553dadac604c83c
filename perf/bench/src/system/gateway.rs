//! The gateways that are compared, each started in a site as an operator would start it.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::{Client, Role, Status};
use packet::Mac;
use rustix::process::Signal;
use tidegate_lab::clock::{Found, wait_for};
use tidegate_lab::{CLUSTER_LAN, CLUSTER_WAN, Namespace, ProcessId, Programs, tool};

use super::site::{CLIENT, SERVER, Site};

/// A MAC that no interface has.
const NOBODY: Mac = Mac([0x02, 0x74, 0x67, 0xff, 0xff, 0xff]);
/// How long a gateway may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Descriptors of each of testpmd's queues: as many as ours have.
const DESCRIPTORS: u32 = 512;
/// The frames of an `AF_PACKET` ring as Tidegate asks for them, so that testpmd has the same.
const RING: &str = "blocksz=8192,framesz=2048,framecnt=2048";

/// The device by which a gateway gets its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Medium {
    /// Raw sockets on veth.
    #[value(name = "af_packet")]
    AfPacket,
    /// XDP sockets on veth.
    #[value(name = "af_xdp")]
    AfXdp,
    /// Memory shared with the generator.
    #[value(name = "memif")]
    Memif,
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AfPacket => "af_packet",
            Self::AfXdp => "af_xdp",
            Self::Memif => "memif",
        })
    }
}

/// The names of the interfaces and of memif's sockets, the client's side first.
const SIDES: [&str; 2] = ["lan0", "wan0"];

impl Medium {
    /// The path of a memif's socket in a site.
    pub(super) fn socket(site: &Site, side: &str) -> String {
        let path = site.directory().join(side).with_extension("sock");
        path.display().to_string()
    }

    /// A device as Tidegate's configuration spells it.
    fn device(self, site: &Site, side: &str) -> String {
        match self {
            Self::AfPacket | Self::AfXdp => format!("{self}:{side}"),
            Self::Memif => format!("memif:{}", Self::socket(site, side)),
        }
    }

    /// The same as testpmd spells it.
    fn vdev(self, site: &Site, number: usize, side: &str) -> String {
        match self {
            Self::AfPacket => format!("net_af_packet{number},iface={side},{RING}"),
            Self::AfXdp => format!("net_af_xdp{number},iface={side}"),
            Self::Memif => {
                let socket = Self::socket(site, side);
                format!("net_memif{number},socket={socket},socket-abstract=no")
            }
        }
    }
}

/// Where the kernel forwards what the generator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Where it was sent: on the generator's core, as the kernel does of its own accord.
    Generator,
    /// On the gateway's core (receive packet steering).
    Own,
}

/// What is between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gateway {
    /// `tidegated`, one unit, with a masquerading policy.
    Tidegate(Medium),
    /// `dpdk-testpmd`, which swaps MACs and sends on: the device and nothing else.
    Macswap(Medium),
    /// `dpdk-testpmd`, which sets the MACs of client and server, so that their stacks can talk.
    Mac(Medium),
    /// The kernel with nftables masquerade.
    Kernel(Placement),
}

/// What gateways have to work with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means {
    /// The core of generator, clients, servers, and whatever of a gateway does not forward.
    pub(super) generator: u16,
    /// The core of the gateway's one worker.
    pub(super) gateway: u16,
    /// Whether their memory is of huge pages.
    pub(super) huge_pages: bool,
}

impl Gateway {
    /// Who it is, for a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tidegate(_) => "tidegate",
            Self::Macswap(_) => "testpmd macswap",
            Self::Mac(_) => "testpmd mac",
            Self::Kernel(Placement::Generator) => "kernel masquerade, on the generator's core",
            Self::Kernel(Placement::Own) => "kernel masquerade, on a core of its own",
        }
    }

    /// The MAC to send to, where nobody answers ARP. Like Tidegate's virtual one it is not that of the
    /// interface: frames to that would be routed by the kernel of the namespace, too.
    pub(super) fn mac(self) -> Option<Mac> {
        matches!(self, Self::Macswap(_) | Self::Mac(_)).then_some(NOBODY)
    }

    /// Starts it in `site`.
    ///
    /// # Errors
    /// When a program is missing or ends at its start, with the end of its log.
    pub(super) fn start(self, site: &Site, means: Means) -> Result<Running<'_>> {
        let running = |process| Running { process, site };
        match self {
            Self::Tidegate(medium) => start_tidegate(site, medium, means).map(Some).map(running),
            Self::Macswap(medium) => start_testpmd(site, medium, "macswap", means)
                .map(Some)
                .map(running),
            Self::Mac(medium) => {
                introduce(site)?;
                start_testpmd(site, medium, "mac", means)
                    .map(Some)
                    .map(running)
            }
            Self::Kernel(placement) => {
                forward_in_kernel(site, placement, means)?;
                Ok(running(None))
            }
        }
    }
}

/// A gateway that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Running<'a> {
    process: Option<Process>,
    site: &'a Site,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.end();
            // The interfaces may be gone; then so are the programs.
            let _ = self.site.remove_programs();
        }
    }
}

/// A gateway's process.
#[derive(Debug)]
struct Process {
    child: Child,
    /// testpmd ends when its input does.
    _input: Option<ChildStdin>,
}

impl Process {
    /// Starts `program` in a namespace, free to use both cores, with its words in a log.
    fn spawn(namespace: &Namespace, means: Means, log: &Path, words: &[String]) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut command: Command = namespace.command("taskset");
        command
            .arg("-c")
            .arg(format!("{},{}", means.generator, means.gateway))
            .args(words)
            // Ctrl-C ends the benchmark, and that ends the gateway.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut child = command
            .spawn()
            .map_err(|error| tool::explain(&command, error))?;
        let input = child.stdin.take();
        Ok(Self {
            child,
            _input: input,
        })
    }

    fn ensure_alive(&mut self, log: &Path) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the gateway ended:\n{}", end_of(log));
        Ok(())
    }

    /// Asks it to leave, so that it gives its devices back, and ends it if it does not.
    fn end(&mut self) {
        let process = i32::try_from(self.child.id()).ok().and_then(ProcessId::of);
        if let Some(process) = process {
            let asked = process.signal(Signal::TERM);
            let left = asked.and_then(|()| process.wait_gone(END_LIMIT));
            if left.is_err() {
                // A child that is not waited for can be killed.
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn start_tidegate(site: &Site, medium: Medium, means: Means) -> Result<Process> {
    let folder = site.directory();
    let key = folder.join("cluster.key");
    // There is no peer to keep it from.
    fs::write(&key, "5a".repeat(32) + "\n")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let (config, socket) = (folder.join("gateway.toml"), folder.join("api.sock"));
    fs::write(&config, configuration(site, medium, means, &socket))?;
    let daemon = Programs::find()?.daemon().display().to_string();
    let words = [daemon, "--config".to_owned(), config.display().to_string()];
    let log = folder.join("gateway.log");
    let mut process = Process::spawn(&site.gateway(), means, &log, &words)?;
    let client = Client::new(&socket).with_deadline(Duration::from_secs(1));
    wait_for("tidegated to be primary", START_LIMIT, || {
        process.ensure_alive(&log)?;
        let status: Result<Status, _> = client.get(api::path::STATUS);
        Ok(match status {
            Ok(status) if status.role == Role::Primary => Found::Yes(()),
            Ok(status) => Found::NotYet(format!("it is {}", status.role)),
            Err(error) => Found::NotYet(error.to_string()),
        })
    })
    .with_context(|| end_of(&log))?;
    Ok(process)
}

/// One unit that masquerades, on a core of its own.
fn configuration(site: &Site, medium: Medium, means: Means, socket: &Path) -> String {
    let [lan, wan] = SIDES.map(|side| medium.device(site, side));
    let (control, worker, socket) = (means.generator, means.gateway, socket.display());
    let huge_pages = means.huge_pages;
    format!(
        r#"[unit]
id = 1
name = "gateway"

[cpu]
control = {control}
workers = [{worker}]
idle = "spin"

[memory]
huge_pages = {huge_pages}
sessions = 1_000_000

[cluster]
id = 7
key_file = "cluster.key"
heartbeat_interval = "100ms"
heartbeat_loss = 3
hello_holddown = "300ms"

[[interface]]
name = "lan"
device = "{lan}"
role = "traffic"
cluster_addresses = ["{CLUSTER_LAN}/24"]

[[interface]]
name = "wan"
device = "{wan}"
role = "traffic"
cluster_addresses = ["{CLUSTER_WAN}/24"]

[[policy]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
source_nat = "masquerade"

[management]
socket = "{socket}"
"#
    )
}

fn start_testpmd(site: &Site, medium: Medium, mode: &str, means: Means) -> Result<Process> {
    let mut words: Vec<String> = [
        "dpdk-testpmd",
        "--no-pci",
        "--no-telemetry",
        "--iova-mode=va",
        "-m",
        "256",
    ]
    .map(str::to_owned)
    .into();
    // Before 25.11 `--in-memory` and `--no-huge` exclude each other.
    let memory: &[&str] = if means.huge_pages {
        &["--in-memory"]
    } else {
        &["--no-shconf", "--no-huge"]
    };
    words.extend(memory.iter().map(|word| (*word).to_owned()));
    words.push(format!("--file-prefix={}", site.gateway().name()));
    // The main lcore waits for its input, so it may be anywhere.
    let (main, worker) = (means.generator, means.gateway);
    words.extend(["-l".to_owned(), format!("{main},{worker}")]);
    words.push(format!("--main-lcore={main}"));
    for (number, side) in SIDES.iter().enumerate() {
        words.push(format!("--vdev={}", medium.vdev(site, number, side)));
    }
    words.push("--".to_owned());
    words.push(format!("--forward-mode={mode}"));
    words.extend(["--auto-start", "--burst=64", "--total-num-mbufs=16384"].map(str::to_owned));
    words.push(format!("--rxd={DESCRIPTORS}"));
    words.push(format!("--txd={DESCRIPTORS}"));
    words.push(format!("--eth-peer=0,{CLIENT}"));
    words.push(format!("--eth-peer=1,{SERVER}"));
    let log = site.directory().join("gateway.log");
    let mut process = Process::spawn(&site.gateway(), means, &log, &words)?;
    wait_for("testpmd to forward", START_LIMIT, || {
        process.ensure_alive(&log)?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        Ok(if said.contains("packet forwarding") {
            Found::Yes(())
        } else {
            Found::NotYet("it still starts".to_owned())
        })
    })
    .context(
        "`dpdk-testpmd` does not start: `scripts/setup.sh --test` installs it (package dpdk-dev)",
    )?;
    Ok(process)
}

/// Tells client and server about each other: testpmd answers no ARP, and changes no address.
fn introduce(site: &Site) -> Result<()> {
    site.client().ip(&format!(
        "neighbour replace {CLUSTER_LAN} lladdr {NOBODY} dev lan0 nud permanent\n"
    ))?;
    site.server().ip(&format!(
        "route replace 192.0.2.0/24 via {CLUSTER_WAN} dev wan0\n\
         neighbour replace {CLUSTER_WAN} lladdr {NOBODY} dev wan0 nud permanent\n"
    ))
}

/// Makes the kernel of the gateway's namespace the gateway.
fn forward_in_kernel(site: &Site, placement: Placement, means: Means) -> Result<()> {
    let gateway = site.gateway();
    gateway.ip(&format!(
        "address replace {CLUSTER_LAN}/24 dev lan0\naddress replace {CLUSTER_WAN}/24 dev wan0\n"
    ))?;
    let rules = "table ip gateway { }\ndelete table ip gateway\ntable ip gateway {\n  chain post {\n    \
                 type nat hook postrouting priority 100;\n    oifname \"wan0\" masquerade\n  }\n}\n";
    tool::feed(
        "ip",
        &["netns", "exec", gateway.name(), "nft", "-f", "-"],
        rules,
    )?;
    gateway.set_sysctl("net/ipv4/ip_forward", "1")?;
    let mask = match placement {
        Placement::Generator => 0,
        Placement::Own => 1_u64.checked_shl(u32::from(means.gateway)).unwrap_or(0),
    };
    // `ip netns exec` shows the interfaces of the namespace under /sys, which nothing else does.
    let script =
        format!("for f in /sys/class/net/?an0/queues/rx-*/rps_cpus; do echo {mask:x} >$f; done");
    tool::output(gateway.command("sh").args(["-c", &script]))?;
    Ok(())
}
