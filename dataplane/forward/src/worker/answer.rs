//! What a worker says to the sender of a packet that it does not forward.

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
        let Some(interface) = scene.snapshot.interface(ingress) else {
            return;
        };
        let Ok((header, _)) = ethernet::Header::ref_from_prefix(frame) else {
            return;
        };
        let link = Link::new(
            interface.source_mac(scene.snapshot.is_primary()),
            header.source,
        );
        let from = layout
            .tuple
            .src_v4()
            .and_then(|peer| interface.speaking_address(peer, scene.snapshot.is_primary()));
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
        if mbuf.copy_from_slice(reply) && self.egress.send(ingress, mbuf) {
            self.counters.happened(match answer {
                Answer::Icmp(_) => Event::IcmpErrors,
                Answer::Reset => Event::TcpResets,
            });
        }
    }
}
