//! The sessions of the benchmark, by number: UDP from as many clients to as many servers, translated
//! to a pool of addresses. Everything is computed from the number, so no list of keys is read, and no
//! cache line of one disturbs what is measured.

use std::net::Ipv4Addr;

use dpdk::HashKey;
use packet::Tuple;
use session::Direction;

/// Numbers below this one have clients of their own in 10.0.0.0/8.
const CLIENTS: u32 = 1 << 24;
/// Sessions in a table at the most: so many that as many numbers stay for those that are not there.
pub(super) const MOST: u32 = CLIENTS / 4 * 3;
const CLIENT_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const POOL: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// Ports of each address, from [`FIRST_PORT`] on.
const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1_024;
const SERVICE: u16 = 443;
const UDP: u8 = 17;

/// One direction of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The session's number.
    pub(super) flow: u32,
    pub(super) direction: Direction,
}

impl Way {
    /// Both ways of a session.
    pub(super) fn both(flow: u32) -> [Self; 2] {
        [Direction::Original, Direction::Reply].map(|direction| Self { flow, direction })
    }

    /// How its packets arrive at the gateway.
    pub(super) fn tuple(self) -> Tuple {
        let Ends { from, to } = self.ends();
        Tuple::v4(from.0, from.1, to.0, to.1, UDP)
    }

    /// The same for a table that knows nothing but IPv4.
    pub(super) fn hash_key(self) -> HashKey {
        let Ends { from, to } = self.ends();
        let mut key = [0; 16];
        key[..4].copy_from_slice(&from.0.octets());
        key[4..8].copy_from_slice(&to.0.octets());
        key[8..10].copy_from_slice(&from.1.to_be_bytes());
        key[10..12].copy_from_slice(&to.1.to_be_bytes());
        key[12] = UDP;
        HashKey(key)
    }

    /// The session's number and direction as one number.
    pub(super) fn number(self) -> usize {
        2 * self.flow as usize + self.direction as usize
    }

    fn ends(self) -> Ends {
        let Self { flow, direction } = self;
        let server = Ipv4Addr::from_bits(0xc000_0000 ^ flow.wrapping_mul(2_654_435_761));
        let server = (server, SERVICE);
        match direction {
            Direction::Original => Ends {
                from: (
                    CLIENT_NETWORK | Ipv4Addr::from_bits(flow),
                    port(flow.wrapping_mul(40_503)),
                ),
                to: server,
            },
            Direction::Reply => Ends {
                from: server,
                to: (
                    Ipv4Addr::from_bits(POOL.to_bits() + flow / PORTS),
                    port(flow),
                ),
            },
        }
    }
}

struct Ends {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
}

fn port(number: u32) -> u16 {
    // Below 60,000.
    let offset = u16::try_from(number % PORTS).unwrap_or(0);
    FIRST_PORT + offset
}

/// The session of an original tuple.
pub(super) fn flow_of(tuple: &Tuple) -> u32 {
    let [.., a, b, c] = tuple.src;
    u32::from_be_bytes([0, a, b, c])
}

/// Whether what is looked up is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Hit,
    Miss,
}

/// Draws ways at random: the same ones in each draw of the same size.
pub(super) struct Draw {
    random: Random,
    first: u32,
    count: u32,
    pub(super) expected: Expected,
}

impl Draw {
    /// Of sessions that are in a table of `sessions`, or that are not.
    pub(super) fn new(sessions: u32, expected: Expected) -> Self {
        let (first, count) = match expected {
            Expected::Hit => (0, sessions),
            Expected::Miss => (sessions, sessions.min(CLIENTS - sessions)),
        };
        Self {
            random: Random::new(),
            first,
            count,
            expected,
        }
    }

    pub(super) fn way(&mut self) -> Way {
        let flow = self.first + self.random.below(self.count);
        let direction = match self.random.below(2) {
            0 => Direction::Original,
            _ => Direction::Reply,
        };
        Way { flow, direction }
    }
}

/// Numbers that repeat from run to run (xorshift64*: Vigna 2016).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // The upper half of a product of 32 bits by 32 is below the second of them.
        u32::try_from((high * u64::from(limit)) >> 32).unwrap_or(0)
    }
}

/// The numbers below `count` in random order.
pub(super) fn shuffled(count: u32) -> Vec<u32> {
    let mut random = Random::new();
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, random.below(last + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_ways_are_alike() {
        let flows = (0..100_000)
            .chain(MOST - 1_000..MOST)
            .chain(CLIENTS - 1_000..CLIENTS);
        let ways: Vec<Way> = flows.flat_map(Way::both).collect();
        let tuples: HashSet<Tuple> = ways.iter().map(|way| way.tuple()).collect();
        let keys: HashSet<HashKey> = ways.iter().map(|way| way.hash_key()).collect();
        let numbers: HashSet<usize> = ways.iter().map(|way| way.number()).collect();
        assert_eq!(tuples.len(), ways.len());
        assert_eq!(keys.len(), ways.len());
        assert_eq!(numbers.len(), ways.len());
    }

    #[test]
    fn a_session_is_known_by_its_client() {
        for flow in [0, 1, 255, 65_536, MOST, CLIENTS - 1] {
            assert_eq!(flow_of(&Way::both(flow)[0].tuple()), flow);
        }
    }

    #[test]
    fn hits_and_misses_never_meet() {
        for sessions in [64, 1_000, MOST] {
            let mut hit = Draw::new(sessions, Expected::Hit);
            let mut miss = Draw::new(sessions, Expected::Miss);
            for _ in 0..10_000 {
                assert!(hit.way().flow < sessions);
                assert!((sessions..CLIENTS).contains(&miss.way().flow));
            }
        }
    }

    #[test]
    fn a_shuffled_order_leaves_nothing_out() {
        let order = shuffled(1_000);
        assert_ne!(order[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order.into_iter().collect::<HashSet<_>>().len(), 1_000);
    }
}
