//! What peers say, against what the shard holds.

use super::*;

#[test]
fn a_provisional_session_gives_way_to_whatever_a_peer_says() {
    let mut shard = shard(4);
    // The reply is not known yet: the plain reverse stands for it.
    let told = Session {
        owner: 2,
        ..session(1)
    };
    let provisional = Session {
        tuples: [told.tuples[0], told.tuples[0].reversed()],
        version: Version::PROVISIONAL,
        last_seen: NOW,
        ..told
    };
    let id = shard.insert(provisional, NOW).unwrap().id;
    assert!(shard.is_provisional(id) && shard.session(id).is_provisional());
    assert!(
        !shard.retract(&provisional.tuples[1], Version(9)),
        "not the original tuple"
    );
    let Applied::Inserted(displaced) = shard.apply(&told, 100, NOW) else {
        panic!("a version that is told is newer");
    };
    assert_eq!(displaced.into_iter().collect::<Vec<_>>(), [provisional]);
    assert_eq!(shard.len(), 1);
    let hit = shard.lookup(&told.tuples[1]).unwrap();
    assert!(!shard.is_provisional(hit.id()));
    assert_eq!(shard.lookup(&provisional.tuples[1]), None);

    let gone = session(2);
    let provisional = Session {
        version: Version::PROVISIONAL,
        ..gone
    };
    shard.insert(provisional, NOW).unwrap();
    assert!(shard.retract(&gone.tuples[0], gone.version));
}

#[test]
fn an_adopted_session_has_a_new_owner_a_newer_version_and_must_relearn() {
    let mut shard = shard(2);
    let tcp = shard
        .insert(in_state(0, State::Established), NOW)
        .unwrap()
        .id;
    let udp = shard.insert(session(1), NOW).unwrap().id;
    for id in [tcp, udp] {
        let before = shard.session(id);
        shard.adopt(id, 5, 7, NOW.plus(50));
        let after = shard.session(id);
        assert_eq!((after.owner, after.last_seen), (5, NOW.plus(50)));
        assert!(after.version > before.version && after.version.term() == 7);
        let relearn = Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY;
        assert_eq!(after.flags.has(relearn), id == tcp);
    }
}

#[test]
fn a_peers_session_replaces_older_ones_with_its_tuples_and_yields_to_newer() {
    let mut shard = shard(4);
    for i in [1, 2] {
        shard
            .insert(
                Session {
                    version: Version(10),
                    ..session(i)
                },
                NOW,
            )
            .unwrap();
    }
    // One tuple of each.
    let mut remote = Session {
        version: Version(10),
        ..session(1)
    };
    remote.tuples[1] = session(2).tuples[1];
    assert_eq!(shard.apply(&remote, 100, NOW), Applied::Stale);
    remote.version = Version(11);
    let Applied::Inserted(displaced) = shard.apply(&remote, 100, NOW) else {
        panic!("it is newer than both")
    };
    let mut tuples: Vec<_> = displaced
        .into_iter()
        .map(|session| session.tuples[0])
        .collect();
    tuples.sort();
    assert_eq!(tuples, [original(1), original(2)]);
    assert_eq!((shard.len(), shard.statistics().displaced), (1, 2));
    assert_eq!(shard.apply(&remote, 100, NOW), Applied::Stale);
    assert_eq!(shard.next_version(0), Version(12));
    // It lives as long as the peer said.
    assert_eq!(age(&mut shard, NOW.plus(99), Ageing::Normal), []);
    assert_eq!(
        age(&mut shard, NOW.plus(100), Ageing::Normal),
        [original(1)]
    );
}

#[test]
fn units_agree_on_sessions_of_the_same_version() {
    let one = Session {
        version: Version(10),
        ..session(1)
    };
    let mut two = Session {
        version: Version(10),
        ..session(2)
    };
    two.tuples[1] = one.tuples[1];
    let survivor = |order: [Session; 2]| {
        let mut shard = shard(4);
        for session in order {
            shard.apply(&session, 100, NOW);
        }
        assert_eq!(shard.len(), 1);
        shard
            .session(shard.lookup(&one.tuples[1]).unwrap().id())
            .tuples
    };
    assert_eq!(survivor([one, two]), survivor([two, one]));
}

#[test]
fn a_peers_removal_counts_unless_ours_is_newer() {
    let mut shard = shard(2);
    let session = Session {
        version: Version(10),
        ..session(1)
    };
    shard.insert(session, NOW).unwrap();
    assert!(!shard.retract(&session.tuples[0], Version(9)));
    assert!(
        !shard.retract(&session.tuples[1], Version(10)),
        "not the original direction"
    );
    assert!(shard.retract(&session.tuples[0], Version(10)));
    assert!(!shard.retract(&session.tuples[0], Version(10)));
    assert_eq!((shard.len(), shard.statistics().retracted_stale), (0, 3));
}

#[test]
fn a_full_shard_makes_room_for_a_peers_session_by_eviction_alone() {
    let mut shard = shard(1);
    shard.insert(session(1), NOW).unwrap();
    let Applied::Inserted(displaced) = shard.apply(&in_state(2, State::Established), 9, NOW) else {
        panic!("a half-open session gives way")
    };
    assert_eq!(
        displaced.into_iter().next().unwrap().tuples,
        session(1).tuples
    );
    assert_eq!(
        shard.apply(&in_state(3, State::Established), 9, NOW),
        Applied::Full
    );
}
