//! What a shard counts. One writer, so an addition is a load and a store; any core may read.

use crate::concurrency::{AtomicU64, Ordering};
use crate::tcp::Invalid;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// A copy of a shard's counters. All but `sessions` and `half_open` only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Statistics {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Statistics {
            /// Every counter: its name, what it counts, and its value.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii_start(), self.$name)),+]
                    .into_iter()
            }
        }

        /// The counters themselves, on cache lines of their own: the writer's, whatever others read.
        #[derive(Default)]
        #[repr(align(128))]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn read(&self) -> Statistics {
                Statistics { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// Sessions in the shard now.
    sessions,
    /// Sessions that only one side has confirmed now.
    half_open,
    /// Sessions opened here.
    inserted,
    /// Sessions taken out by their user.
    removed,
    /// Sessions whose time ran out.
    expired,
    /// Half-open sessions that made room for others.
    evicted,
    /// Sessions not opened for want of room.
    refused_full,
    /// Sessions not opened because a tuple was taken.
    refused_exists,
    /// Sessions not opened because of the limit per source.
    refused_source,
    /// TCP sessions whose ports were used again after they had ended.
    reopened,
    /// Sessions taken over from another unit.
    adopted,
    /// Sessions that got a second time to live because their owner died.
    reprieved,
    /// Timers of sessions that another unit is responsible for, put off.
    deferred,
    /// Sessions that a peer sent and that were new.
    applied_new,
    /// Sessions that a peer sent and that were known.
    applied_update,
    /// Sessions that a peer sent and that were not newer than what was known.
    applied_stale,
    /// Sessions that a peer sent and that found no room.
    applied_full,
    /// Sessions that gave way to a newer one of a peer with the same tuple.
    displaced,
    /// Sessions removed by a peer.
    retracted,
    /// Removals by a peer that came too late.
    retracted_stale,
    /// TCP segments outside of the window.
    tcp_out_of_window,
    /// TCP resets that do not match exactly.
    tcp_bad_reset,
    /// SYNs within a connection's window.
    tcp_bad_syn,
    /// TCP flags that make no sense.
    tcp_bad_flags,
    /// TCP segments that do not belong into the handshake.
    tcp_bad_handshake,
}

/// Sessions by the unit that owns them, on cache lines of their own. There are sixteen units; what else a
/// peer might send as an owner is counted at its own number, as far as the table keeps that.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Owners([Counter; 32]);

impl Owners {
    #[inline]
    pub(crate) fn of(&self, unit: u8) -> &Counter {
        &self.0[usize::from(unit).min(31)]
    }
}

/// One counter with one writer.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self) {
        self.set(self.get().wrapping_add(1));
    }

    #[inline]
    pub(crate) fn subtract(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn invalid(&self, reason: Invalid) {
        match reason {
            Invalid::OutOfWindow => self.tcp_out_of_window.add(),
            Invalid::BadReset => self.tcp_bad_reset.add(),
            Invalid::BadSyn => self.tcp_bad_syn.add(),
            Invalid::BadFlags => self.tcp_bad_flags.add(),
            Invalid::BadHandshake => self.tcp_bad_handshake.add(),
        }
    }
}
