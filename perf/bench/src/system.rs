//! Client, gateway and server in network namespaces, beside testpmd and the kernel.
//!
//! The same topology every time, and in the gateway's place in turn `tidegated` as an operator
//! would start it, `dpdk-testpmd` on the same devices, and the kernel's nftables masquerade. Nothing is
//! stubbed: programs, configurations, devices and stacks are those that people use.
//!
//! Two cores are all it takes. The gateway's worker has one of them; the generator, or the stacks of
//! client and server, have the other, together with what the kernel does for the frames that they
//! send. Packets come from a generator that counts at the other end what arrives.

mod gateway;
mod packets;
mod site;
mod stack;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dpdk::{Eal, Mempool};

use crate::traffic::{self, Pace};
use crate::{Better, EalArgs, Figure, Report, Row, cores, paired};
use gateway::{Gateway, Means, Placement};
use packets::{Bed, flows, load};

pub use gateway::Medium;

/// DPDK's memory in MiB: buffers for six ends of the generator.
const MEMORY: u32 = 512;
/// Ends of the generator that are open at the same time.
const ENDS: u32 = 6;
/// Packets per second in a million.
const MILLION: f64 = 1e6;

/// Client, gateway and server in network namespaces, beside testpmd and the kernel.
///
/// In the gateway's place runs tidegated as an operator would start it, with one worker and a
/// masquerading policy; in alternation with it dpdk-testpmd on the same devices, which keeps no state
/// and looks at nothing, or the kernel with nftables masquerade. Every figure is that of a gateway
/// started afresh. The gateway's worker has a core of its own; the generator, or the stacks of client
/// and server, have the other one. Needs root, huge pages, and tidegated built with the same profile.
#[derive(Clone, Debug, clap::Args)]
pub struct SystemArgs {
    /// DPDK's memory, and the gateway's core; the generator takes the first of the others.
    #[command(flatten)]
    pub eal: EalArgs,
    /// The devices to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["af_packet", "af_xdp", "memif"])]
    pub device: Vec<Medium>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["rate", "latency", "throughput", "connections"])]
    pub measure: Vec<Measure>,
    /// Rounds, in each of which ours and the peer run once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How long each measurement takes.
    #[arg(long, default_value = "2s")]
    pub time: humantime::Duration,
    /// UDP flows, one row of packet rates for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000])]
    pub flows: Vec<u32>,
    /// Two rounds of half a second, packets only: under two minutes in all.
    #[arg(long)]
    pub quick: bool,
}

/// What can be measured of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Measure {
    /// Packets of 64 bytes per second, through a gateway that is given more than it forwards.
    Rate,
    /// How long packets take at half of what the slower of both gateways forwards.
    Latency,
    /// Bits per second of one TCP connection (iperf3).
    Throughput,
    /// TCP connections per second.
    Connections,
}

/// Runs it.
///
/// # Errors
/// Without root, without a second core, when a program is missing, or when nothing comes through.
pub fn run(args: &SystemArgs, report: &mut Report) -> Result<()> {
    let gateway = args.eal.core()?;
    let others = cores()?.into_iter().find(|core| *core != gateway);
    let generator = others.context("it takes two cores: one for the gateway, one for all else")?;
    let eal = EalArgs {
        core: Some(generator),
        ..args.eal.clone()
    }
    .start(MEMORY, Vec::new())?;
    let plan = Plan::of(args);
    ensure!(plan.rounds > 0, "nothing is measured in no rounds");
    let pool = traffic::pool(&eal, ENDS)?;
    let mut system = System {
        eal,
        pool,
        means: Means {
            generator,
            gateway,
            huge_pages: !args.eal.no_huge,
        },
        plan,
        cables: None,
        kernel: None,
    };
    for medium in &args.device {
        for measure in &system.plan.measures.clone() {
            system.measure(*medium, *measure, report)?;
        }
    }
    Ok(())
}

/// What a run measures, and for how long.
#[derive(Clone, Debug)]
struct Plan {
    measures: Vec<Measure>,
    rounds: usize,
    time: Duration,
    flows: Vec<u32>,
}

impl Plan {
    fn of(args: &SystemArgs) -> Self {
        let whole = Self {
            measures: args.measure.clone(),
            rounds: args.rounds,
            time: *args.time,
            flows: args.flows.clone(),
        };
        if !args.quick {
            return whole;
        }
        let packets = [Measure::Rate, Measure::Latency];
        let mut measures = whole.measures;
        measures.retain(|measure| packets.contains(measure));
        Self {
            measures,
            rounds: whole.rounds.min(2),
            time: whole.time.min(Duration::from_millis(500)),
            flows: whole.flows.into_iter().take(1).collect(),
        }
    }
}

/// The generator and the sites that it keeps open.
struct System {
    eal: Eal,
    pool: Mempool,
    means: Means,
    plan: Plan,
    /// Where gateways with devices of the kernel run. It stays: XDP sockets do not give their buffers
    /// back.
    cables: Option<Bed>,
    /// Where the kernel is the gateway.
    kernel: Option<Bed>,
}

impl System {
    fn measure(&mut self, medium: Medium, measure: Measure, report: &mut Report) -> Result<()> {
        match (measure, medium) {
            (Measure::Rate, _) => {
                for flows in self.plan.flows.clone() {
                    self.rates(medium, flows, report)?;
                }
            }
            (Measure::Latency, Medium::Memif) => {
                self.latency(medium, Gateway::Macswap(medium), report)?;
            }
            (Measure::Latency, _) => {
                self.latency(medium, Gateway::Macswap(medium), report)?;
                self.latency(medium, Gateway::Kernel(Placement::Own), report)?;
            }
            // A memif ends in a process, which has no TCP stack.
            (Measure::Throughput | Measure::Connections, Medium::Memif) => {}
            (Measure::Throughput | Measure::Connections, _) => {
                for peer in [Gateway::Mac(medium), Gateway::Kernel(Placement::Generator)] {
                    self.stacks(measure, medium, peer, report)?;
                }
            }
        }
        Ok(())
    }

    /// Packets per second at full load, beside testpmd on the same device and beside the kernel.
    fn rates(&mut self, medium: Medium, count: u32, report: &mut Report) -> Result<()> {
        let peers = [
            Gateway::Macswap(medium),
            Gateway::Kernel(Placement::Generator),
            Gateway::Kernel(Placement::Own),
        ];
        for peer in peers {
            let time = self.plan.time;
            let ours = Gateway::Tidegate(medium);
            let figures = self.alternate(ours, peer, |system, gateway| {
                system.rate(gateway, count, time)
            })?;
            report.push(row(
                format!("packets of 64 bytes through {medium}"),
                count,
                "Mpps",
                (peer.name(), Better::More),
                &figures,
            )?);
        }
        Ok(())
    }

    /// Measures both in turn, round by round; who begins changes every round.
    fn alternate<T>(
        &mut self,
        ours: Gateway,
        peer: Gateway,
        mut measure: impl FnMut(&mut Self, Gateway) -> Result<T>,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let mut figures = (Vec::new(), Vec::new());
        for round in 0..self.plan.rounds {
            if round % 2 == 0 {
                figures.0.push(measure(self, ours)?);
                figures.1.push(measure(self, peer)?);
            } else {
                figures.1.push(measure(self, peer)?);
                figures.0.push(measure(self, ours)?);
            }
        }
        Ok(figures)
    }

    /// Millions of packets per second through a gateway that is offered more.
    fn rate(&mut self, gateway: Gateway, count: u32, time: Duration) -> Result<f64> {
        let load = load(flows(count), Pace::Flood, time);
        Ok(self.packets(gateway, &load)?.rate() / MILLION)
    }

    /// Percentiles of latency at half of what the slower one forwards, of the packets that arrive.
    fn latency(&mut self, medium: Medium, peer: Gateway, report: &mut Report) -> Result<()> {
        let ours = Gateway::Tidegate(medium);
        let count = self.plan.flows.first().copied().unwrap_or(1);
        let time = self.plan.time;
        let slower = self
            .rate(ours, count, time)?
            .min(self.rate(peer, count, time)?);
        let half = slower / 2.0;
        let load = traffic::Load {
            latency: true,
            ..load(flows(count), Pace::PerSecond(half * MILLION), time)
        };
        let (runs, theirs) =
            self.alternate(ours, peer, |system, gateway| system.packets(gateway, &load))?;
        let what = format!("half load of {medium} beside {}", peer.name());
        let offered = Figure {
            median: half,
            best: half,
        };
        report.push(Row::alone(what, count.into(), "Mpps", offered));
        for (percentile, name) in traffic::PERCENTILES {
            let at = |runs: &[traffic::Outcome]| -> Vec<f64> {
                runs.iter().map(|run| run.latency_at(percentile)).collect()
            };
            report.push(row(
                format!("latency through {medium} at half load, {name}"),
                count,
                "µs",
                (peer.name(), Better::Less),
                &(at(&runs), at(&theirs)),
            )?);
        }
        Ok(())
    }

    /// What TCP stacks reach through a gateway.
    fn stacks(
        &mut self,
        measure: Measure,
        medium: Medium,
        peer: Gateway,
        report: &mut Report,
    ) -> Result<()> {
        let (means, time) = (self.means, self.plan.time);
        let run = |gateway| match measure {
            Measure::Connections => stack::connections(gateway, means, time),
            _ => Ok(stack::throughput(gateway, means, time)? / 1e9),
        };
        let ours = Gateway::Tidegate(medium);
        let (what, unit) = match measure {
            Measure::Connections => ("TCP connections", "per second"),
            _ => ("TCP, one connection, no segmentation offload,", "Gbit/s"),
        };
        let paired = paired(self.plan.rounds, Better::More, || run(ours), || run(peer))?;
        let what = format!("{what} through {medium}");
        report.push(Row::beside(what, 0, unit, peer.name(), &paired));
        Ok(())
    }

    /// Runs `load` through a gateway, in the site that it belongs to.
    fn packets(&mut self, gateway: Gateway, load: &traffic::Load) -> Result<traffic::Outcome> {
        let Self {
            eal, pool, means, ..
        } = self;
        let bed = match gateway {
            Gateway::Tidegate(Medium::Memif) | Gateway::Macswap(Medium::Memif) => {
                return Bed::on_memif(eal, pool)?.measure(gateway, *means, load);
            }
            Gateway::Kernel(_) => &mut self.kernel,
            _ => &mut self.cables,
        };
        if bed.is_none() {
            *bed = Some(Bed::on_cables(eal, pool)?);
        }
        let bed = bed.as_mut().context("it was built just now")?;
        bed.measure(gateway, *means, load)
    }
}

/// A row of figures that were taken in alternation.
fn row(
    what: String,
    sessions: u32,
    unit: &str,
    (peer, better): (&str, Better),
    (ours, theirs): &(Vec<f64>, Vec<f64>),
) -> Result<Row> {
    let (mut ours_in_turn, mut theirs_in_turn) = (ours.iter(), theirs.iter());
    let missing = "each round has a figure";
    let paired = paired(
        ours.len(),
        better,
        || ours_in_turn.next().copied().context(missing),
        || theirs_in_turn.next().copied().context(missing),
    )?;
    Ok(Row::beside(what, sessions.into(), unit, peer, &paired))
}
