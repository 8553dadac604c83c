//! The harness without a gateway: what source, stamping and sink cost by themselves, and with the
//! first stages of a worker between them.

use anyhow::Result;
use dpdk::{Burst, Eal, Mempool, clock};
use forward::PortIo;
use packet::plain::Plain;
use session::{Hit, Key, Shard};

use super::flow::SHORTEST;
use super::gateway::{self, LAN, SINK, WAN, open, per_packet};
use super::lane::{Lane, Remote, Traffic};

/// Two lanes that are connected by nothing but a loop.
pub(crate) struct Wire {
    source: Lane,
    sink: Lane,
    pub(crate) remote: Remote,
    burst: Burst,
}

/// How far packets go on a wire.
#[derive(Clone, Copy)]
pub(crate) enum Stage<'a> {
    /// From source to sink.
    Bare,
    /// They are parsed.
    Parse,
    /// They are parsed, and their sessions found.
    LookUp(&'a Shard),
}

impl Wire {
    /// A wire from `source` to a device of its own kind that forgets everything.
    pub(crate) fn new(eal: &Eal, pool: &Mempool, name: &str, source: &str) -> Result<Self> {
        let source = open(eal, source, &format!("{name}_source"), pool)?;
        let sink = open(eal, SINK, &format!("{name}_sink"), pool)?;
        let (source, remote) = Lane::new(source, pool, gateway::mac(LAN));
        let (sink, sink_remote) = Lane::new(sink, pool, gateway::mac(WAN));
        sink_remote.send(Traffic::AsItIs)?;
        Ok(Self {
            source,
            sink,
            remote,
            burst: Burst::new(),
        })
    }

    /// Lets at least `packets` pass; the cycles of each, all in.
    pub(crate) fn measure(&mut self, packets: u64, stage: Stage<'_>) -> f64 {
        let mut work = Work::default();
        let (mut seen, mut done) = (0, 0);
        let before = clock::cycles();
        while seen < packets {
            // A worker asks both of its ports in each turn.
            self.source.receive(&mut self.burst);
            seen += self.burst.len() as u64;
            done += work.run(&self.burst, stage) as u64;
            self.sink.transmit(&mut self.burst);
            self.burst.clear();
            self.sink.receive(&mut self.burst);
        }
        let cycles = clock::cycles() - before;
        assert_eq!(done, seen, "a packet was not understood");
        per_packet(cycles, seen)
    }
}

/// What the stages leave behind.
struct Work {
    keys: [Key; Burst::CAPACITY],
    hits: [Option<Hit>; Burst::CAPACITY],
}

impl Default for Work {
    fn default() -> Self {
        Self {
            keys: [Key::default(); Burst::CAPACITY],
            hits: [None; Burst::CAPACITY],
        }
    }
}

impl Work {
    /// Does the stage's work; how many packets it was right about.
    fn run(&mut self, burst: &Burst, stage: Stage<'_>) -> usize {
        match stage {
            Stage::Bare => burst.len(),
            Stage::Parse => self.parse(burst),
            Stage::LookUp(shard) => {
                self.parse(burst);
                let hits = &mut self.hits[..burst.len()];
                shard.lookup_burst(&self.keys[..burst.len()], hits);
                hits.iter().flatten().count()
            }
        }
    }

    fn parse(&mut self, burst: &Burst) -> usize {
        let mut parsed = 0;
        for (key, mbuf) in self.keys.iter_mut().zip(burst.iter()) {
            if let Some((plain, ends)) = Plain::read(mbuf.data()) {
                let addresses = u64::from_ne_bytes(ends.addresses);
                let ports = u32::from_ne_bytes(ends.ports);
                *key = Key::v4(addresses, ports, plain.protocol);
                parsed += usize::from(usize::from(plain.end) <= SHORTEST);
            }
        }
        parsed
    }
}
