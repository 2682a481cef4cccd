//! What the tests with a real Redis share: cameras, their frames, and a reader that does what the engine's does.

#![allow(dead_code)] // each test file uses its part

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omma_adapters::redis::RedisOptions;
use omma_adapters::source::redis::{RedisSource, RedisSourceOptions};
use omma_engine::cameras::{CameraPlan, Cameras, Delivery};
use omma_engine::source::{Arrival, Fate, Settlement, Source, SourceError};
use omma_frame::{CameraId, CameraIndex, DropReason, Payload};
use omma_testkit::redis_server::{RedisClient, Reply};
use omma_testkit::source::TestDemand;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn plan(id: &str, delivery: Delivery) -> CameraPlan {
    CameraPlan {
        id: CameraId::new(id).expect("an id"),
        delivery,
        model: 0,
        route: 0,
        entry_ids: true,
        waiting_frames_max: 64,
        in_flight_frames_max: 256,
    }
}

pub const LATEST: Delivery = Delivery::Latest { age_max: Duration::from_secs(3600) };

/// Options of a source whose leases are short, with the engine's table.
pub fn options(url: &str, delivery: Delivery) -> RedisSourceOptions {
    let mut redis = RedisOptions::new(url);
    redis.reply_timeout = Duration::from_secs(2);
    let cameras = Arc::new(Cameras::new(32));
    RedisSourceOptions {
        lease: Duration::from_secs(1),
        reconnect_max: Duration::from_millis(500),
        ..RedisSourceOptions::new("frames", redis, cameras, plan("template", delivery))
    }
}

/// `cam-0000` and so on.
pub fn camera(number: usize) -> String {
    format!("cam-{number:04}")
}

/// Opens a source of that many cameras.
pub fn open(options: &RedisSourceOptions, cameras: usize) -> (RedisSource, Vec<CameraIndex>) {
    let plans = (0..cameras).map(|number| plan(&camera(number), options.delivery));
    let indexes = options.cameras.add(plans.collect::<Vec<_>>());
    (RedisSource::open(options.clone(), &indexes).expect("the options are right"), indexes)
}

/// Writes frames `range` of a camera: the payload says which it is.
pub fn write(client: &mut RedisClient, camera: &str, range: std::ops::Range<u64>) {
    let stream = format!("omma:frames:{camera}");
    let commands: Vec<Vec<Vec<u8>>> = range
        .map(|seq| {
            let payload = format!("{camera}/{seq}");
            ["XADD", &stream, "*", "seq", &seq.to_string(), "data", &payload]
                .iter()
                .map(|word| word.as_bytes().to_vec())
                .collect()
        })
        .collect();
    for reply in commands.chunks(1000).flat_map(|chunk| client.pipeline(chunk).expect("the server answers")) {
        assert!(matches!(reply, Reply::Bulk(_)), "{reply:?}");
    }
}

/// How many entries are pending with the group.
pub fn pending(client: &mut RedisClient, camera: &str) -> i64 {
    let reply = client.ok(&["XPENDING", &format!("omma:frames:{camera}"), "omma"]);
    match reply.items().first() {
        Some(Reply::Int(count)) => *count,
        other => panic!("{other:?} in answer to XPENDING"),
    }
}

/// What a reader has had from a source.
#[derive(Default)]
pub struct Had {
    /// By camera the sequences, in order; frames without one count as 0.
    pub frames: BTreeMap<CameraIndex, Vec<u64>>,
    pub overtaken: BTreeMap<CameraIndex, u64>,
    /// Sequences of those that were marked so.
    pub redelivered: Vec<u64>,
    pub unreadable: Vec<(DropReason, String)>,
    pub errors: Vec<SourceError>,
}

impl Had {
    pub fn total(&self) -> usize {
        self.frames.values().map(Vec::len).sum()
    }

    pub fn note(&mut self, arrival: &Arrival) {
        self.frames.entry(arrival.camera).or_default().push(arrival.sequence.unwrap_or_default());
        *self.overtaken.entry(arrival.camera).or_default() += arrival.overtaken;
        self.redelivered.extend(arrival.sequence.filter(|_| arrival.redelivered));
        if let Payload::Unreadable(why) = &arrival.payload {
            self.unreadable.push((why.reason, why.message.clone()));
        }
    }

    pub fn said(&self) -> String {
        self.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// Settles an arrival as published.
pub fn published(arrival: &Arrival) -> Settlement {
    let fate = match &arrival.payload {
        Payload::Unreadable(why) => Fate::Dropped(why.reason),
        _ => Fate::Published,
    };
    Settlement { camera: arrival.camera, sequence: arrival.sequence.unwrap_or_default(), token: arrival.token, fate }
}

/// Polls and settles like a reader until `done`.
pub fn drive(source: &mut RedisSource, had: &mut Had, done: impl FnMut(&Had) -> bool) {
    drive_with(source, had, &TestDemand::new(32, 4096), done, published);
}

/// As [`drive`]; `fate` says what becomes of each, if anything does.
pub fn drive_with<F: Into<Option<Settlement>>>(
    source: &mut RedisSource,
    had: &mut Had,
    demand: &TestDemand,
    mut done: impl FnMut(&Had) -> bool,
    fate: impl Fn(&Arrival) -> F,
) {
    let begin = Instant::now();
    let mut arrivals = Vec::new();
    while !done(had) {
        if let Err(error) = source.poll(demand, &mut arrivals) {
            had.errors.push(error);
        }
        drop(source.found());
        let settlements: Vec<Settlement> = arrivals.iter().filter_map(|arrival| fate(arrival).into()).collect();
        arrivals.drain(..).for_each(|arrival| had.note(&arrival));
        source.settle(&settlements).expect("settlements are accepted");
        let waited = begin.elapsed() < PATIENCE;
        assert!(waited, "{} frames, {}", had.total(), had.said());
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Polls with no demand until `done`, so that what is settled is acknowledged.
pub fn rest(source: &mut RedisSource, mut done: impl FnMut() -> bool) {
    let mut had = Had::default();
    drive_with(source, &mut had, &TestDemand::new(0, 0), |_| done(), published);
    assert_eq!(had.total(), 0, "frames without demand");
}
