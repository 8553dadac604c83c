//! The TCP header (RFC 9293) and what connection tracking reads of it.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Fragment, Layout, ipv4};

/// Bytes of a header without options.
pub const HEADER_LEN: u16 = 20;

/// No more data from the sender.
pub const FIN: u8 = 1;
/// Synchronise sequence numbers.
pub const SYN: u8 = 2;
/// Reset the connection.
pub const RST: u8 = 4;
/// Push.
pub const PSH: u8 = 8;
/// The acknowledgement field is significant.
pub const ACK: u8 = 16;
/// The urgent pointer is significant.
pub const URG: u8 = 32;

/// The largest window scale (RFC 7323 section 2.3): a larger one is read as this.
pub const MAX_SCALE: u8 = 14;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_WINDOW_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;

/// The header without its options.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub source: U16,
    /// Destination port.
    pub destination: U16,
    /// Sequence number of the first byte, or of the SYN.
    pub seq: U32,
    /// The next sequence number that the sender expects.
    pub ack: U32,
    /// Header length in words of four bytes (4 bits), reserved (4 bits).
    pub offset: u8,
    /// [`FIN`] and the others.
    pub flags: u8,
    /// Window, unscaled.
    pub window: U16,
    /// Checksum with the pseudo-header.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl Header {
    /// Bytes of header and options as the header claims.
    #[must_use]
    pub const fn header_len(&self) -> u16 {
        ((self.offset >> 4) as u16) * 4
    }
}

/// What connection tracking needs of one segment, in the machine's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; meaningful only with [`ACK`].
    pub ack: u32,
    /// Window as in the header, unscaled.
    pub window: u16,
    /// [`FIN`] and the others.
    pub flags: u8,
    /// Bytes of payload, without counting SYN and FIN.
    pub payload_len: u16,
    /// Window scale option of a SYN, at most [`MAX_SCALE`]; `None` in all other segments.
    pub scale: Option<u8>,
    /// SACK-permitted option of a SYN.
    pub sack_permitted: bool,
}

impl Segment {
    /// Reads the segment of a frame that [`crate::parse`] accepted. `None` if it is not TCP, or a
    /// later fragment.
    #[must_use]
    pub fn read(frame: &[u8], layout: &Layout) -> Option<Self> {
        if layout.tuple.protocol != ipv4::PROTOCOL_TCP
            || layout.fragment == Fragment::Later
            || layout.is_error()
        {
            return None;
        }
        let segment = frame.get(usize::from(layout.l4)..usize::from(layout.end))?;
        let (header, _) = Header::ref_from_prefix(segment).ok()?;
        let options = if header.flags & SYN == 0 {
            Options::default()
        } else {
            Options::read(segment.get(20..usize::from(header.header_len()))?)?
        };
        Some(Self {
            seq: header.seq.get(),
            ack: header.ack.get(),
            window: header.window.get(),
            flags: header.flags,
            payload_len: (layout.end - layout.l4).checked_sub(header.header_len())?,
            scale: options.scale,
            sack_permitted: options.sack_permitted,
        })
    }
}

/// The options of a SYN that tracking has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
}

impl Options {
    /// `None` for a list that is malformed: a gateway that guessed where the receiver stops
    /// reading might track another window scale than the receiver uses.
    pub(crate) fn read(mut list: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let [kind, rest @ ..] = list {
            match *kind {
                OPTION_END => break,
                OPTION_NOP => {
                    list = rest;
                    continue;
                }
                _ => {}
            }
            let len = usize::from(*rest.first()?);
            if len < 2 {
                return None;
            }
            let (option, after) = list.split_at_checked(len)?;
            match *option {
                [OPTION_WINDOW_SCALE, 3, shift] => options.scale = Some(shift.min(MAX_SCALE)),
                [OPTION_SACK_PERMITTED, 2] => options.sack_permitted = true,
                [OPTION_WINDOW_SCALE | OPTION_SACK_PERMITTED, ..] => return None,
                _ => {}
            }
            list = after;
        }
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(scale: Option<u8>, sack_permitted: bool) -> Option<Options> {
        Some(Options {
            scale,
            sack_permitted,
        })
    }

    #[test]
    fn option_lists() {
        for (list, expected) in [
            (&[][..], options(None, false)),
            (&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7], options(Some(7), true)),
            (&[3, 3, 15, 1], options(Some(14), false)),
            (&[3, 3, 255, 1], options(Some(14), false)),
            (&[0, 3, 3, 7], options(None, false)),
            (&[1, 1, 4, 2], options(None, true)),
            (&[254, 4, 0, 0, 4, 2], options(None, true)),
            (&[8, 0, 3, 3], None),
            (&[8, 1, 3, 3], None),
            (&[3, 2, 1, 1], None),
            (&[4, 3, 1, 1], None),
            (&[1, 1, 1, 3], None),
            (&[8, 10, 0, 0], None),
        ] {
            assert_eq!(Options::read(list), expected, "{list:?}");
        }
    }
}
