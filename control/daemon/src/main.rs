//! `tidegated`: the gateway. Wires the data plane and the cluster to cores, ports and operators.
//!
//! ```text
//! control core (main thread)      decides; the cluster's state machine runs here
//! worker0, worker1, …             forward packets; one core, one shard, one queue of every port each
//! management                      HTTP for operators; signals
//! carrier                         link state of kernel interfaces, by netlink
//! reclaim                         drops what the control core has replaced
//! log                             writes to standard error what the others have to tell
//! ```

mod announce;
mod bounce;
mod carrier;
mod claim;
mod clock;
mod conflicts;
mod control;
mod counters;
mod events;
mod host;
mod last_term;
mod log;
mod management;
mod metrics;
mod moment;
mod monitor;
mod outgoing;
mod plan;
mod policies;
mod reclaim;
mod sessions;
mod silence;
mod startup;
mod strangers;
mod table;
mod withheld;
mod witness;
mod workers;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use config::Config;
use tracing_subscriber::EnvFilter;

use crate::control::Control;
use crate::log::Log;
use crate::management::{Management, Operator};

/// Wrong usage or a bad configuration.
const BAD_CONFIGURATION: u8 = 2;

/// A unit of a Tidegate cluster, in the foreground; logs to stderr.
#[derive(Debug, Parser)]
#[command(name = "tidegated", version)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, tell every problem of it, and exit: 0 if it is good, 2 if not.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(problems) => {
            let _ = writeln!(std::io::stderr(), "{problems}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    for warning in config.warnings() {
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tidegated: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `RUST_LOG` chooses the level; without it everything from "info" on is told.
fn log_to_stderr(config: &Config) -> Log {
    let log = Log::to_stderr(config.cpu.control);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.lines())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    log
}

fn run(config: Config) -> Result<()> {
    let _log = log_to_stderr(&config);
    let (requests, asked) = crossbeam::channel::unbounded();
    let management = Management::open(&config)?;
    let mut control = Control::start(config, asked)?;
    let _serving = management.serve(Operator::new(requests))?;
    control.run();
    Ok(())
}
