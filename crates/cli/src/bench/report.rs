//! What the bench found out, for people, for programs and for the page.

use std::time::{SystemTime, UNIX_EPOCH};

use omma_engine::infer::mode::Chosen;
use serde::Serialize;

use super::limit::Limit;
use super::measure::{LOST_MAX, Step};
use crate::args::BenchArgs;
use crate::human;
use crate::usage;

/// Rates that cameras usually have.
const RATES: [f64; 6] = [1.0, 5.0, 10.0, 15.0, 25.0, 30.0];

#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    /// UTC.
    pub date: String,
    pub config: String,
    pub machine: Machine,
    pub fps: f64,
    pub latency_budget_ms: f64,
    pub lost_max: f64,
    pub quick: bool,
    /// What was held; 0 if not even one camera was.
    pub cameras: usize,
    pub frames_per_s: f64,
    pub best: Option<Step>,
    pub limit: Limit,
    pub equivalents: Vec<Equivalent>,
    pub models: Vec<Served>,
    pub notes: Vec<String>,
    /// By number of cameras.
    pub steps: Vec<Step>,
}

/// As many frames as were held, from cameras of another rate.
#[derive(Serialize)]
pub struct Equivalent {
    pub fps: f64,
    pub cameras: usize,
}

#[derive(Serialize)]
pub struct Served {
    pub name: String,
    pub how: String,
}

#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub system: String,
}

impl Report {
    pub fn new(
        args: &BenchArgs,
        notes: Vec<String>,
        models: Vec<(String, Chosen)>,
        steps: Vec<Step>,
        best: Option<Step>,
        limit: Limit,
    ) -> Self {
        let cameras = best.as_ref().map_or(0, |best| best.cameras);
        let frames_per_s = cameras as f64 * args.fps;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            date: human::date(since.as_secs()),
            config: args.config.file.display().to_string(),
            machine: Machine::this(),
            fps: args.fps,
            latency_budget_ms: args.latency_ms,
            lost_max: LOST_MAX,
            quick: args.quick,
            cameras,
            frames_per_s,
            best,
            limit,
            equivalents: RATES
                .into_iter()
                .map(|fps| Equivalent { fps, cameras: (frames_per_s / fps) as usize })
                .collect(),
            models: models.into_iter().map(|(name, chosen)| Served { name, how: chosen.why }).collect(),
            notes,
            steps,
        }
    }

    /// The finding in one sentence.
    pub fn headline(&self) -> String {
        match &self.best {
            Some(best) => format!(
                "{} at {} frames/s ({} frames/s) within {} ms: p50 {:.1} ms, p99 {:.1} ms",
                human::counted(best.cameras, "camera"),
                human::rate(self.fps),
                human::rate(self.frames_per_s),
                self.latency_budget_ms,
                best.p50_ms,
                best.p99_ms
            ),
            None => format!(
                "not even one camera at {} frames/s within {} ms",
                human::rate(self.fps),
                self.latency_budget_ms
            ),
        }
    }

    pub fn text(&self) -> String {
        let mut lines = vec![
            String::new(),
            format!("omma bench: {} on {}", self.config, self.machine.text()),
            String::new(),
            format!("  holds     {}", self.headline()),
            format!("  limit     {}: {}", self.limit.what, self.limit.why),
            format!("  to hold more: {}", self.limit.advice),
        ];
        if self.cameras > 0 {
            let rates: Vec<_> = self
                .equivalents
                .iter()
                .map(|same| format!("{} at {}", human::count(same.cameras as u64), same.fps))
                .collect();
            lines.push(format!("  the same frames/s: {} frames/s", rates.join(", ")));
        }
        lines.join("\n")
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: cpu.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            cores: usage::cores(),
            system: format!("{} {}", std::env::consts::OS, kernel.trim()).trim_end().to_owned(),
        }
    }

    pub fn text(&self) -> String {
        format!("{}, {}", human::counted(self.cores, "core"), self.cpu)
    }
}
