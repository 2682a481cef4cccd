//! The engine alone: null model, payload by reference, order, ledger and metrics on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omma_adapters::infer::null;
use omma_engine::cameras::Delivery;
use omma_engine::plan::{BatchPlan, Mode};

use super::Options;
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::{Blind, Rig, no_pictures};
use crate::usage::Usage;

/// One measurement of the saturated engine.
pub struct Measured {
    pub frames_per_s: f64,
    pub cpu_us_per_frame: f64,
    pub switches_per_frame: f64,
}

pub fn run(options: &Options) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let measured = saturate(1000, options.span())?;
        figures.add("frames_per_s", "1/s", measured.frames_per_s);
        figures.add("cpu_us_per_frame", "us", measured.cpu_us_per_frame);
        figures.add("context_switches_per_frame", "1", measured.switches_per_frame);
    }
    figures.limit("frames_per_s", ">= 500,000");
    figures.limit("cpu_us_per_frame", "<= 4");
    figures.limit("context_switches_per_frame", "<= 0.05");
    Ok(figures)
}

/// Runs the engine as fast as it goes with that many cameras.
pub fn saturate(cameras: usize, span: Duration) -> Result<Measured, String> {
    let spec = no_pictures();
    let rig = Rig {
        cameras,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 64,
        entry_ids: false,
        mode: Mode::Sync,
        instances: Some(1),
        batch: BatchPlan { size: 64, size_max: 256, ..BatchPlan::default() },
        model: null(&spec),
        spec,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    let picture = Bytes::from_static(b"by reference");
    let engine = rig.start(|cameras| Box::new(Load::saturating(cameras, vec![picture])))?;
    rest(Duration::from_millis(500));
    let (usage, before) = (Usage::now(), engine.shared().ledger.total().published);
    rest(span);
    let (spent, after) = (usage.spent(), engine.shared().ledger.total().published);
    let drained = engine.drain();
    if drained.late > 0 || drained.unsettled > 0 || !drained.counts.balanced() {
        return Err(format!("the ledger does not balance: {drained:?}"));
    }
    let frames = (after - before) as f64;
    Ok(Measured {
        frames_per_s: frames / spent.wall.as_secs_f64(),
        cpu_us_per_frame: spent.cpu.as_secs_f64() * 1e6 / frames,
        switches_per_frame: spent.switches as f64 / frames,
    })
}
