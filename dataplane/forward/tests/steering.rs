//! Steering: behind devices that do RSS with our key, every packet of a session arrives at the worker
//! that has it, translated or not. Behind others it gets there by one hand-over.
//!
//! The workers run on queues of DPDK ports. Memif has no RSS, so the far end of the cable does what a
//! NIC would: it puts each frame into the queue that DPDK's own software hash and the table name.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::mem::ManuallyDrop;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::frames::{self, ACK, SYN, sound};
use common::{CLIENT, LAN, Plan, WAN, dpdk, usual_neighbours};
use dpdk::{Burst, Device, Mbuf, Port, PortSettings, Rss, RxQueue, TxQueue, softrss};
use forward::{
    ControlRings, Event, InterfaceId, Neighbours, Now, Publisher, QueuePair, RingSizes, Snapshot,
    Worker, WorkerCounters, WorkerParts,
};
use packet::Tuple;
use packet::toeplitz::{SYMMETRIC_KEY, Steering};
use session::{Memory, Reader, Settings, Shard, Tick};

/// Sessions of each protocol.
const SESSIONS: u16 = 2_000;
/// Frames on the cable at once.
const AT_ONCE: usize = 64;

/// Devices are opened by one thread at a time.
static DEVICES: Mutex<()> = Mutex::new(());

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("forward-steering-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl std::ops::Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a NIC does to frames that arrive.
struct Nic(Rss);

impl Nic {
    /// One that was given our key and table, and has a table of `entries`.
    fn programmed(workers: u16, entries: usize) -> Self {
        let table = *Steering::even(workers).table();
        Self(Rss {
            key: SYMMETRIC_KEY,
            reta: table.into_iter().cycle().take(entries).collect(),
        })
    }

    /// The queue of a frame, from its bytes alone.
    fn queue(&self, frame: &[u8]) -> usize {
        let word = |at: usize| u32::from_be_bytes(*frame[at..].first_chunk().unwrap());
        let (protocol, fragment) = (frame[23], word(18) & 0x3fff);
        let transport = 14 + usize::from(frame[14] & 0xf) * 4;
        let ported = matches!(protocol, 6 | 17) && fragment == 0;
        let words: Vec<u32> = [26, 30]
            .into_iter()
            .chain(ported.then_some(transport))
            .map(word)
            .collect();
        let entry = softrss(&self.0.key, &words) as usize % self.0.reta.len();
        self.0.reta[entry].into()
    }
}

/// The far end of a cable.
struct Far {
    receive: Vec<RxQueue>,
    transmit: Vec<TxQueue>,
    _port: Port,
}

/// Both ends of a cable with a queue for each worker.
fn cable(folder: &Folder, name: &str, nic: &Nic, workers: u16) -> (Port, Vec<QueuePair>, Far) {
    let (eal, pool) = dpdk();
    let open = |end: &str, role: &str| {
        let socket = folder.0.join(name);
        let device: Device = format!("memif:{},role={role}", socket.display())
            .parse()
            .unwrap();
        let settings = PortSettings {
            rx_queues: workers,
            tx_queues: workers,
            steering: Some(nic.0.clone()),
            ..PortSettings::default()
        };
        Port::open(
            eal,
            &device,
            &format!("{name}{end}{workers}"),
            &settings,
            pool,
        )
        .unwrap()
    };
    let (mut near, mut far) = (open("n", "server"), open("f", "client"));
    let (receive, transmit) = near.start().unwrap();
    let pairs = receive
        .into_iter()
        .zip(transmit)
        .map(|(receive, transmit)| QueuePair {
            receive: Some(receive),
            transmit,
        });
    let pairs = pairs.collect();
    let (mut receive, transmit) = far.start().unwrap();
    let up = || near.link().unwrap().up && far.link().unwrap().up;
    for _ in 0..500 {
        if up() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(up(), "the cable is not connected");
    // The client of a memif provides the buffers that the server sends into, when it receives.
    for queue in &mut receive {
        assert_eq!(queue.receive(&mut Burst::new()), 0);
    }
    let far = Far {
        receive,
        transmit,
        _port: far,
    };
    (near, pairs, far)
}

/// A gateway between two cables.
///
/// Its ports stay open until the process ends: where both ends of a memif are in one process, closing
/// one crashes DPDK's interrupt thread, which is closing the other.
struct Site {
    workers: ManuallyDrop<Vec<Worker<Option<QueuePair>>>>,
    counters: Vec<Arc<WorkerCounters>>,
    readers: Vec<Reader>,
    control: Vec<ControlRings>,
    far: ManuallyDrop<BTreeMap<InterfaceId, Far>>,
    nic: Nic,
    _snapshot: Publisher<Snapshot>,
    _neighbours: Publisher<Neighbours>,
    _near: ManuallyDrop<[Port; 2]>,
    _folder: Folder,
}

impl Site {
    fn new(workers: u16, nic: Nic, name: &str) -> Self {
        let plan = Plan {
            workers,
            ..Plan::default()
        };
        let folder = Folder::new(name);
        let (lan, lan_queues, lan_far) = cable(&folder, &format!("{name}l"), &nic, workers);
        let (wan, wan_queues, wan_far) = cable(&folder, &format!("{name}w"), &nic, workers);
        assert!(!lan.info().hardware_steering, "a virtual device");
        let snapshot = Publisher::new(plan.snapshot());
        let neighbours = Publisher::new(Neighbours::build(&usual_neighbours()));
        let shards: Vec<Shard> = (0..workers)
            .map(|_| Shard::new(Settings::new(8_192), Memory::Plain).unwrap())
            .collect();
        let readers: Vec<Reader> = shards.iter().map(Shard::reader).collect();
        let (rings, control) = forward::connect(workers, RingSizes::default(), |_| 0);
        let mut site = Self {
            workers: ManuallyDrop::new(Vec::new()),
            counters: Vec::new(),
            readers,
            control,
            far: ManuallyDrop::new(BTreeMap::from([(LAN, lan_far), (WAN, wan_far)])),
            nic,
            _snapshot: snapshot,
            _neighbours: neighbours,
            _near: ManuallyDrop::new([lan, wan]),
            _folder: folder,
        };
        let queues = lan_queues.into_iter().zip(wan_queues);
        let parts = shards.into_iter().zip(rings).zip(queues);
        for (index, ((shard, rings), (lan, wan))) in (0u16..).zip(parts) {
            let counters = Arc::new(WorkerCounters::new());
            site.counters.push(Arc::clone(&counters));
            site.workers.push(Worker::new(WorkerParts {
                index,
                ports: vec![Some(lan), Some(wan), None],
                pool: dpdk().1.clone(),
                shard,
                readers: site.readers.clone(),
                rings,
                snapshot: site._snapshot.subscribe(),
                neighbours: site._neighbours.subscribe(),
                counters,
            }));
        }
        site
    }

    /// Puts each frame into the queue that `place` says, lets all workers work, and returns what came
    /// out of the other cable.
    fn pass(
        &mut self,
        (from, to): (InterfaceId, InterfaceId),
        frames: &[Vec<u8>],
        place: impl Fn(&Nic, &[u8]) -> usize,
    ) -> Vec<Vec<u8>> {
        let mut burst = Burst::new();
        for frame in frames {
            let queue = place(&self.nic, frame);
            burst.push(common::mbuf(frame)).unwrap();
            let far = self.far.get_mut(&from).unwrap();
            assert_eq!(far.transmit[queue].transmit(&mut burst), 1);
        }
        let now = Now {
            nanos: 1_000_000_000,
            tick: Tick::START,
        };
        while self
            .workers
            .iter_mut()
            .map(|worker| worker.turn(now))
            .sum::<usize>()
            > 0
        {}
        for rings in &mut self.control {
            while rings.deltas.pop().is_ok() {}
        }
        let mut out = Vec::new();
        for queue in &mut self.far.get_mut(&to).unwrap().receive {
            while queue.receive(&mut burst) > 0 {
                out.extend(burst.drain().map(|mbuf: Mbuf| mbuf.data().to_vec()));
            }
        }
        out
    }

    fn count(&self, event: Event) -> u64 {
        self.counters
            .iter()
            .map(|counters| counters.count(event))
            .sum()
    }

    fn dropped(&self) -> u64 {
        let drops = self.counters.iter().flat_map(|counters| counters.drops());
        drops.map(|(_, _, count)| count).sum()
    }
}

/// Session number `n`: many servers beyond the router, so that addresses steer too.
fn session(n: u16, protocol: u8) -> Tuple {
    let [high, low] = n.to_be_bytes();
    let server = Ipv4Addr::new(203, high, low, 9);
    Tuple::v4(CLIENT, 20_000 + n, server, 443, protocol)
}

/// All packets of a session: the way each goes, and its frame.
fn conversation(tuple: &Tuple, hidden: &Tuple) -> [(InterfaceId, Vec<u8>); 2] {
    let reply = hidden.reversed();
    match tuple.protocol {
        6 => [
            (WAN, frames::tcp(WAN, &reply, SYN | ACK, 900, 101)),
            (LAN, frames::tcp(LAN, tuple, ACK, 101, 901)),
        ],
        _ => [
            (WAN, frames::udp(WAN, &reply, b"answer")),
            (LAN, frames::udp(LAN, tuple, b"thanks")),
        ],
    }
}

fn opening(tuple: &Tuple) -> Vec<u8> {
    match tuple.protocol {
        6 => frames::tcp(LAN, tuple, SYN, 100, 0),
        _ => frames::udp(LAN, tuple, b"question"),
    }
}

/// Sessions there and back and there again, a few at a time. `place` is the queue that each frame
/// arrives in, `each` looks at a session and the tuple that it leaves with.
fn converse(
    site: &mut Site,
    place: impl Fn(&Nic, &[u8]) -> usize,
    mut each: impl FnMut(&Site, &Tuple, &Tuple),
) {
    let tuples: Vec<Tuple> = (0..SESSIONS)
        .flat_map(|n| [session(n, 6), session(n, 17)])
        .collect();
    for tuples in tuples.chunks(AT_ONCE) {
        let opening: Vec<Vec<u8>> = tuples.iter().map(opening).collect();
        let out = site.pass((LAN, WAN), &opening, &place);
        // Who is behind a tuple is told by where it goes.
        let far = |tuple: &Tuple| (tuple.dst, tuple.dst_port, tuple.protocol);
        let hidden: HashMap<_, Tuple> = out
            .iter()
            .map(|frame| sound(frame).tuple)
            .map(|tuple| (far(&tuple), tuple))
            .collect();
        let mut steps: [Vec<Vec<u8>>; 2] = Default::default();
        for tuple in tuples {
            let hidden = hidden[&far(tuple)];
            each(site, tuple, &hidden);
            for (step, (_, frame)) in steps.iter_mut().zip(conversation(tuple, &hidden)) {
                step.push(frame);
            }
        }
        let [replies, more] = steps;
        let back = site.pass((WAN, LAN), &replies, &place);
        let mut back: Vec<Tuple> = back.iter().map(|frame| sound(frame).tuple).collect();
        let mut expected: Vec<Tuple> = tuples.iter().map(Tuple::reversed).collect();
        back.sort_unstable();
        expected.sort_unstable();
        assert_eq!(back, expected);
        assert_eq!(site.pass((LAN, WAN), &more, &place).len(), tuples.len());
    }
}

#[test]
fn with_our_key_in_the_device_nothing_is_handed_over() {
    let _alone = DEVICES.lock();
    for (workers, entries) in [(2, 128), (4, 512)] {
        let nic = Nic::programmed(workers, entries);
        let mut site = Site::new(workers, nic, &format!("rss{workers}"));
        converse(&mut site, Nic::queue, |site, tuple, hidden| {
            let owner = site.nic.queue(&opening(tuple));
            let reply = frames::packet(
                WAN,
                &hidden.reversed(),
                frames::USUAL,
                frames::NO_SEGMENT,
                b"",
            );
            assert_eq!(site.nic.queue(&reply), owner);
            for (index, reader) in site.readers.iter().enumerate() {
                assert_eq!(reader.lookup(tuple).is_some(), index == owner);
            }
        });
        assert_eq!(site.count(Event::HandedOver), 0);
        assert_eq!(site.count(Event::SessionsCreated), u64::from(SESSIONS) * 2);
        assert_eq!(site.dropped(), 0);
        let least = u32::from(SESSIONS / workers);
        assert!(site.readers.iter().all(|reader| reader.len() > least));
    }
}

#[test]
fn a_packet_at_the_wrong_worker_is_handed_over_once() {
    let _alone = DEVICES.lock();
    for workers in [2, 4] {
        let wrong = |nic: &Nic, frame: &[u8]| {
            // The same wrong one for all packets of a session in a direction.
            let others = usize::from(workers) - 1;
            let further = usize::from(frame[35] ^ frame[37]) % others + 1;
            (nic.queue(frame) + further) % usize::from(workers)
        };
        let nic = Nic::programmed(workers, Steering::ENTRIES);
        let mut site = Site::new(workers, nic, &format!("wrong{workers}"));
        converse(&mut site, wrong, |_, _, _| {});
        let packets = u64::from(SESSIONS) * 2 * 3;
        assert_eq!(site.count(Event::HandedOver), packets);
        assert_eq!(site.count(Event::TakenOver), packets);
        assert_eq!(site.count(Event::SessionsCreated), u64::from(SESSIONS) * 2);
        assert_eq!(site.dropped(), 0);

        // Packets of several sessions on the same way stay in order, also those of a new one.
        let tuples: Vec<Tuple> = (0..8).map(|n| session(SESSIONS - 4 + n, 17)).collect();
        let numbered: Vec<Vec<u8>> = (0..8u8)
            .flat_map(|n| tuples.iter().map(move |tuple| (n, tuple)))
            .map(|(n, tuple)| frames::udp(LAN, tuple, &[n]))
            .collect();
        let out = site.pass((LAN, WAN), &numbered, wrong);
        for tuple in &tuples {
            let order: Vec<u8> = out
                .iter()
                .filter(|frame| sound(frame).tuple.dst == tuple.dst)
                .map(|frame| frame[42])
                .collect();
            assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7], "{tuple:?}");
        }
        assert_eq!(site.count(Event::HandedOver), packets + 64);
        assert_eq!(site.dropped(), 0);
    }
}
