//! One engine for a workload: cameras, a model, a sink that takes everything.

use std::sync::Arc;
use std::time::Duration;

use omma_adapters::threads::schedule;
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::infer::backend::LoadedModel;
use omma_engine::picture::{
    Color, Fit, Layout, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize,
};
use omma_engine::pipeline::{Engine, ModelParts, Parts, SourcePart};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan, SinkPlan};
use omma_engine::post::{OutputDecoder, OutputDecoderFactory, OutputError};
use omma_engine::sink::{Sink, SinkError};
use omma_engine::source::Source;
use omma_engine::tensor::{DType, TensorView};
use omma_frame::{CameraId, CameraIndex, FrameResult, Output, Payload, Size};

/// What a workload varies.
pub struct Rig {
    pub cameras: usize,
    pub delivery: Delivery,
    /// Of one camera.
    pub waiting_frames_max: u32,
    pub in_flight_frames_max: u32,
    /// Frames come out of Redis Streams.
    pub entry_ids: bool,
    pub mode: Mode,
    pub instances: Option<usize>,
    pub batch: BatchPlan,
    pub spec: PictureSpec,
    pub model: LoadedModel,
    pub pictures: Arc<dyn PictureDecoderFactory>,
    pub outputs: Arc<dyn OutputDecoderFactory>,
}

impl Rig {
    /// Starts the engine on a source made from the camera indexes; results go nowhere.
    pub fn start(self, source: impl FnOnce(Vec<CameraIndex>) -> Box<dyn Source>) -> Result<Engine, String> {
        self.start_into(Arc::new(SystemClock::new()), Box::new(Nowhere), |_, indexes| Ok(source(indexes)))
    }

    /// Starts the engine with results going into `sink`. The source is made from the table of cameras and their indexes.
    pub fn start_into(
        self,
        clock: Arc<SystemClock>,
        sink: Box<dyn Sink>,
        source: impl FnOnce(&Arc<Cameras>, Vec<CameraIndex>) -> Result<Box<dyn Source>, String>,
    ) -> Result<Engine, String> {
        let engine = EnginePlan::default();
        let cameras = Arc::new(Cameras::new(engine.shards));
        let plans: Vec<CameraPlan> = (0..self.cameras)
            .map(|number| {
                let id = CameraId::new(&format!("cam-{number:05}")).map_err(|error| error.to_string())?;
                Ok(CameraPlan {
                    id,
                    delivery: self.delivery,
                    model: 0,
                    route: 0,
                    entry_ids: self.entry_ids,
                    waiting_frames_max: self.waiting_frames_max,
                    in_flight_frames_max: self.in_flight_frames_max,
                })
            })
            .collect::<Result<_, String>>()?;
        let indexes = cameras.add(plans.clone());
        let model = ModelPlan {
            name: "bench".to_owned(),
            mode: self.mode,
            instances: self.instances,
            sync_threads_max: 8,
            feeder_threads_max: 16,
            waiting_frames_max: 16_384,
            in_flight_frames_max: 2000,
            batch: self.batch,
            picture: self.spec,
            parameters: Vec::new(),
            deadline: Duration::from_secs(30),
            warmup_batches: 1,
        };
        let sink_plan = SinkPlan {
            name: "null".to_owned(),
            buffer_frames_max: 65_536,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        };
        let source = source(&cameras, indexes.clone())?;
        let plan = Plan { engine, models: vec![model], sinks: vec![sink_plan], routes: vec![vec![0]], cameras: plans };
        Engine::start(Parts {
            plan,
            cameras,
            clock,
            sources: vec![vec![SourcePart { source, cameras: indexes }]],
            models: vec![ModelParts { version: 1, loaded: self.model, pictures: self.pictures, outputs: self.outputs }],
            store: None,
            sinks: vec![sink],
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            begin_thread: schedule,
        })
        .map_err(|error| error.to_string())
    }
}

/// The smallest pictures there are: for models that look at nothing.
pub fn no_pictures() -> PictureSpec {
    PictureSpec {
        size: Size { width: 1, height: 1 },
        dtype: DType::U8,
        layout: Layout::Nhwc,
        color: Color::Rgb,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// 320x320 as bytes: what the workloads with real pictures decode to.
pub fn picture_spec() -> PictureSpec {
    PictureSpec {
        size: Size { width: 320, height: 320 },
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Letterbox { pad: 114 },
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

/// Looks at no picture and reads no output.
pub struct Blind;

impl PictureDecoder for Blind {
    fn decode(&mut self, _payload: &Payload, _slot: &mut [u8]) -> Result<Fit, PictureError> {
        Ok(Fit::new(Size { width: 1, height: 1 }, Size { width: 1, height: 1 }, Resize::Stretch))
    }
}

impl PictureDecoderFactory for Blind {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(Self)
    }
}

impl OutputDecoder for Blind {
    fn decode(&mut self, _outputs: &[TensorView<'_>], _fit: &Fit) -> Result<Output, OutputError> {
        Ok(Output::Nothing)
    }
}

impl OutputDecoderFactory for Blind {
    fn open(&self) -> Box<dyn OutputDecoder> {
        Box::new(Self)
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn publish(
        &mut self,
        _results: &[FrameResult],
        _cameras: &[Arc<omma_engine::cameras::Camera>],
    ) -> Result<(), SinkError> {
        Ok(())
    }
}
