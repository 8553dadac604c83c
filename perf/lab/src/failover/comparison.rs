//! Tidegate's failovers beside those of keepalived and conntrackd, in alternation: the machine is
//! not as fast now as it was a minute ago, so figures that are compared are taken in turn.

use std::fmt;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::report::{median, sorted};
use super::{Experiment, Fault, Run};
use crate::keepalived::{Keepalived, KeepalivedSettings};
use crate::lab::Lab;

/// How many failovers of one are measured before it is the next one's turn. Only one is up at a time, so
/// that none waits for a core that another keeps busy.
const TURN: usize = 5;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What is done to all; its fault is taken from `faults`, its interval of heartbeats from `intervals`.
    pub experiment: Experiment,
    /// Tidegate's intervals of heartbeats: it is measured with each of them.
    pub intervals: Vec<String>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// How the peer is configured.
    pub peer: KeepalivedSettings,
}

/// A quantity of both, as the rows of `tidegate-bench` show them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Our interval of heartbeats.
    pub heartbeat_interval: String,
    /// UDP sessions that were there.
    pub sessions: u64,
    /// The unit of the figures.
    pub unit: &'static str,
    /// Our figure, the median.
    pub ours: f64,
    /// The best of our runs.
    pub ours_best: f64,
    /// The worst of our runs.
    pub ours_worst: f64,
    /// Who the peer is.
    pub peer_name: &'static str,
    /// The peer's interval between advertisements.
    pub peer_interval: String,
    /// The peer's figure, the median.
    pub peer: f64,
    /// The best of the peer's runs.
    pub peer_best: f64,
    /// The worst of the peer's runs.
    pub peer_worst: f64,
    /// How many times better our median is than the peer's, the median over the turns: above 1 we
    /// win, whatever the unit. Infinite (in JSON null) where ours is nothing.
    pub ratio: f64,
    /// The least of these ratios.
    pub ratio_min: f64,
    /// The greatest of them.
    pub ratio_max: f64,
    /// Whether our median is better than the peer's, or no figure could be better than either.
    pub beaten: bool,
}

/// All rows, and the runs that they come from.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonReport {
    /// The rows.
    pub rows: Vec<Row>,
    /// By fault: our runs and the peer's, turn by turn.
    pub turns: Vec<Turns>,
}

/// The runs of one fault.
#[derive(Clone, Debug, Serialize)]
pub struct Turns {
    /// The fault.
    pub fault: Fault,
    /// Ours, by interval of heartbeats.
    pub ours: Vec<Variant>,
    /// The peer's.
    pub peer: Vec<Vec<Run>>,
}

/// Our runs with one interval of heartbeats.
#[derive(Clone, Debug, Serialize)]
pub struct Variant {
    /// The interval.
    pub heartbeat_interval: String,
    /// The runs, turn by turn.
    pub turns: Vec<Vec<Run>>,
}

impl Comparison {
    /// Performs all runs of all faults. `observe` sees each as soon as it is over, with who it is of.
    ///
    /// # Errors
    ///
    /// When any of them does not come up, or does not survive a fault.
    pub fn perform(&self, mut observe: impl FnMut(Fault, &str, &Run)) -> Result<ComparisonReport> {
        ensure!(
            self.experiment.runs > 0,
            "a comparison has at least one run"
        );
        ensure!(
            self.experiment.lab.units >= 2,
            "a failover needs at least two units"
        );
        let mut report = ComparisonReport {
            rows: Vec::new(),
            turns: Vec::new(),
        };
        for fault in &self.faults {
            let turns = self.take_turns(*fault, &mut observe)?;
            report.rows.extend(self.rows(&turns));
            report.turns.push(turns);
        }
        Ok(report)
    }

    fn take_turns(
        &self,
        fault: Fault,
        observe: &mut impl FnMut(Fault, &str, &Run),
    ) -> Result<Turns> {
        let variant = |interval: &String| Variant {
            heartbeat_interval: interval.clone(),
            turns: Vec::new(),
        };
        let mut turns = Turns {
            fault,
            ours: self.intervals.iter().map(variant).collect(),
            peer: Vec::new(),
        };
        let contenders = turns.ours.len() + 1;
        let mut left = self.experiment.runs;
        for turn in 0.. {
            let mut experiment = Experiment {
                fault,
                runs: left.min(TURN),
                ..self.experiment.clone()
            };
            if experiment.runs == 0 {
                break;
            }
            left -= experiment.runs;
            // Who begins changes, so that a drift favours nobody.
            for place in 0..contenders {
                if let Some(variant) = turns.ours.get_mut((turn + place) % contenders) {
                    let interval = &variant.heartbeat_interval;
                    experiment.lab.heartbeat_interval.clone_from(interval);
                    let name = format!("{}, heartbeats every {interval}", Lab::NAME);
                    let lab = Lab::up(&experiment.lab)?;
                    let runs =
                        experiment.perform_in(&lab, &mut |run| observe(fault, &name, run))?;
                    variant.turns.push(runs);
                } else {
                    let peer = Keepalived::up(&self.peer)?;
                    let runs = experiment
                        .perform_in(&peer, &mut |run| observe(fault, Keepalived::NAME, run))?;
                    turns.peer.push(runs);
                }
            }
        }
        Ok(turns)
    }

    /// The rows of one fault.
    fn rows(&self, turns: &Turns) -> Vec<Row> {
        let rows = turns.ours.iter().map(|ours| self.rows_of(turns, ours));
        rows.flatten().collect()
    }

    fn rows_of(&self, turns: &Turns, ours: &Variant) -> Vec<Row> {
        let row = |what: &str, unit, better, figure: &dyn Fn(&Run) -> f64| {
            let figures = |runs: &[Vec<Run>]| -> Vec<Vec<f64>> {
                let turn = |runs: &Vec<Run>| sorted(runs.iter().map(figure));
                runs.iter().map(turn).collect()
            };
            let (ours_figures, peer_figures) = (figures(&ours.turns), figures(&turns.peer));
            let row = Row::of(better, &ours_figures, &peer_figures);
            Row {
                what: format!("{}: {what}", turns.fault),
                heartbeat_interval: ours.heartbeat_interval.clone(),
                sessions: self.experiment.sessions as u64,
                unit,
                peer_interval: format!("{}ms", u32::from(self.peer.advert_cs) * 10),
                ..row
            }
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are a few dozen connections, and a few thousand packets"
        )]
        let (kept, lost) = (
            |run: &Run| run.tcp_kept as f64 * 100.0 / run.tcp_total as f64,
            |run: &Run| run.lost as f64,
        );
        vec![
            row("blocked", "ms", Better::Less, &|run| run.blocked_ms),
            row("packets lost", "", Better::Less, &lost),
            row("longest TCP stall", "ms", Better::Less, &|run| {
                run.tcp_stall_ms
            }),
            row("TCP connections kept", "%", Better::More, &kept),
        ]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Less,
    /// Per cent.
    More,
}

impl Row {
    /// Of each turn's figures in order; who and what it is of is left to be said.
    fn of(better: Better, ours: &[Vec<f64>], peer: &[Vec<f64>]) -> Self {
        let ratios = sorted(ours.iter().zip(peer).map(|(ours, peer)| {
            let (ours, peer) = (median(ours), median(peer));
            match better {
                // Nothing against nothing is a draw.
                _ if ours == peer => 1.0,
                Better::Less => peer / ours,
                Better::More => ours / peer,
            }
        }));
        let ends = |figures: &[f64]| {
            let (first, last) = (figures[0], figures[figures.len() - 1]);
            match better {
                Better::Less => (first, last),
                Better::More => (last, first),
            }
        };
        let ours = sorted(ours.iter().flatten().copied());
        let peer = sorted(peer.iter().flatten().copied());
        let ((ours_best, ours_worst), (peer_best, peer_worst)) = (ends(&ours), ends(&peer));
        let beaten = match better {
            Better::Less => median(&ours) < median(&peer) || median(&ours) <= 0.0,
            Better::More => median(&ours) > median(&peer) || median(&ours) >= 100.0,
        };
        Self {
            what: String::new(),
            heartbeat_interval: String::new(),
            sessions: 0,
            unit: "",
            ours: median(&ours),
            ours_best,
            ours_worst,
            peer_name: Keepalived::NAME,
            peer_interval: String::new(),
            beaten,
            peer: median(&peer),
            peer_best,
            peer_worst,
            ratio: median(&ratios),
            ratio_min: ratios[0],
            ratio_max: ratios[ratios.len() - 1],
        }
    }
}

impl fmt::Display for ComparisonReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<30} {:>9}  {:>8}  {:>24}  {:>24}  ratio (least–greatest)  beaten",
            "median, best–worst",
            "sessions",
            "interval",
            Lab::NAME,
            Keepalived::NAME
        )?;
        for row in &self.rows {
            let figure =
                |median, best, worst| format!("{median:.1} {}, {best:.1}–{worst:.1}", row.unit);
            writeln!(
                f,
                "{:<30} {:>9}  {:>8}  {:>24}  {:>24}  {:<22}  {}",
                row.what,
                row.sessions,
                row.heartbeat_interval,
                figure(row.ours, row.ours_best, row.ours_worst),
                figure(row.peer, row.peer_best, row.peer_worst),
                format!(
                    "{:.1} ({:.1}–{:.1})",
                    row.ratio, row.ratio_min, row.ratio_max
                ),
                if row.beaten { "yes" } else { "no" }
            )?;
        }
        let Some(row) = self.rows.first() else {
            return Ok(());
        };
        write!(
            f,
            "interval: of our heartbeats; advertisements of {} come every {}",
            row.peer_name, row.peer_interval
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::report::tests::run;
    use crate::lab::LabSettings;

    fn comparison() -> Comparison {
        Comparison {
            experiment: Experiment {
                lab: LabSettings::default(),
                fault: Fault::Kill,
                victim: super::super::Victim::Primary,
                runs: 2,
                sessions: 7,
                rate: 1_000,
                transfer: None,
            },
            intervals: vec!["10ms".to_owned(), "1ms".to_owned()],
            faults: vec![Fault::Kill],
            peer: KeepalivedSettings {
                prefix: "tgk".to_owned(),
                advert_cs: 1,
            },
        }
    }

    fn variant(interval: &str, turns: Vec<Vec<Run>>) -> Variant {
        Variant {
            heartbeat_interval: interval.to_owned(),
            turns,
        }
    }

    #[test]
    fn a_ratio_is_taken_within_each_turn_and_for_each_interval() {
        // The machine slows down threefold between the turns: the medians alone would say 2.
        let turns = Turns {
            fault: Fault::Kill,
            ours: vec![
                variant("10ms", vec![vec![run(10.0, 25)], vec![run(30.0, 25)]]),
                variant("1ms", vec![vec![run(20.0, 25)], vec![run(90.0, 25)]]),
            ],
            peer: vec![vec![run(20.0, 25)], vec![run(90.0, 20)]],
        };
        let rows = comparison().rows(&turns);
        let [blocked, _, _, kept, short, ..] = &rows[..] else {
            panic!("four rows for each interval: {rows:?}");
        };
        assert_eq!(
            (blocked.what.as_str(), blocked.sessions),
            ("kill: blocked", 7)
        );
        assert_eq!(
            (blocked.ours, blocked.ours_best, blocked.ours_worst),
            (20.0, 10.0, 30.0)
        );
        assert_eq!(
            (blocked.peer, blocked.peer_best, blocked.peer_worst),
            (55.0, 20.0, 90.0)
        );
        assert_eq!(
            (blocked.ratio, blocked.ratio_min, blocked.ratio_max),
            (2.5, 2.0, 3.0)
        );
        assert_eq!(
            (kept.ours_worst, kept.peer_best, kept.peer_worst),
            (100.0, 100.0, 80.0)
        );
        assert_eq!((kept.ratio_min, kept.ratio_max), (1.0, 1.25));
        assert_eq!(
            (short.heartbeat_interval.as_str(), short.ratio),
            ("1ms", 1.0)
        );
        assert!(blocked.beaten && kept.beaten && !short.beaten);
    }

    #[test]
    fn nothing_lost_by_either_is_a_draw_that_nobody_could_better() {
        let turns = Turns {
            fault: Fault::Planned,
            ours: vec![variant("10ms", vec![vec![run(0.0, 25)]])],
            peer: vec![vec![run(0.0, 25)]],
        };
        let rows = comparison().rows(&turns);
        assert_eq!((rows[0].ratio, rows[0].beaten), (1.0, true));
    }
}
