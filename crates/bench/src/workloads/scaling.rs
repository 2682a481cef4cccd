//! What more cameras cost: per frame at 10,000 against 100, and the memory of 10,000 that deliver nothing.

use std::sync::Arc;
use std::time::Duration;

use omma_adapters::infer::null;
use omma_engine::cameras::Delivery;
use omma_engine::plan::{BatchPlan, Mode};

use super::{Options, engine};
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::{Blind, Rig, no_pictures};
use crate::usage::rss_mib;

pub fn run(options: &Options) -> Result<Figures, String> {
    let mut figures = Figures::default();
    // Memory first, while the allocator holds nothing back from earlier runs.
    figures.add("idle_rss_mb_10000", "MB", idle_rss_mb(10_000)?);
    for _ in 0..options.runs() {
        // In turn, so that a machine that becomes slower meanwhile slows both.
        let few = engine::saturate(100, options.span())?;
        let many = engine::saturate(10_000, options.span())?;
        figures.add("cost_ratio_10000_to_100", "1", many.cpu_us_per_frame / few.cpu_us_per_frame);
        figures.add("cpu_us_per_frame_100", "us", few.cpu_us_per_frame);
        figures.add("cpu_us_per_frame_10000", "us", many.cpu_us_per_frame);
    }
    figures.limit("cost_ratio_10000_to_100", "<= 1.15");
    figures.limit("idle_rss_mb_10000", "<= 100");
    Ok(figures)
}

/// Resident memory that an engine with idle cameras adds to the process.
fn idle_rss_mb(cameras: usize) -> Result<f64, String> {
    let before = rss_mib();
    let spec = no_pictures();
    let rig = Rig {
        cameras,
        delivery: Delivery::Latest { age_max: Duration::from_secs(2) },
        waiting_frames_max: 2,
        in_flight_frames_max: 64,
        entry_ids: false,
        mode: Mode::Sync,
        instances: None,
        batch: BatchPlan::default(),
        model: null(&spec),
        spec,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    // Every camera has delivered once, so that what is made on first use is counted.
    let source = |indexes: Vec<_>| {
        let frames = indexes.len() as u64;
        let picture = bytes::Bytes::from_static(b"once");
        Box::new(Load::at(1e6, indexes, vec![picture]).ending_after(frames)) as _
    };
    let engine = rig.start(source)?;
    rest(Duration::from_secs(1));
    let after = rss_mib();
    let drained = engine.drain();
    if drained.counts.published != cameras as u64 {
        return Err(format!("not every camera was served: {drained:?}"));
    }
    Ok(after - before)
}
