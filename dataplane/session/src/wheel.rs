//! The timing wheel: one list of slots per tick, 8,192 ticks around.
//!
//! A packet writes only the entry's last-seen tick. When a session's tick comes round the shard
//! works out its real deadline and puts it back if that lies ahead. A deadline beyond the wheel's
//! horizon (13 minutes) waits at the horizon and is put back from there; so one level is enough.

use crate::lists::Lists;
use crate::model::Tick;

/// Ticks around the wheel; a power of two.
const TICKS: u32 = 8_192;

/// When to look at which slot.
pub(crate) struct Wheel {
    lists: Lists,
    /// The next tick to be looked at: every linked slot is due within `TICKS` from here.
    cursor: Tick,
}

impl Wheel {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            lists: Lists::new(capacity, TICKS),
            cursor: Tick(0),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lists.bytes()
    }

    /// Starts at `now`. Only while nothing is scheduled: then no tick in between is of interest.
    pub(crate) fn restart(&mut self, now: Tick) {
        self.cursor = now;
    }

    /// Asks for what scheduling `slot` touches.
    pub(crate) fn prefetch(&self, slot: u32) {
        self.lists.prefetch(slot);
    }

    /// Looks at `slot` at the tick `due`, or before if that is beyond the horizon.
    pub(crate) fn schedule(&mut self, slot: u32, due: Tick) {
        let ahead = due.since(self.cursor).min(TICKS - 1);
        self.lists
            .push(self.cursor.0.wrapping_add(ahead) % TICKS, slot);
    }

    pub(crate) fn cancel(&mut self, slot: u32) {
        self.lists.unlink(slot);
    }

    /// A slot whose tick is not after `now`. It stays due until it is scheduled or cancelled.
    pub(crate) fn due(&mut self, now: Tick) -> Option<u32> {
        while self.cursor <= now {
            if let Some(slot) = self.lists.front(self.cursor.0 % TICKS) {
                return Some(slot);
            }
            self.cursor = self.cursor.plus(1);
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn due_at(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        std::iter::from_fn(|| {
            let slot = wheel.due(Tick(now))?;
            wheel.cancel(slot);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn slots_come_at_their_tick() {
        let mut wheel = Wheel::new(4);
        wheel.restart(Tick(1_000));
        wheel.schedule(0, Tick(1_005));
        wheel.schedule(1, Tick(1_003));
        wheel.schedule(2, Tick(900));
        wheel.schedule(3, Tick(1_005));
        wheel.cancel(3);
        assert_eq!(due_at(&mut wheel, 1_000), [2]);
        assert_eq!(due_at(&mut wheel, 1_002), []);
        assert_eq!(due_at(&mut wheel, 1_010), [1, 0]);
    }

    #[test]
    fn a_far_deadline_is_looked_at_once_a_turn() {
        let mut wheel = Wheel::new(1);
        wheel.restart(Tick(10));
        wheel.schedule(0, Tick(100_000));
        assert_eq!(wheel.due(Tick(10 + TICKS - 2)), None);
        assert_eq!(wheel.due(Tick(10 + TICKS - 1)), Some(0));
    }

    #[test]
    fn a_long_pause_misses_nothing() {
        let mut wheel = Wheel::new(2);
        wheel.schedule(0, Tick(5));
        wheel.schedule(1, Tick(8_000));
        assert_eq!(due_at(&mut wheel, 1_000_000), [0, 1]);
    }
}
