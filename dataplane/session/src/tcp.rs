//! TCP tracking: which segments belong to a connection, and what they make of it.
//!
//! Windows after van Rooij ("Real stateful TCP packet filtering in IP Filter", 2000), with scaling
//! (RFC 7323) and room for selective acknowledgements (RFC 2018). RST and SYN after RFC 5961.
//! [`track`] is a pure function; the shard calls it and stores the outcome.
//!
//! ```text
//!            SYN-ACK, or crossing SYN        ACK of the opener
//! SynSent ───────────────────────▶ SynReceived ─────────▶ Established
//!    ▲ │ exact RST                     │ exact RST             │ FIN       │ exact RST
//!    │ ▼                               ▼                       ▼           │
//!    │ Reset ◀──────────────────────────────────────────── FinWait ◀───────┘
//!    │   │                                                     │ FIN of the other side
//!    └───┴── new SYN of the opener ──────────────────────── TimeWait
//! ```
//!
//! Where this tracker differs from the usual, and why:
//!
//! - An acknowledgement may cover data that was never seen here, up to the window that its sender
//!   had granted: another unit may have forwarded that data.
//! - A RST counts only if its sequence number is exactly the sender's next one. Others inside of the
//!   window are dropped: they might kill an end that does not follow RFC 5961. An end that does
//!   answers our exact one, or makes its peer send an exact one by a challenge ACK.
//! - A SYN outside of the window passes and changes nothing: no end is killed by it, and the answer
//!   (a challenge ACK) is how an end that restarted learns to send an exact RST. One inside is
//!   dropped.
//! - After a takeover (`RELEARN_*` flags) the windows are old. Until each side has sent a segment,
//!   those of the connection pass and teach; then the windows are enforced.

use packet::tcp::{ACK, FIN, RST, SYN, Segment};

use crate::model::{Direction, Flags, State, TcpSide};

/// How far behind the newest data an acknowledgement may lie however small the windows are: one
/// reassembled IPv4 datagram.
const ACK_SLACK: u32 = 66_000;
/// The largest shift of RFC 7323 section 2.3.
const MAX_SCALE: u8 = 14;
/// Flags that mean something to the tracker.
const KNOWN: u8 = FIN | SYN | RST | ACK;

/// Why a segment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invalid {
    /// Sequence or acknowledgement number outside of the window.
    OutOfWindow,
    /// A RST that is not exactly the next in sequence (RFC 5961 section 3).
    BadReset,
    /// A SYN inside of a connection's window (RFC 5961 section 4).
    BadSyn,
    /// Flags that no segment of this state may have.
    BadFlags,
    /// Not what the handshake needs next.
    BadHandshake,
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Let it pass.
    Pass,
    /// Let it pass, and tell the peers: the session has a new version.
    PassChanged,
    /// Drop it.
    Drop(Invalid),
}

/// What [`track`] knows of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Where it is in its life.
    pub state: State,
    /// FIN and RELEARN bits are used and changed, others kept.
    pub flags: Flags,
    /// Windows, by [`Direction`].
    pub sides: [TcpSide; 2],
}

/// What a segment makes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes and tells nothing: the idle time goes on.
    Ignore,
    /// It passes and restarts the idle time; the connection is now as given.
    Advance(Connection),
    /// As [`Outcome::Advance`], and peers have to know: state or FIN flags changed.
    Change(Connection),
    /// It does not pass.
    Drop(Invalid),
}

/// The connection that a first SYN opens, its sender being the original side.
#[must_use]
pub fn open(syn: &Segment) -> Connection {
    let end = syn.seq.wrapping_add(1);
    let original = TcpSide {
        end,
        // Data in the SYN (RFC 7413) may be acknowledged or not.
        max_end: end.wrapping_add(u32::from(syn.payload_len)),
        ..announced(syn)
    };
    Connection {
        state: State::SynSent,
        flags: Flags(0),
        sides: [original, TcpSide::NOTHING],
    }
}

/// Judges one segment that travels in `direction` of `connection`.
#[must_use]
pub fn track(connection: &Connection, direction: Direction, segment: &Segment) -> Outcome {
    match segment.flags & KNOWN {
        SYN => on_syn(connection, direction, segment),
        flags if flags == SYN | ACK => on_syn_ack(connection, direction, segment),
        RST => on_reset(connection, direction, segment),
        flags if flags == RST | ACK => on_reset(connection, direction, segment),
        flags if flags & (ACK | SYN | RST) == ACK => on_data(connection, direction, segment),
        _ => Outcome::Drop(Invalid::BadFlags),
    }
}

fn on_syn(connection: &Connection, direction: Direction, segment: &Segment) -> Outcome {
    let sender = connection.side(direction);
    let repeated = segment.seq.wrapping_add(1) == sender.end;
    match (connection.state, direction) {
        // The opener tries again; with another sequence number it has given up the first attempt.
        (State::SynSent, Direction::Original) if repeated => Outcome::Advance(*connection),
        (State::SynSent, Direction::Original) => connection.reopen(segment),
        // Simultaneous open (RFC 9293 section 3.5).
        (State::SynSent, Direction::Reply) => connection.answer(segment, connection.sides[0].end),
        // RFC 6191 without time stamps: a higher sequence number cannot be an old duplicate. Nor can one that is
        // far away: the session is kept for longer than half of the time in which initial numbers may wrap.
        (State::TimeWait, Direction::Original)
            if after(segment.seq, sender.end) || !connection.is_near(direction, segment.seq) =>
        {
            connection.reopen(segment)
        }
        (State::Reset, Direction::Original) => connection.reopen(segment),
        _ if repeated => Outcome::Ignore,
        _ if connection.must_relearn() || connection.is_near(direction, segment.seq) => {
            Outcome::Drop(Invalid::BadSyn)
        }
        _ => Outcome::Ignore,
    }
}

fn on_syn_ack(connection: &Connection, direction: Direction, segment: &Segment) -> Outcome {
    let sender = connection.side(direction);
    let receiver = connection.side(direction.other());
    let repeated = segment.seq.wrapping_add(1) == sender.end;
    match (connection.state, direction) {
        (State::SynSent, Direction::Reply) => {
            if within(segment.ack, receiver.end, receiver.max_end) {
                connection.answer(segment, segment.ack)
            } else {
                // Of an older attempt: the opener answers it with the RST that clears it away.
                Outcome::Ignore
            }
        }
        // The opener's half of a simultaneous open.
        (State::SynReceived, Direction::Original) if repeated && segment.ack == receiver.end => {
            Outcome::Change(Connection {
                state: State::Established,
                ..*connection
            })
        }
        (State::SynSent, Direction::Original) => Outcome::Drop(Invalid::BadHandshake),
        // The last acknowledgement of the handshake was lost behind us.
        _ if repeated => Outcome::Advance(*connection),
        _ => Outcome::Drop(Invalid::BadSyn),
    }
}

fn on_reset(connection: &Connection, direction: Direction, segment: &Segment) -> Outcome {
    let sender = connection.side(direction);
    let receiver = connection.side(direction.other());
    let exact = match (connection.state, direction) {
        // A refused connection: RFC 9293 section 3.10.7.3.
        (State::SynSent, Direction::Reply) => {
            segment.flags & ACK != 0 && within(segment.ack, receiver.end, receiver.max_end)
        }
        // The opener clears away what an older connection had left at the other end.
        (State::SynSent, Direction::Original) if segment.seq != sender.end => {
            return Outcome::Ignore;
        }
        _ => segment.seq == sender.end,
    };
    match connection.state {
        State::Reset | State::TimeWait if connection.is_near(direction, segment.seq) => {
            Outcome::Ignore
        }
        _ if !exact => Outcome::Drop(Invalid::BadReset),
        State::Reset => Outcome::Ignore,
        _ => Outcome::Change(Connection {
            state: State::Reset,
            ..*connection
        }),
    }
}

fn on_data(connection: &Connection, direction: Direction, segment: &Segment) -> Outcome {
    let relearning = connection.must_relearn();
    match connection.state {
        State::SynSent if !relearning => {
            return match direction {
                // The challenge ACK of an end that still has an older connection (RFC 5961).
                Direction::Reply if segment.payload_len == 0 => Outcome::Ignore,
                _ => Outcome::Drop(Invalid::BadHandshake),
            };
        }
        State::SynReceived if !relearning && !connection.completes(direction, segment) => {
            return Outcome::Drop(Invalid::BadHandshake);
        }
        _ if !relearning && !connection.is_inside(direction, segment) => {
            return Outcome::Drop(Invalid::OutOfWindow);
        }
        _ => {}
    }
    let mut next = *connection;
    if relearning {
        next.learn(direction, segment);
    } else {
        next.advance(direction, segment);
    }
    next.step(direction, segment, relearning);
    if connection.state == State::Reset {
        Outcome::Ignore
    } else if next.state == connection.state && next.flags.fins() == connection.flags.fins() {
        Outcome::Advance(next)
    } else {
        Outcome::Change(next)
    }
}

impl Connection {
    fn side(&self, direction: Direction) -> &TcpSide {
        &self.sides[direction as usize]
    }

    fn must_relearn(&self) -> bool {
        self.flags.0 & (Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY) != 0
    }

    /// A new connection in the place of an old one.
    fn reopen(&self, syn: &Segment) -> Outcome {
        const LEFT: u8 =
            Flags::FIN_ORIGINAL | Flags::FIN_REPLY | Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY;
        Outcome::Change(Connection {
            flags: self.flags.without(LEFT),
            ..open(syn)
        })
    }

    /// The answer to the first SYN, which acknowledges the opener's data up to `ack`.
    fn answer(&self, segment: &Segment, ack: u32) -> Outcome {
        let mut original = self.sides[0];
        let mut reply = announced(segment);
        reply.end = segment.seq.wrapping_add(1);
        reply.max_end = reply.end.wrapping_add(original.max_window);
        original.end = later(original.end, ack);
        original.max_end = later(original.max_end, ack.wrapping_add(reply.max_window));
        if original.scale == TcpSide::NO_SCALE || reply.scale == TcpSide::NO_SCALE {
            original.scale = TcpSide::NO_SCALE;
            reply.scale = TcpSide::NO_SCALE;
        }
        let sack = original.sack && reply.sack;
        (original.sack, reply.sack) = (sack, sack);
        // Whoever answers is known now, and the opener's SYN was synchronised.
        let flags = self
            .flags
            .without(Flags::RELEARN_ORIGINAL | Flags::RELEARN_REPLY);
        Outcome::Change(Self {
            state: State::SynReceived,
            flags,
            sides: [original, reply],
        })
    }

    /// True for what may follow the SYN-ACK: the opener's acknowledgement of it, and data of the
    /// answering side that does not wait for that (RFC 7413).
    fn completes(&self, direction: Direction, segment: &Segment) -> bool {
        let [original, reply] = &self.sides;
        // Until the handshake is complete the answering side's limit stands where `answer` put it.
        let first = reply.max_end.wrapping_sub(original.max_window);
        let acknowledged = direction == Direction::Reply || within(segment.ack, first, reply.end);
        acknowledged && self.is_inside(direction, segment)
    }

    fn is_inside(&self, direction: Direction, segment: &Segment) -> bool {
        is_inside(self.side(direction), self.side(direction.other()), segment)
    }

    /// True when `seq` may lie in the receiver's window as the receiver sees it.
    fn is_near(&self, direction: Direction, seq: u32) -> bool {
        let sender = self.side(direction);
        let receiver = self.side(direction.other());
        within(
            seq,
            sender.end.wrapping_sub(receiver.max_window),
            sender.max_end,
        )
    }

    fn advance(&mut self, direction: Direction, segment: &Segment) {
        let (sender, receiver) = self.sides_mut(direction);
        advance(sender, receiver, segment);
    }

    /// Takes the windows from a segment of a connection that was taken over.
    fn learn(&mut self, direction: Direction, segment: &Segment) {
        let (own, others) = match direction {
            Direction::Original => (Flags::RELEARN_ORIGINAL, Flags::RELEARN_REPLY),
            Direction::Reply => (Flags::RELEARN_REPLY, Flags::RELEARN_ORIGINAL),
        };
        let first = self.flags.has(own);
        let other_is_unknown = self.flags.has(others);
        if self.state == State::SynSent {
            self.assume_scaling();
        }
        let (sender, receiver) = self.sides_mut(direction);
        let end = end_of(segment);
        // The other side's acknowledgement tells more of this side than an old record does.
        sender.end = if first && other_is_unknown {
            end
        } else {
            later(sender.end, end)
        };
        sender.max_end = if other_is_unknown {
            sender.end
        } else {
            later(sender.max_end, end)
        };
        let window = scaled(sender, segment.window);
        sender.max_window = sender.max_window.max(window);
        let granted = segment.ack.wrapping_add(window.max(1));
        if other_is_unknown {
            receiver.end = segment.ack;
            receiver.max_end = granted;
        } else {
            receiver.end = later(receiver.end, segment.ack);
            receiver.max_end = later(receiver.max_end, granted);
        }
        self.flags = self.flags.without(own);
    }

    /// The answer's window scale was lost with the unit that saw it: allow the largest, if the
    /// opener had offered to scale.
    fn assume_scaling(&mut self) {
        let [original, reply] = &mut self.sides;
        let offered = original.scale != TcpSide::NO_SCALE;
        reply.scale = if offered {
            MAX_SCALE
        } else {
            TcpSide::NO_SCALE
        };
        reply.sack = original.sack;
    }

    /// Moves the state by a segment with ACK and perhaps FIN.
    fn step(&mut self, direction: Direction, segment: &Segment, relearning: bool) {
        self.state = match self.state {
            State::SynReceived if direction == Direction::Original => State::Established,
            // The unit that saw the handshake is gone, and both sides have spoken now.
            State::SynSent | State::SynReceived if relearning && !self.must_relearn() => {
                State::Established
            }
            state => state,
        };
        if segment.flags & FIN == 0 || matches!(self.state, State::TimeWait | State::Reset) {
            return;
        }
        self.flags = self.flags.with(match direction {
            Direction::Original => Flags::FIN_ORIGINAL,
            Direction::Reply => Flags::FIN_REPLY,
        });
        let both = self.flags.has(Flags::FIN_ORIGINAL | Flags::FIN_REPLY);
        self.state = if both {
            State::TimeWait
        } else {
            State::FinWait
        };
    }

    fn sides_mut(&mut self, direction: Direction) -> (&mut TcpSide, &mut TcpSide) {
        let [original, reply] = &mut self.sides;
        match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        }
    }
}

impl Flags {
    /// The FIN bits alone.
    const fn fins(self) -> u8 {
        self.0 & (Self::FIN_ORIGINAL | Self::FIN_REPLY)
    }
}

/// What a SYN or SYN-ACK announces, without sequence numbers. Its window is never scaled.
fn announced(segment: &Segment) -> TcpSide {
    TcpSide {
        max_window: u32::from(segment.window).max(1),
        scale: segment
            .scale
            .map_or(TcpSide::NO_SCALE, |scale| scale.min(MAX_SCALE)),
        sack: segment.sack_permitted,
        ..TcpSide::default()
    }
}

fn scaled(sender: &TcpSide, window: u16) -> u32 {
    let scale = if sender.scale == TcpSide::NO_SCALE {
        0
    } else {
        sender.scale
    };
    u32::from(window) << scale.min(MAX_SCALE)
}

/// Van Rooij's four bounds. No branch: nearly every segment keeps to all of them.
#[inline]
fn is_inside(sender: &TcpSide, receiver: &TcpSide, segment: &Segment) -> bool {
    // With SACK the acknowledged number may stand still for a round trip more.
    let slack = sender.max_window.max(ACK_SLACK) << u32::from(sender.sack);
    let slack = slack.min(1 << 30);
    !after(segment.seq, sender.max_end)
        & !before(end_of(segment), sender.end.wrapping_sub(receiver.max_window))
        // A FIN may take the number behind a closed window.
        & !after(segment.ack, receiver.max_end.wrapping_add(1))
        & !before(segment.ack, receiver.end.wrapping_sub(slack))
}

/// Moves the windows by a segment that is inside of them.
#[inline]
fn advance(sender: &mut TcpSide, receiver: &mut TcpSide, segment: &Segment) {
    let window = scaled(sender, segment.window);
    sender.max_window = sender.max_window.max(window);
    let limit = sender.max_end.wrapping_add(1);
    let end = end_of(segment);
    sender.end = later(sender.end, if after(end, limit) { limit } else { end });
    receiver.end = later(receiver.end, segment.ack);
    // A closed window may be probed with one byte.
    let granted = segment.ack.wrapping_add(window.max(1));
    receiver.max_end = later(receiver.max_end, granted);
}

/// [`track`], for what nearly every segment of an established connection is whose windows need not be
/// learnt again: one with ACK, without FIN, SYN and RST, inside of the windows. The sides as it leaves
/// them, sender first; `None` for any other segment.
#[inline]
pub(crate) fn pass(
    mut sender: TcpSide,
    mut receiver: TcpSide,
    segment: &Segment,
) -> Option<(TcpSide, TcpSide)> {
    let plain = segment.flags & KNOWN == ACK;
    if !(plain & is_inside(&sender, &receiver, segment)) {
        return None;
    }
    advance(&mut sender, &mut receiver, segment);
    Some((sender, receiver))
}

/// The sequence number behind a segment without SYN.
fn end_of(segment: &Segment) -> u32 {
    let fin = u32::from(segment.flags & FIN != 0);
    segment
        .seq
        .wrapping_add(u32::from(segment.payload_len))
        .wrapping_add(fin)
}

/// Sequence numbers are compared modulo 2^32 (RFC 9293 section 3.4).
fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

fn within(number: u32, low: u32, high: u32) -> bool {
    !before(number, low) && !after(number, high)
}

#[cfg(all(test, not(loom)))]
mod tests;
