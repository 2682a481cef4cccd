//! What every backend owes once it is served: a suite of whole engines around it, beside that of single batches
//! ([`crate::backend`]).
//!
//! Frames bring the number of a picture of noise; what each gives alone is known, so that every result shows whose it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::infer::backend::LoadedModel;
use omma_engine::picture::{Fit, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize};
use omma_engine::pipeline::{Engine, ModelParts, NewVersion, Parts, SourcePart};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan};
use omma_engine::post::{OutputDecoder, OutputDecoderFactory, OutputError};
use omma_engine::tensor::TensorView;
use omma_engine::threads::leave;
use omma_frame::{CameraId, CameraIndex, DropReason, FrameResult, Outcome, Output, OwnedTensor, Payload};

use crate::backend::{Subject, assert_close, floats, paint};
use crate::engine_rig::{Asking, PATIENCE, model_plan, sink_plan, until};
use crate::sink::{SinkHandle, scripted};
use crate::source::{ManualHandle, manual};

const CAMERAS: usize = 3;
const PICTURES: u64 = 6;

/// A model under test.
pub struct Served<'a> {
    /// Opens it, each time anew.
    pub load: &'a dyn Fn() -> LoadedModel,
    pub spec: &'a PictureSpec,
    /// The largest batch that it takes or that is to be tried.
    pub batch_max: usize,
    pub tolerance: f32,
}

/// Runs the whole suite.
pub fn serves(served: &Served<'_>) {
    versions_change_while_frames_flow(served);
    who_leaves_costs_no_other_request(served);
    a_deadline_that_is_too_short_costs_frames_by_name(served);
}

/// A copy takes over from another: no frame is lost, each has its own answer, each camera's order holds.
fn versions_change_while_frames_flow(served: &Served<'_>) {
    const EACH: u64 = 40;
    let running = served.start(served.plan());
    for version in 2..=4 {
        running.push_each(EACH);
        let next = served.version(version, served.plan());
        assert_eq!(running.engine.shared().swap("model", next), Ok(version));
    }
    running.push_each(EACH);
    let results = running.settled(served);
    for camera in 0..CAMERAS {
        let of_camera = || results.iter().filter(|result| result.camera.slot() == camera);
        let sequences: Vec<u64> = of_camera().map(|result| result.sequence).collect();
        assert_eq!(sequences, (0..4 * EACH).collect::<Vec<_>>(), "camera {camera}");
        assert!(of_camera().all(|result| matches!(result.outcome, Outcome::Inferred(_))), "camera {camera}");
        let versions: BTreeSet<u32> = of_camera().map(|result| result.served_by.version).collect();
        assert!(versions.contains(&4) && versions.len() > 1, "camera {camera} was served by {versions:?}");
    }
}

/// Of direct requests some callers leave at once: the others are answered once, with their own answers.
fn who_leaves_costs_no_other_request(served: &Served<'_>) {
    let running = served.start(served.plan());
    running.push_each(10);
    let asked: Vec<(u64, Asking)> = (0..30)
        .map(|number| {
            let (asking, caller) = Asking::new();
            assert!(running.engine.ask(0, Payload::Encoded(picture(number % PICTURES)), caller).is_ok(), "accepted");
            if number % 3 == 0 {
                asking.leave();
            }
            (number, asking)
        })
        .collect();
    let expected = served.alone();
    for (number, asking) in asked.iter().filter(|(number, _)| number % 3 != 0) {
        until("it is answered", || !asking.answers().is_empty());
        let answers = asking.answers();
        assert_eq!(answers.len(), 1, "request {number}");
        served.check(&answers[0].outcome, &expected[(number % PICTURES) as usize], &format!("request {number}"));
    }
    until("nobody is waited for", || running.engine.shared().direct_in_flight() == 0);
    let results = running.settled(served);
    assert_eq!(results.len(), 10 * CAMERAS, "the cameras did not notice");
}

/// Frames of batches that are given up are dropped by that name, the others come out well, and a version with a deadline
/// that it can keep serves on.
fn a_deadline_that_is_too_short_costs_frames_by_name(served: &Served<'_>) {
    let running = served.start(ModelPlan { deadline: Duration::ZERO, ..served.plan() });
    running.push_each(4);
    until("they have met their fate", || {
        let total = running.engine.shared().ledger.total();
        total.received == 4 * CAMERAS as u64 && total.in_flight == 0
    });
    let total = running.engine.shared().ledger.total();
    assert_eq!(total.published + total.dropped(DropReason::DeadlineExceeded), total.received, "{total:?}");
    assert_eq!(running.engine.shared().swap("model", served.version(2, served.plan())), Ok(2));
    running.push_each(10);
    let results = running.settled(served);
    assert_eq!(results.len() as u64, total.published + 10 * CAMERAS as u64);
}

impl Served<'_> {
    fn plan(&self) -> ModelPlan {
        let batch = BatchPlan { size: self.batch_max, size_max: self.batch_max, ..BatchPlan::default() };
        let plan = model_plan("model");
        ModelPlan {
            mode: Mode::Auto,
            instances: Some(2),
            warmup_batches: 1,
            batch,
            picture: self.spec.clone(),
            deadline: PATIENCE,
            ..plan
        }
    }

    fn parts(&self, version: u32) -> ModelParts {
        let pictures = Arc::new(Noise(self.spec.clone()));
        ModelParts { version, loaded: (self.load)(), pictures, outputs: Arc::new(AsGiven) }
    }

    fn version(&self, number: u32, plan: ModelPlan) -> NewVersion {
        NewVersion { plan, parts: self.parts(number) }
    }

    fn start(&self, model: ModelPlan) -> Running {
        let camera = |number| CameraPlan {
            id: CameraId::new(&format!("cam-{number}")).expect("a camera id"),
            delivery: Delivery::Every,
            model: 0,
            route: 0,
            entry_ids: false,
            waiting_frames_max: 4,
            in_flight_frames_max: 16,
        };
        let engine = EnginePlan::default();
        let cameras = Arc::new(Cameras::new(engine.shards));
        let plans: Vec<CameraPlan> = (0..CAMERAS).map(camera).collect();
        let indexes = cameras.add(plans.clone());
        let (source, frames) = manual();
        let (sink, results) = scripted();
        let engine = Engine::start(Parts {
            plan: Plan {
                engine,
                models: vec![model],
                sinks: vec![sink_plan("sink")],
                routes: vec![vec![0]],
                cameras: plans,
            },
            cameras,
            clock: Arc::new(SystemClock::new()),
            sources: vec![vec![SourcePart { source: Box::new(source), cameras: indexes }]],
            models: vec![self.parts(1)],
            store: None,
            sinks: vec![Box::new(sink)],
            cores: 2,
            begin_thread: leave,
        });
        Running { engine: engine.unwrap_or_else(|error| panic!("{error}")), frames, results, pushed: 0.into() }
    }

    /// What each picture gives in a batch of its own.
    fn alone(&self) -> Vec<Vec<OwnedTensor>> {
        let model = (self.load)();
        let batch_max = PICTURES as usize;
        Subject { model: &model, spec: self.spec, batch_max, tolerance: self.tolerance }.each_alone()
    }

    fn check(&self, outcome: &Outcome, expected: &[OwnedTensor], what: &str) {
        match outcome {
            Outcome::Inferred(Output::Tensors(found)) => assert_close(found, expected, self.tolerance, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

struct Running {
    engine: Engine,
    frames: ManualHandle,
    results: SinkHandle,
    /// Of each camera.
    pushed: std::cell::Cell<u64>,
}

impl Running {
    /// Brings so many more frames of each camera.
    fn push_each(&self, frames: u64) {
        let first = self.pushed.get();
        self.pushed.set(first + frames);
        for sequence in first..first + frames {
            for camera in 0..CAMERAS {
                let number = shown(camera, sequence);
                self.frames.push(CameraIndex(camera as u32), sequence, picture(number));
            }
        }
    }

    /// Waits until every frame has met its fate, stops, and holds each result to what its picture gives alone.
    fn settled(self, served: &Served<'_>) -> Vec<FrameResult> {
        let pushed = self.pushed.get() * CAMERAS as u64;
        until("every frame is settled", || {
            let total = self.engine.shared().ledger.total();
            total.received == pushed && total.in_flight == 0
        });
        let report = self.engine.drain();
        assert!(report.unsettled == 0 && report.late == 0 && report.counts.balanced(), "{report:?}");
        let results = self.results.published();
        assert_eq!(results.len() as u64, report.counts.published);
        let expected = served.alone();
        for result in &results {
            let (camera, sequence) = (result.camera.slot(), result.sequence);
            let what = format!("camera {camera}, frame {sequence}");
            served.check(&result.outcome, &expected[shown(camera, sequence) as usize], &what);
        }
        results
    }
}

/// The picture that a camera's frame shows.
fn shown(camera: usize, sequence: u64) -> u64 {
    (camera as u64 + sequence) % PICTURES
}

fn picture(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Paints the noise of the number that a payload brings.
struct Noise(PictureSpec);

impl PictureDecoderFactory for Noise {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(Self(self.0.clone()))
    }
}

impl PictureDecoder for Noise {
    fn decode(&mut self, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError> {
        let Payload::Encoded(bytes) = payload else { panic!("pictures are numbers here, not {payload:?}") };
        let number = u64::from_le_bytes(bytes[..].try_into().expect("eight bytes"));
        paint(slot, self.0.dtype, number as usize);
        Ok(Fit::new(self.0.size, self.0.size, Resize::Stretch))
    }
}

/// Gives outputs as they come.
struct AsGiven;

impl OutputDecoderFactory for AsGiven {
    fn open(&self) -> Box<dyn OutputDecoder> {
        Box::new(Self)
    }
}

impl OutputDecoder for AsGiven {
    fn decode(&mut self, outputs: &[TensorView<'_>], _: &Fit) -> Result<Output, OutputError> {
        let own = |view: &TensorView<'_>| OwnedTensor {
            name: view.name.into(),
            shape: view.shape.to_vec(),
            values: floats(view.values),
        };
        Ok(Output::Tensors(outputs.iter().map(own).collect()))
    }
}
