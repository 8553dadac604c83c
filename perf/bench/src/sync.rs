//! What a control core spends on a change of a session: as the sender, and as the receiver.
//!
//! ```text
//!  worker ─▶ ring ─▶ read the table ─▶ Node::push ─▶ segments, sealed ─┐
//!                                                                     │ frames
//!  worker ◀─ ring ◀─ Action::Apply ◀─ Node::poll ◀─ opened, in order ◀─┘
//! ```
//!
//! Two units in one process and one thread, each with the cluster's own state machine, a real table, real
//! rings and real seals; frames are copied once on their way out, as into a packet buffer. The sides run in
//! turn and are timed apart. No worker's part is in the figures of a control core.

mod pair;

use anyhow::{Result, ensure};
use dpdk::clock;

use crate::{Better, EalArgs, Figure, Report, Row, repeated};
use pair::{Cost, Pair, Protocol};

/// Changes of sessions per second and control core, sent and received.
///
/// Rows are cycles per change and millions of changes per second, of the sender's control core and of the
/// receiver's, and what the receiver's worker spends on entering the change into its table. A change that
/// needed a repair fails the run. Comparing is what a table costs at rest, for each of its slots.
#[derive(Clone, Debug, clap::Args)]
pub struct SyncArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Sessions in the table.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [100_000, 1_000_000])]
    pub sessions: Vec<u32>,
    /// Runs of each figure.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
}

const MEMORY_MB: u32 = 64;

type Side = fn(&Cost) -> f64;

/// Whose cycles.
const SIDES: [(&str, Side); 3] = [
    ("sender", |cost| cost.sender),
    ("receiver", |cost| cost.receiver),
    ("receiver's worker", |cost| cost.worker),
];

/// Runs it.
///
/// # Errors
/// When DPDK does not start, when memory is short, and when the receiver does not hold in the end what the
/// sender holds.
pub fn run(args: &SyncArgs, report: &mut Report) -> Result<()> {
    let _eal = args.eal.start(MEMORY_MB, Vec::new())?;
    for sessions in args.sessions.iter().copied() {
        ensure!(sessions >= 1_000, "a run needs 1,000 sessions at least");
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            measure(args, sessions, protocol, report)?;
        }
    }
    Ok(())
}

type Step = fn(&mut Pair) -> Result<Cost>;

/// What happens to the sessions of one run, in this order, and how many sides have a part in it.
const STEPS: [(&str, Step, usize); 5] = [
    ("begin", Pair::begin_all, 3),
    ("change", Pair::change_all, 3),
    ("are copied", Pair::copy_all, 3),
    ("are compared", Pair::compare_all, 2),
    ("end", Pair::end_all, 3),
];

fn measure(args: &SyncArgs, sessions: u32, protocol: Protocol, report: &mut Report) -> Result<()> {
    let mut costs = STEPS.map(|_| Vec::new());
    for _ in 0..args.rounds {
        let mut pair = Pair::new(sessions, protocol, args.eal.memory())?;
        for ((_, step, _), costs) in STEPS.iter().zip(&mut costs) {
            costs.push(step(&mut pair)?);
        }
    }
    for ((what, _, sides), costs) in STEPS.iter().zip(costs) {
        for (side, cycles) in &SIDES[..*sides] {
            let mut runs = costs.iter();
            let figure = repeated(costs.len(), Better::Less, || {
                Ok(runs.next().map_or(f64::NAN, cycles))
            })?;
            let what = format!("{} {what}, {side}", protocol.name());
            push(report, &what, sessions, figure);
        }
    }
    Ok(())
}

fn push(report: &mut Report, what: &str, sessions: u32, cycles: Figure) {
    report.push(Row::alone(what, u64::from(sessions), "cycles", cycles));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let megahertz = clock::hertz() as f64 / 1e6;
    let rate = Figure {
        median: megahertz / cycles.median,
        best: megahertz / cycles.best,
    };
    report.push(Row::alone(what, u64::from(sessions), "M/s", rate));
}
