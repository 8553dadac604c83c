//! How long a unit that joins needs until it holds every session, ready to forward.
//!
//! What it costs the primary's workers meanwhile is measured by `tidegate-bench join`, where a worker has a core of
//! its own: here the joining unit, client and server take the same cores from it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Role;
use serde::Serialize;

use crate::clock::{self, Found, wait_for};
use crate::failover::Contender;
use crate::probe::{Crowd, UdpStream};
use crate::{Host, Lab, LabSettings, Unit};

/// How long a session of the crowd may be idle: nothing keeps it busy, and ten million of them take minutes
/// to begin.
const IDLE: &str = "2h";

/// Datagrams per second of the stream that passes the primary meanwhile.
const STREAM_RATE: u32 = 10_000;

/// A subordinate is killed and started again while sessions are there.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The lab.
    pub lab: LabSettings,
    /// How often.
    pub runs: usize,
    /// UDP sessions through NAT that are there.
    pub sessions: usize,
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
        let lab = Lab::up(&LabSettings {
            udp_idle: IDLE.to_owned(),
            ..self.lab.clone()
        })?;
        let runs = self.perform_in(&lab).map_err(|error| {
            let logs = lab.log_ends();
            error.context(format!("the end of the units' logs:\n{logs}"))
        });
        lab.down()?;
        let runs = runs?;
        let mut times: Vec<f64> = runs.iter().map(|run| run.ready_ms).collect();
        times.sort_by(f64::total_cmp);
        Ok(JoinReport {
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
        (0..self.runs).map(|_| self.join_once(lab)).collect()
    }

    fn join_once(&self, lab: &Lab) -> Result<Join> {
        let pair = self.part(lab)?;
        let client = lab.topology().namespace(Host::Client);
        let server = lab.topology().namespace(Host::Server);
        let stream = UdpStream::start(&client, &server, STREAM_RATE)?;
        let started = clock::now();
        pair.subordinate.start()?;
        // As long as what is lost meanwhile can be told.
        pair.wait_subordinate(stream.recordable())?;
        let copying = clock::now();
        let held = pair.wait_whole(self.sessions, stream.recordable())?;
        let done = clock::now();
        let loss = stream.stop()?.total_loss();
        pair.check_primary(lab)?;
        Ok(Join {
            ready_ms: (done - started).as_secs_f64() * 1e3,
            copy_ms: (done - copying).as_secs_f64() * 1e3,
            held,
            lost: loss.lost,
            offered: loss.offered,
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
    fn wait_subordinate(&self, limit: Duration) -> Result<u64> {
        wait_status(self.subordinate, "a subordinate", limit, |status| {
            status.role == Role::Subordinate
        })
    }

    fn wait_whole(&self, sessions: usize, limit: Duration) -> Result<u64> {
        wait_status(self.subordinate, "whole", limit, |status| {
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

/// Waits until the unit says what is asked for; gives how many sessions it holds.
fn wait_status(
    unit: &Unit,
    what: &str,
    limit: Duration,
    holds: impl Fn(&api::Status) -> bool,
) -> Result<u64> {
    wait_for(what, limit, || {
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
