//! The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.
//!
//! ```text
//!  net_null ─▶ stamp flow i = random(N) ─▶ Worker::turn ─▶ net_null
//! ```
//!
//! Figures are cycles per packet of everything that is drawn: so the harness itself is measured too,
//! in alternation, and has rows of its own.

mod floods;
pub(crate) mod flow;
pub(crate) mod gateway;
pub(crate) mod lane;
mod paths;
mod routed;
mod wire;

use anyhow::{Result, ensure};
use dpdk::{Eal, Mempool};

use crate::peer::{Site, Workshop};
use crate::{EalArgs, Report, cores};
use gateway::{BUFFERS, MEMORY_MB, Plan, ROOM};

/// The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.
///
/// Rows are cycles per packet of one core. Source and sink are in all of them, ours and the peers'; what
/// they cost by themselves is in the rows of the stages.
#[derive(Clone, Debug, clap::Args)]
pub struct ForwardArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Numbers of established sessions.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 1_000, 100_000, 1_000_000, 10_000_000])]
    pub sessions: Vec<u32>,
    /// Runs of each figure.
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub rounds: usize,
    /// Packets in each run.
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    pub packets: u64,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "PART")]
    pub only: Vec<Part>,
    /// Datagrams of 64 bytes by stages, with and without NAT, at 1,000 to a million sessions: all in a
    /// few seconds.
    #[arg(long, conflicts_with_all = ["sessions", "only"])]
    pub quick: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Datagrams of 64 bytes with and without NAT, and what each stage adds.
    Stages,
    /// Datagrams of 64 bytes with NAT beside the sketch in C, and ten million sessions beside a thousand.
    Sketch,
    /// TCP, IMIX and replies.
    Paths,
    /// Sessions of another unit: passing its packets on, and taking in what another passes on.
    Shared,
    /// Full tables and exhausted ports.
    Floods,
    /// Beside testpmd, which looks at nothing.
    Testpmd,
    /// Beside l3fwd, from captures.
    L3fwd,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Stages,
        Self::Sketch,
        Self::Paths,
        Self::Shared,
        Self::Floods,
        Self::Testpmd,
        Self::L3fwd,
    ];
}

/// Runs it.
///
/// # Errors
/// When DPDK, a device or a peer does not start, when memory is short, and when a packet was dropped
/// that should not have been.
pub fn run(args: &ForwardArgs, report: &mut Report) -> Result<()> {
    ensure!(
        args.sessions.iter().all(|n| (1..=MOST).contains(n)),
        "sessions: 1 to {MOST}"
    );
    ensure!(args.packets > 0, "nothing is measured without packets");
    let site = Site::of(&args.eal, &cores()?)?;
    let eal = args.eal.start(MEMORY_MB, Vec::new())?;
    let mut bench = Bench {
        pool: Mempool::new(&eal, "frames", BUFFERS, ROOM)?,
        eal,
        site,
        workshop: Workshop::new()?,
        args,
        report,
    };
    if args.quick {
        return [1_000, 100_000, 1_000_000]
            .into_iter()
            .try_for_each(|sessions| bench.stages(sessions));
    }
    for part in Part::ALL {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        match part {
            Part::Stages => bench.each(Bench::stages)?,
            Part::Sketch => bench.beside_sketch()?,
            Part::Paths => bench.each(Bench::paths)?,
            Part::Shared => bench.each(Bench::shared)?,
            Part::Floods => bench.floods()?,
            Part::Testpmd => bench.beside_testpmd()?,
            Part::L3fwd => bench.beside_l3fwd()?,
        }
    }
    Ok(())
}

/// The most sessions: there are no more flows.
const MOST: u32 = 16_000_000;

/// What all rows share.
struct Bench<'a> {
    eal: Eal,
    pool: Mempool,
    site: Site,
    workshop: Workshop,
    args: &'a ForwardArgs,
    report: &'a mut Report,
}

impl Bench<'_> {
    fn each(&mut self, mut part: impl FnMut(&mut Self, u32) -> Result<()>) -> Result<()> {
        let args = self.args;
        args.sessions
            .iter()
            .try_for_each(|sessions| part(self, *sessions))
    }

    fn plan(&self, sessions: u32, nat: bool) -> Plan {
        Plan::for_sessions(sessions, nat, self.args.eal.memory())
    }
}

fn translated(nat: bool) -> &'static str {
    if nat { "NAT" } else { "no NAT" }
}
