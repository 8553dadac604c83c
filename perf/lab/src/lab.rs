//! A cluster in its topology: started, asked, broken, and taken down.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::{ClusterView, Role, Status};
use serde::{Deserialize, Serialize};

use crate::clock::{Found, wait_for};
use crate::topology::{Host, Topology};
use crate::unit::{Programs, Unit};

/// Where running labs leave their state, one directory each.
const STATE: &str = "/run/tidegate-lab";

/// How long the running units may take to be one whole cluster.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);

/// How long besides for each session that all of them must hold: several times what one takes.
const SESSION_LIMIT: Duration = Duration::from_micros(10);

/// How large a lab is and how its units are configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabSettings {
    /// The common beginning of the namespaces' names.
    pub prefix: String,
    /// How many units, 1 to 16.
    pub units: u8,
    /// The schedule that distributes sessions.
    pub schedule: String,
    /// `cluster.heartbeat_interval`, as it is spelled there.
    pub heartbeat_interval: String,
    /// `cluster.heartbeat_loss`.
    pub heartbeat_loss: u8,
    /// Worker cores per unit.
    pub workers: u8,
    /// `memory.sessions`: the capacity of each unit.
    pub sessions: u32,
    /// `timeouts.udp_replied`, as it is spelled there.
    pub udp_idle: String,
    /// Whether the units monitor client and server.
    pub monitors: bool,
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            prefix: "tg".to_owned(),
            units: 2,
            schedule: "none".to_owned(),
            heartbeat_interval: "10ms".to_owned(),
            heartbeat_loss: 3,
            workers: 1,
            sessions: 250_000,
            udp_idle: "300s".to_owned(),
            monitors: false,
        }
    }
}

/// A lab that is up. Dropping the value leaves it up: see [`Lab::down`].
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    directory: PathBuf,
    units: Vec<Unit>,
}

impl Lab {
    /// How reports call it.
    pub const NAME: &'static str = "Tidegate";

    /// Builds the topology and writes the units' configurations, without starting any.
    ///
    /// # Errors
    ///
    /// When a lab of that prefix is up, or anything that it needs is missing.
    pub fn prepare(settings: &LabSettings) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a lab needs root: `scripts/lab.sh` asks for it"
        );
        let topology = Topology::new(&settings.prefix, settings.units)?;
        let programs = Programs::find()?;
        topology.build()?;
        let lab = Self::of(topology, &programs);
        lab.write_files(settings).inspect_err(|_| {
            // The first error is the one to tell; what is left over is found by the next `down`.
            let _ = lab.down();
        })?;
        Ok(lab)
    }

    /// Builds the topology, starts all units, and waits until the cluster is whole.
    ///
    /// # Errors
    ///
    /// As [`Lab::prepare`], or when a unit does not start; then everything is taken down again.
    pub fn up(settings: &LabSettings) -> Result<Self> {
        let lab = Self::prepare(settings)?;
        let started = lab
            .units
            .iter()
            .try_for_each(Unit::start)
            .and_then(|()| lab.wait_whole());
        if let Err(error) = started {
            let logs: String = lab.units.iter().map(|unit| unit.log_end() + "\n").collect();
            lab.down()?;
            return Err(error.context(format!("the end of the units' logs:\n{logs}")));
        }
        Ok(lab)
    }

    /// The lab of that prefix, which an earlier command brought up.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(prefix: &str) -> Result<Self> {
        let path = state_directory(prefix).join("lab.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("lab `{prefix}` is not up: `scripts/lab.sh up` starts one"))?;
        let settings: LabSettings = serde_json::from_str(&text)?;
        Ok(Self::of(
            Topology::new(prefix, settings.units)?,
            &Programs::find()?,
        ))
    }

    /// Removes the lab of that prefix, whatever is left of it: a crash of an earlier command, or
    /// of a unit, is no obstacle. Removing none is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(prefix: &str) -> Result<()> {
        if let Ok(lab) = Self::open(prefix) {
            return lab.down();
        }
        Topology::new(prefix, 1)?.demolish()?;
        remove_directory(&state_directory(prefix))
    }

    /// Takes everything down: processes, namespaces, sockets, state.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn down(&self) -> Result<()> {
        for unit in &self.units {
            if let Some(process) = unit.process() {
                process.kill()?;
            }
            unit.remove_traces();
        }
        self.topology.demolish()?;
        remove_directory(&self.directory)
    }

    /// The wiring.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The directory of configurations and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All units, by id.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// One unit.
    ///
    /// # Errors
    ///
    /// When the lab has no unit of that id.
    pub fn unit(&self, id: u8) -> Result<&Unit> {
        self.units
            .iter()
            .find(|unit| unit.id() == id)
            .with_context(|| format!("there is no unit u{id}: this lab has {}", self.units.len()))
    }

    /// The unit that is the primary, among those that answer.
    ///
    /// # Errors
    ///
    /// When none or more than one is.
    pub fn primary(&self) -> Result<(&Unit, Status)> {
        let mut primaries = self.running().filter_map(|unit| {
            let status = unit.status().ok()?;
            (status.role == Role::Primary).then_some((unit, status))
        });
        let first = primaries.next().context("no unit is the primary")?;
        if let Some((second, _)) = primaries.next() {
            bail!("both {} and {} are primary", first.0.name(), second.name());
        }
        Ok(first)
    }

    /// Waits until the running units are one whole cluster: one primary, the rest subordinates that
    /// could take over, each hearing and in step with every other.
    ///
    /// # Errors
    ///
    /// When that does not come about within thirty seconds.
    pub fn wait_whole(&self) -> Result<()> {
        self.wait_holding(0)
    }

    /// Waits until the cluster is whole and every running unit holds at least `sessions` sessions,
    /// and no fewer than the primary.
    ///
    /// # Errors
    ///
    /// When that does not come about within thirty seconds, and ten for each million of sessions.
    pub fn wait_holding(&self, sessions: u64) -> Result<()> {
        let besides = SESSION_LIMIT.saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX));
        wait_for("a whole cluster", WHOLE_LIMIT + besides, || {
            let mut reports = Vec::new();
            for unit in self.running() {
                match unit.status() {
                    Ok(status) => reports.push(status),
                    Err(error) => return Ok(Found::NotYet(format!("{}: {error}", unit.name()))),
                }
            }
            Ok(match find_flaw(&reports, sessions) {
                Some(flaw) => Found::NotYet(flaw),
                None => Found::Yes(()),
            })
        })
    }

    /// Waits until the primary takes all monitored links of a unit for good again: it does so only
    /// after they were up for a while, and lets the unit take over only then. That while grows to a minute
    /// for links that fail often.
    ///
    /// # Errors
    ///
    /// When that does not come about within 75 seconds.
    pub fn wait_healthy(&self, id: u8) -> Result<()> {
        wait_for("a healthy unit", Duration::from_secs(75), || {
            let view: ClusterView = serde_json::from_str(&self.primary()?.0.ask(&["cluster"])?)?;
            let unit = view.units.iter().find(|unit| unit.unit == id);
            Ok(match unit.map(|unit| unit.health) {
                Some(health) if health.links == health.links_total => Found::Yes(()),
                health => Found::NotYet(format!("the health of u{id} is {health:?}")),
            })
        })
    }

    /// The units whose processes live.
    pub fn running(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(|unit| unit.process().is_some())
    }

    fn of(topology: Topology, programs: &Programs) -> Self {
        let directory = state_directory(topology.prefix());
        let units = topology
            .units()
            .map(|id| {
                let namespace = topology.namespace(Host::Unit(id));
                Unit::new(topology.prefix(), id, namespace, &directory, programs)
            })
            .collect();
        Self {
            topology,
            directory,
            units,
        }
    }

    fn write_files(&self, settings: &LabSettings) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("{} cannot be made", self.directory.display()))?;
        write_key(&self.directory.join("cluster.key"))?;
        for unit in &self.units {
            unit.write_config(settings)?;
        }
        fs::write(
            self.directory.join("lab.json"),
            serde_json::to_string(settings)?,
        )?;
        Ok(())
    }
}

/// What keeps the units that answered from being one whole cluster.
fn find_flaw(reports: &[Status], sessions: u64) -> Option<String> {
    let mut primaries = reports.iter().filter(|status| status.role == Role::Primary);
    let (Some(primary), None) = (primaries.next(), primaries.next()) else {
        let count = reports
            .iter()
            .filter(|status| status.role == Role::Primary)
            .count();
        return Some(format!("{count} units are primary"));
    };
    let sessions = sessions.max(primary.sessions.total);
    if let Some(peer) = primary.peers.iter().find(|peer| peer.alive && peer.lag > 0) {
        return Some(format!(
            "u{} has {} changes still to acknowledge",
            peer.unit, peer.lag
        ));
    }
    for status in reports {
        let name = &status.name;
        if !matches!(status.role, Role::Primary | Role::Subordinate) {
            return Some(format!("{name} is {}", status.role));
        }
        if status.sessions.total < sessions {
            return Some(format!(
                "{name} holds {} sessions of {sessions}",
                status.sessions.total
            ));
        }
        if !status.synced {
            return Some(format!("{name} does not hold everything yet"));
        }
        let apart = reports
            .iter()
            .find(|other| other.unit != status.unit && !is_in_step(status, other.unit));
        if let Some(other) = apart {
            return Some(format!("{name} is not in step with {}", other.name));
        }
    }
    None
}

/// Whether a unit hears the peer and both hold the same sessions, but for the changes under way.
fn is_in_step(status: &Status, peer: u8) -> bool {
    status
        .peers
        .iter()
        .any(|other| other.unit == peer && other.alive && other.synced)
}

/// Writes a random key of 32 bytes as hexadecimal digits, readable by its owner alone.
pub(crate) fn write_key(path: &Path) -> Result<()> {
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    writeln!(file, "{text}")?;
    Ok(())
}

/// Where the lab of that prefix keeps its state.
pub(crate) fn state_directory(prefix: &str) -> PathBuf {
    Path::new(STATE).join(prefix)
}

pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path)
            .with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{
        Peer,
        Role::{Isolated, Primary, Subordinate},
        SessionCount,
    };

    fn report(unit: u8, role: Role, peer: u8, synced: bool) -> Status {
        Status {
            unit,
            name: format!("u{unit}"),
            role,
            term: 1,
            cluster: 7,
            uptime_s: 9,
            synced: true,
            sessions: SessionCount {
                total: 5,
                capacity: 10,
            },
            peers: vec![Peer {
                unit: peer,
                alive: true,
                role,
                synced,
                lag: 0,
            }],
            interfaces: Vec::new(),
            software: String::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_whole_cluster_has_one_primary_and_is_in_step() {
        let whole = [report(1, Primary, 2, true), report(2, Subordinate, 1, true)];
        assert_eq!(find_flaw(&whole, 5), None);
        assert_eq!(
            find_flaw(&whole, 6).as_deref(),
            Some("u1 holds 5 sessions of 6")
        );
    }

    #[test]
    fn each_flaw_is_told() {
        let flaw = |reports: &[Status]| find_flaw(reports, 0).expect("there is one");
        assert_eq!(flaw(&[]), "0 units are primary");
        let both = [report(1, Primary, 2, true), report(2, Primary, 1, true)];
        assert_eq!(flaw(&both), "2 units are primary");
        let apart = [
            report(1, Primary, 2, true),
            report(2, Subordinate, 1, false),
        ];
        assert_eq!(flaw(&apart), "u2 is not in step with u1");
        let fenced = [report(1, Primary, 2, true), report(2, Isolated, 1, true)];
        assert_eq!(flaw(&fenced), "u2 is isolated");
    }
}
