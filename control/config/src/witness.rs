//! `[witness]`: the store outside of the cluster whose lease a unit needs to be primary.

use std::fmt;
use std::time::Duration;

use toml::de::DeValue;

use crate::document::{Refusal, Report, Section};
use crate::value;

/// The port of etcd's clients (IANA).
const ETCD_PORT: u16 = 2_379;
const SECOND: Duration = Duration::from_secs(1);

/// `[witness]`: who decides which unit is primary when units hear nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Where its servers answer; at least one, and any of them will do.
    pub endpoints: Vec<Endpoint>,
    /// How long a lease lasts that is not renewed: whole seconds.
    pub lease: Duration,
}

/// Where a server of the witness answers, by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

/// Reads the table, if there is one. The outer `None` says that it is there and wrong.
#[expect(clippy::option_option, reason = "absent is not the same as refused")]
pub(crate) fn read(root: &Section<'_, '_>, report: &Report) -> Option<Option<Witness>> {
    let Some(section) = root.section("witness") else {
        return (!root.has("witness")).then_some(None);
    };
    if !section.has("endpoints") {
        let remedy = "add a line such as endpoints = [\"http://192.0.2.30:2379\"]";
        let refusal = Refusal::new("is missing", remedy);
        report.error(section.line(), "witness.endpoints", refusal);
    }
    let endpoints = section.list("endpoints", endpoint);
    let lease = section.or("lease", 3 * SECOND, lease);
    section.finish();
    let witness = Witness {
        endpoints: endpoints.into_iter().map(|one| one.value).collect(),
        lease: lease?.value,
    };
    (!witness.endpoints.is_empty()).then_some(Some(witness))
}

/// etcd counts in whole seconds, and grants none below its election timeout and a half.
fn lease(value: &DeValue<'_>) -> Result<Duration, Refusal> {
    let lease = value::duration(2 * SECOND..=60 * SECOND)(value)?;
    if lease.subsec_nanos() == 0 {
        return Ok(lease);
    }
    let cause = format!("\"{}\" is not whole seconds", value::show(lease));
    let remedy = format!("write \"{}s\"", lease.as_secs() + 1);
    Err(Refusal::new(cause, remedy))
}

fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, Refusal> {
    const EXAMPLE: &str = "an address such as \"http://192.0.2.30:2379\"";
    let text = value::string(value, EXAMPLE)?;
    let wrong =
        |cause: &str| Refusal::new(format!("\"{text}\" {cause}"), format!("write {EXAMPLE}"));
    if text.starts_with("https://") {
        let remedy =
            "write http://, on a network of its own or through a local proxy that speaks TLS";
        return Err(Refusal::new("TLS is not supported", remedy));
    }
    let rest = text
        .strip_prefix("http://")
        .ok_or_else(|| wrong("does not begin with http://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => Some(ETCD_PORT),
        Some(port) => port.parse().ok().filter(|port| *port > 0),
    };
    let port = port.ok_or_else(|| wrong("has no port that there is"))?;
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_');
    if host.is_empty() || !host.bytes().all(is_part) {
        return Err(wrong("names no host"));
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}
