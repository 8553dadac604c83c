//! Neighbours that the primary resolved, for the units that own sessions through them.
//!
//! The body of an envelope of the kind `neighbours` is a list of 26 bytes each, all integers big-endian:
//!
//! ```text
//! offset  bytes
//!  0      4   interface   see [`name_key`](crate::name_key)
//!  4     16   address     IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)
//! 20      6   MAC
//! ```
//!
//! What the list says is true when it is sent; nothing is ever taken back. A receiver forgets what is not
//! repeated.

use std::net::{IpAddr, Ipv6Addr};

use packet::Mac;

use crate::envelope::MAX_BODY;
use crate::wire::{Malformed, Reader, Writer};

/// A station of users' networks, as the primary knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The interface that it is behind, see [`name_key`](crate::name_key).
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

impl Neighbour {
    const LEN: usize = 26;
    /// The most in one frame.
    pub const MAX_LISTED: usize = MAX_BODY / Self::LEN;

    /// A frame's body. The list has at most [`Neighbour::MAX_LISTED`] entries.
    #[must_use]
    pub fn encode(list: &[Self]) -> Vec<u8> {
        let mut w = Writer::with_capacity(list.len() * Self::LEN);
        for neighbour in list {
            let address = match neighbour.address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            w.u32(neighbour.interface);
            w.array(address.octets());
            w.array(neighbour.mac.0);
        }
        w.into_bytes()
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`Malformed`], and says what.
    pub fn decode(body: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut r = Reader::new(body);
        let mut list = Vec::with_capacity(body.len() / Self::LEN);
        while !r.is_empty() {
            let neighbour = Self {
                interface: r.u32()?,
                address: Ipv6Addr::from(r.array()?).to_canonical(),
                mac: Mac(r.array()?),
            };
            if neighbour.mac.is_group() || neighbour.mac == Mac::ZERO {
                return Err(Malformed::Value("station"));
            }
            list.push(neighbour);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_list() {
        let list = [
            Neighbour {
                interface: crate::name_key("lan"),
                address: "192.0.2.7".parse().unwrap(),
                mac: Mac([2, 0, 0, 0, 0, 7]),
            },
            Neighbour {
                interface: crate::name_key("wan"),
                address: "2001:db8::1".parse().unwrap(),
                mac: Mac([2, 0, 0, 0, 0, 8]),
            },
        ];
        let body = Neighbour::encode(&list);
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "5660801000000000000000000000ffffc0000207020000000007\
                      2be2e30120010db8000000000000000000000001020000000008";
        assert_eq!(hex, golden);
        assert_eq!(Neighbour::decode(&body).as_deref(), Ok(&list[..]));
        for cut in (1..body.len()).filter(|cut| cut % Neighbour::LEN != 0) {
            assert_eq!(Neighbour::decode(&body[..cut]), Err(Malformed::Truncated));
        }
        let mut group = body;
        group[20] |= 1;
        let refused = Err(Malformed::Value("station"));
        assert_eq!(Neighbour::decode(&group), refused);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_written_alike(
            body in proptest::collection::vec(any::<u8>(), 0..MAX_BODY)
        ) {
            if let Ok(list) = Neighbour::decode(&body) {
                prop_assert_eq!(Neighbour::decode(&Neighbour::encode(&list)), Ok(list));
            }
        }
    }
}
