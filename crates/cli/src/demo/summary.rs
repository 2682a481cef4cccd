//! The end of the demo: what was measured, for people and for programs, and whether it is as promised.

use std::path::PathBuf;
use std::time::Duration;

use omma_adapters::infer::Choice;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::DrainReport;
use omma_scenes::Score;
use serde_json::{Value, json};

use crate::figures::Window;
use crate::human;
use crate::run;
use crate::supervise;
use crate::usage;

/// The least that the detector must reach, measured through the whole pipeline.
const MAP50_MIN: f64 = 0.9;

pub struct Summary {
    pub cameras: usize,
    pub fps: f64,
    pub ran: Duration,
    pub interrupted: bool,
    pub choice: Choice,
    /// How the detector was served.
    pub why: String,
    pub report: DrainReport,
    pub out_of_order: u64,
    /// Cameras whose received frames are not all published or dropped by name, or whose results did not all arrive.
    pub unaccounted: usize,
    pub window: Window,
    pub score: Score,
    pub results: PathBuf,
    pub sheet: PathBuf,
}

impl Summary {
    fn balanced(&self) -> bool {
        self.report.counts.balanced() && self.report.counts.in_flight == 0 && self.unaccounted == 0
    }

    /// Whether everything that the demo promises was kept. An interrupted one may have seen too little to be scored.
    pub fn passed(&self) -> bool {
        let good = self.score.map50 >= MAP50_MIN || (self.interrupted && self.score.truths == 0);
        good && self.balanced() && self.out_of_order == 0
    }

    pub fn text(&self) -> String {
        let Self { window, score, report, .. } = self;
        let counts = &report.counts;
        let mut lines = vec![
            String::new(),
            format!(
                "omma demo: {} at {} frames/s for {:.0} s",
                human::counted(self.cameras, "camera"),
                human::rate(self.fps),
                self.ran.as_secs_f64()
            ),
            String::new(),
        ];
        let mut row = |name: &str, text: String| lines.push(format!("  {name:<12}{text}"));
        row(
            "throughput",
            format!(
                "{} frames/s of {} offered, {:.2} of {} cores",
                human::rate(window.published_per_s),
                human::rate(self.cameras as f64 * self.fps),
                window.cores,
                usage::cores()
            ),
        );
        let quantiles = |stage| {
            format!("{} / {}", human::time(window.quantile(stage, 0.5)), human::time(window.quantile(stage, 0.99)))
        };
        row("latency", format!("{}  (p50 / p99, from arrival to publication)", quantiles(Stage::Total)));
        row(
            "stages",
            format!(
                "wait {}, decode {}, model {}, publish {}",
                quantiles(Stage::Wait),
                quantiles(Stage::Prepare),
                quantiles(Stage::Infer),
                quantiles(Stage::Publish)
            ),
        );
        row("detector", self.choice.why.clone());
        row("", self.why.clone());
        if let Some(better) = &self.choice.better {
            row("", better.clone());
        }
        row(
            "accuracy",
            format!(
                "mAP@0.5 {:.3}, precision {:.3}, recall {:.3} at confidence {:.2}",
                score.map50, score.precision, score.recall, score.confidence
            ),
        );
        row(
            "",
            format!(
                "against the truth of {} pictures with {} things",
                human::count(score.pictures),
                human::count(score.truths)
            ),
        );
        for class in &score.per_class {
            let ap = class.ap50.map_or_else(|| "-".to_owned(), |ap| format!("{ap:.3}"));
            let text = format!(
                "{:<9} AP@0.5 {ap}, precision {:.3}, recall {:.3}, {} in the pictures",
                class.name,
                class.precision,
                class.recall,
                human::count(class.truths)
            );
            row("", text);
        }
        row(
            "ledger",
            format!(
                "received {} = published {} + dropped {} + in flight {}: {}",
                human::count(counts.received),
                human::count(counts.published),
                run::drops(counts),
                human::count(counts.in_flight),
                if self.balanced() { "balanced, camera by camera" } else { "NOT BALANCED" }
            ),
        );
        if counts.lost_upstream > 0 {
            row("", format!("{} more pictures could not be drawn in time", human::count(counts.lost_upstream)));
        }
        row(
            "order",
            if self.out_of_order == 0 {
                "every camera's results came in order, each once".to_owned()
            } else {
                format!("{} RESULTS OUT OF ORDER", human::count(self.out_of_order))
            },
        );
        row("results", self.results.display().to_string());
        row("pictures", self.sheet.display().to_string());
        lines.push(String::new());
        if let Some(late) = supervise::lateness(report) {
            lines.push(format!("late: {late}"));
        }
        for broken in self.broken() {
            lines.push(format!("not as promised: {broken}"));
        }
        lines.join("\n").trim_end().to_owned()
    }

    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.score.map50 < MAP50_MIN && !(self.interrupted && self.score.truths == 0) {
            broken.push(format!("mAP@0.5 is {:.3}, expected at least {MAP50_MIN}", self.score.map50));
        }
        if !self.balanced() {
            broken.push(format!("the ledger does not balance ({} cameras)", self.unaccounted));
        }
        if self.out_of_order > 0 {
            broken.push(format!("{} results came out of order", self.out_of_order));
        }
        broken
    }

    pub fn json(&self) -> Value {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let stages: serde_json::Map<_, _> = Stage::ALL
            .into_iter()
            .map(|stage| {
                let quantile = |q| ms(self.window.quantile(stage, q));
                let times = json!({ "p50": quantile(0.5), "p99": quantile(0.99), "mean": ms(self.window.mean(stage)) });
                (stage.name().to_owned(), times)
            })
            .collect();
        let score = &self.score;
        let classes: Vec<_> = score
            .per_class
            .iter()
            .map(|class| {
                json!({
                    "name": class.name,
                    "ap50": class.ap50,
                    "precision": class.precision,
                    "recall": class.recall,
                    "truths": class.truths,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "passed": self.passed(),
            "not_as_promised": self.broken(),
            "interrupted": self.interrupted,
            "cameras": self.cameras,
            "fps": self.fps,
            "seconds": self.ran.as_secs_f64(),
            "frames_per_s": self.window.published_per_s,
            "cores_used": self.window.cores,
            "cores": usage::cores(),
            "latency_ms": stages,
            "runtime": {
                "name": self.choice.runtime.name(),
                "why": self.choice.why,
                "better": self.choice.better,
                "served": self.why,
            },
            "ledger": run::counts(&self.report.counts),
            "unaccounted_cameras": self.unaccounted,
            "out_of_order": self.out_of_order,
            "late": self.report.late,
            "score": {
                "map50": score.map50,
                "precision": score.precision,
                "recall": score.recall,
                "confidence": score.confidence,
                "pictures": score.pictures,
                "truths": score.truths,
                "classes": classes,
            },
            "results": self.results,
            "contact_sheet": self.sheet,
        })
    }
}
