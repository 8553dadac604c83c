//! Tables that differ although nobody said a word, and what digests make of them.

use std::time::Duration;

use cluster::sync::Event;
use packet::Tuple;
use session::{State, Version};

use crate::survive;
use crate::world::{World, tuple};

/// Time within which a difference has to be mended: changes are quiet for two seconds, passes begin every
/// second on both sides.
const MENDED: Duration = Duration::from_secs(8);

/// A cluster that went through much, holds sessions, and has been quiet for a while.
fn settled(seed: u64) -> (World, usize, usize) {
    let mut world = survive(seed, 3, false);
    world.load = 40;
    world.run_for(Duration::from_millis(500));
    world.load = 0;
    world.run_for(Duration::from_secs(5));
    assert!(world.is_settled(), "{}", world.describe());
    let primary = world.agreed().unwrap();
    let held = world.units[primary].table.contents().len();
    assert!(held > 60, "{held} sessions");
    world.events.clear();
    (world, primary, (primary + 1) % 3)
}

fn held(world: &World, unit: usize) -> Vec<Tuple> {
    world.units[unit].table.contents().into_keys().collect()
}

fn differences(world: &World) -> Vec<(usize, u32)> {
    let differ = world.events.iter().filter_map(|(unit, event)| match event {
        Event::TablesDiffer { ranges, .. } => Some((unit.index(), *ranges)),
        _ => None,
    });
    differ.collect()
}

/// Runs until it is mended, and sees to it that no more was repaired than had to be.
fn mend(world: &mut World, most: u32) {
    let deadline = world.now + MENDED;
    while !world.is_settled() || differences(world).is_empty() {
        assert!(world.now < deadline, "not mended\n{}", world.describe());
        world.run_for(Duration::from_millis(100));
    }
    let repaired = world.events.iter().filter_map(|(_, event)| match event {
        Event::RepairBegun { ranges, .. } => Some(*ranges),
        _ => None,
    });
    let repaired: u32 = repaired.sum();
    assert!(
        (1..=most).contains(&repaired),
        "{repaired} ranges were repaired for {most}"
    );
}

#[test]
fn lost_sessions_come_back() {
    for seed in 0..8 {
        let (mut world, _, victim) = settled(seed);
        for tuple in held(&world, victim).iter().step_by(20) {
            world.units[victim].table.lose(tuple);
        }
        mend(&mut world, 8);
        assert!(differences(&world).iter().all(|(unit, _)| *unit == victim));
    }
}

#[test]
fn of_two_states_of_one_version_the_primarys_wins() {
    for seed in 0..8 {
        let (mut world, primary, victim) = settled(seed);
        let owner = world.units[primary].id.get();
        for tuple in held(&world, victim).iter().step_by(20) {
            let table = &mut world.units[victim].table;
            table.corrupt(tuple, |session| {
                session.owner = owner;
                session.state = State::FinWait;
            });
        }
        mend(&mut world, 8);
        let overridden = world.units[victim].sync.counters().sessions_overridden;
        assert!(overridden >= 3, "{overridden} were overridden");
    }
}

#[test]
fn of_two_states_of_one_version_the_owners_wins() {
    for seed in 0..8 {
        let (mut world, primary, victim) = settled(seed);
        let owner = world.units[victim].id.get();
        let kept = held(&world, primary)[7];
        for unit in 0..3 {
            let state = if unit == primary {
                State::FinWait
            } else {
                State::Established
            };
            let table = &mut world.units[unit].table;
            table.corrupt(&kept, |session| {
                session.owner = owner;
                session.state = state;
            });
        }
        mend(&mut world, 8);
        for unit in &world.units {
            let (_, state) = unit.table.contents()[&kept];
            assert_eq!(state, State::Established as u8);
        }
    }
}

#[test]
fn what_only_a_peer_holds_and_the_primary_outlived_goes() {
    let (mut world, primary, victim) = settled(3);
    let ghost = tuple(9_999);
    let like = held(&world, victim)[0];
    let table = &mut world.units[victim].table;
    table.corrupt(&like, |session| {
        session.tuples = [ghost, ghost.reversed()];
        session.version = Version(1);
    });
    mend(&mut world, 2);
    assert!(!held(&world, primary).contains(&ghost));
}

#[test]
fn equal_tables_are_compared_and_never_differ() {
    for seed in 0..8 {
        let mut world = survive(seed, 3, false);
        world.faults.loss_per_mille = 20;
        world.faults.delay_us = 3_000;
        world.events.clear();
        for load in [30, 0, 30, 0] {
            world.load = load;
            world.run_for(Duration::from_secs(4));
        }
        assert_eq!(differences(&world), [], "seed {seed}");
        let primary = world.agreed().unwrap();
        for (index, unit) in world.units.iter().enumerate() {
            let counters = unit.sync.counters();
            assert!(counters.digest_passes > 10);
            assert!(index == primary || counters.digests_compared > 100_000);
        }
    }
}
