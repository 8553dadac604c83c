//! Many UDP sessions through NAT, each answered, so that a cluster has something to keep.
//!
//! Every client socket talks to every further address of the server, so that N sessions need only
//! N ÷ 100 source ports, and on several ports where there are so many that a unit's ports for one
//! remote address and port (4,032) would not suffice. The server answers with the source port that it saw: the translation that
//! the gateway chose. A session is kept when that is the same after the fault.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::clock;
use crate::namespace::Namespace;
use crate::probe::widen;
use crate::topology::crowd_addresses;

/// The first of the ports on which the server answers, on each of its further addresses.
const FIRST_PORT: u16 = 9_000;
/// The most sessions of one address and port of the server.
const SESSIONS_PER_SERVER: usize = 2_000;
/// How many sessions a check looks at: more would take longer than the fault that it is about.
const CHECKED: usize = 20_000;
/// Datagrams sent before answers are read.
const BATCH: usize = 250;
/// The time that a batch takes: 50,000 datagrams per second, well below what AF_PACKET passes.
const BATCH_TIME: Duration = Duration::from_millis(5);
/// How long after a round its last answers are waited for.
const ROUND_GRACE: Duration = Duration::from_millis(300);
/// How often sessions without an answer are tried again.
const ROUNDS: usize = 10;
/// How many sockets are read at the most before it is asked again which are readable.
const READABLE: usize = 1_024;
/// Descriptors that the process needs besides the crowd's.
const DESCRIPTORS: u64 = 512;
/// The translation of a session that was never answered.
const UNSEEN: u16 = 0;

/// The sessions and the sockets that hold them open.
#[derive(Debug)]
pub struct Crowd {
    clients: Sockets,
    servers: Vec<SocketAddr>,
    sessions: usize,
    /// By session: the source port that the server saw first.
    mappings: Vec<u16>,
    stop: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

/// What became of a crowd since it was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrowdOutcome {
    /// Sessions looked at.
    pub total: usize,
    /// Those that are answered and translated as before.
    pub kept: usize,
}

impl Crowd {
    /// Creates `sessions` sessions and waits until each was answered.
    ///
    /// # Errors
    ///
    /// When sockets run out, or some sessions are never answered.
    pub fn settle(client: &Namespace, server: &Namespace, sessions: usize) -> Result<Self> {
        let addresses: Vec<Ipv4Addr> = crowd_addresses().collect();
        let ports = sessions.div_ceil(addresses.len() * SESSIONS_PER_SERVER);
        let servers: Vec<SocketAddr> = (FIRST_PORT..FIRST_PORT + u16::try_from(ports)?)
            .flat_map(|port| addresses.iter().map(move |address| (*address, port)))
            .map(|(address, port)| SocketAddrV4::new(address, port).into())
            .collect();
        let any: SocketAddr = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into();
        let any = vec![any; sessions.div_ceil(servers.len())];
        permit_descriptors(servers.len() + any.len())?;
        let answerers = server.run(|| Sockets::open(&servers))?;
        let clients = client.run(|| Sockets::open(&any))?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let answering = Some(thread::spawn(move || answer(&answerers, &flag)));
        let mappings = vec![UNSEEN; sessions];
        let mut crowd = Self {
            clients,
            servers,
            sessions,
            mappings,
            stop,
            answering,
        };
        crowd.mappings = crowd.talk((0..sessions).collect())?;
        let silent = crowd
            .mappings
            .iter()
            .filter(|port| **port == UNSEEN)
            .count();
        ensure!(
            silent == 0,
            "{silent} of {sessions} UDP sessions were never answered"
        );
        Ok(crowd)
    }

    /// Talks on sessions again, of a large crowd on some spread over all of it, and counts those that
    /// are as they were. The rest does not age within the five minutes that a session may be idle.
    ///
    /// # Errors
    ///
    /// When the sockets fail.
    pub fn check(&self) -> Result<CrowdOutcome> {
        let stride = self.sessions.div_ceil(CHECKED);
        let checked: Vec<usize> = (0..self.sessions).step_by(stride).collect();
        let now = self.talk(checked.clone())?;
        let kept = checked
            .iter()
            .filter(|session| self.mappings[**session] == now[**session])
            .count();
        Ok(CrowdOutcome {
            total: checked.len(),
            kept,
        })
    }

    /// Sends on the sessions until they are answered, and returns the translations seen.
    fn talk(&self, mut open: Vec<usize>) -> Result<Vec<u16>> {
        let mut seen = vec![UNSEEN; self.sessions];
        for _ in 0..ROUNDS {
            open.retain(|session| seen[*session] == UNSEEN);
            if open.is_empty() {
                break;
            }
            for batch in open.chunks(BATCH) {
                let due = clock::now() + BATCH_TIME;
                batch.iter().for_each(|session| self.send(*session));
                self.read_answers(&mut seen, Duration::ZERO)?;
                thread::sleep(due.saturating_duration_since(clock::now()));
            }
            while self.read_answers(&mut seen, ROUND_GRACE)? > 0 {}
        }
        Ok(seen)
    }

    fn send(&self, session: usize) {
        let socket = &self.clients.all[session / self.servers.len()];
        let server = self.servers[session % self.servers.len()];
        // What the host refuses is sent again in the next round.
        let _ = socket.send_to(&(session as u64).to_be_bytes(), server);
    }

    /// Reads what has arrived, waiting up to `patience` for the first. Returns how many there were.
    fn read_answers(&self, seen: &mut [u16], patience: Duration) -> Result<usize> {
        let mut count = 0;
        for socket in self.clients.wait_readable(patience)? {
            let mut answer = [0; 10];
            while let Ok(10) = socket.recv(&mut answer) {
                let [s0, s1, s2, s3, s4, s5, s6, s7, p0, p1] = answer;
                let session =
                    usize::try_from(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]))?;
                if let Some(mapping) = seen.get_mut(session) {
                    *mapping = u16::from_be_bytes([p0, p1]);
                }
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(answering) = self.answering.take() {
            // It ends within a tenth of a second; if it panicked, sessions were not answered.
            let _ = answering.join();
        }
    }
}

/// Sockets, and what tells which of them have something to read: at a cost that does not grow with their
/// number, which is thousands for millions of sessions.
#[derive(Debug)]
struct Sockets {
    all: Vec<UdpSocket>,
    /// An epoll instance that gives each by its place in `all`.
    readiness: OwnedFd,
}

impl Sockets {
    fn open(addresses: &[SocketAddr]) -> Result<Self> {
        let readiness = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(addresses.len());
        for (place, address) in (0..).zip(addresses) {
            let socket = UdpSocket::bind(address)
                .with_context(|| format!("no UDP socket on {address} (see `ulimit -n`)"))?;
            widen(&socket)?;
            socket.set_nonblocking(true)?;
            let place = epoll::EventData::new_u64(place);
            epoll::add(&readiness, &socket, place, epoll::EventFlags::IN)?;
            all.push(socket);
        }
        Ok(Self { all, readiness })
    }

    /// Some that have something to read, waiting up to `patience` for the first.
    fn wait_readable(&self, patience: Duration) -> Result<impl Iterator<Item = &UdpSocket>> {
        let patience = Timespec::try_from(patience)?;
        let mut events = Vec::with_capacity(READABLE);
        epoll::wait(
            &self.readiness,
            spare_capacity(&mut events),
            Some(&patience),
        )
        .context("epoll failed")?;
        Ok(events.into_iter().filter_map(|event: epoll::Event| {
            let place = usize::try_from(event.data.u64()).ok()?;
            self.all.get(place)
        }))
    }
}

/// Raises the limit of open files, where that many more do not fit into it.
fn permit_descriptors(count: usize) -> Result<()> {
    let needed = u64::try_from(count)? + DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    // No limit is written as none.
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        limit.maximum = limit.maximum.map(|maximum| maximum.max(needed));
        setrlimit(Resource::Nofile, limit)
            .with_context(|| format!("{needed} files cannot be open at once"))?;
    }
    Ok(())
}

/// The server: sends the session's number and the source port of the datagram back.
fn answer(sockets: &Sockets, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let Ok(readable) = sockets.wait_readable(Duration::from_millis(100)) else {
            return;
        };
        for socket in readable {
            let mut datagram = [0; 10];
            loop {
                match socket.recv_from(&mut datagram[..8]) {
                    Ok((8, from)) => {
                        datagram[8..].copy_from_slice(&from.port().to_be_bytes());
                        // What the host refuses is asked for again.
                        let _ = socket.send_to(&datagram, from);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // An ICMP error for an earlier answer.
                    Err(_) => {}
                }
            }
        }
    }
}
