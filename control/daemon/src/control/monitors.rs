//! Asking the monitors' hosts, and telling the cluster's state machine what became of it.

use api::EventLevel;
use cluster::{LinkId, Time};
use forward::Punted;

use super::Control;
use crate::clock::tick;
use crate::host::Outlet;
use crate::monitor::{Answer, Monitor};

impl Control {
    /// Asks whom it is time to ask.
    pub(super) fn ask_monitors(&mut self, now: Time) {
        for index in 0..self.monitors.len() {
            let before = self.monitors[index].is_up();
            if !self.monitors[index].is_due(now) {
                continue;
            }
            self.send_question(index, now);
            self.judge_monitor(index, before, now);
        }
    }

    fn send_question(&mut self, index: usize, now: Time) {
        let monitor = &self.monitors[index];
        let snapshot = self.snapshot.current();
        let Some(interface) = snapshot.interface(monitor.interface) else {
            return;
        };
        let address = interface.unit_address.map(|own| own.address);
        let Some(question) = monitor.question(interface.mac, address) else {
            return;
        };
        self.counters.monitor_questions += 1;
        if !monitor.needs_neighbour() {
            self.outgoing.send(monitor.interface, &question);
        } else if let Some(mbuf) = self.outgoing.buffer(&question) {
            self.host
                .resolver
                .wait(monitor.interface, monitor.target, mbuf, tick(now));
        }
    }

    /// A frame for this core may be the answer of a monitor's host.
    pub(super) fn hear_monitors(&mut self, punted: &Punted, now: Time) {
        if self.monitors.is_empty() {
            return;
        }
        let Some(answer) = Answer::of(punted) else {
            return;
        };
        for index in 0..self.monitors.len() {
            let before = self.monitors[index].is_up();
            self.monitors[index].hear(answer);
            self.judge_monitor(index, before, now);
        }
    }

    /// Tells of a monitor that changed.
    fn judge_monitor(&mut self, index: usize, before: bool, now: Time) {
        let monitor = &self.monitors[index];
        let up = monitor.is_up();
        if up == before {
            return;
        }
        let Monitor { name, target, .. } = monitor;
        let (level, message) = if up {
            (
                EventLevel::Info,
                format!("monitor {name}: {target} answers"),
            )
        } else {
            (
                EventLevel::Warning,
                format!("monitor {name}: {target} does not answer"),
            )
        };
        self.events.record(now, level, "monitor", message);
        self.tell_monitor(index, now);
    }

    /// Monitors are links of the cluster behind those that are interfaces.
    pub(super) fn tell_monitor(&mut self, index: usize, now: Time) {
        if let Ok(link) = u8::try_from(self.links.len() + index) {
            let up = self.monitors[index].is_up();
            self.node.handle_link(LinkId(link), up, now);
        }
    }
}
