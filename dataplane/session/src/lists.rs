//! Doubly linked circular lists over slot numbers, in an array of their own. Belongs to the writer.
//!
//! A slot is on one list of timers and on one other list at the most; its links of both kinds share a
//! cache line. Every list has a sentinel behind the slots' links, so linking and unlinking have no
//! special case. A slot that is on no list is linked to itself.

use crate::memory::{self, Array, Memory, OutOfMemory};

/// Which of a slot's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Those of the timing wheel.
    Timer = 0,
    /// Those of half-open sessions.
    HalfOpen = 1,
}

/// Links of some slots and the sentinels of some lists.
pub(crate) struct Lists {
    nodes: Array<Node>,
    slots: u32,
}

/// Links by [`Kind`].
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
struct Node([Link; 2]);

#[derive(Clone, Copy)]
#[cfg_attr(not(loom), derive(zerocopy::FromZeros))]
#[cfg_attr(loom, derive(Default))]
#[repr(C)]
struct Link {
    previous: u32,
    next: u32,
}

impl Lists {
    pub(crate) fn new(slots: u32, lists: u32, memory: Memory) -> Result<Self, OutOfMemory> {
        let mut nodes = Array::<Node>::new((slots + lists) as usize, memory)?;
        for (i, node) in (0..).zip(nodes.iter_mut()) {
            node.0 = [Link {
                previous: i,
                next: i,
            }; 2];
        }
        Ok(Self { nodes, slots })
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val::<[Node]>(&self.nodes)
    }

    /// Asks for the links of `slot`.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32) {
        memory::prefetch(&self.nodes[slot as usize]);
    }

    /// Asks for the links that taking `slot` off its list of timers changes.
    #[inline]
    pub(crate) fn prefetch_neighbours(&self, slot: u32) {
        let link = self.link(Kind::Timer, slot);
        self.prefetch(link.previous);
        self.prefetch(link.next);
    }

    /// The slot that was put on `list` first.
    #[inline]
    pub(crate) fn front(&self, kind: Kind, list: u32) -> Option<u32> {
        self.next(kind, self.slots + list)
    }

    /// The slot that was put on the list of `slot` after it.
    #[inline]
    pub(crate) fn next(&self, kind: Kind, slot: u32) -> Option<u32> {
        let next = self.link(kind, slot).next;
        (next < self.slots).then_some(next)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_linked(&self, kind: Kind, slot: u32) -> bool {
        self.link(kind, slot).next != slot
    }

    /// Takes `slot` off whatever list it is on.
    #[inline]
    pub(crate) fn unlink(&mut self, kind: Kind, slot: u32) {
        let Link { previous, next } = *self.link(kind, slot);
        self.link_mut(kind, previous).next = next;
        self.link_mut(kind, next).previous = previous;
        *self.link_mut(kind, slot) = Link {
            previous: slot,
            next: slot,
        };
    }

    /// Puts `slot`, which is on no list of this kind, at the end of `list`.
    #[inline]
    pub(crate) fn push(&mut self, kind: Kind, list: u32, slot: u32) {
        debug_assert_eq!(self.link(kind, slot).next, slot, "on another list");
        let head = self.slots + list;
        let previous = self.link(kind, head).previous;
        *self.link_mut(kind, slot) = Link {
            previous,
            next: head,
        };
        self.link_mut(kind, previous).next = slot;
        self.link_mut(kind, head).previous = slot;
    }

    #[inline]
    fn link(&self, kind: Kind, at: u32) -> &Link {
        &self.nodes[at as usize].0[kind as usize]
    }

    #[inline]
    fn link_mut(&mut self, kind: Kind, at: u32) -> &mut Link {
        &mut self.nodes[at as usize].0[kind as usize]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn drain(lists: &mut Lists, kind: Kind, list: u32) -> Vec<u32> {
        std::iter::from_fn(|| {
            let slot = lists.front(kind, list)?;
            lists.unlink(kind, slot);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn slots_leave_in_the_order_in_which_they_came() {
        let mut lists = Lists::new(5, 2, Memory::Plain).unwrap();
        for slot in [3, 1, 4, 0] {
            lists.push(Kind::Timer, 1, slot);
        }
        assert_eq!(lists.next(Kind::Timer, 3), Some(1));
        assert_eq!(lists.next(Kind::Timer, 0), None);
        for slot in [1, 4, 2] {
            lists.unlink(Kind::Timer, slot);
        }
        lists.push(Kind::Timer, 0, 4);
        assert!(lists.is_linked(Kind::Timer, 4));
        assert!(!lists.is_linked(Kind::Timer, 1) && !lists.is_linked(Kind::Timer, 2));
        assert_eq!(drain(&mut lists, Kind::Timer, 1), [3, 0]);
        assert_eq!(drain(&mut lists, Kind::Timer, 0), [4]);
    }

    #[test]
    fn kinds_know_nothing_of_each_other() {
        let mut lists = Lists::new(3, 1, Memory::Plain).unwrap();
        for slot in [2, 0, 1] {
            lists.push(Kind::Timer, 0, slot);
        }
        lists.push(Kind::HalfOpen, 0, 1);
        lists.push(Kind::HalfOpen, 0, 2);
        lists.unlink(Kind::Timer, 2);
        assert_eq!(drain(&mut lists, Kind::HalfOpen, 0), [1, 2]);
        assert_eq!(drain(&mut lists, Kind::Timer, 0), [0, 1]);
        assert_eq!(lists.front(Kind::Timer, 0), None);
    }
}
