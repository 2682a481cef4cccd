//! A drain that begins while a reader is in the middle of a poll: what that poll brings is published, not forgotten.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::picture::{PictureLimits, encode_jpeg, factory};
use omma_adapters::{infer, sink::NullSink};
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::lifecycle::Phase;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::pipeline::{Engine, ModelParts, Parts, Shared, SourcePart};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan, SinkPlan};
use omma_engine::post::decode::OutputPlan;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_engine::tensor::DType;
use omma_frame::{CameraId, CameraIndex, Payload, Size, Token};

const SIZE: Size = Size { width: 16, height: 16 };

/// Its first poll that knows the engine lasts until the engine drains, and then brings a picture.
struct Dawdler {
    shared: Arc<OnceLock<Arc<Shared>>>,
    /// Hears that this poll has begun.
    polls: SyncSender<()>,
    picture: Option<Bytes>,
    camera: CameraIndex,
}

impl Source for Dawdler {
    fn poll(&mut self, _: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        let Some(shared) = self.shared.get() else { return Ok(Polled::Open) };
        let Some(picture) = self.picture.take() else { return Ok(Polled::Open) };
        self.polls.send(()).expect("the test waits for it");
        while shared.lifecycle.phase() < Phase::Draining {
            std::thread::yield_now();
        }
        // Long enough for a drain that does not wait for this poll to be over before it.
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        arrivals.push(Arrival {
            camera: self.camera,
            sequence: None,
            captured_at: None,
            payload: Payload::Encoded(picture),
            token: Token(0, 0),
            overtaken: 0,
        });
        Ok(Polled::Open)
    }

    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

#[test]
fn what_a_poll_brings_while_the_engine_drains_is_published() {
    let camera = CameraPlan {
        id: CameraId::new("slow").unwrap(),
        delivery: Delivery::Every,
        model: 0,
        route: 0,
        waiting_frames_max: 4,
        in_flight_frames_max: 4,
    };
    let cameras = Arc::new(Cameras::new(32));
    let indexes = cameras.add([camera.clone()]);
    let mut picture = Vec::new();
    encode_jpeg(&[128; 16 * 16 * 3], SIZE, 80, &mut picture).unwrap();
    let shared = Arc::new(OnceLock::new());
    let (polls, polling) = sync_channel(1);
    let source = Dawdler { shared: Arc::clone(&shared), polls, picture: Some(picture.into()), camera: indexes[0] };
    let spec = PictureSpec {
        size: SIZE,
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let model = ModelPlan {
        name: "eyes".to_owned(),
        mode: Mode::Auto,
        instances: Some(1),
        sync_threads_max: 1,
        feeder_threads_max: 1,
        waiting_frames_max: 100,
        in_flight_frames_max: 100,
        batch: BatchPlan::default(),
        picture: spec.clone(),
        parameters: Vec::new(),
        deadline: Duration::from_secs(10),
        warmup_batches: 0,
    };
    let pause = Duration::from_millis(1);
    let sink = SinkPlan { name: "out".to_owned(), buffer_frames_max: 100, backoff_min: pause, backoff_max: pause };
    let parts = Parts {
        plan: Plan {
            engine: EnginePlan::default(),
            models: vec![model],
            sinks: vec![sink],
            routes: vec![vec![0]],
            cameras: vec![camera],
        },
        cameras,
        clock: Arc::new(SystemClock::new()),
        sources: vec![vec![SourcePart { source: Box::new(source), cameras: indexes }]],
        models: vec![ModelParts {
            loaded: infer::null(&spec),
            pictures: factory(spec, PictureLimits::default()).unwrap(),
            outputs: OutputPlan::Nothing.factory(SIZE),
        }],
        sinks: vec![Box::new(NullSink::default())],
        cores: 1,
        begin_thread: omma_engine::threads::leave,
    };
    let engine = Engine::start(parts).unwrap();
    shared.set(Arc::clone(engine.shared())).ok().unwrap();
    polling.recv().unwrap();
    let report = engine.drain();
    assert_eq!((report.counts.received, report.counts.published, report.counts.in_flight), (1, 1, 0));
    assert_eq!((report.late, report.unsettled), (0, 0));
}
