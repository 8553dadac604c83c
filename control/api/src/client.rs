//! The client: one request, one connection, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::view::ErrorBody;

/// How long a request may take. The slowest, a planned failover, waits for peers, but not longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest answer that is read: a million sessions are about 400 MB.
const ANSWER_MAX: usize = 1 << 29;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket, or nobody listens on it.
    #[error("no unit answers on {}: {cause}; is tidegated running? (systemctl status 'tidegated@*')", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The socket may not be opened by this user.
    #[error("{} may not be opened by this user; run as root, or join the socket's group", socket.display())]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The unit took the request and did not answer in time.
    #[error("{} gave no answer within {} s; the log of tidegated tells why", socket.display(), DEADLINE.as_secs())]
    Timeout {
        /// The socket.
        socket: PathBuf,
    },
    /// What answers does not speak the API.
    #[error("{} gave an answer that can't be understood: {cause}; are tidegate and tidegated of one version?", socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What can't be understood.
        cause: String,
    },
    /// The unit refused the request.
    #[error("{}; {}", .0.error, .0.remedy)]
    Refused(ErrorBody),
}

/// Asks one unit.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
}

impl Client {
    /// A client of the unit that listens on `socket`. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            deadline: DEADLINE,
        }
    }

    /// The same with another deadline for every request.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for `path`.
    ///
    /// # Errors
    ///
    /// If there is no answer, or not one of type `T`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read(&self.request(Method::GET, path, None)?)
    }

    /// Asks for `path`, and gives the answer as it came.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn text(&self, method: Method, path: &str, body: Option<String>) -> Result<String, Error> {
        let bytes = self.request(method, path, body)?;
        String::from_utf8(bytes.into()).map_err(|error| self.protocol(&error))
    }

    /// Has the unit do something.
    ///
    /// # Errors
    ///
    /// If the unit refuses, or there is no answer, or not one of type `T`.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_string(body).map_err(|error| self.protocol(&error))?;
        self.read(&self.request(Method::POST, path, Some(body))?)
    }

    /// Has the unit remove what `path` names.
    ///
    /// # Errors
    ///
    /// If the unit refuses, or there is no answer, or not one of type `T`.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read(&self.request(Method::DELETE, path, None)?)
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.protocol(&error))
    }

    fn protocol(&self, cause: &dyn std::error::Error) -> Error {
        // The reason is in the chain: hyper's own message is only "error reading a body".
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        Error::Protocol {
            socket: self.socket.clone(),
            cause: text,
        }
    }

    fn unreachable(&self, cause: io::Error) -> Error {
        let socket = self.socket.clone();
        if cause.kind() == io::ErrorKind::PermissionDenied {
            Error::Permission { socket }
        } else {
            Error::Unreachable { socket, cause }
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<String>) -> Result<Bytes, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| self.unreachable(cause))?;
        runtime.block_on(async {
            tokio::time::timeout(self.deadline, self.exchange(method, path, body))
                .await
                .unwrap_or_else(|_| {
                    Err(Error::Timeout {
                        socket: self.socket.clone(),
                    })
                })
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Bytes, Error> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|cause| self.unreachable(cause))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.protocol(&error))?;
        // Ends with the sender, at the end of this function.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tidegate")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| self.protocol(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.protocol(&error))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| self.protocol(error.as_ref()))?
            .to_bytes();
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(self.refusal(status, &bytes))
        }
    }

    fn refusal(&self, status: StatusCode, bytes: &[u8]) -> Error {
        match serde_json::from_slice(bytes) {
            Ok(body) => Error::Refused(body),
            Err(_) => Error::Protocol {
                socket: self.socket.clone(),
                cause: format!("status {status}"),
            },
        }
    }
}
