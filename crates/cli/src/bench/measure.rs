//! One measurement: so many cameras for so long, and whether they were held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_engine::metrics::Stage;
use omma_engine::pipeline::Shared;
use serde::Serialize;

use super::load::Control;
use crate::figures::{ModelWindow, Reading};
use crate::signals::Signals;
use crate::supervise::{self, End};

/// The most of the offered frames that may be lost where a rate counts as held.
pub const LOST_MAX: f64 = 0.001;
/// How long what a rate left behind may take to go through.
const EMPTY_MAX: Duration = Duration::from_secs(20);

/// One stage's time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageTime {
    pub stage: &'static str,
    pub mean_ms: f64,
    pub p99_ms: f64,
}

/// What one number of cameras came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub cameras: usize,
    pub offered_per_s: f64,
    pub published_per_s: f64,
    pub p50_ms: f64,
    /// With how late the reader took the frames.
    pub p99_ms: f64,
    /// Part of the offered frames that was dropped or found no room.
    pub lost: f64,
    /// Cores that the process kept busy.
    pub cores: f64,
    pub reader_lag_p99_ms: f64,
    pub stages: Vec<StageTime>,
    pub models: Vec<ModelWindow>,
    pub held: bool,
}

pub struct Bench<'a> {
    pub shared: &'a Arc<Shared>,
    pub control: &'a Control,
    pub signals: &'a Signals,
    pub fps: f64,
    pub budget_ms: f64,
    pub settle: Duration,
    pub span: Duration,
}

/// The bench was told to stop.
#[derive(Debug)]
pub struct Stopped;

impl Bench<'_> {
    /// Runs so many cameras; `spans` times as long as usual.
    pub fn measure(&self, cameras: usize, spans: u32) -> Result<Step, Stopped> {
        self.control.set_active(cameras);
        self.wait(self.settle)?;
        self.control.take();
        let before = Reading::take(self.shared);
        self.wait(self.span * spans)?;
        let after = Reading::take(self.shared);
        let offered = self.control.take();
        let window = after.since(&before);
        let seconds = window.took.as_secs_f64().max(1e-3);
        let dropped = after.counts.dropped_total().saturating_sub(before.counts.dropped_total());
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let lag = ms(offered.lag_p99);
        let mut step = Step {
            cameras,
            offered_per_s: offered.due as f64 / seconds,
            published_per_s: window.published_per_s,
            p50_ms: ms(window.quantile(Stage::Total, 0.5)),
            p99_ms: ms(window.quantile(Stage::Total, 0.99)) + lag,
            lost: (offered.refused + dropped) as f64 / (offered.due.max(1)) as f64,
            cores: window.cores,
            reader_lag_p99_ms: lag,
            stages: Stage::ALL
                .into_iter()
                .map(|stage| StageTime {
                    stage: stage.name(),
                    mean_ms: ms(window.mean(stage)),
                    p99_ms: ms(window.quantile(stage, 0.99)),
                })
                .collect(),
            models: window.models,
            held: false,
        };
        step.held = self.held(&step);
        Ok(step)
    }

    fn held(&self, step: &Step) -> bool {
        // What is on its way at both ends of the window may differ by what the budget lets wait.
        let on_the_way = step.offered_per_s * self.budget_ms / 1e3 / self.span.as_secs_f64();
        step.offered_per_s > 0.0
            && step.p99_ms <= self.budget_ms
            && step.lost <= LOST_MAX
            && step.published_per_s + on_the_way.max(1.0) >= step.offered_per_s * 0.99
    }

    /// Stops the cameras and waits until nothing is on its way.
    pub fn empty(&self) -> Result<(), Stopped> {
        self.control.set_active(0);
        let end = Instant::now() + EMPTY_MAX;
        while self.shared.in_flight() > 0 && Instant::now() < end {
            self.wait(Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn wait(&self, time: Duration) -> Result<(), Stopped> {
        match supervise::watch(self.shared, self.signals, Some(Instant::now() + time), time, || {}) {
            End::Signal => Err(Stopped),
            End::TimeUp | End::Finished => Ok(()),
        }
    }
}
