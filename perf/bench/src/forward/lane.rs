//! The worker's ports in a benchmark: real queues whose frames are stamped with flows as they arrive.
//!
//! ```text
//!  device ─▶ queue ─▶ stamp ─▶ worker ─▶ queue ─▶ device
//!                       ▲                  │
//!                    Traffic      far end: answers, while sessions are established
//! ```
//!
//! A [`Lane`] belongs to its worker; whoever has the [`Remote`] says what arrives from now on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result};
use dpdk::{Burst, Mbuf, Mempool};
use forward::{PortIo, QueuePair};
use packet::{Mac, ipv4, tcp};

use super::flow::{Arrived, End, Flow, Random, SERVER_PORT, SHORTEST, Template};

/// What arrives at a lane.
#[derive(Clone, Debug)]
pub(crate) enum Traffic {
    /// Nothing, and the device is not asked.
    Nothing,
    /// What the device has, as it is.
    AsItIs,
    /// Datagrams, or the opening segments of connections, of these flows in their order, each once,
    /// in buffers from the pool.
    Openings { kind: Opening, flows: Numbers },
    /// Frames of flows chosen at random, stamped into those of the device.
    Stamped(Stream),
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// With a datagram.
    Udp,
    /// With a SYN.
    Tcp,
}

/// Numbers of flows, in order.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// From the first to the one before the second.
    Range(u32, u32),
    /// Those of the list from a position on.
    List(Arc<[u32]>, usize),
}

impl Iterator for Numbers {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        match self {
            Self::Range(next, end) => {
                let number = *next;
                (number < *end).then(|| {
                    *next += 1;
                    number
                })
            }
            Self::List(list, position) => {
                let number = list.get(*position).copied();
                *position += 1;
                number
            }
        }
    }
}

/// Frames of established flows.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    kind: Kind,
    chooser: Chooser,
    /// Frames so far.
    sent: u32,
}

/// What the frames are.
#[derive(Clone, Debug)]
enum Kind {
    /// From clients.
    Datagrams,
    /// From clients, in three lengths.
    Imix,
    /// From clients: each acknowledges more than any before it.
    Acknowledgements,
    /// From servers to clients.
    Replies,
    /// From servers to the gateway's address, each flow to a port of its own.
    TranslatedReplies(u32, Arc<[u16]>),
    /// From clients: the first of each connection.
    Syns,
    /// Every other one is a SYN from nowhere.
    SynFlood,
    /// Every other one is the first of a flow to this one server.
    PortFlood(End),
}

/// Which flow the next frame belongs to.
#[derive(Clone, Debug)]
struct Chooser {
    random: Random,
    choice: Choice,
}

#[derive(Clone, Debug)]
enum Choice {
    /// Any below this number.
    Below(u32),
    /// Those of the list from a position on, over and over.
    List(Arc<[u32]>, usize),
    /// From the first on to below the second, over and over.
    Around(u32, u32),
}

impl Chooser {
    #[inline]
    fn number(&mut self) -> u32 {
        match &mut self.choice {
            Choice::Below(flows) => self.random.below(*flows),
            Choice::List(list, next) => {
                let number = list.get(*next).copied().unwrap_or(0);
                *next = if *next + 1 < list.len() { *next + 1 } else { 0 };
                number
            }
            Choice::Around(next, end) => {
                let number = *next;
                *next = if *next + 1 < *end { *next + 1 } else { 0 };
                number
            }
        }
    }

    #[inline]
    fn flow(&mut self) -> Flow {
        Flow::number(self.number())
    }

    /// Ends that no flow has.
    fn stranger(&mut self) -> (End, End) {
        let random = self.random.next();
        let from = End {
            address: STRANGERS | (random >> 8),
            port: 0x8000 | (random & 0x7fff) as u16,
        };
        (from, Flow::number(random >> 9).server)
    }
}

impl Stream {
    fn new(kind: Kind, flows: u32) -> Self {
        Self {
            kind,
            chooser: Chooser {
                random: Random::new(),
                choice: Choice::Below(flows),
            },
            sent: 0,
        }
    }

    /// Datagrams of 64 bytes of flows below `flows`.
    pub(crate) fn datagrams(flows: u32) -> Self {
        Self::new(Kind::Datagrams, flows)
    }

    /// The same frames, but of one flow after the other.
    pub(crate) fn in_turn(mut self) -> Self {
        if let Choice::Below(flows) = self.chooser.choice {
            self.chooser.choice = Choice::Around(0, flows);
        }
        self
    }

    /// The same frames, but of the flows of a list, in its order.
    pub(crate) fn listed(mut self, list: Arc<[u32]>) -> Self {
        self.chooser.choice = Choice::List(list, 0);
        self
    }

    /// The first packets of new flows, from number 0 on.
    pub(crate) fn openings(kind: Opening) -> Self {
        let mut stream = match kind {
            Opening::Udp => Self::datagrams(0),
            Opening::Tcp => Self::new(Kind::Syns, 0),
        };
        stream.chooser.choice = Choice::Around(0, Flow::COUNT - 1);
        stream
    }

    /// Datagrams of 64, 570 and 1,518 bytes, seven, four and one of twelve.
    pub(crate) fn imix(flows: u32) -> Self {
        Self::new(Kind::Imix, flows)
    }

    /// TCP segments of 64 bytes without data.
    pub(crate) fn acknowledgements(flows: u32) -> Self {
        Self::new(Kind::Acknowledgements, flows)
    }

    /// Datagrams of 64 bytes from the servers to the clients.
    pub(crate) fn replies(flows: u32) -> Self {
        Self::new(Kind::Replies, flows)
    }

    /// Datagrams of 64 bytes from the servers to the gateway at `outside` and the flows' ports.
    pub(crate) fn translated_replies(flows: u32, outside: u32, ports: Arc<[u16]>) -> Self {
        Self::new(Kind::TranslatedReplies(outside, ports), flows)
    }

    /// Acknowledgements of established connections and SYNs from random sources in turn.
    pub(crate) fn syn_flood(flows: u32) -> Self {
        Self::new(Kind::SynFlood, flows)
    }

    /// Datagrams of established flows and those of new flows to one server in turn.
    pub(crate) fn port_flood(flows: u32, server: End) -> Self {
        Self::new(Kind::PortFlood(server), flows)
    }

    fn stamp(&mut self, mbufs: &mut [Mbuf], templates: &Templates) {
        let chooser = &mut self.chooser;
        let short = &templates.short;
        match &self.kind {
            Kind::Datagrams => mbufs.iter_mut().for_each(|mbuf| {
                let flow = chooser.flow();
                short.write(mbuf.data_mut(), flow.client, flow.server);
            }),
            Kind::Imix => mbufs.iter_mut().for_each(|mbuf| {
                self.sent = if self.sent == 11 { 0 } else { self.sent + 1 };
                let template = templates.imix(self.sent);
                // Never longer than the buffers that the benchmarks use.
                let _ = mbuf.append(template.len - SHORTEST);
                let flow = chooser.flow();
                template.write(mbuf.data_mut(), flow.client, flow.server);
            }),
            Kind::Acknowledgements => mbufs.iter_mut().for_each(|mbuf| {
                self.sent = self.sent.wrapping_add(1);
                templates.acknowledge(mbuf, chooser.flow(), self.sent);
            }),
            Kind::Replies => mbufs.iter_mut().for_each(|mbuf| {
                let flow = chooser.flow();
                short.write(mbuf.data_mut(), flow.server, flow.client);
            }),
            Kind::TranslatedReplies(address, ports) => mbufs.iter_mut().for_each(|mbuf| {
                let number = chooser.number();
                let to = End {
                    address: *address,
                    port: ports.get(number as usize).copied().unwrap_or(0),
                };
                short.write(mbuf.data_mut(), Flow::number(number).server, to);
            }),
            Kind::Syns => mbufs.iter_mut().for_each(|mbuf| {
                let flow = chooser.flow();
                templates.syn.write_segment(
                    mbuf.data_mut(),
                    flow.client,
                    flow.server,
                    CLIENT_ISN,
                    0,
                );
            }),
            Kind::SynFlood => mbufs.iter_mut().enumerate().for_each(|(position, mbuf)| {
                if position % 2 == 0 {
                    self.sent = self.sent.wrapping_add(1);
                    templates.acknowledge(mbuf, chooser.flow(), self.sent);
                } else {
                    let (from, to) = chooser.stranger();
                    templates.syn.write(mbuf.data_mut(), from, to);
                }
            }),
            Kind::PortFlood(server) => mbufs.iter_mut().enumerate().for_each(|(position, mbuf)| {
                let (from, to) = if position % 2 == 0 {
                    let flow = chooser.flow();
                    (flow.client, flow.server)
                } else {
                    (chooser.stranger().0, *server)
                };
                short.write(mbuf.data_mut(), from, to);
            }),
        }
    }
}

/// The network of those who open connections that they never use.
const STRANGERS: u32 = 0x0b00_0000;
/// Initial sequence numbers of clients and of servers.
const CLIENT_ISN: u32 = 1_000;
const SERVER_ISN: u32 = 5_000;

/// The frames that arrive at one lane.
#[derive(Debug)]
struct Templates {
    short: Template,
    medium: Template,
    long: Template,
    syn: Template,
    syn_ack: Template,
    ack: Template,
}

impl Templates {
    fn new(gateway: Mac) -> Self {
        Self {
            short: Template::datagram(gateway, SHORTEST),
            medium: Template::datagram(gateway, 566),
            long: Template::datagram(gateway, 1_514),
            syn: Template::segment(gateway, tcp::SYN),
            syn_ack: Template::segment(gateway, tcp::SYN | tcp::ACK),
            ack: Template::segment(gateway, tcp::ACK),
        }
    }

    /// Makes a frame acknowledge `more` bytes of the flow's server.
    #[inline]
    fn acknowledge(&self, mbuf: &mut Mbuf, flow: Flow, more: u32) {
        let (seq, ack) = (CLIENT_ISN + 1, (SERVER_ISN + 1).wrapping_add(more));
        let frame = mbuf.data_mut();
        self.ack
            .write_segment(frame, flow.client, flow.server, seq, ack);
    }

    /// The template of frame `n` of twelve.
    #[inline]
    fn imix(&self, n: u32) -> &Template {
        match n {
            0 | 2 | 3 | 5 | 6 | 8 | 9 => &self.short,
            1 | 4 | 7 | 10 => &self.medium,
            _ => &self.long,
        }
    }
}

/// What the far end of a lane does with what the gateway sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FarEnd {
    /// Lets the device have it.
    Device,
    /// Answers what needs an answer, and notes from which port each flow came.
    Answers,
}

/// Says what a lane does from its next burst on.
#[derive(Clone, Debug)]
pub(crate) struct Remote(Sender<Order>);

#[derive(Debug)]
enum Order {
    Traffic(Traffic),
    FarEnd(FarEnd),
    Ports(Sender<Vec<u16>>),
}

impl Remote {
    /// Lets this arrive.
    pub(crate) fn send(&self, traffic: Traffic) -> Result<()> {
        self.order(Order::Traffic(traffic))
    }

    /// Has the far end do this.
    pub(crate) fn far_end(&self, far_end: FarEnd) -> Result<()> {
        self.order(Order::FarEnd(far_end))
    }

    /// Asks for the ports that the far end noted, by the number of the flow: they come with the
    /// lane's next burst.
    pub(crate) fn ports(&self) -> Result<Receiver<Vec<u16>>> {
        let (sender, receiver) = channel();
        self.order(Order::Ports(sender))?;
        Ok(receiver)
    }

    fn order(&self, order: Order) -> Result<()> {
        self.0.send(order).ok().context("the worker is gone")
    }
}

/// One port of a worker under test.
#[derive(Debug)]
pub(crate) struct Lane {
    queues: QueuePair,
    pool: Mempool,
    templates: Templates,
    orders: Receiver<Order>,
    traffic: Traffic,
    far_end: FarEnd,
    /// Answers that have not arrived yet.
    answers: Burst,
    /// Source ports by the number of the flow.
    ports: Vec<u16>,
}

impl Lane {
    /// A lane to the gateway's interface with address `gateway`, and its remote.
    pub(crate) fn new(queues: QueuePair, pool: &Mempool, gateway: Mac) -> (Self, Remote) {
        let (sender, orders) = channel();
        let lane = Self {
            queues,
            pool: pool.clone(),
            templates: Templates::new(gateway),
            orders,
            traffic: Traffic::Nothing,
            far_end: FarEnd::Device,
            answers: Burst::new(),
            ports: Vec::new(),
        };
        (lane, Remote(sender))
    }

    #[cold]
    fn obey(&mut self, order: Order) {
        match order {
            Order::Traffic(traffic) => self.traffic = traffic,
            Order::FarEnd(far_end) => self.far_end = far_end,
            Order::Ports(reply) => {
                // Nobody waits any more when this fails.
                let _ = reply.send(std::mem::take(&mut self.ports));
            }
        }
    }

    fn open(&mut self, burst: &mut Burst) {
        let Traffic::Openings { kind, flows } = &mut self.traffic else {
            return;
        };
        let template = match kind {
            Opening::Udp => &self.templates.short,
            Opening::Tcp => &self.templates.syn,
        };
        while !burst.is_full()
            && let Some(number) = flows.next()
            && let Some(mut mbuf) = self.pool.allocate()
        {
            let flow = Flow::number(number);
            if let Some(frame) = mbuf.append(SHORTEST) {
                match kind {
                    Opening::Udp => template.write(frame, flow.client, flow.server),
                    Opening::Tcp => {
                        template.write_segment(frame, flow.client, flow.server, CLIENT_ISN, 0);
                    }
                }
            }
            // There is room.
            let _ = burst.push(mbuf);
        }
    }

    /// The answer to a frame, written into it; nothing where there is none.
    fn answer(&mut self, mut mbuf: Mbuf) -> Option<Mbuf> {
        let frame = mbuf.data_mut();
        let Arrived {
            from,
            to,
            protocol,
            flags,
            ..
        } = Arrived::read(frame)?;
        let from_client = to.port == SERVER_PORT;
        if from_client {
            self.note(Flow::of_server(to.address), from.port);
        }
        let templates = &self.templates;
        match (protocol, from_client, flags & (tcp::SYN | tcp::ACK)) {
            (ipv4::PROTOCOL_UDP, true, _) => templates.short.write(frame, to, from),
            (ipv4::PROTOCOL_TCP, true, tcp::SYN) => {
                let (seq, ack) = (SERVER_ISN, CLIENT_ISN + 1);
                templates.syn_ack.write_segment(frame, to, from, seq, ack);
            }
            (ipv4::PROTOCOL_TCP, false, SYN_ACK) => {
                let (seq, ack) = (CLIENT_ISN + 1, SERVER_ISN + 1);
                templates.ack.write_segment(frame, to, from, seq, ack);
            }
            _ => return None,
        }
        Some(mbuf)
    }

    fn note(&mut self, flow: u32, port: u16) {
        let flow = flow as usize;
        if flow >= self.ports.len() {
            self.ports.resize(flow + 1, 0);
        }
        self.ports[flow] = port;
    }
}

const SYN_ACK: u8 = tcp::SYN | tcp::ACK;

impl PortIo for Lane {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order);
        }
        let before = burst.len();
        if !self.answers.is_empty() {
            for mbuf in self.answers.drain() {
                // Both bursts are of one size, and a worker hands in an empty one.
                let _ = burst.push(mbuf);
            }
            return burst.len() - before;
        }
        match &mut self.traffic {
            Traffic::Nothing => 0,
            Traffic::AsItIs => self.queues.receive(burst),
            Traffic::Openings { .. } => {
                self.open(burst);
                burst.len() - before
            }
            Traffic::Stamped(stream) => {
                let received = self.queues.receive(burst);
                stream.stamp(&mut burst[before..], &self.templates);
                received
            }
        }
    }

    fn transmit(&mut self, burst: &mut Burst) -> usize {
        if self.far_end == FarEnd::Device {
            return self.queues.transmit(burst);
        }
        let sent = burst.len();
        let mut taken = std::mem::take(burst);
        for mbuf in taken.drain() {
            if let Some(answer) = self.answer(mbuf) {
                // A worker receives before it sends as much again.
                let _ = self.answers.push(answer);
            }
        }
        sent
    }
}
