//! The log: lines to standard error, written by a thread of its own.
//!
//! Whoever reads standard error may stop reading, and a write to it waits then. So who has something to say
//! hands the line over and goes on: the control core, whose silence peers would take for a death, and whatever
//! thread DPDK has something to tell on. Lines for which there is no room are dropped and counted.

use std::io::{self, Write};
use std::sync::OnceLock;

use core_affinity::CoreId;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait to be written: some minutes of a unit that has much to tell.
const WAITING: usize = 4_096;

/// Where this process's lines go.
static LINES: OnceLock<NonBlocking> = OnceLock::new();

/// The log of this process. Dropped, it waits a moment until everything is written that was told.
pub(crate) struct Log {
    lines: NonBlocking,
    _written: WorkerGuard,
}

impl Log {
    /// Has the log of this process, DPDK's included, go to standard error. `core` is where its thread runs: the
    /// workers' are not to be disturbed.
    pub(crate) fn to_stderr(core: u16) -> Self {
        let out = Pinned {
            out: io::stderr(),
            to: Some(CoreId { id: core.into() }),
        };
        let (lines, written) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING)
            .thread_name("log")
            .finish(out);
        let _ = LINES.set(lines.clone());
        dpdk::log_to(|line| {
            if let Some(mut lines) = LINES.get().cloned() {
                // It fails for nobody: what does not fit is counted.
                let _ = lines.write_all(format!("dpdk: {line}\n").as_bytes());
            }
        });
        Self {
            lines,
            _written: written,
        }
    }

    /// Where lines are handed over.
    pub(crate) fn lines(&self) -> NonBlocking {
        self.lines.clone()
    }
}

/// Lines of this process that were dropped.
pub(crate) fn dropped() -> u64 {
    let lost = LINES
        .get()
        .map(|lines| lines.error_counter().dropped_lines());
    lost.map_or(0, |lost| u64::try_from(lost).unwrap_or(u64::MAX))
}

/// Moves the thread that writes to a core, which only that thread can do itself.
struct Pinned<W> {
    out: W,
    /// Where to, until it is there.
    to: Option<CoreId>,
}

impl<W: Write> Write for Pinned<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(core) = self.to.take() {
            // A core that is not there is told of by the start of the data plane.
            core_affinity::set_for_current(core);
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
