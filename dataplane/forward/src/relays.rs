//! What workers of a unit know of relays from another one: the frames that mark where one begins, and
//! where the last of it was.
//!
//! A marker is a frame of the heartbeats' EtherType from a worker of the unit that handed over to its
//! successor's own MAC. It never reaches a control core. After the Ethernet header:
//!
//! ```text
//! 0 version 1 | 1 kind 1 | 2 zero 2 | 4 unit 1 | 5 to 1 | 6 phase 1
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use packet::{Mac, ethernet};

use crate::interface::InterfaceId;

/// The protocol's version that has markers.
const VERSION: u8 = 2;
/// A kind that no frame between control cores has.
const KIND: u8 = 240;
/// How long after its begin a relay still concerns a promotion.
const RECENT_NS: u64 = 1_000_000_000;

/// What a marker says about the interface that it arrives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// From now on everything is passed on.
    Begins = 1,
    /// The switch has moved the virtual MAC: all that came before was passed on by now.
    Moved = 2,
}

impl Marker {
    /// The frame with this marker, from `own`, of `unit`, to the successor `to` at `station`.
    pub(crate) fn frame(
        self,
        (unit, own): (u8, Mac),
        (to, station): (u8, Mac),
        ether_type: u16,
    ) -> [u8; ethernet::MIN_FRAME] {
        let mut frame = [0; ethernet::MIN_FRAME];
        let (destination, rest) = frame.split_at_mut(6);
        destination.copy_from_slice(&station.0);
        let (source, rest) = rest.split_at_mut(6);
        source.copy_from_slice(&own.0);
        let [high, low] = ether_type.to_be_bytes();
        rest[..9].copy_from_slice(&[high, low, VERSION, KIND, 0, 0, unit, to, self as u8]);
        frame
    }

    /// Reads a frame of the heartbeats' EtherType. `None` when it is no marker.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let body = frame.get(ethernet::HEADER_LEN..)?;
        match *body.first_chunk()? {
            [VERSION, KIND, _, _, _, _, 1] => Some(Self::Begins),
            [VERSION, KIND, _, _, _, _, 2] => Some(Self::Moved),
            _ => None,
        }
    }
}

/// When markers arrived, by interface. Any worker may see one; all act by it.
#[derive(Debug)]
pub(crate) struct Relays {
    interfaces: Box<[Relay]>,
}

/// In nanoseconds of the workers' clock; zero is never.
#[derive(Debug, Default)]
struct Relay {
    begun: AtomicU64,
    moved: AtomicU64,
}

impl Relays {
    pub(crate) fn new(interfaces: usize) -> Self {
        Self {
            interfaces: (0..interfaces).map(|_| Relay::default()).collect(),
        }
    }

    /// A marker arrived.
    pub(crate) fn note(&self, marker: Marker, interface: InterfaceId, nanos: u64) {
        if let Some(relay) = self.interfaces.get(interface.index()) {
            let moment = match marker {
                Marker::Begins => &relay.begun,
                Marker::Moved => &relay.moved,
            };
            moment.store(nanos, Ordering::Relaxed);
        }
    }

    /// True when what another unit passes on by `interface` may still be under way to this one, which
    /// was promoted at `promoted`.
    pub(crate) fn is_open(&self, interface: InterfaceId, promoted: u64) -> bool {
        self.interfaces.get(interface.index()).is_some_and(|relay| {
            let begun = relay.begun.load(Ordering::Relaxed);
            let moved = relay.moved.load(Ordering::Relaxed);
            begun != 0 && begun.saturating_add(RECENT_NS) > promoted && moved < begun
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: InterfaceId = InterfaceId(0);

    #[test]
    fn a_marker_is_read_as_it_was_written_and_nothing_else_is_one() {
        let [own, station] = [1, 2].map(|unit| Mac([2, 0, 0, 0, 0, unit]));
        for marker in [Marker::Begins, Marker::Moved] {
            let frame = marker.frame((1, own), (2, station), 0x88b5);
            assert_eq!(
                frame[..14],
                [station.0.as_slice(), &own.0, &[0x88, 0xb5]].concat()
            );
            assert_eq!(frame[14..21], [2, 240, 0, 0, 1, 2, marker as u8]);
            assert_eq!(Marker::read(&frame), Some(marker));
            assert_eq!(Marker::read(&frame[..20]), None);
            for (byte, value) in [(14, 1), (15, 1), (20, 0), (20, 3)] {
                let mut other = frame;
                other[byte] = value;
                assert_eq!(Marker::read(&other), None);
            }
        }
    }

    #[test]
    fn a_relay_is_open_from_its_begin_until_the_switch_has_moved() {
        let relays = Relays::new(2);
        let now = 5_000_000_000;
        assert!(!relays.is_open(LAN, now));
        relays.note(Marker::Begins, LAN, now);
        assert!(relays.is_open(LAN, now + 5) && relays.is_open(LAN, now - 5));
        assert!(!relays.is_open(InterfaceId(1), now));
        assert!(!relays.is_open(LAN, now + RECENT_NS), "another hand-over's");
        relays.note(Marker::Moved, LAN, now + 1);
        assert!(!relays.is_open(LAN, now + 5));
        relays.note(Marker::Begins, LAN, now + 9);
        assert!(relays.is_open(LAN, now + 10), "the next one");
        relays.note(Marker::Moved, InterfaceId(7), now);
        assert!(!relays.is_open(InterfaceId(7), now));
    }
}
