//! First packets that wait until a peer has their sessions (`durability = "acked"`).
//!
//! Owned by the control core. A packet waits until its session's change was read from the worker's ring, put
//! into the stream of its shard, and acknowledged there by a live peer; or until its time is over, or until
//! there is no peer. Invariant: no packet waits longer than that, and no more than [`MOST`] do.

use std::net::Ipv4Addr;

use cluster::{Node, Time};
use dpdk::Mbuf;
use forward::InterfaceId;
use session::Version;

use crate::counters::ControlCounters;

/// Packets that wait, at most: buffers are the workers' too.
const MOST: usize = 1_024;

/// A packet that is ready to leave.
pub(crate) struct Leaving {
    pub(crate) interface: InterfaceId,
    pub(crate) next_hop: Ipv4Addr,
    pub(crate) mbuf: Mbuf,
}

struct Waiting {
    packet: Leaving,
    shard: u16,
    /// The change that tells of its session.
    change: Option<Version>,
    /// Where in the stream that is, once it is there.
    mark: Option<u64>,
    until: Time,
}

/// The packets that wait.
#[derive(Default)]
pub(crate) struct Withheld {
    waiting: Vec<Waiting>,
}

impl Withheld {
    /// Takes a packet of a worker; gives it back if it need not wait, or cannot.
    pub(crate) fn hold(
        &mut self,
        packet: Leaving,
        (shard, change): (u16, Option<Version>),
        until: Time,
        node: &Node,
        counters: &mut ControlCounters,
    ) -> Option<Leaving> {
        if !node.has_sync_peers() {
            counters.acked_alone += 1;
            return Some(packet);
        }
        if self.waiting.len() >= MOST {
            counters.acked_queue_full += 1;
            return Some(packet);
        }
        self.waiting.push(Waiting {
            packet,
            shard,
            change,
            mark: None,
            until,
        });
        None
    }

    /// Packets whose waiting is over, in the order in which they came. `read` tells up to which version the
    /// changes of a shard were read from its ring; all of these are in the streams.
    pub(crate) fn release(
        &mut self,
        now: Time,
        node: &Node,
        read: impl Fn(u16) -> Version,
        counters: &mut ControlCounters,
    ) -> Vec<Leaving> {
        let alone = !node.has_sync_peers();
        let over = |waiting: &mut Waiting| {
            if waiting.mark.is_none()
                && waiting
                    .change
                    .is_some_and(|change| change <= read(waiting.shard))
            {
                waiting.mark = node.sync_mark(waiting.shard);
            }
            let confirmed = waiting
                .mark
                .is_some_and(|mark| node.is_confirmed(waiting.shard, mark));
            let count = match (confirmed, alone, now >= waiting.until) {
                (true, ..) => &mut counters.acked_confirmed,
                (_, true, _) => &mut counters.acked_alone,
                (.., true) => &mut counters.acked_timeouts,
                _ => return false,
            };
            *count += 1;
            true
        };
        let released = self.waiting.extract_if(.., over);
        released.map(|waiting| waiting.packet).collect()
    }
}
