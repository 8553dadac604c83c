//! A gateway with cables in memory at its ports, and what tests do with it.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of every test file")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

pub mod frames;
pub mod units;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use dpdk::{Eal, EalSettings, Mbuf, Mempool};
use forward::{
    ControlRings, Duty, Interface, InterfaceAddress, InterfaceId, InterfaceRole, InterfaceSet,
    Limits, MemoryPort, Neighbour, Neighbours, Now, Policy, PolicyAction, Prefix, Publisher,
    Punted, RingSizes, Route, Snapshot, SnapshotSettings, SourceNat, Worker, WorkerCounters,
    WorkerParts,
};
use packet::{Mac, Tuple};
use session::{Memory, Reader, Session, Settings, Shard, Tick, Version};

pub const LAN: InterfaceId = InterfaceId(0);
pub const WAN: InterfaceId = InterfaceId(1);
pub const SYNC: InterfaceId = InterfaceId(2);

pub const UNIT: u8 = 3;
pub const TERM: u32 = 5;
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 100);
/// Beyond the default route.
pub const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub const LAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const LAN_UNIT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);

pub const CLIENT_MAC: Mac = Mac([2, 0xc1, 0, 0, 0, 1]);
pub const SERVER_MAC: Mac = Mac([2, 0x5e, 0, 0, 0, 1]);
pub const ROUTER_MAC: Mac = Mac([2, 0x5e, 0, 0, 0, 0xfe]);

/// The unit's own MAC on an interface.
pub fn unit_mac(interface: InterfaceId) -> Mac {
    Mac([2, 0x11, 0, 0, 0, interface.0])
}

/// The cluster's MAC on an interface.
pub fn virtual_mac(interface: InterfaceId) -> Mac {
    Mac([2, 0x74, 0x67, 0, 7, interface.0])
}

/// The DPDK of this test process: no huge pages, no ports.
pub fn dpdk() -> &'static (Eal, Mempool) {
    static DPDK: OnceLock<(Eal, Mempool)> = OnceLock::new();
    DPDK.get_or_init(|| {
        let eal = Eal::init(&EalSettings {
            program: "forward-test".into(),
            file_prefix: format!("forward-test-{}", std::process::id()),
            main_core: 0,
            huge_pages: false,
            memory_mb: 512,
            devices: Vec::new(),
        })
        .unwrap();
        let pool = Mempool::new(&eal, "test", 8_192, 2_048).unwrap();
        (eal, pool)
    })
}

/// A buffer with this frame.
pub fn mbuf(frame: &[u8]) -> Mbuf {
    let mut mbuf = dpdk().1.allocate().unwrap();
    assert!(mbuf.copy_from_slice(frame));
    mbuf
}

/// How a test's gateway differs from the usual one.
pub struct Plan {
    pub workers: u16,
    pub unit: u8,
    pub duty: Duty,
    pub policies: Vec<Policy>,
    pub limits: Limits,
    pub rings: RingSizes,
    /// Sessions per worker.
    pub sessions: u32,
    pub cable: usize,
    pub interfaces: Vec<Interface>,
    /// Sessions that one source may have.
    pub per_source: Option<u32>,
    /// Buffers for the workers' own packets, if not those of the test.
    pub pool: Option<Mempool>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            workers: 1,
            unit: UNIT,
            duty: Duty::Primary,
            policies: vec![masquerade(), inbound()],
            limits: Limits::default(),
            rings: RingSizes::default(),
            sessions: 1_024,
            cable: 256,
            interfaces: interfaces(),
            per_source: None,
            pool: None,
        }
    }
}

impl Plan {
    /// What the control core would publish.
    pub fn snapshot(&self) -> Snapshot {
        let mut policies = self.policies.clone();
        for (number, policy) in (0..).zip(&mut policies) {
            policy.number = number;
        }
        let settings = SnapshotSettings {
            unit: self.unit,
            interfaces: self.interfaces.clone(),
            routes: vec![Route {
                to: Prefix::ALL,
                interface: WAN,
                gateway: Some(ROUTER),
            }],
            policies,
            workers: self.workers,
            heartbeat_ethertype: forward::HEARTBEAT_ETHERTYPE,
            limits: self.limits,
        };
        Snapshot::build(&dpdk().0, settings)
            .unwrap()
            .with_duty(self.duty, TERM)
    }

    /// The usual gateway with a smaller MTU on the WAN.
    pub fn narrow(mtu: u16) -> Self {
        let mut plan = Self::default();
        plan.interfaces[WAN.index()].mtu = mtu;
        plan
    }
}

/// From the LAN to everywhere beyond the WAN, hidden.
pub fn masquerade() -> Policy {
    Policy {
        from: InterfaceSet::NONE.with(LAN),
        to: InterfaceSet::NONE.with(WAN),
        source_nat: SourceNat::Masquerade,
        ..Policy::any("out", PolicyAction::Allow)
    }
}

/// From the LAN to everywhere beyond the WAN, as it is.
pub fn plain() -> Policy {
    Policy {
        source_nat: SourceNat::None,
        ..masquerade()
    }
}

/// From the WAN to the cluster address, port 8080, to port 80 of the client.
pub fn inbound() -> Policy {
    Policy {
        from: InterfaceSet::NONE.with(WAN),
        to: InterfaceSet::NONE.with(LAN),
        destination: vec![Prefix::new(WAN_ADDRESS, 32)],
        protocols: vec![6, 17],
        destination_ports: vec![8_080..=8_080],
        destination_nat: Some(forward::DestinationNat {
            address: CLIENT,
            port: Some(80),
        }),
        ..Policy::any("in", PolicyAction::Allow)
    }
}

fn interfaces() -> Vec<Interface> {
    let traffic = |name: &str, id: InterfaceId, cluster: InterfaceAddress| Interface {
        name: name.into(),
        role: InterfaceRole::Traffic,
        mac: unit_mac(id),
        virtual_mac: Some(virtual_mac(id)),
        mtu: 1_500,
        cluster_addresses: vec![cluster],
        unit_address: None,
    };
    vec![
        Interface {
            unit_address: Some(InterfaceAddress::new(LAN_UNIT, 24)),
            ..traffic("lan", LAN, InterfaceAddress::new(LAN_ADDRESS, 24))
        },
        traffic("wan", WAN, InterfaceAddress::new(WAN_ADDRESS, 24)),
        Interface {
            name: "sync".into(),
            role: InterfaceRole::Sync,
            mac: unit_mac(SYNC),
            virtual_mac: None,
            mtu: 1_500,
            cluster_addresses: Vec::new(),
            unit_address: Some(InterfaceAddress::new(Ipv4Addr::new(10, 9, 9, 3), 24)),
        },
    ]
}

/// A unit: its workers, the far ends of their cables, and the control core's part.
pub struct Gateway {
    pub workers: Vec<Worker<MemoryPort>>,
    /// Far ends, by worker and interface.
    pub cables: Vec<Vec<MemoryPort>>,
    pub control: Vec<ControlRings>,
    pub counters: Vec<Arc<WorkerCounters>>,
    pub readers: Vec<Reader>,
    pub snapshot: Publisher<Snapshot>,
    pub neighbours: Publisher<Neighbours>,
    pub now: Now,
}

impl Gateway {
    pub fn new(plan: Plan) -> Self {
        static SEED: AtomicU32 = AtomicU32::new(1);
        let pool = &dpdk().1;
        let snapshot = plan.snapshot();
        let snapshot = Publisher::new(snapshot);
        let neighbours = Publisher::new(Neighbours::build(&usual_neighbours()));
        let seed = u64::from(SEED.fetch_add(1, Ordering::Relaxed));
        let shards: Vec<Shard> = (0..plan.workers)
            .map(|_| {
                let mut settings = Settings::new(plan.sessions);
                settings.seed = seed;
                settings.per_source_limit = plan.per_source;
                Shard::new(settings, Memory::Plain).unwrap()
            })
            .collect();
        let readers: Vec<Reader> = shards.iter().map(Shard::reader).collect();
        let (rings, control) = forward::connect(plan.workers, plan.rings, |tuple| {
            tuple.src_port.to_be_bytes()[1]
        });
        let mut gateway = Self {
            workers: Vec::new(),
            cables: Vec::new(),
            control,
            counters: Vec::new(),
            readers: readers.clone(),
            snapshot,
            neighbours,
            now: Now {
                nanos: 1_000_000_000,
                tick: Tick::START,
            },
        };
        for (index, (shard, rings)) in (0u16..).zip(shards.into_iter().zip(rings)) {
            let (ports, cables) = (0..3).map(|_| MemoryPort::pair(plan.cable)).unzip();
            let counters = Arc::new(WorkerCounters::new());
            gateway.cables.push(cables);
            gateway.counters.push(Arc::clone(&counters));
            gateway.workers.push(Worker::new(WorkerParts {
                index,
                ports,
                pool: plan.pool.clone().unwrap_or_else(|| pool.clone()),
                shard,
                readers: readers.clone(),
                rings,
                snapshot: gateway.snapshot.subscribe(),
                neighbours: gateway.neighbours.subscribe(),
                counters,
            }));
        }
        gateway
    }

    /// The usual gateway with these policies.
    pub fn with_policies(policies: Vec<Policy>) -> Self {
        Self::new(Plan {
            policies,
            ..Plan::default()
        })
    }

    /// Puts a frame on the wire to an interface, at the queue of worker 0.
    pub fn send(&mut self, interface: InterfaceId, frame: &[u8]) {
        self.send_to(0, interface, frame);
    }

    /// Puts a frame into the queue of a worker.
    pub fn send_to(&mut self, worker: usize, interface: InterfaceId, frame: &[u8]) {
        self.cables[worker][interface.index()]
            .send(mbuf(frame))
            .unwrap();
    }

    /// Lets every worker make turns until all are idle.
    pub fn turn(&mut self) {
        for _ in 0..100 {
            let now = self.now;
            let packets: usize = self.workers.iter_mut().map(|worker| worker.turn(now)).sum();
            if packets == 0 {
                return;
            }
        }
        panic!("the workers hand packets to each other for ever");
    }

    /// Time passes.
    pub fn pass(&mut self, ticks: u32) {
        self.now.tick = self.now.tick.plus(ticks);
        self.now.nanos += u64::from(ticks) * 100_000_000;
    }

    /// Frames that left by an interface, in order per worker.
    pub fn sent(&mut self, interface: InterfaceId) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for cables in &mut self.cables {
            while let Some(mbuf) = cables[interface.index()].take() {
                frames.push(mbuf.data().to_vec());
            }
        }
        frames
    }

    /// Sends a frame to one interface and returns what came out of another.
    pub fn pass_through(
        &mut self,
        from: InterfaceId,
        frame: &[u8],
        to: InterfaceId,
    ) -> Vec<Vec<u8>> {
        self.send(from, frame);
        self.turn();
        self.sent(to)
    }

    /// Packets that went to the control core.
    pub fn punted(&mut self) -> Vec<Punted> {
        self.control
            .iter_mut()
            .flat_map(|rings| std::iter::from_fn(|| rings.punted.pop().ok()))
            .collect()
    }

    /// The session of a tuple, in any shard.
    pub fn session(&self, tuple: &Tuple) -> Option<Session> {
        self.readers
            .iter()
            .find_map(|reader| reader.lookup(tuple))
            .map(|(_, session)| session)
    }

    /// Changes the duty.
    pub fn set_duty(&mut self, duty: Duty, term: u32) {
        let next = self.snapshot.current().with_duty(duty, term);
        self.snapshot.publish(next);
    }

    /// Every counter of all workers that is not zero. Turns and bursts are left out: they count the
    /// test's own patience.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        let mut add = |name: String, count: u64| {
            if count > 0 {
                *counts.entry(name).or_default() += count;
            }
        };
        for counters in &self.counters {
            for (name, _, count) in counters.drops() {
                add(format!("drop {name}"), count);
            }
            for (name, _, count) in counters.events() {
                if !matches!(name, "turns" | "bursts") {
                    add(name.into(), count);
                }
            }
            for (id, name) in [(LAN, "lan"), (WAN, "wan"), (SYNC, "sync")] {
                let traffic = counters.traffic(id);
                add(format!("{name} rx"), traffic.rx_packets);
                add(format!("{name} tx"), traffic.tx_packets);
            }
            for policy in 0..4 {
                add(format!("policy {policy}"), counters.policy_hits(policy));
            }
        }
        counts
    }

    /// Asserts that exactly these counters moved since `before`, by so much.
    #[track_caller]
    pub fn assert_moved(&self, before: &Counts, expected: &[(&str, u64)]) {
        let moved: Counts = self
            .counts()
            .into_iter()
            .map(|(name, count)| {
                let since = count - before.get(&name).copied().unwrap_or(0);
                (name, since)
            })
            .filter(|(_, since)| *since > 0)
            .collect();
        let expected: Counts = expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(moved, expected);
    }
}

/// A session that unit 1 has, one for each round.
pub fn session_of_a_peer(round: u16) -> Session {
    Session {
        tuples: [1, 2].map(|host| Tuple::v4([10, 0, 0, host].into(), round, FAR, 9, 17)),
        version: Version(1),
        owner: 1,
        ..Session::default()
    }
}

/// Counters by name.
pub type Counts = BTreeMap<String, u64>;

/// Neighbours that nobody has to ask for.
pub fn usual_neighbours() -> Vec<Neighbour> {
    [
        (LAN, CLIENT, CLIENT_MAC),
        (WAN, SERVER, SERVER_MAC),
        (WAN, ROUTER, ROUTER_MAC),
    ]
    .into_iter()
    .map(|(interface, address, mac)| Neighbour {
        interface,
        address,
        mac,
    })
    .collect()
}
