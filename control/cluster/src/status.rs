//! What a unit can tell about itself and its peers, for operators and metrics.

use std::time::Duration;

use crate::envelope::Rejection;
use crate::sync::Lag;
use crate::{Boot, LinkId, LinkKind, Role, UnitId};

/// How much of its monitored links a unit has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Health {
    /// Sum of the weights of the links that are up.
    pub healthy: u16,
    /// Sum of the weights of all links.
    pub total: u16,
}

/// What a unit is busy with; shown, and used by the schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions in its table.
    pub sessions: u32,
    /// Room of its table.
    pub capacity: u32,
    /// Packets forwarded in the last second.
    pub packets_per_second: u64,
    /// How busy its busiest worker is, in thousandths.
    pub busy_permille: u16,
}

/// A unit as it sees itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its id.
    pub unit: UnitId,
    /// Its name.
    pub name: String,
    /// Its start.
    pub boot: Boot,
    /// What it does now.
    pub role: Role,
    /// For how long.
    pub role_for: Duration,
    /// The highest term known; while primary, its own.
    pub term: u32,
    /// Who is primary, as far as it knows.
    pub primary: Option<UnitId>,
    /// Whether it may become primary.
    pub eligible: bool,
    /// Whether it holds all sessions.
    pub synced: bool,
    /// Whether its workers forward.
    pub workers: bool,
    /// To whom it is handing over.
    pub handing_over_to: Option<UnitId>,
    /// Monitored links, as the peers see them (improvements count after a while).
    pub health: Health,
    /// For how long it could have been primary.
    pub age: Duration,
    /// Its priority.
    pub priority: u8,
    /// Its links.
    pub links: Vec<LinkStatus>,
    /// Its peers, by id.
    pub peers: Vec<PeerStatus>,
}

/// A link of this unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Which.
    pub link: LinkId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: LinkKind,
    /// How much it counts.
    pub weight: u16,
    /// Whether it is up.
    pub up: bool,
}

/// A peer as this unit sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// Its id.
    pub unit: UnitId,
    /// Its name.
    pub name: String,
    /// Its software version.
    pub software: String,
    /// Its start.
    pub boot: Boot,
    /// Whether it is heard on any link.
    pub alive: bool,
    /// Whether it has proved to be no recording.
    pub verified: bool,
    /// What it does.
    pub role: Role,
    /// The highest term that it knows.
    pub term: u32,
    /// Whether it may become primary.
    pub eligible: bool,
    /// Whether it holds all sessions.
    pub synced: bool,
    /// Its monitored links.
    pub health: Health,
    /// For how long it could have been primary.
    pub age: Duration,
    /// Its priority.
    pub priority: u8,
    /// What it is busy with.
    pub load: Load,
    /// What it lacks of this unit's changes.
    pub lag: Lag,
    /// Whether its configuration equals this unit's where it must.
    pub configuration_agrees: bool,
    /// How long ago it was heard on any link.
    pub last_heard: Duration,
    /// The links of this unit that carry heartbeats.
    pub links: Vec<PeerLinkStatus>,
}

/// A peer on one link of this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLinkStatus {
    /// Which link.
    pub link: LinkId,
    /// Whether the peer is heard on it.
    pub heard: bool,
    /// Whether the peer says that it hears this unit on it.
    pub hears_us: bool,
    /// How long ago it was heard on it, if ever.
    pub last_heard: Option<Duration>,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Heartbeats sent, over all links.
    pub heartbeats_sent: u64,
    /// Heartbeats accepted, over all links.
    pub heartbeats_received: u64,
    /// Synchronisation frames sent, over all links.
    pub sync_frames_sent: u64,
    /// Synchronisation frames accepted.
    pub sync_frames_received: u64,
    /// Synchronisation frames that had no link to go out on.
    pub sync_frames_unsent: u64,
    /// Promotions of this unit.
    pub promotions: u64,
    /// Demotions of this unit.
    pub demotions: u64,
    /// Episodes in which this unit and another were primary.
    pub dual_primaries: u64,
    /// Times that a peer was given up.
    pub peers_lost: u64,
    /// Rounds of announcements asked for.
    pub announcements: u64,
    /// Times that this unit was itself stopped for longer than two heartbeat intervals.
    pub pauses: u64,
    rejected: [u64; Rejection::ALL.len()],
}

impl Counters {
    /// Frames refused for this reason.
    #[must_use]
    pub const fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize]
    }

    /// Frames refused, for every reason.
    pub fn rejections(&self) -> impl Iterator<Item = (Rejection, u64)> + '_ {
        Rejection::ALL.into_iter().zip(self.rejected)
    }

    pub(crate) const fn reject(&mut self, reason: Rejection) {
        self.rejected[reason as usize] += 1;
    }
}
