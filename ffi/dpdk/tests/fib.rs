//! The forwarding table against a plain longest-prefix match.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::Ipv4Addr;

use common::eal;
use dpdk::{Error, Fib, NextHop};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

type Route = (Ipv4Addr, u8, u32);

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

/// What the table should answer: the longest prefix, and of equal ones the last.
fn model(routes: &[Route], address: u32) -> u32 {
    routes
        .iter()
        .filter(|(prefix, length, _)| (prefix.to_bits() ^ address) & mask(*length) == 0)
        .max_by_key(|(_, length, _)| *length)
        .map_or(NextHop::NONE, |(_, _, next_hop)| *next_hop)
}

fn look_up(fib: &Fib, address: &str) -> u32 {
    let mut answer = [0];
    fib.lookup_burst(
        &[address.parse::<Ipv4Addr>().unwrap().to_bits()],
        &mut answer,
    );
    answer[0]
}

fn route(prefix: &str, length: u8, next_hop: u32) -> Route {
    (prefix.parse().unwrap(), length, next_hop)
}

#[test]
fn a_default_route_takes_what_no_other_does() {
    let table = [
        route("0.0.0.0", 0, 0),
        route("192.0.2.0", 24, 1),
        route("192.0.2.7", 32, 2),
    ];
    let fib = Fib::build(eal(), "default", &table).unwrap();
    for (address, next_hop) in [
        ("0.0.0.0", 0),
        ("8.8.8.8", 0),
        ("255.255.255.255", 0),
        ("192.0.1.255", 0),
        ("192.0.2.0", 1),
        ("192.0.2.255", 1),
        ("192.0.2.7", 2),
        ("192.0.2.8", 1),
    ] {
        assert_eq!(look_up(&fib, address), next_hop, "{address}");
    }
}

#[test]
fn an_empty_table_leads_nowhere() {
    let fib = Fib::build(eal(), "empty", &[]).unwrap();
    assert_eq!(look_up(&fib, "192.0.2.1"), NextHop::NONE);
    fib.lookup_burst(&[], &mut []);
}

#[test]
fn next_hops_up_to_the_largest() {
    for largest in [0x7ffe, 0x7fff, 0x7fff_fffe] {
        let fib = Fib::build(eal(), "largest", &[route("10.0.0.0", 8, largest)]).unwrap();
        assert_eq!(look_up(&fib, "10.1.2.3"), largest);
        assert_eq!(look_up(&fib, "11.1.2.3"), NextHop::NONE);
    }
}

#[test]
fn wrong_routes_are_refused() {
    for (wrong, cause) in [
        (route("10.0.0.0", 33, 0), "route 10.0.0.0/33"),
        (route("10.0.0.0", 8, 0x7fff_ffff), "next hop 2147483647"),
    ] {
        let error = Fib::build(eal(), "wrong", &[wrong]).unwrap_err();
        assert!(matches!(error, Error::Create { .. }));
        assert!(error.to_string().contains(cause), "{error}");
    }
}

/// Prefixes crowd into a few networks, so that they nest and meet.
fn routes() -> impl Strategy<Value = Vec<Route>> {
    let address = (0..3_u32, 0..4_u32, any::<u16>()).prop_map(|(net, subnet, host)| {
        0x0a00_0000 + (net << 20) + (subnet << 14) + u32::from(host)
    });
    let length = prop_oneof![0..=32_u8, 24..=32_u8];
    let route = (address, length, 0..40_000_u32);
    let route =
        route.prop_map(|(address, length, hop)| (Ipv4Addr::from_bits(address), length, hop));
    prop::collection::vec(route, 0..120)
}

#[test]
fn every_look_up_agrees_with_the_model() {
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, seed);
    let result = runner.run(
        &(routes(), prop::collection::vec(any::<u32>(), 200)),
        |(routes, far)| {
            let near = routes.iter().flat_map(|(prefix, length, _)| {
                let first = prefix.to_bits() & mask(*length);
                let last = first | !mask(*length);
                [
                    first.wrapping_sub(1),
                    first,
                    prefix.to_bits(),
                    last,
                    last.wrapping_add(1),
                ]
            });
            let addresses: Vec<u32> = near.chain(far).collect();
            let fib = Fib::build(eal(), "property", &routes).unwrap();
            let mut answers = vec![0; addresses.len()];
            fib.lookup_burst(&addresses, &mut answers);
            for (address, answer) in addresses.iter().zip(answers) {
                prop_assert_eq!(
                    answer,
                    model(&routes, *address),
                    "{}",
                    Ipv4Addr::from_bits(*address)
                );
            }
            Ok(())
        },
    );
    if let Err(error) = result {
        panic!("{error}");
    }
}
