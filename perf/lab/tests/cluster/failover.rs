//! The primary fails, or is asked to go: what its users notice, and who takes over.

use std::process::Stdio;

use api::Role;
use tidegate_lab::failover::Fault;
use tidegate_lab::probe::Crowd;
use tidegate_lab::{Host, SERVER_WAN, Segment};

use crate::site::{Site, assert_all_kept, assert_undisturbed, text};

#[test]
fn a_killed_primary_costs_no_connection_and_comes_back_as_a_subordinate() {
    let site = Site::up();
    let (strike, promotion) = site.survive(Fault::Kill);
    strike.heal(&site.lab).unwrap();
    site.lab.wait_whole().unwrap();
    let back = site.unit(strike.unit).status().unwrap();
    assert_eq!((back.role, back.term), (Role::Subordinate, promotion.term));
    assert_eq!(site.primary().id(), promotion.unit);
}

#[test]
fn a_pulled_cable_costs_no_connection_and_moves_back_nothing() {
    let site = Site::up();
    let (strike, promotion) = site.survive(Fault::Link);
    let struck = site.unit(strike.unit).status().unwrap();
    assert_eq!(struck.role, Role::Subordinate);
    strike.heal(&site.lab).unwrap();
    site.lab.wait_whole().unwrap();
    let (primary, status) = site.lab.primary().unwrap();
    assert_eq!(
        (primary.id(), status.term),
        (promotion.unit, promotion.term),
        "it does not preempt"
    );
}

#[test]
fn a_planned_failover_costs_no_connection() {
    let site = Site::up();
    site.survive(Fault::Planned);
    site.lab.wait_whole().unwrap();
}

#[test]
fn a_primary_that_was_only_asleep_steps_down() {
    let site = Site::up();
    let stream = site.start_stream();
    let (strike, promotion) = site.survive(Fault::Silent);
    site.unit(strike.unit).thaw().unwrap();
    site.lab.wait_whole().unwrap();
    let (primary, status) = site.lab.primary().unwrap();
    assert_eq!(
        (primary.id(), status.term),
        (promotion.unit, promotion.term)
    );
    // What had come to it meanwhile goes on to the new one, and the switch finds that again after both have spoken.
    assert!(stream.stop().unwrap().total_loss().lost < 100);
    assert_eq!(site.counter(strike.unit, "drop_not_primary"), 0);
}

#[test]
fn a_primary_that_is_asked_to_leave_hands_over_first() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let (old, before) = site.lab.primary().unwrap();
    old.stop().unwrap();
    let (_, after) = site
        .lab
        .primary()
        .expect("it left only when another had taken over");
    assert!(after.term > before.term);
    assert_all_kept(sessions, 10);
    let log = std::fs::read_to_string(old.log()).unwrap();
    let steps = log.lines().find(|line| line.contains("took over"));
    let steps = steps.expect("its log tells of the hand-over");
    assert_in_order(
        steps,
        &["this unit leaves", "prepare ", "drain ", "promote "],
    );
}

#[test]
fn a_primary_that_is_put_into_maintenance_tells_what_it_took() {
    let site = Site::up();
    let sessions = site.open_tcp(10);
    let old = site.primary().id();
    let done = site.tidegate(old, &["cluster", "maintenance", "on"]);
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}{}", text(&done.stderr));
    assert_in_order(
        &said,
        &[
            "is primary, this unit is held out",
            "\nprepare ",
            "\ndrain ",
            "\npromote ",
            "\nin all ",
        ],
    );
    assert_ne!(site.primary().id(), old, "it answered when that was done");
    assert_all_kept(sessions, 10);
    let done = site.tidegate(old, &["cluster", "maintenance", "off"]);
    assert_eq!(text(&done.stdout), "taking part in elections again\n");
    site.lab.wait_whole().unwrap();
}

/// Each of these stands in the text, behind the one before.
#[track_caller]
fn assert_in_order(text: &str, parts: &[&str]) {
    parts.iter().fold(text, |rest, part| {
        let (_, rest) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part:?} does not follow in: {text}"));
        rest
    });
}

#[test]
fn of_three_units_each_takes_over_in_turn() {
    let site = Site::up_with(|settings| settings.units = 3);
    let sessions = site.open_tcp(10);
    let (first, _) = site.strike(Fault::Kill);
    site.lab.wait_holding(10).unwrap();
    let (second, last) = site.strike(Fault::Kill);
    let mut order = [first.unit, second.unit, last.unit];
    order.sort_unstable();
    assert_eq!(order, [1, 2, 3]);
    assert_all_kept(sessions, 10);
    assert_eq!(site.counter(last.unit, "sessions_adopted"), 10);
}

#[test]
fn two_workers_hand_each_other_what_is_theirs_and_lose_nothing_in_a_failover() {
    let site = Site::up_with(|settings| settings.workers = 2);
    let crowd = Crowd::settle(&site.client(), &site.server(), 1_000).unwrap();
    let sessions = site.open_tcp(10);
    // The kernel spreads packets over the queues by another hash than the workers share sessions by.
    let first = site.primary().id();
    let handed = site.counter(first, "handed_over");
    assert!(handed > 0);
    assert_eq!(site.counter(first, "drop_handover_full"), 0);
    assert_eq!(site.counter(first, "drop_handover_stale"), 0);
    site.wait_counter(first, "taken_over", handed);

    let (_, promotion) = site.strike(Fault::Kill);
    assert_eq!(crowd.check().unwrap().kept, 1_000);
    assert_all_kept(sessions, 10);
    assert!(site.counter(promotion.unit, "handed_over") > 0);
}

#[test]
fn a_bulk_transfer_goes_on_after_the_primary_was_killed() {
    let site = Site::up();
    let server = site.server();
    let mut serving = server
        .command("iperf3")
        .args(["--server", "--one-off", "--forceflush"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    site.wait_until("iperf3 to listen", || {
        text(&site.run(Host::Server, "ss -Hltn").stdout).contains(":5201")
    });
    let mut client = site.client().command("iperf3");
    client.args(["--json", "--time", "4", "--interval", "0.5"]);
    client.args(["--client", &SERVER_WAN.to_string()]);
    let transfer = client.stdout(Stdio::piped()).spawn().unwrap();
    let first = site.primary();
    let sent = || first.status().unwrap().interfaces[1].tx_packets;
    site.wait_until("the transfer to flow", || sent() > 2_000);
    site.strike(Fault::Kill);
    let output = transfer.wait_with_output().unwrap();
    serving.wait().unwrap();

    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    let intervals = report["intervals"].as_array().unwrap();
    let last = &intervals[intervals.len() - 2]["sum"]["bytes"];
    assert!(
        last.as_u64().unwrap() > 0,
        "it flows again at its end: {report:#}"
    );
}

#[test]
fn a_subordinates_failure_changes_no_role() {
    let site = Site::up();
    let stream = site.start_stream();
    let (primary, before) = site.lab.primary().unwrap();
    let other = site.subordinate();
    other.kill().unwrap();
    site.wait_until("the primary to miss its peer", || {
        !site.hears(primary.id(), other.id())
    });
    other.start().unwrap();
    site.lab.wait_whole().unwrap();
    let (now, after) = site.lab.primary().unwrap();
    assert_eq!((now.id(), after.term), (primary.id(), before.term));
    assert_undisturbed(stream);
}

#[test]
fn a_flapping_sync_link_costs_no_session_and_no_role() {
    let site = Site::up();
    let crowd = Crowd::settle(&site.client(), &site.server(), 2_000).unwrap();
    let (primary, before) = site.lab.primary().unwrap();
    let plug = |up| {
        let topology = site.lab.topology();
        topology.set_link(primary.id(), Segment::Sync, up).unwrap();
    };
    for _ in 0..5 {
        plug(false);
        crowd.check().unwrap();
        plug(true);
    }
    site.lab.wait_holding(2_000).unwrap();
    let (now, after) = site.lab.primary().unwrap();
    assert_eq!((now.id(), after.term), (primary.id(), before.term));
    assert_eq!(crowd.check().unwrap().kept, 2_000);
}
