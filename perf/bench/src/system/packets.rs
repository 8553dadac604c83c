//! Packets through a gateway: how many a second, and how long each takes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dpdk::{Device, Eal, Mempool};
use packet::Mac;
use tidegate_lab::{CLIENT_LAN, CLUSTER_LAN, SERVER_WAN, clock};

use super::gateway::{Gateway, Means, Medium};
use super::site::Site;
use crate::traffic::{Endpoint, Flows, Load, Outcome, Pace, run};

/// Bytes of each frame.
const SIZE: usize = 64;
/// How long a gateway may take until the first packet comes through.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const TRY: Duration = Duration::from_millis(50);
/// Frames a second while a gateway is tried: it resolves its neighbours then.
const TRY_RATE: f64 = 1_000.0;
/// How long what is under way is waited for.
const GRACE: Duration = Duration::from_millis(20);
/// How long traffic runs before it is measured: sessions are made, buffers are in caches.
const WARM_UP: Duration = Duration::from_millis(300);

/// A site with the generator's ends in it.
#[derive(Debug)]
pub(super) struct Bed {
    sender: Endpoint,
    receiver: Endpoint,
    // After the ends, which are in it.
    site: Site,
}

impl Bed {
    /// A site with the generator on the cables' ends.
    ///
    /// The generator uses XDP sockets whatever the gateway uses: through raw sockets it would send
    /// no more than a gateway forwards, and the generator would be what is measured.
    ///
    /// # Errors
    /// When the site cannot be built.
    pub(super) fn on_cables(eal: &Eal, pool: &Mempool) -> Result<Self> {
        let site = Site::build()?;
        let device = |interface: &str| Device::AfXdp {
            interface: interface.to_owned(),
            options: String::new(),
        };
        let name = |side| format!("{side}-{}", site.client().name());
        let open = |side, device: &Device, address, home| {
            Endpoint::open(eal, pool, device, &name(side), address, home)
        };
        let sender = open("c", &device("lan0"), CLIENT_LAN, Some(site.client()))?;
        let receiver = open("s", &device("wan0"), SERVER_WAN, Some(site.server()))?;
        Ok(Self {
            sender,
            receiver,
            site,
        })
    }

    /// A site with the generator at the other ends of a gateway's memifs.
    ///
    /// # Errors
    /// When the site cannot be built.
    pub(super) fn on_memif(eal: &Eal, pool: &Mempool) -> Result<Self> {
        let site = Site::build()?;
        let open = |side, address| {
            let device = Device::Memif {
                socket: Medium::socket(&site, side),
                options: "role=server".to_owned(),
            };
            let name = format!("{side}-{}", site.client().name());
            Endpoint::open(eal, pool, &device, &name, address, None)
        };
        let sender = open("lan0", CLIENT_LAN)?;
        let receiver = open("wan0", SERVER_WAN)?;
        Ok(Self {
            sender,
            receiver,
            site,
        })
    }

    /// Starts `gateway`, lets traffic warm up, and then measures `load`.
    ///
    /// # Errors
    /// When the gateway does not start, or nothing comes through it.
    pub(super) fn measure(
        &mut self,
        gateway: Gateway,
        means: Means,
        load: &Load,
    ) -> Result<Outcome> {
        let Self {
            sender,
            receiver,
            site,
        } = self;
        let _running = gateway.start(site, means)?;
        let mut measure = || {
            let via = first_packet(sender, receiver, gateway.mac(), load.flows)?;
            let warm_up = Load {
                time: WARM_UP,
                ..*load
            };
            run(sender, receiver, via, &warm_up)?;
            let outcome = run(sender, receiver, via, load)?;
            ensure!(outcome.received > 0, "nothing comes through");
            Ok(outcome)
        };
        measure().with_context(|| gateway.name())
    }
}

/// Sends until something arrives, and returns the MAC of the way.
fn first_packet(
    sender: &mut Endpoint,
    receiver: &mut Endpoint,
    mac: Option<Mac>,
    flows: Flows,
) -> Result<Mac> {
    let deadline = clock::now() + PATIENCE;
    let connected = || sender.is_connected() && receiver.is_connected();
    while !connected() {
        ensure!(
            clock::now() < deadline,
            "the gateway's ports do not connect"
        );
        std::thread::sleep(TRY);
    }
    let via = match mac {
        Some(mac) => mac,
        None => sender.resolve(CLUSTER_LAN, PATIENCE)?,
    };
    let attempt = load(flows, Pace::PerSecond(TRY_RATE), TRY);
    while clock::now() < deadline {
        // What the device refuses now it may take the next time.
        if let Ok(outcome) = run(sender, receiver, via, &attempt)
            && outcome.received > 0
        {
            return Ok(via);
        }
    }
    bail!("nothing comes through")
}

/// Frames of 64 bytes.
pub(super) fn load(flows: Flows, pace: Pace, time: Duration) -> Load {
    Load {
        size: SIZE,
        flows,
        pace,
        time,
        frames: u64::MAX,
        grace: GRACE,
        latency: false,
    }
}

/// So many flows from the client to the server.
pub(super) fn flows(count: u32) -> Flows {
    Flows {
        source: CLIENT_LAN,
        destination: SERVER_WAN,
        count,
    }
}
