//! Policies: which sessions may begin, and how their addresses are translated.
//!
//! Owned by the control core, which compiles them once per configuration; workers only match, and
//! only for the first packet of a session. First match wins; the caller drops what matches none.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use packet::Tuple;

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
    /// Source ports. Ports match TCP and UDP only.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports, as the packet arrives. Ports match TCP and UDP only.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// What happens.
    pub action: PolicyAction,
    /// Translation of the source.
    pub source_nat: SourceNat,
    /// Translation of the destination.
    pub destination_nat: Option<DestinationNat>,
}

impl Policy {
    /// A policy that matches everything, for the fields of a literal that are not of interest.
    #[must_use]
    pub fn any(name: &str, action: PolicyAction) -> Self {
        Self {
            name: name.into(),
            from: InterfaceSet::ANY,
            to: InterfaceSet::ANY,
            source: Vec::new(),
            destination: Vec::new(),
            protocols: Vec::new(),
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            action,
            source_nat: SourceNat::None,
            destination_nat: None,
        }
    }

    /// Everything but the interface that the packet would leave by.
    fn matches(&self, question: &Question) -> bool {
        let tuple = question.tuple;
        let ported = matches!(tuple.protocol, TCP | UDP);
        self.from.contains(question.ingress)
            && any_or(&self.protocols, |protocol| *protocol == tuple.protocol)
            && any_or(&self.source, |prefix| prefix.contains(question.source))
            && any_or(&self.destination, |prefix| {
                prefix.contains(question.destination)
            })
            && any_or(&self.source_ports, |ports| {
                ported && ports.contains(&tuple.src_port)
            })
            && any_or(&self.destination_ports, |ports| {
                ported && ports.contains(&tuple.dst_port)
            })
    }
}

/// True when the list is empty or one of its members satisfies `matches`.
fn any_or<T>(list: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}

/// The first packet of a session, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Interface that it came in by.
    pub ingress: InterfaceId,
    /// Its tuple as it arrived.
    pub tuple: &'a Tuple,
    /// Source of the tuple.
    pub source: Ipv4Addr,
    /// Destination of the tuple.
    pub destination: Ipv4Addr,
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
    policies: Vec<Compiled>,
}

/// A policy and where its destination NAT leads, which the routes of the configuration settle.
#[derive(Debug)]
struct Compiled {
    policy: Policy,
    translated: Option<Hop>,
}

impl PolicySet {
    /// Resolves what does not depend on the packet. `routes` are those of the same configuration.
    #[must_use]
    pub fn compile(policies: Vec<Policy>, routes: &Routes) -> Self {
        let compile = |policy: Policy| Compiled {
            translated: policy
                .destination_nat
                .and_then(|nat| routes.resolve(nat.address)),
            policy,
        };
        Self {
            policies: policies.into_iter().map(compile).collect(),
        }
    }

    /// The first policy that matches.
    ///
    /// One without destination NAT can match only what has somewhere to go: a packet to the
    /// gateway's own address is no session of users unless a policy sends it on.
    #[must_use]
    pub fn first_match(&self, question: &Question) -> Option<Match<'_>> {
        let position = self.policies.iter().enumerate();
        position.into_iter().find_map(|(index, compiled)| {
            let hop = match compiled.policy.destination_nat {
                Some(_) => compiled.translated,
                None => question.hop,
            }?;
            let leaves = compiled.policy.to.contains(hop.interface);
            (leaves && compiled.policy.matches(question)).then(|| Match {
                index: u16::try_from(index).unwrap_or(u16::MAX),
                policy: &compiled.policy,
                hop,
            })
        })
    }

    /// The policies in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.policies.iter().map(|compiled| &compiled.policy)
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
mod tests {
    use super::*;

    const WEB: Tuple = Tuple::v4(
        Ipv4Addr::new(192, 0, 2, 100),
        40_000,
        Ipv4Addr::new(203, 0, 113, 9),
        443,
        TCP,
    );

    fn matches(policy: &Policy, tuple: &Tuple) -> bool {
        policy.matches(&Question {
            ingress: InterfaceId(1),
            tuple,
            source: tuple.src_v4().unwrap(),
            destination: tuple.dst_v4().unwrap(),
            hop: None,
        })
    }

    #[test]
    fn each_condition_alone() {
        let any = || Policy::any("any", PolicyAction::Allow);
        let prefix = |a, b, c, d, length| vec![Prefix::new(Ipv4Addr::new(a, b, c, d), length)];
        for (policy, expected) in [
            (any(), true),
            (
                Policy {
                    from: InterfaceSet::NONE.with(InterfaceId(1)),
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    from: InterfaceSet::NONE.with(InterfaceId(2)),
                    ..any()
                },
                false,
            ),
            (
                Policy {
                    source: prefix(192, 0, 2, 0, 24),
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    source: prefix(192, 0, 2, 0, 26),
                    ..any()
                },
                false,
            ),
            (
                Policy {
                    destination: prefix(203, 0, 113, 9, 32),
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    destination: prefix(192, 0, 2, 0, 24),
                    ..any()
                },
                false,
            ),
            (
                Policy {
                    protocols: vec![UDP, TCP],
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    protocols: vec![UDP],
                    ..any()
                },
                false,
            ),
            (
                Policy {
                    source_ports: vec![1..=9, 40_000..=40_000],
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    source_ports: vec![1..=39_999, 40_001..=65_535],
                    ..any()
                },
                false,
            ),
            (
                Policy {
                    destination_ports: vec![443..=443],
                    ..any()
                },
                true,
            ),
            (
                Policy {
                    destination_ports: vec![80..=442],
                    ..any()
                },
                false,
            ),
        ] {
            assert_eq!(matches(&policy, &WEB), expected, "{policy:?}");
        }
    }

    #[test]
    fn ports_match_nothing_that_has_none() {
        let ports = Policy {
            destination_ports: vec![0..=65_535],
            ..Policy::any("ports", PolicyAction::Allow)
        };
        for (protocol, expected) in [(TCP, true), (UDP, true), (1, false), (47, false)] {
            assert_eq!(matches(&ports, &Tuple { protocol, ..WEB }), expected);
        }
    }
}
