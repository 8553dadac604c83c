//! Behind which ports the switch sees the virtual MACs, and when one of them is at two at once.
//!
//! A takeover moves a virtual MAC from one port to another, once. When two units send from it, the
//! switch sees it return to the first port soon after. That is what counts: at a port, at another,
//! and at the first again within one detection time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::clock;
use crate::namespace::Namespace;
use crate::tool;

/// How the virtual MACs of a cluster begin.
const VIRTUAL: &str = "02:74:67:";

/// A virtual MAC that was at two ports at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubled {
    /// When it returned.
    pub at: Instant,
    /// The MAC.
    pub mac: String,
    /// The port to which it returned.
    pub port: String,
    /// The port at which it was in between.
    pub between: String,
    /// How long.
    pub after: Duration,
}

/// The places of the virtual MACs.
#[derive(Debug)]
pub(crate) struct Sightings {
    /// Within which time a return counts.
    window: Duration,
    /// By MAC: where it is, since when, and where it was before.
    places: HashMap<String, Place>,
    doubled: Vec<Doubled>,
    moves: usize,
}

#[derive(Debug)]
struct Place {
    port: String,
    since: Instant,
    before: Option<String>,
}

impl Sightings {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            window,
            places: HashMap::new(),
            doubled: Vec::new(),
            moves: 0,
        }
    }

    /// The switch learned a MAC behind a port.
    pub(crate) fn see(&mut self, at: Instant, mac: &str, port: &str) {
        let Some(place) = self.places.get_mut(mac) else {
            let place = Place {
                port: port.to_owned(),
                since: at,
                before: None,
            };
            self.places.insert(mac.to_owned(), place);
            return;
        };
        if place.port == port {
            return;
        }
        self.moves += 1;
        let after = at.saturating_duration_since(place.since);
        if place.before.as_deref() == Some(port) && after < self.window {
            self.doubled.push(Doubled {
                at,
                mac: mac.to_owned(),
                port: port.to_owned(),
                between: place.port.clone(),
                after,
            });
        }
        *place = Place {
            before: Some(std::mem::replace(&mut place.port, port.to_owned())),
            port: port.to_owned(),
            since: at,
        };
    }
}

/// A watch over the switch's learning.
#[derive(Debug)]
pub struct Watch {
    monitor: Child,
    reader: JoinHandle<()>,
    sightings: Arc<Mutex<Sightings>>,
}

impl Watch {
    /// Watches the bridges in the namespace of the switch. A return within `window` counts.
    ///
    /// # Errors
    ///
    /// When `bridge` or `chrt` are missing.
    pub fn start(switch: &Namespace, window: Duration) -> Result<Self> {
        // With a real-time priority: what is read late seems to have happened at once.
        let mut command = switch.command("chrt");
        command.args(["--rr", "20", "bridge", "monitor", "fdb"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut monitor = command
            .spawn()
            .map_err(|error| tool::explain(&command, error))?;
        let output = monitor.stdout.take().context("it has an output")?;
        let sightings = Arc::new(Mutex::new(Sightings::new(window)));
        let seen = Arc::clone(&sightings);
        let reader = thread::spawn(move || {
            crate::probe::raise_priority();
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if let Some((mac, port)) = parse_sighting(&line) {
                    let mut sightings = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    sightings.see(clock::now(), mac, port);
                }
            }
        });
        Ok(Self {
            monitor,
            reader,
            sightings,
        })
    }

    /// Ends it; gives the doubles, and how often a virtual MAC moved.
    ///
    /// # Errors
    ///
    /// When it cannot be ended.
    pub fn finish(mut self) -> Result<(Vec<Doubled>, usize)> {
        self.monitor.kill()?;
        self.monitor.wait()?;
        self.reader
            .join()
            .map_err(|_| anyhow!("the switch's watch panicked"))?;
        let mut sightings = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok((std::mem::take(&mut sightings.doubled), sightings.moves))
    }
}

/// Reads `MAC dev PORT master BRIDGE`, as `bridge monitor fdb` writes what the switch has learned.
fn parse_sighting(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    let mac = words.next().filter(|mac| mac.starts_with(VIRTUAL))?;
    let port = (words.next()? == "dev").then(|| words.next())??;
    Some((mac, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "02:74:67:00:07:00";

    fn doubled_at(sightings: &[(u64, &str)]) -> Vec<Duration> {
        let start = clock::now();
        let mut seen = Sightings::new(Duration::from_millis(30));
        for (at, port) in sightings {
            seen.see(start + Duration::from_millis(*at), MAC, port);
        }
        let at = |doubled: &Doubled| doubled.at - start;
        seen.doubled.iter().map(at).collect()
    }

    #[test]
    fn a_takeover_is_no_double() {
        assert!(doubled_at(&[(0, "a"), (5, "b")]).is_empty());
        assert!(doubled_at(&[(0, "a"), (5, "b"), (6, "b"), (40, "a")]).is_empty());
        assert!(doubled_at(&[(0, "a"), (5, "b"), (10, "c")]).is_empty());
    }

    #[test]
    fn a_return_within_the_window_is_one() {
        let doubled = doubled_at(&[(0, "a"), (5, "b"), (10, "a"), (12, "b")]);
        assert_eq!(doubled, [10, 12].map(Duration::from_millis));
    }

    #[test]
    fn lines_of_the_monitor_are_read() {
        assert_eq!(
            parse_sighting("02:74:67:00:07:00 dev u1-lan master lan "),
            Some((MAC, "u1-lan"))
        );
        for other in [
            "Deleted 02:74:67:00:07:00 dev u1-lan master lan stale",
            "6a:02:82:0a:7c:1d dev u1-lan master lan permanent",
            "",
        ] {
            assert_eq!(parse_sighting(other), None, "{other}");
        }
    }
}
