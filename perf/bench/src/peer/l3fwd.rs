//! DPDK's l3fwd: routes by exact match of the tuple, or by the longest prefix of the destination. It
//! keeps no state, so a gateway that does is not expected to be faster.
//!
//! It is compiled from a copy of the sources that Debian ships with DPDK's examples, which is adapted
//! ([`CHANGES`]) and given a meter (`sketch/meter.c`). It cannot stamp flows into frames, so they come
//! from a capture, over and over (net_pcap with `infinite_rx=1`).

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::child::Child;
use super::{Site, Workshop, start};
use crate::forward::flow::Flow;
use crate::forward::gateway::per_packet;

/// Where Debian's dpdk-doc puts the examples.
const EXAMPLES: &str = "/usr/share/dpdk/examples";
const SOURCES: [&str; 8] = [
    "main.c",
    "l3fwd_acl.c",
    "l3fwd_em.c",
    "l3fwd_event.c",
    "l3fwd_event_generic.c",
    "l3fwd_event_internal_port.c",
    "l3fwd_fib.c",
    "l3fwd_lpm.c",
];
const METER: &str = include_str!("../../sketch/meter.c");

/// What is changed in main.c, each place once: what stands there, and what shall.
const CHANGES: [(&str, &str); 4] = [
    // It insists on checksums being verified by the device, which virtual devices do not.
    ("\t\t.offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM,\n", ""),
    // net_pcap keeps all frames of the capture in buffers of the pool.
    (
        "(unsigned)8192)",
        "(unsigned)atoi(getenv(\"L3FWD_BUFFERS\")))",
    ),
    // Buffers no larger than ours, so that a million of them fit.
    ("RTE_MBUF_DEFAULT_BUF_SIZE,", "RTE_PKTMBUF_HEADROOM + 256,"),
    // The ports are started by then.
    (
        "\t/* launch per-lcore init on every lcore */\n",
        "\textern void start_meter(void);\n\tstart_meter();\n",
    ),
];

/// How long it forwards before a figure is taken, and for the figure.
const WARM_UP: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(200);

/// Room in a buffer, in bytes, as in [`CHANGES`].
pub(crate) const ROOM: u16 = 256;

/// How it finds the way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// A hash of the whole tuple: one rule for each flow.
    ExactMatch,
    /// The longest prefix of the destination: one rule for all.
    LongestPrefix,
}

impl fmt::Display for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactMatch => "l3fwd em",
            Self::LongestPrefix => "l3fwd lpm",
        })
    }
}

/// The program, compiled.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Copies, adapts and compiles it.
    ///
    /// # Errors
    /// When the examples are not installed, or are not those that [`CHANGES`] knows.
    pub(crate) fn compile(workshop: &Workshop) -> Result<Self> {
        let examples = Path::new(EXAMPLES);
        let folder = workshop.path().join("l3fwd");
        copy(&examples.join("l3fwd"), &folder)
            .context("DPDK's examples are not there (Debian's package dpdk-doc has them)")?;
        let main = folder.join("main.c");
        fs::write(&main, adapt(&fs::read_to_string(&main)?)?)?;
        let meter = workshop.path().join("meter.c");
        fs::write(&meter, METER)?;
        let mut sources: Vec<PathBuf> = SOURCES.iter().map(|name| folder.join(name)).collect();
        sources.push(meter);
        let include = format!("-I{}", examples.join("common").display());
        let flags = [include.as_str(), "-DALLOW_EXPERIMENTAL_API"];
        workshop
            .compile("l3fwd-metered", &sources, &flags)
            .map(Self)
    }

    /// Starts it, to send what it receives from `capture` out by a device that forgets it, with
    /// `flows` rules.
    pub(crate) fn start(
        &self,
        site: &Site,
        workshop: &Workshop,
        look_up: LookUp,
        capture: &Path,
        flows: u32,
    ) -> Result<L3fwd> {
        let rules = workshop.path().join("rules.cfg");
        let (method, other_rules) = match look_up {
            LookUp::ExactMatch => {
                write_rules(&rules, flows)?;
                ("em", "em_default_v6.cfg")
            }
            LookUp::LongestPrefix => {
                fs::write(&rules, "R128.0.0.0/2 1\n")?;
                ("lpm", "lpm_default_v6.cfg")
            }
        };
        let core = site.core;
        let source = format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display());
        let mut arguments = vec![format!("L3FWD_BUFFERS={}", buffers(flows))];
        arguments.push(self.0.display().to_string());
        arguments.extend(site.eal("l3fwd", &[core], &[&source, "net_null1,no-rx=1"]));
        arguments.extend(["-p", "0x3", "--parse-ptype"].map(str::to_owned));
        arguments.push(format!("--lookup={method}"));
        arguments.push(format!("--config=(0,0,{core}),(1,0,{core})"));
        arguments.push(format!("--rule_ipv4={}", rules.display()));
        let other_rules = Path::new(EXAMPLES).join("l3fwd").join(other_rules);
        arguments.push(format!("--rule_ipv6={}", other_rules.display()));
        let mut child = start("l3fwd", "env", &arguments)?;
        child.expect(|line| (line == "meter ready").then_some(()))?;
        let mut l3fwd = L3fwd(child);
        ensure!(l3fwd.measure()? > 0.0, "l3fwd sends nothing");
        Ok(l3fwd)
    }
}

/// An l3fwd that is stopped, but for its turns.
pub(crate) struct L3fwd(Child);

impl L3fwd {
    /// Cycles per packet that it sent, source and sink included.
    pub(crate) fn measure(&mut self) -> Result<f64> {
        self.0.resume()?;
        thread::sleep(WARM_UP);
        let (start, before) = self.sample()?;
        thread::sleep(PERIOD);
        let (end, after) = self.sample()?;
        self.0.pause()?;
        Ok(per_packet(end - start, after - before))
    }

    fn sample(&mut self) -> Result<(u64, u64)> {
        self.0.say("sample")?;
        self.0.expect(|line| {
            let (cycles, packets) = line.strip_prefix("meter ")?.split_once(' ')?;
            Some((cycles.parse().ok()?, packets.parse().ok()?))
        })
    }
}

/// Buffers for so many captured frames and what is on its way.
pub(crate) fn buffers(flows: u32) -> u32 {
    flows + 16_384
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn adapt(source: &str) -> Result<String> {
    let mut adapted = source.to_owned();
    for (old, new) in CHANGES {
        let places = adapted.matches(old).count();
        ensure!(
            places == 1,
            "this l3fwd is another one: `{old}` stands in it {places} times"
        );
        adapted = adapted.replace(old, new);
    }
    Ok(adapted)
}

/// One rule for each flow: destination, source, their ports, the protocol, the port to send by.
fn write_rules(path: &Path, flows: u32) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 0..flows {
        let Flow { client, server } = Flow::number(number);
        let addresses = [server, client].map(|end| Ipv4Addr::from_bits(end.address));
        writeln!(
            file,
            "R{} {} {} {} 17 1",
            addresses[0], addresses[1], server.port, client.port
        )?;
    }
    Ok(file.flush()?)
}

/// Writes frames as a capture file (the classic format of libpcap, little-endian, Ethernet).
pub(crate) fn write_capture<'a>(path: &Path, frames: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    for word in header {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let len = u32::try_from(frame.len())?;
        for word in [0, 0, len, len] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(frame)?;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_source_is_adapted() {
        let known: String = CHANGES.iter().map(|(old, _)| *old).collect();
        let adapted = adapt(&known).unwrap();
        assert!(!adapted.contains("OFFLOAD_CHECKSUM") && adapted.contains("L3FWD_BUFFERS"));
        assert!(adapt("int main(void)").is_err());
        assert!(adapt(&known.repeat(2)).is_err());
    }

    #[test]
    fn captures_and_rules_are_written() {
        let workshop = Workshop::new().unwrap();
        let capture = workshop.path().join("two.pcap");
        let frames = [[1u8; 60], [2; 60]];
        write_capture(&capture, frames.iter().map(<[u8; 60]>::as_slice)).unwrap();
        let bytes = fs::read(&capture).unwrap();
        assert_eq!(bytes.len(), 24 + 2 * (16 + 60));
        assert_eq!(bytes[24 + 16 + 60 + 8..][..4], 60u32.to_le_bytes());
        let rules = workshop.path().join("rules");
        write_rules(&rules, 2).unwrap();
        let text = fs::read_to_string(&rules).unwrap();
        assert_eq!(
            text,
            "R128.0.0.0 10.0.0.1 443 32768 17 1\nR158.55.121.177 10.0.0.2 443 40503 17 1\n"
        );
    }
}
