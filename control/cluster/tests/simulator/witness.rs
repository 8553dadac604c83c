//! The witness: a store after etcd, with a clock of its own, the way to it, and what the thread of a unit
//! does that speaks to it.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::{LeaseAnswer, LeaseHolder, LeaseId, LeaseKeeper, LeaseReport, LeaseRequest, Time};

use crate::checks::Checks;
use crate::clock::Clock;
use crate::options::{MS, Mistake, Options, SECOND};
use crate::random::Random;
use crate::unit::{Pace, Unit};
use crate::world::{What, World};

/// How far the store's clock may go from the units', in millionths: half of what the protocol allows for.
const DRIFT: u64 = 50_000;
/// Exchanges that take as long as they like while it is slow, in thousandths.
const SLOW: u64 = 200;
/// How long an exchange takes at the most while the store is slow, and what was sent into a cut after it was given up.
const LONGEST_DELAY: u64 = 5 * SECOND;

/// A unit, in one of its starts.
type Start = (usize, u64);

/// What is known of one exchange.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    of: Start,
    request: LeaseRequest,
    answer: Option<LeaseAnswer>,
}

/// The store and the ways to it.
#[derive(Debug)]
pub(crate) struct Store {
    clock: Clock,
    /// How long leases last.
    life: Duration,
    /// When each of them runs out.
    leases: BTreeMap<LeaseId, Time>,
    /// Who is written down as the primary, attached to which lease.
    primary: Option<(Start, LeaseId)>,
    granted: i64,
    exchanges: BTreeMap<u64, Exchange>,
    asked: u64,
    down: bool,
    /// Some exchanges take as long as they like.
    pub(crate) slow: bool,
    /// By unit: whether requests are cut off, and answers.
    cuts: Vec<[bool; 2]>,
    /// What only concerns the witness is drawn here.
    pub(crate) random: Random,
}

impl Store {
    pub(crate) fn new(options: &Options, mut random: Random) -> Self {
        let life = options.witness.unwrap_or_default();
        let rate = i64::try_from(random.within(0..2 * DRIFT)).unwrap() - 50_000;
        Self {
            clock: Clock::new(0, rate),
            life: Duration::from_nanos(life),
            leases: BTreeMap::new(),
            primary: None,
            granted: 0,
            exchanges: BTreeMap::new(),
            asked: 0,
            down: false,
            slow: false,
            cuts: vec![[false; 2]; options.units],
            random,
        }
    }

    /// Whether a unit can speak to it.
    pub(crate) fn answers(&self, unit: usize) -> bool {
        !self.down && self.cuts[unit] == [false; 2]
    }

    fn expire(&mut self, now: Time) {
        self.leases.retain(|_, until| now < *until);
        let leases = &self.leases;
        self.primary = self.primary.filter(|(_, lease)| leases.contains_key(lease));
    }

    /// One exchange. `None` for what the store refuses.
    fn transact(&mut self, of: Start, request: LeaseRequest, now: u64) -> Option<LeaseAnswer> {
        let now = self.clock.at(now);
        self.expire(now);
        let life = self.life;
        match request {
            LeaseRequest::Grant => {
                self.granted += 1;
                let lease = LeaseId(self.granted);
                self.leases.insert(lease, now + life);
                Some(LeaseAnswer::Granted { lease, life })
            }
            LeaseRequest::KeepAlive(lease) => {
                let kept = self.leases.get_mut(&lease);
                let life = kept.map_or(Duration::ZERO, |until| {
                    *until = now + life;
                    life
                });
                Some(LeaseAnswer::Kept { life })
            }
            LeaseRequest::Claim(lease) => {
                if self.primary.is_none() {
                    self.leases.get(&lease)?;
                    self.primary = Some((of, lease));
                }
                Some(LeaseAnswer::Holder(self.holder(of, Some(lease))))
            }
            LeaseRequest::GiveBack(lease) => {
                self.leases.remove(&lease);
                self.expire(now);
                Some(LeaseAnswer::GivenBack)
            }
            LeaseRequest::Look => Some(LeaseAnswer::Holder(self.holder(of, None))),
        }
    }

    fn holder(&self, of: Start, lease: Option<LeaseId>) -> LeaseHolder {
        match self.primary {
            None => LeaseHolder::Nobody,
            Some((unit, with)) if unit == of && Some(with) == lease => LeaseHolder::Own,
            Some(((unit, _), _)) => {
                LeaseHolder::Other(cluster::UnitId::new(u8::try_from(unit + 1).unwrap()))
            }
        }
    }

    /// How long something takes one way; `None` if it does not arrive.
    fn delay(&mut self, unit: usize, way: usize) -> Option<u64> {
        if self.cuts[unit][way] {
            // What was sent into a cut may arrive when that ends, after its sender gave it up, by whatever clock.
            let late = self.random.chance(500);
            let given_up =
                u64::try_from(2 * LeaseKeeper::exchange_limit(self.life).as_nanos()).unwrap();
            return late.then(|| given_up + self.random.within(0..LONGEST_DELAY));
        }
        let longest = if self.slow && self.random.chance(SLOW) {
            LONGEST_DELAY
        } else {
            5 * MS
        };
        Some(self.random.within(MS / 10..longest))
    }
}

/// A unit's thread that speaks to the store, and the gate before the virtual MAC.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) keeper: LeaseKeeper,
    /// Until when the workers may send from the virtual MAC.
    pub(crate) gate: Time,
    /// What the state machine was told last.
    pub(crate) told: LeaseReport,
    /// The state machine was not told yet.
    news: bool,
    /// The exchange under way, and until when.
    pending: Option<(u64, Time)>,
    /// Its answer, while the unit is stopped.
    arrived: Option<LeaseAnswer>,
    /// Counts what it set out to do, so that only the latest counts.
    generation: u64,
    /// It waits for a sign of life.
    asleep: bool,
}

impl Courier {
    fn new(life: Duration, now: Time) -> Self {
        Self {
            keeper: LeaseKeeper::new(life, now),
            gate: Time(0),
            told: LeaseReport::default(),
            news: false,
            pending: None,
            arrived: None,
            generation: 0,
            asleep: false,
        }
    }
}

impl Unit {
    /// Whether its workers could send from the virtual MAC, were they to go on now.
    pub(crate) fn may_transmit(&self, now: u64) -> bool {
        let gate = self.courier.as_ref().map(|courier| courier.gate);
        let told = self.serving.is_some() || self.sends;
        self.node.is_some() && told && gate.is_none_or(|gate| self.time(now) < gate)
    }
}

impl World {
    pub(crate) fn start_courier(&mut self, index: usize) {
        let life = self.options.witness.map(Duration::from_nanos);
        let unit = &mut self.units[index];
        unit.courier = life.map(|life| Courier::new(life, unit.time(self.now)));
        self.ask_store(index);
    }

    /// Asks what there is to ask, or comes back when there is.
    pub(crate) fn ask_store(&mut self, index: usize) {
        let unit = &mut self.units[index];
        let (now, start) = (unit.time(self.now), unit.starts);
        let runs = unit.pace != Pace::Stopped;
        let Some(courier) = unit.courier.as_mut().filter(|_| runs) else {
            return;
        };
        if courier.pending.is_some() {
            return;
        }
        if self.options.mistake == Some(Mistake::HangingIsAlive) {
            courier.keeper.attend(now);
        }
        courier.generation += 1;
        let generation = courier.generation;
        if let Some(request) = courier.keeper.request(now) {
            let limit = LeaseKeeper::exchange_limit(self.store.life);
            let number = self.send_request((index, start), request);
            let courier = self.units[index].courier.as_mut().unwrap();
            courier.pending = Some((number, now + limit));
            let at = self.units[index].clock.moment(now + limit);
            self.schedule(
                at,
                What::GiveUp {
                    unit: index,
                    number,
                },
            );
            return;
        }
        let next = courier.keeper.next_deadline(now);
        courier.asleep = next == Time::NEVER;
        if !courier.asleep {
            let at = unit.clock.moment(next).max(self.now + MS / 100);
            let unit = index;
            self.schedule(at, What::Ask { unit, generation });
        }
    }

    pub(crate) fn ask_again(&mut self, index: usize, generation: u64) {
        let courier = self.units[index].courier.as_ref();
        if courier.is_some_and(|courier| courier.generation == generation) {
            self.ask_store(index);
        }
    }

    fn send_request(&mut self, of: Start, request: LeaseRequest) -> u64 {
        let store = &mut self.store;
        store.asked += 1;
        let number = store.asked;
        let exchange = Exchange {
            of,
            request,
            answer: None,
        };
        store.exchanges.insert(number, exchange);
        if let Some(delay) = store.delay(of.0, 0) {
            self.schedule(self.now + delay, What::Request { number });
        }
        number
    }

    /// A request is at the store.
    pub(crate) fn serve_request(&mut self, number: u64) {
        let store = &mut self.store;
        let Some(mut exchange) = store.exchanges.remove(&number).filter(|_| !store.down) else {
            return;
        };
        exchange.answer = store.transact(exchange.of, exchange.request, self.now);
        if exchange.answer.is_some()
            && let Some(delay) = store.delay(exchange.of.0, 1)
        {
            store.exchanges.insert(number, exchange);
            self.schedule(self.now + delay, What::Answer { number });
        }
    }

    /// An answer is at the unit that asked, if that still waits for it.
    pub(crate) fn take_answer(&mut self, number: u64) {
        let Some(exchange) = self.store.exchanges.remove(&number) else {
            return;
        };
        let (index, start) = exchange.of;
        let unit = &mut self.units[index];
        let same = unit.starts == start;
        let Some(courier) = unit.courier.as_mut().filter(|_| same) else {
            return;
        };
        if courier.pending.is_none_or(|(pending, _)| pending != number) {
            return;
        }
        if unit.pace == Pace::Stopped {
            courier.arrived = exchange.answer;
        } else {
            self.end_exchange(index, exchange.answer);
        }
    }

    /// An exchange took too long.
    pub(crate) fn give_up(&mut self, index: usize, number: u64) {
        let unit = &self.units[index];
        let pending = unit.courier.as_ref().and_then(|courier| courier.pending);
        if pending.is_some_and(|(pending, _)| pending == number) && unit.pace != Pace::Stopped {
            self.end_exchange(index, None);
        }
    }

    /// A unit that was stopped goes on: its answer is there, or too late.
    pub(crate) fn wake_courier(&mut self, index: usize) {
        let now = self.units[index].time(self.now);
        let Some(courier) = &mut self.units[index].courier else {
            return;
        };
        let late = courier.pending.is_some_and(|(_, limit)| now >= limit);
        match courier.arrived.take() {
            Some(answer) => self.end_exchange(index, Some(answer)),
            None if late => self.end_exchange(index, None),
            None => self.ask_store(index),
        }
    }

    fn end_exchange(&mut self, index: usize, answer: Option<LeaseAnswer>) {
        let unit = &mut self.units[index];
        let now = unit.time(self.now);
        let Some(courier) = &mut unit.courier else {
            return;
        };
        courier.pending = None;
        courier.keeper.answer(answer, now);
        courier.news = true;
        if unit.pace == Pace::Running {
            self.drive(index);
        }
        self.ask_store(index);
    }

    /// The control core looks at what the witness said.
    pub(crate) fn take_lease(&mut self, index: usize) {
        if self.units[index].courier.as_ref().is_some_and(|c| c.news) {
            // What it did by now it did by what it had been told before.
            Checks::told_why(self, index);
        }
        let unit = &mut self.units[index];
        let now = unit.time(self.now);
        let (Some(node), Some(courier)) = (&mut unit.node, &mut unit.courier) else {
            return;
        };
        courier.keeper.attend(now);
        if std::mem::take(&mut courier.news) {
            courier.told = courier.keeper.report();
            node.handle_witness(courier.told, now);
            courier.gate = match self.options.mistake {
                Some(Mistake::NoGate) => Time::NEVER,
                Some(Mistake::LateGate) => courier.told.until + self.store.life,
                _ => node.lease_until().unwrap_or_default(),
            };
        }
        if std::mem::take(&mut courier.asleep) {
            self.ask_store(index);
        }
    }

    /// The state machine wants something else of the witness. The gate is moved first.
    pub(crate) fn wish(&mut self, index: usize, wish: cluster::LeaseWish) {
        let unit = &mut self.units[index];
        let (Some(node), Some(courier)) = (&unit.node, &mut unit.courier) else {
            panic!("unit {} has no witness", index + 1);
        };
        courier.gate = node.lease_until().unwrap_or_default();
        courier.keeper.wish(wish);
        if wish.hold {
            Checks::claimed(self, index);
        }
        self.ask_store(index);
    }

    /// A unit leaves in order, and gives back what it has.
    pub(crate) fn leave_store(&mut self, index: usize) {
        let unit = &mut self.units[index];
        let start = unit.starts;
        let Some(courier) = unit.courier.take() else {
            return;
        };
        for lease in courier.keeper.leases() {
            self.send_request((index, start), LeaseRequest::GiveBack(lease));
        }
    }

    /// What can go wrong with the witness, now and then.
    pub(crate) fn witness_fault(&mut self) {
        let Some(life) = self.options.witness else {
            return;
        };
        let draw = &mut self.store.random;
        let unit = draw.index(self.units.len());
        let kind = draw.within(0..20);
        match kind {
            0..3 => self.cut_store(unit, [true, true]),
            3 => self.cut_store(unit, [true, false]),
            4 => self.cut_store(unit, [false, true]),
            5..7 => self.cut_store(unit, [false, false]),
            7 => self.set_store(!self.store.down),
            8 => self.restart_store(),
            9..12 => {
                let longest = *self.store.random.pick(&[3 * life, 3 * life, 60 * SECOND]);
                let length = self.store.random.within(life / 2..longest);
                let pace = *self.store.random.pick(&[Pace::Stopped, Pace::Hanging]);
                let primary = self.units.iter().position(Unit::is_primary);
                self.pause(primary.unwrap_or(unit), pace, length);
            }
            12 => {
                let rate = i64::try_from(self.store.random.within(0..2 * DRIFT)).unwrap();
                self.store.clock.drift(self.now, rate - 50_000);
            }
            13..15 => {
                self.store.slow = !self.store.slow;
                self.disturbed = self.now;
            }
            _ => {}
        }
    }

    fn cut_store(&mut self, unit: usize, cuts: [bool; 2]) {
        self.note(unit, || format!("cut off the witness: {cuts:?}"));
        self.store.cuts[unit] = cuts;
        self.disturbed = self.now;
    }

    fn set_store(&mut self, down: bool) {
        self.note(0, || format!("the witness is down: {down}"));
        self.store.down = down;
        self.disturbed = self.now;
    }

    /// It comes back with what it knew, and every lease begins anew.
    fn restart_store(&mut self) {
        self.set_store(false);
        let now = self.store.clock.at(self.now);
        self.store.expire(now);
        let until = now + self.store.life;
        self.store.leases.values_mut().for_each(|end| *end = until);
    }

    pub(crate) fn heal_store(&mut self) {
        self.store.down = false;
        self.store.slow = false;
        self.store.cuts.fill([false; 2]);
    }
}
