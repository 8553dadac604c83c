//! A worker on the queues of DPDK ports: captures are replayed into it and written by it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{CLIENT, LAN, Plan, SERVER, UNIT, WAN, WAN_ADDRESS, dpdk, frames, usual_neighbours};
use dpdk::{Device, Port, PortSettings};
use forward::{
    Event, Neighbours, Now, Publisher, QueuePair, RingSizes, Worker, WorkerCounters, WorkerParts,
};
use packet::Tuple;
use session::{Memory, Settings, Shard, Tick};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("forward-queues-{}", std::process::id()));
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

/// Header of a capture: microseconds, version 2.4, Ethernet.
const CAPTURE: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];

fn write_capture(file: &Path, frames: &[Vec<u8>]) {
    let mut bytes: Vec<u8> = CAPTURE.iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        bytes.extend([0, 0, len, len].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(frame);
    }
    std::fs::write(file, bytes).unwrap();
}

fn read_capture(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(*header[8..].first_chunk().unwrap());
        let (frame, after) = after.split_at(usize::try_from(len).unwrap());
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}

/// One queue each way of a port that replays `file`.
fn replay(file: &Path, name: &str) -> (Port, QueuePair) {
    let (eal, pool) = dpdk();
    let device: Device = format!("pcap:{}", file.display()).parse().unwrap();
    let mut port = Port::open(eal, &device, name, &PortSettings::default(), pool).unwrap();
    let (mut receive, mut transmit) = port.start().unwrap();
    let queues = QueuePair {
        receive: receive.pop(),
        transmit: transmit.pop().unwrap(),
    };
    (port, queues)
}

#[test]
fn captured_packets_leave_translated() {
    let folder = Folder::new();
    let [lan, wan] = ["lan.pcap", "wan.pcap"].map(|name| folder.0.join(name));
    let tuples: Vec<Tuple> = (1..=100)
        .map(|port| Tuple::v4(CLIENT, port, SERVER, 53, 17))
        .collect();
    let captured: Vec<Vec<u8>> = tuples
        .iter()
        .map(|tuple| frames::udp(LAN, tuple, b"captured"))
        .collect();
    write_capture(&lan, &captured);
    let foreign = frames::to_mac(captured[0].clone(), usual_neighbours()[0].mac);
    write_capture(&wan, &[foreign]);

    let (ports, queues): (Vec<_>, Vec<_>) = [(&lan, "lan"), (&wan, "wan")]
        .map(|(file, name)| replay(file, name))
        .into_iter()
        .unzip();
    let shard = Shard::new(Settings::new(1_000), Memory::Plain).unwrap();
    let snapshot = Publisher::new(Plan::default().snapshot());
    let neighbours = Publisher::new(Neighbours::build(&usual_neighbours()));
    let counters = Arc::new(WorkerCounters::new());
    let (mut rings, _control) = forward::connect(1, RingSizes::default(), |_| 0);
    let mut worker = Worker::new(WorkerParts {
        index: 0,
        ports: queues,
        pool: dpdk().1.clone(),
        readers: vec![shard.reader()],
        shard,
        rings: rings.remove(0),
        snapshot: snapshot.subscribe(),
        neighbours: neighbours.subscribe(),
        counters: Arc::clone(&counters),
    });
    let now = Now {
        nanos: 0,
        tick: Tick::START,
    };
    while worker.turn(now) > 0 {}
    drop((worker, ports));

    let sent = read_capture(&folder.0.join("wan.pcap.out.pcap"));
    assert_eq!(sent.len(), captured.len());
    for frame in &sent {
        let layout = frames::sound(frame);
        assert_eq!(layout.tuple.src_v4(), Some(WAN_ADDRESS));
        assert_eq!(layout.tuple.src_port % 16, u16::from(UNIT) - 1);
        assert!(frame.ends_with(b"captured"));
    }
    assert_eq!(counters.count(Event::SessionsCreated), 100);
    assert_eq!(counters.dropped(forward::Drop::ForeignMac), 1);
    let (lan, wan) = (counters.traffic(LAN), counters.traffic(WAN));
    assert_eq!((lan.rx_packets, lan.tx_packets), (100, 0));
    assert_eq!((wan.rx_packets, wan.tx_packets), (1, 100));
    let bytes: usize = sent.iter().map(Vec::len).sum();
    assert_eq!(wan.tx_bytes, bytes as u64);
}
