//! dpdk-testpmd: frames from one port to the other, untouched or with the addresses of the frame
//! rewritten. No gateway can be faster on the same devices.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::child::Child;
use super::{Site, number_after, start};

/// How long it forwards for one figure.
const PERIOD: Duration = Duration::from_millis(200);

/// What it does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Io,
    /// Writes both Ethernet addresses.
    Mac,
    /// Exchanges them.
    MacSwap,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Io, Self::Mac, Self::MacSwap];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::MacSwap => "macswap",
        })
    }
}

/// A testpmd that waits to forward.
pub(crate) struct Testpmd(Child);

impl Testpmd {
    /// Starts it on the devices of the harness, in bursts of 64 like the worker.
    pub(crate) fn start(site: &Site, mode: Mode) -> Result<Self> {
        let spare = site.spare_core.context("testpmd wants two cores")?;
        let devices = ["net_null0,size=60,copy=0", "net_null1,size=60,no-rx=1"];
        // Its output shall come line by line through a pipe.
        let mut arguments = vec!["-oL".to_owned(), "dpdk-testpmd".to_owned()];
        arguments.extend(site.eal("testpmd", &[spare, site.core], &devices));
        let mode = format!("--forward-mode={mode}");
        for option in ["-i", &mode, "--burst=64", "--record-core-cycles"] {
            arguments.push(option.to_owned());
        }
        arguments.push("--total-num-mbufs=16384".to_owned());
        let mut child = start("dpdk-testpmd (of Debian's dpdk-dev)", "stdbuf", &arguments)?;
        child.expect(|line| line.contains("Done").then_some(()))?;
        Ok(Self(child))
    }

    /// Cycles per packet that it spent in forwarding.
    pub(crate) fn measure(&mut self) -> Result<f64> {
        self.0.say("start")?;
        thread::sleep(PERIOD);
        self.0.say("stop")?;
        self.0.expect(|line| number_after(line, "cycles/packet="))
    }
}
