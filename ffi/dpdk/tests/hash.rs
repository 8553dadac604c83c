//! The hash table against the standard library's, and memory for it to be measured with.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::HashMap;

use common::eal;
use dpdk::{Error, Hash, HashKey, Line, Lines, heap_allocated};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const ABSENT: usize = usize::MAX;

fn key(number: u16) -> HashKey {
    HashKey((u128::from(number) * 0x9e37_79b9_7f4a_7c15).to_le_bytes())
}

/// What `hash` answers about `numbers`, one by one and all at once.
fn answers(hash: &Hash, numbers: &[u16]) -> Vec<Option<usize>> {
    let keys: Vec<HashKey> = numbers.iter().copied().map(key).collect();
    let mut data = vec![ABSENT; keys.len()];
    let hits = hash.lookup_burst(&keys, &mut data);
    let burst: Vec<Option<usize>> = (0..keys.len())
        .map(|i| (hits >> i & 1 == 1).then_some(data[i]))
        .collect();
    let single: Vec<Option<usize>> = keys.iter().map(|key| hash.lookup(key)).collect();
    assert_eq!(burst, single);
    for (answer, data) in burst.iter().zip(data) {
        assert_eq!(answer.is_none(), data == ABSENT);
    }
    burst
}

#[test]
fn it_agrees_with_a_plain_map() {
    let config = Config {
        cases: 64,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let step = (0_u16..200, proptest::option::of(0_usize..1_000));
    let steps = proptest::collection::vec(step, 1..400);
    TestRunner::new_with_rng(config, rng)
        .run(&steps, |steps| {
            let mut hash = Hash::new(eal(), 256).unwrap();
            let mut map = HashMap::new();
            for (number, data) in steps {
                match data {
                    Some(data) => {
                        hash.insert(&key(number), data).unwrap();
                        map.insert(number, data);
                    }
                    None => {
                        prop_assert_eq!(hash.remove(&key(number)), map.remove(&number).is_some());
                    }
                }
            }
            let numbers: Vec<u16> = (0..220).collect();
            for numbers in numbers.chunks(64) {
                let expected: Vec<_> = numbers.iter().map(|n| map.get(n).copied()).collect();
                prop_assert_eq!(answers(&hash, numbers), expected);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn slots_of_removed_keys_are_used_again() {
    let mut hash = Hash::new(eal(), 64).unwrap();
    for round in 0..100_u16 {
        for number in 0..40 {
            hash.insert(&key(40 * round + number), 1).unwrap();
        }
        for number in 0..40 {
            assert!(hash.remove(&key(40 * round + number)));
        }
    }
}

#[test]
fn a_full_table_says_so() {
    let mut hash = Hash::new(eal(), 64).unwrap();
    assert!((0..=64).any(|number| hash.insert(&key(number), 1).is_err()));
    assert!(matches!(Hash::new(eal(), 1), Err(Error::Create { .. })));
}

#[test]
fn lines_are_zero_aligned_and_counted() {
    let before = heap_allocated(eal());
    let mut lines = Lines::new(eal(), 100_000).unwrap();
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().all(|line| *line == Line::default()));
    assert_eq!(lines.as_ptr().addr() % 64, 0);
    lines[99_999] = Line([7; 8]);
    lines.prefetch(99_999);
    assert_eq!(lines[99_999].0[0], 7);
    // The other tests of this file take and give memory at the same time, but far less.
    let taken = heap_allocated(eal()).saturating_sub(before);
    assert!((6_000_000..7_000_000).contains(&taken), "{taken}");
    drop(lines);
    assert!(Lines::new(eal(), 0).is_err());
    assert!(Lines::new(eal(), usize::MAX / 64).is_err());
}
