//! The worker threads: pinned, registered with DPDK, turning until the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use config::Idle;
use core_affinity::CoreId;
use forward::{Gate, Now, QueuePair, Worker, WorkerParts};

use crate::clock::{Clock, tick};

/// Turns without anything to do before a worker sleeps at all.
const EMPTY_TURNS: u32 = 64;
/// The first sleep; each following one is twice as long.
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);
/// The longest sleep: what an idle gateway adds to the first packet's latency.
const LONGEST_SLEEP: Duration = Duration::from_micros(200);

/// Niceness of workers: before all that is not the gateway's.
const WORKER_NICENESS: i32 = -10;
/// Niceness of the control core: before the workers, since it sleeps nearly always and must not miss
/// a heartbeat.
pub(crate) const CONTROL_NICENESS: i32 = -20;

/// Has the scheduler prefer the calling thread, or others to it where `niceness` is positive. Without the right
/// to it, all works, but a busy machine makes itself felt.
pub(crate) fn prefer(niceness: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::debug!("the scheduler will not prefer this thread: {error}");
    }
}

/// Starts the thread of one worker on its core. It ends when `stop` is set.
pub(crate) fn start(
    parts: WorkerParts<Option<QueuePair>>,
    gate: Option<Gate>,
    core: u16,
    idle: Idle,
    clock: Clock,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let index = parts.index;
    let (ready, started) = crossbeam::channel::bounded(1);
    let thread = thread::Builder::new()
        .name(format!("worker{index}"))
        .spawn(move || {
            if !core_affinity::set_for_current(CoreId {
                id: usize::from(core),
            }) {
                let _ = ready.send(Err(anyhow!(
                    "core {core} cannot be used; see `nproc --all`"
                )));
                return;
            }
            // Without this the thread has no cache of buffers and pays for each one.
            let registered = match dpdk::register_thread() {
                Ok(registered) => registered,
                Err(error) => {
                    let _ = ready.send(Err(error.into()));
                    return;
                }
            };
            prefer(WORKER_NICENESS);
            let mut worker = Worker::new(parts);
            if let Some(gate) = gate {
                worker = worker.with_gate(gate);
            }
            let _ = ready.send(Ok(()));
            run(worker, idle, clock, &stop);
            drop(registered);
        })
        .with_context(|| format!("cannot start worker {index}"))?;
    started
        .recv()
        .context("a worker ended while it started")??;
    Ok(thread)
}

fn run(mut worker: Worker<Option<QueuePair>>, idle: Idle, clock: Clock, stop: &AtomicBool) {
    let mut empty = 0;
    let mut sleep = SHORTEST_SLEEP;
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        let done = worker.turn(Now {
            nanos: now.0,
            tick: tick(now),
        });
        if done > 0 {
            (empty, sleep) = (0, SHORTEST_SLEEP);
        } else if idle == Idle::Sleep {
            empty += 1;
            if empty > EMPTY_TURNS {
                thread::sleep(sleep);
                sleep = (sleep * 2).min(LONGEST_SLEEP);
            }
        } else {
            std::hint::spin_loop();
        }
    }
}
