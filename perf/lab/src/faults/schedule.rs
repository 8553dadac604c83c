//! Random faults in a random order, from a seed. Pure: nothing is broken here.
//!
//! A schedule keeps to what a cluster without a witness can survive: after each step at least one
//! unit is sound, and no unit is cut off in such a way that it holds the traffic of its users while
//! it hears nothing (what it says is heard, what is said to it is not).

use std::fmt;
use std::time::Duration;

use super::random::Random;
use crate::topology::Segment;

/// The least pause between two steps: longer than any detection, so that a virtual MAC that is back
/// where it was before a step has a cause in it.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// One thing that is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL of a unit.
    Kill(u8),
    /// SIGTERM of a unit: it hands over and leaves.
    Stop(u8),
    /// A unit that was killed or stopped is started.
    Start(u8),
    /// SIGSTOP of a unit.
    Freeze(u8),
    /// SIGCONT of a frozen one.
    Thaw(u8),
    /// A unit's cable is pulled.
    Unplug(u8, Segment),
    /// It is plugged in again.
    Plug(u8, Segment),
    /// The switch drops frames of a unit in one segment, with the carrier left up.
    Cut {
        /// The unit.
        unit: u8,
        /// The segment.
        segment: Segment,
        /// What it sends.
        from: bool,
        /// What is sent to it.
        to: bool,
    },
    /// The switch drops what a unit sends in all segments; `deaf`: also what is sent to it.
    Isolate {
        /// The unit.
        unit: u8,
        /// Whether it hears nothing either.
        deaf: bool,
    },
    /// The switch passes everything of a unit again.
    Rejoin(u8),
    /// The operator asks the primary to hand over.
    Failover,
}

impl Action {
    /// The unit that can no longer be relied on after this.
    pub(crate) fn breaks(self) -> Option<u8> {
        match self {
            Self::Kill(unit) | Self::Stop(unit) | Self::Freeze(unit) => Some(unit),
            Self::Unplug(unit, segment) | Self::Cut { unit, segment, .. } => {
                (segment != Segment::Sync).then_some(unit)
            }
            Self::Isolate { unit, .. } => Some(unit),
            Self::Start(_) | Self::Thaw(_) | Self::Plug(..) | Self::Rejoin(_) | Self::Failover => {
                None
            }
        }
    }

    /// Whether this lets a unit loose that may take itself for the primary, or what one had queued
    /// when its cable was pulled: for one detection time two of them send from the virtual MAC.
    pub(crate) fn may_double(self) -> bool {
        matches!(self, Self::Thaw(_) | Self::Rejoin(_) | Self::Plug(..))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(unit) => write!(f, "kill u{unit}"),
            Self::Stop(unit) => write!(f, "stop u{unit}"),
            Self::Start(unit) => write!(f, "start u{unit}"),
            Self::Freeze(unit) => write!(f, "freeze u{unit}"),
            Self::Thaw(unit) => write!(f, "thaw u{unit}"),
            Self::Unplug(unit, segment) => write!(f, "unplug {} of u{unit}", segment.name()),
            Self::Plug(unit, segment) => write!(f, "plug {} of u{unit}", segment.name()),
            Self::Cut {
                unit,
                segment,
                from,
                to,
            } => {
                let which = match (from, to) {
                    (true, true) => "from and to",
                    (true, false) => "from",
                    _ => "to",
                };
                write!(f, "cut {} {which} u{unit}", segment.name())
            }
            Self::Isolate { unit, deaf: true } => write!(f, "isolate u{unit}"),
            Self::Isolate { unit, deaf: false } => write!(f, "mute u{unit}"),
            Self::Rejoin(unit) => write!(f, "rejoin u{unit}"),
            Self::Failover => f.write_str("failover"),
        }
    }
}

/// One step: wait, then act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long to wait before.
    pub pause: Duration,
    /// What to do then.
    pub action: Action,
}

/// What is wrong with a unit: at most one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Down,
    Frozen,
    Unplugged(Segment),
    Cut,
    Isolated,
}

/// What is wrong with each unit, as far as steps have made it so.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    flaws: Vec<Option<Flaw>>,
}

impl Condition {
    /// Of so many sound units.
    pub(crate) fn sound(units: u8) -> Self {
        Self {
            flaws: vec![None; usize::from(units)],
        }
    }

    /// The units that lack nothing.
    pub(crate) fn sound_units(&self) -> Vec<u8> {
        self.units_with(|flaw| flaw.is_none())
    }

    /// Whether the unit runs, answers, and is reached by its users.
    pub(crate) fn carries(&self, unit: u8) -> bool {
        !matches!(
            self.flaw(unit),
            Some(Flaw::Down | Flaw::Frozen | Flaw::Isolated)
        )
    }

    /// Whether the unit's process exists.
    pub(crate) fn runs(&self, unit: u8) -> bool {
        self.flaw(unit) != Some(Flaw::Down)
    }

    /// Notes an action down.
    pub(crate) fn apply(&mut self, action: Action) {
        let (unit, flaw) = match action {
            Action::Kill(unit) | Action::Stop(unit) => (unit, Some(Flaw::Down)),
            Action::Freeze(unit) => (unit, Some(Flaw::Frozen)),
            Action::Unplug(unit, segment) => (unit, Some(Flaw::Unplugged(segment))),
            Action::Cut { unit, .. } => (unit, Some(Flaw::Cut)),
            Action::Isolate { unit, .. } => (unit, Some(Flaw::Isolated)),
            Action::Start(unit)
            | Action::Thaw(unit)
            | Action::Plug(unit, _)
            | Action::Rejoin(unit) => (unit, None),
            Action::Failover => return,
        };
        self.flaws[usize::from(unit) - 1] = flaw;
    }

    /// What makes every unit sound again.
    pub(crate) fn repairs(&self) -> Vec<Action> {
        self.units_with(|flaw| flaw.is_some())
            .into_iter()
            .filter_map(|unit| self.repair(unit))
            .collect()
    }

    fn repair(&self, unit: u8) -> Option<Action> {
        Some(match self.flaw(unit)? {
            Flaw::Down => Action::Start(unit),
            Flaw::Frozen => Action::Thaw(unit),
            Flaw::Unplugged(segment) => Action::Plug(unit, segment),
            Flaw::Cut | Flaw::Isolated => Action::Rejoin(unit),
        })
    }

    fn flaw(&self, unit: u8) -> Option<Flaw> {
        self.flaws[usize::from(unit) - 1]
    }

    fn units_with(&self, holds: impl Fn(Option<Flaw>) -> bool) -> Vec<u8> {
        (1..)
            .zip(&self.flaws)
            .filter(|(_, flaw)| holds(**flaw))
            .map(|(unit, _)| unit)
            .collect()
    }
}

/// Draws the steps of a seed for a cluster of two or more units.
pub fn draw(seed: u64, units: u8, steps: usize) -> Vec<Step> {
    let mut random = Random::of(seed);
    let mut condition = Condition::sound(units);
    (0..steps)
        .map(|_| {
            let action = draw_action(&mut random, &condition);
            condition.apply(action);
            Step {
                pause: draw_pause(&mut random),
                action,
            }
        })
        .collect()
}

/// Short ones, so that faults overlap, and long ones, so that the cluster becomes whole in between.
fn draw_pause(random: &mut Random) -> Duration {
    let spread = random.pick(&[300, 300, 3_000]);
    LEAST_PAUSE + Duration::from_millis(random.below(spread))
}

fn draw_action(random: &mut Random, condition: &Condition) -> Action {
    let (sound, repairs) = (condition.sound_units(), condition.repairs());
    if sound.len() < 2 || (!repairs.is_empty() && random.below(2) == 0) {
        return random.pick(&repairs);
    }
    let unit = random.pick(&sound);
    match random.below(12) {
        0..=2 => Action::Kill(unit),
        3 => Action::Stop(unit),
        4 => Action::Freeze(unit),
        5 => Action::Unplug(unit, random.pick(&Segment::ALL)),
        6 | 7 => {
            let (from, to) = random.pick(&[(true, true), (true, false), (false, true)]);
            Action::Cut {
                unit,
                segment: random.pick(&Segment::ALL),
                from,
                to,
            }
        }
        8 | 9 => Action::Isolate {
            unit,
            deaf: random.below(2) == 0,
        },
        _ => Action::Failover,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_always_draws_the_same() {
        assert_eq!(draw(7, 3, 50), draw(7, 3, 50));
        assert_ne!(draw(7, 3, 50), draw(8, 3, 50));
        assert_eq!(draw(7, 3, 50)[..20], draw(7, 3, 20)[..]);
    }

    #[test]
    fn one_unit_is_sound_after_every_step_and_only_what_is_broken_is_mended() {
        for seed in 0..500 {
            let mut condition = Condition::sound(3);
            for step in draw(seed, 3, 100) {
                if let Some(unit) = step.action.breaks() {
                    assert!(
                        condition.sound_units().contains(&unit),
                        "seed {seed}: {step:?}"
                    );
                }
                if matches!(
                    step.action,
                    Action::Start(_) | Action::Thaw(_) | Action::Plug(..) | Action::Rejoin(_)
                ) {
                    assert!(condition.repairs().contains(&step.action), "seed {seed}");
                }
                condition.apply(step.action);
                assert!(!condition.sound_units().is_empty(), "seed {seed}: {step:?}");
            }
            for repair in condition.repairs() {
                condition.apply(repair);
            }
            assert_eq!(condition.sound_units(), [1, 2, 3]);
        }
    }

    #[test]
    fn cuts_are_drawn_in_every_segment_and_direction() {
        let cuts: BTreeSet<String> = draw(1, 3, 2_000)
            .iter()
            .filter(|step| matches!(step.action, Action::Cut { unit: 1, .. }))
            .map(|step| step.action.to_string())
            .collect();
        assert_eq!(cuts.len(), 9, "{cuts:?}");
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let kinds: BTreeSet<String> = draw(1, 2, 1_000)
            .iter()
            .filter_map(|step| Some(step.action.to_string().split(' ').next()?.to_owned()))
            .collect();
        let expected = [
            "cut", "failover", "freeze", "isolate", "kill", "mute", "plug", "rejoin", "start",
            "stop", "thaw", "unplug",
        ];
        assert!(kinds.iter().map(String::as_str).eq(expected), "{kinds:?}");
    }
}
