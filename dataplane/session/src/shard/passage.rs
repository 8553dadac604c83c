//! What packets do to their session, and it to them.

use packet::Tuple;
use packet::tcp::Segment;

use super::Shard;
use crate::entry::Half;
use crate::model::{Direction, Hit, SessionId, State, Tick};
use crate::rewrite::{Path, Rewrite};
use crate::settings::is_half_open;
use crate::tcp::{self, Connection, Outcome, Verdict};

impl Shard {
    /// The common case in one cache line: a datagram or query, of an IPv4 session that `unit` owns,
    /// which does not change the session's state. Its idle time starts again, and the packet leaves by
    /// what is returned. Else `None`, and nothing was done: take the long way.
    #[inline]
    pub fn pass_datagram(&mut self, hit: Hit, unit: u8, now: Tick) -> Option<Rewrite> {
        self.half(hit).pass_datagram(hit.direction(), unit, now)
    }

    /// The common case of [`Shard::track`], without copying the session: a segment of an established
    /// IPv4 connection that `unit` owns, inside of windows that are known and do not grow, with ACK and
    /// without FIN, SYN and RST. The windows move, the idle time starts again, and the packet leaves by
    /// what is returned. Else `None`, and nothing was done: take the long way.
    #[inline]
    pub fn pass_segment(
        &mut self,
        hit: Hit,
        unit: u8,
        segment: &Segment,
        now: Tick,
    ) -> Option<Rewrite> {
        self.entry(hit.id())
            .pass_segment(hit.direction(), unit, segment, now)
    }

    /// How packets of `hit` leave; `None` for IPv6 (see [`Shard::outgoing`]).
    #[inline]
    #[must_use]
    pub fn rewrite(&self, hit: Hit) -> Option<Rewrite> {
        self.half(hit).rewrite()
    }

    /// Remembers where packets of `hit` leave, for the next [`Rewrite`]. IPv6 sessions have no room
    /// for it.
    #[inline]
    pub fn set_path(&mut self, hit: Hit, path: Path) {
        self.half(hit).set_path(path);
    }

    /// The tuple that a packet of `hit` leaves the gateway with.
    #[must_use]
    pub fn outgoing(&self, hit: Hit) -> Tuple {
        let keys = self.entry(hit.id()).keys();
        keys[hit.direction().other() as usize].tuple().reversed()
    }

    /// A packet of the session was seen: its idle time starts again.
    #[inline]
    pub fn touch(&mut self, hit: Hit, now: Tick) {
        self.half(hit).touch(now);
    }

    /// A datagram or query of a session that is not TCP: its idle time starts again, and the first
    /// one in the reply direction changes its state.
    pub fn datagram(&mut self, hit: Hit, now: Tick, term: u32) -> Verdict {
        self.half(hit).touch(now);
        let entry = self.entry(hit.id());
        if hit.direction() == Direction::Original || entry.state() != State::Unreplied {
            return Verdict::Pass;
        }
        let connection = Connection {
            state: State::Replied,
            ..entry.connection()
        };
        self.change(hit.id(), &connection, now, term);
        Verdict::PassChanged
    }

    /// Tracks a segment of a TCP session. A segment that belongs restarts the idle time. With
    /// [`Verdict::PassChanged`] the session has a new version in `term`.
    pub fn track(&mut self, hit: Hit, segment: &Segment, now: Tick, term: u32) -> Verdict {
        let entry = self.entry(hit.id());
        let connection = entry.connection();
        match tcp::track(&connection, hit.direction(), segment) {
            Outcome::Ignore => Verdict::Pass,
            Outcome::Advance(next) => {
                self.half(hit).touch(now);
                if next != connection {
                    entry.store_connection(&next, None);
                }
                Verdict::Pass
            }
            Outcome::Change(next) => {
                self.half(hit).touch(now);
                if next.state == State::SynSent && connection.state != State::SynSent {
                    self.shared.counters.reopened.add();
                }
                self.change(hit.id(), &next, now, term);
                Verdict::PassChanged
            }
            Outcome::Drop(reason) => {
                self.shared.counters.invalid(reason);
                Verdict::Drop(reason)
            }
        }
    }

    #[inline]
    pub(super) fn half(&self, hit: Hit) -> &Half {
        self.entry(hit.id()).half(hit.direction())
    }

    /// Stores a change that peers have to know, and moves the timer if that has to come nearer.
    fn change(&mut self, id: SessionId, connection: &Connection, now: Tick, term: u32) {
        let version = self.next_version(term);
        let entry = self.entry(id);
        let was = entry.state();
        entry.store_connection(connection, Some(version));
        let protocol = entry.protocol();
        self.list_half_open(id.0, is_half_open(was), is_half_open(connection.state));
        // A timer that comes too early is put back when it is due.
        let timeout = self.timeouts.of(connection.state, protocol);
        if timeout < self.timeouts.of(was, protocol) {
            let due = now.plus(timeout);
            self.wheel.reschedule(&mut self.lists, id.0, due);
        }
    }
}
