//! One worker to many, steered perfectly and by hand-over.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// One worker to many, steered perfectly and by hand-over.
#[derive(Clone, Debug, clap::Args)]
pub struct ScaleArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &ScaleArgs, _report: &mut Report) -> Result<()> {
    bail!("scale is not here yet")
}
