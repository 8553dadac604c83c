//! The table of verdicts, for people and as a file.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What was found about one goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was measured.
    pub what: String,
    /// How often.
    pub runs: usize,
    /// The unit of the figures.
    pub unit: String,
    /// The median of the runs.
    pub median: f64,
    /// The worst of them.
    pub worst: f64,
    /// The median of what it is compared with, measured in alternation.
    pub beside: Option<f64>,
    /// What is asked for, of median and worst.
    pub goal: String,
    /// Whether that was reached.
    pub met: bool,
}

/// All verdicts, each with its row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    rows: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// The row of which it is: measuring that again replaces it.
    row: String,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Table {
    /// The table in a file; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Replaces what is there of a row.
    pub fn put(&mut self, row: &str, verdicts: &[Verdict]) {
        let place = self.rows.iter().position(|entry| entry.row == row);
        self.rows.retain(|entry| entry.row != row);
        let place = place.unwrap_or(self.rows.len());
        let entries = verdicts.iter().map(|verdict| Entry {
            row: row.to_owned(),
            verdict: verdict.clone(),
        });
        self.rows.splice(place..place, entries);
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Whether every goal was reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(|entry| entry.verdict.met)
    }
}

/// The heading over verdicts.
pub const HEADING: &str = "runs         median          worst         beside  verdict, goal, what";

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |figure: f64| format!("{figure:.2} {}", self.unit);
        write!(
            f,
            "{:>4} {:>14} {:>14} {:>14}  {:<6}  {}: {}",
            self.runs,
            figure(self.median),
            figure(self.worst),
            self.beside.map(figure).unwrap_or_default(),
            if self.met { "met" } else { "MISSED" },
            self.goal,
            self.what
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADING)?;
        for entry in &self.rows {
            write!(f, "\n{}", entry.verdict)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(median: f64, met: bool) -> Verdict {
        Verdict {
            what: "blocked".to_owned(),
            runs: 3,
            unit: "ms".to_owned(),
            median,
            worst: 9.0,
            beside: None,
            goal: "≤ 5 ms".to_owned(),
            met,
        }
    }

    #[test]
    fn a_row_that_is_measured_again_is_replaced_in_its_place() {
        let path = std::env::temp_dir().join(format!("goals-{}.json", std::process::id()));
        let mut table = Table::load(&path).expect("no file is an empty table");
        assert!(table.is_met());
        table.put("kill", &[verdict(6.0, false), verdict(1.0, true)]);
        table.put("link", &[verdict(2.0, true)]);
        assert!(!table.is_met());
        table.put("kill", &[verdict(4.0, true)]);
        table.save(&path).expect("a new file");
        let kept = Table::load(&path).expect("what was saved");
        fs::remove_file(&path).expect("it was made above");
        assert_eq!(kept, table);
        let rows: Vec<_> = kept.rows.iter().map(|entry| &entry.row[..]).collect();
        assert_eq!(rows, ["kill", "link"]);
        assert!(kept.is_met());
        assert_eq!(kept.to_string().lines().count(), 3);
    }
}
