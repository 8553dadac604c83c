//! Several units on the same segments, each a gateway of its own, with a switch between them and the
//! changes of their sessions on the way from one to the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use forward::{
    DeltaKind, Distribution, Duty, InterfaceId, Limits, Member, Pick, Policy, TableCommand,
};
use packet::{Mac, Tuple, ethernet};
use session::Session;

use super::frames::{macs, to_mac};
use super::{Gateway, LAN, Plan, TERM, WAN, virtual_mac};

/// A unit's own MAC on an interface.
pub fn own_mac(unit: u8, interface: InterfaceId) -> Mac {
    Mac([2, 0x11, 0, 0, unit, interface.0])
}

/// Ticks that a change leaves a session: what its state gives it, at the most.
const REMAINING: u32 = u32::MAX;

/// How the units of a test are made.
pub struct Site {
    /// How many workers units 1, 2, … have.
    pub workers: Vec<u16>,
    pub pick: Pick,
    pub slots: Vec<u8>,
    pub policies: Vec<Policy>,
}

/// The units, of which the first is primary unless told otherwise.
pub struct Units {
    units: BTreeMap<u8, Gateway>,
    pub primary: u8,
    pub pick: Pick,
    pub slots: Vec<u8>,
    /// Units that are alive but own nothing.
    pub excused: Vec<u8>,
    pub duties: BTreeMap<u8, Duty>,
    /// The unit that switches send frames to the virtual MACs to, if not the primary.
    pub switched: Option<u8>,
    /// Changes under way, in order, by unit that told and unit that is to hear.
    under_way: BTreeMap<(u8, u8), VecDeque<TableCommand>>,
    /// Frames that reached hosts, by interface.
    delivered: BTreeMap<InterfaceId, Vec<Vec<u8>>>,
    /// How often each payload went from unit to unit.
    pub passed: BTreeMap<Vec<u8>, usize>,
}

impl Units {
    pub fn new(site: Site) -> Self {
        let ids = 1..=u8::try_from(site.workers.len()).unwrap();
        let gateway = |(unit, workers): (u8, u16)| {
            let mut plan = Plan {
                unit,
                workers,
                duty: Duty::Idle,
                policies: site.policies.clone(),
                limits: Limits::default(),
                ..Plan::default()
            };
            for (id, interface) in (0..).map(InterfaceId).zip(&mut plan.interfaces) {
                interface.mac = own_mac(unit, id);
            }
            (unit, Gateway::new(plan))
        };
        let mut units = Self {
            units: ids.zip(site.workers.iter().copied()).map(gateway).collect(),
            primary: 1,
            pick: site.pick,
            slots: site.slots,
            excused: Vec::new(),
            duties: BTreeMap::new(),
            switched: None,
            under_way: BTreeMap::new(),
            delivered: BTreeMap::new(),
            passed: BTreeMap::new(),
        };
        units.publish(TERM);
        units
    }

    /// Two units with one worker each, where `owner` gets all new sessions.
    pub fn pair(owner: u8, policies: Vec<Policy>) -> Self {
        Self::new(Site {
            workers: vec![1, 1],
            pick: Pick::InTurn,
            slots: vec![owner],
            policies,
        })
    }

    pub fn unit(&mut self, unit: u8) -> &mut Gateway {
        self.units.get_mut(&unit).unwrap()
    }

    pub fn gateway(&self, unit: u8) -> &Gateway {
        &self.units[&unit]
    }

    /// Tells all units that are alive what each of them does, and who owns.
    pub fn publish(&mut self, term: u32) {
        let members = self.units.keys().map(|&unit| Member {
            unit,
            owns: !self.excused.contains(&unit),
            stations: [LAN, WAN].map(|id| Some(own_mac(unit, id))).to_vec(),
            sources: [LAN, WAN].map(|id| Some(own_mac(unit, id))).to_vec(),
        });
        let distribution = Arc::new(Distribution {
            pick: self.pick,
            slots: self.slots.clone(),
            members: members.collect(),
        });
        let primary = self.primary;
        for (&unit, gateway) in &mut self.units {
            let usual = match unit == primary {
                true => Duty::Primary,
                false => Duty::Owner { primary },
            };
            let duty = self.duties.get(&unit).copied().unwrap_or(usual);
            let next = gateway
                .snapshot
                .current()
                .with_duty(duty, term)
                .with_distribution(Arc::clone(&distribution));
            gateway.snapshot.publish(next);
        }
    }

    /// Gives out the slots anew.
    pub fn deal(&mut self, slots: Vec<u8>) {
        self.slots = slots;
        self.publish(TERM);
    }

    /// A unit dies, with everything that it has not told. What it told still arrives.
    pub fn kill(&mut self, unit: u8) {
        self.units.remove(&unit);
        self.slots.retain(|slot| *slot != unit);
        if self.slots.is_empty() {
            self.slots.push(self.primary);
        }
        self.publish(TERM);
    }

    /// A host sends a frame. To the virtual MAC that is, unless it was addressed otherwise.
    pub fn send(&mut self, interface: InterfaceId, frame: &[u8]) {
        self.deliver(interface, None, frame.to_vec());
    }

    /// Lets all units work until nothing happens any more. Changes of sessions stay under way.
    pub fn run(&mut self) {
        for _ in 0..32 {
            let ids: Vec<u8> = self.units.keys().copied().collect();
            let mut frames = 0;
            for unit in ids {
                self.unit(unit).turn();
                frames += self.switch(unit);
            }
            if frames == 0 {
                return;
            }
        }
        panic!("the units pass packets to each other for ever");
    }

    /// A unit's first worker makes one turn, and what it sends arrives.
    pub fn turn_once(&mut self, unit: u8) {
        let gateway = self.unit(unit);
        let now = gateway.now;
        gateway.workers[0].turn(now);
        self.switch(unit);
    }

    /// [`Units::run`], and every change of a session arrives.
    pub fn settle(&mut self) {
        for _ in 0..32 {
            self.run();
            self.collect();
            if self.under_way.values().all(VecDeque::is_empty) {
                return;
            }
            let pairs: Vec<_> = self.under_way.keys().copied().collect();
            for (from, to) in pairs {
                while self.tell(from, to) {}
            }
        }
        panic!("the units tell each other changes for ever");
    }

    /// Time passes for all.
    pub fn pass(&mut self, ticks: u32) {
        for gateway in self.units.values_mut() {
            gateway.pass(ticks);
        }
    }

    /// What hosts got on a segment.
    pub fn got(&mut self, interface: InterfaceId) -> Vec<Vec<u8>> {
        self.delivered.remove(&interface).unwrap_or_default()
    }

    /// Sends a frame, and returns what comes out on another segment.
    pub fn through(&mut self, from: InterfaceId, frame: &[u8], to: InterfaceId) -> Vec<Vec<u8>> {
        self.send(from, frame);
        self.run();
        self.got(to)
    }

    /// Takes the changes that units have reported.
    pub fn collect(&mut self) {
        let ids: Vec<u8> = self.units.keys().copied().collect();
        for &unit in &ids {
            let gateway = self.units.get_mut(&unit).unwrap();
            for (shard, rings) in gateway.control.iter_mut().enumerate() {
                while let Ok(notice) = rings.deltas.pop() {
                    let command = match notice.kind {
                        DeltaKind::Remove => TableCommand::Retract(notice.tuple, notice.version),
                        DeltaKind::Begin | DeltaKind::Upsert => {
                            match gateway.readers[shard].get(notice.id) {
                                Some(session) if session.tuples[0] == notice.tuple => {
                                    assert!(!session.is_provisional(), "nobody hears of these");
                                    TableCommand::Apply(session, REMAINING)
                                }
                                _ => continue,
                            }
                        }
                    };
                    for &other in ids.iter().filter(|other| **other != unit) {
                        let wire = self.under_way.entry((unit, other)).or_default();
                        wire.push_back(command);
                    }
                }
            }
        }
    }

    /// The oldest change under way from a unit arrives, at all others at once: frames are multicast.
    pub fn tell_all(&mut self, from: u8) {
        let ids: Vec<u8> = self.units.keys().copied().collect();
        for to in ids {
            self.tell(from, to);
        }
    }

    /// The oldest change under way from one unit to another arrives. False when there is none.
    pub fn tell(&mut self, from: u8, to: u8) -> bool {
        let wire = self.under_way.get_mut(&(from, to));
        let Some(command) = wire.and_then(VecDeque::pop_front) else {
            return false;
        };
        if let Some(gateway) = self.units.get_mut(&to) {
            let tuple = match &command {
                TableCommand::Apply(session, _) => session.tuples[0],
                TableCommand::Retract(tuple, _) => *tuple,
                other => panic!("{other:?} is not told"),
            };
            let home = gateway.snapshot.current().home_of(&tuple);
            let commands = &mut gateway.control[usize::from(home)].commands;
            commands.push(command).unwrap();
        }
        true
    }

    /// The session of a tuple, as a unit has it.
    pub fn session(&self, unit: u8, tuple: &Tuple) -> Option<Session> {
        self.units[&unit].session(tuple)
    }

    /// Takes what a unit has sent to where it belongs; returns how many frames.
    pub fn switch(&mut self, unit: u8) -> usize {
        let mut frames = 0;
        for interface in [LAN, WAN] {
            for frame in self.unit(unit).sent(interface) {
                frames += 1;
                let (_, source) = macs(&frame);
                let own = source == own_mac(unit, interface);
                let shared = unit == self.primary && source == virtual_mac(interface);
                assert!(own || shared, "unit {unit} sends from {source}");
                self.deliver(interface, Some(unit), frame);
            }
        }
        frames
    }

    fn deliver(&mut self, interface: InterfaceId, from: Option<u8>, frame: Vec<u8>) {
        let (destination, _) = macs(&frame);
        let to = match destination == virtual_mac(interface) {
            true => Some(self.switched.unwrap_or(self.primary)),
            false => (1..=16).find(|unit| destination == own_mac(*unit, interface)),
        };
        match to {
            Some(to) => {
                if from.is_some() {
                    let payload = frame[frame.len().saturating_sub(4)..].to_vec();
                    *self.passed.entry(payload).or_default() += 1;
                }
                if let Some(gateway) = self.units.get_mut(&to) {
                    let queue = queue(gateway, &frame);
                    gateway.send_to(queue, interface, &frame);
                }
            }
            None => self.delivered.entry(interface).or_default().push(frame),
        }
    }
}

/// The worker that a NIC gives a frame to.
fn queue(gateway: &Gateway, frame: &[u8]) -> usize {
    let ip = frame[12..14] == ethernet::TYPE_IPV4.to_be_bytes();
    let layout = packet::parse(frame).ok().filter(|_| ip);
    layout.map_or(0, |layout| {
        gateway.snapshot.current().home_of(&layout.tuple).into()
    })
}

/// A frame that a host sends to a unit's own MAC.
pub fn to_unit(unit: u8, interface: InterfaceId, frame: Vec<u8>) -> Vec<u8> {
    to_mac(frame, own_mac(unit, interface))
}
