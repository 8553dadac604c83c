//! The oracle: follows every connection end to end, and judges those that ended or changed.
//!
//! TCP: each connection carries a byte stream of its own, which the server echoes and the client
//! compares byte by byte. Some connections last as long as the oracle and are busy, some last as
//! long and are idle, and new short ones begin all the time. UDP: each flow keeps its translation.
//!
//! A connection that was lost is a violation, unless the cluster cannot have known it: its session
//! began after the last moment of which it is certain that what began before was acknowledged, and
//! before the fault that followed.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::random::Random;
use crate::clock;
use crate::namespace::Namespace;
use crate::topology::SERVER_WAN;

/// The ports on which the server echoes.
const TCP_PORT: u16 = 2_000;
/// See [`TCP_PORT`]; the answer is the datagram and the source port that the server saw.
const UDP_PORT: u16 = 2_001;
/// Long-lived connections that talk all the time.
const BUSY: u64 = 10;
/// Long-lived connections that talk only at the beginning and at the end.
const IDLE: u64 = 10;
/// UDP flows.
const FLOWS: u64 = 50;
/// The pause of a connection between two exchanges.
const EXCHANGE_INTERVAL: Duration = Duration::from_millis(20);
/// The pause between the beginnings of short connections.
const BIRTH_INTERVAL: Duration = Duration::from_millis(100);
/// How many exchanges a short connection has, at most: about two seconds.
const SHORT_LIFE: u64 = 100;
/// The longest message.
const MESSAGE: u64 = 1_400;
/// The time in which each UDP flow sends once.
const FLOW_INTERVAL: Duration = Duration::from_millis(50);
/// How long an exchange may take before the connection counts as lost. TCP doubles its
/// retransmission timeout, so this has to be several times the longest outage.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to be opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How often threads look whether they are to end.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// A fault: what began before `certain` was acknowledged by a unit that survived it.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// What began before this was acknowledged.
    pub certain: Instant,
    /// When the fault was over.
    pub at: Instant,
}

/// A connection that did not go on.
#[derive(Clone, Debug)]
pub struct Casualty {
    /// Which, in words.
    pub who: String,
    /// Its session began between these two.
    pub began: (Instant, Instant),
    /// When it was noticed.
    pub at: Instant,
    /// What was noticed.
    pub what: String,
}

impl Casualty {
    /// Whether a fault explains it: the session may have begun too late to be acknowledged.
    #[must_use]
    pub fn is_excused(&self, marks: &[Mark]) -> bool {
        let (first, last) = self.began;
        marks
            .iter()
            .any(|mark| last > mark.certain && first < mark.at)
    }
}

/// What the oracle saw.
#[derive(Debug, Default)]
pub struct Testimony {
    /// TCP connections that were opened.
    pub opened: u64,
    /// Attempts to open one that failed.
    pub refused: u64,
    /// Bytes that were compared.
    pub bytes: u64,
    /// UDP flows.
    pub flows: u64,
    /// Connections and flows that did not go on.
    pub casualties: Vec<Casualty>,
}

/// Running connections.
#[derive(Debug)]
pub struct Oracle {
    shared: Arc<Shared>,
    serving: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Namespace,
    seed: u64,
    finish: AtomicBool,
    opened: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    casualties: Mutex<Vec<Casualty>>,
}

impl Oracle {
    /// Opens the long-lived connections and flows, and begins with the short ones.
    ///
    /// # Errors
    ///
    /// When one of the long-lived ones cannot be opened.
    pub fn start(client: &Namespace, server: &Namespace, seed: u64) -> Result<Self> {
        let serving = Arc::new(AtomicBool::new(true));
        let servers = serve(server, &serving)?;
        let shared = Arc::new(Shared {
            client: client.clone(),
            seed,
            finish: AtomicBool::new(false),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            casualties: Mutex::new(Vec::new()),
        });
        let mut clients = Vec::new();
        for number in 0..BUSY + IDLE {
            let connection = Connection::open(&shared, number)
                .with_context(|| format!("TCP connection {number} cannot be opened"))?;
            let habit = if number < BUSY {
                Habit::Busy
            } else {
                Habit::Idle
            };
            clients.push(connection.live(&shared, habit));
        }
        let flows = shared.client.run(|| open_flows(FLOWS))?;
        let flowing = Arc::clone(&shared);
        clients.push(thread::spawn(move || flowing.talk_flows(&flows)));
        let bearing = Arc::clone(&shared);
        clients.push(thread::spawn(move || bearing.bear()));
        Ok(Self {
            shared,
            serving,
            clients,
            servers,
        })
    }

    /// How many connections and flows are there at least, each a session.
    #[must_use]
    pub fn sessions() -> u64 {
        BUSY + IDLE + FLOWS
    }

    /// Lets every connection exchange data once more and ends it.
    ///
    /// # Errors
    ///
    /// When a thread panicked.
    pub fn finish(self) -> Result<Testimony> {
        self.shared.finish.store(true, Ordering::Release);
        for thread in self.clients {
            thread.thread().unpark();
            thread
                .join()
                .map_err(|_| anyhow!("a thread of the oracle panicked"))?;
        }
        self.serving.store(false, Ordering::Release);
        for thread in self.servers {
            thread
                .join()
                .map_err(|_| anyhow!("a server of the oracle panicked"))?;
        }
        let mut casualties = self.shared.casualties();
        Ok(Testimony {
            opened: self.shared.opened.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            flows: FLOWS,
            casualties: std::mem::take(&mut casualties),
        })
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.finish.load(Ordering::Acquire)
    }

    fn casualties(&self) -> std::sync::MutexGuard<'_, Vec<Casualty>> {
        self.casualties
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins short connections until the end, and waits for the last of them.
    fn bear(self: &Arc<Self>) {
        let mut alive: Vec<JoinHandle<()>> = Vec::new();
        for number in BUSY + IDLE.. {
            if self.is_over() {
                break;
            }
            let shared = Arc::clone(self);
            alive.push(thread::spawn(move || {
                match Connection::open(&shared, number) {
                    Ok(connection) => connection.talk(&shared, Habit::Short),
                    // Nobody was promised anything yet.
                    Err(_) => {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
            alive.retain(|thread| !thread.is_finished());
            thread::park_timeout(BIRTH_INTERVAL);
        }
        for thread in alive {
            // One that panics is missed in the counts; its own message is on the standard error.
            let _ = thread.join();
        }
    }

    /// Sends on every flow in turn and compares the translations that the server saw.
    fn talk_flows(&self, flows: &[UdpSocket]) {
        let began = clock::now();
        let mut mappings: HashMap<usize, (u16, Instant)> = HashMap::new();
        while !self.is_over() {
            for (index, socket) in flows.iter().enumerate() {
                // One that is refused is sent again in the next round.
                let _ = socket.send(&(index as u64).to_be_bytes());
                let mut answer = [0; 10];
                while let Ok(10) = socket.recv(&mut answer) {
                    let port = u16::from_be_bytes([answer[8], answer[9]]);
                    let now = clock::now();
                    let (before, since) = *mappings.entry(index).or_insert((port, now));
                    if before != port {
                        self.casualties().push(Casualty {
                            who: format!("UDP flow {index}"),
                            began: (began, since),
                            at: now,
                            what: format!("its port was {before} and is {port}"),
                        });
                        mappings.insert(index, (port, now));
                    }
                }
            }
            thread::park_timeout(FLOW_INTERVAL);
        }
    }
}

/// When a connection talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// All the time, to the end.
    Busy,
    /// Once at the end.
    Idle,
    /// All the time, but not for long.
    Short,
}

/// The client's end of one connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    stream: TcpStream,
    began: (Instant, Instant),
    /// Lengths, contents and the time of life, none like another connection's.
    random: Random,
}

impl Connection {
    fn open(shared: &Shared, number: u64) -> Result<Self> {
        let first = clock::now();
        let stream = shared.client.run(|| {
            let address = (SERVER_WAN, TCP_PORT).into();
            Ok(TcpStream::connect_timeout(&address, OPEN_PATIENCE)?)
        })?;
        let began = (first, clock::now());
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        shared.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            number,
            stream,
            began,
            random: Random::of(shared.seed ^ number << 32),
        })
    }

    fn live(self, shared: &Arc<Shared>, habit: Habit) -> JoinHandle<()> {
        let shared = Arc::clone(shared);
        thread::spawn(move || self.talk(&shared, habit))
    }

    fn talk(mut self, shared: &Shared, habit: Habit) {
        if let Err(error) = self.exchange_all(shared, habit) {
            shared.casualties().push(Casualty {
                who: format!("TCP connection {}", self.number),
                began: self.began,
                at: clock::now(),
                what: error.to_string(),
            });
        }
    }

    fn exchange_all(&mut self, shared: &Shared, habit: Habit) -> io::Result<()> {
        let mut left = match habit {
            Habit::Short => 1 + self.random.below(SHORT_LIFE),
            Habit::Busy | Habit::Idle => u64::MAX,
        };
        self.exchange(shared)?;
        while !shared.is_over() && left > 0 {
            if habit == Habit::Idle {
                thread::park();
                continue;
            }
            thread::park_timeout(EXCHANGE_INTERVAL);
            self.exchange(shared)?;
            left -= 1;
        }
        self.exchange(shared)
    }

    /// Sends a message of random length and contents and compares what comes back.
    fn exchange(&mut self, shared: &Shared) -> io::Result<()> {
        let length = 1 + self.random.below(MESSAGE);
        let message: Vec<u8> = (0..length)
            .map(|_| self.random.next().to_be_bytes()[0])
            .collect();
        self.stream.write_all(&message)?;
        let mut answer = vec![0; message.len()];
        self.stream.read_exact(&mut answer)?;
        if let Some(place) = message.iter().zip(&answer).position(|(a, b)| a != b) {
            let text = format!("byte {place} of {length} came back changed");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        shared.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

fn open_flows(count: u64) -> Result<Vec<UdpSocket>> {
    (0..count)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((SERVER_WAN, UDP_PORT))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

/// The server: echoes of both kinds.
fn serve(server: &Namespace, serving: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<()>>> {
    let (listener, socket) = server.run(|| {
        let listener = TcpListener::bind((SERVER_WAN, TCP_PORT))?;
        Ok((listener, UdpSocket::bind((SERVER_WAN, UDP_PORT))?))
    })?;
    listener.set_nonblocking(true)?;
    socket.set_read_timeout(Some(STOP_INTERVAL))?;
    let (accepting, answering) = (Arc::clone(serving), Arc::clone(serving));
    Ok(vec![
        thread::spawn(move || {
            while accepting.load(Ordering::Acquire) {
                match listener.accept() {
                    // It ends with the connection, however that ends: the client's end tells.
                    Ok((stream, _)) => drop(thread::spawn(move || echo(stream))),
                    Err(_) => thread::sleep(EXCHANGE_INTERVAL / 4),
                }
            }
        }),
        thread::spawn(move || {
            let mut datagram = [0; 10];
            while answering.load(Ordering::Acquire) {
                let Ok((8, from)) = socket.recv_from(&mut datagram[..8]) else {
                    continue;
                };
                answer(&socket, &mut datagram, from);
            }
        }),
    ])
}

fn answer(socket: &UdpSocket, datagram: &mut [u8; 10], from: SocketAddr) {
    datagram[8..].copy_from_slice(&from.port().to_be_bytes());
    // One that the host refuses is lost: the client sends again.
    let _ = socket.send_to(datagram, from);
}

fn echo(mut stream: TcpStream) {
    if stream.set_nonblocking(false).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut buffer = [0; 2_048];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_between_certainty_and_the_fault_is_excused() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mark = Mark {
            certain: at(100),
            at: at(110),
        };
        let lost = |first, last| Casualty {
            who: String::new(),
            began: (at(first), at(last)),
            at: at(500),
            what: String::new(),
        };
        assert!(!lost(50, 99).is_excused(&[mark]), "it was acknowledged");
        assert!(lost(50, 105).is_excused(&[mark]));
        assert!(lost(105, 300).is_excused(&[mark]));
        assert!(!lost(111, 300).is_excused(&[mark]), "the fault was over");
        assert!(!lost(105, 300).is_excused(&[]));
    }
}
