//! Cycles of what a worker asks of the table, at several sizes, full, in huge pages where there are some.
//!
//! `cargo run --release -p session --example lookup_cycles [SESSIONS…]`. Counts of the time stamp
//! counter for one session or key, the least and the median of many bursts of 32. The keys and sessions
//! of a burst are made before it is timed. `perf/bench` has the same beside other tables.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "reads the time stamp counter")
)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use packet::Tuple;
use session::{
    Ageing, Direction, Hit, Key, Memory, Session, SessionId, Settings, Shard, State, Tick, Version,
};

const BURST: usize = 32;
const ROUNDS: usize = 20_000;
const UNIT: u8 = 1;
const UDP: u8 = 17;
const TCP: u8 = 6;

fn main() {
    let sizes: Vec<u32> = std::env::args()
        .skip(1)
        .map(|size| size.parse().expect("a number of sessions"))
        .collect();
    let sizes = match sizes.is_empty() {
        true => vec![1_000, 100_000, 1_000_000, 10_000_000],
        false => sizes,
    };
    for sessions in sizes {
        measure(sessions);
    }
}

fn measure(sessions: u32) {
    let mut bench = Bench::new(sessions);
    let pages = format!("{:?}", bench.shard.footprint().backing).to_lowercase();
    println!("{sessions} sessions, {pages} pages: cycles, least / median");
    let rows: [Row; 8] = [
        ("look-up, hit", |b| b.look_up(UDP, true)),
        ("look-up, hit, TCP", |b| b.look_up(TCP, true)),
        ("look-up, miss", |b| b.look_up(UDP, false)),
        ("look-up and pass", Bench::pass),
        ("single look-up", Bench::single),
        ("remove", Bench::remove),
        ("insert", Bench::insert),
        ("expire", Bench::expire),
    ];
    for (name, row) in rows {
        println!("  {name:<20} {}", row(&mut bench));
    }
}

/// A name and what to measure under it.
type Row = (&'static str, fn(&mut Bench) -> Samples);

/// A full shard, half of it TCP.
struct Bench {
    shard: Shard,
    sessions: u32,
    random: u64,
    /// Sessions that were removed and are still to be inserted again.
    outside: Vec<u32>,
}

impl Bench {
    fn new(sessions: u32) -> Self {
        let mut shard = Shard::new(Settings::new(sessions), Memory::Huge).expect("memory");
        // In no order that the look-ups follow.
        let step = coprime(sessions);
        for i in 0..sessions {
            let number = scatter(i, step, sessions);
            shard.insert(session(number), Tick::START).expect("room");
        }
        Self {
            shard,
            sessions,
            random: 0x9e37_79b9_7f4a_7c15,
            outside: Vec::new(),
        }
    }

    fn look_up(&mut self, protocol: u8, present: bool) -> Samples {
        let mut samples = Samples::default();
        let mut hits = [None::<Hit>; BURST];
        for _ in 0..ROUNDS {
            let keys = self.keys(protocol, present);
            let misses = samples.time(|| self.shard.lookup_burst(black_box(&keys), &mut hits));
            assert_eq!(misses, if present { 0 } else { (1 << BURST) - 1 });
        }
        samples
    }

    /// What an established datagram asks for.
    fn pass(&mut self) -> Samples {
        let mut samples = Samples::default();
        let mut hits = [None::<Hit>; BURST];
        for _ in 0..ROUNDS {
            let keys = self.keys(UDP, true);
            samples.time(|| {
                self.shard.lookup_burst(black_box(&keys), &mut hits);
                for hit in hits.iter().flatten() {
                    let rewrite = self.shard.pass_datagram(*hit, UNIT, Tick::START);
                    black_box(rewrite.expect("an answered session"));
                }
            });
        }
        samples
    }

    fn single(&mut self) -> Samples {
        let mut samples = Samples::default();
        for _ in 0..ROUNDS {
            let keys = self.keys(UDP, true);
            samples.time(|| {
                for key in &keys {
                    black_box(self.shard.lookup_key(key));
                }
            });
        }
        samples
    }

    /// Takes sessions out, an eighth of all at the most.
    fn remove(&mut self) -> Samples {
        let mut samples = Samples::default();
        while self.outside.len() + BURST <= (self.sessions as usize / 8).clamp(BURST, 65_536) {
            let mut ids = [SessionId(0); BURST];
            for i in 0..BURST {
                let (id, number) = loop {
                    let number = self.pick();
                    let hit = self.shard.lookup(&session(number).tuples[0]);
                    if let Some(id) = hit.map(|hit| hit.id()).filter(|id| !ids[..i].contains(id)) {
                        break (id, number);
                    }
                };
                ids[i] = id;
                self.outside.push(number);
            }
            self.forget();
            samples.time(|| {
                self.shard.remove_burst(&ids, |id, session| {
                    black_box((id, session));
                });
            });
        }
        samples
    }

    /// Puts the removed sessions back.
    fn insert(&mut self) -> Samples {
        let mut samples = Samples::default();
        let outside = std::mem::take(&mut self.outside);
        for numbers in outside.chunks(BURST) {
            let sessions: Vec<Session> = numbers.iter().map(|&number| session(number)).collect();
            let mut prepared = Vec::with_capacity(BURST);
            let insert = || {
                for (ahead, session) in sessions.iter().enumerate() {
                    let [original, reply] = session.tuples.each_ref().map(Key::from);
                    prepared.push(self.shard.prefetch_insert([&original, &reply], ahead));
                }
                prepared
                    .into_iter()
                    .for_each(|it| self.shard.prefetch_overflow(it));
                for session in &sessions {
                    black_box(self.shard.insert(*session, Tick::START).is_ok());
                }
            };
            if numbers.len() == BURST {
                samples.time(insert);
            } else {
                insert();
            }
        }
        samples
    }

    /// Lets all sessions end, in bursts as a worker does.
    fn expire(&mut self) -> Samples {
        let mut samples = Samples::default();
        // The first are due after half a minute, the last after two hours.
        for turn in 1..15 {
            let now = Tick::START.plus(turn * 6_000);
            loop {
                let mut ended = 0;
                let begin = cycles();
                let looked = self.shard.age(
                    now,
                    BURST,
                    |_| Ageing::Normal,
                    |_, session| {
                        black_box(session);
                        ended += 1;
                    },
                );
                let taken = cycles() - begin;
                if ended == BURST {
                    samples.0.push(taken);
                }
                if looked < BURST {
                    break;
                }
            }
        }
        samples
    }

    /// Drives what was just looked at out of the caches.
    fn forget(&mut self) {
        let mut hits = [None::<Hit>; BURST];
        for _ in 0..1_024 {
            let keys = self.keys(UDP, true);
            self.shard.lookup_burst(&keys, &mut hits);
        }
    }

    fn keys(&mut self, protocol: u8, present: bool) -> [Key; BURST] {
        std::array::from_fn(|_| {
            let parity = u32::from(protocol == TCP);
            let number = self.pick() & !1 | parity;
            let number = number.min(self.sessions - 2 + parity);
            let number = if present {
                number
            } else {
                number + 100_000_000
            };
            self.random ^= self.random >> 9;
            let direction = if self.random >> 63 == 0 {
                Direction::Original
            } else {
                Direction::Reply
            };
            Key::from(&session(number).tuples[direction as usize])
        })
    }

    fn pick(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random & 0xffff_ffff) * u64::from(self.sessions);
        u32::try_from(share >> 32).expect("a share of 32 bits")
    }
}

/// The `number`-th session, with its source translated.
fn session(number: u32) -> Session {
    let client = Ipv4Addr::from_bits(0x0a00_0000 + number / 50_000);
    let outside = Ipv4Addr::from_bits(0x6440_0000 + number / 60_000);
    let port = |modulus| 1_024 + u16::try_from(number % modulus).expect("below 60,000");
    let server = Ipv4Addr::new(192, 0, 2, 1);
    let (protocol, state) = match number % 2 {
        0 => (UDP, State::Replied),
        _ => (TCP, State::Established),
    };
    Session {
        tuples: [
            Tuple::v4(client, port(50_000), server, 443, protocol),
            Tuple::v4(server, 443, outside, port(60_000), protocol),
        ],
        version: Version(1),
        state,
        owner: UNIT,
        ..Session::default()
    }
}

/// A step through `0..count` that comes to every number once.
fn coprime(count: u32) -> u32 {
    let near = count / 8 * 5;
    (near..)
        .find(|&step| step > 0 && divisor(step, count) == 1)
        .unwrap_or(1)
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn scatter(i: u32, step: u32, count: u32) -> u32 {
    let number = u64::from(i) * u64::from(step) % u64::from(count);
    u32::try_from(number).expect("below a count of 32 bits")
}

/// Cycles of bursts.
#[derive(Default)]
struct Samples(Vec<u64>);

impl Samples {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = cycles();
        let result = work();
        self.0.push(cycles() - begin);
        result
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let per_key = |at: usize| {
            sorted
                .get(at)
                .map_or(f64::NAN, |&n| n as f64 / BURST as f64)
        };
        write!(f, "{:>7.1} / {:.1}", per_key(0), per_key(sorted.len() / 2))
    }
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
