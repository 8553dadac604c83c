//! What clients and servers see of a cluster that is well.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use tidegate_lab::{CLIENT_LAN, CLUSTER_LAN, CLUSTER_WAN, Host, SERVER_WAN};

use crate::site::{Site, ask_once, serve_once, text};

#[test]
fn traffic_passes_translated_both_ways() {
    let site = Site::up();
    for (host, address) in [
        (Host::Client, CLUSTER_LAN),
        (Host::Server, CLUSTER_WAN),
        (Host::Client, SERVER_WAN),
    ] {
        let ping = site.run(host, &format!("ping -c 3 -i 0.2 -W 2 {address}"));
        assert!(
            ping.status.success(),
            "{host} to {address}: {}",
            text(&ping.stdout)
        );
    }

    // Source NAT: the server sees the cluster's address, and could not answer any other.
    let served = serve_once(&site.server(), (SERVER_WAN, 4_000));
    ask_once(&site.client(), (SERVER_WAN, 4_000));
    assert_eq!(served.join().unwrap().ip(), CLUSTER_WAN);

    // Destination NAT: the cluster's port 8080 is the client's.
    let served = serve_once(&site.client(), (CLIENT_LAN, 8_080));
    ask_once(&site.server(), (CLUSTER_WAN, 8_080));
    assert_eq!(served.join().unwrap().ip(), SERVER_WAN);
}

#[test]
fn icmp_errors_come_back() {
    let site = Site::up();
    let ping = site.run(Host::Client, &format!("ping -c 1 -t 1 -W 2 {SERVER_WAN}"));
    let said = text(&ping.stdout);
    assert!(said.contains(&format!("From {CLUSTER_LAN}")), "{said}");
    assert!(said.contains("Time to live exceeded"), "{said}");

    // The server's "port unreachable" is about the translated packet; it has to reach the socket
    // that sent the original.
    let socket = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 0))?))
        .unwrap();
    socket.connect((SERVER_WAN, 4_001)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    socket.send(b"anybody there?").unwrap();
    assert_eq!(
        socket.recv(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn what_no_policy_allows_is_dropped_and_counted() {
    let site = Site::up();
    let id = site.primary().id();
    let dropped = || site.counter(id, "drop_policy_default");
    let before = dropped();
    site.server()
        .ip(&format!("route add {CLIENT_LAN}/32 via {CLUSTER_WAN}\n"))
        .unwrap();
    let inner = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 4_002))?))
        .unwrap();
    inner
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let outer = site
        .server()
        .run(|| Ok(UdpSocket::bind((SERVER_WAN, 0))?))
        .unwrap();
    for _ in 0..3 {
        outer.send_to(b"let me in", (CLIENT_LAN, 4_002)).unwrap();
    }
    assert_eq!(
        inner.recv(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(dropped() - before, 3);
}

#[test]
fn each_unit_answers_for_its_own_address_and_the_primary_for_the_clusters() {
    let site = Site::prepare();
    let cluster_line = "cluster_addresses = [\"192.0.2.1/24\"]";
    for unit in [1, 2] {
        let own_line = format!("{cluster_line}\nunit_address = \"192.0.2.1{unit}/24\"");
        site.edit(unit, cluster_line, &own_line);
    }
    site.start();
    for unit in [1, 2] {
        let before = site.counter(unit, "echo_replies_sent");
        let ping = format!("ping -c 3 -i 0.2 -W 2 192.0.2.1{unit}");
        let ping = site.run(Host::Client, &ping);
        assert!(ping.status.success(), "{}", text(&ping.stdout));
        assert_eq!(site.counter(unit, "echo_replies_sent") - before, 3);
    }

    let subordinate = site.subordinate().id();
    let before = site.counter(subordinate, "arp_replies_sent");
    let ask = format!("arping -c 3 -w 5 -I lan0 {CLUSTER_LAN}");
    let answers = text(&site.run(Host::Client, &ask).stdout);
    let from_virtual_mac = answers.to_lowercase().matches("02:74:67:00:07:00").count();
    assert_eq!(from_virtual_mac, 3, "{answers}");
    assert_eq!(answers.matches("reply from").count(), 3, "{answers}");
    assert_eq!(site.counter(subordinate, "arp_replies_sent"), before);
}
