//! What a unit is told about itself and its cluster.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::heartbeat::MAX_TERM;
use crate::{Boot, Schedule, Station, UnitId, envelope};

/// The secret that all units of a cluster share. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Key([u8; Key::LEN]);

impl Key {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// Carries heartbeats and state, never a user's packet.
    Sync,
    /// Carries users' packets and heartbeats too.
    Critical,
    /// Carries users' packets only; its state counts, but nothing of the cluster is sent on it.
    Monitored,
}

impl LinkKind {
    /// True when heartbeats are sent and expected on such a link.
    #[must_use]
    pub const fn carries_heartbeats(self) -> bool {
        matches!(self, Self::Sync | Self::Critical)
    }
}

/// One link of a unit.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// The interface's name, for people.
    pub name: String,
    /// What it is for.
    pub kind: LinkKind,
    /// How much its health counts in the election. A link of weight 0 is not monitored, as is usual for
    /// sync links: a unit whose sync link failed still serves its users.
    pub weight: u16,
}

/// A part of the configuration that must be equal on all units: told, so that a difference can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPart {
    /// What operators call it.
    pub name: String,
    /// Hash of what it says here; of a part that says nothing, of nothing.
    pub digest: u32,
}

impl ConfigPart {
    /// The most parts that travel.
    pub const MAX: usize = 32;
}

/// Everything a [`Node`](crate::Node) is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cluster id, the same on all units.
    pub cluster: u16,
    /// This unit's id, different on all units.
    pub unit: UnitId,
    /// This unit's name, for people. At most [`Settings::MAX_TEXT`] bytes travel.
    pub name: String,
    /// Higher is preferred.
    pub priority: u8,
    /// Take the primary role from a unit of lower priority that is equally healthy.
    pub preempt: bool,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How many heartbeats may be missing before a peer counts as dead.
    pub heartbeat_loss: u32,
    /// How long a fresh unit listens before it may become primary.
    pub hello_holddown: Duration,
    /// Ages that differ by less count as equal in the election.
    pub age_margin: Duration,
    /// How often the addresses are announced after a promotion.
    pub announce_count: u32,
    /// Time between two announcements.
    pub announce_interval: Duration,
    /// The cluster's secret.
    pub key: Key,
    /// This start of the unit.
    pub boot: Boot,
    /// The highest term that an earlier start of this unit was primary in, below 2²⁴; 0 if there was none. Without
    /// it, two starts of which nobody tells the later may write sessions in one term.
    pub last_term: u32,
    /// Its links; a [`LinkId`](crate::LinkId) is a position in this list.
    pub links: Vec<LinkSettings>,
    /// Hash of the parts of the configuration that must be equal on all units.
    pub config_hash: u64,
    /// What that consists of, by name. The first [`ConfigPart::MAX`] travel.
    pub config_parts: Vec<ConfigPart>,
    /// Software version. At most [`Settings::MAX_TEXT`] bytes travel.
    pub software: String,
    /// Whether sessions are synchronised.
    pub session_sync: bool,
    /// Shards of the local session table.
    pub shards: u16,
    /// How long the lease of the witness lasts; `None` when the cluster has no witness.
    pub witness: Option<Duration>,
    /// The rule by which the primary hands new sessions to units.
    pub schedule: Schedule,
    /// This unit's part of the new sessions, relative to the others'; 0: none.
    pub weight: u8,
    /// This unit's own MACs on its traffic interfaces. An interface that is one of the [links](Self::links),
    /// by its name, counts only while that is up.
    pub stations: Vec<Station>,
    /// The newest version of the protocol that it speaks: [`envelope::VERSION`] but in tests.
    pub protocol: u8,
}

/// What may change while a unit runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// As in [`Settings::priority`].
    pub priority: u8,
    /// As in [`Settings::preempt`].
    pub preempt: bool,
    /// As in [`Settings::schedule`].
    pub schedule: Schedule,
    /// As in [`Settings::weight`].
    pub weight: u8,
    /// As in [`Settings::config_hash`].
    pub config_hash: u64,
    /// As in [`Settings::config_parts`].
    pub config_parts: Vec<ConfigPart>,
}

/// Why settings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// See the message.
    #[error("heartbeat_interval is {0:?}; it must be between 1ms and 60s")]
    Interval(Duration),
    /// See the message.
    #[error("heartbeat_loss is {0}; it must be between 1 and 255")]
    Loss(u32),
    /// See the message.
    #[error("{0} links; a unit has at most {max}", max = Settings::MAX_LINKS)]
    Links(usize),
    /// See the message.
    #[error("announce_interval is {0:?}; it must be at least 1ms")]
    AnnounceInterval(Duration),
    /// See the message.
    #[error("the weights of all links add up to more than 65,535")]
    Weights,
    /// See the message.
    #[error("last_term is {0}; terms are below {end}", end = MAX_TERM + 1)]
    LastTerm(u32),
    /// See the message.
    #[error("{0} traffic interfaces; a unit has at most {max}", max = Settings::MAX_STATIONS)]
    Stations(usize),
    /// See the message.
    #[error(
        "version {0} of the protocol; this unit speaks {first} to {newest}",
        first = envelope::FIRST_VERSION, newest = envelope::VERSION
    )]
    Protocol(u8),
}

impl Settings {
    /// The most links that a unit can have.
    pub const MAX_LINKS: usize = 16;
    /// The most traffic interfaces that a unit can have.
    pub const MAX_STATIONS: usize = 16;
    /// The most bytes of a name or a software version that travel.
    pub const MAX_TEXT: usize = 32;

    /// Checks what a state machine cannot work with.
    ///
    /// # Errors
    /// The first value that is out of its limits.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let interval = self.heartbeat_interval;
        if interval < Duration::from_millis(1) || interval > Duration::from_secs(60) {
            return Err(SettingsError::Interval(interval));
        }
        if !(1..=255).contains(&self.heartbeat_loss) {
            return Err(SettingsError::Loss(self.heartbeat_loss));
        }
        if self.links.len() > Self::MAX_LINKS {
            return Err(SettingsError::Links(self.links.len()));
        }
        if self.announce_interval < Duration::from_millis(1) {
            return Err(SettingsError::AnnounceInterval(self.announce_interval));
        }
        let total: u64 = self.links.iter().map(|link| u64::from(link.weight)).sum();
        if total > u64::from(u16::MAX) {
            return Err(SettingsError::Weights);
        }
        if self.last_term > MAX_TERM {
            return Err(SettingsError::LastTerm(self.last_term));
        }
        if self.stations.len() > Self::MAX_STATIONS {
            return Err(SettingsError::Stations(self.stations.len()));
        }
        if !(envelope::FIRST_VERSION..=envelope::VERSION).contains(&self.protocol) {
            return Err(SettingsError::Protocol(self.protocol));
        }
        Ok(())
    }

    /// Silence after which this unit gives a peer up that beats as often as itself.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.heartbeat_interval * self.heartbeat_loss
    }
}
