//! How devices are spelled.
//!
//! The spelling is checked here, so that a file can be judged where there is no DPDK; what the
//! device is able to do is only known when it is opened.

use std::fmt;
use std::str::FromStr;

/// All spellings, for people.
pub(crate) const SPELLINGS: &str = "af_packet:IF, af_xdp:IF, tap:IF, memif:SOCKET, \
     pci:0000:81:00.0, pcap:FILE, null, vdev:ARGS";

/// Longest name of a network interface in Linux, without the closing zero.
const INTERFACE_NAME_MAX: usize = 15;

/// The spelling of a device, such as `af_packet:lan0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device(String);

impl Device {
    /// The spelling, as DPDK's side parses it again.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for devices of which any number may be opened by the same spelling.
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        self.0 == "null"
    }

    /// The kernel's interface behind the device, if there is one whose carrier can be watched.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<&str> {
        match self.0.split_once(':') {
            Some(("af_packet" | "af_xdp", interface)) => Some(interface),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the spelling of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The part before the colon is no kind of device.
    #[error("\"{0}\" is no kind of device")]
    Kind(String),
    /// The part after the colon is missing.
    #[error("\"{0}:\" names no device")]
    Argument(String),
    /// `null` takes nothing.
    #[error("\"null\" takes no argument")]
    NullArgument,
    /// No kernel interface can have that name.
    #[error("\"{0}\" can't be the name of a network interface")]
    InterfaceName(String),
    /// Not the address of a PCI device.
    #[error("\"{0}\" is not the address of a PCI device")]
    PciAddress(String),
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("null", None) => Ok(()),
            ("null", Some(_)) => Err(DeviceError::NullArgument),
            (
                "af_packet" | "af_xdp" | "tap" | "memif" | "pci" | "pcap" | "vdev",
                None | Some(""),
            ) => Err(DeviceError::Argument(kind.into())),
            ("af_packet" | "af_xdp" | "tap", Some(name)) if !is_interface_name(name) => {
                Err(DeviceError::InterfaceName(name.into()))
            }
            ("pci", Some(address)) if !is_pci_address(address) => {
                Err(DeviceError::PciAddress(address.into()))
            }
            ("af_packet" | "af_xdp" | "tap" | "memif" | "pci" | "pcap" | "vdev", Some(_)) => Ok(()),
            _ => Err(DeviceError::Kind(kind.into())),
        }?;
        Ok(Self(text.into()))
    }
}

/// After `dev_valid_name` of Linux, and without the comma, which ends an argument of DPDK.
fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b','))
}

/// `DDDD:BB:DD.F` in hexadecimal digits; the domain may be absent.
fn is_pci_address(address: &str) -> bool {
    let Some((rest, function)) = address.split_once('.') else {
        return false;
    };
    let widths: Vec<usize> = rest.split(':').map(str::len).collect();
    let hexadecimal = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(widths[..], [4, 2, 2] | [2, 2])
        && rest.split(':').all(hexadecimal)
        && matches!(function.as_bytes(), [b'0'..=b'7'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_accepted() {
        for text in [
            "af_packet:lan0",
            "af_xdp:eth0",
            "tap:tg0",
            "memif:/run/memif.sock",
            "pci:0000:81:00.0",
            "pci:81:00.7",
            "pcap:in.pcap",
            "null",
            "vdev:net_ring0,nodeaction=r0:0:CREATE",
        ] {
            assert_eq!(text.parse::<Device>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        let error = |text: &str| text.parse::<Device>().unwrap_err().to_string();
        assert_eq!(error("afpacket:lan0"), "\"afpacket\" is no kind of device");
        assert_eq!(error("af_packet"), "\"af_packet:\" names no device");
        assert_eq!(error("tap:"), "\"tap:\" names no device");
        assert_eq!(error("null:0"), "\"null\" takes no argument");
        assert_eq!(
            error("af_packet:an-interface-too-long"),
            "\"an-interface-too-long\" can't be the name of a network interface"
        );
        assert_eq!(
            error("af_packet:a,b"),
            "\"a,b\" can't be the name of a network interface"
        );
        for wrong in ["81:00", "0000:81:00.8", "0000:81:zz.0", "0:81:00.0"] {
            assert_eq!(
                error(&format!("pci:{wrong}")),
                format!("\"{wrong}\" is not the address of a PCI device")
            );
        }
    }

    #[test]
    fn kernel_interfaces_are_known_where_carrier_can_be_watched() {
        let interface = |text: &str| {
            let device: Device = text.parse().unwrap();
            device.kernel_interface().map(str::to_owned)
        };
        assert_eq!(interface("af_packet:lan0").as_deref(), Some("lan0"));
        assert_eq!(interface("af_xdp:wan0").as_deref(), Some("wan0"));
        assert_eq!(interface("null"), None);
    }
}
