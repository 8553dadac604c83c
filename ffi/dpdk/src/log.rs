//! What DPDK logs: to standard error or where [`log_to`] says, at most [`PER_SECOND`] lines a second, so that a
//! driver that complains about every frame cannot flood it; or into an error message, while [`capture`] listens.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::io::Write as _;
use std::slice;
use std::sync::{Mutex, OnceLock};

use crate::{Error, clock};

/// Lines a second that reach standard error.
const PER_SECOND: u32 = 20;

thread_local! {
    /// The lines that this thread caused since `capture` began; `None` while nobody listens.
    static CAPTURED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static SINK: OnceLock<fn(&str)> = OnceLock::new();

static LIMIT: Mutex<Limit> = Mutex::new(Limit {
    since: 0,
    lines: 0,
    suppressed: 0,
});

struct Limit {
    since: u64,
    lines: u32,
    suppressed: u32,
}

impl Limit {
    /// Whether a line may pass at `now`, and how many did not since the last that could.
    fn admit(&mut self, now: u64, second: u64) -> Option<u32> {
        if now.wrapping_sub(self.since) >= second {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == PER_SECOND {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Has `sink` take DPDK's lines, without their ends, instead of standard error. Any thread may call it, a worker's
/// too, so it must not wait. The first such call of a process counts.
pub fn log_to(sink: fn(&str)) {
    let _ = SINK.set(sink);
}

fn to_stderr(line: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(std::io::stderr(), "dpdk: {line}");
}

/// Makes DPDK log through here, from before EAL starts.
pub(crate) fn install() -> Result<(), Error> {
    // SAFETY: `write` keeps to the contract of a stdio stream's writer.
    match unsafe { dpdk_sys::tg_log_open(write) } {
        0 => Ok(()),
        _ => Err(Error::Start {
            cause: "its log could not be opened".to_owned(),
            remedy: "free some memory".to_owned(),
        }),
    }
}

/// Runs `work` and gives back, beside its result, what DPDK logged about it on this thread.
pub(crate) fn capture<T>(work: impl FnOnce() -> T) -> (T, String) {
    CAPTURED.with_borrow_mut(|captured| *captured = Some(Vec::new()));
    let result = work();
    let lines = CAPTURED.with_borrow_mut(Option::take).unwrap_or_default();
    (result, lines.join("; "))
}

/// The writer of DPDK's log stream. When another thread logs, the line is dropped: none waits for another.
extern "C" fn write(_cookie: *mut c_void, text: *const c_char, length: usize) -> isize {
    // SAFETY: stdio passes `length` readable bytes.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    for line in String::from_utf8_lossy(bytes)
        .lines()
        .filter(|line| !line.trim().is_empty())
    {
        take(line.trim());
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

fn take(line: &str) {
    let kept = CAPTURED.try_with(|captured| match captured.try_borrow_mut() {
        Ok(mut captured) => captured
            .as_mut()
            .map(|lines| lines.push(line.to_owned()))
            .is_some(),
        Err(_) => false,
    });
    if kept == Ok(true) {
        return;
    }
    let Ok(mut limit) = LIMIT.try_lock() else {
        return;
    };
    let Some(suppressed) = limit.admit(clock::cycles(), clock::hertz()) else {
        return;
    };
    let sink = SINK.get().copied().unwrap_or(to_stderr);
    if suppressed > 0 {
        sink(&format!("{suppressed} more lines, not shown"));
    }
    sink(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut limit = Limit {
            since: 0,
            lines: 0,
            suppressed: 0,
        };
        let passed = (0..1000)
            .filter(|now| limit.admit(*now, 1_000).is_some())
            .count();
        assert_eq!(passed, 20);
        assert_eq!(limit.admit(1_000, 1_000), Some(980));
        assert_eq!(limit.admit(1_001, 1_000), Some(0));
    }
}
