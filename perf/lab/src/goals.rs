//! What a cluster must reach, row by row: measures each, judges it, and keeps what was found.
//!
//! Each row brings a lab of its own up and breaks and mends it as often as there are runs; the row of links a new one
//! every few runs, since links that fail often are believed late. A run begins only when the cluster is whole and
//! synchronised. What is compared is measured in alternation.

mod table;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::failover::{Comparison, Contrast, Experiment, Fault, Report, Victim};
use crate::faults::Trial;
use crate::join::Joining;
use crate::keepalived::KeepalivedSettings;
use crate::lab::LabSettings;
use crate::tool;
use crate::unit::Programs;

pub use table::{HEADING, Table, Verdict};

/// Sessions of the rows that have many.
const MANY: usize = 1_000_000;
/// How far apart two figures in ms, or in packets of as many each, may be to count as the same: half an
/// interval of heartbeats, of which a fault happens anywhere.
const SAME_MS: f64 = 5.0;
/// The interval of heartbeats of the peer, its least, and ours of most rows.
const INTERVAL: &str = "10ms";
/// Our least.
const LEAST_INTERVAL: &str = "1ms";
/// Datagrams per second of the stream of planned switchovers, and megabits of the transfer besides.
const PLANNED_LOAD: (u32, u32) = (10_000, 100);
/// The seed of the random faults.
const SEED: u64 = 4;

/// A row, or a few that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// SIGKILL of the primary of three units.
    Kill,
    /// A pulled cable of the primary of three units.
    Link,
    /// SIGKILL with heartbeats every millisecond.
    Short,
    /// SIGKILL with a million sessions, beside none.
    Sessions,
    /// Planned switchovers under load.
    Planned,
    /// Random faults among three units: two for each run.
    Faults,
    /// A unit joins with a million sessions there.
    Join,
    /// SIGKILL beside a silent unit of keepalived and conntrackd.
    PeerKill,
    /// A pulled cable beside keepalived and conntrackd.
    PeerLink,
    /// A planned switchover beside keepalived and conntrackd.
    PeerPlanned,
}

impl Row {
    /// Its name, in the table and on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Link => "link",
            Self::Short => "short",
            Self::Sessions => "sessions",
            Self::Planned => "planned",
            Self::Faults => "faults",
            Self::Join => "join",
            Self::PeerKill => "peer-kill",
            Self::PeerLink => "peer-link",
            Self::PeerPlanned => "peer-planned",
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Goals {
    /// The common beginning of the namespaces' names.
    pub prefix: String,
    /// The rows.
    pub rows: Vec<Row>,
    /// How often.
    pub runs: usize,
    /// The table in which verdicts are kept; those of other rows stay in it.
    pub output: PathBuf,
}

impl Goals {
    /// Measures row by row; the table is written after each. `observe` sees the verdicts as they come.
    ///
    /// # Errors
    ///
    /// When an experiment cannot be made, or the table not be written. A goal that is missed is none.
    pub fn perform(&self, mut observe: impl FnMut(&Verdict)) -> Result<Table> {
        let mut table = Table::load(&self.output)?;
        for row in &self.rows {
            let verdicts = self
                .measure(*row)
                .with_context(|| format!("the row {row:?} could not be measured"))?;
            verdicts.iter().for_each(&mut observe);
            table.put(row.name(), &verdicts);
            table.save(&self.output)?;
        }
        Ok(table)
    }

    fn measure(&self, row: Row) -> Result<Vec<Verdict>> {
        match row {
            Row::Kill => self.blocked("SIGKILL, 10 ms × 3", Fault::Kill, 3, INTERVAL, (40.0, 80.0)),
            Row::Link => self.blocked("link failure", Fault::Link, 3, INTERVAL, (15.0, 40.0)),
            Row::Short => self.blocked(
                "SIGKILL, 1 ms × 3",
                Fault::Kill,
                2,
                LEAST_INTERVAL,
                (10.0, 10.0),
            ),
            Row::Sessions => self.contrast(),
            Row::Planned => self.planned(),
            Row::Faults => self.faults(),
            Row::Join => self.join(),
            Row::PeerKill => self.peer(Fault::Kill, &[LEAST_INTERVAL, INTERVAL]),
            Row::PeerLink => self.peer(Fault::Link, &[INTERVAL]),
            Row::PeerPlanned => self.peer(Fault::Planned, &[INTERVAL]),
        }
    }

    fn lab(&self, units: u8, heartbeat_interval: &str) -> LabSettings {
        LabSettings {
            prefix: self.prefix.clone(),
            units,
            heartbeat_interval: heartbeat_interval.to_owned(),
            ..LabSettings::default()
        }
    }

    fn experiment(&self, fault: Fault, lab: LabSettings) -> Experiment {
        Experiment {
            lab,
            fault,
            victim: Victim::Primary,
            runs: self.runs,
            sessions: 0,
            rate: 1_000,
            transfer: None,
        }
    }

    fn blocked(
        &self,
        what: &str,
        fault: Fault,
        units: u8,
        interval: &str,
        (median, worst): (f64, f64),
    ) -> Result<Vec<Verdict>> {
        let report = self
            .experiment(fault, self.lab(units, interval))
            .perform(|_| {})?;
        let mut verdict = Verdict {
            goal: format!("≤ {median} ms, ≤ {worst} ms"),
            met: report.median_ms <= median && report.worst_ms <= worst,
            ..blocked_verdict(&report)
        };
        verdict.what = format!("blocked, {what}, {units} units");
        Ok(vec![verdict, kept_verdict(what, &report)])
    }

    fn contrast(&self) -> Result<Vec<Verdict>> {
        let lab = LabSettings {
            sessions: u32::try_from(MANY * 2)?,
            ..self.lab(2, INTERVAL)
        };
        let experiment = Experiment {
            sessions: MANY,
            ..self.experiment(Fault::Kill, lab)
        };
        let report = Contrast { experiment }.perform(|_, _| {})?;
        let (with, without) = (&report.with, &report.without);
        let of = |what: &str, ours: (f64, f64), beside: f64| Verdict {
            what: format!("{what}, SIGKILL, {MANY} sessions beside none"),
            runs: with.runs.len(),
            unit: "ms".to_owned(),
            median: ours.0,
            worst: ours.1,
            beside: Some(beside),
            goal: format!("the same, within {SAME_MS} ms"),
            met: ours.0 <= beside + SAME_MS,
        };
        Ok(vec![
            of(
                "blocked",
                (with.median_ms, with.worst_ms),
                without.median_ms,
            ),
            of(
                "TCP stall",
                (with.tcp_stall_median_ms, with.tcp_stall_worst_ms),
                without.tcp_stall_median_ms,
            ),
            kept_verdict("SIGKILL with many sessions", with),
        ])
    }

    fn planned(&self) -> Result<Vec<Verdict>> {
        let (rate, megabits) = PLANNED_LOAD;
        let experiment = Experiment {
            rate,
            transfer: Some(megabits),
            ..self.experiment(Fault::Planned, self.lab(3, INTERVAL))
        };
        let report = experiment.perform(|_| {})?;
        let mut lost: Vec<u64> = report.runs.iter().map(|run| run.lost).collect();
        lost.sort_unstable();
        let worst = lost[lost.len() - 1];
        let verdict = Verdict {
            what: "packets lost, planned switchover, iperf3 and 10,000 packets/s".to_owned(),
            runs: lost.len(),
            unit: "packets".to_owned(),
            median: count(lost[lost.len() / 2]),
            worst: count(worst),
            beside: None,
            goal: "0".to_owned(),
            met: worst == 0,
        };
        Ok(vec![verdict, kept_verdict("planned", &report)])
    }

    fn faults(&self) -> Result<Vec<Verdict>> {
        let trial = Trial {
            lab: self.lab(3, INTERVAL),
            seed: SEED,
            faults: self.runs * 2,
            patience: Trial::PATIENCE,
        };
        let report = trial.perform(|_| {})?;
        let wrong = count(report.violations.len() as u64);
        let done = report.steps.iter().filter(|step| step.left_out.is_none());
        Ok(vec![Verdict {
            what: format!(
                "random faults, seed {SEED}: of {} TCP connections and {} UDP flows, what went wrong",
                report.tcp_opened, report.udp_flows
            ),
            runs: done.count(),
            unit: "cases".to_owned(),
            median: wrong,
            worst: wrong,
            beside: None,
            goal: "0".to_owned(),
            met: report.violations.is_empty(),
        }])
    }

    fn join(&self) -> Result<Vec<Verdict>> {
        let joining = Joining {
            lab: LabSettings {
                sessions: u32::try_from(MANY * 2)?,
                ..self.lab(2, INTERVAL)
            },
            runs: self.runs,
            sessions: MANY,
        };
        let report = joining.perform()?;
        let ready = Verdict {
            what: format!("a unit joins with {MANY} sessions there"),
            runs: report.runs.len(),
            unit: "ms".to_owned(),
            median: report.median_ms,
            worst: report.worst_ms,
            beside: None,
            goal: "≤ 5000 ms".to_owned(),
            met: report.worst_ms <= 5_000.0,
        };
        Ok(vec![ready, self.speed_meanwhile()?])
    }

    /// What `tidegate-bench join` says of a worker that has a core of its own.
    fn speed_meanwhile(&self) -> Result<Verdict> {
        let mut bench = Command::new(Programs::find()?.bench()?);
        bench.args(["--json", "join", "--no-huge"]);
        bench.args(["--sessions", &MANY.to_string()]);
        bench.args(["--rounds", &self.runs.to_string()]);
        let report: Benchmark = serde_json::from_str(&tool::output(&mut bench)?)?;
        let mut rows = report.rows.into_iter();
        let (median, worst) = rows
            .find_map(|row| row.ratio.zip(row.ratio_min))
            .context("the worker's speed was not measured")?;
        Ok(Verdict {
            what: format!("a worker's speed while a unit copies {MANY} sessions ÷ while none does"),
            runs: self.runs,
            unit: String::new(),
            median,
            worst,
            beside: None,
            goal: "≥ 0.9 in the median".to_owned(),
            met: median >= 0.9,
        })
    }

    /// The peer is to be beaten with the first of the intervals. The others are told beside it: who detects by
    /// silence is as fast as another one with the same interval.
    fn peer(&self, fault: Fault, intervals: &[&str]) -> Result<Vec<Verdict>> {
        let comparison = Comparison {
            experiment: self.experiment(fault, self.lab(2, INTERVAL)),
            intervals: intervals.iter().map(ToString::to_string).collect(),
            faults: vec![fault],
            peer: KeepalivedSettings {
                prefix: format!("{}k", self.prefix),
                advert_cs: 1,
            },
        };
        let report = comparison.perform(|_, _, _| {})?;
        let verdict = |row: &crate::failover::Row| {
            let first = row.heartbeat_interval == intervals[0];
            let alike = row.unit != "%" && row.ours <= row.peer + SAME_MS;
            Verdict {
                what: format!(
                    "{}, heartbeats every {}, beside {} every {}",
                    row.what, row.heartbeat_interval, row.peer_name, row.peer_interval
                ),
                runs: self.runs,
                unit: row.unit.to_owned(),
                median: row.ours,
                worst: row.ours_worst,
                beside: Some(row.peer),
                goal: if first {
                    "beaten, or nothing to better".to_owned()
                } else {
                    format!("at the same interval: no worse, within {SAME_MS}")
                },
                met: row.beaten || !first && alike,
            }
        };
        Ok(report.rows.iter().map(verdict).collect())
    }
}

/// What a benchmark prints.
#[derive(Deserialize)]
struct Benchmark {
    rows: Vec<BenchmarkRow>,
}

/// How a row's figure compares with its peer's, if it has one.
#[derive(Deserialize)]
struct BenchmarkRow {
    ratio: Option<f64>,
    ratio_min: Option<f64>,
}

fn blocked_verdict(report: &Report) -> Verdict {
    Verdict {
        what: String::new(),
        runs: report.runs.len(),
        unit: "ms".to_owned(),
        median: report.median_ms,
        worst: report.worst_ms,
        beside: None,
        goal: String::new(),
        met: false,
    }
}

/// Of all TCP connections of all runs, those that were lost.
fn kept_verdict(what: &str, report: &Report) -> Verdict {
    let lost = |run: &crate::failover::Run| count((run.tcp_total - run.tcp_kept) as u64);
    let mut each: Vec<f64> = report.runs.iter().map(lost).collect();
    each.sort_by(f64::total_cmp);
    Verdict {
        what: format!("TCP connections lost, {what}, of {}", report.tcp_total),
        unit: String::new(),
        median: each[each.len() / 2],
        worst: each[each.len() - 1],
        goal: "0".to_owned(),
        met: report.tcp_kept == report.tcp_total,
        ..blocked_verdict(report)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what is counted here are packets of seconds, and connections"
)]
fn count(number: u64) -> f64 {
    number as f64
}
