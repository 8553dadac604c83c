//! Two units of a cluster, their tables, and what lies between them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cluster::Time;
use dpdk::clock;
use forward::{DeltaKind, DeltaNotice, RingSizes};
use packet::Tuple;
use rtrb::{Consumer, Producer, RingBuffer};
use session::{Memory, Session, SessionId, Shard, State, TcpSide};

use crate::unit::{Control, Holder, NOW};

/// Changes between two turns of the control core.
const PER_TURN: u32 = 1_024;
/// As many as the goal of a million per second makes of them.
const TURN: Duration = Duration::from_micros(PER_TURN as u64);
/// Turns after which something that has to come does not come any more.
const PATIENCE: u32 = 100_000;
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const POOL: u32 = 0x6440_0000;
const CLIENTS: u32 = 0x0a00_0000;
/// Sessions are visited in steps of this prime, so that successive ones share no cache line.
const STRIDE: u64 = 1_000_003;

/// What the sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP sessions with NAT",
            Self::Tcp => "TCP sessions with NAT",
        }
    }

    /// Session number `n`, translated to an address and port of its own.
    fn session(self, n: u32) -> Session {
        let port = |n: u32| u16::try_from(1_024 + n % 60_000).unwrap_or(u16::MAX);
        let number = match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        };
        let client = Ipv4Addr::from_bits(CLIENTS + n / 64);
        let translated = Ipv4Addr::from_bits(POOL + n / 60_000);
        let original = Tuple::v4(client, port(n % 64), SERVER, 443, number);
        let reply = Tuple::v4(SERVER, 443, translated, port(n), number);
        let side = TcpSide {
            end: n,
            max_end: n.wrapping_add(65_535),
            max_window: 65_535,
            scale: 7,
            sack: true,
        };
        let (state, tcp) = match self {
            Self::Udp => (State::Replied, [TcpSide::default(); 2]),
            Self::Tcp => (State::Established, [side; 2]),
        };
        Session {
            tuples: [original, reply],
            state,
            owner: 1,
            tcp,
            ..Session::default()
        }
    }
}

/// Cycles per change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) sender: f64,
    pub(super) receiver: f64,
    pub(super) worker: f64,
}

/// Cycles in all.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    sender: u64,
    receiver: u64,
    worker: u64,
}

/// Two units: the first is primary and sends.
pub(super) struct Pair {
    sender: Control,
    /// The sender's table.
    shard: Shard,
    receiver: Holder,
    notices: (Producer<DeltaNotice>, Consumer<DeltaNotice>),
    ids: Vec<SessionId>,
    sessions: u32,
    protocol: Protocol,
    memory: Memory,
    now: Time,
    spent: Spent,
    boots: u64,
}

impl Pair {
    /// Two units that know each other and have no sessions.
    pub(super) fn new(sessions: u32, protocol: Protocol, memory: Memory) -> Result<Self> {
        let now = Time(1_000_000_000);
        let shard = Shard::new(session::Settings::new(sessions), memory)?;
        let mut pair = Self {
            sender: Control::new(1, 1, shard.reader(), now)?,
            shard,
            receiver: Holder::new(2, 2, sessions, memory, now)?,
            notices: RingBuffer::new(RingSizes::default().deltas),
            ids: Vec::with_capacity(sessions as usize),
            sessions,
            protocol,
            memory,
            now,
            spent: Spent::default(),
            boots: 2,
        };
        pair.settle()?;
        Ok(pair)
    }

    /// All sessions begin.
    pub(super) fn begin_all(&mut self) -> Result<Cost> {
        self.change_each(|pair, n| {
            let mut session = pair.protocol.session(n);
            session.version = pair.shard.next_version(1);
            let inserted = pair.shard.insert(session, NOW);
            let id = inserted.map_err(|why| anyhow!("session {n}: {why:?}"))?.id;
            pair.ids.push(id);
            pair.notify(DeltaKind::Begin, id, &session)
        })
    }

    /// Each session changes once.
    pub(super) fn change_all(&mut self) -> Result<Cost> {
        self.change_each(|pair, n| {
            let id = pair.ids[pair.scattered(n)];
            pair.shard.adopt(id, 1, 1, NOW);
            let session = pair.shard.session(id);
            pair.notify(DeltaKind::Upsert, id, &session)
        })
    }

    /// The receiver starts anew and copies all sessions.
    pub(super) fn copy_all(&mut self) -> Result<Cost> {
        self.boots += 1;
        self.receiver = Holder::new(2, self.boots, self.sessions, self.memory, self.now)?;
        self.spent = Spent::default();
        self.settle()?;
        self.costs()
    }

    /// All sessions end.
    pub(super) fn end_all(&mut self) -> Result<Cost> {
        self.change_each(|pair, n| {
            let id = pair.ids[pair.scattered(n)];
            let session = pair.shard.remove(id).context("it is gone already")?;
            pair.notify(DeltaKind::Remove, id, &session)
        })
    }

    /// Nothing changes, and both units read all their slots once to compare their tables.
    pub(super) fn compare_all(&mut self) -> Result<Cost> {
        self.pass()?;
        self.spent = Spent::default();
        self.pass()?;
        let counters = self.receiver.control.node.sync_counters();
        ensure!(counters.digests_different == 0, "equal tables differ");
        self.costs()
    }

    /// Turns until the first unit has read its table once more.
    fn pass(&mut self) -> Result<()> {
        let before = self.sender.node.sync_counters().digest_passes;
        for _ in 0..PATIENCE {
            self.turn()?;
            if self.sender.node.sync_counters().digest_passes > before {
                return Ok(());
            }
        }
        Err(anyhow!("the table is not read for digests"))
    }

    fn scattered(&self, n: u32) -> usize {
        let place = u64::from(n) * STRIDE % u64::from(self.sessions);
        usize::try_from(place).unwrap_or_default()
    }

    fn notify(&mut self, kind: DeltaKind, id: SessionId, session: &Session) -> Result<()> {
        let notice = DeltaNotice {
            kind,
            tuple: session.tuples[0],
            id,
            version: session.version,
        };
        let pushed = self.notices.0.push(notice);
        pushed.ok().context("the ring of changes is full")
    }

    /// Makes a change to each session, and sees to it that the peer gets it in the stream.
    fn change_each(
        &mut self,
        mut change: impl FnMut(&mut Self, u32) -> Result<()>,
    ) -> Result<Cost> {
        self.spent = Spent::default();
        let before = *self.sender.node.sync_counters();
        let mut n = 0;
        while n < self.sessions {
            let end = n.saturating_add(PER_TURN).min(self.sessions);
            while n < end {
                change(self, n)?;
                n += 1;
            }
            self.turn()?;
        }
        self.settle()?;
        let after = self.sender.node.sync_counters();
        ensure!(
            after.repairs_begun == before.repairs_begun && after.overflows == before.overflows,
            "a change went by way of a repair"
        );
        ensure!(
            after.deltas_sent - before.deltas_sent == u64::from(self.sessions),
            "not every change was sent"
        );
        self.costs()
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn costs(&self) -> Result<Cost> {
        let held = [&self.shard, &self.receiver.shard].map(Shard::len);
        ensure!(
            held[0] == held[1],
            "the sender holds {} sessions, the receiver {}",
            held[0],
            held[1]
        );
        let each = |cycles: u64| cycles as f64 / f64::from(self.sessions);
        Ok(Cost {
            sender: each(self.spent.sender),
            receiver: each(self.spent.receiver),
            worker: each(self.spent.worker),
        })
    }

    /// Turns until the first unit is primary and the second one holds everything.
    fn settle(&mut self) -> Result<()> {
        for _ in 0..PATIENCE {
            self.turn()?;
            let all = self.sender.leads(self.now)
                && self.receiver.is_whole(self.shard.len(), self.now)
                && self.shard.len() == self.receiver.shard.len();
            if all && self.notices.1.is_empty() {
                return Ok(());
            }
        }
        Err(anyhow!("the second unit does not get everything"))
    }

    /// One turn of both control cores and of the receiver's worker.
    fn turn(&mut self) -> Result<()> {
        self.now = self.now + TURN;
        let start = clock::cycles();
        self.sender.take_changes(&mut self.notices.1, self.now);
        self.sender.poll(self.now, |_| Ok(()))?;
        let sent = clock::cycles();
        self.receiver.receive(&mut self.sender.sent, self.now)?;
        let received = clock::cycles();
        self.receiver.apply();
        let applied = clock::cycles();
        self.sender
            .take_frames(&mut self.receiver.control.sent, self.now);
        let acknowledged = clock::cycles();
        self.spent.sender += sent - start + (acknowledged - applied);
        self.spent.receiver += received - sent;
        self.spent.worker += applied - received;
        Ok(())
    }
}
