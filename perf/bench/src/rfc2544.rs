//! Throughput, latency and back-to-back frames as in RFC 2544, of any two ports.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// Throughput, latency and back-to-back frames as in RFC 2544, of any two ports.
#[derive(Clone, Debug, clap::Args)]
pub struct Rfc2544Args {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &Rfc2544Args, _report: &mut Report) -> Result<()> {
    bail!("rfc2544 is not here yet")
}
