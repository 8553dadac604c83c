//! Which flow the later fragments of a datagram belong to.
//!
//! Only the first fragment has ports, so it is remembered for a short while. Fragments are not put
//! together: each is translated and sent on by itself (virtual reassembly, RFC 4787 section 11).
//! One that overtakes the first of its datagram is dropped. The table has a fixed size; a busy set
//! forgets its oldest datagram.

use packet::{Layout, Tuple};
use session::Tick;

use crate::hash::KeyedHash;

/// Datagrams remembered that share a hash.
const WAYS: usize = 4;
/// Sets of them.
const SETS: usize = 256;
/// How long the fragments of a datagram may be apart: ten seconds.
const LIFETIME: u32 = 10 * Tick::PER_SECOND;

/// A datagram whose first fragment was seen.
#[derive(Clone, Copy)]
struct Datagram {
    key: Key,
    tuple: Tuple,
    until: Tick,
}

/// What the fragments of one datagram have in common (RFC 791 section 2.3).
type Key = (Tuple, u32);

/// The datagrams of which a first fragment came lately.
pub(crate) struct Datagrams {
    sets: Box<[[Option<Datagram>; WAYS]]>,
    hash: KeyedHash,
}

impl Datagrams {
    pub(crate) fn new() -> Self {
        Self {
            sets: vec![[None; WAYS]; SETS].into(),
            hash: KeyedHash::new(),
        }
    }

    /// Remembers the flow of a first fragment.
    pub(crate) fn remember(&mut self, first: &Layout, now: Tick) {
        let key = key(first);
        let datagram = Datagram {
            key,
            tuple: first.tuple,
            until: now.plus(LIFETIME),
        };
        let set = self.set(&key);
        let ways = &mut self.sets[set];
        let same = ways
            .iter()
            .position(|way| way.is_some_and(|held| held.key == key));
        let oldest = (0..WAYS).min_by_key(|way| ways[*way].map(|held| held.until));
        if let Some(way) = same.or(oldest) {
            ways[way] = Some(datagram);
        }
    }

    /// The flow that a later fragment belongs to.
    pub(crate) fn recall(&self, later: &Layout, now: Tick) -> Option<Tuple> {
        let key = key(later);
        self.sets[self.set(&key)]
            .iter()
            .flatten()
            .find(|held| held.key == key && held.until > now)
            .map(|held| held.tuple)
    }

    fn set(&self, key: &Key) -> usize {
        (self.hash.tuple(&key.0, key.1.into()) >> 32) as usize % SETS
    }
}

fn key(layout: &Layout) -> Key {
    let tuple = Tuple {
        src_port: 0,
        dst_port: 0,
        ..layout.tuple
    };
    (tuple, layout.fragment_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::NOTHING;
    use std::net::Ipv4Addr;

    const NOW: Tick = Tick(1_000);

    /// The first fragment of datagram `id`, and a later one.
    fn datagram(id: u32, port: u16) -> (Layout, Layout) {
        let [source, destination] = [1, 2].map(|host| Ipv4Addr::new(192, 0, 2, host));
        let later = Layout {
            tuple: Tuple::v4(source, 0, destination, 0, 17),
            fragment_id: id,
            ..NOTHING
        };
        let first = Layout {
            tuple: Tuple::v4(source, port, destination, 53, 17),
            ..later
        };
        (first, later)
    }

    #[test]
    fn a_later_fragment_finds_the_flow_of_the_first() {
        let mut table = Datagrams::new();
        let (first, later) = datagram(7, 4_000);
        assert_eq!(table.recall(&later, NOW), None);
        table.remember(&first, NOW);
        assert_eq!(table.recall(&later, NOW.plus(99)), Some(first.tuple));
        assert_eq!(table.recall(&later, NOW.plus(100)), None);
        assert_eq!(table.recall(&datagram(8, 4_000).1, NOW), None);
    }

    #[test]
    fn an_identification_that_is_used_again_names_the_newer_flow() {
        let mut table = Datagrams::new();
        table.remember(&datagram(7, 4_000).0, NOW);
        table.remember(&datagram(7, 5_000).0, NOW);
        let found = table.recall(&datagram(7, 0).1, NOW).unwrap();
        assert_eq!(found.src_port, 5_000);
    }

    #[test]
    fn the_newest_datagrams_are_kept() {
        let mut table = Datagrams::new();
        for id in 0..10_000 {
            table.remember(&datagram(id, 4_000).0, NOW.plus(id));
        }
        let end = NOW.plus(10_000);
        assert!(table.recall(&datagram(9_999, 0).1, end).is_some());
        let kept = (9_950..10_000).filter(|id| table.recall(&datagram(*id, 0).1, end).is_some());
        assert!(kept.count() > 45);
    }
}
