//! Resets (RFC 9293 section 3.5.2).

use zerocopy::IntoBytes;
use zerocopy::network_endian::{U16, U32};

use super::{Datagram, Link, is_between_stations};
use crate::tcp::{ACK, FIN, HEADER_LEN, Header, RST, SYN, Segment};
use crate::{Fragment, Kind, Layout, checksum, ipv4};

/// Refuses the segment in `frame`, as it was received, in the name of its destination.
///
/// `None` about a reset (two ends would go on for ever), a fragment, or a segment that was not
/// sent from one station to one station.
#[must_use]
pub fn tcp_reset(out: &mut [u8], link: &Link, frame: &[u8], layout: &Layout) -> Option<usize> {
    if layout.kind != Kind::Tcp
        || layout.fragment != Fragment::None
        || layout.tcp_flags & RST != 0
        || !is_between_stations(frame, &layout.tuple)
    {
        return None;
    }
    let segment = Segment::read(frame, layout)?;
    // With an acknowledgement the reset takes its sequence number from that; without one it
    // acknowledges the segment, in whose length SYN and FIN count.
    let (seq, ack, flags) = if segment.flags & ACK != 0 {
        (segment.ack, 0, RST)
    } else {
        let controls = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        let len = u32::from(segment.payload_len) + controls;
        (0, segment.seq.wrapping_add(len), RST | ACK)
    };
    let back = layout.tuple.reversed();
    let (source, destination) = (back.src_v4()?, back.dst_v4()?);
    let datagram = Datagram::atomic(ipv4::PROTOCOL_TCP, source, destination);
    let (len, payload) = datagram.start(out, link, usize::from(HEADER_LEN))?;
    let mut header = Header {
        source: U16::new(back.src_port),
        destination: U16::new(back.dst_port),
        seq: U32::new(seq),
        ack: U32::new(ack),
        offset: 5 << 4,
        flags,
        window: U16::ZERO,
        checksum: U16::ZERO,
        urgent: U16::ZERO,
    };
    let pseudo = checksum::pseudo_header(
        &source.octets(),
        &destination.octets(),
        ipv4::PROTOCOL_TCP,
        HEADER_LEN,
    );
    header
        .checksum
        .set(checksum::transport(pseudo, header.as_bytes()));
    header.write_to(payload).ok()?;
    Some(len)
}
