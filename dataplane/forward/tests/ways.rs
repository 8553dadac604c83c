//! Sessions remember their way out; whatever is published makes them ask again.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::net::Ipv4Addr;

use common::frames::{self, ACK, SYN, sound};
use common::*;
use forward::{Neighbour, Neighbours, Policy, PuntReason, Route, Snapshot, SnapshotSettings};
use packet::{Mac, Tuple};

const OTHER_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 253);
const OTHER_MAC: Mac = Mac([2, 0x5e, 0, 0, 0, 0xfd]);

fn tuple() -> Tuple {
    Tuple::v4(CLIENT, 4_000, FAR, 53, 17)
}

/// A gateway with a session of [`tuple`] that has sent two packets, the second the short way.
fn with_session(policies: Vec<Policy>) -> Gateway {
    let mut gateway = Gateway::with_policies(policies);
    for _ in 0..2 {
        let out = gateway.pass_through(LAN, &frames::udp(LAN, &tuple(), b"x"), WAN);
        assert_eq!(frames::macs(&out[0]), (ROUTER_MAC, virtual_mac(WAN)));
    }
    gateway
}

fn stations_now(gateway: &mut Gateway) -> Option<(Mac, Mac)> {
    let out = gateway.pass_through(LAN, &frames::udp(LAN, &tuple(), b"x"), WAN);
    out.first().map(|frame| frames::macs(frame))
}

/// The usual configuration with another way to everywhere; `None` for no way at all.
fn routed_by(gateway: Option<Ipv4Addr>) -> Snapshot {
    let plan = Plan::default();
    let default = gateway.map(|gateway| Route {
        to: forward::Prefix::ALL,
        interface: WAN,
        gateway: Some(gateway),
    });
    let settings = SnapshotSettings {
        unit: plan.unit,
        interfaces: plan.interfaces.clone(),
        routes: default.into_iter().collect(),
        policies: plan.policies.clone(),
        workers: 1,
        heartbeat_ethertype: forward::HEARTBEAT_ETHERTYPE,
        limits: plan.limits,
    };
    Snapshot::build(&dpdk().0, settings)
        .unwrap()
        .with_duty(forward::Duty::Primary, TERM)
}

fn neighbours_with(changed: &[Neighbour]) -> Neighbours {
    Neighbours::build(&[&usual_neighbours(), changed].concat())
}

#[test]
fn a_neighbour_gets_another_card() {
    let mut gateway = with_session(vec![masquerade()]);
    gateway.neighbours.publish(neighbours_with(&[Neighbour {
        interface: WAN,
        address: ROUTER,
        mac: OTHER_MAC,
    }]));
    assert_eq!(
        stations_now(&mut gateway),
        Some((OTHER_MAC, virtual_mac(WAN)))
    );
}

#[test]
fn a_neighbour_is_forgotten() {
    let mut gateway = with_session(vec![masquerade()]);
    gateway.neighbours.publish(Neighbours::none());
    assert_eq!(stations_now(&mut gateway), None);
    let punted = gateway.punted();
    let [.., last] = &punted[..] else {
        panic!("nothing was punted")
    };
    let missing = PuntReason::NeighbourMissing {
        interface: WAN,
        next_hop: ROUTER,
    };
    assert_eq!(last.reason, missing);
}

#[test]
fn the_way_leads_by_another_router() {
    let mut gateway = with_session(vec![masquerade()]);
    gateway.neighbours.publish(neighbours_with(&[Neighbour {
        interface: WAN,
        address: OTHER_ROUTER,
        mac: OTHER_MAC,
    }]));
    assert_eq!(
        stations_now(&mut gateway),
        Some((ROUTER_MAC, virtual_mac(WAN)))
    );
    gateway.snapshot.publish(routed_by(Some(OTHER_ROUTER)));
    assert_eq!(
        stations_now(&mut gateway),
        Some((OTHER_MAC, virtual_mac(WAN)))
    );
}

#[test]
fn there_is_no_way_any_more() {
    let mut gateway = with_session(vec![masquerade()]);
    let before = gateway.counts();
    gateway.snapshot.publish(routed_by(None));
    assert_eq!(stations_now(&mut gateway), None);
    gateway.assert_moved(
        &before,
        &[
            ("drop no_route", 1),
            ("icmp_errors", 1),
            ("lan rx", 1),
            ("lan tx", 1),
        ],
    );
}

#[test]
fn a_demoted_unit_forwards_nothing_and_a_promoted_one_everything() {
    let mut gateway = with_session(vec![masquerade()]);
    gateway.set_duty(forward::Duty::Idle, TERM);
    let before = gateway.counts();
    assert_eq!(stations_now(&mut gateway), None);
    gateway.assert_moved(&before, &[("drop not_primary", 1), ("lan rx", 1)]);
    gateway.set_duty(forward::Duty::Primary, TERM + 1);
    assert_eq!(
        stations_now(&mut gateway),
        Some((ROUTER_MAC, virtual_mac(WAN)))
    );
}

/// First packets, later ones, replies, and those that only the general way can take, of one session
/// leave alike.
#[test]
fn both_ways_translate_alike() {
    let mut gateway = Gateway::with_policies(vec![masquerade()]);
    let tuple = Tuple {
        protocol: 6,
        ..tuple()
    };
    let syn = frames::tcp(LAN, &tuple, SYN, 100, 0);
    let hidden = sound(&gateway.pass_through(LAN, &syn, WAN)[0]).tuple;
    let reply = frames::tcp(WAN, &hidden.reversed(), SYN | ACK, 500, 101);
    let back = gateway.pass_through(WAN, &reply, LAN);
    assert_eq!(sound(&back[0]).tuple, tuple.reversed());
    for seq in 101..110 {
        let out = gateway.pass_through(LAN, &frames::tcp(LAN, &tuple, ACK, seq, 501), WAN);
        assert_eq!(sound(&out[0]).tuple, hidden);
        assert_eq!(frames::macs(&out[0]), (ROUTER_MAC, virtual_mac(WAN)));
        let back = frames::tcp(WAN, &hidden.reversed(), ACK, 501, seq);
        let back = gateway.pass_through(WAN, &back, LAN);
        assert_eq!(sound(&back[0]).tuple, tuple.reversed());
        assert_eq!(frames::macs(&back[0]), (CLIENT_MAC, virtual_mac(LAN)));
    }
}
