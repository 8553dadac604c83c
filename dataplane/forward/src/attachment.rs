//! What the way of a plain packet needs of an interface: a few words, derived from the
//! [`Interface`] and the unit's duty when they are published, not for each packet.

use packet::Mac;
use packet::ethernet::Stations;

use crate::distribution::Duty;
use crate::interface::{Interface, InterfaceRole};

/// An interface, as nearly every packet sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The stations whose frames are taken in: the unit's and, of a primary, the virtual one. Both
    /// are [`NOBODY`] where no packets of users are forwarded.
    stations: [u64; 2],
    /// Only what other units send is taken in.
    pub(crate) from_units: bool,
    /// The station that frames leave from.
    source: Mac,
    /// Largest IP datagram that may leave, in bytes.
    pub(crate) mtu: u16,
}

/// The destination station, and the bit of the source station that marks a group.
const DESTINATION_AND_GROUP: u64 = 0x0001_ffff_ffff_ffff;
/// What no masked frame begins with.
const NOBODY: u64 = u64::MAX;

impl Attachment {
    pub(crate) fn new(interface: &Interface, duty: Duty) -> Self {
        let carries_users = duty.takes_users() && interface.role == InterfaceRole::Traffic;
        let station = |mac: Option<Mac>| mac.filter(|_| carries_users).map_or(NOBODY, Mac::word);
        let shared = interface.virtual_mac.filter(|_| duty.takes_virtual());
        Self {
            stations: [station(Some(interface.mac)), station(shared)],
            from_units: matches!(duty, Duty::Owner { .. }),
            source: interface.source_mac(duty.is_primary()),
            mtu: interface.mtu,
        }
    }

    /// True for a frame to this unit from a single station, where packets of users are forwarded.
    #[inline]
    pub(crate) fn takes_in(&self, frame: &[u8]) -> bool {
        let Some(start) = frame.first_chunk::<8>() else {
            return false;
        };
        let word = u64::from_le_bytes(*start) & DESTINATION_AND_GROUP;
        (word == self.stations[0]) | (word == self.stations[1])
    }

    /// True for a frame to the virtual station, while that is this unit's.
    #[inline]
    pub(crate) fn is_to_virtual(&self, frame: &[u8]) -> bool {
        let word = frame
            .first_chunk::<8>()
            .map(|start| u64::from_le_bytes(*start));
        word.is_some_and(|word| word & DESTINATION_AND_GROUP == self.stations[1])
    }

    /// What a frame to `neighbour` begins with.
    pub(crate) fn stations_to(&self, neighbour: Mac) -> Stations {
        Stations::new(neighbour, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    const UNIT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SHARED: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn interface(role: InterfaceRole, virtual_mac: Option<Mac>) -> Interface {
        Interface {
            name: "lan".into(),
            role,
            mac: UNIT,
            virtual_mac,
            mtu: 1_400,
            cluster_addresses: Vec::new(),
            unit_address: None,
        }
    }

    fn takes_in(attachment: &Attachment, destination: Mac, source: Mac) -> bool {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&source.0);
        attachment.takes_in(&frame)
    }

    #[test]
    fn users_frames_are_taken_in_by_whose_duty_it_is_and_only_its_own() {
        let host = Mac([2, 0, 0, 0, 8, 8]);
        let lan = interface(InterfaceRole::Traffic, Some(SHARED));
        let primary = Attachment::new(&lan, Duty::Primary);
        assert!(takes_in(&primary, UNIT, host) && takes_in(&primary, SHARED, host));
        for foreign in [host, Mac([3, 0, 0, 0, 0, 1]), Mac([0xff; 6]), Mac([0; 6])] {
            assert!(!takes_in(&primary, foreign, host), "{foreign}");
        }
        assert!(!takes_in(&primary, UNIT, Mac([3, 0, 0, 0, 8, 8])));
        let mut frame = [0; 60];
        for (destination, is_virtual) in [(SHARED, true), (UNIT, false)] {
            frame[..6].copy_from_slice(&destination.0);
            assert_eq!(primary.is_to_virtual(&frame), is_virtual);
            assert!(!Attachment::new(&lan, Duty::Idle).is_to_virtual(&frame));
        }
        let bare = Attachment::new(&interface(InterfaceRole::Traffic, None), Duty::Primary);
        assert!(takes_in(&bare, UNIT, host) && !takes_in(&bare, SHARED, host));
        let sync = interface(InterfaceRole::Sync, None);
        let owner = Attachment::new(&lan, Duty::Owner { primary: 1 });
        assert!(takes_in(&owner, UNIT, host) && !takes_in(&owner, SHARED, host));
        assert!(owner.from_units && !primary.from_units);
        let relay = Attachment::new(&lan, Duty::Relay { to: 1 });
        assert!(takes_in(&relay, UNIT, host) && takes_in(&relay, SHARED, host));
        let idle = Attachment::new(&lan, Duty::Idle);
        for nowhere in [idle, Attachment::new(&sync, Duty::Primary)] {
            assert!(!takes_in(&nowhere, UNIT, host) && !takes_in(&nowhere, SHARED, host));
            assert!(!takes_in(&nowhere, Mac([0xff; 6]), Mac([0xff; 6])));
        }
    }

    #[test]
    fn frames_leave_from_the_virtual_station_while_primary() {
        let lan = interface(InterfaceRole::Traffic, Some(SHARED));
        let host = Mac([2, 0, 0, 0, 8, 8]);
        let others = [
            Duty::Idle,
            Duty::Owner { primary: 1 },
            Duty::Relay { to: 1 },
        ];
        let sources = others.map(|duty| (duty, UNIT));
        for (duty, source) in [(Duty::Primary, SHARED)].into_iter().chain(sources) {
            let stations = Attachment::new(&lan, duty).stations_to(host);
            let expected = [host.0, source.0].concat();
            assert_eq!(stations.as_bytes(), expected);
        }
    }
}
