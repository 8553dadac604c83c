//! `tidegated` from its start to its end, with every kind of device that needs no hardware, and with
//! everything that can be missing. Needs root.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use api::{LinkState, Method, Role, Status, path};
use common::{Place, Setup, wait_for};

/// Starts a unit, checks its drivers and the links of both interfaces, and ends it.
fn serves(place: &Place, setup: &Setup, driver: &str, link: LinkState) {
    let unit = place.start(setup);
    wait_for("the links", || {
        let interfaces = unit.interfaces();
        interfaces.iter().all(|one| one.link == link).then_some(())
    });
    for interface in unit.interfaces() {
        assert_eq!(interface.driver, driver, "{interface:?}");
        assert_eq!(interface.mtu, 1_500, "{interface:?}");
    }
    let (code, said) = unit.stop();
    assert_eq!(code, 0, "{said}");
    assert!(!place.socket().exists(), "the socket stayed");
}

/// Checks that a unit does not start with exit code 1, and that it says why in one line with all of
/// `parts`.
fn refuses(place: &Place, setup: &Setup, parts: &[&str]) {
    let (code, said) = place.fail(setup);
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["tidegated: "].iter().chain(parts) {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
    assert!(!place.socket().exists(), "the socket stayed");
}

#[test]
fn null_devices_serve() {
    serves(
        &Place::new(),
        &Setup::of("null", "null"),
        "net_null",
        LinkState::Up,
    );
}

#[test]
fn a_unit_that_was_killed_begins_above_the_term_in_which_it_was_primary() {
    let (place, setup) = (Place::new(), Setup::of("null", "null"));
    for term in [15, 31] {
        let unit = place.start(&setup);
        unit.wait_primary();
        let status: Status = unit.client().get(path::STATUS).unwrap();
        assert_eq!(status.term, term);
    }
}

#[test]
fn a_unit_whose_log_nobody_reads_serves_all_the_same() {
    let place = Place::new();
    place.configure(&Setup::of("null", "null"));
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // All that a pipe holds (pipe(7)).
    writer.write_all(&[b'\n'; 65_536]).unwrap();
    let log = place.write("log", "");
    let unit = place.spawn_logging(&[], writer.into(), log);
    unit.wait_primary();
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(unit.counter("log_dropped"), 0);
    let (code, _) = unit.stop();
    let said = read.join().unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("primary in term 15"), "{}", said.trim());
}

#[test]
fn devices_by_their_arguments_serve() {
    let setup = Setup::of("vdev:net_null0,size=64", "vdev:net_null1");
    serves(&Place::new(), &setup, "net_null", LinkState::Up);
}

#[test]
fn memif_servers_wait_for_their_clients() {
    let place = Place::new();
    let device = |name| format!("memif:{},role=server", place.path(name).display());
    let setup = Setup::of(&device("a"), &device("b"));
    serves(&place, &setup, "net_memif", LinkState::Down);
}

#[test]
fn tap_interfaces_serve() {
    serves(
        &Place::new(),
        &Setup::of("tap:lan0", "tap:wan0"),
        "net_tap",
        LinkState::Up,
    );
}

#[test]
fn kernel_interfaces_serve_by_raw_sockets() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    let setup = Setup::of("af_packet:a", "af_packet:b");
    serves(&place, &setup, "net_af_packet", LinkState::Up);
}

#[test]
fn an_interface_that_an_earlier_start_left_down_comes_up() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    place.namespace.ip("link set dev a down");
    let note = place.write("gw.sock.down", "a");
    let setup = Setup::of("af_packet:a", "af_packet:b");
    serves(&place, &setup, "net_af_packet", LinkState::Up);
    assert!(!note.exists(), "the note stayed");
}

#[test]
fn kernel_interfaces_serve_by_xdp() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    let setup = Setup::of("af_xdp:a", "af_xdp:b");
    serves(&place, &setup, "net_af_xdp", LinkState::Up);
}

#[test]
fn captures_serve() {
    let place = Place::new();
    // Magic, version 2.4, time zone and accuracy, 65,535 bytes, Ethernet (draft-ietf-opsawg-pcap).
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    let device = |name| {
        let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        format!("pcap:{}", place.write(name, bytes).display())
    };
    let setup = Setup::of(&device("a.pcap"), &device("b.pcap"));
    serves(&place, &setup, "net_pcap", LinkState::Up);
}

#[test]
fn a_missing_interface_is_named() {
    let setup = Setup::of("af_packet:nope0", "null");
    let parts = ["interface \"lan\"", "nope0 does not exist", "ip link"];
    refuses(&Place::new(), &setup, &parts);
}

#[test]
fn a_missing_nic_is_named() {
    let setup = Setup::of("null", "pci:ffff:1f:1f.7");
    let parts = [
        "interface \"wan\"",
        "PCI device ffff:1f:1f.7 does not exist",
        "lspci -D",
    ];
    refuses(&Place::new(), &setup, &parts);
}

#[test]
fn a_missing_capture_is_named() {
    let setup = Setup::of("pcap:/nowhere/in.pcap", "null");
    let parts = ["file /nowhere/in.pcap does not exist", "correct the path"];
    refuses(&Place::new(), &setup, &parts);
}

#[test]
fn a_memif_client_says_that_nobody_serves() {
    let place = Place::new();
    let socket = place.path("nobody");
    let setup = Setup::of(&format!("memif:{}", socket.display()), "null");
    let parts = ["interface \"lan\"", "Failed to connect socket"];
    refuses(&place, &setup, &parts);
}

#[test]
fn a_tap_interface_that_exists_is_in_use() {
    let place = Place::new();
    place.namespace.cable("taken", &place.namespace, "other");
    let setup = Setup::of("tap:taken", "null");
    refuses(&place, &setup, &["it is in use", "ip link delete taken"]);
}

/// A second unit that tried would end the first one's reception.
#[test]
fn an_interface_belongs_to_one_unit() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    for kind in ["af_xdp", "af_packet"] {
        let device = |name| format!("{kind}:{name}");
        let unit = place.start(&Setup::of(&device("a"), &device("b")));
        let file = place.path("gw.toml");
        let text = fs::read_to_string(&file).unwrap();
        place.write("gw.toml", text.replace("gw.sock", "second.sock"));
        let (code, said) = place.spawn(&[]).wait();
        assert_eq!(code, 1, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let start = format!("tidegated: interface \"lan\": device {kind}:a: ");
        assert!(said.starts_with(&start), "{said}");
        assert!(said.contains("belongs to another unit"), "{said}");
        assert_eq!(unit.stop().0, 0);
    }
}

#[test]
fn cores_that_do_not_exist_are_named_with_their_key() {
    let place = Place::new();
    let control = Setup {
        control: 1_023,
        ..Setup::of("null", "null")
    };
    refuses(&place, &control, &["cpu.control: there is no core 1023"]);
    let worker = Setup {
        workers: vec![0, 1_023],
        ..Setup::of("null", "null")
    };
    refuses(
        &place,
        &worker,
        &["cpu.workers: there is no core 1023", "lscpu"],
    );
}

/// MiB of huge pages that are free.
fn free_huge_pages() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return 0;
    };
    let megabytes = |folder: std::path::PathBuf| {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let size: u64 = name["hugepages-".len()..name.len() - 2].parse().unwrap();
        let free = fs::read_to_string(folder.join("free_hugepages")).unwrap();
        size * free.trim().parse::<u64>().unwrap() / 1_024
    };
    sizes.map(|size| megabytes(size.unwrap().path())).sum()
}

#[test]
fn huge_pages_are_used_or_missed() {
    let place = Place::new();
    let setup = Setup {
        huge_pages: true,
        ..Setup::of("null", "null")
    };
    match free_huge_pages() {
        0 => {
            let parts = [
                "memory.huge_pages: ",
                "0 MiB are free",
                "sysctl vm.nr_hugepages=",
            ];
            refuses(&place, &setup, &parts);
        }
        1_024.. => serves(&place, &setup, "net_null", LinkState::Up),
        some => panic!("free 1 GiB of huge pages or none, not {some} MiB, for this test"),
    }
}

#[test]
fn an_interface_must_carry_the_mtu() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    let setup = Setup {
        mtu: 9_000,
        ..Setup::of("af_packet:a", "af_packet:b")
    };
    let parts = [
        "device af_packet:a carries packets of 1500 bytes",
        "mtu = 1500",
    ];
    refuses(&place, &setup, &parts);
}

#[test]
fn two_units_cannot_have_one_socket() {
    let place = Place::new();
    let unit = place.start(&Setup::of("null", "null"));
    let (code, said) = place.spawn(&[]).wait();
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("served by another process"), "{said}");
    unit.client().get::<Status>(path::STATUS).unwrap();
    assert_eq!(unit.stop().0, 0);
}

#[test]
fn only_a_primary_takes_the_virtual_address() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    let unit = place.start(&Setup::of("af_packet:a", "af_packet:b"));
    unit.wait_primary();
    let filters = || unit.interfaces().into_iter().map(|one| one.mac_filter);
    assert!(filters().all(|filter| filter == "promiscuous"));
    place.namespace.ip("link set dev b down");
    wait_for("to be isolated", || {
        let status: Status = unit.client().get(path::STATUS).ok()?;
        (status.role == Role::Isolated).then_some(())
    });
    assert!(filters().all(|filter| filter.is_empty()));
    let (code, said) = unit.stop();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn metrics_tell_levels_from_counts() {
    let place = Place::new();
    let unit = place.start(&Setup::of("null", "null"));
    let text = unit
        .client()
        .text(Method::GET, path::METRICS, None)
        .unwrap();
    for line in [
        "# TYPE tidegate_table_sessions gauge",
        "tidegate_table_sessions{unit=\"1\",cluster=\"7\"} 0",
        "# TYPE tidegate_sessions_created counter",
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "no {line} in:\n{text}"
        );
    }
    assert_eq!(unit.stop().0, 0);
}

#[test]
fn a_killed_unit_is_in_nobodys_way() {
    let place = Place::new();
    place.namespace.cable("a", &place.namespace, "b");
    place.namespace.cable("c", &place.namespace, "d");
    for (lan, wan) in [("tap:lan0", "af_packet:a"), ("af_xdp:c", "af_xdp:d")] {
        let setup = Setup::of(lan, wan);
        drop(place.start(&setup));
        assert!(place.socket().exists(), "it was killed");
        assert_eq!(place.start(&setup).stop().0, 0);
    }
}

#[test]
fn every_mistake_of_a_configuration_is_a_line() {
    let place = Place::new();
    let file = place.configure(&Setup::of("afpacket:a", "null"));
    let text = fs::read_to_string(&file).unwrap();
    place.write("gw.toml", text.replace("id = 7", "id = 0\nsurprise = 1"));
    for arguments in [&[][..], &["--check"]] {
        let (code, said) = place.spawn(arguments).wait();
        assert_eq!(code, 2, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let expected = [
            ":12: cluster.id: 0 is out of range; ",
            ":13: cluster.surprise: ",
            ":19: interface[lan].device: \"afpacket\" is no kind of device; ",
        ];
        assert_eq!(lines.len(), expected.len(), "{said}");
        for (line, part) in lines.into_iter().zip(expected) {
            let start = format!("{}{part}", file.display());
            assert!(line.starts_with(&start), "no {start:?} in {line:?}");
        }
    }
}

#[test]
fn a_missing_key_is_named_with_its_remedy() {
    let place = Place::new();
    place.configure(&Setup::of("null", "null"));
    fs::remove_file(place.path("cluster.key")).unwrap();
    let (code, said) = place.spawn(&[]).wait();
    assert_eq!(code, 2, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("cluster.key_file: "), "{said}");
    assert!(said.contains("openssl rand -hex 32"), "{said}");
}

#[test]
fn a_check_starts_nothing_and_tells_warnings() {
    let place = Place::new();
    place.configure(&Setup::of("af_packet:nope0", "null"));
    assert_eq!(place.spawn(&["--check"]).wait(), (0, String::new()));
    let key = place.path("cluster.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = place.spawn(&["--check"]).wait();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(" warning: cluster.key_file: "), "{said}");
}
