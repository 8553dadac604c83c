//! The failover experiment: break the primary again and again, and measure what its users notice.

use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use api::{Role, Status, Why};
use serde::Serialize;

use crate::clock::{self, Found, wait_for};
use crate::lab::{Lab, LabSettings};
use crate::probe::{Crowd, Loss, TcpOutcome, TcpSessions, UdpStream};
use crate::topology::{Host, Segment};
use crate::unit::Unit;

/// Datagrams per second of the stream that measures.
const STREAM_RATE: u32 = 1_000;
/// TCP connections of each run, half of them idle.
const TCP_SESSIONS: usize = 25;
/// How long a promotion may take before the experiment is given up.
const PROMOTION_LIMIT: Duration = Duration::from_secs(15);

/// What happens to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// SIGKILL of its process.
    Kill,
    /// Its cable in the lan segment is pulled.
    Link,
    /// SIGSTOP: it falls silent, and no carrier is lost.
    Silent,
    /// The operator asks for a failover.
    Planned,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Link => "link",
            Self::Silent => "silent",
            Self::Planned => "planned",
        })
    }
}

/// What to do how often.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The lab to build for it.
    pub lab: LabSettings,
    /// The fault.
    pub fault: Fault,
    /// How often.
    pub runs: usize,
    /// UDP sessions that are there besides, answered and synchronised.
    pub sessions: usize,
}

/// What one fault did.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Packets lost ÷ packets offered per second, in milliseconds.
    pub blocked_ms: f64,
    /// Packets lost.
    pub lost: u64,
    /// TCP connections that still carried data afterwards.
    pub tcp_kept: usize,
    /// TCP connections that were open.
    pub tcp_total: usize,
    /// The unit that became the primary.
    pub promoted: String,
    /// The term that it raised.
    pub term: u32,
    /// From the fault until the new primary says it was promoted, in milliseconds.
    #[serde(skip)]
    pub promoted_after_ms: f64,
    /// The longest time without an answer, in milliseconds.
    #[serde(skip)]
    pub gap_ms: f64,
    /// TCP connections that were reset.
    #[serde(skip)]
    pub tcp_reset: usize,
    /// UDP sessions of the crowd whose translation survived.
    #[serde(skip)]
    pub crowd_kept: usize,
}

/// All runs and what they come to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The fault.
    pub fault: Fault,
    /// Each run.
    pub runs: Vec<Run>,
    /// The median of the blocked times.
    pub median_ms: f64,
    /// Their 99th percentile, by nearest rank.
    pub p99_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// TCP connections kept, over all runs.
    pub tcp_kept: usize,
    /// TCP connections opened, over all runs.
    pub tcp_total: usize,
}

impl Experiment {
    /// Builds the lab, performs all runs, and takes the lab down again. `observe` sees each run as
    /// soon as it is over.
    ///
    /// # Errors
    ///
    /// When the lab does not come up, or after a fault no unit takes over or the cluster does not
    /// become whole again.
    pub fn perform(&self, observe: impl FnMut(&Run)) -> Result<Report> {
        ensure!(self.runs > 0, "an experiment has at least one run");
        ensure!(self.lab.units >= 2, "a failover needs at least two units");
        let lab = Lab::up(&self.lab)?;
        let report = self.perform_in(&lab, observe).map_err(|error| {
            let logs: Vec<String> = lab.units().iter().map(Unit::log_end).collect();
            error.context(format!("the end of the units' logs:\n{}", logs.join("\n")))
        });
        lab.down()?;
        report
    }

    fn perform_in(&self, lab: &Lab, mut observe: impl FnMut(&Run)) -> Result<Report> {
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let crowd = match self.sessions {
            0 => None,
            sessions => Some(Crowd::settle(&client, &server, sessions)?),
        };
        let mut runs = Vec::with_capacity(self.runs);
        for number in 1..=self.runs {
            let run = self
                .perform_one(lab, crowd.as_ref())
                .with_context(|| format!("run {number} of {}", self.runs))?;
            observe(&run);
            runs.push(run);
        }
        Ok(Report::of(self.fault, runs))
    }

    fn perform_one(&self, lab: &Lab, crowd: Option<&Crowd>) -> Result<Run> {
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        lab.wait_holding(self.sessions as u64)?;
        let tcp = TcpSessions::open(&client, &server, TCP_SESSIONS)?;
        let stream = UdpStream::start(&client, &server, STREAM_RATE)?;
        let from = stream.offered();
        lab.wait_holding((self.sessions + TCP_SESSIONS) as u64)?;

        let strike = Strike::perform(lab, self.fault)?;
        let promotion = strike.wait_promotion(lab)?;
        stream.wait_steady(stream.offered())?;
        let tcp = tcp.finish()?;
        let record = stream.stop()?;
        let loss = record.loss(from..record.offered());

        strike.heal(lab)?;
        lab.wait_holding(self.sessions as u64)?;
        let crowd_kept = crowd
            .map(Crowd::check)
            .transpose()?
            .map_or(0, |outcome| outcome.kept);
        Ok(Run::of(&promotion, loss, tcp, crowd_kept))
    }
}

/// A fault that has happened.
#[derive(Debug)]
pub struct Strike {
    fault: Fault,
    /// When.
    pub at: SystemTime,
    /// The id of the unit that was the primary.
    pub unit: u8,
    /// The term before.
    pub term: u32,
}

/// The promotion that answered a fault.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The new primary's id.
    pub unit: u8,
    /// Its name.
    pub name: String,
    /// Its term.
    pub term: u32,
    /// From the fault to the promotion, by the unit's own account.
    pub after: Duration,
    /// Why, in the unit's own words.
    pub cause: String,
}

impl Strike {
    /// Does it to whichever unit is the primary.
    ///
    /// # Errors
    ///
    /// When there is not one primary, or the fault cannot be done.
    pub fn perform(lab: &Lab, fault: Fault) -> Result<Self> {
        let (unit, status) = lab.primary()?;
        let strike = Self {
            fault,
            at: clock::wall(),
            unit: unit.id(),
            term: status.term,
        };
        match fault {
            Fault::Kill => unit.kill()?,
            Fault::Link => lab.topology().set_link(unit.id(), Segment::Lan, false)?,
            Fault::Silent => unit.freeze()?,
            Fault::Planned => unit.ask(&["cluster", "failover"]).map(drop)?,
        }
        Ok(strike)
    }

    /// Waits until another unit is the primary, in a higher term.
    ///
    /// # Errors
    ///
    /// When that does not happen in time.
    pub fn wait_promotion(&self, lab: &Lab) -> Result<Promotion> {
        let is_successor =
            |status: &Status| status.role == Role::Primary && status.term > self.term;
        let others = || lab.running().filter(|unit| unit.id() != self.unit);
        let (unit, status) = wait_for("another primary", PROMOTION_LIMIT, || {
            let found = others().find_map(|unit| {
                Some((unit, unit.status().ok()?)).filter(|(_, status)| is_successor(status))
            });
            Ok(found.map_or_else(|| Found::NotYet("no other unit is one".into()), Found::Yes))
        })?;
        let why: Why = serde_json::from_str(&unit.ask(&["cluster", "why"])?)?;
        let transition = why
            .transitions
            .iter()
            .rfind(|transition| transition.to == Role::Primary && transition.term == status.term)
            .with_context(|| {
                format!(
                    "`cluster why` of {} does not tell of its promotion",
                    unit.name()
                )
            })?;
        let at = humantime::parse_rfc3339(&transition.time)
            .with_context(|| format!("`{}` is not RFC 3339", transition.time))?;
        Ok(Promotion {
            unit: unit.id(),
            name: status.name,
            term: status.term,
            // The unit rounds to milliseconds, so it may seem to have been first.
            after: at.duration_since(self.at).unwrap_or(Duration::ZERO),
            cause: transition.cause.clone(),
        })
    }

    /// Repairs what was broken; the unit that was struck runs again and counts as healthy.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn heal(&self, lab: &Lab) -> Result<()> {
        let unit = lab.unit(self.unit)?;
        match self.fault {
            Fault::Kill => unit.start(),
            Fault::Silent => unit.kill().and_then(|()| unit.start()),
            Fault::Link => {
                lab.topology().set_link(unit.id(), Segment::Lan, true)?;
                lab.wait_healthy(unit.id())
            }
            Fault::Planned => Ok(()),
        }
    }
}

impl Run {
    fn of(promotion: &Promotion, loss: Loss, tcp: TcpOutcome, crowd_kept: usize) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        Self {
            blocked_ms: ms(loss.blocked),
            lost: loss.lost,
            tcp_kept: tcp.kept,
            tcp_total: tcp.total,
            promoted: promotion.name.clone(),
            term: promotion.term,
            promoted_after_ms: ms(promotion.after),
            gap_ms: ms(loss.longest_gap),
            tcp_reset: tcp.reset,
            crowd_kept,
        }
    }
}

impl Report {
    /// Sums the runs up. There is at least one.
    fn of(fault: Fault, runs: Vec<Run>) -> Self {
        let mut blocked: Vec<f64> = runs.iter().map(|run| run.blocked_ms).collect();
        blocked.sort_by(f64::total_cmp);
        Self {
            fault,
            median_ms: median(&blocked),
            p99_ms: blocked[(blocked.len() * 99).div_ceil(100) - 1],
            worst_ms: blocked[blocked.len() - 1],
            tcp_kept: runs.iter().map(|run| run.tcp_kept).sum(),
            tcp_total: runs.iter().map(|run| run.tcp_total).sum(),
            runs,
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(blocked_ms: f64, tcp_kept: usize) -> Run {
        Run {
            blocked_ms,
            lost: 30,
            tcp_kept,
            tcp_total: 25,
            promoted: "u2".into(),
            term: 2,
            promoted_after_ms: 31.0,
            gap_ms: 33.0,
            tcp_reset: 0,
            crowd_kept: 0,
        }
    }

    #[test]
    fn the_report_has_the_agreed_fields_only() {
        let report = Report::of(Fault::Kill, vec![run(30.0, 25)]);
        let json = serde_json::to_value(&report).expect("it serialises");
        let expected = serde_json::json!({
            "fault": "kill",
            "runs": [{"blocked_ms": 30.0, "lost": 30, "tcp_kept": 25, "tcp_total": 25,
                      "promoted": "u2", "term": 2}],
            "median_ms": 30.0, "p99_ms": 30.0, "worst_ms": 30.0, "tcp_kept": 25, "tcp_total": 25,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn median_and_percentile_are_those_of_the_sorted_runs() {
        let runs = [40.0, 10.0, 30.0, 20.0].map(|blocked| run(blocked, 24));
        let report = Report::of(Fault::Silent, runs.to_vec());
        assert_eq!(
            (report.median_ms, report.p99_ms, report.worst_ms),
            (25.0, 40.0, 40.0)
        );
        assert_eq!((report.tcp_kept, report.tcp_total), (96, 100));
        let many = (1..=200)
            .map(|blocked| run(f64::from(blocked), 25))
            .collect();
        let report = Report::of(Fault::Link, many);
        assert_eq!(
            (report.median_ms, report.p99_ms, report.worst_ms),
            (100.5, 198.0, 200.0)
        );
    }
}
