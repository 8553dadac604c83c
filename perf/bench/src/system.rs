//! Client, gateway and server in network namespaces, beside testpmd and the kernel.

use anyhow::{Result, bail};

use crate::{EalArgs, Report};

/// Client, gateway and server in network namespaces, beside testpmd and the kernel.
#[derive(Clone, Debug, clap::Args)]
pub struct SystemArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
}

/// Runs it.
///
/// # Errors
/// Always: it is not here yet.
pub fn run(_args: &SystemArgs, _report: &mut Report) -> Result<()> {
    bail!("system is not here yet")
}
