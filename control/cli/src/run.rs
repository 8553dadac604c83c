//! From a command to its answer.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use api::{Client, FailoverRequest, MaintenanceRequest, Method, path};
use clap::CommandFactory;
use config::Cluster;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{Arguments, ClusterCommand, Command, ConfigCommand, SessionsCommand, Switch};
use crate::failure::Failure;
use crate::{configuration, show, socket};

/// Does what the arguments say and writes the answer to `output`.
pub(crate) fn run(arguments: &Arguments, output: &mut dyn Write) -> Result<(), Failure> {
    let unit = || Unit::chosen(arguments);
    match &arguments.command {
        Command::Status => unit()?.get(output, path::STATUS, show::status),
        Command::Cluster { command } => cluster(command.as_ref(), &unit()?, output),
        Command::Sessions {
            filter,
            limit,
            command: None,
        } => {
            let query = filter.with_limit(Some(*limit));
            unit()?.get(
                output,
                &format!("{}?{query}", path::SESSIONS),
                show::sessions,
            )
        }
        Command::Sessions {
            command: Some(SessionsCommand::Clear { filter, .. }),
            ..
        } => {
            let path = format!("{}?{}", path::SESSIONS, filter.with_limit(None));
            unit()?.answer(output, (Method::DELETE, &path, None), show::cleared)
        }
        Command::Interfaces => unit()?.get(output, path::INTERFACES, show::interfaces),
        Command::Neighbours => unit()?.get(output, path::NEIGHBOURS, show::neighbours),
        Command::Routes => unit()?.get(output, path::ROUTES, show::routes),
        Command::Policies => unit()?.get(output, path::POLICIES, show::policies),
        Command::Counters { all } => unit()?.get(output, path::COUNTERS, |counters: &Vec<_>| {
            show::counters(counters, *all)
        }),
        Command::Events => unit()?.get(output, path::EVENTS, show::events),
        Command::Sync => unit()?.get(output, path::SYNC, show::sync),
        Command::Config { command } => configure(command, arguments, output),
        Command::Completions { shell } => {
            // Generated into memory: the generator panics where it can't write.
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "tidegate", &mut text);
            Ok(output.write_all(&text)?)
        }
        Command::Man => Ok(clap_mangen::Man::new(Arguments::command()).render(output)?),
    }
}

fn cluster(
    command: Option<&ClusterCommand>,
    unit: &Unit,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    match command {
        None => unit.get(output, path::CLUSTER, show::cluster),
        Some(ClusterCommand::Why) => unit.get(output, path::WHY, show::why),
        Some(ClusterCommand::Failover { to }) => {
            let request = FailoverRequest { to: *to };
            unit.post(output, path::FAILOVER, &request, show::failover)
        }
        Some(ClusterCommand::Maintenance { switch }) => {
            let request = MaintenanceRequest {
                on: *switch == Switch::On,
            };
            unit.post(output, path::MAINTENANCE, &request, show::failover)
        }
    }
}

fn configure(
    command: &ConfigCommand,
    arguments: &Arguments,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { files } => configuration::check(files, arguments.json, output),
        ConfigCommand::Diff {
            file,
            other: Some(other),
        } => configuration::diff_files(file, other, arguments.json, output),
        ConfigCommand::Diff { file, other: None } => {
            let unit = Unit::chosen(arguments)?;
            configuration::diff_running(&unit.client, file, arguments.json, output)
        }
        ConfigCommand::Reload => {
            let unit = Unit::chosen(arguments)?;
            unit.answer(output, (Method::POST, path::RELOAD, None), show::reload)
        }
    }
}

/// How long what takes its time may take: a unit that was to take over and did not is given up after
/// `hello_holddown`, or after twice the time in which it would be found dead, which is no longer than that.
/// Before and after it the hand-over itself takes some seconds.
const LONG: Duration = Cluster::HELLO_HOLDDOWN_MAX
    .saturating_mul(2)
    .saturating_add(Duration::from_secs(30));

/// How long a unit may take to answer: a hand-over waits for a promotion, and a clear for the workers.
fn deadline(command: &Command) -> Duration {
    match command {
        Command::Cluster {
            command: Some(ClusterCommand::Failover { .. } | ClusterCommand::Maintenance { .. }),
        }
        | Command::Sessions {
            command: Some(SessionsCommand::Clear { .. }),
            ..
        } => LONG,
        _ => Client::DEADLINE,
    }
}

/// The unit that is asked, and how its answers are shown.
struct Unit {
    client: Client,
    json: bool,
}

impl Unit {
    fn chosen(arguments: &Arguments) -> Result<Self, Failure> {
        let socket = match &arguments.socket {
            Some(socket) => socket.clone(),
            None => socket::find(Path::new(socket::FOLDER))?,
        };
        Ok(Self {
            client: Client::new(socket).with_deadline(deadline(&arguments.command)),
            json: arguments.json,
        })
    }

    /// Sends a request and writes the answer: as it came, or by `show`.
    fn answer<T: DeserializeOwned>(
        &self,
        output: &mut dyn Write,
        (method, path, body): (Method, &str, Option<String>),
        show: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        let text = self.client.text(method, path, body)?;
        if self.json {
            output.write_all(text.as_bytes())?;
            if !text.ends_with('\n') {
                output.write_all(b"\n")?;
            }
            return Ok(());
        }
        output.write_all(show(&serde_json::from_str(&text)?).as_bytes())?;
        Ok(())
    }

    fn get<T: DeserializeOwned>(
        &self,
        output: &mut dyn Write,
        path: &str,
        show: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        self.answer(output, (Method::GET, path, None), show)
    }

    fn post<T: DeserializeOwned>(
        &self,
        output: &mut dyn Write,
        path: &str,
        body: &impl Serialize,
        show: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        let body = serde_json::to_string(body)?;
        self.answer(output, (Method::POST, path, Some(body)), show)
    }
}
