//! New sessions: bursts of nothing but first packets, through the same harness as `forward`.
//!
//! ```text
//!  net_null ─▶ stamp flow i = 0, 1, 2 … ─▶ Worker::turn ─▶ net_null
//!                                               │ changes
//!                                               ▼
//!                            another core: reads them, streams them to a peer
//! ```
//!
//! Each run begins with an empty table that has room for all its sessions; nothing is old enough to
//! expire. In every row another core reads the ring of changes, as the control core does.

pub(crate) mod stream;

use anyhow::{Context, Result, ensure};
use dpdk::{Eal, Mempool, clock};
use forward::Event;

use crate::forward::gateway::{BUFFERS, Devices, Gateway, MEMORY_MB, Plan, ROOM, SOURCE, percent};
use crate::forward::lane::{Opening, Stream, Traffic};
use crate::peer::Site;
use crate::{Better, EalArgs, Figure, Report, Row, cores, paired, repeated};
use stream::{Reading, Streamed};

/// New sessions per second and core, with NAT and with changes streaming to a peer.
///
/// Rows are cycles per new session, source and sink included, and millions of sessions per second. The
/// peer of the rows with streaming is the same without: there another core takes the changes away and
/// tells nobody.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Sessions that begin in each run.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [100_000, 1_000_000])]
    pub sessions: Vec<u32>,
    /// Runs of each figure.
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub rounds: usize,
}

/// Runs it.
///
/// # Errors
/// When DPDK or a device does not start, when memory or a second core is short, and when a session did
/// not begin.
pub fn run(args: &ConnectArgs, report: &mut Report) -> Result<()> {
    let site = Site::of(&args.eal, &cores()?)?;
    let spare = site.spare_core;
    let eal = args.eal.start(MEMORY_MB, Vec::new())?;
    let bench = Bench {
        pool: Mempool::new(&eal, "frames", BUFFERS, ROOM)?,
        eal,
        reader_core: spare.context("changes are read on a second core, and there is none")?,
        args,
    };
    for sessions in args.sessions.iter().copied() {
        ensure!(sessions >= 1_000, "a run needs 1,000 sessions at least");
        for (what, opening, nat) in [
            ("new UDP sessions, no NAT", Opening::Udp, false),
            ("new UDP sessions, NAT", Opening::Udp, true),
            ("new TCP sessions, NAT", Opening::Tcp, true),
        ] {
            let cycles = repeated(args.rounds, Better::Less, || {
                let run = bench.begin(sessions, opening, nat, Reading::Forget)?;
                Ok(run.cycles)
            })?;
            push(report, what, sessions, cycles);
        }
        bench.streaming(sessions, report)?;
    }
    Ok(())
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Per session.
    cycles: f64,
    /// Sessions: all of the last burst count.
    begun: u64,
    streamed: Streamed,
}

struct Bench<'a> {
    eal: Eal,
    pool: Mempool,
    reader_core: u16,
    args: &'a ConnectArgs,
}

impl Bench<'_> {
    /// With changes streaming to a peer, beside the same without.
    fn streaming(&self, sessions: u32, report: &mut Report) -> Result<()> {
        let mut sent = Vec::new();
        let cycles = paired(
            self.args.rounds,
            Better::Less,
            || {
                let run = self.begin(sessions, Opening::Udp, true, Reading::Stream)?;
                sent.push(percent(run.streamed.changes, run.begun));
                Ok(run.cycles)
            },
            || {
                let run = self.begin(sessions, Opening::Udp, true, Reading::Forget)?;
                Ok(run.cycles)
            },
        )?;
        let what = "new UDP sessions, NAT, streaming";
        let row = Row::beside(
            what,
            u64::from(sessions),
            "cycles",
            "without streaming",
            &cycles,
        );
        report.push(row);
        push_rate(report, what, sessions, cycles.ours);
        let mut sent = sent.into_iter();
        let share = repeated(self.args.rounds, Better::More, || {
            sent.next().context("a run is missing")
        })?;
        let what = "new UDP sessions, NAT, streamed without repair";
        report.push(Row::alone(what, u64::from(sessions), "%", share));
        Ok(())
    }

    /// One run.
    fn begin(&self, sessions: u32, opening: Opening, nat: bool, reading: Reading) -> Result<Run> {
        let plan = Plan {
            range_of: cluster::range_of,
            ..Plan::for_sessions(sessions, nat, self.args.eal.memory())
        };
        let devices = Devices::from_clients(SOURCE);
        let mut gateway = Gateway::new(&self.eal, &self.pool, "gateway", &devices, plan)?;
        let control = gateway.control.take().context("the rings are gone")?;
        let table = gateway.worker.shard().reader();
        let reader = stream::read(control, table, self.reader_core, reading)?;
        let stream = Stream::openings(opening);
        gateway.lan.send(Traffic::Stamped(stream))?;
        let cycles = gateway.measure(u64::from(sessions));
        gateway.check()?;
        let begun = gateway.counters.count(Event::SessionsCreated);
        ensure!(
            begun >= u64::from(sessions),
            "{begun} sessions began, and not {sessions}"
        );
        Ok(Run {
            cycles,
            begun,
            streamed: reader.finish()?,
        })
    }
}

fn push(report: &mut Report, what: &str, sessions: u32, cycles: Figure) {
    report.push(Row::alone(what, u64::from(sessions), "cycles", cycles));
    push_rate(report, what, sessions, cycles);
}

fn push_rate(report: &mut Report, what: &str, sessions: u32, cycles: Figure) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let megahertz = clock::hertz() as f64 / 1e6;
    let figure = Figure {
        median: megahertz / cycles.median,
        best: megahertz / cycles.best,
    };
    report.push(Row::alone(what, u64::from(sessions), "M/s", figure));
}
