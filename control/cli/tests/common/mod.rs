//! A unit that answers from a script, and the command as a process.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// A folder of its own, removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-cli-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A fake unit: gives every request the same answer and keeps what it was asked.
pub(crate) struct Unit {
    folder: Folder,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Unit {
    /// A unit that answers with `status` and `body`.
    pub(crate) fn answering(status: u16, body: &str) -> Self {
        let folder = Folder::new();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let socket = folder.file("gw.sock");
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(socket).expect("a socket")
        };
        let (body, seen) = (Bytes::from(body.to_owned()), requests.clone());
        // Ends with the process: the command has no reason to outlive its answer.
        std::thread::spawn(move || runtime.block_on(serve(listener, status, body, seen)));
        Self { folder, requests }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.file("gw.sock")
    }

    /// What it was asked: method, path and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no thread panicked").clone()
    }
}

async fn serve(
    listener: tokio::net::UnixListener,
    status: u16,
    body: Bytes,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|request: Request<Incoming>| {
            let (body, requests) = (body.clone(), requests.clone());
            async move {
                let (head, incoming) = request.into_parts();
                let sent = incoming
                    .collect()
                    .await
                    .map(|b| b.to_bytes())
                    .unwrap_or_default();
                let line = format!(
                    "{} {} {}",
                    head.method,
                    head.uri,
                    String::from_utf8_lossy(&sent)
                );
                requests
                    .lock()
                    .expect("no thread panicked")
                    .push(line.trim_end().to_owned());
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = status.try_into().expect("a status");
                Ok::<_, Infallible>(response)
            }
        });
        // The command hangs up when it has its answer.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
}

/// The command, with `--socket` set to `socket`.
pub(crate) fn tidegate(socket: &Path, arguments: &[&str]) -> Output {
    command()
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .output()
        .expect("it runs")
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}
