//! What becomes of a packet without a session, as the first pass of admission decides it.

use packet::icmp::Problem;
use packet::{Fragment, Kind, tcp};

use super::answer::Answer;
use super::newcomer::Newcomer;
use crate::counters::Drop;
use crate::policy::{Match, PolicyAction};
use crate::route::Hop;

/// What was decided about a packet without a session.
#[derive(Clone, Copy)]
pub(super) struct Decision {
    /// Number of the policy that matched.
    pub(super) policy: Option<u16>,
    /// The unit that is to own the session, if one begins.
    pub(super) owner: u8,
    pub(super) fate: Fate,
}

/// What becomes of a packet without a session.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It begins one under this policy, and leaves this way.
    Begin(u16, Hop),
    /// The same, and that one of the openings is its session's.
    Ready(usize),
    /// It gets none here.
    Dispose(Disposal),
}

/// What becomes of a packet that gets no session here.
#[derive(Clone, Copy)]
pub(super) enum Disposal {
    /// It belongs to this worker.
    HandOver(u16),
    /// It may be a reply in a session of this unit.
    Redirect(u8),
    /// It is for the gateway itself.
    Local,
    Drop(Drop),
    /// It is dropped, and its sender told.
    Refuse(Drop, Answer),
}

impl Decision {
    /// What the policy that matched makes of a packet whose session would be of `owner`.
    pub(super) fn by(newcomer: &Newcomer, found: &Match<'_>, owner: u8) -> Self {
        // Only what can begin a session is asked of a policy; the rest has lost its own.
        let lost = match newcomer.kind {
            Kind::IcmpError | Kind::IcmpQuery { request: false } => Some(Drop::IcmpNoSession),
            _ if newcomer.fragment == Fragment::Later => Some(Drop::Fragment),
            _ => None,
        };
        let fate = match (lost, found.policy.action) {
            (Some(reason), _) => Fate::Dispose(Disposal::Drop(reason)),
            (None, PolicyAction::Deny) => Fate::Dispose(Disposal::Drop(Drop::PolicyDeny)),
            (None, PolicyAction::Reject) => {
                let answer = match newcomer.kind {
                    Kind::Tcp => Answer::Reset,
                    _ => Answer::Icmp(Problem::Prohibited),
                };
                Fate::Dispose(Disposal::Refuse(Drop::PolicyReject, answer))
            }
            (None, PolicyAction::Allow) => {
                if newcomer.kind == Kind::Tcp && !begins_connection(newcomer.tcp_flags) {
                    Fate::Dispose(Disposal::Drop(Drop::TcpNotSyn))
                } else if newcomer.spent {
                    let answer = Answer::Icmp(Problem::TtlExceeded);
                    Fate::Dispose(Disposal::Refuse(Drop::TtlExceeded, answer))
                } else {
                    Fate::Begin(found.index, found.hop)
                }
            }
        };
        Self {
            policy: lost.is_none().then_some(found.policy.number),
            owner,
            fate,
        }
    }
}

/// True for a SYN and nothing else that matters to the state of a connection.
pub(super) fn begins_connection(flags: u8) -> bool {
    flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}
