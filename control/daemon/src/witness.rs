//! The unit's side of the witness: etcd, by its JSON gateway over HTTP.
//!
//! A thread of its own carries what [`LeaseKeeper`] asks to etcd and brings the answers back, whatever the
//! unit's role is: so it is known beforehand whether the witness answers. The keeper follows the latest
//! [`LeaseWish`] of the cluster's state machine; the thread tells after each answer how things are.

mod etcd;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::{LeaseAnswer, LeaseKeeper, LeaseReport, LeaseRequest, LeaseWish, Time};
use config::Config;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use forward::Lease;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::workers;
use etcd::{Etcd, Failure};

/// The longest sleep of the thread: it looks whether the control core gets on again.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// How long the thread may take to give everything back at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The control core's end.
pub(crate) struct Witness {
    /// What the workers obey.
    pub(crate) lease: Arc<Lease>,
    wishes: watch::Sender<LeaseWish>,
    reports: Receiver<LeaseReport>,
    /// When the control core looked last, in nanoseconds of its clock.
    looked: Arc<AtomicU64>,
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
        let looked = Arc::new(AtomicU64::new(clock.now().0));
        let courier = Courier {
            etcd: Etcd::new(
                settings.endpoints.clone(),
                settings
                    .tls
                    .as_ref()
                    .map(tls::connector)
                    .transpose()
                    .context("witness")?,
                LeaseKeeper::exchange_limit(settings.lease),
                key(config.cluster.id),
                owner,
            ),
            life: settings.lease,
            keeper: LeaseKeeper::new(settings.lease, clock.now()),
            clock,
            report,
            looked: Arc::clone(&looked),
            trouble: None,
        };
        let thread = std::thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || {
                // It sleeps nearly always, and what it does must not wait.
                workers::prefer(workers::CONTROL_NICENESS);
                runtime.block_on(courier.run(wished));
                drop(end);
            })
            .context("cannot start the witness thread")?;
        Ok(Some(Self {
            lease: Arc::new(Lease::none()),
            wishes,
            reports,
            looked,
            ended,
            _thread: thread,
        }))
    }

    /// Tells what the unit wants from now on.
    pub(crate) fn wish(&self, wish: LeaseWish) {
        self.wishes.send_replace(wish);
    }

    /// The latest report, if there is a new one. Tells the thread that the control core gets on.
    pub(crate) fn latest(&self, now: Time) -> Option<LeaseReport> {
        self.looked.store(now.0, Ordering::Relaxed);
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

/// The thread's state.
struct Courier {
    etcd: Etcd,
    /// Of a lease, as configured.
    life: Duration,
    keeper: LeaseKeeper,
    clock: Clock,
    report: Sender<LeaseReport>,
    looked: Arc<AtomicU64>,
    /// Why the latest exchange brought nothing, if it did not: the log tells of each reason once.
    trouble: Option<String>,
}

impl Courier {
    async fn run(mut self, mut wished: watch::Receiver<LeaseWish>) {
        loop {
            self.keeper.wish(*wished.borrow_and_update());
            let looked = Time(self.looked.load(Ordering::Relaxed));
            self.keeper.attend(looked);
            let now = self.clock.now();
            if let Some(request) = self.keeper.request(now) {
                let answer = self.carry(request).await;
                self.keeper.answer(answer, self.clock.now());
                // The unit may be ending.
                let _ = self.report.send(self.keeper.report());
            }
            let now = self.clock.now();
            let pause = self.keeper.next_deadline(now).since(now);
            tokio::select! {
                changed = wished.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(pause.min(LONGEST_SLEEP)) => {}
            }
        }
        for lease in self.keeper.leases() {
            // The key goes with it.
            let _ = self.etcd.revoke(lease).await;
        }
    }

    /// Brings a request to etcd. After an exchange that failed the next one goes to another server.
    async fn carry(&mut self, request: LeaseRequest) -> Option<LeaseAnswer> {
        let answer = match self.exchange(request).await {
            Ok(answer) => answer,
            Err(failure) => {
                let trouble = failure.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("the witness: {trouble}");
                }
                self.trouble = Some(trouble);
                return None;
            }
        };
        self.trouble = None;
        if let LeaseAnswer::Granted { life, .. } = answer {
            tracing::debug!("a lease of {} s at the witness", life.as_secs());
        }
        Some(answer)
    }

    async fn exchange(&mut self, request: LeaseRequest) -> Result<LeaseAnswer, Failure> {
        Ok(match request {
            LeaseRequest::Grant => {
                let (lease, ttl) = self.etcd.grant(self.life.as_secs()).await?;
                let life = Duration::from_secs(ttl);
                LeaseAnswer::Granted { lease, life }
            }
            LeaseRequest::KeepAlive(lease) => {
                let ttl = self.etcd.keep_alive(lease).await?;
                let life = Duration::from_secs(ttl);
                LeaseAnswer::Kept { life }
            }
            LeaseRequest::Claim(lease) => LeaseAnswer::Holder(self.etcd.claim(lease).await?),
            LeaseRequest::Look => LeaseAnswer::Holder(self.etcd.look().await?),
            LeaseRequest::GiveBack(lease) => {
                self.etcd.revoke(lease).await?;
                LeaseAnswer::GivenBack
            }
        })
    }
}
