//! A real detector through the engine against the same runtime fed from memory, with and without decoding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::infer::{OnnxOptions, guess_spec, open};
use omma_adapters::picture::{self, PictureLimits, encode_jpeg};
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::{BatchInput, LoadedModel, Opener, Origin, Reply};
use omma_engine::picture::{PictureDecoderFactory, PictureSpec};
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::post::{OutputDecoderFactory, decode::guess};
use omma_engine::tensor::{BatchTensor, TensorView};
use omma_frame::{CameraIndex, Payload, Size};
use omma_scenes::Scene;

use super::Options;
use crate::figures::Figures;
use crate::load::{Load, Pictures, rest};
use crate::rig::{Blind, Rig};

/// A detector, and what goes in and comes out.
pub struct Detector {
    pub loaded: LoadedModel,
    pub spec: PictureSpec,
    pub outputs: Arc<dyn OutputDecoderFactory>,
}

/// Opens the workload's model, on the best runtime there is or the one that is asked for.
pub fn detector(options: &Options, onnx: &OnnxOptions) -> Result<Detector, String> {
    let path = &options.model;
    if !path.exists() {
        return Err(format!(
            "{} is missing; make it with `python3 models/yolov8n_random.py {}` (needs numpy and onnx)",
            path.display(),
            path.display()
        ));
    }
    let opened = open(path, onnx).map_err(|error| error.to_string())?;
    let loaded = opened.model;
    let spec = guess_spec(&loaded.info, None).ok_or_else(|| format!("{} takes no pictures", path.display()))?;
    let outputs = guess(&loaded.info.outputs, spec.size, None)?.plan.factory(spec.size);
    Ok(Detector { loaded, spec, outputs })
}

/// JPEG pictures of a few scenes.
pub fn pictures(width: u32, height: u32) -> Result<Pictures, String> {
    let size = omma_scenes::Size { width, height };
    let mut rgb = vec![0; size.bytes()];
    (0..8)
        .map(|camera| {
            Scene::new(7, camera, size).render(40, &mut rgb).map_err(|error| error.to_string())?;
            let mut jpeg = Vec::new();
            encode_jpeg(&rgb, Size { width, height }, 80, &mut jpeg).map_err(|error| error.to_string())?;
            Ok(Bytes::from(jpeg))
        })
        .collect()
}

pub fn run(options: &Options) -> Result<Figures, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pictures = pictures(640, 480)?;
    let span = options.span();
    let in_process = || detector(options, &OnnxOptions::default());
    let mut figures = Figures::default();
    for _ in 0..options.runs() {
        for (decoding, ratio, ours, bare) in [
            (false, "ratio_to_runtime", "frames_per_s", "runtime_frames_per_s"),
            (true, "ratio_with_decode", "frames_per_s_with_decode", "runtime_and_decode_frames_per_s"),
        ] {
            // The yardstick before and after, so that a machine that drifts does not decide the ratio.
            let before = bare_loop(&in_process()?, threads, 1, decoding.then_some(&pictures), span / 2)?;
            let through = through_engine(options, threads, decoding, &pictures, span)?;
            let after = bare_loop(&in_process()?, threads, 1, decoding.then_some(&pictures), span / 2)?;
            let yardstick = f64::midpoint(before, after);
            figures.add(ratio, "1", through / yardstick);
            figures.add(ours, "1/s", through);
            figures.add(bare, "1/s", yardstick);
        }
    }
    figures.limit("ratio_to_runtime", ">= 0.97");
    figures.limit("ratio_with_decode", ">= 0.95");
    Ok(figures)
}

/// Frames per second that the detector reaches with decoding, on as many threads as there are cores.
pub fn capacity(options: &Options, pictures: &Pictures, span: Duration) -> Result<f64, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    through_engine(options, threads, true, pictures, span)
}

fn through_engine(
    options: &Options,
    threads: usize,
    decoding: bool,
    pictures: &Pictures,
    span: Duration,
) -> Result<f64, String> {
    let Detector { loaded, spec, outputs } = detector(options, &OnnxOptions::default())?;
    let decoders: Arc<dyn PictureDecoderFactory> = if decoding {
        picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?
    } else {
        Arc::new(Blind)
    };
    let rig = Rig {
        cameras: 64,
        delivery: Delivery::Every,
        waiting_frames_max: 2,
        in_flight_frames_max: 4,
        entry_ids: false,
        mode: Mode::Auto,
        instances: Some(threads),
        batch: BatchPlan::default(),
        spec,
        model: loaded,
        pictures: decoders,
        outputs,
    };
    let engine = rig.start(|cameras| Box::new(Load::saturating(cameras, pictures.clone())))?;
    rest(Duration::from_millis(300));
    let published = |engine: &omma_engine::pipeline::Engine| engine.shared().ledger.total().published;
    let (begun, before) = (Instant::now(), published(&engine));
    rest(span);
    let per_s = (published(&engine) - before) as f64 / begun.elapsed().as_secs_f64();
    let drained = engine.drain();
    if drained.counts.dropped_total() > 0 || drained.unsettled > 0 {
        return Err(format!("frames were dropped: {:?}", drained.counts.drops().collect::<Vec<_>>()));
    }
    Ok(per_s)
}

/// Frames per second of the runtime with nothing around it: each thread runs batches on its own instance and its own
/// tensor, decoding into it before each run if pictures are given.
pub fn bare_loop(
    detector: &Detector,
    threads: usize,
    batch: usize,
    pictures: Option<&Pictures>,
    span: Duration,
) -> Result<f64, String> {
    let Detector { loaded, spec, .. } = detector;
    let Opener::Blocking(open) = &loaded.opener else { return Err("the runtime does not block".to_owned()) };
    let decoders = picture::factory(spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    let (frames, running) = (AtomicU64::new(0), AtomicBool::new(false));
    let ready = std::sync::Barrier::new(threads + 1);
    let (mut elapsed, mut counted) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (decoders, frames, running, ready) = (&decoders, &frames, &running, &ready);
            scope.spawn(move || {
                let mut decoder = decoders.open();
                let mut tensor = BatchTensor::within(loaded.memory.as_ref(), batch, spec.slot_bytes());
                let Ok(mut backend) = open(number) else {
                    ready.wait();
                    return;
                };
                let origins = vec![Origin { camera: CameraIndex(0), sequence: 0 }; batch];
                let mut once = |index: usize| {
                    for (at, slot) in tensor.slots_mut().enumerate() {
                        let Some(pictures) = pictures else { break };
                        let payload = Payload::Encoded(pictures[(index + at) % pictures.len()].clone());
                        if decoder.decode(&payload, slot).is_err() {
                            return false;
                        }
                    }
                    let input = BatchInput { tensor: &tensor, spec, origins: &origins, parameters: &[] };
                    backend.infer(input, &mut Unread).is_ok()
                };
                once(0);
                running.store(true, Ordering::Release);
                ready.wait();
                for index in 0.. {
                    if !running.load(Ordering::Acquire) || !once(index) {
                        return;
                    }
                    frames.fetch_add(batch as u64, Ordering::Relaxed);
                }
            });
        }
        ready.wait();
        // As the engine's measurement: a runtime is slow in its first moments.
        rest(Duration::from_millis(300));
        let already = frames.load(Ordering::Relaxed);
        let begun = Instant::now();
        rest(span);
        counted = frames.load(Ordering::Relaxed) - already;
        elapsed = begun.elapsed();
        running.store(false, Ordering::Release);
    });
    match counted {
        0 => Err("the bare runtime ran no batch".to_owned()),
        frames => Ok(frames as f64 / elapsed.as_secs_f64()),
    }
}

/// Looks at nothing that comes back.
struct Unread;

impl Reply for Unread {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        std::hint::black_box(tensors);
    }

    fn fail(&mut self, _index: usize, _message: &str) {}
}
