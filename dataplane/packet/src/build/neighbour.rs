//! ARP (RFC 826, RFC 5227) and neighbour advertisements (RFC 4861).

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use super::{Link, start};
use crate::{Mac, arp, checksum, ethernet, ipv6};

/// Asks who has `target`. `link` is a broadcast, or the neighbour itself to confirm what is known
/// (RFC 1122 section 2.3.2.1).
#[must_use]
pub fn arp_request(
    out: &mut [u8],
    link: &Link,
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> Option<usize> {
    message(out, link, arp::REQUEST, sender, Mac::ZERO, target)
}

/// Tells the neighbour `target` at `link.destination` that `sender` is at `link.source`.
#[must_use]
pub fn arp_reply(out: &mut [u8], link: &Link, sender: Ipv4Addr, target: Ipv4Addr) -> Option<usize> {
    message(out, link, arp::REPLY, sender, link.destination, target)
}

/// Tells the segment that `address` is at `source`, in the form of a request (RFC 5227 section
/// 2.3): switches learn from the Ethernet source, hosts from the sender address.
#[must_use]
pub fn arp_announcement(
    out: &mut [u8],
    source: Mac,
    vlan: u16,
    address: Ipv4Addr,
) -> Option<usize> {
    let link = Link {
        vlan,
        ..Link::broadcast(source)
    };
    message(out, &link, arp::REQUEST, address, Mac::ZERO, address)
}

/// The same in the form of a reply (RFC 5944 section 4.6), for stacks that learn only from those.
#[must_use]
pub fn arp_announcement_reply(
    out: &mut [u8],
    source: Mac,
    vlan: u16,
    address: Ipv4Addr,
) -> Option<usize> {
    let link = Link {
        vlan,
        ..Link::broadcast(source)
    };
    message(out, &link, arp::REPLY, address, source, address)
}

fn message(
    out: &mut [u8],
    link: &Link,
    operation: u16,
    sender: Ipv4Addr,
    target_mac: Mac,
    target: Ipv4Addr,
) -> Option<usize> {
    let (len, payload) = start(out, link, ethernet::TYPE_ARP, arp::MESSAGE_LEN)?;
    let message = arp::Message {
        hardware: U16::new(arp::HARDWARE_ETHERNET),
        protocol: U16::new(ethernet::TYPE_IPV4),
        hardware_len: 6,
        protocol_len: 4,
        operation: U16::new(operation),
        sender_mac: link.source,
        sender: sender.octets(),
        target_mac,
        target: target.octets(),
    };
    message.write_to(payload).ok()?;
    Some(len)
}

const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ROUTER_AND_OVERRIDE: u8 = 0x80 | 0x20;
const TARGET_LINK_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Tells the segment that the IPv6 `address` is at `source`: an unsolicited advertisement to all
/// nodes (RFC 4861 section 7.2.6) with R=1, S=0, O=1 and hop limit 255.
#[must_use]
pub fn neighbour_advertisement(
    out: &mut [u8],
    source: Mac,
    vlan: u16,
    address: Ipv6Addr,
) -> Option<usize> {
    /// ICMPv6 header, flags, target, and one option of eight bytes.
    const LEN: u16 = 32;
    let link = Link {
        source,
        destination: ALL_NODES_MAC,
        vlan,
    };
    let datagram_len = usize::from(ipv6::HEADER_LEN + LEN);
    let (len, datagram) = start(out, &link, ethernet::TYPE_IPV6, datagram_len)?;
    let (header, body) = datagram.split_at_mut_checked(usize::from(ipv6::HEADER_LEN))?;
    let view = ipv6::Header {
        version_class_label: (6 << 28).into(),
        payload_len: LEN.into(),
        next_header: ipv6::PROTOCOL_ICMPV6,
        hop_limit: 255,
        source: address.octets(),
        destination: ALL_NODES.octets(),
    };
    view.write_to(header).ok()?;

    let body: &mut [u8; LEN as usize] = body.try_into().ok()?;
    body.fill(0);
    body[0] = NEIGHBOUR_ADVERTISEMENT;
    body[4] = ROUTER_AND_OVERRIDE;
    body[8..24].copy_from_slice(&address.octets());
    body[24] = TARGET_LINK_ADDRESS;
    body[25] = 1;
    body[26..32].copy_from_slice(&source.0);
    let pseudo = checksum::pseudo_header(
        &address.octets(),
        &ALL_NODES.octets(),
        ipv6::PROTOCOL_ICMPV6,
        LEN,
    );
    let value = checksum::transport(pseudo, body);
    body[2..4].copy_from_slice(&value.to_be_bytes());
    Some(len)
}
