//! Timed pieces, added up until they are long enough to be believed.

use dpdk::clock;

/// A measurement in pieces, with anything in between that is not to be counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    cycles: u64,
    operations: u64,
    enough: u64,
}

impl Block {
    /// Done after that much measured time.
    pub(super) fn of_milliseconds(milliseconds: u32) -> Self {
        Self {
            cycles: 0,
            operations: 0,
            enough: clock::hertz() / 1_000 * u64::from(milliseconds),
        }
    }

    /// Times `work`. The counter costs some 40 cycles: a piece should have at least as many operations.
    pub(super) fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let begin = clock::cycles();
        let result = work();
        self.cycles += clock::cycles() - begin;
        result
    }

    /// Tells how many operations the last piece had.
    pub(super) fn count(&mut self, operations: usize) {
        self.operations += operations as u64;
    }

    pub(super) fn is_done(&self) -> bool {
        self.cycles >= self.enough
    }

    /// Cycles of one operation.
    pub(super) fn cycles_each(&self) -> f64 {
        self.cycles as f64 / self.operations as f64
    }
}
