//! The worker's loop makes no system call. A process without the usual harness, since one of its
//! threads must not come to an end.
//!
//! That thread puts itself into strict secure computing mode, where the kernel kills a thread for any
//! call but read, write, exit and the return from a signal (seccomp(2)). Then it turns two workers
//! whose ports lie in memory: first under established sessions alone, then under all that comes to a
//! gateway. Before that, another thread makes a call in this mode, so that a kernel which does not
//! mind cannot let the test pass.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, mem, process, thread};

use common::frames::{self, ACK, SYN, Segment, USUAL, sound};
use common::*;
use forward::{InterfaceId, TableCommand};
use packet::Tuple;
use rustix::thread::{SecureComputingMode, gettid, set_secure_computing_mode};

/// Rounds under established sessions; the workers turn at least twice in each.
const STEADY_ROUNDS: u32 = 100_000;
/// Rounds under everything.
const MIXED_ROUNDS: u16 = 20_000;
/// Rounds of which one mixed round differs from the next.
const VARIETY: u16 = 64;

/// A frame and the interface that it comes in by.
type Arrival = (InterfaceId, Vec<u8>);

/// What a sealed thread shows to the others.
#[derive(Default)]
struct Progress {
    /// Its id for the kernel, once it has one.
    thread: AtomicI32,
    /// Rounds that it has made.
    rounds: AtomicU64,
    /// Frames that left the gateway in these.
    left: AtomicU64,
    done: AtomicBool,
    /// Changes hands before the thread is sealed and when it is done: nobody ever waits for it.
    gateway: Mutex<Option<Gateway>>,
}

/// Runs `work` on a thread that may make no system call, and waits until it is done. Returns the
/// gateway, and how many frames left it.
///
/// # Errors
/// The rounds that the thread had made when the kernel ended it.
fn sealed(
    gateway: Gateway,
    work: impl FnOnce(&mut Gateway, &Progress) + Send + 'static,
) -> Result<(Gateway, u64), u64> {
    let progress = Arc::new(Progress {
        gateway: Mutex::new(Some(gateway)),
        ..Progress::default()
    });
    let shown = Arc::clone(&progress);
    let (mut never, held_open) = io::pipe().unwrap();
    // A thread cannot end without system calls, so this one waits for the end of the process, by one
    // of the few calls that it has left.
    mem::forget(held_open);
    let handle = thread::spawn(move || {
        let _registered = dpdk::register_thread().unwrap();
        let mut gateway = shown.gateway.lock().unwrap().take().unwrap();
        let id = gettid().as_raw_nonzero().get();
        shown.thread.store(id, Ordering::Release);
        set_secure_computing_mode(SecureComputingMode::Strict).unwrap();
        work(&mut gateway, &shown);
        *shown.gateway.lock().unwrap() = Some(gateway);
        shown.done.store(true, Ordering::Release);
        let _ = never.read(&mut [0]);
    });
    while !progress.done.load(Ordering::Acquire) {
        let id = progress.thread.load(Ordering::Acquire);
        let gone = id != 0 && !Path::new(&format!("/proc/self/task/{id}")).exists();
        if gone || handle.is_finished() {
            return Err(progress.rounds.load(Ordering::Relaxed));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let gateway = progress.gateway.lock().unwrap().take().unwrap();
    Ok((gateway, progress.left.load(Ordering::Relaxed)))
}

/// Begins a session by a packet with this tuple, and returns a packet of each of its directions.
fn establish(gateway: &mut Gateway, from: InterfaceId, tuple: &Tuple) -> [Arrival; 2] {
    let to = if from == LAN { WAN } else { LAN };
    let segment = |flags, seq, ack| Segment { flags, seq, ack };
    let opening = frames::packet(from, tuple, USUAL, segment(SYN, 1_000, 0), b"");
    let out = gateway.pass_through(from, &opening, to);
    let reply = sound(&out[0]).tuple.reversed();
    let answer = frames::packet(to, &reply, USUAL, segment(SYN | ACK, 5_000, 1_001), b"");
    assert_eq!(gateway.pass_through(to, &answer, from).len(), 1);
    let there = segment(ACK, 1_001, 5_001);
    let back = segment(ACK, 5_001, 1_001);
    let there = frames::packet(from, tuple, USUAL, there, b"there");
    let back = frames::packet(to, &reply, USUAL, back, b"back");
    for (ingress, frame, egress) in [(from, &there, to), (to, &back, from)] {
        assert_eq!(gateway.pass_through(ingress, frame, egress).len(), 1);
    }
    [(from, there), (to, back)]
}

/// Packets of sessions of every protocol, hidden by the gateway or let in by it.
fn steady_arrivals(gateway: &mut Gateway) -> Vec<Arrival> {
    let sessions = [
        (LAN, Tuple::v4(CLIENT, 6_001, SERVER, 53, 17)),
        (LAN, Tuple::v4(CLIENT, 6_002, FAR, 53, 17)),
        (LAN, Tuple::v4(CLIENT, 6_003, SERVER, 443, 6)),
        (LAN, Tuple::v4(CLIENT, 6_004, FAR, 443, 6)),
        (LAN, Tuple::v4(CLIENT, 6_005, FAR, 0, 1)),
        (WAN, Tuple::v4(FAR, 6_006, WAN_ADDRESS, 8_080, 6)),
        (WAN, Tuple::v4(FAR, 6_007, WAN_ADDRESS, 8_080, 17)),
    ];
    sessions
        .iter()
        .flat_map(|(from, tuple)| establish(gateway, *from, tuple))
        .collect()
}

/// One round: the frames arrive, alternately at each worker; the workers turn until they are idle;
/// all that came out goes back to its pool.
fn round(gateway: &mut Gateway, arrivals: &[Arrival], progress: &Progress) {
    for (position, (interface, frame)) in arrivals.iter().enumerate() {
        gateway.send_to(position % gateway.workers.len(), *interface, frame);
    }
    gateway.turn();
    for cable in gateway.cables.iter_mut().flatten() {
        while cable.take().is_some() {
            progress.left.fetch_add(1, Ordering::Relaxed);
        }
    }
    for rings in &mut gateway.control {
        while rings.punted.pop().is_ok() {}
        while rings.deltas.pop().is_ok() {}
    }
    progress.rounds.fetch_add(1, Ordering::Relaxed);
}

/// Packets of established sessions, and nothing but them.
fn steady(gateway: &mut Gateway, arrivals: &[Arrival], progress: &Progress) {
    for count in 1..=STEADY_ROUNDS {
        round(gateway, arrivals, progress);
        gateway.now.nanos += 1_000;
        if count.is_multiple_of(100) {
            gateway.pass(1);
        }
    }
}

/// Everything: new sessions and their end, drops, answers, fragments, changes of peers.
fn mixed(gateway: &mut Gateway, kinds: &[Vec<Arrival>], progress: &Progress) {
    let rounds = (0..MIXED_ROUNDS).map(|count| count % VARIETY);
    for number in rounds {
        let change = TableCommand::Apply(session_of_a_peer(number), 10);
        let worker = usize::from(number) % gateway.control.len();
        gateway.control[worker].commands.push(change).unwrap();
        round(gateway, &kinds[usize::from(number)], progress);
        gateway.pass(10);
    }
}

/// Exactly the packets of the steady rounds moved the counters.
#[track_caller]
fn assert_forwarded(gateway: &Gateway, before: &Counts, arrivals: &[Arrival], left: u64) {
    let from = |id: InterfaceId| arrivals.iter().filter(|arrival| arrival.0 == id).count() as u64;
    let [lan, wan] = [LAN, WAN].map(|id| from(id) * u64::from(STEADY_ROUNDS));
    // How many arrive at the other worker is a matter of the ports that were chosen.
    let handed = gateway.counts()["handed_over"] - before["handed_over"];
    assert_eq!(left, lan + wan);
    gateway.assert_moved(
        before,
        &[
            ("lan rx", lan),
            ("lan tx", wan),
            ("wan rx", wan),
            ("wan tx", lan),
            ("handed_over", handed),
            ("taken_over", handed),
        ],
    );
}

fn turns(gateway: &Gateway) -> u64 {
    let each = gateway.counters.iter();
    each.map(|counters| counters.turns()).sum()
}

fn gateway() -> Gateway {
    Gateway::new(Plan {
        workers: 2,
        ..Plan::narrow(1_000)
    })
}

/// Runs `work` sealed; the process ends if it does not come through.
fn seal_and_show(
    gateway: Gateway,
    what: &str,
    work: impl FnOnce(&mut Gateway, &Progress) + Send + 'static,
) -> (Gateway, u64) {
    let before = turns(&gateway);
    match sealed(gateway, work) {
        Ok((gateway, left)) => {
            let turns = turns(&gateway) - before;
            println!("{what}: {turns} turns, {left} frames sent, no system call");
            (gateway, left)
        }
        Err(round) => panic!("{what}: a system call, or a panic, in round {round}"),
    }
}

fn main() {
    println!("\nrunning 1 test");
    let killed = sealed(gateway(), |_, _| thread::yield_now()).err();
    assert_eq!(killed, Some(0), "the kernel lets sealed threads make calls");

    let mut gateway = gateway();
    let arrivals = steady_arrivals(&mut gateway);
    // What happens once, on first use, happens in a round before each seal.
    round(&mut gateway, &arrivals, &Progress::default());
    let before = gateway.counts();
    let steadily = arrivals.clone();
    let (mut gateway, left) =
        seal_and_show(gateway, "established sessions", move |gateway, shown| {
            steady(gateway, &steadily, shown);
        });
    assert_forwarded(&gateway, &before, &arrivals, left);

    let kinds: Vec<_> = (0..VARIETY).map(frames::of_all_kinds).collect();
    for frames in &kinds {
        round(&mut gateway, frames, &Progress::default());
    }
    let (gateway, _) = seal_and_show(gateway, "everything", move |gateway, shown| {
        mixed(gateway, &kinds, shown);
    });
    let counts = gateway.counts();
    for happened in frames::WHAT_ALL_KINDS_DO {
        assert!(counts.contains_key(happened), "{happened}: {counts:?}");
    }
    println!("test turns_make_no_system_call ... ok\n");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
    // Not by returning: sealed threads cannot be ended one by one.
    process::exit(0);
}
