//! Frames from peers: refused with a reason, or believed.

use crate::envelope::{Header, Kind, Rejection, Seal};
use crate::heartbeat::Heartbeat;
use crate::peer::Peer;
use crate::{Event, LinkId, Node, Role, Time, UnitId};

impl Node {
    /// A frame came: what followed its Ethernet header, maybe padded. A bad one is counted by reason, which
    /// is returned: only the driver knows from which station it came.
    pub fn handle_frame(&mut self, link: LinkId, payload: &[u8], now: Time) -> Option<Rejection> {
        if self.left {
            return None;
        }
        self.observe(now);
        let refused = self.accept(link, payload, now).err();
        if let Some(reason) = refused {
            self.counters.reject(reason);
            self.suspect(reason, now);
        }
        self.decide(now);
        refused
    }

    /// Somebody uses this cluster's id with another key, or this unit's id. While that goes on, a unit that
    /// has never been part of anything takes no role: it may be the one that is wrong here.
    fn suspect(&mut self, reason: Rejection, now: Time) {
        if matches!(reason, Rejection::Authentication | Rejection::DuplicateUnit) {
            let memory = self.settings.hello_holddown;
            self.strange_until = now + memory.max(self.settings.detection() * 3);
        }
    }

    /// True for a unit that was never primary nor heard by a peer, and hears a cluster that is not its own.
    pub(super) fn is_out_of_place(&self, now: Time) -> bool {
        let mut peers = self.peers.iter().flatten();
        let fresh = self.counters.promotions == 0 && !peers.any(|peer| peer.verified);
        fresh && now < self.strange_until
    }

    fn accept(&mut self, link: LinkId, frame: &[u8], now: Time) -> Result<(), Rejection> {
        let expected = self.settings.links.get(link.index());
        if !expected.is_some_and(|link| link.kind.carries_heartbeats()) {
            return Err(Rejection::Link);
        }
        let header = Header::decode(frame)?;
        if header.version > self.settings.protocol {
            return Err(Rejection::Version);
        }
        if header.cluster != self.settings.cluster {
            return Err(Rejection::Cluster);
        }
        if header.unit == self.settings.unit {
            return Err(self.own_id(&header, frame));
        }
        if header.to.is_some_and(|to| to != self.settings.unit) {
            return Err(Rejection::Addressee);
        }
        match self.peer(header.unit) {
            Some(peer) if peer.boot == header.boot => {
                if !peer.window.is_fresh(header.sequence) {
                    return Err(Rejection::Replayed);
                }
                let body = peer.seal.open(&header, frame)?;
                self.accept_body(link, &header, &body, now)
            }
            Some(peer) if peer.is_retired(header.boot) => Err(Rejection::OldBoot),
            Some(peer) if peer.before(header.boot).is_some() => {
                self.accept_return(link, &header, frame, now)
            }
            _ => self.accept_start(link, &header, frame, now),
        }
    }

    /// A frame with this unit's own id: a loop in the network, or a unit that was given the same id.
    fn own_id(&self, header: &Header, frame: &[u8]) -> Rejection {
        if header.boot == self.settings.boot {
            return Rejection::Own;
        }
        let (key, cluster) = (&self.settings.key, self.settings.cluster);
        let other = Seal::new(key, cluster, header.unit, header.boot);
        match other.open(header, frame) {
            Ok(_) => Rejection::DuplicateUnit,
            Err(reason) => reason,
        }
    }

    /// A frame of a verified start that another one, maybe a recording, had replaced: it goes on, if it may.
    fn accept_return(
        &mut self,
        link: LinkId,
        header: &Header,
        frame: &[u8],
        now: Time,
    ) -> Result<(), Rejection> {
        let known = self.peer(header.unit).ok_or(Rejection::OldBoot)?;
        let before = known.before(header.boot);
        let before = before.filter(|before| known.gives_way_to(before));
        let before = before.ok_or(Rejection::OldBoot)?;
        if !before.window.is_fresh(header.sequence) {
            return Err(Rejection::Replayed);
        }
        let body = before.seal.open(header, frame)?;
        let slot = &mut self.peers[header.unit.index()];
        *slot = slot.take().map(Peer::restored);
        self.sync.peer_down(header.unit);
        self.accept_body(link, header, &body, now)
    }

    /// The first frame of a start that is not known. It never replaces one that is alive and verified: that
    /// one has to fall silent first, or two units with one id would take turns. One that is alive and not
    /// verified gives way to a later one; an earlier one (the wall clock stepped back) replaces one that is
    /// silent, and only with the echo that a recording from before our own start cannot have.
    fn accept_start(
        &mut self,
        link: LinkId,
        header: &Header,
        frame: &[u8],
        now: Time,
    ) -> Result<(), Rejection> {
        let (key, cluster) = (&self.settings.key, self.settings.cluster);
        let seal = Seal::new(key, cluster, header.unit, header.boot);
        let body = seal.open(header, frame)?;
        if header.kind != Kind::Heartbeat {
            return Err(Rejection::Unverified);
        }
        let beat = Heartbeat::decode(&body).map_err(|_| Rejection::Malformed)?;
        let echoed = echoes(&beat, self);
        let usual = self.settings.detection();
        if let Some(known) = self.peer_mut(header.unit) {
            if known.trusted() && echoed {
                let contended = known.contend(header.boot, usual, now);
                return Err(if contended {
                    Rejection::DuplicateUnit
                } else {
                    Rejection::Unverified
                });
            }
            if known.boot > header.boot && (known.alive || !echoed) {
                return Err(Rejection::OldBoot);
            }
            if known.trusted() {
                return Err(Rejection::Unverified);
            }
        }
        let (unit, links) = (header.unit, self.links_up.len());
        let known = self.peers[unit.index()].take();
        let restarted = known.is_some();
        let peer = match known {
            Some(known) => known.restarted(header.boot, seal, beat, now),
            None => Peer::new(unit, header.boot, seal, beat, links, now),
        };
        self.peers[unit.index()] = Some(Box::new(peer));
        if restarted {
            self.sync.peer_down(unit);
            self.event(Event::PeerRestarted { peer: unit });
        }
        self.accept_body(link, header, &body, now)
    }

    /// The body of an authentic, fresh frame of a peer's present start.
    fn accept_body(
        &mut self,
        link: LinkId,
        header: &Header,
        body: &[u8],
        now: Time,
    ) -> Result<(), Rejection> {
        let peer = self.peer_mut(header.unit).ok_or(Rejection::Unverified)?;
        peer.window.mark(header.sequence);
        match header.kind {
            Kind::Heartbeat => {
                let beat = Heartbeat::decode(body).map_err(|_| Rejection::Malformed)?;
                self.accept_heartbeat(link, header, beat, now);
                self.counters.heartbeats_received += 1;
            }
            Kind::Sync => {
                // One that was silent says first what it is by now.
                if !peer.trusted() || peer.left {
                    return Err(Rejection::Unverified);
                }
                self.revive(header.unit, link, now);
                self.inform_sync(now);
                self.accept_sync(header.unit, body, now)?;
            }
            Kind::Neighbours => {
                if !peer.verified || peer.left {
                    return Err(Rejection::Unverified);
                }
                self.revive(header.unit, link, now);
                self.accept_neighbours(header.unit, body)?;
            }
        }
        Ok(())
    }

    fn accept_heartbeat(&mut self, link: LinkId, header: &Header, beat: Heartbeat, now: Time) {
        let unit = header.unit;
        self.distribution_is_stale();
        let echoed = echoes(&beat, self);
        let Some(peer) = self.peers[unit.index()].as_deref_mut() else {
            return;
        };
        let newest = header.sequence > peer.beat_sequence;
        if peer.left && !newest {
            return; // Sent before the goodbye and overtaken by it.
        }
        if echoed {
            peer.verify();
        }
        peer.reached_from(beat.link, header.sequence, now);
        if newest {
            let leaving = beat.leaving;
            peer.said(beat, header.sequence, now);
            let left = std::mem::replace(&mut peer.left, leaving);
            if peer.compare_configuration(&self.settings) {
                let event = if peer.configuration_agrees {
                    Event::ConfigurationAgrees { peer: unit }
                } else {
                    let parts = peer.differences.clone();
                    Event::ConfigurationDiffers { peer: unit, parts }
                };
                self.event(event);
            }
            self.learn_term(unit);
            self.compare_room(unit);
            self.compare_steps(unit, now);
            if leaving {
                return self.say_farewell(unit, left);
            }
        }
        self.revive(unit, link, now);
    }

    fn say_farewell(&mut self, unit: UnitId, already: bool) {
        if let Some(peer) = self.peer_mut(unit) {
            peer.alive = false;
            peer.links.iter_mut().for_each(|link| link.alive = false);
        }
        if !already {
            self.event(Event::PeerLeft { peer: unit });
        }
    }

    /// A peer was heard on a link: both are alive.
    fn revive(&mut self, unit: UnitId, link: LinkId, now: Time) {
        let Some(peer) = self.peer_mut(unit) else {
            return;
        };
        peer.heard_on(link, now);
        let was_alive = std::mem::replace(&mut peer.alive, true);
        let state = peer.links.get_mut(link.index());
        let link_was_alive = state.is_none_or(|state| std::mem::replace(&mut state.alive, true));
        if !was_alive {
            self.distribution_is_stale();
            self.event(Event::PeerUp { peer: unit });
            // It should not wait an interval to learn that it is heard.
            self.beat_due = now;
        } else if !link_was_alive {
            self.event(Event::PeerLinkUp { peer: unit, link });
        }
        if !link_was_alive && self.role == Role::Primary {
            // What was still to be sent from the virtual MAC when the link failed, in a ring or in a
            // card, has gone out just before this heartbeat: the switch takes it for moved.
            self.start_announcing(now);
        }
    }

    /// Takes the term over from a verified peer. Not from one that follows a primary that we do not
    /// follow: two halves that hear each other by a chain only would raise each other without end.
    fn learn_term(&mut self, unit: UnitId) {
        let Some(peer) = self.peer(unit).filter(|peer| peer.verified) else {
            return;
        };
        if self.role == Role::Primary && peer.beat.role == Role::Primary {
            return; // The terms say which of the two stays; they must not be mixed before.
        }
        let term = peer.beat.term;
        let ours = |primary| primary == self.settings.unit || Some(primary) == self.primary;
        let same_side = peer.beat.role == Role::Primary || peer.beat.primary.is_none_or(ours);
        if same_side && term > self.term {
            self.term = term;
            self.term_from = Some(unit);
        }
    }
}

fn echoes(beat: &Heartbeat, node: &Node) -> bool {
    let own = (node.settings.unit, node.settings.boot);
    beat.heard
        .iter()
        .any(|heard| (heard.unit, heard.boot) == own)
}
