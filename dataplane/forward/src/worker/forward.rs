//! The route, translate and transmit stages: what happens to packets that have a session.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::icmp::Problem;
use packet::{Layout, Mac, Tuple, ethernet};
use session::Hit;
use zerocopy::FromBytes;

use super::answer::Answer;
use super::{Core, Scene};
use crate::counters::{Drop, Event};
use crate::fragment;
use crate::interface::{Interface, InterfaceId, InterfaceRole};
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

impl<P: PortIo> Core<P> {
    /// Finds the way out for the burst, by the tuples that its packets will leave with.
    pub(super) fn route(&mut self, scene: &Scene<'_>) {
        let batch = &mut self.batch;
        for position in 0..batch.len {
            let hit = batch.hits[position].filter(|_| batch.mbufs[position].is_some());
            let outgoing = hit.map_or(Tuple::default(), |hit: Hit| self.shard.outgoing(hit));
            let destination = outgoing.dst_v4().unwrap_or(Ipv4Addr::UNSPECIFIED);
            batch.outgoing[position] = outgoing;
            batch.destinations[position] = destination.to_bits();
        }
        scene.snapshot.routes.look_up(
            &batch.destinations[..batch.len],
            &mut batch.next_hops[..batch.len],
        );
    }

    /// Rewrites every packet of the burst that can pass, and sends it.
    pub(super) fn translate_and_send(&mut self, scene: &Scene<'_>) {
        for position in 0..self.batch.len {
            let Some(mut mbuf) = self.batch.mbufs[position].take() else {
                continue;
            };
            let layout = self.batch.layouts[position];
            let ingress = self.batch.ingress[position];
            match self.passage(scene, position, &layout) {
                Passage::Whole(hop, egress) => {
                    self.translate(position, &mut mbuf, &layout);
                    self.transmit(scene, ingress, hop, egress, mbuf);
                }
                Passage::Cut(hop, egress) => {
                    self.translate(position, &mut mbuf, &layout);
                    self.cut_and_transmit(scene, ingress, hop, egress, &mbuf, &layout);
                }
                Passage::Refuse(reason, problem) => {
                    self.counters.lose(reason);
                    self.answer(scene, ingress, mbuf.data(), &layout, Answer::Icmp(problem));
                }
            }
        }
    }

    fn passage<'a>(&self, scene: &Scene<'a>, position: usize, layout: &Layout) -> Passage<'a> {
        let destination = Ipv4Addr::from_bits(self.batch.destinations[position]);
        let hop = scene
            .snapshot
            .routes
            .hop(self.batch.next_hops[position], destination);
        let way = hop.and_then(|hop| {
            let egress = scene.snapshot.interface(hop.interface)?;
            (egress.role == InterfaceRole::Traffic).then_some((hop, egress))
        });
        let Some((hop, egress)) = way else {
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

    /// Makes the packet what it leaves as, without what followed the datagram.
    fn translate(&self, position: usize, mbuf: &mut Mbuf, layout: &Layout) {
        let frame = mbuf.data_mut();
        packet::translate(frame, layout, &self.batch.outgoing[position]);
        packet::decrement_ttl(frame, layout);
        let needed = usize::from(layout.end).max(ethernet::MIN_FRAME);
        let surplus = mbuf.len().saturating_sub(needed);
        // Never more than the frame has.
        let _ = mbuf.trim(surplus);
    }

    /// Addresses the frame to the next hop and sends it, or gives it to the control core to find out
    /// where that is.
    fn transmit(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        hop: Hop,
        egress: &Interface,
        mut mbuf: Mbuf,
    ) {
        let neighbour = scene.neighbours.look_up(hop.interface, hop.neighbour);
        if let Ok((header, _)) = ethernet::Header::mut_from_prefix(mbuf.data_mut()) {
            header.source = egress.source_mac(scene.snapshot.primary);
            header.destination = neighbour.unwrap_or(Mac::ZERO);
        }
        if neighbour.is_some() {
            self.egress.send(hop.interface, mbuf);
        } else {
            let reason = PuntReason::NeighbourMissing {
                interface: hop.interface,
                next_hop: hop.neighbour,
            };
            self.punt(reason, ingress, mbuf);
        }
    }

    #[cold]
    fn cut_and_transmit(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        hop: Hop,
        egress: &Interface,
        mbuf: &Mbuf,
        layout: &Layout,
    ) {
        match fragment::cut(&self.pool, mbuf.data(), layout, egress.mtu) {
            Ok(mut fragments) => {
                self.counters.happened(Event::Fragmented);
                self.counters.add(Event::FragmentsMade, fragments.len());
                for fragment in fragments.drain() {
                    self.transmit(scene, ingress, hop, egress, fragment);
                }
            }
            Err(reason) => self.counters.lose(reason),
        }
    }
}
