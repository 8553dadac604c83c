//! Devices: opening, starting, and what the control core asks of them.
//!
//! Invariant: an [`Opened`] is the only user of its DPDK port, and closes it. The port and its queues
//! share it, so that no queue outlives its device.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys::{rte_device, tg_link, tg_port_stats};

use crate::device::Device;
use crate::error::describe;
use crate::kernel::Interface;
use crate::queue::{RxQueue, TxQueue};
use crate::{Eal, Error, Fault, Mempool, log, open};

/// MTU of a device that has none of its own, in bytes.
const ETHERNET_MTU: u16 = 1_500;

/// How a port is set up.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Receive queues: one per worker.
    pub rx_queues: u16,
    /// Transmit queues: one per worker.
    pub tx_queues: u16,
    /// Frames that a receive queue holds; adjusted to what the device can.
    pub rx_descriptors: u16,
    /// Frames that a transmit queue holds; adjusted to what the device can.
    pub tx_descriptors: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// How the device shall spread frames over its receive queues, if it can.
    pub steering: Option<Rss>,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: ETHERNET_MTU,
            steering: None,
        }
    }
}

/// Receive-side scaling: the Toeplitz hash of the tuple selects an entry of a table of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The Toeplitz key.
    pub key: [u8; 40],
    /// The queue of each value of the hash's low bits: a power of two of them. A device with a
    /// larger table gets it repeated, one with a smaller table does not steer.
    pub reta: Vec<u16>,
}

/// What is known of an open port.
#[derive(Clone, Debug)]
pub struct PortInfo {
    /// The name that it was opened with.
    pub name: String,
    /// The device as configured.
    pub device: String,
    /// DPDK's driver, such as `net_af_packet`.
    pub driver: String,
    /// The address of the device itself.
    pub mac: [u8; 6],
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Receive queues that the device could have.
    pub max_rx_queues: u16,
    /// Transmit queues that the device could have.
    pub max_tx_queues: u16,
    /// The largest IP packet that it carries, in bytes: as asked, or less if the kernel interface
    /// behind it carries less.
    pub mtu: u16,
    /// Whether the device itself steers by our key and table, so that a frame arrives in the queue
    /// of its worker. If not, workers hand frames to each other.
    pub hardware_steering: bool,
}

/// A link's state as DPDK tells it. That of a device with a
/// [kernel interface](Device::kernel_interface) says nothing: watch the interface's carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether there is a carrier.
    pub up: bool,
    /// In Mbit/s, when known.
    pub speed_mbps: Option<u32>,
    /// Whether both ends may send at once.
    pub full_duplex: bool,
}

/// What a port counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that the device dropped because a receive queue was full.
    pub rx_missed: u64,
    /// Frames that arrived damaged.
    pub rx_errors: u64,
    /// Frames dropped because the pool was empty.
    pub rx_no_buffer: u64,
    /// Frames dropped because they do not fit into one buffer.
    pub rx_too_long: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device took but did not send.
    pub tx_errors: u64,
}

/// How frames to an added address reach us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacFilter {
    /// The device lets the address through.
    Hardware,
    /// The device lets everything through: the workers must check the destination.
    Promiscuous,
}

/// A device, for the thread that controls it. The workers have its queues.
#[derive(Debug)]
pub struct Port {
    opened: Arc<Opened>,
    info: PortInfo,
    started: bool,
    /// The caller wants everything.
    wants_all: bool,
    /// Addresses for which everything is let through.
    unfiltered: Vec<[u8; 6]>,
    not_sync: PhantomData<Cell<()>>,
}

/// A DPDK port that is ours; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) number: u16,
    /// The virtual device beneath, which is removed with the port; null for a NIC.
    pub(crate) device: *mut rte_device,
    /// The kernel interface beneath, and whether it was promiscuous before.
    pub(crate) kernel: Option<(Interface, bool)>,
    /// Frames dropped because they do not fit into one buffer.
    pub(crate) too_long: AtomicU64,
}

// SAFETY: the device pointer is used once, when the last owner drops it.
unsafe impl Send for Opened {}
// SAFETY: as above; the rest is plain data and an atomic.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the port and all its queues are gone; DPDK takes a stop of a stopped port. The
        // device pointer was DPDK's own, and the device is still plugged in.
        unsafe {
            dpdk_sys::rte_eth_dev_stop(self.number);
            dpdk_sys::rte_eth_dev_close(self.number);
            if !self.device.is_null() {
                dpdk_sys::rte_dev_remove(self.device);
            }
        }
        if let Some((interface, before)) = &self.kernel {
            // The interface may be gone by now, and nothing is to be restored then.
            let _ = interface.set_promiscuous(*before);
        }
        open::release(self.number);
    }
}

impl Port {
    /// Opens `device`, which is called `name` from now on, with buffers of `pool` for what arrives.
    ///
    /// # Errors
    /// [`Error::Device`] names the device, the cause and the remedy: it is missing, in use, not bound
    /// to a driver for DPDK, has too few queues, or its driver refuses.
    pub fn open(
        _eal: &Eal,
        device: &Device,
        name: &str,
        settings: &PortSettings,
        pool: &Mempool,
    ) -> Result<Self, Error> {
        let (opened, info) = open::open(device, name, settings, pool)?;
        Ok(Self {
            opened: Arc::new(opened),
            info,
            started: false,
            wants_all: false,
            unfiltered: Vec::new(),
            not_sync: PhantomData,
        })
    }

    /// Starts the device and hands out its queues, the queue of worker `n` at index `n`. They keep
    /// the device open and running until they and the port are dropped.
    ///
    /// # Errors
    /// [`Error::Device`] at the second call, and when the driver refuses.
    pub fn start(&mut self) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        if self.started {
            return Err(self.error(Fault::Started, "keep the queues of the first start"));
        }
        // SAFETY: the port is configured, and started once.
        let (status, said) = log::capture(|| unsafe { dpdk_sys::rte_eth_dev_start(self.number()) });
        self.check("starting", status, &said)?;
        self.started = true;
        // Neighbour discovery and some heartbeats are multicast. Drivers that know no such filter
        // let multicast through anyway.
        let _ = log::capture(|| {
            // SAFETY: the port is open.
            unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.number()) }
        });
        let receive = (0..self.info.rx_queues).map(|n| RxQueue::new(Arc::clone(&self.opened), n));
        let transmit = (0..self.info.tx_queues).map(|n| TxQueue::new(Arc::clone(&self.opened), n));
        Ok((receive.collect(), transmit.collect()))
    }

    /// What is known of the port.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// The address of the device itself.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.info.mac
    }

    /// DPDK's number of the port, as in [`Mbuf::port`](crate::Mbuf::port).
    #[must_use]
    pub fn number(&self) -> u16 {
        self.opened.number
    }

    /// The state of the link.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver cannot tell.
    pub fn link(&self) -> Result<Link, Error> {
        let mut link = tg_link::default();
        // SAFETY: the port is open; the call fills `link`.
        let status = unsafe { dpdk_sys::tg_port_link(self.number(), &raw mut link) };
        self.check("reading the link", status, "")?;
        // SAFETY: a constant.
        let unknown = unsafe { dpdk_sys::tg_speed_unknown };
        let known = link.speed_mbps != 0 && link.speed_mbps != unknown;
        Ok(Link {
            up: link.up != 0,
            speed_mbps: known.then_some(link.speed_mbps),
            full_duplex: link.full_duplex != 0,
        })
    }

    /// What the port counted.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver cannot tell.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let mut stats = tg_port_stats::default();
        // SAFETY: the port is open; the call fills `stats`.
        let status = unsafe { dpdk_sys::tg_port_stats(self.number(), &raw mut stats) };
        self.check("reading the counters", status, "")?;
        Ok(Statistics {
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_buffer: stats.rx_no_buffer,
            rx_too_long: self.opened.too_long.load(Ordering::Relaxed),
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_errors: stats.tx_errors,
        })
    }

    /// Lets frames to any destination through, or no longer. Those to added addresses stay let
    /// through.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses.
    pub fn promiscuous(&mut self, on: bool) -> Result<(), Error> {
        self.let_all_through(on || !self.unfiltered.is_empty())?;
        self.wants_all = on;
        Ok(())
    }

    /// Lets frames to `mac` through, beside those to the device's own address. Adding an address
    /// twice is adding it once.
    ///
    /// # Errors
    /// [`Error::Device`] when the device can neither filter the address nor let everything through.
    pub fn add_mac(&mut self, mac: [u8; 6]) -> Result<MacFilter, Error> {
        if self.unfiltered.contains(&mac) {
            return Ok(MacFilter::Promiscuous);
        }
        let mut address = mac;
        let (status, _) = log::capture(|| {
            // SAFETY: the port is open; the call reads the address.
            unsafe { dpdk_sys::rte_eth_dev_mac_addr_add(self.number(), &raw mut address, 0) }
        });
        if status == 0 {
            return Ok(MacFilter::Hardware);
        }
        self.let_all_through(true)?;
        self.unfiltered.push(mac);
        Ok(MacFilter::Promiscuous)
    }

    /// Undoes [`Port::add_mac`], and tells how the address had been let through. Removing an address
    /// that was not added changes nothing.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses.
    pub fn remove_mac(&mut self, mac: [u8; 6]) -> Result<MacFilter, Error> {
        if let Some(index) = self.unfiltered.iter().position(|added| *added == mac) {
            let others = self.unfiltered.len() > 1;
            self.let_all_through(self.wants_all || others)?;
            self.unfiltered.swap_remove(index);
            return Ok(MacFilter::Promiscuous);
        }
        let mut address = mac;
        let (status, said) = log::capture(|| {
            // SAFETY: the port is open; the call reads the address.
            unsafe { dpdk_sys::rte_eth_dev_mac_addr_remove(self.number(), &raw mut address) }
        });
        if status != -libc::ENOTSUP {
            self.check("removing a MAC address", status, &said)?;
        }
        Ok(MacFilter::Hardware)
    }

    fn let_all_through(&self, on: bool) -> Result<(), Error> {
        let (status, said) = log::capture(|| {
            // SAFETY: the port is open.
            unsafe {
                if on {
                    dpdk_sys::rte_eth_promiscuous_enable(self.number())
                } else {
                    dpdk_sys::rte_eth_promiscuous_disable(self.number())
                }
            }
        });
        // A virtual device without that switch has no filter either.
        if status == -libc::ENOTSUP && !self.opened.device.is_null() {
            return Ok(());
        }
        self.check("switching promiscuous mode", status, &said)
    }

    fn check(&self, operation: &'static str, status: c_int, said: &str) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        let cause = if said.is_empty() {
            describe(status)
        } else {
            said.to_owned()
        };
        let remedy = "the driver's manual tells what it supports";
        Err(self.error(Fault::Refused { operation, cause }, remedy))
    }

    fn error(&self, fault: Fault, remedy: &str) -> Error {
        Error::Device {
            device: self.info.device.clone(),
            fault,
            remedy: remedy.to_owned(),
        }
    }
}
