//! The client: one request, one connection, one answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::view::ErrorBody;

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
    #[error("{} gave no answer within {} s; the log of tidegated tells why", socket.display(), deadline.as_secs_f32())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        deadline: Duration,
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
    #[error("{}", sentence(.0))]
    Refused(ErrorBody),
}

/// What was refused, and what would help where something would.
fn sentence(refused: &ErrorBody) -> String {
    let ErrorBody { error, remedy } = refused;
    if remedy.is_empty() {
        error.clone()
    } else {
        format!("{error}; {remedy}")
    }
}

/// Asks one unit.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
}

impl Client {
    /// How long a request may take, unless [told otherwise](Self::with_deadline).
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// A client of the unit that listens on `socket`. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            deadline: Self::DEADLINE,
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
    /// If the unit refuses, or there is no answer, or not one of type `T`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let bytes = self.request(Method::GET, path, None)?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(&error))
    }

    /// Sends any request, and gives the answer as it came.
    ///
    /// # Errors
    ///
    /// If the unit refuses, or there is no answer.
    pub fn text(&self, method: Method, path: &str, body: Option<String>) -> Result<String, Error> {
        let bytes = self.request(method, path, body)?;
        String::from_utf8(bytes.into()).map_err(|error| self.protocol(&error))
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
                        deadline: self.deadline,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tidegate-api-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_unit_that_never_answers_costs_the_deadline_and_no_more() {
        let socket = path("silent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Client::new(&socket).with_deadline(Duration::from_millis(20));
        let error = client.get::<ErrorBody>("/v1/status").unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        assert!(error.to_string().contains("within 0.02 s"), "{error}");
        drop(listener);
        // Nobody listens on it any more.
        let error = client.get::<ErrorBody>("/v1/status").unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        fs::remove_file(socket).unwrap();
    }

    #[test]
    fn messages_name_the_socket_and_the_remedy() {
        let client = Client::new("/run/tidegate/gw-a.sock");
        let error = client.unreachable(io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            error.to_string(),
            "/run/tidegate/gw-a.sock may not be opened by this user; run as root, or join the \
             socket's group"
        );
        let error = client.unreachable(io::ErrorKind::NotFound.into());
        assert_eq!(
            error.to_string(),
            "no unit answers on /run/tidegate/gw-a.sock: entity not found; is tidegated running? \
             (systemctl status 'tidegated@*')"
        );
        let refused = |remedy: &str| {
            let (error, remedy) = ("it is primary".to_owned(), remedy.to_owned());
            Error::Refused(ErrorBody { error, remedy }).to_string()
        };
        assert_eq!(refused("wait"), "it is primary; wait");
        assert_eq!(refused(""), "it is primary");
    }
}
