//! New sessions per second.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// New sessions per second.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &ConnectArgs, _report: &mut Report) -> Result<()> {
    bail!("connect is not here yet")
}
