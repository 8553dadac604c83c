//! How many sessions each source has opened, in bounded memory. Belongs to the writer.
//!
//! A count-min sketch of two rows (Cormode and Muthukrishnan, 2005). Sessions leave again, so the
//! counts are exact sums: an estimate is never below the truth, and above it only by what others add
//! in both of a source's cells. With half as many cells in a row as the shard has slots, a source with
//! few sessions is refused early only if two heavy sources share its cells, one in each row: for `h`
//! sources at their limit the chance is about `(2h / capacity)^2`.

use crate::key::{high, low};
use crate::memory::{self, Array, Memory, OutOfMemory};

/// The fewest cells of a row.
const LEAST: usize = 512;

/// The sketch and the limit.
pub(crate) struct Sources {
    limit: u32,
    rows: [Array<u32>; 2],
}

impl Sources {
    pub(crate) fn new(limit: u32, capacity: u32, memory: Memory) -> Result<Self, OutOfMemory> {
        let cells = (capacity as usize).div_ceil(2).max(LEAST);
        let row = || Array::new(cells, memory);
        Ok(Self {
            limit,
            rows: [row()?, row()?],
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| size_of_val::<[u32]>(row)).sum()
    }

    /// Asks for the cells of the source with this hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        for (cell, row) in self.cells(hash).into_iter().zip(&self.rows) {
            memory::prefetch(&row[cell]);
        }
    }

    /// True when the source with this hash may not open another session.
    pub(crate) fn is_exhausted(&self, hash: u64) -> bool {
        let counts = self
            .cells(hash)
            .into_iter()
            .zip(&self.rows)
            .map(|(cell, row)| row[cell]);
        counts.min().is_some_and(|count| count >= self.limit)
    }

    pub(crate) fn add(&mut self, hash: u64) {
        for (cell, row) in self.cells(hash).into_iter().zip(&mut self.rows) {
            row[cell] = row[cell].saturating_add(1);
        }
    }

    pub(crate) fn subtract(&mut self, hash: u64) {
        for (cell, row) in self.cells(hash).into_iter().zip(&mut self.rows) {
            row[cell] = row[cell].saturating_sub(1);
        }
    }

    /// A cell of each row, by a half of the hash each.
    fn cells(&self, hash: u64) -> [usize; 2] {
        let cells = self.rows[0].len() as u64;
        [low(hash), high(hash)].map(|half| high(u64::from(half) * cells) as usize)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_exhausted_at_its_limit_and_not_after_a_session_left() {
        let mut sources = Sources::new(2, 16, Memory::Plain).unwrap();
        let (one, other) = (0x1000_0000_1000_0000, 0x2000_0000_2000_0000);
        sources.add(one);
        assert!(!sources.is_exhausted(one));
        sources.add(one);
        assert!(sources.is_exhausted(one) && !sources.is_exhausted(other));
        sources.subtract(one);
        assert!(!sources.is_exhausted(one));
    }

    #[test]
    fn one_shared_cell_does_no_harm() {
        let mut sources = Sources::new(1, 16, Memory::Plain).unwrap();
        sources.add(0x1000_0000_1000_0000);
        assert!(!sources.is_exhausted(0x2000_0000_1000_0000));
        assert!(!sources.is_exhausted(0x1000_0000_2000_0000));
    }
}
