//! The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.
#[derive(Clone, Debug, clap::Args)]
pub struct ForwardArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &ForwardArgs, _report: &mut Report) -> Result<()> {
    bail!("forward is not here yet")
}
