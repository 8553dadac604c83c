//! Beside l3fwd: both receive the same captures by net_pcap, over and over.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dpdk::Mempool;

use super::flow::{Flow, Random, SHORTEST, Template};
use super::gateway::{Devices, Gateway, LAN, mac};
use super::lane::{Numbers, Opening, Traffic};
use super::wire::{Stage, Wire};
use super::{Bench, translated};
use crate::peer::l3fwd::{self, L3fwd, LookUp, write_capture};
use crate::{Better, Row, paired};

/// The most frames in a capture: all of them are in buffers, in both processes.
const MOST: u32 = 1_000_000;
/// From how many flows on nobody routes by prefix alone.
const MOST_BY_PREFIX: u32 = 100_000;

impl Bench<'_> {
    pub(super) fn beside_l3fwd(&mut self) -> Result<()> {
        let program = l3fwd::Program::compile(&self.workshop)?;
        let mut flows = self.args.sessions.clone();
        flows.retain(|flows| (1_000..=MOST).contains(flows));
        let Some(most) = flows.iter().max() else {
            return Ok(());
        };
        // A gateway and a wire hold a capture each.
        let buffers = 2 * l3fwd::buffers(*most);
        let pool = Mempool::new(&self.eal, "captured", buffers, l3fwd::ROOM)?;
        for flows in flows {
            let capture = self.capture(flows)?;
            let start = |bench: &Self, look_up| {
                program.start(&bench.site, &bench.workshop, look_up, &capture, flows)
            };
            let mut exact = start(self, LookUp::ExactMatch)?;
            self.beside(
                &pool,
                &capture,
                flows,
                false,
                LookUp::ExactMatch,
                &mut exact,
            )?;
            self.beside(&pool, &capture, flows, true, LookUp::ExactMatch, &mut exact)?;
            drop(exact);
            if flows <= MOST_BY_PREFIX {
                let mut prefix = start(self, LookUp::LongestPrefix)?;
                self.beside(
                    &pool,
                    &capture,
                    flows,
                    false,
                    LookUp::LongestPrefix,
                    &mut prefix,
                )?;
            }
        }
        Ok(())
    }

    /// A capture of one frame of each flow, in random order.
    fn capture(&self, flows: u32) -> Result<PathBuf> {
        let path = self.workshop.path().join(format!("{flows}.pcap"));
        let mut order: Vec<u32> = (0..flows).collect();
        Random::new().shuffle(&mut order);
        let template = Template::datagram(mac(LAN), SHORTEST);
        let mut frames = vec![[0; SHORTEST]; order.len()];
        for (frame, number) in frames.iter_mut().zip(order) {
            let flow = Flow::number(number);
            template.write(frame, flow.client, flow.server);
        }
        write_capture(&path, frames.iter().map(<[u8; SHORTEST]>::as_slice))?;
        Ok(path)
    }

    fn beside(
        &mut self,
        pool: &Mempool,
        capture: &Path,
        flows: u32,
        nat: bool,
        look_up: LookUp,
        peer: &mut L3fwd,
    ) -> Result<()> {
        let packets = self.args.packets;
        let source = |name: &str| {
            let file = capture.display();
            format!("vdev:net_pcap_{name},rx_pcap={file},infinite_rx=1")
        };
        let plan = self.plan(flows, nat);
        let devices = Devices::from_clients(&source("gateway"));
        let mut gateway = Gateway::new(&self.eal, pool, "routed", &devices, plan)?;
        gateway.establish(Opening::Udp, Numbers::Range(0, flows))?;
        gateway.flow_as_it_is(flows)?;
        let cycles = paired(
            self.args.rounds,
            Better::Less,
            || Ok(gateway.measure(packets)),
            || peer.measure(),
        )?;
        gateway.check()?;
        let (what, name) = (
            format!("UDP 64 B, {}", translated(nat)),
            look_up.to_string(),
        );
        let sessions = u64::from(flows);
        let row = Row::beside(what, sessions, "cycles", &name, &cycles);
        self.report.push(row);
        if nat {
            let mut wire = Wire::new(&self.eal, pool, "captured", &source("wire"))?;
            wire.remote.send(Traffic::AsItIs)?;
            let cycles = paired(
                self.args.rounds,
                Better::Less,
                || Ok(gateway.measure(packets)),
                || Ok(wire.measure(packets, Stage::Bare)),
            )?;
            let what = "captured UDP 64 B: source, sink";
            let row = Row::alone(what, sessions, "cycles", cycles.peer);
            self.report.push(row);
        }
        Ok(())
    }
}
