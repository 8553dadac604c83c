//! Tables of different sizes: a unit whose table is too small for the primary's sessions holds what fits, says so,
//! and does not count as synchronised.
//!
//! Invariant: it is short from the moment when the primary tells of more sessions than fit until it tells of
//! clearly fewer.

use super::Node;
use crate::{Event, Role, UnitId};

/// Sessions of the primary, in hundredths of the table, at which it suffices again.
const SUFFICIENT: u64 = 95;

impl Node {
    /// Compares what a peer told last with the table, if it is the primary that this unit follows.
    pub(super) fn compare_room(&mut self, from: UnitId) {
        let capacity = self.load.capacity;
        if self.primary != Some(from) || self.role == Role::Primary || capacity == 0 {
            return;
        }
        let Some(sessions) = self.peer(from).map(|peer| peer.beat.load.sessions) else {
            return;
        };
        let short = match self.short {
            false => sessions > capacity,
            true => u64::from(sessions) * 100 > u64::from(capacity) * SUFFICIENT,
        };
        if std::mem::replace(&mut self.short, short) != short {
            self.event(if short {
                Event::TableTooSmall {
                    primary: from,
                    sessions,
                    capacity,
                }
            } else {
                Event::TableSuffices { capacity }
            });
        }
    }
}
