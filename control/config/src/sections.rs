//! The tables that stand once: `[unit]`, `[cpu]`, `[memory]`, `[cluster]`, `[timeouts]`,
//! `[limits]` and `[management]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::document::{Located, Refusal, Report, Section};
use crate::key::{self, Key, KeyError};
use crate::model::{Cluster, Cpu, Idle, Limits, Management, Memory, Schedule, Timeouts, Unit};
use crate::value;

/// The most units that a cluster can have.
const UNITS_MAX: u8 = 16;
/// Longest path of a unix socket (`sun_path` of Linux without its closing zero).
const SOCKET_PATH_MAX: usize = 107;
/// EtherTypes below are lengths (IEEE 802.3 clause 3.2.6).
const ETHER_TYPE_MIN: u16 = 0x0600;
/// EtherTypes that carry something else: IPv4, ARP, VLAN, IPv6, QinQ.
const ETHER_TYPES_TAKEN: [u16; 5] = [0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8];
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Every schedule, as it is written.
const SCHEDULES: &[(&str, Schedule)] = &{
    use Schedule::{
        Hub, Ip, IpPort, LeastConnections, None, Random, RoundRobin, WeightedRoundRobin,
    };
    [
        (None.name(), None),
        (Hub.name(), Hub),
        (RoundRobin.name(), RoundRobin),
        (WeightedRoundRobin.name(), WeightedRoundRobin),
        (LeastConnections.name(), LeastConnections),
        (Random.name(), Random),
        (Ip.name(), Ip),
        (IpPort.name(), IpPort),
    ]
};

/// How long a first packet waits for a peer, unless told otherwise.
pub(crate) const ACKED_TIMEOUT_DEFAULT: Duration = Duration::from_millis(20);

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn unit(root: &Section<'_, '_>) -> Option<Unit> {
    let section = root.required_section("unit")?;
    let id = section.required("id", "id = 1", value::number(1..=UNITS_MAX));
    let name = section.required("name", "name = \"gw-a\"", value::name(32));
    let priority = section.or("priority", 100, value::number(1..=u8::MAX));
    let weight = section.or("weight", 1, value::number(0..=u8::MAX));
    section.finish();
    Some(Unit {
        id: id?.value,
        name: name?.value,
        priority: priority?.value,
        weight: weight?.value,
    })
}

pub(crate) fn cpu(root: &Section<'_, '_>, report: &Report) -> Option<Cpu> {
    const IDLE: &[(&str, Idle)] = &[("spin", Idle::Spin), ("sleep", Idle::Sleep)];
    let section = root.required_section("cpu")?;
    let control = section.or("control", 0, value::number(0..=1_023));
    if !section.has("workers") {
        let refusal = Refusal::new("is missing", "add a line such as workers = [1, 2]");
        report.error(section.line(), "cpu.workers", refusal);
    }
    let workers: Vec<Located<u16>> = section.list("workers", value::number(0..=1_023));
    let idle = section.or("idle", Idle::Spin, value::choice(IDLE));
    for (index, core) in workers.iter().enumerate() {
        if workers[..index]
            .iter()
            .any(|other| other.value == core.value)
        {
            let cause = format!("core {} has a worker already", core.value);
            let refusal = Refusal::new(cause, "give each worker a core of its own");
            report.error(core.line, "cpu.workers", refusal);
        }
    }
    let (control, idle) = (control?, idle?);
    let shared = workers.iter().find(|core| core.value == control.value);
    if let Some(core) = shared.filter(|_| idle.value == Idle::Spin) {
        let cause = format!(
            "core {} is the control core, and idle is \"spin\"",
            core.value
        );
        let remedy = "give control a core of its own, or write idle = \"sleep\"";
        report.error(core.line, "cpu.workers", Refusal::new(cause, remedy));
    }
    section.finish();
    Some(Cpu {
        control: control.value,
        workers: workers.into_iter().map(|core| core.value).collect(),
        idle: idle.value,
    })
}

pub(crate) fn memory(root: &Section<'_, '_>) -> Option<Memory> {
    let defaults = Memory {
        huge_pages: true,
        sessions: 1_000_000,
    };
    let Some(section) = root.section("memory") else {
        return (!root.has("memory")).then_some(defaults);
    };
    let huge_pages = section.or("huge_pages", defaults.huge_pages, value::boolean);
    let sessions = section.or(
        "sessions",
        defaults.sessions,
        value::number(1_024..=100_000_000),
    );
    section.finish();
    Some(Memory {
        huge_pages: huge_pages?.value,
        sessions: sessions?.value,
    })
}

pub(crate) fn cluster(root: &Section<'_, '_>, report: &Report) -> Option<Cluster> {
    let section = root.required_section("cluster")?;
    let id = section.required("id", "id = 7", value::number(1..=u16::MAX));
    let key = cluster_key(&section, report);
    let heartbeat_interval = section.or(
        "heartbeat_interval",
        Duration::from_millis(100),
        value::duration(MILLISECOND..=Cluster::HEARTBEAT_INTERVAL_MAX),
    );
    let heartbeat_loss = section.or("heartbeat_loss", 3, value::number(1..=100));
    let hello_holddown = section.or(
        "hello_holddown",
        SECOND,
        value::duration(10 * MILLISECOND..=Cluster::HELLO_HOLDDOWN_MAX),
    );
    let age_margin = section.or(
        "age_margin",
        300 * SECOND,
        value::duration(Duration::ZERO..=WEEK),
    );
    let announce_count = section.or("announce_count", 5, value::number(1..=100));
    let announce_interval = section.or(
        "announce_interval",
        200 * MILLISECOND,
        value::duration(10 * MILLISECOND..=60 * SECOND),
    );
    let ether_type = section.or(
        "ether_type",
        0x88B5,
        value::number(ETHER_TYPE_MIN..=u16::MAX),
    );
    let preempt = section.or("preempt", false, value::boolean);
    let schedule = section.or("schedule", Schedule::None, value::choice(SCHEDULES));
    let session_sync = section.or("session_sync", true, value::boolean);
    let acked_timeout = section.or(
        "acked_timeout",
        ACKED_TIMEOUT_DEFAULT,
        value::duration(MILLISECOND..=SECOND),
    );
    section.finish();

    let (key_file, key) = key?;
    let cluster = Cluster {
        id: id?.value,
        key_file,
        key,
        heartbeat_interval: heartbeat_interval?.value,
        heartbeat_loss: heartbeat_loss?.value,
        hello_holddown: hello_holddown.as_ref()?.value,
        age_margin: age_margin?.value,
        announce_count: announce_count?.value,
        announce_interval: announce_interval?.value,
        ether_type: ether_type.as_ref()?.value,
        preempt: preempt?.value,
        schedule: schedule.as_ref()?.value,
        session_sync: session_sync?.value,
        acked_timeout: acked_timeout?.value,
    };
    let lines = Lines {
        hello_holddown: hello_holddown?.line,
        ether_type: ether_type?.line,
        schedule: schedule?.line,
    };
    check_cluster_values(&cluster, &lines, report);
    Some(cluster)
}

/// Where values of `[cluster]` stand that are compared with others.
struct Lines {
    hello_holddown: usize,
    ether_type: usize,
    schedule: usize,
}

/// What the values of `[cluster]` must be to each other.
fn check_cluster_values(cluster: &Cluster, lines: &Lines, report: &Report) {
    let detection = cluster.heartbeat_interval * cluster.heartbeat_loss;
    if cluster.hello_holddown < detection {
        let cause = format!(
            "\"{}\" is shorter than heartbeat_interval × heartbeat_loss, so a fresh unit would not \
             hear its peers",
            value::show(cluster.hello_holddown)
        );
        let remedy = format!("write at least \"{}\"", value::show(detection));
        report.error(
            lines.hello_holddown,
            "cluster.hello_holddown",
            Refusal::new(cause, remedy),
        );
    }
    if cluster.schedule != Schedule::None && !cluster.session_sync {
        let cause = format!(
            "\"{}\" gives sessions to other units, and session_sync = false keeps them from knowing each other's",
            cluster.schedule.name()
        );
        let remedy = "remove session_sync = false, or write schedule = \"none\"";
        let refusal = Refusal::new(cause, remedy);
        report.error(lines.schedule, "cluster.schedule", refusal);
    }
    if ETHER_TYPES_TAKEN.contains(&cluster.ether_type) {
        let cause = format!("{:#06X} belongs to another protocol", cluster.ether_type);
        let remedy = "write 0x88B5 or 0x88B6, which IEEE 802 keeps for local use";
        report.error(
            lines.ether_type,
            "cluster.ether_type",
            Refusal::new(cause, remedy),
        );
    }
}

/// The key file's path, made absolute, and the key in it.
fn cluster_key(section: &Section<'_, '_>, report: &Report) -> Option<(PathBuf, Key)> {
    const KEY: &str = "cluster.key_file";
    let path = section.required("key_file", "key_file = \"cluster.key\"", |value| {
        value::string(value, "the path of a file").map(PathBuf::from)
    })?;
    let folder = report.file().parent().unwrap_or(Path::new(""));
    let file = folder.join(&path.value);
    let shown = file.display();
    let remedy = match key::load(&file) {
        Ok(loaded) => {
            if loaded.world_readable {
                let cause = format!("{shown} can be read by every user of this machine");
                let refusal = Refusal::new(cause, format!("run chmod 600 {shown}"));
                report.warning(path.line, KEY, refusal);
            }
            return Some((file, loaded.key));
        }
        Err(error) => {
            let remedy = match &error {
                KeyError::Unreadable(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    format!(
                        "copy it from another unit, or make one: openssl rand -hex 32 > {shown}"
                    )
                }
                KeyError::Unreadable(_) | KeyError::NoFile => {
                    "make it a text file that the user of tidegated can read".to_owned()
                }
                KeyError::TooShort(_) | KeyError::ManyLines => {
                    "write one line: 64 hexadecimal digits (openssl rand -hex 32), or a passphrase \
                     of at least 16 characters"
                        .to_owned()
                }
            };
            Refusal::new(format!("{shown} {error}"), remedy)
        }
    };
    report.error(path.line, KEY, remedy);
    None
}

pub(crate) fn timeouts(root: &Section<'_, '_>) -> Option<Timeouts> {
    let defaults = Timeouts::default();
    let Some(section) = root.section("timeouts") else {
        return (!root.has("timeouts")).then_some(defaults);
    };
    let timeout = |key, default| section.or(key, default, value::duration(SECOND..=WEEK));
    let tcp_established = timeout("tcp_established", defaults.tcp_established);
    let tcp_transitory = timeout("tcp_transitory", defaults.tcp_transitory);
    let tcp_syn = timeout("tcp_syn", defaults.tcp_syn);
    let udp_replied = timeout("udp_replied", defaults.udp_replied);
    let udp_unreplied = timeout("udp_unreplied", defaults.udp_unreplied);
    let icmp_replied = timeout("icmp_replied", defaults.icmp_replied);
    let icmp_unreplied = timeout("icmp_unreplied", defaults.icmp_unreplied);
    section.finish();
    Some(Timeouts {
        tcp_established: tcp_established?.value,
        tcp_transitory: tcp_transitory?.value,
        tcp_syn: tcp_syn?.value,
        udp_replied: udp_replied?.value,
        udp_unreplied: udp_unreplied?.value,
        icmp_replied: icmp_replied?.value,
        icmp_unreplied: icmp_unreplied?.value,
    })
}

pub(crate) fn limits(root: &Section<'_, '_>) -> Limits {
    let Some(section) = root.section("limits") else {
        return Limits::default();
    };
    let half_open = section.optional("half_open", value::number(1..=u32::MAX));
    let per_source = section.optional("per_source", value::number(1..=u32::MAX));
    section.finish();
    Limits {
        half_open: half_open.map(|limit| limit.value),
        per_source: per_source.map(|limit| limit.value),
    }
}

/// `[management]`; the socket is named after the unit unless configured.
pub(crate) fn management(
    root: &Section<'_, '_>,
    unit: Option<&Unit>,
    report: &Report,
) -> Option<Management> {
    const KEY: &str = "management.socket";
    let section = root.section("management");
    let socket = section.as_ref().and_then(|section| {
        section.optional("socket", |value| {
            value::string(value, "the path of a unix socket").map(PathBuf::from)
        })
    });
    let metrics = section
        .as_ref()
        .and_then(|section| section.optional("metrics", value::socket_address));
    if let Some(section) = section {
        section.finish();
    }
    let socket = match socket {
        Some(socket) => socket,
        None => Located {
            value: format!("/run/tidegate/{}.sock", unit?.name).into(),
            line: root.line(),
        },
    };
    let path = socket.value.display();
    if !socket.value.is_absolute() {
        let cause = format!("\"{path}\" does not begin with /");
        let remedy = format!("write \"/run/tidegate/{path}\"");
        report.error(socket.line, KEY, Refusal::new(cause, remedy));
    }
    if socket.value.as_os_str().len() > SOCKET_PATH_MAX {
        let cause = format!("is longer than {SOCKET_PATH_MAX} bytes, so no socket can have it");
        let remedy = "write a shorter one, such as \"/run/tidegate/gw-a.sock\"";
        report.error(socket.line, KEY, Refusal::new(cause, remedy));
    }
    Some(Management {
        socket: socket.value,
        metrics: metrics.map(|address| address.value),
    })
}
