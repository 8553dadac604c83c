use super::*;

const LAN: InterfaceId = InterfaceId(0);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const SECOND: u32 = Tick::PER_SECOND;

fn resolver() -> Resolver<u32> {
    Resolver::new(ResolverSettings::default())
}

fn drain(resolver: &mut Resolver<u32>, now: Tick) -> Vec<Resolution<u32>> {
    std::iter::from_fn(|| resolver.poll(now)).collect()
}

fn request(to: Option<Mac>) -> Resolution<u32> {
    Resolution::Request {
        interface: LAN,
        address: HOST,
        to,
    }
}

fn release(mac: Mac, packet: u32) -> Resolution<u32> {
    Resolution::Release {
        interface: LAN,
        mac,
        packet,
    }
}

fn discard(packet: u32, reason: DiscardReason) -> Resolution<u32> {
    Resolution::Discard {
        interface: LAN,
        address: HOST,
        packet,
        reason,
    }
}

fn state(resolver: &Resolver<u32>) -> Option<NeighbourState> {
    let mut entries = resolver.iter(Tick(0));
    entries.next().map(|entry| entry.state)
}

/// What comes out of a resolver by itself, with the ticks.
fn watch(
    resolver: &mut Resolver<u32>,
    ticks: std::ops::RangeInclusive<u32>,
) -> Vec<(u32, Resolution<u32>)> {
    ticks
        .flat_map(|tick| {
            let out = drain(resolver, Tick(tick));
            out.into_iter().map(move |out| (tick, out))
        })
        .collect()
}

/// A resolver whose only entry is in `state` at tick zero.
fn in_state(state: NeighbourState) -> Resolver<u32> {
    let mut resolver = resolver();
    let start = Tick(0);
    match state {
        NeighbourState::Incomplete => resolver.wait(LAN, HOST, 0, start),
        NeighbourState::Stale => resolver.learn(LAN, HOST, MAC, Evidence::RequestToUs, start),
        NeighbourState::Reachable => {
            resolver.prefetch(LAN, HOST, start);
            resolver.learn(LAN, HOST, MAC, Evidence::Reply, start);
        }
        NeighbourState::Probe => {
            resolver.learn(LAN, HOST, MAC, Evidence::RequestToUs, start);
            drain(&mut resolver, Tick(5 * SECOND));
        }
    }
    drain(&mut resolver, start);
    resolver.take_changed();
    assert_eq!(super::tests::state(&resolver), Some(state));
    resolver
}

#[test]
fn packets_wait_for_the_answer_in_order() {
    let mut resolver = resolver();
    resolver.wait(LAN, HOST, 1, Tick(0));
    resolver.wait(LAN, HOST, 2, Tick(1));
    assert_eq!(drain(&mut resolver, Tick(1)), [request(None)]);
    assert!(resolver.take_changed().is_none());
    resolver.learn(LAN, HOST, MAC, Evidence::Reply, Tick(4));
    assert_eq!(
        drain(&mut resolver, Tick(4)),
        [release(MAC, 1), release(MAC, 2)]
    );
    let published = resolver.take_changed().unwrap();
    assert_eq!(published.look_up(LAN, HOST), Some(MAC));
    assert!(resolver.take_changed().is_none());
    resolver.wait(LAN, HOST, 3, Tick(5));
    assert_eq!(drain(&mut resolver, Tick(5)), [release(MAC, 3)]);
}

#[test]
fn silence_gives_up_after_a_hasty_beginning() {
    let mut resolver = resolver();
    resolver.wait(LAN, HOST, 1, Tick(0));
    assert_eq!(
        watch(&mut resolver, 0..=100),
        [
            (0, request(None)),
            (2, request(None)),
            (4, request(None)),
            (14, request(None)),
            (24, request(None)),
            (34, discard(1, DiscardReason::Unreachable)),
        ]
    );
    assert_eq!((state(&resolver), resolver.next_deadline()), (None, None));
}

#[test]
fn a_silent_neighbour_in_demand_is_asked_once_a_second_at_most() {
    let mut resolver = resolver();
    let mut requests = Vec::new();
    let mut unreachable = 0;
    for tick in 0..=600 {
        resolver.wait(LAN, HOST, tick, Tick(tick));
        for out in drain(&mut resolver, Tick(tick)) {
            match out {
                Resolution::Request { .. } => requests.push(tick),
                Resolution::Discard { reason, .. } => {
                    unreachable += u32::from(reason == DiscardReason::Unreachable);
                }
                Resolution::Release { .. } => panic!("nobody has answered"),
            }
        }
    }
    assert_eq!(requests[..8], [0, 2, 4, 14, 24, 44, 54, 64]);
    assert!(
        requests[2..]
            .windows(2)
            .all(|two| two[1] - two[0] >= SECOND)
    );
    assert!(requests.len() > 40 && unreachable > 200, "it is asked on");
    // Nobody wants it any more: the packets that wait are discarded, and it is forgotten.
    let after = watch(&mut resolver, 601..=700);
    let asked = after.iter().filter(|(_, out)| *out == request(None));
    assert!(asked.count() <= 3);
    assert_eq!((state(&resolver), resolver.next_deadline()), (None, None));
    resolver.wait(LAN, HOST, 1, Tick(700));
    resolver.learn(LAN, HOST, MAC, Evidence::Reply, Tick(701));
    assert_eq!(
        drain(&mut resolver, Tick(702)),
        [request(None), release(MAC, 1)]
    );
}

#[test]
fn a_silent_neighbour_that_speaks_is_used_at_once() {
    let mut resolver = resolver();
    resolver.wait(LAN, HOST, 1, Tick(0));
    watch(&mut resolver, 0..=34);
    resolver.wait(LAN, HOST, 2, Tick(35));
    resolver.learn(LAN, HOST, MAC, Evidence::RequestToUs, Tick(36));
    assert_eq!(drain(&mut resolver, Tick(36)), [release(MAC, 2)]);
    assert_eq!(state(&resolver), Some(NeighbourState::Stale));
    assert_eq!(
        watch(&mut resolver, 37..=86),
        [(86, request(Some(MAC)))],
        "probed like any other, and not in haste"
    );
}

/// What the time of each state brings when it is over, and when that is.
#[test]
fn every_state_and_the_end_of_its_time() {
    use NeighbourState::{Incomplete, Probe, Reachable, Stale};
    for (before, deadline, out, after) in [
        (Incomplete, 2, request(None), Some(Incomplete)),
        (Reachable, 300, request(Some(MAC)), Some(Probe)),
        (Stale, 50, request(Some(MAC)), Some(Probe)),
        (Probe, 60, request(Some(MAC)), Some(Probe)),
    ] {
        let mut resolver = in_state(before);
        assert_eq!(resolver.next_deadline(), Some(Tick(deadline)), "{before:?}");
        assert_eq!(drain(&mut resolver, Tick(deadline - 1)), [], "{before:?}");
        assert_eq!(drain(&mut resolver, Tick(deadline)), [out], "{before:?}");
        assert_eq!(state(&resolver), after, "{before:?}");
        assert!(resolver.take_changed().is_none(), "{before:?}");
        assert_eq!(resolver.timers.len(), 1, "{before:?}");
    }
}

#[test]
fn operators_see_how_old_an_entry_is_and_what_waits_for_it() {
    let mut resolver = resolver();
    let seen = |resolver: &Resolver<u32>, now| {
        let entry = resolver.iter(Tick(now)).next().unwrap();
        (entry.state, entry.age, entry.waiting)
    };
    resolver.wait(LAN, HOST, 1, Tick(3));
    resolver.wait(LAN, HOST, 2, Tick(4));
    watch(&mut resolver, 3..=9);
    assert_eq!(seen(&resolver, 9), (NeighbourState::Incomplete, 6, 2));
    resolver.learn(LAN, HOST, MAC, Evidence::Reply, Tick(10));
    assert_eq!(seen(&resolver, 10), (NeighbourState::Reachable, 0, 0));
    watch(&mut resolver, 10..=311);
    assert_eq!(seen(&resolver, 311), (NeighbourState::Probe, 301, 0));
    resolver.learn(LAN, HOST, MAC, Evidence::Overheard, Tick(312));
    assert_eq!(seen(&resolver, 312), (NeighbourState::Probe, 302, 0));
    resolver.learn(LAN, HOST, MAC, Evidence::Reply, Tick(313));
    assert_eq!(seen(&resolver, 315), (NeighbourState::Reachable, 2, 0));
}

#[test]
fn a_full_queue_loses_its_oldest_packet() {
    let mut resolver = resolver();
    for packet in 0..17 {
        resolver.wait(LAN, HOST, packet, Tick(0));
    }
    assert_eq!(
        drain(&mut resolver, Tick(0)),
        [request(None), discard(0, DiscardReason::QueueFull)]
    );
}

#[test]
fn a_full_table_asks_for_nobody_new() {
    let mut resolver = Resolver::new(ResolverSettings {
        capacity: 1,
        ..ResolverSettings::default()
    });
    resolver.prefetch(LAN, Ipv4Addr::new(192, 0, 2, 1), Tick(0));
    drain(&mut resolver, Tick(0));
    resolver.wait(LAN, HOST, 1, Tick(0));
    resolver.prefetch(LAN, HOST, Tick(0));
    resolver.learn(LAN, HOST, MAC, Evidence::RequestToUs, Tick(0));
    assert_eq!(
        drain(&mut resolver, Tick(0)),
        [discard(1, DiscardReason::TableFull)]
    );
    assert_eq!(resolver.iter(Tick(0)).count(), 1);
}

#[test]
fn every_state_and_kind_of_evidence() {
    use Evidence::{Overheard, Reply, RequestToUs, Told};
    use NeighbourState::{Incomplete, Probe, Reachable, Stale};
    for (before, mac, evidence, after, published) in [
        (Incomplete, MAC, Reply, Reachable, true),
        (Incomplete, MAC, Told, Reachable, true),
        (Incomplete, MAC, RequestToUs, Stale, true),
        (Incomplete, MAC, Overheard, Stale, true),
        (Reachable, MAC, Reply, Reachable, false),
        (Reachable, MAC, Told, Reachable, false),
        (Reachable, MAC, RequestToUs, Reachable, false),
        (Reachable, MAC, Overheard, Reachable, false),
        (Reachable, OTHER, Reply, Reachable, true),
        (Reachable, OTHER, Told, Reachable, true),
        (Reachable, OTHER, RequestToUs, Stale, true),
        (Reachable, OTHER, Overheard, Stale, true),
        (Stale, MAC, Reply, Reachable, false),
        (Stale, MAC, Told, Reachable, false),
        (Stale, MAC, RequestToUs, Stale, false),
        (Stale, MAC, Overheard, Stale, false),
        (Stale, OTHER, Reply, Reachable, true),
        (Stale, OTHER, Told, Reachable, true),
        (Stale, OTHER, RequestToUs, Stale, true),
        (Stale, OTHER, Overheard, Stale, true),
        (Probe, MAC, Reply, Reachable, false),
        (Probe, MAC, Told, Reachable, false),
        (Probe, MAC, RequestToUs, Probe, false),
        (Probe, MAC, Overheard, Probe, false),
        (Probe, OTHER, Reply, Reachable, true),
        (Probe, OTHER, Told, Reachable, true),
        (Probe, OTHER, RequestToUs, Stale, true),
        (Probe, OTHER, Overheard, Stale, true),
    ] {
        let case = format!("{before:?} {mac} {evidence:?}");
        let mut resolver = in_state(before);
        resolver.learn(LAN, HOST, mac, evidence, Tick(60));
        assert_eq!(state(&resolver), Some(after), "{case}");
        let table = resolver.take_changed();
        assert_eq!(table.is_some(), published, "{case}");
        if let Some(table) = table {
            assert_eq!(table.look_up(LAN, HOST), Some(mac), "{case}");
        }
        assert_eq!(resolver.timers.len(), 1, "{case}");
    }
}

#[test]
fn only_a_request_to_us_and_the_primary_teach_a_stranger() {
    for (evidence, learnt) in [
        (Evidence::Reply, None),
        (Evidence::Overheard, None),
        (Evidence::Told, Some(NeighbourState::Reachable)),
        (Evidence::RequestToUs, Some(NeighbourState::Stale)),
    ] {
        let mut resolver = resolver();
        resolver.learn(LAN, HOST, MAC, evidence, Tick(0));
        assert_eq!(state(&resolver), learnt, "{evidence:?}");
    }
}

#[test]
fn a_neighbour_is_asked_again_before_it_is_forgotten() {
    let mut resolver = in_state(NeighbourState::Reachable);
    assert_eq!(
        watch(&mut resolver, 0..=400),
        [
            (300, request(Some(MAC))),
            (310, request(Some(MAC))),
            (320, request(Some(MAC))),
        ]
    );
    let published = resolver.take_changed().unwrap();
    assert_eq!(published.look_up(LAN, HOST), None);
}

#[test]
fn what_the_primary_keeps_telling_is_never_asked_for() {
    let mut resolver = resolver();
    for second in 0..100 {
        resolver.learn(LAN, HOST, MAC, Evidence::Told, Tick(second * SECOND));
        assert_eq!(drain(&mut resolver, Tick(second * SECOND)), []);
    }
    assert_eq!(resolver.timers.len(), 1);
    assert_eq!(
        watch(&mut resolver, 100 * SECOND..=129 * SECOND),
        [(129 * SECOND, request(Some(MAC)))],
        "30 s after the last word"
    );
}

#[test]
fn an_answer_to_a_probe_keeps_it() {
    let mut resolver = in_state(NeighbourState::Probe);
    resolver.learn(LAN, HOST, MAC, Evidence::Reply, Tick(55));
    assert_eq!(resolver.next_deadline(), Some(Tick(55 + 30 * SECOND)));
    assert!(resolver.take_changed().is_none());
}

#[test]
fn a_flush_forgets_one_interface() {
    let mut resolver = in_state(NeighbourState::Reachable);
    resolver.learn(InterfaceId(1), HOST, MAC, Evidence::RequestToUs, Tick(0));
    resolver.flush(LAN);
    assert_eq!(resolver.iter(Tick(0)).count(), 1);
    let published = resolver.take_changed().unwrap();
    assert_eq!(published.look_up(LAN, HOST), None);
    assert_eq!(published.look_up(InterfaceId(1), HOST), Some(MAC));
}

#[test]
fn group_addresses_are_nobodys() {
    let mut resolver = resolver();
    for mac in [Mac::BROADCAST, Mac::ZERO, Mac([1, 0, 0, 0, 0, 1])] {
        resolver.learn(LAN, HOST, mac, Evidence::RequestToUs, Tick(0));
    }
    assert_eq!(state(&resolver), None);
}
