//! One unit: its state machine, its workers, its clock, and what may be wrong with it.

use std::collections::VecDeque;
use std::rc::Rc;

use cluster::{Boot, Node, Role, Time, UnitId};
use session::Tick;

use crate::clock::Clock;
use crate::options::MS;
use crate::witness::Courier;
use crate::workers::Workers;

/// How a unit's process gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Running,
    /// Stopped as by SIGSTOP: control core and workers.
    Stopped,
    /// The control core hangs. The workers go on.
    Hanging,
    /// The control core has so much to do that it reads its sockets only so often.
    Slow(u64),
}

impl Pace {
    /// Whether the control core gets on at all.
    pub(crate) const fn turns(self) -> bool {
        matches!(self, Self::Running | Self::Slow(_))
    }
}

/// A frame that waits in a socket: who sent it, on which link, what is in it.
pub(crate) type Waiting = (usize, u8, Rc<Vec<u8>>);

/// What a state machine knows of its own links and workers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) carriers: Vec<bool>,
    pub(crate) forwards: bool,
}

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) id: UnitId,
    pub(crate) node: Option<Node>,
    pub(crate) workers: Workers,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    pub(crate) carriers: Vec<bool>,
    /// Whether the workers forward.
    pub(crate) forwards: bool,
    /// What its state machine was told of both.
    pub(crate) told: Told,
    /// The term in which the workers were told to be primary.
    pub(crate) serving: Option<u32>,
    /// What the workers were told when they looked last: that it is primary.
    pub(crate) sends: bool,
    /// How it speaks to the witness.
    pub(crate) courier: Option<Courier>,
    /// Which of the keys it was given. Only units with the same one are a cluster.
    pub(crate) key: u8,
    pub(crate) starts: u64,
    /// The last term that it was told to serve in, which its driver keeps over starts.
    pub(crate) last_term: u32,
    /// Frames that nobody has read yet.
    pub(crate) socket: VecDeque<Waiting>,
    /// Counts wakes, so that only the latest counts.
    pub(crate) generation: u64,
    /// Turns without a pause.
    pub(crate) turns: u32,
    /// It will die after so many more things that its state machine wants done.
    pub(crate) doomed: Option<u64>,
}

impl Unit {
    pub(crate) fn new(id: UnitId, clock: Clock, links: usize) -> Self {
        Self {
            id,
            node: None,
            workers: Workers::new(id.get(), 1, 0),
            clock,
            pace: Pace::Running,
            carriers: vec![true; links],
            forwards: true,
            told: Told {
                carriers: vec![false; links],
                forwards: false,
            },
            serving: None,
            sends: false,
            courier: None,
            key: 0,
            starts: 0,
            last_term: 0,
            socket: VecDeque::new(),
            generation: 0,
            turns: 0,
            doomed: None,
        }
    }

    pub(crate) fn time(&self, now: u64) -> Time {
        self.clock.at(now)
    }

    pub(crate) fn tick(&self, now: u64) -> Tick {
        Tick(u32::try_from(self.time(now).0 / (100 * MS)).unwrap())
    }

    /// Its control core gets on.
    pub(crate) fn runs(&self) -> bool {
        self.node.is_some() && self.pace.turns()
    }

    /// Its workers do.
    pub(crate) fn works(&self) -> bool {
        self.node.is_some() && self.forwards && self.pace != Pace::Stopped
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.node.as_ref().map(Node::role)
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.role() == Some(Role::Primary)
    }

    pub(crate) fn boot(&self) -> Option<Boot> {
        self.node.as_ref().map(|node| node.settings().boot)
    }
}
