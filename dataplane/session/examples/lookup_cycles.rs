//! Cycles of a burst of 32 look-ups, all found, at several table sizes.
//!
//! `cargo run --release -p session --example lookup_cycles`. Counts of the time stamp counter; the
//! minimum and the median over bursts, per look-up, of bursts and of single look-ups.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "reads the time stamp counter")
)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use packet::Tuple;
use session::{Hit, Key, Memory, Session, Settings, Shard, Tick};

const BURST: usize = 32;
const ROUNDS: usize = 40_000;

fn main() {
    println!("sessions   pages        burst min/median   single min/median   insert mean");
    for sessions in [1_000, 100_000, 1_000_000] {
        measure(sessions);
    }
}

fn measure(sessions: u32) {
    let mut shard = Shard::new(Settings::new(sessions), Memory::Huge).expect("memory");
    let begin = cycles();
    for i in 0..sessions {
        let session = Session {
            tuples: [tuple(i), tuple(i).reversed()],
            ..Session::default()
        };
        shard.insert(session, Tick::START).expect("an empty slot");
    }
    let insert = (cycles() - begin) / u64::from(sessions);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bursts = Vec::with_capacity(ROUNDS);
    let mut singles = Vec::with_capacity(ROUNDS);
    let mut hits = [None::<Hit>; BURST];
    for _ in 0..ROUNDS {
        let keys: [Key; BURST] = std::array::from_fn(|_| Key::from(&pick(&mut random, sessions)));
        let begin = cycles();
        let misses = shard.lookup_burst(black_box(&keys), &mut hits);
        bursts.push(cycles() - begin);
        assert_eq!(misses, 0);

        let tuples: [Tuple; BURST] = std::array::from_fn(|_| pick(&mut random, sessions));
        let begin = cycles();
        for tuple in &tuples {
            black_box(shard.lookup(tuple));
        }
        singles.push(cycles() - begin);
    }
    let (burst, single) = (summary(&mut bursts), summary(&mut singles));
    let pages = format!("{:?}", shard.footprint().backing);
    println!("{sessions:>8}   {pages:<11}  {burst:>17}   {single:>17}   {insert:>11}");
}

fn summary(samples: &mut [u64]) -> String {
    samples.sort_unstable();
    let per_lookup = |sample: u64| sample as f64 / BURST as f64;
    format!(
        "{:.1} / {:.1}",
        per_lookup(samples[0]),
        per_lookup(samples[samples.len() / 2])
    )
}

/// Either direction of one session.
fn pick(random: &mut u64, sessions: u32) -> Tuple {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let share = (*random & 0xffff_ffff) * u64::from(sessions);
    let tuple = tuple(u32::try_from(share >> 32).expect("a share of 32 bits"));
    if *random >> 63 == 0 {
        tuple
    } else {
        tuple.reversed()
    }
}

fn tuple(i: u32) -> Tuple {
    let client = Ipv4Addr::from_bits(0x0a00_0000 + i / 50_000);
    let port = 1_024 + u16::try_from(i % 50_000).expect("below 50,000");
    Tuple::v4(client, port, Ipv4Addr::new(192, 0, 2, 1), 443, 17)
}

#[cfg(target_arch = "x86_64")]
fn cycles() -> u64 {
    // SAFETY: reading the counter has no effect and no requirement.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[expect(
    clippy::disallowed_methods,
    reason = "a measurement; nanoseconds where there is no TSC"
)]
fn cycles() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
