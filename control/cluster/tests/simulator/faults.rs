//! What goes wrong.

use cluster::{Command, UnitId};

use crate::options::{MS, SECOND};
use crate::world::World;

impl World {
    /// One fault, drawn, and time after it.
    pub(crate) fn fault(&mut self) {
        let unit = self.random.index(self.units.len());
        match self.random.within(0..24) {
            0..4 => {
                let after = self.random.within(MS..4 * SECOND);
                self.kill(unit);
                self.start_later(unit, after);
            }
            4..7 => {
                let longest = *self.random.pick(&[60 * MS, 400 * MS, 4 * SECOND]);
                let length = self.random.within(MS..longest);
                self.pause(unit, length);
            }
            7..10 => {
                let link = self.random.index(self.options.links);
                let up = !self.units[unit].carriers[link];
                self.set_carrier(unit, link, up);
            }
            10 => self.flap(unit),
            11..13 => self.cut(unit, false),
            13..16 => self.cut(unit, true),
            16..18 => {
                self.cuts
                    .iter_mut()
                    .flatten()
                    .flatten()
                    .for_each(|cut| *cut = false);
                self.disturbed = self.now;
            }
            18 => {
                let alive = !self.units[unit].workers;
                self.set_workers(unit, alive);
            }
            19..21 => {
                let named = self.random.chance(500);
                let other = u8::try_from(self.random.index(self.units.len()) + 1).unwrap();
                let to = UnitId::new(other).filter(|_| named);
                self.command(unit, Command::Failover { to });
            }
            21 => {
                let begin = self.random.chance(500);
                self.command(unit, Command::Maintenance(begin));
            }
            22 => {
                self.command(unit, Command::Leave);
                let after = self.random.within(MS..8 * SECOND);
                self.start_later(unit, after);
            }
            _ => {}
        }
        let longest = *self
            .random
            .pick(&[5 * MS, 100 * MS, 400 * MS, 2 * SECOND, 2 * SECOND]);
        let quiet = if self.random.chance(60) {
            self.options.settle_bound() + SECOND
        } else {
            0
        };
        let gap = self.random.within(0..longest) + quiet;
        self.run_until(self.now + gap);
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
                self.cuts[from][to][link] = true;
                self.cuts[to][from][link] |= both_ways;
            }
        }
    }

    fn flap(&mut self, unit: usize) {
        let link = self.random.index(self.options.links);
        for turn in 0..10 {
            self.set_carrier(unit, link, turn % 2 == 1);
            let gap = self.random.within(MS..120 * MS);
            self.run_until(self.now + gap);
        }
    }
}
