//! Pools, buffers and bursts.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::thread;

use common::{eal, pool};
use dpdk::{Burst, Eal, Error, Mbuf, Mempool, clock, register_thread};

/// A buffer whose frame is the one byte `mark`.
fn marked(pool: &Mempool, mark: u8) -> Mbuf {
    let mut mbuf = pool.allocate().unwrap();
    assert!(mbuf.copy_from_slice(&[mark]));
    mbuf
}

fn marks(burst: &Burst) -> Vec<u8> {
    burst.iter().map(|mbuf| mbuf.data()[0]).collect()
}

#[test]
fn a_process_starts_dpdk_once() {
    eal();
    assert_eq!(
        Eal::init(&common::settings()).unwrap_err(),
        Error::AlreadyInitialised
    );
}

#[test]
fn an_empty_pool_says_so_and_recovers() {
    let pool = pool("exhausted", 100);
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!(all.len(), 100);
    assert_eq!(pool.in_use(), 100);
    let mut burst = Burst::new();
    assert!(!pool.allocate_burst(&mut burst, 1));

    all.truncate(70);
    assert!(!pool.allocate_burst(&mut burst, 31), "all or nothing");
    assert!(burst.is_empty());
    assert!(pool.allocate_burst(&mut burst, 30));
    assert_eq!((burst.len(), pool.in_use()), (30, 100));
    drop(burst);
    drop(all);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn pools_that_cannot_be_are_refused() {
    pool("taken", 10);
    for (name, buffers, room, cause) in [
        ("taken", 10, 2_048, "File exists"),
        ("", 10, 2_048, "1 to 25 bytes"),
        ("a_name_of_twenty-six_bytes", 10, 2_048, "1 to 25 bytes"),
        ("none", 0, 2_048, "at least one buffer"),
        ("long", 10, u16::MAX, "too large"),
        ("many", 10_000_000, 2_048, "Cannot allocate memory"),
    ] {
        let error = Mempool::new(eal(), name, buffers, room)
            .unwrap_err()
            .to_string();
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn a_buffer_grows_and_shrinks_at_its_end() {
    let pool = pool("edges", 10);
    let mut mbuf = pool.allocate().unwrap();
    assert!(mbuf.is_empty());
    assert_eq!(mbuf.tailroom(), 2_048);
    mbuf.append(4).unwrap().copy_from_slice(b"abcd");
    mbuf.append(1).unwrap().copy_from_slice(b"e");
    assert_eq!(mbuf.data(), b"abcde");
    assert!(mbuf.trim(2));
    assert_eq!((mbuf.data(), mbuf.tailroom()), (&b"abc"[..], 2_045));
    mbuf.data_mut().fill(b'x');
    assert_eq!(mbuf.data(), b"xxx");

    assert!(!mbuf.trim(4));
    assert!(mbuf.append(2_046).is_none() && mbuf.append(usize::MAX).is_none());
    assert_eq!(mbuf.data(), b"xxx", "refused changes change nothing");
    assert_eq!(mbuf.vlan(), None);

    assert!(mbuf.copy_from_slice(&[7; 2_048]));
    assert_eq!((mbuf.len(), mbuf.tailroom()), (2_048, 0));
    assert!(!mbuf.copy_from_slice(&[7; 2_049]));
    assert!(mbuf.is_empty());
}

#[test]
fn a_burst_keeps_order_and_frees_what_it_holds() {
    let pool = pool("bursts", 200);
    let mut burst = Burst::new();
    for mark in 0..64 {
        burst.push(marked(&pool, mark)).unwrap();
    }
    assert!(burst.is_full());
    assert_eq!(
        burst.push(marked(&pool, 64)).unwrap_err().data(),
        [64],
        "given back"
    );
    assert_eq!(burst.pop().unwrap().data(), [63]);
    burst.swap(0, 1);
    assert_eq!(marks(&burst)[..3], [1, 0, 2]);
    assert_eq!(pool.in_use(), 63);

    let kept: Vec<Mbuf> = burst.drain().take(2).collect();
    assert!(burst.is_empty());
    assert_eq!(
        pool.in_use(),
        2,
        "those that the iterator did not give out are free"
    );
    drop(kept);
    burst.push(marked(&pool, 1)).unwrap();
    burst.clear();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_thread_registers_once_at_a_time() {
    eal();
    thread::spawn(|| {
        for _ in 0..300 {
            let registered = register_thread().unwrap();
            assert!(matches!(register_thread(), Err(Error::Register(_))));
            drop(registered);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn the_clock_runs() {
    eal();
    let before = clock::cycles();
    thread::sleep(std::time::Duration::from_millis(20));
    let seconds = (clock::cycles() - before) as f64 / clock::hertz() as f64;
    assert!((0.019..5.0).contains(&seconds), "20 ms took {seconds} s");
}
