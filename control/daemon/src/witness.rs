//! The unit's side of the witness: etcd, by its JSON gateway over HTTP.
//!
//! A thread of its own keeps a lease at etcd, whatever the unit's role is: so it is known beforehand
//! whether the witness answers. Being primary is a key that is attached to that lease, and is written only
//! where it is absent. The thread follows the latest [`LeaseWish`] of the cluster's state machine and tells
//! after each answer how things are; it may be as slow as the network, for a lease that was not renewed in
//! time stops the unit elsewhere: in the state machine and in the workers.
//!
//! Invariant: a report's `until` is not later than the moment at which etcd may let the lease go. Time is
//! counted from before the request was sent, and a tenth of it is left out for clocks that differ in rate.

mod etcd;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{LeaseHolder, LeaseReport, LeaseWish, Time};
use config::Config;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use forward::Lease;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::workers;
use etcd::{Etcd, Failure, LeaseId};

/// The lease is renewed so many times in its life.
const RENEWALS: u32 = 4;
/// What part of a lease is not used: clocks may differ by that much, and workers take a moment.
const MARGIN: u32 = 10;
/// The first pause before a lease is asked for again that another unit has; each following one is twice
/// as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long the thread may take to give everything back at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The control core's end.
pub(crate) struct Witness {
    /// What the workers obey.
    pub(crate) lease: Arc<Lease>,
    wishes: watch::Sender<LeaseWish>,
    reports: Receiver<LeaseReport>,
    ended: Receiver<()>,
    _thread: JoinHandle<()>,
}

impl Witness {
    /// Starts the thread, if the cluster has a witness. `owner` is what etcd is told of this start of the
    /// unit: unlike that of any other.
    pub(crate) fn start(config: &Config, owner: String, clock: Clock) -> Result<Option<Self>> {
        let Some(settings) = &config.witness else {
            return Ok(None);
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the witness thread")?;
        let (wishes, wished) = watch::channel(LeaseWish::default());
        let (report, reports) = unbounded();
        let (end, ended) = bounded(0);
        let keeper = Keeper {
            etcd: Etcd::new(
                settings.endpoints.clone(),
                settings.lease / RENEWALS,
                key(config.cluster.id),
                owner,
            ),
            ttl: settings.lease.as_secs(),
            clock,
            report,
            session: None,
            holder: LeaseHolder::Unknown,
            pause: SHORTEST_PAUSE,
        };
        let thread = std::thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || {
                // It sleeps nearly always, and what it does must not wait.
                workers::prefer(workers::CONTROL_NICENESS);
                runtime.block_on(keeper.run(wished));
                drop(end);
            })
            .context("cannot start the witness thread")?;
        Ok(Some(Self {
            lease: Arc::new(Lease::none()),
            wishes,
            reports,
            ended,
            _thread: thread,
        }))
    }

    /// Tells what the unit wants from now on.
    pub(crate) fn wish(&self, wish: LeaseWish) {
        self.wishes.send_replace(wish);
    }

    /// The latest report, if there is a new one.
    pub(crate) fn latest(&self) -> Option<LeaseReport> {
        let mut latest = None;
        loop {
            match self.reports.try_recv() {
                Ok(report) => latest = Some(report),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return latest,
            }
        }
    }

    /// Gives everything back, so that a successor need not wait until the lease runs out. Bounded.
    pub(crate) fn leave(self) {
        self.lease.set_end(0);
        drop(self.wishes);
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

/// Where the cluster's primary is written.
fn key(cluster: u16) -> String {
    format!("/tidegate/{cluster}/primary")
}

/// A lease at etcd.
struct Session {
    id: LeaseId,
    /// It is this unit's until then.
    until: Time,
    renew_at: Time,
}

/// The thread's state.
struct Keeper {
    etcd: Etcd,
    /// Seconds.
    ttl: u64,
    clock: Clock,
    report: Sender<LeaseReport>,
    session: Option<Session>,
    holder: LeaseHolder,
    /// How long it waits before it asks again for what another unit has.
    pause: Duration,
}

impl Keeper {
    async fn run(mut self, mut wished: watch::Receiver<LeaseWish>) {
        let mut last = LeaseWish::default();
        loop {
            let wish = *wished.borrow_and_update();
            if wish != last {
                self.pause = SHORTEST_PAUSE;
                last = wish;
            }
            let pause = match self.attend(wish).await {
                Ok(pause) => pause,
                Err(failure) => self.fail(&failure),
            };
            self.tell(wish);
            tokio::select! {
                changed = wished.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Some(session) = self.session {
            // The key goes with it.
            let _ = self.etcd.revoke(session.id).await;
        }
    }

    /// Has what is wished for as far as one exchange brings it, and says when to go on.
    async fn attend(&mut self, wish: LeaseWish) -> Result<Duration, Failure> {
        let now = self.clock.now();
        let due = self
            .session
            .as_ref()
            .is_none_or(|session| now >= session.renew_at);
        if due {
            self.renew().await?;
        }
        let Some(session) = &self.session else {
            return Ok(Duration::ZERO);
        };
        let owned = self.holder == LeaseHolder::Own;
        if wish.hold && (due || !owned) {
            self.holder = self.etcd.claim(session.id).await?;
        } else if !wish.hold && (due || owned) {
            self.holder = self.etcd.release().await?;
        }
        let waits = wish.hold && self.holder != LeaseHolder::Own;
        let rest = session.renew_at.since(self.clock.now());
        if !waits {
            return Ok(rest);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Ok(rest.min(pause))
    }

    /// Gets a lease, or keeps the one that there is.
    async fn renew(&mut self) -> Result<(), Failure> {
        let asked = self.clock.now();
        let kept = match &self.session {
            Some(session) => match self.etcd.keep_alive(session.id).await? {
                0 => None,
                ttl => Some((session.id, ttl)),
            },
            None => None,
        };
        let (id, ttl) = match kept {
            Some(kept) => kept,
            None => {
                // What was attached to a lease went with it.
                self.session = None;
                self.holder = LeaseHolder::Unknown;
                let id_and_ttl = self.etcd.grant(self.ttl).await?;
                tracing::debug!("a lease of {} s at the witness", id_and_ttl.1);
                id_and_ttl
            }
        };
        let life = Duration::from_secs(ttl);
        self.session = Some(Session {
            id,
            until: asked + (life - life / MARGIN),
            renew_at: asked + life / RENEWALS,
        });
        Ok(())
    }

    /// Takes note of an exchange that failed; the next one goes to another server.
    fn fail(&mut self, failure: &Failure) -> Duration {
        tracing::debug!("the witness: {failure}");
        LONGEST_PAUSE
    }

    fn tell(&self, wish: LeaseWish) {
        let report = LeaseReport {
            round: wish.round,
            until: self
                .session
                .as_ref()
                .map_or(Time(0), |session| session.until),
            holder: self.holder,
        };
        // The unit may be ending.
        let _ = self.report.send(report);
    }
}
