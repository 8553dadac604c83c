//! The failover experiment: break a unit again and again, and measure what its users notice; for
//! Tidegate alone ([`Experiment`]), with many sessions and without in alternation ([`Contrast`]), or in
//! alternation with another cluster ([`Comparison`]).

mod comparison;
mod contrast;
mod report;
mod strike;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, LabSettings};
use crate::probe::{Crowd, TcpSessions, Transfer, UdpStream};
use crate::topology::{Host, Topology};

pub use comparison::{Comparison, ComparisonReport, Row, Turns, Variant};
pub use contrast::{Contrast, ContrastReport};
pub use report::{RUN_HEADING, Report, Run};
pub(crate) use strike::PROMOTION_LIMIT;
pub use strike::{Fault, Promotion, Strike, Victim};

/// TCP connections of each run, half of them idle.
const TCP_SESSIONS: usize = 25;
/// How long a fault of a unit that is not the primary is watched: longer than any detection.
const SUBORDINATE_WATCH: Duration = Duration::from_secs(1);
/// How long a transfer runs before the fault, so that it has found its speed.
const TRANSFER_LEAD: Duration = Duration::from_secs(1);

/// A cluster of gateways in the lab's topology, of whatever make, whose failovers are measured.
pub trait Contender {
    /// The wiring.
    fn topology(&self) -> &Topology;

    /// Waits until one unit carries the traffic, the others could, and each holds so many sessions.
    ///
    /// # Errors
    ///
    /// When that does not come about in time.
    fn wait_holding(&self, sessions: u64) -> Result<()>;

    /// Breaks a unit.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    fn strike(&self, fault: Fault, victim: Victim) -> Result<Strike>;

    /// Waits until another unit carries the traffic.
    ///
    /// # Errors
    ///
    /// When that does not come about in time.
    fn wait_promotion(&self, strike: &Strike) -> Result<Promotion>;

    /// Repairs what was broken.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    fn heal(&self, strike: &Strike) -> Result<()>;

    /// The last lines of the units' logs.
    fn log_ends(&self) -> String;

    /// Takes everything down.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn down(&self) -> Result<()>;
}

/// What to do how often.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The lab to build for it.
    pub lab: LabSettings,
    /// The fault.
    pub fault: Fault,
    /// Whom it happens to.
    pub victim: Victim,
    /// How often.
    pub runs: usize,
    /// UDP sessions that are there besides, answered and synchronised.
    pub sessions: usize,
    /// Datagrams per second of the stream that measures.
    pub rate: u32,
    /// Megabits per second of a bulk transfer by TCP that runs besides, if any.
    pub transfer: Option<u32>,
}

impl Experiment {
    /// Builds the lab, performs all runs, and takes the lab down again; where runs of one lab would slow each
    /// other down, in several labs one after the other. `observe` sees each run as soon as it is over.
    ///
    /// # Errors
    ///
    /// When the lab does not come up, or after a fault no unit takes over or the cluster does not
    /// become whole again.
    pub fn perform(&self, mut observe: impl FnMut(&Run)) -> Result<Report> {
        ensure!(self.runs > 0, "an experiment has at least one run");
        ensure!(self.lab.units >= 2, "a failover needs at least two units");
        let mut runs = Vec::with_capacity(self.runs);
        while runs.len() < self.runs {
            let part = Self {
                runs: (self.runs - runs.len()).min(self.fault.runs_of_a_lab()),
                ..self.clone()
            };
            let lab = Lab::up(&self.lab)?;
            runs.extend(part.perform_in(&lab, &mut observe)?);
        }
        Ok(Report::of(self.fault, runs))
    }

    /// Performs all runs and takes the cluster down, however they end.
    fn perform_in(
        &self,
        cluster: &dyn Contender,
        observe: &mut dyn FnMut(&Run),
    ) -> Result<Vec<Run>> {
        let runs = self.perform_all(cluster, observe).map_err(|error| {
            let logs = cluster.log_ends();
            error.context(format!("the end of the units' logs:\n{logs}"))
        });
        cluster.down()?;
        runs
    }

    fn perform_all(
        &self,
        cluster: &dyn Contender,
        observe: &mut dyn FnMut(&Run),
    ) -> Result<Vec<Run>> {
        let client = cluster.topology().namespace(Host::Client);
        let server = cluster.topology().namespace(Host::Server);
        let crowd = match self.sessions {
            0 => None,
            sessions => Some(Crowd::settle(&client, &server, sessions)?),
        };
        let mut runs = Vec::with_capacity(self.runs);
        for number in 1..=self.runs {
            let run = self
                .perform_one(cluster, crowd.as_ref())
                .with_context(|| format!("run {number} of {}", self.runs))?;
            observe(&run);
            runs.push(run);
        }
        Ok(runs)
    }

    fn perform_one(&self, cluster: &dyn Contender, crowd: Option<&Crowd>) -> Result<Run> {
        let client = cluster.topology().namespace(Host::Client);
        let server = cluster.topology().namespace(Host::Server);
        cluster.wait_holding(self.sessions as u64)?;
        let tcp = TcpSessions::open(&client, &server, TCP_SESSIONS)?;
        let stream = UdpStream::start(&client, &server, self.rate)?;
        let transfer = self
            .transfer
            .map(|megabits| Transfer::start(&client, &server, megabits))
            .transpose()?;
        if transfer.is_some() {
            std::thread::sleep(TRANSFER_LEAD);
        }
        let from = stream.offered();
        cluster.wait_holding((self.sessions + TCP_SESSIONS) as u64)?;

        let strike = cluster.strike(self.fault, self.victim)?;
        let promotion = if strike.was_primary {
            Some(cluster.wait_promotion(&strike)?)
        } else {
            std::thread::sleep(SUBORDINATE_WATCH);
            None
        };
        stream.wait_steady(stream.offered())?;
        let tcp = tcp.finish()?;
        let retransmitted = transfer.map(Transfer::finish).transpose()?;
        let record = stream.stop()?;
        let loss = record.loss(from..record.offered());

        cluster.heal(&strike)?;
        cluster.wait_holding(self.sessions as u64)?;
        let crowd_kept = crowd.map(Crowd::check).transpose()?;
        Ok(Run {
            retransmitted,
            crowd_kept: crowd_kept.map(|outcome| (outcome.kept, outcome.total)),
            ..Run::of(promotion, loss, &tcp)
        })
    }
}
