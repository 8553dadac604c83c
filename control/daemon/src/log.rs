//! The log: lines to standard error, written by a thread of its own.
//!
//! Whoever reads standard error may stop reading, and a write to it waits then. So who has something to say
//! hands the line over and goes on: the control core, whose silence peers would take for a death, and whatever
//! thread DPDK has something to tell on. Lines for which there is no room are dropped and counted, and the
//! first line that comes out after them says how many they were.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

/// Lines that wait to be written: some minutes of a unit that has much to tell.
const WAITING: usize = 4_096;
/// How long the end of the process waits for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where this process's lines go.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The log of this process. Dropped, it waits a moment until everything is written that was told.
pub(crate) struct Log(Queue);

impl Log {
    /// Has the log of this process, DPDK's included, go to standard error. `core` is where its thread runs: the
    /// workers' are not to be disturbed.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn to_stderr(core: u16) -> io::Result<Self> {
        let queue = Queue::start(io::stderr(), Some(core))?;
        let _ = QUEUE.set(queue.clone());
        dpdk::log_to(|line| offer(format!("dpdk: {line}\n")));
        Ok(Self(queue))
    }

    /// Where lines are handed over.
    pub(crate) fn queue(&self) -> Queue {
        self.0.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush();
    }
}

fn offer(line: String) {
    if let Some(queue) = QUEUE.get() {
        queue.offer(line.into_bytes());
    }
}

/// Lines of this process that were dropped.
pub(crate) fn dropped() -> u64 {
    QUEUE
        .get()
        .map_or(0, |queue| queue.dropped.load(Ordering::Relaxed))
}

enum Entry {
    Line(Vec<u8>),
    /// All before it is to be written, then its sender dropped.
    Mark(Sender<()>),
}

/// The lines on their way to the thread that writes them.
#[derive(Clone)]
pub(crate) struct Queue {
    entries: Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn start(out: impl Write + Send + 'static, core: Option<u16>) -> io::Result<Self> {
        let (entries, waiting) = bounded(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                if let Some(id) = core.map(usize::from) {
                    // A core that is not there is told of by the start of the data plane.
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                write_all(out, &waiting, &lost);
            })?;
        Ok(Self { entries, dropped })
    }

    /// Hands a line over, with its end; never waits.
    fn offer(&self, line: Vec<u8>) {
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over is written, but not for ever.
    fn flush(&self) {
        let (mark, written) = bounded(0);
        if self
            .entries
            .send_timeout(Entry::Mark(mark), PATIENCE)
            .is_ok()
        {
            // An error means that the mark was dropped, or that nobody takes the lines.
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// A whole line in each call, as `tracing_subscriber` makes them.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes until nobody can send any more.
fn write_all(mut out: impl Write, waiting: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut told = 0;
    for entry in waiting {
        let line = match entry {
            Entry::Line(line) => line,
            Entry::Mark(mark) => {
                drop(mark);
                continue;
            }
        };
        let lost = dropped.load(Ordering::Relaxed);
        // Nobody is left to be told when standard error is gone.
        if lost > told {
            let notice = format!("{} lines of the log were dropped here\n", lost - told);
            let _ = out.write_all(notice.as_bytes());
            told = lost;
        }
        let _ = out.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    /// Takes nothing before it is released.
    struct Stalled {
        released: mpsc::Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Released by dropping the sender.
            let _ = self.released.recv();
            self.text.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wait_for(condition: impl Fn() -> bool) {
        for _ in 0..30_000 {
            if condition() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("not within 30 s");
    }

    #[test]
    fn who_tells_something_waits_for_no_reader_and_what_is_lost_is_said() {
        const TOLD: usize = 3 * WAITING;
        let (release, released) = mpsc::channel();
        let text = Arc::default();
        let out = Stalled {
            released,
            text: Arc::clone(&text),
        };
        let mut queue = Queue::start(out, None).unwrap();
        for number in 0..TOLD {
            queue.offer(format!("line {number}\n").into_bytes());
        }
        let dropped = queue.dropped.load(Ordering::Relaxed);
        // One line more than wait may be on its way out.
        let kept = TOLD - usize::try_from(dropped).unwrap();
        assert!((WAITING..=WAITING + 1).contains(&kept), "{kept}");
        Queue::flush(&queue);
        assert!(text.lock().unwrap().is_empty(), "the reader takes nothing");

        drop(release);
        let written = || String::from_utf8(text.lock().unwrap().clone()).unwrap();
        wait_for(|| queue.entries.is_empty());
        queue.write_all(b"the last\n").unwrap();
        wait_for(|| written().ends_with("the last\n"));
        let text = written();
        let notice = format!("{dropped} lines of the log were dropped here");
        // It comes before the first line or the second, as the thread was quicker or the test.
        let (notices, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| *line == notice);
        assert_eq!((notices.len(), lines.len()), (1, kept + 1));
        assert_eq!((lines[0], lines[kept]), ("line 0", "the last"));
    }
}
