//! What a unit asks of the witness, and when: the side of the lease that speaks to the store.
//!
//! [`LeaseKeeper`] follows the latest [`LeaseWish`] of the [`Node`](crate::Node). Its driver carries one
//! request at a time to the store, hands the answer in, and hands the [`LeaseReport`] to the node. It may be
//! as slow as the network: a lease that was not renewed in time stops the unit in the node and in the
//! workers.
//!
//! Being primary is a key that is attached to a lease, written only where it is absent. So what holds is:
//!
//! 1. A report's `until` is not later than the moment at which the store may let the lease go. It counts
//!    from before the request was sent, and a tenth is left out for clocks that differ in rate.
//! 2. A lease whose key was given back is never used again. Requests that were given up may still arrive,
//!    late: what was meant for one lease cannot touch the key of another.
//! 3. Nothing is renewed for a state machine that gives no sign of life: its successor need not wait for it.

use std::time::Duration;

use crate::Time;
use crate::lease::{LeaseHolder, LeaseReport, LeaseWish};

/// The lease is renewed so many times in its life.
const RENEWALS: u32 = 4;
/// What part of a lease is not used: clocks may differ by that much, and workers take a moment.
const MARGIN: u32 = 10;
/// The first pause before a lease is asked for again that another unit has; each following one is twice
/// as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// The longest of these pauses, and the one after an exchange that failed.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A lease, as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// One exchange with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRequest {
    /// A new lease.
    Grant,
    /// Keep this lease alive.
    KeepAlive(LeaseId),
    /// Write this unit down as the primary, attached to this lease, if nobody is.
    Claim(LeaseId),
    /// End this lease, and with it what is attached to it.
    GiveBack(LeaseId),
    /// Who is written down as the primary?
    Look,
}

/// What the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// To [`LeaseRequest::Grant`].
    Granted {
        /// Its number.
        lease: LeaseId,
        /// How long it lasts from when the store answered.
        life: Duration,
    },
    /// To [`LeaseRequest::KeepAlive`]: how long it lasts from now on. Zero: it is gone.
    Kept {
        /// See above.
        life: Duration,
    },
    /// To [`LeaseRequest::Claim`] and [`LeaseRequest::Look`]. This unit only with the lease that it named.
    Holder(LeaseHolder),
    /// To [`LeaseRequest::GiveBack`]: it is gone.
    GivenBack,
}

/// A lease that is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    lease: LeaseId,
    renew_at: Time,
    /// A key may be attached to it: it was asked for.
    claimed: bool,
    /// Who holds the key was not asked since the lease was renewed.
    unsure: bool,
}

/// Keeps a unit's lease.
#[derive(Clone, Debug)]
pub struct LeaseKeeper {
    wish: LeaseWish,
    kept: Option<Kept>,
    /// A lease that is to end.
    ending: Option<LeaseId>,
    until: Time,
    holder: LeaseHolder,
    /// What is being asked, and since when.
    asked: Option<(LeaseRequest, Time)>,
    /// Nothing is asked before.
    resume_at: Time,
    pause: Duration,
    /// The state machine gave a sign of life.
    attended: Time,
    /// The longest time without one.
    patience: Duration,
}

impl LeaseKeeper {
    /// A unit that has nothing. `life` is how long leases last as they are configured.
    #[must_use]
    pub fn new(life: Duration, now: Time) -> Self {
        Self {
            wish: LeaseWish::default(),
            kept: None,
            ending: None,
            until: Time(0),
            holder: LeaseHolder::Unknown,
            asked: None,
            resume_at: Time(0),
            pause: SHORTEST_PAUSE,
            attended: now,
            patience: life,
        }
    }

    /// How long an exchange may take: the driver gives it up then.
    #[must_use]
    pub fn exchange_limit(life: Duration) -> Duration {
        life / RENEWALS
    }

    /// What the unit wants from now on.
    pub fn wish(&mut self, wish: LeaseWish) {
        if wish != self.wish {
            self.wish = wish;
            self.pause = SHORTEST_PAUSE;
            self.resume_at = Time(0);
        }
    }

    /// The state machine was alive at this time.
    pub fn attend(&mut self, at: Time) {
        self.attended = self.attended.max(at);
    }

    /// What to ask now, if anything. Only the driver that carries it may call this, and not again before it
    /// handed the answer in.
    pub fn request(&mut self, now: Time) -> Option<LeaseRequest> {
        if self.asked.is_some() || now < self.due_at(now) {
            return None;
        }
        let request = self.next_request(now);
        if let (LeaseRequest::Claim(_), Some(kept)) = (request, &mut self.kept) {
            kept.claimed = true;
        }
        self.asked = Some((request, now));
        Some(request)
    }

    /// When there is something to ask, while nothing is being asked.
    #[must_use]
    pub fn next_deadline(&self, now: Time) -> Time {
        if self.asked.is_some() {
            return Time::NEVER;
        }
        self.due_at(now)
    }

    fn due_at(&self, now: Time) -> Time {
        if now.since(self.attended) >= self.patience {
            return Time::NEVER;
        }
        let Some(kept) = self.kept.filter(|_| !self.gives_back()) else {
            return self.resume_at;
        };
        let waits = self.wish.hold && self.holder != LeaseHolder::Own;
        if kept.unsure || waits {
            return self.resume_at;
        }
        kept.renew_at.max(self.resume_at)
    }

    /// Whether a key may be attached to the lease that nobody wants.
    fn gives_back(&self) -> bool {
        !self.wish.hold && self.kept.is_some_and(|kept| kept.claimed)
    }

    fn next_request(&mut self, now: Time) -> LeaseRequest {
        if let Some(kept) = self.kept.take_if(|kept| kept.claimed && !self.wish.hold) {
            self.ending = Some(kept.lease);
            self.holder = LeaseHolder::Unknown;
        }
        if let Some(lease) = self.ending {
            return LeaseRequest::GiveBack(lease);
        }
        match self.kept {
            None => LeaseRequest::Grant,
            Some(kept) if now >= kept.renew_at => LeaseRequest::KeepAlive(kept.lease),
            Some(kept) if self.wish.hold => LeaseRequest::Claim(kept.lease),
            Some(_) => LeaseRequest::Look,
        }
    }

    /// The store answered what was asked; `None` if it did not in time.
    pub fn answer(&mut self, answer: Option<LeaseAnswer>, now: Time) {
        let Some((request, asked)) = self.asked.take() else {
            return;
        };
        self.resume_at = Time(0);
        match (request, answer) {
            (LeaseRequest::Grant, Some(LeaseAnswer::Granted { lease, life })) => {
                self.holder = LeaseHolder::Unknown;
                self.keep(lease, false, asked, life);
            }
            (LeaseRequest::KeepAlive(lease), Some(LeaseAnswer::Kept { life })) => {
                let claimed = self.kept.is_some_and(|kept| kept.claimed);
                if life.is_zero() {
                    self.lose();
                } else {
                    self.keep(lease, claimed, asked, life);
                }
            }
            (LeaseRequest::Look, Some(LeaseAnswer::Holder(holder))) => self.learn(holder),
            (LeaseRequest::Claim(_), Some(LeaseAnswer::Holder(holder))) => {
                self.learn(holder);
                if holder != LeaseHolder::Own {
                    self.resume_at = now + self.pause;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
            (LeaseRequest::GiveBack(_), Some(LeaseAnswer::GivenBack)) => self.ending = None,
            _ => self.resume_at = now + LONGEST_PAUSE,
        }
    }

    fn keep(&mut self, lease: LeaseId, claimed: bool, asked: Time, life: Duration) {
        self.until = asked + (life - life / MARGIN);
        self.kept = Some(Kept {
            lease,
            renew_at: asked + life / RENEWALS,
            claimed,
            unsure: true,
        });
    }

    /// What was attached to the lease went with it.
    fn lose(&mut self) {
        self.kept = None;
        self.until = Time(0);
        self.holder = LeaseHolder::Unknown;
    }

    fn learn(&mut self, holder: LeaseHolder) {
        self.holder = holder;
        if let Some(kept) = &mut self.kept {
            kept.unsure = false;
        }
    }

    /// How things are, for the node.
    #[must_use]
    pub const fn report(&self) -> LeaseReport {
        LeaseReport {
            round: self.wish.round,
            until: self.until,
            holder: self.holder,
        }
    }

    /// What to give back when the unit ends.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> {
        let kept = self.kept.map(|kept| kept.lease);
        kept.into_iter().chain(self.ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(3);
    const START: Time = Time(1_000_000_000);
    const FIRST: LeaseId = LeaseId(1);
    const SECOND: LeaseId = LeaseId(2);

    const fn hold(round: u32, hold: bool) -> LeaseWish {
        LeaseWish { round, hold }
    }

    fn granted(lease: LeaseId) -> Option<LeaseAnswer> {
        Some(LeaseAnswer::Granted { lease, life: LIFE })
    }

    fn holder(holder: LeaseHolder) -> Option<LeaseAnswer> {
        Some(LeaseAnswer::Holder(holder))
    }

    /// Asks this, and is answered at once.
    #[track_caller]
    fn exchange(
        keeper: &mut LeaseKeeper,
        now: Time,
        request: LeaseRequest,
        answer: Option<LeaseAnswer>,
    ) {
        assert_eq!(keeper.request(now), Some(request));
        assert_eq!(keeper.request(now), None, "one at a time");
        keeper.answer(answer, now);
    }

    /// One that holds the key with the first lease.
    fn holding() -> LeaseKeeper {
        let mut keeper = LeaseKeeper::new(LIFE, START);
        exchange(&mut keeper, START, LeaseRequest::Grant, granted(FIRST));
        let nobody = holder(LeaseHolder::Nobody);
        exchange(&mut keeper, START, LeaseRequest::Look, nobody);
        keeper.wish(hold(1, true));
        let own = holder(LeaseHolder::Own);
        exchange(&mut keeper, START, LeaseRequest::Claim(FIRST), own);
        keeper
    }

    #[test]
    fn a_lease_counts_from_before_it_was_asked_for_and_less_a_tenth() {
        let mut keeper = LeaseKeeper::new(LIFE, START);
        assert_eq!(keeper.request(START), Some(LeaseRequest::Grant));
        keeper.answer(granted(FIRST), START + LIFE / 2);
        assert_eq!(keeper.report().until, START + LIFE * 9 / 10);
    }

    #[test]
    fn it_is_renewed_four_times_in_its_life_and_the_key_looked_at() {
        let mut keeper = holding();
        let next = keeper.next_deadline(START);
        assert_eq!(next, START + LIFE / 4);
        assert_eq!(keeper.request(next - Duration::from_nanos(1)), None);
        let kept = Some(LeaseAnswer::Kept { life: LIFE });
        exchange(&mut keeper, next, LeaseRequest::KeepAlive(FIRST), kept);
        let other = holder(LeaseHolder::Other(None));
        exchange(&mut keeper, next, LeaseRequest::Claim(FIRST), other);
        assert_eq!(keeper.report().until, next + LIFE * 9 / 10);
        assert_eq!(keeper.report().holder, LeaseHolder::Other(None));
    }

    #[test]
    fn who_waits_for_the_key_asks_more_and_more_seldom() {
        let mut keeper = holding();
        let mut now = START + LIFE / 4;
        let kept = Some(LeaseAnswer::Kept { life: LIFE });
        exchange(&mut keeper, now, LeaseRequest::KeepAlive(FIRST), kept);
        for expected in [5, 10, 20, 40, 80, 100, 100] {
            let other = holder(LeaseHolder::Other(None));
            exchange(&mut keeper, now, LeaseRequest::Claim(FIRST), other);
            let next = keeper.next_deadline(now);
            assert_eq!(next.since(now), Duration::from_millis(expected));
            now = next;
        }
    }

    #[test]
    fn what_was_given_back_counts_as_held_no_more_though_no_answer_came() {
        let mut keeper = holding();
        keeper.wish(hold(2, false));
        exchange(&mut keeper, START, LeaseRequest::GiveBack(FIRST), None);
        keeper.wish(hold(3, true));
        assert_ne!(keeper.report().holder, LeaseHolder::Own);
        // It is tried again, and what follows has a lease that no late request knows.
        let given = Some(LeaseAnswer::GivenBack);
        exchange(&mut keeper, START, LeaseRequest::GiveBack(FIRST), given);
        exchange(&mut keeper, START, LeaseRequest::Grant, granted(SECOND));
        let own = holder(LeaseHolder::Own);
        exchange(&mut keeper, START, LeaseRequest::Claim(SECOND), own);
        assert_eq!(keeper.report().holder, LeaseHolder::Own);
    }

    #[test]
    fn a_claim_without_an_answer_is_given_back_too() {
        let mut keeper = LeaseKeeper::new(LIFE, START);
        exchange(&mut keeper, START, LeaseRequest::Grant, granted(FIRST));
        keeper.wish(hold(1, true));
        exchange(&mut keeper, START, LeaseRequest::Claim(FIRST), None);
        keeper.wish(hold(2, false));
        assert_eq!(keeper.request(START), Some(LeaseRequest::GiveBack(FIRST)));
    }

    #[test]
    fn a_lease_that_is_gone_ends_at_once() {
        let mut keeper = holding();
        let next = keeper.next_deadline(START);
        let gone = Some(LeaseAnswer::Kept {
            life: Duration::ZERO,
        });
        exchange(&mut keeper, next, LeaseRequest::KeepAlive(FIRST), gone);
        assert_eq!(keeper.report().until, Time(0));
        assert_eq!(keeper.request(next), Some(LeaseRequest::Grant));
    }

    #[test]
    fn nothing_is_renewed_for_a_state_machine_that_hangs() {
        let mut keeper = holding();
        let later = START + LIFE;
        assert_eq!(keeper.request(later), None);
        keeper.attend(later);
        assert_eq!(keeper.request(later), Some(LeaseRequest::KeepAlive(FIRST)));
    }
}
