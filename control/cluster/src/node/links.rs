//! This unit's own links and workers, and which peers are heard on them.

use std::time::Duration;

use super::MAX_HOLD;
use crate::peer::Peer;
use crate::{Event, Health, LinkId, Node, Role, Time, UnitId};

/// How long nothing must fail for one failure to be forgotten.
const CALM: Duration = Duration::from_secs(60);

/// How often something failed lately after it had been believed: each time doubles how long it must last
/// before it is believed again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flapping {
    failures: u32,
    last: Time,
}

impl Flapping {
    /// Failures that are not forgotten at `now`.
    fn remembered(&self, now: Time) -> u32 {
        let forgotten = now.since(self.last).as_secs() / CALM.as_secs();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.failures.saturating_sub(forgotten)
    }

    pub(super) fn fail(&mut self, now: Time) {
        self.failures = self.remembered(now).saturating_add(1);
        self.last = now;
    }

    /// How long an improvement that began at `since` must last. The first failure costs nothing more than
    /// usual.
    pub(super) fn hold(&self, usual: Duration, since: Time) -> Duration {
        let doublings = self.remembered(since).saturating_sub(1).min(16);
        (usual * (1 << doublings)).min(MAX_HOLD.max(usual))
    }

    /// Whether the last failure is so long ago that another attempt is worth its cost.
    pub(super) fn may_try_again(&self, usual: Duration, now: Time) -> bool {
        self.failures == 0 || now >= self.last + self.hold(usual, self.last)
    }
}

impl Node {
    /// A link came up or went down. A failure of a monitored link makes the unit young again.
    pub fn handle_link(&mut self, link: LinkId, up: bool, now: Time) {
        self.observe(now);
        let Some(state) = self.links_up.get_mut(link.index()) else {
            return;
        };
        if std::mem::replace(state, up) == up {
            return;
        }
        if !up && self.settings.links[link.index()].weight > 0 {
            self.capable_since = now;
        }
        self.beat_due = now;
        self.distribution_is_stale();
        self.decide(now);
    }

    /// The workers stopped forwarding, or forward again: a unit whose workers stopped is not alive.
    pub fn handle_workers(&mut self, alive: bool, now: Time) {
        self.observe(now);
        if std::mem::replace(&mut self.workers, alive) == alive {
            return;
        }
        if alive && self.begun {
            self.sync.distrust_table();
        }
        self.capable_since = now;
        self.beat_due = now;
        self.distribution_is_stale();
        self.decide(now);
    }

    /// Weight of the monitored links that are up at this moment.
    pub(super) fn actual_health(&self) -> u16 {
        let links = self.settings.links.iter().zip(&self.links_up);
        links
            .filter(|(_, up)| **up)
            .map(|(link, _)| link.weight)
            .sum()
    }

    /// Worse counts at once. Better counts when it was stable for a while, the longer the more often it was
    /// not, lest a flapping link move the role with it; only while fresh, when there is nothing to move, at once too.
    pub(super) fn settle_health(&mut self, now: Time) {
        let actual = self.actual_health();
        let fresh = self.role == Role::Candidate && now < self.listening_until;
        if actual == self.health.healthy {
            self.improving = None;
        } else if actual < self.health.healthy {
            self.flapping.fail(now);
            self.publish_health(actual, now);
        } else if fresh {
            self.publish_health(actual, now);
        } else {
            let since = match self.improving {
                Some((health, since)) if health == actual => since,
                _ => now,
            };
            self.improving = Some((actual, since));
            if now >= since + self.hold(since) {
                self.publish_health(actual, now);
            }
        }
    }

    fn publish_health(&mut self, healthy: u16, now: Time) {
        self.health = Health {
            healthy,
            ..self.health
        };
        self.improving = None;
        self.beat_due = now;
        self.distribution_is_stale();
    }

    /// A unit without workers, or without any monitored link and any peer, cannot serve.
    pub(super) fn can_serve(&self) -> bool {
        let cut_off = self.health.total > 0
            && self.actual_health() == 0
            && !self.peers.iter().flatten().any(|peer| peer.alive);
        self.workers && !cut_off
    }

    /// Gives up links and peers that were silent for too long.
    pub(super) fn expire(&mut self, now: Time) {
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers[index].as_deref_mut() else {
                continue;
            };
            let detection = peer.detection(&self.settings);
            let unit = peer.unit;
            let lost = silent_links(peer, detection, now);
            let silent = now.since(peer.silent_since(&self.settings));
            if peer.alive && silent >= detection {
                peer.alive = false;
                self.counters.peers_lost += 1;
                self.distribution_is_stale();
                self.event(Event::PeerDown { peer: unit, silent });
            } else if peer.alive {
                self.report_links(unit, lost);
            }
        }
    }

    fn report_links(&mut self, peer: UnitId, lost: u16) {
        for link in (0..).map(LinkId).take(self.links_up.len()) {
            if lost & 1 << link.0 != 0 {
                self.event(Event::PeerLinkDown { peer, link });
            }
        }
    }

    /// When something about a peer becomes due: a link of it, or the whole of it.
    pub(super) fn peer_deadline(&self, peer: &Peer) -> Time {
        let detection = peer.detection(&self.settings);
        let links = peer.links.iter().filter(|link| link.alive);
        let link = links.filter_map(|link| link.last_heard).min();
        let whole = peer.alive.then(|| peer.silent_since(&self.settings));
        link.into_iter()
            .chain(whole)
            .min()
            .map_or(Time::NEVER, |time| time + detection)
    }
}

/// Marks the links on which the peer has been silent for too long, and returns them as bits.
fn silent_links(peer: &mut Peer, detection: Duration, now: Time) -> u16 {
    let mut lost = 0;
    for (index, link) in peer.links.iter_mut().enumerate() {
        let silent = link.last_heard.is_none_or(|time| now >= time + detection);
        if link.alive && silent {
            link.alive = false;
            lost |= 1 << index;
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_failure_doubles_the_hold_and_a_calm_minute_forgets_one() {
        let mut flapping = Flapping::default();
        let mut now = Time(0) + SECOND * 1_000;
        let mut holds = Vec::new();
        for _ in 0..8 {
            flapping.fail(now);
            holds.push(flapping.hold(SECOND, now).as_secs());
            now = now + SECOND * 10;
        }
        assert_eq!(holds, [1, 2, 4, 8, 16, 32, 60, 60]);
        let later = |minutes| flapping.hold(SECOND, now + SECOND * 60 * minutes).as_secs();
        assert_eq!([1, 2, 3, 4, 7, 100].map(later), [60, 32, 16, 8, 1, 1]);
        // A hold-down above the limit stays what it is.
        assert_eq!(flapping.hold(SECOND * 90, now), SECOND * 90);
    }
}
