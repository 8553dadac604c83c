//! Where the cycles of a packet go: what each stage adds to those before it.
//!
//! The rows of a report that begin with `stage: ` are sums: each holds what the one before it did and
//! one stage more. The whole worker follows them, without translation and with it.

use super::scale::{readable, thousands};
use super::svg::{Anchor, Svg};
use crate::Row;

/// What the rows of stages begin with.
pub(super) const PREFIX: &str = "stage: ";
/// The rows that end the ladder, and what they add to the one before.
const WHOLE: [(&str, &str); 2] = [
    ("UDP 64 B, no NAT", "the rest: policy, state, route, send"),
    ("UDP 64 B, NAT", "translate"),
];

const WIDTH: f64 = 860.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 60.0;
const BAR: f64 = 26.0;
const GAP: f64 = 10.0;

/// A bar for each number of sessions that has stages; nothing where there are none.
pub(super) fn plot(rows: &[Row]) -> String {
    let mut counts: Vec<u64> = rows
        .iter()
        .filter(|row| row.what.starts_with(PREFIX))
        .map(|row| row.sessions)
        .collect();
    counts.dedup();
    let ladders: Vec<(u64, Vec<(&str, f64)>)> = counts
        .into_iter()
        .map(|sessions| (sessions, ladder(rows, sessions)))
        .collect();
    let most = ladders.iter().filter_map(|(_, ladder)| ladder.last());
    let most = most.fold(0.0, |most: f64, (_, sum)| most.max(*sum));
    if most <= 0.0 {
        return String::new();
    }
    let mut svg = Svg::new(WIDTH, ladders.len() as f64 * (BAR + GAP));
    let mut names: Vec<&str> = Vec::new();
    for (place, (sessions, ladder)) in ladders.iter().enumerate() {
        let y = place as f64 * (BAR + GAP);
        let middle = y + BAR / 2.0 + 4.0;
        svg.text(
            "label",
            (LEFT - 10.0, middle),
            Anchor::End,
            &thousands(*sessions),
        );
        let mut sum = 0.0;
        let at = |cycles: f64| LEFT + cycles / most * (RIGHT - LEFT);
        for &(name, until) in ladder {
            let number = names
                .iter()
                .position(|known| *known == name)
                .unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
            // Noise may make a stage that does little look as if it gave something back.
            let until = until.max(sum);
            let told = format!("{name}: {} cycles", readable(until - sum));
            let class = format!("p{}", number % 6);
            svg.bar(&class, (at(sum), y), (at(until) - 1.0, y + BAR), &told);
            if at(until) - at(sum) > 30.0 {
                let centre = (at(sum) + at(until)) / 2.0;
                svg.text(
                    "inside",
                    (centre, middle),
                    Anchor::Middle,
                    &readable(until - sum),
                );
            }
            sum = until;
        }
        svg.text(
            "label",
            (at(sum) + 6.0, middle),
            Anchor::Start,
            &readable(sum),
        );
    }
    let keys: Vec<(String, &str)> = names
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("p{}", number % 6), *name))
        .collect();
    svg.figure("Cycles of a packet by stage, by sessions", &keys)
}

/// What each stage is called, and the cycles up to its end.
fn ladder(rows: &[Row], sessions: u64) -> Vec<(&str, f64)> {
    let rows = || rows.iter().filter(|row| row.sessions == sessions);
    let mut ladder: Vec<(&str, f64)> = rows()
        .filter_map(|row| Some((row.what.strip_prefix(PREFIX)?, row.ours)))
        .map(|(name, cycles)| (name.trim_start_matches("and "), cycles))
        .collect();
    for (what, name) in WHOLE {
        let whole = rows().find(|row| row.what == what && row.unit == "cycles");
        ladder.extend(whole.map(|row| (name, row.ours)));
    }
    ladder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figure;

    #[test]
    fn a_ladder_has_the_stages_of_its_sessions_only() {
        let row = |what: &str, sessions, cycles, unit| {
            let figure = Figure {
                median: cycles,
                best: cycles,
            };
            Row::alone(what, sessions, unit, figure)
        };
        let rows = [
            row("stage: source and sink", 1, 30.0, "cycles"),
            row("stage: and parse", 1, 50.0, "cycles"),
            row("UDP 64 B, NAT", 1, 25.0, "Mpps"),
            row("UDP 64 B, NAT", 1, 100.0, "cycles"),
            row("stage: source and sink", 1_000, 31.0, "cycles"),
        ];
        let expected = [
            ("source and sink", 30.0),
            ("parse", 50.0),
            ("translate", 100.0),
        ];
        assert_eq!(ladder(&rows, 1), expected);
        assert_eq!(ladder(&rows, 1_000), [("source and sink", 31.0)]);
        assert!(plot(&rows[2..4]).is_empty());
    }
}
