//! What was acknowledged is kept, ports are given once, and all tables end equal.

use std::collections::BTreeMap;

use cluster::{Boot, Delta, Node};
use packet::Tuple;
use session::{Session, Version};

use crate::workers::Happened;
use crate::world::World;

/// What a unit told its peers, in its order.
type Told = Vec<(Tuple, Version)>;

#[derive(Debug, Default)]
struct Writer {
    told: Told,
    /// By peer: its start, and up to where in `told` it has promised to keep all.
    promised: Vec<Option<(Boot, usize)>>,
}

#[derive(Debug)]
pub(super) struct Sessions {
    writers: Vec<Writer>,
    /// By unit: what it said that it holds.
    held: Vec<BTreeMap<Tuple, Version>>,
    /// Sessions that some worker ended, with the highest version that it ended.
    ended: BTreeMap<Tuple, Version>,
    /// By unit: sessions that it has not because another has one of their tuples, in a later version: two
    /// primaries that did not hear each other had gone different ways.
    superseded: Vec<BTreeMap<Tuple, Version>>,
    /// By unit: what others told it that were not synced with its primary. That may not have it yet.
    late: Vec<BTreeMap<Tuple, Version>>,
}

impl Sessions {
    pub(super) fn new(units: usize) -> Self {
        let writer = || Writer {
            told: Vec::new(),
            promised: vec![None; units],
        };
        Self {
            writers: (0..units).map(|_| writer()).collect(),
            held: vec![BTreeMap::new(); units],
            ended: BTreeMap::new(),
            superseded: vec![BTreeMap::new(); units],
            late: vec![BTreeMap::new(); units],
        }
    }

    pub(super) fn started(&mut self, unit: usize) {
        self.writers[unit].told.clear();
        self.writers[unit].promised.fill(None);
        self.held[unit].clear();
        self.superseded[unit].clear();
        self.late[unit].clear();
    }

    pub(super) fn pushed(&mut self, unit: usize, changes: &[(u16, Delta)]) {
        let upserts = changes.iter().filter_map(|(_, delta)| match delta {
            Delta::Upsert { session, .. } => Some((session.tuples[0], session.version)),
            Delta::Remove { .. } => None,
        });
        self.writers[unit].told.extend(upserts);
    }

    /// Notes what each peer that has the same primary acknowledged to this unit, and that it has it.
    pub(super) fn acknowledged(world: &mut World, writer: usize) {
        let told = world.checks.sessions.writers[writer].told.len();
        if !world.options.session_sync || told == 0 {
            return;
        }
        for index in (0..world.units.len()).filter(|index| *index != writer) {
            let peer = &world.units[index];
            let (Some(boot), Some(node)) = (peer.boot(), &world.units[writer].node) else {
                continue;
            };
            let lag = node.synchronisation().lag(peer.id);
            let lacks = lag.segments + lag.deltas + u64::from(lag.dirty);
            if lacks > 0 || !agree(world, writer, index) || !has_all_of_primary(world, index) {
                continue;
            }
            let copied = !world.options.is_shared() || world.units[writer].is_primary();
            let promised = &mut world.checks.sessions.writers[writer].promised[index];
            let before = promised.replace((boot, told));
            let same = before.filter(|(before, _)| *before == boot);
            // What an owner told before it first heard the peer, that has only from the primary.
            let first = if copied { 0 } else { told };
            Self::promise(world, writer, index, same.map_or(first, |(_, from)| from));
        }
    }

    fn promise(world: &mut World, writer: usize, peer: usize, from: usize) {
        let sessions = &world.checks.sessions;
        let fresh: Told = sessions.writers[writer].told[from..].to_vec();
        for (tuple, version) in fresh {
            let over = |unit| world.checks.sessions.is_over(unit, &tuple, version);
            if over(peer) || over(writer) {
                continue;
            }
            let held = world.units[peer].workers.version(&tuple);
            assert!(
                held.is_some_and(|held| held >= version),
                "unit {} acknowledged {tuple:?} to unit {} and does not have it",
                peer + 1,
                writer + 1
            );
            let promise = world.checks.sessions.held[peer].entry(tuple).or_default();
            *promise = version.max(*promise);
        }
    }

    /// A unit was told of a change.
    pub(super) fn told(world: &mut World, unit: usize, from: usize, delta: &Delta) {
        if let Delta::Upsert { session, .. } = delta
            && !agree(world, unit, from)
        {
            let late = &mut world.checks.sessions.late[unit];
            late.insert(session.tuples[0], session.version);
        }
    }

    fn has_ended(&self, tuple: &Tuple, version: Version) -> bool {
        self.ended.get(tuple).is_some_and(|ended| *ended >= version)
    }

    /// Whether a unit need not have a session: it ended, or gave way to another one.
    fn is_over(&self, unit: usize, tuple: &Tuple, version: Version) -> bool {
        let superseded = self.superseded[unit].get(tuple);
        self.has_ended(tuple, version) || superseded.is_some_and(|over| *over >= version)
    }

    fn supersede(&mut self, unit: usize, session: &Session) {
        let version = self.superseded[unit].entry(session.tuples[0]).or_default();
        *version = session.version.max(*version);
        let promised = self.held[unit].get(&session.tuples[0]);
        if promised.is_some_and(|promised| *promised <= session.version) {
            self.held[unit].remove(&session.tuples[0]);
        }
    }

    /// Looks at what a unit's workers did.
    pub(super) fn changed(world: &mut World, unit: usize) {
        for happened in std::mem::take(&mut world.units[unit].workers.happened) {
            world.note(unit, || format!("{happened:?}"));
            match happened {
                Happened::Opened(session) => Self::port_is_free(world, unit, &session),
                Happened::Ended(session) => {
                    let ended = &mut world.checks.sessions.ended;
                    let version = ended.entry(session.tuples[0]).or_default();
                    *version = session.version.max(*version);
                    world.checks.sessions.held[unit].remove(&session.tuples[0]);
                }
                Happened::Yielded(session) => {
                    world.checks.sessions.supersede(unit, &session);
                }
                Happened::Gave(session) => {
                    Self::nothing_acknowledged_is_lost(world, unit, &session)
                }
            }
        }
    }

    /// **Nothing acknowledged is lost.**
    fn nothing_acknowledged_is_lost(world: &mut World, unit: usize, gone: &Session) {
        let tuple = &gone.tuples[0];
        let Some(promised) = world.checks.sessions.held[unit].get(tuple).copied() else {
            return;
        };
        if world.units[unit].workers.version(tuple) >= Some(promised) {
            return;
        }
        let sessions = &world.checks.sessions;
        assert!(
            sessions.is_over(unit, tuple, promised),
            "unit {} acknowledged {tuple:?} in {promised:?} and lost it",
            unit + 1
        );
        world.checks.sessions.held[unit].remove(tuple);
    }

    /// **Nobody's NAT port is used twice.**
    fn port_is_free(world: &World, unit: usize, session: &Session) {
        let [original, reply] = &session.tuples;
        for other in (0..world.units.len()).filter(|other| *other != unit) {
            let Some(holder) = world.units[other].workers.get(reply) else {
                continue;
            };
            let sessions = &world.checks.sessions;
            let (tuple, version) = (&holder.tuples[0], holder.version);
            let late = sessions.late[other].get(tuple) == Some(&version);
            let excused = late || sessions.has_ended(tuple, version);
            assert!(
                tuple == original || excused || !agree(world, unit, other),
                "unit {} gave port {} to {original:?}, which unit {} knows as that of {:?}",
                unit + 1,
                reply.dst_port,
                other + 1,
                tuple
            );
        }
    }

    /// **All tables end equal.**
    pub(super) fn tables_agree(world: &World) {
        let mut primaries = world.units.iter().filter(|unit| unit.serving.is_some());
        let Some(primary) = primaries.next().filter(|_| world.options.session_sync) else {
            return;
        };
        for unit in &world.units {
            let synced = unit.node.as_ref().map(Node::is_synced);
            assert_eq!(synced, Some(true), "unit {} is not synced", unit.id);
            let same = unit.workers.contents() == primary.workers.contents();
            assert!(
                same,
                "units {} and {} hold different sessions",
                unit.id, primary.id
            );
        }
    }
}

/// Whether the primary that a unit follows has nothing that this unit lacks. Who was stopped counts itself as
/// synced until it hears what it missed.
fn has_all_of_primary(world: &World, unit: usize) -> bool {
    let followed = world.units[unit].node.as_ref().and_then(Node::primary);
    let Some((primary, _)) = followed.filter(|(primary, _)| *primary != world.units[unit].id)
    else {
        return followed.is_some();
    };
    world.units[primary.index()]
        .node
        .as_ref()
        .is_some_and(|node| {
            let lag = node.synchronisation().lag(world.units[unit].id);
            lag.segments + lag.deltas + u64::from(lag.dirty) == 0
        })
}

/// Whether two units that hear each other hold the sessions of one primary, each as far as it knows.
fn agree(world: &World, a: usize, b: usize) -> bool {
    let follows = |index: usize| {
        let node = world.units[index].node.as_ref()?;
        node.primary().filter(|_| node.is_synced())
    };
    let knows = |a: usize, b: usize| {
        let start = world.units[a].node.as_ref()?.start_of(world.units[b].id);
        start.filter(|start| world.units[b].boot() == Some(*start))
    };
    world.options.session_sync
        && follows(a).is_some()
        && follows(a) == follows(b)
        && knows(a, b).is_some()
        && knows(b, a).is_some()
        && world.connected(a, b)
}
