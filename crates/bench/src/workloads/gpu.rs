//! A PyTorch detector in half precision on a GPU, in omma's Python workers and in a Triton: frames per second, how busy the
//! GPU is, and what holds either up.
//!
//! The yardstick is the same class called in a loop, in as many processes, with nothing around it. Needs a GPU, an
//! interpreter with PyTorch (`--python`) and, for Triton's figures, a server that runs the model repository
//! `models/torch_detector/triton` (`--triton`). A run here is a span: loading a model takes longer than measuring it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omma_adapters::infer::open_inference::{self, OpenInferenceOptions, ServerUrl};
use omma_adapters::infer::python::{self, BatchAs, PythonDevice, PythonOptions};
use omma_adapters::picture::{self, PictureLimits};
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::LoadedModel;
use omma_engine::picture::PictureDecoderFactory;
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::post::decode::guess;
use omma_engine::tensor::BatchTensor;
use omma_frame::Payload;
use serde::Deserialize;

use super::Options;
use super::model::{self, Detector};
use crate::figures::Figures;
use crate::gpu::{GpuUse, GpuWatch};
use crate::load::{Load, Pictures, rest};
use crate::rig::{Blind, Rig, picture_spec};
use crate::usage::Usage;

const FOLDER: &str = "models/torch_detector";
pub const BATCH: usize = 64;
/// Enough for batches to be full.
const CAMERAS: usize = 1000;
/// Worker processes, and the names of their figures.
const WORKERS: [(usize, &str, &str, &str); 3] = [
    (1, "frames_per_s_1", "bare_frames_per_s_1", "ratio_to_bare_1"),
    (2, "frames_per_s_2", "bare_frames_per_s_2", "ratio_to_bare_2"),
    (4, "frames_per_s_4", "bare_frames_per_s_4", "ratio_to_bare_4"),
];
/// More workers are taken for the other figures if they are faster by this: each keeps a core busy.
const WORTH_MORE_WORKERS: f64 = 1.03;
pub const WARM_UP: Duration = Duration::from_secs(1);
const LOAD_MAX: Duration = Duration::from_secs(120);

pub fn run(options: &Options) -> Result<Figures, String> {
    let pictures = model::pictures(640, 480)?;
    let mut figures = Figures::default();
    let mut best: (f64, usize, Vec<Span>) = (0.0, 1, vec![]);
    for (workers, ours, bare, ratio) in WORKERS {
        let yardstick = bare_loop(options, workers, false)?;
        let spans = through_engine(options, torch(in_python(options)?)?, workers, None, &pictures)?;
        for (span, bare_per_s) in spans.iter().zip(&yardstick) {
            figures.add(ours, "1/s", span.per_s);
            figures.add(bare, "1/s", *bare_per_s);
            figures.add(ratio, "1", span.per_s / bare_per_s);
        }
        let mean = spans.iter().map(|span| span.per_s).sum::<f64>() / spans.len() as f64;
        if mean > best.0 * WORTH_MORE_WORKERS {
            best = (mean, workers, spans);
        }
    }
    let (_, workers, spans) = best;
    figures.add("workers", "1", workers as f64);
    for span in spans {
        figures.add("gpu_busy_percent", "%", span.gpu.busy_percent);
        figures.add("gpu_memory_mb", "MB", span.gpu.memory_mib);
        figures.add("cpu_us_per_frame", "us", span.cpu_us);
    }
    for per_s in bare_loop(options, 1, true)? {
        figures.add("pictures_on_gpu_frames_per_s", "1/s", per_s);
    }
    let decoders = picture::factory(picture_spec(), PictureLimits::default()).map_err(|error| error.to_string())?;
    for span in through_engine(options, torch(in_python(options)?)?, workers, Some(Arc::clone(&decoders)), &pictures)? {
        figures.add("frames_per_s_with_decode", "1/s", span.per_s);
        figures.add("gpu_busy_percent_with_decode", "%", span.gpu.busy_percent);
        figures.add("cpu_us_per_frame_with_decode", "us", span.cpu_us);
    }
    for per_s in decoding_alone(options, &*decoders, picture_spec().slot_bytes(), &pictures) {
        figures.add("decoding_alone_frames_per_s", "1/s", per_s);
    }
    if let Some(server) = &options.triton {
        let (model, instances) = in_triton(server)?;
        for span in through_engine(options, torch(model)?, instances, None, &pictures)? {
            figures.add("triton_frames_per_s", "1/s", span.per_s);
            figures.add("triton_gpu_busy_percent", "%", span.gpu.busy_percent);
            figures.add("triton_cpu_us_per_frame", "us", span.cpu_us);
        }
        figures.add("triton_instances", "1", instances as f64);
    }
    Ok(figures)
}

/// How many spans are measured, and how long each is.
pub fn spans(options: &Options) -> (usize, Duration) {
    (options.runs(), Duration::from_secs(if options.quick { 1 } else { 2 }))
}

fn in_python(options: &Options) -> Result<LoadedModel, String> {
    let options = PythonOptions {
        model: "detector".to_owned(),
        interpreter: options.python.clone(),
        entry: "detector:Detector".to_owned(),
        folder: Path::new(FOLDER).canonicalize().map_err(|error| format!("{FOLDER}: {error}"))?,
        environment: vec![],
        parameters: vec![],
        device: PythonDevice::Cuda,
        batch_as: BatchAs::Torch,
        threads: 1,
        load_timeout: LOAD_MAX,
        deadline: Duration::from_secs(30),
        output_bytes_max: 1 << 20,
    };
    Ok(python::open(options, |_| Ok(picture_spec()))?.model)
}

/// The model, and how many of its instances the server runs.
fn in_triton(server: &str) -> Result<(LoadedModel, usize), String> {
    let mut options = OpenInferenceOptions::new(ServerUrl::parse(server)?, "detector");
    options.start_timeout = LOAD_MAX;
    let opened = open_inference::open(options)?;
    Ok((opened.model, opened.instances))
}

pub struct Span {
    pub per_s: f64,
    pub gpu: GpuUse,
    /// Of omma's own process.
    pub cpu_us: f64,
}

fn torch(model: LoadedModel) -> Result<Detector, String> {
    let spec = picture_spec();
    let outputs = guess(&model.info.outputs, spec.size, None)?.plan.factory(spec.size);
    Ok(Detector { loaded: model, spec, outputs })
}

/// Batches of [`BATCH`] through an engine, span by span; decoded from `pictures` if there are decoders.
pub fn through_engine(
    options: &Options,
    detector: Detector,
    instances: usize,
    decoders: Option<Arc<dyn PictureDecoderFactory>>,
    pictures: &Pictures,
) -> Result<Vec<Span>, String> {
    let Detector { loaded, spec, outputs } = detector;
    let rig = Rig {
        cameras: CAMERAS,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 4,
        entry_ids: false,
        mode: Mode::Auto,
        instances: Some(instances),
        batch: BatchPlan { size: BATCH, size_max: BATCH, ..BatchPlan::default() },
        spec,
        model: loaded,
        pictures: decoders.unwrap_or_else(|| Arc::new(Blind)),
        outputs,
    };
    let engine = rig.start(|cameras| Box::new(Load::saturating(cameras, pictures.clone())))?;
    rest(WARM_UP);
    let (count, length) = spans(options);
    let published = || engine.shared().ledger.total().published;
    let measured = (0..count)
        .map(|_| {
            let (before, usage, watch) = (published(), Usage::now(), GpuWatch::start());
            rest(length);
            let (spent, frames) = (usage.spent(), (published() - before) as f64);
            Span {
                per_s: frames / spent.wall.as_secs_f64(),
                gpu: watch.stop(),
                cpu_us: spent.cpu.as_secs_f64() * 1e6 / frames,
            }
        })
        .collect();
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 || drained.unsettled > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    Ok(measured)
}

/// The yardstick, span by span. `on_gpu`: its pictures are there already, so that the model alone is measured.
fn bare_loop(options: &Options, processes: usize, on_gpu: bool) -> Result<Vec<f64>, String> {
    #[derive(Deserialize)]
    struct Said {
        frames_per_s: Vec<f64>,
    }
    let (count, length) = spans(options);
    let mut command = Command::new(&options.python);
    command.arg(Path::new(FOLDER).join("detector.py"));
    command.args(["--batch", &BATCH.to_string(), "--processes", &processes.to_string()]);
    command.args(["--spans", &count.to_string(), "--seconds", &length.as_secs().to_string()]);
    command.args(on_gpu.then_some("--resident"));
    let output = command.output().map_err(|error| format!("{}: {error}", options.python.display()))?;
    if !output.status.success() {
        return Err(format!("the yardstick: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let said: Said = serde_json::from_slice(&output.stdout).map_err(|error| format!("the yardstick: {error}"))?;
    Ok(said.frames_per_s)
}

/// Pictures that all cores decode in a second when they do nothing else, span by span.
pub fn decoding_alone(
    options: &Options,
    decoders: &dyn PictureDecoderFactory,
    slot_bytes: usize,
    pictures: &Pictures,
) -> Vec<f64> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (frames, running) = (AtomicU64::new(0), AtomicBool::new(true));
    let (count, length) = spans(options);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (frames, running) = (&frames, &running);
            scope.spawn(move || {
                let mut decoder = decoders.open();
                let mut tensor = BatchTensor::new(1, slot_bytes);
                for index in number.. {
                    let payload = Payload::Encoded(pictures[index % pictures.len()].clone());
                    if !running.load(Ordering::Relaxed) || decoder.decode(&payload, tensor.slot_mut(0)).is_err() {
                        return;
                    }
                    frames.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let measured = (0..count)
            .map(|_| {
                let (begun, before) = (Instant::now(), frames.load(Ordering::Relaxed));
                rest(length);
                (frames.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64()
            })
            .collect();
        running.store(false, Ordering::Relaxed);
        measured
    })
}
