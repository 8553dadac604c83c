//! Kernel interfaces, in a network namespace without a name that ends with the test's thread.
//! Needs root.
#![allow(unsafe_code, reason = "unshare has no safe face in libc")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{eal, pool};
use dpdk::{Burst, Device, MacFilter, Mempool, Port, PortSettings, RxQueue, TxQueue};

/// Moves the calling thread into a fresh namespace with the pair `a` and `b`, up and silent.
fn enter_namespace() {
    // SAFETY: concerns the calling thread alone, which has no namespace-bound descriptors yet.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        status, 0,
        "this test makes a network namespace: run it as root"
    );
    ip("link add name a mtu 1500 type veth peer name b mtu 1500");
    for interface in ["a", "b"] {
        ip(&format!("link set dev {interface} addrgenmode none up"));
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn is_promiscuous(interface: &str) -> bool {
    ip(&format!("link show dev {interface}")).contains("PROMISC")
}

fn open(interface: &str, queues: u16, pool: &Mempool) -> Port {
    let device: Device = format!("af_packet:{interface}").parse().unwrap();
    let settings = PortSettings {
        rx_queues: queues,
        tx_queues: queues,
        ..PortSettings::default()
    };
    Port::open(eal(), &device, interface, &settings, pool).unwrap()
}

/// A UDP frame of a flow of its own, with `payload` bytes.
fn frame(flow: u8, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 42 + payload];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let total = u16::try_from(28 + payload).unwrap().to_be_bytes();
    frame[14..24].copy_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17]);
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    frame[34..38].copy_from_slice(&[10, flow, 20, 0]);
    frame[38..40].copy_from_slice(&u16::try_from(8 + payload).unwrap().to_be_bytes());
    frame
}

fn send(queue: &mut TxQueue, pool: &Mempool, frames: &[Vec<u8>]) {
    for chunk in frames.chunks(Burst::CAPACITY) {
        let mut burst = Burst::new();
        for frame in chunk {
            let mut mbuf = pool.allocate().unwrap();
            assert!(mbuf.copy_from_slice(frame));
            burst.push(mbuf).unwrap();
        }
        assert_eq!(queue.transmit(&mut burst), chunk.len());
    }
}

/// What arrives in the queue until nothing has for 50 ms.
fn receive(queue: &mut RxQueue) -> Vec<Vec<u8>> {
    let mut burst = Burst::new();
    let mut frames = Vec::new();
    let mut silence = 0;
    while silence < 50 {
        silence = if queue.receive(&mut burst) == 0 {
            silence + 1
        } else {
            0
        };
        frames.extend(burst.drain().map(|mbuf| mbuf.data().to_vec()));
        thread::sleep(Duration::from_millis(1));
    }
    frames
}

/// Everything in one test: a namespace belongs to a thread.
#[test]
fn a_pair_of_interfaces() {
    eal();
    thread::spawn(|| {
        enter_namespace();
        frames_cross_the_pair();
        flows_spread_over_queues();
        jumbo_frames_need_and_get_room();
        promiscuity_is_restored();
        impossible_requests_are_told();
    })
    .join()
    .unwrap();
}

fn frames_cross_the_pair() {
    let pool = pool("cross", 4_000);
    let (mut a, mut b) = (open("a", 1, &pool), open("b", 1, &pool));
    assert_eq!(
        (a.info().driver.as_str(), a.info().mtu),
        ("net_af_packet", 1500)
    );
    assert!(!a.info().hardware_steering);
    let mac = a.mac().map(|byte| format!("{byte:02x}")).join(":");
    assert!(ip("link show dev a").contains(&mac));
    let (_, mut transmit) = a.start().unwrap();
    let (mut received, _) = b.start().unwrap();
    // From the shortest to the longest that the MTU lets through.
    let frames: Vec<Vec<u8>> = (0..200_u8).map(|n| frame(n, usize::from(n) * 7)).collect();
    let frames: Vec<Vec<u8>> = frames.into_iter().chain([frame(0, 1472)]).collect();
    send(&mut transmit[0], &pool, &frames);
    assert_eq!(receive(&mut received[0]), frames);
    let (sent, got) = (a.statistics().unwrap(), b.statistics().unwrap());
    assert_eq!((sent.tx_packets, sent.tx_errors), (201, 0));
    assert_eq!((got.rx_packets, got.rx_too_long), (201, 0));
    drop((a, b, transmit, received));
    assert_eq!(pool.in_use(), 0);
}

fn flows_spread_over_queues() {
    let pool = pool("spread", 4_000);
    let (mut a, mut b) = (open("a", 1, &pool), open("b", 2, &pool));
    let (_, mut transmit) = a.start().unwrap();
    let (mut queues, _) = b.start().unwrap();
    let frames: Vec<Vec<u8>> = (0..128).map(|flow| frame(flow, 20)).collect();
    send(&mut transmit[0], &pool, &frames);
    let arrived: Vec<Vec<Vec<u8>>> = queues.iter_mut().map(receive).collect();
    assert!(
        arrived.iter().all(|frames| !frames.is_empty()),
        "each queue gets its flows"
    );
    let mut all = arrived.concat();
    all.sort();
    assert_eq!(all, frames);
}

fn jumbo_frames_need_and_get_room() {
    ip("link set dev a mtu 9000");
    ip("link set dev b mtu 9000");
    let device: Device = "af_packet:a".parse().unwrap();
    let small = pool("small", 1_000);
    let error = Port::open(eal(), &device, "a", &PortSettings::default(), &small).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("frames of 9184 bytes can arrive"),
        "{error}"
    );

    let pool = Mempool::new(eal(), "jumbo", 2_000, 9_234).unwrap();
    let (mut a, mut b) = (open("a", 1, &pool), open("b", 1, &pool));
    let (_, mut transmit) = a.start().unwrap();
    let (mut received, _) = b.start().unwrap();
    let frames: Vec<Vec<u8>> = (0..100).map(|flow| frame(flow, 8_972)).collect();
    send(&mut transmit[0], &pool, &frames);
    assert!(
        receive(&mut received[0]) == frames,
        "frames of 9,014 bytes arrive whole"
    );
    drop((a, b, transmit, received));
    ip("link set dev a mtu 1500");
    ip("link set dev b mtu 1500");
}

fn promiscuity_is_restored() {
    let pool = pool("promiscuous", 2_000);
    for before in [false, true] {
        ip(&format!(
            "link set dev a promisc {}",
            if before { "on" } else { "off" }
        ));
        let mut port = open("a", 1, &pool);
        let queues = port.start().unwrap();
        let mac = [2, 0, 0, 0, 0, 7];
        assert_eq!(port.add_mac(mac), Ok(MacFilter::Promiscuous));
        assert!(is_promiscuous("a"));
        port.promiscuous(true).unwrap();
        assert_eq!(port.remove_mac(mac), Ok(MacFilter::Promiscuous));
        assert!(is_promiscuous("a"), "asked for apart from the address");
        drop((port, queues));
        assert_eq!(is_promiscuous("a"), before);
    }
    ip("link set dev a promisc off");
}

fn impossible_requests_are_told() {
    let pool = pool("impossible", 2_000);
    let device: Device = "af_packet:a".parse().unwrap();
    let refused = |device: &Device, settings: &PortSettings| {
        Port::open(eal(), device, "a", settings, &pool)
            .unwrap_err()
            .to_string()
    };
    let uneven = PortSettings {
        tx_queues: 2,
        ..PortSettings::default()
    };
    let error = refused(&device, &uneven);
    assert!(
        error.contains("2 transmit queues asked, 1 available; its queues come in pairs"),
        "{error}"
    );
    let wrong: Device = "af_packet:a,qpairs=none".parse().unwrap();
    let error = refused(&wrong, &PortSettings::default());
    assert!(
        error.contains("invalid qpairs value; correct its arguments"),
        "{error}"
    );
    let wide: Device = "af_packet:a,blocksz=8192,framesz=4096".parse().unwrap();
    let error = refused(&wide, &PortSettings::default());
    assert!(error.contains("make the pool's buffers larger"), "{error}");
    let held = open("a", 1, &pool);
    let error = refused(&device, &PortSettings::default());
    assert!(
        error.starts_with("device af_packet:a: it is in use"),
        "{error}"
    );
    drop(held);
    drop(open("a", 1, &pool));
}
