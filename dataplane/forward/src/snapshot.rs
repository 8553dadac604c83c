//! What the control core has decided, as one immutable value.
//!
//! Published through [`Publisher`](crate::Publisher); a worker looks once per turn, so everything it
//! does in a turn follows one configuration and one duty. The expensive parts are shared, so a
//! promotion publishes a new snapshot without rebuilding routes or policies.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dpdk::Eal;
use packet::Tuple;
use packet::toeplitz::Steering;
use session::Session;

use crate::attachment::Attachment;
use crate::distribution::{Distribution, Duty};
use crate::interface::{Interface, InterfaceId, InterfaceRole, MAX_INTERFACES};
use crate::policy::{Policy, PolicySet, SourceNat};
use crate::relays::Relays;
use crate::route::{Hop, Route, Routes};
use crate::sharing::Sharing;

/// EtherType of heartbeats unless configured: IEEE 802 local experimental 1.
pub const HEARTBEAT_ETHERTYPE: u16 = 0x88b5;

/// Bounds on what strangers can make a worker do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// ICMP errors and RSTs that one worker sends per second.
    pub replies_per_second: u32,
    /// How many of these at once.
    pub replies_burst: u32,
    /// Translated ports that a worker tries per burst for new sessions whose first few draws were in
    /// use, and 64 times as many per tick.
    pub port_probes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            replies_per_second: 1_000,
            replies_burst: 50,
            port_probes: 512,
        }
    }
}

/// What a snapshot is built from.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// Id of this unit (1..=16).
    pub unit: u8,
    /// Interfaces in the configuration's order.
    pub interfaces: Vec<Interface>,
    /// Configured routes.
    pub routes: Vec<Route>,
    /// Policies in the configuration's order.
    pub policies: Vec<Policy>,
    /// How many workers share the sessions.
    pub workers: u16,
    /// EtherType of heartbeats.
    pub heartbeat_ethertype: u16,
    /// Bounds.
    pub limits: Limits,
}

/// Settings that cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Ports are handed out by unit id, and there are sixteen classes of them.
    #[error("unit id {0} is not in 1..=16")]
    Unit(u8),
    /// Interface sets are one machine word.
    #[error("{0} interfaces, and {MAX_INTERFACES} are the most")]
    Interfaces(usize),
    /// Steering needs somewhere to go.
    #[error("no workers")]
    Workers,
    /// The routes could not be built.
    #[error("routes: {0}")]
    Routes(#[from] dpdk::Error),
}

/// One configuration and one duty.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Id of this unit.
    pub unit: u8,
    /// Term of the last promotion that this unit knows.
    pub term: u32,
    /// What this unit does with packets of users.
    pub duty: Duty,
    /// How sessions are distributed over the units.
    pub distribution: Arc<Distribution>,
    /// Interfaces by [`InterfaceId`].
    pub interfaces: Arc<[Interface]>,
    /// Where packets go.
    pub routes: Arc<Routes>,
    /// Which sessions may begin.
    pub policies: Arc<PolicySet>,
    /// Which worker a tuple belongs to.
    pub steering: Arc<Steering>,
    /// EtherType of heartbeats.
    pub heartbeat_ethertype: u16,
    /// Bounds.
    pub limits: Limits,
    /// What of the interfaces every packet needs, by [`InterfaceId`].
    attachments: Arc<[Attachment]>,
    /// Destinations that packets of users do not have.
    special: Arc<Special>,
    /// Addresses that sources of users' packets are translated to.
    translated: Arc<[Ipv4Addr]>,
    /// What the distribution means to this unit under its duty.
    sharing: Arc<Sharing>,
    /// What workers know of relays to this unit.
    relays: Arc<Relays>,
}

impl Snapshot {
    /// Builds routes and policies. The unit is idle and its term is zero: see
    /// [`Snapshot::with_duty`]. All sessions are its own: see [`Snapshot::with_distribution`].
    ///
    /// # Errors
    /// [`SnapshotError`] says which setting.
    pub fn build(eal: &Eal, settings: SnapshotSettings) -> Result<Self, SnapshotError> {
        if !(1..=16).contains(&settings.unit) {
            return Err(SnapshotError::Unit(settings.unit));
        }
        if settings.interfaces.len() > MAX_INTERFACES {
            return Err(SnapshotError::Interfaces(settings.interfaces.len()));
        }
        if settings.workers == 0 {
            return Err(SnapshotError::Workers);
        }
        let routes = Routes::build(eal, &settings.interfaces, &settings.routes)?;
        Ok(Self {
            unit: settings.unit,
            term: 0,
            duty: Duty::Idle,
            distribution: Arc::default(),
            attachments: attach(&settings.interfaces, Duty::Idle),
            special: Arc::new(Special::of(&settings.interfaces, Duty::Idle)),
            translated: translated(&settings.interfaces, &settings.policies),
            sharing: Arc::new(Sharing::new(
                &Distribution::default(),
                settings.unit,
                Duty::Idle,
                settings.interfaces.len(),
            )),
            relays: Arc::new(Relays::new(settings.interfaces.len())),
            policies: Arc::new(PolicySet::compile(settings.policies, &routes)),
            routes: Arc::new(routes),
            interfaces: settings.interfaces.into(),
            steering: Arc::new(Steering::even(settings.workers)),
            heartbeat_ethertype: settings.heartbeat_ethertype,
            limits: settings.limits,
        })
    }

    /// The same configuration under another duty.
    #[must_use]
    pub fn with_duty(&self, duty: Duty, term: u32) -> Self {
        let next = Self {
            duty,
            term,
            attachments: attach(&self.interfaces, duty),
            special: Arc::new(Special::of(&self.interfaces, duty)),
            ..self.clone()
        };
        next.with_distribution(Arc::clone(&self.distribution))
    }

    /// The same configuration and duty with another distribution of sessions.
    #[must_use]
    pub fn with_distribution(&self, distribution: Arc<Distribution>) -> Self {
        let interfaces = self.interfaces.len();
        let sharing = Sharing::new(&distribution, self.unit, self.duty, interfaces);
        Self {
            distribution,
            sharing: Arc::new(sharing),
            ..self.clone()
        }
    }

    /// True when the virtual MACs and cluster addresses are this unit's.
    #[must_use]
    pub const fn is_primary(&self) -> bool {
        self.duty.is_primary()
    }

    /// The interface at a position.
    #[must_use]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(id.index())
    }

    /// What of an interface every packet needs.
    #[inline]
    pub(crate) fn attachment(&self, id: InterfaceId) -> Option<&Attachment> {
        self.attachments.get(id.index())
    }

    /// What the distribution means to this unit.
    #[inline]
    pub(crate) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// What workers know of relays to this unit.
    pub(crate) fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Tells apart what packets of one session may leave differently under: another one was built
    /// from other settings or for another duty, and lies elsewhere.
    pub(crate) fn ways_by(&self) -> usize {
        self.attachments.as_ptr().addr()
    }

    /// True when sources of users' packets are translated to `address`.
    pub(crate) fn is_translated(&self, address: Ipv4Addr) -> bool {
        self.translated.contains(&address)
    }

    /// Worker whose shard a session belongs to: where its first packet arrives.
    #[must_use]
    pub fn home(&self, session: &Session) -> u16 {
        self.steering.worker(&session.tuples[0])
    }

    /// Worker that a tuple without a session belongs to.
    #[must_use]
    pub fn home_of(&self, tuple: &Tuple) -> u16 {
        self.steering.worker(tuple)
    }

    /// Where packets of users to `destination` go; `None` when no route leads out by an interface
    /// that carries any.
    #[must_use]
    pub fn way_to(&self, destination: Ipv4Addr) -> Option<Hop> {
        self.carrying_users(self.routes.resolve(destination)?)
    }

    /// The same of a destination whose next hop id is known.
    pub(crate) fn way_by(&self, next_hop: u32, destination: Ipv4Addr) -> Option<Hop> {
        self.carrying_users(self.routes.hop(next_hop, destination)?)
    }

    fn carrying_users(&self, hop: Hop) -> Option<Hop> {
        let egress = self.interface(hop.interface)?;
        (egress.role == InterfaceRole::Traffic).then_some(hop)
    }

    /// True when `address` is the gateway's own now, on any interface: nobody's packet goes there. The
    /// cluster's addresses are, for a unit that takes packets of users in.
    #[inline]
    #[must_use]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.special.may_have(address) && self.special.local.contains(&address)
    }

    /// True for broadcast addresses of connected networks and the limited broadcast address.
    #[inline]
    #[must_use]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.special.may_have(address) && self.special.broadcast.contains(&address)
    }
}

/// Addresses that mean something to the gateway: few, and asked about for every new session.
#[derive(Debug)]
struct Special {
    /// The gateway's own.
    local: Vec<Ipv4Addr>,
    broadcast: Vec<Ipv4Addr>,
    /// What the lowest six bits of one of them may be: nearly every other address differs there.
    endings: u64,
}

impl Special {
    /// False for nearly every address that is none of them.
    #[inline]
    fn may_have(&self, address: Ipv4Addr) -> bool {
        self.endings & ending(address) != 0
    }

    fn of<'a>(interfaces: &'a [Interface], duty: Duty) -> Self {
        let all = || {
            let of = |interface: &'a Interface| interface.addresses().map(move |a| (interface, a));
            interfaces.iter().flat_map(of)
        };
        let local =
            all().filter(|(interface, own)| interface.owns(own.address, duty.takes_users()));
        let broadcast = all().flat_map(|(_, own)| {
            let ends = [own.network.network(), own.network.broadcast()];
            ends.into_iter().filter(|end| own.is_broadcast(*end))
        });
        let local: Vec<_> = local.map(|(_, own)| own.address).collect();
        let broadcast: Vec<_> = broadcast.chain([Ipv4Addr::BROADCAST]).collect();
        let both = local.iter().chain(&broadcast);
        Self {
            endings: both.fold(0, |endings, address| endings | ending(*address)),
            local,
            broadcast,
        }
    }
}

/// The bit that stands for the lowest six bits of an address.
const fn ending(address: Ipv4Addr) -> u64 {
    1 << (address.to_bits() % u64::BITS)
}

fn attach(interfaces: &[Interface], duty: Duty) -> Arc<[Attachment]> {
    interfaces
        .iter()
        .map(|interface| Attachment::new(interface, duty))
        .collect()
}

/// Addresses that sources are translated to: those of the cluster, and what policies name.
fn translated(interfaces: &[Interface], policies: &[Policy]) -> Arc<[Ipv4Addr]> {
    let shared = interfaces
        .iter()
        .flat_map(|interface| &interface.cluster_addresses)
        .map(|own| own.address);
    let named = policies
        .iter()
        .filter_map(|policy| match policy.source_nat {
            SourceNat::Address(address) => Some(address),
            SourceNat::None | SourceNat::Masquerade => None,
        });
    shared.chain(named).collect()
}
