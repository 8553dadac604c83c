//! Values that the control core publishes and the workers read.
//!
//! A worker looks once per turn through an [`arc_swap::Cache`], which costs one atomic load while
//! nothing changed. The publisher keeps every value that it replaced until no worker holds it any
//! more, so that no destructor of one ever runs on a worker.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

/// Where readers find the newest value. Cloned for every worker.
pub type Published<T> = Arc<ArcSwap<T>>;

/// A worker's side of a published value.
pub(crate) type Subscription<T> = Cache<Published<T>, Arc<T>>;

/// The writer's side: owned by the control core.
#[derive(Debug)]
pub struct Publisher<T> {
    current: Published<T>,
    retired: Vec<Arc<T>>,
}

impl<T> Publisher<T> {
    /// Starts with a first value.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(first)),
            retired: Vec::new(),
        }
    }

    /// What a reader needs.
    #[must_use]
    pub fn subscribe(&self) -> Published<T> {
        Arc::clone(&self.current)
    }

    /// The newest value.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Replaces the value; readers see it from their next turn on. Drops, here, those retired values
    /// that no reader holds any more.
    pub fn publish(&mut self, value: T) {
        self.retired.push(self.current.swap(Arc::new(value)));
        self.retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// How many replaced values are still held for a reader.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_value_lives_as_long_as_a_reader_holds_it() {
        let mut publisher = Publisher::new(1);
        let mut view: Subscription<i32> = Cache::new(publisher.subscribe());
        assert_eq!(**view.load(), 1);
        publisher.publish(2);
        publisher.publish(3);
        assert_eq!(publisher.retired(), 1, "2 was never read, 1 still is");
        assert_eq!(**view.load(), 3);
        publisher.publish(4);
        assert_eq!(publisher.retired(), 1, "1 is gone, 3 is held");
        assert_eq!(*publisher.current(), 4);
    }
}
