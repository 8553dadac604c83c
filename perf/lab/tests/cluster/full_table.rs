//! More sessions than fit.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use tidegate_lab::failover::Fault;
use tidegate_lab::probe::Crowd;
use tidegate_lab::{CLIENT_LAN, SERVER_WAN};

use crate::site::{Site, assert_all_kept};

/// Where nobody is, in the server's network.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);

#[test]
fn a_full_table_refuses_new_sessions_and_keeps_established_ones() {
    let site = Site::up_with(|settings| settings.sessions = 1_200);
    let sessions = site.open_tcp(10);
    // Every session of this crowd is answered and thereby established, until none fits any more.
    let refused = Crowd::settle(&site.client(), &site.server(), 2_000).unwrap_err();
    assert!(refused.to_string().contains("never answered"), "{refused}");
    let first = site.primary();
    assert!(site.counter(first.id(), "drop_table_full") > 0);
    let held = first.status().unwrap().sessions;
    assert_eq!(held.total, held.capacity);
    site.lab.wait_holding(held.capacity).unwrap();

    let (_, promotion) = site.strike(Fault::Kill);
    assert_eq!(site.counter(promotion.unit, "drop_table_full"), 0);
    let one_more = site
        .client()
        .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 4_003))?))
        .unwrap();
    one_more.send_to(b"room?", (SERVER_WAN, 4_003)).unwrap();
    site.wait_counter(promotion.unit, "drop_table_full", 1);
    assert_all_kept(sessions, 10);
}

#[test]
fn half_open_sessions_make_room_for_each_other_and_take_none_from_others() {
    let site = Site::up_with(|settings| settings.sessions = 1_200);
    let sessions = site.open_tcp(10);
    let crowd = Crowd::settle(&site.client(), &site.server(), 500).unwrap();
    let flood = |ports: std::ops::Range<u16>| {
        let socket = site
            .client()
            .run(|| Ok(UdpSocket::bind((CLIENT_LAN, 0))?))
            .unwrap();
        for port in ports {
            socket.send_to(b"nobody answers", (NOBODY, port)).unwrap();
            if port % 50 == 0 {
                // Below what the gateway's kernel devices pass.
                sleep(Duration::from_millis(2));
            }
        }
    };
    let first = site.primary().id();
    flood(1_000..4_000);
    // 690 fit beside the others, and some datagrams may be lost on the way.
    site.wait_counter(first, "sessions_evicted", 2_000);
    assert_eq!(site.counter(first, "drop_table_full"), 0);
    assert_eq!(crowd.check().unwrap().kept, 500);

    site.lab.wait_holding(510).unwrap();
    let (_, promotion) = site.strike(Fault::Kill);
    flood(4_000..6_000);
    site.wait_counter(promotion.unit, "sessions_evicted", 1_000);
    assert_eq!(crowd.check().unwrap().kept, 500);
    assert_eq!(site.counter(promotion.unit, "drop_table_full"), 0);
    assert_all_kept(sessions, 10);
}
