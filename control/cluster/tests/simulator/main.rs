//! The cluster's protocol under everything that goes wrong, with real frames and real session tables. What
//! goes wrong is in `faults` and `network`, what must hold in `checks` and in `docs/protocol.md`.
//!
//! A run is drawn from one seed. A seed that fails prints the command that runs it again; with
//! `SIMULATOR_TRACE=1` that tells what happened. `SIMULATOR_SEEDS=FROM..TO` chooses others,
//! and `SIMULATOR_THREADS` how many run at a time.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts only functions marked as tests"
)]

mod assign;
mod checks;
mod clock;
mod faults;
mod mistakes;
mod network;
mod options;
mod random;
mod unit;
mod users;
mod witness;
mod workers;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use checks::{Checks, owners};
use cluster::Role;
use options::{Options, SECOND};
use random::Random;
use unit::Pace;
use world::World;

/// What is run unless other seeds are chosen.
const FIXED: Range<u64> = 0..2_000;
/// After so many failing seeds no more are run.
const MAX_FAILURES: u64 = 8;

/// Runs a seed to its end.
fn run(seed: u64) {
    let mut random = Random::new(seed);
    let options = Options::draw(&mut random);
    run_with(options, random);
}

fn run_with(options: Options, random: Random) {
    let mut world = World::new(options, random);
    for _ in 0..world.options.faults {
        world.fault();
    }
    world.heal();
    settle(&mut world);
    if world.random.chance(300) {
        lose_a_subordinate(&mut world);
        settle(&mut world);
    }
    world.busy = false;
    world.run_for(world.options.calm());
    Checks::at_the_end(&world);
    if world.options.is_shared() {
        lose_anybody(&mut world);
    }
}

/// Some unit dies, and the users' connections go on.
fn lose_anybody(world: &mut World) {
    let known = owners::known(world);
    let unit = world.random.index(world.units.len());
    world.kill(unit);
    settle(world);
    owners::go_on(world, &known);
}

/// Runs until all must be settled, and a little longer.
fn settle(world: &mut World) {
    let end = world.now.max(world.disturbed) + world.options.settle_bound() + SECOND;
    world.run_until(end);
}

/// A subordinate's failure, and its return, change nobody's role.
fn lose_a_subordinate(world: &mut World) {
    let subordinate = |role| role == Some(Role::Subordinate);
    let Some(unit) = (0..world.units.len()).find(|i| subordinate(world.units[*i].role())) else {
        return;
    };
    world.checks.roles.frozen = true;
    if world.random.chance(500) {
        let length = world.random.within(1..4 * SECOND);
        world.pause(unit, Pace::Stopped, length);
        world.run_for(length + SECOND);
    } else {
        world.kill(unit);
        world.run_for(2 * SECOND);
        world.checks.roles.frozen = !world.options.preempt;
        world.start(unit, 0);
        world.run_for(world.options.holddown + 2 * SECOND);
    }
    world.checks.roles.frozen = false;
}

fn tell_replay(seed: u64) {
    eprintln!(
        "seed {seed} failed; to run it again: SIMULATOR_TRACE=1 SIMULATOR_SEEDS={seed}..{} \
         cargo test -p cluster --release --test simulator seeds -- --nocapture",
        seed + 1
    );
}

fn chosen_seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIMULATOR_SEEDS") else {
        return FIXED;
    };
    let (from, to) = text.split_once("..").expect("SIMULATOR_SEEDS=FROM..TO");
    from.parse().expect("FROM is a number")..to.parse().expect("TO is a number")
}

fn threads() -> usize {
    match std::env::var("SIMULATOR_THREADS") {
        Ok(text) => text.parse().expect("SIMULATOR_THREADS is a number"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

#[test]
fn seeds() {
    let seeds = chosen_seeds();
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let threads = threads();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.load(Ordering::Relaxed) >= MAX_FAILURES {
                        break;
                    }
                    if std::panic::catch_unwind(|| run(seed)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        tell_replay(seed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "seeds failed");
}

#[test]
fn a_seed_means_the_same_every_time() {
    let end = |seed| {
        let mut random = Random::new(seed);
        let options = Options::draw(&mut random);
        let mut world = World::new(options, random);
        for _ in 0..world.options.faults {
            world.fault();
        }
        let state = |unit: &unit::Unit| {
            let node = unit
                .node
                .as_ref()
                .map(|node| (node.role(), node.term(), node.counters()));
            (node, unit.workers.contents())
        };
        (world.now, world.units.iter().map(state).collect::<Vec<_>>())
    };
    for seed in 0..20 {
        assert_eq!(end(seed), end(seed));
    }
}
