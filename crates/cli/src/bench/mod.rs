//! `omma bench`: how many cameras a configuration holds on this machine, and what limits it.
//!
//! One engine for the whole bench, with the configured models; cameras come and go by a number. Pictures are the
//! configured sources' own, from memory, so that neither drawing nor a network is measured.

mod limit;
mod load;
mod measure;
mod page;
mod plot;
mod report;
mod search;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::sink::NullSink;
use omma_adapters::threads::schedule;
use omma_config::Config;
use omma_engine::cameras::{CameraPlan, Cameras};
use omma_engine::clock::{Clock, SystemClock};
use omma_engine::infer::mode::Chosen;
use omma_engine::pipeline::{Engine, Parts, SourcePart};
use omma_engine::plan::{Plan, SinkPlan};
use omma_engine::source::{Demand, Polled, Source};
use omma_frame::{CameraId, CameraIndex, Payload};

use crate::args::BenchArgs;
use crate::assemble;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::say;
use crate::screen::{Line, Screen};
use crate::signals::Signals;
use crate::supervise;
use crate::usage;
use limit::Facts;
use load::{Control, LoadCamera, LoadSource};
use measure::{Bench, Step, Stopped};
use report::Report;
use search::{Limits, Outcome};

/// Cameras that the bench offers at most.
const CAMERAS_MAX: usize = 10_000;
/// Pictures of one source kept in memory, in number and size.
const PICTURES_MAX: usize = 64;
const PICTURE_BYTES_MAX: usize = 256 << 20;
/// How long is waited for a source's pictures, and how long for more after the first.
const FIRST_PICTURE: Duration = Duration::from_secs(15);
const MORE_PICTURES: Duration = Duration::from_secs(2);
/// Points beside those of the search, as parts of what is held, that make the curve.
const CURVE: [f64; 5] = [0.25, 0.5, 0.75, 0.9, 1.2];

impl Outcome for Step {
    fn held(&self) -> bool {
        self.held
    }
}

pub fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    let signals = Signals::listen().map_err(|error| Failure::run(format!("cannot listen for signals: {error}")))?;
    let config = omma_config::load(&args.config.file).map_err(Failure::usage)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let pictures = take_pictures(&config, &clock, &signals)?;
    let control = Control::new().map_err(Failure::run)?;
    let (parts, notes) = parts(&config, args.fps, &control, &clock, &pictures)?;
    for note in &notes {
        say::note(&format!("omma: {note}"));
    }
    let engine = Engine::start(parts).map_err(Failure::run)?;
    let shared = Arc::clone(engine.shared());
    let models: Vec<(String, Chosen)> =
        shared.models().into_iter().filter_map(|model| Some((model.name, model.serving?.chosen.clone()))).collect();
    let (settle, span, precision) = if args.quick { (300, 700, 0.1) } else { (700, 2500, 0.04) };
    let bench = Bench {
        shared: &shared,
        control: &control,
        signals: &signals,
        fps: args.fps,
        budget_ms: args.latency_ms,
        settle: Duration::from_millis(settle),
        span: Duration::from_millis(span),
    };
    let measured = steps(&bench, precision, args.quick);
    control.set_active(0);
    let _ = supervise::drain(engine);
    let (mut steps, best, over) = measured.map_err(|Stopped| Failure::run("stopped before anything could be said"))?;
    let first = steps.iter().min_by_key(|step| step.cameras).cloned();
    let Some(first) = first else { return Err(Failure::run("nothing was measured")) };
    let facts = Facts {
        over: over.as_ref(),
        first: &first,
        models: &models,
        budget_ms: args.latency_ms,
        cores: usage::cores(),
    };
    let limit = limit::limit(&facts);
    // Of a number that was measured twice, the longer measurement came later and counts.
    steps.reverse();
    steps.sort_by_key(|step| step.cameras);
    steps.dedup_by_key(|step| step.cameras);
    let report = Report::new(args, notes, models, steps, best, limit);
    fs::write(&args.out, page::render(&report))
        .map_err(|error| Failure::usage(format!("{}: {error} (--out)", args.out.display())))?;
    if args.json {
        say::json(&report);
    } else {
        say::out(&report.text());
        say::out(&format!("\npage: {}", args.out.display()));
    }
    Ok(Exit::Done)
}

type Measured = (Vec<Step>, Option<Step>, Option<Step>);

/// The search, then some more points for the curve.
fn steps(bench: &Bench<'_>, precision: f64, quick: bool) -> Result<Measured, Stopped> {
    let mut screen = Screen::new(say::watched());
    let mut measure = |cameras: usize, spans: u32| {
        let text = format!("omma: {} at {} frames/s ...", human::counted(cameras, "camera"), human::rate(bench.fps));
        screen.draw(&[Line::default().plain(text)]);
        let step = bench.measure(cameras, spans)?;
        screen.say(&told(&step, bench));
        if !step.held {
            bench.empty()?;
        }
        Ok(step)
    };
    let first = (20.0 / bench.fps).ceil().max(1.0) as usize;
    let limits = Limits { first, cameras_max: CAMERAS_MAX, precision, confirm_spans: if quick { 2 } else { 3 } };
    let found = search::search(limits, &mut measure)?;
    let best = found.best.map(|place| found.steps[place].clone());
    let over = found.over.map(|place| found.steps[place].clone());
    let mut steps = found.steps;
    if let (Some(best), false) = (&best, quick) {
        for share in CURVE {
            let cameras = ((best.cameras as f64 * share) as usize).clamp(1, CAMERAS_MAX);
            if steps.iter().all(|step| step.cameras.abs_diff(cameras) * 20 > cameras) {
                steps.push(measure(cameras, 1)?);
            }
        }
    }
    Ok((steps, best, over))
}

fn told(step: &Step, bench: &Bench<'_>) -> String {
    format!(
        "omma: {:>7} = {:>6} frames/s: p50 {:>7.1} ms, p99 {:>7.1} ms, lost {:.2}%, {:.1} cores: {}",
        human::counted(step.cameras, "camera"),
        human::rate(step.cameras as f64 * bench.fps),
        step.p50_ms,
        step.p99_ms,
        step.lost * 100.0,
        step.cores,
        if step.held { "held" } else { "not held" }
    )
}

/// The engine with the configured models, and cameras that are copies of the configured ones, in turn.
fn parts(
    config: &Config,
    fps: f64,
    control: &Arc<Control>,
    clock: &Arc<dyn Clock>,
    pictures: &[Arc<[Payload]>],
) -> Result<(Parts, Vec<String>), Failure> {
    let opened = assemble::open_models(config)?;
    let source_of: Vec<usize> = config
        .sources
        .iter()
        .enumerate()
        .flat_map(|(number, source)| std::iter::repeat_n(number, source.cameras.len()))
        .collect();
    let configured: Vec<CameraPlan> = config.cameras().collect();
    let mut plans = Vec::with_capacity(CAMERAS_MAX);
    for (position, plan) in configured.iter().cycle().take(CAMERAS_MAX).enumerate() {
        let id = CameraId::new(&format!("bench-{position:05}")).map_err(Failure::run)?;
        plans.push(CameraPlan { id, route: 0, ..plan.clone() });
    }
    let cameras = Arc::new(Cameras::new(config.engine.shards));
    let indexes = cameras.add(plans.iter().cloned());
    let table = cameras.snapshot();
    let readers = config.engine.readers.max(1);
    let sources = (0..readers)
        .map(|reader| {
            let own = |position: &usize| table[indexes[*position].slot()].shard as usize % readers == reader;
            let own: Vec<LoadCamera> = (0..indexes.len())
                .filter(own)
                .map(|position| LoadCamera {
                    camera: indexes[position],
                    position,
                    pictures: Arc::clone(&pictures[source_of[position % source_of.len()]]),
                })
                .collect();
            let cameras = own.iter().map(|camera| camera.camera).collect();
            let source = LoadSource::new(Arc::clone(control), Arc::clone(clock), fps, own);
            vec![SourcePart { source: Box::new(source), cameras }]
        })
        .collect();
    let buffer_frames_max = config.sinks.iter().map(|sink| sink.plan.buffer_frames_max).max().unwrap_or(10_000);
    let backoff = Duration::from_millis(100);
    let sink = SinkPlan { name: "nowhere".to_owned(), buffer_frames_max, backoff_min: backoff, backoff_max: backoff };
    let plan = Plan {
        engine: config.engine.clone(),
        models: opened.plans,
        sinks: vec![sink],
        routes: vec![vec![0]],
        cameras: plans,
    };
    let parts = Parts {
        plan,
        cameras,
        clock: Arc::clone(clock),
        sources,
        models: opened.parts,
        store: None,
        sinks: vec![Box::new(NullSink::default())],
        cores: usage::cores(),
        begin_thread: schedule,
    };
    Ok((parts, opened.notes))
}

/// Room for so many more pictures, whoever they are of.
struct Room(usize);

impl Demand for Room {
    fn room(&self, _: CameraIndex) -> usize {
        self.0.min(1)
    }

    fn total(&self) -> usize {
        self.0
    }
}

/// Some pictures of each configured source.
fn take_pictures(config: &Config, clock: &Arc<dyn Clock>, signals: &Signals) -> Result<Vec<Arc<[Payload]>>, Failure> {
    let mut all = Vec::with_capacity(config.sources.len());
    for (number, configured) in config.sources.iter().enumerate() {
        // A few cameras show what a source's pictures are like; the scenes of thousands would take minutes to draw.
        let count = configured.cameras.len().min(PICTURES_MAX / 4);
        let indexes: Vec<CameraIndex> = (0..count).map(|index| CameraIndex(index as u32)).collect();
        let parts = assemble::open_source(config, number, &indexes, clock)?;
        let mut pictures = Vec::new();
        for mut part in parts {
            if let Some(message) = poll_pictures(part.source.as_mut(), &mut pictures, signals) {
                say::note(&format!("omma: source {}: {message}", configured.name));
            }
        }
        if pictures.is_empty() {
            let waited = FIRST_PICTURE.as_secs();
            return Err(Failure::run(format!("source {}: no picture came within {waited} s", configured.name)));
        }
        let bytes: usize = pictures.iter().filter_map(Payload::byte_len).sum();
        let (pictures_text, mean) = (human::counted(pictures.len(), "picture"), bytes / pictures.len() / 1024);
        say::note(&format!("omma: source {}: {pictures_text} in memory, {mean} KiB each", configured.name));
        all.push(pictures.into());
    }
    Ok(all)
}

/// Polls until there are enough pictures, the source has ended, or it has taken long enough. Gives the last error.
fn poll_pictures(source: &mut dyn Source, pictures: &mut Vec<Payload>, signals: &Signals) -> Option<String> {
    let begun = Instant::now();
    let (mut arrivals, mut message, mut bytes) = (Vec::new(), None, 0);
    loop {
        let polled = source.poll(&Room(PICTURES_MAX - pictures.len()), &mut arrivals);
        for arrival in arrivals.drain(..) {
            bytes += arrival.payload.byte_len().unwrap_or_default();
            pictures.push(load::shared(&arrival.payload));
        }
        match polled {
            Ok(Polled::Ended) => return message,
            Ok(Polled::Open) => {}
            Err(error) => message = Some(error.to_string()),
        }
        let patience = if pictures.is_empty() { FIRST_PICTURE } else { MORE_PICTURES };
        let enough = pictures.len() >= PICTURES_MAX || bytes >= PICTURE_BYTES_MAX;
        if enough || begun.elapsed() > patience || signals.asked() {
            return message;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
