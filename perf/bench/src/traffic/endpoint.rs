//! One end of the generator: a port with its queues, an address, and the answers that a neighbour
//! expects of it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dpdk::{Burst, Device, Eal, Mempool, Port, PortSettings, RxQueue, Statistics, TxQueue, clock};
use packet::build::{self, Link};
use packet::{Mac, arp};
use tidegate_lab::Namespace;

/// Frames that each queue of an endpoint holds.
const DESCRIPTORS: u16 = 2_048;
/// Room for the largest frame that a device under test may pass on.
const ROOM: u16 = 2_048;
/// How often a neighbour that is silent is asked again.
const ARP_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers for `endpoints` endpoints. An `AF_XDP` socket alone keeps 4,096 of them.
#[must_use]
pub fn buffers(endpoints: u32) -> u32 {
    4_096 + endpoints * 8_192
}

/// A pool for as many endpoints.
///
/// # Errors
/// When DPDK's memory is short.
pub fn pool(eal: &Eal, endpoints: u32) -> Result<Mempool> {
    Ok(Mempool::new(eal, "traffic", buffers(endpoints), ROOM)?)
}

/// One end of the generator.
pub struct Endpoint {
    port: Option<Opened>,
    mac: Mac,
    address: Ipv4Addr,
    pool: Mempool,
    /// Where the kernel interface behind the port is, if not where this process is.
    home: Option<Namespace>,
}

struct Opened {
    port: Port,
    receive: RxQueue,
    transmit: TxQueue,
}

impl Endpoint {
    /// Opens `device`, in the namespace `home` if it is one of the kernel's there, as the host with
    /// that `address`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn open(
        eal: &Eal,
        pool: &Mempool,
        device: &Device,
        name: &str,
        address: Ipv4Addr,
        home: Option<Namespace>,
    ) -> Result<Self> {
        let settings = PortSettings {
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            ..PortSettings::default()
        };
        let open = || {
            let mut port = Port::open(eal, device, name, &settings, pool)?;
            let (mut receive, mut transmit) = port.start()?;
            // What was translated for another neighbour is counted too.
            port.promiscuous(true)?;
            let receive = receive.pop().context("no receive queue")?;
            let transmit = transmit.pop().context("no transmit queue")?;
            Ok(Opened {
                port,
                receive,
                transmit,
            })
        };
        let opened = match &home {
            Some(namespace) => namespace.run(open),
            None => open(),
        };
        let opened = opened.with_context(|| format!("the generator's port {device}"))?;
        Ok(Self {
            mac: Mac(opened.port.mac()),
            port: Some(opened),
            address,
            pool: pool.clone(),
            home,
        })
    }

    /// Its own MAC.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// What its port counted.
    ///
    /// # Errors
    /// When the driver does not tell.
    pub fn statistics(&self) -> Result<Statistics> {
        let opened = self.port.as_ref().context("the port is closed")?;
        Ok(opened.port.statistics()?)
    }

    /// Whether the other side of the device is there.
    pub fn is_connected(&self) -> bool {
        let link = self.port.as_ref().map(|opened| opened.port.link());
        link.is_some_and(|link| link.is_ok_and(|link| link.up))
    }

    /// The speed of its wire in Mbit/s, where there is one.
    #[must_use]
    pub fn speed_mbps(&self) -> Option<u32> {
        self.port.as_ref()?.port.link().ok()?.speed_mbps
    }

    /// Adds `count` empty buffers to `burst`, or none when they are all under way.
    pub(super) fn allocate(&self, burst: &mut Burst, count: usize) -> bool {
        self.pool.allocate_burst(burst, count)
    }

    /// Adds what has arrived to `burst`.
    pub(super) fn receive(&mut self, burst: &mut Burst) -> usize {
        self.port
            .as_mut()
            .map_or(0, |opened| opened.receive.receive(burst))
    }

    /// Sends what the device takes from the front of `burst`.
    pub(super) fn transmit(&mut self, burst: &mut Burst) -> usize {
        self.port
            .as_mut()
            .map_or(0, |opened| opened.transmit.transmit(burst))
    }

    /// Asks for the MAC of `target` until it is told, answering others meanwhile.
    ///
    /// # Errors
    /// When there is no answer within `patience`.
    pub fn resolve(&mut self, target: Ipv4Addr, patience: Duration) -> Result<Mac> {
        let deadline = clock::cycles() + cycles(patience);
        let mut ask = clock::cycles();
        while clock::cycles() < deadline {
            if clock::cycles() >= ask {
                ask += cycles(ARP_INTERVAL);
                let (mac, address) = (self.mac, self.address);
                self.send_made(|out| {
                    build::arp_request(out, &Link::broadcast(mac), address, target)
                });
            }
            let mut burst = Burst::new();
            self.receive(&mut burst);
            for mbuf in burst.drain() {
                if let Some(mac) = self.hear(mbuf.data(), target) {
                    return Ok(mac);
                }
            }
        }
        bail!("{target} did not answer an ARP request of {}", self.address)
    }

    /// Answers a frame that asks for this endpoint's address. Tells whether it did.
    pub(super) fn answer(&mut self, frame: &[u8]) -> bool {
        self.hear(frame, self.address);
        is_arp(frame)
    }

    /// Takes an ARP message in: answers a request for our address, and returns the sender's MAC if
    /// the sender is `awaited`.
    fn hear(&mut self, frame: &[u8], awaited: Ipv4Addr) -> Option<Mac> {
        if !is_arp(frame) {
            return None;
        }
        let layout = packet::parse(frame).ok()?;
        let message = arp::Message::read(frame, &layout)?;
        let (sender, sender_mac) = (message.sender_ip(), message.sender_mac);
        if message.operation.get() == arp::REQUEST && message.target_ip() == self.address {
            let (mac, address) = (self.mac, self.address);
            self.send_made(|out| {
                build::arp_reply(out, &Link::new(mac, sender_mac), address, sender)
            });
        }
        (sender == awaited).then_some(sender_mac)
    }

    /// Sends one frame that `make` writes. One that finds no room is lost, as on a wire: whoever
    /// wants an answer asks again.
    fn send_made(&mut self, make: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut frame = [0; build::ROOM];
        let Some(len) = make(&mut frame) else { return };
        let Some(mut mbuf) = self.pool.allocate() else {
            return;
        };
        let mut burst = Burst::new();
        if mbuf.copy_from_slice(&frame[..len]) && burst.push(mbuf).is_ok() {
            self.transmit(&mut burst);
        }
    }
}

/// DPDK closes what it finds by the name of an interface, so where that name is valid.
impl Drop for Endpoint {
    fn drop(&mut self) {
        let opened = self.port.take();
        if let Some(namespace) = &self.home {
            // A namespace that is gone has taken its interface along.
            let _ = namespace.run(move || {
                drop(opened);
                Ok(())
            });
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} at {})", self.address, self.mac)
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&packet::ethernet::TYPE_ARP.to_be_bytes())
}

/// A duration in cycles.
pub(super) fn cycles(duration: Duration) -> u64 {
    let cycles = duration.as_nanos() * u128::from(clock::hertz()) / 1_000_000_000;
    u64::try_from(cycles).unwrap_or(u64::MAX)
}
