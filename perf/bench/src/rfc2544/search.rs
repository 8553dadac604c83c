//! The search for the greatest load that passes: no ports, no clock, only answers.
//!
//! RFC 2544 leaves the search open; this one halves. It begins at the ceiling, so that a device which
//! bears it needs one trial, and ends when what passed and what failed are one step apart.

/// A search in progress. Ask [`Search::next`] for a load, try it, tell [`Search::judge`].
///
/// Invariant: `passed` is the greatest load that passed, or zero; no load from `failed` on is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Search {
    ceiling: f64,
    step: f64,
    passed: f64,
    failed: Option<f64>,
}

impl Search {
    /// A search up to `ceiling` that tells apart what is `step` apart. Both are positive.
    pub(super) fn new(ceiling: f64, step: f64) -> Self {
        Self {
            ceiling,
            // A step of nothing would never end: the rounding of large loads is larger.
            step: step.max(ceiling * 1e-6),
            passed: 0.0,
            failed: None,
        }
    }

    /// The load to try next; `None` when the search is over.
    pub(super) fn next(&self) -> Option<f64> {
        match self.failed {
            None if self.passed < self.ceiling => Some(self.ceiling),
            None => None,
            Some(failed) => {
                (failed - self.passed > self.step).then(|| f64::midpoint(self.passed, failed))
            }
        }
    }

    /// What became of the load that [`Search::next`] gave.
    pub(super) fn judge(&mut self, load: f64, passes: bool) {
        if passes {
            self.passed = self.passed.max(load);
        } else {
            self.failed = Some(self.failed.map_or(load, |failed| failed.min(load)));
        }
    }

    /// The greatest load that passed; zero when none did.
    pub(super) fn found(&self) -> f64 {
        self.passed
    }
}

/// Searches with `trial`, which tells whether a load passes.
///
/// # Errors
/// The first failure of a trial.
pub(super) fn search<E>(
    ceiling: f64,
    step: f64,
    mut trial: impl FnMut(f64) -> Result<bool, E>,
) -> Result<f64, E> {
    let mut search = Search::new(ceiling, step);
    while let Some(load) = search.next() {
        search.judge(load, trial(load)?);
    }
    Ok(search.found())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches a device that bears loads up to `limit`; the result and the loads tried.
    fn device(ceiling: f64, step: f64, limit: f64) -> (f64, Vec<f64>) {
        let mut tried = Vec::new();
        let Ok(found) = search::<Infallible>(ceiling, step, |load| {
            tried.push(load);
            Ok(load <= limit)
        });
        (found, tried)
    }

    #[test]
    fn a_device_that_bears_the_ceiling_needs_one_trial() {
        assert_eq!(device(1e6, 1e3, 1e6), (1e6, vec![1e6]));
    }

    #[test]
    fn a_device_that_bears_nothing_is_given_up() {
        let (found, tried) = device(1e6, 1e3, 0.0);
        assert_eq!(found, 0.0);
        assert_eq!(
            tried.len(),
            11,
            "the first, and ten halvings to a thousandth"
        );
    }

    #[test]
    fn what_is_found_passes_and_is_within_a_step_of_what_fails() {
        for limit in [1.0, 999.0, 123_456.0, 500_000.0, 999_999.0] {
            let (found, tried) = device(1e6, 1e3, limit);
            assert!(found <= limit && limit - found < 1e3, "{found} of {limit}");
            assert!(tried.len() <= 11);
            assert!(tried.iter().all(|load| (0.0..=1e6).contains(load)));
        }
    }

    #[test]
    fn a_step_of_nothing_ends_too() {
        let (found, tried) = device(14.88e6, 0.0, 10e6);
        assert!((found - 10e6).abs() < 15.0, "{found}");
        assert!(tried.len() < 30);
    }

    #[test]
    fn a_device_that_changes_its_mind_ends_the_search_all_the_same() {
        let mut trials = 0;
        let Ok(found) = search::<Infallible>(1_000.0, 1.0, |_| {
            trials += 1;
            Ok(trials % 3 == 0)
        });
        assert!(trials <= 12 && (0.0..1_000.0).contains(&found));
    }

    #[test]
    fn a_trial_that_fails_ends_the_search() {
        assert_eq!(search(10.0, 1.0, |_| Err("no port")), Err("no port"));
    }
}
