//! `tidegate-bench`: benchmarks beside their peers, from the command line.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use tidegate_bench::{Report, connect, forward, join, page, rfc2544, scale, sync, system, table};

/// Benchmarks of the data plane, each beside its peer in the same run.
///
/// A row of a report has a figure of ours, and where there is one its peer's, both the median of
/// several runs in alternation. The ratio is the median of the ratios of adjacent runs, with the least
/// and the greatest of them beside it; above 1 it always means that we are better, whatever the unit.
/// Cycles are those of the time stamp counter. Progress goes to stderr, the report to stdout.
///
/// The machine must be quiet: two benchmarks at once measure each other.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version)]
struct Arguments {
    /// Print the report as JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Write the report also to SUBCOMMAND.json in this folder.
    #[arg(long, global = true, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Table(table::TableArgs),
    Forward(forward::ForwardArgs),
    Connect(connect::ConnectArgs),
    System(system::SystemArgs),
    Rfc2544(rfc2544::Rfc2544Args),
    Scale(scale::ScaleArgs),
    Sync(sync::SyncArgs),
    Join(join::JoinArgs),
    Page(page::PageArgs),
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::Forward(_) => "forward",
            Self::Connect(_) => "connect",
            Self::System(_) => "system",
            Self::Rfc2544(_) => "rfc2544",
            Self::Scale(_) => "scale",
            Self::Sync(_) => "sync",
            Self::Join(_) => "join",
            Self::Page(_) => "page",
        }
    }

    fn run(&self, report: &mut Report) -> Result<()> {
        match self {
            Self::Table(args) => table::run(args, report),
            Self::Forward(args) => forward::run(args, report),
            Self::Connect(args) => connect::run(args, report),
            Self::System(args) => system::run(args, report),
            Self::Rfc2544(args) => rfc2544::run(args, report),
            Self::Scale(args) => scale::run(args, report),
            Self::Sync(args) => sync::run(args, report),
            Self::Join(args) => join::run(args, report),
            Self::Page(args) => page::run(args, report),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "tidegate-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the subcommand. What was measured before a failure is printed, but never written to a file.
fn execute(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new(env::args().skip(1));
    let outcome = arguments.command.run(&mut report);
    if report.rows().is_empty() {
        return outcome;
    }
    report.print(arguments.json)?;
    outcome?;
    match &arguments.output {
        Some(folder) => report.write(folder, arguments.command.name()),
        None => Ok(()),
    }
}
