//! The other core: the primary's control core, and now and then a unit that joins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use cluster::{RangeSet, Time};
use core_affinity::CoreId;
use dpdk::clock;
use forward::ControlRings;
use session::{Memory, Reader};

use super::nanos;
use crate::unit::{Control, Holder};

/// When control cores begin: their state machine's time is no moment but a distance.
const START: Time = Time(1_000_000_000);

/// What the other core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// It begins, or ends the unit that joined.
    Parting,
    /// It has the primary's control core alone, which knows of no other unit.
    Alone,
    /// A unit with an empty table is there.
    Joining,
    /// That unit has sessions.
    Copying,
    /// It has all.
    Whole,
    /// The thread is to end, or has.
    Over,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Parting,
        Self::Alone,
        Self::Joining,
        Self::Copying,
        Self::Whole,
        Self::Over,
    ];
}

/// The phase, which the other core reads and writes; the worker's core only reads it, so that it stays in its
/// cache, but when it asks for something.
#[derive(Debug)]
struct Shared(AtomicU8);

impl Shared {
    fn get(&self) -> Phase {
        Phase::ALL[usize::from(self.0.load(Ordering::Acquire)) % Phase::ALL.len()]
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// Goes on to the next phase, unless it was told to do something else meanwhile.
    fn advance(&self, from: Phase, to: Phase) {
        let (from, to) = (from as u8, to as u8);
        // Told otherwise: that is what the next turn does.
        let _ = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A running other core.
pub(super) struct Beside {
    phase: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

impl Beside {
    /// Starts it; joining units have room for `capacity` sessions.
    pub(super) fn start(
        rings: ControlRings,
        table: Reader,
        capacity: u32,
        memory: Memory,
        core: u16,
    ) -> Result<Self> {
        let phase = Arc::new(Shared(AtomicU8::new(Phase::Parting as u8)));
        let shared = Arc::clone(&phase);
        let sessions = table.len();
        let start = clock::cycles();
        let mut units = Units {
            primary: Control::new(1, 1, table, START)?,
            rings,
            joiner: None,
            boots: 1,
            sessions,
            capacity,
            memory,
            start,
        };
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                let id = usize::from(core);
                let pinned = core_affinity::set_for_current(CoreId { id });
                let mut outcome = Ok(());
                while pinned && outcome.is_ok() && shared.get() != Phase::Over {
                    outcome = units.turn(&shared);
                }
                shared.set(Phase::Over);
                ensure!(pinned, "core {core} cannot be used");
                outcome
            })?;
        Ok(Self { phase, thread })
    }

    /// Asks for the primary to be alone.
    pub(super) fn part(&self) {
        self.phase.set(Phase::Parting);
    }

    /// Asks for a unit to join the primary, which is alone.
    pub(super) fn join(&self) {
        self.phase.set(Phase::Joining);
    }

    /// What it does now.
    ///
    /// # Errors
    /// When it has ended.
    #[inline]
    pub(super) fn phase(&self) -> Result<Phase> {
        let phase = self.phase.get();
        ensure!(phase != Phase::Over, "the control cores have failed");
        Ok(phase)
    }

    /// Ends it; says how it fared.
    pub(super) fn finish(self) -> Result<()> {
        self.phase.set(Phase::Over);
        self.thread
            .join()
            .map_err(|_| anyhow!("the control cores' thread failed"))?
    }
}

/// The control cores.
struct Units {
    primary: Control,
    rings: ControlRings,
    joiner: Option<Holder>,
    boots: u64,
    /// Sessions that the primary holds.
    sessions: u32,
    capacity: u32,
    memory: Memory,
    start: u64,
}

impl Units {
    fn now(&self) -> Time {
        Time(START.0 + nanos(clock::cycles() - self.start))
    }

    fn turn(&mut self, phase: &Shared) -> Result<()> {
        let now = self.now();
        self.exchange(now)?;
        match phase.get() {
            Phase::Parting => {
                self.joiner = None;
                let status = self.primary.node.status(now);
                let leads = status.role == cluster::Role::Primary;
                if leads && status.peers.iter().all(|peer| !peer.alive) {
                    phase.advance(Phase::Parting, Phase::Alone);
                }
            }
            Phase::Joining => match &self.joiner {
                None => self.join()?,
                Some(joiner) if !joiner.shard.is_empty() => {
                    phase.advance(Phase::Joining, Phase::Copying);
                }
                Some(_) => {}
            },
            Phase::Copying => {
                let joiner = self.joiner.as_ref().context("nobody joins")?;
                if joiner.is_whole(self.sessions, now) && self.primary.leads(now) {
                    phase.advance(Phase::Copying, Phase::Whole);
                }
            }
            Phase::Alone | Phase::Whole | Phase::Over => {}
        }
        Ok(())
    }

    /// Lets a unit begin.
    fn join(&mut self) -> Result<()> {
        self.boots += 1;
        let (boot, now) = (self.boots, self.now());
        let joiner = Holder::new(2, boot, self.capacity, self.memory, now)?;
        self.joiner = Some(joiner);
        Ok(())
    }

    /// A turn of each control core, and of the worker of the unit that joins.
    fn exchange(&mut self, now: Time) -> Result<()> {
        let Self {
            primary,
            rings,
            joiner,
            ..
        } = self;
        primary.take_changes(&mut rings.deltas, now);
        let dirty = rings.dirty.take();
        if dirty != [0; 4] {
            primary.node.overflowed(RangeSet::from_words(dirty));
        }
        primary.poll(now, |_| Ok(()))?;
        match joiner {
            Some(joiner) => {
                joiner.receive(&mut primary.sent, now)?;
                joiner.apply();
                primary.take_frames(&mut joiner.control.sent, now);
            }
            None => primary.sent.lose(),
        }
        Ok(())
    }
}
