//! `omma models bench`: a model alone on each runtime, provider, thread count and batch size, side by side, and what to
//! set.
//!
//! Each combination runs on as many instances as fill the cores, or on a few that share a GPU, each on a thread of
//! its own with a tensor of its own where the engine would have it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use omma_adapters::infer::{self, OnnxOptions, Provider, Runtime, State};
use omma_engine::infer::backend::{Backend, BatchInput, LoadedModel, OpenInstance, Opener, Origin, Reply};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, DType, TensorAllocator, TensorView, as_f16_bits_mut, as_f32_mut};
use omma_frame::CameraIndex;
use serde_json::{Value, json};

use super::args::BenchArgs;
use super::{batches, pictures};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::say;
use crate::usage;

/// Batches of one instance whose time is kept; more would be no better figures.
const TIMES_MAX: usize = 100_000;
const WARM_BATCHES: usize = 2;

/// On a GPU instances copy their pictures and outputs while others compute.
const GPU_INSTANCES: [usize; 3] = [1, 2, 4];
/// Batch sizes that are tried unless the command line names others.
const BATCHES: [u64; 3] = [1, 4, 16];
const GPU_BATCHES: [u64; 3] = [1, 16, 64];

/// What computes a batch.
#[derive(Clone, Copy)]
struct On {
    runtime: Runtime,
    provider: Provider,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.provider {
            Provider::Cpu => self.runtime.to_string(),
            provider => format!("{} {provider}", self.runtime),
        };
        f.pad(&text)
    }
}

/// What was measured of one combination.
struct Figures {
    on: On,
    threads: usize,
    instances: usize,
    batch: usize,
    frames_per_s: f64,
    p50: Duration,
    p99: Duration,
}

/// A runtime, or a combination, that does not do.
struct Problem {
    on: On,
    text: String,
}

pub fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    let located = infer::locate(&args.file, None).map_err(Failure::usage)?;
    let cores = usage::cores();
    let span = Duration::from_secs_f64(args.seconds);
    if !args.json {
        say::out(&format!("{} on {}\n{HEAD}", located.file.display(), human::counted(cores, "core")));
    }
    let (mut measured, mut problems) = (Vec::new(), Vec::new());
    for found in infer::survey() {
        let runtime = found.runtime;
        match found.state {
            State::Present { providers, failing, .. } => {
                let failed = |(provider, text)| Problem { on: On { runtime, provider }, text };
                problems.extend(failing.into_iter().map(failed));
                for provider in providers {
                    measure(&located.file, On { runtime, provider }, cores, args, span, &mut measured, &mut problems);
                }
            }
            State::Missing { why } => problems.push(Problem { on: On { runtime, provider: Provider::Cpu }, text: why }),
        }
    }
    let Some(best) = measured.iter().max_by(|a, b| a.frames_per_s.total_cmp(&b.frames_per_s)) else {
        let said: Vec<String> =
            problems.iter().map(|problem| format!("\n  {}: {}", problem.on, problem.text)).collect();
        return Err(Failure::usage(format!("{}: nothing runs it here{}", located.file.display(), said.concat())));
    };
    let quickest = measured.iter().min_by_key(|figures| figures.p50).unwrap_or(best);
    if args.json {
        let problem = |Problem { on, text }: &Problem| json!({ "runtime": on.runtime.name(), "provider": on.provider.name(), "problem": text });
        say::json(&json!({
            "file": located.file,
            "cores": cores,
            "measured": measured.iter().map(object).collect::<Vec<_>>(),
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
            "best": object(best),
            "quickest": object(quickest),
            "configuration": settings(best),
        }));
        return Ok(Exit::Done);
    }
    for Problem { on, text } in &problems {
        say::out(&format!("{on:<20} not measured: {text}"));
    }
    say::out(&format!("\nmost frames: {}\n{}", sentence(best), settings(best)));
    if !std::ptr::eq(best, quickest) {
        say::out(&format!("\nquickest answer: {}\n{}", sentence(quickest), settings(quickest)));
    }
    Ok(Exit::Done)
}

const HEAD: &str = "runtime              instances x threads   batch    frames/s         p50         p99";

fn row(figures: &Figures) -> String {
    let Figures { on, threads, instances, batch, frames_per_s, p50, p99 } = figures;
    format!(
        "{on:<20} {instances:>9} x {threads:<7} {batch:>7} {:>11} {:>11} {:>11}",
        human::rate(*frames_per_s),
        human::time(*p50),
        human::time(*p99)
    )
}

fn sentence(figures: &Figures) -> String {
    format!(
        "{} frames/s, a batch of {} in {} (p50)",
        human::rate(figures.frames_per_s),
        figures.batch,
        human::time(figures.p50)
    )
}

/// What brings a combination about, for a `[[models]]` entry. On the CPU `mode = "auto"` makes no batches.
fn settings(figures: &Figures) -> String {
    let Figures { on, instances, threads, batch, .. } = figures;
    let provider = match on.provider {
        Provider::Cpu => String::new(),
        provider => format!("provider = \"{provider}\"\n"),
    };
    let mode = if *batch > 1 && !on.provider.is_nvidia() { "mode = \"sync\"\n" } else { "" };
    format!(
        "runtime = \"{}\"\n{provider}{mode}instances = {instances}\nthreads_per_instance = {threads}\nbatch_size = {batch}\n\
         batch_size_max = {batch}",
        on.runtime
    )
}

fn object(figures: &Figures) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "runtime": figures.on.runtime.name(),
        "provider": figures.on.provider.name(),
        "instances": figures.instances,
        "threads_per_instance": figures.threads,
        "batch": figures.batch,
        "frames_per_s": figures.frames_per_s,
        "p50_ms": ms(figures.p50),
        "p99_ms": ms(figures.p99),
    })
}

/// All combinations on one runtime: an instance for each core, and one instance over all of them; on a GPU, a few.
fn measure(
    file: &Path,
    on: On,
    cores: usize,
    args: &BenchArgs,
    span: Duration,
    measured: &mut Vec<Figures>,
    problems: &mut Vec<Problem>,
) {
    let (mut ways, usual): (Vec<(usize, usize)>, _) = if on.provider.is_nvidia() {
        (GPU_INSTANCES.map(|instances| (instances, 1)).to_vec(), GPU_BATCHES)
    } else {
        ([1, cores].map(|threads| ((cores / threads).max(1), threads)).to_vec(), BATCHES)
    };
    ways.dedup();
    let wanted = if args.batch.is_empty() { &usual[..] } else { &args.batch };
    for (instances, threads) in ways {
        let options = OnnxOptions {
            runtime: Some(on.runtime),
            provider: on.provider,
            threads_per_instance: threads,
            ..OnnxOptions::default()
        };
        let opened = infer::open(file, &options).map_err(|error| error.to_string());
        let opened = opened.and_then(|opened| match pictures(&opened.model.info) {
            Ok((spec, _)) => Ok((opened.model, spec)),
            Err(failure) => Err(failure.message),
        });
        let (model, spec) = match opened {
            Ok(opened) => opened,
            Err(text) => return problems.push(Problem { on, text }),
        };
        for batch in batches(model.info.batch, wanted) {
            match one(&model, &spec, instances, batch, span) {
                Ok((frames_per_s, p50, p99)) => {
                    let figures = Figures { on, threads, instances, batch, frames_per_s, p50, p99 };
                    if !args.json {
                        say::out(&row(&figures));
                    }
                    measured.push(figures);
                }
                Err(text) => problems.push(Problem { on, text: format!("a batch of {batch}: {text}") }),
            }
        }
    }
}

/// Frames per second over all instances, and the median and 99th percentile of a batch's time.
fn one(
    model: &LoadedModel,
    spec: &PictureSpec,
    instances: usize,
    batch: usize,
    span: Duration,
) -> Result<(f64, Duration, Duration), String> {
    let Opener::Blocking(open) = &model.opener else { return Err("it is no model of this process".to_owned()) };
    let ready = Barrier::new(instances);
    let of_threads: Vec<Result<Vec<Duration>, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..instances)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let opened = catch_unwind(AssertUnwindSafe(|| {
                        Instance::open(open, model.memory.as_ref(), spec, number, batch)
                    }));
                    let mut instance = opened.unwrap_or_else(|_| Err("it panicked".to_owned()));
                    // Also where it failed: the others wait for it.
                    ready.wait();
                    instance.as_mut().map_err(|text| text.clone())?.run_for(span)
                })
            })
            .collect();
        let panicked = |_| Err("it panicked".to_owned());
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let mut per_s = 0.0;
    let mut times = Vec::new();
    for own in of_threads {
        let own = own?;
        per_s += (own.len() * batch) as f64 / own.iter().sum::<Duration>().as_secs_f64().max(1e-9);
        times.extend(own);
    }
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default();
    Ok((per_s, at(0.5), at(0.99)))
}

struct Instance<'a> {
    backend: Box<dyn Backend>,
    tensor: BatchTensor,
    spec: &'a PictureSpec,
    origins: Vec<Origin>,
}

impl<'a> Instance<'a> {
    fn open(
        open: &OpenInstance,
        memory: Option<&TensorAllocator>,
        spec: &'a PictureSpec,
        number: usize,
        batch: usize,
    ) -> Result<Self, String> {
        let backend = open(number).map_err(|error| error.to_string())?;
        let mut tensor = BatchTensor::within(memory, batch, spec.slot_bytes());
        // Something to look at: a model may be quicker on zeros.
        for slot in tensor.slots_mut() {
            match spec.dtype {
                DType::F32 => {
                    as_f32_mut(slot).iter_mut().enumerate().for_each(|(at, v)| *v = (at * 37 % 256) as f32 / 255.0)
                }
                // Between 0.5 and 1.
                DType::F16 => as_f16_bits_mut(slot)
                    .iter_mut()
                    .enumerate()
                    .for_each(|(at, v)| *v = 0x3800 | (at * 37 % 1024) as u16),
                _ => slot.iter_mut().enumerate().for_each(|(at, value)| *value = (at * 37 % 256) as u8),
            }
        }
        let origins = vec![Origin { camera: CameraIndex(0), sequence: 0 }; batch];
        let mut instance = Self { backend, tensor, spec, origins };
        for _ in 0..WARM_BATCHES {
            instance.once()?;
        }
        Ok(instance)
    }

    fn once(&mut self) -> Result<(), String> {
        let input = BatchInput { tensor: &self.tensor, spec: self.spec, origins: &self.origins, parameters: &[] };
        let mut unread = Unread(None);
        self.backend.infer(input, &mut unread).map_err(|error| error.to_string())?;
        unread.0.map_or(Ok(()), Err)
    }

    fn run_for(&mut self, span: Duration) -> Result<Vec<Duration>, String> {
        let mut times = Vec::new();
        let mut before = Instant::now();
        let end = before + span;
        while before < end && times.len() < TIMES_MAX {
            self.once()?;
            let now = Instant::now();
            times.push(now - before);
            before = now;
        }
        Ok(times)
    }
}

/// Looks at nothing that comes back but failures.
struct Unread(Option<String>);

impl Reply for Unread {
    fn outputs(&mut self, tensors: &[TensorView<'_>]) {
        std::hint::black_box(tensors);
    }

    fn fail(&mut self, _index: usize, message: &str) {
        self.0 = Some(message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omma_engine::infer::backend::{BackendError, BatchLimit, Device, ModelInfo};
    use omma_engine::infer::mode::choose;
    use omma_testkit::doubles_picture::spec;

    #[test]
    fn what_is_printed_is_a_configuration_that_runs_what_was_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("omma.toml");
        std::fs::write(folder.path().join("m.onnx"), b"").expect("written");
        for (runtime, provider, instances, batch) in [
            (Runtime::Rten, Provider::Cpu, 4, 1),
            (Runtime::OpenVino, Provider::Cpu, 4, 16),
            (Runtime::OnnxRuntime, Provider::OpenVino, 1, 4),
            (Runtime::OnnxRuntime, Provider::Cuda, 2, 64),
            (Runtime::OnnxRuntime, Provider::TensorRt, 1, 1),
        ] {
            let figures = Figures {
                on: On { runtime, provider },
                threads: 1,
                instances,
                batch,
                frames_per_s: 1.0,
                p50: Duration::ZERO,
                p99: Duration::ZERO,
            };
            let text = format!(
                "[[models]]\nname = \"m\"\npath = \"m.onnx\"\n{}\n[[sources]]\ntype = \"synthetic\"\ncameras = 1\n\
                 [[sinks]]\ntype = \"null\"\nname = \"k\"\n",
                settings(&figures)
            );
            std::fs::write(&file, &text).expect("written");
            let config = omma_config::load(&file).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
            let plan = config.models[0].plan(spec());
            let device = if provider.is_nvidia() { Device::Accelerator } else { Device::Cpu };
            let chosen = choose(&plan, device, BatchLimit::UpTo(usize::MAX), true, 4);
            assert_eq!(
                (chosen.batch.size, chosen.batch.size_max, chosen.instances),
                (batch, batch, instances),
                "{text}"
            );
        }
    }

    /// Panics with its first batch.
    struct Panics;

    impl Backend for Panics {
        fn infer(&mut self, _batch: BatchInput<'_>, _reply: &mut dyn Reply) -> Result<(), BackendError> {
            panic!("at the first batch")
        }
    }

    /// Answers nothing, which is no failure to a measurement.
    struct Idle;

    impl Backend for Idle {
        fn infer(&mut self, _batch: BatchInput<'_>, _reply: &mut dyn Reply) -> Result<(), BackendError> {
            Ok(())
        }
    }

    #[test]
    fn an_instance_that_panics_while_it_warms_up_keeps_nobody_waiting() {
        let open: OpenInstance =
            Box::new(|number| Ok(if number == 0 { Box::new(Panics) as Box<dyn Backend> } else { Box::new(Idle) }));
        let info = ModelInfo { runtime: "test".into(), inputs: vec![], outputs: vec![], batch: BatchLimit::UpTo(1) };
        let model = LoadedModel::new(info, Device::Cpu, Opener::Blocking(open));
        let found = one(&model, &spec(), 2, 1, Duration::from_millis(1));
        assert_eq!(found, Err("it panicked".to_owned()));
    }
}
