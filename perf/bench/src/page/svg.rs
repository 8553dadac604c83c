//! Text and shapes, in the coordinates of one drawing.

use std::fmt::Write as _;

/// Where a text stands from its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing of a fixed size, in pixels.
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self {
            body: String::new(),
            width,
            height,
        }
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
        ));
    }

    /// A line through points, each with a dot that tells about it when pointed at.
    pub(super) fn path(&mut self, class: &str, points: &[((f64, f64), String)]) {
        let mut list = String::new();
        for ((x, y), _) in points {
            // Writing to a string cannot fail.
            let _ = write!(list, "{x:.1},{y:.1} ");
        }
        self.add(format_args!(
            "<polyline class=\"{class}\" points=\"{}\"/>\n",
            list.trim_end()
        ));
        for ((x, y), told) in points {
            self.add(format_args!(
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{}</title></circle>\n",
                escape(told)
            ));
        }
    }

    /// A rectangle between two opposite corners, that tells about itself when pointed at.
    pub(super) fn bar(&mut self, class: &str, one: (f64, f64), other: (f64, f64), told: &str) {
        let (x, y) = (one.0.min(other.0), one.1.min(other.1));
        let (width, height) = ((one.0 - other.0).abs(), (one.1 - other.1).abs());
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{}</title></rect>\n",
            escape(told)
        ));
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = at;
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
            escape(text)
        ));
    }

    /// The drawing under a title, with its keys: a class and a name each.
    pub(super) fn figure(self, title: &str, keys: &[(String, &str)]) -> String {
        let Self {
            body,
            width,
            height,
        } = self;
        let title = escape(title);
        let mut figure = format!("<figure>\n<figcaption><b>{title}</b>");
        for (class, name) in keys {
            figure += &format!(" <span class=\"key {class}\">{}</span>", escape(name));
        }
        figure
            + &format!(
                "</figcaption>\n<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
                 role=\"img\" aria-label=\"{title}\">\n{body}</svg>\n</figure>\n"
            )
    }

    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(shape);
    }
}

/// Text as HTML and XML want it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
