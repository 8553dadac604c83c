//! The session table beside `rte_hash` and the memory itself.
//!
//! ```text
//! flows    the sessions of the benchmark, by number: tuples, keys, random order
//! churn    the two tables as one trait, and what is timed on both: look-ups, inserts, removals
//! ours     a Shard          peer   an rte_hash with sessions beside it
//! gather   random cache lines, the limit of any table
//! ageing   timers, which the peer does not have
//! ```
//!
//! Only the operation itself is timed: keys are made, and answers checked, between timed pieces, which
//! are long enough (see `block`) for the counter's own cost to vanish. A wrong answer fails the run.

mod ageing;
mod block;
mod churn;
mod flows;
mod gather;
mod ours;
mod peer;

use anyhow::{Result, ensure};
use dpdk::Eal;

use crate::{Better, EalArgs, Figure, Paired, Report, Row, paired, repeated};
use ageing::Ageing;
use block::Block;
use churn::{Churn, Timed, look_ups};
use flows::{Draw, Expected};
use gather::Gather;
use ours::Ours;
use peer::Peer;

const CYCLES: &str = "cycles";
/// The burst of rows that are not about its size.
const USUAL_BURST: usize = 32;

/// The session table beside rte_hash and the memory itself: cycles of one operation, on one core.
///
/// Ours is a shard of exactly as many sessions as are in it, IPv4 UDP with source NAT, found by either
/// direction's key, which has 40 bytes and could be IPv6. The peer is DPDK's rte_hash as a gateway would
/// use it: lock-free readers, CRC-32, 16-byte IPv4 keys, two for each session, with room for 15 % more;
/// and an array of 128-byte sessions beside it. Both lie in huge pages (but with --no-huge) and get the
/// same keys in the same random order, in alternation.
///
/// look-up, hit: any of the present sessions, either direction. Ours finds and compares the session's
/// own line. The peer finds its number in bulk and then reads one prefetched line of the session, as a
/// gateway has to; "rte_hash alone" leaves that out. Bursts of 1 are single look-ups in both.
/// Beside "two random lines": what it costs to fetch two cache lines at random from as many bytes as
/// our index and entries take, prefetched in bursts of 32. No table with a bucket and a session apart
/// can be faster; a ratio of 0.5 is twice that.
///
/// look-up, miss: sessions that are not there.
///
/// insert: a session's first packet. Ours checks both directions' keys, writes the entry, both keys,
/// the timer and the list of half-open sessions, and takes the slot off its free list. The peer adds
/// both keys and writes 128 prefetched bytes at a place that it is given.
///
/// remove: by the session's number, not one that was lately inserted. Ours takes out everything that
/// insert put in. The peer reads both keys in the session, deletes them and frees their positions at
/// once (DPDK leaves that to the caller when readers take no lock; ours has no readers to wait for
/// either).
///
/// expire: one session, found by its timer to have been idle for too long, and removed. Sessions were
/// opened at random moments of the last five minutes. timer: one look at a session whose timer is due
/// but which has seen packets since, and is put back. The peer has no ageing.
///
/// memory: bytes for one session, all in: entries, index, timers, lists, and the limits by source that
/// the other rows leave off. The peer's: all that DPDK's heap gave for the table, and 128 bytes of
/// session.
#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// How many sessions are in the table.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,…",
        default_values_t = [1_000, 100_000, 1_000_000, 10_000_000],
        value_parser = clap::value_parser!(u32).range(64..=i64::from(flows::MOST))
    )]
    sessions: Vec<u32>,
    /// How many keys are looked up, inserted or removed at once, 64 at the most.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,…",
        default_values_t = [1, 8, 32, 64],
        value_parser = clap::value_parser!(u8).range(1..=64)
    )]
    bursts: Vec<u8>,
    /// Pairs of blocks for each row.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Time to be measured in each block.
    #[arg(long, default_value_t = 20, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    block: u32,
    #[command(flatten)]
    eal: EalArgs,
}

/// Measures all rows at each size.
///
/// # Errors
/// When DPDK does not start, memory is short or not of the kind asked for, or a table answers wrongly.
pub fn run(args: &TableArgs, report: &mut Report) -> Result<()> {
    let most = args.sessions.iter().copied().max().unwrap_or(0);
    let megabytes = (Peer::bytes(most).max(Gather::bytes(most)) >> 20) + 64;
    let eal = args.eal.start(u32::try_from(megabytes)?, Vec::new())?;
    for &sessions in &args.sessions {
        let run = Run {
            args,
            eal: &eal,
            sessions,
        };
        let (ours, peer_bytes) = run.beside_hash(report)?;
        run.beside_memory(ours, report)?;
        run.memory(peer_bytes, report)?;
        run.ageing(report)?;
    }
    Ok(())
}

/// The rows of one size.
struct Run<'a> {
    args: &'a TableArgs,
    eal: &'a Eal,
    sessions: u32,
}

impl Run<'_> {
    /// Everything that the hash table can do as well. Answers with our table, still full, and the bytes
    /// that the other took for one session.
    fn beside_hash(&self, report: &mut Report) -> Result<(Ours, f64)> {
        let sessions = self.sessions;
        let mut ours = Ours::new(sessions, self.args.eal.memory())?;
        let mut peer = Peer::new(self.eal, sessions)?;
        let order = flows::shuffled(sessions);
        churn::fill(&mut ours, &order)?;
        churn::fill(&mut peer, &order)?;
        self.look_up_rows(&mut ours, &mut peer, report)?;
        self.churn_rows(&mut ours, &mut peer, &order, report)?;

        Ok((ours, peer.bytes_per_session()))
    }

    /// Memory, which is the same in every run.
    fn memory(&self, peer: f64, report: &mut Report) -> Result<()> {
        let exact = |bytes| Figure {
            median: bytes,
            best: bytes,
        };
        let ours = ours::bytes_per_session(self.sessions, self.args.eal.memory())?;
        let paired = Paired {
            ours: exact(ours),
            peer: exact(peer),
            ratio: peer / ours,
            ratio_min: peer / ours,
            ratio_max: peer / ours,
        };
        let (name, sessions) = ("rte_hash and 128 bytes", self.sessions.into());
        report.push(Row::beside("memory", sessions, "bytes", name, &paired));
        Ok(())
    }

    fn look_up_rows(&self, ours: &mut Ours, peer: &mut Peer, report: &mut Report) -> Result<()> {
        for burst in self.bursts() {
            for (expected, reads_session, what, name) in [
                (
                    Expected::Hit,
                    true,
                    "look-up, hit",
                    "rte_hash, session read",
                ),
                (Expected::Hit, false, "look-up, hit", "rte_hash alone"),
                (Expected::Miss, false, "look-up, miss", "rte_hash alone"),
            ] {
                peer.reads_session = reads_session;
                let draw = || Draw::new(self.sessions, expected);
                let (mut our_draw, mut peer_draw) = (draw(), draw());
                let paired = self.compare(
                    || look_ups(ours, &mut our_draw, burst, self.block()),
                    || look_ups(peer, &mut peer_draw, burst, self.block()),
                )?;
                report.push(self.beside(what, burst, name, &paired));
            }
        }
        Ok(())
    }

    fn churn_rows(
        &self,
        ours: &mut Ours,
        peer: &mut Peer,
        order: &[u32],
        report: &mut Report,
    ) -> Result<()> {
        let mut our_churn = Churn::begin(ours, order)?;
        let mut peer_churn = Churn::begin(peer, order)?;
        for burst in self.bursts() {
            for (timed, what, name) in [
                (Timed::Insert, "insert", "rte_hash, session written"),
                (Timed::Remove, "remove", "rte_hash, keys read"),
            ] {
                let paired = self.compare(
                    || our_churn.run(ours, timed, burst, self.block()),
                    || peer_churn.run(peer, timed, burst, self.block()),
                )?;
                report.push(self.beside(what, burst, name, &paired));
            }
        }
        our_churn.end(ours)?;
        peer_churn.end(peer)
    }

    /// The look-up beside what the memory can do at all.
    fn beside_memory(&self, mut ours: Ours, report: &mut Report) -> Result<()> {
        let mut gather = Gather::new(self.eal, ours.bytes_looked_at())?;
        let mut draw = Draw::new(self.sessions, Expected::Hit);
        let paired = self.compare(
            || look_ups(&mut ours, &mut draw, USUAL_BURST, self.block()),
            || Ok(2.0 * gather.run(self.block())?),
        )?;
        report.push(self.beside("look-up, hit", USUAL_BURST, "two random lines", &paired));
        Ok(())
    }

    fn ageing(&self, report: &mut Report) -> Result<()> {
        let mut ageing = Ageing::new(self.sessions, self.args.eal.memory())?;
        let rounds = self.args.rounds.into();
        let expire = repeated(rounds, Better::Less, || ageing.expire(self.block()))?;
        report.push(Row::alone("expire", self.sessions.into(), CYCLES, expire));
        ageing.settle()?;
        let look = repeated(rounds, Better::Less, || ageing.put_back(self.block()))?;
        report.push(Row::alone("timer", self.sessions.into(), CYCLES, look));
        Ok(())
    }

    /// Alternates after one round that does not count, which warms caches and predictors.
    fn compare(
        &self,
        mut ours: impl FnMut() -> Result<f64>,
        mut peer: impl FnMut() -> Result<f64>,
    ) -> Result<Paired> {
        ours()?;
        peer()?;
        paired(self.args.rounds.into(), Better::Less, ours, peer)
    }

    fn beside(&self, what: &str, burst: usize, peer: &str, paired: &Paired) -> Row {
        let what = format!("{what}, bursts of {burst}");
        Row::beside(what, self.sessions.into(), CYCLES, peer, paired)
    }

    fn bursts(&self) -> impl Iterator<Item = usize> {
        self.args.bursts.iter().map(|&burst| burst.into())
    }

    fn block(&self) -> Block {
        Block::of_milliseconds(self.args.block)
    }
}

/// Refuses to compare tables that do not lie in the same kind of memory.
fn ensure_huge(asked: bool, got: bool, bytes: usize) -> Result<()> {
    ensure!(
        !asked || got,
        "{bytes} bytes of huge pages are not to be had: reserve more (`sysctl vm.nr_hugepages=…`), \
         measure fewer sessions, or compare in ordinary pages (--no-huge)"
    );
    Ok(())
}
