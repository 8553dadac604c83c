//! Devices that need no kernel interface, and the errors of those that do.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{eal, pool};
use dpdk::{Burst, Device, MacFilter, Mempool, Port, PortSettings, Rss};

fn open(device: &str, name: &str, settings: &PortSettings, pool: &Mempool) -> Result<Port, String> {
    let device: Device = device.parse().unwrap();
    Port::open(eal(), &device, name, settings, pool).map_err(|error| error.to_string())
}

fn queues(count: u16) -> PortSettings {
    PortSettings {
        rx_queues: count,
        tx_queues: count,
        ..PortSettings::default()
    }
}

/// A folder of the test's own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a capture of `frames`.
fn write_capture(path: &str, frames: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for word in [1, 0, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes).unwrap();
}

/// The frames of a capture.
fn read_capture(path: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        frames.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    frames
}

#[test]
fn null_gives_and_takes_without_end() {
    let pool = pool("null", 1_000);
    let mut port = open("null,size=60", "n0", &queues(2), &pool).unwrap();
    assert_eq!(port.info().driver, "net_null");
    assert!(port.info().max_rx_queues >= 2);
    assert!(!port.info().hardware_steering);
    let (mut receive, mut transmit) = port.start().unwrap();
    assert_eq!((receive.len(), transmit.len()), (2, 2));
    let mut burst = Burst::new();
    for (receive, transmit) in receive.iter_mut().zip(&mut transmit) {
        assert_eq!(receive.receive(&mut burst), 64);
        assert_eq!(receive.receive(&mut burst), 0, "the burst is full");
        assert!(
            burst
                .iter()
                .all(|mbuf| mbuf.len() == 60 && mbuf.port() == port.number())
        );
        assert_eq!(transmit.transmit(&mut burst), 64);
        assert!(burst.is_empty());
    }
    let counted = port.statistics().unwrap();
    assert_eq!(
        (counted.rx_packets, counted.tx_packets, counted.rx_too_long),
        (128, 128, 0)
    );
    assert!(port.link().unwrap().up);
}

#[test]
fn a_port_starts_once_and_lives_as_long_as_its_queues() {
    let pool = pool("lives", 1_000);
    let mut port = open("null", "lives", &queues(1), &pool).unwrap();
    let (mut receive, transmit) = port.start().unwrap();
    let again = port.start().unwrap_err().to_string();
    assert!(
        again.starts_with("device null: it was started before"),
        "{again}"
    );
    drop((port, transmit));
    let mut burst = Burst::new();
    assert_eq!(receive[0].receive(&mut burst), 64);
    let busy = open("null", "lives", &queues(1), &pool).unwrap_err();
    assert!(busy.starts_with("device null: it is in use"), "{busy}");
    drop(receive);
    open("null", "lives", &queues(1), &pool).expect("closed with its last queue");
}

#[test]
fn a_pool_runs_dry_without_harm() {
    let pool = pool("dry", 70);
    let mut port = open("null", "dry", &queues(1), &pool).unwrap();
    let (mut receive, _transmit) = port.start().unwrap();
    let (mut first, mut second) = (Burst::new(), Burst::new());
    assert_eq!(receive[0].receive(&mut first), 64);
    assert_eq!(
        receive[0].receive(&mut second),
        0,
        "six buffers are not a burst"
    );
    first.clear();
    assert_eq!(receive[0].receive(&mut second), 64);
}

#[test]
fn a_full_device_leaves_exactly_the_unsent() {
    let pool = pool("loop", 4_000);
    let mut port = open("vdev:net_ring_loop", "loop", &queues(1), &pool).unwrap();
    let (mut receive, mut transmit) = port.start().unwrap();
    let mut burst = Burst::new();
    let mut next = 0_u16;
    let mut sent = 0;
    // The driver's ring holds fewer than two thousand frames.
    while next < 2_000 && burst.is_empty() {
        while !burst.is_full() {
            let mut mbuf = pool.allocate().unwrap();
            assert!(mbuf.copy_from_slice(&next.to_be_bytes()));
            burst.push(mbuf).unwrap();
            next += 1;
        }
        sent += u16::try_from(transmit[0].transmit(&mut burst)).unwrap();
    }
    assert!(sent > 0 && sent < next);
    let number = |data: &[u8]| u16::from_be_bytes(data.try_into().unwrap());
    let unsent: Vec<u16> = burst.drain().map(|mbuf| number(mbuf.data())).collect();
    assert_eq!(unsent, (sent..next).collect::<Vec<u16>>());

    let mut received = Vec::new();
    while receive[0].receive(&mut burst) > 0 {
        received.extend(burst.drain().map(|mbuf| number(mbuf.data())));
    }
    assert_eq!(received, (0..sent).collect::<Vec<u16>>());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn captures_are_replayed_and_written() {
    let folder = Folder::new("replay");
    let file = folder.file("in.pcap");
    let frames: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 60 + usize::from(n)]).collect();
    write_capture(&file, &frames);
    let pool = pool("pcap", 1_000);
    let mut port = open(&format!("pcap:{file}"), "replay", &queues(1), &pool).unwrap();
    let (mut receive, mut transmit) = port.start().unwrap();
    let mut burst = Burst::new();
    let mut seen = Vec::new();
    while receive[0].receive(&mut burst) > 0 {
        seen.extend(burst.iter().map(|mbuf| mbuf.data().to_vec()));
        transmit[0].transmit(&mut burst);
        assert!(burst.is_empty());
    }
    assert_eq!(seen, frames);
    let counted = port.statistics().unwrap();
    assert_eq!((counted.rx_packets, counted.tx_packets), (100, 100));
    drop((port, receive, transmit));
    assert_eq!(read_capture(&format!("{file}.out.pcap")), frames);
}

#[test]
fn frames_longer_than_a_buffer_are_dropped_and_counted() {
    let folder = Folder::new("long");
    let file = folder.file("in.pcap");
    write_capture(
        &file,
        &[
            vec![1; 100],
            vec![2; 700],
            vec![3; 256],
            vec![4; 1_400],
            vec![5; 60],
        ],
    );
    let pool = Mempool::new(eal(), "short", 1_000, 256).unwrap();
    let mut port = open(&format!("pcap:{file}"), "long", &queues(1), &pool).unwrap();
    let (mut receive, _transmit) = port.start().unwrap();
    let mut burst = Burst::new();
    assert_eq!(receive[0].receive(&mut burst), 3);
    let lengths: Vec<(u8, usize)> = burst.iter().map(|m| (m.data()[0], m.len())).collect();
    assert_eq!(lengths, [(1, 100), (3, 256), (5, 60)]);
    assert_eq!(port.statistics().unwrap().rx_too_long, 2);
    burst.clear();
    assert_eq!(pool.in_use(), 0, "what was dropped is free");
}

#[test]
fn memif_carries_frames_between_two_ports() {
    let folder = Folder::new("memif");
    let socket = folder.file("m.sock");
    let pool = pool("memif", 8_000);
    let mut server = open(
        &format!("memif:{socket},role=server"),
        "ms",
        &queues(1),
        &pool,
    )
    .unwrap();
    let mut client = open(
        &format!("memif:{socket},role=client"),
        "mc",
        &queues(1),
        &pool,
    )
    .unwrap();
    let (mut receive, _) = server.start().unwrap();
    let (_, mut transmit) = client.start().unwrap();
    for _ in 0..500 {
        if server.link().unwrap().up && client.link().unwrap().up {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Path::new(&socket).exists(), "the socket is a file");
    let (mut out, mut back) = (Burst::new(), Burst::new());
    let mut mbuf = pool.allocate().unwrap();
    assert!(mbuf.copy_from_slice(&[9; 100]));
    out.push(mbuf).unwrap();
    assert_eq!(transmit[0].transmit(&mut out), 1);
    assert_eq!(receive[0].receive(&mut back), 1);
    assert_eq!(back[0].data(), [9; 100]);
}

#[test]
fn steering_is_configured_but_not_claimed_by_virtual_devices() {
    let pool = pool("steering", 1_000);
    let reta = (0..128).map(|entry| entry % 2).collect();
    let steering = Some(Rss {
        key: [0x6d; 40],
        reta,
    });
    let settings = PortSettings {
        steering,
        ..queues(2)
    };
    let mut port = open("null", "steering", &settings, &pool).unwrap();
    assert!(!port.info().hardware_steering);
    port.start().unwrap();
}

#[test]
fn an_address_that_cannot_be_filtered_lets_all_through() {
    let pool = pool("address", 1_000);
    let mut port = open("null", "address", &queues(1), &pool).unwrap();
    let (one, two) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    assert_eq!(port.add_mac(one), Ok(MacFilter::Promiscuous));
    assert_eq!(port.add_mac(one), Ok(MacFilter::Promiscuous));
    assert_eq!(port.add_mac(two), Ok(MacFilter::Promiscuous));
    assert_eq!(port.remove_mac(one), Ok(MacFilter::Promiscuous));
    assert_eq!(port.remove_mac(two), Ok(MacFilter::Promiscuous));
    assert_ne!(port.mac(), [0; 6]);
}

#[test]
fn errors_name_device_cause_and_remedy() {
    let folder = Folder::new("errors");
    let file = folder.file("in.pcap");
    write_capture(&file, &[vec![0; 60]]);
    let pcap = format!("pcap:{file}");
    let pool = pool("errors", 1_000);
    for (device, count, cause, remedy) in [
        (
            "af_packet:doesnotexist",
            1,
            "interface doesnotexist does not exist",
            "ip link",
        ),
        (
            "af_packet:a_name_far_too_long",
            1,
            "does not exist",
            "ip link",
        ),
        (
            "af_xdp:doesnotexist",
            1,
            "interface doesnotexist does not exist",
            "ip link",
        ),
        (
            "af_packet:lo",
            1,
            "frames of 66528 bytes",
            "buffers hold 66528 bytes",
        ),
        ("tap:lo", 1, "it is in use", "choose another name"),
        (
            "pcap:/doesnotexist",
            1,
            "file /doesnotexist does not exist",
            "path",
        ),
        (
            "memif:/doesnotexist/s",
            1,
            "folder /doesnotexist does not exist",
            "create it",
        ),
        (
            "pci:0000:ff:1f.7",
            1,
            "PCI device 0000:ff:1f.7 does not exist",
            "lspci",
        ),
        ("vdev:net_nosuch0", 1, "net_nosuch0", "arguments"),
        ("null,nosuch=1", 1, "opening failed", "arguments"),
        (
            "null,size=2049",
            1,
            "frames of 2049 bytes can arrive, buffers hold 2048",
            "size",
        ),
        (&pcap, 2, "2 receive queues asked, 1 available", "workers"),
        ("null", 0, "0 receive queues asked", "workers"),
    ] {
        let error = open(device, "errors", &queues(count), &pool).unwrap_err();
        let (what, hint) = error.rsplit_once("; ").unwrap();
        assert!(what.starts_with(&format!("device {device}: ")), "{error}");
        assert!(what.contains(cause), "{error}");
        assert!(hint.contains(remedy), "{error}");
    }
    open("null", "errors", &queues(1), &pool).expect("a failed opening leaves nothing behind");
}
