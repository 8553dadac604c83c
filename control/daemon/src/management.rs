//! The management API: HTTP and JSON over a unix socket, on a thread of its own.
//!
//! What the control core knows is asked of it by closures over a channel; the session table is read
//! here, without disturbing anybody, through its lock-free readers. Nothing here can delay a packet
//! or a heartbeat.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{
    Cleared, ConfigView, ErrorBody, FailoverRequest, FailoverView, MaintenanceRequest,
    SessionFilter, path,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cluster::Command;
use config::Config;
use crossbeam::channel::{Receiver, Sender};
use forward::Snapshot;
use packet::Tuple;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::control::{Control, HandOver, Request};
use crate::metrics::Metrics;
use crate::sessions;

pub(crate) mod socket;

use socket::{SocketFile, listen};

/// How often an operator's request looks how far a hand-over is.
const HAND_OVER_GLANCE: Duration = Duration::from_millis(5);
/// How often a request to clear sessions looks whether a worker has room again.
const CLEAR_GLANCE: Duration = Duration::from_millis(1);
/// How long answers that are on their way when the unit ends may take.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// Sessions listed when the operator sets no limit.
const LISTED_BY_DEFAULT: u32 = 1_000;

/// The way to the control core.
#[derive(Clone)]
pub(crate) struct Operator(Sender<Request>);

impl Operator {
    pub(crate) fn new(requests: Sender<Request>) -> Self {
        Self(requests)
    }

    /// Runs `ask` on the control core between two turns.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let request: Request = Box::new(move |control| {
            let _ = answer.send(ask(control));
        });
        self.0.send(request).map_err(|_| Failure::ended())?;
        answered.await.map_err(|_| Failure::ended())
    }
}

/// A request that was refused or failed.
pub(crate) struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

impl Failure {
    fn new(status: StatusCode, error: impl ToString, remedy: &str) -> Self {
        let body = ErrorBody {
            error: error.to_string(),
            remedy: remedy.to_owned(),
        };
        Self { status, body }
    }

    fn ended() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the unit is shutting down",
            "start it again",
        )
    }

    fn bad(error: impl ToString, remedy: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, remedy)
    }

    /// Refused by the cluster; the sentence says what would be right after its semicolon.
    fn refused(refusal: &cluster::Refusal) -> Self {
        let text = refusal.to_string();
        let (error, remedy) = text.split_once("; ").unwrap_or((&text, ""));
        Self::new(StatusCode::CONFLICT, error, remedy)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failure>;

/// Everything that operators reach the unit by, open before the data plane starts: a unit whose
/// socket another one serves touches no port, and a signal in between is not lost.
pub(crate) struct Management {
    runtime: Runtime,
    listener: UnixListener,
    metrics: Option<TcpListener>,
    terminate: Signal,
    interrupt: Signal,
    file: SocketFile,
}

impl Management {
    /// Opens the sockets. Who connects waits until they are served.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Long lists are made one after the other: each takes memory.
            .max_blocking_threads(1)
            .build()
            .context("cannot start the management thread")?;
        let inside = runtime.enter();
        let listener = listen(&config.management.socket)?;
        let file = SocketFile::of(&config.management.socket);
        let caught = |kind| signal(kind).context("signals cannot be caught");
        let (terminate, interrupt) = (
            caught(SignalKind::terminate())?,
            caught(SignalKind::interrupt())?,
        );
        let metrics = match config.management.metrics {
            None => None,
            Some(address) => Some(
                runtime
                    .block_on(TcpListener::bind(address))
                    .with_context(|| format!("management.metrics: cannot listen on {address}"))?,
            ),
        };
        drop(inside);
        Ok(Self {
            runtime,
            listener,
            metrics,
            terminate,
            interrupt,
            file,
        })
    }

    /// Serves on a thread of its own until the value that it returns is dropped.
    pub(crate) fn serve(self, operator: Operator) -> Result<Serving> {
        let (end, ended) = oneshot::channel::<()>();
        let serve = async move {
            tokio::spawn(leave_on_signal(
                self.terminate,
                self.interrupt,
                operator.clone(),
            ));
            if let Some(listener) = self.metrics {
                let routes = axum::Router::new()
                    .route(path::METRICS, get(metrics_text))
                    .with_state(operator.clone());
                tokio::spawn(async move { axum::serve(listener, routes).await });
            }
            axum::serve(self.listener, routes(operator))
                .with_graceful_shutdown(async { drop(ended.await) })
                .await
        };
        let (answering, answered) = crossbeam::channel::bounded(0);
        thread::Builder::new()
            .name("management".to_owned())
            .spawn(move || {
                let _answering = answering;
                if let Err(error) = self.runtime.block_on(serve) {
                    tracing::error!("management: {error}");
                }
                // Nobody gets a list that is still made.
                self.runtime.shutdown_background();
            })
            .context("cannot start the management thread")?;
        Ok(Serving {
            end: Some(end),
            answered,
            _file: self.file,
        })
    }
}

/// The management thread at work. Dropped when the control core has ended, it lets the answers that this has
/// caused reach those who asked, and takes the socket away.
pub(crate) struct Serving {
    /// Dropped, it has the thread finish.
    end: Option<oneshot::Sender<()>>,
    /// Disconnected when the thread has finished.
    answered: Receiver<()>,
    _file: SocketFile,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end = None;
        // In time or not, there is nothing more to be done.
        let _ = self.answered.recv_timeout(LAST_ANSWERS);
    }
}

async fn leave_on_signal(mut terminate: Signal, mut interrupt: Signal, operator: Operator) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("asked to stop: handing over, then leaving");
    let _ = operator.ask(|control| control.order(Command::Leave)).await;
}

fn routes(operator: Operator) -> axum::Router {
    axum::Router::new()
        .route(path::STATUS, get(|state| view(state, Control::status)))
        .route(path::CLUSTER, get(|state| view(state, Control::cluster)))
        .route(path::WHY, get(|state| view(state, Control::why)))
        .route(
            path::INTERFACES,
            get(|state| view(state, Control::interfaces)),
        )
        .route(
            path::NEIGHBOURS,
            get(|state| view(state, Control::neighbours)),
        )
        .route(path::ROUTES, get(|state| view(state, Control::routes)))
        .route(path::POLICIES, get(|state| view(state, Control::policies)))
        .route(path::COUNTERS, get(|state| view(state, Control::counters)))
        .route(path::EVENTS, get(|state| view(state, Control::events)))
        .route(path::SYNC, get(|state| view(state, Control::sync)))
        .route(path::CONFIG, get(|state| view(state, configuration)))
        .route(path::METRICS, get(metrics_text))
        .route(path::FAILOVER, post(failover))
        .route(path::MAINTENANCE, post(maintenance))
        .route(path::SESSIONS, get(list_sessions).delete(clear_sessions))
        .route(path::RELOAD, post(reload))
        .method_not_allowed_fallback(async || {
            Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has another method",
                "see the paths in docs/operating.md",
            )
        })
        .fallback(async || {
            Failure::new(
                StatusCode::NOT_FOUND,
                "no such path",
                "see the paths in docs/operating.md",
            )
        })
        .with_state(operator)
}

async fn view<T: Send + 'static>(
    State(operator): State<Operator>,
    read: fn(&Control) -> T,
) -> Answer<T> {
    operator.ask(move |control| read(control)).await.map(Json)
}

fn configuration(control: &Control) -> ConfigView {
    let config = control.config();
    ConfigView {
        file: config.file().to_owned(),
        text: config.text().to_owned(),
        hash: format!("{:016x}", config.hash()),
    }
}

async fn metrics_text(State(operator): State<Operator>) -> Result<Response, Failure> {
    let metrics = operator.ask(|control| Metrics::read(control)).await?;
    let text = metrics.encode().map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error,
            "report this as a defect",
        )
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(axum::http::header::CONTENT_TYPE, kind)], text).into_response())
}

async fn order(operator: &Operator, command: Command) -> Result<(), Failure> {
    operator
        .ask(move |control| control.order(command))
        .await?
        .map_err(|refusal| Failure::refused(&refusal))
}

/// The body of a request as it came, whatever its headers call it.
type Body = Result<Bytes, BytesRejection>;

/// The fields of a command. `none` is what no body at all stands for, if that means something.
fn fields<T: serde::de::DeserializeOwned>(body: Body, none: Option<T>) -> Result<T, Failure> {
    let bytes = body.map_err(|rejection| Failure {
        status: rejection.status(),
        ..Failure::bad(rejection, "send the fields as JSON, and nothing else")
    })?;
    match none {
        Some(none) if bytes.is_empty() => Ok(none),
        _ => serde_json::from_slice(&bytes)
            .map_err(|error| Failure::bad(error, "send the fields as JSON")),
    }
}

/// Answers when the successor is primary, or the hand-over has failed: the node sees to it that one of
/// the two comes.
async fn failover(State(operator): State<Operator>, body: Body) -> Answer<FailoverView> {
    let request = fields(body, Some(FailoverRequest::default()))?;
    let to = match request.to {
        None => None,
        Some(id) => Some(Control::unit(id).ok_or_else(|| {
            Failure::bad(
                format!("there is no unit {id}"),
                "units are numbered 1 to 16",
            )
        })?),
    };
    order(&operator, Command::Failover { to }).await?;
    handed_over(&operator).await.map(Json)
}

/// Waits until the hand-over that was ordered is done or has failed.
async fn handed_over(operator: &Operator) -> Result<FailoverView, Failure> {
    loop {
        match operator.ask(|control| control.hand_over()).await? {
            HandOver::UnderWay => tokio::time::sleep(HAND_OVER_GLANCE).await,
            HandOver::Done(view) => return Ok(view),
            HandOver::Failed(error) => {
                return Err(Failure::new(
                    StatusCode::CONFLICT,
                    error,
                    "see `tidegate events`",
                ));
            }
        }
    }
}

/// Answers when the unit is out; a primary hands over first.
async fn maintenance(State(operator): State<Operator>, body: Body) -> Answer<FailoverView> {
    let MaintenanceRequest { on } = fields(body, None)?;
    let ordered = operator.ask(move |control| control.maintain(on)).await?;
    let hands_over = ordered.map_err(|refusal| Failure::refused(&refusal))?;
    let view = match (hands_over, on) {
        (true, _) => {
            let view = handed_over(&operator).await?;
            let message = format!("{}, this unit is held out", view.message);
            FailoverView { message, ..view }
        }
        (false, true) => held("this unit is held out"),
        (false, false) => held("taking part in elections again"),
    };
    Ok(Json(view))
}

/// Nothing was handed over.
fn held(message: &str) -> FailoverView {
    FailoverView {
        message: message.to_owned(),
        to: None,
        steps: Vec::new(),
    }
}

fn filter(RawQuery(query): RawQuery) -> Result<SessionFilter, Failure> {
    SessionFilter::from_query(query.as_deref().unwrap_or_default())
        .map_err(|error| Failure::bad(error, "see `tidegate sessions --help`"))
}

async fn list_sessions(
    State(operator): State<Operator>,
    query: RawQuery,
) -> Result<Response, Failure> {
    let filter = filter(query)?;
    let (table, policies) = operator
        .ask(|control| (control.table(), control.policy_names()))
        .await?;
    let limit = filter.limit.unwrap_or(LISTED_BY_DEFAULT);
    let (table, found) = aside(move || {
        let found = sessions::find(&table, &filter, limit);
        (table, found)
    })
    .await?;
    // After the table was read: what is acknowledged now was not changed since.
    let copies = operator.ask(|control| control.copies()).await?;
    aside(move || Json(found.show(&table, &policies, &copies)).into_response()).await
}

/// Does work that takes seconds where nothing else waits for it, except for more of the kind.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    // It is given up when the thread ends.
    done.map_err(|_| Failure::ended())
}

async fn clear_sessions(State(operator): State<Operator>, query: RawQuery) -> Answer<Cleared> {
    let filter = filter(query)?;
    if filter.limit.is_some() {
        return Err(Failure::bad(
            "every session that matches is removed, and limit is for lists",
            "leave limit out, or write what the sessions have in common",
        ));
    }
    let table = operator.ask(|control| control.table()).await?;
    let mut cleared = 0;
    for part in sessions::parts(&table) {
        let originals = sessions::matching(&table, &filter, part);
        if clear(&operator, part.shard, originals, &mut cleared)
            .await
            .is_err()
        {
            return Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the unit is shutting down, and has cleared {cleared} sessions"),
                "clear the others when it runs again",
            ));
        }
        // Another request goes first.
        tokio::task::yield_now().await;
    }
    Ok(Json(Cleared { cleared }))
}

/// Has a worker remove sessions, no faster than it can, and counts them.
async fn clear(
    operator: &Operator,
    worker: u16,
    originals: Vec<Tuple>,
    cleared: &mut u64,
) -> Result<(), Failure> {
    let originals: Arc<[Tuple]> = originals.into();
    let mut done = 0;
    while done < originals.len() {
        let all = Arc::clone(&originals);
        let taken = operator
            .ask(move |control| control.clear(worker, &all[done..]))
            .await?;
        if taken == 0 {
            tokio::time::sleep(CLEAR_GLANCE).await;
        }
        done += taken;
        *cleared += taken as u64;
    }
    Ok(())
}

/// Reads and checks the file and builds the snapshot here, so that the control core only swaps.
async fn reload(State(operator): State<Operator>) -> Answer<api::ReloadResult> {
    let file: PathBuf = operator
        .ask(|control| control.config().file().to_owned())
        .await?;
    let new = Config::load(&file)
        .map_err(|problems| Failure::bad(problems, "correct the file and reload again"))?;
    let parts = Arc::new(new.clone());
    let (eal, settings) = operator
        .ask(move |control| control.snapshot_parts(&parts))
        .await?;
    let snapshot = Snapshot::build(&eal, settings)
        .map_err(|error| Failure::bad(error, "correct the file and reload again"))?;
    operator
        .ask(move |control| control.reload(new, &snapshot))
        .await?
        .map(Json)
        .map_err(|keys| {
            Failure::new(
                StatusCode::CONFLICT,
                format!(
                    "nothing was changed, since these need a restart: {}",
                    keys.join(", ")
                ),
                "restart the unit, or take these changes back and reload again",
            )
        })
}

#[cfg(test)]
mod tests {
    use api::{Client, Method};

    use super::socket::tests::Folder;
    use super::*;

    /// Sends requests whose answers need no control core: it has ended.
    fn refused(requests: &[(Method, &str, &str)]) -> Vec<String> {
        let (sender, _) = crossbeam::channel::unbounded();
        let folder = Folder::new();
        let socket = folder.0.join("gw.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        let listener = listen(&socket).unwrap();
        drop(inside);
        let server = axum::serve(listener, routes(Operator::new(sender)));
        // Ends with the process.
        thread::spawn(move || runtime.block_on(async { server.await }));
        let client = Client::new(&socket);
        let ask = |(method, path, body): &(Method, &str, &str)| {
            let answer = client.text(method.clone(), path, Some((*body).to_owned()));
            match answer.unwrap_err() {
                api::Error::Refused(refused) => refused.error,
                other => panic!("{other}"),
            }
        };
        requests.iter().map(ask).collect()
    }

    #[test]
    fn a_clear_with_a_limit_clears_nothing() {
        let clear = |query| (Method::DELETE, query, "");
        let refused = refused(&[
            clear("/v1/sessions?limit=5"),
            clear("/v1/sessions?port=53&limit=5"),
            clear("/v1/sessions?port=53"),
        ]);
        let limited = "every session that matches is removed, and limit is for lists";
        let ended = "the unit is shutting down";
        assert_eq!(refused, [limited, limited, ended]);
    }

    /// The client of the API understands each of them.
    #[test]
    fn every_refusal_has_its_reason() {
        let maintenance = |body| (Method::POST, path::MAINTENANCE, body);
        let refused = refused(&[
            maintenance(""),
            maintenance("{\"on\": 1}"),
            maintenance("{\"on\": true}"),
            (Method::POST, path::FAILOVER, "{\"to\": 17}"),
            (Method::POST, path::FAILOVER, ""),
            (Method::PUT, path::STATUS, ""),
            (Method::GET, "/v2/status", ""),
        ]);
        let ended = "the unit is shutting down";
        let parts = [
            "EOF while parsing",
            "invalid type: integer `1`, expected a boolean",
            ended,
            "there is no unit 17",
            ended,
            "this path has another method",
            "no such path",
        ];
        assert_eq!(refused.len(), parts.len());
        for (refused, part) in refused.iter().zip(parts) {
            assert!(refused.contains(part), "no {part:?} in {refused:?}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_control_core_that_has_ended() {
        let (sender, receiver) = crossbeam::channel::unbounded();
        drop(receiver);
        let failure = Operator::new(sender).ask(|_| ()).await.err().unwrap();
        assert_eq!(failure.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
