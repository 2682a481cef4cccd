//! Latencies per stage and counts per model and sink. Gathered on each thread without a lock and handed over every
//! `metrics_aggregation_count` frames, or by the timer of the thread's loop, so that a quiet camera still shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use omma_frame::{Mono, Timing};
use parking_lot::Mutex;

/// The spans that a published frame's time is divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From arrival until it left in a batch.
    Wait,
    /// Decoding its batch into the tensor.
    Prepare,
    /// Its batch in the model, with waiting for it.
    Infer,
    /// Reading the outputs, ordering, publishing.
    Publish,
    /// From arrival to publication.
    Total,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Wait, Self::Prepare, Self::Infer, Self::Publish, Self::Total];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Prepare => "prepare",
            Self::Infer => "infer",
            Self::Publish => "publish",
            Self::Total => "total",
        }
    }
}

type Spans = [u64; Stage::ALL.len()];

/// One histogram per stage, in microseconds, two significant digits, up to one hour.
pub struct StageTimes {
    histograms: Mutex<Vec<Histogram<u64>>>,
    sums_us: [AtomicU64; Stage::ALL.len()],
}

const SPAN_US_MAX: u64 = 3_600_000_000;

impl Default for StageTimes {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, SPAN_US_MAX, 2).ok();
        let histograms = Stage::ALL.iter().filter_map(|_| histogram()).collect();
        Self { histograms: Mutex::new(histograms), sums_us: Default::default() }
    }
}

impl StageTimes {
    /// Reads a stage's histogram.
    pub fn read<R>(&self, stage: Stage, read: impl FnOnce(&Histogram<u64>) -> R) -> Option<R> {
        self.histograms.lock().get(stage as usize).map(read)
    }

    /// The quantile (0 to 1) of a stage; zero if nothing was recorded.
    #[must_use]
    pub fn quantile(&self, stage: Stage, quantile: f64) -> Duration {
        let us =
            self.read(stage, |histogram| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) });
        Duration::from_micros(us.unwrap_or(0))
    }

    #[must_use]
    pub fn sum(&self, stage: Stage) -> Duration {
        Duration::from_micros(self.sums_us[stage as usize].load(Ordering::Relaxed))
    }

    /// Forgets everything so far: for measurements that begin after a warm-up.
    pub fn reset(&self) {
        for histogram in self.histograms.lock().iter_mut() {
            histogram.reset();
        }
        for sum in &self.sums_us {
            sum.store(0, Ordering::Relaxed);
        }
    }

    fn record(&self, gathered: &[Spans]) {
        let mut sums = Spans::default();
        let mut histograms = self.histograms.lock();
        for spans in gathered {
            for (stage, histogram) in histograms.iter_mut().enumerate() {
                histogram.saturating_record(spans[stage].clamp(1, SPAN_US_MAX));
                sums[stage] += spans[stage];
            }
        }
        drop(histograms);
        for (total, sum) in self.sums_us.iter().zip(sums) {
            total.fetch_add(sum, Ordering::Relaxed);
        }
    }
}

/// Gathers the spans of published frames on one thread.
pub struct StageGatherer {
    shared: Arc<StageTimes>,
    gathered: Vec<Spans>,
    frames: usize,
    interval: Duration,
    flushed_at: Mono,
}

impl StageGatherer {
    #[must_use]
    pub fn new(shared: Arc<StageTimes>, frames: u32, interval: Duration) -> Self {
        let frames = frames.max(1) as usize;
        Self { shared, gathered: Vec::with_capacity(frames), frames, interval, flushed_at: Mono(0) }
    }

    pub fn record(&mut self, timing: &Timing, published: Mono) {
        let us = |later: Mono, earlier: Mono| later.0.saturating_sub(earlier.0) / 1000;
        self.gathered.push([
            us(timing.batched, timing.received),
            us(timing.prepared, timing.batched),
            us(timing.inferred, timing.prepared),
            us(published, timing.inferred),
            us(published, timing.received),
        ]);
        if self.gathered.len() >= self.frames {
            self.flush(published);
        }
    }

    /// Hands over what has been gathered if the interval has passed.
    pub fn tick(&mut self, now: Mono) {
        if now.since(self.flushed_at) >= self.interval {
            self.flush(now);
        }
    }

    pub fn flush(&mut self, now: Mono) {
        if !self.gathered.is_empty() {
            self.shared.record(&self.gathered);
            self.gathered.clear();
        }
        self.flushed_at = now;
    }
}

/// What a model's instances did; written once per batch.
#[derive(Default)]
pub struct ModelCounters {
    pub batches: AtomicU64,
    pub frames: AtomicU64,
    pub failed_batches: AtomicU64,
    /// Nanoseconds that instances spent in the model, all together.
    pub busy_ns: AtomicU64,
    /// Nanoseconds spent decoding into tensors, all threads together.
    pub prepare_ns: AtomicU64,
    pub instances_running: AtomicU64,
    pub instances_abandoned: AtomicU64,
    pub instances_reopened: AtomicU64,
    /// Versions that were let in while the engine ran, and attempts that came to nothing.
    pub loads: AtomicU64,
    pub loads_failed: AtomicU64,
}

/// What a sink's writer did; written once per delivery.
#[derive(Default)]
pub struct SinkCounters {
    pub published: AtomicU64,
    pub retries: AtomicU64,
    pub buffered: AtomicU64,
    /// 1 while a publication is under way or being retried, since `blocked_since_ns`; a full disk shows here.
    pub failing: AtomicU64,
}

/// What readers did; written once per poll.
#[derive(Default)]
pub struct ReaderCounters {
    pub polls: AtomicU64,
    pub source_errors: AtomicU64,
    /// Results that came twice for one place in a camera's order. Always zero, or omma has a fault.
    pub ledger_violations: AtomicU64,
}

/// All shared figures of one engine.
pub struct Metrics {
    pub stages: Arc<StageTimes>,
    pub models: Vec<ModelCounters>,
    pub sinks: Vec<SinkCounters>,
    pub readers: ReaderCounters,
}

impl Metrics {
    #[must_use]
    pub fn new(models: usize, sinks: usize) -> Self {
        Self {
            stages: Arc::default(),
            models: std::iter::repeat_with(ModelCounters::default).take(models).collect(),
            sinks: std::iter::repeat_with(SinkCounters::default).take(sinks).collect(),
            readers: ReaderCounters::default(),
        }
    }
}
