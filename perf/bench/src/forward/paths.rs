//! Established sessions: by stages, by kinds of packets, beside the sketch and beside testpmd.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Result, ensure};
use dpdk::clock;
use forward::Event;

use super::gateway::{Devices, Gateway, LAN, OUTSIDE, Plan, SOURCE, Share, WAN};
use super::lane::{Numbers, Opening, Stream, Traffic};
use super::wire::{Stage, Wire};
use super::{Bench, translated};
use crate::peer::{sketch, testpmd};
use crate::{Better, Figure, Row, paired, repeated};

/// Few sessions: all in the first-level cache.
const FEW: u32 = 1_000;
const MANY: u32 = 10_000_000;

impl Bench<'_> {
    /// What each stage adds: from the bare harness to the whole worker.
    pub(super) fn stages(&mut self, sessions: u32) -> Result<()> {
        let stream = || Traffic::Stamped(Stream::datagrams(sessions));
        let mut plain = self.datagrams("plain", sessions, false)?;
        let mut nat = self.datagrams("nat", sessions, true)?;
        let mut wire = Wire::new(&self.eal, &self.pool, "wire", SOURCE)?;
        wire.remote.send(stream())?;
        let packets = self.args.packets;
        // All in one round, so that their differences mean something.
        let mut figures: [Vec<f64>; 5] = Default::default();
        for _ in 0..self.args.rounds {
            let shard = plain.worker.shard();
            let cycles = [
                wire.measure(packets, Stage::Bare),
                wire.measure(packets, Stage::Parse),
                wire.measure(packets, Stage::LookUp(shard)),
                plain.measure(packets),
                nat.measure(packets),
            ];
            for (figures, cycles) in figures.iter_mut().zip(cycles) {
                figures.push(cycles);
            }
        }
        plain.check()?;
        nat.check()?;
        let names = [
            "stage: source, stamp, sink",
            "stage: and parse",
            "stage: and look up",
            "UDP 64 B, no NAT",
            "UDP 64 B, NAT",
        ];
        for (name, figures) in names.into_iter().zip(figures) {
            let mut figures = figures.into_iter();
            let figure = repeated(self.args.rounds, Better::Less, || {
                Ok(figures.next().unwrap_or(f64::NAN))
            })?;
            self.cycles(name, sessions, figure);
            if !name.starts_with("stage") {
                self.rate(name, sessions, figure);
            }
        }
        Ok(())
    }

    /// The other kinds of packets, each with and without NAT.
    pub(super) fn paths(&mut self, sessions: u32) -> Result<()> {
        for nat in [false, true] {
            self.tcp_and_imix(sessions, nat)?;
            self.replies(sessions, nat)?;
        }
        Ok(())
    }

    fn tcp_and_imix(&mut self, sessions: u32, nat: bool) -> Result<()> {
        let packets = self.args.packets;
        for (what, opening, stream) in [
            ("TCP 64 B", Opening::Tcp, Stream::acknowledgements(sessions)),
            ("UDP IMIX", Opening::Udp, Stream::imix(sessions)),
        ] {
            let mut gateway =
                self.gateway("clients", &Devices::from_clients(SOURCE), sessions, nat)?;
            gateway.establish(opening, Numbers::Range(0, sessions))?;
            gateway.flow(LAN, stream, sessions)?;
            let figure = repeated(self.args.rounds, Better::Less, || {
                Ok(gateway.measure(packets))
            })?;
            gateway.check()?;
            let what = format!("{what}, {}", translated(nat));
            self.cycles(&what, sessions, figure);
            self.rate(&what, sessions, figure);
        }
        Ok(())
    }

    fn replies(&mut self, sessions: u32, nat: bool) -> Result<()> {
        let packets = self.args.packets;
        let mut gateway = self.gateway("servers", &Devices::from_servers(), sessions, nat)?;
        let ports = gateway.establish(Opening::Udp, Numbers::Range(0, sessions))?;
        let stream = if nat {
            Stream::translated_replies(sessions, OUTSIDE.to_bits(), Arc::from(ports))
        } else {
            Stream::replies(sessions)
        };
        gateway.flow(WAN, stream, sessions)?;
        let figure = repeated(self.args.rounds, Better::Less, || {
            Ok(gateway.measure(packets))
        })?;
        gateway.check()?;
        let what = format!("UDP 64 B replies, {}", translated(nat));
        self.cycles(&what, sessions, figure);
        Ok(())
    }

    /// Datagrams of sessions that another unit owns, at the primary that passes them on, and at the owner
    /// to which they are passed.
    pub(super) fn shared(&mut self, sessions: u32) -> Result<()> {
        for (what, share) in [
            ("UDP 64 B, NAT, passed on to the owner", Share::Passes),
            ("UDP 64 B, NAT, taken in as the owner", Share::Owns),
        ] {
            let plan = Plan {
                share,
                ..self.plan(sessions, true)
            };
            let devices = Devices::from_clients(SOURCE);
            let mut gateway = Gateway::new(&self.eal, &self.pool, "shared", &devices, plan)?;
            if share == Share::Owns {
                gateway.establish(Opening::Udp, Numbers::Range(0, sessions))?;
            }
            gateway.flow(LAN, Stream::datagrams(sessions), sessions)?;
            let packets = self.args.packets;
            let figure = repeated(self.args.rounds, Better::Less, || {
                Ok(gateway.measure(packets))
            })?;
            gateway.check()?;
            ensure!(
                shared_packets(&gateway, share) >= packets,
                "packets were not shared"
            );
            self.cycles(what, sessions, figure);
            self.rate(what, sessions, figure);
        }
        Ok(())
    }

    /// The whole gateway beside the sketch, and beside itself with few sessions.
    pub(super) fn beside_sketch(&mut self) -> Result<()> {
        let program = sketch::Program::compile(&self.workshop)?;
        self.each(|bench, sessions| {
            let mut sketch = program.start(&bench.site, sessions)?;
            let mut gateway = bench.datagrams("nat", sessions, true)?;
            let packets = bench.args.packets;
            let cycles = paired(
                bench.args.rounds,
                Better::Less,
                || Ok(gateway.measure(packets)),
                || sketch.measure(),
            )?;
            gateway.check()?;
            let (what, sessions) = ("UDP 64 B, NAT", u64::from(sessions));
            let row = Row::beside(what, sessions, "cycles", "sketch in C", &cycles);
            bench.report.push(row);
            Ok(())
        })?;
        if self.args.sessions.contains(&MANY) {
            self.many_beside_few()?;
        }
        Ok(())
    }

    fn many_beside_few(&mut self) -> Result<()> {
        let packets = self.args.packets;
        let mut many = self.datagrams("many", MANY, true)?;
        let mut few = self.datagrams("few", FEW, true)?;
        let cycles = paired(
            self.args.rounds,
            Better::Less,
            || Ok(many.measure(packets)),
            || Ok(few.measure(packets)),
        )?;
        many.check()?;
        few.check()?;
        let (what, peer) = ("UDP 64 B, NAT", "itself with 1,000 sessions");
        let row = Row::beside(what, u64::from(MANY), "cycles", peer, &cycles);
        self.report.push(row);
        Ok(())
    }

    /// Beside a program that looks at no packet.
    pub(super) fn beside_testpmd(&mut self) -> Result<()> {
        let packets = self.args.packets;
        let gateway = RefCell::new(self.datagrams("plain", FEW, false)?);
        for mode in testpmd::Mode::ALL {
            let mut testpmd = testpmd::Testpmd::start(&self.site, mode)?;
            let cycles = paired(
                self.args.rounds,
                Better::Less,
                || Ok(gateway.borrow_mut().measure(packets)),
                || testpmd.measure(),
            )?;
            let (what, peer) = ("UDP 64 B, no NAT", format!("testpmd {mode}"));
            let row = Row::beside(what, u64::from(FEW), "cycles", &peer, &cycles);
            self.report.push(row);
        }
        gateway.borrow().check()
    }

    /// A gateway to which datagrams of established sessions come.
    fn datagrams(&self, name: &str, sessions: u32, nat: bool) -> Result<Gateway> {
        let mut gateway = self.gateway(name, &Devices::from_clients(SOURCE), sessions, nat)?;
        gateway.establish(Opening::Udp, Numbers::Range(0, sessions))?;
        gateway.flow(LAN, Stream::datagrams(sessions), sessions)?;
        Ok(gateway)
    }

    fn gateway(&self, name: &str, devices: &Devices, sessions: u32, nat: bool) -> Result<Gateway> {
        let plan = self.plan(sessions, nat);
        Gateway::new(&self.eal, &self.pool, name, devices, plan)
    }

    fn cycles(&mut self, what: &str, sessions: u32, figure: Figure) {
        self.report
            .push(Row::alone(what, u64::from(sessions), "cycles", figure));
    }

    /// The same as millions of packets a second.
    fn rate(&mut self, what: &str, sessions: u32, cycles: Figure) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let megahertz = clock::hertz() as f64 / 1e6;
        let figure = Figure {
            median: megahertz / cycles.median,
            best: megahertz / cycles.best,
        };
        self.report
            .push(Row::alone(what, u64::from(sessions), "Mpps", figure));
    }
}

/// Packets that were passed on, or taken in as what was passed on.
fn shared_packets(gateway: &Gateway, share: Share) -> u64 {
    gateway.counters.count(match share {
        Share::Owns => Event::RedirectsTaken,
        _ => Event::Redirected,
    })
}
