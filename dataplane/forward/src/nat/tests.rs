use super::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;

const NOW: Tick = Tick::START;
/// Tries per burst in these tests.
const TRIES: u32 = 256;

/// Replies from this server port to a hidden session.
fn reply(server_port: u16) -> Tuple {
    let [server, address] = [[198, 51, 100, 100], [198, 51, 100, 1]].map(Ipv4Addr::from);
    Tuple::v4(server, server_port, address, 0, 17)
}

/// A chooser, the ports of one end that are in use, and how often it was asked about one.
struct Bench {
    chooser: PortChooser,
    space: PortSpace,
    used: HashSet<u16>,
    asked: usize,
}

impl Bench {
    fn new(space: PortSpace) -> Self {
        Self {
            chooser: PortChooser::default(),
            space,
            used: HashSet::new(),
            asked: 0,
        }
    }

    fn full(space: PortSpace) -> Self {
        Self {
            used: all(space),
            ..Self::new(space)
        }
    }

    /// One new session in a burst of its own, as the worker does it.
    fn begin(&mut self, now: Tick) -> Option<u16> {
        self.chooser.begin_burst(TRIES, now);
        self.begin_another(now)
    }

    /// One more in the same burst.
    fn begin_another(&mut self, now: Tick) -> Option<u16> {
        let Self {
            chooser,
            space,
            used,
            asked,
        } = self;
        let end = chooser.end(reply(53), *space, None);
        if chooser.is_exhausted(&end, now) {
            return None;
        }
        let mut free = |tuples: &[Tuple]| {
            assert!(tuples.len() <= TRIES_AT_ONCE);
            *asked += tuples.len();
            tuples.iter().position(|t| !used.contains(&t.dst_port))
        };
        let drawn = chooser.draw(&end).filter(|tuple| free(&[*tuple]).is_some());
        let port = drawn.or_else(|| chooser.search(&end, now, free))?.dst_port;
        assert!(used.insert(port), "{port} is in use");
        Some(port)
    }
}

fn all(space: PortSpace) -> HashSet<u16> {
    (0..space.count).map(|n| space.at(n)).collect()
}

#[test]
fn units_share_all_ports_and_no_port_is_of_two() {
    let mut seen = HashSet::new();
    for unit in 1..=16 {
        for port in all(PortSpace::ports(unit)) {
            assert!(port >= FIRST_PORT);
            assert_eq!(port % 16, u16::from(unit) - 1);
            assert!(seen.insert(port));
        }
    }
    assert_eq!(seen.len(), 65536 - 1024);
}

#[test]
fn workers_share_no_identifier() {
    for workers in [1, 2, 3, 7, 16] {
        let mut seen = HashSet::new();
        for unit in [1, 2, 16] {
            for worker in 0..workers {
                let space = PortSpace::identifiers(unit, worker, workers);
                for id in all(space) {
                    assert_eq!(id % 16, u16::from(unit) - 1);
                    assert!(seen.insert(id));
                }
            }
        }
        assert_eq!(seen.len(), 3 * usize::from(4096 / workers * workers));
    }
}

#[test]
fn every_port_can_be_had_and_the_last_one_in_bounded_time() {
    for space in [PortSpace::ports(3), PortSpace::identifiers(2, 1, 3)] {
        let mut bench = Bench::new(space);
        let bursts_at_most = u32::from(space.count) / TRIES + 1;
        for n in 0..space.count {
            let now = NOW.plus(n.into());
            let found = (0..bursts_at_most).find_map(|_| bench.begin(now));
            assert!(found.is_some(), "after {n} ports");
        }
        assert_eq!(bench.used, all(space));
    }
}

#[test]
fn an_exhausted_end_is_refused_without_asking() {
    let space = PortSpace::ports(1);
    let mut bench = Bench::full(space);
    let row = usize::from(space.count);
    let refused = |bench: &mut Bench, now| {
        bench.asked = 0;
        (0..1_000).for_each(|_| assert_eq!(bench.begin(now), None));
        bench.asked
    };
    assert_eq!(refused(&mut bench, NOW), DRAWS + row);
    for n in 1..REFUSED_FOR {
        assert_eq!(refused(&mut bench, NOW.plus(n)), 0);
    }
    assert_eq!(refused(&mut bench, NOW.plus(REFUSED_FOR)), row);
}

#[test]
fn a_port_that_is_freed_is_found_again() {
    let space = PortSpace::ports(16);
    let mut bench = Bench::full(space);
    let mut now = NOW;
    let row = u32::from(space.count) / TRIES + 1;
    for port in [1_039, 65_535, 33_007] {
        (0..=row).for_each(|_| assert_eq!(bench.begin(now), None));
        assert!(bench.used.remove(&port));
        assert_eq!(bench.begin(now), None, "found only when the time is up");
        now = now.plus(REFUSED_FOR);
        let found = (0..=row).find_map(|_| bench.begin(now));
        assert_eq!(found, Some(port));
    }
}

#[test]
fn a_space_that_is_nearly_full_keeps_working() {
    let space = PortSpace::ports(1);
    let mut bench = Bench::new(space);
    let mut held = Vec::new();
    // As many sessions as leave 1 port in 64; any of them may end.
    let sessions = usize::from(space.count) * 63 / 64;
    let (mut refused, mut random) = (0, 0x9e37_79b9_u32);
    for n in 0..20_000u32 {
        let now = NOW.plus(n / 100);
        match bench.begin(now) {
            Some(port) => held.push(port),
            None => refused += 1,
        }
        if held.len() >= sessions {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let ended = held.swap_remove(random as usize % held.len());
            bench.used.remove(&ended);
        }
    }
    // Those that met a run of 256 ports in use, which the next one gets beyond.
    assert!(refused < 1_000, "{refused} of 20,000 refused");
    let tries = bench.asked / 20_000;
    assert!(tries < 100, "{tries} tries for each session");
}

#[test]
fn an_end_recovers_from_having_been_crowded() {
    let space = PortSpace::ports(1);
    let mut bench = Bench::full(space);
    (0..100).for_each(|_| assert_eq!(bench.begin(NOW), None));
    bench.used.clear();
    let later = NOW.plus(REFUSED_FOR);
    let ports: Vec<u16> = (0..64).filter_map(|_| bench.begin(later)).collect();
    assert_eq!(ports.len(), 64);
    let in_a_row = ports.windows(2).filter(|pair| pair[1] == pair[0] + 16);
    assert!(in_a_row.count() < 5, "drawn again: {ports:?}");
}

#[test]
fn all_crowded_ends_together_have_so_many_tries() {
    let mut chooser = PortChooser::default();
    let space = PortSpace::ports(1);
    let mut in_tick = 0;
    for burst in 0..1_000u16 {
        chooser.begin_burst(TRIES, NOW);
        let mut in_burst = 0;
        for n in 0..64 {
            let end = chooser.end(reply(burst % 8 * 64 + n), space, None);
            let mut row = false;
            let found = chooser.search(&end, NOW, |tuples| {
                // The draws of an end that is not known to be crowded are asked about first.
                in_burst += if row || tuples.len() > DRAWS {
                    tuples.len()
                } else {
                    0
                };
                row = true;
                None
            });
            assert_eq!(found, None);
        }
        assert!(in_burst <= TRIES as usize, "{in_burst}");
        in_tick += in_burst;
    }
    assert!(in_tick <= (TRIES * BURSTS_PER_TICK) as usize, "{in_tick}");
}

#[test]
fn chosen_ports_steer_replies_to_the_worker() {
    for workers in [2, 3, 5, 16, 64] {
        let steering = Steering::even(workers);
        for worker in 0..workers {
            let mut chooser = PortChooser::default();
            chooser.begin_burst(u32::MAX, NOW);
            let space = PortSpace::ports(7);
            let end = chooser.end(reply(443), space, Some((&steering, worker)));
            let drawn = chooser.draw(&end).unwrap();
            assert_eq!(steering.worker(&drawn), worker);
            let mut offered = HashSet::new();
            let found = chooser.search(&end, NOW, |tuples| {
                offered.extend(tuples.iter().copied());
                None
            });
            assert_eq!(found, None);
            let suiting = all(space).into_iter().map(|port| end.with(port));
            let suiting = suiting.filter(|tuple| steering.worker(tuple) == worker);
            assert_eq!(offered, suiting.collect());
        }
    }
}

/// So a worker's next port is never far: the ports of 128 positions in a row from a multiple of 128
/// on fall on all entries of the table.
#[test]
fn neighbouring_ports_steer_everywhere() {
    for unit in 1..=16 {
        let blocks = (FIRST_PORT..=u16::MAX).filter(|port| port % 16 == unit - 1);
        let ports: Vec<u16> = blocks.skip(64).collect();
        for block in ports.chunks_exact(Steering::ENTRIES) {
            let entries: HashSet<u32> = block
                .iter()
                .map(|port| toeplitz::hash_port(*port) % 128)
                .collect();
            assert_eq!(entries.len(), Steering::ENTRIES);
        }
    }
}

#[test]
fn draws_differ_from_session_to_session_and_from_chooser_to_chooser() {
    let draws = || {
        let mut chooser = PortChooser::default();
        let end = chooser.end(reply(53), PortSpace::ports(1), None);
        let ports = (0..64).filter_map(|_| chooser.draw(&end));
        ports.map(|tuple| tuple.dst_port).collect::<Vec<u16>>()
    };
    let [one, other] = [draws(), draws()];
    let both: HashSet<u16> = one.iter().chain(&other).copied().collect();
    assert!(both.len() > 100, "{both:?}");
}

/// Whatever the chooser's key: draws are no progression, which an outsider could continue, and which
/// would come back to the same few ports under some keys.
#[test]
fn draws_neither_repeat_nor_follow_a_step() {
    const DRAWS: usize = 256;
    let space = PortSpace::ports(1);
    for _ in 0..2_000 {
        let mut chooser = PortChooser::default();
        let end = chooser.end(reply(53), space, None);
        let draws = || chooser.draw(&end).map(|tuple| tuple.dst_port);
        let ports: Vec<u16> = std::iter::repeat_with(draws)
            .flatten()
            .take(DRAWS)
            .collect();
        let distinct = |ports: &mut dyn Iterator<Item = u16>| ports.collect::<HashSet<_>>().len();
        // Of 256 draws among 4,032 ports 8 repeat another on average, with a deviation of 3.
        assert!(distinct(&mut ports.iter().copied()) > DRAWS - 32);
        let steps = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        assert!(distinct(&mut steps.into_iter()) > DRAWS - 48);
    }
}
