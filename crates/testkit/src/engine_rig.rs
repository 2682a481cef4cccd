//! A whole engine under test: scripted pictures, models and sinks, sources driven by hand, and the laws that must hold
//! after whatever a test has done to it ([`Running::stop`]).
//!
//! Nothing here waits for a fixed time: a test waits for what it expects ([`until`]), with a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::{Clock, SystemClock};
use omma_engine::infer::backend::LoadedModel;
use omma_engine::infer::work::Caller;
use omma_engine::ledger::Counts;
use omma_engine::pipeline::{DrainReport, Engine, ModelParts, NewVersion, Parts, Serving, SourcePart, StartError};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan, SinkPlan};
use omma_engine::report::Message;
use omma_engine::sink::Sink;
use omma_engine::source::{Fate, Settlement, Source};
use omma_engine::threads::leave;
use omma_frame::{CameraId, CameraIndex, DropReason, FrameResult, Outcome, Output};
use parking_lot::Mutex;

use crate::doubles_picture::{Picture, Pictures, Reader, spec};
use crate::sink::{SinkHandle, scripted};
use crate::source::{ManualHandle, ManualSource, manual};

/// How long a test waits for what it expects before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done`; looks every half millisecond.
///
/// # Panics
/// It does not come true within [`PATIENCE`].
pub fn until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// What every camera of the rig holds a result to: its value tells camera and sequence.
#[must_use]
pub fn value(camera: usize, sequence: u64) -> u32 {
    // Exact as f32 for 160 cameras of 100,000 frames.
    camera as u32 * 100_000 + (sequence % 100_000) as u32
}

/// An engine to be; change what the test is about, then start it.
pub struct Rig {
    pub engine: EnginePlan,
    pub cameras: Vec<CameraPlan>,
    pub models: Vec<(ModelPlan, LoadedModel)>,
    pub sinks: Vec<SinkPlan>,
    pub routes: Vec<Vec<usize>>,
    pub clock: Arc<dyn Clock>,
    /// What becomes of the reader's source before the engine gets it.
    pub tamper: Box<dyn FnMut(ManualSource) -> Box<dyn Source>>,
}

impl Rig {
    /// Cameras `cam-0..` of one delivery, one model served by one `sync` instance in batches of up to 8, one sink.
    #[must_use]
    pub fn new(cameras: usize, delivery: Delivery, model: LoadedModel) -> Self {
        let camera = |number: usize| CameraPlan {
            id: CameraId::new(&format!("cam-{number}")).expect("a camera id"),
            delivery,
            model: 0,
            route: 0,
            entry_ids: false,
            waiting_frames_max: 4,
            in_flight_frames_max: 16,
        };
        Self {
            engine: EnginePlan { drain_timeout: Duration::from_secs(20), ..EnginePlan::default() },
            cameras: (0..cameras).map(camera).collect(),
            models: vec![(model_plan("model"), model)],
            sinks: vec![sink_plan("sink")],
            routes: vec![vec![0]],
            clock: Arc::new(SystemClock::new()),
            tamper: Box::new(|source| Box::new(source)),
        }
    }

    /// # Errors
    /// The engine's own.
    pub fn start(mut self) -> Result<Running, StartError> {
        let cameras = Arc::new(Cameras::new(self.engine.shards));
        let indexes = cameras.add(self.cameras.clone());
        let table = cameras.snapshot();
        let readers = self.engine.readers;
        let reader_of: Vec<usize> = table.iter().map(|camera| camera.shard as usize % readers).collect();
        let (mut sources, mut handles) = (Vec::new(), Vec::new());
        for reader in 0..readers {
            let (source, handle) = manual();
            let cameras = indexes.iter().copied().filter(|camera| reader_of[camera.slot()] == reader).collect();
            sources.push(vec![SourcePart { source: (self.tamper)(source), cameras }]);
            handles.push(handle);
        }
        let pictures: Vec<Arc<Pictures>> = self.models.iter().map(|_| Arc::default()).collect();
        let (mut sinks, mut sink_handles): (Vec<Box<dyn Sink>>, Vec<SinkHandle>) = (Vec::new(), Vec::new());
        for _ in &self.sinks {
            let (sink, handle) = scripted();
            sinks.push(Box::new(sink));
            sink_handles.push(handle);
        }
        let (plans, loaded): (Vec<_>, Vec<_>) = self.models.into_iter().unzip();
        let models = loaded
            .into_iter()
            .zip(&pictures)
            .map(|(loaded, pictures)| {
                let pictures = Arc::clone(pictures) as Arc<_>;
                ModelParts { version: 1, loaded, pictures, outputs: Arc::new(Reader) }
            })
            .collect();
        let plan =
            Plan { engine: self.engine, models: plans, sinks: self.sinks, routes: self.routes, cameras: self.cameras };
        let engine = Engine::start(Parts {
            plan,
            cameras,
            clock: self.clock,
            sources,
            models,
            store: None,
            sinks,
            cores: 4,
            begin_thread: leave,
        })?;
        Ok(Running {
            engine,
            sources: handles,
            sinks: sink_handles,
            pictures,
            reader_of,
            pushed: AtomicU64::new(0),
            messages: Mutex::default(),
        })
    }
}

/// A model plan of the rig.
#[must_use]
pub fn model_plan(name: &str) -> ModelPlan {
    ModelPlan {
        name: name.to_owned(),
        mode: Mode::Sync,
        instances: Some(1),
        sync_threads_max: 4,
        feeder_threads_max: 2,
        waiting_frames_max: 256,
        in_flight_frames_max: 64,
        batch: BatchPlan { size: 4, size_max: 8, timeout: Duration::from_millis(2), direct_share_percent: 75 },
        picture: spec(),
        parameters: Vec::new(),
        deadline: Duration::from_secs(20),
        warmup_batches: 0,
    }
}

/// A version for [`omma_engine::pipeline::Shared::swap`], with pictures and outputs as the rig's models have them.
#[must_use]
pub fn version(number: u32, plan: &ModelPlan, loaded: LoadedModel) -> NewVersion {
    let pictures = Arc::<Pictures>::default();
    NewVersion {
        plan: plan.clone(),
        parts: ModelParts { version: number, loaded, pictures, outputs: Arc::new(Reader) },
    }
}

/// A sink plan of the rig.
#[must_use]
pub fn sink_plan(name: &str) -> SinkPlan {
    let (backoff_min, backoff_max) = (Duration::from_millis(1), Duration::from_millis(20));
    SinkPlan { name: name.to_owned(), buffer_frames_max: 256, backoff_min, backoff_max }
}

/// A running engine and everything that a test holds on to.
pub struct Running {
    pub engine: Engine,
    /// By reader.
    pub sources: Vec<ManualHandle>,
    pub sinks: Vec<SinkHandle>,
    /// By model.
    pub pictures: Vec<Arc<Pictures>>,
    reader_of: Vec<usize>,
    pushed: AtomicU64,
    messages: Mutex<Vec<Message>>,
}

/// What is left when the engine has stopped.
pub struct Stopped {
    pub report: DrainReport,
    /// By sink.
    pub published: Vec<Vec<FrameResult>>,
    pub settlements: Vec<Settlement>,
    pub messages: Vec<Message>,
}

impl Running {
    /// Brings a frame of `cam-{camera}`; its value is given to it.
    pub fn push(&self, camera: usize, sequence: u64, picture: Picture) {
        let picture = Picture { value: value(camera, sequence), ..picture };
        self.push_bytes(camera, sequence, picture.bytes());
    }

    /// Brings a frame with any bytes.
    pub fn push_bytes(&self, camera: usize, sequence: u64, bytes: Bytes) {
        self.pushed.fetch_add(1, Ordering::SeqCst);
        self.sources[self.reader_of[camera]].push(CameraIndex(camera as u32), sequence, bytes);
    }

    /// Brings well-formed frames.
    pub fn push_all(&self, camera: usize, sequences: std::ops::Range<u64>) {
        sequences.for_each(|sequence| self.push(camera, sequence, Picture::default()));
    }

    /// The camera's counts now.
    #[must_use]
    pub fn counts(&self, camera: usize) -> Counts {
        self.engine.shared().ledger.camera(CameraIndex(camera as u32))
    }

    #[must_use]
    pub fn total(&self) -> Counts {
        self.engine.shared().ledger.total()
    }

    /// Results that wait in a sink's buffer; not those in the sink's hands.
    #[must_use]
    pub fn buffered(&self, sink: usize) -> u64 {
        self.engine.shared().metrics.sinks[sink].buffered.load(Ordering::Relaxed)
    }

    /// What serves a model now.
    ///
    /// # Panics
    /// Nothing does.
    #[must_use]
    pub fn serving(&self, model: usize) -> Arc<Serving> {
        self.engine.shared().model(model).and_then(|model| model.serving).expect("a version that serves")
    }

    /// Waits until everything pushed has been read and has met its fate.
    pub fn wait_settled(&self) {
        until("every frame is settled", || {
            let total = self.total();
            total.received == self.pushed.load(Ordering::SeqCst) && total.in_flight == 0
        });
    }

    /// Everything said so far.
    pub fn messages(&self) -> Vec<Message> {
        let mut kept = self.messages.lock();
        kept.extend(self.engine.shared().reports.take().0);
        kept.clone()
    }

    /// Whether something with this subject and this part of a text has been said.
    #[must_use]
    pub fn said(&self, subject: &str, part: &str) -> bool {
        said(&self.messages(), subject, part)
    }

    /// The sequences that a sink has of a camera, in its order.
    #[must_use]
    pub fn sequences(&self, sink: usize, camera: usize) -> Vec<u64> {
        sequences(&self.sinks[sink].published(), camera)
    }

    /// Drains, and holds the engine to its laws.
    ///
    /// # Panics
    /// A law is broken.
    #[must_use]
    pub fn stop(self) -> Stopped {
        let _ = self.messages();
        let Self { engine, sources, sinks, messages, .. } = self;
        let shared = Arc::clone(engine.shared());
        let report = engine.drain();
        let mut messages = messages.into_inner();
        messages.extend(shared.reports.take().0);
        let published: Vec<Vec<FrameResult>> = sinks.iter().map(SinkHandle::published).collect();
        let settlements: Vec<Settlement> = sources.iter().flat_map(ManualHandle::settlements).collect();

        assert_eq!(report.unsettled, 0, "frames whose fate is unknown: {report:?}");
        assert_eq!(report.counts.in_flight, 0, "{report:?}");
        assert!(report.counts.balanced(), "{report:?}");
        assert_eq!(shared.metrics.readers.ledger_violations.load(Ordering::SeqCst), 0);
        assert_eq!(report.counts, shared.ledger.total(), "the report is final");
        let total = settlements.len() as u64;
        assert_eq!(total, report.counts.received, "each frame read is settled with its source, once");
        // Also those that a source found on its way.
        let cameras = shared.cameras.len();
        for camera in 0..cameras {
            check_camera(&shared.ledger.camera(CameraIndex(camera as u32)), &settlements, camera);
        }
        for results in &published {
            check_results(results, cameras);
        }
        Stopped { report, published, settlements, messages }
    }
}

impl Stopped {
    #[must_use]
    pub fn said(&self, subject: &str, part: &str) -> bool {
        said(&self.messages, subject, part)
    }

    #[must_use]
    pub fn sequences(&self, sink: usize, camera: usize) -> Vec<u64> {
        sequences(&self.published[sink], camera)
    }

    /// Frames dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.report.counts.dropped(reason)
    }
}

fn said(messages: &[Message], subject: &str, part: &str) -> bool {
    messages.iter().any(|message| message.subject == subject && message.text.contains(part))
}

fn sequences(results: &[FrameResult], camera: usize) -> Vec<u64> {
    results.iter().filter(|r| r.camera.slot() == camera).map(|r| r.sequence).collect()
}

/// The source has heard of exactly what the ledger counts.
fn check_camera(counts: &Counts, settlements: &[Settlement], camera: usize) {
    assert!(counts.balanced() && counts.in_flight == 0, "camera {camera}: {counts:?}");
    let mut fates: HashMap<Option<DropReason>, u64> = HashMap::new();
    for settlement in settlements.iter().filter(|s| s.camera.slot() == camera) {
        let fate = match settlement.fate {
            Fate::Published => None,
            Fate::Dropped(reason) => Some(reason),
        };
        *fates.entry(fate).or_default() += 1;
    }
    assert_eq!(fates.remove(&None).unwrap_or_default(), counts.published, "camera {camera}: published");
    for (reason, count) in counts.drops() {
        assert_eq!(fates.remove(&Some(reason)), Some(count), "camera {camera}: {}", reason.name());
    }
    assert!(fates.is_empty(), "camera {camera}: settled beyond the ledger: {fates:?}");
}

/// Each camera's results are in the order in which its frames came (tokens rise with it), each frame once, each with its
/// own answer.
fn check_results(results: &[FrameResult], cameras: usize) {
    let mut last = vec![None; cameras];
    for result in results {
        let (camera, sequence) = (result.camera.slot(), result.sequence);
        let before = last[camera].replace(result.token);
        assert!(before.is_none_or(|before| before < result.token), "camera {camera}: {sequence} after {before:?}");
        if let Outcome::Inferred(output) = &result.outcome {
            let expected = Output::Embedding(vec![value(camera, sequence) as f32]);
            assert_eq!(*output, expected, "the answer of camera {camera}, frame {sequence}");
        }
    }
}

/// A caller of direct requests whose answer a test looks at.
pub struct Asking {
    answer: Arc<Mutex<Vec<FrameResult>>>,
    left: Arc<std::sync::atomic::AtomicBool>,
}

/// The caller for the engine.
pub struct Waiting {
    answer: Arc<Mutex<Vec<FrameResult>>>,
    left: Arc<std::sync::atomic::AtomicBool>,
}

impl Asking {
    #[must_use]
    pub fn new() -> (Self, Box<dyn Caller>) {
        let (answer, left) = (Arc::default(), Arc::default());
        (Self { answer: Arc::clone(&answer), left: Arc::clone(&left) }, Box::new(Waiting { answer, left }))
    }

    /// Stops waiting.
    pub fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
    }

    /// The answers so far; more than one is a fault.
    #[must_use]
    pub fn answers(&self) -> Vec<FrameResult> {
        self.answer.lock().clone()
    }
}

impl Caller for Waiting {
    fn waits(&self) -> bool {
        !self.left.load(Ordering::SeqCst)
    }

    fn answer(self: Box<Self>, result: FrameResult) {
        self.answer.lock().push(result);
    }
}
