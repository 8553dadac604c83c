//! The conditions of up to 64 policies, by the field that they ask about.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Policy, Question, TCP, UDP};
use crate::interface::{InterfaceId, MAX_INTERFACES, Prefix};
use crate::route::Hop;

/// A set of the policies of one block, by their positions in it.
type Policies = u64;

/// Consecutive policies, compiled.
#[derive(Debug)]
pub(super) struct Block {
    /// Those that each ingress interface satisfies.
    from: [Policies; MAX_INTERFACES],
    /// Those that a packet can leave by, for each interface that it would leave by untranslated.
    to: [Policies; MAX_INTERFACES],
    /// Those that send a packet on that has nowhere to go untranslated.
    to_translated: Policies,
    protocol: Ranges,
    source: Ranges,
    destination: Ranges,
    destination_port: Ranges,
    /// Those that ask about no port.
    portless: Policies,
}

impl Block {
    /// Policies in a block at the most.
    pub(super) const POLICIES: usize = Policies::BITS as usize;

    /// Compiles the conditions of `policies`; `translated` says where each one's destination NAT
    /// leads.
    pub(super) fn compile(policies: &[Policy], translated: &[Option<Hop>]) -> Self {
        let bits = (0..Self::POLICIES).map(|position| 1 << position);
        let each = || bits.clone().zip(policies);
        let members = |condition: &dyn Fn(&Policy) -> bool| -> Policies {
            each()
                .filter(|(_, policy)| condition(policy))
                .fold(0, |set, (bit, _)| set | bit)
        };
        let to_translated = each()
            .zip(translated)
            .filter(|((_, policy), hop)| hop.is_some_and(|hop| policy.to.contains(hop.interface)))
            .fold(0, |set, ((bit, _), _)| set | bit);
        let ranges = |field: &dyn Fn(&Policy) -> Vec<RangeInclusive<u32>>| {
            Ranges::compile(each().map(|(bit, policy)| (bit, field(policy))))
        };
        Self {
            from: by_interface(|id| members(&|policy| policy.from.contains(id))),
            to: by_interface(|id| {
                let untranslated = |policy: &Policy| policy.destination_nat.is_none();
                to_translated | members(&|policy| untranslated(policy) && policy.to.contains(id))
            }),
            to_translated,
            protocol: ranges(&|policy| {
                of_numbers(&policy.protocols, |n| u32::from(*n)..=u32::from(*n))
            }),
            source: ranges(&|policy| of_numbers(&policy.source, addresses)),
            destination: ranges(&|policy| of_numbers(&policy.destination, addresses)),
            destination_port: ranges(&|policy| {
                of_numbers(&policy.destination_ports, |ports| {
                    u32::from(*ports.start())..=u32::from(*ports.end())
                })
            }),
            portless: members(&|policy| policy.destination_ports.is_empty()),
        }
    }

    /// Position in the block of the first policy that matches.
    pub(super) fn first_match(&self, question: &Question) -> Option<usize> {
        let to = question
            .hop
            .and_then(|hop| self.to.get(hop.interface.index()))
            .unwrap_or(&self.to_translated);
        let mut left = to
            & self.from.get(question.ingress.index())?
            & self.protocol.policies(question.protocol.into());
        // Most blocks are settled by now.
        if left == 0 {
            return None;
        }
        left &= self.source.policies(question.source.to_bits())
            & self.destination.policies(question.destination.to_bits());
        left &= match question.protocol {
            TCP | UDP => self
                .destination_port
                .policies(question.destination_port.into()),
            _ => self.portless,
        };
        (left != 0).then(|| left.trailing_zeros() as usize)
    }
}

/// A value for every interface that there can be.
fn by_interface(members: impl Fn(InterfaceId) -> Policies) -> [Policies; MAX_INTERFACES] {
    let mut ids = 0u8..;
    [(); MAX_INTERFACES].map(|()| members(InterfaceId(ids.next().unwrap_or(u8::MAX))))
}

fn addresses(prefix: &Prefix) -> RangeInclusive<u32> {
    prefix.network().to_bits()..=prefix.broadcast().to_bits()
}

/// The ranges of a condition; an empty one is satisfied by every number.
fn of_numbers<T>(
    condition: &[T],
    range: impl Fn(&T) -> RangeInclusive<u32>,
) -> Vec<RangeInclusive<u32>> {
    match condition {
        [] => vec![0..=u32::MAX],
        some => some.iter().map(range).collect(),
    }
}

/// Which policies each value of a field satisfies: constant from one start to the next.
#[derive(Debug)]
struct Ranges {
    /// Ascending; the first is zero.
    starts: Box<[u32]>,
    policies: Box<[Policies]>,
}

impl Ranges {
    /// From the bit of each policy and the values that satisfy it.
    fn compile(conditions: impl Iterator<Item = (Policies, Vec<RangeInclusive<u32>>)>) -> Self {
        // Where policies begin or cease to be satisfied.
        let mut changes = BTreeMap::from([(0, 0)]);
        for (bit, ranges) in conditions {
            for range in merged(ranges) {
                *changes.entry(*range.start()).or_default() ^= bit;
                if let Some(after) = range.end().checked_add(1) {
                    *changes.entry(after).or_default() ^= bit;
                }
            }
        }
        let satisfied = changes.values().scan(0, |policies, change| {
            *policies ^= change;
            Some(*policies)
        });
        Self {
            policies: satisfied.collect(),
            starts: changes.into_keys().collect(),
        }
    }

    fn policies(&self, value: u32) -> Policies {
        // Most fields are what no policy asks about.
        if let [all] = *self.policies {
            return all;
        }
        let after = self.starts.partition_point(|start| *start <= value);
        // Never before the first start, which is zero.
        self.policies[after.wrapping_sub(1)]
    }
}

/// The same values in ranges that neither overlap nor touch, ascending.
fn merged(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                let end = *last.end().max(range.end());
                *last = *last.start()..=end;
            }
            _ => merged.push(range),
        }
    }
    merged
}
