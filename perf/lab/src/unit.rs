//! One unit of a lab: its configuration, its process, its management socket.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::{Client, Status};
use rustix::process::Signal;

use crate::clock::{Found, wait_for};
use crate::lab::LabSettings;
use crate::namespace::Namespace;
use crate::process::ProcessId;
use crate::tool;
use crate::topology::{CLIENT_LAN, CLUSTER_LAN, CLUSTER_WAN, SERVER_WAN};

/// The environment variable that says where the programs under test are.
const PROGRAMS: &str = "TIDEGATE_PROGRAMS";

/// Where the units' management sockets are.
const SOCKETS: &str = "/run/tidegate";

/// How long a unit may take from its start to the first answer on its socket.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a unit may take to answer: a frozen one never does.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The monitors of a unit that has any: the hosts at both ends.
fn render_monitors() -> String {
    let monitor = |name, interface, target| {
        format!(
            "\n[[monitor]]\nname = \"{name}\"\ninterface = \"{interface}\"\ntarget = \"{target}\"\n\
             interval = \"100ms\"\nloss = 3\n"
        )
    };
    monitor("client", "lan", CLIENT_LAN) + &monitor("server", "wan", SERVER_WAN)
}

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Those in the directory that `TIDEGATE_PROGRAMS` names, else those built together with the
    /// running program: in the same directory, or for a test in the one above its own.
    ///
    /// # Errors
    ///
    /// When `tidegated` or `tidegate` are not there.
    pub fn find() -> Result<Self> {
        if let Some(directory) = std::env::var_os(PROGRAMS) {
            return Self::of(Path::new(&directory))
                .with_context(|| format!("{PROGRAMS} names a directory without the programs"));
        }
        let own = std::env::current_exe().context("this program does not know its own path")?;
        own.ancestors()
            .skip(1)
            .take(2)
            .find_map(Self::of)
            .with_context(|| {
                format!(
                    "`tidegated` and `tidegate` are not beside {}: \
                 `cargo build -p tidegated -p tidegate` with the same profile makes them",
                    own.display()
                )
            })
    }

    /// The benchmarks, which are not under test and need not be there.
    ///
    /// # Errors
    ///
    /// When they are not beside the others.
    pub fn bench(&self) -> Result<PathBuf> {
        let program = self.directory.join("tidegate-bench");
        ensure!(
            program.is_file(),
            "{} is not there: `cargo build -p tidegate-bench` with the same profile makes it",
            program.display()
        );
        Ok(program)
    }

    fn of(directory: &Path) -> Option<Self> {
        let present = |program| directory.join(program).is_file();
        let directory = directory.to_owned();
        (present("tidegated") && present("tidegate")).then_some(Self { directory })
    }

    /// The gateway.
    pub fn daemon(&self) -> PathBuf {
        self.directory.join("tidegated")
    }

    /// The operator's command.
    pub fn cli(&self) -> PathBuf {
        self.directory.join("tidegate")
    }
}

/// One unit: where its files are and how it is reached. The process may or may not run.
#[derive(Clone, Debug)]
pub struct Unit {
    id: u8,
    name: String,
    namespace: Namespace,
    directory: PathBuf,
    programs: Programs,
}

impl Unit {
    /// The unit `id` of the lab `prefix`, with its files in `directory`.
    pub(crate) fn new(
        prefix: &str,
        id: u8,
        namespace: Namespace,
        directory: &Path,
        programs: &Programs,
    ) -> Self {
        Self {
            id,
            name: unit_name(prefix, id),
            namespace,
            directory: directory.to_owned(),
            programs: programs.clone(),
        }
    }

    /// Its id in the cluster.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Its name, which its socket bears too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join(format!("u{}.toml", self.id))
    }

    /// What it wrote to its standard error, over all its lives.
    pub fn log(&self) -> PathBuf {
        self.directory.join(format!("u{}.log", self.id))
    }

    /// Its management socket.
    pub fn socket(&self) -> PathBuf {
        Path::new(SOCKETS).join(format!("{}.sock", self.name))
    }

    /// Its process, while it lives.
    pub fn process(&self) -> Option<ProcessId> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let process: ProcessId = serde_json::from_str(&text).ok()?;
        process.is_alive().then_some(process)
    }

    /// Starts it and waits until it answers on its socket.
    ///
    /// # Errors
    ///
    /// When it runs already, or ends or stays mute: then with the end of its log.
    pub fn start(&self) -> Result<()> {
        if let Some(process) = self.process() {
            bail!("{} runs already, as process {}", self.name, process.pid);
        }
        fs::create_dir_all(SOCKETS).with_context(|| format!("{SOCKETS} cannot be made"))?;
        let process = self.spawn()?;
        wait_for(&format!("{} to answer", self.name), START_LIMIT, || {
            ensure!(
                process.is_alive(),
                "{} ended at its start:\n{}",
                self.name,
                self.log_end()
            );
            Ok(match self.status() {
                Ok(status) => Found::Yes(status),
                Err(error) => Found::NotYet(error.to_string()),
            })
        })
        .with_context(|| format!("its log is {}", self.log().display()))?;
        Ok(())
    }

    /// Kills it with SIGKILL, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.running()?.kill()
    }

    /// Stops it where it is (SIGSTOP): no carrier is lost, nothing is said, nothing is answered.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn freeze(&self) -> Result<()> {
        self.running()?.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT) after [`Unit::freeze`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn thaw(&self) -> Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    /// Asks it to leave (SIGTERM) and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not run, or not end within ten seconds.
    pub fn stop(&self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::TERM)?;
        process.wait_gone(Duration::from_secs(10))
    }

    /// What it says of itself.
    ///
    /// # Errors
    ///
    /// When it does not run or does not answer.
    pub fn status(&self) -> Result<Status> {
        let client = Client::new(self.socket()).with_deadline(ANSWER_LIMIT);
        Ok(client.get(api::path::STATUS)?)
    }

    /// Runs `tidegate --json ARGUMENTS…` on its socket and returns the answer.
    ///
    /// # Errors
    ///
    /// With the words of `tidegate`.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.cli());
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--json")
            .args(arguments);
        tool::output(&mut command)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Writes its configuration.
    pub(crate) fn write_config(&self, settings: &LabSettings) -> Result<()> {
        let path = self.config();
        fs::write(&path, self.render(settings)?).with_context(|| path.display().to_string())
    }

    /// Removes its socket, which a killed unit leaves behind, and all that it kept beside it for its next start.
    pub(crate) fn remove_traces(&self) {
        for file in self.traces() {
            // A unit may have removed its own meanwhile.
            let _ = fs::remove_file(file);
        }
    }

    /// Its socket and the files whose names begin with the socket's.
    pub fn traces(&self) -> Vec<PathBuf> {
        let socket = format!("{}.sock", self.name);
        // Where no unit ever ran, there is no such folder.
        let files = fs::read_dir(SOCKETS).into_iter().flatten().flatten();
        files
            .filter(|file| {
                file.file_name()
                    .as_encoded_bytes()
                    .starts_with(socket.as_bytes())
            })
            .map(|file| file.path())
            .collect()
    }

    fn running(&self) -> Result<ProcessId> {
        self.process()
            .with_context(|| format!("{} does not run", self.name))
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join(format!("u{}.pid", self.id))
    }

    fn spawn(&self) -> Result<ProcessId> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut command = self.namespace.command(self.programs.daemon());
        // A group of its own, so that the terminal's Ctrl-C ends the experiment and not the unit.
        command.arg("--config").arg(self.config()).process_group(0);
        command
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command
            .spawn()
            .map_err(|error| tool::explain(&command, error))?;
        let pid = i32::try_from(child.id()).context("a process number is positive")?;
        let process = ProcessId::of(pid).with_context(|| format!("{} ended at once", self.name))?;
        fs::write(self.pid_file(), serde_json::to_string(&process)?)?;
        // Collects its exit code while this program lives; after that init does.
        thread::spawn(move || child.wait());
        Ok(process)
    }

    fn render(&self, settings: &LabSettings) -> Result<String> {
        let LabSettings {
            heartbeat_interval,
            heartbeat_loss,
            schedule,
            sessions,
            udp_idle,
            ..
        } = settings;
        let (control, workers) = cores(self.id, settings.workers)?;
        let (id, name, socket) = (self.id, &self.name, self.socket());
        let socket = socket.display();
        let monitors = if settings.monitors {
            render_monitors()
        } else {
            String::new()
        };
        Ok(format!(
            r#"[unit]
id = {id}
name = "{name}"
priority = 100

[cpu]
control = {control}
workers = {workers:?}
idle = "sleep"

[memory]
huge_pages = false
sessions = {sessions}

[cluster]
id = 7
key_file = "cluster.key"
heartbeat_interval = "{heartbeat_interval}"
heartbeat_loss = {heartbeat_loss}
hello_holddown = "1s"
preempt = false
schedule = "{schedule}"
session_sync = true

[[interface]]
name = "lan"
device = "af_packet:lan0"
role = "traffic"
critical = true
cluster_addresses = ["{CLUSTER_LAN}/24"]

[[interface]]
name = "wan"
device = "af_packet:wan0"
role = "traffic"
critical = true
cluster_addresses = ["{CLUSTER_WAN}/24"]

[[interface]]
name = "sync"
device = "af_packet:sync0"
role = "sync"
{monitors}
[[policy]]
name = "in"
from = "wan"
to = "any"
protocol = "tcp"
destination = ["{CLUSTER_WAN}/32"]
destination_ports = [8080]
action = "allow"
destination_nat = "{CLIENT_LAN}:8080"

[[policy]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
source_nat = "masquerade"

[timeouts]
udp_replied = "{udp_idle}"

[management]
socket = "{socket}"
"#
        ))
    }
}

/// The name of a unit. Sockets of all labs share one directory, so only the usual prefix goes
/// without saying.
fn unit_name(prefix: &str, id: u8) -> String {
    if prefix == "tg" {
        format!("u{id}")
    } else {
        format!("{prefix}-u{id}")
    }
}

/// The control core and the worker cores of a unit. Units are spread over the machine's cores by
/// their id, so that on two cores the primary's worker is not on the core of the other's.
fn cores(unit: u8, workers: u8) -> Result<(usize, Vec<usize>)> {
    let available = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ensure!(
        (1..=available).contains(&usize::from(workers)),
        "{workers} workers need as many cores; this machine has {available}"
    );
    let first = usize::from(unit);
    let workers = (0..usize::from(workers))
        .map(|worker| (first + worker) % available)
        .collect();
    Ok(((first + available - 1) % available, workers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::write_key;

    #[test]
    fn units_of_other_labs_have_other_sockets() {
        assert_eq!(unit_name("tg", 1), "u1");
        assert_eq!(unit_name("tgx", 1), "tgx-u1");
    }

    #[test]
    fn every_unit_gets_a_valid_configuration() {
        let directory = std::env::temp_dir().join(format!("tidegate-lab-{}", std::process::id()));
        fs::create_dir(&directory).expect("a new directory");
        write_key(&directory.join("cluster.key")).expect("a new file");
        let programs = Programs {
            directory: directory.clone(),
        };
        let hashes: Vec<u64> = (1..=16)
            .map(|id| {
                let unit = Unit::new("tgx", id, Namespace::named("tgx"), &directory, &programs);
                let settings = LabSettings {
                    monitors: true,
                    ..LabSettings::default()
                };
                unit.write_config(&settings).expect("a new file");
                let config = config::Config::load(&unit.config())
                    .unwrap_or_else(|problems| panic!("unit {id}: {problems}"));
                assert_eq!(config.warnings().len(), 0, "{:?}", config.warnings());
                config.hash()
            })
            .collect();
        fs::remove_dir_all(&directory).expect("what was made above");
        assert!(
            hashes.iter().all(|hash| *hash == hashes[0]),
            "units of one cluster agree"
        );
    }

    #[test]
    fn workers_of_one_unit_never_share_a_core() {
        let available = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let most = u8::try_from(available).expect("a machine of the lab is small");
        for unit in 1..=16 {
            let (control, mut workers) = cores(unit, most).expect("as many as there are");
            workers.sort_unstable();
            workers.dedup();
            assert_eq!(workers.len(), available);
            assert!(control < available);
        }
        assert!(cores(1, 0).is_err());
        assert!(cores(1, most + 1).is_err());
    }
}
