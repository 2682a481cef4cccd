//! `omma models bench`: a model alone on each runtime, thread count and batch size, side by side, and what to set.
//!
//! Each combination runs on as many instances as fill the cores, each on a thread of its own with a tensor of its own, as
//! the engine runs them.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use omma_adapters::infer::{self, OnnxOptions, Runtime, State};
use omma_engine::infer::backend::{Backend, BatchInput, OpenInstance, Opener, Origin, Reply};
use omma_engine::picture::PictureSpec;
use omma_engine::tensor::{BatchTensor, DType, TensorView, as_f32_mut};
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

/// What was measured of one combination.
struct Figures {
    runtime: Runtime,
    threads: usize,
    instances: usize,
    batch: usize,
    frames_per_s: f64,
    p50: Duration,
    p99: Duration,
}

/// A runtime, or a combination, that does not do.
struct Problem {
    runtime: Runtime,
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
        match found.state {
            State::Present { .. } => {
                measure(&located.file, found.runtime, cores, args, span, &mut measured, &mut problems);
            }
            State::Missing { why } => problems.push(Problem { runtime: found.runtime, text: why }),
        }
    }
    let Some(best) = measured.iter().max_by(|a, b| a.frames_per_s.total_cmp(&b.frames_per_s)) else {
        let said: Vec<String> =
            problems.iter().map(|problem| format!("\n  {}: {}", problem.runtime, problem.text)).collect();
        return Err(Failure::usage(format!("{}: nothing runs it here{}", located.file.display(), said.concat())));
    };
    let quickest = measured.iter().min_by_key(|figures| figures.p50).unwrap_or(best);
    if args.json {
        let problem = |problem: &Problem| json!({ "runtime": problem.runtime.name(), "problem": problem.text });
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
    for Problem { runtime, text } in &problems {
        say::out(&format!("{:<12} not measured: {text}", runtime.name()));
    }
    say::out(&format!("\nmost frames: {}\n{}", sentence(best), settings(best)));
    if !std::ptr::eq(best, quickest) {
        say::out(&format!("\nquickest answer: {}\n{}", sentence(quickest), settings(quickest)));
    }
    Ok(Exit::Done)
}

const HEAD: &str = "runtime      instances x threads   batch    frames/s         p50         p99";

fn row(figures: &Figures) -> String {
    let Figures { runtime, threads, instances, batch, frames_per_s, p50, p99 } = figures;
    format!(
        "{:<12} {instances:>9} x {threads:<7} {batch:>7} {:>11} {:>11} {:>11}",
        runtime.name(),
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

/// What brings a combination about, for a `[[models]]` entry.
fn settings(figures: &Figures) -> String {
    format!(
        "runtime = \"{}\"\ninstances = {}\nthreads_per_instance = {}\nbatch_size = {}",
        figures.runtime, figures.instances, figures.threads, figures.batch
    )
}

fn object(figures: &Figures) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    json!({
        "runtime": figures.runtime.name(),
        "instances": figures.instances,
        "threads_per_instance": figures.threads,
        "batch": figures.batch,
        "frames_per_s": figures.frames_per_s,
        "p50_ms": ms(figures.p50),
        "p99_ms": ms(figures.p99),
    })
}

/// All combinations on one runtime: an instance for each core, and one instance over all of them.
fn measure(
    file: &Path,
    runtime: Runtime,
    cores: usize,
    args: &BenchArgs,
    span: Duration,
    measured: &mut Vec<Figures>,
    problems: &mut Vec<Problem>,
) {
    let mut ways = vec![1, cores];
    ways.dedup();
    for threads in ways {
        let instances = (cores / threads).max(1);
        let options = OnnxOptions { runtime: Some(runtime), threads_per_instance: threads, ..OnnxOptions::default() };
        let opened = infer::open(file, &options).map_err(|error| error.to_string());
        let opened = opened.and_then(|opened| match pictures(&opened.model.info) {
            Ok((spec, _)) => Ok((opened.model, spec)),
            Err(failure) => Err(failure.message),
        });
        let (model, spec) = match opened {
            Ok(opened) => opened,
            Err(text) => return problems.push(Problem { runtime, text }),
        };
        let Opener::Blocking(open) = &model.opener else { continue };
        for batch in batches(model.info.batch, &args.batch) {
            match one(open, &spec, instances, batch, span) {
                Ok((frames_per_s, p50, p99)) => {
                    let figures = Figures { runtime, threads, instances, batch, frames_per_s, p50, p99 };
                    if !args.json {
                        say::out(&row(&figures));
                    }
                    measured.push(figures);
                }
                Err(text) => problems.push(Problem { runtime, text: format!("a batch of {batch}: {text}") }),
            }
        }
    }
}

/// Frames per second over all instances, and the median and 99th percentile of a batch's time.
fn one(
    open: &OpenInstance,
    spec: &PictureSpec,
    instances: usize,
    batch: usize,
    span: Duration,
) -> Result<(f64, Duration, Duration), String> {
    let ready = Barrier::new(instances);
    let of_threads: Vec<Result<Vec<Duration>, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..instances)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let mut instance = Instance::open(open, spec, number, batch);
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
    fn open(open: &OpenInstance, spec: &'a PictureSpec, number: usize, batch: usize) -> Result<Self, String> {
        let backend = open(number).map_err(|error| error.to_string())?;
        let mut tensor = BatchTensor::new(batch, spec.slot_bytes());
        // Something to look at: a model may be quicker on zeros.
        for slot in tensor.slots_mut() {
            match spec.dtype {
                DType::F32 => {
                    as_f32_mut(slot).iter_mut().enumerate().for_each(|(at, v)| *v = (at * 37 % 256) as f32 / 255.0)
                }
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
