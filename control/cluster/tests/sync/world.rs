//! A few units with real tables and a network that loses, repeats, delays and cuts, in their own time.
//!
//! Everything follows from the seed. The node around each machine is as small as the properties allow: it
//! hears, elects by patience and rank, yields when told to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::sync::{Event, Limits, Output, Sync, SyncSettings};
use cluster::{Boot, Delta, RangeSet, SessionSource, Time, UnitId, range_of};
use packet::Tuple;
use session::{Session, State, Tick, Version};

use crate::faults::{Faults, Random};
use crate::table::Table;

const HEARTBEAT: Duration = Duration::from_millis(10);
const SILENCE: Duration = Duration::from_millis(35);
/// Different sessions that the load uses.
pub(crate) const TUPLES: u16 = 150;

#[derive(Clone)]
enum Message {
    Heartbeat {
        boot: Boot,
        term: u32,
        primary: bool,
    },
    Frame(Vec<u8>),
}

#[derive(Clone)]
enum Occasion {
    Arrival { from: usize, message: Message },
    Beat,
    Wake,
}

pub(crate) struct Unit {
    pub(crate) id: UnitId,
    pub(crate) sync: Sync,
    pub(crate) table: Table,
    boot: Boot,
    shards: u16,
    term: u32,
    /// Sessions that it wrote as the primary of this term, and has not removed.
    written: BTreeMap<Tuple, Version>,
    /// The primary that it believes in.
    pub(crate) primary: Option<UnitId>,
    leaderless: Time,
    yields: Time,
    heard: Vec<Time>,
    up: Vec<Option<Boot>>,
    /// The envelope takes no frame of an older boot.
    newest: Vec<Boot>,
    paused: Time,
    wake: Time,
    /// Changes that its workers made and reported, and the version in which a new session began.
    ring: VecDeque<(u16, Delta, Option<Version>)>,
    /// Changes on their way to the workers, with the time at which the table shows them.
    applying: Vec<(Time, Delta)>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: Time,
    pub(crate) units: Vec<Unit>,
    pub(crate) faults: Faults,
    pub(crate) load: u64,
    /// Every unit writes of the sessions that it owns.
    owners: bool,
    pub(crate) random: Random,
    limits: Limits,
    cut: Vec<Vec<bool>>,
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    occasions: Vec<Option<Occasion>>,
    boots: u64,
    pub(crate) promotions: u64,
    pub(crate) checked: u64,
    /// What units said.
    pub(crate) events: Vec<(UnitId, Event)>,
}

/// Small enough for every bound to be met.
pub(crate) fn tight_limits(random: &mut Random) -> Limits {
    Limits {
        window: random.pick([8, 32, 1_024]),
        repair_window: random.pick([4, 16]),
        waiting: random.pick([16, 64, 4_096]),
        segments_per_turn: 8,
        slots_per_turn: 64,
        ..Limits::default()
    }
}

pub(crate) fn tuple(number: u16) -> Tuple {
    let client = Ipv4Addr::new(10, 0, 0, 1);
    Tuple::v4(client, 1_024 + number, Ipv4Addr::new(192, 0, 2, 1), 443, 6)
}

fn session(number: u16, version: Version, owner: u8) -> Session {
    let original = tuple(number);
    let mut session = Session {
        tuples: [original, original.reversed()],
        version,
        state: State::Established,
        owner,
        ..Session::default()
    };
    session.tcp[0].end = number.into();
    session
}

impl World {
    pub(crate) fn new(seed: u64, units: usize, limits: Limits, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let mut world = Self {
            seed,
            now: Time(1_000_000_000),
            units: Vec::new(),
            faults,
            load: 8,
            owners: false,
            limits,
            cut: vec![vec![false; units]; units],
            queue: BinaryHeap::new(),
            occasions: Vec::new(),
            boots: 0,
            promotions: 0,
            checked: 0,
            events: Vec::new(),
            random: Random::new(seed ^ 0x5EED),
        };
        for index in 0..units {
            let shards = 1 + u16::try_from(random.below(3)).unwrap();
            let unit = world.unit(index, units, shards);
            world.units.push(unit);
            world.at(world.now, index, Occasion::Beat);
        }
        world
    }

    /// The same with owners of sessions.
    pub(crate) fn with_owners(mut self) -> Self {
        self.owners = true;
        for unit in &mut self.units {
            unit.sync.many_writers(true);
        }
        self
    }

    fn unit(&mut self, index: usize, units: usize, shards: u16) -> Unit {
        self.boots += 1;
        let id = UnitId::new(u8::try_from(index + 1).unwrap()).unwrap();
        let boot = Boot(self.boots);
        let mut sync = Sync::new(SyncSettings {
            unit: id,
            boot,
            shards,
            session_sync: true,
            limits: self.limits,
        });
        sync.many_writers(self.owners);
        Unit {
            id,
            sync,
            table: Table::new(shards),
            boot,
            shards,
            term: 0,
            written: BTreeMap::new(),
            primary: None,
            leaderless: self.now + Duration::from_millis(80),
            yields: Time(0),
            heard: vec![Time(0); units],
            up: vec![None; units],
            newest: vec![Boot(0); units],
            paused: Time(0),
            wake: Time::NEVER,
            ring: VecDeque::new(),
            applying: Vec::new(),
        }
    }

    fn at(&mut self, time: Time, unit: usize, occasion: Occasion) {
        let number = self.occasions.len() as u64;
        self.occasions.push(Some(occasion));
        self.queue.push(Reverse((time, number, unit)));
    }

    fn send(&mut self, from: usize, to: usize, message: &Message) {
        let copies = 1 + u64::from(self.random.below(1_000) < self.faults.duplicate_per_mille);
        for _ in 0..copies {
            let lost = self.random.below(1_000) < self.faults.loss_per_mille;
            let delay = Duration::from_micros(20 + self.random.below(self.faults.delay_us));
            if !lost && !self.cut[from][to] {
                let message = message.clone();
                self.at(self.now + delay, to, Occasion::Arrival { from, message });
            }
        }
    }

    fn send_all(&mut self, from: usize, message: &Message) {
        for to in (0..self.units.len()).filter(|to| *to != from) {
            self.send(from, to, message);
        }
    }

    /// Runs until `end`.
    pub(crate) fn run(&mut self, end: Time) {
        while let Some(Reverse((time, number, index))) = self.queue.peek().copied() {
            if time > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(time);
            let Some(occasion) = self.occasions[usize::try_from(number).unwrap()].take() else {
                continue;
            };
            if self.units[index].paused > self.now {
                self.at(self.units[index].paused, index, occasion);
                continue;
            }
            match occasion {
                Occasion::Arrival { from, message } => self.arrive(index, from, message),
                Occasion::Beat => self.beat(index),
                Occasion::Wake => self.units[index].wake = Time::NEVER,
            }
            self.turn(index);
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    fn arrive(&mut self, index: usize, from: usize, message: Message) {
        let now = self.now;
        let peer = self.units[from].id;
        let shards = self.units[from].shards;
        let unit = &mut self.units[index];
        match message {
            Message::Frame(body) => {
                unit.sync
                    .handle(peer, &body, now)
                    .expect("frames are well formed");
            }
            Message::Heartbeat {
                boot,
                term,
                primary,
            } => {
                if unit.newest[from] > boot {
                    return;
                }
                unit.newest[from] = boot;
                unit.heard[from] = now;
                if unit.up[from] != Some(boot) {
                    unit.up[from] = Some(boot);
                    unit.sync.peer_up(peer, boot, shards);
                }
                if primary && term >= unit.term && unit.primary != Some(unit.id)
                    || primary && term > unit.term
                {
                    unit.term = term;
                    unit.primary = Some(peer);
                    unit.sync.primary(Some(peer), term, now);
                } else if !primary && unit.primary == Some(peer) {
                    unit.lose_primary(now);
                }
            }
        }
    }

    /// Once per heartbeat interval: detect, elect, work.
    fn beat(&mut self, index: usize) {
        let now = self.now;
        let unit = &mut self.units[index];
        for from in 0..unit.up.len() {
            if unit.up[from].is_some() && now.since(unit.heard[from]) > SILENCE {
                unit.up[from] = None;
                let peer = UnitId::new(u8::try_from(from + 1).unwrap()).unwrap();
                unit.sync.peer_down(peer);
                if unit.primary == Some(peer) {
                    unit.lose_primary(now);
                }
            }
        }
        let rank = Duration::from_millis(15) * u32::try_from(index).unwrap();
        let doubt = Duration::from_millis(if unit.sync.synced() { 0 } else { 60 });
        if unit.primary.is_none() && now > unit.leaderless + rank + doubt && now > unit.yields {
            unit.term = (unit.term / 16 + 1) * 16 + u32::from(unit.id.get());
            unit.primary = Some(unit.id);
            unit.written.clear();
            unit.sync.primary(Some(unit.id), unit.term, now);
            self.promotions += 1;
        }
        let unit = &self.units[index];
        let message = Message::Heartbeat {
            boot: unit.boot,
            term: unit.term,
            primary: unit.primary == Some(unit.id),
        };
        self.send_all(index, &message);
        let is_primary = self.units[index].primary == Some(self.units[index].id);
        let changes = if is_primary || self.owners {
            self.random.below(self.load + 1)
        } else {
            0
        };
        for _ in 0..changes {
            let number = u16::try_from(self.random.below(u64::from(TUPLES))).unwrap();
            if self.may_write(index, number) {
                self.change_one(index, number);
            }
        }
        self.at(now + HEARTBEAT, index, Occasion::Beat);
    }

    /// The primary writes of everything; where sessions have owners, of what nobody alive owns.
    fn may_write(&self, index: usize, number: u16) -> bool {
        let unit = &self.units[index];
        let is_primary = unit.primary == Some(unit.id);
        if !self.owners || unit.primary.is_none() {
            return is_primary;
        }
        // A new session goes to the unit that the schedule names.
        let scheduled = u8::try_from(usize::from(number) % self.units.len() + 1).unwrap();
        let owner = unit.table.owner(&tuple(number)).unwrap_or(scheduled);
        let own = owner == unit.id.get();
        let alive = own || unit.up[usize::from(owner) - 1].is_some();
        own && unit.sync.knows_its_own() || is_primary && !alive
    }

    /// A worker opens, changes or closes a session.
    fn change_one(&mut self, index: usize, number: u16) {
        let (close, lost) = (self.random.one_in(3), self.random.one_in(50));
        let unit = &mut self.units[index];
        let key = tuple(number);
        let shard_id = unit.table.shard_of(&key);
        let (term, owner) = (unit.term, unit.id.get());
        let shard = unit.table.shard(&key);
        let known = shard.lookup(&key);
        let delta = match known {
            Some(hit) if close => {
                let version = shard.remove(hit.id()).unwrap().version;
                Delta::Remove {
                    tuple: key,
                    version,
                }
            }
            _ => {
                let session = session(number, shard.next_version(term), owner);
                shard.apply(&session, 3_000, Tick(10_000));
                Delta::Upsert {
                    session,
                    remaining: 3_000,
                }
            }
        };
        match &delta {
            Delta::Upsert { session, .. } => unit.written.insert(key, session.version),
            Delta::Remove { .. } => unit.written.remove(&key),
        };
        if lost && self.faults.ring_overflows {
            let mut ranges = RangeSet::EMPTY;
            ranges.insert(range_of(&key));
            unit.sync.overflowed(ranges);
        } else {
            let born = known.is_none().then_some(delta.version());
            unit.ring.push_back((shard_id, delta, born));
        }
    }

    /// What the daemon does in one turn of its loop.
    fn turn(&mut self, index: usize) {
        let now = self.now;
        self.units[index].show_applied(now);
        // The table shows a change before its report is read.
        let reports = self.random.below(6);
        self.units[index].take_reports(reports);
        loop {
            let unit = &mut self.units[index];
            let Some(output) = unit.sync.poll(&unit.table, now) else {
                break;
            };
            match output {
                Output::Send { to, body } => {
                    assert!(body.len() <= cluster::sync::frame::MAX_FRAME);
                    let message = Message::Frame(body);
                    match to {
                        Some(to) => self.send(index, to.index(), &message),
                        None => self.send_all(index, &message),
                    }
                }
                Output::Apply { delta, .. } => {
                    let delay = Duration::from_micros(self.random.below(3_000));
                    let applying = &mut self.units[index].applying;
                    let last = applying.last().map_or(now, |(time, _)| *time);
                    applying.push((last.max(now + delay), delta));
                }
                Output::Restate { tuple } => self.units[index].restate(&tuple),
                Output::Event(event) => {
                    let unit = self.units[index].id;
                    self.events.push((unit, event));
                }
                Output::Synced { .. } => {}
            }
        }
        let unit = &mut self.units[index];
        let applied = unit.applying.first().map_or(Time::NEVER, |(time, _)| *time);
        let reported = if unit.ring.is_empty() {
            Time::NEVER
        } else {
            now
        };
        let wake = unit.sync.next_deadline().min(applied).min(reported);
        let wake = wake.max(now + Duration::from_micros(50));
        if wake < unit.wake {
            unit.wake = wake;
            if wake < Time::NEVER {
                self.at(wake, index, Occasion::Wake);
            }
        }
    }

    /// One of the faults that are allowed, somewhere.
    pub(crate) fn disturb(&mut self) {
        let units = self.units.len();
        let (a, b) = (
            usize::try_from(self.random.below(units as u64)).unwrap(),
            usize::try_from(self.random.below(units as u64)).unwrap(),
        );
        match self.random.below(8) {
            0 | 1 if self.faults.cuts && a != b => {
                let cut = !self.cut[a][b];
                self.cut[a][b] = cut;
                if !self.random.one_in(4) {
                    self.cut[b][a] = cut;
                }
            }
            2 if self.faults.cuts => self.heal_cuts(),
            3 | 4 if self.faults.pauses => {
                let pause = Duration::from_millis(5 + self.random.below(300));
                self.units[a].paused = self.now + pause;
            }
            5 if self.faults.restarts => self.restart(a),
            6 | 7 if self.faults.hand_overs => self.hand_over(),
            _ => {}
        }
    }

    /// The unit starts anew, with nothing.
    pub(crate) fn restart(&mut self, index: usize) {
        let shards = 1 + u16::try_from(self.random.below(3)).unwrap();
        let fresh = self.unit(index, self.units.len(), shards);
        self.units[index] = fresh;
        self.turn(index);
    }

    /// Every primary that has been acknowledged steps back and lets another one take over.
    pub(crate) fn hand_over(&mut self) {
        let now = self.now;
        for unit in &mut self.units {
            if unit.primary == Some(unit.id)
                && unit.ring.is_empty()
                && unit.sync.acknowledged_by_all()
            {
                unit.lose_primary(now);
                unit.yields = now + Duration::from_millis(300);
            }
        }
    }

    fn heal_cuts(&mut self) {
        for row in &mut self.cut {
            row.fill(false);
        }
    }

    /// No more faults, no more changes.
    pub(crate) fn heal(&mut self) {
        self.heal_cuts();
        self.faults = Faults::NONE;
        self.load = 0;
        for unit in &mut self.units {
            unit.paused = unit.paused.min(self.now);
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize, cut: bool) {
        self.cut[a][b] = cut;
        self.cut[b][a] = cut;
    }

    /// The one unit that all believe to be primary.
    pub(crate) fn agreed(&self) -> Option<usize> {
        let primary = self.units[0].primary?;
        self.units
            .iter()
            .all(|unit| unit.primary == Some(primary))
            .then(|| primary.index())
    }

    /// True when one is primary, all are whole, nothing is on its way and all tables are equal.
    pub(crate) fn is_settled(&self) -> bool {
        let contents = self.units[0].table.contents();
        self.agreed().is_some()
            && self.units.iter().all(|unit| {
                unit.sync.synced()
                    && unit.sync.acknowledged_by_all()
                    && unit.applying.is_empty()
                    && unit.ring.is_empty()
                    && unit.table.contents() == contents
            })
    }

    /// What the primary wrote in its term and sees acknowledged is held by each whole peer that follows it.
    pub(crate) fn check_acknowledged(&mut self) {
        let Some(primary) = self.agreed() else { return };
        let writer = &self.units[primary];
        if !writer.sync.acknowledged_by_all() || !writer.ring.is_empty() {
            return;
        }
        let (written, own) = (&writer.written, writer.table.contents());
        for unit in self.units.iter().filter(|unit| {
            unit.sync.synced()
                && unit.applying.is_empty()
                && writer.up[unit.id.index()] == Some(unit.boot)
        }) {
            let held = unit.table.contents();
            for (tuple, version) in written {
                if own.get(tuple).map(|(version, _)| *version) != Some(*version) {
                    continue;
                }
                let at = held.get(tuple).map(|(version, _)| *version);
                assert!(
                    at >= Some(*version),
                    "seed {}: {tuple:?} {version:?} was acknowledged, unit {} has {at:?}\n{:?}\n{}",
                    self.seed,
                    unit.id,
                    self.faults,
                    self.describe()
                );
            }
            self.checked += 1;
        }
    }

    /// What is wrong, for the message of a failed run.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for unit in &self.units {
            let contents = unit.table.contents();
            text += &format!(
                "unit {} {:?} primary {:?} term {} synced {} acknowledged {} sessions {} {:?}\n",
                unit.id,
                (1..=3)
                    .map(|u| unit.sync.lag(UnitId::new(u).unwrap()))
                    .collect::<Vec<_>>(),
                unit.primary,
                unit.term,
                unit.sync.synced(),
                unit.sync.acknowledged_by_all(),
                contents.len(),
                unit.sync.counters()
            );
            let other = self.units[0].table.contents();
            for (tuple, at) in &contents {
                if other.get(tuple) != Some(at) {
                    text += &format!("  {tuple:?} {at:x?}, unit 1 has {:x?}\n", other.get(tuple));
                }
            }
            for (tuple, at) in other
                .iter()
                .filter(|(tuple, _)| !contents.contains_key(tuple))
            {
                text += &format!("  {tuple:?} missing, unit 1 has {at:x?}\n");
            }
        }
        text
    }
}

impl Unit {
    fn lose_primary(&mut self, now: Time) {
        self.primary = None;
        self.leaderless = now;
        self.sync.primary(None, self.term, now);
    }

    /// Hands on what the workers reported. A session's state is read when the report is.
    fn take_reports(&mut self, most: u64) {
        for _ in 0..most {
            let Some((shard, mut delta, born)) = self.ring.pop_front() else {
                return;
            };
            if let Delta::Upsert { session, remaining } = &mut delta {
                match self.table.find(&session.tuples[0]) {
                    Some(found) => (*session, *remaining) = found,
                    None => continue,
                }
            }
            match born {
                Some(born) => self.sync.push_born(shard, delta, born),
                None => self.sync.push(shard, delta),
            }
        }
    }

    /// Its worker tells a session of its own in a newer version.
    fn restate(&mut self, tuple: &Tuple) {
        let (unit, term, shard_id) = (self.id.get(), self.term, self.table.shard_of(tuple));
        let shard = self.table.shard(tuple);
        let Some(hit) = shard.lookup(tuple) else {
            return;
        };
        shard.adopt(hit.id(), unit, term, Tick(10_000));
        let session = shard.session(hit.id());
        let remaining = 3_000;
        let delta = Delta::Upsert { session, remaining };
        self.ring.push_back((shard_id, delta, None));
    }

    /// Changes that have reached the workers.
    fn show_applied(&mut self, now: Time) {
        let due = self
            .applying
            .iter()
            .take_while(|(time, _)| *time <= now)
            .count();
        for (_, delta) in self.applying.drain(..due) {
            self.table.apply(&delta);
        }
    }
}
