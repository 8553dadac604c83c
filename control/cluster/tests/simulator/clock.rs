//! A unit's clock, which runs a little too fast or too slow, and not always equally so.

use cluster::Time;

const MILLION: i64 = 1_000_000;

/// Shows `shown` at the world's `since`, and goes on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    since: u64,
    shown: u64,
    /// How much faster than the world's time it runs, in millionths.
    rate: i64,
}

impl Clock {
    pub(crate) const fn new(shown: u64, rate: i64) -> Self {
        Self {
            since: 0,
            shown,
            rate,
        }
    }

    /// What it shows at a moment, which must not lie before the last change of its rate.
    pub(crate) fn at(&self, moment: u64) -> Time {
        let elapsed = i64::try_from(moment - self.since).unwrap();
        let local =
            elapsed + elapsed / MILLION * self.rate + elapsed % MILLION * self.rate / MILLION;
        Time(self.shown + u64::try_from(local).unwrap())
    }

    /// The first moment at which it shows `local`.
    pub(crate) fn moment(&self, local: Time) -> u64 {
        let elapsed = i128::from(local.0.saturating_sub(self.shown));
        let guess = elapsed * i128::from(MILLION) / i128::from(MILLION + self.rate);
        let mut moment = self.since + u64::try_from(guess).unwrap().saturating_sub(4);
        while self.at(moment) < local {
            moment += 1;
        }
        moment
    }

    /// Runs otherwise from now on.
    pub(crate) fn drift(&mut self, now: u64, rate: i64) {
        *self = Self {
            since: now,
            shown: self.at(now).0,
            rate,
        };
    }
}
