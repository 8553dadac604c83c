//! What the demonstration says on the terminal, and the thread that watches the units' roles.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock;
use crate::lab::Lab;

/// How often the watch asks the units for their roles.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[0m";

/// Prints one line at a time with the time since the start, in colour on a terminal only.
#[derive(Debug)]
pub(crate) struct Narrator {
    start: Instant,
    colour: bool,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        Self {
            start: clock::now(),
            colour: stdout().is_terminal(),
        }
    }

    /// Tells what happened just now.
    pub(crate) fn say(&self, text: impl Display) {
        self.line("", &format!("{:6.2} s  {text}", self.elapsed()));
    }

    /// Tells what everybody should notice.
    pub(crate) fn stress(&self, text: impl Display) {
        self.line(YELLOW, &format!("{:6.2} s  {text}", self.elapsed()));
    }

    /// Prints a line of the report.
    pub(crate) fn report(&self, text: impl Display) {
        self.line("", &text.to_string());
    }

    /// Prints a line of the report that tells whether something is as it should be.
    pub(crate) fn check(&self, good: bool, text: impl Display) {
        let (colour, mark) = if good {
            (GREEN, "ok    ")
        } else {
            (RED, "FAILED")
        };
        self.line(colour, &format!("{mark}  {text}"));
    }

    fn elapsed(&self) -> f32 {
        (clock::now() - self.start).as_secs_f32()
    }

    fn line(&self, colour: &str, text: &str) {
        let (before, after) = if self.colour && !colour.is_empty() {
            (colour, PLAIN)
        } else {
            ("", "")
        };
        // If nobody reads, the demonstration still has to clean up.
        let _ = writeln!(stdout(), "{before}{text}{after}");
    }
}

/// Tells of every change of a unit's role, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start(lab: &Arc<Lab>, narrator: &Arc<Narrator>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, lab, narrator) = (Arc::clone(&stop), Arc::clone(lab), Arc::clone(narrator));
        let thread = Some(thread::spawn(move || watch(&lab, &narrator, &flag)));
        Self { stop, thread }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It only prints; if it panicked, that was printed too.
            let _ = thread.join();
        }
    }
}

fn watch(lab: &Lab, narrator: &Narrator, stop: &AtomicBool) {
    let mut known = vec![String::new(); lab.units().len()];
    while !stop.load(Ordering::Acquire) {
        for (unit, known) in lab.units().iter().zip(&mut known) {
            let now = match (unit.process(), unit.status()) {
                (None, _) => "down".to_owned(),
                (Some(_), Ok(status)) => format!("{} (term {})", status.role, status.term),
                (Some(_), Err(_)) => continue,
            };
            if now != *known {
                narrator.say(format!("  {}: {now}", unit.name()));
                *known = now;
            }
        }
        thread::sleep(WATCH_INTERVAL);
    }
}
