//! What goes wrong.

use cluster::{Command, LinkId, UnitId};

use crate::checks::Checks;
use crate::options::{MS, SECOND};
use crate::unit::Pace;
use crate::world::{What, World};

/// Things that a unit may still do before it crashes in the middle of them.
const STEPS_TO_CRASH: u64 = 60;

impl World {
    /// One fault, drawn, and time after it.
    pub(crate) fn fault(&mut self) {
        let unit = self.random.index(self.units.len());
        match self.random.within(0..32) {
            0..3 => self.restart(unit),
            3..5 => self.units[unit].doomed = Some(self.random.within(0..STEPS_TO_CRASH)),
            5..8 => {
                let longest = *self
                    .random
                    .pick(&[60 * MS, 400 * MS, 4 * SECOND, 20 * SECOND]);
                let length = self.random.within(MS..longest);
                self.pause(unit, Pace::Stopped, length);
            }
            8 => {
                let length = self.random.within(MS..4 * SECOND);
                self.pause(unit, Pace::Hanging, length);
            }
            9 => {
                let gap = self.random.within(MS..self.options.interval);
                let length = self.random.within(MS..4 * SECOND);
                self.pause(unit, Pace::Slow(gap), length);
            }
            10..13 => {
                let link = self.random.index(self.options.links);
                let up = !self.units[unit].carriers[link];
                self.set_carrier(unit, link, up);
            }
            13 => self.flap(unit),
            14..16 => self.cut(unit, false),
            16..19 => self.cut(unit, true),
            19 => self.isolate(unit),
            20..22 => {
                self.network.mend();
                self.disturbed = self.now;
            }
            22 => {
                let forwards = !self.units[unit].forwards;
                self.set_workers(unit, forwards);
            }
            23..25 => {
                let named = self.random.chance(500);
                let other = u8::try_from(self.random.index(self.units.len()) + 1).unwrap();
                let to = UnitId::new(other).filter(|_| named);
                self.command(unit, Command::Failover { to });
            }
            25 => {
                let begin = self.random.chance(500);
                self.command(unit, Command::Maintenance(begin));
            }
            26 => self.command(unit, Command::Leave),
            27 => {
                let rate = self.draw_rate();
                self.units[unit].clock.drift(self.now, rate);
                if self.units[unit].pace == Pace::Running {
                    self.drive(unit);
                }
            }
            28 => self.give_wrong_key(unit),
            _ => {}
        }
        self.witness_fault();
        self.wait();
    }

    fn wait(&mut self) {
        let longest = *self
            .random
            .pick(&[5 * MS, 100 * MS, 400 * MS, 2 * SECOND, 2 * SECOND]);
        let quiet = if self.random.chance(60) {
            self.options.settle_bound() + SECOND
        } else {
            0
        };
        let gap = self.random.within(0..longest) + quiet;
        self.run_for(gap);
    }

    pub(crate) fn restart(&mut self, unit: usize) {
        let after = self.random.within(MS..4 * SECOND);
        self.kill(unit);
        self.start_later(unit, after);
    }

    pub(crate) fn start_later(&mut self, unit: usize, after: u64) {
        self.schedule(self.now + after, What::Start { unit });
    }

    /// SIGKILL: nothing is said, nothing is kept.
    pub(crate) fn kill(&mut self, index: usize) {
        self.note(index, || "is gone".into());
        self.disturbed = self.now;
        let unit = &mut self.units[index];
        unit.node = None;
        unit.serving = None;
        unit.sends = false;
        unit.courier = None;
        unit.pace = Pace::Running;
        unit.doomed = None;
        unit.socket.clear();
        unit.generation += 1;
        self.checks.killed(index);
    }

    /// It dies in the middle of what it was about to do.
    pub(crate) fn crash(&mut self, unit: usize) {
        Checks::told_why(self, unit);
        self.restart(unit);
    }

    /// Somebody gives it another cluster's key, and later the right one.
    fn give_wrong_key(&mut self, unit: usize) {
        self.kill(unit);
        self.start(unit, 1);
        let longest = *self.random.pick(&[400 * MS, 6 * SECOND]);
        let length = self.random.within(MS..longest);
        self.run_for(length);
        self.restart(unit);
    }

    pub(crate) fn pause(&mut self, index: usize, pace: Pace, length: u64) {
        if self.units[index].node.is_none() || self.units[index].pace != Pace::Running {
            return;
        }
        self.note(index, || format!("{pace:?} for {} ms", length / MS));
        self.units[index].pace = pace;
        self.disturbed = self.now;
        if !pace.turns() {
            self.checks.stops(index, self.now);
        }
        if let Pace::Slow(gap) = pace {
            self.schedule(self.now + gap, What::Read { unit: index });
        }
        self.schedule(self.now + length, What::Resume { unit: index });
    }

    pub(crate) fn resume(&mut self, index: usize) {
        if self.units[index].node.is_none() || self.units[index].pace == Pace::Running {
            return;
        }
        self.units[index].pace = Pace::Running;
        self.note(index, || "goes on".into());
        self.disturbed = self.now;
        self.checks.goes_on(index, self.now);
        if self.random.chance(500) {
            self.drive(index);
        }
        self.tell_links(index);
        self.tell_workers(index);
        self.read(index, usize::MAX);
        self.drive(index);
        self.wake_courier(index);
        self.turn_soon(index);
    }

    pub(crate) fn set_carrier(&mut self, index: usize, link: usize, up: bool) {
        self.note(index, || {
            format!("link {link} {}", if up { "up" } else { "down" })
        });
        self.disturbed = self.now;
        self.units[index].carriers[link] = up;
        if self.units[index].runs() {
            self.tell_link(index, link);
            self.drive(index);
        }
    }

    pub(crate) fn tell_links(&mut self, index: usize) {
        (0..self.options.links).for_each(|link| self.tell_link(index, link));
    }

    /// A state machine hears how a link is. What it does now it does without knowing what it is told next.
    fn tell_link(&mut self, index: usize, link: usize) {
        let clock = self.units[index].time(self.now);
        let unit = &mut self.units[index];
        let Some(node) = &mut unit.node else { return };
        let up = unit.carriers[link];
        unit.told.carriers[link] = up;
        node.handle_link(LinkId(u8::try_from(link).unwrap()), up, clock);
        Checks::told_why(self, index);
    }

    /// A state machine hears whether the workers forward.
    pub(crate) fn tell_workers(&mut self, index: usize) {
        let clock = self.units[index].time(self.now);
        let unit = &mut self.units[index];
        let Some(node) = &mut unit.node else { return };
        unit.told.forwards = unit.forwards;
        node.handle_workers(unit.forwards, clock);
        Checks::told_why(self, index);
    }

    pub(crate) fn set_workers(&mut self, index: usize, forwards: bool) {
        self.note(index, || {
            format!("workers {}", if forwards { "run" } else { "stopped" })
        });
        self.disturbed = self.now;
        self.units[index].forwards = forwards;
        if self.units[index].runs() {
            self.tell_workers(index);
            self.drive(index);
        }
        self.turn_soon(index);
    }

    /// Cuts a unit off another, on one link or all, one way or both.
    fn cut(&mut self, from: usize, both_ways: bool) {
        let others = self.units.len() - 1;
        let to = (from + 1 + self.random.index(others)) % self.units.len();
        let only = self
            .random
            .chance(400)
            .then(|| self.random.index(self.options.links));
        self.note(from, || {
            format!(
                "cut to unit {}, link {only:?}, both ways {both_ways}",
                to + 1
            )
        });
        self.disturbed = self.now;
        for link in 0..self.options.links {
            if only.is_none_or(|only| only == link) {
                self.network.cuts[from][to][link] = true;
                self.network.cuts[to][from][link] |= both_ways;
            }
        }
    }

    /// Cuts the units in two halves, of which one may be a single unit.
    fn isolate(&mut self, unit: usize) {
        let alone = self.random.chance(500);
        let side = |index: usize| if alone { index == unit } else { index <= unit };
        self.note(unit, || format!("partition, alone {alone}"));
        self.disturbed = self.now;
        for from in 0..self.units.len() {
            for to in 0..self.units.len() {
                if side(from) != side(to) {
                    self.network.cuts[from][to].fill(true);
                }
            }
        }
    }

    fn flap(&mut self, unit: usize) {
        let link = self.random.index(self.options.links);
        for turn in 0..10 {
            self.set_carrier(unit, link, turn % 2 == 1);
            let gap = self.random.within(MS..120 * MS);
            self.run_for(gap);
        }
    }

    /// Everything works again, and no frame is lost any more.
    pub(crate) fn heal(&mut self) {
        let options = &mut self.options;
        (options.loss, options.corrupt, options.record) = (0, 0, 0);
        options.jitter = options.jitter.min(options.interval / 2);
        self.network.mend();
        self.heal_store();
        for unit in 0..self.units.len() {
            self.units[unit].doomed = None;
            self.resume(unit);
            if self.units[unit].key != 0 {
                self.kill(unit);
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
}
