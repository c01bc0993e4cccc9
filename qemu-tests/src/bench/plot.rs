//! A plot of the comparison: one bar a row, on a logarithmic axis of our instructions for each of
//! Linux's. SVG, written by hand: it is a few rectangles and words.

use std::fmt::Write as _;

use super::compare::Comparison;

const ROW: f64 = 18.0;
const TOP: f64 = 60.0;
/// Where the names end and the bars' area starts, and how wide that is.
const LEFT: f64 = 190.0;
const WIDTH: f64 = 560.0;
/// The axis: from an eighth to eight times Linux's instructions.
const MAX_LOG2: f64 = 3.0;
const MARKS: [(f64, &str); 7] = [
    (-3.0, "1/8"),
    (-2.0, "1/4"),
    (-1.0, "1/2"),
    (0.0, "1"),
    (1.0, "2"),
    (2.0, "4"),
    (3.0, "8"),
];
const LESS: &str = "#2a7f4f";
const MORE: &str = "#b5483a";

/// Draws the rows that have a ratio.
#[must_use]
pub fn svg(comparison: &Comparison<'_>) -> String {
    let rows: Vec<_> = comparison
        .rows
        .iter()
        .filter_map(|row| Some((row.name, row.ratio()?)))
        .collect();
    let height = rows.iter().fold(TOP + 20.0, |height, _| height + ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">Instructions for one operation: ours for each of Linux's{}</text>\n",
        comparison
            .mean()
            .map_or(String::new(), |mean| format!(" (geometric mean {mean:.2})"))
    );
    for (log2, label) in MARKS {
        let x = position(log2);
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{}\" stroke=\"#ccc\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            TOP - 8.0,
            height - 15.0,
            TOP - 12.0
        );
    }
    let mut y = TOP;
    for (name, ratio) in rows {
        bar(&mut svg, y, name, ratio);
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, y: f64, name: &str, ratio: f64) {
    let (one, end) = (position(0.0), position(ratio.log2()));
    let color = if ratio <= 1.0 { LESS } else { MORE };
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
         <rect x=\"{:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{color}\"/>\
         <text x=\"{}\" y=\"{}\">{ratio:.2}</text>",
        LEFT - 10.0,
        y + 12.0,
        one.min(end),
        y + 2.0,
        (end - one).abs(),
        ROW - 5.0,
        LEFT + WIDTH + 10.0,
        y + 12.0
    );
}

/// Where a power of two stands on the axis; what lies beyond is drawn at its end.
fn position(log2: f64) -> f64 {
    LEFT + WIDTH * (log2.clamp(-MAX_LOG2, MAX_LOG2) + MAX_LOG2) / (2.0 * MAX_LOG2)
}
