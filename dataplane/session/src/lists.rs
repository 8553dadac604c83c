//! Doubly linked circular lists over slot numbers, in an array of their own. Belongs to the writer.
//!
//! Every list has a sentinel after the items' links, so linking and unlinking have no special case.
//! An item is on one list at the most; one that is on none is linked to itself.

use crate::memory;

/// Links of `items` slots and the sentinels of some lists.
pub(crate) struct Lists {
    links: Vec<Link>,
    items: u32,
}

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
}

impl Lists {
    pub(crate) fn new(items: u32, lists: u32) -> Self {
        let links = (0..items + lists)
            .map(|i| Link {
                previous: i,
                next: i,
            })
            .collect();
        Self { links, items }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.links.as_slice())
    }

    /// Asks for the links of `item`.
    pub(crate) fn prefetch(&self, item: u32) {
        memory::prefetch(&self.links[item as usize]);
    }

    /// The item that was put on `list` first.
    pub(crate) fn front(&self, list: u32) -> Option<u32> {
        let first = self.links[(self.items + list) as usize].next;
        (first < self.items).then_some(first)
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_linked(&self, item: u32) -> bool {
        self.links[item as usize].next != item
    }

    /// Takes `item` off whatever list it is on.
    pub(crate) fn unlink(&mut self, item: u32) {
        let Link { previous, next } = self.links[item as usize];
        self.links[previous as usize].next = next;
        self.links[next as usize].previous = previous;
        self.links[item as usize] = Link {
            previous: item,
            next: item,
        };
    }

    /// Puts `item` at the end of `list`, off whatever list it was on.
    pub(crate) fn push(&mut self, list: u32, item: u32) {
        self.unlink(item);
        let head = self.items + list;
        let previous = self.links[head as usize].previous;
        self.links[item as usize] = Link {
            previous,
            next: head,
        };
        self.links[previous as usize].next = item;
        self.links[head as usize].previous = item;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn drain(lists: &mut Lists, list: u32) -> Vec<u32> {
        std::iter::from_fn(|| {
            let item = lists.front(list)?;
            lists.unlink(item);
            Some(item)
        })
        .collect()
    }

    #[test]
    fn items_leave_in_the_order_in_which_they_came() {
        let mut lists = Lists::new(5, 2);
        for item in [3, 1, 4, 0] {
            lists.push(1, item);
        }
        lists.unlink(1);
        lists.push(0, 4);
        assert!(lists.is_linked(4) && !lists.is_linked(1) && !lists.is_linked(2));
        assert_eq!(drain(&mut lists, 1), [3, 0]);
        assert_eq!(drain(&mut lists, 0), [4]);
    }

    #[test]
    fn pushing_again_moves_to_the_end() {
        let mut lists = Lists::new(3, 1);
        for item in [0, 1, 2, 0] {
            lists.push(0, item);
        }
        assert_eq!(drain(&mut lists, 0), [1, 2, 0]);
        assert_eq!(lists.front(0), None);
    }
}
