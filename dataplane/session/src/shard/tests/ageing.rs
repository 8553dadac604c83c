//! Timers: when sessions end, and when they are put off.

use super::*;

#[test]
fn sessions_expire_when_idle_for_the_time_of_their_state() {
    let timeouts = Timeouts::default();
    let cases = [
        (State::Unreplied, 30),
        (State::Replied, 300),
        (State::SynSent, 30),
        (State::SynReceived, 30),
        (State::Established, 7_440),
        (State::FinWait, 240),
        (State::TimeWait, 240),
        (State::Reset, 240),
    ];
    for (state, seconds) in cases {
        let mut shard = shard(2);
        let idle = in_state(1, state);
        shard.insert(idle, NOW).unwrap();
        let due = NOW.plus(seconds * Tick::PER_SECOND);
        let session = shard.session(SessionId(0));
        assert_eq!(timeouts.remaining(&session, due), 0);
        assert_eq!(age(&mut shard, Tick(due.0 - 1), Ageing::Normal), []);
        assert_eq!(
            age(&mut shard, due, Ageing::Normal),
            [idle.tuples[0]],
            "{state:?}"
        );
        assert_eq!((shard.len(), shard.statistics().expired), (0, 1));
    }
    assert_eq!(timeouts.of(State::Unreplied, 1), 300);
    assert_eq!(timeouts.of(State::Replied, 58), 600);
}

#[test]
fn packets_postpone_and_changes_of_state_shorten_the_time() {
    let mut shard = shard(2);
    let id = shard
        .insert(in_state(1, State::Established), NOW)
        .unwrap()
        .id;
    let hit = Hit::new(id, Direction::Original);
    shard.touch(hit, NOW.plus(70_000));
    assert_eq!(age(&mut shard, NOW.plus(144_399), Ageing::Normal), []);
    let side = TcpSide {
        end: 1,
        max_end: 100,
        max_window: 100,
        scale: 15,
        sack: false,
    };
    let known = Session {
        tcp: [side; 2],
        version: Version(99),
        ..shard.session(id)
    };
    assert_eq!(
        shard.apply(&known, 5_000, NOW.plus(144_399)),
        Applied::Updated
    );
    let reset = Segment {
        seq: 1,
        flags: RST,
        ..Segment::default()
    };
    assert_eq!(
        shard.track(hit, &reset, NOW.plus(144_400), TERM),
        Verdict::PassChanged
    );
    assert_eq!(age(&mut shard, NOW.plus(146_799), Ageing::Normal), []);
    assert_eq!(age(&mut shard, NOW.plus(146_800), Ageing::Normal).len(), 1);
}

#[test]
fn ageing_keeps_to_its_budget() {
    let mut shard = shard(100);
    for i in 0..100 {
        shard.insert(session(i), NOW).unwrap();
    }
    let mut expired = 0;
    for _ in 0..9 {
        let looked = shard.age(NOW.plus(1_000), 11, |_| Ageing::Normal, |_, _| expired += 1);
        assert_eq!(looked, 11);
    }
    assert_eq!(
        shard.age(NOW.plus(1_000), 11, |_| Ageing::Normal, |_, _| expired += 1),
        1
    );
    assert_eq!((expired, shard.len()), (100, 0));
}

#[test]
fn what_another_unit_is_responsible_for_is_put_off_and_later_given_one_more_life() {
    let mut shard = shard(1);
    shard.insert(session(0), NOW).unwrap();
    let due = NOW.plus(300);
    assert_eq!(age(&mut shard, due, Ageing::Defer), []);
    assert_eq!(age(&mut shard, due.plus(99), Ageing::Normal), []);
    assert_eq!(age(&mut shard, due.plus(100), Ageing::Adopt), []);
    assert_eq!(age(&mut shard, due.plus(399), Ageing::Adopt), []);
    assert_eq!(age(&mut shard, due.plus(400), Ageing::Adopt), [original(0)]);
    let statistics = shard.statistics();
    assert_eq!(
        (
            statistics.deferred,
            statistics.reprieved,
            statistics.expired
        ),
        (1, 1, 1)
    );
}
