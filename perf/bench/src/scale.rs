//! One worker to many: packets that arrive where they belong, and packets that have to be handed over.
//!
//! ```text
//!  steered     worker n receives the flows of its own shard, as from a NIC that hashes by our key
//!  unsteered   each worker receives flows of all shards, as from a device without RSS
//! ```

use std::ops;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use core_affinity::CoreId;
use dpdk::{Eal, Mempool, clock};
use forward::{Drop, Event, WorkerCounters};
use packet::Tuple;
use packet::toeplitz::Steering;

use crate::forward::flow::{Flow, Random};
use crate::forward::gateway::{
    BUFFERS, Devices, Gateway, MEMORY_MB, Plan, ROOM, SOURCE, WAN, percent,
};
use crate::forward::lane::{Numbers, Opening, Stream, Traffic};
use crate::{Better, EalArgs, Figure, Report, Row, cores, paired, repeated};

/// One to all workers, steered perfectly and with packets handed over.
///
/// Rows are millions of packets per second of all workers together. The peer is one worker, its rate
/// times the number of workers: a ratio of 1 is perfect.
#[derive(Clone, Debug, clap::Args)]
pub struct ScaleArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Established sessions, over all workers.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub sessions: u32,
    /// Workers at the most: one per core that the process may use unless told.
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// Runs of each figure.
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub rounds: usize,
}

/// How long one run takes.
const PERIOD: Duration = Duration::from_millis(200);

/// Runs it.
///
/// # Errors
/// When DPDK or a device does not start, when memory is short, when workers are asked for that have no
/// core, and when packets went the wrong way.
pub fn run(args: &ScaleArgs, report: &mut Report) -> Result<()> {
    let cores = cores()?;
    let most = args.workers.map_or(cores.len(), usize::from);
    ensure!(
        (1..=cores.len()).contains(&most),
        "there are cores for 1 to {} workers",
        cores.len()
    );
    ensure!(args.sessions >= 1_000, "1,000 sessions at least");
    let eal = args.eal.start(MEMORY_MB, Vec::new())?;
    let buffers = BUFFERS * u32::try_from(most + 1)?;
    let pool = Mempool::new(&eal, "frames", buffers, ROOM)?;
    let bench = Bench {
        eal,
        pool,
        cores,
        args,
    };
    let alone = bench.start("alone", 1, Arrivals::Steered)?;
    let rate = repeated(args.rounds, Better::More, || alone.rate())?;
    report.push(Row::alone(
        "1 worker",
        u64::from(args.sessions),
        "Mpps",
        rate,
    ));
    for workers in 2..=u16::try_from(most)? {
        for arrivals in [Arrivals::Steered, Arrivals::Anywhere] {
            bench.beside_one(workers, arrivals, &alone, report)?;
        }
    }
    Ok(())
}

/// Where packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrivals {
    /// At the worker that they belong to.
    Steered,
    /// At any.
    Anywhere,
}

struct Bench<'a> {
    eal: Eal,
    pool: Mempool,
    cores: Vec<u16>,
    args: &'a ScaleArgs,
}

impl Bench<'_> {
    fn beside_one(
        &self,
        workers: u16,
        arrivals: Arrivals,
        alone: &Crew,
        report: &mut Report,
    ) -> Result<()> {
        let crew = self.start("crew", workers, arrivals)?;
        let rates = paired(
            self.args.rounds,
            Better::More,
            || crew.rate(),
            || Ok(alone.rate()? * f64::from(workers)),
        )?;
        let handed_over = crew.total(|counters| counters.count(Event::HandedOver));
        let what = match arrivals {
            Arrivals::Steered => {
                ensure!(handed_over == 0, "{handed_over} packets were handed over");
                format!("{workers} workers, steered")
            }
            Arrivals::Anywhere => {
                ensure!(handed_over > 0, "nothing was handed over");
                format!("{workers} workers, handing over")
            }
        };
        let peer = format!("{workers} times 1 worker");
        let sessions = u64::from(self.args.sessions);
        report.push(Row::beside(what, sessions, "Mpps", &peer, &rates));
        if arrivals == Arrivals::Anywhere {
            let lost = crew.total(|counters| counters.dropped(Drop::HandoverFull));
            let share = percent(lost, lost + crew.sent());
            let what = format!("{workers} workers, lost in full rings between them");
            let figure = Figure {
                median: share,
                best: share,
            };
            report.push(Row::alone(what, sessions, "%", figure));
        }
        Ok(())
    }

    /// Workers on cores of their own, with their sessions, that wait.
    fn start(&self, name: &str, workers: u16, arrivals: Arrivals) -> Result<Crew> {
        let plan = Plan::for_sessions(self.args.sessions, true, self.args.eal.memory());
        let devices = Devices::from_clients(SOURCE);
        let gateways = Gateway::workers(&self.eal, &self.pool, name, &devices, plan, workers)?;
        let homes = homes(self.args.sessions, workers);
        let mut everywhere: Vec<u32> = (0..self.args.sessions).collect();
        Random::new().shuffle(&mut everywhere);
        let everywhere: Arc<[u32]> = Arc::from(everywhere);
        let mut members = Vec::new();
        for ((gateway, own), core) in gateways.into_iter().zip(homes).zip(&self.cores) {
            let arriving = match arrivals {
                Arrivals::Steered => Arc::clone(&own),
                Arrivals::Anywhere => Arc::clone(&everywhere),
            };
            members.push(Member::start(gateway, *core, own, arriving)?);
        }
        let crew = Crew(members);
        crew.establish()?;
        Ok(crew)
    }
}

/// The flows of each worker, in random order.
fn homes(sessions: u32, workers: u16) -> Vec<Arc<[u32]>> {
    let steering = Steering::even(workers);
    let mut homes = vec![Vec::new(); usize::from(workers)];
    for number in 0..sessions {
        let Flow { client, server } = Flow::number(number);
        let tuple = Tuple::v4(
            client.address.into(),
            client.port,
            server.address.into(),
            server.port,
            packet::ipv4::PROTOCOL_UDP,
        );
        homes[usize::from(steering.worker(&tuple))].push(number);
    }
    let mut random = Random::new();
    homes
        .into_iter()
        .map(|mut flows| {
            random.shuffle(&mut flows);
            Arc::from(flows)
        })
        .collect()
}

/// All workers of one gateway.
struct Crew(Vec<Member>);

impl Crew {
    /// Has all workers establish their sessions, one after the other: each needs its own only.
    fn establish(&self) -> Result<()> {
        self.0.iter().try_for_each(|member| {
            member.orders.send(Order::Establish)?;
            member.answers.recv()?
        })
    }

    /// Millions of packets per second that left, of all workers.
    fn rate(&self) -> Result<f64> {
        for member in &self.0 {
            member.running.store(true, Ordering::Release);
            member.orders.send(Order::Run)?;
        }
        // Until the caches and the rings are as they will be.
        thread::sleep(PERIOD / 4);
        let (start, before) = (clock::cycles(), self.sent());
        thread::sleep(PERIOD);
        let (end, after) = (clock::cycles(), self.sent());
        for member in &self.0 {
            member.running.store(false, Ordering::Release);
        }
        for member in &self.0 {
            member.answers.recv()??;
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let rate = (after - before) as f64 / (end - start) as f64 * clock::hertz() as f64 / 1e6;
        Ok(rate)
    }

    /// Packets that left.
    fn sent(&self) -> u64 {
        self.total(|counters| counters.traffic(WAN).tx_packets)
    }

    fn total(&self, count: impl Fn(&WorkerCounters) -> u64) -> u64 {
        let counters = self.0.iter().map(|member| member.counters.as_ref());
        counters.map(count).sum()
    }
}

/// One worker on its thread.
struct Member {
    orders: Sender<Order>,
    answers: Receiver<Result<()>>,
    running: Arc<AtomicBool>,
    counters: Arc<WorkerCounters>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Begin and complete the sessions of its own.
    Establish,
    /// Turn, for as long as it is running.
    Run,
}

impl Member {
    fn start(gateway: Gateway, core: u16, own: Arc<[u32]>, arriving: Arc<[u32]>) -> Result<Self> {
        let (orders, told) = channel();
        let (answer, answers) = channel();
        let running = Arc::new(AtomicBool::new(false));
        let counters = Arc::clone(&gateway.counters);
        let shift = Shift {
            gateway,
            own,
            arriving,
            running: Arc::clone(&running),
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{core}"))
            .spawn(move || shift.serve(core, &told, &answer))?;
        Ok(Self {
            orders,
            answers,
            running,
            counters,
            thread: Some(thread),
        })
    }
}

impl ops::Drop for Member {
    fn drop(&mut self) {
        self.running.store(false, Ordering::Release);
        // The end of its orders ends the thread.
        self.orders = channel().0;
        if let Some(thread) = self.thread.take() {
            // It has said already what went wrong.
            let _ = thread.join();
        }
    }
}

/// What the thread of a worker has.
struct Shift {
    gateway: Gateway,
    own: Arc<[u32]>,
    arriving: Arc<[u32]>,
    running: Arc<AtomicBool>,
}

impl Shift {
    /// Obeys, until there are no orders any more.
    fn serve(mut self, core: u16, orders: &Receiver<Order>, answers: &Sender<Result<()>>) {
        let id = usize::from(core);
        let pinned = core_affinity::set_for_current(CoreId { id });
        let registered = dpdk::register_thread();
        while let Ok(order) = orders.recv() {
            let answer = match (&registered, order) {
                _ if !pinned => Err(anyhow!("core {core} cannot be used")),
                (Err(error), _) => Err(anyhow!("{error}")),
                (Ok(_), Order::Establish) => self.establish(),
                (Ok(_), Order::Run) => {
                    while self.running.load(Ordering::Relaxed) {
                        self.gateway.turn();
                    }
                    self.gateway.check_but(&[Drop::HandoverFull])
                }
            };
            if answers.send(answer).is_err() {
                break;
            }
        }
    }

    fn establish(&mut self) -> Result<()> {
        let flows = Numbers::List(Arc::clone(&self.own), 0);
        self.gateway.establish(Opening::Udp, flows)?;
        let stream = Stream::datagrams(0).listed(Arc::clone(&self.arriving));
        self.gateway.lan.send(Traffic::Stamped(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_has_one_home() {
        let homes = homes(10_000, 3);
        let mut all: Vec<u32> = homes.iter().flat_map(|home| home.iter().copied()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..10_000));
        assert!(
            homes
                .iter()
                .all(|home| (2_000..5_000).contains(&home.len()))
        );
    }
}
