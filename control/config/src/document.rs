//! The text of a configuration as values that know their line, and the list of what is wrong.
//!
//! A [`Section`] hands out the values of one table by key and remembers which keys were asked for;
//! what is left over at [`Section::finish`] is unknown. Every failure becomes a [`Problem`] in the
//! shared [`Report`], and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Problems, Severity};

/// A value and the line where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// Why a value was refused, before anybody knows where it stands.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

impl Refusal {
    pub(crate) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

/// Everything that was found wrong in one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: PathBuf,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    /// Lines that are no TOML. What was made of them is a guess, and not judged.
    unreadable: RefCell<BTreeSet<usize>>,
}

impl Report {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file: file.into(),
            lines: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
            problems: RefCell::default(),
            unreadable: RefCell::default(),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|begin| *begin <= span.start)
    }

    pub(crate) fn error(&self, line: usize, key: impl Into<String>, refusal: Refusal) {
        if self.unreadable.borrow().contains(&line) {
            return;
        }
        self.push(Severity::Error, Some(line), key.into(), refusal);
    }

    pub(crate) fn warning(&self, line: usize, key: impl Into<String>, refusal: Refusal) {
        self.push(Severity::Warning, Some(line), key.into(), refusal);
    }

    fn push(&self, severity: Severity, line: Option<usize>, key: String, refusal: Refusal) {
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.file.clone(),
            line,
            key,
            cause: refusal.cause,
            remedy: refusal.remedy,
        });
    }

    /// The warnings, if there is no error; else everything.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        if problems.iter().any(|p| p.severity == Severity::Error) {
            Err(Problems(problems))
        } else {
            Ok(problems)
        }
    }
}

/// Parses `text`, reports every mistake of syntax, and gives what could be understood.
pub(crate) fn parse<'t>(text: &'t str, report: &Report) -> DeTable<'t> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut lines = BTreeSet::new();
    for error in &errors {
        let line = report.line(&error.span().unwrap_or(0..0));
        let cause = error.message().to_owned();
        let remedy = match error.message() {
            "duplicate key" => "keep one of the lines",
            _ => "write it as TOML (https://toml.io/)",
        };
        report.error(line, "", Refusal::new(cause, remedy));
        lines.insert(line);
    }
    report.unreadable.replace(lines);
    document.into_inner()
}

/// The line of `key` in `[table]` of a text that was accepted before.
pub(crate) fn line_of(text: &str, table: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let value = document.get_ref().get(table)?.get_ref().get(key)?;
    Some(Report::new(Path::new(""), text).line(&value.span()))
}

/// One table of the document, while it is read.
pub(crate) struct Section<'d, 't> {
    table: &'d DeTable<'t>,
    report: &'d Report,
    /// What its keys are called in messages, such as `cluster` or `policy[out]`.
    name: String,
    line: usize,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'d, 't> Section<'d, 't> {
    /// The whole document.
    pub(crate) fn root(table: &'d DeTable<'t>, report: &'d Report) -> Self {
        Self {
            table,
            report,
            name: String::new(),
            line: 1,
            known: RefCell::default(),
        }
    }

    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The full name of `key` in messages.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn find(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.known.borrow_mut().insert(key);
        self.table.get(key)
    }

    /// The table `[key]`, if it is there.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'d, 't>> {
        let value = self.find(key)?;
        let line = self.report.line(&value.span());
        let Some(table) = value.get_ref().as_table() else {
            let cause = format!("is a {}, not a table", value.get_ref().type_str());
            let remedy = format!("write [{key}] on a line of its own and its keys below");
            self.report
                .error(line, self.key(key), Refusal::new(cause, remedy));
            return None;
        };
        Some(self.below(table, key.into(), line))
    }

    /// The table `[key]`, which must be there.
    pub(crate) fn required_section(&self, key: &'static str) -> Option<Section<'d, 't>> {
        if self.find(key).is_none() {
            let refusal = Refusal::new("is missing", format!("add a table [{key}]"));
            self.report.error(self.line, self.key(key), refusal);
        }
        self.section(key)
    }

    /// All tables `[[key]]`. Their names in messages hold the value of their key `label`, or else
    /// their number.
    pub(crate) fn sections(&self, key: &'static str, label: &str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let wrong = |span, kind: &str| {
            let cause = format!("is a {kind}, not a list of tables");
            let remedy = format!("write [[{key}]] on a line of its own, once for each");
            let line = self.report.line(&span);
            self.report
                .error(line, self.key(key), Refusal::new(cause, remedy));
        };
        let Some(items) = value.get_ref().as_array() else {
            wrong(value.span(), value.get_ref().type_str());
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(table) = item.get_ref().as_table() else {
                wrong(item.span(), item.get_ref().type_str());
                continue;
            };
            let name = match table.get(label).and_then(|v| v.get_ref().as_str()) {
                Some(label) => format!("{key}[{label}]"),
                None => format!("{key}[#{}]", index + 1),
            };
            sections.push(self.below(table, name, self.report.line(&item.span())));
        }
        sections
    }

    fn below(&self, table: &'d DeTable<'t>, name: String, line: usize) -> Section<'d, 't> {
        Section {
            table,
            report: self.report,
            name,
            line,
            known: RefCell::default(),
        }
    }

    /// The value of `key`, if it is there and `read` accepts it.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Option<Located<T>> {
        let value = self.find(key)?;
        let line = self.report.line(&value.span());
        match read(value.get_ref()) {
            Ok(value) => Some(Located { value, line }),
            Err(refusal) => {
                self.report.error(line, self.key(key), refusal);
                None
            }
        }
    }

    /// The value of `key`, or `default` where it is absent; nothing if it is there but refused.
    pub(crate) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Option<Located<T>> {
        match self.find(key) {
            Some(_) => self.optional(key, read),
            None => Some(Located {
                value: default,
                line: self.line,
            }),
        }
    }

    /// The value of `key`, which must be there; `example` is what a right line looks like.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Option<Located<T>> {
        if self.find(key).is_none() {
            let refusal = Refusal::new("is missing", format!("add a line such as {example}"));
            self.report.error(self.line, self.key(key), refusal);
        }
        self.optional(key, read)
    }

    /// The values of the list `key`, each with its own line, without those that `read` refuses;
    /// empty where the list is absent. One value alone stands for a list of one, and a list
    /// without any value is a mistake: whether it means all or nothing nobody can tell.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Refusal>,
    ) -> Vec<Located<T>> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        if items.is_empty() {
            let refusal = Refusal::new("is an empty list", "remove it, or write a value into it");
            self.report
                .error(self.report.line(&value.span()), self.key(key), refusal);
        }
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let line = self.report.line(&item.span());
            match read(item.get_ref()) {
                Ok(value) => values.push(Located { value, line }),
                Err(refusal) => self.report.error(line, self.key(key), refusal),
            }
        }
        values
    }

    /// True when `key` is there, whatever its value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(name) {
                continue;
            }
            let line = self.report.line(&key.span());
            let remedy = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", join(known.iter().copied())),
            };
            self.report
                .error(line, self.key(name), Refusal::new("is no key", remedy));
        }
    }
}

/// `a, b, c`.
pub(crate) fn join<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The one of `names` that `word` was probably meant to be.
pub(crate) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let likely = word.chars().count().div_ceil(3).max(1);
    names
        .into_iter()
        .map(|name| (distance(word, name), name))
        .filter(|(distance, _)| *distance <= likely)
        .min()
        .map(|(_, name)| name)
}

/// Edits that turn `a` into `b`: insertions, deletions, replacements and swaps of neighbours
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        let names = ["heartbeat_interval", "heartbeat_loss", "id", "key_file"];
        assert_eq!(
            nearest("hearbeat_intervall", names),
            Some("heartbeat_interval")
        );
        assert_eq!(nearest("keyfile", names), Some("key_file"));
        assert_eq!(nearest("di", names), Some("id"));
        assert_eq!(nearest("colour", names), None);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let report = Report::new(Path::new("x"), "a\nb\n\nc");
        let line = |at: usize| report.line(&(at..at));
        assert_eq!(
            [line(0), line(1), line(2), line(4), line(5)],
            [1, 1, 2, 3, 4]
        );
    }
}
