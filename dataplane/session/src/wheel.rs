//! The timing wheel: a few lists of slots per tick, 8,192 ticks around.
//!
//! A packet writes only its direction's last-seen tick. When a session's tick comes round the shard
//! works out its real deadline and puts it back if that lies ahead. A deadline beyond the wheel's
//! horizon (13 minutes) waits at the horizon and is put back from there; so one level is enough.
//!
//! What follows in a list is only known when its predecessor's links have come from memory. So each
//! tick has several lists, whose fronts are taken together.

use crate::lists::{Kind, Lists};
use crate::model::Tick;

/// Ticks around the wheel; a power of two.
const TICKS: u32 = 8_192;
/// Lists of each tick.
const LANES: u32 = 4;

/// When to look at which slot. The links are in [`Lists`], which every method is to be given the same.
pub(crate) struct Wheel {
    /// The next tick to be looked at: every linked slot is due within `TICKS` from here.
    cursor: Tick,
}

/// Slots that are due, [`Due::COUNT`] at the most.
#[derive(Clone, Copy, Default)]
pub(crate) struct Due {
    slots: [u32; Self::COUNT],
    len: usize,
}

impl Due {
    const COUNT: usize = LANES as usize;

    pub(crate) fn slots(&self) -> &[u32] {
        &self.slots[..self.len]
    }
}

impl Wheel {
    /// How many lists the wheel needs, from number zero on.
    pub(crate) const LISTS: u32 = TICKS * LANES;

    pub(crate) fn new() -> Self {
        Self { cursor: Tick(0) }
    }

    /// Starts at `now`. Only while nothing is scheduled: then no tick in between is of interest.
    pub(crate) fn restart(&mut self, now: Tick) {
        self.cursor = now;
    }

    /// Looks at `slot`, which is not scheduled, at the tick `due`, or before if that is beyond the
    /// horizon.
    #[inline]
    pub(crate) fn schedule(&self, lists: &mut Lists, slot: u32, due: Tick) {
        let ahead = due.since(self.cursor).min(TICKS - 1);
        let tick = self.cursor.0.wrapping_add(ahead) % TICKS;
        lists.push(Kind::Timer, tick * LANES + slot % LANES, slot);
    }

    /// Looks at `slot` at another time.
    pub(crate) fn reschedule(&self, lists: &mut Lists, slot: u32, due: Tick) {
        self.cancel(lists, slot);
        self.schedule(lists, slot, due);
    }

    #[inline]
    pub(crate) fn cancel(&self, lists: &mut Lists, slot: u32) {
        lists.unlink(Kind::Timer, slot);
    }

    /// Some slots whose tick is not after `now`; none when there are none. They stay due until they
    /// are scheduled or cancelled.
    pub(crate) fn due(&mut self, lists: &Lists, now: Tick) -> Due {
        let mut due = Due::default();
        while self.cursor <= now {
            let first = self.cursor.0 % TICKS * LANES;
            for slot in (first..first + LANES).filter_map(|list| lists.front(Kind::Timer, list)) {
                due.slots[due.len] = slot;
                due.len += 1;
            }
            if due.len > 0 {
                break;
            }
            self.cursor = self.cursor.plus(1);
        }
        due
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn wheel(capacity: u32) -> (Wheel, Lists) {
        let lists = Lists::new(capacity, Wheel::LISTS, Memory::Plain).expect("memory");
        (Wheel::new(), lists)
    }

    fn due_at(wheel: &mut Wheel, lists: &mut Lists, now: u32) -> Vec<u32> {
        let mut all = Vec::new();
        loop {
            let due = wheel.due(lists, Tick(now));
            if due.slots().is_empty() {
                return all;
            }
            for &slot in due.slots() {
                wheel.cancel(lists, slot);
                all.push(slot);
            }
        }
    }

    #[test]
    fn slots_come_at_their_tick() {
        let (mut wheel, mut lists) = wheel(9);
        wheel.restart(Tick(1_000));
        for (slot, due) in [(0, 1_005), (1, 1_003), (2, 900), (3, 1_005), (8, 1_005)] {
            wheel.schedule(&mut lists, slot, Tick(due));
        }
        wheel.cancel(&mut lists, 3);
        wheel.reschedule(&mut lists, 8, Tick(1_006));
        assert_eq!(due_at(&mut wheel, &mut lists, 1_000), [2]);
        assert_eq!(due_at(&mut wheel, &mut lists, 1_002), []);
        assert_eq!(due_at(&mut wheel, &mut lists, 1_010), [1, 0, 8]);
    }

    #[test]
    fn many_slots_of_one_tick_all_come() {
        let (mut wheel, mut lists) = wheel(100);
        for slot in (0..100).rev() {
            wheel.schedule(&mut lists, slot, Tick(7));
        }
        assert_eq!(due_at(&mut wheel, &mut lists, 6), []);
        let mut all = due_at(&mut wheel, &mut lists, 7);
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_far_deadline_is_looked_at_once_a_turn() {
        let (mut wheel, mut lists) = wheel(1);
        wheel.restart(Tick(10));
        wheel.schedule(&mut lists, 0, Tick(100_000));
        let none: [u32; 0] = [];
        assert_eq!(wheel.due(&lists, Tick(10 + TICKS - 2)).slots(), none);
        assert_eq!(wheel.due(&lists, Tick(10 + TICKS - 1)).slots(), [0]);
    }

    #[test]
    fn a_long_pause_misses_nothing() {
        let (mut wheel, mut lists) = wheel(2);
        wheel.schedule(&mut lists, 0, Tick(5));
        wheel.schedule(&mut lists, 1, Tick(8_000));
        assert_eq!(due_at(&mut wheel, &mut lists, 1_000_000), [0, 1]);
    }
}
