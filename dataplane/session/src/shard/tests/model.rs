//! Random operations on a shard and on a plain list of sessions: both must answer alike.

use proptest::prelude::*;

use super::*;
use crate::shard::Displaced;

const CAPACITY: u32 = 8;
const HALF_OPEN_LIMIT: u32 = 5;
/// Clients; each may have any of the outside ports, so that reply tuples collide.
const CLIENTS: u32 = 12;
const PORTS: u32 = 10;

#[derive(Clone, Debug)]
enum Operation {
    Insert(Draft),
    Remove {
        client: u32,
    },
    Touch {
        client: u32,
    },
    Reply {
        client: u32,
    },
    Adopt {
        client: u32,
        unit: u8,
    },
    Assign {
        client: u32,
        unit: u8,
    },
    Apply {
        draft: Draft,
        version: u64,
        remaining: u32,
    },
    Retract {
        client: u32,
        version: u64,
    },
    Age {
        ticks: u32,
        decision: Ageing,
    },
}

#[derive(Clone, Copy, Debug)]
struct Draft {
    client: u32,
    port: u32,
    state: State,
    owner: u8,
}

impl Draft {
    fn session(self, version: Version, last_seen: Tick) -> Session {
        let mut tuples = [session(self.client).tuples[0], session(self.port).tuples[1]];
        tuples.iter_mut().for_each(|tuple| tuple.protocol = 6);
        Session {
            tuples,
            version,
            state: self.state,
            owner: self.owner,
            last_seen,
            ..Session::default()
        }
    }
}

fn drafts() -> impl Strategy<Value = Draft> {
    let parts = (0..CLIENTS, 0..PORTS, 0_u8..8, 1_u8..4);
    parts.prop_map(|(client, port, state, owner)| Draft {
        client,
        port,
        state: State::from_bits(state),
        owner,
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    let client = 0..CLIENTS;
    let decision =
        prop_oneof![3 => Just(Ageing::Normal), 1 => Just(Ageing::Defer), 1 => Just(Ageing::Adopt)];
    prop_oneof![
        6 => drafts().prop_map(Operation::Insert),
        2 => client.clone().prop_map(|client| Operation::Remove { client }),
        2 => client.clone().prop_map(|client| Operation::Touch { client }),
        2 => client.clone().prop_map(|client| Operation::Reply { client }),
        1 => (client.clone(), 1_u8..4).prop_map(|(client, unit)| Operation::Adopt { client, unit }),
        1 => (client.clone(), 1_u8..4).prop_map(|(client, unit)| Operation::Assign { client, unit }),
        4 => (drafts(), 0_u64..60, 0_u32..90_000).prop_map(|(draft, version, remaining)| {
            Operation::Apply { draft, version, remaining }
        }),
        2 => (client, 0_u64..60)
            .prop_map(|(client, version)| Operation::Retract { client, version }),
        4 => (prop_oneof![0_u32..500, 0_u32..90_000], decision)
            .prop_map(|(ticks, decision)| Operation::Age { ticks, decision }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Held {
    session: Session,
    /// The order in which half-open sessions came.
    half_open: Option<u64>,
    reprieved: bool,
    not_before: Tick,
}

#[derive(Default)]
struct Model {
    held: Vec<Held>,
    clock: Version,
    count: u64,
}

impl Model {
    fn next_version(&mut self) -> Version {
        self.clock = self.clock.next(0);
        self.clock
    }

    fn holder(&self, tuple: &Tuple) -> Option<usize> {
        self.held
            .iter()
            .position(|held| held.session.tuples.contains(tuple))
    }

    fn client(&self, client: u32) -> Option<usize> {
        let tuple = Draft {
            client,
            port: 0,
            state: State::Reset,
            owner: 0,
        }
        .session(Version(0), Tick(0))
        .tuples[0];
        self.holder(&tuple)
    }

    fn half_open(&self) -> usize {
        self.held
            .iter()
            .filter(|held| held.half_open.is_some())
            .count()
    }

    fn evict(&mut self) -> Option<Session> {
        let oldest = self
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.half_open.is_some());
        let (at, _) = oldest.min_by_key(|(_, held)| held.half_open)?;
        Some(self.held.remove(at).session)
    }

    fn add(&mut self, session: Session) {
        let reprieved = false;
        let held = Held {
            session,
            half_open: None,
            reprieved,
            not_before: Tick(0),
        };
        self.held.push(held);
        self.clock = self.clock.max(session.version);
        let at = self.held.len() - 1;
        self.update(at, session);
    }

    fn update(&mut self, at: usize, session: Session) {
        self.count += 1;
        let held = &mut self.held[at];
        let half_open = is_half_open(session.state).then_some(self.count);
        held.half_open = half_open.map(|count| held.half_open.unwrap_or(count));
        held.session = session;
        held.not_before = Tick(0);
    }

    fn insert(&mut self, session: Session) -> Result<Option<Session>, Refused> {
        if session
            .tuples
            .iter()
            .any(|tuple| self.holder(tuple).is_some())
        {
            let hit = Hit::new(SessionId(0), Direction::Original);
            return Err(Refused::Exists(hit));
        }
        let at_limit = is_half_open(session.state) && self.half_open() >= HALF_OPEN_LIMIT as usize;
        let full = self.held.len() == CAPACITY as usize;
        let evicted = if at_limit || full { self.evict() } else { None };
        if full && evicted.is_none() {
            return Err(Refused::Full);
        }
        self.add(session);
        Ok(evicted)
    }

    fn apply(&mut self, session: Session) -> (&'static str, Vec<Session>) {
        self.clock = self.clock.max(session.version);
        let key = |s: &Session| (s.version, s.owner, s.tuples[0]);
        let mut holders: Vec<_> = session
            .tuples
            .iter()
            .filter_map(|tuple| self.holder(tuple))
            .collect();
        if holders
            .iter()
            .any(|&at| key(&self.held[at].session) >= key(&session))
        {
            return ("stale", vec![]);
        }
        if let Some(&at) = holders.first()
            && self.held[at].session.tuples == session.tuples
        {
            self.update(at, session);
            self.held[at].reprieved = false;
            return ("updated", vec![]);
        }
        holders.sort_unstable();
        holders.dedup();
        let mut displaced: Vec<_> = holders
            .iter()
            .rev()
            .map(|&at| self.held.remove(at).session)
            .collect();
        if self.held.len() == CAPACITY as usize {
            match self.evict() {
                Some(evicted) => displaced.push(evicted),
                None => return ("full", vec![]),
            }
        }
        self.add(session);
        ("inserted", displaced)
    }

    fn age(&mut self, now: Tick, decision: Ageing) -> Vec<Session> {
        let timeouts = Timeouts::default();
        let mut expired = Vec::new();
        self.held.retain_mut(|held| {
            let due = timeouts.remaining(&held.session, now) == 0 && held.not_before <= now;
            match decision {
                _ if !due => true,
                Ageing::Defer => {
                    held.not_before = now.plus(100);
                    true
                }
                Ageing::Adopt if !held.reprieved => {
                    held.reprieved = true;
                    held.session.last_seen = now;
                    true
                }
                _ => {
                    expired.push(held.session);
                    false
                }
            }
        });
        expired
    }
}

fn sorted(sessions: impl IntoIterator<Item = Session>) -> Vec<(Tuple, Version)> {
    let mut keys: Vec<_> = sessions
        .into_iter()
        .map(|s| (s.tuples[0], s.version))
        .collect();
    keys.sort();
    keys
}

/// Does `operation` to both and compares the answers.
fn step(shard: &mut Shard, model: &mut Model, now: &mut Tick, operation: Operation) {
    let id_of = |shard: &Shard, model: &Model, at: usize| {
        shard
            .lookup(&model.held[at].session.tuples[0])
            .unwrap()
            .id()
    };
    match operation {
        Operation::Insert(draft) => {
            let version = shard.next_version(0);
            assert_eq!(version, model.next_version());
            let session = draft.session(version, *now);
            let expected = model.insert(session);
            match (shard.insert(session, *now), expected) {
                (Ok(inserted), Ok(evicted)) => assert_eq!(inserted.evicted, evicted),
                (Err(Refused::Exists(_)), Err(Refused::Exists(_))) => {}
                (found, expected) => assert_eq!(found.map(|i| i.evicted), expected),
            }
        }
        Operation::Remove { client } => {
            let Some(at) = model.client(client) else {
                return;
            };
            let id = id_of(shard, model, at);
            assert_eq!(shard.remove(id), Some(model.held.remove(at).session));
        }
        Operation::Touch { client } => {
            let Some(at) = model.client(client) else {
                return;
            };
            let id = id_of(shard, model, at);
            shard.touch(Hit::new(id, Direction::Reply), *now);
            model.held[at].session.last_seen = *now;
        }
        Operation::Reply { client } => {
            let Some(at) = model.client(client) else {
                return;
            };
            let hit = Hit::new(id_of(shard, model, at), Direction::Reply);
            let mut session = Session {
                last_seen: *now,
                ..model.held[at].session
            };
            let verdict = shard.datagram(hit, *now, 0);
            assert_eq!(
                verdict == Verdict::PassChanged,
                session.state == State::Unreplied
            );
            model.held[at].session = session;
            if session.state == State::Unreplied {
                session.state = State::Replied;
                session.version = model.next_version();
                model.update(at, session);
            }
        }
        Operation::Adopt { client, unit } => {
            let Some(at) = model.client(client) else {
                return;
            };
            shard.adopt(id_of(shard, model, at), unit, 0, *now);
            let mut session = model.held[at].session;
            session.version = model.next_version();
            (session.owner, session.last_seen) = (unit, *now);
            session.assigned = false;
            if !matches!(session.state, State::Unreplied | State::Replied) {
                let relearn = Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY;
                session.flags = session.flags.with(relearn);
            }
            model.update(at, session);
            model.held[at].reprieved = false;
        }
        Operation::Assign { client, unit } => {
            let Some(at) = model.client(client) else {
                return;
            };
            let hit = Hit::new(id_of(shard, model, at), Direction::Original);
            shard.assign(hit, unit);
            let session = &mut model.held[at].session;
            (session.owner, session.assigned) = (unit, true);
        }
        Operation::Apply {
            draft,
            version,
            remaining,
        } => {
            let timeout = Timeouts::default().of(draft.state, 6);
            let last_seen = Tick(now.0 + remaining.min(timeout) - timeout);
            let session = draft.session(Version(version), last_seen);
            let (expected, displaced) = model.apply(session);
            let (found, sessions) = match shard.apply(&session, remaining, *now) {
                Applied::Inserted(displaced) => ("inserted", displaced),
                Applied::Updated => ("updated", Displaced::default()),
                Applied::Stale => ("stale", Displaced::default()),
                Applied::Full => ("full", Displaced::default()),
            };
            assert_eq!((found, sorted(sessions)), (expected, sorted(displaced)));
        }
        Operation::Retract { client, version } => {
            let version = Version(version);
            let tuple = Draft {
                client,
                port: 0,
                state: State::Reset,
                owner: 0,
            }
            .session(version, *now)
            .tuples[0];
            model.clock = model.clock.max(version);
            let at = model
                .client(client)
                .filter(|&at| model.held[at].session.version <= version);
            assert_eq!(shard.retract(&tuple, version), at.is_some());
            at.map(|at| model.held.remove(at));
        }
        Operation::Age { ticks, decision } => {
            // As a worker does it, with far less than a turn of the wheel between two calls.
            let end = now.plus(ticks);
            while *now < end {
                *now = now.plus(4_000).min(end);
                let mut expired = Vec::new();
                shard.age(
                    *now,
                    usize::MAX,
                    |_| decision,
                    |_, session| expired.push(session),
                );
                assert_eq!(sorted(expired), sorted(model.age(*now, decision)));
            }
        }
    }
}

fn compare(shard: &Shard, model: &Model) {
    assert_eq!(shard.len() as usize, model.held.len());
    assert_eq!(shard.statistics().half_open, model.half_open() as u64);
    let tuples: Vec<_> = (0..CLIENTS.max(PORTS))
        .flat_map(|i| {
            Draft {
                client: i,
                port: i,
                state: State::Reset,
                owner: 0,
            }
            .session(Version(0), Tick(0))
            .tuples
        })
        .collect();
    let keys: Vec<_> = tuples.iter().map(Key::from).collect();
    let mut hits = vec![None; tuples.len()];
    shard.lookup_burst(&keys, &mut hits);
    let reader = shard.reader();
    for unit in 1..4 {
        let owned = model.held.iter().filter(|held| held.session.owner == unit);
        assert_eq!(reader.owned(unit) as usize, owned.count());
    }
    for (tuple, hit) in tuples.iter().zip(hits) {
        let expected = model.holder(tuple).map(|at| model.held[at].session);
        let single = shard.lookup(tuple);
        assert_eq!(single, hit);
        assert_eq!(single.map(|hit| shard.session(hit.id())), expected);
        assert_eq!(reader.lookup(tuple), single.zip(expected));
        if let (Some(hit), Some(session)) = (single, expected) {
            assert_eq!(session.tuples[hit.direction() as usize], *tuple);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_behaves_like_a_list(steps in prop::collection::vec(operations(), 1..150)) {
        let settings =
            Settings { half_open_limit: Some(HALF_OPEN_LIMIT), ..Settings::new(CAPACITY) };
        let mut shard = Shard::new(settings, Memory::Plain).unwrap();
        let mut model = Model::default();
        let mut now = Tick::START;
        for operation in steps {
            step(&mut shard, &mut model, &mut now, operation);
            compare(&shard, &model);
        }
    }
}
