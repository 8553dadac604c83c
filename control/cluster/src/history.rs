//! Why the roles are what they are: the last transitions and what was worth telling.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::{LinkId, Role, Time, UnitId, sync};

/// Why a primary gives its role away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// A peer has more healthy links.
    Health,
    /// A peer has a higher priority and `preempt` set.
    Preempt,
    /// The operator asked for it.
    Command,
    /// The operator put this unit into maintenance.
    Maintenance,
    /// This unit leaves the cluster.
    Leave,
    /// The workers of this unit stopped.
    Workers,
}

impl fmt::Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Health => "it has more healthy links",
            Self::Preempt => "it has a higher priority and preempts",
            Self::Command => "the operator asked for it",
            Self::Maintenance => "this unit goes into maintenance",
            Self::Leave => "this unit leaves the cluster",
            Self::Workers => "the workers of this unit stopped",
        })
    }
}

/// How far a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverStep {
    /// All new sessions begin at the successor.
    Preparing,
    /// The successor gets the rest of the sessions.
    Draining,
    /// This unit ceased to be primary, and the successor's promotion was not heard yet.
    Yielding,
    /// The successor is primary, and this unit passes on to it what still comes here.
    Relaying,
    /// It is over.
    Done,
    /// The successor could not take over.
    Cancelled,
}

/// One hand-over by this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOverReport {
    /// To whom.
    pub to: UnitId,
    /// Why.
    pub reason: HandOver,
    /// How far it is.
    pub step: HandOverStep,
    /// How long the preparation took.
    pub prepare: Duration,
    /// How long the successor needed for the rest of the sessions.
    pub drain: Duration,
    /// From the moment in which this unit ceased to be primary until the successor was heard as primary.
    /// This unit passed on what came meanwhile.
    pub promotion: Option<Duration>,
}

impl HandOverReport {
    pub(crate) const fn new(to: UnitId, reason: HandOver) -> Self {
        Self {
            to,
            reason,
            step: HandOverStep::Preparing,
            prepare: Duration::ZERO,
            drain: Duration::ZERO,
            promotion: None,
        }
    }
}

/// Why a role or a term changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The unit started.
    Started,
    /// A primary was heard.
    PrimaryFound {
        /// Which.
        primary: UnitId,
    },
    /// A peer reported a primary that this unit does not hear itself.
    PrimaryReported {
        /// Which.
        primary: UnitId,
        /// By whom.
        by: UnitId,
    },
    /// No primary has been known yet.
    NoPrimary,
    /// No primary was ever known, and no peer is heard after the hold-down.
    Alone,
    /// There was no primary, and this unit was the best of those that could be it.
    Elected {
        /// How many there were.
        of: u8,
    },
    /// The primary fell silent.
    PrimaryDied {
        /// Which.
        primary: UnitId,
        /// For how long nothing had been heard of it.
        silent: Duration,
    },
    /// The primary left in order.
    PrimaryLeft {
        /// Which.
        primary: UnitId,
    },
    /// The primary said that it is primary no longer.
    PrimaryStopped {
        /// Which.
        primary: UnitId,
        /// What it is now.
        role: Role,
    },
    /// Nobody reports the primary any more, and it has not been heard as primary here.
    PrimaryUnreported {
        /// Which.
        primary: UnitId,
    },
    /// Nobody reports the primary any more, and it has not proved itself to be no recording.
    PrimaryUnproven {
        /// Which.
        primary: UnitId,
    },
    /// The primary handed over to this unit.
    HandedOver {
        /// Which.
        by: UnitId,
    },
    /// The unit that should have become primary did not in time.
    Overdue {
        /// Which.
        expected: UnitId,
    },
    /// This unit handed the role over.
    Yielded {
        /// To whom.
        to: UnitId,
        /// Why.
        reason: HandOver,
    },
    /// Two units were primary, and the other one stays.
    DualPrimary {
        /// The other one.
        winner: UnitId,
        /// Its term.
        term: u32,
    },
    /// A peer knew a higher term than that of this sitting primary.
    TermRaised {
        /// Which peer.
        by: UnitId,
    },
    /// The workers of this unit stopped.
    WorkersStopped,
    /// The lease of the witness ran out.
    LeaseLost,
    /// All monitored links of this unit are down and no peer is heard.
    LinksLost,
    /// This unit can serve again.
    Recovered,
    /// The operator began maintenance.
    MaintenanceBegun,
    /// The operator ended maintenance.
    MaintenanceEnded,
    /// The operator stopped this unit, and nobody could take over.
    Leaving,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::PrimaryFound { primary } => write!(f, "unit {primary} is primary"),
            Self::PrimaryReported { primary, by } => {
                write!(f, "unit {by} hears unit {primary} as primary")
            }
            Self::NoPrimary => f.write_str("no primary is known"),
            Self::Alone => f.write_str("no peer is heard after the hold-down"),
            Self::Elected { of: 1 } => f.write_str("nobody else could be primary, and none was"),
            Self::Elected { of } => write!(f, "best of {of} units, and none was primary"),
            Self::PrimaryDied { primary, silent } => {
                let ms = silent.as_secs_f64() * 1e3;
                write!(
                    f,
                    "primary unit {primary} silent for {ms:.1} ms on all links"
                )
            }
            Self::PrimaryLeft { primary } => write!(f, "primary unit {primary} left"),
            Self::PrimaryStopped { primary, role } => {
                write!(f, "primary unit {primary} became {role}")
            }
            Self::PrimaryUnreported { primary } => {
                write!(f, "no unit reports unit {primary} as primary any more")
            }
            Self::PrimaryUnproven { primary } => {
                write!(
                    f,
                    "unit {primary} says that it is primary, and does not hear this unit"
                )
            }
            Self::HandedOver { by } => write!(f, "unit {by} handed over"),
            Self::Overdue { expected } => {
                write!(f, "unit {expected} should have become primary and did not")
            }
            Self::Yielded { to, reason } => write!(f, "handed over to unit {to}: {reason}"),
            Self::DualPrimary { winner, term } => {
                write!(f, "two primaries, and unit {winner} in term {term} stays")
            }
            Self::TermRaised { by } => write!(f, "unit {by} knew a higher term"),
            Self::WorkersStopped => f.write_str("the workers of this unit stopped"),
            Self::LeaseLost => f.write_str("the lease of the witness ran out"),
            Self::LinksLost => f.write_str("all monitored links are down and no peer is heard"),
            Self::Recovered => f.write_str("this unit can serve again"),
            Self::MaintenanceBegun => f.write_str("maintenance begun"),
            Self::MaintenanceEnded => f.write_str("maintenance ended"),
            Self::Leaving => f.write_str("stopped, and no unit could take over"),
        }
    }
}

/// One change of role or term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub time: Time,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
    /// The term after.
    pub term: u32,
    /// Why.
    pub cause: Cause,
}

/// The last transitions, oldest first, bounded.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Transition>);

impl History {
    const LIMIT: usize = 64;

    pub(crate) fn record(&mut self, transition: Transition) {
        if self.0.len() == Self::LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.0.iter()
    }
}

/// Something worth telling the operator that is not a change of this unit's role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer is heard and known to be no recording.
    PeerUp {
        /// Which.
        peer: UnitId,
    },
    /// A peer fell silent on all links.
    PeerDown {
        /// Which.
        peer: UnitId,
        /// For how long nothing had been heard of it.
        silent: Duration,
    },
    /// A peer started anew.
    PeerRestarted {
        /// Which.
        peer: UnitId,
    },
    /// A peer left in order.
    PeerLeft {
        /// Which.
        peer: UnitId,
    },
    /// A peer is heard again on a link.
    PeerLinkUp {
        /// Which peer.
        peer: UnitId,
        /// Which link of this unit.
        link: LinkId,
    },
    /// A peer is no longer heard on a link, though it is on another.
    PeerLinkDown {
        /// Which peer.
        peer: UnitId,
        /// Which link of this unit.
        link: LinkId,
    },
    /// Another unit is primary at the same time.
    DualPrimary {
        /// Which.
        peer: UnitId,
    },
    /// The other unit is primary no longer, or this one is not.
    DualPrimaryEnded {
        /// The other unit.
        peer: UnitId,
        /// Whether this unit stayed primary.
        stayed: bool,
        /// How long both were primary, at the most: the other may have become it later than this unit lost sight
        /// of it.
        duration: Duration,
    },
    /// This unit's hand-over succeeded: the successor is primary.
    HandedOver(HandOverReport),
    /// A planned hand-over was given up: the successor cannot take over any more.
    HandOverCancelled {
        /// What it was for.
        reason: HandOver,
    },
    /// All sessions of a unit that this one asked were copied here.
    Synced {
        /// Whose.
        from: UnitId,
    },
    /// Something that happened to the streams of sessions.
    Sync(sync::Event),
    /// The witness answers.
    WitnessAnswers,
    /// The witness does not answer: this unit cannot become primary, and is not for long if it is.
    WitnessSilent,
    /// The witness granted its lease to this unit.
    LeaseGranted {
        /// How long after this unit asked for it first.
        waited: Duration,
    },
    /// This unit would be primary, but another has the lease.
    LeaseTaken {
        /// Which.
        holder: Option<UnitId>,
    },
    /// This unit's table is too small for the primary's sessions: it holds what fits.
    TableTooSmall {
        /// Which unit is primary.
        primary: UnitId,
        /// Sessions that it has.
        sessions: u32,
        /// Sessions that fit here.
        capacity: u32,
    },
    /// The primary's sessions fit into this unit's table again.
    TableSuffices {
        /// Sessions that fit here.
        capacity: u32,
    },
    /// A peer has a different configuration in parts that must be equal.
    ConfigurationDiffers {
        /// Which.
        peer: UnitId,
        /// The parts, as far as both tell.
        parts: Vec<String>,
    },
    /// A peer has this unit's configuration again.
    ConfigurationAgrees {
        /// Which.
        peer: UnitId,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: &Duration| duration.as_secs_f64() * 1e3;
        match self {
            Self::PeerUp { peer } => write!(f, "unit {peer} is heard"),
            Self::PeerDown { peer, silent } => {
                write!(
                    f,
                    "unit {peer} silent for {:.1} ms on all links",
                    ms(silent)
                )
            }
            Self::PeerRestarted { peer } => write!(f, "unit {peer} started anew"),
            Self::PeerLeft { peer } => write!(f, "unit {peer} left"),
            Self::PeerLinkUp { peer, link } => write!(f, "unit {peer} heard on link {}", link.0),
            Self::PeerLinkDown { peer, link } => {
                write!(f, "unit {peer} no longer heard on link {}", link.0)
            }
            Self::DualPrimary { peer } => write!(f, "unit {peer} is primary too"),
            Self::DualPrimaryEnded {
                peer,
                stayed,
                duration,
            } => {
                let end = if *stayed {
                    "this unit stays"
                } else {
                    "this unit stepped down"
                };
                write!(
                    f,
                    "two primaries, with unit {peer}, for up to {:.1} ms; {end}",
                    ms(duration)
                )
            }
            Self::HandedOver(report) => {
                let promotion = report.promotion.unwrap_or_default();
                write!(
                    f,
                    "unit {} took over, for {}: prepare {:.1} ms, drain {:.1} ms, promote {:.1} ms",
                    report.to,
                    report.reason,
                    ms(&report.prepare),
                    ms(&report.drain),
                    ms(&promotion)
                )?;
                match report.step {
                    HandOverStep::Relaying => f.write_str("; what still comes here is passed on to it"),
                    _ => Ok(()),
                }
            }
            Self::HandOverCancelled { reason } => {
                write!(
                    f,
                    "hand-over given up, no unit can take over any more ({reason})"
                )
            }
            Self::Synced { from } => write!(f, "holds all sessions of unit {from}"),
            Self::Sync(event) => describe_sync(event, f),
            Self::WitnessAnswers => f.write_str("the witness answers"),
            Self::WitnessSilent => f.write_str(
                "the witness does not answer; this unit cannot take over, and stops when its lease runs out",
            ),
            Self::LeaseGranted { waited } => {
                write!(f, "the witness granted its lease after {:.1} ms", ms(waited))
            }
            Self::LeaseTaken { holder } => match holder {
                Some(unit) => write!(f, "waiting for the lease of the witness, which unit {unit} has"),
                None => f.write_str("waiting for the lease of the witness, which somebody has"),
            },
            Self::TableTooSmall {
                primary,
                sessions,
                capacity,
            } => write!(
                f,
                "unit {primary} has {sessions} sessions, and {capacity} fit here: not all are held; raise memory.sessions"
            ),
            Self::TableSuffices { capacity } => {
                write!(f, "the sessions of the primary fit into the table of {capacity} again")
            }
            Self::ConfigurationDiffers { peer, parts } => {
                write!(f, "unit {peer} has a different configuration")?;
                match parts.is_empty() {
                    true => Ok(()),
                    false => write!(f, ": {}", parts.join(", ")),
                }
            }
            Self::ConfigurationAgrees { peer } => {
                write!(f, "unit {peer} has the same configuration again")
            }
        }
    }
}

fn describe_sync(event: &sync::Event, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match event {
        sync::Event::Gap { from, segments } => {
            write!(
                f,
                "{segments} segments of unit {from} lost; their sessions are asked for again"
            )
        }
        sync::Event::RepairBegun { targets, ranges } => {
            match ranges {
                256 => write!(f, "copying all sessions to ")?,
                ranges => write!(f, "copying the sessions of {ranges} of 256 ranges to ")?,
            }
            describe_units(*targets, f)
        }
        sync::Event::RepairSent { targets, sessions } => {
            write!(f, "copied {sessions} sessions to ")?;
            describe_units(*targets, f)
        }
        sync::Event::TablesDiffer {
            from,
            ranges,
            buckets,
        } => write!(
            f,
            "sessions differ from those of unit {from} in {buckets} of 65536 buckets; {ranges} of 256 ranges are asked for"
        ),
        sync::Event::PeerStuck { peer, silence } => write!(
            f,
            "unit {peer} has taken no changes in for {:.1} s; look at its control core and its sync links",
            silence.as_secs_f64()
        ),
        sync::Event::PeerMoves { peer, after } => write!(
            f,
            "unit {peer} is no longer stuck, after {:.1} s",
            after.as_secs_f64()
        ),
        sync::Event::RepairReceived { from, swept } => {
            write!(
                f,
                "sessions of unit {from} copied; {swept} stale ones removed"
            )
        }
    }
}

/// The units of a set, bit 0 for unit 1.
fn describe_units(set: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut separator = if set.count_ones() == 1 {
        "unit "
    } else {
        "units "
    };
    for bit in (0..UnitId::MAX).filter(|bit| set & 1 << bit != 0) {
        write!(f, "{separator}{}", bit + 1)?;
        separator = ", ";
    }
    Ok(())
}
