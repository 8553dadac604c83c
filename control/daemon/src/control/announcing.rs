//! Announcing until it is heard, and the signal of a unit that ceased to be primary.

use api::EventLevel;
use cluster::{Cause, HandOver, Time};
use forward::{InterfaceId, InterfaceRole};

use super::Control;
use crate::announce::announcements;
use crate::bounce::Bounce;
use crate::host::Outlet;
use crate::silence::{Silence, Step};

impl Control {
    /// Begins to listen for what comes to the virtual MACs.
    pub(super) fn begin_listening(&mut self, now: Time) {
        if let Some(bounce) = &mut self.bounce {
            bounce.cut_short();
        }
        let snapshot = self.snapshot.current();
        let cluster = &self.config.cluster;
        let traffic = (0..)
            .map(InterfaceId)
            .zip(&*snapshot.interfaces)
            .filter(|(_, interface)| interface.role == InterfaceRole::Traffic)
            .filter(|(_, interface)| !interface.cluster_addresses.is_empty());
        let counts = traffic.map(|(id, _)| (id, self.heard_on(id)));
        self.silence = Some(Silence::begin(
            counts,
            cluster.announce_interval * cluster.announce_count,
            cluster.announce_interval,
            now,
        ));
    }

    /// Announces again where nothing has come.
    pub(super) fn announce_until_heard(&mut self, now: Time) {
        let Some(mut silence) = self.silence.take() else {
            return;
        };
        for step in silence.look(|interface| self.heard_on(interface), now) {
            match step {
                Step::Announce(interface) => self.announce_on(interface),
                Step::Silent { interface, since } => {
                    let message = format!(
                        "interface {}: nothing came to the virtual MAC for {} s since the promotion; \
                         announcing goes on",
                        self.name_of(interface),
                        since.as_secs()
                    );
                    self.events
                        .record(now, EventLevel::Info, "announcement", message);
                }
                Step::Heard {
                    interface,
                    since,
                    repeats,
                } => {
                    let message = format!(
                        "interface {}: the promotion was heard after {:.1} s and {repeats} more \
                         announcements",
                        self.name_of(interface),
                        since.as_secs_f64()
                    );
                    self.events
                        .record(now, EventLevel::Info, "announcement", message);
                }
            }
        }
        self.silence = Some(silence);
    }

    /// Samples of frames that came to the virtual MAC of an interface.
    fn heard_on(&self, interface: InterfaceId) -> u64 {
        let workers = self.workers.iter();
        workers
            .map(|worker| worker.counters.virtual_bursts(interface))
            .sum()
    }

    fn announce_on(&mut self, interface: InterfaceId) {
        let snapshot = self.snapshot.current();
        self.counters.announcements_repeated += 1;
        for announcement in announcements(&snapshot.interfaces) {
            if announcement.interface == interface {
                self.counters.announcements_sent += 1;
                self.outgoing.send(interface, &announcement.frame);
            }
        }
    }

    fn name_of(&self, interface: InterfaceId) -> &str {
        &self.config.interfaces[interface.index()].name
    }

    /// This unit ceased to be primary. Where it is so configured the switches are made to forget it, unless
    /// it hands over in order: then it passes on what they still send.
    pub(super) fn signal_failure(&mut self, now: Time) {
        self.silence = None;
        let orderly = |reason| !matches!(reason, HandOver::Health | HandOver::Workers);
        let cause = self.node.transitions().last().map(|last| last.cause);
        if cause
            .is_some_and(|cause| matches!(cause, Cause::Yielded { reason, .. } if orderly(reason)))
        {
            return;
        }
        let sides = self.interfaces.iter().zip(&self.config.interfaces);
        let signals = sides.filter(|(side, interface)| interface.link_failed_signal && side.up);
        let names: Vec<String> = signals
            .filter_map(|(_, interface)| interface.device.kernel_interface().map(str::to_owned))
            .collect();
        if names.is_empty() {
            return;
        }
        let message = format!(
            "taking {} down for a moment, so that the switches forget this unit",
            names.join(", ")
        );
        // An earlier one, if any, ends before: it would take up what this one takes down.
        self.bounce = None;
        match Bounce::begin(names, &self.config.management.socket) {
            Ok(bounce) => {
                self.counters.link_failed_signals += 1;
                self.events.record(now, EventLevel::Info, "link", message);
                self.bounce = Some(bounce);
            }
            Err(error) => {
                let message = format!("{message}: {error:#}");
                self.events.record(now, EventLevel::Error, "link", message);
            }
        }
    }
}
