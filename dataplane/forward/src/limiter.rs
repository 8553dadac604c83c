//! How often a worker may do what others make it do: answers by a token bucket, evictions by turns.

/// Remembers how much was granted; how much may be is asked anew each time, so that a change of
/// configuration holds at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    /// Time up to which tokens are spent, in nanoseconds; runs behind the clock by the tokens left.
    spent_until: u64,
}

impl TokenBucket {
    /// Takes one token at `nanos` of a monotonic clock, of a bucket that fills with `rate` tokens a
    /// second and holds `depth`; false when there is none. A rate of zero allows nothing.
    pub fn take(&mut self, rate: u32, depth: u32, nanos: u64) -> bool {
        if rate == 0 {
            return false;
        }
        let per_token = 1_000_000_000 / u64::from(rate);
        let full = per_token * u64::from(depth);
        let end = self.spent_until.max(nanos) + per_token;
        let allowed = end <= nanos + full;
        if allowed {
            self.spent_until = end;
        }
        allowed
    }
}

/// Half-open sessions that may make room for new ones. Each turn grants one more.
///
/// Making room costs many times what an established session's packet does, so that a flood of new
/// sessions into a full table would take the worker's time from those that it is there for. A worker
/// that is not at its limit makes many turns without a packet, and has more to grant than it is asked
/// for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evictions(usize);

impl Evictions {
    /// How many can be saved up: what clients open at once finds room.
    pub(crate) const MOST: usize = 64;

    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.0 = Self::MOST.min(self.0 + 1);
    }

    /// How many are left to this burst.
    pub(crate) const fn left(self) -> usize {
        self.0
    }

    /// One was made.
    pub(crate) fn spend(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

impl Default for Evictions {
    fn default() -> Self {
        Self(Self::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::default();
        let start = 7_000_000_000;
        let granted = (0..50).filter(|_| bucket.take(100, 5, start)).count();
        assert_eq!(granted, 5);
        let granted = (1..=1000u64)
            .filter(|ms| bucket.take(100, 5, start + ms * 1_000_000))
            .count();
        assert_eq!(granted, 100);
    }

    #[test]
    fn idle_time_does_not_fill_beyond_the_depth() {
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(100, 5, 0));
        let granted = (0..50)
            .filter(|_| bucket.take(100, 5, 3_600_000_000_000))
            .count();
        assert_eq!(granted, 5);
    }

    #[test]
    fn a_new_rate_holds_at_once() {
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(1, 1, 0));
        assert!(!bucket.take(1, 1, 1_000_000));
        assert!(bucket.take(1, 3, 1_000_000));
    }

    #[test]
    fn a_rate_of_zero_allows_nothing() {
        assert!(!TokenBucket::default().take(0, 5, 1));
    }
}
