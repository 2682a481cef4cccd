//! omma's batcher in front of a real Triton without its dynamic batcher, against Triton's dynamic batcher in the best of
//! its configurations, on a model of 8 ms + 0.5 ms per picture, at most 16, one instance.
//!
//! Both are asked for one picture at a time by the same number of callers: omma's by direct requests in its process, whose
//! batches go to Triton by gRPC; Triton's by gRPC on one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omma_adapters::infer::guess_spec;
use omma_adapters::infer::open_inference::SharedMemoryUse;
use omma_engine::cameras::Delivery;
use omma_engine::pipeline::Engine;
use omma_engine::plan::{BatchPlan, Mode};
use omma_testkit::triton_server::TritonServer;

use super::Options;
use crate::callers::{self, Random};
use crate::figures::{Figures, median};
use crate::load::Load;
use crate::rig::{Blind, Rig};
use crate::triton::bare::{Bare, Content, request};
use crate::triton::{client, start};

const BATCH_MAX: usize = 16;
const PLAIN: &str = "wait";
/// Triton's dynamic batcher, waiting for company not at all, 1 ms and 3 ms: which is best depends on the load.
const DYNAMIC: [&str; 3] = ["wait_dynamic", "wait_dynamic_1000us", "wait_dynamic_3000us"];
const WARM_UP: Duration = Duration::from_millis(300);
const OFFERED_PER_S: f64 = 100.0;
/// Callers that ask again once they are answered, and the figures of omma and of Triton.
const LOADS: [(usize, &str, &str); 3] =
    [(4, "per_s_4", "triton_per_s_4"), (16, "per_s_16", "triton_per_s_16"), (64, "per_s_64", "triton_per_s_64")];

/// What each run found of each of [`DYNAMIC`].
type Configurations = [Vec<f64>; DYNAMIC.len()];

pub fn run(options: &Options) -> Result<Figures, String> {
    let server = start(&[&[PLAIN][..], &DYNAMIC].concat())?;
    let bare = Bare::connect(&server.grpc())?;
    let picture = Bytes::from_static(&[7; 64]);
    let one = |model: &str| request(model, "UINT8", &[1, 1, 8, 8], Content::Inline(picture.clone()));
    let span = Duration::from_millis(if options.quick { 450 } else { 2700 });
    let mut figures = Figures::default();
    let mut tritons: [Configurations; LOADS.len()] = Default::default();
    let mut tritons_p50 = Configurations::default();
    for run in 0..options.runs() {
        for ((callers, ours, _), tritons) in LOADS.into_iter().zip(&mut tritons) {
            for (model, found) in DYNAMIC.into_iter().zip(tritons) {
                found.push(bare.closed_loop(&vec![one(model); callers], WARM_UP, span)?);
            }
            figures.add(ours, "1/s", callers::closed_loop(engine(&server)?, callers, span)?);
        }
        for (model, found) in DYNAMIC.into_iter().zip(&mut tritons_p50) {
            let mut random = Random::new(run as u64);
            let requests = (span.as_secs_f64() * OFFERED_PER_S) as usize;
            let gaps = (0..requests).map(|_| random.gap(OFFERED_PER_S));
            found.push(median(&bare.open_loop(&one(model), gaps)?));
        }
        figures.add("p50_ms_at_100", "ms", callers::open_loop(engine(&server)?, OFFERED_PER_S, span, run as u64)?);
    }
    for ((_, _, name), found) in LOADS.into_iter().zip(tritons) {
        best(found, |a, b| a > b).into_iter().for_each(|per_s| figures.add(name, "1/s", per_s));
    }
    best(tritons_p50, |a, b| a < b).into_iter().for_each(|p50| figures.add("triton_p50_ms_at_100", "ms", p50));
    for (name, limit) in [
        ("per_s_4", ">= triton_per_s_4"),
        ("per_s_16", ">= triton_per_s_16"),
        ("per_s_64", ">= triton_per_s_64"),
        ("p50_ms_at_100", "<= triton_p50_ms_at_100"),
    ] {
        figures.limit(name, limit);
    }
    Ok(figures)
}

/// The runs of the configuration that is best in the middle of its runs. The best of each run would be the luckiest of
/// three, and omma has one try.
fn best(found: Configurations, is_better: fn(f64, f64) -> bool) -> Vec<f64> {
    let mut found = found.map(|mut runs| {
        runs.sort_by(f64::total_cmp);
        runs
    });
    let mut at = 0;
    for other in 1..found.len() {
        if is_better(median(&found[other]), median(&found[at])) {
            at = other;
        }
    }
    std::mem::take(&mut found[at])
}

fn engine(server: &TritonServer) -> Result<Engine, String> {
    let opened = client(server, PLAIN, SharedMemoryUse::Auto)?;
    let spec = guess_spec(&opened.model.info, None).ok_or("the model takes no pictures")?;
    let rig = Rig {
        cameras: 1,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 1,
        entry_ids: false,
        mode: Mode::Auto,
        instances: Some(opened.instances),
        batch: BatchPlan { size: BATCH_MAX, size_max: BATCH_MAX, ..BatchPlan::default() },
        model: opened.model,
        spec,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    // The camera delivers nothing: all requests are direct.
    rig.start(|cameras| Box::new(Load::at(0.0, cameras, vec![Bytes::from_static(b"none")])))
}
