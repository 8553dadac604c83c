//! Ratios to the peers, with their spread: one bar for each number of sessions.

use super::scale::{Scale, readable, thousands};
use super::svg::{Anchor, Svg};
use crate::Row;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 420.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 22.0;
/// Height of a bar, and what is between two groups.
const BAR: f64 = 9.0;
const GAP: f64 = 9.0;

/// All ratios of a report; nothing where there are none.
pub(super) fn plot(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.ratio.is_some()).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in &rows {
        let peer = row.peer_name.as_deref().unwrap_or_default();
        let name = format!("{} / {peer}", row.what);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    let mut counts: Vec<u64> = rows.iter().map(|row| row.sessions).collect();
    counts.sort_unstable();
    counts.dedup();

    let height = TOP + groups.len() as f64 * GAP + rows.len() as f64 * BAR + 8.0;
    let spread = rows
        .iter()
        .flat_map(|row| [row.ratio, row.ratio_min, row.ratio_max]);
    let scale = Scale::around(spread.flatten().chain([0.5, 2.0]), 1.05, (LEFT, RIGHT));
    let mut svg = Svg::new(WIDTH, height);
    axis(&mut svg, &scale, height);
    let mut y = TOP;
    for (name, group) in &groups {
        let middle = y + group.len() as f64 * BAR / 2.0 + 4.0;
        svg.text("label", (LEFT - 10.0, middle), Anchor::End, name);
        for row in group {
            let shade = counts.iter().position(|count| *count == row.sessions);
            bar(&mut svg, &scale, row, y, shade.unwrap_or(0) % 5);
            y += BAR;
        }
        y += GAP;
    }
    let names: Vec<String> = counts.iter().map(|count| thousands(*count)).collect();
    let keys: Vec<(String, &str)> = names
        .iter()
        .enumerate()
        .map(|(shade, name)| (format!("b{}", shade % 5), name.as_str()))
        .collect();
    let title = "Times better than the peer, by sessions; the thin line is the spread";
    svg.figure(title, &keys)
}

fn axis(svg: &mut Svg, scale: &Scale, height: f64) {
    for tick in scale.ticks() {
        let x = scale.at(tick);
        svg.line("grid", (x, TOP - 4.0), (x, height));
        svg.text("tick", (x, TOP - 9.0), Anchor::Middle, &format!("{tick}×"));
    }
    let even = scale.at(1.0);
    svg.line("even", (even, TOP - 4.0), (even, height));
}

fn bar(svg: &mut Svg, scale: &Scale, row: &Row, y: f64, shade: usize) {
    let (Some(ratio), Some(least), Some(most)) = (row.ratio, row.ratio_min, row.ratio_max) else {
        return;
    };
    let told = format!(
        "{}, {} sessions: {} times ({} to {}), {} {} beside {}",
        row.what,
        thousands(row.sessions),
        readable(ratio),
        readable(least),
        readable(most),
        readable(row.ours),
        row.unit,
        row.peer.map_or(String::new(), readable),
    );
    let (from, to) = ((scale.at(1.0), y + 1.0), (scale.at(ratio), y + BAR - 1.0));
    svg.bar(&format!("b{shade}"), from, to, &told);
    let middle = y + BAR / 2.0;
    svg.line(
        "spread",
        (scale.at(least), middle),
        (scale.at(most), middle),
    );
}
