//! Rewrites a packet for the network that it leaves to, with incremental checksums (RFC 1624): a
//! checksum that was wrong stays wrong by as much, and the end that it is meant for sees it.

use zerocopy::FromBytes;

use crate::checksum::Update;
use crate::{Fragment, Kind, Layout, Tuple, icmp, ipv4, tcp, udp};

/// Rewrites addresses, ports and ICMP identifiers of an IPv4 packet from `layout.tuple` to `to`,
/// in every header that carries them.
///
/// `layout` must be that of `frame`, as [`crate::parse`] gave it; afterwards its tuple is that of
/// the past. In an ICMP error the embedded packet is rewritten to the reverse of `to`, the error's
/// destination follows it, and so does its source if `to` hides the source of this direction
/// (RFC 5508 section 4). Other frames, IPv6 among them, are left alone. Of protocols other than
/// TCP, UDP and ICMP only the addresses are rewritten, so those that cover them by a checksum of
/// their own (such as DCCP) do not survive a change of address.
pub fn translate(frame: &mut [u8], layout: &Layout, to: &Tuple) {
    let from = &layout.tuple;
    if from == to || matches!(layout.kind, Kind::Arp | Kind::Ipv6 | Kind::Other(_)) {
        return;
    }
    let Some(datagram) = frame.get_mut(usize::from(layout.l3)..usize::from(layout.end)) else {
        return;
    };
    if layout.is_error() {
        return translate_error(datagram, layout, to);
    }
    let Some((source, destination)) = v4_addresses(to) else {
        return;
    };
    let Some(addresses) = rewrite_addresses(datagram, source, destination) else {
        return;
    };
    if layout.fragment == Fragment::Later {
        return;
    }
    let l4 = usize::from(layout.l4 - layout.l3);
    if let Some(segment) = datagram.get_mut(l4..) {
        rewrite_transport(segment, from, to, addresses);
    }
}

/// One hop less. A TTL of zero stays, which nobody who checked [`Layout::ttl`] will see.
pub fn decrement_ttl(frame: &mut [u8], layout: &Layout) {
    let Some(datagram) = frame.get_mut(usize::from(layout.l3)..) else {
        return;
    };
    match layout.kind {
        Kind::Arp | Kind::Other(_) => {}
        Kind::Ipv6 => {
            if let Some(hop_limit) = datagram.get_mut(7) {
                *hop_limit = hop_limit.saturating_sub(1);
            }
        }
        _ => {
            let Ok((header, _)) = ipv4::Header::mut_from_prefix(datagram) else {
                return;
            };
            let ttl = header.ttl.saturating_sub(1);
            let update = Update::default().word(
                u16::from_be_bytes([header.ttl, header.protocol]),
                u16::from_be_bytes([ttl, header.protocol]),
            );
            header.ttl = ttl;
            header.checksum.set(update.apply(header.checksum.get()));
        }
    }
}

fn v4_addresses(tuple: &Tuple) -> Option<([u8; 4], [u8; 4])> {
    Some((tuple.src_v4()?.octets(), tuple.dst_v4()?.octets()))
}

/// Sets the addresses of the IPv4 header at the start of `datagram`, corrects its checksum, and
/// gives what changed for checksums with a pseudo-header.
fn rewrite_addresses(datagram: &mut [u8], source: [u8; 4], destination: [u8; 4]) -> Option<Update> {
    let (header, _) = ipv4::Header::mut_from_prefix(datagram).ok()?;
    let update = Update::default()
        .address(header.source, source)
        .address(header.destination, destination);
    header.source = source;
    header.destination = destination;
    header.checksum.set(update.apply(header.checksum.get()));
    Some(update)
}

/// Rewrites ports or identifier of the transport header at the start of `segment`, which may be
/// cut off anywhere after its first eight bytes, and corrects its checksum if that is still there.
fn rewrite_transport(segment: &mut [u8], from: &Tuple, to: &Tuple, addresses: Update) {
    match to.protocol {
        ipv4::PROTOCOL_TCP => {
            let update = rewrite_ports(segment, addresses, to);
            if let (Some(update), Ok((header, _))) = (update, tcp::Header::mut_from_prefix(segment))
            {
                header.checksum.set(update.apply(header.checksum.get()));
            }
        }
        ipv4::PROTOCOL_UDP => {
            let update = rewrite_ports(segment, addresses, to);
            if let (Some(update), Ok((header, _))) = (update, udp::Header::mut_from_prefix(segment))
            {
                header.checksum.set(update.apply_udp(header.checksum.get()));
            }
        }
        ipv4::PROTOCOL_ICMP => {
            // The identifier stands on the side that asked; the other port is zero in both tuples.
            if (from.src_port, from.dst_port) == (to.src_port, to.dst_port) {
                return;
            }
            if let Ok((header, _)) = icmp::Header::mut_from_prefix(segment) {
                let id = to.src_port | to.dst_port;
                let update = Update::default().word(header.id.get(), id);
                header.id.set(id);
                header.checksum.set(update.apply(header.checksum.get()));
            }
        }
        _ => {}
    }
}

/// Sets the ports with which TCP and UDP headers begin; gives `update` with that change.
fn rewrite_ports(segment: &mut [u8], update: Update, to: &Tuple) -> Option<Update> {
    let (header, _) = udp::Header::mut_from_prefix(segment).ok()?;
    let update = update
        .word(header.source.get(), to.src_port)
        .word(header.destination.get(), to.dst_port);
    header.source.set(to.src_port);
    header.destination.set(to.dst_port);
    Some(update)
}

#[cold]
fn translate_error(datagram: &mut [u8], layout: &Layout, to: &Tuple) {
    let (from, quoted_to) = (layout.tuple.reversed(), to.reversed());
    let Some((source, destination)) = v4_addresses(to) else {
        return;
    };
    let l4 = usize::from(layout.l4 - layout.l3);
    let embedded_l3 = l4 + usize::from(icmp::HEADER_LEN);
    let embedded_l4 = usize::from(layout.embedded_l4 - layout.l3);

    // The few bytes that can change, before and after, give the change of the ICMP checksum.
    let covered = embedded_l3
        ..datagram
            .len()
            .min(embedded_l4 + usize::from(tcp::HEADER_LEN));
    let Some(quoted) = datagram.get_mut(covered) else {
        return;
    };
    let before = crate::checksum::sum(quoted);
    let Some(addresses) = rewrite_addresses(quoted, destination, source) else {
        return;
    };
    if let Some(segment) = quoted.get_mut(embedded_l4 - embedded_l3..) {
        rewrite_transport(segment, &from, &quoted_to, addresses);
    }
    let after = crate::checksum::sum(quoted);
    if let Some(Ok((header, _))) = datagram.get_mut(l4..).map(icmp::Header::mut_from_prefix) {
        let update =
            Update::default().word(crate::checksum::fold(before), crate::checksum::fold(after));
        header.checksum.set(update.apply(header.checksum.get()));
    }

    let Ok((header, _)) = ipv4::Header::ref_from_prefix(datagram) else {
        return;
    };
    let hidden = layout.tuple.src != to.src;
    let outer_source = if hidden { source } else { header.source };
    rewrite_addresses(datagram, outer_source, destination);
}

#[cfg(test)]
mod tests;
