//! What a person sees while the demo runs: a block drawn over itself, or a line now and then.

use std::sync::Arc;
use std::time::Duration;

use crossterm::style::Color;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::Shared;
use omma_frame::DropReason;

use crate::figures::Reading;
use crate::human;
use crate::run;
use crate::say;
use crate::screen::{Line, Screen, bar, spark};
use crate::usage;

const BAR: usize = 40;
const HISTORY: usize = 40;
/// Over how much time rates and latencies are shown.
const SPAN: Duration = Duration::from_secs(2);

pub struct View {
    screen: Screen,
    shared: Arc<Shared>,
    cameras: usize,
    offered: f64,
    duration: Duration,
    /// The newest last; the first is the one that figures are told from.
    readings: Vec<Reading>,
    rates: Vec<f64>,
    last_line: Duration,
}

impl View {
    pub fn new(shared: &Arc<Shared>, cameras: usize, fps: f64, duration: Duration, live: bool) -> Self {
        Self {
            screen: Screen::new(live),
            shared: Arc::clone(shared),
            cameras,
            offered: cameras as f64 * fps,
            duration,
            readings: vec![Reading::take(shared)],
            rates: Vec::new(),
            last_line: Duration::ZERO,
        }
    }

    pub fn live(&self) -> bool {
        self.screen.live()
    }

    pub fn say(&mut self, text: &str) {
        self.screen.say(text);
    }

    pub fn close(&mut self) {
        self.screen.clear();
    }

    /// Shows where the run stands, if `every` has passed since it was last shown.
    pub fn show(&mut self, now: Reading, elapsed: Duration, every: Duration) {
        if elapsed < self.last_line + every.mul_f64(0.9) {
            return;
        }
        self.last_line = elapsed;
        if let Some(last) = self.readings.last() {
            self.rates.push(now.since(last).published_per_s);
            let surplus = self.rates.len().saturating_sub(HISTORY);
            self.rates.drain(..surplus);
        }
        self.readings.push(now);
        let newest = self.readings.len() - 1;
        // Keeps one reading that is at least a span old.
        let old = (0..newest).rev().find(|&at| self.readings[newest].at.duration_since(self.readings[at].at) >= SPAN);
        self.readings.drain(..old.unwrap_or(0));
        let lines = self.lines(elapsed);
        if self.live() {
            self.screen.draw(&lines);
        } else if let Some(line) = self.plain(elapsed) {
            say::note(&line);
        }
    }

    fn plain(&self, elapsed: Duration) -> Option<String> {
        let (first, last) = (self.readings.first()?, self.readings.last()?);
        let window = last.since(first);
        Some(format!(
            "omma: {:>2.0} s: {} frames/s of {}, p50 {}, p99 {}, published {}, dropped {}",
            elapsed.as_secs_f64(),
            human::rate(window.published_per_s),
            human::rate(self.offered),
            human::time(window.quantile(Stage::Total, 0.5)),
            human::time(window.quantile(Stage::Total, 0.99)),
            human::count(last.counts.published),
            run::drops(&last.counts),
        ))
    }

    fn lines(&self, elapsed: Duration) -> Vec<Line> {
        let (Some(first), Some(last)) = (self.readings.first(), self.readings.last()) else { return Vec::new() };
        let window = last.since(first);
        let row = |name: &str| Line::default().dim(format!("   {name:<10}"));
        let share = elapsed.as_secs_f64() / self.duration.as_secs_f64();
        let (done, left) = bar(share, BAR);
        let seconds = |time: Duration| format!("{:.0}", time.as_secs_f64());
        let serving = self.shared.model(0).and_then(|model| model.serving);
        let runtime = serving.map(|serving| serving.info.runtime.clone()).unwrap_or_default();
        let counts = &last.counts;
        let kept_up = window.published_per_s >= self.offered * 0.97;
        let rate_color = if kept_up { Color::Green } else { Color::Yellow };
        let p99 = window.quantile(Stage::Total, 0.99);
        let stage = |stage: Stage| human::time(window.mean(stage));
        let mut drops: Vec<String> = [DropReason::Overtaken, DropReason::Stale]
            .into_iter()
            .map(|reason| (reason, counts.dropped(reason)))
            .chain(counts.drops().filter(|(reason, _)| !matches!(reason, DropReason::Overtaken | DropReason::Stale)))
            .map(|(reason, count)| format!("{} {}", reason.name(), human::count(count)))
            .collect();
        if counts.lost_upstream > 0 {
            drops.push(format!("not drawn in time {}", human::count(counts.lost_upstream)));
        }
        vec![
            Line::default(),
            Line::default()
                .plain("   ")
                .bold("omma demo")
                .plain(format!(
                    "   {} at {} frames/s",
                    human::counted(self.cameras, "camera"),
                    human::rate(self.offered / self.cameras as f64)
                ))
                .dim(format!("   detector on {runtime}")),
            Line::default(),
            Line::default().plain("   ").color(Color::Cyan, done).color(Color::DarkGrey, left).plain(format!(
                "  {} of {} s",
                seconds(elapsed.min(self.duration)),
                seconds(self.duration)
            )),
            Line::default(),
            row("frames/s")
                .color(rate_color, format!("{:>8}", human::rate(window.published_per_s)))
                .dim(format!(" of {:<8}", human::rate(self.offered)))
                .color(Color::DarkCyan, spark(&self.rates, HISTORY)),
            row("latency")
                .bold(format!("{:>8}", human::time(window.quantile(Stage::Total, 0.5))))
                .dim(" p50   ")
                .bold(human::time(p99))
                .dim(" p99"),
            row("stages")
                .dim("    wait ")
                .plain(stage(Stage::Wait))
                .dim("   decode ")
                .plain(stage(Stage::Prepare))
                .dim("   model ")
                .plain(stage(Stage::Infer))
                .dim("   publish ")
                .plain(stage(Stage::Publish)),
            row("frames")
                .dim("    received ")
                .plain(human::count(counts.received))
                .dim("   published ")
                .plain(human::count(counts.published))
                .dim("   in flight ")
                .plain(human::count(counts.in_flight)),
            row("dropped").plain(format!("    {}", drops.join("   "))),
            row("cpu").plain(format!("    {:.2}", window.cores)).dim(format!(" of {} cores", usage::cores())),
            Line::default(),
        ]
    }
}
