//! Answers to echoes, and errors (RFC 792, RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::{Datagram, Link, is_between_stations};
use crate::icmp::Problem;
use crate::{Fragment, Kind, Layout, checksum, icmp, ipv4};

/// An echo request without data.
const ECHO_LEN: usize = 8;
/// The longest error, from its IP header on (RFC 1812 section 4.3.2.3).
const MAX_ERROR: usize = 576;
/// Errors travel with the precedence of routing traffic (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// Asks `addresses.1` for an echo (RFC 792), from `addresses.0`, without data.
#[must_use]
pub fn icmp_echo_request(
    out: &mut [u8],
    link: &Link,
    addresses: (Ipv4Addr, Ipv4Addr),
    identifier: u16,
    sequence: u16,
) -> Option<usize> {
    let datagram = Datagram::atomic(ipv4::PROTOCOL_ICMP, addresses.0, addresses.1);
    let (len, message) = datagram.start(out, link, ECHO_LEN)?;
    message.fill(0);
    message[0] = icmp::ECHO_REQUEST;
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum::checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(len)
}

/// The answer to an echo request that was sent to the gateway itself, back to its source.
///
/// `None` unless it is a whole echo request with a right checksum, from a station to a station.
#[must_use]
pub fn icmp_echo_reply(
    out: &mut [u8],
    link: &Link,
    frame: &[u8],
    layout: &Layout,
) -> Option<usize> {
    if layout.kind != (Kind::IcmpQuery { request: true })
        || layout.fragment != Fragment::None
        || !is_between_stations(frame, &layout.tuple)
    {
        return None;
    }
    let message = frame.get(usize::from(layout.l4)..usize::from(layout.end))?;
    if message.first() != Some(&icmp::ECHO_REQUEST) || !checksum::is_valid(message) {
        return None;
    }
    let (request, _) = ipv4::Header::ref_from_prefix(frame.get(usize::from(layout.l3)..)?).ok()?;
    let datagram = Datagram {
        traffic_class: request.traffic_class,
        dont_fragment: layout.dont_fragment,
        id: request.id.get(),
        ..Datagram::atomic(
            ipv4::PROTOCOL_ICMP,
            request.destination_ip(),
            request.source_ip(),
        )
    };
    let (len, reply) = datagram.start(out, link, message.len())?;
    reply.copy_from_slice(message);
    let (header, _) = icmp::Header::mut_from_prefix(reply).ok()?;
    let update = checksum::Update::default().word(
        u16::from(icmp::ECHO_REQUEST) << 8,
        u16::from(icmp::ECHO_REPLY) << 8,
    );
    header.message_type = icmp::ECHO_REPLY;
    header.checksum.set(update.apply(header.checksum.get()));
    Some(len)
}

/// Tells the source of `frame`, as it was received and before it was translated, about `problem`.
/// `from` is an address of the interface that it came in by.
///
/// `None` where RFC 1812 section 4.3.2.7 wants silence: about ICMP errors (and ICMP messages that
/// are not known to be none), later fragments, and packets that were not sent from one station to
/// one station.
#[must_use]
pub fn icmp_error(
    out: &mut [u8],
    link: &Link,
    from: Ipv4Addr,
    frame: &[u8],
    layout: &Layout,
    problem: Problem,
) -> Option<usize> {
    let answerable = match layout.kind {
        Kind::Tcp | Kind::Udp | Kind::IcmpQuery { .. } => true,
        Kind::OtherIp => layout.tuple.protocol != ipv4::PROTOCOL_ICMP,
        Kind::Arp | Kind::IcmpError | Kind::Ipv6 | Kind::Other(_) => false,
    };
    if !answerable
        || layout.fragment == Fragment::Later
        || !is_between_stations(frame, &layout.tuple)
    {
        return None;
    }
    let offending = frame.get(usize::from(layout.l3)..usize::from(layout.end))?;
    let header_len = usize::from(icmp::HEADER_LEN);
    let room = MAX_ERROR - usize::from(ipv4::HEADER_LEN) - header_len;
    let quoted = &offending[..offending.len().min(room)];

    let datagram = Datagram {
        traffic_class: INTERNETWORK_CONTROL,
        ..Datagram::atomic(ipv4::PROTOCOL_ICMP, from, layout.tuple.src_v4()?)
    };
    let (len, message) = datagram.start(out, link, header_len + quoted.len())?;
    let (message_type, code) = problem.type_and_code();
    let [mtu_high, mtu_low] = problem.mtu().to_be_bytes();
    let (header, body) = message.split_at_mut_checked(header_len)?;
    header.copy_from_slice(&[message_type, code, 0, 0, 0, 0, mtu_high, mtu_low]);
    body.copy_from_slice(quoted);
    let value = checksum::checksum(message);
    message[2..4].copy_from_slice(&value.to_be_bytes());
    Some(len)
}
