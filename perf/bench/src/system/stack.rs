//! What the TCP stacks of client and server reach through a gateway: throughput and connections.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use tidegate_lab::clock::{Found, now, wait_for};
use tidegate_lab::{SERVER_WAN, tool};

use super::gateway::{Gateway, Means};
use super::site::Site;

/// The server's port for connections.
const PORT: u16 = 7_000;
/// Clients that connect at once, each waiting for its own: enough that the core is never idle.
const CLIENTS: usize = 16;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a gateway may take until the first connection comes through.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// Bits per second of one TCP connection from client to server, by iperf3.
///
/// # Errors
/// When the gateway or iperf3 fails.
pub(super) fn throughput(gateway: Gateway, means: Means, time: Duration) -> Result<f64> {
    let site = Site::build()?;
    let _running = gateway.start(&site, means)?;
    first_connection(&site).with_context(|| gateway.name())?;
    let core = means.generator.to_string();
    let mut server = site.server().command("taskset");
    server.args(["-c", &core, "iperf3", "--server", "--one-off"]);
    server.stdin(Stdio::null()).stdout(Stdio::null());
    let _server = Ending(
        server
            .spawn()
            .map_err(|error| tool::explain(&server, error))?,
    );
    let (address, seconds) = (SERVER_WAN.to_string(), time.as_secs().max(1).to_string());
    // The server needs a moment until it listens.
    wait_for("iperf3", FIRST_LIMIT, || {
        let mut client = site.client().command("taskset");
        client.args(["-c", &core, "iperf3", "--json", "--client", &address]);
        client.args(["--time", &seconds, "--connect-timeout", "1000"]);
        // It may find nobody and end as if all were well.
        let bits = tool::output(&mut client).and_then(|said| received_bits(&said));
        Ok(match bits {
            Ok(bits) => Found::Yes(bits),
            Err(error) => Found::NotYet(format!("{error:#}")),
        })
    })
    .with_context(|| gateway.name())
}

/// What the receiver of an iperf3 run got, in bits per second.
fn received_bits(json: &str) -> Result<f64> {
    #[derive(Deserialize)]
    struct Run {
        end: End,
    }
    #[derive(Deserialize)]
    struct End {
        sum_received: Sum,
    }
    #[derive(Deserialize)]
    struct Sum {
        bits_per_second: f64,
    }
    let run: Run = serde_json::from_str(json).with_context(|| format!("iperf3 said {json}"))?;
    Ok(run.end.sum_received.bits_per_second)
}

/// A child that is ended with the value.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// TCP connections per second that clients open and the server closes at once. Each client waits for
/// that: else they would fill the server's queue, and a lost SYN costs a second.
///
/// # Errors
/// When the gateway fails, or a connection.
pub(super) fn connections(gateway: Gateway, means: Means, time: Duration) -> Result<f64> {
    let site = Site::build()?;
    let _running = gateway.start(&site, means)?;
    first_connection(&site).with_context(|| gateway.name())?;
    let servers: Vec<SocketAddr> = Site::server_addresses().map(at_port).collect();
    let listener = site.server().run(|| {
        TcpListener::bind(at_port(Ipv4Addr::UNSPECIFIED)).context("the server cannot listen")
    })?;
    let opened = AtomicU64::new(0);
    let [stop, close] = [AtomicBool::new(false), AtomicBool::new(false)];
    let rate = thread::scope(|scope| {
        scope.spawn(|| accept(&listener, &close));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|first| {
                let (servers, opened, stop) = (&servers, &opened, &stop);
                let client = site.client();
                scope.spawn(move || client.run(|| connect(servers, first, opened, stop)))
            })
            .collect();
        let start = now();
        thread::sleep(time);
        let rate = count(&opened) / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = clients.into_iter().map(ScopedJoinHandle::join).collect();
        // Only now, since the last clients still wait for the server, which waits for one more.
        close.store(true, Ordering::Relaxed);
        let _ = site
            .server()
            .run(|| Ok(TcpStream::connect(at_port(SERVER_WAN))?));
        for client in ended {
            client.map_err(|_| anyhow!("a client panicked"))??;
        }
        Ok::<_, anyhow::Error>(rate)
    })
    .with_context(|| gateway.name())?;
    ensure!(rate > 0.0, "no connection came through {}", gateway.name());
    Ok(rate)
}

fn at_port(address: Ipv4Addr) -> SocketAddr {
    (address, PORT).into()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(opened: &AtomicU64) -> f64 {
    opened.load(Ordering::Relaxed) as f64
}

/// The server: takes connections and closes them.
fn accept(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // What fails here fails for the client, which tells.
        let _ = listener.accept();
    }
}

/// One client: connects to every address in turn, and waits until the server closes.
fn connect(
    servers: &[SocketAddr],
    first: usize,
    opened: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    for server in servers.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut stream = TcpStream::connect_timeout(server, PATIENCE)
            .with_context(|| format!("no connection to {server}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let read = stream.read(&mut [0]).context("a connection stays open")?;
        ensure!(read == 0, "{server} said something");
        opened.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Connects until it works once: the gateway resolves its neighbours meanwhile.
fn first_connection(site: &Site) -> Result<()> {
    let listener = site
        .server()
        .run(|| Ok(TcpListener::bind(at_port(SERVER_WAN))?))?;
    wait_for("a first connection", FIRST_LIMIT, || {
        let attempt = site.client().run(|| {
            Ok(TcpStream::connect_timeout(
                &at_port(SERVER_WAN),
                Duration::from_millis(300),
            ))
        })?;
        Ok(match attempt {
            Ok(_) => Found::Yes(()),
            Err(error) => Found::NotYet(error.to_string()),
        })
    })?;
    drop(listener);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_is_understood() {
        let said = r#"{"start":{},"end":{"sum_sent":{"bits_per_second":4.0},
                       "sum_received":{"bytes":1,"bits_per_second":3.5e9}}}"#;
        assert_eq!(received_bits(said).expect("it is there"), 3.5e9);
        assert!(received_bits("{}").is_err());
    }
}
