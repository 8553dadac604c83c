//! `tidegate-lab`: clusters in network namespaces, from the command line.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use tidegate_lab::demo::Demonstration;
use tidegate_lab::failover::{Comparison, Contrast, Experiment, Fault, RUN_HEADING, Victim};
use tidegate_lab::faults::{Trial, draw};
use tidegate_lab::goals::{self, Goals};
use tidegate_lab::join::{JoinReport, Joining};
use tidegate_lab::keepalived::KeepalivedSettings;
use tidegate_lab::{Host, Lab, LabSettings, Segment, Unit, parse_unit, tool};

/// The interval of heartbeats, unless told otherwise.
const HEARTBEAT_INTERVAL: &str = "10ms";
/// The shortest interval of heartbeats.
const LEAST_HEARTBEAT_INTERVAL: &str = "1ms";

/// Clusters, clients, servers and switches in network namespaces; faults and probes.
#[derive(Debug, Parser)]
#[command(name = "tidegate-lab", version)]
struct Arguments {
    /// The common beginning of the namespaces' names: labs of different prefixes live side by side.
    #[arg(long, global = true, default_value = "tg")]
    prefix: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the topology and start all units.
    Up(Size),
    /// Remove everything, also what a crash left.
    Down,
    /// Show the units.
    Status,
    /// Run a command on a host: client, server, switch, u1, u2, …
    Exec {
        /// The host.
        host: Host,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// End a unit with SIGKILL.
    Kill {
        /// u1, u2, …
        #[arg(value_parser = parse_unit)]
        unit: u8,
    },
    /// Start a unit that does not run.
    Start {
        /// u1, u2, …
        #[arg(value_parser = parse_unit)]
        unit: u8,
    },
    /// Pull or plug a unit's cable: it loses or gains its carrier.
    Link {
        /// u1, u2, …
        #[arg(value_parser = parse_unit)]
        unit: u8,
        /// lan, wan or sync.
        interface: Segment,
        /// What to do.
        state: LinkState,
    },
    /// Make the switch drop a unit's frames, with the carrier left up.
    Cut {
        /// u1, u2, …
        #[arg(value_parser = parse_unit)]
        unit: u8,
        /// lan, wan or sync.
        interface: Segment,
        /// Which frames.
        direction: Direction,
    },
    /// Break a unit again and again, and measure what its users notice.
    Failover(Failovers),
    /// Break units at random, as a seed says, under load; follow every connection, and judge.
    Faults {
        /// The seed: the same draws the same faults.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many faults and repairs; fewer where they would take more than 25 minutes.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        faults: u32,
        /// Print what would be done, and do nothing.
        #[arg(long)]
        plan: bool,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        size: Size,
    },
    /// Restart a subordinate again and again, and measure how soon it holds every session.
    Join {
        /// How often.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        runs: u32,
        /// UDP sessions that are there.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
        sessions: u32,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        size: Size,
    },
    /// Measure what a cluster must reach, row by row, and keep the verdicts.
    Goals {
        /// How often each row is measured.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        runs: u32,
        /// Only these rows, with commas between them.
        #[arg(long, value_delimiter = ',', value_name = "ROW")]
        only: Vec<goals::Row>,
        /// The file in which verdicts are kept; those of rows that are not measured stay in it.
        #[arg(
            long,
            default_value = "perf/results/failover.json",
            value_name = "FILE"
        )]
        output: PathBuf,
    },
    /// Show a download that goes on while the primary is killed.
    Demo {
        /// Size of the file, in MB.
        #[arg(long, default_value_t = 256)]
        megabytes: u32,
        /// Speed of the download, in MB per second.
        #[arg(long, default_value_t = 12)]
        rate: u32,
        #[command(flatten)]
        size: Size,
    },
}

/// What happens to whom, how often, under which load, and beside whom it is measured.
#[derive(Debug, Args)]
struct Failovers {
    /// What happens: one or more of the faults, with commas between them.
    #[arg(
        long,
        value_delimiter = ',',
        required_unless_present = "peer",
        default_values_if("peer", ArgPredicate::IsPresent, ["kill", "link", "planned"])
    )]
    fault: Vec<Fault>,
    /// To whom: primary, subordinate, or a unit by its name.
    #[arg(long, default_value = "primary")]
    on: Victim,
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// UDP sessions that are there besides.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    sessions: u32,
    /// Do the same without those sessions, in alternation, and print both.
    #[arg(long, requires = "sessions", conflicts_with = "peer")]
    beside_none: bool,
    /// Datagrams per second of the stream that measures.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    rate: u32,
    /// Run a bulk transfer of so many Mbit/s by iperf3 besides, and tell what it sent again.
    #[arg(long, value_name = "MBITS")]
    transfer: Option<u32>,
    /// Do the same to another cluster in the units' place, in alternation, and print both.
    #[arg(long)]
    peer: Option<Peer>,
    /// The peer's interval between advertisements, in hundredths of a second; 1 is its least.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4_095))]
    peer_advert: u16,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    size: Size,
}

/// A cluster that Tidegate is measured beside.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    /// keepalived with conntrackd (FTFW), two units; NAT by the kernel.
    Keepalived,
}

/// How large a lab is and how its units are configured.
#[derive(Debug, Args)]
struct Size {
    /// How many units: two, for random faults three, unless told otherwise.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    units: Option<u8>,
    /// The schedule that distributes sessions.
    #[arg(long, default_value = "none")]
    schedule: String,
    /// The interval of heartbeats: 10 ms unless told otherwise. Beside a peer: both the peer's own
    /// interval and 1 ms, the least.
    #[arg(long)]
    heartbeat_interval: Option<String>,
    /// Heartbeats missed until a peer counts as dead.
    #[arg(long, default_value_t = 3)]
    heartbeat_loss: u8,
    /// Worker cores per unit.
    #[arg(long, default_value_t = 1)]
    workers: u8,
    /// Sessions that fit into each unit.
    #[arg(long, default_value_t = 250_000)]
    capacity: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LinkState {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// Heal the cut.
    None,
    /// What the unit sends.
    From,
    /// What is sent to the unit.
    To,
    /// Everything.
    Both,
}

impl Size {
    fn settings(self, prefix: String) -> LabSettings {
        LabSettings {
            prefix,
            units: self.units.unwrap_or(2),
            schedule: self.schedule,
            heartbeat_interval: self
                .heartbeat_interval
                .unwrap_or_else(|| HEARTBEAT_INTERVAL.to_owned()),
            heartbeat_loss: self.heartbeat_loss,
            workers: self.workers,
            sessions: self.capacity,
            ..LabSettings::default()
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.command, arguments.prefix) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nobody to read it, the exit code tells.
            let _ = writeln!(io::stderr(), "tidegate-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command, prefix: String) -> Result<()> {
    match command {
        Command::Up(size) => Lab::up(&size.settings(prefix)).and_then(|lab| show(&lab)),
        Command::Down => Lab::remove(&prefix),
        Command::Status => Lab::open(&prefix).and_then(|lab| show(&lab)),
        Command::Exec { host, command } => execute(&Lab::open(&prefix)?, host, &command),
        Command::Kill { unit } => Lab::open(&prefix)?.unit(unit)?.kill(),
        Command::Start { unit } => Lab::open(&prefix)?.unit(unit)?.start(),
        Command::Link {
            unit,
            interface,
            state,
        } => {
            let lab = Lab::open(&prefix)?;
            let unit = lab.unit(unit)?.id();
            lab.topology()
                .set_link(unit, interface, matches!(state, LinkState::Up))
        }
        Command::Cut {
            unit,
            interface,
            direction,
        } => {
            let lab = Lab::open(&prefix)?;
            let unit = lab.unit(unit)?.id();
            let from_unit = matches!(direction, Direction::From | Direction::Both);
            let to_unit = matches!(direction, Direction::To | Direction::Both);
            lab.topology().set_cut(unit, interface, from_unit, to_unit)
        }
        Command::Failover(failovers) => match failovers.peer {
            Some(Peer::Keepalived) => compare(failovers, prefix),
            None if failovers.beside_none => contrast(failovers, prefix),
            None => measure(failovers, prefix),
        },
        Command::Faults {
            seed,
            faults,
            plan,
            json,
            mut size,
        } => {
            // Two units are never whole while one is broken; with three, faults can overlap.
            size.units = size.units.or(Some(3));
            let trial = Trial {
                lab: size.settings(prefix),
                seed,
                faults: usize::try_from(faults)?,
                patience: Trial::PATIENCE,
            };
            if plan {
                show_plan(&trial)
            } else {
                try_faults(&trial, json)
            }
        }
        Command::Join {
            runs,
            sessions,
            json,
            size,
        } => {
            let mut lab = size.settings(prefix);
            // Room for the crowd and for the session of each run's stream.
            lab.sessions = lab.sessions.max(sessions + sessions / 4);
            let (runs, sessions) = (usize::try_from(runs)?, usize::try_from(sessions)?);
            let joining = Joining {
                lab,
                runs,
                sessions,
            };
            show_joins(&joining.perform()?, json)
        }
        Command::Goals { runs, only, output } => {
            let rows = if only.is_empty() {
                goals::Row::value_variants().to_vec()
            } else {
                only
            };
            let runs = usize::try_from(runs)?;
            judge(&Goals {
                prefix,
                rows,
                runs,
                output,
            })
        }
        Command::Demo {
            megabytes,
            rate,
            size,
        } => {
            let lab = size.settings(prefix);
            Demonstration {
                lab,
                megabytes,
                megabytes_per_second: rate,
            }
            .perform()
        }
    }
}

/// Replaces this process by the command.
fn execute(lab: &Lab, host: Host, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    let mut command = lab.topology().namespace(host).command(program);
    command.args(arguments);
    let error = command.exec();
    Err(tool::explain(&command, error))
}

fn show(lab: &Lab) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<12} {:>7}  {:<12} {:>5}  {:>9}  peers alive",
        "unit", "process", "role", "term", "sessions"
    )?;
    for unit in lab.units() {
        writeln!(out, "{}", describe(unit))?;
    }
    writeln!(
        out,
        "\nsockets: tidegate --socket {} status",
        lab.units()[0].socket().display()
    )?;
    writeln!(
        out,
        "logs and configurations: {}",
        lab.directory().display()
    )?;
    Ok(())
}

fn describe(unit: &Unit) -> String {
    let name = unit.name();
    let Some(process) = unit.process() else {
        return format!("{name:<12} {:>7}  down", "-");
    };
    match unit.status() {
        Ok(status) => format!(
            "{name:<12} {:>7}  {:<12} {:>5}  {:>9}  {}",
            process.pid,
            status.role,
            status.term,
            status.sessions.total,
            status.peers.iter().filter(|peer| peer.alive).count()
        ),
        Err(error) => format!("{name:<12} {:>7}  {error}", process.pid),
    }
}

impl Failovers {
    fn experiment(self, prefix: String) -> Result<Experiment> {
        let mut lab = self.size.settings(prefix);
        // Room for the crowd and for the sessions of many runs, which end by time.
        lab.sessions = lab.sessions.max(self.sessions.saturating_mul(2));
        Ok(Experiment {
            lab,
            fault: *self.fault.first().context("there is no fault")?,
            victim: self.on,
            runs: usize::try_from(self.runs)?,
            sessions: usize::try_from(self.sessions)?,
            rate: self.rate,
            transfer: self.transfer,
        })
    }
}

/// Measures Tidegate's failovers, one fault after the other.
fn measure(failovers: Failovers, prefix: String) -> Result<()> {
    let (faults, json) = (failovers.fault.clone(), failovers.json);
    let experiment = failovers.experiment(prefix)?;
    let mut out = io::stdout().lock();
    for fault in faults {
        let experiment = Experiment {
            fault,
            ..experiment.clone()
        };
        if !json {
            writeln!(out, "{RUN_HEADING}")?;
        }
        let mut number = 0;
        let report = experiment.perform(|run| {
            number += 1;
            if !json {
                // A closed pipe is told by the last line; the lab has to come down first.
                let _ = writeln!(out, "{number:>5}  {run}");
            }
        })?;
        tell(&mut out, &report, json)?;
    }
    Ok(())
}

/// Measures failovers with many sessions present and with none, in alternation.
fn contrast(failovers: Failovers, prefix: String) -> Result<()> {
    let (faults, json) = (failovers.fault.clone(), failovers.json);
    let experiment = failovers.experiment(prefix)?;
    let mut out = io::stdout().lock();
    for fault in faults {
        let experiment = Experiment {
            fault,
            ..experiment.clone()
        };
        if !json {
            writeln!(out, "sessions  {}", RUN_HEADING.trim_start())?;
        }
        let report = Contrast { experiment }.perform(|sessions, run| {
            if !json {
                // A closed pipe is told by the last line; the lab has to come down first.
                let _ = writeln!(out, "{sessions:>8}  {run}");
            }
        })?;
        tell(&mut out, &report, json)?;
    }
    Ok(())
}

/// Prints a report behind the lines of its runs, or alone as JSON.
fn tell(out: &mut impl Write, report: &(impl Display + Serialize), json: bool) -> Result<()> {
    match json {
        true => writeln!(out, "{}", serde_json::to_string(report)?)?,
        false => writeln!(out, "\n{report}\n")?,
    }
    Ok(())
}

/// Measures the goals; one that is missed is a failure.
fn judge(goals: &Goals) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", goals::HEADING)?;
    let table = goals.perform(|verdict| {
        // A closed pipe does not end an hour's work.
        let _ = writeln!(out, "{verdict}").and_then(|()| out.flush());
    })?;
    writeln!(
        out,
        "\nthe table as {} keeps it:\n{table}",
        goals.output.display()
    )?;
    if table.is_met() {
        return Ok(());
    }
    bail!("not every goal was reached")
}

/// Measures Tidegate's failovers and the peer's in alternation.
fn compare(failovers: Failovers, prefix: String) -> Result<()> {
    let (faults, json) = (failovers.fault.clone(), failovers.json);
    let peer = KeepalivedSettings {
        prefix: format!("{prefix}k"),
        advert_cs: failovers.peer_advert,
    };
    let intervals = match &failovers.size.heartbeat_interval {
        Some(interval) => vec![interval.clone()],
        None => vec![
            format!("{}ms", u32::from(peer.advert_cs) * 10),
            LEAST_HEARTBEAT_INTERVAL.to_owned(),
        ],
    };
    let comparison = Comparison {
        intervals,
        experiment: failovers.experiment(prefix)?,
        faults,
        peer,
    };
    let mut out = io::stdout().lock();
    if !json {
        writeln!(out, "{RUN_HEADING}")?;
    }
    let report = comparison.perform(|fault, name, run| {
        if !json {
            // A closed pipe is told by the last line; the lab has to come down first.
            let _ = writeln!(out, "{fault:>7} {run}  {name}");
        }
    })?;
    tell(&mut out, &report, json)?;
    Ok(())
}

fn show_plan(trial: &Trial) -> Result<()> {
    let mut out = io::stdout().lock();
    let steps = draw(trial.seed, trial.lab.units, trial.faults);
    for (number, step) in (1..).zip(steps) {
        writeln!(
            out,
            "{number:>4}  after {:>4} ms  {}",
            step.pause.as_millis(),
            step.action
        )?;
    }
    Ok(())
}

/// Performs a trial; a violation is a failure.
fn try_faults(trial: &Trial, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let report = trial.perform(|step| {
        if !json {
            // A closed pipe is told by the last line; the lab has to come down first.
            let _ = writeln!(out, "{step}");
        }
    })?;
    tell(&mut out, &report, json)?;
    if report.violations.is_empty() {
        return Ok(());
    }
    bail!("to repeat it: {}", trial.command())
}

fn show_joins(report: &JoinReport, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "  run      ready   of it, copying   sessions held   lost meanwhile"
    )?;
    for (number, run) in (1..).zip(&report.runs) {
        writeln!(
            out,
            "{number:>5}  {:>6.0} ms        {:>6.0} ms  {:>14}   {} of {}",
            run.ready_ms, run.copy_ms, run.held, run.lost, run.offered
        )?;
    }
    writeln!(
        out,
        "\na unit joins with {} sessions present: ready after {:.0} ms in the median, {:.0} ms at worst",
        report.sessions, report.median_ms, report.worst_ms
    )?;
    Ok(())
}
