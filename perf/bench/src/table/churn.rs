//! The two tables as one trait, and what is timed on both.

use anyhow::{Result, ensure};

use super::block::Block;
use super::flows::{Draw, Expected, Way};

/// Look-ups whose keys lie ready at a time: few enough to stay in the first or second cache, as keys
/// do that were just read off packets.
const LOOK_UPS: usize = 1_024;
/// Sessions that lie ready to be inserted or removed at a time.
const SESSIONS: usize = 64;
/// Sessions that are out of a table between a removal and the next insert: so many that what one of
/// them touched is no longer in the second cache when the other comes.
const OUTSIDE: usize = 65_536;

/// A table under measurement. What begins with `stage` is never timed.
pub(super) trait Table {
    /// Makes keys ready.
    fn stage_look_ups(&mut self, ways: &[Way]);
    /// Looks the staged keys up, `burst` at a time.
    fn look_up(&mut self, burst: usize);
    /// Compares the answers with what they must be.
    ///
    /// # Errors
    /// When one is wrong.
    fn check_look_ups(&self, ways: &[Way], expected: Expected) -> Result<()>;
    /// Makes sessions ready, to be inserted or removed.
    fn stage_sessions(&mut self, flows: &[u32]);
    /// Inserts the staged sessions, `burst` at a time. Answers how many could be.
    fn insert(&mut self, burst: usize) -> usize;
    /// Removes the staged sessions, `burst` at a time. Answers how many were there.
    fn remove(&mut self, burst: usize) -> usize;
    /// What follows the insertion of the staged sessions, before any other is staged.
    ///
    /// # Errors
    /// When it does not go as it must.
    fn stage_inserted(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Fills an empty table.
pub(super) fn fill(table: &mut impl Table, order: &[u32]) -> Result<()> {
    for flows in order.chunks(SESSIONS) {
        insert(table, flows, SESSIONS, None)?;
    }
    Ok(())
}

/// Cycles of one look-up.
pub(super) fn look_ups(
    table: &mut impl Table,
    draw: &mut Draw,
    burst: usize,
    mut block: Block,
) -> Result<f64> {
    while !block.is_done() {
        let ways: [Way; LOOK_UPS] = std::array::from_fn(|_| draw.way());
        table.stage_look_ups(&ways);
        block.time(|| table.look_up(burst));
        block.count(ways.len());
        table.check_look_ups(&ways, draw.expected)?;
    }
    Ok(block.cycles_each())
}

/// What of the coming and going is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    Insert,
    Remove,
}

/// Sessions coming and going in a full table, in random order: those that are out come in, then as
/// many others go out.
pub(super) struct Churn<'a> {
    order: &'a [u32],
    /// Where in `order` those that are out begin.
    next: usize,
    outside: usize,
}

impl<'a> Churn<'a> {
    /// Takes the first sessions out of a full table.
    pub(super) fn begin(table: &mut impl Table, order: &'a [u32]) -> Result<Self> {
        let outside = (order.len() / 8).clamp(1, OUTSIDE);
        let churn = Self {
            order,
            next: 0,
            outside,
        };
        for flows in churn.flows(0).chunks(SESSIONS) {
            remove(table, flows, SESSIONS, None)?;
        }
        Ok(churn)
    }

    /// Cycles of one insertion or removal.
    pub(super) fn run(
        &mut self,
        table: &mut impl Table,
        timed: Timed,
        burst: usize,
        mut block: Block,
    ) -> Result<f64> {
        while !block.is_done() {
            for flows in self.flows(0).chunks(SESSIONS) {
                let block = (timed == Timed::Insert).then_some(&mut block);
                insert(table, flows, burst, block)?;
            }
            for flows in self.flows(self.outside).chunks(SESSIONS) {
                let block = (timed == Timed::Remove).then_some(&mut block);
                remove(table, flows, burst, block)?;
            }
            self.next = (self.next + self.outside) % self.order.len();
        }
        Ok(block.cycles_each())
    }

    /// Makes the table full again, and looks whether every session is there.
    pub(super) fn end(self, table: &mut impl Table) -> Result<()> {
        for flows in self.flows(0).chunks(SESSIONS) {
            insert(table, flows, SESSIONS, None)?;
        }
        for flows in self.order.chunks(LOOK_UPS / 2) {
            let ways: Vec<Way> = flows.iter().flat_map(|&flow| Way::both(flow)).collect();
            table.stage_look_ups(&ways);
            table.look_up(SESSIONS);
            table.check_look_ups(&ways, Expected::Hit)?;
        }
        Ok(())
    }

    /// As many sessions as are out, from `skip` behind where those begin.
    fn flows(&self, skip: usize) -> Vec<u32> {
        let from = self.next + skip;
        let flows = self.order.iter().cycle().skip(from % self.order.len());
        flows.take(self.outside).copied().collect()
    }
}

fn insert(
    table: &mut impl Table,
    flows: &[u32],
    burst: usize,
    block: Option<&mut Block>,
) -> Result<()> {
    table.stage_sessions(flows);
    let done = timed(block, flows.len(), || table.insert(burst));
    ensure!(
        done == flows.len(),
        "only {done} of {} sessions could be inserted",
        flows.len()
    );
    table.stage_inserted()
}

fn remove(
    table: &mut impl Table,
    flows: &[u32],
    burst: usize,
    block: Option<&mut Block>,
) -> Result<()> {
    table.stage_sessions(flows);
    let done = timed(block, flows.len(), || table.remove(burst));
    ensure!(
        done == flows.len(),
        "only {done} of {} sessions were there to be removed",
        flows.len()
    );
    Ok(())
}

fn timed(block: Option<&mut Block>, operations: usize, work: impl FnOnce() -> usize) -> usize {
    let Some(block) = block else {
        return work();
    };
    block.count(operations);
    block.time(work)
}
