//! The results as one page with plots: plain HTML and SVG, with nothing to load.
//!
//! ```text
//! svg      text and shapes, escaped       scale    values to positions, and the ticks of an axis
//! lines    figures over sessions          bars     ratios with their spread
//! stages   where the cycles of a packet go
//! ```

mod bars;
mod lines;
mod scale;
mod stages;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{Report, Row};
use svg::escape;

/// The reports that are looked for, in the order of the page, and what they are about.
const REPORTS: [(&str, &str); 6] = [
    ("table", "The session table"),
    ("forward", "Forwarding"),
    ("connect", "New sessions"),
    ("scale", "More workers"),
    ("system", "Client, gateway, server"),
    ("rfc2544", "RFC 2544"),
];
const STYLE: &str = include_str!("page/style.css");

/// The results as one page with plots.
///
/// Reads what table, forward, connect, scale, system and rfc2544 wrote (table.json, forward.json, …; those
/// that are missing are left out) and writes index.html beside it: ratios to the peers, figures over the
/// number of sessions, the stages of a packet, and all rows.
#[derive(Clone, Debug, clap::Args)]
pub struct PageArgs {
    /// Where the reports are and the page goes.
    #[arg(long, default_value = "perf/results", value_name = "DIR")]
    results: PathBuf,
}

/// Makes the page. Adds no row to the report.
///
/// # Errors
/// When there is no report, one cannot be read, or the page cannot be written.
pub fn run(args: &PageArgs, _report: &mut Report) -> Result<()> {
    let folder = &args.results;
    let mut sections = String::new();
    for (name, title) in REPORTS {
        let path = folder.join(name).with_extension("json");
        if path.exists() {
            sections += &section(title, &read(&path)?);
        }
    }
    ensure!(!sections.is_empty(), "{} holds no report", folder.display());
    let path = folder.join("index.html");
    fs::write(&path, document(&sections)).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn document(sections: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/>\
         <title>Tidegate: measured</title><style>{STYLE}</style></head>\n<body>\n\
         <h1>Tidegate: measured</h1>\n\
         <p>Each figure is the median of several runs, in alternation with the peer's. A ratio is taken \
         within each pair of runs; above 1 Tidegate is better, whatever the unit. Cycles are those of \
         the time stamp counter, on one core.</p>\n{sections}</body>\n</html>\n"
    )
}

/// One report: where it comes from, its plots, its rows.
fn section(title: &str, report: &Report) -> String {
    let machine = report.machine();
    let mut section = format!(
        "<section>\n<h2>{}</h2>\n<p><code>{}</code><br/>{}, {} cores, Linux {}, {}, {}</p>\n",
        escape(title),
        escape(report.command()),
        escape(&machine.cpu),
        machine.cores,
        escape(&machine.kernel),
        escape(&machine.dpdk),
        escape(&machine.date),
    );
    section += &bars::plot(report.rows());
    section += &stages::plot(report.rows());
    section += &lines::plots(report.rows());
    section += &all_rows(report.rows());
    section += "</section>\n";
    section
}

fn all_rows(rows: &[Row]) -> String {
    let mut table = "<details><summary>All rows</summary>\n<table>\n<tr><th>what</th>\
         <th>sessions</th><th>ours</th><th>best</th><th>peer</th><th>best</th><th>unit</th>\
         <th>ratio</th><th>from</th><th>to</th><th>peer is</th></tr>\n"
        .to_owned();
    for row in rows {
        let cell = |value: Option<f64>| value.map_or(String::new(), scale::readable);
        table += &format!(
            "<tr><td>{}</td><td>{}</td>",
            escape(&row.what),
            row.sessions
        );
        for value in [Some(row.ours), Some(row.ours_best), row.peer, row.peer_best] {
            table += &format!("<td>{}</td>", cell(value));
        }
        table += &format!("<td>{}</td>", escape(&row.unit));
        for value in [row.ratio, row.ratio_min, row.ratio_max] {
            table += &format!("<td>{}</td>", cell(value));
        }
        let peer = row.peer_name.as_deref().unwrap_or_default();
        table += &format!("<td>{}</td></tr>\n", escape(peer));
    }
    table + "</table></details>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figure, Paired};

    fn figure(median: f64) -> Figure {
        Figure {
            median,
            best: median * 0.9,
        }
    }

    fn report() -> Report {
        let mut report = Report::new(["forward".to_owned(), "--a=<b>&\"c\"".to_owned()]);
        for sessions in [1_000, 1_000_000] {
            for (stage, cycles) in [("stage: source & sink", 30.0), ("stage: and parse", 45.0)] {
                report.push(Row::alone(stage, sessions, "cycles", figure(cycles)));
            }
            let whole = Row::alone("UDP 64 B, no NAT", sessions, "cycles", figure(120.0));
            report.push(whole);
            let paired = Paired {
                ours: figure(120.0),
                peer: figure(240.0),
                ratio: 2.0,
                ratio_min: 1.8,
                ratio_max: 2.3,
            };
            let peer = "l3fwd <em>";
            report.push(Row::beside("UDP & NAT", sessions, "cycles", peer, &paired));
        }
        report
    }

    /// The page's elements of a kind.
    fn count(page: &roxmltree::Document<'_>, name: &str) -> usize {
        let elements = page.descendants().filter(roxmltree::Node::is_element);
        elements
            .filter(|node| node.tag_name().name() == name)
            .count()
    }

    #[test]
    fn the_page_is_well_formed_and_shows_every_row() {
        let report = report();
        let page = document(&section("Forwarding & <more>", &report));
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        };
        let page = roxmltree::Document::parse_with_options(&page, options).unwrap();
        assert_eq!(count(&page, "h2"), 1);
        // One more for the header.
        assert_eq!(count(&page, "tr"), report.rows().len() + 1);
        assert_eq!(count(&page, "svg"), 4);
        let text: String = page.descendants().filter_map(|node| node.text()).collect();
        for said in ["Forwarding & <more>", "l3fwd <em>", "--a=<b>&\"c\""] {
            assert!(text.contains(said), "{said}");
        }
        for node in page.descendants() {
            for attribute in node.attributes() {
                assert!(!attribute.value().contains("NaN"), "{attribute:?}");
                assert!(!attribute.value().contains("inf"), "{attribute:?}");
            }
        }
    }

    #[test]
    fn what_is_there_is_read_and_the_page_written_beside_it() {
        let folder = std::env::temp_dir().join(format!("tidegate-page-{}", std::process::id()));
        let args = PageArgs {
            results: folder.clone(),
        };
        fs::create_dir_all(&folder).unwrap();
        assert!(run(&args, &mut report()).is_err());
        report().write(&folder, "forward").unwrap();
        run(&args, &mut report()).unwrap();
        let page = fs::read_to_string(folder.join("index.html")).unwrap();
        fs::write(folder.join("table.json"), "{}").unwrap();
        let refused = run(&args, &mut report());
        fs::remove_dir_all(&folder).unwrap();
        assert!(page.contains("Forwarding") && !page.contains("The session table"));
        assert!(format!("{:#}", refused.unwrap_err()).contains("table.json"));
    }
}
