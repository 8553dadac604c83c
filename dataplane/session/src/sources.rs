//! How many sessions each source has opened, in bounded memory. Belongs to the writer.
//!
//! A count-min sketch of two rows (Cormode and Muthukrishnan, 2005). Sessions leave again, so the
//! counts are exact sums: an estimate is never below the truth, and above it only by what others add
//! in both of a source's cells. With as many cells in a row as the shard has slots, a source with
//! few sessions is refused early only if two heavy sources share its cells, one in each row: for `h`
//! sources at their limit the chance is about `(h / capacity)^2`.

use crate::memory;

/// The sketch and the limit.
pub(crate) struct Sources {
    limit: u32,
    rows: [Vec<u32>; 2],
}

impl Sources {
    pub(crate) fn new(limit: u32, capacity: u32) -> Self {
        let row = vec![0; (capacity as usize).next_power_of_two().max(1_024)];
        Self {
            limit,
            rows: [row.clone(), row],
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows
            .iter()
            .map(|row| size_of_val(row.as_slice()))
            .sum()
    }

    /// Asks for the cells of the source with this hash.
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

    #[expect(clippy::cast_possible_truncation, reason = "halves of a hash")]
    fn cells(&self, hash: u64) -> [usize; 2] {
        let mask = self.rows[0].len() - 1;
        [
            hash as u32 as usize & mask,
            (hash >> 32) as u32 as usize & mask,
        ]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_exhausted_at_its_limit_and_not_after_a_session_left() {
        let mut sources = Sources::new(2, 16);
        let (one, other) = (0x0000_0001_0000_0001, 0x0000_0002_0000_0002);
        sources.add(one);
        assert!(!sources.is_exhausted(one));
        sources.add(one);
        assert!(sources.is_exhausted(one) && !sources.is_exhausted(other));
        sources.subtract(one);
        assert!(!sources.is_exhausted(one));
    }

    #[test]
    fn one_shared_cell_does_no_harm() {
        let mut sources = Sources::new(1, 16);
        sources.add(0x0000_0001_0000_0001);
        assert!(!sources.is_exhausted(0x0000_0002_0000_0001));
        assert!(!sources.is_exhausted(0x0000_0001_0000_0002));
    }
}
