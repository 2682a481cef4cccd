//! Batches of 16 pictures of 3x320x320 in memory shared with a real Triton: through the engine and its client, against a
//! client with nothing around it that sends the same batch again and again. Nothing is decoded, by neither.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::infer::guess_spec;
use omma_adapters::infer::open_inference::SharedMemoryUse;
use omma_engine::cameras::Delivery;
use omma_engine::plan::{BatchPlan, Mode};
use omma_testkit::triton_server::TritonServer;

use super::Options;
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::{Blind, Rig};
use crate::triton::bare::{Bare, Content, Region, request};
use crate::triton::{client, start};

const BATCH: usize = 16;
const VALUES: usize = 3 * 320 * 320;
const WARM_UP: Duration = Duration::from_millis(500);
/// Requests that the bare client has on their way: one that runs, one that waits, and two on the way.
const BARE_REQUESTS: usize = 4;

struct Kind {
    model: &'static str,
    datatype: &'static str,
    value_bytes: usize,
    ratio: &'static str,
    limit: &'static str,
    ours: &'static str,
    bare: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        model: "first_u8",
        datatype: "UINT8",
        value_bytes: 1,
        ratio: "u8_shm_ratio",
        limit: ">= 0.90",
        ours: "u8_frames_per_s",
        bare: "u8_bare_frames_per_s",
    },
    Kind {
        model: "first_f32",
        datatype: "FP32",
        value_bytes: 4,
        ratio: "f32_shm_ratio",
        limit: ">= 0.85",
        ours: "f32_frames_per_s",
        bare: "f32_bare_frames_per_s",
    },
];

pub fn run(options: &Options) -> Result<Figures, String> {
    let server = start(&KINDS.map(|kind| kind.model))?;
    let bare = Bare::connect(&server.grpc())?;
    let span = if options.quick { Duration::from_millis(1500) } else { options.span() };
    let mut figures = Figures::default();
    for kind in &KINDS {
        let bytes = BATCH * VALUES * kind.value_bytes;
        let regions: Vec<Region> =
            (0..BARE_REQUESTS).map(|number| Region::filled(number, bytes)).collect::<Result<_, _>>()?;
        for region in &regions {
            bare.register(region)?;
        }
        let shape = [BATCH as i64, 3, 320, 320];
        let requests: Vec<_> =
            regions.iter().map(|region| request(kind.model, kind.datatype, &shape, Content::Shared(region))).collect();
        let yardstick = || bare.closed_loop(&requests, WARM_UP, span / 2).map(|batches| batches * BATCH as f64);
        for _ in 0..options.runs() {
            // The yardstick before and after, so that a machine that drifts does not decide the ratio.
            let before = yardstick()?;
            let through = through_engine(&server, kind.model, span)?;
            let yardstick = f64::midpoint(before, yardstick()?);
            figures.add(kind.ratio, "1", through / yardstick);
            figures.add(kind.ours, "1/s", through);
            figures.add(kind.bare, "1/s", yardstick);
        }
        for region in &regions {
            bare.unregister(region)?;
        }
        figures.limit(kind.ratio, kind.limit);
    }
    Ok(figures)
}

/// Frames per second of cameras that deliver as fast as they are taken.
fn through_engine(server: &TritonServer, model: &str, span: Duration) -> Result<f64, String> {
    let opened = client(server, model, SharedMemoryUse::On)?;
    let spec = guess_spec(&opened.model.info, None).ok_or("the model takes no pictures")?;
    let rig = Rig {
        cameras: 64,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 8,
        entry_ids: false,
        mode: Mode::Auto,
        instances: Some(opened.instances),
        batch: BatchPlan { size: BATCH, size_max: BATCH, ..BatchPlan::default() },
        model: opened.model,
        spec,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    let engine = rig.start(|cameras| Box::new(Load::saturating(cameras, vec![Bytes::from_static(b"none")])))?;
    rest(WARM_UP);
    let published = || engine.shared().ledger.total().published;
    let (begun, before) = (Instant::now(), published());
    rest(span);
    let per_s = (published() - before) as f64 / begun.elapsed().as_secs_f64();
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 || drained.unsettled > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    Ok(per_s)
}
