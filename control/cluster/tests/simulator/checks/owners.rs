//! Where several units own sessions: each session has one owner, and outlives it.

use cluster::UnitId;
use session::State;

use super::roles;
use crate::users::Packet;
use crate::workers::Fate;
use crate::world::World;

/// A connection that every unit knows of, and the port that it is hidden behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    connection: u16,
    port: u16,
}

/// **What was passed on is not passed on again.**
pub(super) fn passed_once(world: &World, by: usize, from: Option<UnitId>, to: UnitId) {
    let Some(from) = from else { return };
    let knows = world.units[by].node.as_ref();
    let known = knows.is_some_and(|node| node.start_of(from).is_some());
    assert!(
        !known,
        "unit {} passed on to unit {to} what came from unit {from}",
        by + 1
    );
}

/// **Every session has one owner**, of which all units say the same; in a settled run one that may own.
pub(super) fn one_owner(world: &World) {
    if !world.options.is_shared() {
        return;
    }
    for unit in &world.units {
        for tuple in unit.workers.contents().keys() {
            let owner = unit.workers.get(tuple).map(|session| session.owner);
            for other in &world.units {
                let says = other.workers.get(tuple).map(|session| session.owner);
                assert_eq!(
                    owner, says,
                    "units {} and {} name different owners of {tuple:?}",
                    unit.id, other.id
                );
                let owns = owner.is_some_and(|owner| other.workers.post.owns(owner));
                assert!(
                    owns || !roles::is_quiet(world),
                    "unit {} knows that {tuple:?} is unit {owner:?}'s, which may not own",
                    other.id
                );
            }
        }
    }
}

/// The users' connections that all units hold as the users see them. That the server answered may have been lost
/// with the only unit that saw it; then the server says so again, which these users do not. After a split all
/// may hold an earlier connection between the same ports, which one side had not seen end.
pub(crate) fn known(world: &World) -> Vec<Known> {
    let users = &world.users;
    let held = |number: u16, port: u16| {
        world.units.iter().all(|unit| {
            let session = unit.workers.get(&users.original(number));
            let known = session.filter(|session| session.state != State::SynSent);
            known.is_some_and(|session| {
                session.tuples[1].dst_port == port && users.is_present(number, &session)
            })
        })
    };
    let open = users.open();
    open.filter(|(number, port)| held(*number, *port))
        .map(|(connection, port)| Known { connection, port })
        .collect()
}

/// **Connections go on whoever dies.** One that all units knew of gets its next packet through, behind
/// the port that it had.
pub(crate) fn go_on(world: &mut World, known: &[Known]) {
    let primary = world.units.iter().position(|unit| unit.serving.is_some());
    let primary = primary.expect("somebody serves");
    for Known { connection, port } in known {
        let packet = world.users.next_of(*connection, &mut world.random);
        let before = world.units[primary].workers.get(&packet.tuple);
        world.note(primary, || format!("{packet:?} comes for {before:?}"));
        let fate = follow(world, primary, &packet);
        assert_eq!(
            fate,
            Fate::Forwarded(*port),
            "connection {connection} does not go on: {packet:?}"
        );
        world.users.arrived(&packet, *port);
    }
}

/// Takes a packet to the primary, and to the unit that this passes it to.
fn follow(world: &mut World, primary: usize, packet: &Packet) -> Fate {
    let mut process = |index: usize, from: Option<UnitId>| {
        let unit = &mut world.units[index];
        let tick = unit.tick(world.now);
        let random = &mut world.random;
        unit.workers.process(packet, from, tick, random)
    };
    match process(primary, None) {
        Fate::Passed(owner) => {
            let from = UnitId::new(u8::try_from(primary + 1).unwrap());
            process(owner.index(), from)
        }
        fate => fate,
    }
}
