//! A process of the lab, told apart from a later one that was given the same number.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::clock::{Found, wait_for};

/// How long a killed process may take to vanish.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// A process by its number and its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    started: u64,
}

impl ProcessId {
    /// The living process of that number.
    pub fn of(pid: i32) -> Option<Self> {
        let Stat { started, .. } = read_stat(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it still lives. One that has ended but was not waited for does not; one whose main
    /// thread has ended before the others does, and holds its sockets open.
    pub fn is_alive(self) -> bool {
        read_stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.has_ended())
    }

    /// Sends it a signal. One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid).context("a process number is positive")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("process {} was not signalled", self.pid))
            }
        }
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it does not vanish within ten seconds.
    pub fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_gone(DEATH_LIMIT)
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it still lives after `limit`.
    pub fn wait_gone(self, limit: Duration) -> Result<()> {
        wait_for("a process to end", limit, || {
            Ok(if self.is_alive() {
                Found::NotYet(format!("process {} still lives", self.pid))
            } else {
                Found::Yes(())
            })
        })
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Of its main thread.
    state: char,
    /// How many are left, the main thread included.
    threads: u32,
    /// When it started, in the kernel's ticks since boot.
    started: u64,
}

impl Stat {
    fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may itself hold parentheses and spaces, so fields count from the last.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // That was field 3; the threads are field 20, and the start time is field 22.
    let threads = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        state,
        threads,
        started,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        let expected = Stat {
            state: 'S',
            threads: 17,
            started: 4711,
        };
        assert_eq!(parse_stat(stat), Some(expected));
    }

    #[test]
    fn a_process_has_ended_with_its_last_thread() {
        let stat = |state, threads| Stat {
            state,
            threads,
            started: 1,
        };
        assert!(stat('Z', 1).has_ended());
        assert!(!stat('Z', 2).has_ended(), "another thread is still dying");
        assert!(!stat('R', 1).has_ended());
    }

    #[test]
    fn a_killed_process_is_dead_before_it_is_waited_for() {
        let mut child = Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep exists");
        let pid = i32::try_from(child.id()).expect("process numbers are small");
        let process = ProcessId::of(pid).expect("it lives");
        assert!(process.is_alive());
        process.kill().expect("our own child");
        assert!(!process.is_alive());
        child.wait().expect("it ended");
        assert_eq!(ProcessId::of(pid), None);
    }
}
