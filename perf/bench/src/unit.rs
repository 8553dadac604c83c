//! Units of a cluster without their workers' packets: control cores with the cluster's own state machine,
//! and the tables that they copy.
//!
//! Who owns them turns them, one after the other, and decides how much time has passed. Frames lie where their
//! sender has put them until the other one takes them.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use cluster::{
    Action, Boot, Delta, Key, LinkId, LinkKind, LinkSettings, Node, Role, Schedule, Settings, Time,
    UnitId, envelope,
};
use forward::{
    COMMANDS_AT_ONCE, DeltaKind, DeltaNotice, RingSizes, TableCommand, prefetch_commands,
};
use rtrb::{Consumer, Producer, RingBuffer};
use session::{Memory, Reader, Shard, Tick};

use crate::connect::stream::Table;

/// Sessions that are copied do not age.
pub(crate) const NOW: Tick = Tick::START;

/// Frames on their way, in buffers that are used again.
#[derive(Default)]
pub(crate) struct Frames {
    waiting: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

impl Frames {
    fn put(&mut self, payload: &[u8]) {
        let mut buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(1_514));
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.waiting.push_back(buffer);
    }

    /// Nobody gets them.
    pub(crate) fn lose(&mut self) {
        self.free.extend(self.waiting.drain(..));
    }
}

/// The control core of a unit.
pub(crate) struct Control {
    pub(crate) node: Node,
    table: Table,
    /// Frames that it has sent.
    pub(crate) sent: Frames,
}

impl Control {
    /// That of unit `id`, whose only shard is read by `table`.
    pub(crate) fn new(id: u8, boot: u64, table: Reader, now: Time) -> Result<Self> {
        let mut node = Node::new(settings(id, boot)?, now)?;
        node.handle_link(LinkId(0), true, now);
        node.handle_workers(true, now);
        Ok(Self {
            node,
            table: Table::new(table),
            sent: Frames::default(),
        })
    }

    /// Takes the worker's changes off their ring.
    pub(crate) fn take_changes(&mut self, ring: &mut Consumer<DeltaNotice>, now: Time) {
        let node = &mut self.node;
        let mut push = |notice: &DeltaNotice, delta| {
            if notice.kind == DeltaKind::Begin {
                node.push_born(0, delta, notice.version, now);
            } else {
                node.push(0, delta, now);
            }
        };
        while self.table.take(ring, usize::MAX, &mut push) > 0 {}
    }

    /// Takes in what another one has sent.
    pub(crate) fn take_frames(&mut self, frames: &mut Frames, now: Time) {
        while let Some(frame) = frames.waiting.pop_front() {
            self.node.handle_frame(LinkId(0), &frame, now);
            frames.free.push(frame);
        }
    }

    /// Does what the state machine says; `command` is what the worker is to do.
    pub(crate) fn poll(
        &mut self,
        now: Time,
        mut command: impl FnMut(TableCommand) -> Result<()>,
    ) -> Result<()> {
        while let Some(action) = self.node.poll(&self.table, now) {
            match action {
                Action::Send { payload, .. } => self.sent.put(&payload),
                Action::Apply { delta, .. } => command(match delta {
                    Delta::Upsert { session, remaining } => TableCommand::Apply(session, remaining),
                    Delta::Remove { tuple, version } => TableCommand::Retract(tuple, version),
                })?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it is the primary, and `peer` has everything that it has sent.
    pub(crate) fn leads(&self, now: Time) -> bool {
        let status = self.node.status(now);
        let mut peers = status.peers.iter();
        status.role == Role::Primary
            && peers.any(|peer| peer.alive && peer.lag.deltas == 0 && peer.lag.segments == 0)
    }
}

/// A unit that holds copies: its control core, its table, and the ring between them.
pub(crate) struct Holder {
    pub(crate) control: Control,
    pub(crate) shard: Shard,
    commands: (Producer<TableCommand>, Consumer<TableCommand>),
}

impl Holder {
    /// An empty one with room for `sessions`.
    pub(crate) fn new(id: u8, boot: u64, sessions: u32, memory: Memory, now: Time) -> Result<Self> {
        let shard = Shard::new(session::Settings::new(sessions), memory)?;
        Ok(Self {
            control: Control::new(id, boot, shard.reader(), now)?,
            shard,
            commands: RingBuffer::new(RingSizes::default().commands),
        })
    }

    /// The control core's turn: takes in what another unit has sent, and does what follows.
    pub(crate) fn receive(&mut self, frames: &mut Frames, now: Time) -> Result<()> {
        self.control.take_frames(frames, now);
        let commands = &mut self.commands.0;
        self.control.poll(now, |command| {
            let pushed = commands.push(command);
            pushed.ok().context("the ring of commands is full")
        })
    }

    /// The worker's turn.
    pub(crate) fn apply(&mut self) {
        let mut commands = ArrayVec::<TableCommand, COMMANDS_AT_ONCE>::new();
        loop {
            while !commands.is_full()
                && let Ok(command) = self.commands.1.pop()
            {
                commands.push(command);
            }
            if commands.is_empty() {
                return;
            }
            prefetch_commands(&self.shard, &commands);
            for command in commands.drain(..) {
                self.obey(command);
            }
        }
    }

    fn obey(&mut self, command: TableCommand) {
        match command {
            TableCommand::Apply(session, remaining) => {
                self.shard.apply(&session, remaining, NOW);
            }
            TableCommand::Retract(tuple, version) => {
                self.shard.retract(&tuple, version);
            }
            TableCommand::Restate(_) | TableCommand::Clear(_) | TableCommand::Timeouts(_) => {}
        }
    }

    /// Whether it holds all that its primary does, `sessions` at least, and has entered it.
    pub(crate) fn is_whole(&self, sessions: u32, now: Time) -> bool {
        let status = self.control.node.status(now);
        status.synced
            && status.primary.is_some()
            && self.shard.len() >= sessions
            && self.commands.1.is_empty()
    }
}

fn settings(id: u8, boot: u64) -> Result<Settings> {
    Ok(Settings {
        cluster: 7,
        unit: UnitId::new(id).context("not a unit")?,
        name: format!("unit-{id}"),
        priority: 255 - id,
        preempt: false,
        heartbeat_interval: Duration::from_millis(10),
        heartbeat_loss: 3,
        hello_holddown: Duration::from_millis(100),
        age_margin: Duration::from_secs(300),
        announce_count: 0,
        announce_interval: Duration::from_secs(1),
        key: Key::new([1; Key::LEN]),
        boot: Boot(boot),
        last_term: 0,
        links: vec![LinkSettings {
            name: "sync".to_owned(),
            kind: LinkKind::Sync,
            weight: 1,
        }],
        config_hash: 1,
        config_parts: Vec::new(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        session_sync: true,
        shards: 1,
        witness: None,
        schedule: Schedule::None,
        weight: 1,
        stations: Vec::new(),
        protocol: envelope::VERSION,
    })
}
