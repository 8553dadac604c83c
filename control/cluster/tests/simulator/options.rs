//! What a run does, drawn from its seed.

use cluster::Schedule;

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
    /// Frames with a bit that flipped, in thousandths.
    pub(crate) corrupt: u64,
    /// Frames that somebody records, to send them again seconds later, in thousandths.
    pub(crate) record: u64,
    /// The shortest delay of a frame, and how much longer it may be: more than the time between two
    /// frames reorders them.
    pub(crate) delay: u64,
    pub(crate) jitter: u64,
    /// How fast or slow clocks may run, in millionths.
    pub(crate) drift: u64,
    /// Faults before everything is healed.
    pub(crate) faults: usize,
    /// Restarts after which the wall clock, and so the boot id, is behind, in thousandths.
    pub(crate) clock_back: u64,
    pub(crate) session_sync: bool,
    /// Changes of sessions that a worker's ring to the control core holds.
    pub(crate) ring: usize,
    /// The longest time until a worker does what the control core wants.
    pub(crate) turn: u64,
    /// Frames that a socket holds while nobody reads it.
    pub(crate) socket: usize,
    /// The longest gap between two things that users do.
    pub(crate) gap: u64,
    /// How long the lease of the witness lasts, if there is one.
    pub(crate) witness: Option<u64>,
    /// By what new sessions are handed to which units, and the weight of each unit, if not `none`.
    pub(crate) schedule: Option<(Schedule, Vec<u8>)>,
    /// What is done wrong, to see that it is found.
    pub(crate) mistake: Option<Mistake>,
}

/// What a unit does wrong, so that a check must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Workers do not look whether the unit still has the lease.
    NoGate,
    /// The lease counts from its answer, and for twice as long.
    LateGate,
    /// The lease is renewed for a control core that hangs.
    HangingIsAlive,
    /// All owners choose from the same ports.
    NoPortClasses,
    /// Who is passed a packet of a session that it does not own drops it.
    NoAdoption,
    /// What came from another unit is looked at as if it had come from a client.
    PassesTwice,
}

impl Options {
    pub(crate) fn draw(r: &mut Random) -> Self {
        let witness = draw_witness(r.branch("witness"));
        let shared = r.branch("schedule");
        let units = match r.within(0..200) {
            0 => 16,
            1..3 => 8,
            3..9 => 5,
            9..25 => 4,
            25..105 => 3,
            _ => 2,
        };
        let interval = if units > 5 { 300 * MS } else { 100 * MS };
        let lossy = r.chance(400);
        let equal = r.chance(300);
        let faults = if units > 5 { 6 } else { 14 };
        Self {
            units,
            links: if units > 5 { 1 } else { *r.pick(&[1, 2, 2, 3]) },
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
            corrupt: if r.chance(200) { r.within(1..50) } else { 0 },
            record: if r.chance(300) { r.within(1..20) } else { 0 },
            delay: r.within(10_000..MS),
            jitter: *r.pick(&[1, 100_000, 2 * MS, 120 * MS]),
            drift: *r.pick(&[0, 50, 500, 2_000]),
            faults: usize::try_from(r.within(2..faults)).unwrap(),
            clock_back: 100,
            session_sync: r.chance(800),
            ring: *r.pick(&[2, 16, 256]),
            turn: *r.pick(&[1, MS, 20 * MS]),
            socket: *r.pick(&[16, 64, 256]),
            gap: *r.pick(&[40 * MS, 120 * MS, 400 * MS]),
            witness,
            schedule: draw_schedule(shared, units),
            mistake: None,
        }
    }

    /// Silence after which a peer is given up.
    pub(crate) fn detection(&self) -> u64 {
        self.interval * u64::from(self.heartbeat_loss)
    }

    /// How long users are silent before tables are compared. Where several units write, digests find what
    /// is left: passes are a second apart, and look only at what was left alone for two.
    pub(crate) const fn calm(&self) -> u64 {
        if self.is_shared() {
            8 * SECOND
        } else {
            3 * SECOND
        }
    }

    /// Whether several units own sessions.
    pub(crate) const fn is_shared(&self) -> bool {
        self.schedule.is_some() && self.session_sync
    }

    /// The link that users' packets come by, and that units pass them on by.
    pub(crate) const fn users_link(&self) -> usize {
        self.links - 1
    }

    /// Whether frames go astray by chance, and how much.
    pub(crate) fn chance(&self) -> u64 {
        self.loss + self.corrupt + self.record
    }

    /// How long two units that hear each other may both stay primary: until a heartbeat of each came
    /// through, both proved to be no recordings, and one frame more for the word of it.
    pub(crate) fn dual_bound(&self) -> u64 {
        let frames = if self.chance() > 0 { 14 } else { 4 };
        frames * self.interval + 4 * (self.delay + self.jitter)
    }

    /// How long a component may be without exactly one primary after the last fault: the hold-down,
    /// the hold of recovered links, a planned hand-over's patience and its successor's failure, and the
    /// waits of every rank.
    pub(crate) fn settle_bound(&self) -> u64 {
        let hold = self.holddown.max(SECOND);
        let ranks = 2 * self.detection() * self.units as u64;
        2 * self.holddown + hold + 4 * SECOND + ranks + self.dual_bound() + self.lease_bound()
    }

    /// What the witness adds to that: a lease that nobody gives back, kept for as long again for a state
    /// machine that hangs, and what better units are waited for.
    fn lease_bound(&self) -> u64 {
        self.witness
            .map_or(0, |life| (3 + 2 * self.units as u64) * life + 2 * SECOND)
    }
}

fn draw_witness(mut r: Random) -> Option<u64> {
    r.chance(250)
        .then(|| *r.pick(&[SECOND, SECOND, 2 * SECOND, 3 * SECOND]))
}

fn draw_schedule(mut r: Random, units: usize) -> Option<(Schedule, Vec<u8>)> {
    let drawn = r.chance(333);
    let schedule = *r.pick(&Schedule::ALL[1..]);
    let weights = (0..units).map(|_| *r.pick(&[0, 1, 1, 1, 2, 10]));
    drawn.then(|| (schedule, weights.collect()))
}
