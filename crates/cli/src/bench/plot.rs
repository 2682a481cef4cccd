//! Plots as SVG text: lines over a number, and stacked bars. Colours come from the page's style sheet, so that they
//! follow its light and dark scheme.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// One line of a plot; its class picks its colour.
pub struct Series<'a> {
    pub name: &'a str,
    pub class: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// A value that is drawn across the plot.
pub struct Mark<'a> {
    pub text: &'a str,
    pub at: f64,
}

pub struct Lines<'a> {
    pub x: &'a str,
    pub y: &'a str,
    pub series: Vec<Series<'a>>,
    /// Where the y axis ends; values beyond it are drawn at the edge.
    pub y_max: f64,
    pub across: Option<Mark<'a>>,
    pub down: Option<Mark<'a>>,
}

pub fn lines(plot: &Lines<'_>) -> String {
    let x_max = plot.series.iter().flat_map(|series| &series.points).map(|point| point.0).fold(0.0, f64::max).max(1e-9);
    let y_max = plot.y_max.max(1e-9);
    let x_ticks = ticks(x_max);
    let x_end = x_ticks.last().copied().unwrap_or(x_max).max(x_max);
    let y_ticks = ticks(y_max);
    let y_end = y_ticks.last().copied().unwrap_or(y_max).max(y_max);
    let at_x = |x: f64| LEFT + x / x_end * (WIDTH - LEFT - RIGHT);
    let at_y = |y: f64| HEIGHT - BOTTOM - y.clamp(0.0, y_end) / y_end * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(plot.y);
    frame(&mut svg, plot.x, plot.y, &x_ticks, &y_ticks, at_x, at_y);
    // Writing to a string cannot fail; here and below.
    if let Some(Mark { text, at }) = plot.across {
        let y = at_y(at);
        let _ = write!(svg, r#"<line class="mark" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
        let _ = write!(svg, r#"<text class="mark" x="{:.1}" y="{:.1}">{}</text>"#, LEFT + 6.0, y - 5.0, escape(text));
    }
    if let Some(Mark { text, at }) = plot.down {
        let x = at_x(at);
        let (low, end) = (HEIGHT - BOTTOM, if x > WIDTH * 0.7 { "end" } else { "start" });
        let shift = if end == "end" { -6.0 } else { 6.0 };
        let _ = write!(svg, r#"<line class="best" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{low}"/>"#);
        let _ = write!(
            svg,
            r#"<text class="best" x="{:.1}" y="{:.1}" text-anchor="{end}">{}</text>"#,
            x + shift,
            TOP + 12.0,
            escape(text)
        );
    }
    for Series { name, class, points } in &plot.series {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        let _ = write!(svg, r#"<polyline class="{class}" points="{}"/>"#, path.join(" "));
        for (x, y) in points {
            let title = format!("{name}: {} at {}", short(*y), short(*x));
            let _ = write!(
                svg,
                r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="3.5"><title>{}</title></circle>"#,
                at_x(*x),
                at_y(*y),
                escape(&title)
            );
        }
    }
    svg.push_str("</svg>");
    svg + &legend(plot.series.iter().map(|series| (series.name, series.class)))
}

/// One bar: its label, and its parts from the bottom.
pub struct Bar {
    pub label: String,
    pub parts: Vec<f64>,
}

pub struct Bars<'a> {
    pub x: &'a str,
    pub y: &'a str,
    /// Names and classes of the parts.
    pub parts: &'a [(&'a str, &'a str)],
    pub bars: Vec<Bar>,
}

pub fn bars(plot: &Bars<'_>) -> String {
    let y_max = plot.bars.iter().map(|bar| bar.parts.iter().sum()).fold(0.0, f64::max).max(1e-9);
    let y_ticks = ticks(y_max);
    let y_end = y_ticks.last().copied().unwrap_or(y_max).max(y_max);
    let room = (WIDTH - LEFT - RIGHT) / plot.bars.len().max(1) as f64;
    let at_y = |y: f64| HEIGHT - BOTTOM - y / y_end * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(plot.y);
    frame(&mut svg, plot.x, plot.y, &[], &y_ticks, |x| x, at_y);
    let width = (room * 0.68).min(64.0);
    for (place, bar) in plot.bars.iter().enumerate() {
        let x = LEFT + room * (place as f64 + 0.5);
        let mut below = 0.0;
        for (value, (name, class)) in bar.parts.iter().zip(plot.parts) {
            let (top, height) = (at_y(below + value), at_y(below) - at_y(below + value));
            below += value;
            let title = format!("{name} at {}: {} ms", bar.label, short(*value));
            let _ = write!(
                svg,
                r#"<rect class="{class}" x="{:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"><title>{}</title></rect>"#,
                x - width / 2.0,
                escape(&title)
            );
        }
        let _ = write!(
            svg,
            r#"<text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            HEIGHT - BOTTOM + 16.0,
            escape(&bar.label)
        );
    }
    svg.push_str("</svg>");
    svg + &legend(plot.parts.iter().copied())
}

fn open(label: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(label))
}

fn frame(
    svg: &mut String,
    x: &str,
    y: &str,
    x_ticks: &[f64],
    y_ticks: &[f64],
    at_x: impl Fn(f64) -> f64,
    at_y: impl Fn(f64) -> f64,
) {
    for tick in y_ticks {
        let at = at_y(*tick);
        let _ = write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#, WIDTH - RIGHT);
        let _ = write!(
            svg,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            at + 4.0,
            short(*tick)
        );
    }
    for tick in x_ticks {
        let at = at_x(*tick);
        let low = HEIGHT - BOTTOM + 16.0;
        let _ = write!(svg, r#"<text class="tick" x="{at:.1}" y="{low}" text-anchor="middle">{}</text>"#, short(*tick));
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = write!(
        svg,
        r#"<text class="axis" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
        HEIGHT - 8.0,
        escape(x)
    );
    let middle = TOP + (HEIGHT - TOP - BOTTOM) / 2.0;
    let _ = write!(
        svg,
        r#"<text class="axis" transform="translate(14 {middle:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
        escape(y)
    );
}

fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut html = String::from(r#"<p class="legend">"#);
    for (name, class) in entries {
        let _ = write!(html, r#"<span><i class="{class}"></i>{}</span>"#, escape(name));
    }
    html + "</p>"
}

/// Round values from zero to at least `max`, four to six of them.
fn ticks(max: f64) -> Vec<f64> {
    let rough = max / 5.0;
    let scale = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|step| step * scale).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * scale);
    let count = (max / step * 0.999).ceil() as usize;
    (0..=count).map(|tick| tick as f64 * step).collect()
}

fn short(value: f64) -> String {
    if value >= 1000.0 {
        crate::human::count(value.round() as u64)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// As text in HTML and SVG, attributes included.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        for (max, expected) in [
            (1.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0][..]),
            (100.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
            (7.0, &[0.0, 2.0, 4.0, 6.0, 8.0]),
            (1234.0, &[0.0, 250.0, 500.0, 750.0, 1000.0, 1250.0]),
        ] {
            let found = ticks(max);
            assert_eq!(found.len(), expected.len(), "{max}: {found:?}");
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{max}: {found:?}");
        }
    }

    #[test]
    fn numbers_are_as_long_as_they_need_be() {
        for (value, expected) in
            [(0.0, "0"), (0.25, "0.25"), (2.0, "2"), (99.9, "99.9"), (250.4, "250"), (12_345.0, "12,345")]
        {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn texts_cannot_break_out_of_the_page() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
