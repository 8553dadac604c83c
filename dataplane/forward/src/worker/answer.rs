//! What a worker says to the sender of a packet that it does not forward.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::build::{self, Link};
use packet::icmp::Problem;
use packet::{Layout, ethernet};
use zerocopy::FromBytes;

use super::{Core, Scene};
use crate::counters::Event;
use crate::interface::InterfaceId;
use crate::port::PortIo;

/// An answer to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Icmp(Problem),
    Reset,
}

impl<P: PortIo> Core<P> {
    /// Answers the packet in `frame`, which is as it came in by `ingress`, unless answers of the kind
    /// are forbidden or there were too many of late.
    #[cold]
    pub(super) fn answer(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        frame: &[u8],
        layout: &Layout,
        answer: Answer,
    ) {
        let snapshot = scene.snapshot;
        let Some(interface) = snapshot.interface(ingress) else {
            return;
        };
        let Ok((header, _)) = ethernet::Header::ref_from_prefix(frame) else {
            return;
        };
        let own = interface.source_mac(snapshot.is_primary());
        let link = Link::new(own, header.source);
        let peer = layout.tuple.src_v4();
        let from =
            peer.and_then(|peer| interface.speaking_address(peer, snapshot.duty.takes_users()));
        let mut room = [0; build::ROOM];
        let built = match answer {
            Answer::Icmp(problem) => from
                .and_then(|from| build::icmp_error(&mut room, &link, from, frame, layout, problem)),
            Answer::Reset => build::tcp_reset(&mut room, &link, frame, layout),
        };
        let Some(reply) = built.and_then(|len| room.get(..len)) else {
            return;
        };
        let limits = scene.snapshot.limits;
        let (rate, burst) = (limits.replies_per_second, limits.replies_burst);
        if !self.replies.take(rate, burst, scene.now.nanos) {
            self.counters.happened(Event::RepliesLimited);
            return;
        }
        // An empty pool costs the answer, not a packet of users: nothing to count as a drop.
        let Some(mut mbuf) = self.pool.allocate() else {
            self.counters.happened(Event::RepliesLimited);
            return;
        };
        if !mbuf.copy_from_slice(reply) {
            return;
        }
        let sent = match snapshot.sharing().is_station(header.source, ingress) {
            false => self.egress.send(ingress, mbuf),
            true => self.answer_by_route(scene, ingress, peer, mbuf),
        };
        if sent {
            self.counters.happened(match answer {
                Answer::Icmp(_) => Event::IcmpErrors,
                Answer::Reset => Event::TcpResets,
            });
        }
    }

    /// Sends an answer to who sent what another unit passed on: the frame does not say where that is.
    fn answer_by_route(
        &mut self,
        scene: &Scene<'_>,
        ingress: InterfaceId,
        peer: Option<Ipv4Addr>,
        mbuf: Mbuf,
    ) -> bool {
        let way = peer.and_then(|peer| scene.snapshot.way_to(peer));
        let egress = way.and_then(|hop| scene.snapshot.interface(hop.interface));
        let (Some(hop), Some(egress)) = (way, egress) else {
            return false;
        };
        self.transmit(scene, ingress, hop, egress, mbuf);
        true
    }
}
