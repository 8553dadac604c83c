//! A program of somebody else's that runs beside a benchmark: told what to do by its stdin, read by
//! its stdout, stopped while it is not its turn, and ended with its owner.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to say the next line that it was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running child. Dropping it ends it.
pub(crate) struct Child {
    name: String,
    process: process::Child,
    lines: Receiver<String>,
}

impl Child {
    /// Starts a command, `name` in messages. Its stderr is read with its stdout.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self> {
        let (said, write_end) = io::pipe()?;
        let process = command
            .stdin(Stdio::piped())
            .stdout(write_end.try_clone()?)
            .stderr(write_end)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        // With it go the last write ends on this side: the reader shall see the child's end.
        drop(command);
        let (sender, lines) = channel();
        // Ends with the child, whose end closes the pipe, or with the receiver.
        thread::Builder::new()
            .name(format!("{name}-reader"))
            .spawn(move || {
                let lines = BufReader::new(said).lines().map_while(Result::ok);
                for line in lines {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            name: name.to_owned(),
            process,
            lines,
        })
    }

    /// Writes a line to its stdin.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.process.stdin.as_mut().context("stdin is closed")?;
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .with_context(|| format!("{} does not listen", self.name))
    }

    /// Reads lines until `wanted` takes one, and returns what it made of it.
    pub(crate) fn expect<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => match wanted(&line) {
                    Some(found) => return Ok(found),
                    None => last = line,
                },
                Err(RecvTimeoutError::Timeout) => bail!("{} says nothing more", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} has ended. Its last words: {last}", self.name)
                }
            }
        }
    }

    /// Takes its cores away, until [`Child::resume`].
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run.
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.context("a child without a number")?, signal)
            .with_context(|| format!("{} takes no signal", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself. SIGKILL ends a stopped process as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_and_read() {
        let mut child = Child::start("cat", Command::new("cat")).unwrap();
        child.say("one").unwrap();
        child.say("cycles 2.5").unwrap();
        let cycles: f64 = child
            .expect(|line| line.strip_prefix("cycles ")?.parse().ok())
            .unwrap();
        assert_eq!(cycles, 2.5);
        child.pause().unwrap();
        child.resume().unwrap();
        child.say("three").unwrap();
        child
            .expect(|line| (line == "three").then_some(()))
            .unwrap();
    }

    #[test]
    fn one_that_ends_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no memory; exit 1"]);
        let mut child = Child::start("sh", command).unwrap();
        let error = child.expect(|_| None::<()>).unwrap_err().to_string();
        assert_eq!(error, "sh has ended. Its last words: no memory");
    }
}
