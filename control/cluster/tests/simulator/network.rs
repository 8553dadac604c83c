//! The links between units: what is cut, lost, late, doubled, changed on the way, or sent again by somebody
//! who recorded it.

use std::collections::VecDeque;
use std::rc::Rc;

use cluster::LinkId;

use crate::options::SECOND;
use crate::world::{What, World};

/// Frames that somebody has recorded, at the most.
const RECORDED: usize = 64;

#[derive(Debug)]
pub(crate) struct Network {
    /// `cuts[from][to][link]`
    pub(crate) cuts: Vec<Vec<Vec<bool>>>,
    recorded: VecDeque<(usize, u8, Rc<Vec<u8>>)>,
}

impl Network {
    pub(crate) fn new(units: usize, links: usize) -> Self {
        Self {
            cuts: vec![vec![vec![false; links]; units]; units],
            recorded: VecDeque::new(),
        }
    }

    pub(crate) fn mend(&mut self) {
        let cuts = self.cuts.iter_mut().flatten().flatten();
        cuts.for_each(|cut| *cut = false);
    }
}

impl World {
    pub(crate) fn transmit(&mut self, from: usize, link: LinkId, payload: Vec<u8>) {
        if !self.units[from].carriers[link.index()] {
            return;
        }
        let payload = Rc::new(payload);
        if self.random.chance(self.options.record) {
            self.record(from, link.0, &payload);
        }
        for to in 0..self.units.len() {
            if to != from && !self.network.cuts[from][to][link.index()] {
                self.carry(from, to, link.0, &payload);
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, link: u8, payload: &Rc<Vec<u8>>) {
        let copies = 1 + u64::from(self.random.chance(self.options.duplicate));
        for _ in 0..copies {
            if self.random.chance(self.options.loss) {
                continue;
            }
            let mut payload = Rc::clone(payload);
            if self.random.chance(self.options.corrupt) {
                let position = self.random.index(payload.len());
                let bit = self.random.within(0..8);
                Rc::make_mut(&mut payload)[position] ^= 1 << bit;
            }
            let delay = self.options.delay + self.random.within(0..self.options.jitter);
            self.post(delay, from, to, link, payload);
        }
    }

    fn post(&mut self, delay: u64, from: usize, to: usize, link: u8, payload: Rc<Vec<u8>>) {
        let what = What::Deliver {
            from,
            to,
            link,
            payload,
        };
        self.schedule(self.now + delay, what);
    }

    /// Somebody records the frame, and plays one that is older to everybody.
    fn record(&mut self, from: usize, link: u8, payload: &Rc<Vec<u8>>) {
        if self.network.recorded.len() == RECORDED {
            self.network.recorded.pop_front();
        }
        let recorded = (from, link, Rc::clone(payload));
        self.network.recorded.push_back(recorded);
        let position = self.random.index(self.network.recorded.len());
        let (from, link, payload) = self.network.recorded[position].clone();
        let delay = self.random.within(0..4 * SECOND);
        for to in (0..self.units.len()).filter(|to| *to != from) {
            let payload = Rc::clone(&payload);
            self.post(delay, from, to, link, payload);
        }
    }

    /// Whether frames go both ways on some link, and are understood.
    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        self.units[a].key == self.units[b].key
            && (0..self.options.links)
                .any(|link| self.reaches(a, b, link) && self.reaches(b, a, link))
    }

    /// Whether no frame gets through in either direction that is understood.
    pub(crate) fn separated(&self, a: usize, b: usize) -> bool {
        self.units[a].key != self.units[b].key
            || (0..self.options.links)
                .all(|link| !self.reaches(a, b, link) && !self.reaches(b, a, link))
    }

    fn reaches(&self, from: usize, to: usize, link: usize) -> bool {
        let (sender, receiver) = (&self.units[from], &self.units[to]);
        sender.runs()
            && receiver.runs()
            && sender.carriers[link]
            && receiver.carriers[link]
            && !self.network.cuts[from][to][link]
    }
}
