//! What operators have done.

use std::sync::Arc;

use api::{ChangeView, EventLevel, ReloadResult};
use cluster::{Command, Refusal, UnitId};
use config::{Change, Config, Effect};
use dpdk::Eal;
use forward::{Snapshot, SnapshotSettings, TableCommand};
use packet::{Mac, Tuple};
use session::Timeouts;

use super::{Control, WorkerSide};
use crate::{plan, startup};

/// Sessions whose removal is handed to a worker at once: some tens of microseconds.
const CLEARED_PER_TURN: usize = 1_024;

impl Control {
    /// Hands a command to the cluster's state machine; what follows from it happens at once.
    pub(crate) fn order(&mut self, command: Command) -> Result<(), Refusal> {
        let now = self.clock.now();
        self.node.handle_command(command, now)
    }

    /// Holds this unit out, or lets it back. True when it hands over first.
    pub(crate) fn maintain(&mut self, on: bool) -> Result<bool, Refusal> {
        let hands_over = on && self.node.role() == cluster::Role::Primary;
        self.order(Command::Maintenance(on))?;
        Ok(hands_over)
    }

    /// The unit of this number, if there can be one.
    pub(crate) fn unit(id: u8) -> Option<UnitId> {
        UnitId::new(id)
    }

    /// The configuration that runs.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What a snapshot of another configuration is built with, elsewhere: it takes too long for
    /// this core.
    pub(crate) fn snapshot_parts(&self, config: &Config) -> (Arc<Eal>, SnapshotSettings) {
        let macs: Vec<_> = self
            .interfaces
            .iter()
            .map(|side| Mac(side.port.mac()))
            .collect();
        (Arc::clone(&self.eal), plan::snapshot(config, &macs))
    }

    /// Follows a new configuration, from which `snapshot` was built: all of it, or nothing.
    ///
    /// # Errors
    /// The keys whose change needs a restart.
    pub(crate) fn reload(
        &mut self,
        new: Config,
        snapshot: &Snapshot,
    ) -> Result<ReloadResult, Vec<String>> {
        let now = self.clock.now();
        let changes = config::diff(&self.config, &new);
        let frozen: Vec<_> = changes
            .iter()
            .filter(|change| change.effect == Effect::Restart)
            .map(|change| change.key.clone())
            .collect();
        if !frozen.is_empty() {
            // The caller's own goes on this core before that one is looked for, and takes nothing along.
            self.snapshot.decline(snapshot.clone());
            return Err(frozen);
        }
        let current = self.current();
        // The interfaces are the same: whatever of them changes needs a restart.
        let next = snapshot
            .with_duty(current.duty, current.term)
            .with_distribution(Arc::clone(&current.distribution));
        self.snapshot.publish(next);
        self.set_timeouts(startup::timeouts(&new.timeouts));
        self.config = new;
        self.node.handle_settings(plan::live(&self.config), now);
        let message = format!("configuration reloaded: {} changes", changes.len());
        self.events
            .record(now, EventLevel::Info, "configuration", message);
        Ok(ReloadResult {
            hash: format!("{:016x}", self.config.hash()),
            applied: changes.into_iter().map(change).collect(),
        })
    }

    /// Has the workers go by other idle times, and tells remaining times by them.
    fn set_timeouts(&mut self, timeouts: Timeouts) {
        if self.table.set_timeouts(timeouts) == timeouts {
            return;
        }
        for worker in 0..self.workers.len() {
            self.command(worker, TableCommand::Timeouts(timeouts));
        }
    }

    /// Has a worker remove the first of these sessions, by their original tuples: so many as it has room for and
    /// as cost this turn next to nothing. Returns how many.
    pub(crate) fn clear(&mut self, worker: u16, originals: &[Tuple]) -> usize {
        let worker = usize::from(worker);
        let room = self.workers.get(worker).map_or(0, WorkerSide::room);
        let cleared = originals.iter().take(room.min(CLEARED_PER_TURN));
        for tuple in cleared.clone() {
            self.command(worker, TableCommand::Clear(*tuple));
        }
        cleared.len()
    }

    /// The table, for readers that take their time.
    pub(crate) fn table(&self) -> crate::table::Table {
        self.table.clone()
    }
}

fn change(change: Change) -> ChangeView {
    ChangeView {
        key: change.key,
        from: change.from,
        to: change.to,
    }
}
