//! Single promises, each by itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::sync::{Event, Limits, Output, Sync, SyncSettings};
use cluster::{Boot, Delta, RangeSet, SessionSource, Time, UnitId, range_of};
use packet::Tuple;
use session::{Session, State, Version};

use crate::faults::Faults;
use crate::table::Table;
use crate::world::World;

fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

fn sync(id: u8, limits: Limits) -> Sync {
    let mut sync = Sync::new(SyncSettings {
        unit: unit(id),
        boot: Boot(id.into()),
        shards: 2,
        session_sync: true,
        limits,
    });
    // It would never be idle.
    sync.compare_tables(false);
    sync
}

fn numbered(number: u32) -> Session {
    let original = Tuple::v4(
        Ipv4Addr::from(0x0A00_0000 + number),
        40_000,
        Ipv4Addr::new(192, 0, 2, 1),
        53,
        17,
    );
    Session {
        tuples: [original, original.reversed()],
        version: Version(u64::from(number) + 1),
        state: State::Replied,
        owner: 1,
        ..Session::default()
    }
}

fn upsert(number: u32) -> Delta {
    Delta::Upsert {
        session: numbered(number),
        remaining: 300,
    }
}

fn remove(number: u32) -> Delta {
    let session = numbered(number);
    Delta::Remove {
        tuple: session.tuples[0],
        version: session.version,
    }
}

/// A full table that needs no memory.
struct Numbered(u32);

impl SessionSource for Numbered {
    fn shards(&self) -> u16 {
        2
    }

    fn slots(&self, _: u16) -> u32 {
        self.0 / 2
    }

    fn read(&self, shard: u16, slot: u32) -> Option<(Session, u32)> {
        Some((numbered(slot * 2 + u32::from(shard)), 300))
    }

    fn find(&self, _: &Tuple) -> Option<(Session, u32)> {
        None
    }
}

/// What one turn of `sync` gives.
fn turn(sync: &mut Sync, table: &dyn SessionSource, now: Time) -> Vec<Output> {
    std::iter::from_fn(|| sync.poll(table, now)).collect()
}

/// Carries frames between two machines until both rest; returns the frames, and the changes applied at `b`.
fn pump(
    (a, table_a): (&mut Sync, &dyn SessionSource),
    (b, table_b): (&mut Sync, &dyn SessionSource),
    now: &mut Time,
) -> (usize, Vec<Delta>) {
    let (mut frames, mut applied) = (0, Vec::new());
    loop {
        *now = *now + Duration::from_micros(100);
        let mut outputs = 0;
        for output in turn(a, table_a, *now) {
            outputs += 1;
            if let Output::Send { body, .. } = output {
                frames += 1;
                b.handle(unit(1), &body, *now).unwrap();
            }
        }
        for output in turn(b, table_b, *now) {
            outputs += 1;
            match output {
                Output::Send { body, .. } => a.handle(unit(2), &body, *now).unwrap(),
                Output::Apply { delta, .. } => applied.push(delta),
                Output::Restate { .. } | Output::Synced { .. } | Output::Event(_) => {}
            }
        }
        let deadline = a.next_deadline().min(b.next_deadline());
        if outputs == 0 && deadline == Time::NEVER {
            return (frames, applied);
        }
        if outputs == 0 && deadline > *now {
            *now = deadline;
        }
    }
}

/// Unit 1 is primary, unit 2 has copied its state.
fn pair(table: &dyn SessionSource) -> (Sync, Sync, Time) {
    let (mut a, mut b) = (sync(1, Limits::default()), sync(2, Limits::default()));
    let mut now = Time(1_000_000_000);
    a.primary(Some(unit(1)), 1, now);
    a.peer_up(unit(2), Boot(2), 2);
    b.peer_up(unit(1), Boot(1), 2);
    b.primary(Some(unit(1)), 1, now);
    pump((&mut a, table), (&mut b, &Table::new(2)), &mut now);
    assert!(a.synced() && b.synced() && a.acknowledged_by_all());
    (a, b, now)
}

#[test]
fn many_changes_of_a_session_are_one_record() {
    let empty = Table::new(2);
    let (mut a, mut b, mut now) = pair(&empty);
    for _ in 0..5 {
        a.push(0, upsert(1));
    }
    let (_, applied) = pump((&mut a, &empty), (&mut b, &empty), &mut now);
    assert_eq!(applied, [upsert(1)]);
    assert_eq!(
        (a.counters().deltas_merged, a.counters().deltas_sent),
        (4, 1)
    );
}

#[test]
fn a_change_is_confirmed_once_the_peer_has_acknowledged_it() {
    let empty = Table::new(2);
    let (mut a, mut b, mut now) = pair(&empty);
    let mut changed = RangeSet::EMPTY;
    changed.insert(range_of(upsert(1).tuple()));
    assert_eq!(a.unconfirmed(unit(2)), RangeSet::EMPTY);
    a.push(0, upsert(1));
    assert_eq!(a.unconfirmed(unit(2)), changed, "it waits");
    now = now + Duration::from_millis(1);
    let sent = turn(&mut a, &empty, now);
    assert_eq!(a.unconfirmed(unit(2)), changed, "it is on its way");
    for output in sent {
        if let Output::Send { body, .. } = output {
            b.handle(unit(1), &body, now).unwrap();
        }
    }
    pump((&mut a, &empty), (&mut b, &empty), &mut now);
    assert_eq!(a.unconfirmed(unit(2)), RangeSet::EMPTY);
    assert_eq!(a.unconfirmed(unit(3)), RangeSet::ALL, "nobody knows it");
    a.peer_down(unit(2));
    assert_eq!(a.unconfirmed(unit(2)), RangeSet::ALL);
}

#[test]
fn lag_is_what_a_peer_has_not_acknowledged_and_for_how_long() {
    let empty = Table::new(2);
    let (mut a, mut b, mut now) = pair(&empty);
    let lag = |a: &Sync| (a.lag(unit(2)).deltas, a.lag(unit(2)).age);
    assert_eq!(lag(&a), (0, Duration::ZERO));
    (0..5).for_each(|number| a.push(0, upsert(number)));
    assert_eq!(lag(&a).0, 5, "they wait");
    let first = turn(&mut a, &empty, now);
    now = now + Duration::from_millis(250);
    // What is sent again keeps its age.
    let again = turn(&mut a, &empty, now);
    assert!(!first.is_empty() && !again.is_empty());
    (5..8).for_each(|number| a.push(1, upsert(number)));
    turn(&mut a, &empty, now);
    assert_eq!(lag(&a), (8, Duration::from_millis(250)));
    pump((&mut a, &empty), (&mut b, &empty), &mut now);
    assert_eq!(lag(&a), (0, Duration::ZERO));
}

#[test]
fn a_session_born_and_dead_between_two_polls_is_never_sent() {
    let empty = Table::new(2);
    let (mut a, mut b, mut now) = pair(&empty);
    a.push_born(0, upsert(1), upsert(1).version());
    a.push(0, remove(1));
    let (frames, applied) = pump((&mut a, &empty), (&mut b, &empty), &mut now);
    assert_eq!(
        (frames, applied.len(), a.counters().deltas_cancelled),
        (0, 0, 1)
    );

    a.push_born(0, upsert(2), upsert(2).version());
    pump((&mut a, &empty), (&mut b, &empty), &mut now);
    a.push(0, upsert(2));
    a.push(0, remove(2));
    let (_, applied) = pump((&mut a, &empty), (&mut b, &empty), &mut now);
    assert_eq!(applied, [remove(2)], "the peer knows this one");
}

#[test]
fn nothing_is_acknowledged_before_it_was_handed_out() {
    let empty = Table::new(2);
    let (mut a, mut b, now) = pair(&empty);
    a.push(0, upsert(1));
    a.push(0, upsert(2));
    for output in turn(&mut a, &empty, now) {
        if let Output::Send { body, .. } = output {
            b.handle(unit(1), &body, now).unwrap();
        }
    }
    assert!(!a.acknowledged_by_all());
    assert!(matches!(b.poll(&empty, now), Some(Output::Apply { .. })));
    assert!(matches!(b.poll(&empty, now), Some(Output::Apply { .. })));
    let Some(Output::Send { body, .. }) = b.poll(&empty, now) else {
        panic!("after the last change comes the acknowledgement");
    };
    a.handle(unit(2), &body, now).unwrap();
    assert!(a.acknowledged_by_all());
    assert_eq!(a.lag(unit(2)).segments, 0);
}

#[test]
fn a_copy_of_100_000_sessions_fills_its_frames() {
    let (mut a, mut b) = (sync(1, Limits::default()), sync(2, Limits::default()));
    let (full, empty) = (Numbered(100_000), Table::new(2));
    let mut now = Time(1_000_000_000);
    a.primary(Some(unit(1)), 1, now);
    a.peer_up(unit(2), Boot(2), 2);
    b.peer_up(unit(1), Boot(1), 2);
    b.primary(Some(unit(1)), 1, now);
    assert!(!b.synced());
    let begun = now;
    let (frames, applied) = pump((&mut a, &full), (&mut b, &empty), &mut now);
    assert!(b.synced() && a.acknowledged_by_all());
    assert_eq!(applied.len(), 100_000);
    // 33 bytes each in frames of 1,370 bytes of records, and some acknowledgements.
    assert!(frames < 2_700, "{frames} frames");
    assert!(
        now.since(begun) < Duration::from_secs(1),
        "took {:?}",
        now.since(begun)
    );
    assert_eq!(a.counters().segments_resent, 0);
}

#[test]
fn a_slow_peer_loses_the_window_and_is_repaired() {
    let limits = Limits {
        window: 4,
        waiting: 8,
        ..Limits::default()
    };
    let (mut a, mut b) = (sync(1, limits), sync(2, limits));
    let (full, empty) = (Numbered(1_000), Table::new(2));
    let mut now = Time(1_000_000_000);
    a.primary(Some(unit(1)), 1, now);
    a.peer_up(unit(2), Boot(2), 2);
    b.peer_up(unit(1), Boot(1), 2);
    b.primary(Some(unit(1)), 1, now);
    pump((&mut a, &full), (&mut b, &empty), &mut now);
    for number in 0..1_000 {
        a.push(0, upsert(number));
    }
    assert!(a.counters().segments_abandoned > 0);
    assert!(a.lag(unit(2)).dirty > 0 && !a.acknowledged_by_all());
    let (_, applied) = pump((&mut a, &full), (&mut b, &empty), &mut now);
    assert!(b.counters().gaps > 0);
    let mut tuples: Vec<Tuple> = applied.iter().map(|delta| *delta.tuple()).collect();
    tuples.sort();
    tuples.dedup();
    assert_eq!(tuples.len(), 1_000, "each is sent once more, or repaired");
    assert!(b.synced() && a.acknowledged_by_all());
}

#[test]
fn what_the_workers_lost_is_repaired_unasked() {
    let (mut a, mut b, mut now) = pair(&Table::new(2));
    let (full, empty) = (Numbered(1_000), Table::new(2));
    a.overflowed(RangeSet::ALL);
    assert!(!a.acknowledged_by_all());
    let (_, applied) = pump((&mut a, &full), (&mut b, &empty), &mut now);
    assert_eq!(applied.len(), 1_000);
    assert_eq!(
        b.counters().repairs_asked,
        1,
        "only the copy when it joined"
    );
    assert!(a.acknowledged_by_all());
}

#[test]
fn a_unit_with_an_empty_table_sweeps_nobody() {
    let (mut a, mut b, mut now) = pair(&Table::new(2));
    let (full, empty) = (Numbered(100), Table::new(2));
    // The subordinate lost its ring, not the primary.
    b.overflowed(RangeSet::ALL);
    pump((&mut a, &full), (&mut b, &empty), &mut now);
    assert_eq!(a.counters().repairs_received, 1);
    assert_eq!(a.counters().sessions_swept, 0);
}

#[test]
fn a_primary_that_hands_over_in_order_needs_no_copy() {
    let mut world = World::new(7, 2, Limits::default(), Faults::NONE);
    world.run_for(Duration::from_millis(800));
    let before = world.agreed().expect("one is primary");
    world.load = 0;
    world.run_for(Duration::from_millis(200));
    let asked = world.units[before].sync.counters().repairs_asked;
    world.hand_over();
    world.run_for(Duration::from_millis(100));
    let after = world.agreed().expect("the other is primary");
    assert_ne!(after, before);
    let old = &world.units[before].sync;
    assert!(old.synced() && old.counters().repairs_asked == asked);
    world.load = 8;
    world.run_for(Duration::from_millis(200));
    world.load = 0;
    world.run_for(Duration::from_millis(300));
    assert!(world.is_settled(), "{}", world.describe());
}

#[test]
fn a_unit_that_was_silent_for_a_moment_gets_what_it_missed() {
    let mut world = World::new(11, 2, Limits::default(), Faults::NONE);
    world.run_for(Duration::from_millis(600));
    assert_eq!(world.agreed(), Some(0));
    // Shorter than the detection time and longer: neither loses the window of 1,024 segments.
    for silence in [25, 55] {
        world.cut(0, 1, true);
        world.run_for(Duration::from_millis(silence));
        world.cut(0, 1, false);
        world.run_for(Duration::from_millis(20));
    }
    world.load = 0;
    world.run_for(Duration::from_millis(300));
    assert!(world.is_settled(), "{}", world.describe());
    for unit in &world.units {
        let counters = unit.sync.counters();
        assert_eq!((counters.segments_abandoned, counters.gaps), (0, 0));
    }
}

#[test]
fn without_synchronisation_a_unit_is_whole_and_silent() {
    let mut alone = Sync::new(SyncSettings {
        unit: unit(1),
        boot: Boot(1),
        shards: 1,
        session_sync: false,
        limits: Limits::default(),
    });
    alone.peer_up(unit(2), Boot(2), 1);
    alone.primary(Some(unit(2)), 1, Time(1));
    alone.push(0, upsert(1));
    assert!(alone.synced() && alone.acknowledged_by_all());
    assert_eq!(turn(&mut alone, &Table::new(1), Time(2)), []);
    assert_eq!(alone.next_deadline(), Time::NEVER);
}

#[test]
fn a_gap_is_reported() {
    let empty = Table::new(2);
    let (mut a, mut b, now) = pair(&empty);
    let limits = Limits::default();
    a.push(0, upsert(1));
    let lost = turn(&mut a, &empty, now);
    assert_eq!(lost.len(), 1);
    for number in 0..1_000_000 {
        a.push(0, upsert(number));
        if a.counters().segments_abandoned > 0 {
            break;
        }
    }
    assert!(
        a.positions()
            .all(|p| p.next - p.base <= limits.window as u64)
    );
    let mut events = Vec::new();
    for output in turn(&mut a, &empty, now) {
        if let Output::Send { body, .. } = output {
            b.handle(unit(1), &body, now).unwrap();
        }
    }
    for output in turn(&mut b, &empty, now) {
        if let Output::Event(event) = output {
            events.push(event);
        }
    }
    assert!(
        matches!(events[..], [Event::Gap { segments, .. }] if segments > 0),
        "{events:?}"
    );
    assert!(!b.synced());
}
