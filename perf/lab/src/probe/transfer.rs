//! A bulk transfer by `iperf3` from the client to the server, to see what it has to send again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::clock::{Found, wait_for};
use crate::namespace::Namespace;
use crate::tool;
use crate::topology::SERVER_WAN;

/// How long a transfer lasts, in seconds: the fault happens in its middle.
const SECONDS: &str = "4";

/// A running transfer.
#[derive(Debug)]
pub struct Transfer {
    server: Child,
    client: Child,
}

impl Transfer {
    /// Starts one of so many megabits per second.
    ///
    /// # Errors
    ///
    /// When `iperf3` is missing or does not listen.
    pub fn start(client: &Namespace, server: &Namespace, megabits: u32) -> Result<Self> {
        let mut serving = server.command("iperf3");
        serving.args(["--server", "--one-off", "--forceflush"]);
        let server_process = spawn(serving.stdout(Stdio::null()))?;
        wait_for("iperf3 to listen", Duration::from_secs(5), || {
            let listening = tool::output(server.command("ss").arg("-Hltn"))?;
            Ok(if listening.contains(":5201") {
                Found::Yes(())
            } else {
                Found::NotYet("it does not".to_owned())
            })
        })?;
        let mut sending = client.command("iperf3");
        sending.args(["--json", "--time", SECONDS, "--bitrate"]);
        sending.arg(format!("{megabits}M"));
        sending.args(["--client", &SERVER_WAN.to_string()]);
        let client_process = spawn(sending.stdout(Stdio::piped()))?;
        Ok(Self {
            server: server_process,
            client: client_process,
        })
    }

    /// Waits for its end; gives how many segments were sent again.
    ///
    /// # Errors
    ///
    /// When the connection did not survive.
    pub fn finish(mut self) -> Result<u64> {
        let output = self.client.wait_with_output()?;
        self.server.wait()?;
        let report: Value =
            serde_json::from_slice(&output.stdout).context("iperf3 reported no JSON")?;
        if !output.status.success() {
            bail!("the transfer failed: {}", report["error"]);
        }
        report["end"]["sum_sent"]["retransmits"]
            .as_u64()
            .context("iperf3 does not tell what it sent again")
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| tool::explain(command, error))
}
