//! Opening a device, step by step, with an error for each step that names the device, the cause and
//! the remedy.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use dpdk_sys::{tg_port_config, tg_port_info};

use crate::device::Device;
use crate::error::describe;
use crate::kernel::Interface;
use crate::port::{Opened, PortInfo, PortSettings, Rss};
use crate::{Error, Fault, Mempool, log};

/// Entries of the largest redirection table that the shim writes.
const LARGEST_RETA: u16 = 512;

/// The DPDK ports that are open: DPDK itself would let two users configure one port.
static OPEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// Marks a port as closed.
pub(crate) fn release(number: u16) {
    OPEN.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|open| *open != number);
}

/// Marks a port as open; false when it is already.
fn claim(number: u16) -> bool {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let free = !open.contains(&number);
    if free {
        open.push(number);
    }
    free
}

/// Everything up to, but not including, the start.
pub(crate) fn open(
    device: &Device,
    name: &str,
    settings: &PortSettings,
    pool: &Mempool,
) -> Result<(Opened, PortInfo), Error> {
    let kernel = kernel_interface(device)?;
    let kernel_mtu = match &kernel {
        Some((interface, _)) => {
            let mtu = interface
                .mtu()
                .map_err(|error| kernel_error(device, &error))?;
            u16::try_from(mtu).unwrap_or(u16::MAX)
        }
        None => settings.mtu,
    };
    check_files(device)?;
    check_buffers(device, kernel_mtu, pool)?;

    let number = attach(device, name, settings, kernel_mtu)?;
    if !claim(number) {
        return Err(fault(device, Fault::Busy, "open each device once"));
    }
    let mut opened = Opened {
        number,
        device: std::ptr::null_mut(),
        kernel,
        too_long: AtomicU64::new(0),
    };
    let facts = facts(device, number)?;
    if !matches!(device, Device::Pci { .. }) {
        opened.device = facts.device;
    }
    check_queues(device, settings, &facts)?;
    let mtu = settings.mtu.min(kernel_mtu);
    let hardware_steering = configure(device, number, settings, &facts)?;
    set_up_queues(device, number, settings, pool)?;

    let mut mac = [0; 6];
    // SAFETY: the port is open; the call fills six bytes.
    let status = unsafe { dpdk_sys::rte_eth_macaddr_get(number, &raw mut mac) };
    check(device, "reading the MAC address", status, "")?;
    // SAFETY: the shim ends the name with a NUL.
    let driver = unsafe { CStr::from_ptr(facts.driver.as_ptr()) };
    let info = PortInfo {
        name: name.to_owned(),
        device: device.to_string(),
        driver: driver.to_string_lossy().into_owned(),
        mac,
        rx_queues: settings.rx_queues,
        tx_queues: settings.tx_queues,
        max_rx_queues: facts.max_rx_queues,
        max_tx_queues: facts.max_tx_queues,
        mtu,
        hardware_steering,
    };
    Ok((opened, info))
}

fn fault(device: &Device, fault: Fault, remedy: &str) -> Error {
    Error::Device {
        device: device.to_string(),
        fault,
        remedy: remedy.to_owned(),
    }
}

fn check(device: &Device, operation: &'static str, status: c_int, said: &str) -> Result<(), Error> {
    if status >= 0 {
        return Ok(());
    }
    let cause = if said.is_empty() {
        describe(status)
    } else {
        said.to_owned()
    };
    let remedy = remedy(status, &cause);
    Err(fault(device, Fault::Refused { operation, cause }, remedy))
}

/// What would help against what a driver said. Drivers answer -1 or `ENOMEM` to many things; their
/// log tells them apart.
fn remedy(status: c_int, cause: &str) -> &'static str {
    let says = |text| cause.contains(text);
    if says("Operation not permitted") || says("Permission denied") {
        "run as root, or with the capabilities CAP_NET_RAW and CAP_NET_ADMIN"
    } else if says("queue count") {
        "use fewer workers, or give the interface more queues (`ethtool -L INTERFACE combined N`)"
    } else if says("will not fit in mbuf") {
        "make the pool's buffers larger, or the device's frames smaller"
    } else if status == -libc::ENOMEM {
        "give DPDK more memory, or the port fewer descriptors"
    } else {
        "correct its arguments, which the driver's page in DPDK's NIC guide tells"
    }
}

/// The kernel interface that the device needs, and whether it is promiscuous now.
fn kernel_interface(device: &Device) -> Result<Option<(Interface, bool)>, Error> {
    let Some(name) = device.kernel_interface() else {
        return Ok(None);
    };
    let found = Interface::find(name);
    if matches!(device, Device::Tap { .. }) {
        return match found {
            Ok(_) => Err(fault(
                device,
                Fault::Busy,
                &format!(
                    "a tap interface is made when it is opened: `ip link delete {name}`, or choose another name"
                ),
            )),
            Err(_) => Ok(None),
        };
    }
    let interface = found.map_err(|error| kernel_error(device, &error))?;
    let promiscuous = interface
        .is_promiscuous()
        .map_err(|error| kernel_error(device, &error))?;
    Ok(Some((interface, promiscuous)))
}

fn kernel_error(device: &Device, error: &io::Error) -> Error {
    let name = device.kernel_interface().unwrap_or_default();
    if error.raw_os_error() == Some(libc::ENODEV) {
        let what = Fault::Missing(format!("interface {name}"));
        return fault(
            device,
            what,
            "`ip link` shows those of this network namespace",
        );
    }
    let what = Fault::Refused {
        operation: "asking the kernel",
        cause: error.to_string(),
    };
    fault(device, what, "look at the interface with `ip link`")
}

fn check_files(device: &Device) -> Result<(), Error> {
    match device {
        Device::Pcap { file, .. } if !Path::new(file).is_file() => Err(fault(
            device,
            Fault::Missing(format!("file {file}")),
            "correct the path",
        )),
        Device::Memif { socket, .. } => match Path::new(socket).parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                let what = Fault::Missing(format!("folder {}", folder.display()));
                Err(fault(
                    device,
                    what,
                    "create it, or correct the path of the socket",
                ))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_buffers(device: &Device, kernel_mtu: u16, pool: &Mempool) -> Result<(), Error> {
    let room = pool.data_room();
    match device.longest_frame(usize::from(kernel_mtu)) {
        Some(frame) if frame > room => {
            let remedy = format!(
                "make the pool's buffers hold {frame} bytes, or lower the device's MTU or frame size"
            );
            Err(fault(device, Fault::Buffers { frame, room }, &remedy))
        }
        _ => Ok(()),
    }
}

/// Makes DPDK probe the device, and tells the number of its port.
fn attach(
    device: &Device,
    name: &str,
    settings: &PortSettings,
    kernel_mtu: u16,
) -> Result<u16, Error> {
    let Some(vdev) = device.vdev(name, settings, usize::from(kernel_mtu)) else {
        let address = device.pci_argument().unwrap_or_default();
        let address = address.split(',').next().unwrap_or_default();
        return find(device, address)?.ok_or_else(|| nic_error(device, address));
    };
    if find(device, &vdev.name)?.is_some() {
        return Err(fault(
            device,
            Fault::Busy,
            "give each port its own name, and open each device once",
        ));
    }
    let arguments = c_string(device, &vdev.arguments)?;
    // SAFETY: EAL runs, as the caller's `Eal` shows; a C string, copied by the call.
    let (status, said) = log::capture(|| unsafe { dpdk_sys::rte_dev_probe(arguments.as_ptr()) });
    if status == -libc::EEXIST || status == -libc::EBUSY {
        return Err(fault(
            device,
            Fault::Busy,
            "give each port its own name, and open each device once",
        ));
    }
    check(device, "opening", status, driver_words(&said))?;
    find(device, &vdev.name)?.ok_or_else(|| {
        let cause = "the driver made no port".to_owned();
        let what = Fault::Refused {
            operation: "opening",
            cause,
        };
        fault(device, what, "correct its arguments")
    })
}

/// What the driver said, without EAL's two lines about its having failed.
fn driver_words(said: &str) -> &str {
    match said.find("; EAL: Driver cannot attach the device") {
        Some(end) => &said[..end],
        None => said,
    }
}

fn find(device: &Device, name: &str) -> Result<Option<u16>, Error> {
    let name = c_string(device, name)?;
    // SAFETY: EAL runs; a C string that the call only reads.
    let number = unsafe { dpdk_sys::tg_port_find(name.as_ptr()) };
    Ok(u16::try_from(number).ok())
}

fn c_string(device: &Device, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| {
        let cause = "its name contains a NUL".to_owned();
        fault(
            device,
            Fault::Refused {
                operation: "opening",
                cause,
            },
            "correct the name",
        )
    })
}

/// Why DPDK has no port for the NIC at `address`.
fn nic_error(device: &Device, address: &str) -> Error {
    let folder = Path::new("/sys/bus/pci/devices").join(address);
    if !folder.exists() {
        let what = Fault::Missing(format!("PCI device {address}"));
        return fault(device, what, "`lspci -D` shows the addresses");
    }
    let driver = std::fs::read_link(folder.join("driver")).ok();
    let driver = driver
        .as_deref()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    match driver {
        Some(driver @ ("vfio-pci" | "uio_pci_generic" | "igb_uio")) => {
            let cause = format!("DPDK made no port of it although it is bound to {driver}");
            let what = Fault::Refused {
                operation: "opening",
                cause,
            };
            fault(
                device,
                what,
                "another process may have it; else DPDK has no driver for it",
            )
        }
        other => {
            let other = other.unwrap_or("no driver").to_owned();
            let remedy = format!(
                "bind it: `scripts/bind-nic.sh {address}` or `dpdk-devbind.py -b vfio-pci {address}`"
            );
            fault(device, Fault::NotBound(other), &remedy)
        }
    }
}

fn facts(device: &Device, number: u16) -> Result<tg_port_info, Error> {
    // SAFETY: plain data, for which zeros are valid.
    let mut facts: tg_port_info = unsafe { std::mem::zeroed() };
    // SAFETY: the port exists; the call fills `facts`.
    let status = unsafe { dpdk_sys::tg_port_info(number, &raw mut facts) };
    check(device, "asking for its properties", status, "")?;
    Ok(facts)
}

fn check_queues(
    device: &Device,
    settings: &PortSettings,
    facts: &tg_port_info,
) -> Result<(), Error> {
    let few = |direction, asked, available, remedy: &str| {
        Err(fault(
            device,
            Fault::Queues {
                direction,
                asked,
                available,
            },
            remedy,
        ))
    };
    let remedy = "use as many workers as it has queues, or another kind of device";
    let (rx, tx) = (settings.rx_queues, settings.tx_queues);
    if rx == 0 || rx > facts.max_rx_queues {
        return few("receive", rx, facts.max_rx_queues, remedy);
    }
    if tx == 0 || tx > facts.max_tx_queues {
        return few("transmit", tx, facts.max_tx_queues, remedy);
    }
    if matches!(device, Device::AfPacket { .. }) && tx > rx {
        // The kernel would spread frames over receive queues that nobody reads.
        return few(
            "transmit",
            tx,
            rx,
            "its queues come in pairs: use as many of either kind",
        );
    }
    Ok(())
}

/// Sets the numbers of queues, the MTU and the steering. Tells whether the device itself steers.
fn configure(
    device: &Device,
    number: u16,
    settings: &PortSettings,
    facts: &tg_port_info,
) -> Result<bool, Error> {
    let is_nic = matches!(device, Device::Pci { .. });
    let plan = settings
        .steering
        .as_ref()
        .and_then(|rss| plan(rss, settings.rx_queues, facts));
    let key = plan.as_ref().map_or(&[][..], |plan| &plan.key);
    let config = tg_port_config {
        rss_types: plan.as_ref().map_or(0, |plan| plan.types),
        rss_key: key.as_ptr(),
        rss_key_size: u16::try_from(key.len()).unwrap_or(0),
        rx_queues: settings.rx_queues,
        tx_queues: settings.tx_queues,
        // A kernel interface has the MTU that its owner gave it, and other virtual devices have none.
        mtu: if is_nic { settings.mtu } else { 0 },
    };
    let (status, said) = log::capture(|| {
        // SAFETY: the port exists and is stopped; the key outlives the call, which copies it.
        unsafe { dpdk_sys::tg_port_configure(number, &raw const config) }
    });
    check(device, "configuring", status, &said)?;
    let Some(plan) = plan else { return Ok(false) };
    let size = u16::try_from(plan.reta.len()).unwrap_or(0);
    let (status, _) = log::capture(|| {
        // SAFETY: the port is configured; the table has `size` entries, which the call reads.
        unsafe { dpdk_sys::tg_port_set_reta(number, plan.reta.as_ptr(), size) }
    });
    // Virtual devices that claim to steer use a hash of their own, or none.
    Ok(status == 0 && is_nic)
}

/// What a device is told that steers.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    key: Vec<u8>,
    types: u64,
    reta: Vec<u16>,
}

/// How the device steers as `rss` says; `None` when it cannot do exactly that.
fn plan(rss: &Rss, queues: u16, facts: &tg_port_info) -> Option<Plan> {
    // SAFETY: constants.
    let (all, required) = unsafe { (dpdk_sys::tg_rss_types, dpdk_sys::tg_rss_types_required) };
    let types = facts.rss_types & all;
    let size = usize::from(facts.reta_size);
    let key_size = match usize::from(facts.hash_key_size) {
        0 => rss.key.len(), // The driver does not say: the usual one.
        size => size,
    };
    let fits = types & required == required
        && facts.reta_size <= LARGEST_RETA
        && !rss.reta.is_empty()
        && size >= rss.reta.len()
        && size % rss.reta.len() == 0
        && key_size >= rss.key.len()
        && rss.reta.iter().all(|queue| *queue < queues);
    // A hash over more bytes than our tuples have uses more of the key: it goes on as it began.
    fits.then(|| Plan {
        key: rss.key.iter().copied().cycle().take(key_size).collect(),
        types,
        reta: rss.reta.iter().copied().cycle().take(size).collect(),
    })
}

fn set_up_queues(
    device: &Device,
    number: u16,
    settings: &PortSettings,
    pool: &Mempool,
) -> Result<(), Error> {
    let (mut rx, mut tx) = (settings.rx_descriptors, settings.tx_descriptors);
    // SAFETY: the port is configured; the call changes the two numbers.
    let status =
        unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(number, &raw mut rx, &raw mut tx) };
    check(device, "sizing the queues", status, "")?;
    // SAFETY: asks for a number. A negative one means any socket, which DPDK takes as unsigned.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(number) }.cast_unsigned();
    for queue in 0..settings.rx_queues {
        let (status, said) = log::capture(|| {
            // SAFETY: the port is configured and stopped; null asks for the defaults; the pool lives
            // as long as the process.
            unsafe {
                let config = std::ptr::null();
                dpdk_sys::rte_eth_rx_queue_setup(number, queue, rx, socket, config, pool.as_ptr())
            }
        });
        check(device, "setting up a receive queue", status, &said)?;
    }
    for queue in 0..settings.tx_queues {
        let (status, said) = log::capture(|| {
            // SAFETY: the port is configured and stopped; null asks for the defaults.
            unsafe { dpdk_sys::rte_eth_tx_queue_setup(number, queue, tx, socket, std::ptr::null()) }
        });
        check(device, "setting up a transmit queue", status, &said)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(reta_size: u16, hash_key_size: u16, rss_types: u64) -> tg_port_info {
        // SAFETY: plain data, for which zeros are valid.
        let zero: tg_port_info = unsafe { std::mem::zeroed() };
        tg_port_info {
            reta_size,
            hash_key_size,
            rss_types,
            ..zero
        }
    }

    #[test]
    fn steering_is_exact_or_not_at_all() {
        let mut key = [0; 40];
        key[0] = 0x6d;
        let rss = Rss {
            key,
            reta: vec![0, 1, 0, 1],
        };
        let larger = plan(&rss, 2, &facts(8, 52, u64::MAX)).unwrap();
        assert_eq!(larger.reta, [0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(larger.key.len(), 52);
        assert_eq!(
            (larger.key[0], larger.key[1], larger.key[40]),
            (0x6d, 0, 0x6d)
        );
        assert_eq!(plan(&rss, 2, &facts(4, 0, u64::MAX)).unwrap().key, key);
        assert_eq!(
            plan(&rss, 2, &facts(2, 40, u64::MAX)),
            None,
            "the device's table is smaller"
        );
        assert_eq!(
            plan(&rss, 2, &facts(4, 16, u64::MAX)),
            None,
            "its key is shorter"
        );
        assert_eq!(
            plan(&rss, 2, &facts(4, 40, 0)),
            None,
            "it does not hash ports"
        );
        assert_eq!(
            plan(&rss, 1, &facts(4, 40, u64::MAX)),
            None,
            "there is no queue 1"
        );
    }
}
