//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use api::{SESSION_STATES, SessionFilter};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Ask a Tidegate unit what it does, and tell it what to do.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage or bad configuration."
)]
pub(crate) struct Arguments {
    /// The unit's socket; unless given, the only one in /run/tidegate that a unit listens on
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print the answer as JSON, as the unit gave it
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The unit at a glance
    Status,
    /// All units as this one sees them, and commands to the cluster
    Cluster {
        #[command(subcommand)]
        command: Option<ClusterCommand>,
    },
    /// The sessions that match
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        #[command(flatten)]
        filter: Filter,
        /// List at most so many, up to a million
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(..=i64::from(SessionFilter::LIMIT_MAX)))]
        limit: u32,
        #[command(subcommand)]
        command: Option<SessionsCommand>,
    },
    /// The interfaces, their addresses and counters
    Interfaces,
    /// The neighbours and their MAC addresses
    Neighbours,
    /// The routes, connected and static
    Routes,
    /// The policies in their order, with hits
    Policies,
    /// The counters that have counted something
    Counters {
        /// Show those at zero as well
        #[arg(long)]
        all: bool,
    },
    /// What happened, the newest last
    Events,
    /// How the copying of sessions to the peers goes
    Sync,
    /// Check, compare and reload configurations
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, as roff
    Man,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Hand the primary role over, in order
    Failover {
        /// The unit that is to be primary; the best one unless given
        #[arg(long, value_name = "UNIT", value_parser = clap::value_parser!(u8).range(1..=16))]
        to: Option<u8>,
    },
    /// The last changes of role, with their causes
    Why,
    /// Hold the unit out of the election, or let it back
    Maintenance {
        /// Whether it is held out
        switch: Switch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Hold it out; a primary hands over first
    On,
    /// Let it back
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// Remove the sessions that match, on all units
    Clear {
        #[command(flatten)]
        filter: Filter,
        /// Remove every session
        #[arg(long, conflicts_with_all = ["address", "port", "protocol", "state"], required_unless_present_any = ["address", "port", "protocol", "state"])]
        all: bool,
    },
}

/// Which sessions are meant.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// With this address at either end, translated or not
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// With this port at either end, translated or not
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Of this protocol: tcp, udp, icmp or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = api::parse_protocol)]
    protocol: Option<u8>,
    /// In this state
    #[arg(long, value_name = "STATE", value_parser = SESSION_STATES)]
    state: Option<String>,
}

impl Filter {
    pub(crate) fn with_limit(&self, limit: Option<u32>) -> SessionFilter {
        SessionFilter {
            address: self.address,
            port: self.port,
            protocol: self.protocol,
            state: self.state.clone(),
            limit,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check files without any unit; several files are checked as units of one cluster as well
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// What a file would change on the running unit, or what differs between two files
    Diff {
        /// The file
        file: PathBuf,
        /// Another file, to compare FILE with instead of the running unit
        other: Option<PathBuf>,
    },
    /// Have the unit read its file again
    Reload,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sessions_are_only_cleared_on_purpose() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("tidegate sessions clear").is_err());
        assert!(parse("tidegate sessions clear --all --port 5").is_err());
        assert!(parse("tidegate sessions clear --all").is_ok());
        assert!(parse("tidegate sessions clear --port 5").is_ok());
        assert!(parse("tidegate sessions --port 5").is_ok());
    }

    #[test]
    fn a_list_has_a_million_sessions_at_most() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("tidegate sessions --limit 1000000").is_ok());
        assert!(parse("tidegate sessions --limit 1000001").is_err());
    }
}
