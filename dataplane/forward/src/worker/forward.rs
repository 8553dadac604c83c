//! Tracking, routing, translation and transmission: what happens to packets that have a session.
//!
//! A plain packet touches one line of its session here, which knows how the packet leaves and
//! remembers where the last one went. Whatever is unusual about it sends it the general way.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::icmp::Problem;
use packet::plain::{self, Ends, Leaving, Plain};
use packet::{Layout, Mac, Tuple, ethernet, ipv4};
use session::{Hit, Rewrite, Search, Version};
use zerocopy::FromBytes;

use super::admit::positions;
use super::answer::Answer;
use super::{Core, Scene};
use crate::batch::CAPACITY;
use crate::counters::{Drop, Event};
use crate::fragment;
use crate::interface::{Interface, InterfaceId};
use crate::port::PortIo;
use crate::rings::PuntReason;
use crate::route::Hop;

/// What the route stage says about a packet.
enum Passage<'a> {
    /// It fits.
    Whole(Hop, &'a Interface),
    /// It has to be cut.
    Cut(Hop, &'a Interface),
    /// It cannot pass, and its sender is told why.
    Refuse(Drop, Problem),
}

/// How far a packet got on the short way.
enum Progress {
    /// Its fate is decided.
    Done,
    /// Its session knows of it; the rest is for the general way.
    Tracked,
    /// All of it is for the general way.
    None,
}

impl<P: PortIo> Core<P> {
    /// Finds the session of every packet of the burst, and sends those on their way that have one. In one
    /// pass: while one is sent, the memory looks for the sessions of those behind it. The others are the
    /// misses.
    pub(super) fn forward_known(&mut self, scene: &Scene<'_>) {
        let mut misses = 0;
        // Never more, but the compiler does not know.
        let len = self.batch.len.min(CAPACITY);
        let group = |start: usize| start.min(len)..(start + Search::GROUP).min(len);
        self.shard.narrow(&mut self.batch.search, group(0));
        self.shard
            .narrow(&mut self.batch.search, group(Search::GROUP));
        for start in (0..len).step_by(Search::GROUP) {
            let ahead = group(start + 2 * Search::GROUP);
            self.shard.narrow(&mut self.batch.search, ahead);
            for position in group(start) {
                if self.forward_datagram(scene, position) {
                    continue;
                }
                let key = &self.batch.keys[position];
                let hit = match self.batch.evicted {
                    false => self.shard.settle(&self.batch.search, position, key),
                    // The session that went may have moved others in the index.
                    true => self.shard.lookup_key(key),
                };
                match hit {
                    Some(hit) => self.forward_one(scene, position, hit),
                    None => {
                        self.batch.hits[position] = None;
                        misses |= 1 << position;
                    }
                }
            }
        }
        self.batch.misses = misses;
    }

    /// Sends those of these packets that have a session on their way.
    #[inline(never)]
    pub(super) fn forward(&mut self, scene: &Scene<'_>, packets: u64) {
        for position in positions(packets) {
            let Some(hit) = self.batch.hits[position] else {
                continue;
            };
            // A session that began in this burst may have taken the slot of this one.
            if self.batch.evicted && !self.shard.confirms(hit, &self.batch.keys[position]) {
                self.forward_general(scene, position, hit, false);
            } else {
                self.forward_one(scene, position, hit);
            }
        }
    }

    /// Finds the session of a packet and sends it on its way, in one look at one cache line. False when the
    /// packet is not a plain datagram of a session that remembers the way: then it is as good as untouched.
    #[inline(always)]
    fn forward_datagram(&mut self, scene: &Scene<'_>, position: usize) -> bool {
        let plain = self.batch.plains[position];
        let is_datagram = self.batch.is_plain(position) && plain.protocol == ipv4::PROTOCOL_UDP;
        if !is_datagram || self.batch.evicted {
            return false;
        }
        let (search, key) = (&self.batch.search, &self.batch.keys[position]);
        let (unit, now) = (scene.snapshot.unit, scene.now.tick);
        let rewrite = self.shard.settle_datagram(search, position, key, unit, now);
        rewrite
            .is_some_and(|rewrite| matches!(self.leave(position, plain, &rewrite), Progress::Done))
    }

    #[inline]
    fn forward_one(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) {
        let progress = match self.batch.is_plain(position) {
            true => self.forward_plain(scene, position, hit),
            false => self.forward_first(position, hit),
        };
        if !matches!(progress, Progress::Done) {
            let tracked = matches!(progress, Progress::Tracked);
            self.forward_general(scene, position, hit, tracked);
        }
    }

    #[inline(always)]
    fn forward_plain(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) -> Progress {
        let plain = self.batch.plains[position];
        if plain.protocol != ipv4::PROTOCOL_UDP {
            return self.forward_segment(scene, position, plain, hit);
        }
        let (unit, now) = (scene.snapshot.unit, scene.now.tick);
        match self.shard.pass_datagram(hit, unit, now) {
            Some(rewrite) => self.leave(position, plain, &rewrite),
            None => Progress::None,
        }
    }

    /// [`Core::forward_plain`] for TCP. A call of its own leaves datagrams the registers.
    #[inline(never)]
    fn forward_segment(
        &mut self,
        scene: &Scene<'_>,
        position: usize,
        plain: Plain,
        hit: Hit,
    ) -> Progress {
        match self.track_plain(scene, position, plain, hit) {
            Some(Ok(rewrite)) => self.leave(position, plain, &rewrite),
            Some(Err(reason)) => {
                self.counters.lose(reason);
                self.batch.mbufs[position] = None;
                Progress::Done
            }
            None => Progress::None,
        }
    }

    /// Sends the packet that began its session on its way, if it is plain: the session was made from it,
    /// and is told nothing.
    #[inline(never)]
    fn forward_first(&mut self, position: usize, hit: Hit) -> Progress {
        if !self.batch.take_begun(position) {
            return Progress::None;
        }
        match self.shard.rewrite(hit) {
            Some(rewrite) => self.leave(position, self.batch.plains[position], &rewrite),
            None => Progress::Tracked,
        }
    }

    /// Sends a plain packet the way that its session remembers.
    #[inline(always)]
    fn leave(&mut self, position: usize, plain: Plain, rewrite: &Rewrite) -> Progress {
        // The general way finds it for the next packet.
        let Some(way) = self.ways.remembered(rewrite.path) else {
            return Progress::Tracked;
        };
        if plain.datagram_len() > way.mtu {
            return Progress::Tracked;
        }
        let Some(mut mbuf) = self.batch.mbufs[position].take() else {
            return Progress::Done;
        };
        let leaving = Leaving {
            stations: way.stations,
            ends: Ends {
                addresses: rewrite.addresses.to_ne_bytes(),
                ports: rewrite.ports.to_ne_bytes(),
            },
            header_delta: rewrite.header_delta,
            transport_delta: rewrite.transport_delta,
        };
        plain::rewrite(mbuf.data_mut(), &plain, &leaving);
        trim(&mut mbuf, plain.end);
        self.egress.send(way.interface, mbuf);
        Progress::Done
    }

    /// Sends a packet of any kind on its way.
    #[inline(never)]
    fn forward_general(&mut self, scene: &Scene<'_>, position: usize, hit: Hit, tracked: bool) {
        if self.batch.is_plain(position) {
            self.generalise(position);
        }
        if self.batch.mbufs[position].is_none() {
            return;
        }
        if !tracked && let Err(reason) = self.track(scene, position, hit) {
            self.counters.lose(reason);
            self.batch.mbufs[position] = None;
            return;
        }
        self.translate_and_send(scene, position, hit);
    }

    /// Rewrites a packet that can pass, and sends it.
    fn translate_and_send(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) {
        let Some(mut mbuf) = self.batch.mbufs[position].take() else {
            return;
        };
        let layout = self.batch.layouts[position];
        let ingress = self.batch.ingress[position];
        let outgoing = self.shard.outgoing(hit);
        match passage(scene, &outgoing, &layout) {
            Passage::Whole(hop, egress) => {
                let path = self.ways.by(hop, scene.snapshot, scene.neighbours);
                self.shard.set_path(hit, path);
                translate(&mut mbuf, &layout, &outgoing);
                match self.batch.withheld(position) {
                    None => self.transmit(scene, ingress, hop, egress, mbuf),
                    Some(change) => self.hold_back(scene, ingress, (hop, egress), mbuf, change),
                }
            }
            Passage::Cut(hop, egress) => {
                translate(&mut mbuf, &layout, &outgoing);
                self.cut_and_transmit(scene, position, hop, egress, &mbuf);
            }
            Passage::Refuse(reason, problem) => {
                self.counters.lose(reason);
                self.answer(scene, ingress, mbuf.data(), &layout, Answer::Icmp(problem));
            }
        }
    }

    /// Addresses the frame to the next hop and sends it, or gives it to the control core to find out
    /// where that is.
    pub(super) fn transmit(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        hop: Hop,
        egress: &Interface,
        mut mbuf: Mbuf,
    ) {
        if address(scene, hop, egress, &mut mbuf) {
            self.egress.send(hop.interface, mbuf);
        } else {
            let reason = PuntReason::NeighbourMissing {
                interface: hop.interface,
                next_hop: hop.neighbour,
            };
            self.punt(reason, ingress, mbuf);
        }
    }

    /// Addresses the frame and has it wait until a peer has the session that `change` tells of.
    #[cold]
    fn hold_back(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        (hop, egress): (Hop, &Interface),
        mut mbuf: Mbuf,
        change: Option<Version>,
    ) {
        address(scene, hop, egress, &mut mbuf);
        let reason = PuntReason::Unconfirmed {
            interface: hop.interface,
            next_hop: hop.neighbour,
            version: change,
        };
        self.punt(reason, ingress, mbuf);
    }

    /// Cuts the translated packet of a position. Its pieces wait where it would.
    #[cold]
    fn cut_and_transmit(
        &mut self,
        scene: &Scene<'_>,
        position: usize,
        hop: Hop,
        egress: &Interface,
        mbuf: &Mbuf,
    ) {
        let (ingress, layout) = (self.batch.ingress[position], &self.batch.layouts[position]);
        let withheld = self.batch.withheld(position);
        match fragment::cut(&self.pool, mbuf.data(), layout, egress.mtu) {
            Ok(mut fragments) => {
                self.counters.happened(Event::Fragmented);
                self.counters.add(Event::FragmentsMade, fragments.len());
                for fragment in fragments.drain() {
                    match withheld {
                        None => self.transmit(scene, ingress, hop, egress, fragment),
                        Some(change) => {
                            self.hold_back(scene, ingress, (hop, egress), fragment, change);
                        }
                    }
                }
            }
            Err(reason) => self.counters.lose(reason),
        }
    }
}

/// Addresses the frame to the next hop, to nobody while it is not known who that is: false then.
fn address(scene: &Scene<'_>, hop: Hop, egress: &Interface, mbuf: &mut Mbuf) -> bool {
    let neighbour = scene.neighbours.look_up(hop.interface, hop.neighbour);
    if let Ok((header, _)) = ethernet::Header::mut_from_prefix(mbuf.data_mut()) {
        header.source = egress.source_mac(scene.snapshot.is_primary());
        header.destination = neighbour.unwrap_or(Mac::ZERO);
    }
    neighbour.is_some()
}

/// The way out for a packet that leaves with this tuple.
fn passage<'a>(scene: &Scene<'a>, outgoing: &Tuple, layout: &Layout) -> Passage<'a> {
    let destination = outgoing.dst_v4().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let way = scene.snapshot.way_to(destination);
    let egress = way.and_then(|hop| scene.snapshot.interface(hop.interface));
    let (Some(hop), Some(egress)) = (way, egress) else {
        return Passage::Refuse(Drop::NoRoute, Problem::NetUnreachable);
    };
    if layout.ttl <= 1 {
        return Passage::Refuse(Drop::TtlExceeded, Problem::TtlExceeded);
    }
    if layout.datagram_len() <= egress.mtu {
        Passage::Whole(hop, egress)
    } else if layout.dont_fragment {
        let problem = Problem::FragmentationNeeded { mtu: egress.mtu };
        Passage::Refuse(Drop::TooBig, problem)
    } else {
        Passage::Cut(hop, egress)
    }
}

/// Makes the packet what it leaves as.
fn translate(mbuf: &mut Mbuf, layout: &Layout, outgoing: &Tuple) {
    let frame = mbuf.data_mut();
    packet::translate(frame, layout, outgoing);
    packet::decrement_ttl(frame, layout);
    trim(mbuf, layout.end);
}

/// Cuts off what followed the datagram, but for the padding of a short frame.
#[inline]
fn trim(mbuf: &mut Mbuf, end: u16) {
    let needed = usize::from(end).max(ethernet::MIN_FRAME);
    let surplus = mbuf.len().saturating_sub(needed);
    if surplus > 0 {
        // Never more than the frame has.
        let _ = mbuf.trim(surplus);
    }
}
