//! Flows and frames, computed from a number: sending ten million flows costs what sending one does.
//!
//! Flow `i` is between a client in 10.0.0.0/8 and a server in 128.0.0.0/2, each server with one
//! client. Frames begin as a template, into which addresses, ports and the header's checksum are
//! written: the gateway verifies that one.

use packet::{Mac, checksum, tcp};

/// Bytes of the shortest frame without its check sequence: "64 bytes" on the wire.
pub(crate) const SHORTEST: usize = 60;
/// Where everybody's server listens.
pub(crate) const SERVER_PORT: u16 = 443;

/// Knuth's multiplicative hash: odd, so that it is a bijection of any number of low bits.
const SPREAD: u32 = 2_654_435_761;
const SERVERS: u32 = 0x8000_0000;
const SERVER_BITS: u32 = 0x3fff_ffff;
const CLIENTS: u32 = 0x0a00_0001;

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// Both ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Flow {
    /// How many different flows there are.
    pub(crate) const COUNT: u32 = 1 << 24;

    /// Flow number `i`, which is below [`Flow::COUNT`] less the few addresses at the end of the
    /// clients' network.
    #[inline]
    pub(crate) const fn number(i: u32) -> Self {
        let [.., high, low] = i.wrapping_mul(40_503).to_be_bytes();
        Self {
            client: End {
                address: CLIENTS + i,
                port: u16::from_be_bytes([high | 0x80, low]),
            },
            server: End {
                address: SERVERS | (i.wrapping_mul(SPREAD) & SERVER_BITS),
                port: SERVER_PORT,
            },
        }
    }

    /// The number of the flow to the server at `address`.
    pub(crate) const fn of_server(address: u32) -> u32 {
        address.wrapping_mul(INVERSE) & SERVER_BITS
    }
}

/// The inverse of [`SPREAD`] modulo a power of two, by Newton's iteration.
const INVERSE: u32 = {
    let mut inverse = SPREAD;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(SPREAD.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
};

/// Marsaglia's xorshift: fast, and the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new() -> Self {
        Self(88_172_645_463_325_252)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// A number below `bound`.
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }

    /// Puts `items` into a random order.
    pub(crate) fn shuffle(&mut self, items: &mut [u32]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
            items.swap(last, self.below(bound) as usize);
        }
    }
}

/// The station from which all frames come.
pub(crate) const STATION: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// A frame of which only the ends are missing.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    head: [u8; SHORTEST],
    /// Of the IPv4 header without addresses.
    sum: u64,
    /// Length of the frame, in bytes.
    pub(crate) len: usize,
}

/// Where in a frame: Ethernet and IPv4 without options or tags.
mod at {
    pub(super) const IP: usize = 14;
    pub(super) const TRANSPORT: usize = 34;
    pub(super) const SEQ: usize = 38;
    pub(super) const ACK: usize = 42;
}

/// The shift of every window: as large as may be, so that no acknowledgement of a flow that waited
/// for a hundred million packets of others is outside of it.
const WINDOW_SCALE: u8 = 14;

impl Template {
    /// A UDP datagram that fills a frame of `len` bytes, at least [`SHORTEST`].
    pub(crate) fn datagram(gateway: Mac, len: usize) -> Self {
        let mut template = Self::ipv4(gateway, packet::ipv4::PROTOCOL_UDP, len - at::IP, len);
        let udp_len = u16::try_from(len - at::TRANSPORT).unwrap_or(u16::MAX);
        template.head[38..40].copy_from_slice(&udp_len.to_be_bytes());
        // Some checksum: gateways correct it without looking.
        template.head[40..42].copy_from_slice(&[0x12, 0x34]);
        template
    }

    /// A TCP segment without data. A SYN offers to scale windows.
    pub(crate) fn segment(gateway: Mac, flags: u8) -> Self {
        let is_syn = flags & tcp::SYN != 0;
        let header_len = if is_syn { 24 } else { 20 };
        let protocol = packet::ipv4::PROTOCOL_TCP;
        let mut template = Self::ipv4(gateway, protocol, 20 + header_len, SHORTEST);
        template.head[46] = if is_syn { 0x60 } else { 0x50 };
        template.head[47] = flags;
        template.head[48..52].copy_from_slice(&[0xff, 0xff, 0x12, 0x34]);
        if is_syn {
            template.head[54..58].copy_from_slice(&[3, 3, WINDOW_SCALE, 1]);
        }
        template
    }

    fn ipv4(gateway: Mac, protocol: u8, total_len: usize, len: usize) -> Self {
        let mut head = [0; SHORTEST];
        head[..6].copy_from_slice(&gateway.0);
        head[6..12].copy_from_slice(&STATION.0);
        head[12..14].copy_from_slice(&[8, 0]);
        let total_len = u16::try_from(total_len).unwrap_or(u16::MAX);
        head[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol]);
        head[16..18].copy_from_slice(&total_len.to_be_bytes());
        let sum = checksum::sum(&head[at::IP..24]);
        Self { head, sum, len }
    }

    /// Writes the head of the frame; what follows it stays as it is. A shorter frame is left alone.
    #[inline]
    pub(crate) fn write(&self, frame: &mut [u8], from: End, to: End) {
        let Some(head) = frame.first_chunk_mut::<SHORTEST>() else {
            return;
        };
        *head = self.head;
        let sum = self.sum + u64::from(from.address) + u64::from(to.address);
        head[24..26].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
        head[26..30].copy_from_slice(&from.address.to_be_bytes());
        head[30..34].copy_from_slice(&to.address.to_be_bytes());
        head[34..36].copy_from_slice(&from.port.to_be_bytes());
        head[36..38].copy_from_slice(&to.port.to_be_bytes());
    }

    /// Writes a segment with its numbers.
    #[inline]
    pub(crate) fn write_segment(&self, frame: &mut [u8], from: End, to: End, seq: u32, ack: u32) {
        self.write(frame, from, to);
        if let Some(head) = frame.first_chunk_mut::<SHORTEST>() {
            head[at::SEQ..at::ACK].copy_from_slice(&seq.to_be_bytes());
            head[at::ACK..at::ACK + 4].copy_from_slice(&ack.to_be_bytes());
        }
    }
}

/// What the far end of a wire reads of a frame that the gateway sent: `None` if it is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) protocol: u8,
    /// Of TCP; what stands in its place else.
    pub(crate) flags: u8,
    pub(crate) seq: u32,
}

impl Arrived {
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let head = frame.first_chunk::<SHORTEST>()?;
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let end = |address, at| End {
            address: word(address),
            port: port(at),
        };
        Some(Self {
            from: end(26, at::TRANSPORT),
            to: end(30, at::TRANSPORT + 2),
            protocol: head[23],
            flags: head[47],
            seq: word(at::SEQ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{Kind, parse};
    use std::collections::HashSet;

    #[test]
    fn flows_differ_and_are_found_by_their_servers() {
        let mut servers = HashSet::new();
        for i in (0..16_000_000).step_by(997) {
            let flow = Flow::number(i);
            assert!(servers.insert(flow.server.address));
            assert_eq!(Flow::of_server(flow.server.address), i);
            assert_eq!(flow.client.address >> 24, 10);
            assert_eq!(flow.server.address >> 30, 2);
        }
    }

    #[test]
    fn frames_are_what_the_gateway_takes() {
        let gateway = Mac([2, 0, 0, 0, 0, 1]);
        let flow = Flow::number(123_456);
        for (template, kind) in [
            (Template::datagram(gateway, 60), Kind::Udp),
            (Template::datagram(gateway, 1_514), Kind::Udp),
            (Template::segment(gateway, tcp::SYN), Kind::Tcp),
            (Template::segment(gateway, tcp::ACK), Kind::Tcp),
        ] {
            let mut frame = vec![0; template.len];
            template.write_segment(&mut frame, flow.client, flow.server, 7, 9);
            if kind == Kind::Udp {
                template.write(&mut frame, flow.client, flow.server);
            }
            let layout = parse(&frame).unwrap();
            assert_eq!(layout.kind, kind);
            assert_eq!(layout.tuple.src_port, flow.client.port);
            assert_eq!(
                layout.tuple.dst_v4().unwrap().to_bits(),
                flow.server.address
            );
            let arrived = Arrived::read(&frame).unwrap();
            assert_eq!((arrived.from, arrived.to), (flow.client, flow.server));
        }
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..1_000).collect();
        Random::new().shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1_000));
    }
}
