//! Whose packet this is, where several units own sessions, and the way of one that is another unit's.
//! After `dataplane/forward`: `worker::assign`, `sharing`, `picker`; why: decision 8.
//!
//! Invariant: what another unit passed on is processed or dropped, never passed on again.

use cluster::{Distribution, Duty, Pick, UnitId};
use packet::{Tuple, toeplitz};
use session::{Direction, Flags, Hit, Session, Tick, Version};

use crate::checks::Checks;
use crate::options::{MS, Mistake};
use crate::random::Random;
use crate::users::Packet;
use crate::workers::{CLASSES, FIRST_PORT, Fate, Workers};
use crate::world::{What, World};

/// The longest way of a packet from one unit to another.
const LONGEST_WAY: u64 = 10 * MS;

/// What the workers do with users' packets, as the control core told them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Post {
    pub(crate) duty: Duty,
    /// What they write sessions in.
    pub(crate) term: u32,
    pub(crate) distribution: Distribution,
}

impl Post {
    pub(crate) fn is_primary(&self) -> bool {
        self.duty == Duty::Primary
    }

    /// Whether what comes to the virtual MAC is taken in.
    pub(crate) const fn takes_virtual(&self) -> bool {
        matches!(self.duty, Duty::Primary | Duty::Relay { .. })
    }

    /// Whether a unit is alive and may own sessions.
    pub(crate) fn owns(&self, unit: u8) -> bool {
        let mut members = self.distribution.members.iter();
        members.any(|member| member.unit.get() == unit && member.owns)
    }

    /// Whether frames of a unit are known as such: it is alive, and was reached at some time.
    fn knows(&self, unit: u8) -> bool {
        let mut members = self.distribution.members.iter();
        members.any(|member| member.unit.get() == unit && !member.sources.is_empty())
    }

    /// Whether a unit is alive and can be reached.
    fn is_reached(&self, unit: u8) -> bool {
        let mut members = self.distribution.members.iter();
        members.any(|member| member.unit.get() == unit && !member.stations.is_empty())
    }
}

/// A packet on its way from one unit to another.
#[derive(Debug)]
pub(crate) struct Passing {
    from: UnitId,
    to: UnitId,
    packet: Packet,
}

impl Workers {
    /// A packet to the virtual MAC, or from another unit.
    pub(crate) fn process(
        &mut self,
        packet: &Packet,
        from: Option<UnitId>,
        now: Tick,
        random: &mut Random,
    ) -> Fate {
        let known = from.is_some_and(|unit| self.post.knows(unit.get()));
        let passed = known && self.mistake != Some(Mistake::PassesTwice);
        let taken = match (self.post.duty, from) {
            (Duty::Idle, _) | (Duty::Owner { .. }, None) => false,
            (Duty::Owner { .. }, Some(_)) => known,
            (Duty::Primary | Duty::Relay { .. }, _) => true,
        };
        if !taken {
            return Fate::Dropped;
        }
        let found = (0..self.shards.len())
            .find_map(|shard| Some((shard, self.shards[shard].lookup(&packet.tuple)?)));
        if let Duty::Relay { to } = self.post.duty
            && !passed
        {
            return self.relay(found, to.get());
        }
        match found {
            Some((shard, hit)) if self.shards[shard].owner(hit) != self.unit => {
                self.follow_owner(shard, hit, packet, passed, now, random)
            }
            Some((shard, hit)) => self.track(shard, hit, packet, now),
            None => self.begin(packet, passed, now, random),
        }
    }

    /// What became of a packet that has the session of another unit. Only a primary passes it on.
    fn follow_owner(
        &mut self,
        shard: usize,
        hit: Hit,
        packet: &Packet,
        passed: bool,
        now: Tick,
        random: &mut Random,
    ) -> Fate {
        let assigned = !self.post.is_primary() || passed;
        let provisional = self.shards[shard].is_provisional(hit.id());
        if !assigned && let Some(keeper) = self.keeper(shard, hit) {
            if !provisional {
                self.shards[shard].touch(hit, now);
            }
            return pass_to(keeper);
        }
        if provisional {
            self.shards[shard].remove(hit.id());
            return self.begin(packet, passed, now, random);
        }
        let original = self.shards[shard].session(hit.id()).tuples[0];
        let other = (!assigned)
            .then(|| self.pick(shard, &original, random))
            .flatten();
        match other.filter(|unit| self.reaches_owner(*unit)) {
            Some(unit) => {
                self.shards[shard].assign(hit, unit);
                pass_to(unit)
            }
            None => self.track(shard, hit, packet, now),
        }
    }

    /// A packet that came here although this unit handed over.
    fn relay(&self, found: Option<(usize, Hit)>, to: u8) -> Fate {
        let third = found
            .filter(|(shard, hit)| self.shards[*shard].owner(*hit) != to)
            .and_then(|(shard, hit)| self.keeper(shard, hit));
        match third.or_else(|| self.reaches(to).then_some(to)) {
            Some(unit) => pass_to(unit),
            None => Fate::Dropped,
        }
    }

    /// A packet that has no session here.
    fn begin(&mut self, packet: &Packet, passed: bool, now: Tick, random: &mut Random) -> Fate {
        let gives = self.post.is_primary() && !passed;
        if !packet.opens() {
            let translator = translator_of(packet).filter(|unit| gives && self.reaches(*unit));
            return translator.map_or(Fate::Dropped, pass_to);
        }
        let shard = self.home(&packet.tuple);
        let owner = gives
            .then(|| self.pick(shard, &packet.tuple, random))
            .flatten();
        match owner.filter(|unit| self.reaches_owner(*unit)) {
            Some(unit) => self.hand_out(shard, packet, unit, now),
            None => self.admit(packet, now, random),
        }
    }

    /// Gives a new session to another unit, and remembers that until this tells of it.
    fn hand_out(&mut self, shard: usize, packet: &Packet, owner: u8, now: Tick) -> Fate {
        let session = Session {
            tuples: [packet.tuple, packet.tuple.reversed()],
            version: Version::PROVISIONAL,
            flags: Flags(Flags::SOURCE_NAT),
            owner,
            ..Session::default()
        };
        match self.shards[shard].insert(session, now) {
            Ok(inserted) => {
                self.give_way(shard, inserted.evicted);
                pass_to(owner)
            }
            Err(_) => Fate::Dropped,
        }
    }

    /// The other unit that a session stays with. One that may have begun it and not yet told keeps it as
    /// long as it lives.
    fn keeper(&self, shard: usize, hit: Hit) -> Option<u8> {
        let owner = self.shards[shard].owner(hit);
        let keeps = match self.shards[shard].is_provisional(hit.id()) {
            true => self.reaches(owner),
            false => self.reaches_owner(owner),
        };
        keeps.then_some(owner)
    }

    /// Picks an owner by the schedule.
    fn pick(&mut self, shard: usize, tuple: &Tuple, random: &mut Random) -> Option<u8> {
        let Distribution { pick, slots, .. } = &self.post.distribution;
        if slots.is_empty() {
            return None;
        }
        let by_hash = |hash: u32| usize::try_from(hash).unwrap() % slots.len();
        let slot = match pick {
            Pick::InTurn => self.picked % slots.len(),
            Pick::Fewest => return fewest(slots, |unit| self.shards[shard].owned(unit)),
            Pick::Random => random.index(slots.len()),
            Pick::Addresses => by_hash(toeplitz::hash_addresses(tuple)),
            Pick::Tuple => by_hash(toeplitz::hash(tuple)),
        };
        self.picked += 1;
        Some(slots[slot].get())
    }

    /// Whether another unit is alive and can be reached.
    fn reaches(&self, unit: u8) -> bool {
        unit != self.unit && self.post.is_reached(unit)
    }

    /// Whether that one may own sessions as well.
    fn reaches_owner(&self, unit: u8) -> bool {
        self.reaches(unit) && self.post.owns(unit)
    }
}

fn pass_to(unit: u8) -> Fate {
    Fate::Passed(UnitId::new(unit).unwrap())
}

/// The unit of the class that the port of a reply is of: its owner may not have told of the session yet.
fn translator_of(packet: &Packet) -> Option<u8> {
    let port = packet.tuple.dst_port;
    let chosen = packet.direction == Direction::Reply && port >= FIRST_PORT;
    chosen.then(|| u8::try_from(port % CLASSES).unwrap() + 1)
}

/// The unit that owns the fewest sessions for its slots, the first of equal ones.
fn fewest(slots: &[UnitId], owned: impl Fn(u8) -> u32) -> Option<u8> {
    let part = |unit: &UnitId| slots.iter().filter(|slot| *slot == unit).count() as u64;
    let has = |unit: &UnitId| u64::from(owned(unit.get()));
    // Compared as has / part, without dividing.
    let order = |a: &&UnitId, b: &&UnitId| (has(a) * part(b)).cmp(&(has(b) * part(a)));
    let fewest = slots.iter().min_by(|a, b| order(a, b).then(a.cmp(b)));
    fewest.map(|unit| unit.get())
}

impl World {
    /// A user's packet comes to a unit.
    pub(crate) fn take_in(&mut self, index: usize, packet: &Packet, from: Option<UnitId>) {
        let unit = &mut self.units[index];
        let tick = unit.tick(self.now);
        let fate = unit.workers.process(packet, from, tick, &mut self.random);
        match fate {
            Fate::Forwarded(port) => self.users.arrived(packet, port),
            Fate::Passed(to) => {
                self.note(index, || {
                    format!("passes {:?} on to unit {to}", packet.tuple)
                });
                Checks::passed_on(self, index, from, to);
                self.pass_on(index, to, *packet);
            }
            Fate::Dropped if self.random.chance(300) => {
                self.users.give_up(packet.connection);
                if packet.direction == Direction::Original {
                    self.units[index].workers.clear(&packet.tuple);
                }
            }
            Fate::Dropped => {}
        }
    }

    fn pass_on(&mut self, index: usize, to: UnitId, packet: Packet) {
        let from = self.units[index].id;
        let number = self.next_event();
        self.passing.insert(number, Passing { from, to, packet });
        let at = self.now + self.random.within(1..LONGEST_WAY);
        self.schedule(at, What::Passed { number });
    }

    /// A packet that another unit passed on arrives, unless it is lost, the way is cut, or nobody looks.
    pub(crate) fn take_passed(&mut self, number: u64) {
        let Some(Passing { from, to, packet }) = self.passing.remove(&number) else {
            return;
        };
        let lost = self.random.chance(self.options.loss);
        let carried = !lost && self.carries(from.index(), to.index());
        if carried && self.units[to.index()].works() {
            self.take_in(to.index(), &packet, Some(from));
            self.look_after_workers(to.index());
        }
    }

    /// Whether users' packets get from one unit to another.
    fn carries(&self, from: usize, to: usize) -> bool {
        let link = self.options.users_link();
        self.units[from].carriers[link]
            && self.units[to].carriers[link]
            && !self.network.cuts[from][to][link]
    }
}
