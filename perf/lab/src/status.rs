//! What `tidegate --json status` says, as far as the lab needs it.

use serde::Deserialize;

/// The state of one unit as it reports itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The unit's id.
    pub unit: u8,
    /// The unit's name.
    pub name: String,
    /// What it does now.
    pub role: Role,
    /// The newest term that it knows.
    pub term: u32,
    /// How many sessions it holds.
    pub sessions: Sessions,
    /// The other units as it sees them.
    pub peers: Vec<Peer>,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
}

/// The role of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It has the virtual MAC and forwards.
    Primary,
    /// It holds the state, ready to take over.
    Subordinate,
    /// It negotiates.
    Candidate,
    /// It is alone or fenced.
    Isolated,
    /// An operator holds it out.
    Maintenance,
    /// A role that this lab does not know.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Subordinate => "subordinate",
            Self::Candidate => "candidate",
            Self::Isolated => "isolated",
            Self::Maintenance => "maintenance",
            Self::Unknown => "unknown",
        })
    }
}

/// The fill of a unit's session table.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Sessions {
    /// Sessions held now.
    pub total: u64,
    /// Sessions that fit.
    pub capacity: u64,
}

/// Another unit, as one unit sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its id.
    pub unit: u8,
    /// Whether its heartbeats arrive.
    pub alive: bool,
    /// Whether both hold the same sessions, but for the deltas under way.
    pub synced: bool,
}

/// One interface of a unit.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// Its link, as the API spells it: `true` or `"up"`.
    pub link: serde_json::Value,
    /// The unit's own MAC on it.
    pub mac: String,
}

impl Status {
    /// Whether this unit hears the peer `unit` and both are in step.
    pub fn is_synced_with(&self, unit: u8) -> bool {
        self.peers
            .iter()
            .any(|peer| peer.unit == unit && peer.alive && peer.synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_of_the_design_and_skips_the_rest() {
        let text = r#"{"unit": 2, "name": "u2", "role": "subordinate", "term": 3, "cluster": 7,
            "uptime_s": 9, "sessions": {"total": 12, "capacity": 1000},
            "peers": [{"unit": 1, "alive": true, "role": "primary", "synced": true, "lag": 0}],
            "interfaces": [{"name": "lan", "link": true, "mac": "02:00:00:00:00:01",
                            "rx_packets": 1, "tx_packets": 2}], "more": null}"#;
        let status: Status = serde_json::from_str(text).expect("it is a status");
        assert_eq!(status.role, Role::Subordinate);
        assert_eq!(
            (status.unit, status.term, status.sessions.total),
            (2, 3, 12)
        );
        assert!(status.is_synced_with(1));
        assert!(!status.is_synced_with(3));
    }

    #[test]
    fn a_role_of_the_future_is_unknown() {
        assert_eq!(
            serde_json::from_str::<Role>("\"moored\"").expect("any word"),
            Role::Unknown
        );
    }
}
