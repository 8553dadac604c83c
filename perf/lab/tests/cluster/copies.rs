//! What the units hold of each other's sessions: first packets that wait for a copy, tables that differ and are
//! mended, and peers that take nothing in.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use api::{ClusterView, EventView, SessionsView};
use tidegate_lab::failover::{Fault, Strike};
use tidegate_lab::probe::Crowd;
use tidegate_lab::{CLIENT_LAN, Host, SERVER_WAN, clock};

use crate::site::{Site, text};

/// Where the tests' own sessions go.
const PORT: u16 = 4_999;
/// How long a first packet waits at most, where these tests have one wait.
const ACKED_TIMEOUT: Duration = Duration::from_millis(700);

/// Everything that units say alike of their sessions.
fn contents(site: &Site, unit: u8) -> BTreeSet<String> {
    let view: SessionsView = site.ask(unit, "sessions --limit 1000000");
    let all = view.sessions.iter().map(|it| {
        let (protocol, state, owner) = (&it.protocol, &it.state, it.owner);
        let (original, reply) = (&it.original, &it.reply);
        let (policy, version) = (&it.policy, &it.version);
        format!("{protocol} {state} {owner} {original} {reply} {policy} {version}")
    });
    all.collect()
}

fn wait_equal(site: &Site) {
    site.wait_until("both units to hold the same", || {
        contents(site, 1) == contents(site, 2)
    });
}

/// Messages of one kind of event of a unit.
fn told(site: &Site, unit: u8, kind: &str) -> Vec<String> {
    let events: Vec<EventView> = site.ask(unit, "events");
    let of_kind = events.into_iter().filter(|event| event.kind == kind);
    of_kind.map(|event| event.message).collect()
}

/// Datagrams from this port of the client to the server and back.
fn exchange(site: &Site, client_port: u16) {
    let server = site
        .server()
        .run(|| Ok(UdpSocket::bind((SERVER_WAN, PORT))?))
        .unwrap();
    let client = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, client_port))?))
        .unwrap();
    for socket in [&server, &client] {
        let patience = Some(Duration::from_secs(5));
        socket.set_read_timeout(patience).unwrap();
    }
    client.send_to(b"ahoy", (SERVER_WAN, PORT)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
    server.send_to(b"ahoy", from).unwrap();
    client.recv_from(&mut [0; 8]).unwrap();
}

/// Two units whose sessions to [`PORT`] have this durability; the others are copied as usual.
fn with_durability(durability: &str) -> Site {
    let site = Site::prepare();
    let rule = "[[policy]]\nname = \"out\"";
    let special = ["tcp", "udp"].map(|protocol| {
        format!(
            "[[policy]]\nname = \"special-{protocol}\"\nfrom = \"lan\"\nto = \"wan\"\n\
             protocol = \"{protocol}\"\ndestination_ports = [{PORT}]\naction = \"allow\"\n\
             source_nat = \"masquerade\"\ndurability = \"{durability}\"\n\n"
        )
    });
    let timeout = format!(
        "session_sync = true\nacked_timeout = \"{}ms\"",
        ACKED_TIMEOUT.as_millis()
    );
    for unit in [1, 2] {
        site.edit(unit, rule, &(special.concat() + rule));
        site.edit(unit, "session_sync = true", &timeout);
    }
    site.start();
    site
}

/// Has the switch drop the frames of synchronisation that come from a unit or go to it, in all segments, or pass
/// them again. Heartbeats go on.
fn cut_copies(site: &Site, unit: u8, from_unit: bool, to_unit: bool) {
    // Kind 2, in the second byte behind the EtherType.
    let rule = |key: &str| {
        format!(
            "{key} {{ u{unit}-lan, u{unit}-wan, u{unit}-sync }} ether type 0x88b5 @nh,8,8 2 drop ; "
        )
    };
    let mut rules = "table bridge copies { } ; delete table bridge copies ; ".to_owned();
    rules += "table bridge copies { chain from { type filter hook prerouting priority 0 ; ";
    rules += &if from_unit {
        rule("iifname")
    } else {
        String::new()
    };
    rules += "} ; chain to { type filter hook postrouting priority 0 ; ";
    rules += &if to_unit {
        rule("oifname")
    } else {
        String::new()
    };
    rules += "} ; }";
    let mut nft = site.switch().command("nft");
    assert!(nft.arg(rules).status().unwrap().success());
}

#[test]
fn a_first_packet_waits_until_a_peer_has_its_session() {
    let site = with_durability("acked");
    let (primary, peer) = (site.primary().id(), site.subordinate().id());
    let started = clock::now();
    exchange(&site, 5_000);
    let free = started.elapsed();
    assert!(free < ACKED_TIMEOUT, "nothing is in its way: {free:?}");
    assert_eq!(site.counter(primary, "acked_confirmed"), 1);
    assert_eq!(site.counter(primary, "acked_timeouts"), 0);
    // It was there before the packet was, so no waiting is needed here.
    let held = contents(&site, peer);
    assert!(held.iter().any(|it| it.contains(":5000")), "{held:?}");

    cut_copies(&site, peer, true, true);
    let started = clock::now();
    exchange(&site, 5_001);
    let held_back = started.elapsed();
    assert!(held_back >= ACKED_TIMEOUT, "{held_back:?}");
    assert!(held_back < ACKED_TIMEOUT * 3, "bounded: {held_back:?}");
    assert_eq!(site.counter(primary, "acked_timeouts"), 1);
    assert_eq!(site.counter(primary, "acked_confirmed"), 1);
    cut_copies(&site, peer, false, false);
    wait_equal(&site);
}

#[test]
fn a_kill_right_after_the_first_packet_loses_no_connection() {
    let site = with_durability("acked");
    let listener = site
        .server()
        .run(|| Ok(TcpListener::bind((SERVER_WAN, PORT))?))
        .unwrap();
    let patience = Duration::from_secs(10);
    let connect = || {
        let address = (SERVER_WAN, PORT).into();
        let client = site
            .client()
            .run(|| Ok(TcpStream::connect_timeout(&address, patience)?))
            .unwrap();
        (client, listener.accept().unwrap().0)
    };
    let pairs: Vec<_> = (0..20).map(|_| connect()).collect();
    let strike = Strike::perform(&site.lab, Fault::Kill).unwrap();
    strike.wait_promotion(&site.lab).unwrap();
    for (client, server) in &pairs {
        for (mut from, mut to) in [(client, server), (server, client)] {
            to.set_read_timeout(Some(patience)).unwrap();
            from.write_all(b"still there?").unwrap();
            let mut line = [0; 12];
            to.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"still there?");
        }
    }
}

#[test]
fn what_a_peer_lacks_is_found_by_digests_and_only_its_ranges_are_repaired() {
    let site = with_durability("none");
    let crowd = Crowd::settle(&site.client(), &site.server(), 3_000).unwrap();
    site.lab.wait_holding(3_000).unwrap();
    let (primary, peer) = (site.primary().id(), site.subordinate().id());
    for port in 5_000..5_010 {
        exchange(&site, port);
    }
    let lacking = contents(&site, primary).len() - contents(&site, peer).len();
    assert_eq!(lacking, 10, "these are not copied");
    assert_eq!(site.counter(peer, "sync_digests_different"), 0);
    let repaired = site.counter(primary, "sync_sessions_repaired");

    // From now on peers should have them, and nobody was told: as if their changes had been lost.
    for port in 5_000..5_010 {
        overwrite(&site, primary, port, |[low, high]| [low, high & 0x7f]);
    }
    wait_equal(&site);
    let different = site.counter(peer, "sync_digests_different");
    assert!((1..=10).contains(&different), "{different} buckets");
    let events = told(&site, peer, "tables_differ");
    assert!(!events.is_empty(), "it is told");
    let sent = site.counter(primary, "sync_sessions_repaired") - repaired;
    // Ten ranges of 256 hold a twenty-fifth of the crowd; two passes may have seen them.
    assert!((10..=10 + 3_000 / 8).contains(&sent), "{sent} sessions");
    assert_eq!(crowd.check().unwrap().kept, 3_000);
}

/// Changes the policy of this session in the memory of a unit, as a fault of the memory might; its highest bit
/// keeps it from the peers. In a slot of the table, whose layout the session table's own documentation has: ports
/// as on the wire, protocol, and eight bytes further both addresses; at byte 108 the small fields of the reply's
/// half, the policy in their upper 16 bits.
fn overwrite(site: &Site, unit: u8, client_port: u16, change: impl Fn([u8; 2]) -> [u8; 2]) {
    let pid = site.unit(unit).process().unwrap().pid;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .unwrap();
    let ports: Vec<u8> = [client_port, PORT]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect();
    let addresses = [CLIENT_LAN, SERVER_WAN].map(|it: Ipv4Addr| it.octets());
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|it| u64::from_str_radix(it, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        let skip = usize::try_from(from.next_multiple_of(128) - from).unwrap();
        let slots = bytes.get(skip..).unwrap_or_default().as_chunks::<128>().0;
        for (slot, offset) in slots.iter().zip((from + skip as u64..).step_by(128)) {
            let of_session = slot[..4] == ports && slot[4] == 17;
            if of_session && slot[8..16] == addresses.concat() && slot[44] & 8 != 0 {
                let policy = change([slot[110], slot[111]]);
                memory.write_all_at(&policy, offset + 110).unwrap();
                found += 1;
            }
        }
    }
    assert_eq!(found, 1, "the session has one slot");
}

#[test]
fn what_is_corrupt_at_a_peer_is_found_by_digests_and_mended() {
    let site = with_durability("async");
    for port in 5_000..5_100 {
        exchange(&site, port);
    }
    site.lab.wait_holding(100).unwrap();
    wait_equal(&site);
    let (primary, peer) = (site.primary().id(), site.subordinate().id());
    let right = contents(&site, primary);
    for port in [5_017, 5_042] {
        overwrite(&site, peer, port, |[low, high]| [low ^ 1, high]);
    }
    assert_eq!(right.difference(&contents(&site, peer)).count(), 2);
    site.wait_counter(peer, "sync_sessions_overridden", 2);
    wait_equal(&site);
    assert_eq!(contents(&site, primary), right, "the primary's was right");
    assert!(!told(&site, peer, "tables_differ").is_empty());
    assert!(site.counter(primary, "sync_sessions_repaired") < 100);
}

#[test]
fn a_peer_that_takes_nothing_in_is_an_alarm() {
    let site = Site::prepare();
    for unit in [1, 2] {
        let section = "[management]\n";
        site.edit(
            unit,
            section,
            &format!("{section}metrics = \"127.0.0.1:9464\"\n"),
        );
    }
    site.start();
    let (primary, peer) = (site.primary().id(), site.subordinate().id());
    let stuck = || {
        let view: ClusterView = site.ask(primary, "cluster");
        let unit = view.units.into_iter().find(|unit| unit.unit == peer);
        unit.unwrap()
    };
    let metric = || {
        let shown = site.run(Host::Unit(primary), "curl -s http://127.0.0.1:9464/metrics");
        let shown = text(&shown.stdout);
        let line = shown.lines().find(|line| {
            line.starts_with("tidegate_member_stuck") && line.contains(&format!("\"{peer}\""))
        });
        line.unwrap_or_else(|| panic!("no such metric: {shown}"))
            .ends_with(" 1.0")
    };
    assert!(!stuck().stuck && !metric());

    // Its acknowledgements get lost; its heartbeats arrive by the other links.
    cut_copies(&site, peer, true, false);
    exchange(&site, 5_000);
    site.wait_until("the alarm", || stuck().stuck && metric());
    let view = stuck();
    assert!(
        view.alive && view.lag > 0 && view.lag_ms >= 1_000,
        "{view:?}"
    );
    let events = told(&site, primary, "peer_stuck");
    assert_eq!(events.len(), 1, "{events:?}");

    cut_copies(&site, peer, false, false);
    site.wait_until("its end", || !stuck().stuck && !metric());
    let events = told(&site, primary, "peer_stuck");
    assert_eq!(events.len(), 2, "{events:?}");
    site.wait_until("the lag to end", || stuck().lag == 0);
}

#[test]
fn what_overflows_is_repaired_and_slows_nobody() {
    const CROWD: usize = 60_000;
    let site = Site::up();
    let (primary, peer) = (site.primary().id(), site.subordinate().id());
    cut_copies(&site, peer, true, true);
    // More changes than a window and the worker's ring hold together. Every session has to be answered.
    let crowd = Crowd::settle(&site.client(), &site.server(), CROWD).unwrap();
    site.wait_counter(primary, "sync_overflows", 1);
    let before = site.counter(primary, "sync_repairs_sent");
    cut_copies(&site, peer, false, false);
    site.lab.wait_holding(CROWD as u64).unwrap();
    assert!(site.counter(primary, "sync_repairs_sent") > before);
    let (_, promotion) = site.strike(Fault::Kill);
    assert_eq!(promotion.unit, peer);
    let outcome = crowd.check().unwrap();
    assert_eq!(outcome.kept, outcome.total);
}
