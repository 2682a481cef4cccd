//! One Python worker with a `predict` that looks at nothing: what the way to another process and back costs.
//!
//! `frames_per_s` is the whole engine in front of it, with pictures by reference, so that no decoding hides the way;
//! `overhead_us_per_batch` is one call after the other of the instance alone, nothing of it being the model's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::infer::python::{BatchAs, PythonDevice, PythonModel, PythonOptions, open};
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{BatchInput, Opener, Origin, Reply};
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::tensor::{BatchTensor, DType, TensorView};
use omma_frame::{CameraIndex, Size};

use super::Options;
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::rig::{Blind, Rig};
use crate::usage::Usage;

const BATCH: usize = 16;
const MODEL: &str = "class Null:\n    def predict(self, batch):\n        return [0.0] * len(batch)\n";
/// Calls before the measured ones: the worker maps the batch's memory in the first.
const WARM_UP_CALLS: usize = 200;

pub fn run(options: &Options) -> Result<Figures, String> {
    let interpreter = omma_testkit::python::find(&["numpy"])?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    std::fs::write(folder.path().join("model.py"), MODEL).map_err(|error| error.to_string())?;
    let started = || {
        let options = PythonOptions {
            model: "bench".to_owned(),
            interpreter: interpreter.clone(),
            entry: "model:Null".to_owned(),
            folder: folder.path().to_owned(),
            environment: Vec::new(),
            parameters: Vec::new(),
            device: PythonDevice::Cpu,
            batch_as: BatchAs::Numpy,
            threads: 1,
            load_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            output_bytes_max: 1 << 20,
        };
        open(options, |_| Ok(spec()))
    };
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        let (mean, p99) = alone(&started()?, options.span() / 2)?;
        figures.add("overhead_us_per_batch", "us", mean.as_secs_f64() * 1e6);
        figures.add("overhead_p99_us", "us", p99.as_secs_f64() * 1e6);
        let (frames_per_s, cpu_us) = through_engine(started()?, options.span())?;
        figures.add("frames_per_s", "1/s", frames_per_s);
        figures.add("cpu_us_per_frame", "us", cpu_us);
    }
    figures.limit("frames_per_s", ">= 20,000");
    figures.limit("overhead_us_per_batch", "<= 150");
    Ok(figures)
}

fn spec() -> PictureSpec {
    PictureSpec {
        size: Size { width: 320, height: 320 },
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Mean and 99th percentile of the calls of one instance, one after the other.
fn alone(python: &PythonModel, span: Duration) -> Result<(Duration, Duration), String> {
    let Opener::Blocking(open) = &python.model.opener else { return Err("the workers do not block".to_owned()) };
    let mut instance = open(0).map_err(|error| error.message)?;
    let spec = spec();
    let tensor = BatchTensor::within(python.model.memory.as_ref(), BATCH, spec.slot_bytes());
    let origins: Vec<Origin> = (0..BATCH as u64).map(|sequence| Origin { camera: CameraIndex(0), sequence }).collect();
    let input = BatchInput { tensor: &tensor, spec: &spec, origins: &origins, parameters: &[] };
    let mut call = || {
        let mut answered = Answered(0);
        let begun = Instant::now();
        instance.infer(input, &mut answered).map_err(|error| error.message)?;
        let took = begun.elapsed();
        if answered.0 == BATCH { Ok(took) } else { Err(format!("{} answers to {BATCH} frames", answered.0)) }
    };
    for _ in 0..WARM_UP_CALLS {
        call()?;
    }
    let (begun, mut calls) = (Instant::now(), Vec::new());
    while begun.elapsed() < span {
        calls.push(call()?);
    }
    calls.sort();
    let mean = calls.iter().sum::<Duration>() / u32::try_from(calls.len()).unwrap_or(u32::MAX);
    Ok((mean, calls[calls.len() * 99 / 100]))
}

/// Frames per second of a saturated engine with one worker, and the processor's time that this process takes for one.
fn through_engine(python: PythonModel, span: Duration) -> Result<(f64, f64), String> {
    let rig = Rig {
        cameras: 64,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 4,
        entry_ids: false,
        mode: Mode::Auto,
        instances: Some(1),
        batch: BatchPlan { size: BATCH, size_max: BATCH, ..BatchPlan::default() },
        spec: spec(),
        model: python.model,
        pictures: Arc::new(Blind),
        outputs: Arc::new(Blind),
    };
    let picture = Bytes::from_static(b"by reference");
    let engine = rig.start(|cameras| Box::new(Load::saturating(cameras, vec![picture])))?;
    rest(Duration::from_millis(300));
    let (usage, before) = (Usage::now(), engine.shared().ledger.total().published);
    rest(span);
    let (spent, after) = (usage.spent(), engine.shared().ledger.total().published);
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 || drained.unsettled > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    let frames = (after - before) as f64;
    Ok((frames / spent.wall.as_secs_f64(), spent.cpu.as_secs_f64() * 1e6 / frames))
}

/// Counts the items of an answer.
struct Answered(usize);

impl Reply for Answered {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        self.0 = tensors.first().and_then(|tensor| tensor.shape.first().copied()).unwrap_or_default();
    }

    fn fail(&mut self, _index: usize, _message: &str) {
        self.0 = 0;
    }
}
