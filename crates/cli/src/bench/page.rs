//! The page: one HTML file without anything from outside, for a person to keep.

use std::fmt::Write as _;

use super::measure::Step;
use super::plot::{self, Bar, Bars, Lines, Mark, Series, escape};
use super::report::Report;
use crate::human;

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --faint: #667080; --rule: #e3e6ea; --box: #f6f7f9;
  --a: #2867b2; --b: #c2571a; --c: #2e8b57; --d: #8a5fbf; --good: #1f7a4d; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e8eb; --faint: #98a1ad; --rule: #2b3138;
  --box: #1c2026; --a: #6cb0ff; --b: #ff9e5e; --c: #6fd39b; --d: #c3a0f5; --good: #6fd39b; --bad: #ff8a80 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 800px; padding: 32px 20px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 16px; margin: 36px 0 8px }
p { margin: 6px 0 } .faint { color: var(--faint) }
.big { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 }
.big div { background: var(--box); border-radius: 8px; padding: 12px 18px; flex: 1 1 140px }
.big b { display: block; font-size: 26px; line-height: 1.2 } .big span { color: var(--faint); font-size: 13px }
.limit { border-left: 4px solid var(--b); background: var(--box); padding: 10px 16px; border-radius: 0 8px 8px 0 }
svg { width: 100%; height: auto; display: block } svg text { font: 12px system-ui, sans-serif }
.grid { stroke: var(--rule) } .tick { fill: var(--faint) } .axis { fill: var(--faint) }
polyline { fill: none; stroke-width: 2 } line.mark { stroke: var(--bad); stroke-dasharray: 5 4 } text.mark { fill: var(--bad) }
line.best { stroke: var(--good); stroke-dasharray: 2 3 } text.best { fill: var(--good) }
polyline.a { stroke: var(--a) } polyline.b { stroke: var(--b) } circle.a, rect.a { fill: var(--a) }
circle.b, rect.b { fill: var(--b) } rect.c { fill: var(--c) } rect.d { fill: var(--d) }
.legend { color: var(--faint); font-size: 13px } .legend span { margin-right: 16px }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px }
i.a { background: var(--a) } i.b { background: var(--b) } i.c { background: var(--c) } i.d { background: var(--d) }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--rule) } th { color: var(--faint); font-weight: 500 }
th:first-child, td:first-child { text-align: left } .yes { color: var(--good) } .no { color: var(--bad) }
.wide { overflow-x: auto } li { margin: 2px 0; overflow-wrap: anywhere }
";

/// The stages of a frame's time, in their order, with their colours.
const STAGES: [(&str, &str, &str); 4] = [
    ("wait", "wait for a thread", "d"),
    ("prepare", "decode", "c"),
    ("infer", "model", "a"),
    ("publish", "publish", "b"),
];

pub fn render(report: &Report) -> String {
    let mut html = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>omma bench: {}</title><style>{STYLE}</style></head><body>\n",
        escape(&report.config)
    );
    head(&mut html, report);
    plots(&mut html, report);
    tables(&mut html, report);
    html.push_str("</body></html>\n");
    html
}

fn head(html: &mut String, report: &Report) {
    let _ = write!(
        html,
        "<h1>How many cameras does this hold?</h1><p class=\"faint\">{} on {} ({}), {}, omma {}</p>",
        escape(&report.config),
        escape(&report.machine.text()),
        escape(&report.machine.system),
        report.date,
        report.version
    );
    let mut boxes = vec![
        (human::count(report.cameras as u64), format!("cameras at {} frames/s", human::rate(report.fps))),
        (human::rate(report.frames_per_s), "frames/s".to_owned()),
    ];
    if let Some(best) = &report.best {
        boxes.push((format!("{:.1} ms", best.p99_ms), format!("p99, of {} ms allowed", report.latency_budget_ms)));
        boxes.push((format!("{:.1}", best.cores), format!("of {} cores used", report.machine.cores)));
    }
    html.push_str("<div class=\"big\">");
    for (value, text) in boxes {
        let _ = write!(html, "<div><b>{}</b><span>{}</span></div>", escape(&value), escape(&text));
    }
    let limit = &report.limit;
    let _ = write!(
        html,
        "</div><div class=\"limit\"><p><b>What limits it: {}.</b> {}.</p><p>To hold more: {}.</p></div>",
        escape(limit.what),
        escape(&limit.why),
        escape(&limit.advice)
    );
    if report.cameras > 0 {
        html.push_str(
            "<h2>The same frames/s from other cameras</h2><div class=\"wide\"><table><tr><th>frames/s of each</th>",
        );
        for same in &report.equivalents {
            let _ = write!(html, "<th>{}</th>", same.fps);
        }
        html.push_str("</tr><tr><td>cameras</td>");
        for same in &report.equivalents {
            let _ = write!(html, "<td>{}</td>", human::count(same.cameras as u64));
        }
        html.push_str("</tr></table></div>");
    }
}

fn plots(html: &mut String, report: &Report) {
    let offered = |step: &Step| step.cameras as f64 * report.fps;
    let best_text = report.best.as_ref().map(|best| human::counted(best.cameras, "camera"));
    let best = || {
        let at = report.frames_per_s;
        best_text.as_deref().map(|text| Mark { text, at })
    };
    let budget_text = format!("allowed: {} ms", report.latency_budget_ms);
    let line = |value: fn(&Step) -> f64| report.steps.iter().map(|step| (offered(step), value(step))).collect();
    html.push_str("<h2>Latency over load</h2>");
    html.push_str(&plot::lines(&Lines {
        x: "frames/s offered",
        y: "ms from arrival to publication",
        series: vec![
            Series { name: "p50", class: "a", points: line(|step| step.p50_ms) },
            Series { name: "p99", class: "b", points: line(|step| step.p99_ms) },
        ],
        y_max: report.latency_budget_ms * 1.6,
        across: Some(Mark { text: &budget_text, at: report.latency_budget_ms }),
        down: best(),
    }));
    html.push_str("<p class=\"faint\">Points at the upper edge lie beyond it; the table has their values.</p>");
    html.push_str("<h2>Cores over load</h2>");
    let cores_text = format!("{} cores", report.machine.cores);
    html.push_str(&plot::lines(&Lines {
        x: "frames/s offered",
        y: "cores used",
        series: vec![Series { name: "cores used by omma", class: "a", points: line(|step| step.cores) }],
        y_max: report.machine.cores as f64 * 1.1,
        across: Some(Mark { text: &cores_text, at: report.machine.cores as f64 }),
        down: best(),
    }));
    let held: Vec<&Step> = report.steps.iter().filter(|step| step.held && step.cameras <= report.cameras).collect();
    if held.is_empty() {
        return;
    }
    html.push_str("<h2>Where a frame's time goes</h2>");
    // As many bars as can be told apart, spread over what was held.
    let every = held.len().div_ceil(12);
    let bars = held.iter().rev().step_by(every).rev().map(|step| {
        let mean = |name: &str| step.stages.iter().find(|stage| stage.stage == name).map_or(0.0, |stage| stage.mean_ms);
        Bar { label: human::rate(offered(step)), parts: STAGES.iter().map(|(stage, ..)| mean(stage)).collect() }
    });
    let parts: Vec<(&str, &str)> = STAGES.iter().map(|(_, name, class)| (*name, *class)).collect();
    html.push_str(&plot::bars(&Bars { x: "frames/s offered", y: "mean ms", parts: &parts, bars: bars.collect() }));
}

fn tables(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>All measurements</h2><div class=\"wide\"><table><tr><th>cameras</th><th>offered/s</th><th>published/s</th>\
         <th>p50 ms</th><th>p99 ms</th><th>lost</th><th>cores</th><th>reader lag ms</th><th>held</th></tr>",
    );
    for step in &report.steps {
        let (class, word) = if step.held { ("yes", "yes") } else { ("no", "no") };
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td><td>{:.2}%</td><td>{:.2}</td>\
             <td>{:.1}</td><td class=\"{class}\">{word}</td></tr>",
            human::count(step.cameras as u64),
            human::rate(step.offered_per_s),
            human::rate(step.published_per_s),
            step.p50_ms,
            step.p99_ms,
            step.lost * 100.0,
            step.cores,
            step.reader_lag_p99_ms
        );
    }
    html.push_str("</table></div><h2>How it was measured</h2><ul>");
    let mut how = vec![
        format!(
            "Pictures of the configured sources, from memory, through the configured models; results to nowhere. {} \
             frames/s from each camera, arriving by the clock whether omma keeps up or not.",
            human::rate(report.fps)
        ),
        format!(
            "Held: p99 from arrival to publication (and how late the reader took the frame) at most {} ms, at most \
             {}% of the frames lost, and results as fast as frames.",
            report.latency_budget_ms,
            report.lost_max * 100.0
        ),
    ];
    if report.quick {
        how.push("With --quick: short measurements, rough figures.".to_owned());
    }
    how.extend(report.models.iter().map(|model| format!("Model {}: {}.", model.name, model.how)));
    how.extend(report.notes.iter().cloned());
    for line in how {
        let _ = write!(html, "<li>{}</li>", escape(&line));
    }
    html.push_str("</ul>");
}
