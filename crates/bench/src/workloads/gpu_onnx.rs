//! The ONNX detector on a GPU, through each of ONNX Runtime's providers for it that the library has: frames per second
//! against the same sessions in a loop with nothing around them, how busy the GPU is, and the same with decoding.
//!
//! Needs a GPU and an ONNX Runtime with its providers (`omma models doctor` says whether there is one).

use std::sync::Arc;

use omma_adapters::infer::{OnnxOptions, Provider, Runtime, State, survey};
use omma_adapters::picture::{self, PictureLimits};

use super::gpu::{self, BATCH, Span};
use super::{Options, model};
use crate::figures::Figures;

/// A provider and the names of its figures.
struct Names {
    provider: Provider,
    /// For each number of instances: through the engine, in the bare loop, the ratio.
    instances: [(usize, [&'static str; 3]); 4],
    gpu_busy: &'static str,
    gpu_memory: &'static str,
    cpu: &'static str,
    decoded: &'static str,
    decoded_gpu_busy: &'static str,
}

macro_rules! names {
    ($provider:expr, $word:literal) => {
        Names {
            provider: $provider,
            instances: [
                (1, names!(@ $word, "1")),
                (2, names!(@ $word, "2")),
                (4, names!(@ $word, "4")),
                (8, names!(@ $word, "8")),
            ],
            gpu_busy: concat!($word, "_gpu_busy_percent"),
            gpu_memory: concat!($word, "_gpu_memory_mb"),
            cpu: concat!($word, "_cpu_us_per_frame"),
            decoded: concat!($word, "_frames_per_s_with_decode"),
            decoded_gpu_busy: concat!($word, "_gpu_busy_percent_with_decode"),
        }
    };
    (@ $word:literal, $count:literal) => {
        [
            concat!($word, "_frames_per_s_", $count),
            concat!($word, "_bare_frames_per_s_", $count),
            concat!($word, "_ratio_to_bare_", $count),
        ]
    };
}

const NAMES: [Names; 2] = [names!(Provider::Cuda, "cuda"), names!(Provider::TensorRt, "tensorrt")];

pub fn run(options: &Options) -> Result<Figures, String> {
    let there = survey().into_iter().find_map(|found| match (found.runtime, found.state) {
        (Runtime::OnnxRuntime, State::Present { providers, .. }) => Some(providers),
        _ => None,
    });
    let there = there.unwrap_or_default();
    let mut figures = Figures::default();
    let mut problems = Vec::new();
    let mut measured = false;
    for names in &NAMES {
        match with_provider(options, names, &there, &mut figures) {
            Ok(()) => measured = true,
            Err(problem) => problems.push(format!("{}: {problem}", names.provider)),
        }
    }
    if !measured {
        return Err(problems.join("\n"));
    }
    for problem in problems {
        crate::say(&format!("not measured: {problem}"));
    }
    Ok(figures)
}

fn with_provider(options: &Options, names: &Names, there: &[Provider], figures: &mut Figures) -> Result<(), String> {
    if !there.contains(&names.provider) {
        return Err(format!("ONNX Runtime has it not here; to get it: {}", names.provider.install()));
    }
    let onnx = OnnxOptions { runtime: Some(Runtime::OnnxRuntime), provider: names.provider, ..OnnxOptions::default() };
    let pictures = model::pictures(640, 480)?;
    let (count, length) = gpu::spans(options);
    let mut best: (f64, usize, Vec<Span>) = (0.0, 1, vec![]);
    for (instances, [ours, bare, ratio]) in names.instances {
        let yardstick = (0..count)
            .map(|_| model::bare_loop(&model::detector(options, &onnx)?, instances, BATCH, None, length))
            .collect::<Result<Vec<f64>, String>>()?;
        let spans = gpu::through_engine(options, model::detector(options, &onnx)?, instances, None, &pictures)?;
        for (span, bare_per_s) in spans.iter().zip(&yardstick) {
            figures.add(ours, "1/s", span.per_s);
            figures.add(bare, "1/s", *bare_per_s);
            figures.add(ratio, "1", span.per_s / bare_per_s);
        }
        let mean = spans.iter().map(|span| span.per_s).sum::<f64>() / spans.len() as f64;
        if mean > best.0 {
            best = (mean, instances, spans);
        }
    }
    let (_, instances, spans) = best;
    for span in spans {
        figures.add(names.gpu_busy, "%", span.gpu.busy_percent);
        figures.add(names.gpu_memory, "MB", span.gpu.memory_mib);
        figures.add(names.cpu, "us", span.cpu_us);
    }
    let detector = model::detector(options, &onnx)?;
    let decoders =
        picture::factory(detector.spec.clone(), PictureLimits::default()).map_err(|error| error.to_string())?;
    let slot_bytes = detector.spec.slot_bytes();
    for span in gpu::through_engine(options, detector, instances, Some(Arc::clone(&decoders)), &pictures)? {
        figures.add(names.decoded, "1/s", span.per_s);
        figures.add(names.decoded_gpu_busy, "%", span.gpu.busy_percent);
    }
    for per_s in gpu::decoding_alone(options, &*decoders, slot_bytes, &pictures) {
        figures.add("decoding_alone_frames_per_s", "1/s", per_s);
    }
    Ok(())
}
