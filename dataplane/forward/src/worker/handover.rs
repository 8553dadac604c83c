//! A planned hand-over, as the workers of both units see it: no packet is lost, and none overtakes
//! another of its session.
//!
//! ```text
//!  the old primary (relay)                  its successor
//!  marker: relay begins ─────────────────▶  owner: processes what comes at once
//!  everything to the virtual MAC ────────▶
//!                                           promoted: announces, and holds what the switch sends it
//!  … the last that the switch sent here ─▶  directly
//!  hears the announcement
//!  marker: the switch has moved ─────────▶  lets go what it held, in order
//! ```
//!
//! Frames of one queue stay in order: so with one queue per port all that the switch had sent to the old
//! primary precedes the second marker. With several, what their workers still have may come later than
//! what was held; and where no marker comes, holding ends after [`HOLD_NS`].
//!
//! What is held is bounded: when there are [`HELD`] frames, holding ends. They are let go at a pace that a
//! transmit queue can take, and what arrives meanwhile waits behind them.

use std::collections::VecDeque;

use dpdk::{Burst, Mbuf};
use packet::{Mac, ethernet};
use zerocopy::FromBytes;

use super::{Core, Origin, Scene};
use crate::counters::Event;
use crate::distribution::Duty;
use crate::interface::{InterfaceId, InterfaceRole, InterfaceSet};
use crate::port::PortIo;
use crate::relays::Marker;
use crate::snapshot::Snapshot;

/// How long frames are held at the most: twenty milliseconds.
const HOLD_NS: u64 = 20_000_000;
/// So many frames held by a worker end the holding.
const HELD: usize = 1_024;
/// Room for them, and for those behind which come until they have left. What finds none goes first:
/// out of order is better than not at all.
const ROOM: usize = HELD + 4 * Burst::CAPACITY;
/// How many are let go in a turn.
const RELEASED_PER_TURN: usize = 2 * Burst::CAPACITY;

/// A worker's part in a hand-over.
pub(super) struct Handover {
    duty: Duty,
    /// When this unit was promoted, and when holding ends; zero when nothing is held.
    promoted: u64,
    deadline: u64,
    held: VecDeque<(InterfaceId, Mbuf)>,
    /// Interfaces on which the announcement of the successor was seen, and was told of.
    announced: InterfaceSet,
    told: InterfaceSet,
}

impl Handover {
    pub(super) fn new() -> Self {
        Self {
            duty: Duty::Idle,
            promoted: 0,
            deadline: 0,
            held: VecDeque::with_capacity(ROOM),
            announced: InterfaceSet::NONE,
            told: InterfaceSet::NONE,
        }
    }

    /// True when bursts are to be looked at frame by frame.
    #[inline]
    pub(super) const fn is_active(&self) -> bool {
        self.deadline != 0 || matches!(self.duty, Duty::Relay { .. })
    }

    /// True while frames that come to the virtual MAC directly may overtake relayed ones.
    fn holds(&self, scene: &Scene<'_>, interface: InterfaceId) -> bool {
        scene.now.nanos < self.deadline && scene.snapshot.relays().is_open(interface, self.promoted)
    }

    /// The announcement of the virtual MAC's new place was seen on an interface.
    pub(super) fn hear(&mut self, interface: InterfaceId) {
        self.announced = self.announced.with(interface);
    }
}

impl<P: PortIo> Core<P> {
    /// Begins what another duty brings with it.
    #[cold]
    pub(super) fn change_duty(&mut self, scene: &Scene<'_>) {
        let (duty, now) = (scene.snapshot.duty, scene.now.nanos);
        let before = std::mem::replace(&mut self.handover.duty, duty);
        match (before, duty) {
            (Duty::Owner { .. }, Duty::Primary) => {
                self.handover.promoted = now;
                self.handover.deadline = now.saturating_add(HOLD_NS);
            }
            (Duty::Primary, Duty::Primary) => {}
            (_, Duty::Relay { .. }) if before != duty => {
                (self.handover.announced, self.handover.told) =
                    (InterfaceSet::NONE, InterfaceSet::NONE);
                if self.index == 0 {
                    self.mark_all(scene, Marker::Begins);
                }
            }
            // What is still held goes the way of all frames.
            _ if self.handover.deadline != 0 => self.handover.deadline = now,
            _ => {}
        }
    }

    /// [`Core::receive`] during a hand-over, for the frames of one burst.
    #[inline(never)]
    pub(super) fn receive_in_handover(
        &mut self,
        scene: &Scene<'_>,
        interface: InterfaceId,
        burst: &mut Burst,
    ) {
        let shared = scene
            .snapshot
            .interface(interface)
            .and_then(|here| here.virtual_mac)
            .filter(|_| !self.handover.held.is_empty() || self.handover.holds(scene, interface));
        for mbuf in burst.drain() {
            match shared == Some(destination(&mbuf)) {
                true if self.handover.held.len() < ROOM => self.hold(scene, interface, mbuf),
                _ => self.parse(scene, Origin::Port, interface, std::iter::once(mbuf)),
            }
        }
        self.run(scene, Origin::Port);
        // Behind all that came before the announcement.
        if self.handover.announced != self.handover.told {
            self.handover.told = self.handover.announced;
            self.mark(scene, interface, Marker::Moved);
        }
    }

    fn hold(&mut self, scene: &Scene<'_>, interface: InterfaceId, mbuf: Mbuf) {
        if self.handover.held.len() >= HELD && self.handover.deadline > scene.now.nanos {
            self.counters.happened(Event::HoldsEnded);
            self.handover.deadline = scene.now.nanos;
        }
        self.counters.happened(Event::Held);
        self.handover.held.push_back((interface, mbuf));
    }

    /// Lets go what need not be held any longer, in order.
    #[inline(never)]
    pub(super) fn let_go(&mut self, scene: &Scene<'_>) -> usize {
        let mut released = 0;
        for _ in 0..self.handover.held.len() {
            let Some((interface, mbuf)) = self.handover.held.pop_front() else {
                break;
            };
            if released == RELEASED_PER_TURN || self.handover.holds(scene, interface) {
                self.handover.held.push_back((interface, mbuf));
                continue;
            }
            let frame = std::iter::once(mbuf);
            self.parse(scene, Origin::Port, interface, frame);
            released += 1;
            if released % Burst::CAPACITY == 0 {
                self.run(scene, Origin::Port);
            }
        }
        if released % Burst::CAPACITY != 0 {
            self.run(scene, Origin::Port);
        }
        if self.handover.held.is_empty() && scene.now.nanos >= self.handover.deadline {
            self.handover.deadline = 0;
        }
        released
    }

    /// Marks a place in what is passed on by each interface.
    fn mark_all(&mut self, scene: &Scene<'_>, marker: Marker) {
        for index in 0..scene.snapshot.interfaces.len() {
            let interface = InterfaceId(u8::try_from(index).unwrap_or(u8::MAX));
            self.mark(scene, interface, marker);
        }
    }

    /// Sends a marker to the successor behind what was passed to it. Without a buffer for it, holding
    /// ends by itself.
    fn mark(&mut self, scene: &Scene<'_>, interface: InterfaceId, marker: Marker) {
        let Some(frame) = marker_frame(scene.snapshot, interface, marker) else {
            return;
        };
        if let Some(mut mbuf) = self.pool.allocate()
            && mbuf.copy_from_slice(&frame)
            && self.egress.send(interface, mbuf)
        {
            self.counters.happened(Event::MarkersSent);
        }
    }

    /// Takes a marker that another unit sent.
    pub(super) fn take_marker(
        &mut self,
        scene: &Scene<'_>,
        interface: InterfaceId,
        marker: Marker,
    ) {
        self.counters.happened(Event::MarkersTaken);
        let nanos = scene.now.nanos;
        scene.snapshot.relays().note(marker, interface, nanos);
    }
}

fn marker_frame(
    snapshot: &Snapshot,
    interface: InterfaceId,
    marker: Marker,
) -> Option<[u8; ethernet::MIN_FRAME]> {
    let Duty::Relay { to } = snapshot.duty else {
        return None;
    };
    let here = snapshot.interface(interface)?;
    let station = snapshot.sharing().station(to, interface)?;
    (here.role == InterfaceRole::Traffic).then(|| {
        marker.frame(
            (snapshot.unit, here.mac),
            (to, station),
            snapshot.heartbeat_ethertype,
        )
    })
}

fn destination(mbuf: &Mbuf) -> Mac {
    let header = ethernet::Header::ref_from_prefix(mbuf.data());
    header.map_or(Mac::ZERO, |(header, _)| header.destination)
}
