//! The latency that the engine adds at half load: from when a frame was due at its camera to its publication, without
//! its own decoding and inference.
//!
//! Counted from when the frame was due, not from when it was read, so that the pauses between polls are in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::picture::{self, PictureLimits};
use omma_engine::cameras::{Camera, Delivery};
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::sink::{Sink, SinkError};
use omma_frame::FrameResult;
use parking_lot::Mutex;

use super::Options;
use super::model::{self, Detector};
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::Rig;

/// Frames at the start that are not counted.
const WARM_UP: Duration = Duration::from_secs(1);

pub fn run(options: &Options) -> Result<Figures, String> {
    let pictures = model::pictures(640, 480)?;
    let capacity = model::capacity(options, &pictures, options.span())?;
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let added = measure(options, &pictures, capacity / 2.0, options.span() + WARM_UP)?;
        let quantile = |q: f64| added[((added.len() - 1) as f64 * q) as usize] * 1e3;
        figures.add("added_p50_ms", "ms", quantile(0.5));
        figures.add("added_p99_ms", "ms", quantile(0.99));
        figures.add("offered_per_s", "1/s", capacity / 2.0);
    }
    figures.limit("added_p99_ms", "<= 2");
    Ok(figures)
}

/// The added seconds of each frame, sorted.
fn measure(
    options: &Options,
    pictures: &crate::load::Pictures,
    per_s: f64,
    span: Duration,
) -> Result<Vec<f64>, String> {
    let Detector { loaded, spec, outputs } = model::detector(options)?;
    let pictures_in = picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    let rig = Rig {
        cameras: 64,
        delivery: Delivery::Every,
        in_flight_frames_max: 8,
        mode: Mode::Auto,
        instances: None,
        batch: BatchPlan::default(),
        spec,
        model: loaded,
        pictures: pictures_in,
        outputs,
    };
    let begun = Instant::now();
    let added = Arc::new(Mutex::new(Vec::new()));
    let sink = Added { begun, added: Arc::clone(&added) };
    let engine =
        rig.start_into(Box::new(sink), |cameras| Box::new(Load::at(per_s, cameras, pictures.clone()).since(begun)))?;
    rest(span);
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    let mut added = std::mem::take(&mut *added.lock());
    if added.is_empty() {
        return Err("no frame came through".to_owned());
    }
    added.sort_by(f64::total_cmp);
    Ok(added)
}

/// Takes the time at which results are published. A frame's token is when it was due, in nanoseconds since `begun`.
struct Added {
    begun: Instant,
    added: Arc<Mutex<Vec<f64>>>,
}

impl Sink for Added {
    fn publish(&mut self, results: &[FrameResult], _cameras: &[Arc<Camera>]) -> Result<(), SinkError> {
        let now = self.begun.elapsed();
        let mut added = self.added.lock();
        for result in results {
            let due = Duration::from_nanos(result.token.1);
            if due > WARM_UP {
                let timing = &result.timing;
                let own = timing.prepared.since(timing.batched) + timing.inferred.since(timing.prepared);
                added.push(now.saturating_sub(due).saturating_sub(own).as_secs_f64());
            }
        }
        Ok(())
    }
}
