//! The witness gates promotion: no lease, no primary.
//!
//! A unit asks for the lease in the moment in which it would have promoted itself, and is promoted when
//! it has it. It gives the lease back as soon as it is not primary, so that a successor need not wait
//! until it runs out. A primary whose lease ran out stops at once, whatever it hears, and is isolated
//! until the witness answers or another unit is primary. Who does not reach the witness is not eligible.
//!
//! Invariant: while a witness is configured, a primary's time is before [`Node::lease_until`]. The driver
//! has the workers check the same moment themselves, since this state machine may be stopped with them.

use std::time::Duration;

use crate::history::Cause;
use crate::lease::{LeaseHolder, LeaseReport, LeaseWish, WitnessStatus};
use crate::{Action, Event, Node, Role, Time, UnitId};

/// What a unit knows of its witness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Witness {
    wish: LeaseWish,
    report: LeaseReport,
    /// Why it wants to be primary, and since when it asks for the lease.
    claim: Option<(Cause, Time)>,
    /// The claim was made again in this decision.
    renewed: bool,
    /// It answered when this unit last looked.
    answered: bool,
    /// Its lease ran out while it was primary, and it is isolated since.
    fenced: bool,
    /// Who had the lease when this unit was last refused.
    refused_for: Option<Option<UnitId>>,
}

impl Witness {
    fn answers(&self, now: Time) -> bool {
        now < self.report.until
    }

    fn held_until(&self) -> Time {
        let own = self.report.holder == LeaseHolder::Own;
        let ours = self.wish.hold && self.report.round == self.wish.round && own;
        if ours { self.report.until } else { Time(0) }
    }

    /// When what it said becomes void.
    pub(super) fn deadline(&self, now: Time) -> Time {
        if self.answers(now) {
            self.report.until
        } else {
            Time::NEVER
        }
    }
}

impl Node {
    /// The witness answered, or did not. Only the latest report counts.
    pub fn handle_witness(&mut self, report: LeaseReport, now: Time) {
        self.observe(now);
        let Some(witness) = &mut self.witness else {
            return;
        };
        witness.report = report;
        if let LeaseHolder::Other(holder) = report.holder
            && witness.wish.hold
            && report.round == witness.wish.round
            && witness.refused_for.replace(holder) != Some(holder)
        {
            self.event(Event::LeaseTaken { holder });
        }
        self.decide(now);
    }

    /// Until when frames may leave from the virtual MAC; `None` when no witness is configured. The driver
    /// has the workers obey this before it does anything else with what it was told.
    #[must_use]
    pub fn lease_until(&self) -> Option<Time> {
        self.witness.map(|witness| witness.held_until())
    }

    /// Takes note of whether the witness answers.
    pub(super) fn watch_witness(&mut self, now: Time) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        witness.renewed = false;
        let answers = witness.answers(now);
        if std::mem::replace(&mut witness.answered, answers) != answers {
            // The peers should know at once who can take over.
            self.beat_due = now;
            self.counters.witness_silences += u64::from(!answers);
            self.event(if answers {
                Event::WitnessAnswers
            } else {
                Event::WitnessSilent
            });
        }
    }

    /// Whether this unit could get the lease, as far as it depends on the unit.
    pub(super) fn reaches_witness(&self, now: Time) -> bool {
        self.witness.is_none_or(|witness| witness.answers(now))
    }

    /// Whether a sitting primary may go on.
    pub(super) fn may_serve(&self, now: Time) -> bool {
        self.witness
            .is_none_or(|witness| now < witness.held_until())
    }

    /// Stops a primary whose lease ran out.
    pub(super) fn fence(&mut self, now: Time) {
        if let Some(witness) = &mut self.witness {
            witness.fenced = true;
        }
        self.counters.leases_lost += 1;
        self.set_role(Role::Isolated, Cause::LeaseLost, now);
    }

    /// Whether this unit is isolated because its lease ran out.
    pub(super) fn is_fenced(&self) -> bool {
        self.witness.is_some_and(|witness| witness.fenced)
    }

    pub(super) fn end_fence(&mut self) {
        if let Some(witness) = &mut self.witness {
            witness.fenced = false;
        }
    }

    /// The cause to promote this unit for, once it has the lease; until then it asks for it.
    pub(super) fn with_lease(&mut self, cause: Cause, now: Time) -> Option<Cause> {
        let Some(witness) = &mut self.witness else {
            return Some(cause);
        };
        witness.renewed = true;
        let (first, since) = *witness.claim.get_or_insert((cause, now));
        if now >= witness.held_until() {
            return None;
        }
        self.counters.leases_granted += 1;
        self.event(Event::LeaseGranted {
            waited: now.since(since),
        });
        // Why it began to ask says more than how things were left when it got the lease.
        Some(match cause {
            Cause::HandedOver { .. } => cause,
            _ => first,
        })
    }

    /// Tells the driver what this unit wants of the witness, if that changed in this decision.
    pub(super) fn settle_wish(&mut self) {
        let primary = self.role == Role::Primary;
        let Some(witness) = &mut self.witness else {
            return;
        };
        if !witness.renewed {
            witness.claim = None;
        }
        let hold = primary || witness.renewed;
        if hold != witness.wish.hold {
            witness.refused_for = None;
            witness.wish = LeaseWish {
                round: witness.wish.round + 1,
                hold,
            };
            let wish = witness.wish;
            self.actions.push_back(Action::Lease(wish));
        }
    }

    pub(super) fn witness_status(&self, now: Time) -> Option<WitnessStatus> {
        self.witness.map(|witness| WitnessStatus {
            answers: witness.answers(now),
            holder: if witness.answers(now) {
                witness.report.holder
            } else {
                LeaseHolder::Unknown
            },
            remaining: witness.held_until().since(now),
        })
    }

    /// How much longer a better unit may take because of the witness: what is left of a dead primary's
    /// lease, and as much again for the witness to notice.
    pub(super) fn lease_patience(&self) -> Duration {
        self.settings.witness.unwrap_or_default() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Heartbeat;
    use crate::node::tests::{Bench, settings, unit};
    use crate::{Command, Settings};

    const LEASE: Duration = Duration::from_secs(3);

    /// Unit 1 with a witness, which this file plays.
    fn fresh() -> Bench {
        Bench::with(Settings {
            witness: Some(LEASE),
            ..settings()
        })
    }

    /// The latest wish.
    fn wish(bench: &Bench) -> LeaseWish {
        let mut wishes = bench.actions.iter().filter_map(|action| match action {
            Action::Lease(wish) => Some(*wish),
            _ => None,
        });
        wishes.next_back().unwrap_or_default()
    }

    /// The witness answers the latest wish with this holder.
    fn answer(bench: &mut Bench, holder: LeaseHolder) {
        let report = LeaseReport {
            round: wish(bench).round,
            until: bench.now + LEASE,
            holder,
        };
        bench.node.handle_witness(report, bench.now);
        bench.drain();
    }

    fn primary() -> Bench {
        let mut bench = fresh();
        answer(&mut bench, LeaseHolder::Nobody);
        bench.idle(150);
        answer(&mut bench, LeaseHolder::Own);
        assert_eq!(bench.node.role(), Role::Primary);
        bench.pass(20, |_| {});
        bench
    }

    fn subordinate() -> Bench {
        let mut bench = fresh();
        answer(&mut bench, LeaseHolder::Other(Some(unit(2))));
        bench.pass(150, |beat| beat.role = Role::Primary);
        assert_eq!(bench.node.role(), Role::Subordinate);
        bench
    }

    #[test]
    fn nobody_is_promoted_without_the_lease() {
        let mut bench = fresh();
        bench.idle(1_000);
        assert_eq!(bench.promotions(), 0);
        assert!(!wish(&bench).hold, "who does not reach it does not ask");
        answer(&mut bench, LeaseHolder::Nobody);
        assert!(wish(&bench).hold);
        assert_eq!(bench.promotions(), 0);
        answer(&mut bench, LeaseHolder::Other(Some(unit(2))));
        answer(&mut bench, LeaseHolder::Other(Some(unit(2))));
        let holder = Some(unit(2));
        let told = Action::Event(Event::LeaseTaken { holder });
        assert_eq!(bench.actions.iter().filter(|a| **a == told).count(), 1);
        bench.idle(500);
        assert_eq!(bench.promotions(), 0);
        answer(&mut bench, LeaseHolder::Own);
        assert_eq!(bench.promotions(), 1);
        let waited = Duration::from_millis(500);
        let told = Action::Event(Event::LeaseGranted { waited });
        assert!(bench.actions.contains(&told), "{:?}", bench.actions);
        assert_eq!(bench.last_cause(), Cause::Alone);
    }

    #[test]
    fn a_primary_stops_at_the_moment_in_which_its_lease_runs_out() {
        let mut bench = primary();
        let until = bench.node.lease_until().unwrap();
        assert!(until > bench.now);
        let serve = |bench: &mut Bench| {
            bench.beat(|_| {});
            bench.idle(9);
        };
        while bench.now < until - Duration::from_millis(10) {
            serve(&mut bench);
            assert_eq!(bench.node.role(), Role::Primary);
        }
        serve(&mut bench);
        serve(&mut bench);
        assert_eq!(bench.node.role(), Role::Isolated);
        let last = *bench.node.transitions().last().unwrap();
        assert_eq!((last.cause, last.time), (Cause::LeaseLost, until));
        assert!(!wish(&bench).hold, "it gives back what it may still have");
        assert_eq!(bench.node.lease_until(), Some(Time(0)));
    }

    #[test]
    fn a_primary_that_is_renewed_goes_on() {
        let mut bench = primary();
        for _ in 0..10 {
            bench.pass(1_000, |_| {});
            answer(&mut bench, LeaseHolder::Own);
        }
        assert_eq!((bench.node.role(), bench.promotions()), (Role::Primary, 1));
    }

    #[test]
    fn a_primary_that_slept_beyond_its_lease_is_none_when_it_wakes() {
        let mut bench = primary();
        bench.now = bench.now + LEASE * 2;
        bench.drain();
        assert_eq!(bench.node.role(), Role::Isolated);
        bench.beat(|beat| (beat.role, beat.term) = (Role::Primary, 9));
        assert_eq!(bench.node.role(), Role::Subordinate);
    }

    #[test]
    fn a_fenced_unit_comes_back_when_the_witness_answers_and_has_the_lease_granted() {
        let mut bench = primary();
        bench.idle(4_000);
        assert_eq!(bench.node.role(), Role::Isolated);
        bench.idle(10_000);
        assert_eq!(bench.node.role(), Role::Isolated, "alone, and no witness");
        answer(&mut bench, LeaseHolder::Nobody);
        assert_eq!(bench.node.role(), Role::Candidate);
        bench.idle(150);
        assert_eq!(bench.node.role(), Role::Candidate);
        answer(&mut bench, LeaseHolder::Own);
        assert_eq!((bench.node.role(), bench.promotions()), (Role::Primary, 2));
    }

    #[test]
    fn an_answer_to_an_earlier_wish_grants_nothing() {
        let mut bench = subordinate();
        bench.idle(40);
        assert!(wish(&bench).hold);
        let old = wish(&bench).round;
        // The primary is heard again, and lost again.
        bench.pass(20, |beat| beat.role = Role::Primary);
        assert!(!wish(&bench).hold);
        bench.idle(40);
        assert!(wish(&bench).hold);
        let late = LeaseReport {
            round: old,
            until: bench.now + LEASE,
            holder: LeaseHolder::Own,
        };
        bench.node.handle_witness(late, bench.now);
        bench.drain();
        assert_eq!(bench.promotions(), 0);
        answer(&mut bench, LeaseHolder::Own);
        assert_eq!(bench.promotions(), 1);
        assert!(matches!(bench.last_cause(), Cause::PrimaryDied { .. }));
    }

    #[test]
    fn a_successor_waits_as_a_subordinate_until_the_lease_was_given_back() {
        let yields = |beat: &mut Heartbeat| {
            beat.yielding = true;
            beat.eligible = false;
            beat.successor = Some(unit(1));
        };
        let mut bench = subordinate();
        bench.beat(yields);
        assert!(wish(&bench).hold);
        answer(&mut bench, LeaseHolder::Other(Some(unit(2))));
        assert_eq!(bench.node.role(), Role::Subordinate);
        bench.pass(20, yields);
        answer(&mut bench, LeaseHolder::Own);
        assert_eq!(bench.last_cause(), Cause::HandedOver { by: unit(2) });
    }

    #[test]
    fn who_hands_over_is_silent_before_it_gives_the_lease_back() {
        let mut bench = primary();
        bench.actions.clear();
        bench
            .command(Command::Failover { to: Some(unit(2)) })
            .unwrap();
        let position = |wanted: fn(&Action) -> bool| bench.actions.iter().position(wanted);
        let demoted = position(|action| matches!(action, Action::Demote { .. })).unwrap();
        let given_back = position(|action| matches!(action, Action::Lease(_))).unwrap();
        assert!(demoted < given_back);
        assert!(!wish(&bench).hold);
    }

    #[test]
    fn who_does_not_reach_the_witness_is_not_eligible() {
        let mut bench = subordinate();
        assert!(bench.node.status(bench.now).eligible);
        let lost = bench.now + LEASE;
        while bench.now < lost {
            bench.beat(|beat| beat.role = Role::Primary);
            bench.idle(10);
        }
        assert!(!bench.node.status(bench.now).eligible);
        assert_eq!(bench.node.role(), Role::Subordinate);
        bench.idle(5_000);
        assert_eq!(bench.node.role(), Role::Candidate);
        assert_eq!(bench.node.counters().witness_silences, 1);
    }
}
