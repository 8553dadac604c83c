//! How a shard is made: its size, its timeouts, its limits.

use crate::model::{Session, State, Tick};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// How long a session may be idle in each state, in ticks.
///
/// The defaults follow RFC 5382 section 5 (TCP), RFC 4787 section 4.3 (UDP), RFC 5508 section 3.2
/// (ICMP queries) and RFC 7857 section 2 (states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP after its handshake: two hours and four minutes.
    pub established: u32,
    /// TCP that is closing or was reset: four minutes.
    pub transitory: u32,
    /// TCP in its handshake: thirty seconds.
    pub syn: u32,
    /// Datagrams in both directions: five minutes. Also every protocol not named here.
    pub udp_replied: u32,
    /// Datagrams in one direction: thirty seconds.
    pub udp_unreplied: u32,
    /// A query that was answered: sixty seconds.
    pub icmp_replied: u32,
    /// A query that was not: thirty seconds.
    pub icmp_unreplied: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = |n| n * Tick::PER_SECOND;
        Self {
            established: seconds(7_440),
            transitory: seconds(240),
            syn: seconds(30),
            udp_replied: seconds(300),
            udp_unreplied: seconds(30),
            icmp_replied: seconds(60),
            icmp_unreplied: seconds(30),
        }
    }
}

impl Timeouts {
    /// The idle time that a session of `protocol` is given in `state`, in ticks.
    #[must_use]
    pub const fn of(&self, state: State, protocol: u8) -> u32 {
        match (state, protocol) {
            (State::Unreplied, ICMP | ICMPV6) => self.icmp_unreplied,
            (State::Unreplied, _) => self.udp_unreplied,
            (State::Replied, ICMP | ICMPV6) => self.icmp_replied,
            (State::Replied, _) => self.udp_replied,
            (State::SynSent | State::SynReceived, _) => self.syn,
            (State::Established, _) => self.established,
            (State::FinWait | State::TimeWait | State::Reset, _) => self.transitory,
        }
    }

    /// Ticks that `session` has left if no packet comes: what travels to the peers.
    #[must_use]
    pub const fn remaining(&self, session: &Session, now: Tick) -> u32 {
        let timeout = self.of(session.state, session.tuples[0].protocol);
        timeout.saturating_sub(now.since(session.last_seen))
    }
}

/// What a shard is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sessions that fit, 1..=[`Settings::MAX_CAPACITY`].
    pub capacity: u32,
    /// Idle times.
    pub timeouts: Timeouts,
    /// How many sessions may be half open at once; one more evicts the oldest of them.
    pub half_open_limit: Option<u32>,
    /// How many sessions one source address may have.
    pub per_source_limit: Option<u32>,
    /// Seed of the table's hash. Give it random bits that senders of packets cannot know.
    pub seed: u64,
}

impl Settings {
    /// The largest shard: its keys are numbered with 31 bits.
    pub const MAX_CAPACITY: u32 = 1 << 30;

    /// Default timeouts, no limits, and a seed of zero.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity,
            timeouts: Timeouts::default(),
            half_open_limit: None,
            per_source_limit: None,
            seed: 0,
        }
    }
}

/// True for a state that only one side has confirmed.
pub(crate) const fn is_half_open(state: State) -> bool {
    matches!(
        state,
        State::Unreplied | State::SynSent | State::SynReceived
    )
}
