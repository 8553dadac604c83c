//! `[witness]`: what it means, and every mistake in it.

mod common;

use std::time::Duration;

use common::{Folder, RIGHT, refused};
use config::{Endpoint, Tls, diff};

fn with(table: &str) -> String {
    format!("{RIGHT}\n[witness]\n{table}\n")
}

#[test]
fn absent_means_none() {
    assert_eq!(Folder::new().right(RIGHT).witness, None);
}

#[test]
fn endpoints_have_a_port_by_default_and_the_lease_too() {
    let text = with(
        "endpoints = [\"http://192.0.2.30\", \"http://w.example:2380/\", \"http://[fd00::1]:99\"]",
    );
    let witness = Folder::new().right(&text).witness.unwrap();
    let endpoint = |host: &str, port| Endpoint {
        tls: false,
        host: host.into(),
        port,
    };
    assert_eq!(
        witness.endpoints,
        [
            endpoint("192.0.2.30", 2_379),
            endpoint("w.example", 2_380),
            endpoint("fd00::1", 99)
        ]
    );
    let shown: Vec<_> = witness.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "http://192.0.2.30:2379");
    assert_eq!(shown[2], "http://[fd00::1]:99");
    assert_eq!(witness.lease, Duration::from_secs(3));
}

#[test]
fn units_agree_on_the_lease_and_each_has_its_endpoints() {
    let folder = Folder::new();
    let hash = |table: &str| folder.right(&with(table)).hash();
    let usual = hash("endpoints = \"http://a\"");
    assert_eq!(usual, hash("endpoints = \"http://b\"\nlease = \"3s\""));
    assert_ne!(usual, hash("endpoints = \"http://a\"\nlease = \"4s\""));
    assert_ne!(usual, folder.right(RIGHT).hash());
    let change = diff(
        &folder.right(RIGHT),
        &folder.right(&with("endpoints = \"http://a\"")),
    );
    let keys: Vec<_> = change.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["witness.endpoints", "witness.lease"]);
}

#[test]
fn certificates_are_files_beside_the_configuration() {
    let folder = Folder::new();
    for name in ["ca.pem", "own.pem", "own.key"] {
        folder.write(name, "", 0o600);
    }
    let tls = |lines: &str| {
        let text = with(&format!("endpoints = \"https://a\"\n{lines}"));
        folder.right(&text).witness.unwrap()
    };
    let witness = tls("ca = \"ca.pem\"");
    assert_eq!(witness.endpoints[0].to_string(), "https://a:2379");
    let ca = folder.path().join("ca.pem");
    let identity = None;
    assert_eq!(witness.tls, Some(Tls { ca, identity }));
    let both = tls("ca = \"ca.pem\"\ncert = \"own.pem\"\nkey = \"own.key\"");
    let identity = ["own.pem", "own.key"].map(|name| folder.path().join(name));
    assert_eq!(both.tls.unwrap().identity, Some(identity.into()));
    // Each unit has its own.
    let hash = |table: &str| folder.right(&with(table)).hash();
    assert_eq!(
        hash("endpoints = \"https://a\"\nca = \"ca.pem\""),
        hash("endpoints = \"http://a\"")
    );
}

#[test]
fn mistakes() {
    let cases = [
        (
            "lease = \"3s\"",
            "witness.endpoints",
            "is missing",
            "add a line such as endpoints = [\"http://192.0.2.30:2379\"]",
        ),
        (
            "endpoints = \"https://a:2379\"",
            "witness.ca",
            "is missing, and endpoints begin with https://",
            "add a line such as ca = \"etcd-ca.pem\", the certificate of who signed theirs",
        ),
        (
            "endpoints = [\"http://a\", \"https://b\"]",
            "witness.endpoints",
            "some begin with http:// and some with https://",
            "write https:// for all of them, or for none",
        ),
        (
            "key = \"cluster.key\"\nendpoints = \"http://a\"",
            "witness.endpoints",
            "begin with http://, and there are files for TLS",
            "write https://, or remove ca, cert and key",
        ),
        (
            "ca = \"cluster.key\"\ncert = \"cluster.key\"\nendpoints = \"https://a\"",
            "witness.cert",
            "and key belong together, and one of them is missing",
            "give both, or neither if the servers ask for none",
        ),
        (
            "endpoints = \"a:2379\"",
            "witness.endpoints",
            "\"a:2379\" does not begin with http:// or https://",
            "write an address such as \"http://192.0.2.30:2379\"",
        ),
        (
            "endpoints = \"http://a:0\"",
            "witness.endpoints",
            "\"http://a:0\" has no port that there is",
            "write an address such as \"http://192.0.2.30:2379\"",
        ),
        (
            "endpoints = \"http://a/v3\"",
            "witness.endpoints",
            "\"http://a/v3\" names no host",
            "write an address such as \"http://192.0.2.30:2379\"",
        ),
    ];
    for (line, key, cause, remedy) in cases {
        let table = if line.starts_with("lease") {
            format!("[witness] # here\n{line}\n\n[limits]")
        } else {
            format!("[witness]\n{line} # here\n\n[limits]")
        };
        refused("[limits]", &table, key, cause, remedy);
    }
    refused(
        "[limits]",
        "[witness]\nendpoints = \"http://a\"\nlease = \"2500ms\" # here\n[limits]",
        "witness.lease",
        "\"2s500ms\" is not whole seconds",
        "write \"3s\"",
    );
}
