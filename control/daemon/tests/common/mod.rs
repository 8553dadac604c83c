//! A place for one unit: a folder and a network namespace of their own, both gone with the value.
//! Needs root.

#![allow(dead_code, reason = "not every file of tests uses all of it")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use api::{Client, InterfaceView, Role, Status};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
/// How long one answer of a unit may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Asks until there is an answer; panics with `what` if there is none for too long.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if let Some(answer) = ask() {
            return answer;
        }
        thread::sleep(STEP);
    }
    panic!("{what}: not within {} s", PATIENCE.as_secs());
}

/// What differs between the configurations of these tests.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) lan: String,
    pub(crate) wan: String,
    pub(crate) control: u16,
    pub(crate) workers: Vec<u16>,
    pub(crate) huge_pages: bool,
    pub(crate) sessions: u32,
    pub(crate) mtu: u16,
}

impl Setup {
    /// One worker, small, with these devices.
    pub(crate) fn of(lan: &str, wan: &str) -> Self {
        Self {
            lan: lan.to_owned(),
            wan: wan.to_owned(),
            control: 0,
            workers: vec![0],
            huge_pages: false,
            sessions: 1_024,
            mtu: 1_500,
        }
    }

    fn render(&self, socket: &Path) -> String {
        let Self {
            lan,
            wan,
            control,
            workers,
            huge_pages,
            sessions,
            mtu,
        } = self;
        format!(
            r#"[unit]
id = 1
name = "gw"
[cpu]
control = {control}
workers = {workers:?}
idle = "sleep"
[memory]
huge_pages = {huge_pages}
sessions = {sessions}
[cluster]
id = 7
key_file = "cluster.key"
heartbeat_interval = "20ms"
hello_holddown = "100ms"
[[interface]]
name = "lan"
device = "{lan}"
role = "traffic"
critical = true
mtu = {mtu}
cluster_addresses = ["192.0.2.1/24"]
[[interface]]
name = "wan"
device = "{wan}"
role = "traffic"
cluster_addresses = ["198.51.100.1/24"]
[[policy]]
name = "out"
from = "lan"
to = "wan"
action = "allow"
source_nat = "masquerade"
[management]
socket = "{}"
"#,
            socket.display()
        )
    }
}

/// A named network namespace.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("tgd{}n{number}", std::process::id()));
        run(Command::new("ip").args(["netns", "add", &namespace.0]));
        namespace
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) {
        run(Command::new("ip")
            .args(["-n", &self.0])
            .args(arguments.split(' ')));
    }

    /// A command that runs inside, as the child itself.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// A pair of interfaces, `name` here and `other_name` in `other`, up, without IPv6 and without
    /// the offloads that leave checksums to hardware that is not there.
    pub(crate) fn cable(&self, name: &str, other: &Self, other_name: &str) {
        self.ip(&format!(
            "link add name {name} type veth peer name {other_name} netns {}",
            other.0
        ));
        for (namespace, interface) in [(self, name), (other, other_name)] {
            namespace.ip(&format!("link set dev {interface} addrgenmode none up"));
            let off = "tx off rx off gso off tso off gro off".split(' ');
            run(namespace
                .command("ethtool")
                .args(["-K", interface])
                .args(off));
        }
    }

    /// Runs `work` on a thread inside; sockets that it opens stay inside.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let file = File::open(Path::new("/run/netns").join(&self.0)).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                use std::os::fd::AsFd as _;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The test may have failed before there was one.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Where units of a test run, and where their files are.
pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    folder: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new();
        let folder = std::env::temp_dir().join(&namespace.0);
        fs::create_dir(&folder).unwrap();
        let place = Self { namespace, folder };
        place.write("cluster.key", "5a".repeat(32));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("gw.sock")
    }

    /// Writes the configuration that `setup` stands for.
    pub(crate) fn configure(&self, setup: &Setup) -> PathBuf {
        self.write("gw.toml", setup.render(&self.socket()))
    }

    /// Runs `tidegated` inside, with the configuration and further arguments.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = self.path(&format!("log{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let stderr = File::create(&log).unwrap();
        self.spawn_logging(arguments, stderr.into(), log)
    }

    /// The same with standard error to `stderr`; what it says is looked for in `log`.
    pub(crate) fn spawn_logging(&self, arguments: &[&str], stderr: Stdio, log: PathBuf) -> Running {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_tidegated"));
        command.arg("--config").arg(self.path("gw.toml"));
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(stderr);
        Running {
            child: command.spawn().unwrap(),
            socket: self.socket(),
            log,
        }
    }

    /// Starts a unit with `setup` and waits until it answers.
    pub(crate) fn start(&self, setup: &Setup) -> Running {
        self.configure(setup);
        let mut unit = self.spawn(&[]);
        wait_for("an answer", || {
            let ended = unit.child.try_wait().unwrap();
            assert_eq!(ended, None, "it ended: {}", unit.said());
            unit.client().get::<Status>(api::path::STATUS).ok()
        });
        unit
    }

    /// Runs `setup` until it ends by itself; its exit code and what it said.
    pub(crate) fn fail(&self, setup: &Setup) -> (i32, String) {
        self.configure(setup);
        self.spawn(&[]).wait()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process of `tidegated`, killed with the value.
pub(crate) struct Running {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket).with_deadline(ANSWER)
    }

    pub(crate) fn interfaces(&self) -> Vec<InterfaceView> {
        self.client().get(api::path::INTERFACES).unwrap()
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters: Vec<api::CounterView> = self.client().get(api::path::COUNTERS).unwrap();
        let found = counters.iter().find(|counter| counter.name == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).value
    }

    pub(crate) fn wait_primary(&self) {
        wait_for("to be primary", || {
            let status: Status = self.client().get(api::path::STATUS).ok()?;
            (status.role == Role::Primary).then_some(())
        });
    }

    /// Prints what it has counted, if it still answers.
    fn tell_counters(&self) {
        let counters = self
            .client()
            .get::<Vec<api::CounterView>>(api::path::COUNTERS);
        for counter in counters.into_iter().flatten() {
            if counter.value > 0 {
                eprintln!("{} = {}", counter.name, counter.value);
            }
        }
    }

    /// What it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it ends: its exit code and what it said.
    pub(crate) fn wait(mut self) -> (i32, String) {
        let status: ExitStatus = wait_for("the end", || self.child.try_wait().unwrap());
        let said = self.said();
        let code = status.code();
        (code.unwrap_or_else(|| panic!("{status}: {said}")), said)
    }

    /// SIGTERM, and waits until it has left.
    pub(crate) fn stop(self) -> (i32, String) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell_counters();
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the unit said:\n{}", self.said());
        }
    }
}
