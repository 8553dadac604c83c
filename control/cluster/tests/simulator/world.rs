//! Units, links between them, and time that jumps from one event to the next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use cluster::{
    Action, Boot, Command, Key, LinkId, LinkKind, LinkSettings, Node, Role, Schedule, Settings,
    Time, UnitId,
};

use crate::checks::Checks;
use crate::options::{MS, Options, SECOND};
use crate::random::Random;
use crate::table::{self, Table};

/// What a paused unit's sockets hold.
const SOCKET: usize = 256;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Deliver {
        to: usize,
        link: u8,
        payload: Rc<Vec<u8>>,
    },
    Wake {
        unit: usize,
        generation: u64,
    },
    Resume {
        unit: usize,
    },
    Start {
        unit: usize,
    },
    Traffic,
}

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) id: UnitId,
    pub(crate) node: Option<Node>,
    pub(crate) table: Table,
    pub(crate) paused: bool,
    pub(crate) carriers: Vec<bool>,
    pub(crate) workers: bool,
    /// The term in which the driver was told to be primary.
    pub(crate) serving: Option<u32>,
    starts: u64,
    drift: i64,
    offset: u64,
    inbox: VecDeque<(u8, Rc<Vec<u8>>)>,
    generation: u64,
    turns: u32,
}

impl Unit {
    /// This unit's clock.
    pub(crate) fn clock(&self, now: u64) -> Time {
        let now = i128::from(now);
        let local = now + now * i128::from(self.drift) / 1_000_000 + i128::from(self.offset);
        Time(u64::try_from(local).unwrap())
    }

    /// The first moment at which this unit's clock shows `local`.
    fn moment(&self, local: Time) -> u64 {
        let elapsed = i128::from(local.0) - i128::from(self.offset);
        let guess = elapsed * 1_000_000 / (1_000_000 + i128::from(self.drift));
        let mut moment = u64::try_from(guess.max(2)).unwrap() - 2;
        while self.clock(moment) < local {
            moment += 1;
        }
        moment
    }

    pub(crate) fn runs(&self) -> bool {
        self.node.is_some() && !self.paused
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.node.as_ref().map(Node::role)
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: u64,
    pub(crate) units: Vec<Unit>,
    /// `cuts[from][to][link]`
    pub(crate) cuts: Vec<Vec<Vec<bool>>>,
    /// The last time that anything but time and sessions happened.
    pub(crate) disturbed: u64,
    pub(crate) checks: Checks,
    pub(crate) random: Random,
    /// Whether users do anything.
    pub(crate) busy: bool,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    events: u64,
    trace: bool,
}

impl World {
    pub(crate) fn new(options: Options, random: Random) -> Self {
        let units = options.units;
        let mut world = Self {
            now: 1,
            units: Vec::new(),
            cuts: vec![vec![vec![false; options.links]; units]; units],
            disturbed: 0,
            checks: Checks::new(units),
            random,
            busy: true,
            queue: BinaryHeap::new(),
            events: 0,
            trace: std::env::var_os("SIMULATOR_TRACE").is_some(),
            options,
        };
        for index in 0..units {
            let drift = i64::try_from(world.options.drift).unwrap();
            let sign = if world.random.chance(500) { 1 } else { -1 };
            let unit = Unit {
                id: UnitId::new(u8::try_from(index + 1).unwrap()).unwrap(),
                node: None,
                table: Table::new(0),
                paused: false,
                carriers: vec![true; world.options.links],
                workers: true,
                serving: None,
                starts: 0,
                drift: drift * sign,
                offset: world.random.within(SECOND..1_000 * SECOND),
                inbox: VecDeque::new(),
                generation: 0,
                turns: 0,
            };
            world.units.push(unit);
            let at = world.random.within(1..2 * SECOND);
            world.schedule(at, What::Start { unit: index });
        }
        world.schedule(3 * SECOND, What::Traffic);
        world
    }

    fn schedule(&mut self, at: u64, what: What) {
        self.events += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.events, what)));
    }

    pub(crate) fn note(&self, unit: usize, text: impl FnOnce() -> String) {
        if self.trace {
            let ms = Duration::from_nanos(self.now).as_secs_f64() * 1e3;
            eprintln!("{ms:10.3} unit {}: {}", unit + 1, text());
        }
    }

    /// Runs until that time.
    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, ..))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, what))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            self.happen(what);
            Checks::after_step(self);
        }
        self.now = end;
        Checks::after_step(self);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { to, link, payload } => self.deliver(to, link, payload),
            What::Wake { unit, generation } => {
                if self.units[unit].generation == generation && self.units[unit].runs() {
                    self.drive(unit);
                }
            }
            What::Resume { unit } => self.resume(unit),
            What::Start { unit } => self.start(unit),
            What::Traffic => {
                for unit in 0..self.units.len() {
                    self.traffic(unit);
                }
                let next = self.now + self.random.within(5 * MS..200 * MS);
                self.schedule(next, What::Traffic);
            }
        }
    }

    fn deliver(&mut self, to: usize, link: u8, payload: Rc<Vec<u8>>) {
        let now = self.now;
        let unit = &mut self.units[to];
        if !unit.carriers[usize::from(link)] {
            return;
        }
        if unit.paused {
            if unit.inbox.len() < SOCKET {
                unit.inbox.push_back((link, payload));
            }
            return;
        }
        let clock = unit.clock(now);
        if let Some(node) = &mut unit.node {
            node.handle_frame(LinkId(link), &payload, clock);
            self.drive(to);
        }
    }

    /// Does what the node wants until it wants nothing, and comes back when it says.
    pub(crate) fn drive(&mut self, index: usize) {
        let clock = self.units[index].clock(self.now);
        loop {
            let unit = &mut self.units[index];
            let Some(node) = &mut unit.node else { return };
            let Some(action) = node.poll(&unit.table, clock) else {
                break;
            };
            if !self.perform(index, action) {
                return;
            }
        }
        let unit = &mut self.units[index];
        let Some(node) = &unit.node else { return };
        let deadline = node.next_deadline();
        unit.generation += 1;
        // Synchronisation may want another turn at once, but not for ever.
        unit.turns = if deadline > clock { 0 } else { unit.turns + 1 };
        assert!(unit.turns < 100, "unit {} spins", unit.id);
        if deadline < Time::NEVER {
            let wake = What::Wake {
                unit: index,
                generation: unit.generation,
            };
            let at = unit.moment(deadline).max(self.now + MS / 100);
            self.schedule(at, wake);
        }
    }

    /// False when the unit is gone.
    fn perform(&mut self, index: usize, action: Action) -> bool {
        match action {
            Action::Send { link, payload } => self.transmit(index, link, payload),
            Action::Promote { term } => {
                self.note(index, || format!("promoted, term {term}"));
                Checks::promoted(self, index, term);
                self.units[index].serving = Some(term);
            }
            Action::Demote { role, term } => {
                self.note(index, || format!("demoted to {role}, term {term}"));
                Checks::role_changed(self, index);
                self.units[index].serving = None;
            }
            Action::RoleChanged { role, term } => {
                self.note(index, || format!("now {role}, term {term}"));
            }
            Action::Announce => self.checks.announced(index),
            Action::Lease(_) => panic!("unit {} has no witness", index + 1),
            Action::Duty { .. }
            | Action::Distribute(_)
            | Action::Neighbours { .. }
            | Action::Restate { .. } => {}
            Action::Apply { delta, .. } => {
                let tick = self.tick(index);
                self.units[index].table.apply(&delta, tick);
            }
            Action::Event(event) => self.note(index, || event.to_string()),
            Action::Left => {
                self.note(index, || "left".into());
                self.kill(index);
                return false;
            }
        }
        true
    }

    fn transmit(&mut self, from: usize, link: LinkId, payload: Vec<u8>) {
        if !self.units[from].carriers[link.index()] {
            return;
        }
        let payload = Rc::new(payload);
        for to in 0..self.units.len() {
            if to == from || self.cuts[from][to][link.index()] {
                continue;
            }
            let copies = 1 + u64::from(self.random.chance(self.options.duplicate));
            for _ in 0..copies {
                if self.random.chance(self.options.loss) {
                    continue;
                }
                let delay = self.options.delay + self.random.within(0..self.options.jitter);
                let payload = Rc::clone(&payload);
                self.schedule(
                    self.now + delay,
                    What::Deliver {
                        to,
                        link: link.0,
                        payload,
                    },
                );
            }
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        let options = &self.options;
        let unit = &mut self.units[index];
        if unit.node.is_some() {
            return;
        }
        let back = unit.starts > 0 && self.random.chance(options.clock_back);
        unit.starts += 1;
        let seconds = if back {
            500 - unit.starts
        } else {
            1_000 + unit.starts
        };
        let boot = Boot(seconds << 32 | self.random.within(0..1 << 32));
        let links = (0..options.links).map(|link| LinkSettings {
            name: format!("link{link}"),
            kind: if link == 0 && options.links > 1 {
                LinkKind::Sync
            } else {
                LinkKind::Critical
            },
            weight: u16::from(link > 0 || options.links == 1),
        });
        let settings = Settings {
            cluster: 7,
            unit: unit.id,
            name: format!("unit-{}", unit.id),
            priority: options.priorities[index],
            preempt: options.preempt,
            heartbeat_interval: Duration::from_nanos(options.interval),
            heartbeat_loss: options.heartbeat_loss,
            hello_holddown: Duration::from_nanos(options.holddown),
            age_margin: Duration::from_nanos(options.age_margin),
            announce_count: 3,
            announce_interval: Duration::from_millis(200),
            key: Key::new([42; Key::LEN]),
            boot,
            links: links.collect(),
            config_hash: 1,
            software: "simulator".into(),
            session_sync: options.session_sync,
            shards: 1 + u16::try_from(index % 2).unwrap(),
            witness: None,
            schedule: Schedule::None,
            weight: 1,
            stations: Vec::new(),
            protocol: cluster::envelope::VERSION,
        };
        let clock = unit.clock(self.now);
        unit.table = Table::new(settings.shards);
        self.checks.started(index);
        let mut node = Node::new(settings, clock).unwrap();
        for (link, up) in (0..).zip(&unit.carriers) {
            node.handle_link(LinkId(link), *up, clock);
        }
        node.handle_workers(unit.workers, clock);
        unit.node = Some(node);
        self.disturbed = self.now;
        self.note(index, || format!("starts, boot {boot}"));
        self.drive(index);
    }

    /// What users do at a unit that serves: open, change and close connections.
    fn traffic(&mut self, index: usize) {
        let Some(term) = self.units[index]
            .serving
            .filter(|_| self.busy && self.units[index].runs())
        else {
            return;
        };
        let tick = self.tick(index);
        let tuple = table::tuple(u16::try_from(self.random.within(0..64)).unwrap());
        let close = self.random.chance(300);
        let unit = &mut self.units[index];
        let clock = unit.clock(self.now);
        let change = if close {
            unit.table.remove(tuple)
        } else {
            Some(unit.table.change(tuple, term, tick))
        };
        if let (Some((shard, delta)), Some(node)) = (change, &mut unit.node) {
            node.push(shard, delta, clock);
            Checks::pushed(self, index, &delta);
            self.drive(index);
            Checks::acknowledged(self, index);
        }
    }

    pub(crate) fn start_later(&mut self, index: usize, after: u64) {
        self.schedule(self.now + after, What::Start { unit: index });
    }

    /// SIGKILL: nothing is said, nothing is kept.
    pub(crate) fn kill(&mut self, index: usize) {
        self.note(index, || "is gone".into());
        self.disturbed = self.now;
        let unit = &mut self.units[index];
        unit.node = None;
        unit.serving = None;
        unit.paused = false;
        unit.inbox.clear();
        unit.generation += 1;
    }

    pub(crate) fn pause(&mut self, index: usize, length: u64) {
        if !self.units[index].runs() {
            return;
        }
        self.note(index, || format!("stopped for {} ms", length / MS));
        self.units[index].paused = true;
        self.disturbed = self.now;
        self.schedule(self.now + length, What::Resume { unit: index });
    }

    fn resume(&mut self, index: usize) {
        if !std::mem::take(&mut self.units[index].paused) {
            return;
        }
        self.note(index, || "goes on".into());
        self.disturbed = self.now;
        let clock = self.units[index].clock(self.now);
        if self.random.chance(500) {
            self.drive(index);
        }
        let unit = &mut self.units[index];
        if let Some(node) = &mut unit.node {
            for (link, up) in (0..).zip(&unit.carriers) {
                node.handle_link(LinkId(link), *up, clock);
            }
            node.handle_workers(unit.workers, clock);
        }
        while let Some((link, payload)) = self.units[index].inbox.pop_front() {
            self.deliver(index, link, payload);
        }
        self.drive(index);
    }

    pub(crate) fn set_carrier(&mut self, index: usize, link: usize, up: bool) {
        self.note(index, || {
            format!("link {link} {}", if up { "up" } else { "down" })
        });
        self.disturbed = self.now;
        let clock = self.units[index].clock(self.now);
        let unit = &mut self.units[index];
        unit.carriers[link] = up;
        if let Some(node) = unit.node.as_mut().filter(|_| !unit.paused) {
            node.handle_link(LinkId(u8::try_from(link).unwrap()), up, clock);
            self.drive(index);
        }
    }

    pub(crate) fn set_workers(&mut self, index: usize, alive: bool) {
        self.note(index, || {
            format!("workers {}", if alive { "run" } else { "stopped" })
        });
        self.disturbed = self.now;
        let clock = self.units[index].clock(self.now);
        let unit = &mut self.units[index];
        unit.workers = alive;
        if let Some(node) = unit.node.as_mut().filter(|_| !unit.paused) {
            node.handle_workers(alive, clock);
            self.drive(index);
        }
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) {
        let clock = self.units[index].clock(self.now);
        let unit = &mut self.units[index];
        let Some(node) = unit.node.as_mut().filter(|_| !unit.paused) else {
            return;
        };
        let answer = node.handle_command(command, clock);
        self.disturbed = self.now;
        self.note(index, || format!("{command:?}: {answer:?}"));
        self.drive(index);
    }

    /// Everything works again, and no frame is lost any more.
    pub(crate) fn heal(&mut self) {
        self.options.loss = 0;
        let limit = self.options.interval / 2;
        self.options.jitter = self.options.jitter.min(limit);
        self.cuts
            .iter_mut()
            .flatten()
            .flatten()
            .for_each(|cut| *cut = false);
        for unit in 0..self.units.len() {
            if self.units[unit].paused {
                self.resume(unit);
            }
            for link in 0..self.options.links {
                self.set_carrier(unit, link, true);
            }
            self.set_workers(unit, true);
            self.command(unit, Command::Maintenance(false));
            if self.units[unit].node.is_none() {
                let after = self.random.within(1..SECOND);
                self.start_later(unit, after);
            }
        }
        self.disturbed = self.now + SECOND;
    }

    pub(crate) fn tick(&self, index: usize) -> session::Tick {
        let ticks = self.units[index].clock(self.now).0 / (100 * MS);
        session::Tick(u32::try_from(ticks).unwrap())
    }

    /// Whether frames go both ways on some link.
    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        (0..self.options.links).any(|link| self.reaches(a, b, link) && self.reaches(b, a, link))
    }

    fn reaches(&self, from: usize, to: usize, link: usize) -> bool {
        let (sender, receiver) = (&self.units[from], &self.units[to]);
        sender.runs()
            && receiver.runs()
            && sender.carriers[link]
            && receiver.carriers[link]
            && !self.cuts[from][to][link]
    }

    /// Whether no frame gets through in either direction.
    pub(crate) fn separated(&self, a: usize, b: usize) -> bool {
        (0..self.options.links).all(|link| !self.reaches(a, b, link) && !self.reaches(b, a, link))
    }
}
