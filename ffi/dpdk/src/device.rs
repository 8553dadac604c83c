//! How a device is spelled, and what DPDK is told about it.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::port::PortSettings;

/// Bytes of a frame beside the IP packet: Ethernet header and one VLAN tag.
const FRAMING: usize = 18;
/// What AF_PACKET puts before each frame in its ring, in bytes, rounded up.
const RING_HEADER: usize = 80;
/// What the driver takes that to be when it compares a ring's frames with a pool's buffers.
const RING_HEADER_CLAIMED: usize = 32;
/// Sizes of a ring's frames are multiples of this, in bytes, so that four of them fill whole pages
/// and a block has no gap: the driver takes the ring for one array.
const RING_STEP: usize = 1_024;
const FRAMES_PER_BLOCK: usize = 4;
/// The kernel fills a ring also while nobody reads it, and whoever reads shares a core with others: 100 ms of
/// 20,000 packets per second.
const RING_FRAMES_MIN: usize = 2_048;

/// A device as it is configured: `KIND:TARGET`, and further arguments for its driver after a comma,
/// as in `memif:/run/a.sock,role=server`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// `af_packet:IF`: a kernel interface, by its raw socket.
    AfPacket {
        /// The interface.
        interface: String,
        /// Further arguments, or empty.
        options: String,
    },
    /// `af_xdp:IF`: a kernel interface, by its XDP socket. Its driver does not give back the buffers
    /// of its receive queues when it is closed: open it once per process.
    AfXdp {
        /// The interface.
        interface: String,
        /// Further arguments, or empty.
        options: String,
    },
    /// `tap:IF`: a kernel interface that is made for it, and gone with it.
    Tap {
        /// The interface.
        interface: String,
        /// Further arguments, or empty.
        options: String,
    },
    /// `memif:SOCKET`: shared memory with another process. `role=server` on one side.
    Memif {
        /// Path of the socket.
        socket: String,
        /// Further arguments, or empty.
        options: String,
    },
    /// `pci:ADDRESS`: a NIC.
    Pci {
        /// The address with its domain, and further arguments after a comma.
        address: String,
    },
    /// `pcap:FILE`: receives the frames of FILE once, writes those sent to `FILE.out.pcap`.
    Pcap {
        /// The file.
        file: String,
        /// Further arguments, or empty.
        options: String,
    },
    /// `null`: receives empty frames as fast as it is asked, and forgets what is sent.
    Null {
        /// Further arguments, or empty.
        options: String,
    },
    /// `vdev:ARGUMENTS`: whatever DPDK's `--vdev` takes.
    Vdev {
        /// The arguments, which begin with the name of the device.
        arguments: String,
    },
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |cause| Error::Spelling {
            text: text.to_owned(),
            cause,
        };
        if text.contains('\0') || text.contains(char::is_whitespace) {
            return Err(refused("it contains white space"));
        }
        if text == "null" || text.starts_with("null,") {
            let options = text.strip_prefix("null,").unwrap_or_default().to_owned();
            return Ok(Self::Null { options });
        }
        let (kind, rest) = text.split_once(':').ok_or(refused(KINDS))?;
        let (target, options) = rest.split_once(',').unwrap_or((rest, ""));
        if target.is_empty() {
            return Err(refused("nothing follows the colon"));
        }
        let (target, options) = (target.to_owned(), options.to_owned());
        match kind {
            "af_packet" => Ok(Self::AfPacket {
                interface: target,
                options,
            }),
            "af_xdp" => Ok(Self::AfXdp {
                interface: target,
                options,
            }),
            "tap" => Ok(Self::Tap {
                interface: target,
                options,
            }),
            "memif" => Ok(Self::Memif {
                socket: target,
                options,
            }),
            "pcap" => Ok(Self::Pcap {
                file: target,
                options,
            }),
            "vdev" => Ok(Self::Vdev {
                arguments: rest.to_owned(),
            }),
            "pci" => match target.split(':').count() {
                2 => Ok(Self::Pci {
                    address: format!("0000:{rest}"),
                }),
                3 => Ok(Self::Pci {
                    address: rest.to_owned(),
                }),
                _ => Err(refused("a PCI address looks like 0000:81:00.0")),
            },
            _ => Err(refused(KINDS)),
        }
    }
}

const KINDS: &str = "it is none of af_packet:IF, af_xdp:IF, tap:IF, memif:SOCKET, pci:ADDRESS, \
                     pcap:FILE, null, vdev:ARGUMENTS";

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, target, options) = match self {
            Self::AfPacket { interface, options } => ("af_packet:", interface.as_str(), options),
            Self::AfXdp { interface, options } => ("af_xdp:", interface.as_str(), options),
            Self::Tap { interface, options } => ("tap:", interface.as_str(), options),
            Self::Memif { socket, options } => ("memif:", socket.as_str(), options),
            Self::Pcap { file, options } => ("pcap:", file.as_str(), options),
            Self::Null { options } => ("null", "", options),
            Self::Pci { address } => return write!(f, "pci:{address}"),
            Self::Vdev { arguments } => return write!(f, "vdev:{arguments}"),
        };
        let comma = if options.is_empty() { "" } else { "," };
        write!(f, "{kind}{target}{comma}{options}")
    }
}

impl Device {
    /// The kernel interface behind the device, whose carrier is the device's link: DPDK reports the
    /// link of such a device as up for ever.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<&str> {
        match self {
            Self::AfPacket { interface, .. }
            | Self::AfXdp { interface, .. }
            | Self::Tap { interface, .. } => Some(interface),
            _ => None,
        }
    }

    /// What EAL must be told of a NIC before it starts.
    pub(crate) fn pci_argument(&self) -> Option<&str> {
        match self {
            Self::Pci { address } => Some(address),
            _ => None,
        }
    }

    /// Whether another process maps DPDK's memory, which then must be one file.
    pub(crate) fn shares_its_memory(&self) -> bool {
        matches!(self, Self::Memif { options, .. } if options.contains("zero-copy=yes"))
    }

    /// The longest frame that the driver may write into a buffer, in bytes, where it is known
    /// beforehand. `mtu` is that of the kernel interface.
    pub(crate) fn longest_frame(&self, mtu: usize) -> Option<usize> {
        let options = match self {
            Self::AfPacket { .. } => return Some(ring_frame(mtu) - RING_HEADER_CLAIMED),
            Self::Null { options } => options,
            Self::Vdev { arguments } if arguments.starts_with("net_null") => arguments,
            _ => return None,
        };
        // The driver of net_null does not look at the room of a buffer.
        let sizes = options
            .split(',')
            .filter_map(|option| option.strip_prefix("size="));
        sizes
            .map(|size| parse_number(size).unwrap_or(usize::MAX))
            .max()
    }

    /// The virtual device's name, and its arguments as `--vdev` takes them; `None` for a NIC.
    /// `mtu` is that of the kernel interface, where there is one.
    pub(crate) fn vdev(&self, name: &str, settings: &PortSettings, mtu: usize) -> Option<Vdev> {
        let queues = settings.rx_queues.max(settings.tx_queues);
        let (driver, arguments, options) = match self {
            Self::AfPacket { interface, options } => {
                let ring = ring_arguments(settings, mtu);
                (
                    "net_af_packet",
                    format!("iface={interface},qpairs={queues}{ring}"),
                    options,
                )
            }
            Self::AfXdp { interface, options } => (
                "net_af_xdp",
                format!("iface={interface},queue_count={queues}"),
                options,
            ),
            Self::Tap { interface, options } => ("net_tap", format!("iface={interface}"), options),
            Self::Memif { socket, options } => (
                "net_memif",
                format!("socket={socket},socket-abstract=no"),
                options,
            ),
            Self::Pcap { file, options } => (
                "net_pcap",
                format!("rx_pcap={file},tx_pcap={file}.out.pcap"),
                options,
            ),
            Self::Null { options } => ("net_null", String::new(), options),
            Self::Vdev { arguments } => {
                let name = arguments.split(',').next().unwrap_or_default().to_owned();
                return Some(Vdev {
                    name,
                    arguments: arguments.clone(),
                });
            }
            Self::Pci { .. } => return None,
        };
        let name = format!("{driver}_{name}");
        let parts = [name.as_str(), arguments.as_str(), options.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Some(Vdev {
            arguments: parts.join(","),
            name,
        })
    }
}

/// A virtual device as DPDK wants it.
#[derive(Debug)]
pub(crate) struct Vdev {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The size of a ring's frames that hold packets of `mtu` bytes.
fn ring_frame(mtu: usize) -> usize {
    (mtu + FRAMING + RING_HEADER)
        .next_multiple_of(RING_STEP)
        .max(2 * RING_STEP)
}

/// The geometry of an AF_PACKET ring: as many frames as there are descriptors, and at least [`RING_FRAMES_MIN`].
fn ring_arguments(settings: &PortSettings, mtu: usize) -> String {
    let frame = ring_frame(mtu);
    let block = frame * FRAMES_PER_BLOCK;
    let descriptors = usize::from(settings.rx_descriptors.max(settings.tx_descriptors));
    let frames = descriptors
        .next_multiple_of(FRAMES_PER_BLOCK)
        .max(RING_FRAMES_MIN);
    format!(",blocksz={block},framesz={frame},framecnt={frames}")
}

/// A number as the drivers read it: decimal or hexadecimal.
fn parse_number(text: &str) -> Option<usize> {
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_survive_a_round_trip() {
        for text in [
            "af_packet:lan0",
            "af_packet:lan0,qdisc_bypass=0",
            "af_xdp:lan0",
            "tap:tap0",
            "memif:/run/a.sock,role=server",
            "pci:0000:81:00.0",
            "pci:0000:81:00.0,a=1",
            "pcap:in.pcap",
            "null",
            "null,copy=0",
            "vdev:net_ring0,nodeaction=r0:0:CREATE",
        ] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!(
            "pci:81:00.0".parse::<Device>().unwrap().to_string(),
            "pci:0000:81:00.0"
        );
    }

    #[test]
    fn wrong_spellings_say_what_would_be_right() {
        for text in [
            "",
            "nul",
            "af_packet",
            "af_packet:",
            "pci:81",
            "null:x",
            "tap:a b",
            "ring:0",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not a device: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_kernel_devices_have_an_interface() {
        let interface = |text: &str| {
            text.parse::<Device>()
                .unwrap()
                .kernel_interface()
                .map(str::to_owned)
        };
        assert_eq!(
            interface("af_packet:a,qdisc_bypass=1").as_deref(),
            Some("a")
        );
        assert_eq!(interface("af_xdp:b").as_deref(), Some("b"));
        assert_eq!(interface("tap:c").as_deref(), Some("c"));
        assert_eq!(interface("pci:0000:81:00.0"), None);
        assert_eq!(interface("vdev:net_tap0,iface=d"), None);
    }

    #[test]
    fn drivers_are_told_their_arguments() {
        let settings = PortSettings {
            rx_queues: 2,
            tx_queues: 2,
            ..PortSettings::default()
        };
        let arguments = |text: &str, mtu| {
            text.parse::<Device>()
                .unwrap()
                .vdev("x", &settings, mtu)
                .unwrap()
                .arguments
        };
        assert_eq!(
            arguments("af_packet:lan0,qdisc_bypass=1", 1500),
            "net_af_packet_x,iface=lan0,qpairs=2,blocksz=8192,framesz=2048,framecnt=2048,qdisc_bypass=1"
        );
        assert!(arguments("af_packet:lan0", 9000).contains("blocksz=36864,framesz=9216,"));
        assert_eq!(
            arguments("memif:/m,role=server", 0),
            "net_memif_x,socket=/m,socket-abstract=no,role=server"
        );
        assert_eq!(arguments("null", 0), "net_null_x");
        assert_eq!(arguments("null,copy=0", 0), "net_null_x,copy=0");
        assert_eq!(arguments("vdev:net_ring0,a=b", 0), "net_ring0,a=b");
    }

    #[test]
    fn long_frames_are_known_beforehand() {
        let frame = |text: &str| text.parse::<Device>().unwrap().longest_frame(1500);
        assert_eq!(frame("null"), None);
        assert_eq!(frame("null,size=64,size=0x1000"), Some(4096));
        assert_eq!(frame("vdev:net_null7,size=junk"), Some(usize::MAX));
        assert_eq!(frame("tap:x,size=9000"), None);
        assert_eq!(frame("af_packet:x"), Some(2016));
    }
}
