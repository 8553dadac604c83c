//! One writer and several readers on real threads, bounded by the writer's steps.
//!
//! Also the program for valgrind:
//! `valgrind --error-exitcode=1 --fair-sched=yes target/debug/deps/stress-HASH`.
//!
//! How often the threads meet is up to the machine; the loom models explore
//! the same on purpose.

#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use packet::Tuple;
use session::{
    Ageing, Applied, Flags, Memory, Reader, Session, SessionId, Settings, Shard, State, TcpSide,
    Tick, Version,
};

/// Few, so that readers and writer meet often.
const CAPACITY: u32 = 32;
/// Sessions that stay from the first step to the last while others come and go around them.
const STAYING: u32 = 12;
const STEPS: u32 = 800_000;
const NOW: Tick = Tick::START;

/// Session `i` at `version`: every field follows from these two.
fn session(i: u32, version: u64) -> Session {
    let client = Tuple::v4(
        Ipv4Addr::from_bits(i),
        80,
        Ipv4Addr::new(192, 0, 2, 1),
        443,
        6,
    );
    let outside = Ipv4Addr::from_bits(i.wrapping_mul(0x9e37_79b9));
    let server = Tuple::v4(Ipv4Addr::new(192, 0, 2, 1), 443, outside, 8_080, 6);
    let word = |salt: u64| {
        let product = (version ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(i);
        u32::try_from(product >> 32).unwrap()
    };
    let side = |salt: u64| {
        let scale = word(salt + 3) % 15;
        TcpSide {
            end: word(salt),
            max_end: word(salt + 1),
            max_window: (word(salt + 2) % 65_536) << scale,
            scale: u8::try_from(scale).unwrap(),
            sack: word(salt + 4) % 2 == 0,
        }
    };
    Session {
        tuples: [client, server],
        version: Version(version),
        state: State::Established,
        flags: Flags(u8::try_from(word(20) % 16).unwrap()),
        owner: u8::try_from(1 + word(21) % 16).unwrap(),
        policy: u16::try_from(word(22) % 65_536).unwrap(),
        tcp: [side(1), side(8)],
        last_seen: NOW,
        assigned: word(23) % 2 == 0,
    }
}

fn assert_whole(seen: &Session) {
    let i = seen.tuples[0].src_v4().unwrap().to_bits();
    assert_eq!(*seen, session(i, seen.version.0));
}

/// Looks everywhere until the writer is done. Returns how many sessions it saw.
fn read(reader: &Reader, done: &AtomicBool, rounds: &AtomicU64) -> u64 {
    let mut seen = 0;
    let mut i = 0_u32;
    while !done.load(Ordering::Acquire) {
        for _ in 0..64 {
            i = i.wrapping_add(1);
            // All versions have the same tuples.
            let wanted = session(i % (3 * CAPACITY), 0);
            let direction = (i / 7 % 2) as usize;
            let found = reader.lookup(&wanted.tuples[direction]);
            if i % (3 * CAPACITY) < STAYING {
                assert!(found.is_some(), "a session that stays was missed");
            }
            if let Some((hit, session)) = found {
                assert_eq!(hit.direction() as usize, direction);
                assert_eq!(session.tuples, wanted.tuples);
                assert_whole(&session);
                seen += 1;
            }
            if let Some(session) = reader.get(SessionId(i % CAPACITY)) {
                assert_whole(&session);
            }
        }
        reader.scan(i % CAPACITY, 16, |_, session| assert_whole(&session));
        assert!(reader.len() <= CAPACITY);
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
    }
    seen
}

fn write(shard: &mut Shard, rounds: &AtomicU64) {
    let mut random = 88_172_645_463_325_252_u64;
    for step in 0..STEPS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let i = u32::try_from(random >> 40).unwrap() % (3 * CAPACITY);
        let version = u64::from(step) + 10;
        let id = shard.lookup(&session(i, 0).tuples[0]).map(|hit| hit.id());
        match (id, random % 4) {
            (Some(id), 0) if i >= STAYING => {
                assert_whole(&shard.remove(id).unwrap());
            }
            (Some(_), 1) if i >= STAYING => {
                assert!(shard.retract(&session(i, 0).tuples[0], Version(version)));
            }
            (Some(_), _) => {
                assert_eq!(
                    shard.apply(&session(i, version), u32::MAX, NOW),
                    Applied::Updated
                );
            }
            (None, _) if shard.len() < CAPACITY => {
                shard.insert(session(i, version), NOW).unwrap();
            }
            (None, _) => {
                assert_eq!(
                    shard.apply(&session(i, version), u32::MAX, NOW),
                    Applied::Full
                );
            }
        }
        if step % 64 == 0 {
            shard.age(
                NOW.plus(step / 64),
                8,
                |_| Ageing::Normal,
                |_, _| panic!("nothing is due"),
            );
            // On one core the readers would otherwise see the last state alone.
            if rounds.load(Ordering::Relaxed) < u64::from(step / 64) {
                thread::yield_now();
            }
        }
    }
}

#[test]
fn readers_see_whole_sessions_and_miss_none() {
    let mut shard = Shard::new(Settings::new(CAPACITY), Memory::Huge).unwrap();
    for i in 0..STAYING {
        shard.insert(session(i, 1), NOW).unwrap();
    }
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = shard.reader();
                let (done, rounds) = (&done, &rounds);
                scope.spawn(move || read(&reader, done, rounds))
            })
            .collect();
        write(&mut shard, &rounds);
        // However the threads were scheduled, the readers looked.
        while rounds.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let statistics = shard.statistics();
    assert_eq!(statistics.sessions, u64::from(shard.len()));
    assert_eq!(shard.reader().len(), shard.len());
    assert!(statistics.applied_update > 1_000 && statistics.retracted > 1_000);
}
