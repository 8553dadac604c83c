//! A few whole units on one link that loses nothing, with tables that are maps. Time jumps to whatever is next.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::{
    Action, Boot, Delta, Distribution, Duty, Event, Key, LinkId, LinkKind, LinkSettings, Load,
    Neighbour, Node, Role, Schedule, SessionSource, Settings, Station, Time, UnitId, envelope,
    name_key,
};
use packet::{Mac, Tuple};
use session::{Session, State, Version};

const MS: u64 = 1_000_000;
/// What a frame needs from one unit to the others.
const DELAY: Duration = Duration::from_micros(100);
const SLOTS: usize = 64;

pub(crate) fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn tuple(n: u16) -> Tuple {
    let [client, server] = [1, 2].map(|host| Ipv4Addr::new(192, 0, 2, host));
    Tuple::v4(client, 1_000 + n, server, 443, 6)
}

/// One shard of slots.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Option<Session>>);

impl Table {
    fn slot(&mut self, tuple: &Tuple) -> &mut Option<Session> {
        self.0.resize(SLOTS, None);
        let has = |slot: &Option<Session>| slot.is_some_and(|s| s.tuples[0] == *tuple);
        let at = self.0.iter().position(has);
        let at = at.unwrap_or_else(|| self.0.iter().position(Option::is_none).unwrap());
        &mut self.0[at]
    }

    fn apply(&mut self, delta: &Delta) {
        let slot = self.slot(delta.tuple());
        match (*slot, delta) {
            (Some(held), _) if held.version > delta.version() => {}
            (_, Delta::Upsert { session, .. }) => *slot = Some(*session),
            (_, Delta::Remove { .. }) => *slot = None,
        }
    }

    /// Owner and version of each session, by its number.
    pub(crate) fn contents(&self) -> BTreeMap<u16, (u8, Version)> {
        let sessions = self.0.iter().flatten();
        sessions
            .map(|s| (s.tuples[0].src_port - 1_000, (s.owner, s.version)))
            .collect()
    }
}

impl SessionSource for Table {
    fn shards(&self) -> u16 {
        1
    }
    fn slots(&self, _: u16) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }
    fn read(&self, _: u16, slot: u32) -> Option<(Session, u32)> {
        Some((self.0[slot as usize]?, 3_000))
    }
    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        let mut sessions = self.0.iter().flatten();
        let found = sessions.find(|session| session.tuples[0] == *original)?;
        Some((*found, 3_000))
    }
}

/// A unit and what its driver was told.
pub(crate) struct Unit {
    pub(crate) node: Node,
    pub(crate) table: Table,
    pub(crate) runs: bool,
    pub(crate) duty: Duty,
    pub(crate) distribution: Distribution,
    pub(crate) neighbours: Vec<(UnitId, Neighbour)>,
    /// What happened, in order: each of these is a word about an action.
    pub(crate) story: Vec<String>,
    pub(crate) events: Vec<Event>,
}

impl Unit {
    /// Slots of each unit, by id.
    pub(crate) fn shares(&self) -> BTreeMap<u8, usize> {
        let mut shares = BTreeMap::new();
        for slot in &self.distribution.slots {
            *shares.entry(slot.get()).or_default() += 1;
        }
        shares
    }

    /// Who may own sessions, as this unit sees it.
    pub(crate) fn owners(&self) -> Vec<u8> {
        let members = self.distribution.members.iter();
        let owners = members.filter(|member| member.owns);
        owners.map(|member| member.unit.get()).collect()
    }
}

/// What a test may choose of a unit.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) schedule: Schedule,
    pub(crate) weight: u8,
    pub(crate) protocol: u8,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            schedule: Schedule::None,
            weight: 1,
            protocol: envelope::VERSION,
        }
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) units: Vec<Unit>,
    /// Two units that do not hear each other.
    pub(crate) cut: Option<[usize; 2]>,
    /// On their way: when they arrive, from whom, what.
    frames: Vec<(Time, usize, Vec<u8>)>,
}

fn settings(id: u8, choice: Choice) -> Settings {
    let link = |name: &str, kind, weight| LinkSettings {
        name: name.into(),
        kind,
        weight,
    };
    let station = |name, last| Station {
        interface: name_key(name),
        mac: Mac([2, 0, 0, 0, id, last]),
    };
    Settings {
        cluster: 7,
        unit: unit(id),
        name: format!("gw-{id}"),
        priority: 200 - id,
        preempt: false,
        heartbeat_interval: ms(10),
        heartbeat_loss: 3,
        hello_holddown: ms(100),
        age_margin: Duration::from_secs(300),
        announce_count: 3,
        announce_interval: ms(200),
        key: Key::new([1; 32]),
        boot: Boot(u64::from(id) << 32),
        last_term: 0,
        links: vec![
            link("sync", LinkKind::Sync, 0),
            link("lan", LinkKind::Monitored, 1),
            link("wan", LinkKind::Monitored, 1),
        ],
        config_hash: 1,
        config_parts: Vec::new(),
        software: "test".into(),
        session_sync: true,
        shards: 1,
        witness: None,
        schedule: choice.schedule,
        weight: choice.weight,
        stations: vec![station("lan", 1), station("wan", 2)],
        protocol: choice.protocol,
    }
}

impl World {
    /// Units that have started together and found their primary: the first.
    pub(crate) fn new(choices: &[Choice]) -> Self {
        let now = Time(1_000 * MS);
        let mut world = Self {
            now,
            units: Vec::new(),
            cut: None,
            frames: Vec::new(),
        };
        for (id, choice) in (1..).zip(choices) {
            world.units.push(start(id, *choice, now));
        }
        world.run(ms(2_000));
        assert_eq!(world.roles()[0], Role::Primary);
        world
    }

    pub(crate) fn roles(&self) -> Vec<Role> {
        self.units.iter().map(|unit| unit.node.role()).collect()
    }

    /// Has a unit start anew with other settings and an empty table.
    pub(crate) fn restart(&mut self, index: usize, choice: Choice) {
        let id = u8::try_from(index + 1).unwrap();
        let boot = self.units[index].node.settings().boot;
        let mut settings = settings(id, choice);
        settings.boot = Boot(boot.0 + 1);
        self.units[index] = start_with(settings, self.now);
    }

    /// The unit dies without a word.
    pub(crate) fn kill(&mut self, index: usize) {
        self.units[index].runs = false;
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.turn();
            let units = self.units.iter().filter(|unit| unit.runs);
            let timers = units.map(|unit| unit.node.next_deadline());
            let next = timers.chain(self.frames.iter().map(|frame| frame.0)).min();
            // Synchronisation may ask for another turn at once.
            let next = next.unwrap_or(end).max(self.now + DELAY / 10);
            if next > end {
                break;
            }
            self.now = next;
        }
        self.now = end;
        self.turn();
    }

    /// Delivers what has arrived and lets every unit do what it wants.
    pub(crate) fn turn(&mut self) {
        let due = |frame: &(Time, usize, Vec<u8>)| frame.0 <= self.now;
        let (arrived, rest) = self.frames.drain(..).partition(due);
        self.frames = rest;
        let arrived: Vec<(Time, usize, Vec<u8>)> = arrived;
        for (_, from, payload) in arrived {
            let apart = self.cut.filter(|cut| cut.contains(&from));
            let reached = |to: usize| to != from && !apart.is_some_and(|cut| cut.contains(&to));
            let others = self.units.iter_mut().enumerate();
            for (_, unit) in others.filter(|(index, unit)| reached(*index) && unit.runs) {
                unit.node.handle_frame(LinkId(0), &payload, self.now);
            }
        }
        for index in 0..self.units.len() {
            self.drive(index);
        }
    }

    fn drive(&mut self, index: usize) {
        let unit = &mut self.units[index];
        while unit.runs
            && let Some(action) = unit.node.poll(&unit.table, self.now)
        {
            match action {
                Action::Send { payload, .. } => {
                    self.frames.push((self.now + DELAY, index, payload));
                }
                Action::Promote { .. } => unit.story.push("promote".into()),
                Action::Demote { role, .. } => unit.story.push(format!("demote to {role}")),
                Action::Duty { duty, .. } => {
                    if std::mem::replace(&mut unit.duty, duty) != duty {
                        unit.story.push(duty.to_string());
                    }
                }
                Action::Distribute(distribution) => unit.distribution = distribution,
                Action::Neighbours { from, entries } => unit
                    .neighbours
                    .extend(entries.into_iter().map(|entry| (from, entry))),
                Action::Apply { delta, .. } => unit.table.apply(&delta),
                Action::Event(event) => unit.events.push(event),
                Action::Left => unit.runs = false,
                Action::RoleChanged { .. }
                | Action::Lease(_)
                | Action::Restate { .. }
                | Action::Announce => {}
            }
        }
    }

    /// A worker of this unit opens or changes a session: it is the owner now.
    pub(crate) fn write(&mut self, index: usize, number: u16) {
        let unit = &mut self.units[index];
        let tuple = tuple(number);
        let term = unit.node.term();
        let slot = unit.table.slot(&tuple);
        let version = slot.map_or(Version(0), |held| held.version).next(term);
        let session = Session {
            tuples: [tuple, tuple.reversed()],
            version,
            state: State::Established,
            owner: unit.node.settings().unit.get(),
            ..Session::default()
        };
        *slot = Some(session);
        let delta = Delta::Upsert {
            session,
            remaining: 3_000,
        };
        unit.node.push(0, delta, self.now);
    }

    /// A worker of this unit closes a session.
    pub(crate) fn close(&mut self, index: usize, number: u16) {
        let unit = &mut self.units[index];
        let tuple = tuple(number);
        let closed = unit.table.slot(&tuple).take().expect("it is open");
        let delta = Delta::Remove {
            tuple,
            version: closed.version,
        };
        unit.node.push(0, delta, self.now);
    }

    pub(crate) fn load(&mut self, index: usize, owned: u32) {
        let load = Load {
            owned,
            ..Load::default()
        };
        self.units[index].node.handle_load(load, self.now);
    }

    /// All units that run hold the same sessions.
    pub(crate) fn tables_agree(&self) -> bool {
        let mut tables = self.units.iter().filter(|unit| unit.runs);
        let first = tables.next().map(|unit| unit.table.contents());
        tables.all(|unit| Some(unit.table.contents()) == first)
    }
}

fn start(id: u8, choice: Choice, now: Time) -> Unit {
    start_with(settings(id, choice), now)
}

fn start_with(settings: Settings, now: Time) -> Unit {
    let links = settings.links.len();
    let mut node = Node::new(settings, now).unwrap();
    node.handle_workers(true, now);
    for link in (0..).map(LinkId).take(links) {
        node.handle_link(link, true, now);
    }
    Unit {
        node,
        table: Table(vec![None; SLOTS]),
        runs: true,
        duty: Duty::Idle,
        distribution: Distribution::default(),
        neighbours: Vec::new(),
        story: Vec::new(),
        events: Vec::new(),
    }
}
