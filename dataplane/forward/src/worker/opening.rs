//! What a session is to begin with: how its replies will arrive, after translation.

use std::net::Ipv4Addr;

use packet::{Tuple, ipv4};
use session::Flags;

use super::Scene;
use super::newcomer::Newcomer;
use crate::counters::Drop;
use crate::policy::SourceNat;
use crate::route::Hop;

/// A session that is to begin.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    /// Number of the policy that admits it.
    pub(super) policy: u16,
    /// The unit that is to own it.
    pub(super) owner: u8,
    /// How its replies will arrive. The destination port may not be chosen yet.
    pub(super) reply: Tuple,
    pub(super) flags: Flags,
    pub(super) port: Port,
    /// The way of its first packet, where that does not depend on the translation.
    pub(super) hop: Option<Hop>,
    /// A peer must have it before its first packet leaves.
    pub(super) acked: bool,
}

/// The destination port of the reply tuple.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// Nobody's choice: the source is not translated.
    Given,
    /// Drawn, and perhaps in use.
    Drawn,
    /// To be chosen.
    Open,
}

/// What decides which ports a newcomer competes for, when its source is translated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Contest {
    policy: u16,
    hop: Hop,
    destination: Ipv4Addr,
    destination_port: u16,
    protocol: u8,
}

impl Contest {
    pub(super) const fn of(newcomer: &Newcomer, policy: u16, hop: Hop) -> Self {
        Self {
            policy,
            hop,
            destination: newcomer.destination,
            destination_port: newcomer.destination_port,
            protocol: newcomer.protocol,
        }
    }
}

/// How replies of a new session will arrive: its packets reversed, after translation. For a session of
/// another unit, which chooses the port, the plain reverse stands for what is not known.
pub(super) fn opening(
    scene: &Scene<'_>,
    newcomer: &Newcomer,
    index: u16,
    hop: Hop,
    owner: u8,
) -> Result<Opening, Drop> {
    let policy = scene.snapshot.policies.get(index);
    let policy = policy.ok_or(Drop::PolicyDefault)?;
    let mut opening = Opening {
        policy: policy.number,
        owner,
        reply: newcomer.tuple().reversed(),
        flags: Flags::default(),
        port: Port::Given,
        hop: Some(hop),
        acked: policy.acked,
    };
    if let Some(nat) = policy.destination_nat {
        opening.reply.src = nat.address.to_ipv6_mapped().octets();
        if let Some(port) = nat.port.filter(|_| has_ports(newcomer.protocol)) {
            opening.reply.src_port = port;
        }
        opening.flags = opening.flags.with(Flags::DESTINATION_NAT);
        opening.hop = None;
    }
    let address = match policy.source_nat {
        SourceNat::None => return Ok(opening),
        SourceNat::Masquerade => masquerade_address(scene, hop).ok_or(Drop::NatNoAddress)?,
        SourceNat::Address(address) => address,
    };
    if !has_ports(newcomer.protocol) && newcomer.protocol != ipv4::PROTOCOL_ICMP {
        return Err(Drop::NatProtocol);
    }
    opening.flags = opening.flags.with(Flags::SOURCE_NAT);
    if owner == scene.snapshot.unit {
        opening.reply.dst = address.to_ipv6_mapped().octets();
        opening.port = Port::Open;
    } else {
        opening.reply = newcomer.tuple().reversed();
    }
    Ok(opening)
}

/// The cluster address that a session which leaves by `hop` is hidden behind.
fn masquerade_address(scene: &Scene<'_>, hop: Hop) -> Option<Ipv4Addr> {
    scene
        .snapshot
        .interface(hop.interface)?
        .cluster_address(hop.neighbour)
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_UDP)
}
