//! What an engine did between two moments: readings of its counters, and their difference.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use omma_engine::ledger::Counts;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::Shared;

use crate::usage;

/// The counters as they stood at one moment. Costs a copy of five histograms (130 KB): for a few a second, not more.
#[derive(Clone)]
pub struct Reading {
    pub at: Instant,
    pub counts: Counts,
    pub cpu: Duration,
    stages: Vec<Histogram<u64>>,
    sums: Vec<Duration>,
    /// By model: in the model, and decoding.
    models: Vec<(Duration, Duration)>,
}

/// What happened between two readings.
pub struct Window {
    pub took: Duration,
    pub published_per_s: f64,
    /// Cores kept busy by the whole process.
    pub cores: f64,
    pub models: Vec<ModelWindow>,
    stages: Vec<Histogram<u64>>,
    sums: Vec<Duration>,
}

/// Threads that a model kept busy on average: in the model, and decoding for it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ModelWindow {
    pub model_threads: f64,
    pub decode_threads: f64,
}

impl Reading {
    pub fn take(shared: &Arc<Shared>) -> Self {
        let stages = &shared.metrics.stages;
        let ns = |counter: &std::sync::atomic::AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        Self {
            at: Instant::now(),
            counts: shared.ledger.total(),
            cpu: usage::cpu_time(),
            stages: Stage::ALL.iter().filter_map(|stage| stages.read(*stage, Histogram::clone)).collect(),
            sums: Stage::ALL.iter().map(|stage| stages.sum(*stage)).collect(),
            models: shared.metrics.models.iter().map(|model| (ns(&model.busy_ns), ns(&model.prepare_ns))).collect(),
        }
    }

    pub fn since(&self, earlier: &Self) -> Window {
        let took = self.at.duration_since(earlier.at);
        let seconds = took.as_secs_f64().max(1e-6);
        let mut stages = self.stages.clone();
        for (stage, before) in stages.iter_mut().zip(&earlier.stages) {
            // Counts only grow, so a later reading holds the earlier one.
            if stage.subtract(before).is_err() {
                stage.reset();
            }
        }
        let busy = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / seconds;
        Window {
            took,
            published_per_s: self.counts.published.saturating_sub(earlier.counts.published) as f64 / seconds,
            cores: busy(self.cpu, earlier.cpu),
            models: self
                .models
                .iter()
                .zip(&earlier.models)
                .map(|(now, before)| ModelWindow {
                    model_threads: busy(now.0, before.0),
                    decode_threads: busy(now.1, before.1),
                })
                .collect(),
            stages,
            sums: self.sums.iter().zip(&earlier.sums).map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }
}

impl Window {
    /// The quantile (0 to 1) of a stage; zero if nothing came through.
    pub fn quantile(&self, stage: Stage, quantile: f64) -> Duration {
        let us = self.stages.get(stage as usize).map_or(0, |h| if h.is_empty() { 0 } else { h.value_at_quantile(quantile) });
        Duration::from_micros(us)
    }

    pub fn mean(&self, stage: Stage) -> Duration {
        let frames = self.stages.get(stage as usize).map_or(0, Histogram::len);
        let sum = self.sums.get(stage as usize).copied().unwrap_or_default();
        sum.checked_div(u32::try_from(frames).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}
