//! A sequence lock over relaxed atomics (Boehm, "Can seqlocks get along with programming language
//! memory models?", 2012): one writer that never waits, any number of readers that retry.
//!
//! The count is odd while the writer is inside. It wraps after 2^31 writes: a reader would have to
//! sleep through exactly that many to be deceived.

use crate::concurrency::{AtomicU32, Ordering, fence, relax};

/// Counts the writer's critical sections, twice each.
#[repr(transparent)]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Sequence(AtomicU32);

impl Sequence {
    /// Runs `change`, which stores relaxed, so that readers see all of it or nothing. Only the
    /// single writer may call this.
    #[inline]
    pub(crate) fn write(&self, change: impl FnOnce()) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        change();
        self.0.store(before.wrapping_add(2), Ordering::Release);
    }

    /// The count, once the writer is outside.
    pub(crate) fn begin(&self) -> u32 {
        let mut attempt = 0;
        loop {
            let count = self.0.load(Ordering::Acquire);
            if count & 1 == 0 {
                return count;
            }
            relax(attempt);
            attempt = attempt.saturating_add(1);
        }
    }

    /// True when the writer has not been inside since [`Self::begin`] returned `count`.
    pub(crate) fn unchanged(&self, count: u32) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == count
    }

    /// Runs `look`, which loads relaxed, until no write came in between.
    pub(crate) fn read<T>(&self, mut look: impl FnMut() -> T) -> T {
        let mut attempt = 0;
        loop {
            let count = self.begin();
            let seen = look();
            if self.unchanged(count) {
                return seen;
            }
            relax(attempt);
            attempt = attempt.saturating_add(1);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_reader_never_sees_half_a_write() {
        loom::model(|| {
            let shared = Arc::new((Sequence::default(), AtomicU32::new(0), AtomicU32::new(0)));
            let writer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for value in 1..=2 {
                        shared.0.write(|| {
                            shared.1.store(value, Ordering::Relaxed);
                            shared.2.store(value, Ordering::Relaxed);
                        });
                    }
                })
            };
            let (a, b) = shared.0.read(|| {
                (
                    shared.1.load(Ordering::Relaxed),
                    shared.2.load(Ordering::Relaxed),
                )
            });
            assert_eq!(a, b);
            writer.join().unwrap();
            assert_eq!(shared.0.begin(), 4);
        });
    }
}
