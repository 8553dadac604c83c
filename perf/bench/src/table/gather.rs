//! The limit of any table: cache lines at random, all of a burst's misses in flight together.

use anyhow::{Context, Result, ensure};
use dpdk::{Eal, Line, Lines};

use super::block::Block;
use super::flows::Random;

const BURST: usize = 32;
/// Lines whose numbers lie ready at a time.
const READY: usize = 1_024;
/// Bytes for one session that look-ups may read at the most.
const BYTES_PER_SESSION: u64 = 192;

/// Memory to gather from; each line holds its number.
pub(super) struct Gather {
    lines: Lines,
    random: Random,
}

impl Gather {
    /// `bytes` of memory, rounded down to lines.
    pub(super) fn new(eal: &Eal, bytes: usize) -> Result<Self> {
        let mut lines =
            Lines::new(eal, bytes / size_of::<Line>()).context("memory to gather from")?;
        for (number, line) in lines.iter_mut().enumerate() {
            line.0[0] = number as u64;
        }
        Ok(Self {
            lines,
            random: Random::new(),
        })
    }

    /// An upper bound of what is needed beside a table of `sessions`.
    pub(super) fn bytes(sessions: u32) -> u64 {
        BYTES_PER_SESSION * u64::from(sessions)
    }

    /// Cycles of one line.
    pub(super) fn run(&mut self, mut block: Block) -> Result<f64> {
        let count = u32::try_from(self.lines.len())?;
        while !block.is_done() {
            let numbers: [usize; READY] =
                std::array::from_fn(|_| self.random.below(count) as usize);
            let lines = &self.lines;
            let sum: u64 =
                block.time(|| numbers.chunks(BURST).map(|some| gather(lines, some)).sum());
            block.count(READY);
            let expected: usize = numbers.iter().sum();
            ensure!(
                sum == expected as u64,
                "the lines that were gathered are not those asked for"
            );
        }
        Ok(block.cycles_each())
    }
}

/// The sum of what stands in the lines.
fn gather(lines: &Lines, numbers: &[usize]) -> u64 {
    for &number in numbers {
        lines.prefetch(number);
    }
    numbers.iter().map(|&number| lines[number].0[0]).sum()
}
