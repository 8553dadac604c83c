//! What two configurations mean differently, and the hash of what a cluster must agree on.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::facts::{Fact, Scope, facts};
use crate::model::Config;

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// On reload, for the next packet.
    Live,
    /// When the unit is started again.
    Restart,
}

/// One key whose meaning changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `unit.priority` or `policy[out].action`.
    pub key: String,
    /// The meaning before; none when the key is new.
    pub from: Option<String>,
    /// The meaning after; none when the key is gone.
    pub to: Option<String>,
    /// When it takes effect.
    pub effect: Effect,
}

/// What `new` means differently from `old`: changed and new keys in the order of the schema, then
/// those that are gone.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (facts(old), facts(new));
    let value = |facts: &[Fact]| -> BTreeMap<String, String> {
        facts
            .iter()
            .map(|fact| (fact.key.clone(), fact.value.clone()))
            .collect()
    };
    let (old_values, new_values) = (value(&before), value(&after));
    let changed = after
        .iter()
        .filter(|fact| old_values.get(&fact.key) != Some(&fact.value));
    let gone = before
        .iter()
        .filter(|fact| !new_values.contains_key(&fact.key));
    changed
        .chain(gone)
        .map(|fact| Change {
            key: fact.key.clone(),
            from: old_values.get(&fact.key).cloned(),
            to: new_values.get(&fact.key).cloned(),
            effect: fact.effect,
        })
        .collect()
}

/// Parts that may say nothing. They are parts all the same, so that two units have the same ones.
const OPTIONAL_PARTS: [&str; 6] = [
    "cluster.acked_timeout",
    "witness.lease",
    "monitor",
    "route",
    "limits.half_open",
    "limits.per_source",
];

/// The part of a fact: its key, or the list that it stands in.
fn part_of(key: &str) -> &str {
    let key = key.strip_prefix("order of ").unwrap_or(key);
    key.split_once('[').map_or(key, |(list, _)| list)
}

impl Config {
    /// What [`Config::hash`] consists of: the name of each key, and of each list, with a hash of what it says.
    /// Two configurations have different hashes exactly when they differ in one of these, but for collisions.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, u32)> {
        let mut parts: BTreeMap<String, Sha256> = BTreeMap::new();
        for name in OPTIONAL_PARTS {
            parts.entry(name.to_owned()).or_default();
        }
        for fact in shared_facts(self) {
            let part = parts.entry(part_of(&fact.key).to_owned()).or_default();
            part.update(spelled(&fact));
        }
        let parts = parts.into_iter();
        parts
            .map(|(name, hash)| {
                let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
                (name, u32::from_be_bytes([a, b, c, d]))
            })
            .collect()
    }

    /// A hash of everything that all units of the cluster must agree on: the same for two files
    /// that mean the same, whatever their spelling, and different for two that do not.
    ///
    /// What is a unit's own has no part in it: id, name, priority, cores, memory, devices, unit
    /// addresses and management.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Sha256::new();
        for fact in shared_facts(self) {
            hash.update(spelled(&fact));
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_at(8);
        first
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// What all units of the cluster must agree on.
fn shared_facts(config: &Config) -> impl Iterator<Item = Fact> {
    let facts = facts(config).into_iter();
    facts.filter(|fact| fact.scope == Scope::Cluster)
}

/// A fact as it is hashed. Neither a key nor a value can hold these control characters.
fn spelled(fact: &Fact) -> String {
    format!("{}\u{1f}{}\u{1e}", fact.key, fact.value)
}
