//! Values that the control core publishes and the workers read.
//!
//! A worker looks once per turn through an [`arc_swap::Cache`], which costs one atomic load while
//! nothing changed. The publisher keeps every value that it replaced, so that no destructor of one ever runs on
//! a worker; nor on the control core, which has those that no worker holds any more dropped elsewhere. That
//! takes long: DPDK overwrites the 32 MiB of a snapshot's routes.

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

    /// Replaces the value; readers see it from their next turn on. Drops nothing.
    pub fn publish(&mut self, value: T) {
        self.retired.push(self.current.swap(Arc::new(value)));
    }

    /// Keeps a value that is not to be published, like one that was replaced.
    pub fn decline(&mut self, value: T) {
        self.retired.push(Arc::new(value));
    }

    /// Gives away the replaced and declined values that no reader holds any more, to be dropped where there is
    /// time for it.
    pub fn take_spent(&mut self) -> impl Iterator<Item = Arc<T>> {
        self.retired
            .extract_if(.., |old| Arc::strong_count(old) == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_value_is_given_away_when_no_reader_holds_it() {
        fn spent(publisher: &mut Publisher<i32>) -> Vec<i32> {
            publisher.take_spent().map(|value| *value).collect()
        }
        let mut publisher = Publisher::new(1);
        let mut view: Subscription<i32> = Cache::new(publisher.subscribe());
        assert_eq!(**view.load(), 1);
        publisher.publish(2);
        publisher.publish(3);
        assert_eq!(spent(&mut publisher), [2], "1 is still read");
        assert_eq!(**view.load(), 3);
        publisher.publish(4);
        publisher.decline(5);
        assert_eq!(spent(&mut publisher), [1, 5], "3 is still read");
        assert_eq!(*publisher.current(), 4);
        drop(view);
        assert_eq!(spent(&mut publisher), [3]);
    }

    #[test]
    fn publishing_drops_nothing() {
        let value = Arc::new(());
        let alive = || Arc::strong_count(&value) - 1;
        let mut publisher = Publisher::new(Arc::clone(&value));
        publisher.publish(Arc::clone(&value));
        publisher.publish(Arc::clone(&value));
        assert_eq!(alive(), 3);
        publisher.take_spent().for_each(drop);
        assert_eq!(alive(), 1);
    }
}
