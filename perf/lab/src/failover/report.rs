//! What failovers came to, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::strike::{Fault, Promotion};
use crate::probe::{Loss, TcpOutcome};

/// What one fault did.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Packets lost ÷ packets offered per second, in milliseconds.
    pub blocked_ms: f64,
    /// Packets lost.
    pub lost: u64,
    /// The longest that any busy TCP connection waited for an answer, in milliseconds.
    pub tcp_stall_ms: f64,
    /// TCP connections that still carried data afterwards.
    pub tcp_kept: usize,
    /// TCP connections that were open.
    pub tcp_total: usize,
    /// The unit that became the primary, if the one that was struck had been it.
    pub promoted: Option<String>,
    /// The term that it raised.
    pub term: Option<u32>,
    /// Segments that the bulk transfer sent again, if there was one.
    pub retransmitted: Option<u64>,
    /// From the fault until the new primary says it was promoted, in milliseconds.
    #[serde(skip)]
    pub promoted_after_ms: f64,
    /// The longest time without an answer, in milliseconds.
    #[serde(skip)]
    pub gap_ms: f64,
    /// TCP connections that were reset.
    #[serde(skip)]
    pub tcp_reset: usize,
    /// UDP sessions of the crowd whose translation survived, of how many; none without a crowd.
    #[serde(skip)]
    pub crowd_kept: Option<(usize, usize)>,
}

impl Run {
    pub(super) fn of(promotion: Option<Promotion>, loss: Loss, tcp: &TcpOutcome) -> Self {
        let promoted_after = promotion.as_ref().map_or(Duration::ZERO, |p| p.after);
        Self {
            blocked_ms: ms(loss.blocked),
            lost: loss.lost,
            tcp_stall_ms: ms(tcp.longest_stall),
            tcp_kept: tcp.kept,
            tcp_total: tcp.total,
            term: promotion.as_ref().map(|promotion| promotion.term),
            promoted: promotion.map(|promotion| promotion.name),
            retransmitted: None,
            promoted_after_ms: ms(promoted_after),
            gap_ms: ms(loss.longest_gap),
            tcp_reset: tcp.reset,
            crowd_kept: None,
        }
    }
}

/// The heading over runs that are printed as they come.
pub const RUN_HEADING: &str = "  run    blocked   lost        gap   TCP stall   TCP kept  promoted";

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6.1} ms  {:>5}  {:>6.0} ms   {:>6.0} ms  {:>9}  ",
            self.blocked_ms,
            self.lost,
            self.gap_ms,
            self.tcp_stall_ms,
            format!("{}/{}", self.tcp_kept, self.tcp_total),
        )?;
        match (&self.promoted, self.term) {
            (Some(name), Some(0)) => write!(f, "{name} after {:.0} ms", self.promoted_after_ms)?,
            (Some(name), Some(term)) => write!(
                f,
                "{name} in term {term} after {:.0} ms",
                self.promoted_after_ms
            )?,
            _ => f.write_str("nobody: the primary stays")?,
        }
        if self.tcp_reset > 0 {
            write!(f, "; {} TCP reset", self.tcp_reset)?;
        }
        if let Some(segments) = self.retransmitted {
            write!(f, "; {segments} segments of the transfer sent again")?;
        }
        if let Some((kept, total)) = self.crowd_kept {
            write!(f, "; {kept} of {total} UDP sessions kept")?;
        }
        Ok(())
    }
}

/// All runs of one fault and what they come to.
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
    /// The median of the runs' longest TCP stalls.
    pub tcp_stall_median_ms: f64,
    /// The longest of all.
    pub tcp_stall_worst_ms: f64,
    /// TCP connections kept, over all runs.
    pub tcp_kept: usize,
    /// TCP connections opened, over all runs.
    pub tcp_total: usize,
}

impl Report {
    /// Sums the runs up. There is at least one.
    pub(super) fn of(fault: Fault, runs: Vec<Run>) -> Self {
        let blocked = sorted(runs.iter().map(|run| run.blocked_ms));
        let stalls = sorted(runs.iter().map(|run| run.tcp_stall_ms));
        Self {
            fault,
            median_ms: median(&blocked),
            p99_ms: blocked[(blocked.len() * 99).div_ceil(100) - 1],
            worst_ms: blocked[blocked.len() - 1],
            tcp_stall_median_ms: median(&stalls),
            tcp_stall_worst_ms: stalls[stalls.len() - 1],
            tcp_kept: runs.iter().map(|run| run.tcp_kept).sum(),
            tcp_total: runs.iter().map(|run| run.tcp_total).sum(),
            runs,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} runs: blocked for {:.1} ms in the median, {:.1} ms at the 99th percentile, {:.1} ms \
             at worst; TCP stalled for {:.0} ms in the median, {:.0} ms at worst; TCP kept {} of {}",
            self.fault,
            self.runs.len(),
            self.median_ms,
            self.p99_ms,
            self.worst_ms,
            self.tcp_stall_median_ms,
            self.tcp_stall_worst_ms,
            self.tcp_kept,
            self.tcp_total
        )
    }
}

/// Figures in order.
pub(super) fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The median of at least one figure in order.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn run(blocked_ms: f64, tcp_kept: usize) -> Run {
        Run {
            blocked_ms,
            lost: 30,
            tcp_stall_ms: 210.0,
            tcp_kept,
            tcp_total: 25,
            promoted: Some("u2".into()),
            term: Some(2),
            retransmitted: None,
            promoted_after_ms: 31.0,
            gap_ms: 33.0,
            tcp_reset: 0,
            crowd_kept: None,
        }
    }

    #[test]
    fn the_report_has_the_agreed_fields_only() {
        let report = Report::of(Fault::Kill, vec![run(30.0, 25)]);
        let json = serde_json::to_value(&report).expect("it serialises");
        let expected = serde_json::json!({
            "fault": "kill",
            "runs": [{"blocked_ms": 30.0, "lost": 30, "tcp_stall_ms": 210.0, "tcp_kept": 25,
                      "tcp_total": 25, "promoted": "u2", "term": 2, "retransmitted": null}],
            "median_ms": 30.0, "p99_ms": 30.0, "worst_ms": 30.0, "tcp_stall_median_ms": 210.0,
            "tcp_stall_worst_ms": 210.0, "tcp_kept": 25, "tcp_total": 25,
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
