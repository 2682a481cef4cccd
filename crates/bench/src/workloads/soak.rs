//! Minutes at 80% load with real decoding: whether memory grows and whether the 99th percentile drifts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::infer::{Cost, Waiting, simulated};
use omma_adapters::picture::{self, PictureLimits};
use omma_engine::cameras::Delivery;
use omma_engine::metrics::Stage;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::pipeline::Engine;
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::tensor::DType;
use omma_frame::Size;

use super::{Options, model};
use crate::figures::{Figures, median};
use crate::load::{Load, Pictures, rest};
use crate::rig::{Blind, Rig};
use crate::usage::{Usage, rss_mib};

/// Windows that the time is cut into; the first only warms up. Enough of them that each third has a middle which a few
/// hiccups of the machine do not decide.
const WINDOWS: usize = 31;

pub fn run(options: &Options) -> Result<Figures, String> {
    let pictures = model::pictures(640, 480)?;
    let minutes = if options.quick { 0.4 } else { options.minutes.unwrap_or(10.0) };
    let capacity = capacity(&pictures)?;
    let per_s = capacity * 0.8;
    let engine = rig()?.start(|cameras| Box::new(Load::at(per_s, cameras, pictures.clone())))?;
    let window = Duration::from_secs_f64(minutes * 60.0 / WINDOWS as f64);
    let mut rss = Vec::new();
    let mut p99 = Vec::new();
    let begun = Instant::now();
    let usage = Usage::now();
    for _ in 0..WINDOWS {
        engine.shared().metrics.stages.reset();
        let until = Instant::now() + window;
        while Instant::now() < until {
            rest(Duration::from_millis(500));
            rss.push((begun.elapsed().as_secs_f64() / 3600.0, rss_mib()));
        }
        p99.push(engine.shared().metrics.stages.quantile(Stage::Total, 0.99).as_secs_f64() * 1e3);
    }
    let spent = usage.spent();
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 || !drained.counts.balanced() || drained.unsettled > 0 {
        return Err(format!("the ledger: {drained:?}"));
    }
    let settled: Vec<_> = rss.iter().copied().skip(rss.len() / WINDOWS).collect();
    let third = (WINDOWS - 1) / 3;
    // The middle window of each third: one hiccup of the machine is no drift, and a drift is in all of them.
    let middle = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        median(&sorted)
    };
    let mut figures = Figures::default();
    figures.add("rss_slope_mb_per_hour", "MB/h", slope(&settled));
    figures.add("p99_drift_ratio", "1", middle(&p99[WINDOWS - third..]) / middle(&p99[1..=third]));
    figures.add("rss_mb", "MB", rss_mib());
    figures.add("minutes", "min", minutes);
    figures.add("offered_per_s", "1/s", per_s);
    figures.add("published", "1", drained.counts.published as f64);
    for window in &p99[1..] {
        figures.add("p99_ms", "ms", *window);
    }
    figures.add("cpu_cores", "1", spent.cpu.as_secs_f64() / spent.wall.as_secs_f64());
    figures.limit("rss_slope_mb_per_hour", "flat");
    figures.limit("p99_drift_ratio", "about 1");
    Ok(figures)
}

fn rig() -> Result<Rig, String> {
    let spec = PictureSpec {
        size: Size { width: 320, height: 320 },
        dtype: DType::F32,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Letterbox { pad: 114 },
        scale: 1.0 / 255.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let cost = Cost { base: Duration::from_millis(2), per_item: Duration::ZERO, waiting: Waiting::Spin };
    let pictures = picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    Ok(Rig {
        cameras: 200,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 8,
        entry_ids: false,
        mode: Mode::Auto,
        instances: None,
        batch: BatchPlan::default(),
        model: simulated(&spec, cost, 1),
        spec,
        pictures,
        outputs: Arc::new(Blind),
    })
}

/// Frames per second when as many are offered as there is room for.
fn capacity(pictures: &Pictures) -> Result<f64, String> {
    let engine = rig()?.start(|cameras| Box::new(Load::saturating(cameras, pictures.clone())))?;
    let published = |engine: &Engine| engine.shared().ledger.total().published;
    rest(Duration::from_millis(500));
    let (begun, before) = (Instant::now(), published(&engine));
    rest(Duration::from_secs(3));
    let per_s = (published(&engine) - before) as f64 / begun.elapsed().as_secs_f64();
    let _drained = engine.drain();
    Ok(per_s)
}

/// The least-squares slope of points.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let over: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}
