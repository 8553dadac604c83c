//! A unit with two workers whose devices cannot steer: packets land on either worker, and each
//! session has one home. Needs root and two cores.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use api::{Cleared, Client, Error, Method, PolicyView, SessionsView, Status, path};
use common::{Namespace, Place, Running, Setup, wait_for};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// What the server sees instead of the client.
const MASQUERADE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// Sessions that fit into the unit: too few in one of its two shards for the test's.
const CAPACITY: u32 = 1_024;
/// UDP sessions: each socket talks to each port.
const SOCKETS: usize = 100;
const PORTS: [u16; 8] = [9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007];
const CONNECTIONS: usize = 40;
const LIMIT: Duration = Duration::from_secs(5);

/// A client, a unit with two workers, and a server, with a cable to each.
struct Site {
    /// Ends first, while its links are there.
    unit: Running,
    client: Namespace,
    server: Namespace,
    place: Place,
}

impl Site {
    fn up(sessions: u32) -> Self {
        let (place, client, server) = (Place::new(), Namespace::new(), Namespace::new());
        place.namespace.cable("lan0", &client, "eth0");
        place.namespace.cable("wan0", &server, "eth0");
        client.ip(&format!("address add {CLIENT}/24 dev eth0"));
        client.ip("route add default via 192.0.2.1");
        server.ip(&format!("address add {SERVER}/24 dev eth0"));
        let unit = place.start(&Setup {
            workers: vec![0, 1],
            sessions,
            ..Setup::of("af_packet:lan0", "af_packet:wan0")
        });
        unit.wait_primary();
        Self {
            client,
            server,
            unit,
            place,
        }
    }

    /// Twenty echo requests, each of which must be answered.
    fn ping(&self) {
        let mut command = self.client.command("ping");
        command.args(["-n", "-c", "20", "-i", "0.02", "-W", "5"]);
        let output = command.arg(SERVER.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(" 20 received, 0% packet loss"), "{said}");
    }

    /// Every socket of the client asks every port of the server, and is answered with the address
    /// that the server saw.
    fn ask_by_udp(&self) {
        let bind = |at: SocketAddr| {
            let socket = UdpSocket::bind(at).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket
        };
        let servers = PORTS.map(|port| SocketAddr::from((SERVER, port)));
        let answerers = self.server.enter(|| servers.map(bind));
        let sockets = self.client.enter(|| {
            let any = SocketAddr::from((CLIENT, 0));
            (0..SOCKETS).map(|_| bind(any)).collect::<Vec<_>>()
        });
        thread::scope(|scope| {
            for answerer in &answerers {
                scope.spawn(move || answer(answerer));
            }
            for socket in &sockets {
                for server in servers {
                    socket.send_to(b"?", server).unwrap();
                }
                let mut answered: Vec<SocketAddr> = servers.map(|_| ask(socket)).to_vec();
                answered.sort_unstable();
                assert_eq!(answered, servers, "each port answers once");
            }
        });
    }

    /// Sends one datagram to each of many ports from each of `sockets` sockets; returns how many sessions there
    /// are then.
    fn open_by_udp(&self, sockets: usize) -> u64 {
        self.ping();
        let sockets = self.client.enter(|| {
            let any = SocketAddr::from((CLIENT, 0));
            let bind = |_| UdpSocket::bind(any).unwrap();
            (0..sockets).map(bind).collect::<Vec<_>>()
        });
        for socket in sockets {
            for port in 10_000..60_000 {
                // The server has told that nobody listens, which is no matter.
                let _ = socket.send_to(b"?", (SERVER, port));
                if port % 64 == 0 {
                    thread::sleep(Duration::from_micros(500));
                }
            }
        }
        self.sessions()
    }

    fn sessions(&self) -> u64 {
        let status: Status = self.unit.client().get(path::STATUS).unwrap();
        status.sessions.total
    }

    /// A client that waits for long work.
    fn patient(&self) -> Client {
        self.unit.client().with_deadline(Duration::from_secs(30))
    }

    /// TCP sessions that are all open at once, each of which carries a word there and back.
    fn ask_by_tcp(&self) {
        let at = SocketAddr::from((SERVER, 8080));
        let listener = self.server.enter(|| TcpListener::bind(at).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut streams = Vec::new();
                for _ in 0..CONNECTIONS {
                    let (mut stream, from) = listener.accept().unwrap();
                    assert_eq!(from.ip(), MASQUERADE);
                    stream.write_all(b"hello").unwrap();
                    streams.push(stream);
                }
                for mut stream in streams {
                    std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap();
                }
            });
            let connect = || {
                let stream = TcpStream::connect_timeout(&at, LIMIT).unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream
            };
            let streams = self
                .client
                .enter(|| (0..CONNECTIONS).map(|_| connect()).collect::<Vec<_>>());
            // The server echoes one after the other, in an order of its own.
            for mut stream in &streams {
                stream.write_all(b", there and back").unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            for mut stream in streams {
                let mut heard = String::new();
                stream.read_to_string(&mut heard).unwrap();
                assert_eq!(heard, "hello, there and back");
            }
        });
    }
}

/// Answers one datagram of each socket of the client.
fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 64];
    for _ in 0..SOCKETS {
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), MASQUERADE);
        socket.send_to(b"!", from).unwrap();
    }
}

/// Who sent the next answer.
fn ask(socket: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"!");
    from
}

#[test]
fn both_workers_share_the_sessions_and_lose_nothing() {
    let site = Site::up(CAPACITY);
    site.ping();
    site.ask_by_udp();
    site.ask_by_tcp();

    let status: Status = site.unit.client().get(api::path::STATUS).unwrap();
    let sessions = status.sessions;
    let asked = (SOCKETS * PORTS.len() + CONNECTIONS) as u64;
    assert!(sessions.total >= asked, "{sessions:?}");
    let shard = sessions.capacity / 2;
    assert!(
        asked > shard,
        "{asked} sessions fit into one shard of {shard}"
    );
    assert!(site.unit.counter("handed_over") > 0);
    for lost in [
        "drop_handover_full",
        "drop_handover_stale",
        "drop_punt_full",
    ] {
        assert_eq!(site.unit.counter(lost), 0, "{lost}");
    }
    assert_eq!(site.unit.stop().0, 0);
}

#[test]
fn a_private_policy_put_first_takes_neither_names_nor_hits_from_others() {
    let site = Site::up(CAPACITY);
    site.ping();
    let client = site.unit.client();
    let hits = || -> Vec<(String, u64)> {
        let policies: Vec<PolicyView> = client.get(path::POLICIES).unwrap();
        let named = policies
            .into_iter()
            .map(|policy| (policy.name, policy.hits));
        named.collect()
    };
    assert_eq!(hits(), [("out".to_owned(), 1)]);
    let file = site.place.path("gw.toml");
    let before = fs::read_to_string(&file).unwrap();
    let first = "[[policy]]\nname = \"dns\"\nprotocol = \"udp\"\naction = \"allow\"\ndurability = \"none\"\n";
    let (head, tail) = before.split_at(before.find("[[policy]]").unwrap());
    site.place.write("gw.toml", format!("{head}{first}{tail}"));
    client.text(Method::POST, path::RELOAD, None).unwrap();

    assert_eq!(hits(), [("dns".to_owned(), 0), ("out".to_owned(), 1)]);
    let found: SessionsView = client.get(path::SESSIONS).unwrap();
    let named: Vec<&str> = found.sessions.iter().map(|one| &one.policy[..]).collect();
    assert_eq!(named, ["out"]);
}

/// The control core gives workers what they have room for: nothing waits there, and nobody waits for it.
#[test]
fn many_sessions_are_cleared_no_faster_than_workers_can() {
    let site = Site::up(65_536);
    let opened = site.open_by_udp(1);
    assert!(opened > 20_000, "{opened} sessions");
    let answer = site.patient().text(Method::DELETE, path::SESSIONS, None);
    let Cleared { cleared } = serde_json::from_str(&answer.unwrap()).unwrap();
    assert!(cleared > 20_000, "{cleared} of {opened} sessions");
    wait_for("an empty table", || (site.sessions() == 0).then_some(()));
    assert_eq!(site.unit.counter("sessions_cleared"), cleared);
    assert_eq!(site.unit.counter("commands_deferred"), 0);
    assert_eq!(site.unit.stop().0, 0);
}

#[test]
fn who_clears_sessions_hears_that_the_unit_ends() {
    let site = Site::up(262_144);
    let opened = site.open_by_udp(4);
    assert!(opened > 100_000, "{opened} sessions");
    let client = site.patient();
    let clearing = thread::spawn(move || client.text(Method::DELETE, path::SESSIONS, None));
    while site.sessions() == opened {}
    let (code, said) = site.unit.stop();
    assert_eq!(code, 0, "{said}");
    let Err(Error::Refused(refused)) = clearing.join().unwrap() else {
        panic!("it was not refused");
    };
    let part = "the unit is shutting down, and has cleared ";
    assert!(refused.error.starts_with(part), "{refused:?}");
}

/// A long list is made while other requests are answered.
#[test]
fn a_list_of_all_sessions_keeps_nobody_waiting() {
    let site = Site::up(131_072);
    let opened = site.open_by_udp(2);
    assert!(opened > 50_000, "{opened} sessions");
    let client = site.patient();
    let listing = thread::spawn(move || {
        let list: SessionsView = client.get("/v1/sessions?limit=1000000").unwrap();
        list.sessions.len()
    });
    let mut answers = 0;
    while !listing.is_finished() {
        site.sessions();
        answers += 1;
    }
    let listed = listing.join().unwrap();
    assert!(listed > 50_000, "{listed} sessions listed");
    // Were they made to wait, one would come before the list and one behind it.
    assert!(answers > 5, "{answers} answers meanwhile");
    assert_eq!(site.unit.stop().0, 0);
}
