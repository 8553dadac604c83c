//! Whether the segments heard of a promotion: an interface on which nothing comes to the virtual MAC since
//! then gets more announcements, further and further apart.
//!
//! A switch that missed the announcements, or was not ready for them, goes on sending to the port of the
//! unit before. What comes shows that it does not; what does not come may just as well mean that nobody has
//! anything to send, so there is no end to it but ten seconds between two announcements.
//!
//! Pure: counts and the time go in, steps come out.

use std::time::Duration;

use cluster::Time;
use forward::InterfaceId;

/// The longest time between two announcements on an interface that stays silent.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Something to do about an interface, or to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Announce the addresses on it again.
    Announce(InterfaceId),
    /// Nothing has come for so long that announcements have reached their longest pause.
    Silent {
        interface: InterfaceId,
        since: Duration,
    },
    /// Something came, and more announcements than usual were sent before.
    Heard {
        interface: InterfaceId,
        since: Duration,
        repeats: u32,
    },
}

/// An interface on which nothing came yet.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    interface: InterfaceId,
    /// The count at the promotion.
    before: u64,
    due: Time,
    pause: Duration,
    repeats: u32,
    told: bool,
}

/// What a primary waits to hear.
#[derive(Debug)]
pub(crate) struct Silence {
    since: Time,
    quiet: Vec<Quiet>,
}

impl Silence {
    /// Begins at a promotion. `counts` are frames to the virtual MAC so far, by interface; the usual
    /// announcements, `interval` apart, end after `usual`.
    pub(crate) fn begin(
        counts: impl IntoIterator<Item = (InterfaceId, u64)>,
        usual: Duration,
        interval: Duration,
        now: Time,
    ) -> Self {
        let quiet = counts.into_iter().map(|(interface, before)| Quiet {
            interface,
            before,
            due: now + usual,
            pause: interval,
            repeats: 0,
            told: false,
        });
        Self {
            since: now,
            quiet: quiet.collect(),
        }
    }

    /// What follows from the counts of now.
    pub(crate) fn look(&mut self, count: impl Fn(InterfaceId) -> u64, now: Time) -> Vec<Step> {
        let mut steps = Vec::new();
        let since = now.since(self.since);
        self.quiet.retain_mut(|quiet| {
            let interface = quiet.interface;
            if count(interface) != quiet.before {
                if quiet.repeats > 0 {
                    steps.push(Step::Heard {
                        interface,
                        since,
                        repeats: quiet.repeats,
                    });
                }
                return false;
            }
            if now >= quiet.due {
                steps.push(Step::Announce(interface));
                quiet.repeats += 1;
                quiet.due = now + quiet.pause;
                if quiet.pause == LONGEST_PAUSE && !std::mem::replace(&mut quiet.told, true) {
                    steps.push(Step::Silent { interface, since });
                }
                quiet.pause = (quiet.pause * 2).min(LONGEST_PAUSE);
            }
            true
        });
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: InterfaceId = InterfaceId(0);
    const WAN: InterfaceId = InterfaceId(1);
    const MS: Duration = Duration::from_millis(1);

    fn begun() -> Silence {
        Silence::begin([(LAN, 5), (WAN, 9)], 1_000 * MS, 200 * MS, Time(0))
    }

    #[test]
    fn announcements_go_on_further_apart_until_something_comes() {
        let mut silence = begun();
        let mut at = Vec::new();
        for tenth in 0..600 {
            let now = Time(0) + 100 * MS * tenth;
            // The WAN is heard at once.
            let steps = silence.look(|interface| 5 * u64::from(interface == LAN), now);
            for step in steps {
                match step {
                    Step::Announce(interface) => {
                        assert_eq!(interface, LAN);
                        at.push(tenth);
                    }
                    Step::Silent { since, .. } => assert_eq!(since, 13_600 * MS),
                    Step::Heard { .. } => panic!("nothing came"),
                }
            }
        }
        assert_eq!(at, [10, 12, 16, 24, 40, 72, 136, 236, 336, 436, 536]);
        let came = silence.look(|_| 6, Time(0) + 60_000 * MS);
        let heard = Step::Heard {
            interface: LAN,
            since: 60_000 * MS,
            repeats: 11,
        };
        assert_eq!(came, [heard]);
        assert_eq!(silence.look(|_| 6, Time(0) + 90_000 * MS), []);
    }

    #[test]
    fn who_is_heard_in_time_is_not_spoken_of() {
        let mut silence = begun();
        assert_eq!(silence.look(|_| 100, Time(0) + 900 * MS), []);
        assert_eq!(silence.look(|_| 100, Time(0) + 5_000 * MS), []);
    }
}
