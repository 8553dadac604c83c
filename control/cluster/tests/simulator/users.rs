//! The users: clients that open, use and close connections to one server behind the cluster.

use std::net::Ipv4Addr;

use packet::Tuple;
use packet::tcp::{ACK, FIN, SYN, Segment};
use session::{Direction, Session};

use crate::random::Random;

/// Connections that there can be at a time. Odd ones are TCP, the others UDP.
const CONNECTIONS: u16 = 40;
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What clients are hidden behind.
const HIDDEN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const WINDOW: u16 = 60_000;
/// Sequence numbers of one connection before those of the next between the same ports.
const PER_TURN: u32 = 1_000_000;

/// What one of a connection's ends sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) connection: u16,
    /// As it arrives at the gateway.
    pub(crate) tuple: Tuple,
    pub(crate) direction: Direction,
    /// None of a datagram.
    pub(crate) segment: Option<Segment>,
    /// When in the life of which connection it was sent.
    sent: (u16, u8),
}

impl Packet {
    /// Whether a session may begin with it.
    pub(crate) fn opens(&self) -> bool {
        self.direction == Direction::Original
            && self.segment.is_none_or(|segment| segment.flags == SYN)
    }
}

/// How replies to a client arrive that is hidden behind this port.
pub(crate) fn reply_tuple(original: &Tuple, port: u16) -> Tuple {
    Tuple::v4(SERVER, 443, HIDDEN, port, original.protocol)
}

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// How many of its packets came through.
    phase: u8,
    /// Times that it was opened.
    turn: u16,
    /// The port that the server answers to.
    port: u16,
}

/// All connections, as their ends see them.
#[derive(Debug)]
pub(crate) struct Users {
    connections: Vec<Connection>,
    /// Addresses that they are at.
    clients: u16,
}

impl Users {
    /// Where several units own sessions, users are at several addresses, which some schedules go by.
    pub(crate) fn new(shared: bool) -> Self {
        Self {
            clients: if shared { 16 } else { 1 },
            connections: vec![Connection::default(); CONNECTIONS.into()],
        }
    }

    /// What some user sends next.
    pub(crate) fn packet(&self, random: &mut Random) -> Packet {
        let number = u16::try_from(random.within(0..CONNECTIONS.into())).unwrap();
        self.next_of(number, random)
    }

    /// Connections that are open, and the ports that the server answers to. One of TCP is when the server
    /// took it: a SYN that meets a session of earlier gets through to be refused by its ends.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u16, u16)> {
        let numbered = (0..).zip(&self.connections);
        let open = numbered.filter(|(number, connection)| u16::from(connection.phase) > number % 2);
        open.map(|(number, connection)| (number, connection.port))
    }

    /// Whether a session is that of this connection, not of an earlier one between the same ports.
    pub(crate) fn is_present(&self, number: u16, session: &Session) -> bool {
        let first = self.connections[usize::from(number)].first();
        let sent = session.tcp[0].end.wrapping_sub(first);
        session.tuples[0].protocol != 6 || sent < PER_TURN
    }

    /// What one end of this connection sends next.
    pub(crate) fn next_of(&self, number: u16, random: &mut Random) -> Packet {
        let connection = &self.connections[usize::from(number)];
        let original = self.original(number);
        let (direction, segment) = if original.protocol == 6 {
            connection.segment(random)
        } else if connection.phase > 0 && random.chance(500) {
            (Direction::Reply, None)
        } else {
            (Direction::Original, None)
        };
        let tuple = match direction {
            Direction::Original => original,
            Direction::Reply => reply_tuple(&original, connection.port),
        };
        Packet {
            connection: number,
            tuple,
            direction,
            segment,
            sent: (connection.turn, connection.phase),
        }
    }

    /// How packets of this connection's client arrive.
    pub(crate) fn original(&self, number: u16) -> Tuple {
        let protocol = if number % 2 == 1 { 6 } else { 17 };
        let host = u8::try_from(1 + number % self.clients).unwrap();
        let client = Ipv4Addr::new(10, 0, 0, host);
        Tuple::v4(client, 1_024 + number, SERVER, 443, protocol)
    }

    /// It came through, hidden behind this port. What comes late is not what its ends wait for.
    pub(crate) fn arrived(&mut self, packet: &Packet, port: u16) {
        let connection = &self.connections[usize::from(packet.connection)];
        if packet.sent != (connection.turn, connection.phase) {
            return;
        }
        self.give_way(packet.connection, port);
        let connection = &mut self.connections[usize::from(packet.connection)];
        connection.port = port;
        connection.phase += 1;
        let over = packet.segment.is_some() && connection.phase == LAST_PHASE;
        if over || connection.phase == u8::MAX {
            self.give_up(packet.connection);
        }
    }

    /// Two primaries that do not hear each other may hide two connections behind one port. To the server they
    /// are one, which is now the later.
    fn give_way(&mut self, later: u16, port: u16) {
        let same = |other: &u16| other % 2 == later % 2 && *other != later;
        for other in (0..CONNECTIONS).filter(same) {
            let connection = &self.connections[usize::from(other)];
            if connection.phase > 0 && connection.port == port {
                self.give_up(other);
            }
        }
    }

    /// It is over, in order or not.
    pub(crate) fn give_up(&mut self, connection: u16) {
        let connection = &mut self.connections[usize::from(connection)];
        connection.phase = 0;
        connection.turn += 1;
    }
}

/// Three segments open a TCP connection, some carry data, three close it.
const LAST_PHASE: u8 = 12;

impl Connection {
    /// The client's first sequence number.
    fn first(&self) -> u32 {
        u32::from(self.turn) * PER_TURN + 1_000
    }

    fn segment(&self, random: &mut Random) -> (Direction, Option<Segment>) {
        let client = self.first();
        let server = client + PER_TURN / 2;
        let plain = |seq, ack, flags| Segment {
            seq,
            ack,
            flags,
            window: WINDOW,
            ..Segment::default()
        };
        let (direction, segment) = match self.phase {
            0 => (Direction::Original, plain(client, 0, SYN)),
            1 => (Direction::Reply, plain(server, client + 1, SYN | ACK)),
            9 => (
                Direction::Original,
                plain(client + 1, server + 1, FIN | ACK),
            ),
            10 => (Direction::Reply, plain(server + 1, client + 2, FIN | ACK)),
            11 => (Direction::Original, plain(client + 2, server + 2, ACK)),
            phase if phase == 2 || random.chance(500) => {
                (Direction::Original, plain(client + 1, server + 1, ACK))
            }
            _ => (Direction::Reply, plain(server + 1, client + 1, ACK)),
        };
        (direction, Some(segment))
    }
}

#[test]
fn the_session_of_an_earlier_connection_is_not_that_of_the_present_one() {
    let (mut random, mut users) = (Random::new(1), Users::new(true));
    let syn = users.next_of(1, &mut random);
    users.arrived(&syn, 5);
    let opened = session::tcp::open(&syn.segment.unwrap());
    let session = Session {
        tuples: [syn.tuple, reply_tuple(&syn.tuple, 5)],
        tcp: opened.sides,
        ..Session::default()
    };
    assert!(users.is_present(1, &session));
    users.give_up(1);
    assert!(!users.is_present(1, &session));
}

#[test]
fn two_connections_behind_one_port_are_the_later_one_to_the_server() {
    // Seed 7886: two primaries had hidden them behind one port, and the answers to one moved the windows of the
    // other's session.
    let (mut random, mut users) = (Random::new(1), Users::new(true));
    let mut begin = |users: &mut Users, number, port| {
        let packet = users.next_of(number, &mut random);
        users.arrived(&packet, port);
    };
    for (number, port) in [(0, 5), (1, 5), (3, 6), (2, 7)] {
        begin(&mut users, number, port);
    }
    let phases = |users: &Users| [0, 1, 2, 3].map(|number| users.connections[number].phase);
    assert_eq!(phases(&users), [1; 4], "nobody is in the way of another");
    begin(&mut users, 5, 6);
    begin(&mut users, 2, 5);
    assert_eq!(phases(&users), [0, 1, 2, 0]);
}
