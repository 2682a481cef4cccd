//! `omma demo`: drawn cameras, an embedded detector, results on disk; measured against what was drawn.

mod font;
mod judge;
mod sheet;
mod stage;
mod summary;
mod view;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::sink::jsonl::{Durability, JsonlSink};
use omma_engine::metrics::Stage;
use omma_engine::pipeline::Engine;
use omma_frame::CameraIndex;

use crate::args::DemoArgs;
use crate::cast::Cast;
use crate::exit::{Exit, Failure};
use crate::figures::Reading;
use crate::human;
use crate::say;
use crate::signals::Signals;
use crate::supervise::{self, End};
use crate::usage;
use judge::Judge;
use stage::{Detector, Load};
use summary::Summary;
use view::View;

/// Pictures that are scored, about: enough that the figures hold to a percent, few enough to be drawn again soon.
const SCORED: f64 = 1500.0;
/// Left out of the latencies: models and caches warm up.
const SETTLE: Duration = Duration::from_secs(1);
const VIEW: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(2);

pub fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let signals = Signals::listen().map_err(|error| Failure::run(format!("cannot listen for signals: {error}")))?;
    let results = args.out.join("results.jsonl");
    let sheet = args.out.join("contact-sheet.jpg");
    prepare(args, &results)?;
    let cores = usage::cores();
    let detector =
        Detector::write(&args.out, args.runtime.0).map_err(|error| Failure::usage(format!("{error} (--out)")))?;
    let cameras = match args.cameras.0 {
        Some(cameras) => cameras,
        None => {
            say::note("omma: finding out how many cameras this machine keeps up with ...");
            stage::calibrate(&detector, args.seed, args.fps, cores, &signals)?
        }
    };
    let cast = Cast::new(args.seed, cameras, stage::SIZE, cores);
    let expected = cameras as f64 * args.fps * args.seconds;
    let (judge, seen) = Judge::new(cameras, (expected / SCORED).ceil() as u64);
    let (lines, _) = JsonlSink::append(&results, Durability::Written, vec![detector.labels_for_results()])
        .map_err(Failure::usage)?;
    let load = Load::Live { fps: args.fps };
    let (parts, choice) =
        stage::parts(&detector, &cast, load, vec![("results", Box::new(lines)), ("judge", Box::new(judge))], cores)?;
    let engine = Engine::start(parts).map_err(Failure::run)?;
    let shared = Arc::clone(engine.shared());

    let begun = Instant::now();
    let duration = Duration::from_secs_f64(args.seconds);
    let mut view = View::new(&shared, cameras, args.fps, duration, say::watched());
    let every = if view.live() { VIEW } else { LINE };
    let mut settled = Reading::take(&shared);
    let mut settling = true;
    let end = supervise::watch(&shared, &signals, Some(begun + duration), every.min(VIEW), || {
        for (_, text) in supervise::reported(&shared) {
            view.say(&text);
        }
        let now = Reading::take(&shared);
        if settling && begun.elapsed() >= SETTLE.min(duration / 3) {
            settled = now.clone();
            settling = false;
        }
        view.show(now, begun.elapsed(), every);
    });
    let ran = begun.elapsed();
    let window = Reading::take(&shared).since(&settled);
    let (report, drained) = supervise::drain(engine);
    view.close();
    for (_, text) in supervise::reported(&shared) {
        say::note(&text);
    }

    say::note("omma: scoring against what was drawn ...");
    let mut seen = seen.lock();
    let samples = std::mem::take(&mut seen.samples);
    let score = judge::score(&cast, &samples, cores);
    let unaccounted = (0..cameras)
        .filter(|&camera| {
            let index = CameraIndex(u32::try_from(camera).unwrap_or(u32::MAX));
            let counts = shared.ledger.camera(index);
            !counts.balanced() || counts.in_flight > 0 || counts.published != seen.published[camera]
        })
        .count();
    let title = format!(
        "omma demo: {}, {} frames/s, p99 {}, mAP@0.5 {:.3}",
        human::counted(cameras, "camera"),
        human::rate(window.published_per_s),
        human::time(window.quantile(Stage::Total, 0.99)),
        score.map50
    );
    let picture = sheet::draw(&cast, &samples, &detector.labels, &title).map_err(Failure::run)?;
    fs::write(&sheet, picture).map_err(|error| Failure::run(format!("{}: {error}", sheet.display())))?;
    let summary = Summary {
        cameras,
        fps: args.fps,
        ran,
        interrupted: end == End::Signal,
        choice,
        why: shared.model(0).and_then(|model| Some(model.serving?.chosen.why.clone())).unwrap_or_default(),
        report,
        out_of_order: seen.out_of_order,
        unaccounted,
        window,
        score,
        results,
        sheet,
        example: args.out.join("omma.toml"),
    };
    if args.json {
        say::json(&summary.json());
    } else {
        say::out(&summary.text());
    }
    Ok(if summary.passed() { drained } else { Exit::Failed })
}

/// Makes the folder; results of an earlier demo are replaced.
fn prepare(args: &DemoArgs, results: &std::path::Path) -> Result<(), Failure> {
    let refused = |error: std::io::Error| Failure::usage(format!("{}: {error} (--out)", args.out.display()));
    fs::create_dir_all(&args.out).map_err(refused)?;
    match fs::remove_file(results) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(refused(error)),
        _ => Ok(()),
    }
}
