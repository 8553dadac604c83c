//! Address resolution (RFC 826), as a state machine without I/O.
//!
//! Owned by the control core: packets that wait and ARP that arrived go in with a time, requests to
//! send and packets to release come out of [`Resolver::poll`]. What is resolved is published to the
//! workers as [`Neighbours`]. Workers do not report use, so every entry is refreshed before it runs
//! out, and forgotten when the neighbour no longer answers (after RFC 4861 section 7.3).
//!
//! A neighbour that is not known is asked three times within the first half second, because one lost
//! request must not cost a second: after a takeover every user's packets wait for these answers. A
//! neighbour that stays silent under traffic is then asked once a second at most, which is what RFC
//! 1122 section 2.3.2.1 recommends for each destination; it is asked in haste again only after a
//! second in which nobody wanted it.
//!
//! ```text
//!   packet waits            answer                     30 s over
//!  ───────────▶ Incomplete ───────▶ Reachable ─────────────────────▶ Probe ──▶ forgotten
//!                │   ▲              ▲  │ another MAC, unasked         ▲ │ │   after 3 requests
//!     5 requests ▼   │ packets came │  ▼                5 s over      │ │ │
//!            packets discarded      │ Stale ─────────────────────────┘ │ │
//!                │ 1 s over         └───────────────────────────────────┘ ┘ answer
//!                ▼
//!            forgotten
//!
//!  ARP from a stranger to us makes a Stale entry, what the cluster's primary tells a Reachable one.
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::mem;
use std::net::Ipv4Addr;

use packet::Mac;
use session::Tick;

use crate::interface::InterfaceId;
use crate::neighbours::{Neighbour, Neighbours};

/// Bounds and times of a [`Resolver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Neighbours known or asked for at most.
    pub capacity: usize,
    /// Packets that wait for one neighbour at most; the oldest make room.
    pub queue: usize,
    /// Ticks that an answer is believed.
    pub reachable: u32,
    /// Ticks that an address learnt without asking is believed.
    pub stale: u32,
    /// Requests for a neighbour that is not known which are repeated in haste.
    pub hasty: u8,
    /// Ticks after each of these.
    pub hasty_retry: u32,
    /// Requests, after the hasty ones if any, before a neighbour counts as gone.
    pub requests: u8,
    /// Ticks after each of these.
    pub retry: u32,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            capacity: 4_096,
            queue: 16,
            reachable: 30 * Tick::PER_SECOND,
            stale: 5 * Tick::PER_SECOND,
            hasty: 2,
            hasty_retry: Tick::PER_SECOND / 5,
            requests: 3,
            retry: Tick::PER_SECOND,
        }
    }
}

impl ResolverSettings {
    /// Ticks that the neighbour has to answer the request of this number, counted from one.
    const fn pause_after(&self, request: u8) -> u32 {
        if request <= self.hasty {
            self.hasty_retry
        } else {
            self.retry
        }
    }
}

/// What the owner of a [`Resolver`] is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution<P> {
    /// Send an ARP request for this address, to one station if given, to all else.
    Request {
        /// Interface to ask on.
        interface: InterfaceId,
        /// Address in question.
        address: Ipv4Addr,
        /// The station that had it until now.
        to: Option<Mac>,
    },
    /// Send this packet, which waited, to this station.
    Release {
        /// Interface to send it by.
        interface: InterfaceId,
        /// The neighbour.
        mac: Mac,
        /// The packet.
        packet: P,
    },
    /// Drop this packet and count it.
    Discard {
        /// Interface that it was to leave by.
        interface: InterfaceId,
        /// Neighbour that it waited for.
        address: Ipv4Addr,
        /// The packet.
        packet: P,
        /// Why.
        reason: DiscardReason,
    },
}

/// Why a waiting packet is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// The neighbour did not answer: its sender may be told "host unreachable".
    Unreachable,
    /// Too many packets wait for the neighbour; this one is the oldest.
    QueueFull,
    /// Too many neighbours are known or asked for.
    TableFull,
    /// The interface went away.
    Flushed,
}

/// How an address was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A reply addressed to us.
    Reply,
    /// A request for one of our addresses: its sender will want an answer.
    RequestToUs,
    /// The cluster's primary has resolved it, and tells so again and again.
    Told,
    /// Anything else heard on the segment, announcements above all. Changes what is known, but
    /// teaches nothing new.
    Overheard,
}

/// State of an entry, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Asked for, nobody has answered.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Known without having been asked.
    Stale,
    /// In use while it is asked again.
    Probe,
}

/// An entry, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourEntry {
    /// Who; the MAC of an incomplete one means nothing.
    pub neighbour: Neighbour,
    /// What is known of it.
    pub state: NeighbourState,
    /// Ticks since it last said where it is or, while incomplete, since it was first asked.
    pub age: u32,
    /// Packets that wait for it.
    pub waiting: usize,
}

type Key = (InterfaceId, Ipv4Addr);

#[derive(Debug)]
struct Entry<P> {
    state: NeighbourState,
    /// Meaningless while incomplete.
    mac: Mac,
    /// When the neighbour said where it is; while incomplete, when it was first asked.
    confirmed: Tick,
    /// Requests sent in this state; while silent, as if the hasty ones had just been sent.
    requests: u8,
    /// It did not answer in time before, and is only asked on if packets still come for it.
    silent: bool,
    /// When the state is looked at again.
    due: Tick,
    /// Packets that wait; only while incomplete.
    waiting: VecDeque<P>,
}

impl<P> Entry<P> {
    fn neighbour(&self, (interface, address): Key) -> Neighbour {
        Neighbour {
            interface,
            address,
            mac: self.mac,
        }
    }
}

/// All neighbours of a unit, and the packets (of type `P`) that wait for them.
#[derive(Debug)]
pub struct Resolver<P> {
    settings: ResolverSettings,
    entries: HashMap<Key, Entry<P>>,
    timers: BTreeSet<(Tick, Key)>,
    output: VecDeque<Resolution<P>>,
    changed: bool,
}

impl<P> Resolver<P> {
    /// Knows nobody.
    #[must_use]
    pub fn new(settings: ResolverSettings) -> Self {
        Self {
            settings,
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            output: VecDeque::new(),
            changed: false,
        }
    }

    /// A packet waits for a neighbour. It comes out of [`Resolver::poll`] again, at once if the
    /// neighbour is known by now.
    pub fn wait(&mut self, interface: InterfaceId, address: Ipv4Addr, packet: P, now: Tick) {
        let key = (interface, address);
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.state != NeighbourState::Incomplete {
                let mac = entry.mac;
                self.output.push_back(Resolution::Release {
                    interface,
                    mac,
                    packet,
                });
                return;
            }
            entry.waiting.push_back(packet);
            if entry.waiting.len() > self.settings.queue
                && let Some(oldest) = entry.waiting.pop_front()
            {
                self.discard(key, oldest, DiscardReason::QueueFull);
            }
        } else if self.entries.len() < self.settings.capacity {
            let waiting = VecDeque::from([packet]);
            self.ask(key, waiting, now);
        } else {
            self.discard(key, packet, DiscardReason::TableFull);
        }
    }

    /// Asks for a neighbour before any packet needs it, such as a configured gateway.
    pub fn prefetch(&mut self, interface: InterfaceId, address: Ipv4Addr, now: Tick) {
        let key = (interface, address);
        if !self.entries.contains_key(&key) && self.entries.len() < self.settings.capacity {
            self.ask(key, VecDeque::new(), now);
        }
    }

    /// ARP or the primary said that `address` is at `mac`.
    pub fn learn(
        &mut self,
        interface: InterfaceId,
        address: Ipv4Addr,
        mac: Mac,
        evidence: Evidence,
        now: Tick,
    ) {
        if mac.is_group() || mac == Mac::ZERO || address.is_unspecified() {
            return;
        }
        let key = (interface, address);
        let known = self.entries.get(&key).map(|entry| (entry.state, entry.mac));
        let state = match (known, evidence) {
            (None, Evidence::RequestToUs) if self.entries.len() < self.settings.capacity => {
                NeighbourState::Stale
            }
            (None, Evidence::Told) if self.entries.len() < self.settings.capacity => {
                NeighbourState::Reachable
            }
            (None, _) => return,
            (Some((NeighbourState::Reachable, held)), Evidence::Told) if held == mac => {
                // The commonest case by far, for every neighbour every second: its timer looks for itself.
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.confirmed = now;
                }
                return;
            }
            (Some(_), Evidence::Reply | Evidence::Told) => NeighbourState::Reachable,
            // Nothing new: does not prolong anything, or nobody would ever be asked again.
            (Some((state, held)), _) if held == mac && state != NeighbourState::Incomplete => {
                return;
            }
            (Some(_), _) => NeighbourState::Stale,
        };
        self.changed |= known.is_none_or(|(held_state, held)| {
            held != mac || held_state == NeighbourState::Incomplete
        });
        let waiting = self.take_waiting(key);
        let believed = match state {
            NeighbourState::Reachable => self.settings.reachable,
            _ => self.settings.stale,
        };
        self.enter(
            key,
            Entry {
                state,
                mac,
                confirmed: now,
                requests: 0,
                silent: false,
                due: now.plus(believed),
                waiting: VecDeque::new(),
            },
        );
        self.output
            .extend(waiting.into_iter().map(|packet| Resolution::Release {
                interface,
                mac,
                packet,
            }));
    }

    /// Forgets everybody on an interface, such as when its link went down.
    pub fn flush(&mut self, interface: InterfaceId) {
        let keys: Vec<Key> = self
            .entries
            .keys()
            .filter(|key| key.0 == interface)
            .copied()
            .collect();
        for key in keys {
            self.forget(key, DiscardReason::Flushed);
        }
    }

    /// The next thing to do; `None` when there is nothing until [`Resolver::next_deadline`].
    pub fn poll(&mut self, now: Tick) -> Option<Resolution<P>> {
        while self.output.is_empty()
            && let Some((due, key)) = self.timers.first().copied()
            && due <= now
        {
            self.expire(key, now);
        }
        self.output.pop_front()
    }

    /// When [`Resolver::poll`] has something to do by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// The table for the workers if it differs from the one returned last.
    pub fn take_changed(&mut self) -> Option<Neighbours> {
        mem::take(&mut self.changed).then(|| {
            let known: Vec<Neighbour> = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.state != NeighbourState::Incomplete)
                .map(|(key, entry)| entry.neighbour(*key))
                .collect();
            Neighbours::build(&known)
        })
    }

    /// Everybody known or asked for.
    pub fn iter(&self, now: Tick) -> impl Iterator<Item = NeighbourEntry> {
        self.entries.iter().map(move |(key, entry)| NeighbourEntry {
            neighbour: entry.neighbour(*key),
            state: entry.state,
            age: now.since(entry.confirmed),
            waiting: entry.waiting.len(),
        })
    }

    /// Sends the first request for a neighbour.
    fn ask(&mut self, key: Key, waiting: VecDeque<P>, now: Tick) {
        self.enter(
            key,
            Entry {
                state: NeighbourState::Incomplete,
                mac: Mac::ZERO,
                confirmed: now,
                requests: 1,
                silent: false,
                due: now.plus(self.settings.pause_after(1)),
                waiting,
            },
        );
        self.request(key, None);
    }

    /// Puts an entry in place of what was there, its timer included.
    fn enter(&mut self, key: Key, entry: Entry<P>) {
        self.timers.insert((entry.due, key));
        if let Some(old) = self.entries.insert(key, entry) {
            let due = self.entries[&key].due;
            if old.due != due {
                self.timers.remove(&(old.due, key));
            }
        }
    }

    /// The time of an entry is over: ask again, or give up.
    fn expire(&mut self, key: Key, now: Tick) {
        let settings = self.settings;
        let Some(entry) = self.entries.get_mut(&key) else {
            self.timers.pop_first();
            return;
        };
        let believed_until = entry.confirmed.plus(settings.reachable);
        if entry.state == NeighbourState::Reachable && entry.due < believed_until {
            self.timers.remove(&(entry.due, key));
            entry.due = believed_until;
            self.timers.insert((believed_until, key));
            return;
        }
        let unknown = entry.state == NeighbourState::Incomplete;
        let hasty = if unknown { settings.hasty } else { 0 };
        let enough = settings.requests.saturating_add(hasty);
        let unwanted = entry.silent && entry.waiting.is_empty();
        if unwanted || (!unknown && entry.requests >= enough) {
            self.forget(key, DiscardReason::Unreachable);
            return;
        }
        self.timers.remove(&(entry.due, key));
        if entry.requests >= enough {
            entry.silent = true;
            entry.requests = settings.hasty;
            entry.due = now.plus(settings.retry);
            self.timers.insert((entry.due, key));
            for packet in self.take_waiting(key) {
                self.discard(key, packet, DiscardReason::Unreachable);
            }
            return;
        }
        let to = (!unknown).then_some(entry.mac);
        entry.requests += 1;
        let pause = if unknown {
            settings.pause_after(entry.requests)
        } else {
            entry.state = NeighbourState::Probe;
            settings.retry
        };
        entry.due = now.plus(pause);
        self.timers.insert((entry.due, key));
        self.request(key, to);
    }

    fn forget(&mut self, key: Key, reason: DiscardReason) {
        if let Some(entry) = self.entries.remove(&key) {
            self.timers.remove(&(entry.due, key));
            self.changed |= entry.state != NeighbourState::Incomplete;
            for packet in entry.waiting {
                self.discard(key, packet, reason);
            }
        }
    }

    fn take_waiting(&mut self, key: Key) -> VecDeque<P> {
        self.entries
            .get_mut(&key)
            .map(|entry| mem::take(&mut entry.waiting))
            .unwrap_or_default()
    }

    fn request(&mut self, (interface, address): Key, to: Option<Mac>) {
        self.output.push_back(Resolution::Request {
            interface,
            address,
            to,
        });
    }

    fn discard(&mut self, (interface, address): Key, packet: P, reason: DiscardReason) {
        self.output.push_back(Resolution::Discard {
            interface,
            address,
            packet,
            reason,
        });
    }
}

#[cfg(test)]
mod tests;
