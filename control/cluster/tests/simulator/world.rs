//! Units, what happens to them, and time that jumps from one event to the next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use cluster::{
    Action, Boot, Command, Duty, Key, LinkId, LinkKind, LinkSettings, Node, Schedule, Settings,
    Station, Time, UnitId, name_key,
};
use packet::Mac;

use crate::assign::Passing;
use crate::checks::Checks;
use crate::clock::Clock;
use crate::network::Network;
use crate::options::{MS, Options, SECOND};
use crate::random::Random;
use crate::unit::{Pace, Unit, Waiting};
use crate::users::Users;
use crate::witness::Store;
use crate::workers::Workers;

/// Frames that a slow control core reads at a time.
const FRAMES_PER_TURN: usize = 8;
/// Turns that a unit may take without time going on.
const MAX_TURNS: u32 = 100;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Deliver {
        from: usize,
        to: usize,
        link: u8,
        payload: Rc<Vec<u8>>,
    },
    /// A deadline of the state machine.
    Wake {
        unit: usize,
        generation: u64,
    },
    /// The workers do what the control core wants, if that is still the same start.
    Turn {
        unit: usize,
        start: u64,
    },
    /// A slow control core reads its sockets.
    Read {
        unit: usize,
    },
    Resume {
        unit: usize,
    },
    Start {
        unit: usize,
    },
    Traffic,
    /// A user's packet that one unit passed to another.
    Passed {
        number: u64,
    },
    /// A unit's thread may have something to ask of the witness.
    Ask {
        unit: usize,
        generation: u64,
    },
    /// What a unit asked is at the witness.
    Request {
        number: u64,
    },
    /// What the witness answered is at the unit.
    Answer {
        number: u64,
    },
    /// A unit waits for an answer no longer.
    GiveUp {
        unit: usize,
        number: u64,
    },
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: u64,
    pub(crate) units: Vec<Unit>,
    pub(crate) network: Network,
    pub(crate) users: Users,
    /// Their packets between units.
    pub(crate) passing: BTreeMap<u64, Passing>,
    pub(crate) store: Store,
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
            network: Network::new(units, options.links),
            users: Users::new(options.schedule.is_some()),
            passing: BTreeMap::new(),
            store: Store::new(&options, random.branch("store")),
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
            let rate = world.draw_rate();
            let shown = world.random.within(SECOND..1_000 * SECOND);
            let id = UnitId::new(u8::try_from(index + 1).unwrap()).unwrap();
            let clock = Clock::new(shown, rate);
            let unit = Unit::new(id, clock, world.options.links);
            world.units.push(unit);
            let at = world.random.within(1..2 * SECOND);
            world.schedule(at, What::Start { unit: index });
        }
        world.schedule(3 * SECOND, What::Traffic);
        world
    }

    /// How fast or slow a clock runs.
    pub(crate) fn draw_rate(&mut self) -> i64 {
        let widest = self.options.drift;
        i64::try_from(self.random.within(0..2 * widest + 1)).unwrap()
            - i64::try_from(widest).unwrap()
    }

    /// The number of the event that is scheduled next.
    pub(crate) const fn next_event(&self) -> u64 {
        self.events + 1
    }

    pub(crate) fn schedule(&mut self, at: u64, what: What) {
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

    pub(crate) fn run_for(&mut self, time: u64) {
        self.run_until(self.now + time);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver {
                from,
                to,
                link,
                payload,
            } => self.deliver(to, (from, link, payload)),
            What::Wake { unit, generation } => {
                let current = &self.units[unit];
                if current.generation == generation && current.pace == Pace::Running {
                    self.drive(unit);
                }
            }
            What::Turn { unit, start } => {
                if self.units[unit].starts == start {
                    self.turn(unit);
                }
            }
            What::Read { unit } => self.read_slowly(unit),
            What::Resume { unit } => self.resume(unit),
            What::Start { unit } => self.start(unit, 0),
            What::Traffic => {
                for unit in 0..self.units.len() {
                    self.traffic(unit);
                }
                let next = self.now + self.random.within(MS..self.options.gap);
                self.schedule(next, What::Traffic);
            }
            What::Passed { number } => self.take_passed(number),
            What::Ask { unit, generation } => self.ask_again(unit, generation),
            What::Request { number } => self.serve_request(number),
            What::Answer { number } => self.take_answer(number),
            What::GiveUp { unit, number } => self.give_up(unit, number),
        }
    }

    fn deliver(&mut self, to: usize, frame: Waiting) {
        let unit = &mut self.units[to];
        if unit.node.is_none() || !unit.carriers[usize::from(frame.1)] {
            return;
        }
        if unit.pace == Pace::Running {
            self.hand_in(to, &frame);
            self.drive(to);
        } else if unit.socket.len() < self.options.socket {
            unit.socket.push_back(frame);
        }
    }

    fn hand_in(&mut self, to: usize, (from, link, payload): &Waiting) {
        let clock = self.units[to].time(self.now);
        let Some(node) = &mut self.units[to].node else {
            return;
        };
        let before = node.counters();
        node.handle_frame(LinkId(*link), payload, clock);
        let after = node.counters();
        if after.heartbeats_received > before.heartbeats_received
            || after.sync_frames_received > before.sync_frames_received
        {
            self.checks.heard(to, *from, self.now);
        }
    }

    /// Reads some of the frames that wait.
    pub(crate) fn read(&mut self, index: usize, most: usize) {
        for _ in 0..most {
            let Some(frame) = self.units[index].socket.pop_front() else {
                return;
            };
            if self.units[index].carriers[usize::from(frame.1)] {
                self.hand_in(index, &frame);
                self.drive(index);
            }
        }
    }

    fn read_slowly(&mut self, index: usize) {
        let Pace::Slow(gap) = self.units[index].pace else {
            return;
        };
        self.read(index, FRAMES_PER_TURN);
        self.drive(index);
        if self.units[index].node.is_some() {
            self.schedule(self.now + gap, What::Read { unit: index });
        }
    }

    /// Does what the node wants until it wants nothing, and comes back when it says.
    pub(crate) fn drive(&mut self, index: usize) {
        let clock = self.units[index].time(self.now);
        let tick = self.units[index].tick(self.now);
        self.take_lease(index);
        self.take_changes(index);
        loop {
            let unit = &mut self.units[index];
            let Some(node) = &mut unit.node else { return };
            let Some(action) = node.poll(&unit.workers.source(tick), clock) else {
                break;
            };
            if !self.perform(index, action) {
                return;
            }
        }
        Checks::told_why(self, index);
        let unit = &mut self.units[index];
        let Some(node) = &unit.node else { return };
        let deadline = node.next_deadline();
        unit.generation += 1;
        // Synchronisation may want another turn at once, but not for ever.
        unit.turns = if deadline > clock { 0 } else { unit.turns + 1 };
        assert!(unit.turns < MAX_TURNS, "unit {} spins", unit.id);
        if deadline < Time::NEVER {
            let wake = What::Wake {
                unit: index,
                generation: unit.generation,
            };
            let at = unit.clock.moment(deadline).max(self.now + MS / 100);
            self.schedule(at, wake);
        }
    }

    /// The control core empties the workers' rings.
    fn take_changes(&mut self, index: usize) {
        if !self.units[index].workers.has_news() {
            return;
        }
        let (clock, tick) = (
            self.units[index].time(self.now),
            self.units[index].tick(self.now),
        );
        let changes = self.units[index].workers.take_changes(tick);
        let dirty = self.units[index].workers.take_dirty();
        let Some(node) = &mut self.units[index].node else {
            return;
        };
        for (shard, delta) in &changes {
            node.push(*shard, *delta, clock);
        }
        if !dirty.is_empty() {
            node.overflowed(dirty);
        }
        self.checks.pushed(index, &changes);
    }

    /// False when the unit is gone.
    fn perform(&mut self, index: usize, action: Action) -> bool {
        if let Some(left) = &mut self.units[index].doomed {
            if *left == 0 {
                self.crash(index);
                return false;
            }
            *left -= 1;
        }
        match action {
            Action::Send { link, payload } => self.transmit(index, link, payload),
            Action::Promote { term } => {
                self.note(index, || format!("promoted, term {term}"));
                Checks::promoted(self, index, term);
                self.units[index].serving = Some(term);
                self.look_soon(index);
            }
            Action::Demote { role, term } => {
                self.note(index, || format!("demoted to {role}, term {term}"));
                Checks::demoted(self, index);
                self.units[index].serving = None;
                self.look_soon(index);
            }
            Action::RoleChanged { role, term } => {
                self.note(index, || format!("now {role}, term {term}"));
            }
            Action::Lease(wish) => self.wish(index, wish),
            Action::Duty { duty, term } => {
                if duty == Duty::Primary {
                    self.units[index].last_term = term;
                }
                let post = &mut self.units[index].workers.post;
                (post.duty, post.term) = (duty, term);
            }
            Action::Distribute(distribution) => {
                self.units[index].workers.post.distribution = distribution;
            }
            Action::Restate { tuple } => {
                if self.units[index].workers.restate(tuple) {
                    self.turn_soon(index);
                }
            }
            Action::Neighbours { .. } => {}
            Action::Announce => self.checks.announced(index),
            Action::Apply { from, delta } => {
                Checks::told(self, index, from, &delta);
                let unit = &mut self.units[index];
                if unit.workers.command(delta) {
                    self.turn_soon(index);
                }
            }
            Action::Event(event) => self.note(index, || event.to_string()),
            Action::Left => {
                self.note(index, || "left".into());
                self.leave_store(index);
                self.restart(index);
                return false;
            }
        }
        true
    }

    pub(crate) fn start(&mut self, index: usize, key: u8) {
        if self.units[index].node.is_some() {
            return;
        }
        let settings = self.settings(index, key);
        let unit = &mut self.units[index];
        let clock = unit.time(self.now);
        unit.key = key;
        unit.workers = Workers::new(unit.id.get(), settings.shards, self.options.ring);
        unit.workers.mistake = self.options.mistake;
        let boot = settings.boot;
        unit.node = Some(Node::new(settings, clock).unwrap());
        self.checks.started(index, self.now);
        self.tell_links(index);
        self.tell_workers(index);
        self.disturbed = self.now;
        self.note(index, || format!("starts, boot {boot}, key {key}"));
        self.start_courier(index);
        self.drive(index);
    }

    fn settings(&mut self, index: usize, key: u8) -> Settings {
        let options = &self.options;
        let unit = &mut self.units[index];
        let back = unit.starts > 0 && self.random.chance(options.clock_back);
        unit.starts += 1;
        let seconds = if back {
            500 - unit.starts
        } else {
            1_000 + unit.starts
        };
        let name = |link| format!("link{link}");
        let station = Station {
            interface: name_key(&name(options.users_link())),
            mac: Mac([2, 0, 0, 0, 0, unit.id.get()]),
        };
        let (schedule, weight, stations) = match &options.schedule {
            Some((schedule, weights)) => (*schedule, weights[index], vec![station]),
            None => (Schedule::None, 1, Vec::new()),
        };
        let links = (0..options.links).map(|link| LinkSettings {
            name: name(link),
            kind: if link == 0 && options.links > 1 {
                LinkKind::Sync
            } else {
                LinkKind::Critical
            },
            weight: u16::from(link > 0 || options.links == 1),
        });
        Settings {
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
            key: Key::new([key; Key::LEN]),
            last_term: unit.last_term,
            boot: Boot(seconds << 32 | self.random.within(0..1 << 32)),
            links: links.collect(),
            config_hash: 1,
            config_parts: Vec::new(),
            software: "simulator".into(),
            session_sync: options.session_sync,
            witness: options.witness.map(Duration::from_nanos),
            shards: 1 + u16::try_from(index % 2).unwrap(),
            schedule,
            weight,
            stations,
            protocol: cluster::envelope::VERSION,
        }
    }

    pub(crate) fn turn_soon(&mut self, index: usize) {
        let start = self.units[index].starts;
        let at = self.now + self.random.within(0..self.options.turn);
        self.schedule(at, What::Turn { unit: index, start });
    }

    /// With a witness it counts when the workers hear of a role: their gate is closed at once.
    fn look_soon(&mut self, index: usize) {
        if self.options.witness.is_some() {
            let start = self.units[index].starts;
            let at = self.now + self.store.random.within(0..self.options.turn);
            self.schedule(at, What::Turn { unit: index, start });
        }
    }

    /// The workers do what was wanted of them.
    fn turn(&mut self, index: usize) {
        let unit = &mut self.units[index];
        if !unit.works() {
            return;
        }
        let (primary, tick) = (unit.serving.is_some(), unit.tick(self.now));
        unit.sends = primary;
        unit.workers.obey(tick);
        Checks::tables_changed(self, index);
    }

    /// What users do at a unit that gets what comes to the virtual MAC.
    fn traffic(&mut self, index: usize) {
        if !self.busy || !self.units[index].works() {
            return;
        }
        Checks::acknowledged(self, index);
        let unit = &mut self.units[index];
        let tick = unit.tick(self.now);
        unit.workers.age(tick);
        if unit.workers.post.takes_virtual() {
            let packet = self.users.packet(&mut self.random);
            self.take_in(index, &packet, None);
        }
        self.look_after_workers(index);
    }

    /// What workers did is judged, and told the control core.
    pub(crate) fn look_after_workers(&mut self, index: usize) {
        Checks::tables_changed(self, index);
        if self.units[index].pace == Pace::Running && self.units[index].workers.has_news() {
            self.drive(index);
        }
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) {
        let clock = self.units[index].time(self.now);
        let unit = &mut self.units[index];
        let Some(node) = unit.node.as_mut().filter(|_| unit.pace == Pace::Running) else {
            return;
        };
        let answer = node.handle_command(command, clock);
        self.disturbed = self.now;
        self.checks.commanded(index, command);
        self.note(index, || format!("{command:?}: {answer:?}"));
        self.drive(index);
    }
}
