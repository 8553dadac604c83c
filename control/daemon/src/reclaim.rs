//! Where values end that the control core has no more use for.
//!
//! To drop a snapshot takes 0.6 ms at best, since DPDK overwrites the 32 MiB of its routes; to hand it over takes
//! 0.02 ms. Heartbeats and promotions are not to wait, so a thread of its own does it, when nobody else has
//! anything to do.

use std::sync::Arc;

use anyhow::{Context, Result};
use crossbeam::channel::{Sender, unbounded};

use crate::workers;

/// Niceness of the thread: behind all others, or it would run before the one that gives it something.
const RECLAIM_NICENESS: i32 = 19;

/// The way to that thread. Owned by the control core; the thread ends with it.
pub(crate) struct Reclaimer(Sender<Box<dyn Send>>);

impl Reclaimer {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self> {
        let (sender, values) = unbounded::<Box<dyn Send>>();
        std::thread::Builder::new()
            .name("reclaim".to_owned())
            .spawn(move || {
                workers::prefer(RECLAIM_NICENESS);
                values.into_iter().for_each(drop);
            })
            .context("cannot start a thread")?;
        Ok(Self(sender))
    }

    /// Has values dropped elsewhere.
    pub(crate) fn take<T: Send + Sync + 'static>(&self, spent: impl Iterator<Item = Arc<T>>) {
        for value in spent {
            // The thread ends after its sender, never before.
            let _ = self.0.send(Box::new(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::ThreadId;

    /// Tells which thread drops it.
    struct Witness(mpsc::Sender<ThreadId>);

    impl Drop for Witness {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[test]
    fn what_was_replaced_is_dropped_by_another_thread() {
        let (tell, told) = mpsc::channel();
        let reclaimer = Reclaimer::start().unwrap();
        let mut publisher = forward::Publisher::new(Witness(tell.clone()));
        publisher.publish(Witness(tell.clone()));
        publisher.decline(Witness(tell));
        assert!(told.try_recv().is_err(), "nothing is dropped yet");
        reclaimer.take(publisher.take_spent());
        for _ in 0..2 {
            let thread = told.recv().unwrap();
            assert_ne!(thread, std::thread::current().id());
        }
        assert!(told.try_recv().is_err(), "the newest stays");
    }
}
