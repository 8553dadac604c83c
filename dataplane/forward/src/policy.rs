//! Policies: which sessions may begin, and how their addresses are translated.
//!
//! Owned by the control core, which compiles them once per configuration; workers only match, and
//! only for the first packet of a session. First match wins; the caller drops what matches none.
//!
//! A policy is a conjunction of conditions on one field each, so every field is asked by itself which
//! policies it satisfies: the answers are bit sets, and the lowest bit of their intersection is the
//! first match (Lakshman and Stiliadis, "High-speed policy-based packet forwarding using efficient
//! multi-dimensional range matching", 1998). Sets are of 64 policies, one machine word: memory grows
//! with the number of conditions, the time with the number of words before the match.

mod compiled;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use self::compiled::Block;
use crate::interface::{InterfaceId, InterfaceSet, Prefix};
use crate::route::{Hop, Routes};

/// IP protocol numbers whose tuples carry ports.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What happens to a packet that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyAction {
    /// A session begins.
    Allow,
    /// The packet is dropped without a word.
    Deny,
    /// The packet is dropped and its sender told: RST for TCP, "administratively prohibited" else.
    Reject,
}

/// How the source of a new session is translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceNat {
    /// Not at all.
    #[default]
    None,
    /// To the cluster address of the interface that the session leaves by.
    Masquerade,
    /// To this address.
    Address(Ipv4Addr),
}

/// Where the destination of a new session is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestinationNat {
    /// The inner server.
    pub address: Ipv4Addr,
    /// Its port; the packet's own when absent.
    pub port: Option<u16>,
}

/// One policy as configured. An empty list matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name in the configuration.
    pub name: String,
    /// What its sessions remember of it ([`Session::policy`]) and what it is counted by. The same for as long as
    /// it has its name, wherever it stands.
    ///
    /// [`Session::policy`]: session::Session::policy
    pub number: u16,
    /// Interfaces that the packet may have come in by.
    pub from: InterfaceSet,
    /// Interfaces that it would leave by, after destination NAT and routing.
    pub to: InterfaceSet,
    /// Source addresses.
    pub source: Vec<Prefix>,
    /// Destination addresses, as the packet arrives.
    pub destination: Vec<Prefix>,
    /// IP protocol numbers.
    pub protocols: Vec<u8>,
    /// Destination ports, as the packet arrives. Ports match TCP and UDP only.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// What happens.
    pub action: PolicyAction,
    /// Translation of the source.
    pub source_nat: SourceNat,
    /// Translation of the destination.
    pub destination_nat: Option<DestinationNat>,
    /// The first packet of a session waits until a peer has the session.
    pub acked: bool,
}

impl Policy {
    /// A policy that matches everything, for the fields of a literal that are not of interest.
    #[must_use]
    pub fn any(name: &str, action: PolicyAction) -> Self {
        Self {
            name: name.into(),
            number: 0,
            from: InterfaceSet::ANY,
            to: InterfaceSet::ANY,
            source: Vec::new(),
            destination: Vec::new(),
            protocols: Vec::new(),
            destination_ports: Vec::new(),
            action,
            source_nat: SourceNat::None,
            destination_nat: None,
            acked: false,
        }
    }
}

/// The first packet of a session, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Interface that it came in by.
    pub ingress: InterfaceId,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address, as it arrived.
    pub destination: Ipv4Addr,
    /// Destination port, as it arrived; means something for TCP and UDP only.
    pub destination_port: u16,
    /// Where it would go without destination NAT; `None` when it is for the gateway itself or there
    /// is no route.
    pub hop: Option<Hop>,
}

/// The policy that decided.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// Its position in the configuration.
    pub index: u16,
    /// The policy.
    pub policy: &'a Policy,
    /// Where the packet goes after destination NAT. A denied packet may have nowhere to go.
    pub hop: Hop,
}

/// All policies of a configuration, in order.
#[derive(Debug)]
pub struct PolicySet {
    policies: Vec<Policy>,
    /// Where the destination NAT of each leads, which the routes of the configuration settle.
    translated: Vec<Option<Hop>>,
    /// The conditions of 64 policies each.
    blocks: Vec<Block>,
}

impl PolicySet {
    /// Resolves what does not depend on the packet. `routes` are those of the same configuration.
    #[must_use]
    pub fn compile(policies: Vec<Policy>, routes: &Routes) -> Self {
        Self::resolved(policies, |address| routes.resolve(address))
    }

    fn resolved(policies: Vec<Policy>, resolve: impl Fn(Ipv4Addr) -> Option<Hop>) -> Self {
        let translated: Vec<Option<Hop>> = policies
            .iter()
            .map(|policy| policy.destination_nat.and_then(|nat| resolve(nat.address)))
            .collect();
        let blocks = policies
            .chunks(Block::POLICIES)
            .zip(translated.chunks(Block::POLICIES))
            .map(|(policies, translated)| Block::compile(policies, translated))
            .collect();
        Self {
            policies,
            translated,
            blocks,
        }
    }

    /// The first policy that matches.
    ///
    /// One without destination NAT can match only what has somewhere to go: a packet to the
    /// gateway's own address is no session of users unless a policy sends it on.
    #[must_use]
    pub fn first_match(&self, question: &Question) -> Option<Match<'_>> {
        let position = self.blocks.iter().enumerate().find_map(|(number, block)| {
            let position = block.first_match(question)?;
            Some(number * Block::POLICIES + position)
        })?;
        let policy = &self.policies[position];
        let hop = match policy.destination_nat {
            Some(_) => self.translated[position],
            None => question.hop,
        }?;
        Some(Match {
            index: u16::try_from(position).unwrap_or(u16::MAX),
            policy,
            hop,
        })
    }

    /// The policy at a position.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<&Policy> {
        self.policies.get(usize::from(index))
    }

    /// The policies in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.policies.iter()
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// True when everything is dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

#[cfg(test)]
mod tests;
