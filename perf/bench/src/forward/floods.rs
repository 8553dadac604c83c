//! What strangers can do to the sessions that are there: fill the table, and take every port.
//!
//! Every other packet is the strangers'. The peer is the same gateway, as full, without them.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Result, ensure};
use forward::{Drop, Event};

use super::Bench;
use super::flow::{Flow, Random};
use super::gateway::{Devices, Gateway, LAN, Plan, SOURCE};
use super::lane::{Numbers, Opening, Stream, Traffic};
use crate::{Better, Row, paired};

/// The most sessions of a gateway that is flooded: it is filled anew for each flood.
const MOST: u32 = 1_000_000;
/// The server to which every port is in use: flow number `VICTIM` is no session's.
const VICTIM: u32 = Flow::COUNT - 1_000;
/// Packets of a flood between two looks at what it has taken.
const LOOK: u64 = 20_000;
/// Looks after which a flood has failed.
const MOST_LOOKS: u32 = 10_000;

impl Bench<'_> {
    pub(super) fn floods(&mut self) -> Result<()> {
        let sessions = self.args.sessions.iter().copied();
        let Some(sessions) = sessions.filter(|sessions| *sessions <= MOST).max() else {
            return Ok(());
        };
        self.syn_flood(sessions)?;
        self.exhausted_ports(sessions)
    }

    /// Handshakes that nobody finishes, on a table without room for one.
    fn syn_flood(&mut self, sessions: u32) -> Result<()> {
        let plan = self.plan(sessions, true);
        let mut gateway = self.flooded("full", plan, Opening::Tcp, sessions)?;
        gateway
            .lan
            .send(Traffic::Stamped(Stream::syn_flood(sessions)))?;
        let mut looks = 0;
        while gateway.worker.shard().len() < plan.capacity {
            ensure!(looks < MOST_LOOKS, "the flood does not fill the table");
            gateway.measure(LOOK);
            looks += 1;
        }
        let flood = Stream::syn_flood(sessions);
        let calm = Stream::acknowledgements(sessions);
        let gateway = self.beside_calm(
            "SYN flood on a full table, NAT",
            sessions,
            gateway,
            &flood,
            &calm,
        )?;
        ensure!(
            gateway.worker.shard().len() == plan.capacity,
            "the table was not full"
        );
        all_pass(gateway, sessions, calm)
    }

    /// New flows to a server to which every port of the gateway's address is in use.
    fn exhausted_ports(&mut self, sessions: u32) -> Result<()> {
        let plan = self.plan(sessions, true);
        let mut gateway = self.flooded("ports", plan, Opening::Udp, sessions)?;
        let flood = Stream::port_flood(sessions, Flow::number(VICTIM).server);
        gateway.lan.send(Traffic::Stamped(flood.clone()))?;
        let created = |gateway: &Gateway| gateway.counters.count(Event::SessionsCreated);
        let (mut before, mut looks) = (0, 0);
        while created(&gateway) > before {
            ensure!(looks < MOST_LOOKS, "there is always a port left");
            before = created(&gateway);
            gateway.measure(LOOK);
            looks += 1;
        }
        let refused = gateway.counters.dropped(Drop::NatPortsExhausted);
        ensure!(refused > 0, "no flow was refused");
        let calm = Stream::datagrams(sessions);
        let gateway =
            self.beside_calm("every port in use, NAT", sessions, gateway, &flood, &calm)?;
        let more = created(&gateway) - before;
        let refused = gateway.counters.dropped(Drop::NatPortsExhausted) - refused;
        ensure!(
            more < refused / 100,
            "{more} flows found a port and {refused} did not: not every one was in use"
        );
        all_pass(gateway, sessions, calm)
    }

    fn flooded(&self, name: &str, plan: Plan, opening: Opening, sessions: u32) -> Result<Gateway> {
        let devices = Devices::from_clients(SOURCE);
        let mut gateway = Gateway::new(&self.eal, &self.pool, name, &devices, plan)?;
        gateway.establish(opening, Numbers::Range(0, sessions))?;
        let stream = match opening {
            Opening::Udp => Stream::datagrams(sessions),
            Opening::Tcp => Stream::acknowledgements(sessions),
        };
        gateway.flow(LAN, stream, sessions)?;
        Ok(gateway)
    }

    fn beside_calm(
        &mut self,
        what: &str,
        sessions: u32,
        gateway: Gateway,
        flood: &Stream,
        calm: &Stream,
    ) -> Result<Gateway> {
        let packets = self.args.packets;
        let gateway = RefCell::new(gateway);
        let measure = |stream: &Stream| {
            let mut gateway = gateway.borrow_mut();
            gateway.lan.send(Traffic::Stamped(stream.clone()))?;
            Ok(gateway.measure(packets))
        };
        let cycles = paired(
            self.args.rounds,
            Better::Less,
            || measure(flood),
            || measure(calm),
        )?;
        let peer = "established sessions only";
        let row = Row::beside(what, u64::from(sessions), "cycles", peer, &cycles);
        self.report.push(row);
        Ok(gateway.into_inner())
    }
}

/// Fails unless a packet of every session passes.
fn all_pass(mut gateway: Gateway, sessions: u32, stream: Stream) -> Result<()> {
    let mut all: Vec<u32> = (0..sessions).collect();
    Random::new().shuffle(&mut all);
    let lost = |gateway: &Gateway| -> u64 {
        let drops = gateway.counters.drops();
        let created = gateway.counters.count(Event::SessionsCreated);
        drops.map(|(_, _, count)| count).sum::<u64>() + created
    };
    gateway
        .lan
        .send(Traffic::Stamped(stream.listed(Arc::from(all))))?;
    let before = lost(&gateway);
    gateway.measure(u64::from(sessions));
    let lost = lost(&gateway) - before;
    ensure!(lost == 0, "{lost} established sessions were lost");
    Ok(())
}
