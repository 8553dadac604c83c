//! What a benchmark found: rows, for people and for programs.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::{Figure, Machine, Paired};

/// One comparison, or one figure that has no peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, such as "look-up, hit, bursts of 32".
    pub what: String,
    /// Sessions that were there; zero where sessions have no part in it.
    pub sessions: u64,
    /// The unit of both figures, such as "cycles".
    pub unit: String,
    /// Our figure, the median.
    pub ours: f64,
    /// The best of our runs.
    pub ours_best: f64,
    /// Who the peer is; without one the following are null too.
    pub peer_name: Option<String>,
    /// The peer's figure, the median.
    pub peer: Option<f64>,
    /// The best of the peer's runs.
    pub peer_best: Option<f64>,
    /// How many times better we are, the median over pairs of runs: above 1 we win, whatever the unit.
    pub ratio: Option<f64>,
    /// The least of these ratios.
    pub ratio_min: Option<f64>,
    /// The greatest of them.
    pub ratio_max: Option<f64>,
}

impl Row {
    /// A figure without a peer.
    #[must_use]
    pub fn alone(what: impl Into<String>, sessions: u64, unit: &str, ours: Figure) -> Self {
        Self {
            what: what.into(),
            sessions,
            unit: unit.to_owned(),
            ours: ours.median,
            ours_best: ours.best,
            peer_name: None,
            peer: None,
            peer_best: None,
            ratio: None,
            ratio_min: None,
            ratio_max: None,
        }
    }

    /// A figure beside that of the peer.
    #[must_use]
    pub fn beside(
        what: impl Into<String>,
        sessions: u64,
        unit: &str,
        peer: &str,
        paired: &Paired,
    ) -> Self {
        Self {
            peer_name: Some(peer.to_owned()),
            peer: Some(paired.peer.median),
            peer_best: Some(paired.peer.best),
            ratio: Some(paired.ratio),
            ratio_min: Some(paired.ratio_min),
            ratio_max: Some(paired.ratio_max),
            ..Self::alone(what, sessions, unit, paired.ours)
        }
    }
}

/// The rows of one run, with what one has to know to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    rows: Vec<Row>,
    machine: Machine,
    command: String,
}

impl Report {
    /// An empty report of a run of `tidegate-bench` with `arguments`.
    pub fn new(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut command = "tidegate-bench".to_owned();
        for argument in arguments {
            command.push(' ');
            command.push_str(&argument);
        }
        Self {
            rows: Vec::new(),
            machine: Machine::here(),
            command,
        }
    }

    /// Adds a row, and tells stderr about it: a whole run takes minutes.
    pub fn push(&mut self, row: Row) {
        let ratio = row
            .ratio
            .map_or(String::new(), |r| format!(", ratio {r:.2}"));
        let line = format!(
            "{}, {} sessions: {:.1} {}{ratio}",
            row.what, row.sessions, row.ours, row.unit
        );
        // Progress is a courtesy: a closed stderr does not end the run.
        let _ = writeln!(io::stderr(), "{line}");
        self.rows.push(row);
    }

    /// The rows, in the order in which they came.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The machine they were measured on.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The command that they come from.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Prints the report to stdout, as JSON or as a table.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn print(&self, json: bool) -> Result<()> {
        let text = if json { self.json()? } else { self.table() };
        writeln!(io::stdout(), "{text}").context("stdout")
    }

    /// Writes the report as `name`.json into `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let path = folder.join(name).with_extension("json");
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(&path, self.json()? + "\n").with_context(|| path.display().to_string())
    }

    fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "WHAT", "SESSIONS", "OURS", "BEST", "PEER", "BEST", "UNIT", "RATIO", "FROM", "TO",
            "PEER IS",
        ]);
        for row in &self.rows {
            let figure = |value: Option<f64>| value.map_or(String::new(), readable);
            let ratio = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
            table.add_row([
                row.what.clone(),
                row.sessions.to_string(),
                readable(row.ours),
                readable(row.ours_best),
                figure(row.peer),
                figure(row.peer_best),
                row.unit.clone(),
                ratio(row.ratio),
                ratio(row.ratio_min),
                ratio(row.ratio_max),
                row.peer_name.clone().unwrap_or_default(),
            ]);
        }
        for column in [1, 2, 3, 4, 5, 7, 8, 9] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let machine = &self.machine;
        format!(
            "{}, {} cores, Linux {}, {}, huge pages {}, {}\n{}\n{table}",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.dpdk,
            machine.huge_pages,
            machine.date,
            self.command
        )
    }
}

/// Three significant digits where there is a fraction, all digits where there is none to speak of.
fn readable(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 1_000.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let paired = Paired {
            ours: Figure {
                median: 50.0,
                best: 40.0,
            },
            peer: Figure {
                median: 100.0,
                best: 90.0,
            },
            ratio: 2.0,
            ratio_min: 1.5,
            ratio_max: 2.5,
        };
        let mut report = Report::new(["table".to_owned(), "--json".to_owned()]);
        report.push(Row::beside("look-up", 1_000, "cycles", "rte_hash", &paired));
        report.push(Row::alone("age", 1_000, "cycles", paired.ours));
        report
    }

    #[test]
    fn json_has_the_documented_shape() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(json["command"], "tidegate-bench table --json");
        assert_eq!(
            json["rows"],
            serde_json::json!([
                {
                    "what": "look-up", "sessions": 1_000, "unit": "cycles",
                    "ours": 50.0, "ours_best": 40.0,
                    "peer_name": "rte_hash", "peer": 100.0, "peer_best": 90.0,
                    "ratio": 2.0, "ratio_min": 1.5, "ratio_max": 2.5,
                },
                {
                    "what": "age", "sessions": 1_000, "unit": "cycles",
                    "ours": 50.0, "ours_best": 40.0,
                    "peer_name": null, "peer": null, "peer_best": null,
                    "ratio": null, "ratio_min": null, "ratio_max": null,
                },
            ])
        );
        for key in ["cpu", "kernel", "dpdk", "huge_pages", "date"] {
            assert!(json["machine"][key].is_string(), "{key}");
        }
        assert!(json["machine"]["cores"].is_u64());
        let read: Report = serde_json::from_value(json).unwrap();
        assert_eq!(read, report_at(&read.machine));
    }

    /// [`report`] as if made on `machine`: the date may have moved on by a second.
    fn report_at(machine: &Machine) -> Report {
        Report {
            machine: machine.clone(),
            ..report()
        }
    }

    #[test]
    fn the_table_shows_what_has_a_peer_and_what_has_none() {
        let table = report().table();
        let line = |what: &str| {
            let line = table
                .lines()
                .find(|line| line.trim_start().starts_with(what));
            line.unwrap().split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(
            line("look-up"),
            [
                "look-up", "1000", "50.0", "40.0", "100.0", "90.0", "cycles", "2.00", "1.50",
                "2.50", "rte_hash"
            ]
        );
        assert_eq!(line("age"), ["age", "1000", "50.0", "40.0", "cycles"]);
    }

    #[test]
    fn a_report_is_written_under_its_name() {
        let folder = std::env::temp_dir().join(format!("tidegate-report-{}", std::process::id()));
        let report = report();
        report.write(&folder, "table").unwrap();
        let text = fs::read_to_string(folder.join("table.json")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
