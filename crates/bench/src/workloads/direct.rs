//! Direct requests over gRPC on the loopback: what one takes when nothing else happens and while cameras saturate the
//! model; and throughput by perf_analyzer, beside a real Triton on this machine.
//!
//! Latencies are those of one caller that asks again once it is answered, in this process but on connections like anyone
//! else's. The identity of Triton is its Python backend's, which is what the wheel has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_adapters::infer::{Cost, Waiting, identity, null, simulated};
use omma_adapters::threads::schedule;
use omma_engine::cameras::Delivery;
use omma_engine::infer::backend::LoadedModel;
use omma_engine::metrics::Stage;
use omma_engine::picture::{Color, Layout, PictureSpec, Resize};
use omma_engine::pipeline::Engine;
use omma_engine::plan::{BatchPlan, Mode};
use omma_engine::tensor::DType;
use omma_frame::Size;
use omma_protocol::wire::grpc_inference_service_client::GrpcInferenceServiceClient;
use omma_protocol::wire::{ModelInferRequest, model_infer_request::InferInputTensor};
use omma_server::{ApiLimits, Server, ServerOptions, Watched};
use omma_testkit::triton_server::TritonServer;
use tonic::transport::Endpoint;

use super::Options;
use crate::figures::Figures;
use crate::load::{Load, rest};
use crate::perf::{At, PerfAnalyzer, Way};
use crate::rig::{Blind, Rig, no_pictures};

/// What perf_analyzer keeps under way.
const REQUESTS: usize = 4;
/// The rig's name for its model.
const MODEL: &str = "bench";
/// The one of models/triton.
const TRITON_MODEL: &str = "identity_f32";
/// A model as on an accelerator: 16 ms for its full batch.
const COST: Cost =
    Cost { base: Duration::from_millis(8), per_item: Duration::from_micros(500), waiting: Waiting::Sleep };
const COST_BATCH: usize = 16;

pub fn run(options: &Options) -> Result<Figures, String> {
    let perf = PerfAnalyzer::find()?;
    let missing = || "a tritonserver is needed: `scripts/triton.sh install`".to_owned();
    let mut figures = Figures::default();
    // Ten seconds of each side of each way in the long form.
    let (spans, rounds) = if options.quick { (Duration::from_secs(1), 1) } else { (Duration::from_secs(3), 5) };
    for _ in 0..options.runs() {
        let (p50, p99) = Stand::start(null(&no_pictures()), no_pictures(), Cameras::Silent)?.asked(spans)?;
        figures.add("idle_p50_ms", "ms", p50);
        figures.add("idle_p99_ms", "ms", p99);
        let stand = Stand::start(identity(&pictures(DType::U8)), pictures(DType::U8), Cameras::Silent)?;
        let (p50, p99) = stand.asked(spans)?;
        figures.add("idle_320_p50_ms", "ms", p50);
        figures.add("idle_320_p99_ms", "ms", p99);
        let stand = Stand::start(null(&no_pictures()), no_pictures(), Cameras::Saturating)?;
        let (_, p99) = stand.asked(spans)?;
        figures.add("loaded_p99_ms", "ms", p99);
        figures.add("loaded_batch_p99_ms", "ms", stand.batch_p99_ms());
        let stand = Stand::start(simulated(&no_pictures(), COST, COST_BATCH), no_pictures(), Cameras::Saturating)?;
        let (p50, p99) = stand.asked(spans)?;
        figures.add("loaded_16ms_p50_ms", "ms", p50);
        figures.add("loaded_16ms_p99_ms", "ms", p99);
    }
    let output_bytes = pictures(DType::F32).slot_bytes();
    for _ in 0..rounds {
        let stand = Stand::start(identity(&pictures(DType::F32)), pictures(DType::F32), Cameras::Silent)?;
        let ours = |way| perf.load(&stand.at, way, MODEL, output_bytes, REQUESTS, spans);
        let ours = [ours(Way::Grpc)?, ours(Way::Http)?, ours(Way::SharedMemory)?];
        // What still ran of omma's would take Triton's cores.
        drop(stand);
        let triton = TritonServer::start(&[TRITON_MODEL]).ok_or_else(missing)?;
        let bare = |url: String| url.split_once("://").map_or_else(|| url.clone(), |(_, address)| address.to_owned());
        let at = At { http: bare(triton.http()), grpc: bare(triton.grpc()) };
        let theirs = |way| perf.load(&at, way, TRITON_MODEL, output_bytes, REQUESTS, spans);
        let theirs = [theirs(Way::Grpc)?, theirs(Way::Http)?, theirs(Way::SharedMemory)?];
        for (at, [ratio, limit, us, them]) in [
            ["perf_ratio_grpc", "perf_limit_grpc", "grpc_per_s", "triton_grpc_per_s"],
            ["perf_ratio_http", "perf_limit_http", "http_per_s", "triton_http_per_s"],
            ["perf_ratio_shm", "perf_limit_shm", "shm_per_s", "triton_shm_per_s"],
        ]
        .into_iter()
        .enumerate()
        {
            let (ours, theirs) = (&ours[at], theirs[at].inferences_per_s);
            figures.add(ratio, "1", ours.inferences_per_s / theirs);
            // What a server that cost nothing would reach: all that omma takes would be the client's.
            figures.add(limit, "1", ours.inferences_per_s / theirs / ours.client_share);
            figures.add(us, "1/s", ours.inferences_per_s);
            figures.add(them, "1/s", theirs);
        }
    }
    figures.limit("idle_p50_ms", "<= 0.3");
    figures.limit("idle_p99_ms", "<= 1");
    figures.limit("loaded_p99_ms", "<= one batch + 5");
    for ratio in ["perf_ratio_grpc", "perf_ratio_http", "perf_ratio_shm"] {
        figures.limit(ratio, ">= 1.5");
    }
    Ok(figures)
}

fn pictures(dtype: DType) -> PictureSpec {
    PictureSpec {
        size: Size { width: 320, height: 320 },
        dtype,
        layout: Layout::Nchw,
        color: Color::Rgb,
        resize: Resize::Stretch,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cameras {
    Silent,
    /// As many frames as there is room for.
    Saturating,
}

/// An engine with one model and a server in front of it.
struct Stand {
    /// Before the engine, so that nobody asks one that ends.
    _server: Server,
    engine: Engine,
    at: At,
    spec: PictureSpec,
}

impl Stand {
    fn start(model: LoadedModel, spec: PictureSpec, cameras: Cameras) -> Result<Self, String> {
        let rig = Rig {
            cameras: 64,
            delivery: Delivery::Every,
            waiting_frames_max: 2,
            in_flight_frames_max: 64,
            entry_ids: false,
            mode: Mode::Auto,
            instances: None,
            batch: BatchPlan::default(),
            spec: spec.clone(),
            model,
            pictures: Arc::new(Blind),
            outputs: Arc::new(Blind),
        };
        let picture = vec![Bytes::from_static(b"by reference")];
        let engine = rig.start(|indexes| {
            Box::new(match cameras {
                Cameras::Silent => Load::at(0.0, indexes, picture),
                Cameras::Saturating => Load::saturating(indexes, picture),
            })
        })?;
        let watched = Watched::default();
        watched.show(engine.shared());
        let local = || Some("127.0.0.1:0".to_owned());
        let server = ServerOptions {
            http: local(),
            grpc: local(),
            api: ApiLimits { client_shared_memory: true, ..ApiLimits::default() },
            begin_thread: schedule,
            ..ServerOptions::default()
        };
        let server = Server::start(&server, watched).map_err(|error| error.to_string())?;
        let listens = |address: Option<SocketAddr>| {
            address.map(|address| address.to_string()).ok_or_else(|| "the server does not listen".to_owned())
        };
        let at = At { http: listens(server.http())?, grpc: listens(server.grpc())? };
        rest(Duration::from_millis(300));
        Ok(Self { _server: server, engine, at, spec })
    }

    /// Median and 99th percentile of requests one after the other, in milliseconds.
    fn asked(&self, span: Duration) -> Result<(f64, f64), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let mut took = runtime.block_on(ask(&self.at.grpc, &self.spec, span))?;
        took.sort();
        let at = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e3;
        Ok((at(50), at(99)))
    }

    fn batch_p99_ms(&self) -> f64 {
        self.engine.shared().metrics.stages.quantile(Stage::Infer, 0.99).as_secs_f64() * 1e3
    }
}

/// How long each request took.
async fn ask(at: &str, spec: &PictureSpec, span: Duration) -> Result<Vec<Duration>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("no connection: {error}"))?;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let [height, width, channels] = [spec.size.height, spec.size.width, spec.color.channels() as u32].map(i64::from);
    let shape = match spec.layout {
        Layout::Nchw => vec![1, channels, height, width],
        Layout::Nhwc => vec![1, height, width, channels],
    };
    let input = InferInputTensor {
        name: "images".to_owned(),
        datatype: "UINT8".to_owned(),
        shape,
        ..InferInputTensor::default()
    };
    let request = ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from(vec![0; spec.slot_bytes()])],
        ..ModelInferRequest::default()
    };
    let mut took = Vec::new();
    // The first ones open connections and warm caches.
    let (mut begun, mut warm) = (Instant::now(), false);
    loop {
        let asked = Instant::now();
        client.model_infer(request.clone()).await.map_err(|status| format!("no answer: {status}"))?;
        took.push(asked.elapsed());
        if !warm && begun.elapsed() > span / 10 {
            (begun, warm) = (Instant::now(), true);
            took.clear();
        }
        if warm && begun.elapsed() > span {
            return Ok(took);
        }
    }
}
