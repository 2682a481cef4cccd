//! What the demo's engine is made of: the embedded detector, a plan, drawn cameras.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::infer::{Choice, OnnxOptions, Runtime};
use omma_adapters::sink::NullSink;
use omma_adapters::sink::jsonl::ModelLabels;
use omma_adapters::source::{Keep, Pace};
use omma_adapters::threads::schedule;
use omma_config::{AnchorAxis, Decoder, OutputConfig};
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::{Clock, SystemClock};
use omma_engine::pipeline::{Engine, Parts, SourcePart};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan, SinkPlan};
use omma_engine::post::labels::Labels;
use omma_engine::sink::Sink;
use omma_frame::{CameraId, Size};

use crate::assemble::{self, OpenedModel};
use crate::cast::{Cast, Showing};
use crate::exit::Failure;
use crate::signals::Signals;
use crate::supervise;

static DETECTOR: &[u8] = include_bytes!("../../../../models/detector/omma-demo.onnx");
static EXAMPLE: &str = include_str!("example.toml");
static LABELS: &str = include_str!("../../../../models/detector/labels.txt");

/// Of the cameras' pictures.
pub const SIZE: Size = Size { width: 640, height: 360 };
const QUALITY: u8 = 80;
/// Low, so that average precision sees the whole curve.
const SCORE_MIN: f32 = 0.05;
/// What the detector's own report was measured with.
const IOU_MAX: f32 = 0.5;

const CALIBRATION_CAMERAS: usize = 16;
const CALIBRATION_SETTLE: Duration = Duration::from_millis(500);
/// The best of a few short windows counts: what else the machine does for a moment can only lower a window.
const CALIBRATION_WINDOW: Duration = Duration::from_millis(500);
const CALIBRATION_WINDOWS: usize = 4;
/// How much of what was reached without a pace cameras with one may ask for: arrivals are not even, and a queue at
/// full load has no end.
const CALIBRATION_SHARE: f64 = 0.75;
/// Scenes take about a megabyte each.
const CAMERAS_MAX: f64 = 1000.0;

/// The detector as a file that runtimes can open.
pub struct Detector {
    path: PathBuf,
    runtime: Option<Runtime>,
    pub labels: Labels,
}

impl Detector {
    /// Writes it into a folder, with its labels and a configuration that runs it: the next step after the demo.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(folder: &Path, runtime: Option<Runtime>) -> Result<Self, String> {
        let path = folder.join("detector.onnx");
        for (path, content) in [
            (path.clone(), DETECTOR),
            (folder.join("labels.txt"), LABELS.as_bytes()),
            (folder.join("omma.toml"), EXAMPLE.as_bytes()),
        ] {
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let labels = Labels::parse(LABELS).map_err(|error| error.to_string())?;
        Ok(Self { path, runtime, labels })
    }

    pub fn labels_for_results(&self) -> ModelLabels {
        ModelLabels { name: "detector".to_owned(), labels: LABELS.lines().map(str::to_owned).collect() }
    }

    fn open(&self) -> Result<OpenedModel, Failure> {
        let options = OnnxOptions { runtime: self.runtime, ..OnnxOptions::default() };
        let output = OutputConfig {
            decoder: Decoder::YoloV8,
            anchor_axis: Some(AnchorAxis::Last),
            score_min: Some(SCORE_MIN),
            iou_max: Some(IOU_MAX),
            labels: self.labels_for_results().labels,
            ..OutputConfig::default()
        };
        assemble::embedded(&self.path, &options, &output).map_err(Failure::run)
    }
}

/// How the cameras deliver.
#[derive(Clone, Copy)]
pub enum Load {
    /// As cameras do.
    Live { fps: f64 },
    /// As fast as results come out.
    Flat,
}

/// Parts of an engine with the cast's cameras; results go to all sinks.
pub fn parts(
    detector: &Detector,
    cast: &Arc<Cast>,
    load: Load,
    sinks: Vec<(&str, Box<dyn Sink>)>,
    cores: usize,
) -> Result<(Parts, Choice), Failure> {
    let opened = detector.open()?;
    let choice = opened.choice.ok_or_else(|| Failure::run("the detector has no runtime"))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let delivery = match load {
        Load::Live { .. } => Delivery::Latest { age_max: Duration::from_secs(2) },
        Load::Flat => Delivery::Every,
    };
    let engine = EnginePlan::default();
    let cameras = Arc::new(Cameras::new(engine.shards));
    let mut plans = Vec::with_capacity(cast.len());
    for number in 0..cast.len() {
        plans.push(CameraPlan {
            id: CameraId::new(&format!("cam-{number:04}")).map_err(Failure::run)?,
            delivery,
            model: 0,
            route: 0,
            entry_ids: false,
            waiting_frames_max: 2,
            in_flight_frames_max: 16,
        });
    }
    let indexes = cameras.add(plans.iter().cloned());
    let showing = Showing {
        cameras: indexes.iter().enumerate().map(|(position, &index)| (index, position)).collect(),
        keep: if matches!(load, Load::Flat) { Keep::All } else { Keep::Newest },
        pace: match load {
            Load::Live { fps } => Pace::PerSecond(fps),
            Load::Flat => Pace::Unlimited,
        },
        frames: None,
        quality: QUALITY,
        threads: cores,
    };
    let source = cast.show(showing, Arc::clone(&clock)).map_err(Failure::run)?;
    let (names, sinks): (Vec<_>, Vec<_>) = sinks.into_iter().unzip();
    let plan = Plan {
        engine,
        models: vec![model(opened.picture)],
        routes: vec![(0..sinks.len()).collect()],
        sinks: names.into_iter().map(sink).collect(),
        cameras: plans,
    };
    let sources = vec![vec![SourcePart { source: Box::new(source), cameras: indexes }]];
    let models = vec![opened.parts];
    Ok((Parts { plan, cameras, clock, sources, models, store: None, sinks, cores, begin_thread: schedule }, choice))
}

fn model(picture: omma_engine::picture::PictureSpec) -> ModelPlan {
    ModelPlan {
        name: "detector".to_owned(),
        mode: Mode::Auto,
        instances: None,
        sync_threads_max: 64,
        feeder_threads_max: 16,
        waiting_frames_max: 4096,
        in_flight_frames_max: 2000,
        batch: BatchPlan::default(),
        picture,
        parameters: Vec::new(),
        deadline: Duration::from_secs(10),
        warmup_batches: 2,
    }
}

fn sink(name: &str) -> SinkPlan {
    SinkPlan {
        name: name.to_owned(),
        buffer_frames_max: 10_000,
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
    }
}

/// How many cameras of that rate this machine keeps up with: runs a few flat out for a moment.
pub fn calibrate(detector: &Detector, seed: u64, fps: f64, cores: usize, signals: &Signals) -> Result<usize, Failure> {
    let cast = Cast::new(seed, CALIBRATION_CAMERAS, SIZE, cores);
    let (parts, _) = parts(detector, &cast, Load::Flat, vec![("nowhere", Box::new(NullSink::default()))], cores)?;
    let engine = Engine::start(parts).map_err(Failure::run)?;
    let shared = Arc::clone(engine.shared());
    let wait = |time: Duration| {
        supervise::watch(&shared, signals, Some(Instant::now() + time), time, || {});
        (Instant::now(), shared.ledger.total().published)
    };
    let (mut from, mut before) = wait(CALIBRATION_SETTLE);
    let mut reached = 0.0_f64;
    for _ in 0..CALIBRATION_WINDOWS {
        let (to, after) = wait(CALIBRATION_WINDOW);
        reached = reached.max(after.saturating_sub(before) as f64 / to.duration_since(from).as_secs_f64().max(1e-3));
        (from, before) = (to, after);
    }
    let _ = supervise::drain(engine);
    Ok((reached * CALIBRATION_SHARE / fps).floor().clamp(1.0, CAMERAS_MAX) as usize)
}
