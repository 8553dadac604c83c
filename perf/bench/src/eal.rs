//! How a benchmark starts DPDK: the same for each subcommand.

use std::process;

use anyhow::{Context, Result};
use dpdk::{Device, Eal, EalSettings};
use session::Memory;

/// Where DPDK gets its memory and on which core the benchmark runs.
#[derive(Clone, Debug, clap::Args)]
pub struct EalArgs {
    /// Use ordinary pages: needs no privilege and no reserved memory, and is slower.
    #[arg(long)]
    pub no_huge: bool,
    /// The core to measure on, the last one that the process may use unless told.
    #[arg(long, value_name = "N")]
    pub core: Option<u16>,
}

impl EalArgs {
    /// Starts DPDK with `memory_mb` MiB for everything that it will allocate, and pins the calling
    /// thread to the core. Once in a process.
    ///
    /// # Errors
    /// When there is no such core, or not that much memory of the kind that was asked for.
    pub fn start(&self, memory_mb: u32, devices: Vec<Device>) -> Result<Eal> {
        let settings = EalSettings {
            program: "tidegate-bench".to_owned(),
            file_prefix: format!("tidegate-bench-{}", process::id()),
            main_core: self.core()?,
            huge_pages: !self.no_huge,
            memory_mb,
            devices,
        };
        Eal::init(&settings).context("DPDK did not start (--no-huge runs without huge pages)")
    }

    /// The core to measure on.
    ///
    /// # Errors
    /// When the kernel does not tell which ones the process may use.
    pub fn core(&self) -> Result<u16> {
        if let Some(core) = self.core {
            return Ok(core);
        }
        let core = cores()?.last().copied();
        core.context("the process may use no core")
    }

    /// The kind of memory that the session table is to be made of: the same as DPDK's.
    #[must_use]
    pub fn memory(&self) -> Memory {
        if self.no_huge {
            Memory::Plain
        } else {
            Memory::Huge
        }
    }
}

/// The cores that the process may use, in order.
///
/// # Errors
/// When the kernel does not tell.
pub fn cores() -> Result<Vec<u16>> {
    let cores = core_affinity::get_core_ids().context("which cores may be used is unknown")?;
    cores
        .into_iter()
        .map(|core| u16::try_from(core.id).context("a core's number is above 65,535"))
        .collect()
}
