//! Units that do not belong together on one wire: both say so, and neither takes a role by accident.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use api::{EventView, Role};

use crate::site::{Site, assert_undisturbed};
use crate::wire::{CLUSTER_GROUP, CLUSTER_TYPE, ethernet, inject};

/// Lines of one kind that a unit told.
fn told(site: &Site, unit: u8, kind: &str) -> Vec<String> {
    let events: Vec<EventView> = site.ask(unit, "events");
    let of_kind = events.into_iter().filter(|event| event.kind == kind);
    of_kind.map(|event| event.message).collect()
}

fn start_first(site: &Site) {
    site.unit(1).start().unwrap();
    site.lab.wait_whole().unwrap();
}

/// Waits until a unit tells of a conflict, and checks that it does so in one line.
fn wait_told(site: &Site, unit: u8, kind: &str, what: &str) {
    site.wait_until("the conflict to be told", || {
        !told(site, unit, kind).is_empty()
    });
    let lines = told(site, unit, kind);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(what), "{lines:?}");
}

#[test]
fn units_with_different_keys_name_each_other_once_and_the_fresh_one_holds_back() {
    let site = Site::prepare();
    start_first(&site);
    let stream = site.start_stream();
    let other_key = site.lab.directory().join("other.key");
    fs::write(&other_key, "00112233445566778899aabbccddeeff".repeat(2)).unwrap();
    fs::set_permissions(&other_key, fs::Permissions::from_mode(0o600)).unwrap();
    site.edit(2, "cluster.key", "other.key");
    site.unit(2).start().unwrap();
    for (unit, peer) in [(1, 2), (2, 1)] {
        let line = format!("says it is unit {peer} of cluster 7, with another key");
        wait_told(&site, unit, "foreign_key", &line);
    }
    // Longer than the hold-down, after which a unit that hears nobody is primary.
    sleep(Duration::from_secs(3));
    assert_eq!(site.unit(2).status().unwrap().role, Role::Candidate);
    assert_eq!(site.unit(1).status().unwrap().role, Role::Primary);
    assert_eq!(told(&site, 1, "foreign_key").len(), 1);
    assert_undisturbed(stream);
    // Once the other one is gone, nothing holds it back.
    site.unit(1).kill().unwrap();
    site.wait_until("the fresh unit to serve", || {
        site.unit(2).status().unwrap().role == Role::Primary
    });
}

#[test]
fn two_units_with_one_id_name_each_other_and_the_fresh_one_holds_back() {
    let site = Site::prepare();
    start_first(&site);
    let stream = site.start_stream();
    site.edit(2, "id = 2", "id = 1");
    site.unit(2).start().unwrap();
    for unit in [1, 2] {
        wait_told(
            &site,
            unit,
            "duplicate_unit",
            "is unit 1 of this cluster too",
        );
    }
    sleep(Duration::from_secs(3));
    assert_eq!(site.unit(2).status().unwrap().role, Role::Candidate);
    assert_eq!(site.unit(1).status().unwrap().role, Role::Primary);
    assert_undisturbed(stream);
}

#[test]
fn a_unit_of_a_release_too_far_away_is_named() {
    let site = Site::up();
    // Version 9, heartbeat, cluster 7, unit 3.
    let mut payload = vec![9, 1, 0, 7, 3, 0, 0, 16];
    payload.extend([0x55; 48]);
    let frames = vec![ethernet(CLUSTER_GROUP, CLUSTER_TYPE, &payload); 5];
    inject(&site.switch(), "sync", &frames);
    for unit in [1, 2] {
        wait_told(
            &site,
            unit,
            "foreign_version",
            "unit 3 and speaks version 9",
        );
    }
}
