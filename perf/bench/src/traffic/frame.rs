//! The frames that the generator sends: UDP over IPv4 over Ethernet, with a stamp in the payload.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::{Mac, checksum, ethernet, ipv4};

/// The smallest frame, as RFC 2544 counts: with the check sequence of four bytes.
pub const SMALLEST_FRAME: usize = 64;
/// The largest untagged frame, counted alike.
pub const LARGEST_FRAME: usize = 1_518;

/// Bytes of a frame that no software sees.
const CHECK_SEQUENCE: usize = 4;
/// Where the UDP header begins: there are no options and no tag.
const UDP: usize = 34;
/// Where the stamp begins.
const STAMP: usize = UDP + 8;
/// Bytes of a stamp: what a frame of 64 bytes has room for.
const STAMP_LEN: usize = 18;
/// Flows that differ in their source port only; then comes the next destination port. A translated
/// address has some thousand ports for one destination.
const PORTS_PER_DESTINATION: u32 = 1_000;
/// The first source port.
const FIRST_SOURCE: u16 = 10_000;
/// The first destination port.
const FIRST_DESTINATION: u16 = 20_000;

/// Between which hosts the generator sends, and as how many flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// The sender's address.
    pub source: Ipv4Addr,
    /// The receiver's address.
    pub destination: Ipv4Addr,
    /// How many flows, 1 to [`Flows::MOST`], each with its own pair of ports.
    pub count: u32,
}

impl Flows {
    /// As many pairs of ports as there are above the well-known ones.
    pub const MOST: u32 = 40_000 * PORTS_PER_DESTINATION;

    /// Source and destination port of a flow.
    fn ports(flow: u32) -> [u16; 2] {
        // Both quotient and remainder fit: flows are below `MOST`.
        let of = |first: u16, step: u32| first.wrapping_add(u16::try_from(step).unwrap_or(0));
        [
            of(FIRST_SOURCE, flow % PORTS_PER_DESTINATION),
            of(FIRST_DESTINATION, flow / PORTS_PER_DESTINATION),
        ]
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that it belongs to.
    pub tag: u16,
    /// Its number in the run, from zero.
    pub number: u64,
    /// When it was made, in cycles.
    pub made: u64,
}

impl Stamp {
    /// The stamp of a frame; `None` when it is not of this generator. Addresses, ports, TTL and
    /// checksums may have changed on the way.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let [high, low] = ethernet::TYPE_IPV4.to_be_bytes();
        let is_ours = frame.get(12..15)? == [high, low, ipv4::VERSION_IHL]
            && *frame.get(23)? == ipv4::PROTOCOL_UDP;
        let stamp: &[u8; STAMP_LEN] = frame.get(STAMP..STAMP + STAMP_LEN)?.try_into().ok()?;
        let (tag, rest) = stamp.split_first_chunk::<2>()?;
        let (number, made) = rest.split_first_chunk::<8>()?;
        is_ours.then_some(Self {
            tag: u16::from_be_bytes(*tag),
            number: u64::from_be_bytes(*number),
            made: u64::from_be_bytes(made.try_into().ok()?),
        })
    }

    fn write(self, room: &mut [u8; STAMP_LEN]) {
        room[..2].copy_from_slice(&self.tag.to_be_bytes());
        room[2..10].copy_from_slice(&self.number.to_be_bytes());
        room[10..].copy_from_slice(&self.made.to_be_bytes());
    }
}

/// Everything of a frame that does not change from one to the next.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    flows: Flows,
}

impl Template {
    /// Frames of `size` bytes, check sequence included, from `source` to the next hop
    /// `destination`. Sizes outside [`SMALLEST_FRAME`] to [`LARGEST_FRAME`] are brought inside.
    #[must_use]
    pub fn new(size: usize, source: Mac, destination: Mac, flows: Flows) -> Self {
        let len = size.clamp(SMALLEST_FRAME, LARGEST_FRAME) - CHECK_SEQUENCE;
        let mut bytes = vec![0; len];
        let length_after = |start: usize| u16::try_from(len - start).unwrap_or(u16::MAX);
        bytes[..6].copy_from_slice(&destination.0);
        bytes[6..12].copy_from_slice(&source.0);
        bytes[12..14].copy_from_slice(&ethernet::TYPE_IPV4.to_be_bytes());
        bytes[14] = ipv4::VERSION_IHL;
        bytes[16..18].copy_from_slice(&length_after(14).to_be_bytes());
        bytes[20..22].copy_from_slice(&ipv4::DONT_FRAGMENT.to_be_bytes());
        bytes[22] = 64;
        bytes[23] = ipv4::PROTOCOL_UDP;
        bytes[26..30].copy_from_slice(&flows.source.octets());
        bytes[30..34].copy_from_slice(&flows.destination.octets());
        let sum = checksum::checksum(&bytes[14..UDP]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        // The UDP checksum stays zero, "none" (RFC 768): otherwise it would change with each stamp.
        bytes[UDP + 4..UDP + 6].copy_from_slice(&length_after(UDP).to_be_bytes());
        Self { bytes, flows }
    }

    /// Makes a frame of the run in an empty buffer. The flows take turns.
    pub fn write(&self, mbuf: &mut Mbuf, stamp: Stamp) {
        if mbuf.copy_from_slice(&self.bytes) {
            self.mark(mbuf.data_mut(), stamp);
        }
    }

    /// Writes what differs from one frame to the next: the ports and the stamp.
    fn mark(&self, frame: &mut [u8], stamp: Stamp) {
        let flow = u32::try_from(stamp.number % u64::from(self.flows.count.max(1))).unwrap_or(0);
        let [source, destination] = Flows::ports(flow);
        frame[UDP..UDP + 2].copy_from_slice(&source.to_be_bytes());
        frame[UDP + 2..UDP + 4].copy_from_slice(&destination.to_be_bytes());
        if let Some(room) = frame.get_mut(STAMP..).and_then(<[u8]>::first_chunk_mut) {
            stamp.write(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const FLOWS: Flows = Flows {
        source: Ipv4Addr::new(192, 0, 2, 100),
        destination: Ipv4Addr::new(198, 51, 100, 100),
        count: 1,
    };

    const STAMPED: Stamp = Stamp {
        tag: 0x1234,
        number: u64::MAX - 1,
        made: 77,
    };

    fn frame(size: usize) -> Vec<u8> {
        let template = Template::new(size, Mac([2; 6]), Mac([4; 6]), FLOWS);
        let mut frame = template.bytes.clone();
        template.mark(&mut frame, STAMPED);
        frame
    }

    #[test]
    fn a_frame_is_a_datagram_that_a_gateway_accepts() {
        for size in [64, 128, 1_518] {
            let frame = frame(size);
            assert_eq!(frame.len(), size - 4);
            let layout = packet::parse(&frame).expect("it is well-formed");
            assert_eq!(layout.kind, packet::Kind::Udp);
        }
    }

    #[test]
    fn a_stamp_survives_its_frame() {
        let mut frame = frame(64);
        assert_eq!(Stamp::read(&frame), Some(STAMPED));
        assert_eq!(Stamp::read(&frame[..59]), None, "it is cut short");
        frame[23] = ipv4::PROTOCOL_TCP;
        assert_eq!(Stamp::read(&frame), None, "it is not UDP");
    }

    #[test]
    fn flows_differ_and_no_destination_has_too_many() {
        let all: HashSet<[u16; 2]> = (0..50_000).map(Flows::ports).collect();
        assert_eq!(all.len(), 50_000);
        let one = all.iter().filter(|ports| ports[1] == FIRST_DESTINATION);
        assert_eq!(one.count(), 1_000);
        assert_eq!(Flows::ports(Flows::MOST - 1), [10_999, 59_999]);
    }
}
