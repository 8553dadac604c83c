//! Each check fails where something is wrong: here it is handed a run that was calm, and one mistake.

use cluster::{Cause, Command, Delta, Schedule};
use session::{Session, State, Tick, Version};

use super::roles::Roles;
use super::{Checks, owners};
use crate::options::{MS, Options, SECOND};
use crate::random::Random;
use crate::unit::Pace;
use crate::workers::Happened;
use crate::world::World;

/// Two units, users, and nothing that goes wrong.
fn calm() -> World {
    run_calmly(2, None)
}

fn run_calmly(units: usize, schedule: Option<(Schedule, Vec<u8>)>) -> World {
    let mut random = Random::new(1);
    let drawn = Options::draw(&mut random);
    let options = Options {
        units,
        links: 2,
        preempt: false,
        priorities: vec![100; units],
        interval: 100 * MS,
        loss: 0,
        duplicate: 0,
        corrupt: 0,
        record: 0,
        delay: MS / 10,
        jitter: 1,
        drift: 0,
        session_sync: true,
        ring: 256,
        turn: 1,
        socket: 256,
        gap: 40 * MS,
        witness: None,
        schedule,
        ..drawn
    };
    let mut world = World::new(options, random);
    world.run_for(3 * SECOND + world.options.settle_bound());
    world
}

/// A calm run: the primary, and the other unit.
fn settled() -> (World, usize, usize) {
    let world = calm();
    let primary = world.units.iter().position(|unit| unit.is_primary());
    let primary = primary.expect("one is primary");
    assert!(!world.units[1 - primary].workers.contents().is_empty());
    (world, primary, 1 - primary)
}

/// A calm run in which both units own sessions, and are not used any more: the primary, and the other unit.
fn shared() -> (World, usize, usize) {
    let mut world = run_calmly(2, Some((Schedule::RoundRobin, vec![1, 1])));
    world.busy = false;
    world.run_for(world.options.calm());
    let primary = world.units.iter().position(|unit| unit.is_primary());
    let primary = primary.expect("one is primary");
    for unit in &world.units {
        assert!(owned(&world, primary, unit.id.get()).is_some());
    }
    (world, primary, 1 - primary)
}

/// A session in this unit's table that another one owns.
fn owned(world: &World, unit: usize, owner: u8) -> Option<Session> {
    let workers = &world.units[unit].workers;
    let mut all = workers.contents().into_keys();
    all.find_map(|tuple| workers.get(&tuple).filter(|held| held.owner == owner))
}

/// Both are primary, each alone, and all is settled.
fn split() -> World {
    let (mut world, ..) = settled();
    world
        .network
        .cuts
        .iter_mut()
        .flatten()
        .flatten()
        .for_each(|cut| *cut = true);
    world.disturbed = world.now;
    world.run_for(world.options.settle_bound() + SECOND);
    assert!(world.units.iter().all(|unit| unit.is_primary()));
    world
}

/// Something that a unit holds.
fn some_session(world: &World, unit: usize) -> Session {
    let workers = &world.units[unit].workers;
    let first = workers.contents().into_keys().next();
    first
        .and_then(|tuple| workers.get(&tuple))
        .expect("it holds sessions")
}

#[test]
#[should_panic(expected = "were both promoted in term 40")]
fn two_units_in_one_term() {
    let (mut world, primary, other) = settled();
    world.disturbed = world.now;
    Checks::promoted(&mut world, primary, 40);
    Checks::promoted(&mut world, other, 40);
}

#[test]
#[should_panic(expected = "promoted twice in term 40")]
fn one_start_twice_in_one_term() {
    let (mut world, primary, _) = settled();
    Checks::promoted(&mut world, primary, 40);
    Checks::promoted(&mut world, primary, 40);
}

#[test]
#[should_panic(expected = "the term of unit 1 fell")]
fn a_term_that_falls() {
    let (mut world, ..) = settled();
    let mut fresh = calm();
    fresh.kill(0);
    fresh.units[0].last_term = 0;
    fresh.start(0, 0);
    world.units[0].node = fresh.units[0].node.take();
    Roles::term_never_falls(&mut world, 0);
}

#[test]
#[should_panic(expected = "hear each other and stay primary")]
fn two_that_hear_each_other_and_stay() {
    let mut world = split();
    // As far as the check can see they hear each other.
    world.network.mend();
    world.options.loss = 1_000;
    world.disturbed = world.now;
    world.run_for(60 * SECOND);
}

#[test]
#[should_panic(expected = "primaries of the component")]
fn two_primaries_when_all_must_be_settled() {
    let mut world = split();
    world.network.mend();
    world.disturbed -= 1;
    Checks::after_step(&mut world);
}

#[test]
#[should_panic(expected = "nobody serves in the component")]
fn a_role_that_nobody_has_while_frames_are_lost() {
    let (mut world, ..) = settled();
    // Nobody may take the role before it has listened for a day.
    world.options.loss = 1;
    world.options.holddown = 86_400 * SECOND;
    for unit in 0..2 {
        world.kill(unit);
        world.start(unit, 0);
    }
    world.options.holddown = SECOND;
    world.run_for(60 * SECOND);
}

#[test]
#[should_panic(expected = "the role moved")]
fn a_role_that_goes_round() {
    let (mut world, _, other) = settled();
    world.disturbed = world.now;
    for turn in 1..100 {
        Checks::promoted(&mut world, other, turn * 16);
    }
}

#[test]
#[should_panic(expected = "changed its role in the quiet")]
fn a_role_that_moves_in_the_quiet() {
    let (mut world, primary, _) = settled();
    Checks::demoted(&mut world, primary);
}

#[test]
#[should_panic(expected = "though only a subordinate failed")]
fn a_role_that_moves_when_a_subordinate_fails() {
    let (mut world, primary, _) = settled();
    world.checks.roles.frozen = true;
    Checks::demoted(&mut world, primary);
}

#[test]
#[should_panic(expected = "gives a cause that is none")]
fn a_cause_that_never_was() {
    let (mut world, primary, _) = settled();
    world.disturbed = world.now;
    let clock = world.units[primary].time(world.now);
    // The unit says that it was told to; nobody told it as far as the check knows.
    let node = world.units[primary].node.as_mut().expect("it runs");
    node.handle_command(Command::Maintenance(true), clock)
        .expect("there is a successor");
    world.run_for(2 * SECOND);
}

#[test]
#[should_panic(expected = "and does not have it")]
fn an_acknowledgement_of_what_is_not_there() {
    let (mut world, primary, _) = settled();
    let held = some_session(&world, primary);
    let session = Session {
        version: Version(held.version.0 + 1_000),
        ..held
    };
    let change = Delta::Upsert {
        session,
        remaining: 1,
    };
    world.checks.pushed(primary, &[(0, change)]);
    Checks::acknowledged(&mut world, primary);
}

#[test]
#[should_panic(expected = "and lost it")]
fn something_acknowledged_that_is_removed() {
    let (mut world, _, other) = settled();
    let tick = world.units[other].tick(world.now);
    let workers = &mut world.units[other].workers;
    for (tuple, version) in workers.contents() {
        workers.command(Delta::Remove { tuple, version });
    }
    workers.obey(tick);
    Checks::tables_changed(&mut world, other);
}

/// The primary gives the port of a session that the other unit holds.
fn give_port_of(world: &mut World, held: Session, primary: usize) {
    let mut thief = held;
    thief.tuples[0].src_port += 1_000;
    let happened = &mut world.units[primary].workers.happened;
    happened.push(Happened::Opened(thief));
    Checks::tables_changed(world, primary);
}

#[test]
#[should_panic(expected = "gave port")]
fn a_port_that_is_taken() {
    let (mut world, primary, other) = settled();
    let held = some_session(&world, other);
    give_port_of(&mut world, held, primary);
}

#[test]
fn a_port_that_the_primary_cannot_know_of() {
    // Seed 15135: it was told by a unit from the other side of a split.
    let (mut world, primary, other) = settled();
    let held = some_session(&world, other);
    let away = world.units[primary].node.take();
    let from = world.units[primary].id;
    let change = Delta::Upsert {
        session: held,
        remaining: 300,
    };
    Checks::told(&mut world, other, from, &change);
    world.units[primary].node = away;
    give_port_of(&mut world, held, primary);
}

#[test]
#[should_panic(expected = "hold different sessions")]
fn tables_that_differ_in_the_end() {
    let (mut world, _, other) = settled();
    let tuple = some_session(&world, other).tuples[0];
    world.units[other].workers.clear(&tuple);
    Checks::at_the_end(&world);
}

#[test]
#[should_panic(expected = "was silent")]
fn a_primary_that_announces_nothing() {
    let (mut world, primary, _) = settled();
    let term = world.units[primary].serving.take();
    world.disturbed = world.now;
    Checks::promoted(&mut world, primary, 400);
    world.units[primary].serving = term;
    Checks::at_the_end(&world);
}

#[test]
#[should_panic(expected = "name different owners")]
fn a_session_that_two_units_process() {
    let (mut world, primary, other) = shared();
    let owner = world.units[other].id.get();
    let held = owned(&world, primary, owner).expect("it owns some");
    let workers = &mut world.units[primary].workers;
    let shard = workers.home(&held.tuples[0]);
    let hit = workers.shards[shard].lookup(&held.tuples[0]);
    workers.shards[shard].assign(hit.expect("it is there"), 3 - owner);
    Checks::at_the_end(&world);
}

#[test]
#[should_panic(expected = "which may not own")]
fn a_session_that_nobody_processes() {
    let (mut world, primary, _) = shared();
    let members = &mut world.units[primary].workers.post.distribution.members;
    members.retain(|member| member.unit.index() == primary);
    Checks::at_the_end(&world);
}

#[test]
#[should_panic(expected = "passed on to unit 1 what came from unit")]
fn a_packet_that_is_passed_on_twice() {
    let (world, primary, other) = shared();
    let from = Some(world.units[other].id);
    Checks::passed_on(&world, primary, from, cluster::UnitId::new(1).expect("1"));
}

#[test]
#[should_panic(expected = "does not go on")]
fn a_connection_that_ends_with_its_owner() {
    let (mut world, primary, other) = shared();
    let known = owners::known(&world);
    let owner = world.units[other].id.get();
    world.kill(other);
    while let Some(held) = owned(&world, primary, owner) {
        world.units[primary].workers.clear(&held.tuples[0]);
    }
    world.run_for(world.options.settle_bound());
    owners::go_on(&mut world, &known);
}

#[test]
fn connections_of_a_calm_run_go_on_whoever_dies() {
    for dies_primary in [false, true] {
        let (mut world, primary, other) = shared();
        Checks::at_the_end(&world);
        let known = owners::known(&world);
        assert!(known.len() > 5, "{} connections", known.len());
        world.kill(if dies_primary { primary } else { other });
        world.run_for(world.options.settle_bound());
        owners::go_on(&mut world, &known);
    }
}

#[test]
fn a_connection_of_which_nobody_left_saw_the_answer_is_not_known() {
    // Seed 42922: the unit that saw it was alone then, and died. The server answers again; these users do not.
    let (mut world, primary, _) = shared();
    let before = owners::known(&world).len();
    let is_answered = |session: &Session| session.state == State::Established;
    let workers = &world.units[primary].workers;
    let mut held = workers.contents().into_keys();
    let answered = held.find_map(|tuple| workers.get(&tuple).filter(is_answered));
    let first = answered.expect("some connection is open");
    let forgotten = Session {
        state: State::SynSent,
        version: Version(first.version.0 + 1),
        ..first
    };
    for unit in &mut world.units {
        let home = unit.workers.home(&first.tuples[0]);
        unit.workers.shards[home].apply(&forgotten, 300, Tick(0));
    }
    assert_eq!(owners::known(&world).len(), before - 1);
}

#[test]
fn a_session_that_is_handed_to_who_never_heard_of_it_is_kept() {
    // Seed 22182: the new owner had been away when the session began, and had all units remove it when it was told
    // that it owned it.
    let (mut world, primary, other) = shared();
    let handed = owned(&world, primary, world.units[primary].id.get()).expect("it owns some");
    let tuple = handed.tuples[0];
    let owner = world.units[other].id.get();
    for (unit, removes) in [(primary, false), (other, true)] {
        let workers = &mut world.units[unit].workers;
        let home = workers.home(&tuple);
        let shard = &mut workers.shards[home];
        let hit = shard.lookup(&tuple).expect("it is there");
        if removes {
            shard.remove(hit.id());
        } else {
            shard.assign(hit, owner);
        }
    }
    assert_eq!(world.units[other].workers.get(&tuple), None);
    world.run_for(world.options.calm());
    let versions = [primary, other].map(|unit| world.units[unit].workers.version(&tuple));
    assert_eq!(versions, [Some(handed.version); 2]);
    Checks::at_the_end(&world);
}

#[test]
fn a_calm_run_passes_every_check() {
    let (mut world, ..) = settled();
    world.busy = false;
    world.run_for(10 * SECOND);
    Checks::at_the_end(&world);
}

/// Whether a unit ever gave this cause, in this start.
fn gave(world: &World, unit: usize, cause: impl Fn(&Cause) -> bool) -> bool {
    let node = world.units[unit].node.as_ref().expect("it runs");
    node.transitions()
        .any(|transition| cause(&transition.cause))
}

#[test]
fn a_unit_that_hears_of_its_links_before_its_workers_may_say_that_it_recovered() {
    // Seed 27124: both had changed while its control core hung.
    let (mut world, primary, other) = settled();
    world.kill(primary);
    for link in 0..2 {
        world.set_carrier(other, link, false);
    }
    world.run_for(SECOND);
    world.pause(other, Pace::Hanging, SECOND);
    world.set_workers(other, false);
    for link in 0..2 {
        world.set_carrier(other, link, true);
    }
    world.run_for(2 * SECOND);
    assert!(gave(&world, other, |cause| *cause == Cause::Recovered));
    assert!(gave(&world, other, |cause| *cause == Cause::WorkersStopped));
}

#[test]
fn a_unit_that_was_stopped_takes_nobodys_silence_for_a_death() {
    // Seed 24187: it follows a primary that does not hear it, because another unit does; that one leaves and the
    // primary dies while it hangs.
    let mut world = run_calmly(3, None);
    let primary = world.units.iter().position(|unit| unit.is_primary());
    let primary = primary.expect("one is primary");
    let (deaf, third) = ((primary + 1) % 3, (primary + 2) % 3);
    world.network.cuts[deaf][primary].fill(true);
    world.kill(deaf);
    world.start(deaf, 0);
    world.run_for(2 * SECOND);
    assert!(gave(&world, deaf, |cause| matches!(
        cause,
        Cause::PrimaryReported { .. }
    )));
    world.kill(primary);
    world.pause(deaf, Pace::Hanging, SECOND);
    world.command(third, Command::Leave);
    world.run_for(2 * SECOND);
    assert!(gave(&world, deaf, |cause| matches!(
        cause,
        Cause::PrimaryUnproven { .. }
    )));
}

#[test]
fn a_role_may_move_while_the_witness_is_slow_by_chance() {
    // Seed 25007: a fifth of all exchanges took too long, so the primary lost its lease now and then.
    let (mut world, _, other) = settled();
    world.disturbed = world.now;
    world.store.slow = true;
    for turn in 1..100 {
        Checks::promoted(&mut world, other, turn * 16);
    }
}
