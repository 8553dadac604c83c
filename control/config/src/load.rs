//! From a file, or its text, to a checked configuration.

use std::fs;
use std::path::Path;

use toml::de::DeTable;

use crate::document::{self, Report, Section};
use crate::interfaces::Interfaces;
use crate::model::Config;
use crate::problem::{Problem, Problems, Severity};
use crate::{monitors, policies, routes, sections, witness};

impl Config {
    /// Reads and checks the file at `path`, and the key file that it names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of its lines.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = fs::read_to_string(path).map_err(|error| {
            Problems(vec![Problem {
                severity: Severity::Error,
                file: path.into(),
                line: None,
                key: String::new(),
                cause: format!("can't be read: {error}"),
                remedy: "give the path of a TOML file that this user can read".into(),
            }])
        })?;
        Self::parse(text, path)
    }

    /// Checks `text` as if it stood in the file at `path`; reads the key file that it names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of its lines.
    pub fn parse(text: String, path: &Path) -> Result<Self, Problems> {
        let report = Report::new(path, &text);
        let config = read(&document::parse(&text, &report), &report);
        let warnings = report.finish()?;
        let config = config.expect("a part is missing only after an error was reported");
        Ok(Self {
            text,
            warnings,
            ..config
        })
    }
}

/// Reads every table, whatever is wrong with the others; nothing if a part is missing.
fn read(document: &DeTable<'_>, report: &Report) -> Option<Config> {
    let root = Section::root(document, report);
    let unit = sections::unit(&root);
    let cpu = sections::cpu(&root, report);
    let memory = sections::memory(&root);
    let cluster = sections::cluster(&root, report);
    let witness = witness::read(&root, report);
    let timeouts = sections::timeouts(&root);
    let limits = sections::limits(&root);
    let management = sections::management(&root, unit.as_ref(), report);
    let interfaces = Interfaces::read(&root, report);
    let routes = routes::read(&root, &interfaces, report);
    let policies = policies::read(&root, &interfaces, report);
    let monitors = monitors::read(&root, &interfaces, report);
    root.finish();
    Some(Config {
        unit: unit?,
        cpu: cpu?,
        memory: memory?,
        cluster: cluster?,
        witness: witness?,
        interfaces: interfaces.build()?,
        monitors: monitors?,
        routes: routes?,
        policies: policies?,
        timeouts: timeouts?,
        limits,
        management: management?,
        file: report.file().into(),
        text: String::new(),
        warnings: Vec::new(),
    })
}

/// What units of one cluster must not share, and what they must.
///
/// # Errors
///
/// Unit ids and names that stand in two of the files, and keys that differ within a cluster.
pub fn check_cluster(configs: &[Config]) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        let mut peers = configs[..index]
            .iter()
            .filter(|c| c.cluster.id == config.cluster.id);
        let Some(problem) = peers.find_map(|other| clash(config, other)) else {
            continue;
        };
        problems.push(problem);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}

fn clash(config: &Config, other: &Config) -> Option<Problem> {
    let file = other.file.display();
    let (table, key, cause, remedy) = if config.unit.id == other.unit.id {
        let cause = format!("{} is the id of the unit in {file}", config.unit.id);
        (
            "unit",
            "id",
            cause,
            "give each unit of a cluster an id of its own",
        )
    } else if config.unit.name == other.unit.name {
        let cause = format!("\"{}\" is the unit in {file}", config.unit.name);
        (
            "unit",
            "name",
            cause,
            "give each unit of a cluster a name of its own",
        )
    } else if config.cluster.key != other.cluster.key {
        let cause = format!("the key differs from that of {file}");
        (
            "cluster",
            "key_file",
            cause,
            "copy one key to every unit of the cluster",
        )
    } else {
        return None;
    };
    Some(Problem {
        severity: Severity::Error,
        file: config.file.clone(),
        line: document::line_of(&config.text, table, key),
        key: format!("{table}.{key}"),
        cause,
        remedy: remedy.into(),
    })
}
