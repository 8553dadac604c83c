//! Cycles per packet of a worker's turn: datagrams of established, hidden sessions, chosen at
//! random, in bursts of 64 over cables in memory. Filling and emptying the cables is not counted. And
//! cycles of a turn in which nothing came.
//!
//! `cargo run --release -p forward --example turn_cycles [sessions …]`

#![allow(clippy::unwrap_used, reason = "a failed step ends the measurement")]

use std::net::Ipv4Addr;
use std::sync::Arc;

use dpdk::{Burst, Eal, EalSettings, Mempool, clock};
use forward::{
    Interface, InterfaceAddress, InterfaceId, InterfaceRole, Limits, MemoryPort, Neighbour,
    Neighbours, Now, Policy, PolicyAction, PortIo, Prefix, Publisher, RingSizes, Route, Snapshot,
    SnapshotSettings, SourceNat, Worker, WorkerCounters, WorkerParts, connect,
};
use packet::{Mac, Tuple, checksum};
use session::{Memory, Settings, Shard, Tick};

const WAN: InterfaceId = InterfaceId(1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
const BURSTS: usize = 20_000;

fn interface(name: &str, last: u8, address: [u8; 4]) -> Interface {
    Interface {
        name: name.into(),
        role: InterfaceRole::Traffic,
        mac: Mac([2, 0, 0, 0, 0, last]),
        virtual_mac: None,
        mtu: 1_500,
        cluster_addresses: vec![InterfaceAddress::new(address.into(), 8)],
        unit_address: None,
    }
}

fn snapshot(eal: &Eal) -> Snapshot {
    let settings = SnapshotSettings {
        unit: 1,
        interfaces: vec![
            interface("lan", 1, [10, 255, 255, 254]),
            interface("wan", 2, [198, 51, 100, 1]),
        ],
        routes: vec![Route {
            to: Prefix::ALL,
            interface: WAN,
            gateway: Some(ROUTER),
        }],
        policies: vec![Policy {
            source_nat: SourceNat::Masquerade,
            ..Policy::any("out", PolicyAction::Allow)
        }],
        workers: 1,
        heartbeat_ethertype: forward::HEARTBEAT_ETHERTYPE,
        limits: Limits::default(),
    };
    Snapshot::build(eal, settings)
        .unwrap()
        .with_duty(forward::Duty::Primary, 1)
}

/// Datagram number `flow`: 64 bytes on the wire, each flow to a server of its own.
fn write_frame(frame: &mut [u8], flow: u32) {
    let tuple = Tuple::v4(
        Ipv4Addr::from_bits(0x0a00_0001 + flow % 250),
        1_000,
        Ipv4Addr::from_bits(0x3000_0000 + flow),
        53,
        17,
    );
    frame.fill(0);
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 9, 8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    frame[26..30].copy_from_slice(&tuple.src_v4().unwrap().octets());
    frame[30..34].copy_from_slice(&tuple.dst_v4().unwrap().octets());
    let sum = checksum::checksum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame[34..36].copy_from_slice(&tuple.src_port.to_be_bytes());
    frame[36..38].copy_from_slice(&tuple.dst_port.to_be_bytes());
    frame[38..40].copy_from_slice(&26u16.to_be_bytes());
}

struct Bench {
    pool: Mempool,
    worker: Worker<MemoryPort>,
    lan: MemoryPort,
    wan: MemoryPort,
    sent: Burst,
    counters: Arc<WorkerCounters>,
    now: Now,
}

impl Bench {
    /// A gateway with room for so many sessions.
    fn new(pool: &Mempool, snapshot: &Publisher<Snapshot>, sessions: u32) -> Self {
        let mut settings = Settings::new(sessions + 64);
        settings.timeouts.udp_unreplied = 1_000_000;
        let shard = Shard::new(settings, Memory::Huge).unwrap();
        let neighbours = Publisher::new(Neighbours::build(&[Neighbour {
            interface: WAN,
            address: ROUTER,
            mac: Mac([2, 0, 0, 0, 8, 8]),
        }]));
        let (near_lan, lan) = MemoryPort::pair(64);
        let (near_wan, wan) = MemoryPort::pair(64);
        let counters = Arc::new(WorkerCounters::new());
        let (mut rings, _control) = connect(1, RingSizes::default(), |_| 0);
        let worker = Worker::new(WorkerParts {
            index: 0,
            ports: vec![near_lan, near_wan],
            pool: pool.clone(),
            readers: vec![shard.reader()],
            shard,
            rings: rings.remove(0),
            snapshot: snapshot.subscribe(),
            neighbours: neighbours.subscribe(),
            counters: Arc::clone(&counters),
        });
        Self {
            pool: pool.clone(),
            worker,
            lan,
            wan,
            sent: Burst::new(),
            counters,
            now: Now {
                nanos: 0,
                tick: Tick::START,
            },
        }
    }

    /// Sends a burst of these flows; returns the cycles of the turn.
    fn burst(&mut self, flows: impl Iterator<Item = u32>) -> u64 {
        for flow in flows {
            let mut mbuf = self.pool.allocate().unwrap();
            write_frame(mbuf.append(60).unwrap(), flow);
            self.lan.send(mbuf).unwrap();
        }
        let before = clock::cycles();
        self.worker.turn(self.now);
        let cycles = clock::cycles() - before;
        self.wan.receive(&mut self.sent);
        self.sent.clear();
        cycles
    }
}

fn measure(pool: &Mempool, snapshot: &Publisher<Snapshot>, sessions: u32) {
    let mut bench = Bench::new(pool, snapshot, sessions);
    let created: u64 = (0..sessions)
        .step_by(64)
        .map(|first| bench.burst(first..sessions.min(first + 64)))
        .sum();
    let mut random = 0x9e37_79b9_u32;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % sessions
    };
    let mut cycles: Vec<u64> = (0..BURSTS)
        .map(|_| bench.burst(std::iter::repeat_with(&mut next).take(64)))
        .collect();
    cycles.sort_unstable();
    assert_eq!(
        bench
            .counters
            .drops()
            .map(|(_, _, count)| count)
            .sum::<u64>(),
        0
    );
    let mut empty: Vec<u64> = (0..BURSTS)
        .map(|_| bench.burst(std::iter::empty()))
        .collect();
    empty.sort_unstable();
    let idle = empty[BURSTS / 2];
    let median = cycles[BURSTS / 2] / 64;
    let least = cycles[BURSTS / 100] / 64;
    let each = created / u64::from(sessions);
    println!(
        "{sessions:>9} sessions: {least:>4}/{median:>4} cycles a packet, {each:>5} to begin one, {idle:>4} for an empty turn"
    );
}

fn main() {
    let eal = Eal::init(&EalSettings {
        program: "turn_cycles".into(),
        file_prefix: format!("turn-cycles-{}", std::process::id()),
        main_core: 1,
        huge_pages: false,
        memory_mb: 256,
        devices: Vec::new(),
    })
    .unwrap();
    let _registered = dpdk::register_thread();
    let pool = Mempool::new(&eal, "frames", 4_096, 2_048).unwrap();
    let snapshot = Publisher::new(snapshot(&eal));
    let asked: Vec<u32> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let asked = if asked.is_empty() {
        vec![1, 1_000, 100_000, 1_000_000]
    } else {
        asked
    };
    for sessions in asked {
        measure(&pool, &snapshot, sessions);
    }
}
