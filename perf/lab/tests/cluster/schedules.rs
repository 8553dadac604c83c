//! Sessions shared among three units: who gets which, and what becomes of them when a unit fails.

use std::collections::{BTreeMap, BTreeSet};

use api::{ClusterView, FailoverView, ReloadResult, SessionView, SessionsView};
use tidegate_lab::failover::Fault;
use tidegate_lab::probe::{Crowd, UdpStream};
use tidegate_lab::{CLUSTER_WAN, Host, LabSettings};

use crate::site::{Site, assert_all_kept, text};

/// Sessions of a crowd: enough that shares tell.
const CROWD: usize = 1_500;
/// TCP connections beside it.
const CONNECTIONS: usize = 30;

/// Three units that share sessions by `schedule`. They are patient: a unit that a busy machine keeps waiting
/// is not to lose its sessions.
fn share_by(schedule: &str, settings: &mut LabSettings) {
    settings.units = 3;
    settings.heartbeat_interval = "20ms".to_owned();
    settings.heartbeat_loss = 25;
    schedule.clone_into(&mut settings.schedule);
}

fn three_units(schedule: &str) -> Site {
    Site::up_with(|settings| share_by(schedule, settings))
}

impl Site {
    /// Waits until the primary may hand sessions to all of these units.
    fn wait_sharing(&self, units: &[u8]) {
        self.wait_until("the units to share", || {
            let view: ClusterView = self.ask(self.primary().id(), "cluster");
            let taking = view.units.iter().filter(|unit| unit.slots > 0);
            taking.map(|unit| unit.unit).eq(units.iter().copied())
        });
    }

    /// The lowest unit but this one.
    fn owner_besides(&self, unit: u8) -> u8 {
        let mut units = self.lab.units().iter().map(|other| other.id());
        units.find(|other| *other != unit).unwrap()
    }

    /// Every session that a unit holds.
    fn sessions(&self, unit: u8) -> Vec<SessionView> {
        let view: SessionsView = self.ask(unit, "sessions --limit 1000000");
        view.sessions
    }

    /// How many sessions each unit owns, as one of them knows it.
    fn owned(&self, unit: u8) -> BTreeMap<u8, usize> {
        let mut owned = BTreeMap::new();
        for session in self.sessions(unit) {
            *owned.entry(session.owner).or_default() += 1;
        }
        owned
    }

    /// Replaces text of every unit's configuration and has them follow it.
    fn reload_all(&self, from: &str, to: &str) {
        for unit in self.lab.units() {
            self.edit(unit.id(), from, to);
        }
        for unit in self.lab.units() {
            let done: ReloadResult = self.ask(unit.id(), "config reload");
            assert!(!done.applied.is_empty(), "{from} -> {to}");
        }
    }

    /// Ends every session on every unit.
    fn clear(&self) {
        for unit in self.lab.units() {
            let clear = self.tidegate(unit.id(), &["sessions", "clear", "--all"]);
            assert!(clear.status.success(), "{}", text(&clear.stderr));
        }
        self.wait_until("all sessions to end", || {
            let mut units = self.lab.units().iter();
            units.all(|unit| unit.status().unwrap().sessions.total == 0)
        });
    }
}

/// Checks that each unit owns its part of `total` sessions, to within `tolerance` of all of them.
fn assert_shares(owned: &BTreeMap<u8, usize>, parts: [usize; 3], tolerance: f64) {
    let total: usize = owned.values().sum();
    let whole: usize = parts.iter().sum();
    for (unit, part) in (1_u8..).zip(parts) {
        let share = |count: usize, of: usize| count as f64 / of as f64;
        let has = share(owned.get(&unit).copied().unwrap_or(0), total);
        let due = share(part, whole);
        assert!(
            (has - due).abs() <= tolerance,
            "unit {unit} has {has:.3} of {total} and {due:.3} is due: {owned:?}"
        );
    }
}

/// Units that own sessions to each server address.
fn owners_by_server(sessions: &[SessionView]) -> BTreeMap<&str, BTreeSet<u8>> {
    let mut owners: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    for session in sessions {
        let server = session.original.destination.as_str();
        owners.entry(server).or_default().insert(session.owner);
    }
    owners
}

/// No two sessions may be translated to one port towards one server.
fn assert_ports_are_unique(sessions: &[SessionView]) {
    let mut seen = BTreeSet::new();
    for session in sessions {
        let reply = &session.reply;
        assert_eq!(reply.destination, CLUSTER_WAN.to_string());
        let key = (
            &session.protocol,
            &reply.source,
            reply.source_port,
            reply.destination_port,
        );
        assert!(seen.insert(key), "{key:?} is used twice");
    }
}

#[test]
fn every_schedule_gives_each_unit_its_share_and_replies_find_their_owner() {
    let site = three_units("none");
    let mut current = "none";
    for (schedule, parts, tolerance) in [
        ("round-robin", [1, 1, 1], 0.02),
        ("weighted-round-robin", [1, 1, 1], 0.02),
        // What each owns is known as of a tenth of a second ago, and all of them begin within less.
        ("least-connections", [1, 1, 1], 0.02),
        // 1,500 draws: five standard deviations.
        ("random", [1, 1, 1], 0.06),
        ("ip-port", [1, 1, 1], 0.06),
        // 100 pairs of hosts: four standard deviations.
        ("ip", [1, 1, 1], 0.19),
        ("hub", [1, 1, 1], 0.19),
    ] {
        let line = |schedule| format!("schedule = \"{schedule}\"");
        site.reload_all(&line(current), &line(schedule));
        current = schedule;
        site.wait_sharing(&[1, 2, 3]);
        let crowd = Crowd::settle(&site.client(), &site.server(), CROWD).unwrap();
        let connections = site.open_tcp(CONNECTIONS);
        site.lab.wait_holding((CROWD + CONNECTIONS) as u64).unwrap();

        let sessions = site.sessions(site.primary().id());
        assert_shares(&site.owned(site.primary().id()), parts, tolerance);
        assert_ports_are_unique(&sessions);
        if matches!(schedule, "ip" | "hub") {
            let owners = owners_by_server(&sessions);
            assert!(owners.values().all(|units| units.len() == 1), "{owners:?}");
        }
        // Every packet after the first takes the same way.
        let kept = crowd.check().unwrap().kept;
        assert_eq!(kept, CROWD, "{schedule}");
        assert_all_kept(connections, CONNECTIONS);
        for unit in [1, 2, 3] {
            let owned = site.owned(unit);
            assert_eq!(owned.len(), 3, "unit {unit} under {schedule}: {owned:?}");
        }
        site.clear();
    }
}

#[test]
fn units_of_two_workers_share_as_well() {
    let site = Site::up_with(|settings| {
        settings.workers = 2;
        share_by("round-robin", settings);
    });
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    let connections = site.open_tcp(CONNECTIONS);
    site.lab.wait_holding(600 + CONNECTIONS as u64).unwrap();
    let primary = site.primary().id();
    assert_shares(&site.owned(primary), [1, 1, 1], 0.02);
    assert_ports_are_unique(&site.sessions(primary));
    assert_eq!(crowd.check().unwrap().kept, 600);
    site.unit(site.owner_besides(primary)).kill().unwrap();
    assert_eq!(crowd.check().unwrap().kept, 600);
    assert_all_kept(connections, CONNECTIONS);
}

#[test]
fn operators_see_who_owns_and_who_holds_what() {
    let site = three_units("round-robin");
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 300).unwrap();
    site.lab.wait_holding(300).unwrap();
    for unit in [1, 2, 3] {
        let others: Vec<u8> = [1, 2, 3]
            .into_iter()
            .filter(|other| *other != unit)
            .collect();
        site.wait_until("all sessions to be acknowledged", || {
            let sessions = site.sessions(unit);
            let mut own = sessions.iter().filter(|session| session.owner == unit);
            own.clone().count() >= 95 && own.all(|session| session.copies == others)
        });
        let sessions = site.sessions(unit);
        let mut foreign = sessions.iter().filter(|session| session.owner != unit);
        assert!(foreign.all(|session| session.copies == [unit]));

        site.wait_until("the shares to be told", || {
            let view: ClusterView = site.ask(unit, "cluster");
            let mut units = view.units.iter();
            let fair = units.all(|unit| unit.owned >= 95 && unit.share_permille >= 316);
            fair && view.units.iter().map(|unit| unit.owned).sum::<u64>() == 300
        });
        let view: ClusterView = site.ask(unit, "cluster");
        let slots: u32 = view.units.iter().map(|unit| unit.slots).sum();
        assert_eq!(slots, view.slots);
        assert_eq!(slots > 0, view.primary == Some(unit));
        let neighbours: Vec<api::NeighbourView> = site.ask(unit, "neighbours");
        let reachable = neighbours.iter().filter(|one| one.state == "reachable");
        assert!(reachable.count() >= 2, "unit {unit}: {neighbours:?}");
    }
    let said = text(&site.tidegate(1, &["cluster"]).stdout);
    assert!(said.contains("schedule round-robin"), "{said}");
    assert_eq!(said.matches(" %").count(), 3, "{said}");
    let url = "http://unit/metrics";
    let socket = site.unit(1).socket();
    let scrape = format!("curl -s --unix-socket {} {url}", socket.display());
    let metrics = text(&site.run(Host::Unit(1), &scrape).stdout);
    let owned = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let owned = series.starts_with("tidegate_member_owned_sessions{");
        owned.then(|| value.parse::<f64>().unwrap())
    });
    let total: f64 = owned.sum();
    assert!((total - 300.0).abs() < 0.5, "{metrics}");
    assert_eq!(crowd.check().unwrap().kept, 300);
}

#[test]
fn weights_are_live_and_move_new_sessions_only() {
    let site = three_units("weighted-round-robin");
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    site.lab.wait_holding(600).unwrap();
    let primary = site.primary().id();
    let before = site.owned(primary);
    assert_shares(&before, [1, 1, 1], 0.02);
    for (unit, weight) in [(1, 1), (2, 3), (3, 0)] {
        let line = "priority = 100\n";
        site.edit(unit, line, &format!("{line}weight = {weight}\n"));
        let done: ReloadResult = site.ask(unit, "config reload");
        assert_eq!(done.applied.len(), usize::from(weight != 1), "{done:?}");
    }
    site.wait_sharing(&[1, 2]);
    assert_eq!(crowd.check().unwrap().kept, 600);
    assert_eq!(site.owned(primary), before, "nothing moved");
    drop(crowd);
    let added = Crowd::settle(&site.client(), &site.server(), 1_000).unwrap();
    site.lab.wait_holding(1_600).unwrap();
    let mut owned = site.owned(primary);
    for (unit, count) in &mut owned {
        *count -= before[unit];
    }
    assert_shares(&owned, [1, 3, 0], 0.02);
    assert_eq!(added.check().unwrap().kept, 1_000);
}

#[test]
fn connections_of_an_owner_that_is_killed_go_on() {
    let site = three_units("round-robin");
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    let connections = site.open_tcp(CONNECTIONS);
    site.lab.wait_holding(600 + CONNECTIONS as u64).unwrap();
    let (primary, before) = site.lab.primary().unwrap();
    let dead = site.owner_besides(primary.id());
    site.unit(dead).kill().unwrap();
    site.wait_until("the primary to miss it", || !site.hears(primary.id(), dead));
    assert_eq!(crowd.check().unwrap().kept, 600);
    assert_all_kept(connections, CONNECTIONS);
    let (now, after) = site.lab.primary().unwrap();
    assert_eq!((now.id(), after.term), (primary.id(), before.term));
    site.lab.wait_holding(600).unwrap();
    let talking = site.sessions(primary.id());
    let talking = talking.iter().filter(|session| session.protocol == "udp");
    assert!(talking.clone().count() >= 600);
    assert_eq!(talking.filter(|session| session.owner == dead).count(), 0);

    // It comes back, and gets new sessions with ports that nobody has.
    site.unit(dead).start().unwrap();
    site.lab.wait_whole().unwrap();
    site.wait_sharing(&[1, 2, 3]);
    drop(crowd);
    let added = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    site.lab.wait_holding(1_200).unwrap();
    assert!(site.owned(primary.id())[&dead] >= 150);
    assert_ports_are_unique(&site.sessions(primary.id()));
    assert_eq!(added.check().unwrap().kept, 600);
}

#[test]
fn an_owner_goes_into_maintenance_and_its_sessions_to_the_others() {
    let site = three_units("round-robin");
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    let connections = site.open_tcp(CONNECTIONS);
    let primary = site.primary().id();
    let held = site.owner_besides(primary);
    let switch = |to| {
        let done = site.tidegate(held, &["cluster", "maintenance", to]);
        assert!(done.status.success(), "{}", text(&done.stderr));
    };
    switch("on");
    let others: Vec<u8> = [1, 2, 3].into_iter().filter(|unit| *unit != held).collect();
    site.wait_sharing(&others);
    assert_eq!(crowd.check().unwrap().kept, 600);
    site.wait_until("its sessions to have other owners", || {
        crowd.check().unwrap().kept == 600 && {
            let sessions = site.sessions(primary);
            let mut udp = sessions.iter().filter(|session| session.protocol == "udp");
            udp.all(|session| session.owner != held)
        }
    });
    assert_all_kept(connections, CONNECTIONS);
    switch("off");
    site.wait_sharing(&[1, 2, 3]);
    assert_eq!(crowd.check().unwrap().kept, 600);
}

#[test]
fn a_new_primary_keeps_every_owner_that_lives() {
    let site = three_units("round-robin");
    site.wait_sharing(&[1, 2, 3]);
    let crowd = Crowd::settle(&site.client(), &site.server(), 600).unwrap();
    let connections = site.open_tcp(CONNECTIONS);
    site.lab.wait_holding(600 + CONNECTIONS as u64).unwrap();
    let dead = site.primary().id();
    let owners = |unit| -> BTreeMap<String, u8> {
        let sessions = site.sessions(unit).into_iter();
        let udp = sessions.filter(|session| session.protocol == "udp");
        udp.map(|session| (session.original.to_string(), session.owner))
            .collect()
    };
    let before = owners(dead);
    let (_, promotion) = site.strike(Fault::Kill);
    assert_eq!(crowd.check().unwrap().kept, 600);
    assert_all_kept(connections, CONNECTIONS);
    site.lab.wait_holding(600).unwrap();
    let after = owners(promotion.unit);
    for (session, owner) in before {
        let now = after[&session];
        if owner == dead {
            assert_ne!(now, dead, "{session}");
        } else {
            assert_eq!(now, owner, "{session}");
        }
    }
}

#[test]
fn a_planned_failover_tells_its_steps_and_loses_no_packet() {
    for schedule in ["none", "round-robin"] {
        let site = three_units(schedule);
        let crowd = Crowd::settle(&site.client(), &site.server(), 300).unwrap();
        let connections = site.open_tcp(CONNECTIONS);
        let stream = UdpStream::start(&site.client(), &site.server(), 2_000).unwrap();
        let from = stream.offered();
        for _ in 0..2 {
            let (primary, before) = site.lab.primary().unwrap();
            let view: FailoverView = site.ask(primary.id(), "cluster failover");
            let (now, after) = site.lab.primary().unwrap();
            assert_eq!(Some(now.id()), view.to);
            assert!(after.term > before.term, "{after:?}");
            let steps: Vec<&str> = view.steps.iter().map(|step| step.step.as_str()).collect();
            assert_eq!(steps, ["prepare", "drain", "promote"], "{view:?}");
            stream.wait_steady(stream.offered()).unwrap();
            site.lab.wait_whole().unwrap();
        }
        let record = stream.stop().unwrap();
        let loss = record.loss(from..record.offered());
        assert_eq!(loss.lost, 0, "{schedule}: {loss:?}");
        assert_eq!(crowd.check().unwrap().kept, 300);
        assert_all_kept(connections, CONNECTIONS);
    }
}
