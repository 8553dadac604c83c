use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

/// The key of Microsoft's "Verifying the RSS hash calculation".
const VERIFICATION_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Source, destination, hash over the addresses, hash over addresses and ports: Microsoft's table.
const VECTORS: [(&str, u16, &str, u16, u32, u32); 8] = [
    (
        "66.9.149.187",
        2_794,
        "161.142.100.80",
        1_766,
        0x323e_8fc2,
        0x51cc_c178,
    ),
    (
        "199.92.111.2",
        14_230,
        "65.69.140.83",
        4_739,
        0xd718_262a,
        0xc626_b0ea,
    ),
    (
        "24.19.198.95",
        12_898,
        "12.22.207.184",
        38_024,
        0xd2d0_a5de,
        0x5c2b_394a,
    ),
    (
        "38.27.205.30",
        48_228,
        "209.142.163.6",
        2_217,
        0x8298_9176,
        0xafc7_327f,
    ),
    (
        "153.39.163.191",
        44_251,
        "202.188.127.2",
        1_303,
        0x5d18_09c5,
        0x10e8_28a2,
    ),
    (
        "3ffe:2501:200:1fff::7",
        2_794,
        "3ffe:2501:200:3::1",
        1_766,
        0x2cc1_8cd5,
        0x4020_7d3d,
    ),
    (
        "3ffe:501:8::260:97ff:fe40:efab",
        14_230,
        "ff02::1",
        4_739,
        0x0f0c_461c,
        0xdde5_1bbf,
    ),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
        44_251,
        "fe80::200:f8ff:fe21:67cf",
        38_024,
        0x4b61_e985,
        0x02d1_feef,
    ),
];

fn octets(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn input(tuple: &Tuple, ports: bool) -> Vec<u8> {
    let mut input = match (tuple.src_v4(), tuple.dst_v4()) {
        (Some(src), Some(dst)) => [src.octets(), dst.octets()].concat(),
        _ => [tuple.src, tuple.dst].concat(),
    };
    if ports {
        input.extend(tuple.src_port.to_be_bytes());
        input.extend(tuple.dst_port.to_be_bytes());
    }
    input
}

#[test]
fn verification_vectors() {
    for (src, src_port, dst, dst_port, addresses, all) in VECTORS {
        let mut input = [octets(src), octets(dst)].concat();
        assert_eq!(
            hash_bytes(&VERIFICATION_KEY, &input),
            addresses,
            "{src} {dst}"
        );
        input.extend(src_port.to_be_bytes());
        input.extend(dst_port.to_be_bytes());
        assert_eq!(hash_bytes(&VERIFICATION_KEY, &input), all, "{src} {dst}");
    }
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>())
        .prop_map(|(src, dst)| Tuple::v4(src.into(), 0, dst.into(), 0, 0));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(src, dst)| Tuple {
        src,
        dst,
        ..Tuple::default()
    });
    let protocol = prop_oneof![Just(6), Just(17), Just(1), Just(47)];
    (prop_oneof![v4, v6], any::<u16>(), any::<u16>(), protocol).prop_map(
        |(t, src_port, dst_port, protocol)| Tuple {
            src_port,
            dst_port,
            protocol,
            ..t
        },
    )
}

proptest! {
    #[test]
    fn shortcut_equals_the_definition(tuple in tuple()) {
        let ports = matches!(tuple.protocol, 6 | 17);
        prop_assert_eq!(hash(&tuple), hash_bytes(&SYMMETRIC_KEY, &input(&tuple, ports)));
        prop_assert_eq!(hash_addresses(&tuple), hash_bytes(&SYMMETRIC_KEY, &input(&tuple, false)));
    }

    #[test]
    fn a_port_adds_its_own_hash(tuple in tuple(), udp in any::<bool>()) {
        let whole = Tuple { protocol: if udp { 17 } else { 6 }, ..tuple };
        let without = Tuple { dst_port: 0, ..whole };
        prop_assert_eq!(hash(&whole), hash(&without) ^ hash_port(whole.dst_port));
    }

    #[test]
    fn both_directions_meet(tuple in tuple(), workers in 1u16..=16) {
        let steering = Steering::even(workers);
        let worker = steering.worker(&tuple);
        prop_assert!(worker < workers);
        prop_assert_eq!(worker, steering.worker(&tuple.reversed()));
        prop_assert_eq!(worker, steering.worker_of_hash(hash(&tuple)));
    }
}

#[test]
fn later_fragments_hash_by_their_addresses() {
    let tuple = Tuple::v4([192, 0, 2, 1].into(), 0, [192, 0, 2, 2].into(), 0, 6);
    assert_eq!(hash(&tuple), hash_addresses(&tuple));
}

#[test]
fn even_tables() {
    for workers in 0..=20u16 {
        let steering = Steering::even(workers);
        let mut counts = vec![0usize; usize::from(workers.max(1))];
        for worker in steering.table() {
            counts[usize::from(*worker)] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "{workers} workers: {counts:?}");
        assert_eq!(Steering::new(*steering.table()), steering);
    }
}
