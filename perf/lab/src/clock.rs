//! The clock of the lab: the only module of it that reads one.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

/// How often a condition is looked at while waiting for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The monotonic time.
#[expect(
    clippy::disallowed_methods,
    reason = "experiments run in real time; the rest of the lab asks here"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, to compare with times that a unit reports.
#[expect(
    clippy::disallowed_methods,
    reason = "units report when they were promoted by the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Looks every 20 ms whether `condition` yields a value.
///
/// # Errors
///
/// The condition's own error, or after `limit` one that says what was waited for and, as `doubt`
/// tells, what was found instead.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Found<T>>,
) -> Result<T> {
    let deadline = now() + limit;
    loop {
        let doubt = match condition()? {
            Found::Yes(value) => return Ok(value),
            Found::NotYet(doubt) => doubt,
        };
        if now() >= deadline {
            bail!("waited {} s for {what}: {doubt}", limit.as_secs_f32());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// What one look at a condition found.
#[derive(Debug)]
pub enum Found<T> {
    /// The condition holds.
    Yes(T),
    /// It does not hold yet, and this is what stands against it.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_fails_says_for_what_and_why() {
        let limit = Duration::from_millis(30);
        let error = wait_for::<()>("the tide", limit, || Ok(Found::NotYet("ebb".into())))
            .expect_err("it never comes");
        assert_eq!(error.to_string(), "waited 0.03 s for the tide: ebb");
    }

    #[test]
    fn a_wait_ends_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let found = wait_for("three looks", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 {
                Found::Yes(looks)
            } else {
                Found::NotYet(looks.to_string())
            })
        });
        assert_eq!(found.expect("it holds at the third look"), 3);
    }
}
