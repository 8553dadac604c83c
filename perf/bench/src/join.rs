//! What a unit that joins costs the primary's worker, and how long it takes.
//!
//! ```text
//!  one core:      net_null ─▶ stamp flow random(N) ─▶ Worker::turn ─▶ net_null
//!                                                         │ table, ring of changes
//!  another core:  the primary's control core ◀────────────┘
//!                     │ ▲ frames, sealed
//!                     ▼ │
//!                 the control core of the unit that joins ─▶ ring ─▶ its table
//! ```
//!
//! The worker is the one of `forward`, with all its sessions established; it does all that it can all the
//! time, so its cycles per packet tell its speed. Beside it run real control cores with the cluster's own
//! state machine, in real time: the primary's all the time, and that of a unit with an empty table in the runs
//! in which one joins. Those count from the first session that the joining unit has entered to the last.
//! The joining unit would be another machine: here its part takes time from the primary's control core, so that the
//! copy takes longer, and it shares caches and memory with the worker.

mod beside;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dpdk::{Eal, Mempool, clock};

use crate::forward::gateway::{
    BUFFERS, Devices, Gateway, LAN, MEMORY_MB, Plan, ROOM, SOURCE, per_packet,
};
use crate::forward::lane::{Numbers, Opening, Stream};
use crate::peer::Site;
use crate::{Better, EalArgs, Report, Row, cores, paired, repeated};
use beside::{Beside, Phase};

/// A worker's speed while another unit copies all sessions, beside its speed while none does.
///
/// Rows are cycles per packet, source and sink included, and how long the copy took: with both control cores on
/// one core, and without a network between them. A run fails if the other unit does not hold every session.
#[derive(Clone, Debug, clap::Args)]
pub struct JoinArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Sessions in the table.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1_000_000])]
    pub sessions: Vec<u32>,
    /// Packets of a run in which no unit joins.
    #[arg(long, default_value_t = 20_000_000, value_name = "N")]
    pub packets: u64,
    /// Runs of each figure.
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub rounds: usize,
}

/// Runs it.
///
/// # Errors
/// When DPDK or a device does not start, when memory or a second core is short, and when the joining unit
/// does not get everything.
pub fn run(args: &JoinArgs, report: &mut Report) -> Result<()> {
    ensure!(args.packets > 0, "nothing is measured without packets");
    let site = Site::of(&args.eal, &cores()?)?;
    let core = site
        .spare_core
        .context("control cores need a second core, and there is none")?;
    let eal = args.eal.start(MEMORY_MB, Vec::new())?;
    let pool = Mempool::new(&eal, "frames", BUFFERS, ROOM)?;
    for sessions in args.sessions.iter().copied() {
        ensure!(sessions >= 1_000, "a run needs 1,000 sessions at least");
        measure(args, &eal, &pool, core, sessions, report)?;
    }
    Ok(())
}

fn measure(
    args: &JoinArgs,
    eal: &Eal,
    pool: &Mempool,
    core: u16,
    sessions: u32,
    report: &mut Report,
) -> Result<()> {
    let memory = args.eal.memory();
    let plan = Plan {
        range_of: cluster::range_of,
        ..Plan::for_sessions(sessions, true, memory)
    };
    let devices = Devices::from_clients(SOURCE);
    let mut gateway = Gateway::new(eal, pool, "gateway", &devices, plan)?;
    gateway.establish(Opening::Udp, Numbers::Range(0, sessions))?;
    gateway.flow(LAN, Stream::datagrams(sessions), sessions)?;
    let rings = gateway.control.take().context("the rings are gone")?;
    let table = gateway.worker.shard().reader();
    let beside = Beside::start(rings, table, plan.capacity, memory, core)?;

    // Both runs are of the same worker, which is lent to whichever of them it is.
    let gateway = std::cell::RefCell::new(gateway);
    let mut times = Vec::new();
    let cycles = paired(
        args.rounds,
        Better::Less,
        || {
            let (cycles, time) = join_once(&mut gateway.borrow_mut(), &beside)?;
            times.push(time.as_secs_f64() * 1e3);
            Ok(cycles)
        },
        || {
            let mut gateway = gateway.borrow_mut();
            turn_until(&mut gateway, &beside, Phase::Alone)?;
            Ok(gateway.measure(args.packets))
        },
    )?;
    beside.finish()?;
    gateway.borrow().check()?;
    let count = u64::from(sessions);
    let row = Row::beside(
        "UDP 64 B, NAT, while a unit joins",
        count,
        "cycles",
        "itself while none does",
        &cycles,
    );
    report.push(row);
    let mut times = times.into_iter();
    let time = repeated(args.rounds, Better::Less, || {
        times.next().context("a run is missing")
    })?;
    report.push(Row::alone("all sessions are copied", count, "ms", time));
    Ok(())
}

/// Lets a unit join: the worker's cycles per packet from the first session that it holds to the last, and how
/// long that was.
fn join_once(gateway: &mut Gateway, beside: &Beside) -> Result<(f64, Duration)> {
    turn_until(gateway, beside, Phase::Alone)?;
    beside.join();
    turn_until(gateway, beside, Phase::Copying)?;
    let before = clock::cycles();
    let packets = turn_until(gateway, beside, Phase::Whole)?;
    let cycles = clock::cycles() - before;
    beside.part();
    let time = Duration::from_nanos(nanos(cycles));
    Ok((per_packet(cycles, packets), time))
}

/// Turns the worker until the other core is in a phase; how many packets it had.
fn turn_until(gateway: &mut Gateway, beside: &Beside, phase: Phase) -> Result<u64> {
    let mut packets = 0;
    while beside.phase()? != phase {
        packets += gateway.turn() as u64;
    }
    Ok(packets)
}

/// Nanoseconds of so many cycles.
fn nanos(cycles: u64) -> u64 {
    let nanos = u128::from(cycles) * 1_000_000_000 / u128::from(clock::hertz().max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
