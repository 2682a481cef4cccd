//! The Python pipeline on both sides: its rings and messages read, its results written.
#![cfg(all(feature = "redis", target_os = "linux"))]

mod redis_rig;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use omma_adapters::redis::wire::Wire;
use omma_adapters::redis::{RedisOptions, StreamNames};
use omma_adapters::sink::redis::{Form, RedisSink, RedisSinkOptions, ResultNames};
use omma_adapters::source::redis::{RedisSource, RedisSourceOptions};
use omma_engine::cameras::Delivery;
use omma_engine::sink::Sink;
use omma_engine::source::{Arrival, Source};
use omma_frame::{FrameResult, Outcome, Output, Payload, PictureView, PixelFormat, Size};
use omma_ring::RingsOptions;
use omma_testkit::redis_server::{RedisServer, RedisSetup};
use omma_testkit::sink::result;
use omma_testkit::source::TestDemand;
use redis_rig::{PATIENCE, options, plan};

const SIZE: Size = Size { width: 8, height: 6 };
const FRAME: usize = 8 * 6 * 3;
const SLOTS: usize = 4;
const STRIDE: usize = 4096;

/// A ring with pictures 1 and 2 in it, as that pipeline's `ShmRingBuffer` leaves it: each filled with its number.
fn ring(folder: &Path, name: &str) {
    let number = |bytes: &mut [u8], at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let mut meta = vec![0; 768 + 48 * SLOTS];
    let header = [
        (0, 2),
        (36, SLOTS as u32),
        (40, SIZE.width),
        (44, SIZE.height),
        (664, 2),
        (668, FRAME as u32),
        (672, STRIDE as u32),
        (676, 0x4D41_5452),
        (680, 2),
    ];
    header.into_iter().for_each(|(at, value)| number(&mut meta, at, value));
    let mut frames = vec![0; SLOTS * STRIDE];
    for index in 1..=2 {
        let slot = index - 1;
        [(0, index as u32), (28, 2), (32, 2)]
            .into_iter()
            .for_each(|(at, value)| number(&mut meta, 768 + 48 * slot + at, value));
        frames[slot * STRIDE..][..FRAME].fill(index as u8);
    }
    for (name, bytes) in [(name.to_owned(), meta), (format!("{name}_frames"), frames)] {
        File::create(folder.join(name)).expect("a file").write_all_at(&bytes, 0).expect("written");
    }
}

fn pixels(arrival: &Arrival) -> Vec<u8> {
    let Payload::Handle(handle) = &arrival.payload else { panic!("{arrival:?}") };
    let mut seen = Vec::new();
    let read = handle.segment.read(handle.generation, &mut |view| {
        let PictureView::Raw(raw) = view else { panic!("raw pixels") };
        assert_eq!((raw.size, raw.format), (SIZE, PixelFormat::Bgr));
        seen = raw.bytes.to_vec();
    });
    assert_eq!(read, Ok(()));
    seen
}

#[test]
fn its_handles_are_read_and_its_results_bear_its_frame_ids() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let mut client = server.client();
    let folder = tempfile::tempdir_in("/dev/shm").expect("/dev/shm");
    ring(folder.path(), "shm_rb_gate");
    let usual = options(&server.url(), Delivery::Every);
    let names = StreamNames::parse("{camera}_input_topic").expect("a pattern");
    let options = RedisSourceOptions {
        wire: Wire::Compat,
        names,
        rings: RingsOptions { folder: folder.path().to_owned(), ..RingsOptions::default() },
        ..usual
    };
    for (frame_id, index) in [("5f2c0e", "1"), ("5f2c0f", "2"), ("7", "2"), ("5f2c10", "9")] {
        let handle = ["shm_mode", "1", "shm_name", "shm_rb_gate", "frame_idx", index, "format", "BGR"];
        let more = ["width", "8", "height", "6", "ts_ns", "1764090000000000000", "is_similar", "0"];
        let entry = ["XADD", "gate_input_topic", "*", "frame_id", frame_id];
        client.ok(&[&entry[..], &handle, &more].concat());
    }
    let cameras = options.cameras.add([plan("gate", Delivery::Every)]);
    let table = std::sync::Arc::clone(&options.cameras);
    let mut source = RedisSource::open(options, &cameras).expect("the options are right");
    let (mut arrivals, begin) = (Vec::new(), Instant::now());
    while arrivals.len() < 4 {
        source.poll(&TestDemand::new(32, 4096), &mut arrivals).expect("undisturbed");
        assert!(begin.elapsed() < PATIENCE, "{arrivals:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(arrivals[..3].iter().map(pixels).collect::<Vec<_>>(), [[1; FRAME], [2; FRAME], [2; FRAME]]);
    let Payload::Handle(handle) = &arrivals[3].payload else { panic!("{:?}", arrivals[3]) };
    let unwritten = handle.segment.read(handle.generation, &mut |_| {}).expect_err("it is not written yet");
    assert!(unwritten.message.contains("frame 9 is not written yet"), "{unwritten:?}");
    assert_eq!(arrivals.iter().map(|arrival| arrival.sequence).collect::<Vec<_>>(), [None, None, Some(7), None]);

    let results: Vec<FrameResult> = arrivals
        .into_iter()
        .zip([0, 1, 7, 8])
        .map(|(arrival, sequence)| FrameResult {
            token: arrival.token,
            name: arrival.name,
            ..result(arrival.camera, sequence, Outcome::Inferred(Output::Nothing))
        })
        .collect();
    let names = ResultNames::parse("{camera}_out").expect("a pattern");
    let options =
        RedisSinkOptions { form: Form::Compat, ..RedisSinkOptions::new(RedisOptions::new(&server.url()), names) };
    let mut sink = RedisSink::new(options, Vec::new()).expect("options that can be");
    sink.publish(&results, &table.snapshot()).expect("published");
    let entries = client.ok(&["XRANGE", "gate_out", "-", "+"]);
    let ids: Vec<[String; 2]> = entries
        .items()
        .iter()
        .map(|entry| {
            let fields = entry.items()[1].items();
            let data: serde_json::Value = serde_json::from_str(&fields[7].text()).expect("JSON");
            assert_eq!((fields[0].text(), fields[4].text()), ("frame_id".to_owned(), "message_key".to_owned()));
            assert_eq!(data["frame_id"], fields[1].text());
            [fields[1].text(), fields[5].text()]
        })
        .collect();
    assert_eq!(ids, ["5f2c0e", "5f2c0f", "7", "5f2c10"].map(|id| [id.to_owned(), id.to_owned()]));
}
