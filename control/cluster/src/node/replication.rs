//! The session table's part in the protocol: local changes go to the peers, theirs come here.
//!
//! Owns the way between [`Sync`](crate::sync::Sync), which knows neither links nor roles, and the rest of
//! the node: who is up, who is primary, and on which links a frame travels.

use arrayvec::ArrayVec;
use session::Version;

use super::distribute::CATCHING_UP;
use crate::envelope::{Kind, Rejection};
use crate::peer::Peer;
use crate::sync::{self, Output};
use crate::{
    Action, Delta, Event, LinkId, LinkKind, Node, RangeSet, Role, Schedule, SessionSource,
    Settings, Time, UnitId,
};

/// The first version of the protocol that knows digests.
const DIGESTS_SINCE: u8 = 2;

type Links = ArrayVec<LinkId, { Settings::MAX_LINKS }>;

impl Node {
    /// Takes a local change, in the order of its shard's ring.
    pub fn push(&mut self, shard: u16, delta: Delta, now: Time) {
        self.observe(now);
        self.sync.push(shard, delta);
    }

    /// [`Node::push`] for the first change of a session, which began in version `born`: if it ends before it
    /// was sent, no peer hears of it.
    pub fn push_born(&mut self, shard: u16, delta: Delta, born: Version, now: Time) {
        self.observe(now);
        self.sync.push_born(shard, delta, born);
    }

    /// True when there is a live peer to hold anything.
    #[must_use]
    pub const fn has_sync_peers(&self) -> bool {
        self.sync.has_peers()
    }

    /// A mark in a shard's stream, behind all that was pushed, for [`Node::is_confirmed`]; none while something
    /// waits for room.
    #[must_use]
    pub fn sync_mark(&self, shard: u16) -> Option<u64> {
        self.sync.mark(shard)
    }

    /// True when a live peer holds all that was pushed in the shard's stream before the mark.
    #[must_use]
    pub fn is_confirmed(&self, shard: u16, mark: u64) -> bool {
        self.sync.is_confirmed(shard, mark)
    }

    /// Changes in these ranges were lost before they came here: the peers get the ranges whole.
    pub fn overflowed(&mut self, ranges: RangeSet) {
        self.sync.overflowed(ranges);
    }

    /// How many changes [`Node::push`] takes before its window overflows. A driver leaves the rest in
    /// their rings for a while.
    #[must_use]
    pub fn sync_room(&self) -> usize {
        self.sync.room()
    }

    /// What synchronisation counted since the start.
    #[must_use]
    pub const fn sync_counters(&self) -> &sync::Counters {
        self.sync.counters()
    }

    /// Whether this unit holds all sessions, as far as it knows. One whose workers do not take in what they
    /// are told does not.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.workers && self.sync.synced() && !self.short
    }

    /// Whether the peers hold every session that this unit changed.
    pub(super) fn peers_hold_all(&self) -> bool {
        self.sync.acknowledged_by_all()
    }

    /// Tells synchronisation who is up and who is primary, when that changed.
    pub(super) fn inform_sync(&mut self, now: Time) {
        for peer in self.peers.iter_mut().flatten() {
            let trusted = peer.trusted();
            if std::mem::replace(&mut peer.in_sync, trusted) == trusted {
                continue;
            }
            if trusted {
                self.sync.peer_up(peer.unit, peer.boot, peer.beat.shards);
            } else {
                self.sync.peer_down(peer.unit);
            }
        }
        self.sync.compare_tables(self.version() >= DIGESTS_SINCE);
        let primary = self.primary();
        if self.sync_primary != primary {
            self.sync_primary = primary;
            let term = primary.map_or(self.term, |(_, term)| term);
            self.sync.primary(primary.map(|(unit, _)| unit), term, now);
            if self.role == Role::Isolated {
                self.sync.leave_no_heirs();
            }
        }
    }

    /// Tells synchronisation whether a peer, which was just heard, holds all sessions of the primary that
    /// this unit follows or is. What a primary held is known from before it became one.
    pub(super) fn compare_steps(&mut self, unit: UnitId, now: Time) {
        let (Some((primary, term)), Some(peer)) = (self.primary(), self.peer(unit)) else {
            return;
        };
        let (hears_all, beat) = (self.hears_all(peer), &peer.beat);
        if beat.role == Role::Primary {
            return;
        }
        let follows = (beat.primary, beat.primary_term) == (Some(primary), term);
        let synced = follows && beat.synced;
        let Some(peer) = self.peers[unit.index()].as_deref_mut() else {
            return;
        };
        let since = hears_all.then(|| peer.hears_all_since.unwrap_or(now));
        peer.hears_all_since = since;
        let caught_up = since.is_some_and(|since| now >= since + CATCHING_UP);
        self.sync.in_step(
            unit,
            synced && (caught_up || self.schedule() == Schedule::None),
        );
    }

    /// Whether a peer hears everybody that this unit hears: what the others tell of their own sessions nobody
    /// else tells.
    fn hears_all(&self, peer: &Peer) -> bool {
        let others = self.trusted().filter(|other| other.unit != peer.unit);
        let others = others.fold(0, |units, other| units | other.unit.bit());
        self.heard_by(peer) & others == others
    }

    /// The primary that this unit follows or is, and its term.
    #[must_use]
    pub fn primary(&self) -> Option<(UnitId, u32)> {
        if self.role == Role::Primary {
            return Some((self.settings.unit, self.term));
        }
        let primary = self.primary?;
        let heard = self.peer(primary).filter(|peer| peer.trusted());
        let term = heard.map_or(self.term, |peer| peer.beat.term);
        Some((primary, term))
    }

    /// The next thing that synchronisation wants done.
    pub(super) fn replicate(&mut self, table: &dyn SessionSource, now: Time) -> Option<Action> {
        self.applying = false;
        while self.actions.is_empty() {
            match self.sync.poll(table, now)? {
                Output::Send { to, body } => self.send_to_peers(Kind::Sync, to, &body),
                Output::Apply { from, delta } => {
                    self.applying = true;
                    return Some(Action::Apply { from, delta });
                }
                Output::Restate { tuple } => return Some(Action::Restate { tuple }),
                Output::Synced { from } => self.event(Event::Synced { from }),
                Output::Event(event) => self.event(Event::Sync(event)),
            }
        }
        self.actions.pop_front()
    }

    pub(super) fn accept_sync(
        &mut self,
        from: UnitId,
        body: &[u8],
        now: Time,
    ) -> Result<(), Rejection> {
        self.counters.sync_frames_received += 1;
        self.sync
            .handle(from, body, now)
            .map_err(|_| Rejection::Malformed)
    }

    /// Sends a frame once if one link reaches everybody, and on as few more as it takes.
    pub(super) fn send_to_peers(&mut self, kind: Kind, to: Option<UnitId>, body: &[u8]) {
        let links = self.sync_links(to);
        if links.is_empty() {
            self.counters.sync_frames_unsent += 1;
        }
        for link in links {
            self.counters.sync_frames_sent += 1;
            self.send(link, kind, to, body);
        }
    }

    fn sync_links(&self, to: Option<UnitId>) -> Links {
        let mut links = Links::new();
        for peer in self
            .trusted()
            .filter(|peer| to.is_none_or(|to| to == peer.unit))
        {
            if links.iter().any(|link| self.reaches(peer, *link)) {
                continue;
            }
            let best = self.heartbeat_links().into_iter().max_by_key(|link| {
                let kind = self.settings.links[link.index()].kind;
                (
                    self.reaches(peer, *link),
                    kind == LinkKind::Sync,
                    std::cmp::Reverse(*link),
                )
            });
            if let Some(link) = best.filter(|link| !links.contains(link)) {
                links.push(link);
            }
        }
        links
    }

    /// Whether the peer says that it hears us on this link of ours.
    fn reaches(&self, peer: &Peer, link: LinkId) -> bool {
        let up = self.links_up[link.index()];
        let heard = peer.hears(self.settings.unit, self.settings.boot);
        up && heard.is_some_and(|heard| heard.links & 1 << link.0 != 0)
    }
}
