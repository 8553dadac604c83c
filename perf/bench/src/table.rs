//! The session table beside `rte_hash` and the memory itself.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// The session table beside `rte_hash` and the memory itself.
#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &TableArgs, _report: &mut Report) -> Result<()> {
    bail!("table is not here yet")
}
