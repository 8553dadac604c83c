//! Failovers with many sessions present beside those with none, in alternation.

use std::fmt;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Experiment, Report, Run};
use crate::lab::Lab;

/// How many failovers are measured in one lab. A crowd of a million takes longer to settle than that.
const TURN: usize = 10;

/// The same experiment, with its sessions and without them.
#[derive(Clone, Debug)]
pub struct Contrast {
    /// What is done; it has sessions.
    pub experiment: Experiment,
}

/// All runs of both.
#[derive(Clone, Debug, Serialize)]
pub struct ContrastReport {
    /// UDP sessions that were present in `with`.
    pub sessions: usize,
    /// With none besides those of the probes.
    pub without: Report,
    /// With them.
    pub with: Report,
}

impl Contrast {
    /// Performs as many runs of each. `observe` sees each run as soon as it is over, with how many
    /// sessions were present.
    ///
    /// # Errors
    ///
    /// As [`Experiment::perform`].
    pub fn perform(&self, mut observe: impl FnMut(usize, &Run)) -> Result<ContrastReport> {
        let Experiment {
            runs,
            sessions,
            fault,
            ..
        } = self.experiment;
        ensure!(runs > 0 && sessions > 0, "there is nothing to contrast");
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for turn in 0.. {
            let left = runs - with.len().min(runs);
            if left == 0 {
                break;
            }
            let mut parts = [(0, &mut without), (sessions, &mut with)];
            // Who begins changes, so that a drift of the machine favours neither.
            if turn % 2 == 1 {
                parts.reverse();
            }
            for (present, all) in parts {
                let part = Experiment {
                    sessions: present,
                    runs: left.min(TURN),
                    ..self.experiment.clone()
                };
                let lab = Lab::up(&part.lab)?;
                all.extend(part.perform_in(&lab, &mut |run| observe(present, run))?);
            }
        }
        Ok(ContrastReport {
            sessions,
            without: Report::of(fault, without),
            with: Report::of(fault, with),
        })
    }
}

impl fmt::Display for ContrastReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no sessions: {}", self.without)?;
        write!(f, "{} sessions: {}", self.sessions, self.with)
    }
}
