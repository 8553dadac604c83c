//! Which role this unit has, and why: the rules of the election.
//!
//! [`Node::decide`] looks at what is known and takes every step that follows from it. It keeps no
//! memory of how it got there beyond the few waits below, so it does not matter which event came first.
//!
//! - **With a sitting primary** nothing moves but for a reason that the primary itself sees: a peer with
//!   more healthy link weight than it has at this moment, a peer that preempts, a command, its own
//!   failure. It then *yields*: becomes subordinate, says so at once on all links and names the
//!   successor, who promotes itself on hearing it. A lost frame costs an interval, since every following
//!   heartbeat says it again. While it yields it is not eligible, so the role cannot bounce.
//! - **Without one** every unit ranks all that are eligible. The first of them promotes itself at once,
//!   without a round of claims. The others wait in proportion to their rank and then promote themselves
//!   too: views may differ, but somebody must serve.
//! - **A primary that only others hear** counts as one, for as long as its last heartbeat to any of them
//!   would last: so two units that cannot hear each other, with a third between them, do not both serve.
//! - **What an unverified peer says** only holds back: no promotion while one says that it is primary.
//!   It demotes nobody. With a one-way cut at a start, a fresh unit that hears but is not heard
//!   therefore waits, and the one that does not hear it serves.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Dual, Vacancy};
use crate::election::{self, Claim, Standing, Units};
use crate::heartbeat::MAX_TERM;
use crate::history::{Cause, HandOver, Transition};
use crate::peer::Peer;
use crate::{Action, Event, Node, Role, Time, UnitId};

/// What a unit knows about who is primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is heard.
    Heard(UnitId),
    /// A peer hears it.
    Reported {
        primary: UnitId,
        by: UnitId,
        until: Time,
    },
    /// Somebody says that it is, who may be a recording.
    Unverified,
    /// Nobody is.
    Nobody,
}

impl Node {
    /// Takes every step that follows from what is known. Each step changes the role or ends a wait, and
    /// no two undo each other, so this ends; the bound is for the reader.
    pub(super) fn decide(&mut self, now: Time) {
        if self.left || !self.begun {
            return;
        }
        self.expire(now);
        self.settle_health(now);
        self.watch_witness(now);
        // Before this unit steps down, or it would not know that there were two.
        self.watch_dual(now);
        for _ in 0..8 {
            let stepped = match self.role {
                Role::Primary => self.step_primary(now),
                Role::Candidate | Role::Subordinate => self.step_eligible(now),
                Role::Isolated => self.step_isolated(now),
                Role::Maintenance => self.step_maintenance(now),
            };
            if !stepped {
                break;
            }
        }
        self.distribute();
        self.settle_wish();
        self.watch_dual(now);
        self.inform_sync(now);
    }

    fn step_primary(&mut self, now: Time) -> bool {
        if !self.may_serve(now) {
            self.fence(now);
            return true;
        }
        if !self.workers {
            match self.successor() {
                Some(to) => self.yield_to(to, HandOver::Workers, now),
                None => self.set_role(Role::Isolated, Cause::WorkersStopped, now),
            }
            return true;
        }
        if !self.can_serve() {
            self.set_role(Role::Isolated, Cause::LinksLost, now);
            return true;
        }
        if let Some((cause, term)) = self.stronger_primary(now) {
            if let Cause::DualPrimary { winner, .. } = cause {
                self.give_way(winner, cause, term, now);
            } else {
                self.term = self.term.max(term);
                self.set_role(Role::Subordinate, cause, now);
            }
            return true;
        }
        self.outbid_equal_term();
        self.raise_term(now);
        let better = |to: &UnitId| self.is_healthier(*to) && self.is_given_again(*to);
        if let Some(to) = self.successor().filter(better) {
            self.yield_to(to, HandOver::Health, now);
            return true;
        }
        self.step_planned(now)
    }

    /// A primary that must stay instead of this one: heard with a greater claim, or followed by a peer
    /// with a higher term.
    fn stronger_primary(&self, now: Time) -> Option<(Cause, u32)> {
        let own = self.claim();
        let heard = self.trusted().filter(|peer| peer.claims_primary());
        if let Some(winner) = heard
            .max_by_key(|peer| peer.claim())
            .filter(|p| p.claim() > own)
        {
            let term = winner.beat.term;
            return Some((
                Cause::DualPrimary {
                    winner: winner.unit,
                    term,
                },
                term,
            ));
        }
        let (primary, by, _) = self.reported_primary(now)?;
        let term = self.peer(by)?.beat.primary_term;
        (term > self.term).then_some((Cause::PrimaryReported { primary, by }, term))
    }

    /// Another primary of the same term, which only one of protocol version 1 can be, will step down. Both
    /// wrote sessions in that term, so the one that stays goes above it: what it writes from now on is newer
    /// than what either wrote.
    fn outbid_equal_term(&mut self) {
        let equal = |peer: &&Peer| peer.claims_primary() && peer.beat.term == self.term;
        let rival = self.trusted().find(equal).map(|peer| peer.unit);
        self.term_from = self.term_from.or(rival);
    }

    /// A peer knows a higher term than this sitting primary's: sessions may have been written in it
    /// elsewhere. So that what is written from now on is newer, the term goes above it.
    fn raise_term(&mut self, now: Time) {
        if let Some(by) = self.term_from.take() {
            self.term = self.next_term();
            self.record(Role::Primary, Cause::TermRaised { by }, now);
            self.distribution_is_stale();
            self.distribute();
            self.actions.push_back(Action::Promote { term: self.term });
            self.beat_due = now;
        }
    }

    /// Steps of a unit that may become primary.
    fn step_eligible(&mut self, now: Time) -> bool {
        if self.maintenance {
            self.set_role(Role::Maintenance, Cause::MaintenanceBegun, now);
            return true;
        }
        if !self.can_serve() {
            let cause = if self.workers {
                Cause::LinksLost
            } else {
                Cause::WorkersStopped
            };
            self.set_role(Role::Isolated, cause, now);
            return true;
        }
        let known = self.known_primary(now);
        self.end_yielding(now);
        if self.leaving.is_some() {
            self.finish_leaving(now);
            return false;
        }
        match known {
            Known::Heard(primary) => {
                // The hold-down is for a unit that may be alone. This one is not, and may be needed at
                // once: whoever it would have waited for is in the cluster that it hears.
                self.listening_until = self.listening_until.min(now);
                self.reported_term = 0;
                self.follow(primary, Cause::PrimaryFound { primary }, now)
            }
            Known::Reported { primary, by, until } => {
                self.reported_until = until;
                self.reported_term = self.peer(by).map_or(0, |peer| peer.beat.primary_term);
                self.follow(primary, Cause::PrimaryReported { primary, by }, now)
            }
            Known::Unverified => self.wait_for_proof(now),
            Known::Nobody => self.fill_vacancy(now),
        }
    }

    fn step_isolated(&mut self, now: Time) -> bool {
        self.end_yielding(now);
        if self.leaving.is_some() {
            self.finish_leaving(now);
            return false;
        }
        if self.maintenance {
            self.set_role(Role::Maintenance, Cause::MaintenanceBegun, now);
            return true;
        }
        if !self.can_serve() {
            return false;
        }
        if self.is_fenced() {
            let known = self.known_primary(now);
            let served = matches!(known, Known::Heard(_) | Known::Reported { .. });
            if !served && !self.reaches_witness(now) {
                return false;
            }
            self.end_fence();
        }
        // It was deaf: it listens again before it trusts that nobody is primary.
        self.listening_until = now + self.settings.hello_holddown;
        self.set_role(Role::Candidate, Cause::Recovered, now);
        true
    }

    fn step_maintenance(&mut self, now: Time) -> bool {
        self.end_yielding(now);
        if self.leaving.is_some() {
            self.finish_leaving(now);
            return false;
        }
        if self.maintenance {
            return false;
        }
        self.set_role(Role::Candidate, Cause::MaintenanceEnded, now);
        true
    }

    fn follow(&mut self, primary: UnitId, cause: Cause, now: Time) -> bool {
        self.vacancy = None;
        self.primary = Some(primary);
        if self.role == Role::Subordinate {
            return false;
        }
        self.set_role(Role::Subordinate, cause, now);
        true
    }

    fn wait_for_proof(&mut self, now: Time) -> bool {
        let cause = self.loss_of_primary(now);
        self.vacancy = None;
        self.primary = None;
        if self.role == Role::Candidate || self.yielding.is_some() {
            return false;
        }
        self.set_role(Role::Candidate, cause, now);
        true
    }

    /// Nobody is primary: become it, or wait for whoever is better.
    fn fill_vacancy(&mut self, now: Time) -> bool {
        let cause = self.loss_of_primary(now);
        let eligible = self.is_eligible(now);
        let vacancy = self.vacancy.get_or_insert(Vacancy {
            cause,
            eligible_since: None,
            overdue_at: Time::NEVER,
        });
        let cause = vacancy.cause;
        self.primary = None;
        if eligible {
            let since = *vacancy.eligible_since.get_or_insert(now);
            if let Some(cause) = self.reason_to_promote(cause, since, now) {
                if let Some(cause) = self.with_lease(cause, now) {
                    self.promote(cause, now);
                    return true;
                }
                // Its primary relays to it until it takes over.
                if matches!(cause, Cause::HandedOver { .. }) {
                    return false;
                }
            }
        } else {
            vacancy.eligible_since = None;
            vacancy.overdue_at = Time::NEVER;
        }
        if self.role == Role::Subordinate && self.yielding.is_none() {
            self.set_role(Role::Candidate, cause, now);
            return true;
        }
        false
    }

    fn reason_to_promote(&mut self, vacancy: Cause, since: Time, now: Time) -> Option<Cause> {
        let own = self.settings.unit;
        let handing_over = self
            .trusted()
            .find(|p| p.beat.yielding && p.beat.term >= self.term)
            .map(|p| (p.unit, p.beat.successor));
        if let Some((by, Some(heir))) = handing_over
            && heir == own
        {
            return Some(Cause::HandedOver { by });
        }
        let mut ranking = self.ranking(now);
        if let Some(heir) = handing_over.and_then(|(_, heir)| heir) {
            // Also one that is not heard here: the unit that hands over to it hears it.
            ranking.retain(|unit| *unit != heir);
            ranking.insert(0, heir);
        }
        let rank = ranking.iter().position(|unit| *unit == own)?;
        if rank == 0 {
            return Some(match vacancy {
                Cause::PrimaryDied { .. } | Cause::PrimaryLeft { .. } => vacancy,
                _ if self.peers.iter().flatten().any(|peer| peer.alive) => Cause::Elected {
                    of: u8::try_from(ranking.len()).unwrap_or(u8::MAX),
                },
                Cause::NoPrimary => Cause::Alone,
                _ => vacancy,
            });
        }
        let overdue_at = since + self.patience(&ranking[..rank]);
        if let Some(vacancy) = &mut self.vacancy {
            vacancy.overdue_at = overdue_at;
        }
        (now >= overdue_at).then_some(Cause::Overdue {
            expected: ranking[0],
        })
    }

    /// How long to wait for better units: each may need a detection time to see the vacancy, and as much
    /// again for its heartbeat to arrive.
    fn patience(&self, better: &[UnitId]) -> Duration {
        let own = self.settings.detection();
        let of = |unit: &UnitId| {
            self.peer(*unit)
                .map_or(own, |p| p.detection(&self.settings))
        };
        let lease = self.lease_patience();
        better
            .iter()
            .map(|unit| of(unit).max(own) * 2 + lease)
            .sum()
    }

    fn ranking(&self, now: Time) -> Units<UnitId> {
        let peers = self.peers.iter().flatten();
        let mut standings: Units<Standing> = peers
            .filter(|peer| peer.alive && peer.beat.eligible)
            .map(|peer| Standing {
                unit: peer.unit,
                health: peer.beat.health.healthy,
                synced: peer.beat.synced,
                age: peer.beat.age + now.since(peer.beat_at),
                priority: peer.beat.priority,
                preempt: peer.beat.preempt,
            })
            .collect();
        standings.push(Standing {
            unit: self.settings.unit,
            health: self.health.healthy,
            synced: self.is_synced(),
            age: self.age(now),
            priority: self.settings.priority,
            preempt: self.settings.preempt,
        });
        election::ranking(standings, self.settings.age_margin)
    }

    fn known_primary(&self, now: Time) -> Known {
        if let Some(primary) = self.heard_primary() {
            return Known::Heard(primary);
        }
        if let Some((primary, by, until)) = self.reported_primary(now) {
            return Known::Reported { primary, by, until };
        }
        if self.hears_unverified_primary() {
            return Known::Unverified;
        }
        Known::Nobody
    }

    /// The peer that says it is primary; the one that will stay, if there are several.
    pub(super) fn heard_primary(&self) -> Option<UnitId> {
        let heard = self.trusted().filter(|peer| peer.claims_primary());
        heard.max_by_key(|peer| peer.claim()).map(|peer| peer.unit)
    }

    /// The primary that peers report though it is not heard here, by whom, and how long that holds: until
    /// they say otherwise or their last heartbeat is older than detection allows. They say so as soon as they
    /// do not hear it any more. To count from their last frame of it would add the delays of both ways. Not
    /// what the reported unit itself contradicts.
    fn reported_primary(&self, now: Time) -> Option<(UnitId, UnitId, Time)> {
        let reports = self.trusted().filter_map(|peer| {
            let primary = peer.beat.primary?;
            let detection = peer.detection(&self.settings);
            let until = peer.beat_at + detection;
            let term = peer.beat.primary_term;
            // What an unverified unit says proves nothing, nor what was said before the promotion in that term
            // and came late.
            let contradicts = |p: &&Peer| p.verified && (p.alive || p.left) && p.beat.term >= term;
            let contradicted = self.peer(primary).filter(contradicts).is_some();
            let heard = peer.beat.primary_silence < detection;
            let holds = primary != self.settings.unit && heard && !contradicted && now < until;
            holds.then_some((term, until, primary, peer.unit))
        });
        reports
            .max()
            .map(|(_, until, primary, by)| (primary, by, until))
    }

    /// Why the primary that was followed is no more.
    fn loss_of_primary(&self, now: Time) -> Cause {
        let Some(primary) = self.primary else {
            return Cause::NoPrimary;
        };
        match self.peer(primary) {
            Some(peer) if peer.left => Cause::PrimaryLeft { primary },
            Some(peer) if peer.alive && peer.claims_primary() => Cause::PrimaryUnproven { primary },
            // What it said itself is older than the report, which ran out.
            Some(peer) if peer.alive && peer.beat.term < self.reported_term => {
                Cause::PrimaryUnreported { primary }
            }
            Some(peer) if peer.alive => Cause::PrimaryStopped {
                primary,
                role: peer.beat.role,
            },
            Some(peer) => Cause::PrimaryDied {
                primary,
                silent: now.since(peer.silent_since(&self.settings)),
            },
            // It was never heard here, in this start of ours.
            None => Cause::PrimaryUnreported { primary },
        }
    }

    /// The best unit to hand over to: heard, hears us, could serve now.
    pub(super) fn successor(&self) -> Option<UnitId> {
        let order = self.ranking(self.now);
        let preferred = |unit: &&UnitId| self.acceptable(**unit);
        order.iter().find(preferred).copied()
    }

    /// Whether a hand-over to this unit would reach it and be taken.
    pub(super) fn acceptable(&self, unit: UnitId) -> bool {
        self.peer(unit).is_some_and(|peer| {
            let hears_us = peer.hears(self.settings.unit, self.settings.boot).is_some();
            peer.trusted() && peer.beat.eligible && hears_us
        })
    }

    /// Strictly more healthy links than this unit has, both in what it tells and at this moment: when
    /// links of both recover, only what they tell lags behind.
    fn is_healthier(&self, unit: UnitId) -> bool {
        let own = self.health.healthy.max(self.actual_health());
        self.peer(unit)
            .is_some_and(|peer| peer.beat.health.healthy > own)
    }

    /// Whether a unit is given the role again that did not take it when it was last given it: its way to the
    /// witness may let only some exchanges through, or its way to this unit only some frames.
    fn is_given_again(&self, unit: UnitId) -> bool {
        self.declined[unit.index()].may_try_again(self.usual_hold(), self.now)
    }

    pub(super) fn preempting_peer(&self) -> Option<UnitId> {
        let own = self.health.healthy.max(self.actual_health());
        let preempts = |peer: &&Peer| {
            peer.beat.preempt
                && peer.beat.synced
                && peer.beat.priority > self.settings.priority
                && peer.beat.health.healthy >= own
                && self.acceptable(peer.unit)
                && self.is_given_again(peer.unit)
        };
        let peers = self.trusted().filter(preempts);
        peers
            .max_by_key(|peer| (peer.beat.priority, Reverse(peer.unit)))
            .map(|peer| peer.unit)
    }

    /// The next term in which this unit may be primary. Terms are dealt out among the units, so that two
    /// of them are never primary in the same one, though they hear nothing of each other: what both write
    /// then has an order. Of units that begin at once the lower id has the higher term.
    fn next_term(&self) -> u32 {
        let units = u32::from(UnitId::MAX);
        let own = units - u32::from(self.settings.unit.get());
        let ahead = (own + units - self.term % units) % units;
        let next = self.term + if ahead == 0 { units } else { ahead };
        next.min(MAX_TERM)
    }

    fn promote(&mut self, cause: Cause, now: Time) {
        self.term = self.next_term();
        self.set_role(Role::Primary, cause, now);
    }

    pub(super) fn set_role(&mut self, role: Role, cause: Cause, now: Time) {
        let from = self.role;
        self.record(role, cause, now);
        self.role = role;
        self.role_since = now;
        self.beat_due = now;
        self.cancel_plan();
        self.vacancy = None;
        let term = self.term;
        if role == Role::Primary {
            self.primary = None;
            self.yielding = None;
            self.relay = None;
            self.term_from = None;
            self.counters.promotions += 1;
        }
        self.distribution_is_stale();
        self.distribute();
        if role == Role::Primary {
            self.actions.push_back(Action::Promote { term });
            self.start_announcing(now);
        } else if from == Role::Primary {
            self.counters.demotions += 1;
            self.stop_announcing();
            self.actions.push_back(Action::Demote { role, term });
        } else {
            self.actions.push_back(Action::RoleChanged { role, term });
        }
    }

    fn record(&mut self, to: Role, cause: Cause, now: Time) {
        let transition = Transition {
            time: now,
            from: self.role,
            to,
            term: self.term,
            cause,
        };
        self.history.record(transition);
    }

    /// Follows an episode of two primaries from its begin to its end. Whoever stays announces again.
    fn watch_dual(&mut self, now: Time) {
        let other = self
            .trusted()
            .filter(|peer| peer.claims_primary())
            .map(|peer| peer.unit)
            .next();
        match (self.dual, other) {
            (None, Some(peer)) if self.role == Role::Primary => {
                self.begin_dual(peer, now);
            }
            (Some(Dual { peer, since }), other)
                if self.role != Role::Primary || other.is_none() =>
            {
                let stayed = self.role == Role::Primary;
                self.dual = None;
                let duration = now.since(since);
                let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                self.counters.dual_primary_ms += ms;
                self.event(Event::DualPrimaryEnded {
                    peer,
                    stayed,
                    duration,
                });
                if stayed {
                    self.start_announcing(now);
                }
            }
            _ => {}
        }
    }

    /// Two are primary, at the most since the later of both became it.
    fn begin_dual(&mut self, peer: UnitId, now: Time) {
        let theirs = self.peer(peer).map_or(now, |peer| peer.primary_since);
        let since = self.role_since.max(theirs);
        self.dual = Some(Dual { peer, since });
        self.counters.dual_primaries += 1;
        self.event(Event::DualPrimary { peer });
        self.beat_due = now;
    }

    fn claim(&self) -> Claim {
        Claim {
            term: self.term,
            health: self.health.healthy,
            priority: self.settings.priority,
            unit: Reverse(self.settings.unit),
        }
    }

    /// Whether this unit may become primary, or stay it.
    pub(super) fn is_eligible(&self, now: Time) -> bool {
        let willing = !self.maintenance && self.leaving.is_none() && self.yielding.is_none();
        let able = !matches!(self.role, Role::Isolated | Role::Maintenance);
        willing
            && able
            && self.can_serve()
            && now >= self.listening_until
            && self.reaches_witness(now)
            && !self.hears_unverified_primary()
            && !self.is_out_of_place(now)
    }

    /// A peer that may be a recording says that it is primary: that holds this unit back, so nobody
    /// must hand over to it.
    fn hears_unverified_primary(&self) -> bool {
        let mut unverified = self
            .peers
            .iter()
            .flatten()
            .filter(|p| p.alive && !p.verified);
        unverified.any(|peer| peer.claims_primary())
    }

    /// For how long this unit could have been primary.
    pub(super) fn age(&self, now: Time) -> Duration {
        if self.workers {
            now.since(self.capable_since)
        } else {
            Duration::ZERO
        }
    }
}
