//! What a worker counts.
//!
//! Every counter has one writer, its worker, so adding is a plain load and store; anybody may read
//! at any time. The blocks of different workers share no cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use packet::Malformed;
use session::Session;

use crate::interface::{InterfaceId, MAX_INTERFACES};

/// A counter for every number that a policy can have. Nearly all stay as zero as they were made, and take room in
/// no cache.
const POLICY_NUMBERS: usize = Session::PRIVATE as usize;

/// Declares an enum of counters with their exported names and what they mean to an operator.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $text:literal, $help:literal;)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $help] $variant,)+
        }

        impl $name {
            /// All of them, in the order of their values.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Name as exported.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// One sentence for operators.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

counters! {
    /// Why a packet was dropped. Every packet that a worker takes in is transmitted, handed to
    /// another core, or counted under exactly one of these or, when it cannot be parsed, of
    /// [`Malformed`].
    Drop {
        SourceRoute = "source_route", "The packet asks for source routing.";
        ForeignMac = "foreign_mac", "The frame is for another station.";
        GroupSource = "group_source", "The frame claims to come from a group of stations.";
        UnknownEtherType = "unknown_ethertype", "Neither IP, ARP nor a heartbeat.";
        VlanTagged = "vlan_tagged", "VLAN-tagged, and the interface carries no VLANs.";
        Ipv6 = "ipv6", "IPv6 is not forwarded.";
        LinkBroadcast = "link_broadcast", "A packet for one host in a frame for many (RFC 1812 section 5.3.4).";
        Multicast = "multicast", "Multicast is not forwarded.";
        Broadcast = "broadcast", "Broadcasts are not forwarded (RFC 2644).";
        NotTraffic = "not_traffic", "A packet of users on an interface that carries none.";
        NotPrimary = "not_primary", "A packet of users that is not this unit's to forward.";
        NoLease = "no_lease", "It would have left from the virtual MAC, and the lease of the witness had run out.";
        PolicyDefault = "policy_default", "No policy matches.";
        PolicyDeny = "policy_deny", "A policy says deny.";
        PolicyReject = "policy_reject", "A policy says reject.";
        NoRoute = "no_route", "Nothing leads to the destination.";
        TtlExceeded = "ttl_exceeded", "The time to live ran out here.";
        TooBig = "too_big", "Larger than the next link and not to be fragmented.";
        Fragment = "fragment", "A fragment that could not be matched to its session.";
        TcpNotSyn = "tcp_not_syn", "TCP without a session, and not the beginning of one.";
        TcpOutOfWindow = "tcp_out_of_window", "TCP outside of the window of its session.";
        TcpBadReset = "tcp_bad_reset", "A RST that is not exactly the next in sequence (RFC 5961 section 3).";
        TcpBadSyn = "tcp_bad_syn", "A SYN inside of the window of its session (RFC 5961 section 4).";
        TcpBadFlags = "tcp_bad_flags", "TCP flags that make no sense.";
        TcpBadHandshake = "tcp_bad_handshake", "TCP that is not what the handshake needs next.";
        IcmpNoSession = "icmp_no_session", "An ICMP reply or error that belongs to no session.";
        TableFull = "table_full", "The session table is full of sessions that both sides have confirmed.";
        EvictionLimited = "eviction_limited", "The session table is full, and enough half-open sessions of it made room in this burst.";
        SourceLimit = "source_limit", "The source has all the sessions that it may have.";
        SessionConflict = "session_conflict", "Another session has one of the tuples.";
        NatNoAddress = "nat_no_address", "The outgoing interface has no address to translate to.";
        NatPortsExhausted = "nat_ports_exhausted", "No free translated port was found.";
        NatProtocol = "nat_protocol", "A protocol without ports cannot share an address.";
        NoBuffers = "no_buffers", "The buffer pool is empty.";
        PuntFull = "punt_full", "The ring to the control core is full.";
        HandoverFull = "handover_full", "The ring to another worker is full.";
        HandoverStale = "handover_stale", "Handed over for a session that has ended since.";
        RedirectStale = "redirect_stale", "Another unit passed it to this one, or was to have it, and no session is its.";
        NoStation = "no_station", "The unit that processes it is not reached by the interface that it came in by.";
        NoInterface = "no_interface", "It names an interface that this worker has no port for.";
        TransmitFull = "transmit_full", "The transmit queue took no more.";
    }
}

counters! {
    /// What else a worker counts.
    Event {
        Turns = "turns", "Turns of the worker's loop.";
        Bursts = "bursts", "Bursts that were not empty.";
        SessionsCreated = "sessions_created", "Sessions that began here.";
        SessionsExpired = "sessions_expired", "Sessions that timed out.";
        SessionsEvicted = "sessions_evicted", "Half-open sessions that made room for others.";
        SessionsAdopted = "sessions_adopted", "Sessions taken over from another unit.";
        SessionsApplied = "sessions_applied", "Changes by other units that were entered.";
        SessionsRetracted = "sessions_retracted", "Removals by other units that were carried out.";
        SessionsCleared = "sessions_cleared", "Sessions that an operator removed.";
        RemoteStale = "remote_stale", "Changes by other units that were older than what is here.";
        RemoteFull = "remote_full", "Changes by other units that found no room.";
        SourceNat = "source_nat", "Sessions with a translated source.";
        DestinationNat = "destination_nat", "Sessions with a translated destination.";
        Deltas = "deltas", "Changes of sessions reported to the control core.";
        DeltasOverflowed = "deltas_overflowed", "Changes that found the ring full: their range is marked for repair.";
        HandedOver = "handed_over", "Packets given to the worker that they belong to.";
        TakenOver = "taken_over", "Packets that another worker gave to this one.";
        SessionsAssigned = "sessions_assigned", "New sessions handed to other units.";
        SessionsReassigned = "sessions_reassigned", "Sessions handed to another unit because theirs owns none any more.";
        ProvisionalExpired = "provisional_expired", "Sessions handed to other units that these never told of.";
        Redirected = "redirected", "Packets passed to the units that process them.";
        RedirectsTaken = "redirects_taken", "Packets that other units passed to this one.";
        Relayed = "relayed", "Packets passed to the successor after a hand-over.";
        MarkersSent = "markers_sent", "Frames that tell the successor how far the relay is.";
        MarkersTaken = "markers_taken", "Frames that tell how far the relay of the predecessor is.";
        Held = "held", "Packets that waited for those which the predecessor passed on.";
        HoldsEnded = "holds_ended", "Times that so many packets waited that holding ended early.";
        PuntedArp = "punted_arp", "ARP given to the control core.";
        PuntedHeartbeat = "punted_heartbeat", "Heartbeats given to the control core.";
        PuntedLocal = "punted_local", "Packets to the gateway's own addresses given to the control core.";
        PuntedUnconfirmed = "punted_unconfirmed", "First packets given to the control core until a peer has their sessions.";
        PuntedNeighbour = "punted_neighbour", "Packets given to the control core because the neighbour is not known.";
        Injected = "injected", "Packets from the control core that were sent.";
        IcmpErrors = "icmp_errors", "ICMP errors made.";
        TcpResets = "tcp_resets", "RSTs made.";
        RepliesLimited = "replies_limited", "ICMP errors and RSTs not made because of their rate limit.";
        Fragmented = "fragmented", "Packets cut into fragments.";
        FragmentsMade = "fragments_made", "Fragments made of them.";
    }
}

/// Packets and bytes of one interface, as one worker saw them.
#[derive(Debug, Default)]
struct InterfaceCounters {
    virtual_bursts: AtomicU64,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
}

/// Packets and bytes of one interface at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, without the frame check sequence.
    pub tx_bytes: u64,
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    drops: CachePadded<[AtomicU64; Drop::ALL.len()]>,
    malformed: CachePadded<[AtomicU64; Malformed::ALL.len()]>,
    events: CachePadded<[AtomicU64; Event::ALL.len()]>,
    interfaces: Box<[CachePadded<InterfaceCounters>]>,
    policies: Box<[AtomicU64]>,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerCounters {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            drops: CachePadded::new([const { AtomicU64::new(0) }; Drop::ALL.len()]),
            malformed: CachePadded::new([const { AtomicU64::new(0) }; Malformed::ALL.len()]),
            events: CachePadded::new([const { AtomicU64::new(0) }; Event::ALL.len()]),
            interfaces: (0..MAX_INTERFACES)
                .map(|_| CachePadded::default())
                .collect(),
            policies: (0..POLICY_NUMBERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    /// Packets that could not be parsed for this reason.
    #[must_use]
    pub fn malformed(&self, reason: Malformed) -> u64 {
        self.malformed[reason.index()].load(Ordering::Relaxed)
    }

    /// Every reason for which packets are dropped: its name, what it means, and how many were.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let drops = Drop::ALL
            .iter()
            .map(|reason| (reason.name(), reason.help(), self.dropped(*reason)));
        let malformed = Malformed::ALL
            .iter()
            .map(|reason| (reason.name(), reason.help(), self.malformed(*reason)));
        drops.chain(malformed)
    }

    /// Everything else that is counted: its name, what it means, and how often it happened.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Event::ALL
            .iter()
            .map(|event| (event.name(), event.help(), self.count(*event)))
    }

    /// How often this happened.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    /// Turns of the worker's loop: a worker that makes none is not alive.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.count(Event::Turns)
    }

    /// Packets and bytes of an interface; zero for ids from [`MAX_INTERFACES`] on.
    #[must_use]
    pub fn traffic(&self, interface: InterfaceId) -> Traffic {
        let Some(counters) = self.interfaces.get(interface.index()) else {
            return Traffic::default();
        };
        Traffic {
            rx_packets: counters.rx_packets.load(Ordering::Relaxed),
            rx_bytes: counters.rx_bytes.load(Ordering::Relaxed),
            tx_packets: counters.tx_packets.load(Ordering::Relaxed),
            tx_bytes: counters.tx_bytes.load(Ordering::Relaxed),
        }
    }

    /// Bursts of an interface whose first frame was to the virtual MAC, while that is this unit's: whether
    /// anything comes there at all.
    #[must_use]
    pub fn virtual_bursts(&self, interface: InterfaceId) -> u64 {
        self.interfaces
            .get(interface.index())
            .map_or(0, |counters| {
                counters.virtual_bursts.load(Ordering::Relaxed)
            })
    }

    /// First packets that the policy of this number decided on, whether its sessions are private or not.
    #[must_use]
    pub fn policy_hits(&self, number: u16) -> u64 {
        self.policies[policy_slot(number)].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn lose(&self, reason: Drop) {
        add(&self.drops[reason as usize], 1);
    }

    pub(crate) fn lose_malformed(&self, reason: Malformed) {
        add(&self.malformed[reason.index()], 1);
    }

    #[inline]
    pub(crate) fn lose_many(&self, reason: Drop, packets: usize) {
        add(&self.drops[reason as usize], packets as u64);
    }

    #[inline]
    pub(crate) fn add(&self, event: Event, times: usize) {
        add(&self.events[event as usize], times as u64);
    }

    #[inline]
    pub(crate) fn happened(&self, event: Event) {
        self.add(event, 1);
    }

    #[inline]
    pub(crate) fn received(&self, interface: InterfaceId, packets: usize, bytes: usize) {
        if let Some(counters) = self.interfaces.get(interface.index()) {
            add(&counters.rx_packets, packets as u64);
            add(&counters.rx_bytes, bytes as u64);
        }
    }

    #[inline]
    pub(crate) fn came_to_virtual(&self, interface: InterfaceId) {
        if let Some(counters) = self.interfaces.get(interface.index()) {
            add(&counters.virtual_bursts, 1);
        }
    }

    #[inline]
    pub(crate) fn sent(&self, interface: InterfaceId, packets: usize, bytes: usize) {
        if let Some(counters) = self.interfaces.get(interface.index()) {
            add(&counters.tx_packets, packets as u64);
            add(&counters.tx_bytes, bytes as u64);
        }
    }

    pub(crate) fn policy_hit(&self, number: u16) {
        add(&self.policies[policy_slot(number)], 1);
    }
}

/// Adds as the only writer: no read-modify-write on the bus.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

fn policy_slot(number: u16) -> usize {
    usize::from(number) % POLICY_NUMBERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_snake_case_and_unique() {
        let counters = WorkerCounters::new();
        let mut seen = HashSet::new();
        for (name, help, count) in counters.drops().chain(counters.events()) {
            assert!(
                name.bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            );
            assert!(seen.insert(name), "{name}");
            assert!(!help.is_empty());
            assert_eq!(count, 0);
        }
    }

    #[test]
    fn values_are_positions() {
        for (position, drop) in Drop::ALL.iter().enumerate() {
            assert_eq!(*drop as usize, position);
        }
        for (position, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, position);
        }
    }

    #[test]
    fn a_policy_has_one_counter_private_or_not() {
        let counters = WorkerCounters::new();
        for number in [3, 0x7fff, 0xffff] {
            counters.policy_hit(number);
        }
        assert_eq!([3, 4, 0x7fff].map(|n| counters.policy_hits(n)), [1, 0, 2]);
        assert_eq!(counters.policy_hits(0xffff), 2);
    }
}
