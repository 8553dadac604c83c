//! Every role against every event, with a peer whose heartbeats are written here.

mod found;

use std::time::Duration;

use packet::Tuple;
use session::Session;

use crate::envelope::{Header, Kind, Seal};
use crate::heartbeat::{Heard, Heartbeat};
use crate::{
    Action, Boot, Cause, Command, ConfigPart, Health, Key, LinkId, LinkKind, LinkSettings, Load,
    Neighbour, Node, Refusal, Rejection, Role, Schedule, SessionSource, Settings, Time, UnitId,
    envelope,
};

pub(super) const MS: u64 = 1_000_000;
const PEER_BOOT: Boot = Boot(77 << 32);

struct NoSessions;

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

pub(super) fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

pub(super) fn settings() -> Settings {
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
pub(super) struct Bench {
    pub(super) node: Node,
    pub(super) now: Time,
    sequence: u64,
    pub(super) actions: Vec<Action>,
}

impl Bench {
    fn fresh() -> Self {
        Self::with(settings())
    }

    pub(super) fn with(settings: Settings) -> Self {
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
    fn in_role(role: Role) -> Self {
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

    pub(super) fn drain(&mut self) {
        while let Some(action) = self.node.poll(&NoSessions, self.now) {
            self.actions.push(action);
        }
        assert!(self.node.next_deadline() > self.now);
    }

    /// Time passes and the peer is silent.
    pub(super) fn idle(&mut self, ms: u64) {
        let end = Time(self.now.0 + ms * MS);
        while self.node.next_deadline() <= end {
            self.now = self.node.next_deadline();
            self.drain();
        }
        self.now = end;
        self.drain();
    }

    /// Time passes while the peer beats.
    pub(super) fn pass(&mut self, ms: u64, change: impl Fn(&mut Heartbeat)) {
        for _ in 0..ms / 10 {
            self.beat(&change);
            self.idle(10);
        }
        self.beat(&change);
    }

    pub(super) fn beat(&mut self, change: impl Fn(&mut Heartbeat)) {
        let frame = self.frame(change);
        self.node.handle_frame(LinkId(0), &frame, self.now);
        self.drain();
    }

    /// The peer sends a frame that is no heartbeat.
    fn tell_nothing(&mut self) {
        let from = (2, PEER_BOOT);
        let frame = self.sealed(from, Kind::Neighbours, &Neighbour::encode(&[]));
        let refused = self.node.handle_frame(LinkId(0), &frame, self.now);
        assert_eq!(refused, None);
        self.drain();
    }

    fn frame(&mut self, change: impl Fn(&mut Heartbeat)) -> Vec<u8> {
        self.frame_of(2, PEER_BOOT, change)
    }

    /// A heartbeat of another unit, or of another start of unit 2.
    fn frame_of(&mut self, from: u8, boot: Boot, change: impl Fn(&mut Heartbeat)) -> Vec<u8> {
        let mut beat = peer_beat();
        change(&mut beat);
        self.sealed((from, boot), Kind::Heartbeat, &beat.encode())
    }

    fn sealed(&mut self, (from, boot): (u8, Boot), kind: Kind, body: &[u8]) -> Vec<u8> {
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

    fn beat_of(&mut self, from: u8, boot: Boot, change: impl Fn(&mut Heartbeat)) {
        let frame = self.frame_of(from, boot, change);
        self.node.handle_frame(LinkId(0), &frame, self.now);
        self.drain();
    }

    /// The heartbeat that the unit sent last.
    fn sent(&self) -> Heartbeat {
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
    fn pass_with_rival(&mut self, ms: u64, rival: Boot) -> [u64; 2] {
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

    fn workers(&mut self, alive: bool) {
        self.node.handle_workers(alive, self.now);
        self.drain();
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let answer = self.node.handle_command(command, self.now);
        self.drain();
        answer
    }

    pub(super) fn promotions(&self) -> usize {
        self.actions
            .iter()
            .filter(|action| matches!(action, Action::Promote { .. }))
            .count()
    }

    pub(super) fn last_cause(&self) -> Cause {
        self.node.transitions().last().unwrap().cause
    }
}

/// A healthy subordinate that hears us.
fn peer_beat() -> Heartbeat {
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

type Event = (&'static str, fn(&mut Bench), [Role; 5]);

use Role::{Candidate as C, Isolated as I, Maintenance as M, Primary as P, Subordinate as S};

/// What each event makes of a candidate, subordinate, primary, isolated and held-out unit.
const TABLE: [Event; 17] = [
    (
        "a primary of a higher term",
        |b| b.beat(|h| (h.role, h.term) = (P, 33)),
        [S, S, S, I, M],
    ),
    (
        "a primary of no term",
        |b| b.beat(|h| h.role = P),
        [S, S, P, I, M],
    ),
    ("an equal subordinate", |b| b.beat(|_| {}), [C, P, P, I, M]),
    (
        "an unverified primary",
        |b| {
            b.beat(|h| {
                h.role = P;
                h.heard.clear();
            })
        },
        [C, S, P, I, M],
    ),
    ("silence", |b| b.idle(40), [C, P, P, I, M]),
    (
        "silence beyond the hold-down",
        |b| b.idle(110),
        [P, P, P, I, M],
    ),
    ("workers stop", |b| b.workers(false), [I, I, I, I, M]),
    ("workers run", |b| b.workers(true), [C, S, P, C, M]),
    (
        "the monitored link fails",
        |b| {
            b.node.handle_link(LinkId(1), false, b.now);
            b.drain();
        },
        [I, S, S, I, M],
    ),
    (
        "maintenance begins",
        |b| {
            _ = b.command(Command::Maintenance(true));
        },
        [M, M, M, M, M],
    ),
    (
        "maintenance ends",
        |b| {
            _ = b.command(Command::Maintenance(false));
        },
        [C, S, P, I, C],
    ),
    (
        "fail over",
        |b| {
            _ = b.command(Command::Failover { to: None });
        },
        [C, S, S, I, M],
    ),
    (
        "leave",
        |b| {
            _ = b.command(Command::Leave);
        },
        [C, S, S, I, M],
    ),
    (
        "the peer yields to this unit",
        |b| {
            b.beat(|h| {
                h.yielding = true;
                h.eligible = false;
                h.successor = UnitId::new(1);
            })
        },
        [C, P, P, I, M],
    ),
    (
        "the peer yields to another",
        |b| {
            b.beat(|h| {
                h.yielding = true;
                h.eligible = false;
                h.successor = UnitId::new(3);
            })
        },
        // The other is not heard here, but may be by the one that yields.
        [C, C, P, I, M],
    ),
    (
        "the peer leaves",
        |b| {
            b.beat(|h| {
                h.leaving = true;
                h.eligible = false;
            })
        },
        [C, P, P, I, M],
    ),
    (
        "a healthier subordinate",
        |b| {
            b.beat(|h| {
                h.health = Health {
                    healthy: 2,
                    total: 2,
                }
            })
        },
        [C, C, S, I, M],
    ),
];

#[test]
fn every_role_meets_every_event() {
    for (name, happen, expected) in TABLE {
        for (from, to) in [C, S, P, I, M].into_iter().zip(expected) {
            let mut bench = Bench::in_role(from);
            happen(&mut bench);
            assert_eq!(bench.node.role(), to, "{name}, when {from}");
        }
    }
}

#[test]
fn detection_is_exact_and_promotes_in_the_same_call() {
    let mut bench = Bench::in_role(S);
    let heard = bench.now;
    bench.idle(29);
    assert_eq!(bench.node.role(), S);
    assert_eq!(bench.node.next_deadline(), Time(heard.0 + 30 * MS));
    bench.now = bench.node.next_deadline();
    assert_eq!(
        bench
            .node
            .poll(&NoSessions, bench.now)
            .map(|_| bench.node.role()),
        Some(P)
    );
    assert!(matches!(bench.last_cause(), Cause::PrimaryDied { .. }));
}

#[test]
fn other_frames_than_heartbeats_prove_life_and_move_no_heartbeat() {
    let died_after = |told_at: &[u64]| {
        let mut bench = Bench::in_role(S);
        let heard = bench.now;
        for at in told_at {
            bench.idle(heard.0 / MS + at - bench.now.0 / MS);
            bench.tell_nothing();
        }
        while bench.node.role() == S {
            bench.idle(1);
        }
        (bench.now.0 - heard.0) / MS
    };
    assert_eq!(died_after(&[]), 30);
    // The next heartbeat was due at 10 ms, whatever came before.
    assert_eq!(died_after(&[1, 9]), 30);
    // This one makes up for it: the third that is missing after it is due at 40 ms.
    assert_eq!(died_after(&[12]), 40);
    assert_eq!(died_after(&[7, 15, 29]), 50);
}

#[test]
fn copies_of_a_heartbeat_on_slower_links_postpone_nothing() {
    let mut bench = Bench::in_role(S);
    bench.idle(10);
    let heard = bench.now;
    // The peer's third link is the quickest, and its frame overtakes those that left before it.
    let copies = [0, 1, 2].map(|link| {
        bench.frame(|beat| {
            beat.role = P;
            beat.link = LinkId(link);
        })
    });
    for copy in copies.iter().rev() {
        assert_eq!(bench.node.handle_frame(LinkId(0), copy, bench.now), None);
        bench.idle(1);
    }
    bench.idle(26);
    assert_eq!(
        (bench.node.role(), bench.now.since(heard)),
        (S, Duration::from_millis(29))
    );
    bench.idle(1);
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_unit_that_was_stopped_itself_declares_nobody_dead() {
    let mut bench = Bench::in_role(S);
    bench.now = Time(bench.now.0 + 5_000 * MS);
    bench.drain();
    assert_eq!(bench.node.role(), S);
    assert_eq!(bench.node.counters().pauses, 1);
    bench.idle(31);
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_primary_announces_as_often_as_configured_and_again_after_an_episode_of_two() {
    let announced = |bench: &Bench| {
        bench
            .actions
            .iter()
            .filter(|action| **action == Action::Announce)
            .count()
    };
    let mut bench = Bench::in_role(P);
    bench.pass(2_000, |_| {});
    assert_eq!(announced(&bench) + 1, 5, "one went out on promotion");
    bench.beat(|beat| beat.role = P);
    bench.pass(2_000, |_| {});
    assert_eq!(bench.node.role(), P);
    assert_eq!(announced(&bench) + 1, 10);
    assert_eq!(bench.node.counters().dual_primaries, 1);
}

#[test]
fn a_split_brain_is_told_with_its_length_by_who_stays_and_by_who_falls() {
    for (term, stays) in [(0, true), (1_000, false)] {
        let mut bench = Bench::in_role(P);
        bench.idle(3_000);
        bench.actions.clear();
        bench.beat(|beat| (beat.role, beat.term) = (P, term));
        assert_eq!(bench.node.role(), if stays { P } else { S });
        bench.pass(50, |beat| beat.role = if stays { S } else { P });
        let told: Vec<String> = bench
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Event(
                    event @ (crate::Event::DualPrimary { .. }
                    | crate::Event::DualPrimaryEnded { .. }),
                ) => Some(event.to_string()),
                _ => None,
            })
            .collect();
        let (lasted, end) = match stays {
            true => ("3000.0", "this unit stays"),
            false => ("3000.0", "this unit stepped down"),
        };
        assert_eq!(
            told,
            [
                "unit 2 is primary too".to_owned(),
                format!("two primaries, with unit 2, for up to {lasted} ms; {end}"),
            ]
        );
        let counters = bench.node.counters();
        assert_eq!(counters.dual_primaries, 1);
        assert_eq!(counters.dual_primary_ms, 3_000);
    }
}

#[test]
fn a_primary_announces_again_when_a_link_of_a_peer_comes_back() {
    let mut bench = Bench::in_role(P);
    bench.pass(2_000, |_| {});
    let announced = |bench: &Bench| bench.node.counters().announcements;
    let before = announced(&bench);
    bench.idle(100);
    assert_eq!(announced(&bench), before);
    bench.pass(2_000, |_| {});
    assert_eq!(announced(&bench), before + 5);
}

#[test]
fn a_link_that_heals_moves_nothing_and_one_that_flaps_does_not_count() {
    let mut bench = Bench::in_role(S);
    for _ in 0..3 {
        for up in [false, true] {
            bench.node.handle_link(LinkId(1), up, bench.now);
            bench.pass(300, |beat| beat.role = P);
        }
    }
    assert_eq!(bench.node.status(bench.now).health.healthy, 0);
    bench.pass(1_000, |beat| beat.role = P);
    assert_eq!(bench.node.status(bench.now).health.healthy, 1);
    assert_eq!(bench.node.role(), S);
}

#[test]
fn a_sitting_primary_goes_above_a_higher_term_that_a_subordinate_knows() {
    let mut bench = Bench::in_role(P);
    bench.pass(50, |beat| beat.term = 40);
    assert_eq!((bench.node.role(), bench.node.term()), (P, 47));
    assert_eq!(bench.promotions(), 1);
}

#[test]
fn who_loses_the_better_unit_waits_for_it_and_then_serves() {
    let mut bench = Bench::in_role(S);
    let better = |beat: &mut Heartbeat| beat.priority = 200;
    bench.beat(better);
    assert_eq!(bench.node.role(), C);
    bench.pass(50, better);
    assert_eq!(bench.node.role(), C);
    bench.pass(20, better);
    assert_eq!(bench.last_cause(), Cause::Overdue { expected: unit(2) });
}

#[test]
fn refusals_say_why() {
    let mut bench = Bench::in_role(S);
    let refused = bench.command(Command::Failover { to: None });
    assert_eq!(
        refused,
        Err(Refusal::NotPrimary {
            role: S,
            primary: unit(2)
        })
    );
    let mut bench = Bench::in_role(P);
    let to = |id| Command::Failover {
        to: UnitId::new(id),
    };
    assert_eq!(bench.command(to(1)), Err(Refusal::AlreadyPrimary(unit(1))));
    assert_eq!(bench.command(to(9)), Err(Refusal::NotHeard(unit(9))));
    bench.beat(|beat| beat.synced = false);
    assert_eq!(bench.command(to(2)), Err(Refusal::NotSynced(unit(2))));
    bench.beat(|beat| beat.health.healthy = 0);
    let less = Refusal::LessHealthy {
        unit: unit(2),
        health: 0,
        own: 1,
    };
    assert_eq!(bench.command(to(2)), Err(less));
    bench.beat(|beat| beat.eligible = false);
    assert_eq!(
        bench.command(to(2)),
        Err(Refusal::NotEligible {
            unit: unit(2),
            role: S
        })
    );
    assert_eq!(
        bench.command(Command::Maintenance(true)),
        Err(Refusal::NoSuccessor)
    );
}

#[test]
fn a_fresh_unit_among_strangers_takes_no_role_and_one_that_has_peers_does() {
    let strange = |bench: &mut Bench| {
        bench.sequence += 1;
        let header = Header {
            version: 1,
            kind: Kind::Heartbeat,
            cluster: 7,
            unit: unit(3),
            to: None,
            length: 0,
            boot: PEER_BOOT,
            sequence: bench.sequence,
        };
        let other = Key::new([9; 32]);
        let frame = Seal::new(&other, 7, unit(3), PEER_BOOT).close(header, b"");
        let refused = bench.node.handle_frame(LinkId(0), &frame, bench.now);
        assert_eq!(refused, Some(Rejection::Authentication));
        bench.drain();
        bench.idle(10);
    };
    let mut bench = Bench::fresh();
    (0..50).for_each(|_| strange(&mut bench));
    assert_eq!(bench.node.role(), C);
    bench.idle(110);
    assert_eq!(bench.node.role(), P);
    let mut bench = Bench::in_role(S);
    (0..50).for_each(|_| strange(&mut bench));
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_third_unit_names_two_with_one_id_and_follows_the_one_it_knows() {
    for rival in [Boot(PEER_BOOT.0 + 9), Boot(PEER_BOOT.0 - 9)] {
        let mut bench = Bench::in_role(S);
        let refused = bench.pass_with_rival(500, rival);
        assert_eq!(refused, [4, 46], "named once it cannot be a restart");
        assert_eq!((bench.node.role(), bench.promotions()), (S, 0));
        assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
        let restarts =
            |action: &&Action| matches!(action, Action::Event(crate::Event::PeerRestarted { .. }));
        assert_eq!(bench.actions.iter().filter(restarts).count(), 0);

        // The one it knows dies, and the other one is what it says.
        for _ in 0..20 {
            let frame = bench.frame_of(2, rival, |beat| beat.role = C);
            bench.node.handle_frame(LinkId(0), &frame, bench.now);
            bench.idle(10);
        }
        assert_eq!(bench.node.start_of(unit(2)), Some(rival));
        assert_eq!(bench.actions.iter().filter(restarts).count(), 1);
        assert_eq!(bench.node.role(), P);
    }
}

#[test]
fn a_unit_that_starts_anew_at_once_is_not_taken_for_two() {
    let mut bench = Bench::in_role(S);
    bench.pass(50, |beat| (beat.role, beat.term) = (P, 3));
    let fresh = Boot(PEER_BOOT.0 + 9);
    for _ in 0..10 {
        let frame = bench.frame_of(2, fresh, |beat| beat.role = C);
        bench.node.handle_frame(LinkId(0), &frame, bench.now);
        bench.idle(10);
    }
    let counters = bench.node.counters();
    assert_eq!(counters.rejected(Rejection::DuplicateUnit), 0);
    assert_eq!(bench.node.start_of(unit(2)), Some(fresh));
}

#[test]
fn a_difference_of_configuration_is_told_once_and_named_as_far_as_both_tell() {
    let part = |name: &str, digest| ConfigPart {
        name: name.into(),
        digest,
    };
    let mut bench = Bench::with(Settings {
        config_parts: vec![
            part("cluster.preempt", 1),
            part("policy", 2),
            part("route", 3),
        ],
        ..settings()
    });
    let mut told = |hash, digests: &[(&str, u32)]| {
        bench.actions.clear();
        bench.pass(50, |beat| {
            beat.config_hash = hash;
            let parts = digests.iter();
            beat.config_parts = parts.map(|(name, d)| (crate::name_key(name), *d)).collect();
        });
        let events = bench.actions.iter().filter_map(|action| match action {
            Action::Event(event @ crate::Event::ConfigurationDiffers { .. })
            | Action::Event(event @ crate::Event::ConfigurationAgrees { .. }) => Some(event),
            _ => None,
        });
        let lines: Vec<String> = events.map(ToString::to_string).collect();
        (
            lines,
            bench.node.status(bench.now).peers[0].differences.clone(),
        )
    };
    let same = [("cluster.preempt", 1), ("policy", 2), ("route", 3)];
    let other = [("cluster.preempt", 9), ("policy", 9), ("route", 3)];
    let line = |text: &str| vec![format!("unit 2 has {text}")];
    let policy = vec!["policy".to_owned()];
    assert_eq!(told(1, &same), (vec![], vec![]));
    assert_eq!(
        told(7, &other),
        (
            line("a different configuration: cluster.preempt, policy"),
            vec!["cluster.preempt".to_owned(), "policy".to_owned()]
        )
    );
    let other = [
        ("policy", 9),
        ("cluster.preempt", 1),
        ("route", 3),
        ("new", 5),
    ];
    assert_eq!(
        told(8, &other),
        (line("a different configuration: policy"), policy)
    );
    // An older release tells no parts.
    assert_eq!(told(8, &[]), (line("a different configuration"), vec![]));
    assert_eq!(
        told(1, &same),
        (line("the same configuration again"), vec![])
    );
}

#[test]
fn bad_frames_are_counted_by_reason_and_change_nothing() {
    let mut bench = Bench::in_role(S);
    let good = bench.frame(|beat| (beat.role, beat.term) = (P, 3));
    let altered = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let own = {
        let key = Key::new([1; 32]);
        let mut header = Header::decode(&good).unwrap();
        header.unit = unit(1);
        let frame = |header: Header| Seal::new(&key, 7, unit(1), header.boot).close(header, b"");
        (
            frame(Header {
                boot: settings().boot,
                ..header
            }),
            frame(header),
        )
    };
    let malformed = {
        let mut header = Header::decode(&good).unwrap();
        header.sequence += 1;
        Seal::new(&Key::new([1; 32]), 7, unit(2), PEER_BOOT).close(header, b"short")
    };
    let cases = [
        (Rejection::Truncated, good[..good.len() - 1].to_vec()),
        (Rejection::Version, altered(0, envelope::VERSION + 1)),
        (Rejection::Cluster, altered(3, 8)),
        (Rejection::Kind, altered(1, 9)),
        (Rejection::Unit, altered(4, 17)),
        (Rejection::Own, own.0),
        (Rejection::DuplicateUnit, own.1),
        (Rejection::Addressee, altered(5, 3)),
        (Rejection::Authentication, altered(24, good[24] ^ 1)),
        (Rejection::Malformed, malformed),
    ];
    for (reason, frame) in cases {
        bench.node.handle_frame(LinkId(0), &frame, bench.now);
        assert_eq!(bench.node.counters().rejected(reason), 1, "{reason}");
    }
    bench.node.handle_frame(LinkId(9), &good, bench.now);
    bench.node.handle_frame(LinkId(0), &good, bench.now);
    assert_eq!(bench.node.term(), 3);
    bench.node.handle_frame(LinkId(1), &good, bench.now);
    assert_eq!(bench.node.counters().rejected(Rejection::Link), 1);
    assert_eq!(bench.node.counters().rejected(Rejection::Replayed), 1);
    assert_eq!(bench.node.role(), S);
}

#[test]
fn a_table_that_is_too_small_is_told_once_and_is_not_whole() {
    let mut bench = Bench::in_role(Role::Subordinate);
    let load = Load {
        capacity: 1_000,
        ..Load::default()
    };
    bench.node.handle_load(load, bench.now);
    let beats = |bench: &mut Bench, sessions| {
        bench.pass(50, |beat| {
            beat.role = Role::Primary;
            beat.load.sessions = sessions;
        });
        bench.node.status(bench.now).synced
    };
    assert!(beats(&mut bench, 1_000));
    assert!(!beats(&mut bench, 1_001));
    assert!(!beats(&mut bench, 960), "it must not flap");
    assert!(beats(&mut bench, 950));
    let told: Vec<crate::Event> = bench
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Event(
                event @ (crate::Event::TableTooSmall { .. } | crate::Event::TableSuffices { .. }),
            ) => Some(event.clone()),
            _ => None,
        })
        .collect();
    let too_small = crate::Event::TableTooSmall {
        primary: unit(2),
        sessions: 1_001,
        capacity: 1_000,
    };
    assert_eq!(
        told,
        [too_small, crate::Event::TableSuffices { capacity: 1_000 }]
    );
}
