//! Session synchronisation between units, over a network that fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
mod corruption;
mod faults;
mod found;
mod table;
mod wire;
mod world;

use std::time::Duration;

use faults::{Faults, Random};
use world::{World, tight_limits};

/// Runs of each size of cluster; each is reproduced by its seed alone.
const SEEDS: u64 = 1_200;

/// Disturbs a cluster for a while, heals it, and expects all tables to become equal.
fn survive(seed: u64, units: usize, owners: bool) -> World {
    let mut random = Random::new(seed);
    let mut limits = tight_limits(&mut random);
    let faults = Faults::of(&mut random);
    if owners {
        // Changes take 3 ms to a table here, and all of it happens within a second.
        limits.settle = Duration::from_millis(5);
    }
    let mut world = World::new(seed, units, limits, faults);
    if owners {
        world = world.with_owners();
    }
    for _ in 0..40 {
        world.run_for(Duration::from_millis(10 + random.below(40)));
        world.check_acknowledged();
        world.disturb();
    }
    world.heal();
    for _ in 0..200 {
        world.run_for(Duration::from_millis(50));
        world.check_acknowledged();
        if world.is_settled() {
            return world;
        }
    }
    panic!(
        "seed {seed} with {units} units did not settle; {faults:?} {limits:?}\n{}\
         replay: SYNC_SEED={seed} cargo test -p cluster --test sync",
        world.describe()
    );
}

fn survive_all(units: usize, owners: bool) {
    let mut checked = 0;
    if let Ok(seed) = std::env::var("SYNC_SEED") {
        survive(seed.parse().unwrap(), units, owners);
        return;
    }
    for seed in 0..SEEDS {
        checked += survive(seed, units, owners).checked;
    }
    assert!(
        checked > SEEDS,
        "acknowledgements were hardly ever checked: {checked}"
    );
}

#[test]
fn two_units_end_with_equal_tables() {
    survive_all(2, false);
}

#[test]
fn three_units_end_with_equal_tables() {
    survive_all(3, false);
}

#[test]
fn three_units_that_all_own_sessions_end_with_equal_tables() {
    survive_all(3, true);
}
