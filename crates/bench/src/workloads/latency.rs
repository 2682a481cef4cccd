//! The latency that the engine adds at half load: from when a frame was due at its camera to its publication, without
//! its own decoding and inference.
//!
//! Counted from when the frame was due, not from when it was read, so that the pauses between polls are in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::infer::OnnxOptions;
use omma_adapters::picture::{self, PictureLimits};
use omma_engine::cameras::{Camera, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::sink::{Sink, SinkError};
use omma_frame::{FrameResult, Mono};
use parking_lot::Mutex;

use super::Options;
use super::model::{self, Detector};
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::Rig;

/// Frames at the start that are not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// How much longer than in other workloads a run measures: half of what a detector does on a CPU is some tens of frames
/// per second, and a 99th percentile of a hundred frames is its second worst.
const LONGER: u32 = 4;

pub fn run(options: &Options) -> Result<Figures, String> {
    let pictures = model::pictures(640, 480)?;
    let capacity = model::capacity(options, &pictures, options.span())?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let added = measure(options, &pictures, capacity / 2.0, options.span() * LONGER + WARM_UP)?;
        for ((p50, p99), of) in PARTS.into_iter().zip(0..) {
            let mut parts: Vec<f64> = added.iter().map(|added| added[of]).collect();
            parts.sort_by(f64::total_cmp);
            let quantile = |q: f64| parts[((parts.len() - 1) as f64 * q) as usize] * 1e3;
            figures.add(p50, "ms", quantile(0.5));
            figures.add(p99, "ms", quantile(0.99));
        }
        figures.add("offered_per_s", "1/s", capacity / 2.0);
    }
    figures.limit("added_p99_ms", "<= 2");
    Ok(figures)
}

/// The whole of what is added, and its parts: until it is read, until it is in a batch, and from the model's answer to
/// its publication.
const PARTS: [(&str, &str); 4] = [
    ("added_p50_ms", "added_p99_ms"),
    ("read_p50_ms", "read_p99_ms"),
    ("wait_p50_ms", "wait_p99_ms"),
    ("publish_p50_ms", "publish_p99_ms"),
];

/// The added seconds of each frame, by part.
fn measure(
    options: &Options,
    pictures: &crate::load::Pictures,
    per_s: f64,
    span: Duration,
) -> Result<Vec<[f64; 4]>, String> {
    let Detector { loaded, spec, outputs } = model::detector(options, &OnnxOptions::default())?;
    let pictures_in = picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    let rig = Rig {
        cameras: 64,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 8,
        entry_ids: false,
        mode: Mode::Auto,
        instances: None,
        batch: BatchPlan::default(),
        spec,
        model: loaded,
        pictures: pictures_in,
        outputs,
    };
    // The clock begins now too, so that its times and ours are one.
    let clock = Arc::new(SystemClock::new());
    let begun = Instant::now();
    let added = Arc::new(Mutex::new(Vec::new()));
    let sink = Added { begun, added: Arc::clone(&added) };
    let engine = rig.start_into(clock, Box::new(sink), |_, cameras| {
        Ok(Box::new(Load::at(per_s, cameras, pictures.clone()).since(begun)))
    })?;
    rest(span);
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    let added = std::mem::take(&mut *added.lock());
    if added.is_empty() {
        return Err("no frame came through".to_owned());
    }
    Ok(added)
}

/// Takes the time at which results are published. A frame's token is when it was due, in nanoseconds since `begun`.
struct Added {
    begun: Instant,
    added: Arc<Mutex<Vec<[f64; 4]>>>,
}

impl Sink for Added {
    fn publish(&mut self, results: &[FrameResult], _cameras: &[Arc<Camera>]) -> Result<(), SinkError> {
        let now = self.begun.elapsed();
        let mut added = self.added.lock();
        for result in results {
            let due = Duration::from_nanos(result.token.1);
            if due > WARM_UP {
                let timing = &result.timing;
                let since_begun = |at: Mono| Duration::from_nanos(at.0);
                let read = since_begun(timing.received).saturating_sub(due);
                let wait = timing.batched.since(timing.received);
                let publish = now.saturating_sub(since_begun(timing.inferred));
                added.push([read + wait + publish, read, wait, publish].map(|part| part.as_secs_f64()));
            }
        }
        Ok(())
    }
}
