//! What strangers can do to the sessions that are there: fill the table, and take every port.
//!
//! Every other packet is the strangers'. The peer is the same gateway, as full, without them.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Result, ensure};
use forward::{Drop, Event};

use super::Bench;
use super::flow::{Flow, Random};
use super::gateway::{Devices, Gateway, Plan, SOURCE};
use super::lane::{Numbers, Opening, Stream, Traffic};
use crate::{Better, Row, paired};

/// Sessions where none are asked for that fit: floods are aimed at gateways of this size.
const SESSIONS: u32 = 1_000_000;
/// The server to which every port is in use: flow number `VICTIM` is no session's.
const VICTIM: u32 = Flow::COUNT - 1_000;
/// Packets in which a flood takes what there is to be taken.
const PRELUDE: u64 = 2_000_000;

impl Bench<'_> {
    pub(super) fn floods(&mut self) -> Result<()> {
        self.syn_flood()?;
        self.exhausted_ports()
    }

    /// Handshakes that nobody finishes, on a table without room for one.
    fn syn_flood(&mut self) -> Result<()> {
        let plan = self.plan(SESSIONS, true);
        let mut gateway = self.flooded("full", plan, Opening::Tcp)?;
        gateway
            .lan
            .send(Traffic::Stamped(Stream::syn_flood(SESSIONS)))?;
        while gateway.worker.shard().len() < plan.capacity {
            gateway.measure(10_000);
        }
        gateway.measure(PRELUDE);
        let flood = Stream::syn_flood(SESSIONS);
        let calm = Stream::acknowledgements(SESSIONS);
        let gateway = self.beside_calm("SYN flood on a full table, NAT", gateway, &flood, &calm)?;
        ensure!(
            gateway.worker.shard().len() == plan.capacity,
            "the table was not full"
        );
        self.all_pass(gateway, calm)
    }

    /// New flows to a server to which every port of the gateway's address is in use.
    fn exhausted_ports(&mut self) -> Result<()> {
        let plan = self.plan(SESSIONS, true);
        let mut gateway = self.flooded("ports", plan, Opening::Udp)?;
        let flood = Stream::port_flood(SESSIONS, Flow::number(VICTIM).server);
        gateway.lan.send(Traffic::Stamped(flood.clone()))?;
        gateway.measure(PRELUDE);
        let refused = gateway.counters.dropped(Drop::NatPortsExhausted);
        ensure!(refused > 0, "ports are left");
        let created = gateway.counters.count(Event::SessionsCreated);
        let calm = Stream::datagrams(SESSIONS);
        let gateway = self.beside_calm("every port in use, NAT", gateway, &flood, &calm)?;
        let more = gateway.counters.count(Event::SessionsCreated) - created;
        let refused = gateway.counters.dropped(Drop::NatPortsExhausted) - refused;
        ensure!(
            more < refused / 100,
            "{more} of {refused} flows found a port: not every one was in use"
        );
        self.all_pass(gateway, calm)
    }

    fn flooded(&self, name: &str, plan: Plan, opening: Opening) -> Result<Gateway> {
        let devices = Devices::from_clients(SOURCE);
        let mut gateway = Gateway::new(&self.eal, &self.pool, name, &devices, plan)?;
        gateway.establish(opening, Numbers::Range(0, SESSIONS))?;
        Ok(gateway)
    }

    fn beside_calm(
        &mut self,
        what: &str,
        gateway: Gateway,
        flood: &Stream,
        calm: &Stream,
    ) -> Result<Gateway> {
        let packets = self.packets();
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
        let (sessions, peer) = (u64::from(SESSIONS), "established sessions only");
        let row = Row::beside(what, sessions, "cycles", peer, &cycles);
        self.report.push(row);
        Ok(gateway.into_inner())
    }

    /// Fails unless a packet of every session passes.
    fn all_pass(&self, mut gateway: Gateway, stream: Stream) -> Result<()> {
        let mut all: Vec<u32> = (0..SESSIONS).collect();
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
        gateway.measure(u64::from(SESSIONS));
        let lost = lost(&gateway) - before;
        ensure!(lost == 0, "{lost} established sessions were lost");
        Ok(())
    }
}
