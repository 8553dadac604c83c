//! What a session is: a plain value, as readers get it and as it travels between units.

use std::num::NonZeroU32;

use packet::Tuple;

/// Time in the session table: tenths of a second since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// How many ticks a second has.
    pub const PER_SECOND: u32 = 10;

    /// Where a process's clock starts: so late that a session of a peer, last seen before this
    /// process was there, still has a tick to name that.
    pub const START: Self = Self(100_000);

    /// The tick that is `ticks` later.
    #[must_use]
    pub const fn plus(self, ticks: u32) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Ticks since `earlier`; zero if that is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Orders the states of one session over all units: the higher version is the newer state.
///
/// The upper 24 bits hold the term of the writer, the lower 40 a Lamport counter of its shard, so a
/// unit that was promoted later always wins, and a tuple that is used again gets a higher version
/// than the session that it had before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Below all others: of sessions that a primary has only heard the beginning of.
    pub const PROVISIONAL: Self = Self(0);

    const COUNTER_BITS: u32 = 40;

    /// The lowest of a writer in `term`.
    #[must_use]
    pub const fn first_of(term: u32) -> Self {
        Self((term as u64) << Self::COUNTER_BITS)
    }

    /// The term of the writer.
    #[must_use]
    pub const fn term(self) -> u32 {
        (self.0 >> Self::COUNTER_BITS) as u32
    }

    /// The version that follows `self` when the writer is in `term`.
    #[must_use]
    pub const fn next(self, term: u32) -> Self {
        let floor = Self::first_of(term);
        if self.0 < floor.0 {
            floor
        } else {
            Self(self.0 + 1)
        }
    }
}

/// Which way a packet of a session travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the side that opened the session.
    Original = 0,
    /// Back to it.
    Reply = 1,
}

impl Direction {
    /// The opposite direction.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// The slot of a session in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A session that was found, and which of its directions the tuple was. Four bytes, also when
/// optional.
///
/// Good until the shard next removes or replaces a session (also by eviction, by ageing, or at a
/// peer's wish). Within a burst where that may have happened, ask [`crate::Shard::confirms`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hit(NonZeroU32);

impl Hit {
    /// Always set, so that no hit is zero.
    const MARK: u32 = 1 << 31;

    /// The hit of a packet of `direction` of the session in slot `id`.
    ///
    /// # Panics
    /// When no shard can have such a slot.
    #[inline]
    #[must_use]
    pub const fn new(id: SessionId, direction: Direction) -> Self {
        assert!(id.0 < crate::Settings::MAX_CAPACITY, "no such slot");
        match NonZeroU32::new(Self::MARK | id.0 << 1 | direction as u32) {
            Some(bits) => Self(bits),
            None => unreachable!(),
        }
    }

    /// The slot.
    #[inline]
    #[must_use]
    pub const fn id(self) -> SessionId {
        SessionId((self.0.get() & !Self::MARK) >> 1)
    }

    /// The direction.
    #[inline]
    #[must_use]
    pub const fn direction(self) -> Direction {
        if self.0.get() & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    /// As the index stores it.
    #[inline]
    pub(crate) const fn to_bits(self) -> u32 {
        self.0.get()
    }

    /// What the index stored, if that is a hit.
    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        match NonZeroU32::new(bits) {
            Some(nonzero) if bits & Self::MARK != 0 => Some(Self(nonzero)),
            _ => None,
        }
    }

    /// Which cache line of the entries the hit `bits` is about: each direction has one.
    #[inline]
    pub(crate) const fn line(bits: u32) -> usize {
        (bits & !Self::MARK) as usize
    }
}

impl std::fmt::Debug for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hit({} {:?})", self.id().0, self.direction())
    }
}

/// Where a session is in its life.
///
/// The TCP states name what the gateway has seen, not what an end believes (after RFC 9293
/// section 3.3.2 and the tracker of RFC 6146 section 3.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// A datagram or query that nobody has answered yet.
    #[default]
    Unreplied = 0,
    /// Datagrams or queries in both directions.
    Replied = 1,
    /// TCP: SYN seen.
    SynSent = 2,
    /// TCP: SYN and SYN-ACK seen, or two crossing SYNs.
    SynReceived = 3,
    /// TCP: handshake complete.
    Established = 4,
    /// TCP: FIN seen from one side.
    FinWait = 5,
    /// TCP: FIN seen from both sides, the last acknowledgement outstanding or lingering.
    TimeWait = 6,
    /// TCP: a valid RST was seen; lingers for the transitory timeout (RFC 7857 section 2.2).
    Reset = 7,
}

impl State {
    /// The state that is numbered by the lowest three bits.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Unreplied,
            1 => Self::Replied,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::Established,
            5 => Self::FinWait,
            6 => Self::TimeWait,
            _ => Self::Reset,
        }
    }
}

/// Properties of a session, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// The source was translated.
    pub const SOURCE_NAT: u8 = 1;
    /// The destination was translated.
    pub const DESTINATION_NAT: u8 = 2;
    /// TCP: FIN seen from the original side.
    pub const FIN_ORIGINAL: u8 = 4;
    /// TCP: FIN seen from the reply side.
    pub const FIN_REPLY: u8 = 8;
    /// TCP: the window of the original side must be learnt again before it is enforced.
    pub const RELEARN_ORIGINAL: u8 = 16;
    /// TCP: the window of the reply side must be learnt again before it is enforced.
    pub const RELEARN_REPLY: u8 = 32;

    /// True when every bit of `bits` is set.
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// The flags with `bits` set as well.
    #[must_use]
    pub const fn with(self, bits: u8) -> Self {
        Self(self.0 | bits)
    }

    /// The flags with `bits` cleared.
    #[must_use]
    pub const fn without(self, bits: u8) -> Self {
        Self(self.0 & !bits)
    }
}

/// What is known of one sender of a TCP connection (van Rooij, "Real stateful TCP packet
/// filtering", 2000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpSide {
    /// The highest sequence number sent, plus one.
    pub end: u32,
    /// The highest sequence number that the receiver has allowed.
    pub max_end: u32,
    /// The largest window that this side has announced, scaled, in bytes.
    pub max_window: u32,
    /// Window scale that this side announced in its SYN (RFC 7323), or [`TcpSide::NO_SCALE`].
    pub scale: u8,
    /// SACK-permitted was in this side's SYN (RFC 2018).
    pub sack: bool,
}

impl TcpSide {
    /// The SYN carried no window scale option, so neither side scales.
    pub const NO_SCALE: u8 = 15;
    /// Of a side that nothing is known of.
    pub const NOTHING: Self = Self {
        end: 0,
        max_end: 0,
        max_window: 0,
        scale: 0,
        sack: false,
    };
}

/// One tracked flow, in both directions.
///
/// `tuples[0]` is how packets of the original direction arrive at the gateway, `tuples[1]` how
/// packets of the reply direction do. A packet of one direction leaves as the other's
/// [`Tuple::reversed`]; where no address is translated that changes nothing. So the NAT binding
/// needs no fields of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Arriving tuples, by [`Direction`].
    pub tuples: [Tuple; 2],
    /// Newer wins.
    pub version: Version,
    /// Where it is in its life.
    pub state: State,
    /// Properties. The table keeps those that have a name.
    pub flags: Flags,
    /// Id of the unit that processes it (1..=16).
    pub owner: u8,
    /// Number of the policy that admitted it, with [`Session::PRIVATE`]. The table keeps it as it is.
    pub policy: u16,
    /// TCP windows, by [`Direction`]; zero for other protocols.
    pub tcp: [TcpSide; 2],
    /// When the last packet was seen. Local to a unit: on the wire travels the remaining time.
    pub last_seen: Tick,
    /// Local to a unit: this one handed it to its owner, which has told nothing of it yet and may never have
    /// heard of it. See [`Session::as_told_by`].
    pub assigned: bool,
}

impl Session {
    /// In [`Session::policy`]: no peer gets the session. It says so itself, so that nothing that happens to
    /// policies while it lives takes its copies away.
    pub const PRIVATE: u16 = 1 << 15;

    /// True for a session that no peer gets.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        self.policy & Self::PRIVATE != 0
    }

    /// True for what only says which unit a new session was handed to, until that unit tells what it
    /// made of it. A matter of one unit's own: no peer hears of it, and whatever a peer says replaces
    /// it.
    #[must_use]
    pub const fn is_provisional(&self) -> bool {
        self.version.0 == Version::PROVISIONAL.0
    }

    /// The session as `unit` tells its peers of it. An owner has the last word on its sessions, also that it has
    /// none: so one that was only handed to its owner is told as that of the unit which handed it, and holds it.
    #[must_use]
    pub const fn as_told_by(mut self, unit: u8) -> Self {
        if self.assigned {
            (self.owner, self.assigned) = (unit, false);
        }
        self
    }
}
