//! What a distribution of sessions means to the workers of this unit: worked out when it is published.

use packet::Mac;

use crate::distribution::{Distribution, Duty};
use crate::interface::InterfaceId;

/// Units have the ids 1 to 16.
pub(crate) const IDS: usize = 17;

/// MACs by interface and unit.
type Macs = Box<[[Option<Mac>; IDS]]>;

/// Who owns sessions, and who is where.
#[derive(Debug)]
pub(crate) struct Sharing {
    /// True when packets may be another unit's business: see `worker::assign`.
    active: bool,
    /// Bit `u`: unit `u` is alive and may own sessions.
    owners: u32,
    /// Where the other units are reached, by interface of this unit, each by id.
    stations: Macs,
    /// Likewise the MACs that their frames come from.
    sources: Macs,
    /// The unit that passes most of what comes from other units.
    usual: usize,
    /// Slots of each unit, by id.
    parts: [u16; IDS],
}

impl Sharing {
    /// What `distribution` means to `unit`, which has so many interfaces.
    pub(crate) fn new(
        distribution: &Distribution,
        unit: u8,
        duty: Duty,
        interfaces: usize,
    ) -> Self {
        let [mut stations, mut sources] =
            [(); 2].map(|()| vec![[None; IDS]; interfaces].into_boxed_slice());
        let mut owners = 0;
        for member in &distribution.members {
            let id = usize::from(member.unit);
            if id >= IDS {
                continue;
            }
            owners |= u32::from(member.owns) << id;
            if member.unit != unit {
                enter(&mut stations, id, &member.stations);
                enter(&mut sources, id, &member.sources);
            }
        }
        let others_own = owners & !(1 << unit) != 0;
        let (active, usual) = match duty {
            Duty::Idle => (false, 0),
            Duty::Primary => (others_own || !distribution.slots.is_empty(), 0),
            Duty::Owner { primary: other } | Duty::Relay { to: other } => (true, other.into()),
        };
        Self {
            active,
            owners,
            stations,
            sources,
            usual: if usual < IDS { usual } else { 0 },
            parts: parts(&distribution.slots),
        }
    }

    /// Units that get new sessions, by id, each with its part of them.
    pub(crate) fn takers(&self) -> impl Iterator<Item = (u8, u64)> {
        let parts = (0_u8..).zip(&self.parts);
        parts
            .filter(|(_, part)| **part > 0)
            .map(|(unit, part)| (unit, u64::from(*part)))
    }

    /// True when packets may be another unit's business.
    #[inline]
    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }

    /// True when `unit` is alive and may own sessions.
    pub(crate) fn owns(&self, unit: u8) -> bool {
        usize::from(unit) < IDS && self.owners >> unit & 1 == 1
    }

    /// Where another unit is reached that is alive.
    pub(crate) fn station(&self, unit: u8, interface: InterfaceId) -> Option<Mac> {
        *self
            .stations
            .get(interface.index())?
            .get(usize::from(unit))?
    }

    /// Where another unit is reached that may own sessions.
    pub(crate) fn owner_station(&self, unit: u8, interface: InterfaceId) -> Option<Mac> {
        self.station(unit, interface).filter(|_| self.owns(unit))
    }

    /// True when `mac` is another unit's own.
    pub(crate) fn is_station(&self, mac: Mac, interface: InterfaceId) -> bool {
        self.sources
            .get(interface.index())
            .is_some_and(|here| here[self.usual] == Some(mac) || here.contains(&Some(mac)))
    }
}

/// Enters where a unit is, by interface.
fn enter(macs: &mut Macs, id: usize, unit: &[Option<Mac>]) {
    for (here, mac) in macs.iter_mut().zip(unit) {
        here[id] = *mac;
    }
}

fn parts(slots: &[u8]) -> [u16; IDS] {
    let mut parts = [0_u16; IDS];
    for unit in slots {
        if let Some(part) = parts.get_mut(usize::from(*unit)) {
            *part = part.saturating_add(1);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Member;

    const LAN: InterfaceId = InterfaceId(0);
    const WAN: InterfaceId = InterfaceId(1);

    fn mac(unit: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, unit])
    }

    /// Units 1 to 3 on the LAN; the third may not own.
    fn distribution(slots: &[u8]) -> Distribution {
        let member = |unit| Member {
            unit,
            owns: unit < 3,
            stations: vec![Some(mac(unit)), None],
            sources: vec![Some(mac(unit)); if unit < 3 { 1 } else { 2 }],
        };
        Distribution {
            slots: slots.to_vec(),
            members: [1, 2, 3].map(member).into(),
            ..Distribution::default()
        }
    }

    #[test]
    fn a_unit_passes_nothing_to_itself() {
        let sharing = Sharing::new(&distribution(&[]), 1, Duty::Primary, 2);
        assert_eq!(sharing.station(1, LAN), None);
        assert!(!sharing.is_station(mac(1), LAN));
        assert_eq!(sharing.owner_station(2, LAN), Some(mac(2)));
        assert_eq!(sharing.station(3, LAN), Some(mac(3)));
        assert_eq!(sharing.owner_station(3, LAN), None, "it may not own");
        assert_eq!(sharing.station(2, WAN), None);
        assert!(sharing.is_station(mac(2), LAN) && !sharing.is_station(mac(2), WAN));
        assert_eq!(sharing.station(3, WAN), None);
        assert!(sharing.is_station(mac(3), WAN), "its link may be up again");
        assert_eq!([0, 1, 2, 3, 17, 255].map(|unit| sharing.owns(unit)), {
            [false, true, true, false, false, false]
        });
    }

    #[test]
    fn a_primary_alone_with_its_sessions_does_not_ask_for_owners() {
        let alone = |slots: &[u8]| Distribution {
            members: Vec::new(),
            ..distribution(slots)
        };
        let active = |distribution, duty| Sharing::new(&distribution, 1, duty, 2).is_active();
        assert!(!active(alone(&[]), Duty::Primary));
        assert!(
            active(alone(&[1]), Duty::Primary),
            "it shared before, perhaps"
        );
        assert!(active(distribution(&[]), Duty::Primary), "another one owns");
        assert!(!active(distribution(&[1, 2]), Duty::Idle));
        assert!(active(alone(&[]), Duty::Owner { primary: 2 }));
        assert!(active(alone(&[]), Duty::Relay { to: 2 }));
    }
}
