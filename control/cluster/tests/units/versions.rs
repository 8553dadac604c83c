//! Adjacent versions of the protocol in one cluster, as a rolling upgrade has them.

use cluster::envelope::{FIRST_VERSION, VERSION};
use cluster::{Command, Neighbour, Rejection, Role, UnitId, name_key};
use packet::Mac;

use crate::world::{Choice, World, ms, unit};

const FIRST: Choice = Choice {
    schedule: cluster::Schedule::RoundRobin,
    weight: 1,
    protocol: FIRST_VERSION,
};
const SECOND: Choice = Choice {
    protocol: VERSION,
    ..FIRST
};

/// Sessions of each unit reach all others.
fn synchronises(world: &mut World, numbers: std::ops::Range<u16>) {
    for number in numbers {
        let primary = world.roles().iter().position(|role| *role == Role::Primary);
        world.write(primary.unwrap(), number);
    }
    world.run(ms(300));
    assert!(world.tables_agree());
    assert!(!world.units[0].table.contents().is_empty());
}

fn fail_over(world: &mut World, from: usize, to: usize) {
    let to = UnitId::new(u8::try_from(to + 1).unwrap());
    let command = Command::Failover { to };
    let now = world.now;
    world.units[from].node.handle_command(command, now).unwrap();
    world.run(ms(2_500));
    assert_eq!(world.roles()[from], Role::Subordinate);
    assert_eq!(world.roles()[to.unwrap().index()], Role::Primary);
}

#[test]
fn adjacent_versions_form_a_cluster_and_hand_over_both_ways() {
    for choices in [[FIRST, SECOND], [SECOND, FIRST]] {
        let mut world = World::new(&choices);
        assert_eq!(world.roles(), [Role::Primary, Role::Subordinate]);
        synchronises(&mut world, 0..10);
        fail_over(&mut world, 0, 1);
        synchronises(&mut world, 10..20);
        fail_over(&mut world, 1, 0);
        synchronises(&mut world, 20..30);
        assert_eq!(world.units[0].table.contents().len(), 30);
        for unit in &world.units {
            assert_eq!(unit.node.status(world.now).version, FIRST_VERSION);
        }
    }
}

#[test]
fn a_rolling_upgrade_ends_in_the_new_version() {
    let mut world = World::new(&[FIRST, FIRST, FIRST]);
    synchronises(&mut world, 0..10);
    for index in [2, 1] {
        world.restart(index, SECOND);
        world.run(ms(2_000));
        assert_eq!(
            world.roles(),
            [Role::Primary, Role::Subordinate, Role::Subordinate]
        );
        assert!(world.tables_agree());
    }
    fail_over(&mut world, 0, 1);
    world.restart(0, SECOND);
    world.run(ms(2_000));
    synchronises(&mut world, 10..20);
    for unit in &world.units {
        assert_eq!(unit.node.status(world.now).version, VERSION);
        assert_eq!(unit.table.contents().len(), 20);
    }
}

#[test]
fn a_unit_of_the_first_version_refuses_the_second_and_is_never_sent_it() {
    let mut world = World::new(&[SECOND, FIRST]);
    let refused = world.units[1].node.counters().rejected(Rejection::Version);
    world.run(ms(5_000));
    let now = world.units[1].node.counters().rejected(Rejection::Version);
    assert_eq!(now, refused, "only before they knew each other");
}

#[test]
fn neighbours_are_told_at_once_and_again_where_all_speak_the_second_version() {
    let neighbour = |last| Neighbour {
        interface: name_key("lan"),
        address: [192, 0, 2, last].into(),
        mac: Mac([2, 0, 0, 0, 9, last]),
    };
    let mut world = World::new(&[SECOND, SECOND, SECOND]);
    world.units[0].node.handle_neighbours(&[neighbour(7)]);
    world.run(ms(1));
    world.units[0]
        .node
        .handle_neighbours(&[neighbour(7), neighbour(8)]);
    world.units[1].node.handle_neighbours(&[neighbour(9)]);
    world.run(ms(1));
    let told = [(unit(1), neighbour(7)), (unit(1), neighbour(8))];
    for unit in &world.units[1..] {
        assert_eq!(unit.neighbours, told, "a subordinate tells nothing");
    }
    world.run(ms(1_000));
    assert_eq!(world.units[2].neighbours[2..], told);

    let mut world = World::new(&[SECOND, FIRST]);
    world.units[0].node.handle_neighbours(&[neighbour(7)]);
    world.run(ms(2_000));
    assert_eq!(world.units[1].neighbours, []);
    assert_eq!(world.units[1].node.counters().rejected(Rejection::Kind), 0);
}
