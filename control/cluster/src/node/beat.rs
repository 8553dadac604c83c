//! What goes out by time: heartbeats and announcements.

use arrayvec::ArrayVec;

use crate::envelope::{FIRST_VERSION, Header, Kind};
use crate::heartbeat::{ConfigParts, Heard, Heartbeat, Position, Stations, Text};
use crate::{Action, ConfigPart, LinkId, Node, Role, Settings, Station, Time, UnitId, name_key};

impl Node {
    /// Sends a heartbeat on every link that is up, when one is due.
    pub(super) fn beat(&mut self, now: Time) {
        if now < self.beat_due {
            return;
        }
        // One that is late does not postpone the others: peers count from when they are due.
        let interval = self.settings.heartbeat_interval;
        let late = now.since(self.beat_due);
        self.beat_due = if late < interval / 2 {
            self.beat_due + interval
        } else {
            now + interval
        };
        let mut heartbeat = self.heartbeat(now);
        for link in self.heartbeat_links() {
            heartbeat.link = link;
            self.counters.heartbeats_sent += 1;
            self.send(link, Kind::Heartbeat, None, &heartbeat.encode());
        }
    }

    /// Links that are up and carry heartbeats.
    pub(super) fn heartbeat_links(&self) -> Vec<LinkId> {
        let links = self.settings.links.iter().zip(&self.links_up);
        (0..)
            .map(LinkId)
            .zip(links)
            .filter(|(_, (link, up))| link.kind.carries_heartbeats() && **up)
            .map(|(id, _)| id)
            .collect()
    }

    /// Seals a body and hands it to the driver.
    pub(super) fn send(&mut self, link: LinkId, kind: Kind, to: Option<UnitId>, body: &[u8]) {
        self.sequence += 1;
        let header = Header {
            version: self.version(),
            kind,
            cluster: self.settings.cluster,
            unit: self.settings.unit,
            to,
            length: 0,
            boot: self.settings.boot,
            sequence: self.sequence,
        };
        let payload = self.seal.close(header, body);
        self.actions.push_back(Action::Send { link, payload });
    }

    fn heartbeat(&self, now: Time) -> Heartbeat {
        let primary = self
            .primary
            .and_then(|unit| self.peer(unit))
            .filter(|peer| peer.trusted() && peer.claims_primary());
        let alive = self.peers.iter().flatten().filter(|peer| peer.alive);
        Heartbeat {
            term: self.term,
            role: self.role,
            workers: self.workers,
            eligible: self.is_eligible(now),
            synced: self.is_synced(),
            yielding: self.yielding.is_some(),
            preempt: self.settings.preempt,
            maintenance: self.maintenance,
            leaving: self.left,
            priority: self.settings.priority,
            link: LinkId(0),
            successor: self.yielding.map(|yielding| yielding.to),
            primary: primary.map(|peer| peer.unit),
            shards: self.settings.shards,
            primary_term: primary.map_or(0, |peer| peer.beat.term),
            primary_silence: primary.map_or_else(Default::default, |primary| {
                now.since(primary.silent_since(&self.settings))
            }),
            health: self.health,
            interval: self.settings.heartbeat_interval,
            age: self.age(now),
            config_hash: self.settings.config_hash,
            load: self.load,
            name: text(&self.settings.name),
            software: text(&self.settings.software),
            heard: alive
                .map(|peer| Heard {
                    unit: peer.unit,
                    boot: peer.boot,
                    links: peer.remote_links(peer.detection(&self.settings), now),
                })
                .collect(),
            positions: self.positions(),
            oldest: FIRST_VERSION,
            newest: self.settings.protocol,
            weight: self.settings.weight,
            willing: self.is_willing(),
            stations: self.stations(),
            config_parts: config_parts(&self.settings),
        }
    }

    /// The newest version that every live peer speaks. One that is alive but not verified counts too:
    /// it could not verify us if it did not understand us.
    pub(super) fn version(&self) -> u8 {
        let alive = self.peers.iter().flatten().filter(|peer| peer.alive);
        alive.fold(self.settings.protocol, |version, peer| {
            version.min(peer.beat.newest)
        })
    }

    /// Where this unit is reached now.
    pub(super) fn stations(&self) -> Stations {
        let links = self.settings.links.iter().zip(&self.links_up);
        let is_down = |station: &&Station| {
            links
                .clone()
                .any(|(link, up)| !up && name_key(&link.name) == station.interface)
        };
        let stations = self.settings.stations.iter();
        stations.filter(|s| !is_down(s)).copied().collect()
    }

    /// How far this unit's own streams are.
    fn positions(&self) -> ArrayVec<Position, { Heartbeat::MAX_POSITIONS }> {
        let origin = self.settings.unit;
        let streams = self.sync.positions().take(Heartbeat::MAX_POSITIONS);
        streams
            .map(|stream| Position {
                origin,
                shard: stream.shard,
                segment: stream.next - 1,
            })
            .collect()
    }

    /// Announces the addresses for the first time now, and then as often as configured.
    pub(super) fn start_announcing(&mut self, now: Time) {
        self.announcements = self.settings.announce_count;
        self.announce_due = if self.announcements == 0 {
            Time::NEVER
        } else {
            now
        };
    }

    pub(super) fn stop_announcing(&mut self) {
        self.announcements = 0;
        self.announce_due = Time::NEVER;
    }

    pub(super) fn announce(&mut self, now: Time) {
        if now < self.announce_due || self.role != Role::Primary {
            return;
        }
        self.announcements = self.announcements.saturating_sub(1);
        self.announce_due = if self.announcements == 0 {
            Time::NEVER
        } else {
            now + self.settings.announce_interval
        };
        self.counters.announcements += 1;
        self.actions.push_back(Action::Announce);
    }
}

/// What travels of the parts of the configuration.
fn config_parts(settings: &Settings) -> ConfigParts {
    let parts = settings.config_parts.iter().take(ConfigPart::MAX);
    parts
        .map(|part| (name_key(&part.name), part.digest))
        .collect()
}

/// As much of a text as travels, cut between characters.
fn text(full: &str) -> Text {
    let end = full.floor_char_boundary(Settings::MAX_TEXT);
    Text::from(&full[..end]).unwrap_or_default()
}
