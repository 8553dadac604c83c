//! What seeds of the simulator found, each driven by the frames that did it: what a seed runs changes with the
//! simulator.

use packet::{Mac, Tuple};
use session::{Session, Version};

use super::*;
use crate::heartbeat::Heard;
use crate::{Delta, Event, Station, sync};

/// Unit 3 hears unit 2 as primary in term 14.
fn reports(beat: &mut Heartbeat) {
    (beat.term, beat.primary, beat.primary_term) = (14, UnitId::new(2), 14);
}

/// Follows unit 2, which only unit 3 hears.
fn told_by_another() -> Bench {
    let mut bench = Bench::fresh();
    bench.beat_of(3, PEER_BOOT, reports);
    let cause = Cause::PrimaryReported {
        primary: unit(2),
        by: unit(3),
    };
    assert_eq!((bench.node.role(), bench.last_cause()), (S, cause));
    bench
}

#[test]
fn what_a_primary_said_before_its_promotion_does_not_contradict_a_report() {
    // Seeds 3193, 3788, 4018, 4338, 5114 and 6724: the frame came late, or somebody had recorded it.
    let mut bench = told_by_another();
    bench.beat(|beat| (beat.role, beat.term) = (C, 13));
    assert_eq!(bench.node.role(), S);
    // Once nobody reports it any more, it is not said to have said anything.
    bench.idle(20);
    bench.beat(|beat| (beat.role, beat.term) = (C, 13));
    bench.idle(10);
    let ended = bench.node.transitions().rev().find(|t| t.from == S);
    let cause = Cause::PrimaryUnreported { primary: unit(2) };
    assert_eq!(ended.map(|t| t.cause), Some(cause));
    // What it says later counts.
    let mut bench = told_by_another();
    bench.beat(|beat| (beat.role, beat.term) = (M, 14));
    let cause = Cause::PrimaryStopped {
        primary: unit(2),
        role: M,
    };
    assert_eq!(bench.last_cause(), cause);
}

#[test]
fn an_unverified_unit_contradicts_no_report() {
    // Seed 10551: a recording from before this unit's start.
    let mut bench = told_by_another();
    bench.beat(|beat| {
        (beat.role, beat.term) = (C, 14);
        beat.heard.clear();
    });
    assert_eq!(bench.node.role(), S);
}

#[test]
fn only_a_primary_that_is_heard_as_one_is_reported() {
    // Seed 13235: a report was made of a report and of frames from before the promotion.
    let mut bench = told_by_another();
    bench.beat(|beat| (beat.role, beat.term) = (C, 13));
    bench.idle(10);
    assert_eq!((bench.node.role(), bench.sent().primary), (S, None));
    bench.beat(|beat| (beat.role, beat.term) = (P, 14));
    bench.idle(10);
    assert_eq!(bench.sent().primary, UnitId::new(2));
}

#[test]
fn a_report_counts_as_long_as_the_heartbeat_that_brings_it() {
    // Seed 24883: the delays of both ways together were longer than the time of detection.
    let mut bench = told_by_another();
    for _ in 0..5 {
        bench.beat_of(3, PEER_BOOT, |beat| {
            reports(beat);
            beat.primary_silence = Duration::from_millis(25);
        });
        bench.idle(20);
        assert_eq!(bench.node.role(), S);
    }
    bench.idle(10);
    assert_ne!(bench.node.role(), S);
}

#[test]
fn who_does_not_hear_the_successor_leaves_the_role_to_it() {
    // Seed 3685: the role moved on at each hand-over to it, without end.
    let mut bench = Bench::in_role(S);
    let yields = |beat: &mut Heartbeat| {
        (beat.yielding, beat.eligible) = (true, false);
        beat.successor = UnitId::new(3);
    };
    bench.pass(50, yields);
    assert_eq!(bench.node.role(), C);
    bench.beat(|beat| (beat.term, beat.primary, beat.primary_term) = (29, UnitId::new(3), 29));
    assert_eq!(bench.node.role(), S);
    let mut bench = Bench::in_role(S);
    bench.pass(70, yields);
    assert_eq!(bench.last_cause(), Cause::Overdue { expected: unit(3) });
}

#[test]
fn a_start_that_a_recording_replaced_goes_on() {
    // Seed 21012: the wall clock had gone back, and frames of the start before, which heard this unit and was
    // not heard by it, were sent again.
    let mut bench = Bench::in_role(P);
    let later = Boot(PEER_BOOT.0 + (1 << 32));
    let old = |bench: &Bench| bench.node.counters().rejected(Rejection::OldBoot);
    bench.beat_of(2, later, |beat| beat.leaving = true);
    assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
    bench.beat_of(2, later, |_| {});
    assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
    bench.idle(30);
    bench.beat_of(2, later, |_| {});
    assert_eq!(bench.node.start_of(unit(2)), Some(later));
    bench.beat(|_| {});
    assert_eq!(old(&bench), 1, "the later one is heard");
    bench.beat_of(2, later, |beat| beat.leaving = true);
    bench.beat(|_| {});
    assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
    // The later one may be live too: it goes on where it was, and what it said before is refused.
    let recorded = bench.frame_of(2, later, |_| {});
    bench.node.handle_frame(LinkId(0), &recorded, bench.now);
    assert_eq!(bench.node.start_of(unit(2)), Some(later));
    bench.idle(30);
    bench.beat(|_| {});
    let refused = bench.node.handle_frame(LinkId(0), &recorded, bench.now);
    assert_eq!(refused, Some(Rejection::Replayed));
    assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
    assert_eq!(old(&bench), 1);
}

#[test]
fn a_start_that_proved_nothing_and_was_replaced_by_a_recording_may_still_prove_itself() {
    // Seed 26608: this unit was not heard yet, and somebody sent frames of a later start again, from before the wall
    // clock went back. It refused the live start for ever, and both were primary.
    let mut bench = Bench::fresh();
    let later = Boot(PEER_BOOT.0 + (1 << 32));
    let unproven = |beat: &mut Heartbeat| {
        beat.role = P;
        beat.heard.clear();
    };
    bench.beat(unproven);
    bench.beat_of(2, later, unproven);
    bench.idle(30);
    bench.beat(unproven);
    assert_eq!(bench.node.start_of(unit(2)), None);
    bench.beat(|beat| beat.role = P);
    assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
    assert_eq!(bench.node.role(), S);
}

#[test]
fn who_was_away_and_missed_something_does_not_begin_to_own() {
    // Seed 1598 of those with owners: it counts itself as synced until it hears what it missed. It was given the
    // sessions of another unit, and had all units remove them, because it did not know them.
    let mut bench = Bench::with(Settings {
        session_sync: true,
        schedule: Schedule::RoundRobin,
        ..settings()
    });
    bench.idle(150);
    let synced = |beat: &mut Heartbeat| {
        (beat.role, beat.synced) = (S, true);
    };
    let owns = |bench: &Bench| {
        let mut members = bench.node.distribution().members.iter();
        members.any(|member| member.unit == unit(2) && member.owns)
    };
    bench.pass(1_100, synced);
    assert!(owns(&bench));
    bench.idle(100);
    assert!(!owns(&bench));
    for number in 0..20_000_u32 {
        let [.., high, low] = number.to_be_bytes();
        let (client, server) = ([10, 0, high, low].into(), [192, 0, 2, 1].into());
        let session = Session {
            tuples: [Tuple::v4(client, 1, server, 53, 17); 2],
            version: Version(1 << 40 | u64::from(number)),
            owner: 1,
            ..Session::default()
        };
        let remaining = 300;
        bench
            .node
            .push(0, Delta::Upsert { session, remaining }, bench.now);
        bench.drain();
    }
    bench.beat(synced);
    assert!(bench.node.synchronisation().lag(unit(2)).dirty > 0);
    assert!(!owns(&bench));
}

#[test]
fn frames_of_a_unit_are_known_by_a_station_whose_link_was_down() {
    // Seed 7846: its link was up again before the word of it came, and what it passed on was passed on again.
    let mut bench = Bench::with(Settings {
        session_sync: true,
        schedule: Schedule::RoundRobin,
        ..settings()
    });
    let station = |interface, last| Station {
        interface,
        mac: Mac([2, 0, 0, 0, 0, last]),
    };
    let both = [station(1, 1), station(2, 2)];
    let told = |bench: &Bench| {
        let members = &bench.node.distribution().members;
        let member = members.iter().find(|member| member.unit == unit(2));
        member.map(|member| (member.stations.clone(), member.sources.clone()))
    };
    bench.beat(|beat| beat.stations = both.into_iter().collect());
    assert_eq!(told(&bench), Some((both.to_vec(), both.to_vec())));
    bench.beat(|beat| beat.stations = both.into_iter().take(1).collect());
    assert_eq!(told(&bench), Some((both[..1].to_vec(), both.to_vec())));
    // It starts anew with another card, and one of its links is down.
    let later = Boot(PEER_BOOT.0 + (1 << 32));
    let changed = station(1, 3);
    bench.idle(100);
    bench.beat_of(2, later, |beat| {
        beat.stations = [changed].into_iter().collect();
    });
    assert_eq!(bench.node.start_of(unit(2)), Some(later));
    assert_eq!(told(&bench), Some((vec![changed], vec![changed, both[1]])));
}

/// Unit 1 was primary with units 2 and 3, and unit 2 becomes it; whether it is given all sessions that unit 1 has.
fn offers_everything(hears_another: Option<Duration>) -> bool {
    let mut bench = Bench::with(Settings {
        session_sync: true,
        schedule: Schedule::RoundRobin,
        ..settings()
    });
    bench.idle(150);
    let session = Session {
        tuples: [Tuple::v4([10, 0, 0, 1].into(), 1, [192, 0, 2, 1].into(), 53, 17); 2],
        version: Version(1 << 40),
        owner: 1,
        ..Session::default()
    };
    let remaining = 300;
    let change = Delta::Upsert { session, remaining };
    bench.node.push(0, change, bench.now);
    let third = Heard {
        unit: unit(3),
        boot: PEER_BOOT,
        links: 0b11,
    };
    let begun = bench.now;
    let term = bench.node.term();
    let mut beat = |role, term, primary_term| {
        let hears = hears_another.is_some_and(|after| bench.now.since(begun) >= after);
        bench.beat_of(3, PEER_BOOT, |beat| beat.willing = false);
        bench.beat(|beat| {
            (beat.role, beat.term, beat.willing) = (role, term, false);
            (beat.primary, beat.primary_term) = (UnitId::new(1), primary_term);
            beat.heard.extend(hears.then_some(third));
        });
        bench.idle(10);
    };
    (0..150).for_each(|_| beat(S, term, term));
    (0..50).for_each(|_| beat(P, term + 1, 0));
    assert_eq!(bench.node.primary(), Some((unit(2), term + 1)));
    bench.actions.iter().any(|action| {
        let Action::Event(Event::Sync(sync::Event::RepairBegun { targets, ranges })) = action
        else {
            return false;
        };
        targets & unit(2).bit() != 0 && *ranges == 256
    })
}

#[test]
fn a_new_primary_that_did_not_hear_all_others_is_given_everything() {
    // Seeds 60254 and 74464: what an owner had told its sessions nobody told the unit that did not hear it; that
    // was promoted, and had the others remove them.
    assert!(offers_everything(None));
    assert!(offers_everything(Some(Duration::from_millis(1_000))));
    assert!(!offers_everything(Some(Duration::ZERO)));
}
