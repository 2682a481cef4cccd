//! Frames by handle through a whole engine: a real ring, real picture decoders, a model that answers with what it saw.
//!
//! What comes out is what the same pictures give by bytes; what was overwritten, or points nowhere, is dropped by name in
//! its camera's order; the ledger balances.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use omma_adapters::picture::{PictureLimits, factory};
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::clock::SystemClock;
use omma_engine::infer::backend::{
    Backend, BackendError, BatchInput, BatchLimit, Device, LoadedModel, ModelInfo, Opener, Reply,
};
use omma_engine::picture::{Color, Fit, Layout, PictureSpec, Resize};
use omma_engine::pipeline::{Engine, ModelParts, Parts, SourcePart};
use omma_engine::plan::{EnginePlan, Plan};
use omma_engine::post::{OutputDecoder, OutputDecoderFactory, OutputError};
use omma_engine::source::{Fate, Settlement};
use omma_engine::tensor::{DType, TensorView, Values};
use omma_engine::threads::leave;
use omma_frame::{
    Arrival, CameraId, CameraIndex, DropReason, FrameResult, Outcome, Output, Payload, PixelFormat, Size, Token,
    UnixNanos,
};
use omma_ring::{Format, Meta, Producer, RingOptions, Rings, RingsOptions};
use omma_testkit::engine_rig::{model_plan, sink_plan, until};
use omma_testkit::picture_fixtures::{Canvas, JpegKind, encoded};
use omma_testkit::sink::{SinkHandle, scripted};
use omma_testkit::source::{ManualHandle, manual};

const SIDE: u32 = 32;
const SIZE: Size = Size { width: SIDE, height: SIDE };
const VALUES: usize = (SIDE * SIDE) as usize * 3;

/// Answers with the picture itself.
struct Mirror;

impl Backend for Mirror {
    fn infer(&mut self, batch: BatchInput<'_>, reply: &mut dyn Reply) -> Result<(), BackendError> {
        let bytes = batch.tensor.bytes(batch.len());
        reply.outputs(&[TensorView { name: "seen", shape: &[batch.len(), VALUES], values: Values::U8(bytes) }]);
        Ok(())
    }
}

struct Seen;

impl OutputDecoderFactory for Seen {
    fn open(&self) -> Box<dyn OutputDecoder> {
        Box::new(Self)
    }
}

impl OutputDecoder for Seen {
    fn decode(&mut self, outputs: &[TensorView<'_>], _: &Fit) -> Result<Output, OutputError> {
        let &[TensorView { values: Values::U8(seen), .. }] = outputs else {
            return Err(OutputError { message: "expected one output of bytes".to_owned() });
        };
        Ok(Output::Embedding(seen.iter().map(|byte| f32::from(*byte)).collect()))
    }
}

/// An engine with one reader, and what it publishes.
struct Running {
    engine: Engine,
    source: ManualHandle,
    sink: SinkHandle,
    pushed: u64,
}

impl Running {
    fn start(cameras: usize) -> Self {
        let camera = |number: usize| CameraPlan {
            id: CameraId::new(&format!("cam-{number}")).expect("a camera id"),
            delivery: Delivery::Every,
            model: 0,
            route: 0,
            entry_ids: false,
            waiting_frames_max: 64,
            in_flight_frames_max: 64,
        };
        let plans: Vec<CameraPlan> = (0..cameras).map(camera).collect();
        let spec = PictureSpec {
            size: SIZE,
            dtype: DType::U8,
            layout: Layout::Nhwc,
            color: Color::Rgb,
            resize: Resize::Stretch,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let mut model = model_plan("mirror");
        model.picture = spec.clone();
        let engine = EnginePlan { readers: 1, error_results: true, ..EnginePlan::default() };
        let table = Arc::new(Cameras::new(engine.shards));
        let indexes = table.add(plans.clone());
        let (source, handle) = manual();
        let (sink, published) = scripted();
        let info = ModelInfo {
            runtime: "mirror".into(),
            inputs: vec![],
            outputs: vec![],
            batch: BatchLimit::UpTo(usize::MAX),
        };
        let opener = Opener::Blocking(Box::new(|_| Ok(Box::new(Mirror))));
        let loaded = LoadedModel { info, device: Device::Cpu, opener, memory: None, messages: None };
        let pictures = factory(spec, PictureLimits::default()).expect("a sound model input");
        let engine = Engine::start(Parts {
            plan: Plan {
                engine,
                models: vec![model],
                sinks: vec![sink_plan("sink")],
                routes: vec![vec![0]],
                cameras: plans,
            },
            cameras: table,
            clock: Arc::new(SystemClock::new()),
            sources: vec![vec![SourcePart { source: Box::new(source), cameras: indexes }]],
            models: vec![ModelParts { version: 1, loaded, pictures, outputs: Arc::new(Seen) }],
            sinks: vec![Box::new(sink)],
            cores: 2,
            begin_thread: leave,
            store: None,
        });
        let engine = engine.unwrap_or_else(|error| panic!("{error}"));
        Self { engine, source: handle, sink: published, pushed: 0 }
    }

    fn push(&mut self, camera: usize, sequence: u64, payload: Payload) {
        self.pushed += 1;
        self.source.push_arrival(Arrival {
            camera: CameraIndex(camera as u32),
            sequence: Some(sequence),
            captured_at: None,
            payload,
            token: Token(0, sequence),
            overtaken: 0,
            redelivered: false,
            name: None,
        });
    }

    fn settled(&self) -> u64 {
        let total = self.engine.shared().ledger.total();
        total.received - total.in_flight
    }

    /// Waits for everything pushed, drains, and holds the engine to the ledger and each camera to its order.
    fn stop(self, cameras: usize) -> Vec<Vec<FrameResult>> {
        until("every frame is settled", || self.settled() == self.pushed);
        let report = self.engine.drain();
        assert!(report.counts.balanced() && report.counts.in_flight == 0 && report.unsettled == 0, "{report:?}");
        assert_eq!(report.counts.received, self.pushed);
        let settlements: Vec<Settlement> = self.source.settlements();
        assert_eq!(settlements.len() as u64, self.pushed, "each frame is settled with its source, once");
        let mut by_camera = vec![Vec::new(); cameras];
        for result in self.sink.published() {
            by_camera[result.camera.slot()].push(result);
        }
        for results in &by_camera {
            assert!(results.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "order");
        }
        for settlement in &settlements {
            let camera = &by_camera[settlement.camera.slot()];
            let result = camera.iter().find(|result| result.sequence == settlement.sequence);
            let inferred = result.is_some_and(|result| matches!(result.outcome, Outcome::Inferred(_)));
            assert_eq!(settlement.fate == Fate::Published, inferred, "{settlement:?} {result:?}");
        }
        by_camera
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm")
}

fn producer(folder: &Path, bytes: u64) -> Producer {
    let options = RingOptions { folder: folder.to_owned(), ..RingOptions::new(bytes) };
    Producer::create("gateway", &options).expect("a ring")
}

fn rings(folder: &Path) -> Rings {
    Rings::new(RingsOptions { folder: folder.to_owned(), ..RingsOptions::default() })
}

/// The reason and the detail of a drop.
fn dropped(result: &FrameResult) -> Option<(DropReason, String)> {
    match &result.outcome {
        Outcome::Dropped { reason, detail } => Some((*reason, detail.as_deref().unwrap_or_default().to_owned())),
        Outcome::Inferred(_) => None,
    }
}

/// A picture in every format that a ring knows.
fn pictures(number: u64) -> Vec<(Format, Payload)> {
    let size = Size { width: 48 + 2 * (number % 9) as u32, height: 40 + 2 * (number % 5) as u32 };
    let canvas = Canvas::noise(size, number as u32);
    let raw = [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Gray, PixelFormat::Nv12, PixelFormat::I420];
    let mut pictures = vec![
        (Format::Jpeg, encoded(&canvas.jpeg(JpegKind { quality: 90, ..JpegKind::default() }))),
        (Format::Png, encoded(&canvas.png())),
    ];
    pictures.extend(raw.map(|format| (Format::Raw(format), canvas.raw(format))));
    pictures
}

#[test]
fn pictures_by_handle_give_what_the_same_pictures_give_by_bytes() {
    let folder = folder();
    let mut producer = producer(folder.path(), 8 << 20);
    let mut rings = rings(folder.path());
    let mut running = Running::start(2);
    let mut sequence = 0;
    for number in 0..30 {
        for (format, payload) in pictures(number) {
            let (bytes, size) = match &payload {
                Payload::Encoded(bytes) => (bytes.clone(), Size::default()),
                Payload::Raw(raw) => (raw.bytes.clone(), raw.size),
                other => panic!("no bytes: {other:?}"),
            };
            let meta = Meta { sequence, captured_at: UnixNanos(0), format, size };
            let generation = producer.write(&meta, &bytes).expect("room");
            let handle = rings.payload(producer.segment(), generation, bytes.len() as u64);
            running.push(0, sequence, handle);
            running.push(1, sequence, payload);
            sequence += 1;
        }
    }
    let results = running.stop(2);
    assert_eq!(results[0].len() as u64, sequence);
    for (handle, bytes) in results[0].iter().zip(&results[1]) {
        assert!(matches!(&handle.outcome, Outcome::Inferred(_)), "{:?}", dropped(handle));
        assert_eq!((handle.sequence, handle.size), (bytes.sequence, bytes.size));
        assert_eq!(handle.outcome, bytes.outcome, "frame {}", handle.sequence);
    }
}

/// A picture whose every byte is its number.
fn plain(number: u64) -> Vec<u8> {
    vec![number as u8; VALUES]
}

fn rgb(number: u64) -> Meta {
    Meta::raw(PixelFormat::Rgb, SIZE, number, UnixNanos(0))
}

fn of_number(result: &FrameResult) -> bool {
    let expected = f32::from(result.sequence as u8);
    matches!(&result.outcome, Outcome::Inferred(Output::Embedding(seen)) if seen.iter().all(|value| *value == expected))
}

#[test]
fn what_is_overwritten_before_it_is_read_is_dropped_by_name() {
    let folder = folder();
    // 3136 bytes each: ten fit.
    let mut producer = producer(folder.path(), 32 << 10);
    let mut rings = rings(folder.path());
    let mut running = Running::start(1);
    let handles: Vec<Payload> = (0..60)
        .map(|number| {
            let generation = producer.write(&rgb(number), &plain(number)).expect("room");
            rings.payload(producer.segment(), generation, VALUES as u64)
        })
        .collect();
    for (number, payload) in (0..).zip(handles) {
        running.push(0, number, payload);
    }
    let results = running.stop(1).remove(0);
    assert_eq!(results.len(), 60);
    for result in &results[..50] {
        let (reason, detail) = dropped(result).expect("overwritten");
        assert_eq!(reason, DropReason::HandleOverwritten);
        assert!(detail.contains("omma-gateway") && detail.contains("is overwritten"), "{detail}");
    }
    assert!(results[50..].iter().all(of_number));
}

#[test]
fn a_producer_that_overwrites_all_the_time_never_gets_a_torn_picture_through() {
    const FRAMES: u64 = 2000;
    let folder = folder();
    let mut producer = producer(folder.path(), 32 << 10);
    let mut rings = rings(folder.path());
    let mut running = Running::start(1);
    // Ten pictures are in the ring. Behind each handle the producer writes 1 to 12 more, while the engine reads it.
    let (allowed, latest) = (AtomicU64::new(1), Mutex::new(None));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            loop {
                match allowed.load(Ordering::SeqCst) {
                    u64::MAX => break,
                    bound if number >= bound => std::hint::spin_loop(),
                    _ => {
                        let generation = producer.write(&rgb(number), &plain(number)).expect("room");
                        *latest.lock().expect("no panic") = Some((number, generation));
                        number += 1;
                    }
                }
            }
        });
        for pushed in 0..FRAMES {
            let (number, generation) = loop {
                match latest.lock().expect("no panic").take() {
                    Some(handle) => break handle,
                    None => std::hint::spin_loop(),
                }
            };
            running.push(0, number, rings.payload("omma-gateway", generation, VALUES as u64));
            allowed.fetch_add(1 + pushed * 7 % 12, Ordering::SeqCst);
            until("the one before is read", || running.settled() + 1 >= running.pushed);
        }
        allowed.store(u64::MAX, Ordering::SeqCst);
    });
    let results = running.stop(1).remove(0);
    assert_eq!(results.len() as u64, FRAMES);
    let mut overwritten = 0;
    for result in &results {
        match dropped(result) {
            Some((reason, detail)) => {
                assert_eq!(reason, DropReason::HandleOverwritten, "{detail}");
                overwritten += 1;
            }
            None => assert!(of_number(result), "a torn picture: {}", result.sequence),
        }
    }
    assert!(overwritten > 20 && overwritten < FRAMES - 20, "{overwritten} overwritten: both must happen");
}

#[test]
fn handles_that_point_nowhere_are_dropped_by_name_and_the_next_frame_is_served() {
    let folder = folder();
    let mut rings = rings(folder.path());
    let mut running = Running::start(2);
    let mut gateway = producer(folder.path(), 1 << 20);
    let options = RingOptions { folder: folder.path().to_owned(), ..RingOptions::new(1 << 20) };
    let mut truncated = Producer::create("truncated", &options).expect("a ring");
    let mut lying = Producer::create("lying", &options).expect("a ring");
    let mut gone = Producer::create("gone", &options).expect("a ring");

    let at = gateway.write(&rgb(0), &plain(0)).expect("room");
    let (len, good) = (VALUES as u64, at);
    let first = truncated.write(&rgb(1), &plain(1)).expect("room");
    let by_truncated = rings.payload(truncated.segment(), first, len);
    let file = std::fs::OpenOptions::new().write(true).open(truncated.path()).expect("the segment");
    file.set_len(0).expect("truncated");
    let second = lying.write(&rgb(2), &plain(2)).expect("room");
    let by_lying = rings.payload(lying.segment(), second, len);
    let file = std::fs::OpenOptions::new().write(true).open(lying.path()).expect("the segment");
    std::os::unix::fs::FileExt::write_all_at(&file, &u64::MAX.to_le_bytes(), 4096 + second % (1 << 14) * 64 + 24)
        .expect("a hostile length");
    let third = gone.write(&rgb(3), &plain(3)).expect("room");
    let segment = gone.segment().to_owned();
    drop(gone);

    let table = [
        (rings.payload("omma-gateway", good, len), None),
        (by_truncated, Some("")),
        (by_lying, Some("18446744073709551615 bytes")),
        (rings.payload(&segment, third, len), Some("there is none in")),
        (rings.payload("/etc/passwd", 0, len), Some("begins with something else than")),
        (rings.payload("omma-gateway", good + 1, len), Some("says generation")),
        (rings.payload("omma-gateway", u64::MAX, len), Some("not written yet")),
        (rings.payload("omma-gateway", good, len), None),
    ];
    let expected: Vec<Option<&str>> = table.iter().map(|(_, expected)| *expected).collect();
    for (sequence, (payload, _)) in (0..).zip(table) {
        running.push(0, sequence, payload);
        running.push(
            1,
            sequence,
            Payload::Raw(Box::new(omma_frame::RawPicture {
                bytes: plain(sequence).into(),
                size: SIZE,
                format: PixelFormat::Rgb,
            })),
        );
    }
    let results = running.stop(2);
    for (result, expected) in results[0].iter().zip(expected) {
        match (dropped(result), expected) {
            (None, None) => {}
            (Some((reason, detail)), Some(text)) => {
                assert_eq!(reason, DropReason::HandleInvalid, "{detail}");
                assert!(detail.contains(text), "{detail}");
            }
            (found, expected) => panic!("frame {}: {found:?}, expected {expected:?}", result.sequence),
        }
    }
    assert_eq!(results[0].len(), 8);
    assert!(results[1].len() == 8 && results[1].iter().all(of_number), "another camera never notices");
}
