//! A cluster that vanishes with the test, and what one does with it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate_lab::clock::{Found, wait_for};
use tidegate_lab::failover::{Fault, Promotion, Strike};
use tidegate_lab::probe::{TcpSessions, UdpStream};
use tidegate_lab::{Host, Lab, LabSettings, Namespace, Programs, Unit};

/// How long a test waits for what has to happen soon.
const SOON: Duration = Duration::from_secs(10);

/// A prefix that no other test on this machine has, and patience with a machine that is busy
/// otherwise: who is dead is not a question of 30 ms here.
pub(crate) fn settings() -> LabSettings {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("c{:x}n{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
    LabSettings {
        prefix,
        heartbeat_loss: 10,
        ..LabSettings::default()
    }
}

/// A lab, removed at the end of the test however that ends. If that is a failure, the ends of the
/// units' logs are printed.
pub(crate) struct Site {
    pub(crate) lab: Lab,
}

impl Site {
    /// Two units that run and are one whole cluster.
    pub(crate) fn up() -> Self {
        Self::up_with(|_| {})
    }

    /// The same with other settings than the usual.
    pub(crate) fn up_with(change: impl FnOnce(&mut LabSettings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self {
            lab: Lab::up(&settings).unwrap(),
        }
    }

    /// Two units that are configured and do not run.
    pub(crate) fn prepare() -> Self {
        Self {
            lab: Lab::prepare(&settings()).unwrap(),
        }
    }

    /// Starts all units and waits until they are one whole cluster.
    pub(crate) fn start(&self) {
        for unit in self.lab.units() {
            unit.start().unwrap();
        }
        self.lab.wait_whole().unwrap();
    }

    pub(crate) fn client(&self) -> Namespace {
        self.lab.topology().namespace(Host::Client)
    }

    pub(crate) fn server(&self) -> Namespace {
        self.lab.topology().namespace(Host::Server)
    }

    pub(crate) fn switch(&self) -> Namespace {
        self.lab.topology().namespace(Host::Switch)
    }

    pub(crate) fn unit(&self, id: u8) -> &Unit {
        self.lab.unit(id).unwrap()
    }

    pub(crate) fn primary(&self) -> &Unit {
        self.lab.primary().unwrap().0
    }

    /// The unit of two that is not the primary.
    pub(crate) fn subordinate(&self) -> &Unit {
        let primary = self.primary().id();
        let mut units = self.lab.units().iter();
        units.find(|unit| unit.id() != primary).unwrap()
    }

    /// Opens TCP connections and waits until every unit holds their sessions.
    pub(crate) fn open_tcp(&self, total: usize) -> TcpSessions {
        let sessions = TcpSessions::open(&self.client(), &self.server(), total).unwrap();
        self.lab.wait_holding(total as u64).unwrap();
        sessions
    }

    pub(crate) fn start_stream(&self) -> UdpStream {
        UdpStream::start(&self.client(), &self.server(), 1_000).unwrap()
    }

    /// Replaces text of a unit's configuration file, which has to have it.
    pub(crate) fn edit(&self, unit: u8, from: &str, to: &str) {
        let path = self.unit(unit).config();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no {from:?} in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Runs a command, its words parted by spaces, in a namespace, whether it succeeds or not.
    pub(crate) fn run(&self, host: Host, command: &str) -> Output {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        let mut prepared = self.lab.topology().namespace(host).command(program);
        prepared.args(words).output().unwrap()
    }

    /// Runs `tidegate` on a unit's socket.
    pub(crate) fn tidegate(&self, unit: u8, arguments: &[&str]) -> Output {
        let socket = self.unit(unit).socket();
        let cli = Programs::find().unwrap().cli();
        Command::new(cli)
            .arg("--socket")
            .arg(socket)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What a unit answers, read.
    pub(crate) fn ask<T: serde::de::DeserializeOwned>(&self, unit: u8, command: &str) -> T {
        let words: Vec<&str> = command.split_whitespace().collect();
        serde_json::from_str(&self.unit(unit).ask(&words).unwrap()).unwrap()
    }

    /// All counters of a unit, by name.
    pub(crate) fn counters(&self, unit: u8) -> BTreeMap<String, u64> {
        let counters: Vec<api::CounterView> = self.ask(unit, "counters");
        let each = counters.into_iter();
        each.map(|counter| (counter.name, counter.value)).collect()
    }

    /// The value of a unit's counter of that name.
    pub(crate) fn counter(&self, unit: u8, name: &str) -> u64 {
        let counters = self.counters(unit);
        let value = counters.get(name);
        *value.unwrap_or_else(|| panic!("no counter {name} among {:?}", counters.keys()))
    }

    /// Waits until a unit's counter is at least so high.
    pub(crate) fn wait_counter(&self, unit: u8, name: &str, least: u64) {
        let what = format!("{name} of unit {unit} to reach {least}");
        let look = || match self.counter(unit, name) {
            value if value >= least => Found::Yes(()),
            value => Found::NotYet(format!("it is {value}")),
        };
        wait_for(&what, SOON, || Ok(look())).unwrap();
    }

    /// Waits until something is so.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let look = || match is_so() {
            true => Found::Yes(()),
            false => Found::NotYet("it is not so".to_owned()),
        };
        wait_for(what, SOON, || Ok(look())).unwrap();
    }

    /// Whether a unit hears another one.
    pub(crate) fn hears(&self, unit: u8, other: u8) -> bool {
        let peers = self.unit(unit).status().unwrap().peers;
        peers.iter().any(|peer| peer.unit == other && peer.alive)
    }

    /// Breaks the primary and waits for another one in a higher term.
    pub(crate) fn strike(&self, fault: Fault) -> (Strike, Promotion) {
        let strike = Strike::perform(&self.lab, fault).unwrap();
        let promotion = strike.wait_promotion(&self.lab).unwrap();
        assert_ne!(promotion.unit, strike.unit);
        assert!(promotion.term > strike.term, "{promotion:?}");
        (strike, promotion)
    }

    /// Breaks the primary with TCP sessions through it, and checks that all of them are kept.
    pub(crate) fn survive(&self, fault: Fault) -> (Strike, Promotion) {
        let sessions = self.open_tcp(10);
        let broken = self.strike(fault);
        assert_all_kept(sessions, 10);
        broken
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for unit in self.lab.units() {
                eprintln!("the end of the log of {}:\n{}", unit.name(), unit.log_end());
            }
        }
        if let Err(error) = self.lab.down() {
            eprintln!(
                "{} was not removed: {error:#}",
                self.lab.topology().prefix()
            );
        }
        let left: Vec<_> = self.lab.units().iter().flat_map(Unit::traces).collect();
        assert!(
            left.is_empty() || std::thread::panicking(),
            "{left:?} are left"
        );
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks that every TCP connection still works, none having been reset.
pub(crate) fn assert_all_kept(sessions: TcpSessions, total: usize) {
    let outcome = sessions.finish().unwrap();
    assert_eq!(
        (outcome.total, outcome.kept, outcome.reset),
        (total, total, 0)
    );
}

/// Ends a stream which nothing should have disturbed. A busy machine may lose a few of its
/// thousands of datagrams.
pub(crate) fn assert_undisturbed(stream: UdpStream) {
    let loss = stream.stop().unwrap().total_loss();
    assert!(loss.lost <= 5, "{loss:?}");
}

/// Serves one connection in `at`: reads a line and answers with it and the address that asked.
pub(crate) fn serve_once(
    at: &Namespace,
    address: (Ipv4Addr, u16),
) -> std::thread::JoinHandle<SocketAddr> {
    let listener = at.run(|| Ok(TcpListener::bind(address)?)).unwrap();
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
        from
    })
}

/// Connects from `from`, sends a line, and checks that it comes back.
pub(crate) fn ask_once(from: &Namespace, address: (Ipv4Addr, u16)) {
    let limit = Duration::from_secs(5);
    let mut stream = from
        .run(|| Ok(TcpStream::connect_timeout(&address.into(), limit)?))
        .unwrap();
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.write_all(b"ahoy\n").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ahoy\n");
}
