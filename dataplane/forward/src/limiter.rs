//! A token bucket: how often a worker may answer with a packet of its own making.

/// Allows `rate` events a second on average, and a burst of up to `depth` at once.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    nanos_per_token: u64,
    depth_nanos: u64,
    /// Time already granted, in nanoseconds; runs behind the clock by the tokens left.
    spent_until: u64,
}

impl TokenBucket {
    /// A full bucket. A rate of zero allows nothing.
    #[must_use]
    pub const fn new(rate_per_second: u32, depth: u32) -> Self {
        let nanos_per_token = if rate_per_second == 0 {
            u64::MAX
        } else {
            1_000_000_000 / rate_per_second as u64
        };
        Self {
            nanos_per_token,
            depth_nanos: nanos_per_token.saturating_mul(depth as u64),
            spent_until: 0,
        }
    }

    /// Takes one token at `nanos` of a monotonic clock; false when there is none.
    pub fn take(&mut self, nanos: u64) -> bool {
        if self.nanos_per_token == u64::MAX {
            return false;
        }
        // The clock starts one full bucket after zero, so that the first burst is allowed.
        let clock = nanos.saturating_add(self.depth_nanos);
        let start = self.spent_until.max(clock - self.depth_nanos);
        let end = start.saturating_add(self.nanos_per_token);
        let allowed = end <= clock;
        if allowed {
            self.spent_until = end;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(100, 5);
        let start = 7_000_000_000;
        let granted = (0..50).filter(|_| bucket.take(start)).count();
        assert_eq!(granted, 5);
        let granted = (1..=1000u64)
            .filter(|ms| bucket.take(start + ms * 1_000_000))
            .count();
        assert_eq!(granted, 100);
    }

    #[test]
    fn idle_time_does_not_fill_beyond_the_depth() {
        let mut bucket = TokenBucket::new(100, 5);
        assert!(bucket.take(0));
        let granted = (0..50).filter(|_| bucket.take(3_600_000_000_000)).count();
        assert_eq!(granted, 5);
    }

    #[test]
    fn a_rate_of_zero_allows_nothing() {
        assert!(!TokenBucket::new(0, 5).take(1));
    }
}
