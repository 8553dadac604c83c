//! Session synchronisation: ordered, acknowledged streams of deltas between units.
//!
//! Owned and driven by the node, which puts what comes out into envelopes and hands in what came in them;
//! this module knows of no link, key or role but who the primary is.
//!
//! # How it works
//!
//! Each unit has one stream per shard of its table. A stream is a row of segments, numbered from 1 in each
//! boot, of at most [`frame::MAX_FRAME`] bytes, sent to all peers at once. A receiver puts them in order and
//! hands out each change once, in the order of the stream, so a late update never brings a removed session
//! back. It acknowledges a segment only after all its changes were handed out. The sender holds segments until
//! every live peer acknowledged them, and sends again what is missing.
//!
//! The window is bounded. When it overflows it moves on: what a slow peer had not acknowledged becomes *dirty
//! for that peer*, by [range](crate::range_of). The peer sees from the base in every frame that something is
//! gone, and asks. What happened while a peer was silent is remembered the same way, so a unit that returns
//! within its boot gets what it missed and no more.
//!
//! A repair runs in the streams themselves, hence in order with the changes around it: a begin in each
//! stream, every session of the ranges as it is read from the table, an end in each. If the sender is primary
//! and whole the repair is *authoritative*: what the receiver holds in these ranges up to the begin's floor, and
//! nobody mentioned meanwhile, is stale and removed; what is newer than the floor is passed on instead. No other unit's repair removes anything; so a unit with an
//! empty table cannot empty another's.
//!
//! # Which state wins
//!
//! A session's higher version wins. Removed sessions leave no trace, so between streams of *different* origins
//! version order alone does not decide. The primary does: ranges with *late* changes (any that come from another
//! unit than the primary, which is then the only one that writes) are repaired from its table, by itself for all and at the request of whoever
//! got such changes. Thus each unit ends with what the primary's table says.
//!
//! Where sessions have owners, every unit writes of its own, and has the last word on them: its changes are not
//! late, its repairs are authoritative for what it owns, once it has been whole for a while, and the primary's
//! for what nobody else owns who is alive. Only in the moments after a unit came, went or became primary may two units have written of one
//! session; then the primary's table confirms what owners tell.
//!
//! When a unit dies, what it sent last may have reached some of its peers only. Acknowledgements go to
//! everybody; each survivor passes on the segments that another survivor is not known to have.
//!
//! A unit asks the primary for everything when it starts and when the primary changes, but first lets the
//! primary have what it sent itself, or it might be told to remove what it alone knows. If that primary was not
//! in step with it, so may lack what units had that are gone by now, it is given all that this unit holds; and
//! until the request is answered no other repair removes anything. A primary that
//! hands over in order stays whole: nobody else has written, and the successor gets the rest of its stream.
//!
//! # Invariants
//!
//! - Acknowledged means handed out by [`Sync::poll`] as [`Output::Apply`].
//! - Each change that was pushed reaches each live peer, or its range is dirty for it.
//! - Memory is bounded by [`Limits`]; a call does a bounded amount of work.

mod compare;
mod counters;
mod digest;
mod fingerprint;
mod held;
mod incoming;
mod mentioned;
mod outgoing;
mod output;
mod peer;
mod progress;
mod queue;
mod receive;
mod repair;
mod send;
mod serve;
mod sweep;

pub mod frame;
pub mod record;

use std::collections::VecDeque;
use std::time::Duration;

use session::Version;

use compare::Comparison;
pub use counters::Counters;
use digest::Digests;
use fingerprint::Fingerprints;
pub use frame::Position;
use outgoing::Outgoing;
pub use output::{Event, Lag, Malformed, Output};
use peer::Peer;
use queue::Pushed;
use serve::Repair;

use crate::{Boot, Delta, RangeSet, SessionSource, Time, UnitId};

/// After a unit came or went, or became primary, several may have written of the same sessions. What owners tell
/// for so long is confirmed by the primary's table.
const UNREST: Duration = Duration::from_millis(200);

/// What the machine is made for.
#[derive(Clone, Copy, Debug)]
pub struct SyncSettings {
    /// This unit.
    pub unit: UnitId,
    /// This start of it.
    pub boot: Boot,
    /// Shards of its table.
    pub shards: u16,
    /// False: nothing is sent or taken in, and the unit always counts as whole.
    pub session_sync: bool,
    /// Bounds on memory and work.
    pub limits: Limits,
}

/// Bounds on memory and work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Segments that a stream holds for its peers, and that wait at a receiver.
    pub window: usize,
    /// Unacknowledged segments of a stream up to which a repair adds some.
    pub repair_window: usize,
    /// Changes that wait in a stream when its window is full.
    pub waiting: usize,
    /// Segments sent in one turn, that is until [`Sync::poll`] returns `None`.
    pub segments_per_turn: usize,
    /// Slots of the table read in one turn.
    pub slots_per_turn: u32,
    /// How long an applied change may take until the table shows it.
    pub settle: Duration,
    /// Tuples that are remembered while a repair comes in; beyond that nothing is swept.
    pub mentioned: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 1_024,
            repair_window: 128,
            waiting: 4_096,
            segments_per_turn: 64,
            slots_per_turn: 8_192,
            settle: Duration::from_millis(50),
            mentioned: 16_000_000,
        }
    }
}

/// Work left in the current turn.
#[derive(Clone, Copy, Debug)]
struct Budget {
    segments: usize,
    slots: u32,
}

impl Budget {
    const fn of(limits: &Limits) -> Self {
        Self {
            segments: limits.segments_per_turn,
            slots: limits.slots_per_turn,
        }
    }

    const fn is_spent(&self) -> bool {
        self.segments == 0 || self.slots == 0
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Sync {
    settings: SyncSettings,
    streams: Vec<Outgoing>,
    peers: [Option<Box<Peer>>; UnitId::MAX as usize],
    /// Peers that there are, and those of them that are up, bit 0 for unit 1.
    known: u16,
    live: u16,
    primary: Option<UnitId>,
    /// Sessions have owners, which write of their own sessions as the primary does of its.
    many_writers: bool,
    /// When owners' changes need no confirmation any more: nobody came or went, or became primary, a while
    /// before.
    calm_at: Time,
    /// Unit and term of the last primary, while the state still stands in continuity with it.
    last_primary: Option<(UnitId, u32)>,
    term: u32,
    /// Units that held all of this unit's state when it stepped down, bit 0 for unit 1.
    heirs: u16,
    /// Units that lack something of what the last primary sent and this unit cannot pass on to them, as far
    /// as it knows, bit 0 for unit 1.
    behind: u16,
    /// The highest version pushed or applied.
    highest: Version,
    whole: bool,
    /// Since when, as far as the table is concerned.
    whole_since: Time,
    fingerprints: Fingerprints,
    digests: Digests,
    comparison: Comparison,
    /// Tables are compared.
    compared: bool,
    /// Ranges that the workers' rings lost.
    overflow: RangeSet,
    /// Ranges in which another unit than the primary wrote late, and since when there are any.
    suspect: RangeSet,
    suspect_since: Time,
    /// Ranges that were repaired by this unit without the last word: again once it has it.
    unsettled: RangeSet,
    repair: Option<Repair>,
    repairs: u32,
    /// The last number of a request, see [`first_request`].
    requests: u32,
    /// Since when a repair is called for and was not begun.
    serve_since: Time,
    /// Sessions removed in the sweep that is under way.
    swept: u64,
    /// The stream that is being handed out.
    reading: Option<(UnitId, usize)>,
    /// Segments of dead units that are passed on when there is room, with their shard.
    inherited: VecDeque<(u16, Box<[u8]>)>,
    /// When a change was last applied, or known to be in a worker's ring or lost there.
    last_applied: Time,
    outbox: VecDeque<Output>,
    budget: Budget,
    now: Time,
    deadline: Time,
    counters: Counters,
}

impl Sync {
    /// A machine without peers.
    ///
    /// # Panics
    /// If there are no shards.
    #[must_use]
    pub fn new(settings: SyncSettings) -> Self {
        assert!(settings.shards > 0, "a table has at least one shard");
        Self {
            streams: (0..settings.shards)
                .map(|shard| Outgoing::new(settings.boot, shard))
                .collect(),
            settings,
            peers: [const { None }; UnitId::MAX as usize],
            known: 0,
            live: 0,
            primary: None,
            many_writers: false,
            calm_at: Time(0),
            last_primary: None,
            term: 0,
            heirs: 0,
            behind: 0,
            highest: Version(0),
            whole: !settings.session_sync,
            whole_since: Time::NEVER,
            fingerprints: Fingerprints::new(),
            digests: Digests::new(),
            comparison: Comparison::new(),
            compared: settings.session_sync,
            overflow: RangeSet::EMPTY,
            suspect: RangeSet::EMPTY,
            suspect_since: Time::NEVER,
            unsettled: RangeSet::EMPTY,
            repair: None,
            repairs: 0,
            requests: first_request(settings.boot),
            serve_since: Time::NEVER,
            swept: 0,
            reading: None,
            inherited: VecDeque::new(),
            last_applied: Time(0),
            outbox: VecDeque::new(),
            budget: Budget::of(&settings.limits),
            now: Time(0),
            deadline: Time(0),
            counters: Counters::default(),
        }
    }

    /// A peer is heard. Call it again when its boot changed. `shards` are those of its table.
    pub fn peer_up(&mut self, unit: UnitId, boot: Boot, shards: u16) {
        if unit == self.settings.unit || !self.settings.session_sync {
            return;
        }
        self.known |= unit.bit();
        self.live |= unit.bit();
        self.calm_at = self.now + UNREST;
        if self.last_primary.is_some_and(|(last, _)| last == unit) {
            self.behind = 0;
        }
        let slot = &mut self.peers[unit.index()];
        match slot {
            Some(peer) if peer.boot == boot => {
                peer.up = true;
                peer.moved = self.now;
                peer.dirty_since = self.now;
            }
            _ => {
                let bases = self.streams.iter().map(Outgoing::base);
                *slot = Some(Box::new(Peer::new(boot, shards, bases, self.now)));
                self.forget_receipts_of(unit);
                self.heirs &= !unit.bit();
                if self.last_primary.is_some_and(|(last, _)| last == unit) {
                    self.last_primary = None;
                }
                if self.primary == Some(unit) {
                    self.lose_continuity();
                    self.offer(unit, false);
                }
            }
        }
        self.want_copies();
        self.deadline = Time(0);
    }

    /// A peer is not heard any more. What it acknowledged holds the window no longer, and what it sent
    /// last is passed on to the other peers.
    pub fn peer_down(&mut self, unit: UnitId) {
        let Some(peer) = self.peers[unit.index()].as_deref_mut() else {
            return;
        };
        if !std::mem::replace(&mut peer.up, false) {
            return;
        }
        self.live &= !unit.bit();
        peer.stuck = None;
        self.calm_at = self.now + UNREST;
        peer.in_step = false;
        peer.request = None;
        peer.answered = 0;
        peer.patience = peer::Patience::new();
        if let Some(want) = &mut peer.want {
            self.requests += 1;
            want.id = self.requests;
            want.asked = false;
            want.flush = None;
        }
        self.withdraw_target(unit);
        self.stand_in_for(unit);
        self.inherit(unit);
        if self.primary == Some(self.settings.unit) {
            self.drop_want(unit);
        }
        self.want_copies();
        self.deadline = Time(0);
    }

    /// Whether a peer holds all sessions of the primary that this unit follows or is, by what it said last.
    pub fn in_step(&mut self, unit: UnitId, in_step: bool) {
        if let Some(peer) = self.peers[unit.index()].as_deref_mut() {
            peer.in_step = in_step;
        }
    }

    /// Who is primary, and in which term; `None` while nobody is. A primary that hands over in order says
    /// `None` first: one that learns of another primary while it is one itself has to copy its state.
    pub fn primary(&mut self, primary: Option<UnitId>, term: u32, now: Time) {
        self.now = self.now.max(now);
        if !self.settings.session_sync {
            return;
        }
        let before = std::mem::replace(&mut self.primary, primary);
        let stepped_down = before == Some(self.settings.unit) && primary != before;
        if stepped_down {
            self.heirs = if primary.is_some() || self.overtaken() {
                0
            } else {
                self.holders_of_everything()
            };
        }
        self.term = self.term.max(term);
        if before != primary {
            self.calm_at = self.now + UNREST;
        }
        if let Some(unit) = primary
            && (before != primary || self.last_primary != Some((unit, term)))
        {
            self.follow(unit, term);
        }
        self.deadline = Time(0);
    }

    /// This unit stepped down without handing over: more of its changes may come than it knew of then, and
    /// whoever follows it did not hold them.
    pub const fn leave_no_heirs(&mut self) {
        self.heirs = 0;
    }

    /// Whether every unit writes of the sessions that it owns, or only the primary writes.
    pub const fn many_writers(&mut self, many: bool) {
        self.many_writers = many;
    }

    /// Whether tables are compared: not while a live peer speaks a version that knows no digests.
    pub const fn compare_tables(&mut self, compared: bool) {
        self.compared = compared && self.settings.session_sync;
    }

    /// A change of a local session, in the order in which the worker of `shard` made them.
    pub fn push(&mut self, shard: u16, delta: Delta) {
        self.push_change(shard, delta, None);
    }

    /// [`Sync::push`] for the first change of a session, which began in version `born`. If it ends before it
    /// was sent, nothing is.
    pub fn push_born(&mut self, shard: u16, delta: Delta, born: Version) {
        self.push_change(shard, delta, Some(born));
    }

    fn push_change(&mut self, shard: u16, delta: Delta, born: Option<Version>) {
        if !self.settings.session_sync {
            return;
        }
        self.counters.deltas_pushed += 1;
        self.highest = self.highest.max(delta.version());
        self.enqueue(shard, delta, born);
        self.deadline = Time(0);
    }

    /// The workers lost changes of these ranges: they are repaired for all peers.
    pub fn overflowed(&mut self, ranges: RangeSet) {
        if self.settings.session_sync && self.peers.iter().any(Option::is_some) {
            self.counters.overflows += 1;
            self.overflow = self.overflow.union(&ranges);
            self.digests.touch_ranges(&ranges, self.now);
            self.last_applied = self.now;
            self.deadline = Time(0);
        }
    }

    /// Changes that can be pushed before the window of a stream moves on over an unacknowledged segment.
    #[must_use]
    pub fn room(&self) -> usize {
        let most = self.streams.iter().map(Outgoing::waiting).max();
        self.settings
            .limits
            .waiting
            .saturating_sub(most.unwrap_or(0))
    }

    /// The next thing to do, until `None`: that ends a turn. After it, call again at
    /// [`Sync::next_deadline`], or when something came in.
    pub fn poll(&mut self, table: &dyn SessionSource, now: Time) -> Option<Output> {
        self.now = self.now.max(now);
        self.whole_since = if self.whole {
            self.whole_since.min(now)
        } else {
            Time::NEVER
        };
        if !self.settings.session_sync {
            self.deadline = Time::NEVER;
            return None;
        }
        self.settle();
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Some(output);
            }
            if let Some(output) = self.apply_next(table) {
                return Some(output);
            }
            self.advance(table);
            if self.outbox.is_empty() {
                self.deadline = self.find_deadline();
                self.budget = Budget::of(&self.settings.limits);
                return None;
            }
        }
    }

    /// When [`Sync::poll`] has something to do again if nothing comes in; in the past if at once.
    #[must_use]
    pub const fn next_deadline(&self) -> Time {
        self.deadline
    }

    /// True when this unit holds the state of the primary, or was itself the last to write it.
    #[must_use]
    pub const fn synced(&self) -> bool {
        self.whole
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn live_peers(&self) -> impl Iterator<Item = (UnitId, &Peer)> {
        UnitId::all()
            .zip(&self.peers)
            .filter_map(|(unit, peer)| Some((unit, peer.as_deref()?)))
            .filter(|(_, peer)| peer.up)
    }

    /// Queues a change for all peers; without room the window moves on.
    fn enqueue(&mut self, shard: u16, delta: Delta, born: Option<Version>) {
        let shard = usize::from(shard % self.settings.shards);
        if self.known == 0 {
            return;
        }
        let fingerprint = self.fingerprints.of(delta.tuple());
        let stream = &mut self.streams[shard];
        match stream.push(fingerprint, delta, born) {
            Pushed::Queued => {}
            Pushed::Merged => self.counters.deltas_merged += 1,
            Pushed::Cancelled => self.counters.deltas_cancelled += 1,
        }
        if stream.waiting() > self.settings.limits.waiting {
            self.make_room(shard);
        }
    }

    /// One round of everything that is due; what is to be sent goes to the outbox.
    fn advance(&mut self, table: &dyn SessionSource) {
        self.acknowledge();
        self.feed_inherited();
        self.cut();
        self.serve(table);
        self.transmit();
        self.retransmit();
        self.ask();
        self.sweep(table);
        self.compare(table);
        self.watch_peers();
    }

    fn find_deadline(&self) -> Time {
        if self.budget.is_spent() {
            return self.now;
        }
        self.send_deadline()
            .min(self.repair_deadline())
            .min(self.settle_deadline())
            .min(self.comparison_deadline())
    }
}

/// Where the numbers of requests begin: different in each boot, so that an answer to an earlier boot is not
/// taken for this one's.
fn first_request(boot: Boot) -> u32 {
    let [a, b, c, d, ..] = boot.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) >> 1
}
