//! A steady stream of datagrams that the server echoes: what is lost of it measures an outage.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::clock::{self, Found, wait_for};
use crate::namespace::Namespace;
use crate::probe::{raise_priority, widen};
use crate::topology::SERVER_WAN;

/// The echo service's port.
const PORT: u16 = 7;
/// Bytes of a datagram: the sequence number and padding.
const DATAGRAM: usize = 64;
/// How many datagrams a stream can have: half an hour of a thousand a second.
const LONGEST: usize = 1_800_000;
/// How long after the last datagram its echo is waited for.
const GRACE: Duration = Duration::from_millis(300);
/// How often threads look whether they are to end.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// The value of a time that has not come.
const NEVER: u64 = u64::MAX;

/// A running stream from the client to the server and back.
#[derive(Debug)]
pub struct UdpStream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    interval: Duration,
    offered: AtomicU64,
    sending: AtomicBool,
    receiving: AtomicBool,
    real_time: AtomicBool,
    /// By sequence number: when it was sent and when its first echo came, in ns since the start.
    sent: Vec<AtomicU64>,
    answered: Vec<AtomicU64>,
}

impl UdpStream {
    /// Starts a stream of `rate` datagrams per second and waits until it is answered.
    ///
    /// # Errors
    ///
    /// When the sockets cannot be had, or nothing is answered within ten seconds.
    pub fn start(client: &Namespace, server: &Namespace, rate: u32) -> Result<Self> {
        let echo = server
            .run(|| UdpSocket::bind((SERVER_WAN, PORT)).context("the server has no echo port"))?;
        let socket = client.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket
                .connect((SERVER_WAN, PORT))
                .context("the client has no route")?;
            Ok(socket)
        })?;
        for socket in [&echo, &socket] {
            widen(socket)?;
            socket.set_read_timeout(Some(STOP_INTERVAL))?;
        }
        let interval = Duration::from_secs(1) / rate;
        let shared = Arc::new(Shared {
            start: clock::now(),
            interval,
            offered: AtomicU64::new(0),
            sending: AtomicBool::new(true),
            receiving: AtomicBool::new(true),
            real_time: AtomicBool::new(true),
            sent: (0..LONGEST).map(|_| AtomicU64::new(NEVER)).collect(),
            answered: (0..LONGEST).map(|_| AtomicU64::new(NEVER)).collect(),
        });
        let receiver = socket.try_clone()?;
        let threads = vec![
            spawn(&shared, move |shared| shared.echo(&echo)),
            spawn(&shared, move |shared| shared.receive(&receiver)),
            spawn(&shared, move |shared| shared.send(&socket)),
        ];
        let stream = Self { shared, threads };
        stream.wait_steady(0)?;
        Ok(stream)
    }

    /// How long a stream of `rate` datagrams per second can be.
    pub fn longest(rate: u32) -> Duration {
        stretch(LONGEST as u64, Duration::from_secs(1) / rate)
    }

    /// How long it can still go on and be recorded.
    pub fn recordable(&self) -> Duration {
        let left = (LONGEST as u64).saturating_sub(self.offered());
        stretch(left, self.shared.interval)
    }

    /// How many datagrams were offered so far.
    pub fn offered(&self) -> u64 {
        self.shared.offered.load(Ordering::Acquire)
    }

    /// When the stream started: the zero of its record's times.
    pub fn started(&self) -> Instant {
        self.shared.start
    }

    /// Whether its threads got a real-time priority.
    pub fn is_real_time(&self) -> bool {
        self.shared.real_time.load(Ordering::Relaxed)
    }

    /// Waits until a tenth of a second's worth of datagrams that were offered after the first
    /// `since` have been answered without a gap.
    ///
    /// # Errors
    ///
    /// When that does not happen within ten seconds.
    pub fn wait_steady(&self, since: u64) -> Result<()> {
        let run = Duration::from_millis(100).as_nanos() / self.shared.interval.as_nanos();
        let run = u64::try_from(run)?.max(1);
        wait_for("an answered stream", Duration::from_secs(10), || {
            let offered = self.offered();
            let answered = (since..offered)
                .rev()
                .map(|sequence| self.shared.is_answered(sequence));
            // The newest are still under way.
            let answered = answered
                .skip_while(|answered| !answered)
                .take_while(|answered| *answered);
            let count = u64::try_from(answered.count())?;
            Ok(if count >= run {
                Found::Yes(())
            } else {
                Found::NotYet(format!("{count} answers in a row of {}", offered - since))
            })
        })
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// When it ran for longer than it can record, or one of its threads panicked.
    pub fn stop(self) -> Result<UdpRecord> {
        let Self { shared, threads } = self;
        shared.sending.store(false, Ordering::Release);
        thread::sleep(GRACE);
        shared.receiving.store(false, Ordering::Release);
        for thread in threads {
            if thread.join().is_err() {
                bail!("a thread of the stream panicked");
            }
        }
        let offered = usize::try_from(shared.offered.load(Ordering::Acquire))?;
        if offered == shared.sent.len() {
            bail!("the stream had more than {LONGEST} datagrams");
        }
        let read = |times: &[AtomicU64]| {
            times[..offered]
                .iter()
                .map(|time| time.load(Ordering::Relaxed))
                .collect()
        };
        Ok(UdpRecord {
            interval: shared.interval,
            sent: read(&shared.sent),
            answered: read(&shared.answered),
        })
    }
}

impl Shared {
    fn elapsed(&self) -> u64 {
        // 2^64 ns are 584 years.
        u64::try_from((clock::now() - self.start).as_nanos()).unwrap_or(NEVER)
    }

    fn is_answered(&self, sequence: u64) -> bool {
        usize::try_from(sequence)
            .ok()
            .and_then(|index| self.answered.get(index))
            .is_some_and(|time| time.load(Ordering::Relaxed) != NEVER)
    }

    fn send(&self, socket: &UdpSocket) {
        let mut datagram = [0; DATAGRAM];
        let mut due = clock::now();
        for (sequence, sent) in (0_u64..).zip(&self.sent) {
            due += self.interval;
            thread::sleep(due.saturating_duration_since(clock::now()));
            if !self.sending.load(Ordering::Acquire) {
                return;
            }
            datagram[..8].copy_from_slice(&sequence.to_be_bytes());
            sent.store(self.elapsed(), Ordering::Relaxed);
            // A datagram that the host itself refuses (no carrier, no neighbour) was offered too.
            let _ = socket.send(&datagram);
            self.offered.store(sequence + 1, Ordering::Release);
        }
    }

    fn receive(&self, socket: &UdpSocket) {
        let mut datagram = [0; DATAGRAM];
        while self.receiving.load(Ordering::Acquire) {
            // Errors are timeouts, to look at the flag, and ICMP errors: then the answer is missing.
            let Ok(DATAGRAM) = socket.recv(&mut datagram) else {
                continue;
            };
            let Some(Ok(sequence)) = datagram
                .first_chunk()
                .map(|head| usize::try_from(u64::from_be_bytes(*head)))
            else {
                continue;
            };
            if let Some(answered) = self.answered.get(sequence) {
                let now = self.elapsed();
                // A duplicate does not move the time of the first.
                let _ = answered.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    fn echo(&self, socket: &UdpSocket) {
        let mut datagram = [0; DATAGRAM];
        while self.receiving.load(Ordering::Acquire) {
            let Ok((length, from)) = socket.recv_from(&mut datagram) else {
                continue;
            };
            reply(socket, &datagram[..length], from);
        }
    }
}

/// How long so many datagrams take.
fn stretch(datagrams: u64, interval: Duration) -> Duration {
    interval.saturating_mul(u32::try_from(datagrams).unwrap_or(u32::MAX))
}

/// Sends an echo back. One that the host refuses is a lost one, which the client counts.
fn reply(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) {
    let _ = socket.send_to(datagram, to);
}

fn spawn(shared: &Arc<Shared>, work: impl FnOnce(&Shared) + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        if !raise_priority() {
            shared.real_time.store(false, Ordering::Relaxed);
        }
        work(&shared);
    })
}

/// What became of every datagram of a stream.
#[derive(Clone, Debug)]
pub struct UdpRecord {
    interval: Duration,
    /// By sequence number, in nanoseconds since the start of the stream.
    sent: Vec<u64>,
    answered: Vec<u64>,
}

/// What a stretch of a stream lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Datagrams offered.
    pub offered: u64,
    /// Datagrams without an answer.
    pub lost: u64,
    /// Datagrams lost ÷ datagrams offered per second: the measure of RFC 6201 and of CSIT.
    pub blocked: Duration,
    /// The longest time in which no answer came.
    pub longest_gap: Duration,
}

impl UdpRecord {
    /// How many datagrams were offered in all.
    pub fn offered(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The loss among the datagrams of these sequence numbers.
    pub fn loss(&self, range: Range<u64>) -> Loss {
        let clamp = |bound: u64| {
            usize::try_from(bound)
                .unwrap_or(usize::MAX)
                .min(self.sent.len())
        };
        let range = clamp(range.start)..clamp(range.end);
        let answers = &self.answered[range.clone()];
        let lost = answers.iter().filter(|time| **time == NEVER).count() as u64;
        let mut times: Vec<u64> = answers
            .iter()
            .copied()
            .filter(|time| *time != NEVER)
            .collect();
        times.sort_unstable();
        let first = self.sent.get(range.start).copied().unwrap_or(0);
        let last = self.sent[range].last().copied().unwrap_or(first);
        let ends = [last.max(times.last().copied().unwrap_or(first))];
        let gap = times
            .iter()
            .chain(&ends)
            .scan(first, |previous, time| {
                let gap = time.saturating_sub(*previous);
                *previous = *time;
                Some(gap)
            })
            .max();
        Loss {
            offered: answers.len() as u64,
            lost,
            blocked: stretch(lost, self.interval),
            longest_gap: Duration::from_nanos(gap.unwrap_or(0)),
        }
    }

    /// The loss of the whole stream.
    pub fn total_loss(&self) -> Loss {
        self.loss(0..self.offered())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Ten datagrams, 1 ms apart, each answered 0.1 ms later but for those of `lost`.
    fn record(lost: Range<usize>) -> UdpRecord {
        let sent: Vec<u64> = (0..10).map(|sequence| sequence * MS).collect();
        let answered = sent.iter().enumerate().map(|(sequence, sent)| {
            if lost.contains(&sequence) {
                NEVER
            } else {
                sent + MS / 10
            }
        });
        UdpRecord {
            interval: Duration::from_millis(1),
            answered: answered.collect(),
            sent,
        }
    }

    #[test]
    fn nothing_lost_is_no_blocked_time() {
        let loss = record(0..0).total_loss();
        assert_eq!(
            (loss.offered, loss.lost, loss.blocked),
            (10, 0, Duration::ZERO)
        );
        assert_eq!(loss.longest_gap, Duration::from_millis(1));
    }

    #[test]
    fn blocked_time_is_loss_over_rate() {
        let loss = record(3..7).total_loss();
        assert_eq!((loss.lost, loss.blocked), (4, Duration::from_millis(4)));
        assert_eq!(loss.longest_gap, Duration::from_millis(5));
    }

    #[test]
    fn a_loss_at_the_end_is_a_gap_too() {
        let loss = record(6..10).total_loss();
        assert_eq!(
            (loss.lost, loss.longest_gap),
            (4, Duration::from_micros(3_900))
        );
    }

    #[test]
    fn a_stretch_counts_only_its_own() {
        let record = record(3..7);
        assert_eq!(record.loss(0..5).lost, 2);
        assert_eq!(record.loss(7..99).lost, 0);
        assert_eq!(
            record.loss(20..30),
            Loss {
                offered: 0,
                lost: 0,
                blocked: Duration::ZERO,
                longest_gap: Duration::ZERO,
            }
        );
    }
}
