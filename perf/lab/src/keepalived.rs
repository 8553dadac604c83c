//! keepalived and conntrackd in the units' place: the kernel forwards and translates, VRRP decides
//! who has the addresses, and conntrackd (FTFW) copies the connections.
//!
//! Same wiring, same addresses of the cluster, same client and server as a lab of Tidegate. What has
//! to be different, and why:
//!
//! - Units have addresses of their own in each segment, which VRRP and conntrackd need.
//! - Source NAT is to the cluster's address, not `masquerade`, which would take the unit's own.
//! - A unit's death is its ports falling silent at the switch, with the carriers left up: when only
//!   its daemons die the kernel goes on forwarding, which no death of a machine does.
//!
//! Its states are committed on takeover by the commands of conntrackd's own `primary-backup.sh`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::clock::{self, Found, wait_for};
use crate::failover::{Contender, Fault, PROMOTION_LIMIT, Promotion, Strike, Victim};
use crate::process::ProcessId;
use crate::tool;
use crate::topology::{CLUSTER_LAN, CLUSTER_WAN, Host, Segment, Topology};

/// FTFW is a protocol of two.
const UNITS: u8 = 2;
/// How long a unit may take to end or to find its place.
const LIMIT: Duration = Duration::from_secs(10);

/// How the peer is configured.
#[derive(Clone, Debug)]
pub struct KeepalivedSettings {
    /// The common beginning of the namespaces' names.
    pub prefix: String,
    /// VRRP's interval between advertisements, in hundredths of a second: its own unit and least.
    pub advert_cs: u16,
}

/// Two units of it that are up.
#[derive(Debug)]
pub struct Keepalived {
    topology: Topology,
    directory: PathBuf,
    settings: KeepalivedSettings,
}

impl Keepalived {
    /// How reports call it.
    pub const NAME: &'static str = "keepalived + conntrackd";

    /// Builds the topology, starts both units, and waits until they have found their roles.
    ///
    /// # Errors
    ///
    /// When a lab of that prefix is up, a program is missing, or a unit does not start.
    pub fn up(settings: &KeepalivedSettings) -> Result<Self> {
        let topology = Topology::new(&settings.prefix, UNITS)?;
        topology.build()?;
        let peer = Self {
            directory: crate::lab::state_directory(&settings.prefix),
            topology,
            settings: settings.clone(),
        };
        if let Err(error) = peer.start_all() {
            let logs = peer.log_ends();
            peer.down()?;
            return Err(error.context(format!("the end of the units' logs:\n{logs}")));
        }
        Ok(peer)
    }

    fn start_all(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("{} cannot be made", self.directory.display()))?;
        for unit in self.topology.units() {
            self.write_files(unit)?;
            self.prepare(unit)?;
            self.start(unit)?;
        }
        self.wait_holding(0)
    }

    /// Makes the kernel of a unit's namespace a gateway without the cluster's addresses.
    fn prepare(&self, unit: u8) -> Result<()> {
        let namespace = self.topology.namespace(Host::Unit(unit));
        let mut batch = String::new();
        for segment in Segment::ALL {
            let interface = segment.interface();
            batch += &format!(
                "address flush dev {interface}\naddress add {}/24 dev {interface}\n",
                own_address(unit, segment)
            );
        }
        namespace.ip(&batch)?;
        // Declared first, so that deleting is no error the first time.
        let rules = format!(
            "table ip gateway {{ }}\ndelete table ip gateway\ntable ip gateway {{\n  \
             chain post {{\n    type nat hook postrouting priority srcnat;\n    \
             ip saddr 192.0.2.0/24 oifname \"wan0\" snat to {CLUSTER_WAN}\n  }}\n}}\n"
        );
        self.enter(unit, "nft", &["-f", "-"], &rules)?;
        self.enter(unit, "conntrack", &["-F"], "")?;
        namespace.set_sysctl("net/ipv4/ip_forward", "1")
    }

    fn start(&self, unit: u8) -> Result<()> {
        self.spawn(
            unit,
            "conntrackd",
            &["-C", &self.path(unit, "conntrackd.conf")],
        )?;
        self.wait_conntrackd(unit)?;
        self.start_keepalived(unit)
    }

    fn start_keepalived(&self, unit: u8) -> Result<()> {
        let _ = fs::remove_file(self.file(unit, "role"));
        self.spawn(
            unit,
            "keepalived",
            &[
                "--dont-fork",
                "--log-console",
                "--vrrp",
                "--use-file",
                &self.path(unit, "keepalived.conf"),
                "--pid",
                &self.path(unit, "keepalived.own-pid"),
                "--vrrp_pid",
                &self.path(unit, "vrrp.own-pid"),
            ],
        )
    }

    fn wait_conntrackd(&self, unit: u8) -> Result<()> {
        wait_for("conntrackd to answer", LIMIT, || {
            Ok(match self.conntrackd(unit, "-s") {
                Ok(_) => Found::Yes(()),
                Err(error) => Found::NotYet(format!("{error:#}")),
            })
        })
    }

    /// The unit that has the cluster's addresses.
    fn master(&self) -> Result<u8> {
        let mut masters = self.topology.units().filter(|unit| self.is_master(*unit));
        let first = masters.next().context("no unit is the master")?;
        ensure!(masters.next().is_none(), "both units are masters");
        Ok(first)
    }

    fn is_master(&self, unit: u8) -> bool {
        self.role(unit).is_some_and(|role| role == "primary")
    }

    /// What keepalived told its notification script last.
    fn role(&self, unit: u8) -> Option<String> {
        let role = fs::read_to_string(self.file(unit, "role")).ok()?;
        Some(role.trim().to_owned())
    }

    /// Connections that a unit holds: its own, and copies of the other's.
    fn held(&self, unit: u8) -> Result<u64> {
        let statistics = self.conntrackd(unit, "-s")?;
        let counts: Vec<u64> = statistics
            .lines()
            .filter(|line| line.starts_with("current active connections:"))
            .filter_map(|line| line.split_whitespace().last()?.parse().ok())
            .collect();
        counts
            .iter()
            .copied()
            .max()
            .with_context(|| format!("conntrackd does not tell what it holds:\n{statistics}"))
    }

    fn conntrackd(&self, unit: u8, command: &str) -> Result<String> {
        let configuration = self.path(unit, "conntrackd.conf");
        self.enter(unit, "conntrackd", &["-C", &configuration, command], "")
    }

    fn enter(&self, unit: u8, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let namespace = self.topology.namespace(Host::Unit(unit));
        let mut words = vec!["netns", "exec", namespace.name(), program];
        words.extend(arguments);
        tool::feed("ip", &words, input)
    }

    fn spawn(&self, unit: u8, program: &str, arguments: &[&str]) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.file(unit, "log"))?;
        let mut command = self.topology.namespace(Host::Unit(unit)).command(program);
        command.args(arguments).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command
            .spawn()
            .map_err(|error| tool::explain(&command, error))?;
        fs::write(
            self.file(unit, &format!("{program}.pid")),
            child.id().to_string(),
        )?;
        thread::spawn(move || child.wait());
        Ok(())
    }

    fn process(&self, unit: u8, program: &str) -> Result<ProcessId> {
        let pid = fs::read_to_string(self.file(unit, &format!("{program}.pid")))?;
        ProcessId::of(pid.parse()?).with_context(|| format!("{program} of u{unit} does not run"))
    }

    /// Kills what the daemons have started and left.
    fn kill_rest(&self, unit: u8) -> Result<()> {
        let namespace = self.topology.namespace(Host::Unit(unit));
        for process in namespace.processes()? {
            process.kill()?;
        }
        // A daemon that finds such a file of one that was killed may take it for running.
        for name in ["lock", "keepalived.own-pid", "vrrp.own-pid"] {
            let _ = fs::remove_file(self.file(unit, name));
        }
        Ok(())
    }

    /// What keeps the units from being a whole cluster.
    fn find_flaw(&self, sessions: u64) -> Result<Option<String>> {
        let master = match self.master() {
            Ok(master) => master,
            Err(error) => return Ok(Some(error.to_string())),
        };
        for unit in self.topology.units() {
            let role = self.role(unit);
            if unit != master && role.as_deref() != Some("backup") {
                return Ok(Some(format!("u{unit} is {role:?}")));
            }
            let held = self.held(unit)?;
            if held < sessions {
                return Ok(Some(format!("u{unit} holds {held} sessions of {sessions}")));
            }
        }
        Ok(None)
    }

    fn write_files(&self, unit: u8) -> Result<()> {
        fs::write(
            self.file(unit, "keepalived.conf"),
            self.render_keepalived(unit),
        )?;
        fs::write(
            self.file(unit, "conntrackd.conf"),
            self.render_conntrackd(unit),
        )?;
        let script = self.file(unit, "notify.sh");
        fs::write(&script, self.render_script(unit))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    fn render_keepalived(&self, unit: u8) -> String {
        let seconds = f64::from(self.settings.advert_cs) / 100.0;
        let script = self.path(unit, "notify.sh");
        let instances: String = [(Segment::Lan, CLUSTER_LAN), (Segment::Wan, CLUSTER_WAN)]
            .map(|(segment, address)| {
                let (name, interface) = (segment.name(), segment.interface());
                // The higher the priority, the shorter the time that a backup waits besides.
                let priority = 255 - u16::from(unit);
                format!(
                    "vrrp_instance {name} {{\n  state BACKUP\n  interface {interface}\n  \
                     virtual_router_id 7\n  priority {priority}\n  advert_int {seconds}\n  nopreempt\n  \
                     virtual_ipaddress {{\n    {address}/24 dev {interface}\n  }}\n}}\n"
                )
            })
            .concat();
        format!(
            "global_defs {{\n  router_id u{unit}\n  vrrp_version 3\n  script_user root\n  enable_script_security\n  \
             vrrp_rt_priority 50\n  vrrp_garp_master_delay 1\n}}\n\
             vrrp_sync_group gateway {{\n  group {{\n    lan\n    wan\n  }}\n  \
             notify_master \"{script} primary\"\n  notify_backup \"{script} backup\"\n  \
             notify_fault \"{script} fault\"\n}}\n{instances}"
        )
    }

    fn render_conntrackd(&self, unit: u8) -> String {
        let (own, other) = (
            own_address(unit, Segment::Sync),
            own_address(UNITS + 1 - unit, Segment::Sync),
        );
        let ignored: String = Segment::ALL
            .into_iter()
            .flat_map(|segment| (1..=UNITS).map(move |unit| own_address(unit, segment)))
            .map(|address| format!("      IPv4_address {address}\n"))
            .collect();
        let (lock, socket) = (self.path(unit, "lock"), self.path(unit, "ctl"));
        format!(
            "Sync {{\n  Mode FTFW {{\n    ResendQueueSize 131072\n    PurgeTimeout 60\n    \
             ACKWindowSize 300\n    DisableExternalCache Off\n  }}\n  \
             UDP {{\n    IPv4_address {own}\n    IPv4_Destination_Address {other}\n    Port 3780\n    \
             Interface sync0\n    SndSocketBuffer 24985600\n    RcvSocketBuffer 24985600\n    \
             Checksum on\n  }}\n}}\n\
             General {{\n  Systemd off\n  HashSize 32768\n  HashLimit 1048576\n  LogFile off\n  Syslog off\n  \
             LockFile {lock}\n  UNIX {{\n    Path {socket}\n  }}\n  \
             NetlinkBufferSize 16777216\n  NetlinkBufferSizeMaxGrowth 67108864\n  \
             Filter From Userspace {{\n    Protocol Accept {{\n      TCP\n      UDP\n      ICMP\n    }}\n    \
             Address Ignore {{\n      IPv4_address 127.0.0.1\n{ignored}    }}\n  }}\n}}\n"
        )
    }

    /// The steps of conntrackd's `primary-backup.sh`, after the role is noted down.
    fn render_script(&self, unit: u8) -> String {
        let (configuration, role) = (self.path(unit, "conntrackd.conf"), self.path(unit, "role"));
        format!(
            "#!/bin/sh\necho \"$1\" >{role}\ncase $1 in\nprimary) commands='-c -f -R -B' ;;\n\
             backup) commands='-t -n' ;;\nfault) commands='-t' ;;\nesac\n\
             for command in $commands; do conntrackd -C {configuration} \"$command\"; done\n"
        )
    }

    fn file(&self, unit: u8, name: &str) -> PathBuf {
        self.directory.join(format!("u{unit}.{name}"))
    }

    fn path(&self, unit: u8, name: &str) -> String {
        self.file(unit, name).display().to_string()
    }
}

impl Contender for Keepalived {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn wait_holding(&self, sessions: u64) -> Result<()> {
        wait_for("a whole pair", Duration::from_secs(30), || {
            Ok(match self.find_flaw(sessions)? {
                Some(flaw) => Found::NotYet(flaw),
                None => Found::Yes(()),
            })
        })
    }

    fn strike(&self, fault: Fault, victim: Victim) -> Result<Strike> {
        let master = self.master()?;
        let unit = match victim {
            Victim::Primary => master,
            Victim::Subordinate => UNITS + 1 - master,
            Victim::Unit(id) => id,
        };
        let strike = Strike {
            fault,
            at: clock::wall(),
            unit,
            was_primary: unit == master,
            term: 0,
        };
        match fault {
            Fault::Kill | Fault::Silent => self.topology.set_isolated(unit, true, true)?,
            Fault::Link => self.topology.set_link(unit, Segment::Lan, false)?,
            Fault::Asleep => {
                bail!("its kernel forwards, which cannot be stopped; choose among the other faults")
            }
            // Its own way to hand over: it says farewell with priority 0.
            Fault::Planned => self.process(unit, "keepalived")?.signal(Signal::TERM)?,
        }
        Ok(strike)
    }

    fn wait_promotion(&self, strike: &Strike) -> Result<Promotion> {
        let successor = UNITS + 1 - strike.unit;
        wait_for("another master", PROMOTION_LIMIT, || {
            Ok(if self.is_master(successor) {
                Found::Yes(())
            } else {
                Found::NotYet(format!("u{successor} is {:?}", self.role(successor)))
            })
        })?;
        let told = fs::metadata(self.file(successor, "role"))?.modified()?;
        Ok(Promotion {
            unit: successor,
            name: format!("u{successor}"),
            term: 0,
            after: told.duration_since(strike.at).unwrap_or(Duration::ZERO),
            cause: "VRRP".to_owned(),
        })
    }

    fn heal(&self, strike: &Strike) -> Result<()> {
        let unit = strike.unit;
        match strike.fault {
            // A machine that died comes back with nothing of what it had.
            Fault::Kill | Fault::Silent => {
                for program in ["keepalived", "conntrackd"] {
                    self.process(unit, program)?.kill()?;
                }
                self.kill_rest(unit)?;
                self.prepare(unit)?;
                self.topology.set_isolated(unit, false, false)?;
                self.start(unit)
            }
            Fault::Link => self.topology.set_link(unit, Segment::Lan, true),
            Fault::Asleep => Ok(()),
            Fault::Planned => {
                self.process(unit, "keepalived")
                    .map_or(Ok(()), |process| process.wait_gone(LIMIT))?;
                self.start_keepalived(unit)
            }
        }
    }

    fn log_ends(&self) -> String {
        let end = |unit| {
            let log = fs::read_to_string(self.file(unit, "log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        let logs: Vec<String> = self.topology.units().map(end).collect();
        logs.join("\n")
    }

    fn down(&self) -> Result<()> {
        self.topology.demolish()?;
        crate::lab::remove_directory(&self.directory)
    }
}

/// A unit's own address in a segment.
fn own_address(unit: u8, segment: Segment) -> String {
    let network = match segment {
        Segment::Lan => "192.0.2",
        Segment::Wan => "198.51.100",
        Segment::Sync => "203.0.113",
    };
    format!("{network}.{}", 10 + unit)
}
