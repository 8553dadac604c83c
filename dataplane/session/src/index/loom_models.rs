//! The writer against a reader, over what loom explores.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p session --release loom`. Keys stand for themselves here:
//! the entry that confirms a key is one atomic word.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::model::{Direction, SessionId};

const HOME: Home = Home::new(0, 5);

struct Table {
    index: Index,
    /// By slot: the key that lives there, zero when vacant.
    keys: [AtomicU32; 12],
}

impl Table {
    fn new(keys: &[u32]) -> (Arc<Self>, Pool) {
        let (index, mut pool) = Index::new(12, Memory::Plain).unwrap();
        let table = Self {
            index,
            keys: std::array::from_fn(|_| AtomicU32::new(0)),
        };
        for (slot, &key) in (0..).zip(keys) {
            table.insert(&mut pool, slot, key);
        }
        (Arc::new(table), pool)
    }

    fn insert(&self, pool: &mut Pool, slot: u32, key: u32) {
        self.keys[slot as usize].store(key, Ordering::Relaxed);
        self.index
            .insert(pool, HOME, Hit::new(SessionId(slot), Direction::Original));
    }

    fn remove(&self, pool: &mut Pool, slot: u32) {
        self.index
            .remove(pool, HOME, Hit::new(SessionId(slot), Direction::Original));
        self.keys[slot as usize].store(0, Ordering::Relaxed);
    }

    fn find(&self, key: u32) -> Option<u32> {
        self.index.find_shared(HOME, |hit| {
            let slot = hit.id().0;
            (self.keys[slot as usize].load(Ordering::Relaxed) == key).then_some(slot)
        })
    }
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// The removal of the first key moves the last one into its place.
#[test]
fn loom_a_key_that_moves_is_found() {
    explore(|| {
        let (table, mut pool) = Table::new(&[1, 2, 3]);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.find(3))
        };
        table.remove(&mut pool, 0);
        assert_eq!(reader.join().unwrap(), Some(2));
        assert_eq!(table.find(1), None);
    });
}

/// The same from an overflow bucket, which is then given back and used again.
#[test]
fn loom_a_key_that_leaves_an_overflow_bucket_is_found() {
    explore(|| {
        let (table, mut pool) = Table::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.find(9))
        };
        table.remove(&mut pool, 0);
        assert_eq!(reader.join().unwrap(), Some(8));
    });
}

/// A key that comes is found as itself or not yet; one that goes as itself or no more.
#[test]
fn loom_a_slot_that_is_used_again_is_never_mistaken() {
    explore(|| {
        let (table, mut pool) = Table::new(&[1, 2]);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || (table.find(1), table.find(4), table.find(2)))
        };
        table.remove(&mut pool, 0);
        table.insert(&mut pool, 0, 4);
        let (gone, come, stays) = reader.join().unwrap();
        assert!(gone.is_none_or(|slot| slot == 0));
        assert!(come.is_none_or(|slot| slot == 0));
        assert_eq!(stays, Some(1));
        assert_eq!((table.find(1), table.find(4)), (None, Some(0)));
    });
}
