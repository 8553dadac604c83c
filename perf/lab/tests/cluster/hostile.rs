//! What no sound host sends: each frame is counted under its reason, and nobody else notices.

use std::iter;
use std::net::Ipv4Addr;

use api::{Role, Status};
use packet::tcp::{ACK, SYN};
use tidegate_lab::{CLIENT_LAN, Namespace, SERVER_WAN};

use crate::site::{Site, assert_all_kept, assert_undisturbed};
use crate::wire::{
    CLUSTER_GROUP, CLUSTER_TYPE, Datagram, VIRTUAL_MAC, ethernet, inject, record, tcp, udp,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// How often each frame is sent.
const TIMES: u64 = 3;

/// A datagram from the client to the server.
fn datagram(protocol: u8, payload: &[u8]) -> Datagram<'_> {
    Datagram {
        source: CLIENT_LAN,
        destination: SERVER_WAN,
        protocol,
        options: &[],
        payload,
    }
}

/// A sound frame with one byte of the IP header changed.
fn with_byte(position: usize, value: u8) -> Vec<u8> {
    let mut frame = datagram(UDP, &udp(9, 9, 8)).frame();
    frame[14 + position] = value;
    frame
}

fn from(source: [u8; 4]) -> Vec<u8> {
    let payload = udp(9, 9, 8);
    let datagram = Datagram {
        source: Ipv4Addr::from(source),
        ..datagram(UDP, &payload)
    };
    datagram.frame()
}

fn to(destination: Ipv4Addr) -> Vec<u8> {
    let payload = udp(9, 9, 8);
    let datagram = Datagram {
        destination,
        ..datagram(UDP, &payload)
    };
    datagram.frame()
}

fn with_options(options: &[u8]) -> Vec<u8> {
    let payload = udp(9, 9, 8);
    let datagram = Datagram {
        options,
        ..datagram(UDP, &payload)
    };
    datagram.frame()
}

/// An IPv6 packet whose extension headers lead to each other.
fn endless_ipv6() -> Vec<u8> {
    const DESTINATION_OPTIONS: u8 = 60;
    let extensions = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0].repeat(20);
    let length = u16::try_from(extensions.len()).unwrap();
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([DESTINATION_OPTIONS, 64]);
    for last in [1, 2] {
        bytes.extend([
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
        ]);
    }
    bytes.extend(extensions);
    ethernet(VIRTUAL_MAC, 0x86dd, &bytes)
}

/// Frames, each with the name of the counter that it moves. No fragments: the kernel's packet sockets
/// take only whole datagrams from them, as DPDK sets them up.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let sound = datagram(UDP, &udp(9, 9, 8)).frame();
    // The switch floods what it has not learnt.
    let unknown_station = [0x02, 0, 0, 0, 0, 0x98];
    let foreign = ethernet(unknown_station, 0x0800, &sound[14..]);
    let tagged = [&sound[..12], &[0x81, 0x00, 0x00, 0x05], &sound[12..]].concat();
    let zero_length_option = [4, 0, 0, 0];
    vec![
        ("truncated", sound[..14 + 10].to_vec()),
        ("bad_version", with_byte(0, 0x65)),
        ("bad_header_length", with_byte(0, 0x44)),
        ("bad_total_length", with_total_length(0xff)),
        ("bad_checksum", with_byte(10, 0xab)),
        ("bad_options", with_options(&[7, 0, 0, 0])),
        ("source_route", with_options(&[131, 7, 4, 192, 0, 2, 99, 0])),
        ("bad_tcp_offset", datagram(TCP, &tcp(4, SYN, &[])).frame()),
        (
            "bad_tcp_options",
            datagram(TCP, &tcp(6, SYN, &zero_length_option)).frame(),
        ),
        ("tcp_not_syn", datagram(TCP, &tcp(5, ACK, &[])).frame()),
        ("bad_udp_length", datagram(UDP, &udp(9, 9, 99)).frame()),
        ("bad_port", datagram(UDP, &udp(9, 0, 8)).frame()),
        (
            "unwanted_icmp",
            datagram(ICMP, &[5, 0, 0, 0, 0, 0, 0, 0]).frame(),
        ),
        ("source_zero", from([0, 0, 0, 0])),
        ("source_loopback", from([127, 0, 0, 1])),
        ("source_multicast", from([224, 0, 0, 1])),
        ("source_broadcast", from([255, 255, 255, 255])),
        ("source_is_destination", to(CLIENT_LAN)),
        ("destination_invalid", to(Ipv4Addr::LOCALHOST)),
        ("multicast", to(Ipv4Addr::new(224, 0, 0, 9))),
        ("looping_headers", endless_ipv6()),
        ("bad_arp", ethernet([0xff; 6], 0x0806, &[0; 28])),
        ("unknown_ethertype", ethernet(VIRTUAL_MAC, 0x9000, &[0; 46])),
        ("foreign_mac", foreign),
        ("vlan_tagged", tagged),
    ]
}

/// A sound frame whose IP length is larger than the frame, with a right checksum.
fn with_total_length(total: u8) -> Vec<u8> {
    let mut frame = datagram(UDP, &udp(9, 9, 8)).frame();
    frame[17] = total;
    frame[24..26].fill(0);
    let sum = packet::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Sends each frame three times and checks that exactly their counters have counted them, by so
/// much, in each of the units.
fn inject_and_count(
    site: &Site,
    units: &[u8],
    kind: &str,
    frames: Vec<(&str, Vec<u8>)>,
    (place, interface): (Namespace, &str),
) {
    let read = |unit: &u8| {
        let mut counters = site.counters(*unit);
        counters.retain(|name, _| name.starts_with(kind));
        counters
    };
    let mut expected: Vec<_> = units.iter().map(read).collect();
    for counters in &mut expected {
        for (reason, _) in &frames {
            *counters.get_mut(&format!("{kind}{reason}")).unwrap() += TIMES;
        }
    }
    let thrice = |(_, frame)| iter::repeat_n(frame, usize::try_from(TIMES).unwrap());
    let frames: Vec<_> = frames.into_iter().flat_map(thrice).collect();
    inject(&place, interface, &frames);
    for (unit, expected) in units.iter().zip(expected) {
        let total: u64 = expected.values().sum();
        site.wait_until("all to be counted", || {
            read(unit).values().sum::<u64>() >= total
        });
        assert_eq!(read(unit), expected, "unit {unit}");
    }
}

#[test]
fn malformed_packets_are_counted_by_reason_and_disturb_nobody() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let stream = site.start_stream();
    let primary = site.primary().id();
    inject_and_count(
        &site,
        &[primary],
        "drop_",
        malformed(),
        (site.client(), "lan0"),
    );
    assert_undisturbed(stream);
    assert_all_kept(sessions, 10);
}

/// The header of a frame of the cluster, and a body of zeros.
struct Forgery {
    version: u8,
    kind: u8,
    cluster: u8,
    unit: u8,
    to: u8,
    length: u8,
}

impl Forgery {
    /// As a unit 3 would write it, if it had the key.
    const SOUND: Self = Self {
        version: 1,
        kind: 1,
        cluster: 7,
        unit: 3,
        to: 0,
        length: 16,
    };

    fn frame(&self) -> Vec<u8> {
        let mut payload = vec![self.version, self.kind, 0, self.cluster, self.unit, self.to];
        payload.extend([0, self.length]);
        payload.extend([0x55; 16]);
        payload.extend([0; 16 + 16]);
        ethernet(CLUSTER_GROUP, CLUSTER_TYPE, &payload)
    }
}

/// Frames of the cluster's EtherType, each with the name of the counter that it moves.
fn forged() -> Vec<(&'static str, Vec<u8>)> {
    let sound = Forgery::SOUND;
    let short = sound.frame()[..14 + 10].to_vec();
    let forgery = |name, forgery: Forgery| (name, forgery.frame());
    vec![
        ("truncated", short),
        forgery(
            "truncated",
            Forgery {
                length: 200,
                ..sound
            },
        ),
        forgery(
            "foreign_version",
            Forgery {
                version: 9,
                ..sound
            },
        ),
        forgery("unknown_kind", Forgery { kind: 9, ..sound }),
        forgery(
            "foreign_cluster",
            Forgery {
                cluster: 8,
                ..sound
            },
        ),
        forgery("bad_unit", Forgery { unit: 17, ..sound }),
        forgery("other_addressee", Forgery { to: 5, ..sound }),
        forgery("bad_authentication", sound),
    ]
}

/// Roles and terms of both units, and who hears whom.
fn standing(site: &Site) -> Vec<(Role, u32, bool)> {
    let of = |unit| -> (Role, u32, bool) {
        let Status {
            role, term, peers, ..
        } = site.ask(unit, "status");
        (role, term, peers.iter().all(|peer| peer.alive))
    };
    vec![of(1), of(2)]
}

#[test]
fn forged_frames_of_the_cluster_are_refused_by_reason_and_change_no_role() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let before = standing(&site);
    for place in [(site.switch(), "sync"), (site.client(), "lan0")] {
        inject_and_count(&site, &[1, 2], "cluster_rejected_", forged(), place);
    }
    let strangers = [1, 2].map(|unit| site.counter(unit, "sync_interface_strangers"));
    inject(
        &site.switch(),
        "sync",
        &[ethernet([0xff; 6], 0x9000, &[0; 46])],
    );
    for (unit, count) in [1, 2].into_iter().zip(strangers) {
        site.wait_counter(unit, "sync_interface_strangers", count + 1);
    }
    assert_eq!(standing(&site), before);
    assert_all_kept(sessions, 10);
}

#[test]
fn recorded_frames_of_the_cluster_are_refused_and_raise_no_dead() {
    let site = Site::up();
    let before = standing(&site);
    let recording = record(&site.switch(), "sync", 40);
    let sent_by = |unit| recording.iter().filter(move |frame| frame[14 + 4] == unit);
    let play = |frames: &[Vec<u8>]| inject(&site.switch(), "sync", frames);

    let expected = |unit| u64::try_from(sent_by(unit).count()).unwrap();
    let replayed = [1, 2].map(|unit| site.counter(unit, "cluster_rejected_replayed"));
    let own = [1, 2].map(|unit| site.counter(unit, "cluster_rejected_own_frame"));
    play(&recording);
    for (unit, peer) in [(1, 2), (2, 1)] {
        let slot = usize::from(unit - 1);
        let (again, looped) = (replayed[slot] + expected(peer), own[slot] + expected(unit));
        site.wait_counter(unit, "cluster_rejected_replayed", again);
        site.wait_counter(unit, "cluster_rejected_own_frame", looped);
    }
    assert_eq!(standing(&site), before);

    // The voice of the dead.
    let (primary, dead) = (site.primary().id(), site.subordinate().id());
    let frames: Vec<_> = sent_by(dead).cloned().collect();
    site.unit(dead).kill().unwrap();
    site.wait_until("the primary to miss its peer", || {
        !site.hears(primary, dead)
    });
    let count = site.counter(primary, "cluster_rejected_replayed");
    play(&frames);
    site.wait_counter(primary, "cluster_rejected_replayed", count + expected(dead));
    assert!(!site.hears(primary, dead));

    // The voice of an earlier life.
    site.unit(dead).start().unwrap();
    site.lab.wait_whole().unwrap();
    let count = site.counter(primary, "cluster_rejected_old_boot");
    play(&frames);
    site.wait_counter(primary, "cluster_rejected_old_boot", count + expected(dead));
    assert_eq!(standing(&site), before);
}
