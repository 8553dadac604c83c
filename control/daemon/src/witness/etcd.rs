//! The requests to etcd's JSON gateway (`/v3`, of etcd 3.4 and later), one exchange each.
//!
//! 64-bit numbers are texts in its JSON, keys and values are base64, and what is zero is left out.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use cluster::{LeaseHolder, LeaseId, UnitId};
use config::Endpoint;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// The largest answer that is read.
const ANSWER_MAX: usize = 1 << 16;

/// Why an exchange brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{endpoint} cannot be reached: {cause}")]
    Unreachable {
        endpoint: Endpoint,
        cause: io::Error,
    },
    #[error("{0} did not answer in time")]
    Late(Endpoint),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}: {1}")]
    Refused(StatusCode, String),
    #[error("its answer makes no sense: {0}")]
    Answer(String),
}

/// The servers, and what this unit says to them.
pub(super) struct Etcd {
    endpoints: Vec<Endpoint>,
    /// The one that is asked.
    current: usize,
    patience: Duration,
    /// For those that are asked by HTTPS.
    tls: Option<TlsConnector>,
    connection: Option<SendRequest<Full<Bytes>>>,
    key: String,
    owner: String,
}

impl Etcd {
    /// `key` is where the primary is written, `owner` what this unit writes there: its number first.
    /// No exchange takes longer than `patience`. `tls` is needed where an endpoint is one of HTTPS.
    pub(super) fn new(
        endpoints: Vec<Endpoint>,
        tls: Option<TlsConnector>,
        patience: Duration,
        key: String,
        owner: String,
    ) -> Self {
        Self {
            endpoints,
            current: 0,
            patience,
            tls,
            connection: None,
            key: base64(key.as_bytes()),
            owner: base64(owner.as_bytes()),
        }
    }

    /// A new lease, and how many seconds it lasts.
    pub(super) async fn grant(&mut self, ttl: u64) -> Result<(LeaseId, u64), Failure> {
        let answer = self
            .ask("/v3/lease/grant", json!({ "TTL": ttl.to_string() }))
            .await?;
        let granted: Kept = read(answer)?;
        match (granted.id, granted.ttl) {
            (0, _) | (_, 0) => Err(Failure::Answer("a lease without number or life".into())),
            (id, ttl) => Ok((LeaseId(id), ttl)),
        }
    }

    /// How many seconds the lease lasts from now on; 0 when it is gone.
    pub(super) async fn keep_alive(&mut self, lease: LeaseId) -> Result<u64, Failure> {
        let answer = self
            .ask("/v3/lease/keepalive", json!({ "ID": lease.0.to_string() }))
            .await?;
        // The answer of a stream: wrapped.
        let kept: Streamed = read(answer)?;
        Ok(kept.result.ttl)
    }

    /// Ends a lease, with all that is attached to it. One that is gone counts as ended.
    pub(super) async fn revoke(&mut self, lease: LeaseId) -> Result<(), Failure> {
        let asked = self.ask("/v3/lease/revoke", json!({ "ID": lease.0.to_string() }));
        match asked.await {
            Ok(_) | Err(Failure::Refused(StatusCode::NOT_FOUND, _)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Writes this unit down as the primary, if nobody is; and says who is.
    pub(super) async fn claim(&mut self, lease: LeaseId) -> Result<LeaseHolder, Failure> {
        let transaction = json!({
            "compare": [{
                "target": "CREATE", "result": "EQUAL",
                "key": self.key, "create_revision": "0",
            }],
            "success": [{ "request_put": {
                "key": self.key, "value": self.owner, "lease": lease.0.to_string(),
            }}],
            "failure": [{ "request_range": { "key": self.key }}],
        });
        let answer = self.transact(transaction).await?;
        Ok(if answer.succeeded {
            LeaseHolder::Own
        } else {
            let mut found = answer.responses.iter().flat_map(|one| &one.range.entries);
            self.holder(found.next(), Some(lease))
        })
    }

    /// Says who is written down as the primary.
    pub(super) async fn look(&mut self) -> Result<LeaseHolder, Failure> {
        let range: Range = read(self.ask("/v3/kv/range", json!({ "key": self.key })).await?)?;
        Ok(self.holder(range.entries.first(), None))
    }

    async fn transact(&mut self, transaction: Value) -> Result<Transacted, Failure> {
        read(self.ask("/v3/kv/txn", transaction).await?)
    }

    /// Who stands there. This unit only with the lease that it has now: what is attached to an earlier one
    /// goes with that.
    fn holder(&self, entry: Option<&Entry>, lease: Option<LeaseId>) -> LeaseHolder {
        let Some(entry) = entry else {
            return LeaseHolder::Nobody;
        };
        if entry.value == self.owner && lease.is_some_and(|lease| lease.0 == entry.lease) {
            return LeaseHolder::Own;
        }
        LeaseHolder::Other(unit_of(&entry.value))
    }

    /// One exchange. After a failure the next one goes to the next server, over a new connection.
    async fn ask(&mut self, path: &str, body: Value) -> Result<Value, Failure> {
        let endpoint = self.endpoints[self.current].clone();
        let exchange = tokio::time::timeout(self.patience, self.exchange(&endpoint, path, body));
        let answer = exchange
            .await
            .unwrap_or_else(|_| Err(Failure::Late(endpoint)));
        if answer.is_err() {
            self.connection = None;
            self.current = (self.current + 1) % self.endpoints.len();
        }
        answer
    }

    async fn exchange(
        &mut self,
        endpoint: &Endpoint,
        path: &str,
        body: Value,
    ) -> Result<Value, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => connect(endpoint, self.tls.as_ref()).await?,
        };
        connection.ready().await?;
        let answer = connection
            .send_request(request(endpoint, path, &body)?)
            .await?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| Failure::Answer(error.to_string()))?
            .to_bytes();
        self.connection = Some(connection);
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(Failure::Refused(status, text.trim().to_owned()));
        }
        serde_json::from_slice(&bytes).map_err(|error| Failure::Answer(error.to_string()))
    }
}

fn request(endpoint: &Endpoint, path: &str, body: &Value) -> Result<Request<Full<Bytes>>, Failure> {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", endpoint.authority())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| Failure::Answer(error.to_string()))
}

async fn connect(
    endpoint: &Endpoint,
    tls: Option<&TlsConnector>,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let unreachable = |cause| Failure::Unreachable {
        endpoint: endpoint.clone(),
        cause,
    };
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(unreachable)?;
    // Each exchange is one small packet each way.
    let _ = stream.set_nodelay(true);
    if !endpoint.tls {
        return speak(TokioIo::new(stream)).await;
    }
    let tls = tls.ok_or_else(|| unreachable(io::Error::other("no certificates for TLS")))?;
    let name = ServerName::try_from(endpoint.host.clone());
    let name = name.map_err(|cause| unreachable(io::Error::other(cause)))?;
    let stream = tls.connect(name, stream).await.map_err(unreachable)?;
    speak(TokioIo::new(stream)).await
}

/// Begins HTTP over a connection.
async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (connection, driver) = http1::handshake(stream).await?;
    // Ends with the connection.
    tokio::spawn(driver);
    Ok(connection)
}

#[derive(Debug, Deserialize)]
struct Streamed {
    result: Kept,
}

#[derive(Debug, Deserialize)]
struct Kept {
    #[serde(rename = "ID", default, deserialize_with = "number")]
    id: i64,
    #[serde(rename = "TTL", default, deserialize_with = "number")]
    ttl: u64,
}

#[derive(Debug, Deserialize)]
struct Transacted {
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(rename = "response_range", default)]
    range: Range,
}

#[derive(Debug, Default, Deserialize)]
struct Range {
    #[serde(rename = "kvs", default)]
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    value: String,
    #[serde(default, deserialize_with = "number")]
    lease: i64,
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::Answer(error.to_string()))
}

/// A number that is written as a text.
fn number<'d, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'d>,
    T: std::str::FromStr,
{
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("{text} is no number")))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for position in 0..4 {
            let digit = (word >> (18 - 6 * position) & 63) as usize;
            let is_padding = position > group.len();
            let _ = text.write_char(if is_padding {
                '='
            } else {
                char::from(ALPHABET[digit])
            });
        }
    }
    text
}

/// The number at the start of what a unit wrote.
fn unit_of(value: &str) -> Option<UnitId> {
    let text = String::from_utf8(from_base64(value)?).ok()?;
    UnitId::new(text.split(' ').next()?.parse().ok()?)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0_u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let digit = ALPHABET.iter().position(|symbol| *symbol == byte)?;
        word = word << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_rfc_4648_section_10_has_it() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(from_base64("a*b"), None);
    }

    fn etcd() -> Etcd {
        Etcd::new(
            Vec::new(),
            None,
            Duration::ZERO,
            "k".into(),
            "3 17 gw-c".into(),
        )
    }

    #[test]
    fn servers_are_asked_by_the_name_in_their_url() {
        for (host, expected) in [
            ("::1", "[::1]:2379"),
            ("192.0.2.30", "192.0.2.30:2379"),
            ("etcd.example", "etcd.example:2379"),
        ] {
            let endpoint = Endpoint {
                tls: false,
                host: host.to_owned(),
                port: 2_379,
            };
            let request = request(&endpoint, "/v3/kv/range", &json!({})).unwrap();
            assert_eq!(request.headers()["host"], expected);
            assert_eq!(endpoint.to_string(), format!("http://{expected}"));
        }
    }

    #[test]
    fn whoever_is_written_down_is_the_holder() {
        let range = |entries: Value| -> Range { read(json!({ "kvs": entries })).unwrap() };
        let entry = |value: &str, lease: &str| json!([{ "value": base64(value.as_bytes()), "lease": lease }]);
        let holder = |entries| etcd().holder(range(entries).entries.first(), Some(LeaseId(9)));
        assert_eq!(holder(json!([])), LeaseHolder::Nobody);
        assert_eq!(holder(entry("3 17 gw-c", "9")), LeaseHolder::Own);
        let unit = |id| LeaseHolder::Other(UnitId::new(id));
        assert_eq!(holder(entry("3 17 gw-c", "8")), unit(3), "an earlier lease");
        assert_eq!(holder(entry("2 5 gw-b", "7")), unit(2));
        assert_eq!(holder(entry("99 who", "7")), LeaseHolder::Other(None));
    }

    #[test]
    fn what_is_zero_may_be_left_out_and_numbers_are_texts() {
        let kept: Streamed = read(json!({ "result": { "header": {}, "ID": "77" }})).unwrap();
        assert_eq!((kept.result.id, kept.result.ttl), (77, 0));
        assert!(read::<Streamed>(json!({ "result": { "TTL": "x" }})).is_err());
        assert!(read::<Streamed>(json!({ "error": "no" })).is_err());
    }
}
