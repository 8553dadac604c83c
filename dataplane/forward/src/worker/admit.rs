//! The admit stage: packets without a session in this shard.
//!
//! Such a packet may belong to another worker, to the gateway itself, or begin a session: policy,
//! route, translation, insertion, all on this worker and without asking the control core.
//!
//! In two passes over the burst. The first decides what becomes of each packet and asks the memory
//! for what its session will be entered into; the second carries that out in order. So the cache misses
//! of all new sessions are in flight together, and several packets of one session that is new in this
//! burst still find it.

use arrayvec::ArrayVec;
use dpdk::Mbuf;
use packet::icmp::Problem;
use packet::tcp::Segment;
use packet::{Fragment, Kind, Tuple, toeplitz};
use session::{
    Direction, Flags, Hit, Inserted, Key, Prepared, Refused, Session, SessionId, State, TcpSide,
    Version,
};

use super::answer::Answer;
use super::classify::group_drop;
use super::decision::{Decision, Disposal, Fate};
use super::enter::Refusal;
use super::newcomer::Newcomer;
use super::opening::{Contest, Opening, Port, opening};
use super::{Core, Origin, Scene};
use crate::batch::CAPACITY;
use crate::counters::{Drop, Event};
use crate::interface::InterfaceId;
use crate::policy::Question;
use crate::port::PortIo;
use crate::rings::{DeltaKind, Handed, PuntReason};

/// Tells which tuples may belong to sessions that began in this burst: never misses one.
#[derive(Default)]
struct Begun([u64; 4]);

impl Begun {
    fn add(&mut self, tuple: &Tuple) {
        let [.., near] = tuple.src;
        let [.., far] = tuple.dst;
        let (word, bit) = Self::place(near, far, tuple.src_port ^ tuple.dst_port);
        self.0[word] |= bit;
    }

    fn add_both(&mut self, session: &Session) {
        session.tuples.iter().for_each(|tuple| self.add(tuple));
    }

    fn may_have(&self, newcomer: &Newcomer) -> bool {
        let [.., near] = newcomer.source.octets();
        let [.., far] = newcomer.destination.octets();
        let ports = newcomer.source_port ^ newcomer.destination_port;
        let (word, bit) = Self::place(near, far, ports);
        self.0[word] & bit != 0
    }

    fn place(near: u8, far: u8, ports: u16) -> (usize, u64) {
        let [high, low] = ports.to_be_bytes();
        let place = near ^ far ^ high ^ low;
        (usize::from(place >> 6), 1 << (place & 63))
    }
}

/// How far the second pass is.
#[derive(Default)]
struct Progress {
    begun: Begun,
    /// Why no more sessions begin in this burst.
    refusal: Option<Drop>,
}

impl Progress {
    /// The reason to count.
    fn refused(&mut self, refusal: Refusal) -> Drop {
        match refusal {
            Refusal::Ports => Drop::NatPortsExhausted,
            Refusal::Table(Refused::SourceLimit) => Drop::SourceLimit,
            Refusal::Table(Refused::Exists(_)) => Drop::SessionConflict,
            Refusal::Table(Refused::Full) => {
                self.refusal = Some(Drop::TableFull);
                Drop::TableFull
            }
        }
    }
}

impl<P: PortIo> Core<P> {
    /// Finds or makes a session for every packet of the burst that has none.
    #[inline(never)]
    pub(super) fn admit(&mut self, scene: &Scene<'_>, origin: Origin) {
        let mut newcomers = ArrayVec::new();
        self.collect_newcomers(&mut newcomers);
        if !newcomers.is_empty() {
            self.admit_newcomers(scene, origin, &newcomers);
        }
        // Those that were dropped.
        self.burst.clear();
    }

    /// Reads the packets that have no session.
    fn collect_newcomers(&mut self, newcomers: &mut ArrayVec<Newcomer, CAPACITY>) {
        let batch = &mut self.batch;
        for position in positions(batch.misses) {
            let Some(mbuf) = &batch.mbufs[position] else {
                continue;
            };
            let newcomer = if batch.is_plain(position) {
                Newcomer::plain(position, &batch.plains[position], mbuf.data())
                    .map_err(|reason| self.counters.lose_malformed(reason))
                    .ok()
            } else {
                let (layout, tuple) = (&batch.layouts[position], &batch.tuples[position]);
                let newcomer = Newcomer::general(position, layout, tuple);
                if newcomer.is_none() {
                    self.counters.lose(Drop::Ipv6);
                }
                newcomer
            };
            match newcomer {
                Some(newcomer) => newcomers.push(newcomer),
                None => batch.mbufs[position] = None,
            }
        }
    }

    fn admit_newcomers(&mut self, scene: &Scene<'_>, origin: Origin, newcomers: &[Newcomer]) {
        let tries = scene.snapshot.limits.port_probes;
        self.chooser.begin_burst(tries, scene.now.tick);
        let next_hops = next_hops(scene, newcomers);
        // Of those that find no room most are refused: nothing is made ready for them.
        let worth_it = match self.shard.len() < self.shard.capacity() {
            true => CAPACITY,
            false => self.evictions.left(),
        };
        let mut openings: ArrayVec<Opening, CAPACITY> = ArrayVec::new();
        let mut prepared: ArrayVec<Prepared, CAPACITY> = ArrayVec::new();
        let mut decisions: ArrayVec<Decision, CAPACITY> = ArrayVec::new();
        // Who comes too late mostly comes for the same server as the one before.
        let mut lost = None;
        for (newcomer, next_hop) in newcomers.iter().zip(next_hops) {
            let mut decision = self.decide(scene, origin, newcomer, next_hop);
            if scene.snapshot.sharing().is_active() {
                self.share(scene, newcomer, &mut decision);
            }
            if openings.len() < worth_it
                && let Fate::Begin(policy, hop) = decision.fate
            {
                let ahead = openings.len();
                let contest = Contest::of(newcomer, policy, hop);
                let ready =
                    match lost == Some(contest) && decision.owner == scene.snapshot.unit {
                        true => Err(Drop::NatPortsExhausted),
                        false => opening(scene, newcomer, policy, hop, decision.owner).and_then(
                            |opening| self.make_ready(scene, newcomer, opening, &mut prepared),
                        ),
                    };
                decision.fate = match ready {
                    Ok(opening) => {
                        openings.push(opening);
                        Fate::Ready(ahead)
                    }
                    Err(reason) => {
                        if reason == Drop::NatPortsExhausted {
                            lost = Some(contest);
                        }
                        Fate::Dispose(Disposal::Drop(reason))
                    }
                };
            }
            match decision.fate {
                // As long as no session begins in this burst, no packet can be of one.
                Fate::Dispose(Disposal::Drop(reason)) if decisions.is_empty() => {
                    self.refuse(newcomer.position, decision.policy, reason);
                }
                _ => decisions.push(decision),
            }
        }
        for prepared in prepared {
            self.shard.prefetch_overflow(prepared);
        }
        let mut progress = Progress::default();
        let refused = newcomers.len() - decisions.len();
        for (newcomer, decision) in newcomers[refused..].iter().zip(&decisions) {
            self.carry_out(scene, newcomer, decision, &openings, &mut progress);
        }
        self.picker.entered();
    }

    /// Drops a packet, under the policy that it matched.
    fn refuse(&mut self, position: usize, policy: Option<u16>, reason: Drop) {
        if let Some(policy) = policy {
            self.counters.policy_hit(policy);
        }
        if let Some(mbuf) = self.batch.mbufs[position].take() {
            self.lose(reason, mbuf);
        }
    }

    /// Drops a packet when the burst is done, together with others.
    fn lose(&mut self, reason: Drop, mbuf: Mbuf) {
        self.counters.lose(reason);
        // It has room for all buffers of a batch, and frees them together.
        let _ = self.burst.push(mbuf);
    }

    /// The first pass. Changes nothing: an earlier packet of the burst may yet begin the session.
    fn decide(
        &self,
        scene: &Scene<'_>,
        origin: Origin,
        newcomer: &Newcomer,
        next_hop: u32,
    ) -> Decision {
        let dispose = |disposal| Decision {
            policy: None,
            owner: scene.snapshot.unit,
            fate: Fate::Dispose(disposal),
        };
        if self.readers.len() > 1
            && let Some(elsewhere) = self.belongs_elsewhere(scene, origin, newcomer)
        {
            return dispose(elsewhere);
        }
        let (snapshot, destination) = (scene.snapshot, newcomer.destination);
        if let Some(reason) = group_drop(snapshot, destination) {
            return dispose(Disposal::Drop(reason));
        }
        let local = snapshot.is_local(destination);
        let hop = (!local)
            .then(|| snapshot.way_by(next_hop, destination))
            .flatten();
        let question = Question {
            ingress: self.batch.ingress[newcomer.position],
            protocol: newcomer.protocol,
            source: newcomer.source,
            destination,
            destination_port: newcomer.destination_port,
            hop,
        };
        match snapshot.policies.first_match(&question) {
            Some(found) => Decision::by(newcomer, &found, snapshot.unit),
            None if local => dispose(Disposal::Local),
            None if hop.is_none() => dispose(Disposal::Refuse(
                Drop::NoRoute,
                Answer::Icmp(Problem::NetUnreachable),
            )),
            None => dispose(Disposal::Drop(Drop::PolicyDefault)),
        }
    }

    /// Names the owner of a session that is to begin, and finds one for a packet that begins none here.
    #[inline(never)]
    fn share(&mut self, scene: &Scene<'_>, newcomer: &Newcomer, decision: &mut Decision) {
        let disposal = match decision.fate {
            Fate::Begin(..) => {
                decision.owner = self.owner_of(scene, newcomer);
                return;
            }
            Fate::Ready(_) | Fate::Dispose(Disposal::HandOver(_)) => return,
            Fate::Dispose(disposal) => disposal,
        };
        let instead = match self.translator_of(scene, newcomer) {
            Some(unit) => Disposal::Redirect(unit),
            None if matches!(disposal, Disposal::Local)
                && self.is_passed_on(scene, newcomer.position) =>
            {
                Disposal::Drop(Drop::RedirectStale)
            }
            None => return,
        };
        decision.policy = None;
        decision.fate = Fate::Dispose(instead);
    }

    /// Whether another worker has the session, or should make it. A packet that was handed over is
    /// handed on only by the worker that its tuple steers it to, so that none goes around for ever.
    fn belongs_elsewhere(
        &self,
        scene: &Scene<'_>,
        origin: Origin,
        newcomer: &Newcomer,
    ) -> Option<Disposal> {
        let tuple = newcomer.tuple();
        let home = scene.snapshot.home_of(&tuple);
        if home != self.index {
            return Some(match origin {
                Origin::Worker if !self.steers_fragment(scene, newcomer) => {
                    Disposal::Drop(Drop::HandoverStale)
                }
                _ => Disposal::HandOver(home),
            });
        }
        self.find_elsewhere(&tuple).map(Disposal::HandOver)
    }

    /// True for a fragment that came to this worker by its addresses and goes on by its ports.
    fn steers_fragment(&self, scene: &Scene<'_>, newcomer: &Newcomer) -> bool {
        let by_addresses = toeplitz::hash_addresses(&newcomer.tuple());
        newcomer.fragment != Fragment::None
            && scene.snapshot.steering.worker_of_hash(by_addresses) == self.index
    }

    /// Prepares a session that will begin after those that are `prepared`: draws a port where one is to be
    /// chosen, and asks for the memory that the session will be entered into.
    fn make_ready(
        &mut self,
        scene: &Scene<'_>,
        newcomer: &Newcomer,
        mut opening: Opening,
        prepared: &mut ArrayVec<Prepared, CAPACITY>,
    ) -> Result<Opening, Drop> {
        if opening.port == Port::Open {
            let end = self.end(scene, &opening.reply);
            if self.chooser.is_exhausted(&end, scene.now.tick) {
                return Err(Drop::NatPortsExhausted);
            }
            if let Some(drawn) = self.chooser.draw(&end) {
                opening.reply = drawn;
                opening.port = Port::Drawn;
            }
        }
        let reply = Key::from(&opening.reply);
        let keys = [&self.batch.keys[newcomer.position], &reply];
        prepared.push(self.shard.prefetch_insert(keys, prepared.len()));
        Ok(opening)
    }

    /// The second pass.
    fn carry_out(
        &mut self,
        scene: &Scene<'_>,
        newcomer: &Newcomer,
        decision: &Decision,
        openings: &[Opening],
        progress: &mut Progress,
    ) {
        let position = newcomer.position;
        if progress.begun.may_have(newcomer)
            && let Some(hit) = self.shard.lookup_key(&self.batch.keys[position])
        {
            self.follow(scene, position, hit);
            return;
        }
        if let Some(policy) = decision.policy {
            self.counters.policy_hit(policy);
        }
        let opening = match (decision.fate, progress.refusal) {
            (Fate::Dispose(disposal), _) => Err(disposal),
            (_, Some(reason)) => Err(Disposal::Drop(reason)),
            (Fate::Ready(number), None) => Ok(openings[number]),
            (Fate::Begin(policy, hop), None) => {
                opening(scene, newcomer, policy, hop, decision.owner).map_err(Disposal::Drop)
            }
        };
        let begun = opening.and_then(|opening| {
            self.begin(scene, newcomer, opening, progress)
                .map_err(Disposal::Drop)
        });
        let disposal = match begun {
            Ok(hit) => {
                self.follow(scene, position, hit);
                return;
            }
            Err(disposal) => disposal,
        };
        if matches!(disposal, Disposal::Refuse(..)) && self.batch.is_plain(position) {
            // An answer quotes what the general way reads.
            self.generalise(position);
        }
        if let Some(mbuf) = self.batch.mbufs[position].take() {
            self.dispose(scene, position, disposal, mbuf);
        }
    }

    /// Lets a packet go on with the session that began in this burst, here or at its owner.
    #[inline]
    fn follow(&mut self, scene: &Scene<'_>, position: usize, hit: Hit) {
        match scene.snapshot.sharing().is_active() {
            true => self.follow_to_owner(scene, position, hit),
            false => self.batch.hits[position] = Some(hit),
        }
    }

    /// Does away with a packet that gets no session here.
    fn dispose(&mut self, scene: &Scene<'_>, position: usize, disposal: Disposal, mbuf: Mbuf) {
        let ingress = self.batch.ingress[position];
        match disposal {
            Disposal::HandOver(worker) => self.hand_over(worker, ingress, mbuf),
            Disposal::Redirect(unit) => self.redirect_to(scene, ingress, mbuf, unit),
            Disposal::Local => self.punt(PuntReason::Local, ingress, mbuf),
            Disposal::Drop(reason) => self.lose(reason, mbuf),
            Disposal::Refuse(reason, answer) => {
                self.counters.lose(reason);
                let layout = self.batch.layouts[position];
                self.answer(scene, ingress, mbuf.data(), &layout, answer);
            }
        }
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

    /// Makes the session.
    fn begin(
        &mut self,
        scene: &Scene<'_>,
        newcomer: &Newcomer,
        opening: Opening,
        progress: &mut Progress,
    ) -> Result<Hit, Drop> {
        if opening.owner != scene.snapshot.unit {
            return self.begin_elsewhere(scene, newcomer, opening, progress);
        }
        let mut session = Session {
            tuples: [newcomer.tuple(), opening.reply],
            version: self.shard.next_version(scene.snapshot.term),
            state: State::Unreplied,
            flags: opening.flags,
            owner: scene.snapshot.unit,
            policy: opening.policy,
            tcp: [TcpSide::NOTHING; 2],
            last_seen: scene.now.tick,
            assigned: false,
        };
        if newcomer.kind == Kind::Tcp {
            let syn = self.segment(newcomer.position);
            let connection = session::tcp::open(&syn.ok_or(Drop::TcpBadFlags)?);
            session.state = connection.state;
            session.tcp = connection.sides;
        }
        let Inserted { id, evicted } = self
            .enter(scene, &mut session, opening.port)
            .map_err(|refused| progress.refused(refused))?;
        if let Some(evicted) = evicted {
            self.give_way(scene, id, &evicted, progress);
        }
        progress.begun.add_both(&session);
        self.counters.happened(Event::SessionsCreated);
        if opening.flags.has(Flags::SOURCE_NAT) {
            self.counters.happened(Event::SourceNat);
        }
        if opening.flags.has(Flags::DESTINATION_NAT) {
            self.counters.happened(Event::DestinationNat);
        }
        let told = self.report(DeltaKind::Begin, id, &session);
        if opening.acked {
            self.withhold(newcomer.position, told.then_some(session.version));
        }
        let hit = Hit::new(id, Direction::Original);
        if self.batch.begin(newcomer.position)
            && let Some(hop) = opening.hop
        {
            let path = self.ways.by(hop, scene.snapshot, scene.neighbours);
            self.shard.set_path(hit, path);
        }
        Ok(hit)
    }

    /// Has the first packet of a session wait until a peer has the session, which the change of this version
    /// tells of.
    #[cold]
    fn withhold(&mut self, position: usize, version: Option<Version>) {
        if self.batch.is_plain(position) {
            // Plain packets leave without a look at what is special about them.
            self.generalise(position);
        }
        self.batch.withhold(position, version);
    }

    /// Hands the session to another unit, and remembers that until this tells of it.
    #[cold]
    fn begin_elsewhere(
        &mut self,
        scene: &Scene<'_>,
        newcomer: &Newcomer,
        opening: Opening,
        progress: &mut Progress,
    ) -> Result<Hit, Drop> {
        let session = Session {
            tuples: [newcomer.tuple(), opening.reply],
            version: Version::PROVISIONAL,
            flags: opening.flags,
            owner: opening.owner,
            policy: opening.policy,
            ..Session::default()
        };
        let Inserted { id, evicted } = self
            .shard
            .insert(session, scene.now.tick)
            .map_err(|refused| progress.refused(Refusal::Table(refused)))?;
        if let Some(evicted) = evicted {
            self.give_way(scene, id, &evicted, progress);
        }
        progress.begun.add_both(&session);
        self.counters.happened(Event::SessionsAssigned);
        Ok(Hit::new(id, Direction::Original))
    }

    /// A half-open session has given way to the one that has its slot now. Peers hear of it from its
    /// owner, and from the primary, without which none of its packets finds it any more.
    fn give_way(
        &mut self,
        scene: &Scene<'_>,
        id: SessionId,
        evicted: &Session,
        progress: &mut Progress,
    ) {
        self.batch.evicted = true;
        self.evictions.spend();
        if self.evictions.left() == 0 {
            // Nothing leaves the table during a burst: the next one would need room as well.
            progress.refusal = Some(Drop::EvictionLimited);
        }
        self.counters.happened(Event::SessionsEvicted);
        if scene.snapshot.is_primary() || evicted.owner == scene.snapshot.unit {
            self.report(DeltaKind::Remove, id, evicted);
        }
    }

    /// The TCP segment at a position.
    fn segment(&self, position: usize) -> Option<Segment> {
        let frame = self.batch.mbufs[position].as_ref()?.data();
        match self.batch.is_plain(position) {
            true => self.batch.plains[position].segment(frame),
            false => Segment::read(frame, &self.batch.layouts[position]),
        }
    }
}

/// Next hop ids of the destinations, as the packets arrived.
fn next_hops(scene: &Scene<'_>, newcomers: &[Newcomer]) -> [u32; CAPACITY] {
    let mut destinations = [0; CAPACITY];
    let mut next_hops = [0; CAPACITY];
    for (destination, newcomer) in destinations.iter_mut().zip(newcomers) {
        *destination = newcomer.destination.to_bits();
    }
    let count = newcomers.len();
    let routes = &scene.snapshot.routes;
    routes.look_up(&destinations[..count], &mut next_hops[..count]);
    next_hops
}

/// The positions of the bits that are set.
pub(super) fn positions(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (position < u64::BITS).then_some(position as usize)
    })
}
