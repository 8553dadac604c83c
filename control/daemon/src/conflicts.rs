//! Stations that use an address of this gateway.
//!
//! Anybody on a segment can send a frame that says so, as many as the wire carries and each in another
//! station's name. So a station is told of once a minute, and an address has room for few stations: what is
//! written and what is kept depends on how many addresses the gateway has, and on nothing that is sent. All
//! frames are counted elsewhere (`address_conflicts`).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use arrayvec::ArrayVec;
use cluster::Time;
use forward::InterfaceId;
use packet::Mac;

/// How long a station that was told of is not told of again.
const SILENCE: Duration = Duration::from_secs(60);
/// Stations that are told of per address and minute: enough to find a mistake, which has one or two.
const STATIONS: usize = 4;

/// Another station uses one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) interface: InterfaceId,
    pub(crate) address: Ipv4Addr,
    pub(crate) station: Mac,
}

/// The stations that were told of lately, by the address that they use.
#[derive(Debug, Default)]
pub(crate) struct Conflicts(HashMap<(InterfaceId, Ipv4Addr), ArrayVec<(Mac, Time), STATIONS>>);

impl Conflicts {
    /// Whether the operator is to be told of this one, which counts as done.
    pub(crate) fn is_news(&mut self, conflict: &Conflict, now: Time) -> bool {
        let address = (conflict.interface, conflict.address);
        let told = self.0.entry(address).or_default();
        told.retain(|(_, at)| now.since(*at) < SILENCE);
        let known = told.iter().any(|(station, _)| *station == conflict.station);
        !known && told.try_push((conflict.station, now)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(interface: u8, address: u8, station: u32) -> Conflict {
        let [a, b, c, d] = station.to_be_bytes();
        Conflict {
            interface: InterfaceId(interface),
            address: Ipv4Addr::new(192, 0, 2, address),
            station: Mac([2, 0, a, b, c, d]),
        }
    }

    fn at(milliseconds: u64) -> Time {
        Time((1_000_000 + milliseconds) * 1_000_000)
    }

    #[test]
    fn a_station_is_named_once_a_minute_for_each_address() {
        let mut conflicts = Conflicts::default();
        let mut told = |interface, address, station| -> Vec<u64> {
            let seconds = 0..130_u64;
            let conflict = conflict(interface, address, station);
            seconds
                .filter(|second| conflicts.is_news(&conflict, at(second * 1_000)))
                .collect()
        };
        assert_eq!(told(0, 1, 7), [0, 60, 120]);
        for other in [told(1, 1, 7), told(0, 2, 7), told(0, 1, 8)] {
            assert_eq!(other, [0, 60, 120], "an address or a station of its own");
        }
    }

    #[test]
    fn a_flood_from_invented_stations_is_a_few_lines_and_hides_no_other_address() {
        let mut conflicts = Conflicts::default();
        let flood = (0..600_000).filter(|n| {
            let station = u32::try_from(*n).unwrap();
            conflicts.is_news(&conflict(0, 1, station), at(n / 10))
        });
        assert_eq!(flood.count(), STATIONS, "in one minute");
        assert!(conflicts.is_news(&conflict(0, 2, 1), at(59_999)));
        assert!(conflicts.is_news(&conflict(0, 1, 600_000), at(60_000)));
        assert_eq!(conflicts.0.len(), 2);
    }
}
