//! Which frames tell a segment where the cluster's addresses are now.

use forward::{Interface, InterfaceId};
use packet::build::{arp_announcement, arp_announcement_reply};

/// The smallest Ethernet frame without its check sequence.
const MIN_FRAME: usize = 60;

/// One frame to send.
pub(crate) struct Announcement {
    /// By which interface.
    pub(crate) interface: InterfaceId,
    /// The whole frame.
    pub(crate) frame: [u8; MIN_FRAME],
}

/// For every cluster address, on its interface, a gratuitous ARP in request form (RFC 5227 section
/// 3) and one in reply form for the stacks that learn only from replies. Sources are translated to
/// cluster addresses only, so these are the NAT addresses too. Switches learn from the Ethernet
/// source, hosts from the sender address: both are the virtual MAC.
pub(crate) fn announcements(interfaces: &[Interface]) -> impl Iterator<Item = Announcement> + '_ {
    (0..)
        .map(InterfaceId)
        .zip(interfaces)
        .flat_map(|(id, interface)| {
            let mac = interface.virtual_mac;
            interface
                .cluster_addresses
                .iter()
                .filter_map(move |shared| {
                    let mac = mac?;
                    let forms = [arp_announcement, arp_announcement_reply];
                    Some(forms.into_iter().filter_map(move |form| {
                        let mut frame = [0; MIN_FRAME];
                        form(&mut frame, mac, 0, shared.address)?;
                        Some(Announcement {
                            interface: id,
                            frame,
                        })
                    }))
                })
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forward::{InterfaceAddress, InterfaceRole};
    use packet::{Mac, arp};
    use std::net::Ipv4Addr;

    #[test]
    fn both_forms_for_every_cluster_address_and_none_for_sync() {
        let virtual_mac = Mac([2, 0x74, 0x67, 0, 7, 0]);
        let interface = |virtual_mac, addresses: &[[u8; 4]]| Interface {
            name: "x".into(),
            role: InterfaceRole::Traffic,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            virtual_mac,
            mtu: 1500,
            cluster_addresses: addresses
                .iter()
                .map(|&a| InterfaceAddress::new(Ipv4Addr::from(a), 24))
                .collect(),
            unit_address: None,
        };
        let interfaces = [
            interface(Some(virtual_mac), &[[192, 0, 2, 1], [192, 0, 2, 2]]),
            interface(None, &[]),
        ];
        let sent: Vec<_> = announcements(&interfaces).collect();
        assert_eq!(sent.len(), 4);
        for (index, announcement) in sent.iter().enumerate() {
            let layout = packet::parse(&announcement.frame).unwrap();
            let message = arp::Message::read(&announcement.frame, &layout).unwrap();
            let address = Ipv4Addr::new(192, 0, 2, 1 + u8::try_from(index / 2).unwrap());
            assert_eq!(announcement.interface, InterfaceId(0));
            assert_eq!(announcement.frame[..6], [0xff; 6]);
            assert_eq!(announcement.frame[6..12], virtual_mac.0);
            assert_eq!(message.sender_mac, virtual_mac);
            assert_eq!(message.sender, address.octets());
            assert_eq!(message.target, address.octets());
            let expected = if index % 2 == 0 {
                arp::REQUEST
            } else {
                arp::REPLY
            };
            assert_eq!(message.operation.get(), expected);
        }
    }
}
