//! The peer: DPDK's hash table with both keys of each session, and the sessions in an array beside it.

use anyhow::{Context, Result, ensure};
use dpdk::{Eal, Hash, HashKey, Line, Lines};

use super::churn::Table;
use super::flows::{Expected, Way};

/// What [`Peer::numbers`] holds where nothing was found.
const ABSENT: usize = usize::MAX;
const LINES_PER_SESSION: usize = 2;

/// A session's two lines, one for each direction: the number that its key leads to, and the key.
struct Staged {
    keys: [HashKey; 2],
    lines: [Line; LINES_PER_SESSION],
    number: usize,
}

impl Staged {
    fn new(flow: u32) -> Self {
        let ways = Way::both(flow);
        let keys = ways.map(Way::hash_key);
        let line = |way: Way| {
            let [low, high] = words(way.hash_key());
            Line([way.number() as u64, low, high, 0, 0, 0, 0, 0])
        };
        Self {
            keys,
            lines: ways.map(line),
            number: ways[0].number(),
        }
    }
}

/// The hash table and its sessions.
pub(super) struct Peer {
    hash: Hash,
    sessions: Lines,
    heap: u64,
    /// Whether a look-up that finds a session also reads it.
    pub(super) reads_session: bool,
    keys: Vec<HashKey>,
    numbers: Vec<usize>,
    /// What was read in the sessions' lines.
    seen: Vec<u64>,
    staged: Vec<Staged>,
}

impl Peer {
    /// An empty table for `sessions`.
    pub(super) fn new(eal: &Eal, sessions: u32) -> Result<Self> {
        let before = dpdk::heap_allocated(eal);
        let hash = Hash::new(eal, room(sessions))?;
        let lines = LINES_PER_SESSION * sessions as usize;
        let sessions = Lines::new(eal, lines).context("the peer's sessions")?;
        Ok(Self {
            hash,
            sessions,
            heap: dpdk::heap_allocated(eal) - before,
            reads_session: false,
            keys: Vec::new(),
            numbers: Vec::new(),
            seen: Vec::new(),
            staged: Vec::new(),
        })
    }

    /// An upper bound of what `sessions` take: 32 bytes for a key and its number, a bucket of 64 bytes
    /// for each eight of a power of two, a free list of as many numbers, and the sessions.
    pub(super) fn bytes(sessions: u32) -> u64 {
        let room = u64::from(room(sessions));
        let slots = room.next_power_of_two();
        32 * room + 8 * slots + 2 * 4 * slots + 128 * u64::from(sessions)
    }

    /// Bytes for one session, all in.
    pub(super) fn bytes_per_session(&self) -> f64 {
        self.heap as f64 / (self.sessions.len() / LINES_PER_SESSION) as f64
    }

    /// Looks up one burst, and reads what was found.
    fn look_up_burst(&mut self, from: usize, to: usize) {
        let (keys, numbers) = (&self.keys[from..to], &mut self.numbers[from..to]);
        if let ([key], [number]) = (keys, &mut *numbers) {
            *number = self.hash.lookup(key).unwrap_or(ABSENT);
        } else {
            self.hash.lookup_burst(keys, numbers);
        }
        if self.reads_session {
            for &number in &*numbers {
                self.sessions.prefetch(number);
            }
            for (seen, &number) in self.seen[from..to].iter_mut().zip(&*numbers) {
                *seen = self.sessions[number].0[0];
            }
        }
    }
}

/// Keys that the table is made for.
fn room(sessions: u32) -> u32 {
    2 * sessions + sessions * 3 / 10
}

fn words(HashKey(bytes): HashKey) -> [u64; 2] {
    let both = u128::from_ne_bytes(bytes).to_ne_bytes();
    let (low, high) = both.split_at(8);
    [low, high].map(|half| half.try_into().map_or(0, u64::from_ne_bytes))
}

/// The key in a session's line.
fn key_in(line: &Line) -> HashKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&line.0[1].to_ne_bytes());
    key[8..].copy_from_slice(&line.0[2].to_ne_bytes());
    HashKey(key)
}

impl Table for Peer {
    fn stage_look_ups(&mut self, ways: &[Way]) {
        self.keys.clear();
        self.keys.extend(ways.iter().map(|way| way.hash_key()));
        self.numbers.clear();
        self.numbers.resize(ways.len(), ABSENT);
        self.seen.clear();
        self.seen.resize(ways.len(), 0);
    }

    fn look_up(&mut self, burst: usize) {
        let count = self.keys.len();
        for from in (0..count).step_by(burst) {
            self.look_up_burst(from, count.min(from + burst));
        }
    }

    fn check_look_ups(&self, ways: &[Way], expected: Expected) -> Result<()> {
        for ((&number, &seen), way) in self.numbers.iter().zip(&self.seen).zip(ways) {
            let right = match expected {
                Expected::Miss => number == ABSENT,
                Expected::Hit => {
                    number == way.number() && (!self.reads_session || seen == number as u64)
                }
            };
            ensure!(
                right,
                "rte_hash says {number} of {way:?}, and its session {seen}"
            );
        }
        Ok(())
    }

    fn stage_sessions(&mut self, flows: &[u32]) {
        self.staged.clear();
        self.staged
            .extend(flows.iter().map(|&flow| Staged::new(flow)));
    }

    fn insert(&mut self, burst: usize) -> usize {
        let mut done = 0;
        for burst in self.staged.chunks(burst) {
            for session in burst {
                self.sessions.prefetch(session.number);
                self.sessions.prefetch(session.number + 1);
            }
            for &Staged {
                ref keys,
                lines,
                number,
            } in burst
            {
                let added = self.hash.insert(&keys[0], number).is_ok()
                    && self.hash.insert(&keys[1], number + 1).is_ok();
                self.sessions[number..number + LINES_PER_SESSION].copy_from_slice(&lines);
                done += usize::from(added);
            }
        }
        done
    }

    fn remove(&mut self, burst: usize) -> usize {
        let mut done = 0;
        for burst in self.staged.chunks(burst) {
            for session in burst {
                self.sessions.prefetch(session.number);
                self.sessions.prefetch(session.number + 1);
            }
            for &Staged { number, .. } in burst {
                let keys = [number, number + 1].map(|line| key_in(&self.sessions[line]));
                let removed = keys.map(|key| self.hash.remove(&key));
                done += usize::from(removed == [true, true]);
            }
        }
        done
    }
}
