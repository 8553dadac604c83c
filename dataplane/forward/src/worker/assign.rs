//! The assign stage: whose packets these are, where several units own sessions.
//!
//! ```text
//!            client ──▶ virtual MAC of the primary
//!                          │ its own session, or nobody else's: processed here
//!                          │ another unit's: passed on unchanged, on the same segment,
//!                          ▼ from the primary's own MAC to that unit's own MAC
//!                        owner ──▶ translated, tracked, sent to the next hop from its own MAC
//! ```
//!
//! **The owner admits.** The primary looks up policy and route of a first packet as always; if it may
//! begin a session and the schedule names another unit, it passes the packet on and remembers that in a
//! provisional session. All else (translation, state, timers, telling the peers) is the owner's.
//!
//! **Passing on is assigning.** A unit that gets a packet of a session that it does not own takes the
//! session over. So no unit has to agree with another about who owns what: the primary decides, one
//! session at a time, when a packet of it comes.
//!
//! **Never twice.** What came from another unit's own MAC to this unit's own MAC was passed on, and is
//! processed here or dropped. So no packet goes around, whatever two units believe of each other.
//!
//! Replies to a translated address may come before the owner has told of the session. Which unit chose
//! the port is known from its class ([`PORT_CLASSES`]), so they are passed to that one.

use dpdk::Mbuf;
use packet::{Kind, Mac, Tuple, ethernet, ipv4};
use session::Hit;
use zerocopy::FromBytes;

use super::decision::begins_connection;
use super::newcomer::Newcomer;
use super::{Core, Scene};
use crate::batch::CAPACITY;
use crate::counters::{Drop, Event};
use crate::distribution::Duty;
use crate::interface::InterfaceId;
use crate::nat::{FIRST_PORT, PORT_CLASSES};
use crate::port::PortIo;

/// Whose a packet of the burst is.
enum Whose {
    /// This unit's, by its session or to be decided by admission.
    Ours,
    /// That of the unit with this MAC.
    Theirs(Mac),
    /// The successor's, to which everything is passed.
    Relayed(Option<Mac>),
    /// It has a session that is good for nothing any more: as if it had none.
    Nobodys,
}

impl<P: PortIo> Core<P> {
    /// Passes on what other units process.
    #[inline(never)]
    pub(super) fn assign(&mut self, scene: &Scene<'_>) {
        for position in 0..self.batch.len.min(CAPACITY) {
            if self.batch.mbufs[position].is_none() {
                continue;
            }
            match self.whose(scene, position) {
                Whose::Ours => {}
                Whose::Theirs(station) => {
                    self.batch.hits[position] = None;
                    self.redirect(scene, position, station);
                }
                Whose::Relayed(station) => {
                    self.batch.hits[position] = None;
                    self.relay(scene, position, station);
                }
                Whose::Nobodys => {
                    self.batch.hits[position] = None;
                    self.batch.misses |= 1 << position;
                }
            }
        }
    }

    fn whose(&mut self, scene: &Scene<'_>, position: usize) -> Whose {
        let hit = self.batch.hits[position];
        if let Duty::Relay { to } = scene.snapshot.duty
            && !self.is_passed_on(scene, position)
        {
            return self.whose_while_relaying(scene, position, hit, to);
        }
        match hit {
            // What this unit let go in this burst.
            Some(hit)
                if self.batch.evicted && !self.shard.confirms(hit, &self.batch.keys[position]) =>
            {
                Whose::Nobodys
            }
            Some(hit) if self.shard.owner(hit) != scene.snapshot.unit => {
                self.whose_session(scene, position, hit)
            }
            _ => Whose::Ours,
        }
    }

    /// Whose a packet is that has the session of another unit. Only a primary passes it on.
    fn whose_session(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) -> Whose {
        let (sharing, ingress) = (scene.snapshot.sharing(), self.batch.ingress[position]);
        let assigned = !scene.snapshot.is_primary() || self.is_passed_on(scene, position);
        let provisional = self.shard.is_provisional(hit.id());
        if !assigned && let Some(station) = self.keeper(scene, hit, ingress) {
            // The primary knows what is in use, should the owner die; but it gives up on an owner
            // that tells nothing.
            if !provisional {
                self.shard.touch(hit, scene.now.tick);
            }
            return Whose::Theirs(station);
        }
        if provisional {
            self.shard.remove(hit.id());
            self.batch.evicted = true;
            return Whose::Nobodys;
        }
        if assigned {
            return Whose::Ours;
        }
        let original = self.shard.session(hit.id()).tuples[0];
        let picked = self.pick(scene, &original);
        self.picker.entered();
        let other = picked.and_then(|unit| Some((unit, sharing.owner_station(unit, ingress)?)));
        match other {
            Some((unit, station)) => {
                self.shard.assign(hit, unit);
                self.counters.happened(Event::SessionsReassigned);
                Whose::Theirs(station)
            }
            None => Whose::Ours,
        }
    }

    /// Where the owner of a session is reached, as long as the session stays with it. One that may
    /// have begun the session and not yet told keeps it as long as it lives: nobody else knows what it
    /// made of it.
    fn keeper(&self, scene: &Scene<'_>, hit: Hit, ingress: InterfaceId) -> Option<Mac> {
        let (sharing, owner) = (scene.snapshot.sharing(), self.shard.owner(hit));
        match self.shard.is_provisional(hit.id()) {
            true => sharing.station(owner, ingress),
            false => sharing.owner_station(owner, ingress),
        }
    }

    /// Whose a packet is that came here although this unit handed over: a third unit's if that owns its
    /// session, or else the successor's.
    fn whose_while_relaying(
        &mut self,
        scene: &Scene<'_>,
        position: usize,
        hit: Option<Hit>,
        to: u8,
    ) -> Whose {
        let (sharing, ingress) = (scene.snapshot.sharing(), self.batch.ingress[position]);
        let third = hit
            .filter(|hit| self.shard.owner(*hit) != to)
            .and_then(|hit| self.keeper(scene, hit, ingress));
        match third {
            Some(station) => Whose::Theirs(station),
            None => Whose::Relayed(sharing.station(to, ingress)),
        }
    }

    /// The unit that is to own the session which a packet begins.
    pub(super) fn owner_of(&mut self, scene: &Scene<'_>, newcomer: &Newcomer) -> u8 {
        let (snapshot, unit) = (scene.snapshot, scene.snapshot.unit);
        if !snapshot.is_primary() || self.is_passed_on(scene, newcomer.position) {
            return unit;
        }
        let ingress = self.batch.ingress[newcomer.position];
        let picked = self.pick(scene, &newcomer.tuple());
        picked
            .filter(|owner| snapshot.sharing().owner_station(*owner, ingress).is_some())
            .unwrap_or(unit)
    }

    /// Picks an owner by the schedule.
    fn pick(&mut self, scene: &Scene<'_>, tuple: &Tuple) -> Option<u8> {
        let (distribution, sharing) = (&scene.snapshot.distribution, scene.snapshot.sharing());
        let owned = |unit| self.shard.owned(unit).into();
        self.picker.pick(distribution, sharing, tuple, owned)
    }

    /// The unit that may have translated the source which a packet that begins nothing replies to.
    pub(super) fn translator_of(&self, scene: &Scene<'_>, newcomer: &Newcomer) -> Option<u8> {
        let snapshot = scene.snapshot;
        let port = newcomer.destination_port;
        let is_reply = match newcomer.kind {
            Kind::Tcp => !begins_connection(newcomer.tcp_flags),
            Kind::IcmpQuery { request } => !request,
            Kind::Udp | Kind::IcmpError => true,
            _ => false,
        };
        let is_chosen = newcomer.protocol == ipv4::PROTOCOL_ICMP || port >= FIRST_PORT;
        if !(snapshot.is_primary()
            && is_reply
            && is_chosen
            && snapshot.is_translated(newcomer.destination))
        {
            return None;
        }
        let [.., class] = (port % PORT_CLASSES).to_be_bytes();
        let unit = class + 1;
        let ingress = self.batch.ingress[newcomer.position];
        let reached = snapshot.sharing().station(unit, ingress).is_some();
        (reached && !self.is_passed_on(scene, newcomer.position)).then_some(unit)
    }

    /// Lets a packet go on with the session that began in this burst, here or at its owner.
    #[inline(never)]
    pub(super) fn follow_to_owner(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) {
        let owner = self.shard.owner(hit);
        if owner == scene.snapshot.unit || self.is_passed_on(scene, position) {
            self.batch.hits[position] = Some(hit);
        } else if let Some(mbuf) = self.batch.mbufs[position].take() {
            self.redirect_to(scene, self.batch.ingress[position], mbuf, owner);
        }
    }

    /// True for a packet that another unit passed to this one.
    pub(super) fn is_passed_on(&self, scene: &Scene<'_>, position: usize) -> bool {
        let Some(mbuf) = &self.batch.mbufs[position] else {
            return false;
        };
        let ingress = self.batch.ingress[position];
        let own = scene.snapshot.interface(ingress).map(|here| here.mac);
        ethernet::Header::ref_from_prefix(mbuf.data()).is_ok_and(|(header, _)| {
            Some(header.destination) == own
                && scene.snapshot.sharing().is_station(header.source, ingress)
        })
    }

    /// Passes a packet of the batch to its owner.
    fn redirect(&mut self, scene: &Scene<'_>, position: usize, station: Mac) {
        if let Some(mbuf) = self.batch.mbufs[position].take() {
            let ingress = self.batch.ingress[position];
            self.pass_on(scene, ingress, mbuf, station, Event::Redirected);
        }
    }

    /// Passes a packet of the batch to the successor.
    fn relay(&mut self, scene: &Scene<'_>, position: usize, station: Option<Mac>) {
        let Some(mbuf) = self.batch.mbufs[position].take() else {
            return;
        };
        let ingress = self.batch.ingress[position];
        match station {
            Some(station) => self.pass_on(scene, ingress, mbuf, station, Event::Relayed),
            None => self.counters.lose(Drop::NoStation),
        }
    }

    /// Passes a packet to the unit with this id, unless that is not reached where it came in.
    pub(super) fn redirect_to(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        mbuf: Mbuf,
        unit: u8,
    ) {
        match scene.snapshot.sharing().station(unit, ingress) {
            Some(station) => self.pass_on(scene, ingress, mbuf, station, Event::Redirected),
            None => self.counters.lose(Drop::NoStation),
        }
    }

    /// Sends a packet back out of the interface that it came in by, as it is but for the stations: to
    /// another unit, from this unit's own MAC, because switches learn.
    fn pass_on(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        mut mbuf: Mbuf,
        station: Mac,
        event: Event,
    ) {
        let own = scene.snapshot.interface(ingress).map(|here| here.mac);
        if let (Some(own), Ok((header, _))) =
            (own, ethernet::Header::mut_from_prefix(mbuf.data_mut()))
        {
            header.destination = station;
            header.source = own;
        }
        if self.egress.send(ingress, mbuf) {
            self.counters.happened(event);
        }
    }
}
