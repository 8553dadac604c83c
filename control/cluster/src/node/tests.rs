//! What a node does, with a peer whose heartbeats are written by the [`bench`].

mod bench;
mod found;
mod transitions;

use std::time::Duration;

use crate::envelope::{Header, Kind, Seal};
use crate::heartbeat::Heartbeat;
use crate::{
    Action, Boot, Cause, Command, ConfigPart, Health, Key, LinkId, Load, Refusal, Rejection, Role,
    Schedule, Settings, Time, UnitId, envelope,
};

pub(super) use bench::*;

#[test]
fn detection_is_exact_and_promotes_in_the_same_call() {
    let mut bench = Bench::in_role(S);
    let heard = bench.now;
    bench.idle(29);
    assert_eq!(bench.node.role(), S);
    assert_eq!(bench.node.next_deadline(), Time(heard.0 + 30 * MS));
    bench.now = bench.node.next_deadline();
    assert_eq!(
        bench
            .node
            .poll(&NoSessions, bench.now)
            .map(|_| bench.node.role()),
        Some(P)
    );
    assert!(matches!(bench.last_cause(), Cause::PrimaryDied { .. }));
}

#[test]
fn other_frames_than_heartbeats_prove_life_and_move_no_heartbeat() {
    let died_after = |told_at: &[u64]| {
        let mut bench = Bench::in_role(S);
        let heard = bench.now;
        for at in told_at {
            bench.idle(heard.0 / MS + at - bench.now.0 / MS);
            bench.tell_nothing();
        }
        while bench.node.role() == S {
            bench.idle(1);
        }
        (bench.now.0 - heard.0) / MS
    };
    assert_eq!(died_after(&[]), 30);
    // The next heartbeat was due at 10 ms, whatever came before.
    assert_eq!(died_after(&[1, 9]), 30);
    // This one makes up for it: the third that is missing after it is due at 40 ms.
    assert_eq!(died_after(&[12]), 40);
    assert_eq!(died_after(&[7, 15, 29]), 50);
}

#[test]
fn copies_of_a_heartbeat_on_slower_links_postpone_nothing() {
    let mut bench = Bench::in_role(S);
    bench.idle(10);
    let heard = bench.now;
    // The peer's third link is the quickest, and its frame overtakes those that left before it.
    let copies = [0, 1, 2].map(|link| {
        bench.frame(|beat| {
            beat.role = P;
            beat.link = LinkId(link);
        })
    });
    for copy in copies.iter().rev() {
        assert_eq!(bench.node.handle_frame(LinkId(0), copy, bench.now), None);
        bench.idle(1);
    }
    bench.idle(26);
    assert_eq!(
        (bench.node.role(), bench.now.since(heard)),
        (S, Duration::from_millis(29))
    );
    bench.idle(1);
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_unit_that_was_stopped_itself_declares_nobody_dead() {
    let mut bench = Bench::in_role(S);
    bench.now = Time(bench.now.0 + 5_000 * MS);
    bench.drain();
    assert_eq!(bench.node.role(), S);
    assert_eq!(bench.node.counters().pauses, 1);
    bench.idle(31);
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_primary_announces_as_often_as_configured_and_again_after_an_episode_of_two() {
    let announced = |bench: &Bench| {
        bench
            .actions
            .iter()
            .filter(|action| **action == Action::Announce)
            .count()
    };
    let mut bench = Bench::in_role(P);
    bench.pass(2_000, |_| {});
    assert_eq!(announced(&bench) + 1, 5, "one went out on promotion");
    bench.beat(|beat| beat.role = P);
    bench.pass(2_000, |_| {});
    assert_eq!(bench.node.role(), P);
    assert_eq!(announced(&bench) + 1, 10);
    assert_eq!(bench.node.counters().dual_primaries, 1);
}

#[test]
fn a_split_brain_is_told_with_its_length_by_who_stays_and_by_who_falls() {
    for (term, stays) in [(0, true), (1_000, false)] {
        let mut bench = Bench::in_role(P);
        bench.idle(3_000);
        bench.actions.clear();
        bench.beat(|beat| (beat.role, beat.term) = (P, term));
        assert_eq!(bench.node.role(), if stays { P } else { S });
        bench.pass(50, |beat| beat.role = if stays { S } else { P });
        let told: Vec<String> = bench
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Event(
                    event @ (crate::Event::DualPrimary { .. }
                    | crate::Event::DualPrimaryEnded { .. }),
                ) => Some(event.to_string()),
                _ => None,
            })
            .collect();
        let (lasted, end) = match stays {
            true => ("3000.0", "this unit stays"),
            false => ("3000.0", "this unit stepped down"),
        };
        assert_eq!(
            told,
            [
                "unit 2 is primary too".to_owned(),
                format!("two primaries, with unit 2, for up to {lasted} ms; {end}"),
            ]
        );
        let counters = bench.node.counters();
        assert_eq!(counters.dual_primaries, 1);
        assert_eq!(counters.dual_primary_ms, 3_000);
    }
}

#[test]
fn two_may_have_been_primary_since_the_later_said_last_that_it_was_not() {
    let mut bench = Bench::in_role(P);
    bench.pass(1_000, |_| {});
    bench.actions.clear();
    bench.idle(20);
    bench.beat(|beat| (beat.role, beat.term) = (P, 1_000));
    assert_eq!(bench.node.role(), S);
    let ended = |action: &Action| match action {
        Action::Event(crate::Event::DualPrimaryEnded { duration, .. }) => Some(*duration),
        _ => None,
    };
    let lasted = bench.actions.iter().find_map(ended).unwrap();
    assert!(lasted >= Duration::from_millis(20), "{lasted:?}");
}

#[test]
fn a_primary_announces_again_when_a_link_of_a_peer_comes_back() {
    let mut bench = Bench::in_role(P);
    bench.pass(2_000, |_| {});
    let announced = |bench: &Bench| bench.node.counters().announcements;
    let before = announced(&bench);
    bench.idle(100);
    assert_eq!(announced(&bench), before);
    bench.pass(2_000, |_| {});
    assert_eq!(announced(&bench), before + 5);
}

#[test]
fn a_link_that_heals_moves_nothing_and_one_that_flaps_does_not_count() {
    let mut bench = Bench::in_role(S);
    for _ in 0..3 {
        for up in [false, true] {
            bench.node.handle_link(LinkId(1), up, bench.now);
            bench.pass(300, |beat| beat.role = P);
        }
    }
    assert_eq!(bench.node.status(bench.now).health.healthy, 0);
    bench.pass(1_000, |beat| beat.role = P);
    assert_eq!(bench.node.status(bench.now).health.healthy, 1);
    assert_eq!(bench.node.role(), S);
}

#[test]
fn a_start_goes_above_the_last_term_of_the_one_before() {
    let mut bench = Bench::with(Settings {
        last_term: 15,
        ..settings()
    });
    assert_eq!(bench.sent().term, 15);
    bench.idle(150);
    assert_eq!((bench.node.role(), bench.node.term()), (P, 31));
}

#[test]
fn a_sitting_primary_goes_above_a_higher_term_that_a_subordinate_knows() {
    let mut bench = Bench::in_role(P);
    bench.pass(50, |beat| beat.term = 40);
    assert_eq!((bench.node.role(), bench.node.term()), (P, 47));
    assert_eq!(bench.promotions(), 1);
}

#[test]
fn who_loses_the_better_unit_waits_for_it_and_then_serves() {
    let mut bench = Bench::in_role(S);
    let better = |beat: &mut Heartbeat| beat.priority = 200;
    bench.beat(better);
    assert_eq!(bench.node.role(), C);
    bench.pass(50, better);
    assert_eq!(bench.node.role(), C);
    bench.pass(20, better);
    assert_eq!(bench.last_cause(), Cause::Overdue { expected: unit(2) });
}

#[test]
fn refusals_say_why() {
    let mut bench = Bench::in_role(S);
    let refused = bench.command(Command::Failover { to: None });
    assert_eq!(
        refused,
        Err(Refusal::NotPrimary {
            role: S,
            primary: unit(2)
        })
    );
    let mut bench = Bench::in_role(P);
    let to = |id| Command::Failover {
        to: UnitId::new(id),
    };
    assert_eq!(bench.command(to(1)), Err(Refusal::AlreadyPrimary(unit(1))));
    assert_eq!(bench.command(to(9)), Err(Refusal::NotHeard(unit(9))));
    bench.beat(|beat| beat.synced = false);
    assert_eq!(bench.command(to(2)), Err(Refusal::NotSynced(unit(2))));
    bench.beat(|beat| beat.health.healthy = 0);
    let less = Refusal::LessHealthy {
        unit: unit(2),
        health: 0,
        own: 1,
    };
    assert_eq!(bench.command(to(2)), Err(less));
    bench.beat(|beat| beat.eligible = false);
    assert_eq!(
        bench.command(to(2)),
        Err(Refusal::NotEligible {
            unit: unit(2),
            role: S
        })
    );
    assert_eq!(
        bench.command(Command::Maintenance(true)),
        Err(Refusal::NoSuccessor)
    );
}

#[test]
fn a_fresh_unit_among_strangers_takes_no_role_and_one_that_has_peers_does() {
    let strange = |bench: &mut Bench| {
        bench.sequence += 1;
        let header = Header {
            version: 1,
            kind: Kind::Heartbeat,
            cluster: 7,
            unit: unit(3),
            to: None,
            length: 0,
            boot: PEER_BOOT,
            sequence: bench.sequence,
        };
        let other = Key::new([9; 32]);
        let frame = Seal::new(&other, 7, unit(3), PEER_BOOT).close(header, b"");
        let refused = bench.node.handle_frame(LinkId(0), &frame, bench.now);
        assert_eq!(refused, Some(Rejection::Authentication));
        bench.drain();
        bench.idle(10);
    };
    let mut bench = Bench::fresh();
    (0..50).for_each(|_| strange(&mut bench));
    assert_eq!(bench.node.role(), C);
    bench.idle(110);
    assert_eq!(bench.node.role(), P);
    let mut bench = Bench::in_role(S);
    (0..50).for_each(|_| strange(&mut bench));
    assert_eq!(bench.node.role(), P);
}

#[test]
fn a_third_unit_names_two_with_one_id_and_follows_the_one_it_knows() {
    for rival in [Boot(PEER_BOOT.0 + 9), Boot(PEER_BOOT.0 - 9)] {
        let mut bench = Bench::in_role(S);
        let refused = bench.pass_with_rival(500, rival);
        assert_eq!(refused, [4, 46], "named once it cannot be a restart");
        assert_eq!((bench.node.role(), bench.promotions()), (S, 0));
        assert_eq!(bench.node.start_of(unit(2)), Some(PEER_BOOT));
        let restarts =
            |action: &&Action| matches!(action, Action::Event(crate::Event::PeerRestarted { .. }));
        assert_eq!(bench.actions.iter().filter(restarts).count(), 0);

        // The one it knows dies, and the other one is what it says.
        for _ in 0..20 {
            let frame = bench.frame_of(2, rival, |beat| beat.role = C);
            bench.node.handle_frame(LinkId(0), &frame, bench.now);
            bench.idle(10);
        }
        assert_eq!(bench.node.start_of(unit(2)), Some(rival));
        assert_eq!(bench.actions.iter().filter(restarts).count(), 1);
        assert_eq!(bench.node.role(), P);
    }
}

#[test]
fn a_unit_that_starts_anew_at_once_is_not_taken_for_two() {
    let mut bench = Bench::in_role(S);
    bench.pass(50, |beat| (beat.role, beat.term) = (P, 3));
    let fresh = Boot(PEER_BOOT.0 + 9);
    for _ in 0..10 {
        let frame = bench.frame_of(2, fresh, |beat| beat.role = C);
        bench.node.handle_frame(LinkId(0), &frame, bench.now);
        bench.idle(10);
    }
    let counters = bench.node.counters();
    assert_eq!(counters.rejected(Rejection::DuplicateUnit), 0);
    assert_eq!(bench.node.start_of(unit(2)), Some(fresh));
}

#[test]
fn a_difference_of_configuration_is_told_once_and_named_as_far_as_both_tell() {
    let part = |name: &str, digest| ConfigPart {
        name: name.into(),
        digest,
    };
    let mut bench = Bench::with(Settings {
        config_parts: vec![
            part("cluster.preempt", 1),
            part("policy", 2),
            part("route", 3),
        ],
        ..settings()
    });
    let mut told = |hash, digests: &[(&str, u32)]| {
        bench.actions.clear();
        bench.pass(50, |beat| {
            beat.config_hash = hash;
            let parts = digests.iter();
            beat.config_parts = parts.map(|(name, d)| (crate::name_key(name), *d)).collect();
        });
        let events = bench.actions.iter().filter_map(|action| match action {
            Action::Event(event @ crate::Event::ConfigurationDiffers { .. })
            | Action::Event(event @ crate::Event::ConfigurationAgrees { .. }) => Some(event),
            _ => None,
        });
        let lines: Vec<String> = events.map(ToString::to_string).collect();
        (
            lines,
            bench.node.status(bench.now).peers[0].differences.clone(),
        )
    };
    let same = [("cluster.preempt", 1), ("policy", 2), ("route", 3)];
    let other = [("cluster.preempt", 9), ("policy", 9), ("route", 3)];
    let line = |text: &str| vec![format!("unit 2 has {text}")];
    let policy = vec!["policy".to_owned()];
    assert_eq!(told(1, &same), (vec![], vec![]));
    assert_eq!(
        told(7, &other),
        (
            line("a different configuration: cluster.preempt, policy"),
            vec!["cluster.preempt".to_owned(), "policy".to_owned()]
        )
    );
    let other = [
        ("policy", 9),
        ("cluster.preempt", 1),
        ("route", 3),
        ("new", 5),
    ];
    assert_eq!(
        told(8, &other),
        (line("a different configuration: policy"), policy)
    );
    // An older release tells no parts.
    assert_eq!(told(8, &[]), (line("a different configuration"), vec![]));
    assert_eq!(
        told(1, &same),
        (line("the same configuration again"), vec![])
    );
}

#[test]
fn bad_frames_are_counted_by_reason_and_change_nothing() {
    let mut bench = Bench::in_role(S);
    let good = bench.frame(|beat| (beat.role, beat.term) = (P, 3));
    let altered = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let own = {
        let key = Key::new([1; 32]);
        let mut header = Header::decode(&good).unwrap();
        header.unit = unit(1);
        let frame = |header: Header| Seal::new(&key, 7, unit(1), header.boot).close(header, b"");
        (
            frame(Header {
                boot: settings().boot,
                ..header
            }),
            frame(header),
        )
    };
    let malformed = {
        let mut header = Header::decode(&good).unwrap();
        header.sequence += 1;
        Seal::new(&Key::new([1; 32]), 7, unit(2), PEER_BOOT).close(header, b"short")
    };
    let cases = [
        (Rejection::Truncated, good[..good.len() - 1].to_vec()),
        (Rejection::Version, altered(0, envelope::VERSION + 1)),
        (Rejection::Cluster, altered(3, 8)),
        (Rejection::Kind, altered(1, 9)),
        (Rejection::Unit, altered(4, 17)),
        (Rejection::Own, own.0),
        (Rejection::DuplicateUnit, own.1),
        (Rejection::Addressee, altered(5, 3)),
        (Rejection::Authentication, altered(24, good[24] ^ 1)),
        (Rejection::Malformed, malformed),
    ];
    for (reason, frame) in cases {
        bench.node.handle_frame(LinkId(0), &frame, bench.now);
        assert_eq!(bench.node.counters().rejected(reason), 1, "{reason}");
    }
    bench.node.handle_frame(LinkId(9), &good, bench.now);
    bench.node.handle_frame(LinkId(0), &good, bench.now);
    assert_eq!(bench.node.term(), 3);
    bench.node.handle_frame(LinkId(1), &good, bench.now);
    assert_eq!(bench.node.counters().rejected(Rejection::Link), 1);
    assert_eq!(bench.node.counters().rejected(Rejection::Replayed), 1);
    assert_eq!(bench.node.role(), S);
}

#[test]
fn a_table_that_is_too_small_is_told_once_and_is_not_whole() {
    let mut bench = Bench::in_role(Role::Subordinate);
    let load = Load {
        capacity: 1_000,
        ..Load::default()
    };
    bench.node.handle_load(load, bench.now);
    let beats = |bench: &mut Bench, sessions| {
        bench.pass(50, |beat| {
            beat.role = Role::Primary;
            beat.load.sessions = sessions;
        });
        bench.node.status(bench.now).synced
    };
    assert!(beats(&mut bench, 1_000));
    assert!(!beats(&mut bench, 1_001));
    assert!(!beats(&mut bench, 960), "it must not flap");
    assert!(beats(&mut bench, 950));
    let told: Vec<crate::Event> = bench
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Event(
                event @ (crate::Event::TableTooSmall { .. } | crate::Event::TableSuffices { .. }),
            ) => Some(event.clone()),
            _ => None,
        })
        .collect();
    let too_small = crate::Event::TableTooSmall {
        primary: unit(2),
        sessions: 1_001,
        capacity: 1_000,
    };
    assert_eq!(
        told,
        [too_small, crate::Event::TableSuffices { capacity: 1_000 }]
    );
}

#[test]
fn a_late_heartbeat_does_not_postpone_the_others() {
    let mut bench = Bench::in_role(P);
    let before = bench.node.counters().heartbeats_sent;
    let end = Time(bench.now.0 + 1_000 * MS);
    while bench.now < end {
        bench.now = bench.node.next_deadline() + Duration::from_millis(4);
        bench.drain();
    }
    // On two links, every 10 ms.
    let sent = bench.node.counters().heartbeats_sent - before;
    assert!((196..=204).contains(&sent), "{sent}");
}
