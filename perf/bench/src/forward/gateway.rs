//! The gateway under test: a real worker with its table, routes and policies, between two lanes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dpdk::{Device, Eal, Mempool, Port, PortSettings, clock};
use forward::{
    ControlRings, Distribution, Drop, Duty, HEARTBEAT_ETHERTYPE, Interface, InterfaceAddress,
    InterfaceId, InterfaceRole, Limits, Member, Neighbour, Neighbours, Now, Pick, Policy,
    PolicyAction, Prefix, Publisher, QueuePair, RingSizes, Route, Snapshot, SnapshotSettings,
    SourceNat, Worker, WorkerCounters, WorkerParts, connect,
};
use packet::{Mac, Tuple};
use session::{Memory, Reader, Settings, Shard, Tick};

use super::flow::STATION;
use super::lane::{FarEnd, Lane, Numbers, Opening, Remote, Stream, Traffic};

/// The interface to the clients.
pub(crate) const LAN: InterfaceId = InterfaceId(0);
/// The interface to the servers.
pub(crate) const WAN: InterfaceId = InterfaceId(1);
/// The gateway's address on the side of the servers.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// DPDK's memory at start, in MiB: each gateway has a table of routes of 64 MiB. With huge pages DPDK
/// takes more where that is not enough, without them it cannot.
pub(crate) const MEMORY_MB: u32 = 640;

/// Buffers of a pool that only has to keep the worker's bursts and caches filled.
pub(crate) const BUFFERS: u32 = 16_384;
/// Room for a frame in a buffer, in bytes.
pub(crate) const ROOM: u16 = 2_048;

/// A source that costs next to nothing: empty frames of 64 bytes, without end.
pub(crate) const SOURCE: &str = "null,size=60,copy=0";
/// A sink, from which nothing comes.
pub(crate) const SINK: &str = "null,size=60,no-rx=1";

/// Longer than any session is kept of which only one side has spoken.
const HALF_OPEN: Duration = Duration::from_secs(31);

/// More sessions than one address has ports.
const PORTS: u32 = 1 << 16;

/// Packets that a gateway is given before a measurement, so that caches hold what they will hold.
const WARM_UP: u64 = 200_000;

/// What a gateway is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Room in the session table.
    pub(crate) capacity: u32,
    /// Whether the clients are behind the gateway's own address.
    pub(crate) nat: bool,
    /// What the table is made of.
    pub(crate) memory: Memory,
    /// How the cluster divides sessions into ranges.
    pub(crate) range_of: fn(&Tuple) -> u8,
    /// Whose sessions they are.
    pub(crate) share: Share,
}

/// Which unit's sessions a gateway has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Only its own.
    Alone,
    /// Another unit's: it is the primary, and passes their packets on.
    Passes,
    /// Its own, whose packets another unit passes to it, the primary.
    Owns,
}

impl Share {
    /// The other unit's id; this one has 1.
    const OTHER: u8 = 2;

    fn apply(self, snapshot: &Snapshot) -> Snapshot {
        let (duty, slots, other) = match self {
            Self::Alone => return snapshot.clone(),
            Self::Passes => (Duty::Primary, vec![Self::OTHER], Mac([2, 0, 0, 0, 9, 8])),
            Self::Owns => {
                let primary = Self::OTHER;
                (Duty::Owner { primary }, Vec::new(), STATION)
            }
        };
        let member = |unit, stations: [Mac; 2]| Member {
            unit,
            owns: true,
            stations: stations.map(Some).to_vec(),
            sources: stations.map(Some).to_vec(),
        };
        let distribution = Distribution {
            pick: Pick::InTurn,
            slots,
            members: vec![
                member(1, [mac(LAN), mac(WAN)]),
                member(Self::OTHER, [other; 2]),
            ],
        };
        let snapshot = snapshot.with_duty(duty, 1);
        snapshot.with_distribution(Arc::new(distribution))
    }
}

impl Plan {
    /// Room for `sessions` sessions and some more: an eighth, and one for every port of an address.
    pub(crate) fn for_sessions(sessions: u32, nat: bool, memory: Memory) -> Self {
        Self {
            capacity: sessions + sessions / 8 + PORTS,
            nat,
            memory,
            range_of: |_| 0,
            share: Share::Alone,
        }
    }
}

/// The devices of a gateway.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    lan: String,
    wan: String,
    /// The interface whose device has nothing, and is asked nevertheless.
    sink: InterfaceId,
}

impl Devices {
    /// Traffic comes from the clients, by this device.
    pub(crate) fn from_clients(source: &str) -> Self {
        Self {
            lan: source.to_owned(),
            wan: SINK.to_owned(),
            sink: WAN,
        }
    }

    /// Traffic comes from the servers.
    pub(crate) fn from_servers() -> Self {
        Self {
            lan: SINK.to_owned(),
            wan: SOURCE.to_owned(),
            sink: LAN,
        }
    }
}

/// The Ethernet address of the gateway on an interface.
pub(crate) fn mac(interface: InterfaceId) -> Mac {
    Mac([2, 0, 0, 0, 0, 1 + interface.0])
}

/// The configuration: two interfaces, a router behind each, one policy.
pub(crate) fn snapshot(eal: &Eal, nat: bool, workers: u16) -> Result<Snapshot> {
    let interface = |name: &str, id, address| Interface {
        name: name.into(),
        role: InterfaceRole::Traffic,
        mac: mac(id),
        virtual_mac: None,
        mtu: 1_500,
        cluster_addresses: vec![InterfaceAddress::new(address, 24)],
        unit_address: None,
    };
    let route = |to, interface| Route {
        to,
        interface,
        gateway: Some(router(interface)),
    };
    let settings = SnapshotSettings {
        unit: 1,
        interfaces: vec![
            interface("lan", LAN, Ipv4Addr::new(192, 0, 2, 1)),
            interface("wan", WAN, OUTSIDE),
        ],
        routes: vec![
            route(Prefix::ALL, WAN),
            route(Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 7), LAN),
        ],
        policies: vec![Policy {
            from: [LAN].into_iter().collect(),
            to: [WAN].into_iter().collect(),
            source_nat: if nat {
                SourceNat::Masquerade
            } else {
                SourceNat::None
            },
            ..Policy::any("out", PolicyAction::Allow)
        }],
        workers,
        heartbeat_ethertype: HEARTBEAT_ETHERTYPE,
        limits: Limits::default(),
    };
    Ok(Snapshot::build(eal, settings)?.with_duty(Duty::Primary, 1))
}

fn router(interface: InterfaceId) -> Ipv4Addr {
    match interface {
        LAN => Ipv4Addr::new(192, 0, 2, 254),
        _ => Ipv4Addr::new(198, 51, 100, 254),
    }
}

/// The routers' Ethernet addresses.
pub(crate) fn neighbours() -> Neighbours {
    let neighbour = |interface: InterfaceId| Neighbour {
        interface,
        address: router(interface),
        mac: Mac([2, 0, 0, 0, 8, interface.0]),
    };
    Neighbours::build(&[neighbour(LAN), neighbour(WAN)])
}

/// Opens and starts a device; its only queues.
pub(crate) fn open(eal: &Eal, device: &str, name: &str, pool: &Mempool) -> Result<QueuePair> {
    let device: Device = device.parse()?;
    let mut port = Port::open(eal, &device, name, &PortSettings::default(), pool)?;
    let (receive, transmit) = port.start()?;
    let receive = receive.into_iter().next();
    let transmit = transmit.into_iter().next();
    Ok(QueuePair {
        receive,
        transmit: transmit.context("a device has no queue")?,
    })
}

/// The time of a worker's turns, from the cycle counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    /// Nanoseconds per cycle, as a fraction of 2^32.
    scale: u64,
    /// Nanoseconds that were skipped.
    skipped: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let hertz = u128::from(clock::hertz().max(1));
        let scale = (1_000_000_000u128 << 32) / hertz;
        Self {
            start: clock::cycles(),
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
            skipped: 0,
        }
    }

    /// Lets this time have passed.
    fn skip(&mut self, time: Duration) {
        self.skipped += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    #[inline]
    pub(crate) fn now(&self) -> Now {
        let cycles = u128::from(clock::cycles() - self.start);
        let nanos = u64::try_from((cycles * u128::from(self.scale)) >> 32).unwrap_or(u64::MAX);
        let nanos = nanos + self.skipped;
        let ticks = nanos / (1_000_000_000 / u64::from(Tick::PER_SECOND));
        Now {
            nanos,
            tick: Tick::START.plus(u32::try_from(ticks).unwrap_or(u32::MAX)),
        }
    }
}

/// A worker and everything around it, on the calling thread.
pub(crate) struct Gateway {
    pub(crate) worker: Worker<Lane>,
    pub(crate) lan: Remote,
    pub(crate) wan: Remote,
    pub(crate) counters: Arc<WorkerCounters>,
    clock: Clock,
    /// The other ends of its rings, until somebody else takes them.
    pub(crate) control: Option<ControlRings>,
}

impl Gateway {
    /// Builds one. Nothing arrives yet.
    pub(crate) fn new(
        eal: &Eal,
        pool: &Mempool,
        name: &str,
        devices: &Devices,
        plan: Plan,
    ) -> Result<Self> {
        let mut workers = Self::workers(eal, pool, name, devices, plan, 1)?;
        workers.pop().context("a gateway without a worker")
    }

    /// Builds one with several workers, each with room for as much as the plan says.
    pub(crate) fn workers(
        eal: &Eal,
        pool: &Mempool,
        name: &str,
        devices: &Devices,
        plan: Plan,
        workers: u16,
    ) -> Result<Vec<Self>> {
        let settings = Settings {
            seed: 0x5eed_0f7a_b1e5_0001,
            ..Settings::new(plan.capacity)
        };
        let shards = (0..workers)
            .map(|_| Shard::new(settings, plan.memory))
            .collect::<Result<Vec<_>, _>>()?;
        let readers: Vec<Reader> = shards.iter().map(Shard::reader).collect();
        let (rings, control) = connect(workers, RingSizes::default(), plan.range_of);
        let snapshot = plan.share.apply(&snapshot(eal, plan.nat, workers)?);
        let snapshot = Publisher::new(snapshot);
        let neighbours = Publisher::new(neighbours());
        let ends = rings.into_iter().zip(control);
        let mut gateways = Vec::new();
        for (index, (shard, (rings, control))) in (0..).zip(shards.into_iter().zip(ends)) {
            // Devices of its own: the queues of one net_null count in the same cache lines.
            let lan = open(eal, &devices.lan, &format!("{name}_lan{index}"), pool)?;
            let wan = open(eal, &devices.wan, &format!("{name}_wan{index}"), pool)?;
            let (lan, lan_remote) = Lane::new(lan, pool, mac(LAN));
            let (wan, wan_remote) = Lane::new(wan, pool, mac(WAN));
            let sink = if devices.sink == LAN {
                &lan_remote
            } else {
                &wan_remote
            };
            sink.send(Traffic::AsItIs)?;
            let counters = Arc::new(WorkerCounters::new());
            let worker = Worker::new(WorkerParts {
                index,
                ports: vec![lan, wan],
                pool: pool.clone(),
                readers: readers.clone(),
                shard,
                rings,
                snapshot: snapshot.subscribe(),
                neighbours: neighbours.subscribe(),
                counters: Arc::clone(&counters),
            });
            gateways.push(Self {
                worker,
                lan: lan_remote,
                wan: wan_remote,
                counters,
                clock: Clock::start(),
                control: Some(control),
            });
        }
        Ok(gateways)
    }

    /// One turn of the worker; how many packets it had.
    #[inline]
    pub(crate) fn turn(&mut self) -> usize {
        self.worker.turn(self.clock.now())
    }

    /// Begins sessions, and completes each: datagrams are answered, handshakes finished. Returns the
    /// port that each flow leaves from, by its number.
    pub(crate) fn establish(&mut self, kind: Opening, flows: Numbers) -> Result<Vec<u16>> {
        let count = u32::try_from(flows.clone().count()).unwrap_or(u32::MAX);
        let before = self.worker.shard().len();
        self.lan.far_end(FarEnd::Answers)?;
        self.wan.far_end(FarEnd::Answers)?;
        self.lan.send(Traffic::Openings { kind, flows })?;
        let mut idle = 0;
        while idle < 8 {
            idle = if self.turn() == 0 { idle + 1 } else { 0 };
            self.forget_deltas();
        }
        let ports = self.wan.ports()?;
        self.lan.send(Traffic::Nothing)?;
        self.lan.far_end(FarEnd::Device)?;
        self.wan.far_end(FarEnd::Device)?;
        self.turn();
        let ports = ports.try_recv().context("the lane did not answer")?;
        self.settle(count);
        self.check()?;
        let begun = self.worker.shard().len() - before;
        ensure!(begun == count, "{begun} sessions began, and not {count}");
        Ok(ports)
    }

    /// Lets the time pass that `sessions` half-open sessions had, and the worker look at their timers.
    /// They began within seconds of each other, so all the timers would be due within seconds, which
    /// they are not where sessions begin all the time.
    fn settle(&mut self, sessions: u32) {
        self.clock.skip(HALF_OPEN);
        // A turn looks at several timers, and without any it costs next to nothing.
        for _ in 0..sessions / 4 + 10_000 {
            self.turn();
        }
    }

    /// Lets the worker have at least `packets`; the cycles of each, all in.
    pub(crate) fn measure(&mut self, packets: u64) -> f64 {
        self.forget_deltas();
        let mut seen = 0;
        let before = clock::cycles();
        while seen < packets {
            seen += self.turn() as u64;
        }
        per_packet(clock::cycles() - before, seen)
    }

    /// Lets a stream come by an interface from now on, of which a packet of each of the `sessions`
    /// comes first: a session's second packet finds its way out, the later ones know it.
    pub(crate) fn flow(
        &mut self,
        interface: InterfaceId,
        stream: Stream,
        sessions: u32,
    ) -> Result<()> {
        let remote = if interface == LAN {
            &self.lan
        } else {
            &self.wan
        };
        let remote = remote.clone();
        remote.send(Traffic::Stamped(stream.clone().in_turn()))?;
        self.measure(u64::from(sessions));
        remote.send(Traffic::Stamped(stream))?;
        self.measure(WARM_UP);
        Ok(())
    }

    /// The same of a device that has the frames itself.
    pub(crate) fn flow_as_it_is(&mut self, sessions: u32) -> Result<()> {
        self.lan.send(Traffic::AsItIs)?;
        self.measure(WARM_UP + u64::from(sessions));
        Ok(())
    }

    /// Fails if a packet was dropped.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_but(&[])
    }

    /// Fails if a packet was dropped for another reason than these.
    pub(crate) fn check_but(&self, excused: &[Drop]) -> Result<()> {
        for (reason, _, count) in self.counters.drops() {
            let excused = excused.iter().any(|excuse| excuse.name() == reason);
            ensure!(
                count == 0 || excused,
                "{count} packets were dropped: {reason}"
            );
        }
        Ok(())
    }

    /// Empties the ring of changes, as the control core would.
    fn forget_deltas(&mut self) {
        if let Some(control) = &mut self.control {
            while control.deltas.pop().is_ok() {}
        }
    }
}

/// Cycles per packet.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 of either")]
pub(crate) fn per_packet(cycles: u64, packets: u64) -> f64 {
    cycles as f64 / packets as f64
}

/// A share, in percent; zero of nothing.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
