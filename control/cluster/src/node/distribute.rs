//! What this unit's workers do with users' packets, and which unit gets whose.
//!
//! Every unit judges all others by what they say, so that a new primary knows the owners in the moment of
//! its promotion; only the primary gives out slots. A peer *may own* sessions while it is alive, runs its
//! workers, is willing (not in maintenance, leaving or handing over), has this unit's configuration, is no
//! less healthy than this unit and is reached on every traffic interface on which this unit is up. To
//! begin with it must also be synced, and lack nothing as far as this unit knows; later not, because a change
//! of the primary makes every unit copy anew, and nobody should lose its sessions for that. All who own hear
//! each other, and have for a while before they began: what an owner tells of its sessions nobody else tells.
//!
//! Invariants: a driver is told of members before of the duty that names one; under the schedule `none` no
//! peer owns anything but a successor that takes over.

use std::time::Duration;

use crate::election::Units;
use crate::peer::Peer;
use crate::schedule::{Pick, Schedule, Taker, slots};
use crate::{Action, Distribution, Duty, Member, Node, Role, Time, UnitId};

/// How long a unit must have heard all owners before it begins to be one: what they had told before, it asks for.
pub(super) const CATCHING_UP: Duration = Duration::from_secs(1);

/// What the driver was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    distribution: Distribution,
    duty: Duty,
    term: u32,
    /// Something changed that they depend on.
    stale: bool,
    /// What the slots were last dealt for.
    dealt: Option<(Schedule, Units<Taker>)>,
    /// Peers that may own sessions, bit 0 for unit 1.
    owners: u16,
    /// By unit: since when it has heard all who own, and been heard by them.
    together_since: [Option<Time>; UnitId::MAX as usize],
    /// This unit has known all sessions that it may own, in this start.
    ready: bool,
    /// Who was last in the position to pass frames on to this unit.
    giver: Option<UnitId>,
}

impl Node {
    /// Which unit gets which new session now, as the driver was told.
    #[must_use]
    pub const fn distribution(&self) -> &Distribution {
        &self.told.distribution
    }

    /// What this unit does with users' packets now, as the driver was told.
    #[must_use]
    pub const fn duty(&self) -> Duty {
        self.told.duty
    }

    /// The schedule in effect: the one configured, unless a live unit does not speak of schedules.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        if self.version() > 1 && self.settings.session_sync {
            self.settings.schedule
        } else {
            Schedule::None
        }
    }

    /// Something changed that duty or distribution depend on.
    pub(super) const fn distribution_is_stale(&mut self) {
        self.told.stale = true;
    }

    /// Tells the driver what changed.
    pub(super) fn distribute(&mut self) {
        if !std::mem::take(&mut self.told.stale) {
            return;
        }
        self.told.ready |= self.sync.knows_its_own();
        self.judge_owners();
        self.sync.many_writers(self.schedule() != Schedule::None);
        let distribution = self.make_distribution();
        let duty = self.find_duty();
        if distribution != self.told.distribution {
            self.told.distribution.clone_from(&distribution);
            self.actions.push_back(Action::Distribute(distribution));
        }
        let term = self.term;
        if duty != self.told.duty || term != self.told.term {
            self.told.duty = duty;
            self.told.term = term;
            self.actions.push_back(Action::Duty { duty, term });
        }
    }

    fn judge_owners(&mut self) {
        let before = self.told.owners;
        let own = self.stations();
        let covers = |peer: &Peer| {
            own.iter().all(|station| {
                let theirs = &mut peer.beat.stations.iter();
                theirs.any(|other| other.interface == station.interface)
            })
        };
        let able = |peer: &Peer| {
            let beat = &peer.beat;
            let willing = beat.willing && beat.workers && !peer.left;
            let equal = peer.configuration_agrees && beat.health.healthy >= self.health.healthy;
            // Who was away counts itself as synced until it hears what it missed.
            let synced = beat.synced && self.sync.lag(peer.unit).dirty == 0;
            let holds = synced || before & peer.unit.bit() != 0;
            willing && equal && holds && covers(peer)
        };
        let peers = self.trusted();
        let mut peers: Units<_> = peers
            .map(|peer| (peer.unit, able(peer), self.heard_by(peer)))
            .collect();
        // Who owns already goes before who would begin to.
        peers.sort_by_key(|(unit, ..)| (before & unit.bit() == 0, *unit));
        let mut since = [None; UnitId::MAX as usize];
        let (mut owners, mut heard_by_all) = (0, u16::MAX);
        for (unit, able, hears) in peers {
            if hears & owners != owners || heard_by_all & unit.bit() == 0 {
                continue;
            }
            let together = self.told.together_since[unit.index()].unwrap_or(self.now);
            since[unit.index()] = Some(together);
            if able && (before & unit.bit() != 0 || self.now >= together + CATCHING_UP) {
                owners |= unit.bit();
                heard_by_all &= hears;
            }
        }
        self.told.together_since = since;
        self.told.owners = owners;
    }

    /// The units whose present start a peer hears, as far as they are heard here.
    pub(super) fn heard_by(&self, peer: &Peer) -> u16 {
        let heard = peer.beat.heard.iter();
        let present = heard.filter(|heard| {
            let known = self.peer(heard.unit);
            known.is_some_and(|other| other.boot == heard.boot)
        });
        present.fold(0, |units, heard| units | heard.unit.bit())
    }

    /// Whether this unit may own sessions, as it tells the others.
    pub(super) fn is_willing(&self) -> bool {
        let stays = self.told.ready
            && !self.maintenance
            && self.leaving.is_none()
            && self.relaying().is_none();
        stays && self.role != Role::Isolated && self.role != Role::Maintenance
    }

    fn make_distribution(&mut self) -> Distribution {
        let (pick, slots) = self.give_slots();
        let schedule = self.schedule();
        let own = Member {
            unit: self.settings.unit,
            owns: self.role == Role::Primary || schedule != Schedule::None && self.is_willing(),
            stations: self.stations().to_vec(),
            sources: self.settings.stations.clone(),
        };
        let heir = self.preparing_for();
        let peers = self.trusted().filter(|peer| peer.beat.newest > 1);
        let peers = peers.map(|peer| Member {
            unit: peer.unit,
            owns: heir == Some(peer.unit)
                || schedule != Schedule::None && self.told.owners & peer.unit.bit() != 0,
            stations: peer.beat.stations.to_vec(),
            sources: peer.sources.to_vec(),
        });
        let mut members: Vec<Member> = peers.chain([own]).collect();
        members.sort_by_key(|member| member.unit);
        Distribution {
            pick,
            slots,
            members,
        }
    }

    fn give_slots(&mut self) -> (Pick, Vec<UnitId>) {
        if self.role != Role::Primary {
            return (Pick::InTurn, Vec::new());
        }
        if let Some(heir) = self.preparing_for() {
            self.told.dealt = None;
            return (Pick::InTurn, vec![heir]);
        }
        let schedule = self.schedule();
        let takers = self.takers();
        let dealt = Some((schedule, takers));
        if dealt == self.told.dealt {
            let Distribution { pick, slots, .. } = &self.told.distribution;
            return (*pick, slots.clone());
        }
        self.told.dealt = dealt;
        match &self.told.dealt {
            Some((schedule, takers)) if takers.len() > 1 => {
                (schedule.pick(), slots(*schedule, takers))
            }
            _ => (Pick::InTurn, Vec::new()),
        }
    }

    /// Who may get new sessions.
    fn takers(&self) -> Units<Taker> {
        let taker = |unit: UnitId, weight| Taker { unit, weight };
        let owners = self
            .trusted()
            .filter(|peer| self.told.owners & peer.unit.bit() != 0);
        let peers = owners.map(|peer| taker(peer.unit, peer.beat.weight));
        let own = taker(self.settings.unit, self.settings.weight);
        [own].into_iter().chain(peers).collect()
    }

    fn find_duty(&mut self) -> Duty {
        if self.role == Role::Primary {
            return Duty::Primary;
        }
        if let Some(to) = self.relaying() {
            return Duty::Relay { to };
        }
        if self.role == Role::Isolated || !self.workers {
            return Duty::Idle;
        }
        // Frames of the last one may be under way until another one is heard.
        let giver = self.heard_primary().or_else(|| self.yielding_peer());
        self.told.giver = giver.or(self.told.giver);
        match self.told.giver {
            Some(primary) if self.speaks_of_schedules(primary) => Duty::Owner { primary },
            _ => Duty::Idle,
        }
    }

    /// Whether a peer passes frames on to others, and takes what others pass on.
    pub(super) fn speaks_of_schedules(&self, unit: UnitId) -> bool {
        let peer = self.peer(unit);
        self.settings.protocol > 1 && peer.is_some_and(|peer| peer.beat.newest > 1)
    }

    /// A peer that hands over; to this unit, if there are several.
    fn yielding_peer(&self) -> Option<UnitId> {
        let yielding = self.trusted().filter(|peer| peer.beat.yielding);
        yielding
            .max_by_key(|peer| peer.beat.successor == Some(self.settings.unit))
            .map(|peer| peer.unit)
    }
}
