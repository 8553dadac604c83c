//! The results as one page with plots.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// The results as one page with plots.
#[derive(Clone, Debug, clap::Args)]
pub struct PageArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &PageArgs, _report: &mut Report) -> Result<()> {
    bail!("page is not here yet")
}
