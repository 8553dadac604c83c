//! A node with a peer whose heartbeats are written here.

use std::time::Duration;

use packet::Tuple;
use session::Session;

use crate::envelope::{Header, Kind, Seal};
use crate::heartbeat::{Heard, Heartbeat};
use crate::{
    Action, Boot, Cause, Command, Health, Key, LinkId, LinkKind, LinkSettings, Neighbour, Node,
    Refusal, Rejection, Role, Schedule, SessionSource, Settings, Time, UnitId, envelope,
};

pub(in crate::node) use Role::{Candidate as C, Maintenance as M, Primary as P, Subordinate as S};

pub(in crate::node) const MS: u64 = 1_000_000;
pub(in crate::node) const PEER_BOOT: Boot = Boot(77 << 32);

pub(in crate::node) struct NoSessions;

impl SessionSource for NoSessions {
    fn shards(&self) -> u16 {
        1
    }
    fn slots(&self, _shard: u16) -> u32 {
        0
    }
    fn read(&self, _shard: u16, _slot: u32) -> Option<(Session, u32)> {
        None
    }
    fn find(&self, _original: &Tuple) -> Option<(Session, u32)> {
        None
    }
}

pub(in crate::node) fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

pub(in crate::node) fn settings() -> Settings {
    let link = |name: &str, kind, weight| LinkSettings {
        name: name.into(),
        kind,
        weight,
    };
    Settings {
        cluster: 7,
        unit: unit(1),
        name: "gw-a".into(),
        priority: 100,
        preempt: false,
        heartbeat_interval: Duration::from_millis(10),
        heartbeat_loss: 3,
        hello_holddown: Duration::from_millis(100),
        age_margin: Duration::from_secs(300),
        announce_count: 5,
        announce_interval: Duration::from_millis(200),
        key: Key::new([1; 32]),
        boot: Boot(5),
        last_term: 0,
        links: vec![
            link("sync", LinkKind::Sync, 0),
            link("lan", LinkKind::Critical, 1),
        ],
        config_hash: 1,
        config_parts: Vec::new(),
        software: "0.1.0".into(),
        session_sync: false,
        shards: 1,
        witness: None,
        schedule: Schedule::None,
        weight: 1,
        stations: Vec::new(),
        protocol: envelope::VERSION,
    }
}

/// Unit 1, and unit 2 as this file plays it.
pub(in crate::node) struct Bench {
    pub(in crate::node) node: Node,
    pub(in crate::node) now: Time,
    pub(in crate::node) sequence: u64,
    pub(in crate::node) actions: Vec<Action>,
}

impl Bench {
    pub(in crate::node) fn fresh() -> Self {
        Self::with(settings())
    }

    pub(in crate::node) fn with(settings: Settings) -> Self {
        let now = Time(1_000 * MS);
        let mut node = Node::new(settings, now).unwrap();
        node.handle_workers(true, now);
        node.handle_link(LinkId(0), true, now);
        node.handle_link(LinkId(1), true, now);
        let mut bench = Self {
            node,
            now,
            sequence: 0,
            actions: Vec::new(),
        };
        bench.drain();
        bench
    }

    /// In a role, reached as units reach it.
    pub(in crate::node) fn in_role(role: Role) -> Self {
        let mut bench = Self::fresh();
        match role {
            Role::Candidate => {}
            Role::Subordinate => {
                bench.pass(150, |beat| beat.role = Role::Primary);
            }
            Role::Primary => {
                bench.idle(150);
                bench.pass(20, |_| {});
            }
            Role::Isolated => bench.workers(false),
            Role::Maintenance => bench.command(Command::Maintenance(true)).unwrap(),
        }
        assert_eq!(bench.node.role(), role);
        bench.actions.clear();
        bench
    }

    pub(in crate::node) fn drain(&mut self) {
        while let Some(action) = self.node.poll(&NoSessions, self.now) {
            self.actions.push(action);
        }
        assert!(self.node.next_deadline() > self.now);
    }

    /// Time passes and the peer is silent.
    pub(in crate::node) fn idle(&mut self, ms: u64) {
        let end = Time(self.now.0 + ms * MS);
        while self.node.next_deadline() <= end {
            self.now = self.node.next_deadline();
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    /// Time passes while the peer beats.
    pub(in crate::node) fn pass(&mut self, ms: u64, change: impl Fn(&mut Heartbeat)) {
        for _ in 0..ms / 10 {
            self.beat(&change);
            self.idle(10);
        }
        self.beat(&change);
    }

    pub(in crate::node) fn beat(&mut self, change: impl Fn(&mut Heartbeat)) {
        let frame = self.frame(change);
        self.node.handle_frame(LinkId(0), &frame, self.now);
        self.drain();
    }

    /// The peer sends a frame that is no heartbeat.
    pub(in crate::node) fn tell_nothing(&mut self) {
        let from = (2, PEER_BOOT);
        let frame = self.sealed(from, Kind::Neighbours, &Neighbour::encode(&[]));
        let refused = self.node.handle_frame(LinkId(0), &frame, self.now);
        assert_eq!(refused, None);
        self.drain();
    }

    pub(in crate::node) fn frame(&mut self, change: impl Fn(&mut Heartbeat)) -> Vec<u8> {
        self.frame_of(2, PEER_BOOT, change)
    }

    /// A heartbeat of another unit, or of another start of unit 2.
    pub(in crate::node) fn frame_of(
        &mut self,
        from: u8,
        boot: Boot,
        change: impl Fn(&mut Heartbeat),
    ) -> Vec<u8> {
        let mut beat = peer_beat();
        change(&mut beat);
        self.sealed((from, boot), Kind::Heartbeat, &beat.encode())
    }

    pub(in crate::node) fn sealed(
        &mut self,
        (from, boot): (u8, Boot),
        kind: Kind,
        body: &[u8],
    ) -> Vec<u8> {
        self.sequence += 1;
        let header = Header {
            version: envelope::VERSION,
            kind,
            cluster: 7,
            unit: unit(from),
            to: None,
            length: 0,
            boot,
            sequence: self.sequence,
        };
        Seal::new(&Key::new([1; 32]), 7, unit(from), boot).close(header, body)
    }

    pub(in crate::node) fn beat_of(
        &mut self,
        from: u8,
        boot: Boot,
        change: impl Fn(&mut Heartbeat),
    ) {
        let frame = self.frame_of(from, boot, change);
        self.node.handle_frame(LinkId(0), &frame, self.now);
        self.drain();
    }

    /// The heartbeat that the unit sent last.
    pub(in crate::node) fn sent(&self) -> Heartbeat {
        let own = settings();
        let seal = Seal::new(&own.key, own.cluster, own.unit, own.boot);
        let beats = self.actions.iter().rev().filter_map(|action| match action {
            Action::Send { payload, .. } => {
                let header = Header::decode(payload).unwrap();
                let body = seal.open(&header, payload).unwrap();
                (header.kind == Kind::Heartbeat).then(|| Heartbeat::decode(&body).unwrap())
            }
            _ => None,
        });
        beats.into_iter().next().unwrap()
    }

    /// Time passes while the peer beats, and another start of it. How often that was refused for which reason.
    pub(in crate::node) fn pass_with_rival(&mut self, ms: u64, rival: Boot) -> [u64; 2] {
        let reasons = [Rejection::Unverified, Rejection::DuplicateUnit];
        let counted = |bench: &Self| reasons.map(|reason| bench.node.counters().rejected(reason));
        let before = counted(self);
        for _ in 0..ms / 10 {
            self.beat(|beat| (beat.role, beat.term) = (P, 3));
            let frame = self.frame_of(2, rival, |beat| beat.role = C);
            self.node.handle_frame(LinkId(0), &frame, self.now);
            self.drain();
            self.idle(10);
        }
        let after = counted(self);
        [0, 1].map(|n| after[n] - before[n])
    }

    pub(in crate::node) fn workers(&mut self, alive: bool) {
        self.node.handle_workers(alive, self.now);
        self.drain();
    }

    pub(in crate::node) fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let answer = self.node.handle_command(command, self.now);
        self.drain();
        answer
    }

    pub(in crate::node) fn promotions(&self) -> usize {
        self.actions
            .iter()
            .filter(|action| matches!(action, Action::Promote { .. }))
            .count()
    }

    pub(in crate::node) fn last_cause(&self) -> Cause {
        self.node.transitions().last().unwrap().cause
    }
}

/// A healthy subordinate that hears us.
pub(in crate::node) fn peer_beat() -> Heartbeat {
    let echo = Heard {
        unit: unit(1),
        boot: settings().boot,
        links: 0b11,
    };
    Heartbeat {
        term: 0,
        role: Role::Subordinate,
        workers: true,
        eligible: true,
        synced: true,
        yielding: false,
        preempt: false,
        maintenance: false,
        leaving: false,
        priority: 100,
        link: LinkId(0),
        successor: None,
        primary: None,
        shards: 1,
        primary_term: 0,
        primary_silence: Duration::ZERO,
        health: Health {
            healthy: 1,
            total: 1,
        },
        interval: Duration::from_millis(10),
        age: Duration::from_secs(1),
        config_hash: 1,
        load: crate::Load::default(),
        name: "gw-b".try_into().unwrap(),
        software: "0.1.0".try_into().unwrap(),
        heard: [echo].into_iter().collect(),
        positions: Default::default(),
        oldest: envelope::FIRST_VERSION,
        newest: envelope::VERSION,
        weight: 1,
        willing: true,
        stations: Default::default(),
        config_parts: Default::default(),
    }
}
