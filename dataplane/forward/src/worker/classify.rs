//! The parse stage: which frames become packets of users, and which are somebody else's business.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::plain::{Ends, Plain};
use packet::{Fragment, Kind, Layout, Mac, Malformed, toeplitz};

use super::{Core, Origin, Scene};
use crate::attachment::Attachment;
use crate::counters::{Drop, Event};
use crate::distribution::Duty;
use crate::interface::{Interface, InterfaceId, InterfaceRole};
use crate::port::PortIo;
use crate::relays::Marker;
use crate::rings::PuntReason;
use crate::snapshot::Snapshot;

/// What a frame is to the worker.
enum Class {
    /// A packet of users.
    Forward(Layout),
    /// A matter of the control core.
    Punt(PuntReason),
    Drop(Drop),
    Malformed(Malformed),
}

impl<P: PortIo> Core<P> {
    /// Parses frames of one interface; packets of users join the batch.
    pub(super) fn parse(
        &mut self,
        scene: &Scene<'_>,
        origin: Origin,
        ingress: InterfaceId,
        frames: impl Iterator<Item = Mbuf>,
    ) {
        let attachment = scene.snapshot.attachment(ingress);
        if attachment.is_some_and(|attachment| attachment.from_units) {
            return self.parse_from_units(scene, origin, ingress, frames);
        }
        for mbuf in frames {
            match attachment.and_then(|attachment| read_plain(attachment, &mbuf)) {
                Some(plain) => self.batch.push_plain(&self.shard, ingress, mbuf, plain),
                None => self.parse_general(scene, origin, ingress, mbuf),
            }
        }
    }

    /// [`Core::parse`] for a unit that processes what other units pass to it.
    #[inline(never)]
    fn parse_from_units(
        &mut self,
        scene: &Scene<'_>,
        origin: Origin,
        ingress: InterfaceId,
        frames: impl Iterator<Item = Mbuf>,
    ) {
        let attachment = scene.snapshot.attachment(ingress);
        for mbuf in frames {
            let plain = attachment
                .filter(|_| is_from_unit(scene.snapshot, ingress, mbuf.data()))
                .and_then(|attachment| read_plain(attachment, &mbuf));
            match plain {
                Some(plain) => {
                    self.count_taken(origin);
                    self.batch.push_plain(&self.shard, ingress, mbuf, plain);
                }
                None => self.parse_general(scene, origin, ingress, mbuf),
            }
        }
    }

    /// Counts a packet that another unit passed to this one, once.
    fn count_taken(&self, origin: Origin) {
        if origin == Origin::Port {
            self.counters.happened(Event::RedirectsTaken);
        }
    }

    /// Parses a frame that is not plain.
    #[inline(never)]
    fn parse_general(
        &mut self,
        scene: &Scene<'_>,
        origin: Origin,
        ingress: InterfaceId,
        mbuf: Mbuf,
    ) {
        let Some(interface) = scene.snapshot.interface(ingress) else {
            self.counters.lose(Drop::NoInterface);
            return;
        };
        let class = classify(scene.snapshot, ingress, interface, &mbuf);
        if matches!(class, Class::Forward(_)) && matches!(scene.snapshot.duty, Duty::Owner { .. }) {
            self.count_taken(origin);
        }
        match class {
            Class::Forward(layout) if layout.fragment == Fragment::None => {
                self.batch
                    .push(&self.shard, ingress, mbuf, &layout, layout.tuple);
            }
            Class::Forward(layout) => self.join_fragment(scene, origin, ingress, mbuf, &layout),
            Class::Punt(reason) => self.give_to_control(scene, reason, ingress, mbuf),
            Class::Drop(reason) => self.counters.lose(reason),
            Class::Malformed(reason) => self.counters.lose_malformed(reason),
        }
    }

    /// Gives a frame to the control core, unless it is a matter between workers.
    fn give_to_control(
        &mut self,
        scene: &Scene<'_>,
        reason: PuntReason,
        ingress: InterfaceId,
        mbuf: Mbuf,
    ) {
        let (snapshot, frame) = (scene.snapshot, mbuf.data());
        let here = snapshot.interface(ingress);
        match reason {
            PuntReason::Heartbeat if is_from_unit(snapshot, ingress, frame) => {
                let to_unit = here.is_some_and(|here| frame.starts_with(&here.mac.0));
                if let Some(marker) = Marker::read(frame).filter(|_| to_unit) {
                    self.take_marker(scene, ingress, marker);
                    return;
                }
            }
            PuntReason::Arp => {
                let shared = here.and_then(|here| here.virtual_mac);
                if shared.is_some_and(|shared| frame[6..].starts_with(&shared.0)) {
                    self.handover.hear(ingress);
                }
            }
            _ => {}
        }
        self.punt(reason, ingress, mbuf);
    }

    /// Lets a plain packet take the long way, if all of it is sound.
    pub(super) fn generalise(&mut self, position: usize) {
        let Some(mbuf) = &self.batch.mbufs[position] else {
            return;
        };
        match packet::parse(mbuf.data()) {
            Ok(layout) => self.batch.generalise(position, &layout),
            Err(reason) => {
                self.counters.lose_malformed(reason);
                self.batch.mbufs[position] = None;
            }
        }
    }

    /// Lets a fragment join the batch under the tuple of its datagram. All fragments of a datagram
    /// first meet at the worker that their addresses steer to, as NICs do it.
    #[cold]
    fn join_fragment(
        &mut self,
        scene: &Scene<'_>,
        origin: Origin,
        ingress: InterfaceId,
        mbuf: Mbuf,
        layout: &Layout,
    ) {
        if origin == Origin::Port && self.readers.len() > 1 {
            let hash = toeplitz::hash_addresses(&layout.tuple);
            let meeting = scene.snapshot.steering.worker_of_hash(hash);
            if meeting != self.index {
                self.hand_over(meeting, ingress, mbuf);
                return;
            }
        }
        let tuple = if layout.fragment == Fragment::First {
            self.datagrams.remember(layout, scene.now.tick);
            Some(layout.tuple)
        } else {
            self.datagrams.recall(layout, scene.now.tick)
        };
        match tuple {
            Some(tuple) => self.batch.push(&self.shard, ingress, mbuf, layout, tuple),
            None => self.counters.lose(Drop::Fragment),
        }
    }
}

/// Reads a plain packet of users.
#[inline(always)]
fn read_plain(attachment: &Attachment, mbuf: &Mbuf) -> Option<(Plain, Ends)> {
    let frame = mbuf.data();
    let ours = attachment.takes_in(frame) && !is_tagged(mbuf);
    ours.then(|| Plain::read(frame)).flatten()
}

/// True when the device took off the tag of a VLAN. The upper bits of a tag are its priority, which
/// every interface may carry.
#[inline]
fn is_tagged(mbuf: &Mbuf) -> bool {
    mbuf.vlan().is_some_and(|tag| tag & 0x0fff != 0)
}

/// True for a frame from another unit's own MAC.
fn is_from_unit(snapshot: &Snapshot, ingress: InterfaceId, frame: &[u8]) -> bool {
    let source = frame.get(6..).and_then(|rest| rest.first_chunk());
    source.is_some_and(|source| snapshot.sharing().is_station(Mac(*source), ingress))
}

fn classify(
    snapshot: &Snapshot,
    ingress: InterfaceId,
    interface: &Interface,
    mbuf: &Mbuf,
) -> Class {
    let frame = mbuf.data();
    let Some(addresses) = frame.first_chunk::<12>() else {
        return Class::Malformed(Malformed::Truncated);
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *addresses;
    let (destination, source) = (Mac([a, b, c, d, e, f]), Mac([g, h, i, j, k, l]));
    if destination != interface.mac && !destination.is_group() {
        match Some(destination) == interface.virtual_mac {
            true if snapshot.duty.takes_virtual() => {}
            // Promiscuous ports and switches that have not learnt yet show us the primary's frames.
            true => return Class::Drop(Drop::NotPrimary),
            false => return Class::Drop(Drop::ForeignMac),
        }
    }
    // An answer to it would go to all of them.
    if source.is_group() {
        return Class::Drop(Drop::GroupSource);
    }
    let layout = match packet::parse(frame) {
        Ok(layout) => layout,
        Err(reason) => return Class::Malformed(reason),
    };
    if layout.vlan != 0 || is_tagged(mbuf) {
        return Class::Drop(Drop::VlanTagged);
    }
    match layout.kind {
        Kind::Tcp | Kind::Udp | Kind::IcmpQuery { .. } | Kind::IcmpError | Kind::OtherIp => {
            let takes_users = match snapshot.duty {
                Duty::Owner { .. } => is_from_unit(snapshot, ingress, frame),
                duty => duty.takes_users(),
            };
            classify_ipv4(snapshot, interface, destination, layout, takes_users)
        }
        Kind::Arp => Class::Punt(PuntReason::Arp),
        Kind::Ipv6 => Class::Drop(Drop::Ipv6),
        Kind::Other(ethertype) if ethertype == snapshot.heartbeat_ethertype => {
            Class::Punt(PuntReason::Heartbeat)
        }
        Kind::Other(_) => Class::Drop(Drop::UnknownEtherType),
    }
}

fn classify_ipv4(
    snapshot: &Snapshot,
    interface: &Interface,
    destination: Mac,
    layout: Layout,
    takes_users: bool,
) -> Class {
    let carries_users = interface.role == InterfaceRole::Traffic;
    let to_unit = !(snapshot.is_primary() && carries_users)
        && layout
            .tuple
            .dst_v4()
            .is_some_and(|address| interface.owns(address, false));
    if to_unit || !(takes_users && carries_users) {
        return match () {
            () if to_unit && !destination.is_group() => Class::Punt(PuntReason::Local),
            () if carries_users => Class::Drop(Drop::NotPrimary),
            () => Class::Drop(Drop::NotTraffic),
        };
    }
    if destination.is_group() {
        return Class::Drop(to_group(snapshot, &layout));
    }
    if layout.source_route {
        return Class::Drop(Drop::SourceRoute);
    }
    Class::Forward(layout)
}

/// Why a packet that came to a group of stations is dropped.
#[cold]
fn to_group(snapshot: &Snapshot, layout: &Layout) -> Drop {
    let destination = layout.tuple.dst_v4();
    let reason = destination.and_then(|destination| group_drop(snapshot, destination));
    reason.unwrap_or(Drop::LinkBroadcast)
}

/// Why a packet to a group of hosts is dropped; `None` when it is for one.
#[inline]
pub(super) fn group_drop(snapshot: &Snapshot, destination: Ipv4Addr) -> Option<Drop> {
    if destination.is_multicast() {
        Some(Drop::Multicast)
    } else if snapshot.is_broadcast(destination) {
        Some(Drop::Broadcast)
    } else {
        None
    }
}
