//! The gateway as a host on its segments: it resolves neighbours, answers for its addresses, and
//! answers echo requests. Frames come from the workers and go back to them through an [`Outlet`].

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use forward::{
    DiscardReason, Evidence, Interface, InterfaceId, PuntReason, Punted, Resolution, Resolver,
    ResolverSettings, Snapshot,
};
use packet::build::{self, Link};
use packet::{Kind, Mac, arp, parse};
use session::Tick;

use crate::conflicts::Conflict;
use crate::counters::ControlCounters;

/// Where the host's frames leave.
pub(crate) trait Outlet {
    /// Sends a copy of a frame as it is.
    fn send(&mut self, interface: InterfaceId, frame: &[u8]);
    /// Sends a buffer as it is.
    fn forward(&mut self, interface: InterfaceId, mbuf: Mbuf);
}

/// The host's state: its neighbours, and the packets that wait for them.
pub(crate) struct Host {
    pub(crate) resolver: Resolver<Mbuf>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            resolver: Resolver::new(ResolverSettings::default()),
        }
    }

    /// Handles a frame that a worker could not.
    pub(crate) fn handle(
        &mut self,
        punted: Punted,
        snapshot: &Snapshot,
        now: Tick,
        counters: &mut ControlCounters,
        outlet: &mut impl Outlet,
    ) -> Option<Conflict> {
        match punted.reason {
            PuntReason::Arp => self.arp(&punted, snapshot, now, counters, outlet),
            PuntReason::NeighbourMissing {
                interface,
                next_hop,
            } => {
                self.resolver.wait(interface, next_hop, punted.mbuf, now);
                None
            }
            PuntReason::Local => {
                local(&punted, snapshot, counters, outlet);
                None
            }
            // The caller gives these to the cluster, or has them wait for it.
            PuntReason::Heartbeat | PuntReason::Unconfirmed { .. } => None,
        }
    }

    fn arp(
        &mut self,
        punted: &Punted,
        snapshot: &Snapshot,
        now: Tick,
        counters: &mut ControlCounters,
        outlet: &mut impl Outlet,
    ) -> Option<Conflict> {
        let frame = punted.mbuf.data();
        let layout = parse(frame).ok();
        let message = layout
            .as_ref()
            .and_then(|layout| arp::Message::read(frame, layout));
        let (Some(message), Some(interface)) = (message, snapshot.interface(punted.interface))
        else {
            counters.arp_malformed += 1;
            return None;
        };
        let (sender, target) = (message.sender_ip(), message.target_ip());
        let ours = interface.owns(target, snapshot.is_primary());
        if interface.owns(sender, snapshot.is_primary()) {
            if is_own_mac(interface, message.sender_mac) {
                return None;
            }
            counters.address_conflicts += 1;
            return Some(Conflict {
                interface: punted.interface,
                address: sender,
                station: message.sender_mac,
            });
        }
        // A probe (RFC 5227 section 2.1.1) has no sender address: answered, not learnt.
        if sender != Ipv4Addr::UNSPECIFIED && is_neighbour(interface, sender) {
            // Who answers a probe of ours has no address to answer to.
            let to_us = ours || frame.starts_with(&interface.mac.0);
            let evidence = match message.operation.get() {
                arp::REPLY if to_us => Evidence::Reply,
                arp::REQUEST if ours => Evidence::RequestToUs,
                _ => Evidence::Overheard,
            };
            self.resolver
                .learn(punted.interface, sender, message.sender_mac, evidence, now);
        }
        if ours && message.operation.get() == arp::REQUEST {
            let link = Link::new(own_mac(interface, target), message.sender_mac);
            let mut reply = [0; 64];
            if let Some(len) = build::arp_reply(&mut reply, &link, target, sender) {
                counters.arp_replies_sent += 1;
                outlet.send(punted.interface, &reply[..len]);
            }
        }
        None
    }

    /// Sends the requests that are due and the packets whose neighbour was found.
    pub(crate) fn run(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        counters: &mut ControlCounters,
        outlet: &mut impl Outlet,
    ) {
        while let Some(resolution) = self.resolver.poll(now) {
            match resolution {
                Resolution::Request {
                    interface,
                    address,
                    to,
                } => {
                    request(interface, address, to, snapshot, counters, outlet);
                }
                Resolution::Release {
                    interface,
                    mac,
                    mut packet,
                } => {
                    if let Some(destination) = packet.data_mut().first_chunk_mut() {
                        *destination = mac.0;
                        outlet.forward(interface, packet);
                    }
                }
                Resolution::Discard { reason, .. } => match reason {
                    DiscardReason::Unreachable => counters.neighbour_unreachable += 1,
                    DiscardReason::QueueFull => counters.neighbour_queue_full += 1,
                    DiscardReason::TableFull => counters.neighbour_table_full += 1,
                    DiscardReason::Flushed => counters.neighbour_flushed += 1,
                },
            }
        }
    }
}

/// The address that stands for `address` on the wire: the virtual one for cluster addresses.
fn own_mac(interface: &Interface, address: Ipv4Addr) -> Mac {
    let is_unit = interface
        .unit_address
        .is_some_and(|own| own.address == address);
    interface.source_mac(!is_unit)
}

fn is_own_mac(interface: &Interface, mac: Mac) -> bool {
    mac == interface.mac || interface.virtual_mac == Some(mac)
}

fn is_neighbour(interface: &Interface, address: Ipv4Addr) -> bool {
    interface
        .addresses()
        .any(|own| own.network.contains(address))
}

fn request(
    id: InterfaceId,
    address: Ipv4Addr,
    to: Option<Mac>,
    snapshot: &Snapshot,
    counters: &mut ControlCounters,
    outlet: &mut impl Outlet,
) {
    let Some(interface) = snapshot.interface(id) else {
        return;
    };
    // A unit that has no address to speak from asks in the form of a probe (RFC 5227 section 2.1.1): a
    // cluster address beside its own MAC would draw users' packets here.
    let (mac, sender) = match interface.speaking_address(address, snapshot.is_primary()) {
        Some(sender) => (own_mac(interface, sender), sender),
        None => (interface.mac, Ipv4Addr::UNSPECIFIED),
    };
    let link = Link::new(mac, to.unwrap_or(Mac::BROADCAST));
    let mut frame = [0; 64];
    if let Some(len) = build::arp_request(&mut frame, &link, sender, address) {
        counters.arp_requests_sent += 1;
        outlet.send(id, &frame[..len]);
    }
}

/// A packet to one of the gateway's own addresses. Only echo requests are answered; the answer goes
/// back to the station that sent the request, with the address that the request was for.
fn local(
    punted: &Punted,
    snapshot: &Snapshot,
    counters: &mut ControlCounters,
    outlet: &mut impl Outlet,
) {
    let frame = punted.mbuf.data();
    let answer = || {
        let layout = parse(frame).ok()?;
        if layout.kind != (Kind::IcmpQuery { request: true }) {
            return None;
        }
        let interface = snapshot.interface(punted.interface)?;
        let station = Mac(*frame.get(6..)?.first_chunk()?);
        let link = Link::new(own_mac(interface, layout.tuple.dst_v4()?), station);
        let mut reply = vec![0; frame.len().max(64)];
        let len = build::icmp_echo_reply(&mut reply, &link, frame, &layout)?;
        reply.truncate(len);
        Some(reply)
    };
    if let Some(reply) = answer() {
        counters.echo_replies_sent += 1;
        outlet.send(punted.interface, &reply);
    } else {
        counters.local_unhandled += 1;
    }
}
