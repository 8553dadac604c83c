//! Cutting an IPv4 packet that is larger than its next link (RFC 791 section 3.2).

use dpdk::{Burst, Mbuf, Mempool};
use packet::{Layout, checksum, ethernet, ipv4};
use zerocopy::FromBytes;

use crate::counters::Drop;

/// Bits of an option's first byte: copied into all fragments.
const OPTION_COPIED: u8 = 0x80;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;

/// The fragments of the packet in `frame`, which may be a fragment itself, in order and with the
/// frame's Ethernet header. All of them or none.
///
/// # Errors
/// The reason to drop the packet for: no buffers, or an MTU too small to hold anything.
pub(crate) fn cut(pool: &Mempool, frame: &[u8], layout: &Layout, mtu: u16) -> Result<Burst, Drop> {
    let headers = frame.get(..usize::from(layout.l4)).ok_or(Drop::TooBig)?;
    let payload = frame
        .get(usize::from(layout.l4)..usize::from(layout.end))
        .ok_or(Drop::TooBig)?;
    let header_len = usize::from(layout.l4 - layout.l3);
    // All but the last carry a multiple of eight bytes.
    let piece = usize::from(mtu).saturating_sub(header_len) & !7;
    if piece == 0 {
        return Err(Drop::TooBig);
    }
    let count = payload.len().div_ceil(piece);
    let mut fragments = Burst::new();
    if !pool.allocate_burst(&mut fragments, count) {
        return Err(Drop::NoBuffers);
    }
    let pieces = payload.chunks(piece).enumerate();
    for (fragment, (index, data)) in fragments.iter_mut().zip(pieces) {
        let position = Position {
            offset: index * piece,
            last: index + 1 == count,
        };
        fill(fragment, headers, usize::from(layout.l3), data, &position).ok_or(Drop::TooBig)?;
    }
    Ok(fragments)
}

/// Where a piece belongs in the packet that is cut.
struct Position {
    offset: usize,
    last: bool,
}

/// Writes one fragment; `None` when it does not fit the buffer.
fn fill(
    fragment: &mut Mbuf,
    headers: &[u8],
    l3: usize,
    data: &[u8],
    position: &Position,
) -> Option<()> {
    let len = (headers.len() + data.len()).max(ethernet::MIN_FRAME);
    let out = fragment.append(len)?;
    let (head, rest) = out.split_at_mut_checked(headers.len())?;
    head.copy_from_slice(headers);
    let (body, padding) = rest.split_at_mut_checked(data.len())?;
    body.copy_from_slice(data);
    padding.fill(0);

    let datagram = head.get_mut(l3..)?;
    let total_len = u16::try_from(datagram.len() + data.len()).ok()?;
    let offset = u16::try_from(position.offset / 8).ok()?;
    if position.offset > 0 {
        blank_options(datagram.get_mut(usize::from(ipv4::HEADER_LEN)..)?);
    }
    let (header, _) = ipv4::Header::mut_from_prefix(datagram).ok()?;
    let more_came = header.fragment.get() & ipv4::MORE_FRAGMENTS;
    let more = if position.last {
        more_came
    } else {
        ipv4::MORE_FRAGMENTS
    };
    let base = header.fragment.get() & ipv4::OFFSET_MASK;
    header.fragment.set(more | (base + offset));
    header.total_len.set(total_len);
    header.checksum.set(0);
    let sum = checksum::checksum(datagram);
    let (header, _) = ipv4::Header::mut_from_prefix(datagram).ok()?;
    header.checksum.set(sum);
    Some(())
}

/// Overwrites the options that only the first fragment carries. The list was checked when the
/// packet was parsed.
fn blank_options(mut options: &mut [u8]) {
    while let Some(kind) = options.first().copied() {
        let len = match kind {
            OPTION_END => return,
            OPTION_NOP => 1,
            _ => options.get(1).map_or(1, |len| usize::from(*len).max(2)),
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else {
            return;
        };
        if kind & OPTION_COPIED == 0 {
            option.fill(OPTION_NOP);
        }
        options = rest;
    }
}
