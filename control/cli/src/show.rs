//! Answers as operators read them: one function per type of the API.

use api::{
    Cleared, ClusterView, CounterView, EventView, FailoverView, Health, InterfaceView, LinkView,
    NeighbourView, PolicyView, ReloadResult, RouteView, SessionsView, Status, SyncView, UnitView,
    Why, WitnessView,
};

use crate::table::{Table, duration, or_dash, yes_no};

pub(crate) fn status(status: &Status) -> String {
    let sessions = &status.sessions;
    let full = sessions.total.saturating_mul(100) / sessions.capacity.max(1);
    let mut text = format!(
        "unit {} \"{}\" of cluster {}: {}, term {}, {}\n\
         up {}, {} of {} sessions ({full} %), {}\n",
        status.unit,
        status.name,
        status.cluster,
        status.role,
        status.term,
        if status.synced {
            "synced"
        } else {
            "synchronising"
        },
        duration(status.uptime_s),
        sessions.total,
        sessions.capacity,
        status.software,
    );
    for warning in &status.warnings {
        text += &format!("warning: {warning}\n");
    }
    if status.peers.is_empty() {
        text += "\nno peer heard\n";
    } else {
        let mut peers = Table::new(&[">PEER", "ALIVE", "ROLE", "SYNCED", ">LAG"]);
        for peer in &status.peers {
            peers.row([
                peer.unit.to_string(),
                yes_no(peer.alive),
                peer.role.to_string(),
                yes_no(peer.synced),
                peer.lag.to_string(),
            ]);
        }
        text += &format!("\n{peers}");
    }
    let mut interfaces = Table::new(&["INTERFACE", "LINK", "MAC", ">RX PACKETS", ">TX PACKETS"]);
    for interface in &status.interfaces {
        interfaces.row([
            interface.name.clone(),
            interface.link.to_string(),
            interface.mac.clone(),
            interface.rx_packets.to_string(),
            interface.tx_packets.to_string(),
        ]);
    }
    text + &format!("\n{interfaces}")
}

pub(crate) fn cluster(cluster: &ClusterView) -> String {
    let primary = match cluster.primary {
        Some(unit) => format!("unit {unit} is primary"),
        None => "no primary".into(),
    };
    let mut table = Table::new(&[
        ">UNIT",
        "NAME",
        "ROLE",
        ">TERM",
        "HEALTH",
        ">AGE",
        ">PRIORITY",
        "SYNCED",
        "CONFIG",
        "SOFTWARE",
        "LINKS",
    ]);
    for unit in &cluster.units {
        table.row([
            format!(
                "{}{}",
                unit.unit,
                if unit.unit == cluster.unit { "*" } else { "" }
            ),
            or_dash(unit.name.as_ref()),
            if unit.alive {
                unit.role.to_string()
            } else {
                "dead".into()
            },
            unit.term.to_string(),
            health(unit.health),
            duration(unit.age_s),
            unit.priority.to_string(),
            yes_no(unit.synced),
            if unit.config_match { "same" } else { "differs" }.into(),
            unit.software.clone(),
            links(unit),
        ]);
    }
    let witness = cluster.witness.map_or(String::new(), witness);
    format!(
        "cluster {}, term {}, schedule {}: {primary}{witness}\n\n{table}{}\n{}",
        cluster.cluster,
        cluster.term,
        cluster.schedule,
        differences(cluster),
        shares(cluster)
    )
}

/// A line for each unit whose configuration differs in what both tell.
fn differences(cluster: &ClusterView) -> String {
    let units = cluster.units.iter();
    let differing = units.filter(|unit| !unit.config_match && !unit.config_differs.is_empty());
    differing.fold(String::new(), |lines, unit| {
        let parts = unit.config_differs.join(", ");
        lines + &format!("unit {} is configured differently: {parts}\n", unit.unit)
    })
}

/// What each unit does of the cluster's work, and what it holds of this unit's.
fn shares(cluster: &ClusterView) -> Table {
    let mut table = Table::new(&[
        ">UNIT", ">WEIGHT", ">SLOTS", ">OWNED", ">SHARE", ">LAG", ">LAG MS",
    ]);
    for unit in &cluster.units {
        let own = unit.unit == cluster.unit;
        let lag = |lag: u64| if own { "-".into() } else { lag.to_string() };
        table.row([
            unit.unit.to_string(),
            unit.weight.to_string(),
            format!("{}/{}", unit.slots, cluster.slots),
            unit.owned.to_string(),
            tenths(u64::from(unit.share_permille), "%"),
            lag(unit.lag),
            lag(unit.lag_ms),
        ]);
    }
    table
}

/// `n` tenths of something.
fn tenths(n: u64, of: &str) -> String {
    format!("{}.{} {of}", n / 10, n % 10)
}

fn witness(witness: WitnessView) -> String {
    match (witness.answers, witness.holder) {
        (false, _) => "\nwitness: does not answer".into(),
        (true, None) => "\nwitness: answers, nobody has its lease".into(),
        (true, Some(unit)) => format!("\nwitness: answers, unit {unit} has its lease"),
    }
}

fn health(health: Health) -> String {
    let links = format!("{}/{}", health.links, health.links_total);
    if health.workers {
        links
    } else {
        format!("{links}, workers stopped")
    }
}

fn links(unit: &UnitView) -> String {
    let link = |link: &LinkView| {
        let state = if link.up { "up" } else { "down" };
        format!("{} {state}", link.name)
    };
    unit.links.iter().map(link).collect::<Vec<_>>().join(", ")
}

pub(crate) fn why(why: &Why) -> String {
    let mut table = Table::new(&["TIME", ">UPTIME", "FROM", "TO", ">TERM", "CAUSE"]);
    for transition in &why.transitions {
        table.row([
            transition.time.clone(),
            milliseconds(transition.uptime_ms),
            transition.from.to_string(),
            transition.to.to_string(),
            transition.term.to_string(),
            transition.cause.clone(),
        ]);
    }
    let now = format!("{}, term {}", why.role, why.term);
    if why.transitions.is_empty() {
        format!("{now}; the role has not changed since the start\n")
    } else {
        format!("{now}\n\n{table}")
    }
}

fn milliseconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1_000, milliseconds % 1_000)
}

pub(crate) fn failover(view: &FailoverView) -> String {
    if view.steps.is_empty() {
        return format!("{}\n", view.message);
    }
    let mut table = Table::new(&["STEP", ">TOOK", "WHAT HAPPENED"]);
    let total = view.steps.iter().map(|step| step.took_us).sum();
    for step in &view.steps {
        table.row([
            step.step.clone(),
            microseconds(step.took_us),
            step.about.clone(),
        ]);
    }
    format!(
        "{}\n\n{table}\nin all {}\n",
        view.message,
        microseconds(total)
    )
}

fn microseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1_000, microseconds % 1_000)
}

pub(crate) fn cleared(cleared: &Cleared) -> String {
    format!("{} sessions cleared\n", cleared.cleared)
}

pub(crate) fn sessions(view: &SessionsView) -> String {
    let mut table = Table::new(&[
        "PROTOCOL", "STATE", "ORIGINAL", "REPLY", ">OWNER", "COPIES", "POLICY", ">IDLE", ">EXPIRES",
    ]);
    for session in &view.sessions {
        table.row([
            session.protocol.clone(),
            session.state.clone(),
            session.original.to_string(),
            session.reply.to_string(),
            session.owner.to_string(),
            list(&session.copies),
            session.policy.clone(),
            duration(session.idle_s),
            duration(session.expires_s),
        ]);
    }
    let shown = view.sessions.len();
    let summary = format!("{} of {} sessions match", view.matched, view.total);
    match (shown, view.matched) {
        (0, _) => format!("{summary}\n"),
        (shown, matched) if matched > shown as u64 => {
            format!("{table}\n{summary}; {shown} are shown, --limit shows more\n")
        }
        _ => format!("{table}\n{summary}\n"),
    }
}

pub(crate) fn interfaces(interfaces: &Vec<InterfaceView>) -> String {
    let mut table = Table::new(&[
        "INTERFACE",
        "ROLE",
        "LINK",
        "DEVICE",
        "DRIVER",
        ">MTU",
        "MAC",
        "VIRTUAL MAC",
        "FILTER",
        "ADDRESSES",
    ]);
    let mut counters = Table::new(&[
        "INTERFACE",
        ">RX PACKETS",
        ">RX BYTES",
        ">MISSED",
        ">RX ERRORS",
        ">TX PACKETS",
        ">TX BYTES",
        ">TX ERRORS",
    ]);
    for interface in interfaces {
        let weight = if interface.critical {
            ", critical"
        } else if interface.monitored {
            ", monitored"
        } else {
            ""
        };
        let addresses = interface.cluster_addresses.iter().cloned();
        let own = interface
            .unit_address
            .iter()
            .map(|address| format!("{address} (unit)"));
        let addresses: Vec<String> = addresses.chain(own).collect();
        table.row([
            interface.name.clone(),
            format!("{}{weight}", interface.role),
            interface.link.to_string(),
            interface.device.clone(),
            interface.driver.clone(),
            interface.mtu.to_string(),
            interface.mac.clone(),
            or_dash(interface.virtual_mac.as_ref()),
            or_dash(Some(&interface.mac_filter).filter(|filter| !filter.is_empty())),
            if addresses.is_empty() {
                "-".into()
            } else {
                addresses.join(", ")
            },
        ]);
        let count = &interface.counters;
        counters.row([
            interface.name.clone(),
            count.rx_packets.to_string(),
            count.rx_bytes.to_string(),
            count.rx_missed.to_string(),
            count.rx_errors.to_string(),
            count.tx_packets.to_string(),
            count.tx_bytes.to_string(),
            count.tx_errors.to_string(),
        ]);
    }
    format!("{table}\n{counters}")
}

pub(crate) fn neighbours(neighbours: &Vec<NeighbourView>) -> String {
    let mut table = Table::new(&["INTERFACE", "ADDRESS", "MAC", "STATE", ">AGE", ">QUEUED"]);
    for neighbour in neighbours {
        table.row([
            neighbour.interface.clone(),
            neighbour.address.to_string(),
            or_dash(neighbour.mac.as_ref()),
            neighbour.state.clone(),
            duration(neighbour.age_s),
            neighbour.queued.to_string(),
        ]);
    }
    listed(&table, neighbours, "no neighbour known")
}

pub(crate) fn routes(routes: &Vec<RouteView>) -> String {
    let mut table = Table::new(&["TO", "VIA", "INTERFACE", "ORIGIN"]);
    for route in routes {
        table.row([
            route.to.clone(),
            or_dash(route.via),
            route.interface.clone(),
            route.origin.clone(),
        ]);
    }
    listed(&table, routes, "no route")
}

pub(crate) fn policies(policies: &Vec<PolicyView>) -> String {
    let mut table = Table::new(&[
        ">#",
        "NAME",
        "FROM",
        "TO",
        "MATCHES",
        "ACTION",
        "SOURCE NAT",
        "DESTINATION NAT",
        ">HITS",
    ]);
    for policy in policies {
        let matches = if policy.matches.is_empty() {
            "all"
        } else {
            &policy.matches
        };
        table.row([
            policy.position.to_string(),
            policy.name.clone(),
            policy.from.clone(),
            policy.to.clone(),
            matches.to_owned(),
            policy.action.clone(),
            or_dash(policy.source_nat.as_ref()),
            or_dash(policy.destination_nat.as_ref()),
            policy.hits.to_string(),
        ]);
    }
    listed(&table, policies, "no policy, so every packet is dropped")
}

/// Counters that have counted; those at zero too if `all`.
pub(crate) fn counters(counters: &[CounterView], all: bool) -> String {
    let mut table = Table::new(&["COUNTER", ">VALUE", "COUNTS"]);
    let shown: Vec<_> = counters
        .iter()
        .filter(|counter| all || counter.value > 0)
        .collect();
    for counter in &shown {
        table.row([
            counter.name.clone(),
            counter.value.to_string(),
            counter.help.clone(),
        ]);
    }
    let hidden = counters.len() - shown.len();
    match (shown.is_empty(), hidden) {
        (true, 0) => "no counter\n".into(),
        (true, _) => format!("all {hidden} counters are at zero; --all shows them\n"),
        (false, 0) => table.to_string(),
        (false, _) => format!("{table}\n{hidden} more are at zero; --all shows them\n"),
    }
}

pub(crate) fn events(events: &Vec<EventView>) -> String {
    let mut table = Table::new(&["TIME", "LEVEL", "KIND", "EVENT"]);
    for event in events {
        table.row([
            event.time.clone(),
            event.level.to_string(),
            event.kind.clone(),
            event.message.clone(),
        ]);
    }
    listed(&table, events, "nothing happened yet")
}

pub(crate) fn sync(sync: &SyncView) -> String {
    if !sync.enabled {
        return "sessions are not copied to the peers (session_sync = false)\n".into();
    }
    let state = if sync.synced {
        "synced"
    } else {
        "synchronising"
    };
    let mut table = Table::new(&[
        ">PEER", "ALIVE", "SYNCED", ">LAG", ">LAG MS", "SENT", "RECEIVED",
    ]);
    let streams = |streams: &[api::StreamView]| {
        let texts = streams
            .iter()
            .map(|stream| format!("{}: {}/{}", stream.shard, stream.acknowledged, stream.sent));
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() {
            "-".into()
        } else {
            texts.join(", ")
        }
    };
    for peer in &sync.peers {
        table.row([
            peer.unit.to_string(),
            yes_no(peer.alive),
            yes_no(peer.synced),
            peer.lag_deltas.to_string(),
            peer.lag_ms.to_string(),
            streams(&peer.sent),
            streams(&peer.received),
        ]);
    }
    format!(
        "{state}; {} segments resent, {} copies sent, {} received\n\n{}",
        sync.resent,
        sync.repairs_sent,
        sync.repairs_received,
        listed(&table, &sync.peers, "no peer heard")
    )
}

pub(crate) fn reload(result: &ReloadResult) -> String {
    if result.applied.is_empty() {
        return format!("nothing changed; meaning {}\n", result.hash);
    }
    let mut table = Table::new(&["KEY", "FROM", "TO"]);
    for change in &result.applied {
        table.row([
            change.key.clone(),
            or_dash(change.from.as_ref()),
            or_dash(change.to.as_ref()),
        ]);
    }
    format!("{table}\nin effect now; meaning {}\n", result.hash)
}

/// Numbers of units, or a dash where there are none.
fn list(units: &[u8]) -> String {
    let texts: Vec<String> = units.iter().map(u8::to_string).collect();
    or_dash((!texts.is_empty()).then(|| texts.join(",")))
}

/// The table, or a sentence where the list is empty.
fn listed<T>(table: &Table, items: &[T], empty: &str) -> String {
    if items.is_empty() {
        format!("{empty}\n")
    } else {
        table.to_string()
    }
}
