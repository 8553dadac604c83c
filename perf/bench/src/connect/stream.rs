//! The control core's side of new sessions: the ring of changes is read, and each change goes into the
//! cluster's own stream to a peer, which acknowledges every segment as it comes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use arrayvec::ArrayVec;
use cluster::sync::frame::{self, Content, Receipt};
use cluster::sync::{Limits, Output, Sync, SyncSettings};
use cluster::{Boot, Delta, RangeSet, SessionSource, Time, UnitId};
use core_affinity::CoreId;
use forward::{ControlRings, DeltaKind, DeltaNotice};
use packet::Tuple;
use rtrb::Consumer;
use session::{Reader, Session, SessionId, Timeouts};

/// What is done with the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are taken out of the ring.
    Forget,
    /// They are streamed to a peer.
    Stream,
}

/// What was done by the time the worker was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streamed {
    /// Changes that went to the peer in the order of the stream.
    pub(super) changes: u64,
}

/// A running reader.
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Streamed>>,
}

impl Running {
    /// Ends it, once the ring is empty.
    pub(super) fn finish(self) -> Result<Streamed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the reader of changes failed"))?
    }
}

/// Starts to read on a core of its own.
pub(super) fn read(
    control: ControlRings,
    table: Reader,
    core: u16,
    reading: Reading,
) -> Result<Running> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (ready, started) = channel();
    let thread = thread::Builder::new()
        .name("changes".to_owned())
        .spawn(move || {
            let id = usize::from(core);
            ensure!(
                core_affinity::set_for_current(CoreId { id }),
                "core {core} cannot be used"
            );
            let mut streamer = Streamer::new(control, table)?;
            ready.send(()).ok().context("nobody waits")?;
            while !stopped.load(Ordering::Relaxed) {
                streamer.turn(reading)?;
            }
            while streamer.turn(reading)? > 0 {}
            Ok(streamer.done)
        })?;
    // A thread that failed says so when it is joined.
    let _ = started.recv();
    Ok(Running { stop, thread })
}

/// Changes that are taken in one turn, as the daemon does.
const PER_TURN: usize = 4_096;
/// Of these, how many are read from the table at once, as there.
const AT_ONCE: usize = 32;
const SHARD: u16 = 0;
/// What a turn of the control core takes, about.
const TURN: Duration = Duration::from_micros(100);
const BOOT: Boot = Boot(1);
const PEER_BOOT: Boot = Boot(2);

struct Streamer {
    control: ControlRings,
    table: Table,
    sync: Sync,
    unit: UnitId,
    peer: UnitId,
    now: Time,
    done: Streamed,
}

impl Streamer {
    /// The stream of a primary with one peer.
    fn new(control: ControlRings, table: Reader) -> Result<Self> {
        let unit = |id| UnitId::new(id).context("not a unit");
        let (unit, peer) = (unit(1)?, unit(2)?);
        let mut sync = Sync::new(SyncSettings {
            unit,
            boot: BOOT,
            shards: 1,
            session_sync: true,
            limits: Limits::default(),
        });
        sync.primary(Some(unit), 1, Time(0));
        sync.peer_up(peer, PEER_BOOT, 1);
        Ok(Self {
            control,
            table: Table(table),
            sync,
            unit,
            peer,
            now: Time(0),
            done: Streamed::default(),
        })
    }

    /// Takes what is there; how much that was.
    fn turn(&mut self, reading: Reading) -> Result<usize> {
        if reading == Reading::Forget {
            let mut taken = 0;
            while taken < PER_TURN && self.control.deltas.pop().is_ok() {
                taken += 1;
            }
            return Ok(taken);
        }
        let room = self.sync.room().min(PER_TURN);
        let mut taken = 0;
        let sync = &mut self.sync;
        while taken < room {
            let read = self
                .table
                .take(&mut self.control.deltas, room - taken, |notice, delta| {
                    self.done.changes += 1;
                    if notice.kind == DeltaKind::Begin {
                        sync.push_born(SHARD, delta, notice.version);
                    } else {
                        sync.push(SHARD, delta);
                    }
                });
            taken += read;
            if read == 0 {
                break;
            }
        }
        let dirty = self.control.dirty.take();
        if dirty != [0; 4] {
            self.sync.overflowed(RangeSet::from_words(dirty));
        }
        self.send()?;
        Ok(taken)
    }

    /// Sends what is to be sent, and takes in the acknowledgement of the last segment, which is one of
    /// all before it.
    fn send(&mut self) -> Result<()> {
        self.now = self.now + TURN;
        let mut last = None;
        while let Some(output) = self.sync.poll(&self.table, self.now) {
            if let Output::Send { body, .. } = output {
                last = Some(body);
            }
        }
        let Some(body) = last else { return Ok(()) };
        let Content::Data { shard, number, .. } = frame::parse(&body)?.content else {
            return Ok(());
        };
        let receipt = Receipt {
            shard,
            applied: number,
            waiting: 0,
        };
        let answer = frame::acknowledge(PEER_BOOT, self.unit, BOOT, &[receipt]);
        Ok(self.sync.handle(self.peer, &answer, self.now)?)
    }
}

/// The worker's shard, as the control core reads it.
pub(crate) struct Table(Reader);

impl Table {
    pub(crate) const fn new(shard: Reader) -> Self {
        Self(shard)
    }

    /// Takes notices off a ring, some at once, and shows the changes that they are about; returns how many.
    pub(crate) fn take(
        &self,
        ring: &mut Consumer<DeltaNotice>,
        limit: usize,
        mut show: impl FnMut(&DeltaNotice, Delta),
    ) -> usize {
        let mut batch = ArrayVec::<DeltaNotice, AT_ONCE>::new();
        while batch.len() < limit.min(AT_ONCE)
            && let Ok(notice) = ring.pop()
        {
            self.0.prefetch(notice.id);
            batch.push(notice);
        }
        for notice in &batch {
            if let Some(delta) = self.delta(notice) {
                show(notice, delta);
            }
        }
        batch.len()
    }

    /// The change that a notice is about; nothing where the slot holds another session by now.
    fn delta(&self, notice: &DeltaNotice) -> Option<Delta> {
        match notice.kind {
            DeltaKind::Begin | DeltaKind::Upsert => {
                let session = self.0.get(notice.id)?;
                let remaining = remaining(&session);
                (session.tuples[0] == notice.tuple).then_some(Delta::Upsert { session, remaining })
            }
            DeltaKind::Remove => Some(Delta::Remove {
                tuple: notice.tuple,
                version: notice.version,
            }),
        }
    }
}

impl SessionSource for Table {
    fn shards(&self) -> u16 {
        1
    }

    fn slots(&self, _shard: u16) -> u32 {
        self.0.capacity()
    }

    fn read(&self, _shard: u16, slot: u32) -> Option<(Session, u32)> {
        let session = self.0.get(SessionId(slot))?;
        Some((session, remaining(&session)))
    }

    fn scan(&self, _shard: u16, slots: Range<u32>, show: &mut dyn FnMut(u32, &Session)) {
        let count = slots.end - slots.start;
        self.0
            .scan(slots.start, count, |id, session| show(id.0, &session));
    }

    fn find(&self, original: &Tuple) -> Option<(Session, u32)> {
        let (_, session) = self.0.lookup(original)?;
        (session.tuples[0] == *original).then(|| (session, remaining(&session)))
    }
}

/// All of a run's sessions are seconds old.
fn remaining(session: &Session) -> u32 {
    Timeouts::default().remaining(session, session.last_seen)
}
