//! The concurrency primitives of the table: the standard library's, or loom's when the models run.

#[cfg(not(loom))]
pub(crate) use std::sync::Arc;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::Arc;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How often a reader spins before it lets another thread run.
#[cfg(not(loom))]
const SPINS: u32 = 64;

/// Waits a moment for the writer, as a reader's `attempt`-th retry.
///
/// A writer's critical section is some ten stores long, so spinning is enough unless the writer
/// shares the reader's core and was preempted inside one.
#[cold]
pub(crate) fn relax(attempt: u32) {
    #[cfg(not(loom))]
    if attempt < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
    #[cfg(loom)]
    {
        let _ = attempt;
        loom::thread::yield_now();
    }
}
