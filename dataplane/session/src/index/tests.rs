//! The index alone, against a plain list of its keys.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Direction, SessionId};

/// Every bucket of every chain: the number of items in it.
fn chains(index: &Index) -> Vec<Vec<u32>> {
    (0..index.homes)
        .map(|home| {
            let mut bucket = index.bucket(home);
            let mut chain = vec![bucket.items()];
            while let Some(next) = index.overflow(bucket) {
                chain.push(next.items());
                bucket = next;
            }
            chain
        })
        .collect()
}

fn assert_compact(index: &Index, pool: &Pool, keys: usize) {
    let chains = chains(index);
    let mut overflow = 0;
    for chain in &chains {
        let (last, full) = chain.split_last().unwrap();
        assert!(full.iter().all(|&items| items == WIDTH), "{chain:?}");
        assert!(chain.len() == 1 || *last > 0, "{chain:?}");
        overflow += chain.len() - 1;
    }
    assert_eq!(
        chains
            .iter()
            .flatten()
            .map(|&items| items as usize)
            .sum::<usize>(),
        keys
    );
    let mut returned = 0;
    let mut next = pool.returned;
    while next != 0 {
        returned += 1;
        next = index.bucket(next - 1).next().load(Ordering::Relaxed);
    }
    assert_eq!((pool.fresh - index.homes) as usize, overflow + returned);
}

#[test]
fn the_worst_distribution_still_has_room() {
    const CAPACITY: u32 = 500;
    let (index, mut pool) = Index::new(CAPACITY, Memory::Plain).unwrap();
    let home = Home::new(3, 9);
    let hits: Vec<_> = (0..CAPACITY)
        .flat_map(|slot| {
            [Direction::Original, Direction::Reply].map(|d| Hit::new(SessionId(slot), d))
        })
        .collect();
    for _ in 0..3 {
        for &hit in &hits {
            index.insert(&mut pool, home, hit);
        }
        assert_compact(&index, &pool, hits.len());
        for &hit in &hits {
            assert_eq!(index.find(home, |candidate| candidate == hit), Some(hit));
        }
        for (gone, &hit) in hits.iter().enumerate() {
            index.remove(&mut pool, home, hit);
            if gone % 97 == 0 {
                assert_compact(&index, &pool, hits.len() - gone - 1);
            }
        }
    }
}

#[test]
fn at_full_load_few_keys_leave_their_home() {
    const CAPACITY: u32 = 100_000;
    let (index, mut pool) = Index::new(CAPACITY, Memory::Plain).unwrap();
    let mut state = 1_u64;
    for slot in 0..CAPACITY {
        for direction in [Direction::Original, Direction::Reply] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let hash = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            index.insert(
                &mut pool,
                index.home(hash ^ (hash >> 33)),
                Hit::new(SessionId(slot), direction),
            );
        }
    }
    let chains = chains(&index);
    let overflow: u32 = chains.iter().flat_map(|chain| &chain[1..]).sum();
    let third: u32 = chains.iter().filter_map(|chain| chain.get(2)).sum();
    let share = f64::from(overflow) / f64::from(2 * CAPACITY);
    assert!((0.05..0.08).contains(&share), "{share}");
    assert!(third < 200, "{third}");
}

proptest! {
    #[test]
    fn chains_agree_with_a_list(
        steps in prop::collection::vec((0_u32..4, 0_u16..3, 0_u32..100, any::<bool>()), 1..600),
    ) {
        let (index, mut pool) = Index::new(100, Memory::Plain).unwrap();
        let mut model: HashMap<u32, (u32, u16)> = HashMap::new();
        for (bucket, tag, slot, insert) in steps {
            let hit = Hit::new(SessionId(slot), Direction::Reply);
            if insert && !model.contains_key(&slot) {
                model.insert(slot, (bucket, tag));
                index.insert(&mut pool, Home::new(bucket, tag + 1), hit);
            } else if !insert && let Some((bucket, tag)) = model.remove(&slot) {
                index.remove(&mut pool, Home::new(bucket, tag + 1), hit);
            }
            assert_compact(&index, &pool, model.len());
        }
        for (&slot, &(bucket, tag)) in &model {
            let home = Home::new(bucket, tag + 1);
            let accept = |hit: Hit| hit.id().0 == slot;
            prop_assert!(index.find(home, accept).is_some());
            let shared = index.find_shared(home, |hit| accept(hit).then_some(hit.direction()));
            prop_assert_eq!(shared, Some(Direction::Reply));
        }
    }
}
