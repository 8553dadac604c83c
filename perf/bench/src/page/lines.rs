//! Figures over the number of sessions: ours, and each peer's.

use super::scale::{Scale, readable, thousands};
use super::stages;
use super::svg::{Anchor, Svg};
use crate::Row;
use crate::pairing::median;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = HEIGHT - 36.0;

/// One line: whose it is, and its figures by sessions. Ours was measured once beside each peer.
struct Series<'a> {
    name: &'a str,
    points: Vec<(u64, Vec<f64>)>,
}

impl<'a> Series<'a> {
    fn add(all: &mut Vec<Self>, name: &'a str, sessions: u64, figure: f64) {
        let at = all.iter().position(|series| series.name == name);
        let at = at.unwrap_or_else(|| {
            all.push(Self {
                name,
                points: Vec::new(),
            });
            all.len() - 1
        });
        let points = &mut all[at].points;
        match points.iter_mut().find(|(known, _)| *known == sessions) {
            Some((_, figures)) => figures.push(figure),
            None => points.push((sessions, vec![figure])),
        }
        points.sort_by_key(|(sessions, _)| *sessions);
    }

    /// Sessions, and the median of the figures.
    fn points(&self) -> impl Iterator<Item = (u64, f64)> {
        let point = |(sessions, figures): &(u64, Vec<f64>)| {
            let mut figures = figures.clone();
            figures.sort_by(f64::total_cmp);
            (*sessions, median(&figures))
        };
        self.points.iter().map(point)
    }
}

/// A plot for each thing that was measured at more than one number of sessions, but for stages, which
/// say something only side by side.
pub(super) fn plots(rows: &[Row]) -> String {
    let mut things: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let thing = (row.what.as_str(), row.unit.as_str());
        let is_stage = row.what.starts_with(stages::PREFIX);
        if row.sessions > 0 && !is_stage && !things.contains(&thing) {
            things.push(thing);
        }
    }
    let plots: String = things
        .into_iter()
        .filter_map(|(what, unit)| {
            let mut series = Vec::new();
            for row in rows
                .iter()
                .filter(|row| row.what == what && row.unit == unit)
            {
                Series::add(&mut series, "Tidegate", row.sessions, row.ours);
                if let (Some(name), Some(figure)) = (&row.peer_name, row.peer) {
                    Series::add(&mut series, name, row.sessions, figure);
                }
            }
            (series[0].points.len() > 1).then(|| plot(&format!("{what} ({unit})"), &series))
        })
        .collect();
    if plots.is_empty() {
        return plots;
    }
    format!("<h3>Over the number of sessions</h3>\n<div class=\"plots\">\n{plots}</div>\n")
}

fn plot(title: &str, series: &[Series<'_>]) -> String {
    let all = || series.iter().flat_map(Series::points);
    let across = Scale::around(
        all().map(|(sessions, _)| sessions as f64),
        1.3,
        (LEFT, RIGHT),
    );
    let up = Scale::around(all().map(|(_, figure)| figure), 1.15, (BOTTOM, TOP));
    let mut svg = Svg::new(WIDTH, HEIGHT);
    for tick in up.ticks() {
        let y = up.at(tick);
        svg.line("grid", (LEFT, y), (RIGHT, y));
        svg.text(
            "tick",
            (LEFT - 6.0, y + 4.0),
            Anchor::End,
            &tick.to_string(),
        );
    }
    let mut counts: Vec<u64> = all().map(|(sessions, _)| sessions).collect();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        let at = (across.at(count as f64), BOTTOM + 16.0);
        svg.text("tick", at, Anchor::Middle, &thousands(count));
    }
    let middle = ((LEFT + RIGHT) / 2.0, HEIGHT - 4.0);
    svg.text("tick", middle, Anchor::Middle, "sessions");
    // Ours last, on top of the others.
    for (number, series) in series.iter().enumerate().rev() {
        let told = |(sessions, figure): (u64, f64)| {
            let at = (across.at(sessions as f64), up.at(figure));
            let (count, figure) = (thousands(sessions), readable(figure));
            (at, format!("{}, {count} sessions: {figure}", series.name))
        };
        let points: Vec<_> = series.points().map(told).collect();
        svg.path(&format!("s{}", number % 6), &points);
    }
    let keys: Vec<(String, &str)> = series
        .iter()
        .enumerate()
        .map(|(number, series)| (format!("s{}", number % 6), series.name))
        .collect();
    svg.figure(title, &keys)
}
