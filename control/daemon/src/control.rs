//! The control core: one thread that decides. It feeds the cluster's state machine with what
//! happened and carries out what that says; it never touches a user's packet except to hold one
//! that waits for a neighbour.
//!
//! One turn takes in everything that is there, lets the state machines run, and tells when it wants
//! to be called again. Operators reach it by closures that run between two turns, so no view of it
//! is ever half old.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cluster::{LinkId, Node, Settings, Time, UnitId};
use config::Config;
use crossbeam::channel::Receiver;
use dpdk::{Burst, Eal, Mbuf, Port};
use forward::{
    DeltaNotice, DirtyRanges, Injected, InterfaceId, Neighbours, Publisher, Punted, Snapshot,
    TableCommand, WorkerCounters,
};
use packet::Mac;
use rtrb::{Consumer, Producer};
use session::Version;

use crate::bounce::Bounce;
use crate::carrier::CarrierChange;
use crate::claim::Claim;
use crate::clock::{Clock, boot, tick};
use crate::conflicts::Conflicts;
use crate::counters::ControlCounters;
use crate::events::Events;
use crate::host::Host;
use crate::last_term::LastTerm;
use crate::monitor::Monitor;
use crate::outgoing::Outgoing;
use crate::reclaim::Reclaimer;
use crate::silence::Silence;
use crate::startup::{self, Started, WorkerHandle};
use crate::strangers::Strangers;
use crate::table::Table;
use crate::withheld::Withheld;
use crate::witness::Witness;
use crate::{bounce, carrier, plan, workers};

mod act;
mod announcing;
mod hand_over;
mod intake;
mod monitors;
mod operate;
mod report;
mod witness;

/// Longest pause: what a frame or an operator waits at most. Also where workers spin, since nothing
/// that is decided here is worth a core that only looks: what must not wait, workers do themselves.
const LONGEST_PAUSE: Duration = Duration::from_micros(500);
/// A worker that did not turn for so long is stuck. Above what a busy machine keeps a thread waiting.
const WORKER_PATIENCE: Duration = Duration::from_millis(250);
/// How long a start waits to learn how its links and workers are.
const STOCKTAKING: Duration = Duration::from_secs(1);
/// How often load, devices without netlink and published neighbours are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

pub(crate) use hand_over::HandOver;

/// What operators ask of the control core.
pub(crate) type Request = Box<dyn FnOnce(&mut Control) + Send>;

/// A worker, seen from here.
struct WorkerSide {
    punted: Consumer<Punted>,
    deltas: Consumer<DeltaNotice>,
    commands: Producer<TableCommand>,
    dirty: Arc<DirtyRanges>,
    counters: Arc<WorkerCounters>,
    thread: Option<JoinHandle<()>>,
    /// The highest version of its changes that was read.
    read: Version,
    /// Changes of other units that its ring had no room for, in order.
    deferred: VecDeque<TableCommand>,
    turns: u64,
    turned: Time,
    stalled: bool,
}

impl WorkerSide {
    /// How many commands of operators fit into its ring now. Half of the ring is left to what peers change, and
    /// nothing goes before what waits already.
    fn room(&self) -> usize {
        if !self.deferred.is_empty() {
            return 0;
        }
        let kept = self.commands.buffer().capacity() / 2;
        self.commands.slots().saturating_sub(kept)
    }
}

/// An interface, seen from here.
struct InterfaceSide {
    port: Port,
    /// Its place among the cluster's links, if it is one.
    link: Option<LinkId>,
    up: bool,
    /// The state comes from netlink, because the device always says "up".
    watched: bool,
    mac_filter: Option<dpdk::MacFilter>,
}

/// Everything that the control core owns.
pub(crate) struct Control {
    clock: Clock,
    config: Config,
    eal: Arc<Eal>,
    node: Node,
    /// Interface of each link of the cluster.
    links: Vec<InterfaceId>,
    interfaces: Vec<InterfaceSide>,
    workers: Vec<WorkerSide>,
    snapshot: Publisher<Snapshot>,
    neighbours: Publisher<Neighbours>,
    reclaimer: Reclaimer,
    table: Table,
    host: Host,
    outgoing: Outgoing,
    withheld: Withheld,
    witness: Option<Witness>,
    last_term: LastTerm,
    strangers: Strangers,
    conflicts: Conflicts,
    /// In the order of their links, which follow those of interfaces.
    monitors: Vec<Monitor>,
    /// What a primary waits to hear.
    silence: Option<Silence>,
    /// Interfaces that are down for a moment.
    bounce: Option<Bounce>,
    carriers: Receiver<CarrierChange>,
    requests: Receiver<Request>,
    events: Events,
    counters: ControlCounters,
    received: Burst,
    /// Frames with changes of sessions, with their interface, for which a worker has to catch up first.
    postponed: VecDeque<(usize, Mbuf)>,
    multicast: Mac,
    housekeeping_due: Time,
    forwarded: (Time, u64),
    stop: Arc<AtomicBool>,
    left: bool,
    _claims: Vec<Claim>,
}

impl Control {
    /// Starts the data plane and the cluster's state machine. The calling thread is the control core
    /// from here on.
    pub(crate) fn start(config: Config, requests: Receiver<Request>) -> Result<Self> {
        let clock = Clock::start();
        let watched = startup::kernel_interfaces(&config)?;
        let unit = UnitId::new(config.unit.id).context("unit id is not in 1..=16")?;
        let boot = boot().context("no random numbers")?;
        let owner = format!("{unit} {boot} {}", config.unit.name);
        let witness = Witness::start(&config, owner, clock)?;
        let lease = witness.as_ref().map(|witness| Arc::clone(&witness.lease));
        let (last_term, term) = LastTerm::open(&config.management.socket)?;
        bounce::end_earlier(&config.management.socket);
        let started = startup::start(&config, clock, lease)?;
        let now = clock.now();
        let macs: Vec<_> = (started.ports.iter().map(|port| Mac(port.mac()))).collect();
        let settings = Settings {
            last_term: term,
            ..plan::cluster(&config, &macs, unit, boot)
        };
        let node = Node::new(settings, now)?;
        let links: Vec<_> = plan::links(&config)
            .into_iter()
            .map(plan::interface_id)
            .collect();
        let Started {
            eal,
            pool,
            ports,
            sync_queues,
            workers,
            readers,
            snapshot,
            neighbours,
            stop,
            claims,
        } = started;
        let monitors = config.monitors.iter();
        let monitors = monitors.map(|monitor| Monitor::new(monitor, now)).collect();
        let interfaces = interface_sides(ports, &links, &watched);
        let (workers, inject) = worker_sides(workers, now);
        let inject = inject.ok_or_else(|| anyhow!("no worker"))?;
        let table = Table::new(unit.get(), readers, startup::timeouts(&config.timeouts));
        Ok(Self {
            clock,
            node,
            links,
            interfaces,
            workers,
            snapshot,
            neighbours,
            reclaimer: Reclaimer::start()?,
            table,
            host: Host::new(),
            withheld: Withheld::default(),
            outgoing: Outgoing::new(pool, inject, sync_queues),
            witness,
            last_term,
            strangers: Strangers::none(),
            conflicts: Conflicts::default(),
            monitors,
            silence: None,
            bounce: None,
            carriers: carrier::watch(watched)?,
            requests,
            events: Events::default(),
            counters: ControlCounters::default(),
            received: Burst::new(),
            postponed: VecDeque::new(),
            multicast: plan::cluster_multicast(config.cluster.id),
            housekeeping_due: now,
            forwarded: (now, 0),
            stop,
            left: false,
            _claims: claims,
            eal: Arc::new(eal),
            config,
        })
    }

    /// Waits, within bounds, until every carrier is known and every worker has turned, so that the
    /// cluster's state machine begins with what is, and not with a failure.
    fn take_stock(&mut self) {
        let mut unknown: HashSet<usize> = (0..self.interfaces.len())
            .filter(|&index| self.interfaces[index].watched)
            .collect();
        let until = self.clock.now() + STOCKTAKING;
        loop {
            let now = self.clock.now();
            while let Ok(change) = self.carriers.try_recv() {
                unknown.remove(&change.interface);
                self.link_changed(change.interface, change.up, now);
            }
            self.watch_workers(now);
            let turning = self.workers.iter().all(|worker| !worker.stalled);
            if unknown.is_empty() && turning || now >= until {
                break;
            }
            std::thread::sleep(LONGEST_PAUSE);
        }
        let now = self.clock.now();
        (0..self.monitors.len()).for_each(|index| self.tell_monitor(index, now));
        self.keep_house(now);
    }

    /// Turns until the unit has left its cluster.
    pub(crate) fn run(&mut self) {
        workers::prefer(workers::CONTROL_NICENESS);
        self.take_stock();
        while !self.left {
            let deadline = self.turn();
            let pause = deadline.since(self.clock.now()).min(LONGEST_PAUSE);
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        // Whoever still asks is told that the unit has ended.
        self.requests = crossbeam::channel::never();
        self.leave_witness();
        self.bounce = None;
        self.end_workers();
    }

    /// Takes in everything that is there, decides, acts. Returns when it wants to be called again.
    fn turn(&mut self) -> Time {
        let now = self.clock.now();
        self.table.now = tick(now);
        self.take_lease(now);
        self.take_carriers(now);
        self.take_sync_frames(now);
        self.take_punted(now);
        self.take_deltas(now);
        self.watch_workers(now);
        while let Ok(request) = self.requests.try_recv() {
            request(self);
        }
        self.act(now);
        self.release_withheld(now);
        self.ask_monitors(now);
        self.serve_neighbours(now);
        self.reclaimer.take(self.snapshot.take_spent());
        self.reclaimer.take(self.neighbours.take_spent());
        if now >= self.housekeeping_due {
            self.housekeeping_due = now + HOUSEKEEPING;
            self.keep_house(now);
        }
        self.outgoing.flush();
        self.node.next_deadline().min(self.housekeeping_due)
    }

    fn end_workers(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// Ports with their places among the cluster's links, and whether netlink tells their state.
fn interface_sides(
    ports: Vec<Port>,
    links: &[InterfaceId],
    watched: &HashMap<String, usize>,
) -> Vec<InterfaceSide> {
    let numbered = (0..).map(InterfaceId).zip(ports);
    numbered
        .map(|(id, port)| InterfaceSide {
            watched: watched.values().any(|&index| index == id.index()),
            link: (0..)
                .map(LinkId)
                .zip(links)
                .find(|(_, of)| **of == id)
                .map(|(link, _)| link),
            up: false,
            mac_filter: None,
            port,
        })
        .collect()
}

/// The control core's ends of all workers, and the ring by which the first one sends its frames.
fn worker_sides(
    workers: Vec<WorkerHandle>,
    now: Time,
) -> (Vec<WorkerSide>, Option<Producer<Injected>>) {
    let mut inject = None;
    let sides = workers
        .into_iter()
        .map(|worker| {
            let rings = worker.rings;
            inject.get_or_insert(rings.inject);
            WorkerSide {
                punted: rings.punted,
                deltas: rings.deltas,
                commands: rings.commands,
                dirty: rings.dirty,
                counters: worker.counters,
                thread: Some(worker.thread),
                read: Version(0),
                deferred: VecDeque::new(),
                turns: 0,
                turned: now,
                stalled: true,
            }
        })
        .collect();
    (sides, inject)
}
