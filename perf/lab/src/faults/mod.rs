//! Random faults from a seed, under load, with an oracle that follows every connection.
//!
//! [`Trial::perform`] brings a lab up, starts the load, does what the seed's schedule says, mends
//! everything, and judges:
//!
//! - each connection goes on, with every byte right, if its session was acknowledged before the fault
//!   by a unit that survived it;
//! - no virtual MAC is behind two ports of the switch at once, but for one detection time after a
//!   unit is let loose that takes itself for the primary, or that has old frames queued;
//! - after no step traffic is blocked for more than the detection time and a second;
//! - no unit ends by itself, and in the end the cluster is whole.
//!
//! A step that breaks a unit first waits until another one that is sound holds everything and counts as
//! healthy; if none comes to, the step is left out, and told. The units monitor client and server, since a
//! switch that drops frames of one segment leaves the carrier up.
//!
//! What was found is never lost: a probe that fails is a finding of its own, a trial that breaks off keeps
//! captures and logs too, and one of many steps ends before the stream that measures can record no more.

mod capture;
mod oracle;
mod random;
mod schedule;
mod sightings;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::{ClusterView, Role, Status};
use serde::Serialize;

use crate::clock::{self, Found, wait_for};
use crate::lab::{Lab, LabSettings};
use crate::probe::UdpStream;
use crate::topology::Host;

use capture::Capture;
pub use oracle::{Casualty, Mark, Oracle, Testimony};
use schedule::Condition;
pub use schedule::{Action, Step, draw};
pub use sightings::{Doubled, Watch};

/// How long a change may take from the worker that made it until it counts as not yet acknowledged.
const UNCOUNTED: Duration = Duration::from_millis(20);
/// How long after it was let loose a unit may take itself for the primary, besides the detection:
/// what it had received before it was stopped has to be worked off.
const LOOSE: Duration = Duration::from_millis(200);
/// How long traffic may be blocked after a step, besides the detection.
const BLOCKED_LIMIT: Duration = Duration::from_secs(1);
/// Datagrams per second of the stream that tells how long traffic was blocked.
const STREAM_RATE: u32 = 1_000;
/// How long the stream must be able to go on for another step to begin: a step waits for cover twice at
/// most, and then everything has to be mended and every connection to come to its end.
const RESERVE: Duration = Duration::from_secs(300);

/// What to do.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The lab to build for it.
    pub lab: LabSettings,
    /// The seed.
    pub seed: u64,
    /// How many steps.
    pub faults: usize,
    /// How long a step waits until the units that it leaves hold everything, and count as healthy.
    pub patience: Duration,
}

/// One step that was taken, or not.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// What it was.
    pub action: String,
    /// How long it waited until enough units held everything, in milliseconds.
    pub waited_ms: f64,
    /// Why it was left out, if it was.
    pub left_out: Option<String>,
    /// How long traffic was blocked from it to the next one, in milliseconds.
    pub blocked_ms: f64,
}

/// What came of a trial.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// The seed.
    pub seed: u64,
    /// The steps.
    pub steps: Vec<StepReport>,
    /// Why the last ones of the seed were not begun, if so.
    pub cut_short: Option<String>,
    /// TCP connections that were opened.
    pub tcp_opened: u64,
    /// Attempts to open one that failed, in the middle of a fault.
    pub tcp_refused: u64,
    /// Connections whose session cannot have been acknowledged before a fault, and that were lost.
    pub excused: usize,
    /// UDP flows.
    pub udp_flows: u64,
    /// Bytes compared.
    pub bytes: u64,
    /// How often a virtual MAC moved in the switch.
    pub moves: usize,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// Where captures and logs are, if anything was wrong.
    pub evidence: Option<PathBuf>,
}

/// The seed's steps as they happen.
struct Course<'a> {
    lab: &'a Lab,
    patience: Duration,
    condition: Condition,
    marks: Vec<Mark>,
    /// When units were let loose that may take themselves for the primary.
    loose: Vec<Instant>,
    /// What was done when, as far as it has been.
    history: Vec<(Instant, String)>,
    violations: Vec<String>,
}

impl Trial {
    /// Enough for units to count as healthy: links that failed often do so after a minute.
    pub const PATIENCE: Duration = Duration::from_secs(75);

    /// Performs it; `observe` hears of each step as it is taken.
    ///
    /// # Errors
    ///
    /// When the lab or its probes do not come up. What the cluster does wrong is in the report.
    pub fn perform(&self, mut observe: impl FnMut(&str)) -> Result<TrialReport> {
        ensure!(self.lab.units >= 2, "faults need at least two units");
        // A switch that drops frames takes no carrier away: only who asks notices.
        let lab = Lab::up(&LabSettings {
            monitors: true,
            ..self.lab.clone()
        })?;
        let outcome = self.perform_in(&lab, &mut observe);
        // Whatever came of it, no lab stays behind.
        let down = lab.down();
        let report = outcome?;
        down.with_context(|| format!("{report}\nthe lab did not come down"))?;
        Ok(report)
    }

    /// The shell command that repeats it.
    pub fn command(&self) -> String {
        let LabSettings {
            units,
            schedule,
            heartbeat_interval,
            heartbeat_loss,
            workers,
            ..
        } = &self.lab;
        format!(
            "scripts/lab.sh faults --seed {} --faults {} --units {units} --schedule {schedule} \
             --heartbeat-interval {heartbeat_interval} --heartbeat-loss {heartbeat_loss} --workers {workers}",
            self.seed, self.faults
        )
    }

    /// Performs it in a lab, and keeps captures and logs unless all was well.
    fn perform_in(&self, lab: &Lab, observe: &mut impl FnMut(&str)) -> Result<TrialReport> {
        let switch = lab.topology().namespace(Host::Switch);
        let name = format!("{}-seed-{}", self.lab.prefix, self.seed);
        let capture = Capture::start(&switch, &name)?;
        let directory = capture.directory().to_owned();
        let outcome = self.judge_in(lab, observe);
        let well = outcome
            .as_ref()
            .is_ok_and(|report| report.violations.is_empty());
        let ended = capture.finish(!well);
        if well {
            ended?;
            return outcome;
        }
        let kept = ended.and(keep_logs(lab, &directory));
        let mut report =
            outcome.with_context(|| format!("captures and logs: {}", directory.display()))?;
        if let Err(error) = kept {
            let text = format!("captures and logs could not all be kept: {error:#}");
            report.violations.push(text);
        }
        report.evidence = Some(directory);
        Ok(report)
    }

    fn judge_in(&self, lab: &Lab, observe: &mut impl FnMut(&str)) -> Result<TrialReport> {
        let detection = self.detection()?;
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let watch = Watch::start(&lab.topology().namespace(Host::Switch), detection)?;
        let oracle = Oracle::start(&client, &server, self.seed)?;
        let stream = UdpStream::start(&client, &server, STREAM_RATE)?;
        lab.wait_holding(Oracle::sessions())?;

        let mut course = Course::new(lab, self.patience);
        let (mut steps, mut offsets, mut cut_short) = (Vec::new(), Vec::new(), None);
        for (number, step) in (1..).zip(draw(self.seed, self.lab.units, self.faults)) {
            if stream.recordable() < RESERVE {
                let minutes = UdpStream::longest(STREAM_RATE).as_secs() / 60;
                cut_short = Some(format!(
                    "{} of {} steps: no more fit into the {minutes} minutes that are recorded",
                    steps.len(),
                    self.faults
                ));
                break;
            }
            thread::sleep(step.pause);
            course.check_processes();
            offsets.push(stream.offered());
            let report = course.take(&format!("step {number}, "), step.action);
            observe(&describe(number, &report));
            steps.push(report);
        }
        course.mend_all();
        let testimony = course.hear(oracle.finish()).unwrap_or_default();
        offsets.push(stream.offered());
        if let Some(record) = course.hear(stream.stop()) {
            for (step, ends) in steps.iter_mut().zip(offsets.windows(2)) {
                step.blocked_ms = record.loss(ends[0]..ends[1]).blocked.as_secs_f64() * 1e3;
            }
            course.judge_blocked(&steps, detection + BLOCKED_LIMIT);
        }
        let (doubled, moves) = course.hear(watch.finish()).unwrap_or_default();
        course.judge_doubled(&doubled, detection);
        let excused = course.judge_casualties(&testimony);
        Ok(TrialReport {
            seed: self.seed,
            steps,
            cut_short,
            tcp_opened: testimony.opened,
            tcp_refused: testimony.refused,
            excused,
            udp_flows: testimony.flows,
            bytes: testimony.bytes,
            moves,
            violations: course.violations,
            evidence: None,
        })
    }

    /// How long a silent peer takes to be noticed.
    fn detection(&self) -> Result<Duration> {
        let interval = humantime::parse_duration(&self.lab.heartbeat_interval)
            .context("the heartbeat interval is no duration")?;
        Ok(interval * u32::from(self.lab.heartbeat_loss))
    }
}

impl<'a> Course<'a> {
    fn new(lab: &'a Lab, patience: Duration) -> Self {
        Self {
            lab,
            patience,
            condition: Condition::sound(*lab.topology().units().end()),
            marks: Vec::new(),
            loose: Vec::new(),
            history: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// What a probe found. One that failed is a finding too, and takes none of the others along.
    fn hear<T>(&mut self, found: Result<T>) -> Option<T> {
        found
            .map_err(|error| {
                let text = format!("a probe failed: {error:#}");
                self.violations.push(text);
            })
            .ok()
    }

    fn take(&mut self, number: &str, action: Action) -> StepReport {
        let mut report = StepReport {
            action: action.to_string(),
            waited_ms: 0.0,
            left_out: None,
            blocked_ms: 0.0,
        };
        let asked = clock::now();
        let covered = match action.breaks() {
            Some(unit) => self.wait_cover(unit).map(Some),
            None => Ok(None),
        };
        report.waited_ms = (clock::now() - asked).as_secs_f64() * 1e3;
        self.history
            .push((clock::now(), format!("{number}{action}")));
        let done = covered.and_then(|certain| {
            if let Some(certain) = certain {
                let at = clock::now();
                self.marks.push(Mark { certain, at });
            }
            let done = self.perform(action);
            if let (Some(_), Some(mark)) = (certain, self.marks.last_mut()) {
                // It happened at some time before now.
                mark.at = clock::now();
            }
            done
        });
        match done {
            Ok(()) => {
                if action.may_double() {
                    self.loose.push(clock::now());
                }
                self.condition.apply(action);
            }
            Err(error) => report.left_out = Some(format!("{error:#}")),
        }
        report
    }

    fn perform(&self, action: Action) -> Result<()> {
        let topology = self.lab.topology();
        let unit = |id| self.lab.unit(id);
        match action {
            Action::Kill(id) => unit(id)?.kill(),
            Action::Stop(id) => unit(id)?.stop(),
            Action::Start(id) => unit(id)?.start(),
            Action::Freeze(id) => unit(id)?.freeze(),
            Action::Thaw(id) => unit(id)?.thaw(),
            Action::Unplug(id, segment) => topology.set_link(id, segment, false),
            Action::Plug(id, segment) => topology.set_link(id, segment, true),
            Action::Cut {
                unit,
                segment,
                from,
                to,
            } => topology.set_cut(unit, segment, from, to),
            Action::Isolate { unit, deaf } => topology.set_isolated(unit, true, deaf),
            Action::Rejoin(unit) => topology.set_isolated(unit, false, false),
            Action::Failover => {
                let (primary, _) = self.primary()?;
                // It refuses while nobody could take over for long.
                self.wait_cover(primary.id())?;
                primary.ask(&["cluster", "failover"]).map(drop)
            }
        }
    }

    /// Waits until a sound unit other than `broken` holds everything; gives a time before which
    /// everything that began was acknowledged by it.
    fn wait_cover(&self, broken: u8) -> Result<Instant> {
        wait_for("a unit that holds everything", self.patience, || {
            let certain = clock::now() - UNCOUNTED;
            Ok(match self.find_gap(broken) {
                Ok(()) => Found::Yes(certain),
                Err(gap) => Found::NotYet(format!("{gap:#}")),
            })
        })
    }

    fn find_gap(&self, broken: u8) -> Result<()> {
        let (primary, status) = self.primary()?;
        let sound = self.condition.sound_units();
        let mut heirs = sound.iter().filter(|unit| **unit != broken);
        let holds = |heir: u8| {
            let in_step = |status: &Status| {
                let peers = &status.peers;
                status.unit == heir
                    || peers
                        .iter()
                        .any(|peer| peer.unit == heir && peer.alive && peer.synced && peer.lag == 0)
            };
            // Whoever may own sessions has to have told the heir about them.
            let broken_one = self.lab.unit(broken).and_then(crate::Unit::status);
            in_step(&status) && broken_one.is_ok_and(|status| in_step(&status))
        };
        let view: ClusterView = serde_json::from_str(&primary.ask(&["cluster"])?)?;
        // What failed and came back counts only after a while, and until then moves no role.
        let is_healthy = |heir: u8| {
            let unit = view.units.iter().find(|unit| unit.unit == heir);
            unit.is_some_and(|unit| unit.health.links == unit.health.links_total)
        };
        let found = heirs.any(|heir| is_healthy(*heir) && (primary.id() == *heir || holds(*heir)));
        ensure!(found, "none of {sound:?} is healthy and holds everything");
        Ok(())
    }

    /// The primary that the traffic goes to: not one that was cut off or stopped.
    fn primary(&self) -> Result<(&crate::Unit, Status)> {
        let reachable = self
            .lab
            .units()
            .iter()
            .filter(|unit| self.condition.carries(unit.id()));
        let mut primaries = reachable
            .filter_map(|unit| Some((unit, unit.status().ok()?)))
            .filter(|(_, status)| status.role == Role::Primary);
        let first = primaries.next().context("no unit is the primary")?;
        ensure!(primaries.next().is_none(), "two units are primary");
        Ok(first)
    }

    /// A unit whose process is gone though nobody ended it.
    fn check_processes(&mut self) {
        for unit in self.lab.units() {
            if self.condition.runs(unit.id()) && unit.process().is_none() {
                let after = self.tell_cause(clock::now());
                let text = format!("{} ended by itself, {after}", unit.name());
                self.violations.push(text);
                self.condition.apply(Action::Kill(unit.id()));
            }
        }
    }

    /// Repairs everything and waits until the cluster is whole.
    fn mend_all(&mut self) {
        for repair in self.condition.repairs() {
            let report = self.take("the repair, ", repair);
            if let Some(error) = report.left_out {
                self.violations.push(format!("{repair} failed: {error}"));
            }
        }
        if let Err(error) = self.lab.wait_whole() {
            let text = format!("the cluster is not whole in the end: {error:#}");
            self.violations.push(text);
        }
        self.check_processes();
    }

    fn judge_blocked(&mut self, steps: &[StepReport], limit: Duration) {
        for (number, step) in (1..).zip(steps) {
            if step.blocked_ms > limit.as_secs_f64() * 1e3 {
                self.violations.push(format!(
                    "traffic was blocked for {:.0} ms after step {number}, {}",
                    step.blocked_ms, step.action
                ));
            }
        }
    }

    fn judge_doubled(&mut self, doubled: &[Doubled], detection: Duration) {
        for Doubled {
            at,
            mac,
            port,
            between,
            after,
        } in doubled
        {
            let allowed = detection + LOOSE;
            let loose = self.loose.iter().any(|loose| {
                *at + allowed >= *loose && at.saturating_duration_since(*loose) < allowed
            });
            if !loose {
                self.violations.push(format!(
                    "{mac} was behind {port} again {:.1} ms after it moved to {between}, {}",
                    after.as_secs_f64() * 1e3,
                    self.tell_cause(*at)
                ));
            }
        }
    }

    /// What had been done last at a time.
    fn tell_cause(&self, at: Instant) -> String {
        match self.history.iter().rfind(|(time, _)| *time <= at) {
            Some((time, what)) => {
                format!("{:.1} ms after {what}", (at - *time).as_secs_f64() * 1e3)
            }
            None => "before any step".to_owned(),
        }
    }

    /// Returns how many lost connections are excused.
    fn judge_casualties(&mut self, testimony: &Testimony) -> usize {
        let (excused, lost): (Vec<_>, Vec<_>) = testimony
            .casualties
            .iter()
            .partition(|casualty| casualty.is_excused(&self.marks));
        for casualty in lost {
            let text = format!(
                "{} was lost: {}, {:.1} s after it began, {}",
                casualty.who,
                casualty.what,
                (casualty.at - casualty.began.0).as_secs_f64(),
                self.tell_cause(casualty.at)
            );
            self.violations.push(text);
        }
        excused.len()
    }
}

impl fmt::Display for TrialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.steps.iter().filter(|step| step.left_out.is_some());
        writeln!(
            f,
            "seed {}: {} steps, {} left out",
            self.seed,
            self.steps.len(),
            left_out.count()
        )?;
        if let Some(reason) = &self.cut_short {
            writeln!(f, "CUT SHORT after {reason}")?;
        }
        let worst = (1..)
            .zip(&self.steps)
            .max_by(|(_, a), (_, b)| a.blocked_ms.total_cmp(&b.blocked_ms));
        if let Some((number, step)) = worst {
            writeln!(
                f,
                "blocked for {:.0} ms at most until the next step: {number}, {}",
                step.blocked_ms, step.action
            )?;
        }
        writeln!(
            f,
            "{} TCP connections and {} UDP flows followed, {:.1} MB compared; {} could not be opened, {} \
             were lost that nobody can have known; virtual MACs moved {} times",
            self.tcp_opened,
            self.udp_flows,
            f64::from(u32::try_from(self.bytes / 1_000).unwrap_or(u32::MAX)) / 1e3,
            self.tcp_refused,
            self.excused,
            self.moves
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        match &self.evidence {
            Some(directory) => write!(f, "captures and logs: {}", directory.display()),
            None => f.write_str("nothing was wrong"),
        }
    }
}

fn describe(number: usize, step: &StepReport) -> String {
    let mut text = format!("{number:>4}  {:<24}", step.action);
    if step.waited_ms >= 1.0 {
        text += &format!("  waited {:.0} ms", step.waited_ms);
    }
    if let Some(reason) = &step.left_out {
        text += &format!("  left out: {reason}");
    }
    text
}

/// Puts the units' logs and configurations beside the captures.
fn keep_logs(lab: &Lab, directory: &std::path::Path) -> Result<()> {
    for unit in lab.units() {
        for file in [unit.log(), unit.config()] {
            if let Some(name) = file.file_name() {
                fs::copy(&file, directory.join(name))
                    .with_context(|| format!("{} cannot be kept", file.display()))?;
            }
        }
    }
    Ok(())
}
