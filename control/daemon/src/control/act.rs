//! What the cluster's state machine wants done.

use std::net::IpAddr;
use std::sync::Arc;

use api::EventLevel;
use cluster::{Action, Delta, Event, Role, Time, sync};
use config::NextHop;
use forward::{Distribution, Duty, Evidence, NeighbourState, TableCommand};

use super::Control;
use crate::announce::announcements;
use crate::clock::tick;
use crate::host::Outlet;
use crate::plan::{self, interface_id};

impl Control {
    pub(super) fn act(&mut self, now: Time) {
        while let Some(action) = self.node.poll(&self.table, now) {
            // Frames that come one behind the other go together; none waits for anything else.
            if !matches!(action, Action::Send { .. }) {
                self.outgoing.flush();
            }
            match action {
                Action::Send { link, payload } => {
                    let Some(&interface) = self.links.get(link.index()) else {
                        continue;
                    };
                    let mac = self.interfaces[interface.index()].port.mac();
                    let ether_type = self.config.cluster.ether_type.to_be_bytes();
                    let pieces = [&self.multicast.0[..], &mac, &ether_type, &payload];
                    self.outgoing.send_pieces(interface, &pieces);
                }
                Action::Promote { term } => self.promote(term, now),
                Action::Demote { role, term } => {
                    self.signal_failure(now);
                    self.tell_transition(role, term, now);
                }
                Action::RoleChanged { role, term } => self.tell_transition(role, term, now),
                Action::Duty { duty, term } => self.take_duty(plan::duty(duty), term, now),
                Action::Distribute(distribution) => self.distribute(&distribution, now),
                Action::Neighbours { entries, .. } => self.learn_neighbours(&entries, now),
                Action::Announce => self.announce(),
                Action::Lease(wish) => self.wish(wish),
                Action::Apply { delta, .. } => self.apply(delta),
                Action::Restate { tuple } => {
                    let home = self.snapshot.current().home_of(&tuple);
                    self.command(usize::from(home), TableCommand::Restate(tuple));
                }
                Action::Event(event) => {
                    self.events
                        .record(now, level(&event), kind(&event), self.describe(&event));
                }
                Action::Left => self.left = true,
            }
        }
        self.outgoing.flush();
        self.push_deferred();
    }

    /// Publishes what the workers do. A unit that relays still gets what switches send to the virtual MACs.
    /// What they are primary in is kept first.
    fn take_duty(&mut self, duty: Duty, term: u32, now: Time) {
        if duty == Duty::Primary
            && let Err(error) = self.last_term.keep(term)
        {
            let message = format!("the term {term} is not kept for the next start: {error}");
            self.events
                .record(now, EventLevel::Warning, "last_term", message);
        }
        let snapshot = self.snapshot.current().with_duty(duty, term);
        self.snapshot.publish(snapshot);
        let receives = matches!(duty, Duty::Primary | Duty::Relay { .. });
        self.filter_virtual_macs(receives, now);
    }

    /// Publishes which unit gets which new session, and where units are reached.
    fn distribute(&mut self, distribution: &cluster::Distribution, now: Time) {
        let snapshot = self.snapshot.current();
        let distribution = plan::distribution(distribution, &snapshot.interfaces);
        let (before, after) = (sharers(&snapshot.distribution), sharers(&distribution));
        self.snapshot
            .publish(snapshot.with_distribution(Arc::new(distribution)));
        if before == after || self.node.role() != Role::Primary {
            return;
        }
        let units: Vec<String> = after.iter().map(u8::to_string).collect();
        let message = match &units[..] {
            [] => "sessions are this unit's alone".to_owned(),
            units => format!("sessions are shared by units {}", units.join(", ")),
        };
        self.events
            .record(now, EventLevel::Info, "schedule", message);
    }

    /// Believes what the primary has resolved.
    fn learn_neighbours(&mut self, entries: &[cluster::Neighbour], now: Time) {
        let snapshot = self.snapshot.current();
        for entry in entries {
            let IpAddr::V4(address) = entry.address else {
                continue;
            };
            if let Some(interface) = plan::interface_of(entry.interface, &snapshot.interfaces) {
                let evidence = Evidence::Told;
                self.host
                    .resolver
                    .learn(interface, address, entry.mac, evidence, tick(now));
            }
        }
    }

    /// The duty came before, so that what the announcements bring finds workers that forward.
    fn promote(&mut self, term: u32, now: Time) {
        for route in &self.config.routes {
            if let NextHop::Gateway { interface, address } = route.next_hop {
                self.host
                    .resolver
                    .prefetch(interface_id(interface), address, tick(now));
            }
        }
        self.begin_listening(now);
        self.tell_transition(Role::Primary, term, now);
    }

    /// Has the ports let frames to the virtual MACs through, or no longer.
    fn filter_virtual_macs(&mut self, own: bool, now: Time) {
        let snapshot = self.snapshot.current();
        for (interface, side) in snapshot.interfaces.iter().zip(&mut self.interfaces) {
            let Some(mac) = interface.virtual_mac else {
                continue;
            };
            if own == side.mac_filter.is_some() {
                continue;
            }
            let filter = if own {
                side.port.add_mac(mac.0).map(Some)
            } else {
                side.port.remove_mac(mac.0).map(|_| None)
            };
            match filter {
                Ok(filter) => side.mac_filter = filter,
                Err(error) => {
                    let message = format!("interface {}: {error}", interface.name);
                    self.events
                        .record(now, EventLevel::Error, "virtual_mac", message);
                }
            }
        }
    }

    fn tell_transition(&mut self, role: Role, term: u32, now: Time) {
        // Several may have come at once; each is told with its own cause.
        let cause = self
            .node
            .transitions()
            .rfind(|transition| (transition.to, transition.term) == (role, term))
            .map(|transition| transition.cause.to_string());
        let message = format!("{role} in term {term}: {}", cause.unwrap_or_default());
        self.events.record(now, EventLevel::Info, "role", message);
    }

    fn announce(&mut self) {
        let snapshot = self.snapshot.current();
        for announcement in announcements(&snapshot.interfaces) {
            self.counters.announcements_sent += 1;
            self.outgoing
                .send(announcement.interface, &announcement.frame);
        }
    }

    /// Hands a peer's change to the worker that the session belongs to here.
    fn apply(&mut self, delta: Delta) {
        let home = self.snapshot.current().home_of(delta.tuple());
        let command = match delta {
            Delta::Upsert { session, remaining } => TableCommand::Apply(session, remaining),
            Delta::Remove { tuple, version } => TableCommand::Retract(tuple, version),
        };
        self.command(usize::from(home), command);
    }

    /// Sends a command to a worker, behind those that wait already.
    pub(super) fn command(&mut self, worker: usize, command: TableCommand) {
        let Some(worker) = self.workers.get_mut(worker) else {
            return;
        };
        if !worker.deferred.is_empty() || worker.commands.is_full() {
            self.counters.commands_deferred += 1;
            worker.deferred.push_back(command);
        } else {
            // Not full, and nobody else pushes.
            let _ = worker.commands.push(command);
        }
    }

    fn push_deferred(&mut self) {
        for worker in &mut self.workers {
            while !worker.commands.is_full()
                && let Some(command) = worker.deferred.pop_front()
            {
                let _ = worker.commands.push(command);
            }
        }
    }

    pub(super) fn serve_neighbours(&mut self, now: Time) {
        let snapshot = self.snapshot.current();
        self.host
            .run(&snapshot, tick(now), &mut self.counters, &mut self.outgoing);
        if let Some(neighbours) = self.host.resolver.take_changed() {
            self.neighbours.publish(neighbours);
            self.tell_neighbours(now);
        }
    }

    /// Hands the cluster all that is resolved here; a primary tells the other units.
    fn tell_neighbours(&mut self, now: Time) {
        let interfaces = &self.snapshot.current().interfaces;
        let known = self.host.resolver.iter(tick(now));
        let known = known.filter(|entry| entry.state != NeighbourState::Incomplete);
        let told = known.filter_map(|entry| {
            let neighbour = entry.neighbour;
            let interface = interfaces.get(neighbour.interface.index())?;
            Some(cluster::Neighbour {
                interface: cluster::name_key(&interface.name),
                address: IpAddr::V4(neighbour.address),
                mac: neighbour.mac,
            })
        });
        self.node.handle_neighbours(&told.collect::<Vec<_>>());
    }

    fn describe(&self, event: &Event) -> String {
        let link = match event {
            Event::PeerLinkUp { link, .. } | Event::PeerLinkDown { link, .. } => Some(*link),
            _ => None,
        };
        let name = link
            .and_then(|link| self.links.get(link.index()))
            .and_then(|interface| self.config.interfaces.get(interface.index()));
        match name {
            Some(interface) => format!("{event} ({})", interface.name),
            None => event.to_string(),
        }
    }
}

/// Units among which sessions are shared, if they are. Which of them gets how many changes all the time
/// under some schedules.
fn sharers(distribution: &Distribution) -> Vec<u8> {
    if distribution.slots.is_empty() {
        return Vec::new();
    }
    let owners = distribution.members.iter().filter(|member| member.owns);
    owners.map(|member| member.unit).collect()
}

fn level(event: &Event) -> EventLevel {
    match event {
        Event::DualPrimary { .. } => EventLevel::Error,
        Event::PeerDown { .. }
        | Event::PeerLeft { .. }
        | Event::PeerLinkDown { .. }
        | Event::WitnessSilent
        | Event::LeaseTaken { .. }
        | Event::TableTooSmall { .. }
        | Event::Sync(sync::Event::PeerStuck { .. } | sync::Event::TablesDiffer { .. })
        | Event::ConfigurationDiffers { .. } => EventLevel::Warning,
        _ => EventLevel::Info,
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::PeerUp { .. }
        | Event::PeerDown { .. }
        | Event::PeerRestarted { .. }
        | Event::PeerLeft { .. } => "peer",
        Event::PeerLinkUp { .. } | Event::PeerLinkDown { .. } => "peer_link",
        Event::HandedOver(_) | Event::HandOverCancelled { .. } => "hand_over",
        Event::DualPrimary { .. } | Event::DualPrimaryEnded { .. } => "dual_primary",
        Event::WitnessAnswers
        | Event::WitnessSilent
        | Event::LeaseGranted { .. }
        | Event::LeaseTaken { .. } => "witness",
        Event::ConfigurationDiffers { .. } | Event::ConfigurationAgrees { .. } => "configuration",
        Event::TableTooSmall { .. } | Event::TableSuffices { .. } => "table_size",
        Event::Sync(sync::Event::PeerStuck { .. } | sync::Event::PeerMoves { .. }) => "peer_stuck",
        Event::Sync(sync::Event::TablesDiffer { .. }) => "tables_differ",
        _ => "cluster",
    }
}
