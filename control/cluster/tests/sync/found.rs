//! What seeds of the cluster's simulator found in synchronisation, each driven by what did it: what a seed runs
//! changes with the simulator.

use std::net::Ipv4Addr;
use std::time::Duration;

use cluster::sync::frame::{Receipt, acknowledge};
use cluster::sync::{Limits, Output, Sync, SyncSettings};
use cluster::{Boot, Delta, Time, UnitId};
use packet::Tuple;
use session::{Session, State, Version};

use crate::table::Table;

fn unit(id: u8) -> UnitId {
    UnitId::new(id).unwrap()
}

/// A unit with its table.
struct Unit {
    id: UnitId,
    sync: Sync,
    table: Table,
}

impl Unit {
    fn new(id: u8) -> Self {
        Self::with(id, Limits::default())
    }

    fn with(id: u8, limits: Limits) -> Self {
        let mut sync = Sync::new(SyncSettings {
            unit: unit(id),
            boot: Boot(id.into()),
            shards: 1,
            session_sync: true,
            limits,
        });
        // What digests find later must be right before.
        sync.compare_tables(false);
        Self {
            id: unit(id),
            sync,
            table: Table::new(1),
        }
    }

    fn meets(&mut self, other: u8) {
        self.sync.peer_up(unit(other), Boot(other.into()), 1);
    }

    fn holds(&mut self, session: &Session) {
        let change = Delta::Upsert {
            session: *session,
            remaining: 300,
        };
        self.table.apply(&change);
        self.sync.push(0, change);
    }

    fn turn(&mut self, now: Time) -> Vec<Vec<u8>> {
        let outputs: Vec<Output> =
            std::iter::from_fn(|| self.sync.poll(&self.table, now)).collect();
        let frames = outputs.into_iter().filter_map(|output| match output {
            Output::Send { body, .. } => Some(body),
            Output::Apply { delta, .. } => {
                self.table.apply(&delta);
                None
            }
            _ => None,
        });
        frames.collect()
    }
}

/// Half a second in which two units hear each other.
fn exchange(a: &mut Unit, b: &mut Unit, now: &mut Time) {
    for _ in 0..500 {
        *now = *now + Duration::from_millis(1);
        for frame in a.turn(*now) {
            b.sync.handle(a.id, &frame, *now).unwrap();
        }
        for frame in b.turn(*now) {
            a.sync.handle(b.id, &frame, *now).unwrap();
        }
    }
}

/// A client's session in term 1, hidden behind a port.
fn session(client: u16, port: u16, count: u64) -> Session {
    let (server, hidden) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 1));
    Session {
        tuples: [
            Tuple::v4(Ipv4Addr::new(10, 0, 0, 1), client, server, 443, 17),
            Tuple::v4(server, 443, hidden, port, 17),
        ],
        version: Version(1 << 40 | count),
        state: State::Replied,
        owner: 1,
        ..Session::default()
    }
}

#[test]
fn what_a_stale_session_refused_is_asked_for_again() {
    // Seed 6999: a session with a port that a stale one had, in a later version, was not in the table of a unit
    // that counted as whole.
    let (mut a, mut b, mut now) = (Unit::new(1), Unit::new(2), Time(1_000_000_000));
    a.holds(&session(1, 100, 1));
    a.holds(&session(2, 200, 9));
    b.table.apply(&Delta::Upsert {
        session: session(3, 100, 5),
        remaining: 300,
    });
    follow(&mut a, &mut b, &mut now);
    assert_eq!(b.sync.counters().sessions_swept, 1);
    assert_eq!(b.table.contents(), a.table.contents());
}

/// Unit 2 meets unit 1, which is primary, and copies what it holds.
fn follow(a: &mut Unit, b: &mut Unit, now: &mut Time) {
    a.sync.primary(Some(a.id), 1, *now);
    a.meets(2);
    b.meets(1);
    b.sync.primary(Some(a.id), 1, *now);
    exchange(a, b, now);
    assert!(b.sync.synced());
}

/// Unit 1 is primary and holds nothing yet, of which unit 2 knows.
fn pair() -> (Unit, Unit, Time) {
    let (mut a, mut b, mut now) = (Unit::new(1), Unit::new(2), Time(1_000_000_000));
    follow(&mut a, &mut b, &mut now);
    (a, b, now)
}

fn open_five(a: &mut Unit) {
    (1..6).for_each(|n| a.holds(&session(n, n, n.into())));
}

#[test]
fn a_successor_is_told_what_its_living_predecessor_sent_last() {
    // Seed 13684: the predecessor did not reach the successor any more, but this unit did both.
    let (mut a, mut b, mut now) = pair();
    b.meets(3);
    open_five(&mut a);
    exchange(&mut a, &mut b, &mut now);
    b.sync.in_step(unit(3), true);
    b.sync.primary(Some(unit(3)), 2, now);
    b.turn(now);
    assert_eq!(b.sync.counters().deltas_relayed, 5);
}

#[test]
fn an_owner_that_started_anew_ends_nothing_that_it_never_heard_of() {
    // Seed 5537 of those with owners: it lost its sessions in a crash, and was primary alone, while the other
    // side of a split kept them.
    let (mut a, mut b, mut now) = (Unit::new(1), Unit::new(2), Time(1_000_000_000));
    for unit in [&mut a, &mut b] {
        unit.sync.many_writers(true);
        unit.sync
            .primary(Some(unit.id), u32::from(unit.id.get()), now);
    }
    let owned = |n: u16| Session {
        owner: 2,
        ..session(n, n, n.into())
    };
    (1..6).for_each(|n| a.holds(&owned(n)));
    for _ in 0..2_000 {
        now = now + Duration::from_millis(1);
        a.turn(now);
        b.turn(now);
    }
    assert!(b.sync.knows_its_own());
    a.meets(2);
    b.meets(1);
    a.sync.primary(Some(b.id), 2, now);
    exchange(&mut a, &mut b, &mut now);
    exchange(&mut a, &mut b, &mut now);
    assert_eq!(b.table.contents().len(), 5);
    assert_eq!(b.table.contents(), a.table.contents());
}

#[test]
fn a_successor_that_was_away_is_given_everything() {
    // Seed 21400: it was stopped, and counted as synced when it went on, but the primary was dead by then.
    let (mut a, mut b, mut now) = pair();
    open_five(&mut a);
    exchange(&mut a, &mut b, &mut now);
    b.meets(3);
    b.sync.peer_down(unit(1));
    b.sync.in_step(unit(3), true);
    b.sync.primary(Some(unit(3)), 2, now);
    assert_eq!(b.sync.lag(unit(3)).dirty, 256);
}

#[test]
fn what_a_dead_owner_told_while_another_was_away_is_made_up_for() {
    // Seed 32743: the owner would have told it when it came back. So it was promoted without, and what it did not
    // hold was removed everywhere.
    for away in [true, false] {
        let (mut a, mut b, mut now) = pair();
        let mut c = Unit::new(3);
        b.sync.many_writers(true);
        b.meets(3);
        c.meets(1);
        c.meets(2);
        if away {
            b.sync.peer_down(c.id);
        }
        open_five(&mut a);
        for _ in 0..500 {
            now = now + Duration::from_millis(1);
            for frame in a.turn(now) {
                b.sync.handle(a.id, &frame, now).unwrap();
                if !away {
                    c.sync.handle(a.id, &frame, now).unwrap();
                }
            }
            for frame in c.turn(now) {
                b.sync.handle(c.id, &frame, now).unwrap();
            }
            for frame in b.turn(now) {
                a.sync.handle(b.id, &frame, now).unwrap();
            }
        }
        assert_eq!(b.sync.lag(c.id).dirty, 0);
        b.sync.peer_down(a.id);
        assert_eq!(b.sync.lag(c.id).dirty, if away { 256 } else { 0 });
    }
}

#[test]
fn what_a_peer_has_behind_a_gap_is_not_due() {
    // Seed 87065: the window had moved on over what a peer lacked, to a segment that it had. That was due for
    // ever, and the control core turned without a pause until the peer knew of the gap.
    let mut a = Unit::with(
        1,
        Limits {
            window: 2,
            waiting: 1,
            ..Limits::default()
        },
    );
    let mut now = Time(1_000_000_000);
    a.meets(2);
    for client in 1..3 {
        a.holds(&session(client, client, 1));
        assert!(!a.turn(now).is_empty());
    }
    let second = Receipt {
        shard: 0,
        applied: 0,
        waiting: 1,
    };
    let receipts = acknowledge(Boot(2), a.id, Boot(1), &[second]);
    a.sync.handle(unit(2), &receipts, now).unwrap();
    for client in 3..5 {
        a.holds(&session(client, client, 1));
    }
    assert!(
        a.sync.lag(unit(2)).dirty > 0,
        "the first segment was let go"
    );
    for _ in 0..20 {
        a.turn(now);
        assert!(a.sync.next_deadline() > now, "due at {now:?}");
        now = a.sync.next_deadline();
    }
}

#[test]
fn an_owner_that_just_became_whole_removes_nothing_by_leaving_it_out() {
    // Seed 20513: a unit that had started anew was whole by the copy of a primary that did not know yet what a
    // third unit held, and had that sweep a session which its earlier start had owned.
    let mut units = [1, 2, 3].map(Unit::new);
    let mut now = Time(1_000_000_000);
    for unit in &mut units {
        unit.sync.many_writers(true);
        let id = unit.id.get();
        for other in [1, 2, 3].into_iter().filter(|other| *other != id) {
            unit.meets(other);
        }
        unit.sync.primary(UnitId::new(1), 2, now);
    }
    units[2].table.apply(&Delta::Upsert {
        session: Session {
            owner: 2,
            ..session(1, 100, 1)
        },
        remaining: 300,
    });
    let mut mingle = |units: &mut [Unit; 3], milliseconds: u64| {
        for _ in 0..milliseconds {
            now = now + Duration::from_millis(1);
            for from in 0..3 {
                let id = units[from].id;
                // What the third unit says is lost.
                for frame in units[from].turn(now).into_iter().filter(|_| from < 2) {
                    for unit in units.iter_mut().filter(|unit| unit.id != id) {
                        unit.sync.handle(id, &frame, now).unwrap();
                    }
                }
            }
        }
    };
    mingle(&mut units, 500);
    assert!(units[1].sync.synced());
    assert_eq!(units[2].table.contents().len(), 1);
    // Nobody told it of the session in the second after that.
    mingle(&mut units, 2_000);
    assert_eq!(units[2].table.contents().len(), 0);
}

#[test]
fn an_owner_ends_nothing_while_a_unit_that_it_has_nothing_of_tells_others() {
    // Seed 57984: an owner had started anew, and who kept its earlier start's sessions told a third unit of them
    // sooner than the owner, which had the third remove them.
    for joins in [true, false] {
        let (mut b, mut c, mut now) = (Unit::new(2), Unit::new(3), Time(1_000_000_000));
        b.sync.many_writers(true);
        c.sync.many_writers(true);
        b.sync.primary(Some(b.id), 2, now);
        b.meets(3);
        c.meets(2);
        c.sync.primary(Some(b.id), 2, now);
        (0..4).for_each(|_| exchange(&mut b, &mut c, &mut now));
        assert!(b.sync.knows_its_own() && c.sync.synced());
        if joins {
            b.meets(1);
        }
        c.holds(&Session {
            owner: 2,
            ..session(1, 100, 1)
        });
        exchange(&mut b, &mut c, &mut now);
        assert_eq!(b.table.contents().len(), usize::from(joins));
        assert_eq!(b.table.contents(), c.table.contents());
    }
}
