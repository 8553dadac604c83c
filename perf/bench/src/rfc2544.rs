//! Throughput, latency and back-to-back frames of any two ports (RFC 2544 sections 26.1, 26.2, 26.4).
//!
//! ```text
//!  --tx port ──▶  device under test  ──▶ --rx port
//! ```
//!
//! Where it departs from the RFC: trials last ten seconds instead of sixty unless told, every frame of
//! a latency trial is stamped instead of one in the middle, and loss may be allowed. The load is
//! UDP, of as many flows as asked for.

mod search;

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dpdk::{Device, Eal};
use packet::Mac;
use tidegate_lab::clock;

use crate::traffic::{
    self, Endpoint, Flows, LARGEST_FRAME, Load, Outcome, Pace, SMALLEST_FRAME, run as run_traffic,
};
use crate::{Better, EalArgs, Figure, Report, Row, repeated};
use search::search;

/// DPDK's memory in MiB: buffers for two ports.
const MEMORY: u32 = 256;
/// How long the flood lasts that finds the ceiling of a device which does not say its speed.
const FLOOD: Duration = Duration::from_millis(500);
/// Learning frames a second.
const LEARNING_RATE: f64 = 10_000.0;
/// What a neighbour may take until it is resolved.
const LEARNING_TIME: Duration = Duration::from_millis(200);
/// Bytes that a frame takes on a wire beside its own: preamble and gap.
const WIRE_OVERHEAD: f64 = 20.0;
/// How long a neighbour may take to tell its MAC.
const ARP_LIMIT: Duration = Duration::from_secs(5);
/// Loads of the latency test, in percent of the throughput.
const STEPS: [u8; 10] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
/// Back-to-back bursts last up to two seconds (RFC 2544 section 26.4).
const LONGEST_BURST: f64 = 2.0;

/// Throughput, latency and back-to-back frames as in RFC 2544, of any two ports.
///
/// Sends UDP from one port, counts at the other what arrives, and knows loss, order and latency from
/// numbers and times in the frames. Throughput is the greatest rate at which no more than the given
/// share of the frames is lost, found by halving. Latency is that of every frame at 10 to 100 % of
/// the throughput, at the first of the given losses. Back-to-back is the longest burst, as fast as
/// the port sends, of which no frame is lost or kept waiting at the sender.
///
/// Ports are devices as in Tidegate's configuration: pci:0000:81:00.0, memif:SOCKET,role=server,
/// af_packet:IF, af_xdp:IF, null. Both ports take one core, whose speed bounds what can be offered.
#[derive(Clone, Debug, clap::Args)]
pub struct Rfc2544Args {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// The port that sends.
    #[arg(long, value_name = "DEVICE")]
    pub tx: Device,
    /// The port that receives.
    #[arg(long, value_name = "DEVICE")]
    pub rx: Device,
    /// Frame sizes in bytes, check sequence included.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 256, 512, 1_024, 1_280, 1_518])]
    pub sizes: Vec<usize>,
    /// Losses that are allowed, as shares of the frames: 0, or 0.001 for one in a thousand.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0])]
    pub loss: Vec<f64>,
    /// The tests to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["throughput", "latency", "back-to-back"])]
    pub test: Vec<Test>,
    /// UDP flows.
    #[arg(long, default_value_t = 1)]
    pub flows: u32,
    /// The sender's address.
    #[arg(long, default_value = "192.0.2.100")]
    pub source: Ipv4Addr,
    /// The receiver's address.
    #[arg(long, default_value = "198.51.100.100")]
    pub destination: Ipv4Addr,
    /// The gateway, asked for its MAC by ARP.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "gateway_mac")]
    pub gateway: Option<Ipv4Addr>,
    /// The gateway's MAC; without it and --gateway frames go to the receiving port's own.
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub gateway_mac: Option<Mac>,
    /// How long each trial sends.
    #[arg(long, default_value = "10s")]
    pub time: humantime::Duration,
    /// How long frames are waited for after a trial (RFC 2544 section 23).
    #[arg(long, default_value = "2s")]
    pub grace: humantime::Duration,
    /// The greatest rate to try, in millions of frames per second; else that of the wire, or what the
    /// sending port takes where there is none.
    #[arg(long, value_name = "MPPS")]
    pub max_rate: Option<f64>,
    /// The search ends when it is as close to the throughput as this share of the greatest rate.
    #[arg(long, default_value_t = 0.01)]
    pub precision: f64,
    /// Searches for the longest burst, of which the median is reported.
    #[arg(long, default_value_t = 5)]
    pub trials: usize,
    /// How long the ports may take until their links are up.
    #[arg(long, default_value = "10s")]
    pub link_wait: humantime::Duration,
    /// Trials of half a second, 64 bytes, three loads, one burst: under two minutes.
    #[arg(long)]
    pub quick: bool,
}

/// A test of RFC 2544.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Test {
    /// Section 26.1.
    Throughput,
    /// Section 26.2.
    Latency,
    /// Section 26.4.
    BackToBack,
}

fn parse_mac(text: &str) -> Result<Mac, packet::MacParseError> {
    text.parse()
}

/// Runs it.
///
/// # Errors
/// When an argument makes no sense, a port cannot be opened, its link stays down, or the gateway
/// does not answer.
pub fn run(args: &Rfc2544Args, report: &mut Report) -> Result<()> {
    check(args)?;
    let eal = args
        .eal
        .start(MEMORY, vec![args.tx.clone(), args.rx.clone()])?;
    let mut bench = Bench::open(args, &eal)?;
    let sizes = if args.quick {
        &args.sizes[..1]
    } else {
        &args.sizes
    };
    for &size in sizes {
        bench.measure(size, report)?;
    }
    Ok(())
}

fn check(args: &Rfc2544Args) -> Result<()> {
    ensure!(!args.sizes.is_empty(), "--sizes: there is no frame size");
    for size in &args.sizes {
        ensure!(
            (SMALLEST_FRAME..=LARGEST_FRAME).contains(size),
            "--sizes: {size} is not within {SMALLEST_FRAME} to {LARGEST_FRAME}"
        );
    }
    ensure!(!args.loss.is_empty(), "--loss: none is given");
    for loss in &args.loss {
        ensure!(
            (0.0..1.0).contains(loss),
            "--loss: {loss} is not within 0 to 1"
        );
    }
    ensure!(
        (1e-6..=0.5).contains(&args.precision),
        "--precision: {} is not within 0.000001 to 0.5",
        args.precision
    );
    ensure!(
        args.max_rate
            .is_none_or(|rate| rate.is_finite() && rate > 0.0),
        "--max-rate is not positive"
    );
    ensure!(args.tx != args.rx, "--tx and --rx are the same device");
    Ok(())
}

/// Two ports and what is between them.
struct Bench<'a> {
    args: &'a Rfc2544Args,
    sender: Endpoint,
    receiver: Endpoint,
    via: Mac,
    time: Duration,
    grace: Duration,
}

impl<'a> Bench<'a> {
    fn open(args: &'a Rfc2544Args, eal: &Eal) -> Result<Self> {
        let pool = traffic::pool(eal, 2)?;
        let open = |device, name, address| Endpoint::open(eal, &pool, device, name, address, None);
        let mut sender = open(&args.tx, "tx", args.source)?;
        let receiver = open(&args.rx, "rx", args.destination)?;
        let deadline = clock::now() + *args.link_wait;
        while !(sender.is_connected() && receiver.is_connected()) {
            ensure!(clock::now() < deadline, "a link of the ports stays down");
            thread::sleep(Duration::from_millis(20));
        }
        let via = match (args.gateway_mac, args.gateway) {
            (Some(mac), _) => mac,
            (None, Some(gateway)) => sender.resolve(gateway, ARP_LIMIT)?,
            (None, None) => receiver.mac(),
        };
        let (time, grace) = if args.quick {
            (Duration::from_millis(500), Duration::from_millis(100))
        } else {
            (*args.time, *args.grace)
        };
        let mut bench = Self {
            args,
            sender,
            receiver,
            via,
            time,
            grace,
        };
        bench.teach()?;
        Ok(bench)
    }

    /// Sends every flow once, before anything counts (RFC 2544 section 23, learning frames): a gateway
    /// asks for the receiver's MAC first, and loses what waits for it.
    fn teach(&mut self) -> Result<()> {
        let pace = Pace::PerSecond(LEARNING_RATE);
        let once = Duration::from_secs_f64(f64::from(self.args.flows) / LEARNING_RATE);
        for time in [LEARNING_TIME, once] {
            self.trial(self.args.sizes[0], pace, time, u64::MAX, false)?;
        }
        Ok(())
    }

    fn measure(&mut self, size: usize, report: &mut Report) -> Result<()> {
        let ceiling = self.ceiling(size)?;
        let wants = |test| self.args.test.contains(&test);
        let (throughput, latency, burst) = (
            wants(Test::Throughput),
            wants(Test::Latency),
            wants(Test::BackToBack),
        );
        let mut first = None;
        for &loss in &self.args.loss {
            if !throughput && (first.is_some() || !latency) {
                continue;
            }
            let rate = self.throughput(size, ceiling, loss)?;
            first.get_or_insert(rate);
            if throughput {
                let what = format!("throughput, {size} bytes, loss {} %", loss * 100.0);
                self.tell(report, what, "Mpps", rate / 1e6);
            }
        }
        if let (true, Some(rate)) = (latency, first.filter(|rate| *rate > 0.0)) {
            self.latency(size, rate, report)?;
        }
        if burst {
            self.back_to_back(size, ceiling, report)?;
        }
        Ok(())
    }

    fn tell(&self, report: &mut Report, what: String, unit: &str, value: f64) {
        let figure = Figure {
            median: value,
            best: value,
        };
        report.push(Row::alone(what, self.args.flows.into(), unit, figure));
    }

    /// The greatest rate that is worth trying, in frames per second.
    fn ceiling(&mut self, size: usize) -> Result<f64> {
        if let Some(rate) = self.args.max_rate {
            return Ok(rate * 1e6);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 1,518")]
        let bits = (size as f64 + WIRE_OVERHEAD) * 8.0;
        // The speeds of virtual devices are inventions of their drivers.
        if matches!(self.args.tx, Device::Pci { .. })
            && let Some(speed) = self.sender.speed_mbps()
        {
            return Ok(f64::from(speed) * 1e6 / bits);
        }
        let flood = self.trial(size, Pace::Flood, FLOOD, u64::MAX, false)?;
        Ok(flood.offered())
    }

    fn trial(
        &mut self,
        size: usize,
        pace: Pace,
        time: Duration,
        frames: u64,
        latency: bool,
    ) -> Result<Outcome> {
        let load = Load {
            size,
            flows: Flows {
                source: self.args.source,
                destination: self.args.destination,
                count: self.args.flows,
            },
            pace,
            time,
            frames,
            grace: self.grace,
            latency,
        };
        run_traffic(&mut self.sender, &mut self.receiver, self.via, &load)
    }

    /// The greatest rate at which no more than `loss` of the frames are lost. What the sender could
    /// not send in time counts as lost.
    fn throughput(&mut self, size: usize, ceiling: f64, loss: f64) -> Result<f64> {
        let time = self.time;
        search(ceiling, ceiling * self.args.precision, |rate| {
            let outcome = self.trial(size, Pace::PerSecond(rate), time, u64::MAX, false)?;
            Ok(outcome.loss() <= loss)
        })
    }

    fn latency(&mut self, size: usize, throughput: f64, report: &mut Report) -> Result<()> {
        let steps: &[u8] = if self.args.quick {
            &[10, 50, 100]
        } else {
            &STEPS
        };
        for &step in steps {
            let pace = Pace::PerSecond(throughput * f64::from(step) / 100.0);
            let outcome = self.trial(size, pace, self.time, u64::MAX, true)?;
            ensure!(outcome.received > 0, "nothing arrives at {step} % any more");
            for (percentile, name) in traffic::PERCENTILES {
                let value = outcome.latency_at(percentile);
                let what = format!("latency, {size} bytes, {step} % of the throughput, {name}");
                self.tell(report, what, "µs", value);
            }
        }
        Ok(())
    }

    fn back_to_back(&mut self, size: usize, ceiling: f64, report: &mut Report) -> Result<()> {
        let trials = if self.args.quick { 1 } else { self.args.trials };
        let longest = (ceiling * LONGEST_BURST).floor();
        let found = repeated(trials, Better::More, || {
            let frames = search(longest, 1.0, |frames| {
                let frames = whole(frames);
                // The time is what a burst may take at the most: it ends with its last frame.
                let time = Duration::from_secs_f64(2.0 * LONGEST_BURST);
                let outcome = self.trial(size, Pace::Flood, time, frames, false)?;
                let at_once = outcome.sent == frames && outcome.refused == 0;
                Ok::<_, anyhow::Error>(at_once && outcome.received >= frames)
            })?;
            Ok(frames.floor().max(1.0))
        })
        .context("back-to-back frames")?;
        let what = format!("back-to-back, {size} bytes");
        report.push(Row::alone(what, self.args.flows.into(), "frames", found));
        Ok(())
    }
}

/// A number of frames, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and two seconds of any wire are far below 2^53"
)]
fn whole(frames: f64) -> u64 {
    (frames as u64).max(1)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Rfc2544Args,
    }

    fn parse(words: &str) -> Result<Rfc2544Args> {
        let words = ["rfc2544"].into_iter().chain(words.split_whitespace());
        let line = Line::try_parse_from(words)?;
        check(&line.args)?;
        Ok(line.args)
    }

    #[test]
    fn the_sizes_of_the_rfc_are_the_default() {
        let args = parse("--tx pci:81:00.0 --rx pci:81:00.1").expect("it is complete");
        assert_eq!(args.sizes, [64, 128, 256, 512, 1_024, 1_280, 1_518]);
        assert_eq!(args.loss, [0.0]);
        assert_eq!(args.test.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let two = "--tx memif:/a,role=server --rx memif:/b,role=server";
        for (wrong, word) in [
            ("--sizes 60", "--sizes"),
            ("--sizes 1519", "--sizes"),
            ("--loss 1", "--loss"),
            ("--loss nan", "--loss"),
            ("--precision 0", "--precision"),
            ("--max-rate 0", "--max-rate"),
            ("--gateway-mac 02:00", "gateway-mac"),
        ] {
            let error = parse(&format!("{two} {wrong}")).expect_err(wrong);
            assert!(error.to_string().contains(word), "{wrong}: {error}");
        }
        assert!(parse("--tx null --rx null").is_err());
    }
}
