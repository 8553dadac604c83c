//! What a run does, drawn from its seed.

use crate::random::Random;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// One run. All of it comes from the seed; a named case may change a field before the run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) units: usize,
    /// Links that carry heartbeats: the first is a sync link, the rest are critical.
    pub(crate) links: usize,
    pub(crate) preempt: bool,
    pub(crate) priorities: Vec<u8>,
    /// Between two heartbeats.
    pub(crate) interval: u64,
    pub(crate) heartbeat_loss: u32,
    pub(crate) holddown: u64,
    pub(crate) age_margin: u64,
    /// Frames lost, in thousandths.
    pub(crate) loss: u64,
    /// Frames that come twice, in thousandths.
    pub(crate) duplicate: u64,
    /// The shortest delay of a frame, and how much longer it may be: more than the time between two
    /// frames reorders them.
    pub(crate) delay: u64,
    pub(crate) jitter: u64,
    /// How far clocks run apart, in millionths.
    pub(crate) drift: u64,
    /// Faults before everything is healed.
    pub(crate) faults: usize,
    /// Restarts after which the wall clock, and so the boot id, is behind, in thousandths.
    pub(crate) clock_back: u64,
    pub(crate) session_sync: bool,
}

impl Options {
    pub(crate) fn draw(r: &mut Random) -> Self {
        let units = *r.pick(&[2, 2, 2, 3, 3, 4]);
        let interval = 100 * MS;
        let lossy = r.chance(500);
        let equal = r.chance(300);
        Self {
            units,
            links: *r.pick(&[1, 2, 2, 3]),
            preempt: r.chance(250),
            priorities: (0..units)
                .map(|_| {
                    if equal {
                        100
                    } else {
                        u8::try_from(r.within(1..255)).unwrap()
                    }
                })
                .collect(),
            interval,
            heartbeat_loss: 3,
            holddown: *r.pick(&[300 * MS, SECOND]),
            age_margin: *r.pick(&[0, SECOND, 300 * SECOND]),
            loss: if lossy { r.within(1..200) } else { 0 },
            duplicate: if r.chance(300) { r.within(1..300) } else { 0 },
            delay: r.within(10_000..MS),
            jitter: *r.pick(&[1, 100_000, 2 * MS, 120 * MS]),
            drift: *r.pick(&[0, 50, 500]),
            faults: usize::try_from(r.within(2..14)).unwrap(),
            clock_back: 100,
            session_sync: r.chance(700),
        }
    }

    /// Silence after which a peer is given up.
    pub(crate) fn detection(&self) -> u64 {
        self.interval * u64::from(self.heartbeat_loss)
    }

    /// How long two units that hear each other may both stay primary: until a heartbeat of each came
    /// through, both proved to be no recordings, and one frame more for the word of it.
    pub(crate) fn dual_bound(&self) -> u64 {
        let frames = if self.loss > 0 { 14 } else { 4 };
        frames * self.interval + 4 * (self.delay + self.jitter)
    }

    /// How long a component may be without exactly one primary after the last fault: the hold-down,
    /// the hold of recovered links, a planned hand-over's patience and its successor's failure, and the
    /// waits of every rank.
    pub(crate) fn settle_bound(&self) -> u64 {
        let hold = self.holddown.max(SECOND);
        let ranks = 2 * self.detection() * self.units as u64;
        2 * self.holddown + hold + 4 * SECOND + ranks + self.dual_bound()
    }
}
