//! What a unit can tell about itself and its peers, for operators and metrics.

use std::time::Duration;

use crate::envelope::Rejection;
use crate::sync::Lag;
use crate::{Boot, LinkId, LinkKind, Role, UnitId, WitnessStatus};

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
    /// Of these, sessions that belong to it.
    pub owned: u32,
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
    /// The version of the protocol that its frames are written in: the newest that all live units speak.
    pub version: u8,
    /// The witness, if the cluster has one.
    pub witness: Option<WitnessStatus>,
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
    /// Its part of the new sessions.
    pub weight: u8,
    /// The newest version of the protocol that it speaks.
    pub version: u8,
    /// What it is busy with.
    pub load: Load,
    /// What it lacks of this unit's changes.
    pub lag: Lag,
    /// Whether its configuration equals this unit's where it must.
    pub configuration_agrees: bool,
    /// Parts of the configuration in which it differs, as far as both tell.
    pub differences: Vec<String>,
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

/// Declares a set of counters together with the names and meanings that operators see.
macro_rules! counters {
    ($(#[$about:meta])* $set:ident { $($name:ident: $help:literal;)+ } $($extra:ident: $kind:ty)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set {
            $(#[doc = $help] pub $name: u64,)+
            $($extra: $kind,)?
        }

        impl $set {
            /// Name, meaning and value of each.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name),)+].into_iter()
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// What was counted since the start.
    Counters {
        heartbeats_sent: "Heartbeats sent, over all links.";
        heartbeats_received: "Heartbeats accepted, over all links.";
        sync_frames_sent: "Synchronisation frames sent, over all links.";
        sync_frames_received: "Synchronisation frames accepted.";
        sync_frames_unsent: "Synchronisation frames that had no link to go out on.";
        promotions: "Promotions of this unit.";
        demotions: "Demotions of this unit.";
        dual_primaries: "Episodes in which this unit and another were primary.";
        dual_primary_ms: "Milliseconds for which this unit and another were primary at the most, over all episodes that ended.";
        leases_granted: "Times that the witness granted its lease to this unit.";
        leases_lost: "Times that this unit was primary when its lease of the witness ran out.";
        witness_silences: "Times that the witness ceased to answer.";
        peers_lost: "Times that a peer was given up.";
        announcements: "Rounds of announcements asked for.";
        pauses: "Times that this unit was itself stopped for longer than two heartbeat intervals.";
    }
    rejected: [u64; Rejection::ALL.len()]
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
