//! Timers: sessions that end, and sessions that are looked at and go on.

use anyhow::{Result, ensure};
use session::{
    Ageing as Verdict, Direction, Hit, Memory, SessionId, Settings, Shard, State, Tick, Timeouts,
};

use super::block::Block;
use super::flows::{Random, flow_of, shuffled};
use super::ours::session;

/// Timers that a worker looks at in one turn.
const BUDGET: usize = 64;
/// Timers that should be due in one timed piece.
const PIECE: u32 = 64;

/// A full shard in the middle of its life.
pub(super) struct Ageing {
    shard: Shard,
    now: Tick,
    /// Idle time of the sessions, in ticks.
    idle: u32,
    /// Ticks of a timed piece.
    step: u32,
    /// Slots in the order in which packets come for them.
    order: Vec<u32>,
    expired: Vec<u32>,
}

impl Ageing {
    /// `sessions` that were opened at random moments of the time that they may be idle.
    pub(super) fn new(sessions: u32, memory: Memory) -> Result<Self> {
        let idle = Timeouts::default().of(State::Replied, 17);
        let mut shard = Shard::new(Settings::new(sessions), memory)?;
        let mut random = Random::new();
        for flow in 0..sessions {
            open(&mut shard, flow, Tick::START.plus(random.below(idle)))?;
        }
        Ok(Self {
            shard,
            now: Tick::START.plus(idle),
            idle,
            step: (PIECE * idle / sessions).max(1),
            order: shuffled(sessions),
            expired: Vec::new(),
        })
    }

    /// Cycles of one session that expires. Those that do are opened again at once.
    pub(super) fn expire(&mut self, mut block: Block) -> Result<f64> {
        while !block.is_done() {
            self.now = self.now.plus(self.step);
            let looked = block.time(|| age(&mut self.shard, self.now, &mut self.expired));
            block.count(looked);
            ensure!(
                looked == self.expired.len(),
                "{looked} timers were due, but {} sessions ended",
                self.expired.len()
            );
            for flow in self.expired.drain(..) {
                open(&mut self.shard, flow, self.now)?;
            }
        }
        Ok(block.cycles_each())
    }

    /// Lets packets come for all sessions, so that from now on none of them ends.
    pub(super) fn settle(&mut self) -> Result<()> {
        let until = self.now.plus(2 * self.idle);
        for &slot in &self.order {
            touch(&mut self.shard, slot, self.now);
        }
        while self.now < until {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Cycles of one look at a timer that is due while its session is in use. Packets come for each
    /// session twice in the time that it may be idle.
    pub(super) fn put_back(&mut self, mut block: Block) -> Result<f64> {
        while !block.is_done() {
            self.turn(Some(&mut block))?;
        }
        Ok(block.cycles_each())
    }

    fn turn(&mut self, block: Option<&mut Block>) -> Result<()> {
        self.now = self.now.plus(self.step);
        let period = u64::from(self.idle / 2);
        let count = self.order.len() as u64;
        // Which packets come in the ticks of this step: the n-th of `period` parts of all slots.
        let end = u64::from(self.now.0) * count / period;
        let begin = u64::from(self.now.0 - self.step) * count / period;
        for packet in begin..end.min(begin + count) {
            let slot = self.order[usize::try_from(packet % count)?];
            touch(&mut self.shard, slot, self.now);
        }
        let mut work = || age(&mut self.shard, self.now, &mut self.expired);
        match block {
            None => work(),
            Some(block) => {
                let looked = block.time(work);
                block.count(looked);
                looked
            }
        };
        ensure!(
            self.expired.is_empty(),
            "sessions in use ended: {:?}",
            self.expired
        );
        Ok(())
    }
}

/// Looks at all timers that are due at `now`, as a worker does turn by turn; answers how many.
fn age(shard: &mut Shard, now: Tick, expired: &mut Vec<u32>) -> usize {
    let mut all = 0;
    loop {
        let looked = shard.age(
            now,
            BUDGET,
            |_| Verdict::Normal,
            |_, session| expired.push(flow_of(&session.tuples[0])),
        );
        all += looked;
        if looked < BUDGET {
            return all;
        }
    }
}

/// Opens an answered session.
fn open(shard: &mut Shard, flow: u32, now: Tick) -> Result<()> {
    let session = session::Session {
        state: State::Replied,
        version: shard.next_version(1),
        ..session(flow)
    };
    let inserted = shard.insert(session, now);
    ensure!(inserted.is_ok(), "session {flow}: {inserted:?}");
    Ok(())
}

fn touch(shard: &mut Shard, slot: u32, now: Tick) {
    let hit = Hit::new(SessionId(slot), Direction::Original);
    shard.touch(hit, now);
}
