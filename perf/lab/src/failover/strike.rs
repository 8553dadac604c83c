//! A fault that happens to one unit, and how the others answer it.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use api::{Role, Status, Why};
use serde::Serialize;

use super::{Contender, SUBORDINATE_WATCH};
use crate::clock::{self, Found, wait_for};
use crate::lab::Lab;
use crate::topology::{Segment, Topology, parse_unit};
use crate::unit::Unit;

/// How long a promotion may take before the experiment is given up.
pub(crate) const PROMOTION_LIMIT: Duration = Duration::from_secs(15);

/// What happens to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// SIGKILL of its process.
    Kill,
    /// Its cable in the lan segment is pulled.
    Link,
    /// SIGSTOP: it falls silent, and no carrier is lost.
    Silent,
    /// SIGSTOP until another unit is primary, then SIGCONT: it was only asleep, and does not know it. A
    /// subordinate sleeps for a second.
    Asleep,
    /// The operator asks the primary for a failover; any other unit is sent into maintenance.
    Planned,
}

impl Fault {
    /// How often it may happen in one lab.
    pub(super) fn runs_of_a_lab(self) -> usize {
        match self {
            // Each failure of a link doubles the time until it counts as healthy again: in four runs each
            // unit's fails twice at the most.
            Self::Link => 4,
            Self::Kill | Self::Silent | Self::Asleep | Self::Planned => usize::MAX,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Link => "link",
            Self::Silent => "silent",
            Self::Asleep => "asleep",
            Self::Planned => "planned",
        })
    }
}

/// Which unit a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Whichever is the primary.
    Primary,
    /// The first that is not.
    Subordinate,
    /// This one, whatever it is.
    Unit(u8),
}

impl FromStr for Victim {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "primary" => Ok(Self::Primary),
            "subordinate" => Ok(Self::Subordinate),
            unit => parse_unit(unit).map(Self::Unit),
        }
    }
}

/// A fault that has happened.
#[derive(Debug)]
pub struct Strike {
    /// What it was.
    pub fault: Fault,
    /// When.
    pub at: SystemTime,
    /// The id of the unit that was struck.
    pub unit: u8,
    /// Whether that was the primary.
    pub was_primary: bool,
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
    /// Its term; 0 where the cluster has none.
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
        Self::perform_on(lab, fault, Victim::Primary)
    }

    /// Does it to the victim.
    ///
    /// # Errors
    ///
    /// As [`Strike::perform`], or when there is no such unit.
    pub fn perform_on(lab: &Lab, fault: Fault, victim: Victim) -> Result<Self> {
        let (primary, status) = lab.primary()?;
        let unit = match victim {
            Victim::Primary => primary,
            Victim::Subordinate => lab
                .running()
                .find(|unit| unit.id() != primary.id())
                .context("there is no subordinate")?,
            Victim::Unit(id) => lab.unit(id)?,
        };
        let strike = Self {
            fault,
            at: clock::wall(),
            unit: unit.id(),
            was_primary: unit.id() == primary.id(),
            term: status.term,
        };
        match fault {
            Fault::Kill => unit.kill()?,
            Fault::Link => lab.topology().set_link(unit.id(), Segment::Lan, false)?,
            Fault::Silent => unit.freeze()?,
            Fault::Asleep => {
                unit.freeze()?;
                let replaced = if strike.was_primary {
                    strike.wait_promotion(lab).map(drop)
                } else {
                    thread::sleep(SUBORDINATE_WATCH);
                    Ok(())
                };
                unit.thaw()?;
                replaced?;
            }
            Fault::Planned if strike.was_primary => {
                unit.ask(&["cluster", "failover"])?;
            }
            Fault::Planned => {
                unit.ask(&["cluster", "maintenance", "on"])?;
            }
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
            Fault::Asleep => Ok(()),
            Fault::Planned if self.was_primary => Ok(()),
            Fault::Planned => unit.ask(&["cluster", "maintenance", "off"]).map(drop),
        }
    }
}

impl Contender for Lab {
    fn topology(&self) -> &Topology {
        self.topology()
    }

    fn wait_holding(&self, sessions: u64) -> Result<()> {
        self.wait_holding(sessions)
    }

    fn strike(&self, fault: Fault, victim: Victim) -> Result<Strike> {
        Strike::perform_on(self, fault, victim)
    }

    fn wait_promotion(&self, strike: &Strike) -> Result<Promotion> {
        strike.wait_promotion(self)
    }

    fn heal(&self, strike: &Strike) -> Result<()> {
        strike.heal(self)
    }

    fn log_ends(&self) -> String {
        let logs: Vec<String> = self.units().iter().map(Unit::log_end).collect();
        logs.join("\n")
    }

    fn down(&self) -> Result<()> {
        self.down()
    }
}
