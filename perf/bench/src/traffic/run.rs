//! One run of the generator: a load for a time, and what arrived of it.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use dpdk::{Burst, clock};
use hdrhistogram::Histogram;
use packet::Mac;

use super::endpoint::{Endpoint, cycles};
use super::frame::{Flows, Stamp, Template};

/// Frames that are made at once. Small enough that what arrives is looked at in between.
const BURST: u64 = 32;
/// Bursts that are taken off the receiver between two that are sent, at the most.
const RECEIVED_PER_TURN: usize = 4;
/// The longest latency that is told apart, in nanoseconds: ten seconds.
const LONGEST: u64 = 10_000_000_000;

/// The percentiles of latency that are reported, with their names.
pub const PERCENTILES: [(f64, &str); 3] = [(50.0, "median"), (99.0, "99 %"), (99.9, "99.9 %")];

/// How fast frames are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the sender's device takes them.
    Flood,
    /// So many a second. A frame that the device does not take is sent a little later.
    PerSecond(f64),
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of each frame, check sequence included.
    pub size: usize,
    /// Between whom.
    pub flows: Flows,
    /// How fast.
    pub pace: Pace,
    /// For how long.
    pub time: Duration,
    /// At most so many frames.
    pub frames: u64,
    /// How long frames are waited for when all are sent.
    pub grace: Duration,
    /// Whether to record each frame's latency, which costs the generator some time.
    pub latency: bool,
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Frames that the pace asked for; for a flood, those that were sent.
    pub intended: u64,
    /// Frames that the sender's device took.
    pub sent: u64,
    /// Times that the device did not take all that it was given at once.
    pub refused: u64,
    /// Frames that arrived, in all.
    pub received: u64,
    /// Those of them that arrived while others were still sent.
    pub received_in_time: u64,
    /// Frames that arrived after one that had been sent later.
    pub reordered: u64,
    /// How long it was sent.
    pub time: Duration,
    /// Latencies in nanoseconds, from making a frame to taking it off the receiver.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Frames per second that arrived.
    #[must_use]
    pub fn rate(&self) -> f64 {
        as_f64(self.received_in_time) / self.time.as_secs_f64()
    }

    /// Frames per second that were sent.
    #[must_use]
    pub fn offered(&self) -> f64 {
        as_f64(self.sent) / self.time.as_secs_f64()
    }

    /// A percentile of the latencies, in microseconds.
    #[must_use]
    pub fn latency_at(&self, percentile: f64) -> f64 {
        as_f64(self.latency.value_at_percentile(percentile)) / 1_000.0
    }

    /// The share of the intended frames that did not arrive, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let lost = self.intended.saturating_sub(self.received);
        as_f64(lost) / as_f64(self.intended.max(1))
    }
}

/// Counts stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "said above")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Sends `load` from `sender` to the next hop `via`, and counts what arrives at `receiver`.
///
/// # Errors
/// When the load is none, or no buffer ever becomes free.
pub fn run(
    sender: &mut Endpoint,
    receiver: &mut Endpoint,
    via: Mac,
    load: &Load,
) -> Result<Outcome> {
    ensure!(
        (1..=Flows::MOST).contains(&load.flows.count),
        "a load has 1 to {} flows, not {}",
        Flows::MOST,
        load.flows.count
    );
    if let Pace::PerSecond(rate) = load.pace {
        ensure!(rate.is_finite() && rate > 0.0, "{rate} is no pace");
    }
    let mut traffic = Traffic {
        template: Template::new(load.size, sender.mac(), via, load.flows),
        tag: next_tag(),
        made: 0,
        sent: 0,
        refused: 0,
        received: 0,
        reordered: 0,
        last: None,
        latency: load
            .latency
            .then(|| Histogram::new_with_bounds(1, LONGEST, 3))
            .transpose()?,
        pending: Burst::new(),
        arrived: Burst::new(),
    };
    let start = clock::cycles();
    let intended = traffic.offer(sender, receiver, load, start);
    let end = clock::cycles();
    let received_in_time = traffic.received;
    traffic.await_stragglers(sender, receiver, load);
    if traffic.sent == 0 {
        bail!("{sender:?} sent nothing: its device took no frame");
    }
    Ok(Outcome {
        intended: intended.unwrap_or(traffic.sent),
        sent: traffic.sent,
        refused: traffic.refused,
        received: traffic.received,
        received_in_time,
        reordered: traffic.reordered,
        time: duration(end - start),
        latency: match traffic.latency {
            Some(latency) => latency,
            None => Histogram::new(3)?,
        },
    })
}

/// The state of a run.
struct Traffic {
    template: Template,
    tag: u16,
    made: u64,
    sent: u64,
    refused: u64,
    received: u64,
    reordered: u64,
    /// The greatest number that has arrived.
    last: Option<u64>,
    latency: Option<Histogram<u64>>,
    pending: Burst,
    arrived: Burst,
}

impl Traffic {
    /// Sends until the time is over. Returns how many frames the pace asked for, if it says.
    fn offer(
        &mut self,
        sender: &mut Endpoint,
        receiver: &mut Endpoint,
        load: &Load,
        start: u64,
    ) -> Option<u64> {
        let whole = cycles(load.time);
        let total = match load.pace {
            Pace::Flood => None,
            Pace::PerSecond(rate) => Some(frames_due(rate, whole).min(load.frames)),
        };
        loop {
            let elapsed = clock::cycles() - start;
            let due = match load.pace {
                Pace::Flood => load.frames,
                Pace::PerSecond(rate) => frames_due(rate, elapsed).min(load.frames),
            };
            let over = elapsed >= whole || self.sent >= load.frames;
            if over || total.is_some_and(|total| self.sent >= total) {
                break;
            }
            self.send(sender, due);
            self.take(sender, receiver);
        }
        total
    }

    /// Makes and sends a burst of what is due.
    fn send(&mut self, sender: &mut Endpoint, due: u64) {
        let wanted = due.saturating_sub(self.made).min(BURST);
        if self.pending.is_empty() && wanted > 0 {
            let count = usize::try_from(wanted).unwrap_or(0);
            if !sender.allocate(&mut self.pending, count) {
                return;
            }
            let made = clock::cycles();
            for mbuf in self.pending.iter_mut() {
                let stamp = Stamp {
                    tag: self.tag,
                    number: self.made,
                    made,
                };
                self.template.write(mbuf, stamp);
                self.made += 1;
            }
        }
        if !self.pending.is_empty() {
            self.sent += sender.transmit(&mut self.pending) as u64;
            self.refused += u64::from(!self.pending.is_empty());
        }
    }

    /// Counts what has arrived, and gives both neighbours their answers.
    fn take(&mut self, sender: &mut Endpoint, receiver: &mut Endpoint) {
        for _ in 0..RECEIVED_PER_TURN {
            if receiver.receive(&mut self.arrived) == 0 {
                break;
            }
            let now = clock::cycles();
            for mbuf in self.arrived.iter() {
                match Stamp::read(mbuf.data()) {
                    Some(stamp) if stamp.tag == self.tag => {
                        self.received += 1;
                        self.reordered += u64::from(self.last > Some(stamp.number));
                        self.last = self.last.max(Some(stamp.number));
                        if let Some(latency) = &mut self.latency {
                            latency.saturating_record(nanoseconds(now.saturating_sub(stamp.made)));
                        }
                    }
                    _ => {
                        receiver.answer(mbuf.data());
                    }
                }
            }
            self.arrived.clear();
        }
        // Nothing but questions of the gateway comes this way.
        if sender.receive(&mut self.arrived) > 0 {
            for mbuf in self.arrived.drain() {
                sender.answer(mbuf.data());
            }
        }
    }

    /// Waits until everything has arrived or the grace is over.
    fn await_stragglers(&mut self, sender: &mut Endpoint, receiver: &mut Endpoint, load: &Load) {
        self.pending.clear();
        let start = clock::cycles();
        while self.received < self.sent && clock::cycles() - start < cycles(load.grace) {
            self.take(sender, receiver);
        }
    }
}

/// A number that no other run of late has.
fn next_tag() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Frames that are due after so many cycles.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "rates and times of a run are positive and far below 2^53"
)]
fn frames_due(rate: f64, elapsed: u64) -> u64 {
    (rate * elapsed as f64 / clock::hertz() as f64) as u64
}

fn nanoseconds(cycles: u64) -> u64 {
    let nanoseconds = u128::from(cycles) * 1_000_000_000 / u128::from(clock::hertz().max(1));
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn duration(cycles: u64) -> Duration {
    Duration::from_nanos(nanoseconds(cycles))
}
