//! A real detector loaded anew again and again while cameras are at half load: whether memory comes back, whether a frame
//! is lost, what a swap does to the latency.

use std::path::Path;
use std::time::{Duration, Instant};

use omma_adapters::infer::{OnnxOptions, guess_spec, open};
use omma_adapters::picture::{self, PictureLimits};
use omma_engine::cameras::Delivery;
use omma_engine::metrics::Stage;
use omma_engine::pipeline::{Engine, ModelParts, NewVersion};
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::post::decode::guess;

use super::{Options, model};
use crate::figures::{Figures, median};
use crate::load::{Load, Pictures, rest};
use crate::rig::Rig;
use crate::usage::rss_mib;

/// In the repository: nothing to make first.
const DETECTOR: &str = "models/detector/omma-demo.onnx";
const RELOADS: u32 = 200;
const RELOADS_QUICK: u32 = 20;
/// After so many every pool and allocator has seen what a reload takes.
const SETTLED_AFTER: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(50);

pub fn run(options: &Options) -> Result<Figures, String> {
    let pictures = model::pictures(640, 480)?;
    let capacity = capacity(&pictures)?;
    let engine = rig()?.start(|cameras| Box::new(Load::at(capacity / 2.0, cameras, pictures.clone())))?;
    let shared = engine.shared().clone();
    let p99 = || shared.metrics.stages.quantile(Stage::Total, 0.99).as_secs_f64() * 1e3;
    rest(Duration::from_secs(1));
    shared.metrics.stages.reset();
    rest(options.span());
    let steady = p99();
    shared.metrics.stages.reset();
    let reloads = if options.quick { RELOADS_QUICK } else { RELOADS };
    let (mut took, mut settled) = (Vec::new(), 0.0);
    for number in 0..reloads {
        if number == SETTLED_AFTER {
            settled = rss_mib();
        }
        let begun = Instant::now();
        let parts = parts(number + 2)?;
        let plan = shared.plan.models[0].clone();
        shared.swap("bench", NewVersion { plan, parts }).map_err(|error| error.to_string())?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        rest(BETWEEN);
    }
    let swapping = p99();
    let rss = rss_mib();
    let drained = engine.drain();
    let lost = drained.counts.dropped_total() + drained.unsettled as u64 + u64::from(!drained.counts.balanced());
    took.sort_by(f64::total_cmp);
    let mut figures = Figures::default();
    figures.add("lost", "1", lost as f64);
    figures.add("rss_growth_mb_per_100", "MB", (rss - settled) / f64::from(reloads - SETTLED_AFTER) * 100.0);
    figures.add("rss_mb", "MB", rss);
    figures.add("steady_p99_ms", "ms", steady);
    figures.add("swapping_p99_ms", "ms", swapping);
    figures.add("reload_ms", "ms", median(&took));
    figures.add("reloads", "1", f64::from(reloads));
    figures.add("published", "1", drained.counts.published as f64);
    figures.add("offered_per_s", "1/s", capacity / 2.0);
    figures.limit("lost", "0");
    figures.limit("rss_growth_mb_per_100", "flat");
    Ok(figures)
}

fn parts(version: u32) -> Result<ModelParts, String> {
    let loaded = open(Path::new(DETECTOR), &OnnxOptions::default()).map_err(|error| error.to_string())?.model;
    let spec = guess_spec(&loaded.info, None).ok_or_else(|| format!("{DETECTOR} takes no pictures"))?;
    let outputs = guess(&loaded.info.outputs, spec.size, None)?.plan.factory(spec.size);
    let pictures = picture::factory(spec, PictureLimits::default()).map_err(|error| error.to_string())?;
    Ok(ModelParts { version, loaded, pictures, outputs })
}

fn rig() -> Result<Rig, String> {
    let ModelParts { loaded, pictures, outputs, .. } = parts(1)?;
    let spec = guess_spec(&loaded.info, None).ok_or_else(|| format!("{DETECTOR} takes no pictures"))?;
    Ok(Rig {
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
        pictures,
        outputs,
    })
}

/// Frames per second when as many are offered as there is room for.
fn capacity(pictures: &Pictures) -> Result<f64, String> {
    let engine = rig()?.start(|cameras| Box::new(Load::saturating(cameras, pictures.clone())))?;
    let published = |engine: &Engine| engine.shared().ledger.total().published;
    rest(Duration::from_millis(500));
    let (begun, before) = (Instant::now(), published(&engine));
    rest(Duration::from_secs(2));
    let per_s = (published(&engine) - before) as f64 / begun.elapsed().as_secs_f64();
    let _drained = engine.drain();
    Ok(per_s)
}
