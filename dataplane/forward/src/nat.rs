//! Choice of the translated port, or ICMP identifier, of a new session.
//!
//! Ports are divided between the units: unit `u` uses those with `port % 16 == u - 1`. So two units
//! never choose the same port, not even for sessions that a dead peer had begun and had not yet told
//! anybody about. ICMP identifiers are divided between the workers of a unit as well, because their
//! replies come to whichever worker and cannot be steered by the identifier.
//!
//! Which ports are in use, the session table knows: a port is free for an [`End`] when no session has
//! its reply tuple. So choosing is asking the table, and what that costs is bounded:
//!
//! - A few ports are drawn at random and independently (RFC 6056). While most are free that is all.
//! - An end that none of them was free for is *crowded*. Its ports are tried in a row from then on,
//!   each session going on where the last one stopped, so that every free port is found, however few
//!   there are. All crowded ends together have so many tries per burst.
//! - When all ports of an end have been tried in vain it is *exhausted*: for [`REFUSED_FOR`] its new
//!   sessions are refused without asking the table, by a look at one cache line. Then the row begins
//!   again, so a port that was freed is found within two ticks and one row of tries.

use packet::Tuple;
use packet::toeplitz::{self, Steering};
use session::Tick;

use crate::hash::KeyedHash;

/// How many classes ports are divided into: one for each possible unit id.
pub const PORT_CLASSES: u16 = 16;

/// The lowest translated port: the well-known ones are never used.
pub const FIRST_PORT: u16 = 1024;

/// An arithmetic progression of ports or identifiers that one chooser may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpace {
    first: u16,
    step: u16,
    count: u16,
}

impl PortSpace {
    /// Ports of a unit (1..=16), for TCP and UDP. All its workers share them; the one that a reply
    /// is steered to is the one that may use the port.
    #[must_use]
    pub const fn ports(unit: u8) -> Self {
        Self {
            first: FIRST_PORT + class(unit),
            step: PORT_CLASSES,
            count: (u16::MAX - FIRST_PORT) / PORT_CLASSES + 1,
        }
    }

    /// ICMP identifiers of one of a unit's workers, of which there are at most 4096.
    #[must_use]
    pub const fn identifiers(unit: u8, worker: u16, workers: u16) -> Self {
        let per_unit = 4096;
        let workers = if workers == 0 { 1 } else { workers };
        Self {
            first: (worker % per_unit) * PORT_CLASSES + class(unit),
            step: PORT_CLASSES.wrapping_mul(workers),
            count: per_unit / workers,
        }
    }

    /// The port at a position below `count`.
    const fn at(self, position: u16) -> u16 {
        self.first.wrapping_add(position.wrapping_mul(self.step))
    }

    /// The position after this one, which wraps around.
    const fn after(self, position: u16) -> u16 {
        if position + 1 < self.count {
            position + 1
        } else {
            0
        }
    }

    /// A position that is as random as `random`.
    fn scale(self, random: u64) -> u16 {
        let position = ((random >> 32) * u64::from(self.count)) >> 32;
        u16::try_from(position).unwrap_or(0)
    }
}

const fn class(unit: u8) -> u16 {
    unit.wrapping_sub(1) as u16 % PORT_CLASSES
}

/// How many ports are drawn for a new session before its end counts as crowded.
const DRAWS: usize = 8;
/// Tries of which the table is asked at once, its cache misses in flight together.
const TRIES_AT_ONCE: usize = 16;
/// How many crowded ends are remembered. They lie where their hashes say; a newer one takes the place.
const CROWDS: usize = 512;
/// For how long an exhausted end is not looked at, in ticks.
const REFUSED_FOR: u32 = 2;
/// How many bursts of a tick may use all of their tries.
const BURSTS_PER_TICK: u32 = 64;

/// What sessions compete for ports of: the address that they are hidden behind, and the far end's
/// address, port and protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    /// The reply tuple without its destination port.
    reply: Tuple,
    space: PortSpace,
    /// Where replies are steered, and the worker that they must come to; `None` when any port will do.
    steering: Option<(&'a Steering, u16)>,
    /// What steering hashes, but for the port.
    steered_by: u32,
    /// Names it among the crowded ones.
    hash: u64,
}

impl End<'_> {
    fn suits(&self, port: u16) -> bool {
        self.steering.is_none_or(|(steering, worker)| {
            steering.worker_of_hash(self.steered_by ^ toeplitz::hash_port(port)) == worker
        })
    }

    fn with(&self, port: u16) -> Tuple {
        Tuple {
            dst_port: port,
            ..self.reply
        }
    }
}

/// What is known of a crowded end. All zero is nobody's.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    end: u64,
    /// When its ports were last found to be all in use.
    exhausted: Tick,
    /// Position in the space of the next port to try.
    next: u16,
    /// Ports of the row not yet tried.
    left: u16,
}

/// Chooses ports for one worker. Takes all of its memory when it is made.
#[derive(Debug)]
pub(crate) struct PortChooser {
    hash: KeyedHash,
    /// Draws made: no two are the same.
    drawn: u64,
    crowds: Box<[Crowd; CROWDS]>,
    /// Tries that crowded ends have left in this burst.
    tries: u32,
    /// And in this tick, beside these.
    tries_of_tick: u32,
    tick: Tick,
}

impl Default for PortChooser {
    fn default() -> Self {
        Self {
            hash: KeyedHash::new(),
            drawn: 0,
            crowds: Box::new([Crowd::default(); CROWDS]),
            tries: 0,
            tries_of_tick: 0,
            tick: Tick::default(),
        }
    }
}

impl PortChooser {
    /// Grants crowded ends up to `tries` in all until the next call, and [`BURSTS_PER_TICK`] times as
    /// many per tick: a gateway at its limits spends no more than that on looking for ports.
    pub(crate) fn begin_burst(&mut self, tries: u32, now: Tick) {
        if now == self.tick {
            self.tries_of_tick += self.tries;
        } else {
            self.tick = now;
            self.tries_of_tick = tries.saturating_mul(BURSTS_PER_TICK);
        }
        self.tries = tries.min(self.tries_of_tick);
        self.tries_of_tick -= self.tries;
    }

    /// The end that replies to a new session come from as `reply`, whose destination port is still to
    /// be chosen from `space`. With `steering`, so that replies come to this worker.
    pub(crate) fn end<'a>(
        &self,
        reply: Tuple,
        space: PortSpace,
        steering: Option<(&'a Steering, u16)>,
    ) -> End<'a> {
        let reply = Tuple {
            dst_port: 0,
            ..reply
        };
        End {
            reply,
            space,
            steering,
            steered_by: steering.map_or(0, |_| toeplitz::hash(&reply)),
            hash: self.hash.tuple(&reply, 0),
        }
    }

    /// True when a new session of this end is to be refused at once.
    pub(crate) fn is_exhausted(&self, end: &End<'_>, now: Tick) -> bool {
        self.crowd(end)
            .is_some_and(|crowd| crowd.left == 0 && now.since(crowd.exhausted) < REFUSED_FOR)
    }

    /// The reply tuple with a port that may be free. `None` for a crowded end: the first try would
    /// likely be in vain.
    pub(crate) fn draw(&mut self, end: &End<'_>) -> Option<Tuple> {
        match self.crowd(end) {
            Some(_) => None,
            None => self.draw_one(end),
        }
    }

    /// The reply tuple with a free port, when what was drawn first is taken. `free` is asked about at
    /// most [`TRIES_AT_ONCE`] tuples at a time and answers with the position of the first that no
    /// session has. `None` when the end is exhausted or the burst has no tries left.
    pub(crate) fn search(
        &mut self,
        end: &End<'_>,
        now: Tick,
        mut free: impl FnMut(&[Tuple]) -> Option<usize>,
    ) -> Option<Tuple> {
        if self.crowd(end).is_none() {
            let mut drawn = [end.reply; DRAWS - 1];
            for tuple in &mut drawn {
                *tuple = self.draw_one(end)?;
            }
            if let Some(position) = free(&drawn) {
                return drawn.get(position).copied();
            }
            *self.slot(end) = Crowd {
                end: end.hash,
                exhausted: Tick::default(),
                next: end.space.scale(self.random(end)),
                left: end.space.count,
            };
        }
        self.try_in_a_row(end, now, free)
    }

    fn try_in_a_row(
        &mut self,
        end: &End<'_>,
        now: Tick,
        mut free: impl FnMut(&[Tuple]) -> Option<usize>,
    ) -> Option<Tuple> {
        let mut crowd = *self.slot(end);
        if crowd.left == 0 {
            if now.since(crowd.exhausted) < REFUSED_FOR {
                return None;
            }
            crowd.left = end.space.count;
        }
        let (mut found, mut at_once) = (None, true);
        while found.is_none() && crowd.left > 0 && self.tries > 0 {
            let mut tuples = [end.reply; TRIES_AT_ONCE];
            let mut positions = [0; TRIES_AT_ONCE];
            let mut tries_left = [0; TRIES_AT_ONCE];
            let mut suiting = 0;
            while suiting < TRIES_AT_ONCE && crowd.left > 0 && self.tries > 0 {
                let port = end.space.at(crowd.next);
                self.tries -= 1;
                if end.suits(port) {
                    tuples[suiting] = end.with(port);
                    positions[suiting] = crowd.next;
                    tries_left[suiting] = self.tries;
                    suiting += 1;
                }
                crowd.next = end.space.after(crowd.next);
                crowd.left -= 1;
            }
            if let Some(free) = free(&tuples[..suiting]) {
                found = Some(tuples[free]);
                at_once &= free == 0;
                crowd.next = end.space.after(positions[free]);
                // What lies behind the free one was asked about for nothing, and may be again.
                self.tries = tries_left[free];
                crowd.left = end.space.count;
            }
            at_once &= found.is_some();
        }
        if found.is_none() && crowd.left == 0 {
            crowd.exhausted = now;
        }
        // The first try met a free port: there may be many again.
        let crowded = found.is_none() || !at_once;
        *self.slot(end) = if crowded { crowd } else { Crowd::default() };
        found
    }

    /// A port that steers here, from a random position on.
    fn draw_one(&mut self, end: &End<'_>) -> Option<Tuple> {
        let start = end.space.scale(self.random(end));
        std::iter::successors(Some(start), |position| Some(end.space.after(*position)))
            .take(end.space.count.into())
            .map(|position| end.space.at(position))
            .find(|port| end.suits(*port))
            .map(|port| end.with(port))
    }

    fn random(&mut self, end: &End<'_>) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        self.hash.number(end.hash, self.drawn)
    }

    fn crowd(&self, end: &End<'_>) -> Option<&Crowd> {
        let crowd = &self.crowds[place(end)];
        (crowd.end == end.hash).then_some(crowd)
    }

    fn slot(&mut self, end: &End<'_>) -> &mut Crowd {
        &mut self.crowds[place(end)]
    }
}

fn place(end: &End<'_>) -> usize {
    (end.hash >> 32) as usize % CROWDS
}

#[cfg(test)]
mod tests;
