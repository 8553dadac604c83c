//! What a unit tells operators.

use crate::peer::Peer;
use crate::status::{LinkStatus, PeerLinkStatus, PeerStatus, Status};
use crate::{Boot, Health, LinkId, LinkKind, Node, Role, Settings, Time, UnitId};

impl Node {
    /// This unit and its peers, as it sees them.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let is_primary = self.role == Role::Primary;
        Status {
            unit: self.settings.unit,
            name: self.settings.name.clone(),
            boot: self.settings.boot,
            role: self.role,
            role_for: now.since(self.role_since),
            term: self.term,
            primary: if is_primary {
                Some(self.settings.unit)
            } else {
                self.primary
            },
            eligible: self.is_eligible(now),
            synced: self.is_synced(),
            workers: self.workers,
            handing_over_to: self.heir(),
            health: self.health,
            age: self.age(now),
            priority: self.settings.priority,
            version: self.version(),
            witness: self.witness_status(now),
            links: self.link_status(),
            peers: self
                .peers
                .iter()
                .flatten()
                .map(|peer| self.peer_status(peer, now))
                .collect(),
        }
    }

    /// What this unit does now.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its monitored links, as far as they are believed.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// The highest term known; while primary, its own.
    #[must_use]
    pub const fn term(&self) -> u32 {
        self.term
    }

    /// The start of a peer that is alive and verified.
    #[must_use]
    pub fn start_of(&self, peer: UnitId) -> Option<Boot> {
        let peer = self.peer(peer).filter(|peer| peer.trusted())?;
        Some(peer.boot)
    }

    /// What the unit was started with.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    fn link_status(&self) -> Vec<LinkStatus> {
        let links = self.settings.links.iter().zip(&self.links_up);
        (0..)
            .map(LinkId)
            .zip(links)
            .map(|(link, (settings, up))| LinkStatus {
                link,
                name: settings.name.clone(),
                kind: settings.kind,
                weight: settings.weight,
                up: *up,
            })
            .collect()
    }

    fn peer_status(&self, peer: &Peer, now: Time) -> PeerStatus {
        let beat = &peer.beat;
        PeerStatus {
            unit: peer.unit,
            name: beat.name.to_string(),
            software: beat.software.to_string(),
            boot: peer.boot,
            alive: peer.alive,
            verified: peer.verified,
            role: beat.role,
            term: beat.term,
            eligible: beat.eligible,
            synced: beat.synced,
            health: beat.health,
            age: beat.age + now.since(peer.beat_at),
            priority: beat.priority,
            weight: beat.weight,
            version: beat.newest,
            load: beat.load,
            lag: self.sync.lag(peer.unit),
            configuration_agrees: peer.configuration_agrees,
            differences: peer.differences.clone(),
            last_heard: now.since(peer.last_heard),
            links: self.peer_links(peer, now),
        }
    }

    fn peer_links(&self, peer: &Peer, now: Time) -> Vec<PeerLinkStatus> {
        let reached = peer
            .hears(self.settings.unit, self.settings.boot)
            .map_or(0, |heard| heard.links);
        let links = (0..)
            .map(LinkId)
            .zip(self.settings.links.iter().zip(&peer.links));
        links
            .filter(|(_, (settings, _))| LinkKind::carries_heartbeats(settings.kind))
            .map(|(link, (_, state))| PeerLinkStatus {
                link,
                heard: state.alive,
                hears_us: reached & 1 << link.0 != 0,
                last_heard: state.last_heard.map(|time| now.since(time)),
            })
            .collect()
    }

    /// The streams to and from the peers.
    #[must_use]
    pub const fn synchronisation(&self) -> &crate::sync::Sync {
        &self.sync
    }
}
