//! The admit stage: packets without a session in this shard.
//!
//! Such a packet may belong to another worker, to the gateway itself, or begin a session: policy,
//! route, translation, insertion, all on this worker and without asking the control core.

use std::net::Ipv4Addr;

use dpdk::Mbuf;
use packet::icmp::Problem;
use packet::tcp::{self, Segment};
use packet::{Fragment, Kind, Layout, Tuple, ipv4, toeplitz};
use session::{Direction, Flags, Hit, Session, State};

use super::answer::Answer;
use super::classify::group_drop;
use super::{Core, Origin, Scene};
use crate::counters::{Drop, Event};
use crate::interface::InterfaceId;
use crate::nat::PortSpace;
use crate::policy::{Match, PolicyAction, Question, SourceNat};
use crate::port::PortIo;
use crate::rings::{DeltaKind, Handed, PuntReason};
use crate::route::Hop;

/// What becomes of a packet without a session.
enum Admission {
    /// It has one now.
    Admitted(Hit),
    /// It belongs to this worker.
    HandOver(u16),
    /// It is for the gateway itself.
    Local,
    Drop(Drop),
    /// It is dropped, and its sender told.
    Refuse(Drop, Answer),
}

/// A packet on its way through admission.
struct Candidate<'a> {
    frame: &'a [u8],
    layout: &'a Layout,
    tuple: &'a Tuple,
    ingress: InterfaceId,
}

impl<P: PortIo> Core<P> {
    /// Finds or makes a session for every packet of the burst that has none.
    pub(super) fn admit(&mut self, scene: &Scene<'_>, origin: Origin) {
        let mut misses = self.batch.misses;
        while misses != 0 {
            self.admit_one(scene, origin, misses.trailing_zeros() as usize);
            misses &= misses - 1;
        }
    }

    fn admit_one(&mut self, scene: &Scene<'_>, origin: Origin, position: usize) {
        let Some(mbuf) = self.batch.mbufs[position].take() else {
            return;
        };
        let layout = self.batch.layouts[position];
        let tuple = self.batch.tuples[position];
        let candidate = Candidate {
            frame: mbuf.data(),
            layout: &layout,
            tuple: &tuple,
            ingress: self.batch.ingress[position],
        };
        let ingress = candidate.ingress;
        match self.admission(scene, origin, &candidate) {
            Admission::Admitted(hit) => {
                self.batch.hits[position] = Some(hit);
                self.batch.mbufs[position] = Some(mbuf);
            }
            Admission::HandOver(worker) => self.hand_over(worker, ingress, mbuf),
            Admission::Local => self.punt(PuntReason::Local, ingress, mbuf),
            Admission::Drop(reason) => self.counters.lose(reason),
            Admission::Refuse(reason, answer) => {
                self.counters.lose(reason);
                self.answer(scene, ingress, mbuf.data(), &layout, answer);
            }
        }
    }

    fn admission(
        &mut self,
        scene: &Scene<'_>,
        origin: Origin,
        candidate: &Candidate<'_>,
    ) -> Admission {
        // An earlier packet of this burst may have begun the session.
        if self.batch.inserted
            && let Some(hit) = self.shard.lookup(candidate.tuple)
        {
            return Admission::Admitted(hit);
        }
        if let Some(elsewhere) = self.belongs_elsewhere(scene, origin, candidate) {
            return elsewhere;
        }
        let (Some(source), Some(destination)) =
            (candidate.tuple.src_v4(), candidate.tuple.dst_v4())
        else {
            return Admission::Drop(Drop::Ipv6);
        };
        if let Some(reason) = group_drop(scene.snapshot, candidate.layout) {
            return Admission::Drop(reason);
        }
        let local = scene.snapshot.is_local(destination);
        let hop = (!local)
            .then(|| scene.snapshot.way_to(destination))
            .flatten();
        let question = Question {
            ingress: candidate.ingress,
            tuple: candidate.tuple,
            source,
            destination,
            hop,
        };
        match scene.snapshot.policies.first_match(&question) {
            Some(found) => self.decide(scene, candidate, &found),
            None if local => Admission::Local,
            None if hop.is_none() => {
                Admission::Refuse(Drop::NoRoute, Answer::Icmp(Problem::NetUnreachable))
            }
            None => Admission::Drop(Drop::PolicyDefault),
        }
    }

    /// Whether another worker has the session, or should make it. A packet that was handed over is
    /// handed on only by the worker that its tuple steers it to, so that none goes around for ever.
    fn belongs_elsewhere(
        &self,
        scene: &Scene<'_>,
        origin: Origin,
        candidate: &Candidate<'_>,
    ) -> Option<Admission> {
        if self.readers.len() < 2 {
            return None;
        }
        let home = scene.snapshot.home_of(candidate.tuple);
        if home != self.index {
            return Some(match origin {
                Origin::Worker if !self.steers_fragment(scene, candidate.layout) => {
                    Admission::Drop(Drop::HandoverStale)
                }
                _ => Admission::HandOver(home),
            });
        }
        self.find_elsewhere(candidate.tuple)
            .map(Admission::HandOver)
    }

    /// True for a fragment that came to this worker by its addresses and goes on by its ports.
    fn steers_fragment(&self, scene: &Scene<'_>, layout: &Layout) -> bool {
        let by_addresses = toeplitz::hash_addresses(&layout.tuple);
        layout.fragment != Fragment::None
            && scene.snapshot.steering.worker_of_hash(by_addresses) == self.index
    }

    /// The other worker that has a session with this tuple.
    fn find_elsewhere(&self, tuple: &Tuple) -> Option<u16> {
        (0u16..).zip(&self.readers).find_map(|(worker, reader)| {
            (worker != self.index && reader.lookup(tuple).is_some()).then_some(worker)
        })
    }

    /// Gives a packet to another worker.
    pub(super) fn hand_over(&mut self, worker: u16, ingress: InterfaceId, mbuf: Mbuf) {
        let ring = self.rings.to_workers.get_mut(usize::from(worker));
        let handed = Handed { ingress, mbuf };
        match ring.and_then(Option::as_mut).map(|ring| ring.push(handed)) {
            Some(Ok(())) => self.counters.happened(Event::HandedOver),
            Some(Err(_full)) => self.counters.lose(Drop::HandoverFull),
            None => self.counters.lose(Drop::HandoverStale),
        }
    }

    /// Carries out the policy that matched.
    fn decide(
        &mut self,
        scene: &Scene<'_>,
        candidate: &Candidate<'_>,
        found: &Match<'_>,
    ) -> Admission {
        let layout = candidate.layout;
        // Only what can begin a session is asked of a policy; the rest has lost its own.
        match layout.kind {
            Kind::IcmpError | Kind::IcmpQuery { request: false } => {
                return Admission::Drop(Drop::IcmpNoSession);
            }
            _ if layout.fragment == Fragment::Later => return Admission::Drop(Drop::Fragment),
            _ => {}
        }
        self.counters.policy_hit(found.index);
        match found.policy.action {
            PolicyAction::Allow => {}
            PolicyAction::Deny => return Admission::Drop(Drop::PolicyDeny),
            PolicyAction::Reject => {
                let answer = match layout.kind {
                    Kind::Tcp => Answer::Reset,
                    _ => Answer::Icmp(Problem::Prohibited),
                };
                return Admission::Refuse(Drop::PolicyReject, answer);
            }
        }
        if layout.kind == Kind::Tcp && !begins_connection(layout.tcp_flags) {
            return Admission::Drop(Drop::TcpNotSyn);
        }
        if layout.ttl <= 1 {
            return Admission::Refuse(Drop::TtlExceeded, Answer::Icmp(Problem::TtlExceeded));
        }
        if self.batch.table_full {
            return Admission::Drop(Drop::TableFull);
        }
        match self.begin(scene, candidate, found) {
            Ok(hit) => Admission::Admitted(hit),
            Err(reason) => Admission::Drop(reason),
        }
    }

    /// Makes the session.
    fn begin(
        &mut self,
        scene: &Scene<'_>,
        candidate: &Candidate<'_>,
        found: &Match<'_>,
    ) -> Result<Hit, Drop> {
        let (reply, flags) = self.reply_tuple(scene, candidate, found)?;
        let mut session = Session {
            tuples: [*candidate.tuple, reply],
            version: self.shard.next_version(scene.snapshot.term),
            state: State::Unreplied,
            flags,
            owner: scene.snapshot.unit,
            policy: found.index,
            last_seen: scene.now.tick,
            ..Session::default()
        };
        if candidate.layout.kind == Kind::Tcp {
            let syn = Segment::read(candidate.frame, candidate.layout).ok_or(Drop::TcpBadFlags)?;
            let connection = session::tcp::open(&syn);
            session.state = connection.state;
            session.tcp = connection.sides;
        }
        let id = self.insert(scene, &session)?;
        self.batch.inserted = true;
        self.counters.happened(Event::SessionsCreated);
        if flags.has(Flags::SOURCE_NAT) {
            self.counters.happened(Event::SourceNat);
        }
        if flags.has(Flags::DESTINATION_NAT) {
            self.counters.happened(Event::DestinationNat);
        }
        self.report(DeltaKind::Upsert, id, &session);
        Ok(Hit::new(id, Direction::Original))
    }

    /// How replies of a new session will arrive: its packets reversed, after translation.
    fn reply_tuple(
        &mut self,
        scene: &Scene<'_>,
        candidate: &Candidate<'_>,
        found: &Match<'_>,
    ) -> Result<(Tuple, Flags), Drop> {
        let mut leaving = *candidate.tuple;
        let mut flags = Flags::default();
        if let Some(nat) = found.policy.destination_nat {
            leaving.dst = nat.address.to_ipv6_mapped().octets();
            if let Some(port) = nat.port.filter(|_| has_ports(candidate.layout.kind)) {
                leaving.dst_port = port;
            }
            flags = flags.with(Flags::DESTINATION_NAT);
        }
        let reply = match found.policy.source_nat {
            SourceNat::None => leaving.reversed(),
            SourceNat::Masquerade => {
                let address = masquerade_address(scene, found.hop).ok_or(Drop::NatNoAddress)?;
                self.translated_reply(scene, &leaving, address)?
            }
            SourceNat::Address(address) => self.translated_reply(scene, &leaving, address)?,
        };
        if found.policy.source_nat != SourceNat::None {
            flags = flags.with(Flags::SOURCE_NAT);
        }
        Ok((reply, flags))
    }

    /// The reply tuple of a session that leaves as `leaving` would from `address`, with a port of
    /// this unit's that steers replies to this worker and that no session uses.
    fn translated_reply(
        &mut self,
        scene: &Scene<'_>,
        leaving: &Tuple,
        address: Ipv4Addr,
    ) -> Result<Tuple, Drop> {
        let snapshot = scene.snapshot;
        let workers = u16::try_from(self.readers.len()).unwrap_or(u16::MAX);
        let (space, steered) = match leaving.protocol {
            ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP => (PortSpace::ports(snapshot.unit), true),
            ipv4::PROTOCOL_ICMP => {
                let space = PortSpace::identifiers(snapshot.unit, self.index, workers);
                (space, false)
            }
            _ => return Err(Drop::NatProtocol),
        };
        let reply = Tuple {
            dst: address.to_ipv6_mapped().octets(),
            dst_port: 0,
            ..leaving.reversed()
        };
        let Self {
            shard,
            readers,
            index,
            chooser,
            ..
        } = self;
        // Sessions that began under another number of workers may be in any shard.
        let free = |tuple: &Tuple| {
            (!steered || snapshot.home_of(tuple) == *index)
                && shard.lookup(tuple).is_none()
                && (0u16..)
                    .zip(readers.iter())
                    .all(|(worker, reader)| worker == *index || reader.lookup(tuple).is_none())
        };
        // Steering leaves one port in so many to this worker.
        let probes = match steered {
            true => snapshot
                .limits
                .port_probes
                .saturating_mul(u32::from(workers)),
            false => snapshot.limits.port_probes,
        };
        chooser
            .choose(reply, space, probes, free)
            .ok_or(Drop::NatPortsExhausted)
    }
}

/// The cluster address that a session which leaves by `hop` is hidden behind.
fn masquerade_address(scene: &Scene<'_>, hop: Hop) -> Option<Ipv4Addr> {
    scene
        .snapshot
        .interface(hop.interface)?
        .cluster_address(hop.neighbour)
}

/// True for a SYN and nothing else that matters to the state of a connection.
fn begins_connection(flags: u8) -> bool {
    flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

fn has_ports(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::Udp)
}
