//! `[witness]`: the store outside of the cluster whose lease a unit needs to be primary.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
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
    /// How its servers are known, and this unit to them, where they are asked by HTTPS.
    pub tls: Option<Tls>,
}

/// Files of certificates, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Of the authorities, one of which has signed each server's certificate.
    pub ca: PathBuf,
    /// This unit's certificate, with those between it and an authority that the servers know, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where a server of the witness answers, by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether by HTTPS.
    pub tls: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Host and port as in a URL and in the header `Host` (RFC 3986 section 3.2, RFC 9110 section 7.2): an IPv6
    /// address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
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
    let line = endpoints.first().map_or(section.line(), |one| one.line);
    let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|one| one.value).collect();
    let lease = section.or("lease", 3 * SECOND, lease);
    let tls = tls(&section, &endpoints, line, report);
    section.finish();
    let witness = Witness {
        endpoints,
        lease: lease?.value,
        tls: tls?,
    };
    (!witness.endpoints.is_empty()).then_some(Some(witness))
}

/// Reads what HTTPS needs. The outer `None` says that it is wrong.
#[expect(clippy::option_option, reason = "absent is not the same as refused")]
fn tls(
    section: &Section<'_, '_>,
    endpoints: &[Endpoint],
    line: usize,
    report: &Report,
) -> Option<Option<Tls>> {
    let [ca, cert, key] =
        ["ca", "cert", "key"].map(|name| section.optional(name, |value| file(value, report)));
    let refuse = |name: &str, cause: &str, remedy: &str| {
        report.error(line, section.key(name), Refusal::new(cause, remedy));
        None
    };
    let given = ["ca", "cert", "key"].map(|name| section.has(name));
    let asked = endpoints.iter().filter(|endpoint| endpoint.tls).count();
    if asked > 0 && asked < endpoints.len() {
        return refuse(
            "endpoints",
            "some begin with http:// and some with https://",
            "write https:// for all of them, or for none",
        );
    }
    match (asked > 0, given) {
        (true, [false, ..]) => refuse(
            "ca",
            "is missing, and endpoints begin with https://",
            "add a line such as ca = \"etcd-ca.pem\", the certificate of who signed theirs",
        ),
        (false, given) if given.contains(&true) && !endpoints.is_empty() => refuse(
            "endpoints",
            "begin with http://, and there are files for TLS",
            "write https://, or remove ca, cert and key",
        ),
        (_, [_, true, false] | [_, false, true]) => refuse(
            "cert",
            "and key belong together, and one of them is missing",
            "give both, or neither if the servers ask for none",
        ),
        _ if given != [ca.is_some(), cert.is_some(), key.is_some()] => None,
        _ => Some(ca.map(|ca| Tls {
            ca: ca.value,
            identity: cert.zip(key).map(|(cert, key)| (cert.value, key.value)),
        })),
    }
}

/// The path of a file that can be read, relative to the configuration.
fn file(value: &DeValue<'_>, report: &Report) -> Result<PathBuf, Refusal> {
    let path = value::string(value, "the path of a PEM file")?;
    let folder = report.file().parent().unwrap_or(Path::new(""));
    let path = folder.join(path);
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Refusal::new(
            format!("{} can't be read: {error}", path.display()),
            "make it a PEM file that the user of tidegated can read",
        )),
    }
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
    let (tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(wrong("does not begin with http:// or https://")),
    };
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
        tls,
        host: host.to_owned(),
        port,
    })
}
