//! The pages over a real connection, looking at a real engine with a model that looks at nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::infer::backend::{
    Backend, BackendError, BatchInput, BatchLimit, Device, LoadedModel, ModelInfo, Opener, Reply,
};
use omma_engine::picture::{
    Color, Fit, Layout, PictureDecoder, PictureDecoderFactory, PictureError, PictureSpec, Resize,
};
use omma_engine::pipeline::{Engine, ModelParts, Parts, SourcePart};
use omma_engine::plan::{BatchPlan, EnginePlan, Mode, ModelPlan, Plan, SinkPlan};
use omma_engine::post::{OutputDecoder, OutputDecoderFactory, OutputError};
use omma_engine::sink::{Sink, SinkError};
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_engine::tensor::{DType, TensorView, Values};
use omma_frame::{CameraId, FrameResult, Output, Payload, Size, Token};
use omma_server::metrics::{FAMILIES, Kind};
use omma_server::{Server, ServerOptions, Watched};

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    write!(stream, "{request} HTTP/1.1\r\nHost: omma\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer in UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn serve(watched: Watched, camera_series_max: usize) -> Server {
    let options = ServerOptions { http: Some("127.0.0.1:0".to_owned()), camera_series_max, ..ServerOptions::default() };
    Server::start(&options, watched).expect("a free port")
}

#[test]
fn before_there_is_an_engine_the_process_is_healthy_and_not_ready() {
    let server = serve(Watched::default(), 10);
    for (request, status, content, body) in [
        ("GET /healthz", 200, "text/plain; charset=utf-8", "starting\n"),
        ("GET /readyz", 503, "text/plain; charset=utf-8", "not ready: models load and warm up\n"),
        (
            "GET /",
            200,
            "text/plain; charset=utf-8",
            "omma\n/metrics\n/healthz\n/readyz\n/v2\n/v1/models/MODEL/predict\n",
        ),
        ("HEAD /healthz", 200, "text/plain; charset=utf-8", ""),
        (
            "GET /nowhere",
            404,
            "text/plain; charset=utf-8",
            "nothing at /nowhere, expected /metrics, /healthz, /readyz, or what begins with /v1/ or /v2/\n",
        ),
        ("POST /metrics", 405, "text/plain; charset=utf-8", "this is not done here in this way: see docs/ref/api.md\n"),
    ] {
        let answer = ask(server.http().expect("listens"), request);
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{request}");
        assert!(answer.head.contains(&format!("content-type: {content}")), "{request}: {}", answer.head);
    }
    let metrics = ask(server.http().expect("listens"), "GET /metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", metrics.head);
    assert!(metrics.body.contains("omma_phase{phase=\"starting\"} 1\n") && metrics.body.contains("omma_ready 0\n"));
}

#[test]
fn a_taken_port_is_said() {
    let first = serve(Watched::default(), 10);
    let options = ServerOptions { http: Some(first.http().expect("listens").to_string()), ..ServerOptions::default() };
    let error = Server::start(&options, Watched::default()).err().expect("refused").to_string();
    let expected = format!("cannot serve http on {}: ", first.http().expect("listens"));
    assert!(error.starts_with(&expected) && error.ends_with("choose another port or \"off\""), "{error}");
}

#[test]
fn a_client_that_says_nothing_keeps_nobody_waiting() {
    let server = serve(Watched::default(), 10);
    let silent: Vec<_> =
        (0..8).map(|_| TcpStream::connect(server.http().expect("listens")).expect("listens")).collect();
    assert_eq!(ask(server.http().expect("listens"), "GET /healthz").status, 200);
    drop(silent);
}

#[test]
fn every_metric_is_on_the_page_and_in_the_reference_and_nothing_else_is() {
    let (engine, frames) = engine();
    let watched = Watched::default();
    watched.show(engine.shared());
    let server = serve(watched, 1);
    let shared = Arc::clone(engine.shared());
    wait(|| shared.finished());
    wait(|| {
        ask(server.http().expect("listens"), "GET /metrics")
            .body
            .contains("omma_stage_seconds_count{stage=\"total\"} 3\n")
    });
    let page = ask(server.http().expect("listens"), "GET /metrics").body;
    let families: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').expect("a type"))
        .collect();
    let known: Vec<(&str, &str)> = FAMILIES.iter().map(|family| (family.name, family.kind.name())).collect();
    let mut sorted = (families.clone(), known.clone());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(known.iter().any(|(known, _)| *known == name || *known == stem), "{line}");
        assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
    }
    for expected in [
        format!("omma_frames_received_total {frames}\n"),
        "omma_frames_published_total 3\n".to_owned(),
        "omma_frames_dropped_total{reason=\"payload_empty\"} 1\n".to_owned(),
        "omma_frames_in_flight 0\n".to_owned(),
        "omma_camera_frames_published_total{camera=\"gate \\\"1\\\"\"} 2\n".to_owned(),
        "omma_camera_series_omitted 1\n".to_owned(),
        "omma_stage_seconds_bucket{stage=\"total\",le=\"+Inf\"} 3\n".to_owned(),
        "omma_model_frames_total{model=\"eyes\"} 3\n".to_owned(),
        "omma_sink_published_total{sink=\"out\"} 3\n".to_owned(),
        "omma_ready 1\n".to_owned(),
    ] {
        assert!(page.contains(&expected), "missing {expected}in\n{page}");
    }
    assert!(!page.contains("camera=\"gate 2\""), "one camera only may have series");

    let reference = include_str!("../../../docs/ref/metrics.md");
    let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = FAMILIES
        .iter()
        .map(|family| {
            let labels = if family.labels.is_empty() { "" } else { family.labels };
            format!("| `{}` | {} | {labels} | {} |", family.name, family.kind.name(), family.help)
        })
        .collect();
    assert_eq!(rows, expected, "docs/ref/metrics.md should have these rows:\n{}", expected.join("\n"));

    let report = engine.drain();
    assert_eq!((report.late, report.unsettled), (0, 0));
    assert_eq!(ask(server.http().expect("listens"), "GET /healthz").status, 503);
    assert_eq!(ask(server.http().expect("listens"), "GET /readyz").body, "not ready: the engine has stopped\n");
}

#[test]
fn names_follow_prometheus_conventions() {
    for family in FAMILIES {
        let counts = family.kind == Kind::Counter;
        assert_eq!(family.name.ends_with("_total"), counts, "{}", family.name);
        assert!(family.name.starts_with("omma_") || family.name.starts_with("process_"), "{}", family.name);
    }
}

#[test]
fn shutting_down_does_not_wait_for_clients() {
    let server = serve(Watched::default(), 1);
    let _open = TcpStream::connect(server.http().expect("listens")).expect("listens");
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// The least there is of everything: two cameras, four frames (one without bytes), a model that says nothing.
fn engine() -> (Engine, usize) {
    let cameras = Arc::new(Cameras::new(32));
    let plans: Vec<CameraPlan> = ["gate \"1\"", "gate 2"].map(camera).into();
    let indexes = cameras.add(plans.clone());
    let spec = PictureSpec {
        size: Size { width: 2, height: 2 },
        dtype: DType::U8,
        layout: Layout::Nchw,
        color: Color::Gray,
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
        picture: spec,
        parameters: Vec::new(),
        deadline: Duration::from_secs(10),
        warmup_batches: 0,
    };
    let sink = SinkPlan {
        name: "out".to_owned(),
        buffer_frames_max: 100,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
    };
    let payloads = [(0, "a"), (0, "b"), (1, ""), (1, "c")];
    let source = Once {
        arrivals: payloads
            .map(|(camera, bytes)| Arrival {
                camera: indexes[camera],
                sequence: None,
                captured_at: None,
                payload: Payload::Encoded(Bytes::from_static(bytes.as_bytes())),
                token: Token(0, 0),
                overtaken: 0,
                redelivered: false,
                name: None,
            })
            .into(),
    };
    let info =
        ModelInfo { runtime: "none".to_owned(), inputs: Vec::new(), outputs: Vec::new(), batch: BatchLimit::UpTo(64) };
    let open = |_| Ok::<Box<dyn Backend>, BackendError>(Box::new(Blind));
    let loaded = LoadedModel::new(info, Device::Cpu, Opener::Blocking(Box::new(open)));
    let parts = Parts {
        plan: Plan {
            engine: EnginePlan { metrics_interval: Duration::from_millis(10), ..EnginePlan::default() },
            models: vec![model],
            sinks: vec![sink],
            routes: vec![vec![0]],
            cameras: plans,
        },
        cameras,
        clock: Arc::new(SystemClock::new()),
        sources: vec![vec![SourcePart { source: Box::new(source), cameras: indexes }]],
        models: vec![ModelParts { version: 1, loaded, pictures: Arc::new(Blind), outputs: Arc::new(Blind) }],
        store: None,
        sinks: vec![Box::new(Blind)],
        cores: 1,
        begin_thread: omma_engine::threads::leave,
    };
    (Engine::start(parts).expect("starts"), payloads.len())
}

fn camera(id: &str) -> CameraPlan {
    CameraPlan {
        id: CameraId::new(id).expect("an id"),
        delivery: Delivery::Every,
        model: 0,
        route: 0,
        entry_ids: false,
        waiting_frames_max: 10,
        in_flight_frames_max: 10,
    }
}

/// Looks, with a limit, until something holds.
fn wait(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "waited too long");
        std::thread::yield_now();
    }
}

struct Once {
    arrivals: Vec<Arrival>,
}

impl Source for Once {
    fn poll(&mut self, _: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        arrivals.append(&mut self.arrivals);
        Ok(Polled::Ended)
    }

    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Decoder, model, reader of outputs and sink in one; none of them looks at anything.
struct Blind;

impl PictureDecoderFactory for Blind {
    fn open(&self) -> Box<dyn PictureDecoder> {
        Box::new(Self)
    }
}

impl PictureDecoder for Blind {
    fn decode(&mut self, _: &Payload, _: &mut [u8]) -> Result<Fit, PictureError> {
        let size = Size { width: 2, height: 2 };
        Ok(Fit::new(size, size, Resize::Stretch))
    }
}

impl Backend for Blind {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let zeros = vec![0.0; batch.len()];
        reply.outputs(&[TensorView { name: "nothing", shape: &[batch.len(), 1], values: Values::F32(&zeros) }]);
        Ok(())
    }
}

impl OutputDecoderFactory for Blind {
    fn open(&self) -> Box<dyn OutputDecoder> {
        Box::new(Self)
    }
}

impl OutputDecoder for Blind {
    fn decode(&mut self, _: &[TensorView<'_>], _: &Fit) -> Result<Output, OutputError> {
        Ok(Output::Nothing)
    }
}

impl Sink for Blind {
    fn publish(&mut self, _: &[FrameResult], _: &[Arc<omma_engine::cameras::Camera>]) -> Result<(), SinkError> {
        Ok(())
    }
}
