//! Configurations: checking and comparing them, with and without a unit.

use std::io::Write;
use std::path::{Path, PathBuf};

use api::{Client, ConfigView, path};
use config::{Change, Config, Effect, Problem, Problems, Severity};
use serde_json::json;

use crate::failure::Failure;
use crate::table::{Table, or_dash};

/// Checks each file, and what units of one cluster must be to each other.
pub(crate) fn check(files: &[PathBuf], json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let mut configs = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match Config::load(file) {
            Ok(config) => {
                problems.extend_from_slice(config.warnings());
                configs.push(config);
            }
            Err(Problems(found)) => problems.extend(found),
        }
    }
    if let Err(Problems(found)) = config::check_cluster(&configs) {
        problems.extend(found);
    }
    let bad = problems.iter().any(|p| p.severity == Severity::Error);
    if json {
        let list: Vec<_> = problems.iter().map(problem_json).collect();
        write_json(&json!({ "valid": !bad, "problems": list }), output)?;
    }
    if bad {
        // In the order that they were found, so that what stops the unit is seen with the rest.
        return Err(Failure::Configuration(Problems(problems)));
    }
    if json {
        return Ok(());
    }
    for problem in &problems {
        writeln!(output, "{problem}")?;
    }
    for config in &configs {
        writeln!(
            output,
            "{}: valid; unit {} \"{}\" of cluster {}, {} interfaces, {} policies, {} routes, meaning {:016x}",
            config.file().display(),
            config.unit.id,
            config.unit.name,
            config.cluster.id,
            config.interfaces.len(),
            config.policies.len(),
            config.routes.len(),
            config.hash()
        )?;
    }
    Ok(())
}

fn problem_json(problem: &Problem) -> serde_json::Value {
    json!({
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
        "cause": problem.cause,
        "remedy": problem.remedy,
    })
}

/// Compares two files.
pub(crate) fn diff_files(
    old: &Path,
    new: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let load = |path| Config::load(path).map_err(Failure::Configuration);
    write_changes(&config::diff(&load(old)?, &load(new)?), json, output)
}

/// Compares what a unit runs with a file.
pub(crate) fn diff_running(
    client: &Client,
    new: &Path,
    json: bool,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let new = Config::load(new).map_err(Failure::Configuration)?;
    let running: ConfigView = client.get(path::CONFIG)?;
    let running = Config::parse(running.text, &running.file).map_err(Failure::Configuration)?;
    write_changes(&config::diff(&running, &new), json, output)
}

fn write_changes(changes: &[Change], json: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let effect = |change: &Change| match change.effect {
        Effect::Live => "reload",
        Effect::Restart => "restart",
    };
    if json {
        let list: Vec<_> = changes
            .iter()
            .map(|change| {
                json!({
                    "key": change.key,
                    "from": change.from,
                    "to": change.to,
                    "effect": effect(change),
                })
            })
            .collect();
        return write_json(&json!(list), output);
    }
    if changes.is_empty() {
        writeln!(output, "No difference in meaning.")?;
        return Ok(());
    }
    let mut table = Table::new(&["KEY", "FROM", "TO", "BY"]);
    for change in changes {
        table.row([
            change.key.clone(),
            or_dash(change.from.as_ref()),
            or_dash(change.to.as_ref()),
            effect(change).into(),
        ]);
    }
    write!(output, "{table}")?;
    Ok(())
}

fn write_json(value: &serde_json::Value, output: &mut dyn Write) -> Result<(), Failure> {
    writeln!(output, "{value}")?;
    Ok(())
}
