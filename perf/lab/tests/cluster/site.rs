//! A cluster of two that vanishes with the test, and what one does with it from outside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate_lab::failover::{Fault, Promotion, Strike};
use tidegate_lab::probe::{TcpOutcome, TcpSessions};
use tidegate_lab::{Host, Lab, LabSettings, Namespace, Programs};

/// A prefix that no other test on this machine has.
fn settings() -> LabSettings {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("c{:x}n{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
    LabSettings {
        prefix,
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
        Self {
            lab: Lab::up(&settings()).unwrap(),
        }
    }

    /// Two units that are configured and do not run.
    pub(crate) fn prepare() -> Self {
        Self {
            lab: Lab::prepare(&settings()).unwrap(),
        }
    }

    pub(crate) fn client(&self) -> Namespace {
        self.lab.topology().namespace(Host::Client)
    }

    pub(crate) fn server(&self) -> Namespace {
        self.lab.topology().namespace(Host::Server)
    }

    /// Runs a command in a namespace, whether it succeeds or not.
    pub(crate) fn run(&self, host: Host, command: &[&str]) -> Output {
        let mut prepared = self.lab.topology().namespace(host).command(command[0]);
        prepared.args(&command[1..]).output().unwrap()
    }

    /// Runs `tidegate` on a unit's socket.
    pub(crate) fn tidegate(&self, unit: u8, arguments: &[&str]) -> Output {
        let socket = self.lab.unit(unit).unwrap().socket();
        let cli = Programs::find().unwrap().cli();
        Command::new(cli)
            .arg("--socket")
            .arg(socket)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The value of a unit's counter of that name.
    pub(crate) fn counter(&self, unit: u8, name: &str) -> u64 {
        let answer = self.lab.unit(unit).unwrap().ask(&["counters"]).unwrap();
        let counters: Vec<api::CounterView> = serde_json::from_str(&answer).unwrap();
        let names = counters
            .iter()
            .map(|counter| counter.name.as_str())
            .collect::<Vec<_>>();
        let found = counters.iter().find(|counter| counter.name == name);
        found
            .unwrap_or_else(|| panic!("no counter {name} among {names:?}"))
            .value
    }

    /// Breaks the primary with TCP sessions through it, and checks that all of them are kept.
    pub(crate) fn survive(&self, fault: Fault) -> (Strike, Promotion) {
        let sessions = TcpSessions::open(&self.client(), &self.server(), 10).unwrap();
        self.lab.wait_holding(10).unwrap();
        let strike = Strike::perform(&self.lab, fault).unwrap();
        let promotion = strike.wait_promotion(&self.lab).unwrap();
        assert_ne!(promotion.unit, strike.unit);
        assert!(promotion.term > strike.term, "{promotion:?}");
        assert_eq!(
            sessions.finish().unwrap(),
            TcpOutcome {
                total: 10,
                kept: 10,
                reset: 0
            }
        );
        (strike, promotion)
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
    }
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
