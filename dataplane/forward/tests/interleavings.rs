//! Units that share sessions, while packets, changes and decisions come in any order.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use common::frames::{self, sound};
use common::units::{Site, Units};
use common::*;
use forward::Pick;
use packet::Tuple;
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client of a flow sends a datagram.
    Send(u16),
    /// The server answers what it got last in a flow.
    Answer(u16),
    /// A unit works, and what it sends arrives.
    Turn(u8),
    /// Changes that a unit reported arrive, so many.
    Tell(u8, usize),
    /// A unit may own no more, or again.
    Excuse(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u16..6).prop_map(Step::Send),
        2 => (0_u16..6).prop_map(Step::Answer),
        6 => (1_u8..=3).prop_map(Step::Turn),
        2 => (1_u8..=3, 1_usize..4).prop_map(|(unit, changes)| Step::Tell(unit, changes)),
        1 => (2_u8..=3).prop_map(Step::Excuse),
    ]
}

/// What the hosts of a property test have seen.
#[derive(Default)]
struct Hosts {
    sent: u32,
    /// The translation of each flow.
    hidden: [Option<Tuple>; 6],
}

impl Hosts {
    fn payload(&mut self) -> [u8; 4] {
        self.sent += 1;
        self.sent.to_be_bytes()
    }

    /// Checks what came out of the units.
    fn look(&mut self, units: &mut Units) {
        for frame in units.got(WAN) {
            let hidden = sound(&frame).tuple;
            let flow = usize::from(hidden.dst_port) - 100;
            let known = self.hidden[flow].replace(hidden);
            assert!(
                known.is_none_or(|known| known == hidden),
                "two translations"
            );
        }
        for frame in units.got(LAN) {
            let tuple = sound(&frame).tuple;
            assert_eq!(tuple.dst_v4(), Some(CLIENT));
            assert_eq!(tuple.dst_port - 4_000, tuple.src_port - 100);
        }
        assert!(
            units.passed.values().all(|times| *times <= 1),
            "passed on twice"
        );
    }
}

fn flow(number: u16) -> Tuple {
    Tuple::v4(CLIENT, 4_000 + number, SERVER, 100 + number, 17)
}

fn take(units: &mut Units, hosts: &mut Hosts, step: Step) {
    match step {
        Step::Send(number) => {
            let frame = frames::udp(LAN, &flow(number), &hosts.payload());
            units.send(LAN, &frame);
        }
        Step::Answer(number) => {
            let payload = hosts.payload();
            if let Some(hidden) = hosts.hidden[usize::from(number)] {
                units.send(WAN, &frames::udp(WAN, &hidden.reversed(), &payload));
            }
        }
        Step::Turn(unit) => {
            units.unit(unit).turn();
            units.switch(unit);
        }
        Step::Tell(unit, changes) => {
            units.collect();
            (0..changes).for_each(|_| units.tell_all(unit));
        }
        Step::Excuse(unit) => {
            match units.excused.iter().position(|excused| *excused == unit) {
                Some(position) => drop(units.excused.remove(position)),
                None => units.excused.push(unit),
            }
            let may = |unit: &u8| !units.excused.contains(unit);
            units.slots = (1..=3).filter(may).collect();
            units.publish(TERM);
        }
    }
    hosts.look(units);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_no_packet_is_passed_twice_and_no_session_translated_twice(
        steps in prop::collection::vec(steps(), 1..120),
        pick in prop_oneof![
            Just(Pick::InTurn),
            Just(Pick::Fewest),
            Just(Pick::Random),
            Just(Pick::Tuple),
        ],
        workers in prop::array::uniform3(1_u16..3),
    ) {
        let mut units = Units::new(Site {
            workers: workers.to_vec(),
            pick,
            slots: vec![1, 2, 3],
            policies: vec![masquerade()],
        });
        let mut hosts = Hosts::default();
        for step in steps {
            take(&mut units, &mut hosts, step);
        }
        units.settle();
        hosts.look(&mut units);
        for number in 0..6 {
            let held = [1, 2, 3].map(|unit| {
                units.session(unit, &flow(number)).map(|session| session.tuples)
            });
            prop_assert!(held[0] == held[1] && held[1] == held[2], "{held:?}");
            let told = held[0].map(|tuples| tuples[1].reversed());
            prop_assert_eq!(told, hosts.hidden[usize::from(number)]);
        }
    }
}
