//! Units that join, and units that do not belong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use api::{ClusterView, EventView, Role, Status};
use tidegate_lab::failover::Fault;
use tidegate_lab::probe::Crowd;

use crate::site::{Site, assert_all_kept, assert_undisturbed};

/// Role and term of a unit.
fn standing(site: &Site, unit: u8) -> (Role, u32) {
    let Status { role, term, .. } = site.unit(unit).status().unwrap();
    (role, term)
}

/// Starts the first unit and waits until it is primary.
fn start_first(site: &Site) {
    site.unit(1).start().unwrap();
    site.lab.wait_whole().unwrap();
}

#[test]
fn a_unit_that_joins_holds_every_session_and_can_take_over() {
    let site = Site::prepare();
    start_first(&site);
    let crowd = Crowd::settle(&site.client(), &site.server(), 5_000).unwrap();
    site.unit(2).start().unwrap();
    site.lab.wait_holding(5_000).unwrap();
    assert_eq!(site.primary().id(), 1, "who comes later does not preempt");
    site.unit(1).kill().unwrap();
    site.lab.wait_holding(5_000).unwrap();
    assert_eq!(crowd.check().unwrap().kept, 5_000);
}

#[test]
fn a_unit_with_another_key_takes_nothing_over() {
    let site = Site::prepare();
    start_first(&site);
    let before = standing(&site, 1);
    let stream = site.start_stream();

    let other_key = site.lab.directory().join("other.key");
    fs::write(&other_key, "00112233445566778899aabbccddeeff".repeat(2)).unwrap();
    fs::set_permissions(&other_key, fs::Permissions::from_mode(0o600)).unwrap();
    site.edit(2, "cluster.key", "other.key");
    site.unit(2).start().unwrap();
    site.wait_counter(1, "cluster_rejected_bad_authentication", 100);
    assert_eq!(standing(&site, 1), before);
    assert_ne!(standing(&site, 2).0, Role::Primary);
    assert_undisturbed(stream);
}

#[test]
fn another_cluster_on_the_same_segments_is_another_cluster() {
    let site = Site::prepare();
    start_first(&site);
    let before = standing(&site, 1);
    let stream = site.start_stream();

    site.edit(2, "id = 7", "id = 8");
    site.edit(2, "192.0.2.1/24", "192.0.2.2/24");
    site.edit(2, "198.51.100.1/", "198.51.100.2/");
    site.unit(2).start().unwrap();
    site.wait_until("the other cluster to have its primary", || {
        standing(&site, 2).0 == Role::Primary
    });
    for unit in [1, 2] {
        site.wait_counter(unit, "cluster_rejected_foreign_cluster", 100);
        let view: ClusterView = site.ask(unit, "cluster");
        assert_eq!(view.units.len(), 1, "{view:?}");
    }
    assert_eq!(standing(&site, 1), before);
    assert_eq!(site.counter(1, "address_conflicts"), 0);
    assert_undisturbed(stream);
}

#[test]
fn a_unit_with_a_different_policy_is_named_and_still_takes_over() {
    let site = Site::prepare();
    start_first(&site);
    let before = standing(&site, 1);
    let message = |peer| format!("unit {peer} has a different configuration: policy");
    site.edit(
        2,
        "destination_ports = [8080]",
        "destination_ports = [8081]",
    );
    site.unit(2).start().unwrap();
    for (unit, peer) in [(1, 2), (2, 1)] {
        site.wait_until("the difference to be told", || {
            let events: Vec<EventView> = site.ask(unit, "events");
            let mut told = events.iter().filter(|event| event.kind == "configuration");
            told.any(|event| event.message == message(peer))
        });
        let view: ClusterView = site.ask(unit, "cluster");
        let differing = view.units.iter().filter(|unit| !unit.config_match);
        assert_eq!(
            differing.map(|unit| unit.unit).collect::<Vec<_>>(),
            [peer],
            "as unit {unit} sees it"
        );
        let status: Status = site.ask(unit, "status");
        let warnings = status.warnings.join("\n").to_lowercase();
        assert!(warnings.contains(&message(peer)), "{warnings}");
    }
    site.lab.wait_whole().unwrap();
    assert_eq!(standing(&site, 1), before);

    let sessions = site.open_tcp(10);
    site.strike(Fault::Kill);
    assert_all_kept(sessions, 10);
}
