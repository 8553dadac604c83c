//! How long a unit that joins needs until it holds every session, ready to forward; and what it costs the
//! primary's workers meanwhile.
//!
//! Their speed is packets per second of processor time under a flood, and not per second of the clock: on a
//! small machine the joining unit, the flood and the server take the same cores from them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Role;
use serde::Serialize;

use crate::clock::{self, Found, wait_for};
use crate::probe::{Crowd, Flood, UdpStream};
use crate::{Host, Lab, LabSettings, Segment, Unit};

/// How long a joining unit may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Datagrams per second of the stream that passes the primary meanwhile.
const STREAM_RATE: u32 = 10_000;
/// How long a flood flows before it counts.
const FLOOD_LEAD: Duration = Duration::from_millis(300);
/// How long the workers' speed is measured before a unit joins.
const FLOOD_BEFORE: Duration = Duration::from_secs(1);

/// A subordinate is killed and started again while sessions are there.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The lab.
    pub lab: LabSettings,
    /// How often.
    pub runs: usize,
    /// UDP sessions through NAT that are there.
    pub sessions: usize,
    /// Whether the unit then joins once more under a flood, for the workers' speed.
    pub flood: bool,
}

/// One start of the subordinate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Join {
    /// From the start of the process until it is a subordinate that holds everything, in
    /// milliseconds.
    pub ready_ms: f64,
    /// The same from the moment at which it was a subordinate.
    pub copy_ms: f64,
    /// Sessions that it holds then.
    pub held: u64,
    /// Datagrams that were lost meanwhile, of a stream through the primary.
    pub lost: u64,
    /// How many were offered.
    pub offered: u64,
    /// What the primary's workers did under a flood, if there was one.
    pub speed: Option<Speed>,
}

/// Packets per second that the primary's workers take in under a flood.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// By the clock, while the other unit was down.
    pub before_pps: f64,
    /// By the clock, while it copied.
    pub meanwhile_pps: f64,
    /// Packets per second of the workers' processor time while it copied ÷ the same before.
    pub ratio: f64,
}

/// All runs and what they come to.
#[derive(Clone, Debug, Serialize)]
pub struct JoinReport {
    /// Sessions that were there.
    pub sessions: usize,
    /// Each run.
    pub runs: Vec<Join>,
    /// The median of the times until ready.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// The median of the ratios of speed, if they were measured.
    pub speed_median: Option<f64>,
    /// The least of them.
    pub speed_worst: Option<f64>,
}

impl Joining {
    /// Builds the lab, performs all runs, and takes the lab down again.
    ///
    /// # Errors
    ///
    /// When the lab does not come up, a unit does not join, or its joining changes the primary.
    pub fn perform(&self) -> Result<JoinReport> {
        ensure!(self.runs > 0, "there is at least one run");
        ensure!(self.lab.units >= 2, "joining needs at least two units");
        let lab = Lab::up(&self.lab)?;
        let runs = self.perform_in(&lab);
        lab.down()?;
        let runs = runs?;
        let mut times: Vec<f64> = runs.iter().map(|run| run.ready_ms).collect();
        times.sort_by(f64::total_cmp);
        let mut ratios: Vec<f64> = runs
            .iter()
            .filter_map(|run| Some(run.speed?.ratio))
            .collect();
        ratios.sort_by(f64::total_cmp);
        Ok(JoinReport {
            speed_median: ratios.get(ratios.len() / 2).copied(),
            speed_worst: ratios.first().copied(),
            sessions: self.sessions,
            median_ms: times[times.len() / 2],
            worst_ms: times[times.len() - 1],
            runs,
        })
    }

    fn perform_in(&self, lab: &Lab) -> Result<Vec<Join>> {
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let _crowd = match self.sessions {
            0 => None,
            sessions => Some(Crowd::settle(&client, &server, sessions)?),
        };
        (0..self.runs)
            .map(|_| {
                let mut join = self.join_once(lab)?;
                join.speed = self.flood.then(|| self.join_flooded(lab)).transpose()?;
                Ok(join)
            })
            .collect()
    }

    fn join_once(&self, lab: &Lab) -> Result<Join> {
        let pair = self.part(lab)?;
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let stream = UdpStream::start(&client, &server, STREAM_RATE)?;
        let started = clock::now();
        pair.subordinate.start()?;
        pair.wait_subordinate()?;
        let copying = clock::now();
        let held = pair.wait_whole(self.sessions)?;
        let done = clock::now();
        let loss = stream.stop()?.total_loss();
        pair.check_primary(lab)?;
        Ok(Join {
            ready_ms: (done - started).as_secs_f64() * 1e3,
            copy_ms: (done - copying).as_secs_f64() * 1e3,
            held,
            lost: loss.lost,
            offered: loss.offered,
            speed: None,
        })
    }

    fn join_flooded(&self, lab: &Lab) -> Result<Speed> {
        let pair = self.part(lab)?;
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let _flood = Flood::start(&client, &server)?;
        thread::sleep(FLOOD_LEAD);
        let idle = Reading::of(pair.primary)?;
        thread::sleep(FLOOD_BEFORE);
        let before = Reading::of(pair.primary)?.since(idle);
        pair.subordinate.start()?;
        pair.wait_subordinate()?;
        let copying = Reading::of(pair.primary)?;
        pair.wait_whole(self.sessions)?;
        let meanwhile = Reading::of(pair.primary)?.since(copying);
        pair.check_primary(lab)?;
        Ok(Speed {
            before_pps: before.rate(before.elapsed),
            meanwhile_pps: meanwhile.rate(meanwhile.elapsed),
            ratio: meanwhile.rate(meanwhile.busy) / before.rate(before.busy),
        })
    }

    /// Waits until the cluster is whole, and kills a subordinate.
    fn part<'a>(&self, lab: &'a Lab) -> Result<Pair<'a>> {
        lab.wait_holding(self.sessions as u64)?;
        let (primary, status) = lab.primary()?;
        let subordinate = lab
            .units()
            .iter()
            .find(|unit| unit.id() != primary.id())
            .context("there is no subordinate")?;
        subordinate.kill()?;
        Ok(Pair {
            primary,
            term: status.term,
            subordinate,
        })
    }
}

/// The primary, and a subordinate that was killed.
struct Pair<'a> {
    primary: &'a Unit,
    term: u32,
    subordinate: &'a Unit,
}

impl Pair<'_> {
    fn wait_subordinate(&self) -> Result<u64> {
        wait_status(self.subordinate, "a subordinate", |status| {
            status.role == Role::Subordinate
        })
    }

    fn wait_whole(&self, sessions: usize) -> Result<u64> {
        wait_status(self.subordinate, "whole", |status| {
            status.synced && status.sessions.total >= sessions as u64
        })
    }

    fn check_primary(&self, lab: &Lab) -> Result<()> {
        let (still, after) = lab.primary()?;
        ensure!(
            still.id() == self.primary.id() && after.term == self.term,
            "the primary changed when a subordinate joined"
        );
        Ok(())
    }
}

/// What a unit's workers had done at a moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Frames taken in on the traffic interfaces.
    packets: u64,
    /// Processor time of the workers.
    busy: Duration,
    at: Instant,
}

impl Reading {
    fn of(unit: &Unit) -> Result<Self> {
        let pid = unit.process().context("the primary does not run")?.pid;
        let interfaces = unit.status()?.interfaces.into_iter();
        let traffic = interfaces.filter(|interface| interface.name != Segment::Sync.name());
        let mut busy = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?.path();
            if fs::read_to_string(thread.join("comm"))?.starts_with("worker") {
                // The first number is the time on a processor, in nanoseconds.
                let times = fs::read_to_string(thread.join("schedstat"))?;
                let time = times.split_whitespace().next().context("no time")?;
                busy += Duration::from_nanos(time.parse()?);
            }
        }
        Ok(Self {
            packets: traffic.map(|interface| interface.rx_packets).sum(),
            busy,
            at: clock::now(),
        })
    }

    fn since(self, earlier: Self) -> Work {
        Work {
            packets: self.packets.saturating_sub(earlier.packets),
            busy: self.busy.saturating_sub(earlier.busy),
            elapsed: self.at.saturating_duration_since(earlier.at),
        }
    }
}

/// What a unit's workers did between two moments.
#[derive(Clone, Copy, Debug)]
struct Work {
    packets: u64,
    busy: Duration,
    elapsed: Duration,
}

impl Work {
    /// Packets per second of a time.
    fn rate(self, time: Duration) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a flood of seconds has a few million packets"
        )]
        let packets = self.packets as f64;
        packets / time.as_secs_f64()
    }
}

/// Waits until the unit says what is asked for; gives how many sessions it holds.
fn wait_status(unit: &Unit, what: &str, holds: impl Fn(&api::Status) -> bool) -> Result<u64> {
    wait_for(what, LIMIT, || {
        Ok(match unit.status() {
            Ok(status) if holds(&status) => Found::Yes(status.sessions.total),
            Ok(status) => Found::NotYet(format!(
                "{} is {} with {} sessions",
                status.name, status.role, status.sessions.total
            )),
            Err(error) => Found::NotYet(error.to_string()),
        })
    })
}
