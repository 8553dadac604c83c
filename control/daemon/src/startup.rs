//! From a configuration to running workers: memory, ports, queues, rings and threads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, ensure};
use config::{Config, InterfaceRole};
use dpdk::{Device, Eal, EalSettings, Mempool, Port, PortSettings, Rss, RxQueue, TxQueue};
use forward::{
    ControlRings, Gate, Lease, Neighbours, Publisher, QueuePair, RingSizes, Snapshot,
    WorkerCounters, WorkerParts,
};
use packet::Mac;
use packet::toeplitz::{SYMMETRIC_KEY, Steering};
use session::{Reader, Shard, Tick, Timeouts};

use crate::claim::{Claim, claim};
use crate::clock::Clock;
use crate::{plan, workers};

/// Buffers that a queue of a port keeps to itself, roughly.
const BUFFERS_PER_QUEUE: u32 = 1_024;
/// Buffers for rings, waiting packets and the control core.
const BUFFERS_COMMON: u32 = 4_096;
/// Bytes before the payload of an untagged frame.
pub(crate) const ETHERNET_HEADER: usize = 14;
/// Room of a buffer beyond the MTU: Ethernet header, VLAN tags, check sequence.
const FRAME_OVERHEAD: u16 = 26;

/// A worker, seen from the control core.
pub(crate) struct WorkerHandle {
    pub(crate) rings: ControlRings,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) thread: JoinHandle<()>,
}

/// Everything that the control core works with.
pub(crate) struct Started {
    pub(crate) eal: Eal,
    pub(crate) pool: Mempool,
    /// By interface.
    pub(crate) ports: Vec<Port>,
    /// The queues of sync interfaces, by interface.
    pub(crate) sync_queues: Vec<Option<(RxQueue, TxQueue)>>,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) snapshot: Publisher<Snapshot>,
    pub(crate) neighbours: Publisher<Neighbours>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Of the kernel interfaces behind the ports.
    pub(crate) claims: Vec<Claim>,
}

/// Starts everything. The calling thread becomes the control core's.
pub(crate) fn start(config: &Config, clock: Clock, lease: Option<Arc<Lease>>) -> Result<Started> {
    let devices = devices(config)?;
    check_cores(config)?;
    if config.memory.huge_pages {
        check_huge_pages(memory_needed(config))?;
    }
    let claims = claims(config, &devices)?;
    let eal = eal(config, &devices)?;
    let pool = Mempool::new(&eal, "packets", buffers(config), data_room(config))?;
    let (ports, mut queues) = ports(config, &eal, &devices, &pool)?;
    let macs: Vec<_> = ports.iter().map(|port| Mac(port.mac())).collect();
    let first = Snapshot::build(&eal, plan::snapshot(config, &macs))?;
    let snapshot = Publisher::new(first);
    let neighbours = Publisher::new(Neighbours::none());
    let shards = shards(config)?;
    let readers: Vec<_> = shards.iter().map(Shard::reader).collect();
    let count = u16::try_from(shards.len()).context("more workers than there can be")?;
    let (worker_rings, control_rings) =
        forward::connect(count, RingSizes::default(), cluster::range_of);
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    let ends = shards
        .into_iter()
        .zip(worker_rings)
        .zip(control_rings)
        .zip(0..count);
    for (((shard, rings), control), index) in ends {
        let counters = Arc::new(WorkerCounters::new());
        let parts = WorkerParts {
            index,
            ports: queues.of_worker(config)?,
            pool: pool.clone(),
            shard,
            readers: readers.clone(),
            rings,
            snapshot: snapshot.subscribe(),
            neighbours: neighbours.subscribe(),
            counters: Arc::clone(&counters),
        };
        let core = config.cpu.workers[usize::from(index)];
        let gate = lease.as_ref().map(|lease| gate(lease, clock, &snapshot));
        let thread = workers::start(parts, gate, core, config.cpu.idle, clock, Arc::clone(&stop))?;
        running.push(WorkerHandle {
            rings: control,
            counters,
            thread,
        });
    }
    let sync_queues = queues.sync();
    Ok(Started {
        eal,
        pool,
        ports,
        sync_queues,
        workers: running,
        readers,
        snapshot,
        neighbours,
        stop,
        claims,
    })
}

/// The gate of one worker.
fn gate(lease: &Arc<Lease>, clock: Clock, snapshot: &Publisher<Snapshot>) -> Gate {
    let interfaces = &snapshot.current().interfaces;
    let stations = interfaces.iter().map(|interface| interface.virtual_mac);
    Gate::new(Arc::clone(lease), move || clock.now().0, stations)
}

fn devices(config: &Config) -> Result<Vec<Device>> {
    let parse = |interface: &config::Interface| {
        let text = interface.device.to_string();
        text.parse::<Device>()
            .with_context(|| format!("interface \"{}\"", interface.name))
    };
    config.interfaces.iter().map(parse).collect()
}

fn claims(config: &Config, devices: &[Device]) -> Result<Vec<Claim>> {
    let named = config.interfaces.iter().zip(devices);
    named
        .filter_map(|(interface, device)| Some((interface, device, device.kernel_interface()?)))
        .map(|(interface, device, kernel)| {
            claim(kernel)
                .with_context(|| format!("interface \"{}\": device {device}", interface.name))
        })
        .collect()
}

fn eal(config: &Config, devices: &[Device]) -> Result<Eal> {
    Ok(Eal::init(&EalSettings {
        program: "tidegated".to_owned(),
        file_prefix: format!("tidegate-{}-{}", config.unit.name, std::process::id()),
        main_core: config.cpu.control,
        huge_pages: config.memory.huge_pages,
        memory_mb: memory_needed(config),
        devices: devices.to_vec(),
    })?)
}

/// Refuses cores that this machine does not have.
fn check_cores(config: &Config) -> Result<()> {
    let cores = std::iter::once(("cpu.control", config.cpu.control))
        .chain(config.cpu.workers.iter().map(|core| ("cpu.workers", *core)));
    for (key, core) in cores {
        ensure!(
            Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists(),
            "{key}: there is no core {core}; write one of those that `lscpu --extended` lists"
        );
    }
    Ok(())
}

/// Refuses to start without enough huge pages: DPDK would say so in many lines. Kernels that do not
/// tell are left to DPDK.
fn check_huge_pages(needed: u32) -> Result<()> {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Ok(());
    };
    let free = sizes.filter_map(|size| {
        let folder = size.ok()?.path();
        let kilobytes = folder.file_name()?.to_str()?.strip_prefix("hugepages-")?;
        let kilobytes: u64 = kilobytes.strip_suffix("kB")?.parse().ok()?;
        let pages = std::fs::read_to_string(folder.join("free_hugepages")).ok()?;
        Some(kilobytes * pages.trim().parse::<u64>().ok()? / 1_024)
    });
    let free: u64 = free.sum();
    ensure!(
        free >= u64::from(needed),
        "memory.huge_pages: {needed} MiB are needed and {free} MiB are free; reserve more (`sysctl \
         vm.nr_hugepages={}`), or write huge_pages = false",
        needed.div_ceil(2)
    );
    Ok(())
}

/// Memory for DPDK, in MiB.
fn memory_needed(config: &Config) -> u32 {
    let per_buffer = u64::from(data_room(config)) + 512;
    let megabytes = u64::from(buffers(config)) * per_buffer / (1 << 20) + 128;
    u32::try_from(megabytes).unwrap_or(u32::MAX)
}

fn buffers(config: &Config) -> u32 {
    let workers = u32::try_from(config.cpu.workers.len()).unwrap_or(u32::MAX);
    let interfaces = u32::try_from(config.interfaces.len()).unwrap_or(u32::MAX);
    workers
        .saturating_mul(interfaces)
        .saturating_mul(2 * BUFFERS_PER_QUEUE)
        + BUFFERS_COMMON
}

fn data_room(config: &Config) -> u16 {
    let mtu = config
        .interfaces
        .iter()
        .map(|interface| interface.mtu)
        .max()
        .unwrap_or(1_500);
    mtu.saturating_add(FRAME_OVERHEAD).max(2_048)
}

/// The queues of all ports, on their way to those who poll them.
struct Queues(Vec<(Vec<RxQueue>, Vec<TxQueue>)>);

impl Queues {
    /// The next worker's share of every port. On sync interfaces workers have none.
    fn of_worker(&mut self, config: &Config) -> Result<Vec<Option<QueuePair>>> {
        self.0
            .iter_mut()
            .zip(&config.interfaces)
            .map(|((receive, transmit), interface)| match interface.role {
                InterfaceRole::Sync => Ok(None),
                InterfaceRole::Traffic if transmit.is_empty() => Err(anyhow!(
                    "interface \"{}\" has too few queues",
                    interface.name
                )),
                InterfaceRole::Traffic => Ok(Some(QueuePair {
                    receive: (!receive.is_empty()).then(|| receive.remove(0)),
                    transmit: transmit.remove(0),
                })),
            })
            .collect()
    }

    /// What is left when all workers have theirs: the queues of sync interfaces.
    fn sync(self) -> Vec<Option<(RxQueue, TxQueue)>> {
        self.0
            .into_iter()
            .map(|(mut receive, mut transmit)| receive.pop().zip(transmit.pop()))
            .collect()
    }
}

fn ports(
    config: &Config,
    eal: &Eal,
    devices: &[Device],
    pool: &Mempool,
) -> Result<(Vec<Port>, Queues)> {
    let workers = u16::try_from(config.cpu.workers.len()).context("too many workers")?;
    let steering = Steering::even(workers);
    let mut ports = Vec::new();
    let mut queues = Vec::new();
    for (interface, device) in config.interfaces.iter().zip(devices) {
        let count = if interface.role == InterfaceRole::Sync {
            1
        } else {
            workers
        };
        let settings = PortSettings {
            rx_queues: count,
            tx_queues: count,
            mtu: interface.mtu,
            steering: (count > 1).then(|| Rss {
                key: SYMMETRIC_KEY,
                reta: steering.table().to_vec(),
            }),
            ..PortSettings::default()
        };
        let open = || {
            let mut port = Port::open(eal, device, &interface.name, &settings, pool)?;
            let started = port.start()?;
            Ok::<_, dpdk::Error>((port, started))
        };
        let (port, started) =
            open().with_context(|| format!("interface \"{}\"", interface.name))?;
        let mtu = port.info().mtu;
        ensure!(
            mtu >= interface.mtu,
            "interface \"{}\": device {device} carries packets of {mtu} bytes, and mtu is {}; give the \
             device a larger MTU, or write mtu = {mtu}",
            interface.name,
            interface.mtu
        );
        ports.push(port);
        queues.push(started);
    }
    Ok((ports, Queues(queues)))
}

fn shards(config: &Config) -> Result<Vec<Shard>> {
    let count = u32::try_from(config.cpu.workers.len()).context("too many workers")?;
    // Steering spreads sessions evenly, not equally.
    let slack = if count == 1 {
        0
    } else {
        config.memory.sessions / count / 16
    };
    let mut settings = session::Settings::new(config.memory.sessions.div_ceil(count) + slack);
    settings.timeouts = timeouts(&config.timeouts);
    settings.half_open_limit = config.limits.half_open.map(|limit| limit.div_ceil(count));
    settings.per_source_limit = config.limits.per_source;
    let memory = if config.memory.huge_pages {
        session::Memory::Huge
    } else {
        session::Memory::Plain
    };
    (0..count)
        .map(|_| {
            let mut seed = [0; 8];
            rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
            settings.seed = u64::from_le_bytes(seed);
            Shard::new(settings, memory).context("no memory for the session table")
        })
        .collect()
}

/// Idle times as the table counts them.
pub(crate) fn timeouts(timeouts: &config::Timeouts) -> Timeouts {
    let ticks = |duration: std::time::Duration| {
        let ticks = duration.as_millis() * u128::from(Tick::PER_SECOND) / 1_000;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    };
    Timeouts {
        established: ticks(timeouts.tcp_established),
        transitory: ticks(timeouts.tcp_transitory),
        syn: ticks(timeouts.tcp_syn),
        udp_replied: ticks(timeouts.udp_replied),
        udp_unreplied: ticks(timeouts.udp_unreplied),
        icmp_replied: ticks(timeouts.icmp_replied),
        icmp_unreplied: ticks(timeouts.icmp_unreplied),
    }
}

/// The kernel interfaces behind the devices, with the interfaces' positions.
pub(crate) fn kernel_interfaces(config: &Config) -> Result<HashMap<String, usize>> {
    let devices = devices(config)?;
    Ok(devices
        .iter()
        .enumerate()
        .filter_map(|(index, device)| Some((device.kernel_interface()?.to_owned(), index)))
        .collect())
}
