//! The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.
//!
//! ```text
//!  net_null ─▶ stamp flow i = random(N) ─▶ Worker::turn ─▶ net_null
//! ```
//!
//! Figures are cycles per packet of everything that is drawn: so the harness itself is measured too,
//! in alternation, and has rows of its own.

mod flow;
mod gateway;
mod lane;
mod wire;

use std::sync::Arc;

use anyhow::{Result, ensure};
use dpdk::{Eal, Mempool};

use crate::{Better, EalArgs, Report, Row, paired, repeated};
use gateway::{BUFFERS, Devices, Gateway, OUTSIDE, Plan, ROOM, SOURCE};
use lane::{Numbers, Opening, Stream, Traffic};
use wire::{Stage, Wire};

/// The worker's whole pipeline beside testpmd, l3fwd and the sketch of a NAT gateway.
///
/// Rows are cycles per packet of one core, source and sink included, unless they say otherwise. The
/// peer "harness" is source, stamping and sink alone.
#[derive(Clone, Debug, clap::Args)]
pub struct ForwardArgs {
    /// DPDK's memory and core.
    #[command(flatten)]
    pub eal: EalArgs,
    /// Numbers of established sessions.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 1_000, 100_000, 1_000_000, 10_000_000])]
    pub sessions: Vec<u32>,
    /// Runs of each figure.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Millions of packets in each run.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub packets: u64,
    /// Datagrams of 64 bytes beside the harness, with and without NAT, at 1,000 to a million sessions:
    /// all in a few seconds.
    #[arg(long)]
    pub quick: bool,
}

/// Runs it.
///
/// # Errors
/// When DPDK or a device does not start, when memory is short, and when a packet was dropped that
/// should not have been.
pub fn run(args: &ForwardArgs, report: &mut Report) -> Result<()> {
    let eal = args.eal.start(512, Vec::new())?;
    let mut bench = Bench {
        pool: Mempool::new(&eal, "frames", BUFFERS, ROOM)?,
        eal,
        args,
        report,
    };
    if args.quick {
        for sessions in [1_000, 100_000, 1_000_000] {
            bench.datagrams(sessions, false)?;
            bench.datagrams(sessions, true)?;
        }
        return Ok(());
    }
    for sessions in args.sessions.clone() {
        ensure!(sessions > 0, "a row needs at least one session");
        bench.datagrams(sessions, false)?;
        bench.datagrams(sessions, true)?;
    }
    Ok(())
}

/// What all rows share.
struct Bench<'a> {
    eal: Eal,
    pool: Mempool,
    args: &'a ForwardArgs,
    report: &'a mut Report,
}

impl Bench<'_> {
    fn packets(&self) -> u64 {
        self.args.packets * 1_000_000
    }

    fn plan(&self, sessions: u32, nat: bool) -> Plan {
        Plan::for_sessions(sessions, nat, self.args.eal.memory())
    }

    fn datagrams(&mut self, sessions: u32, nat: bool) -> Result<()> {
        let devices = Devices::from_clients(SOURCE);
        let plan = self.plan(sessions, nat);
        let mut gateway = Gateway::new(&self.eal, &self.pool, "gateway", &devices, plan)?;
        gateway.establish(Opening::Udp, Numbers::Range(0, sessions))?;
        let stream = Stream::datagrams(sessions);
        let what = format!("UDP 64 B, {}", translated(nat));
        self.beside_harness(&what, sessions, &mut gateway, stream)
    }

    /// A stream from the clients through the gateway, and the same from source to sink.
    fn beside_harness(
        &mut self,
        what: &str,
        sessions: u32,
        gateway: &mut Gateway,
        stream: Stream,
    ) -> Result<()> {
        let packets = self.packets();
        let mut wire = Wire::stamped(&self.eal, &self.pool)?;
        wire.remote.send(Traffic::Stamped(stream.clone()))?;
        gateway.lan.send(Traffic::Stamped(stream))?;
        gateway.warm_up();
        let cycles = paired(
            self.args.rounds,
            Better::Less,
            || Ok(gateway.measure(packets)),
            || Ok(wire.measure(packets, Stage::Bare)),
        )?;
        gateway.check()?;
        self.report.push(Row::beside(
            what,
            u64::from(sessions),
            "cycles",
            "harness",
            &cycles,
        ));
        Ok(())
    }
}

fn translated(nat: bool) -> &'static str {
    if nat { "NAT" } else { "no NAT" }
}
