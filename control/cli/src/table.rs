//! Tables as operators read them: columns, no borders, numbers to the right.

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// A table under construction.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these columns; the numbers of one that begins with `>` stand to the right.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
        for (column, name) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row, one text per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `text`, or a dash where there is none.
pub(crate) fn or_dash(text: Option<impl fmt::Display>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

/// Seconds in the two largest units that they fill.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_nothing_trails() {
        let mut table = Table::new(&["NAME", ">VALUE"]);
        table.row(["a".into(), "5".into()]);
        table.row(["long".into(), "12345".into()]);
        assert_eq!(table.to_string(), "NAME  VALUE\na         5\nlong  12345\n");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(7_440), "2 h 4 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
