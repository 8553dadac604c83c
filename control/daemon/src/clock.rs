//! The only place of the gateway that reads a clock. Everything else gets time as a value.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::{Boot, Time};
use session::Tick;

/// Monotonic time since the process started, and the wall clock for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same as the cluster's state machines want it.
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.uptime().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The wall clock: seconds and nanoseconds since 1970.
    pub(crate) fn wall() -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// The tick of the session table at `now`.
pub(crate) fn tick(now: Time) -> Tick {
    let ticks = now.0 / (1_000_000_000 / u64::from(Tick::PER_SECOND));
    Tick::START.plus(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// A boot id: later boots are greater while the wall clock does not run backwards, and two boots in
/// one second still differ.
pub(crate) fn boot() -> std::io::Result<Boot> {
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(Boot(
        Clock::wall().as_secs() << 32 | u64::from(u32::from_le_bytes(random)),
    ))
}
