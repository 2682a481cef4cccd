//! Published frames as a real Redis has them, and what is said of those that it cannot have.

use std::time::{Duration, Instant};

use omma_adapters::redis::RedisOptions;
use omma_adapters::redis::wire::{self, Message, Reference, Wire};
use omma_frame::{Payload, PictureView, PixelFormat, Size, Unreadable};
use omma_publish::timing::{Bursts, End, Timing};
use omma_publish::{Carry, Counts, Form, Options, Pacing, Pictures, Publisher, Report, Unsent};
use omma_ring::{RingOptions, Rings, RingsOptions};
use omma_testkit::redis_server::{RedisCluster, RedisServer, RedisSetup, Reply};

const SIZE: Size = Size { width: 64, height: 64 };
const JPEG: Form = Form::Encoded { quality: 80 };
const PATIENCE: Duration = Duration::from_secs(30);

fn timing(fps: f64) -> Timing {
    Timing { fps, jitter: 0.0, bursts: None }
}

fn options(url: &str, cameras: usize, timing: Timing, end: End) -> Options {
    Options {
        redis: RedisOptions::new(url),
        wire: Wire::Own,
        entries_max: None,
        streams: (0..cameras).map(|camera| format!("f:{camera}")).collect(),
        pictures: Pictures::synthetic(1, cameras, SIZE, JPEG).expect("pictures"),
        carry: Carry::Bytes,
        pacing: Pacing::Timed { timing, end },
        workers: 2,
    }
}

fn publish(options: Options) -> Report {
    let publisher = Publisher::start(options).expect("started");
    until(|| publisher.finished());
    publisher.join().expect("a report")
}

fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The messages of a stream, as they read back.
fn messages(server: &RedisServer, stream: &str, wire: Wire) -> Vec<Message> {
    messages_with(server, stream, wire, &mut Rings::new(RingsOptions::default()))
}

fn messages_with(server: &RedisServer, stream: &str, wire: Wire, rings: &mut Rings) -> Vec<Message> {
    let entries = server.client().ok(&["XRANGE", stream, "-", "+"]);
    let bytes = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    let read = |entry: &Reply| {
        let fields: Vec<Vec<u8>> = entry.items()[1].items().iter().map(bytes).collect();
        let pairs = fields.chunks(2).map(|pair| (&pair[0][..], &pair[1][..]));
        let mut open = |reference: Reference<'_>| -> Result<_, Unreadable> {
            let Reference::Own { segment, generation, byte_len } = reference else { panic!("{reference:?}") };
            rings.handle(segment, generation, byte_len)
        };
        wire::read(wire, pairs, 1 << 20, Some(&mut open))
    };
    entries.items().iter().map(read).collect()
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().filter_map(|message| message.sequence).collect()
}

#[test]
fn every_camera_has_its_frames_in_its_order_with_their_times() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let report = publish(options(&server.unix_url(), 7, timing(200.0), End::Frames(20)));
    assert_eq!((report.counts.sent, report.counts.unsent_total()), (140, 0));
    assert_eq!(report.sent_by_camera, [20; 7]);
    for camera in 0..7 {
        let messages = messages(&server, &format!("f:{camera}"), Wire::Own);
        assert_eq!(sequences(&messages), (0..20).collect::<Vec<u64>>());
        let times: Vec<_> = messages.iter().map(|message| message.captured_at.expect("a time")).collect();
        assert!(times.is_sorted());
        let Payload::Encoded(jpeg) = &messages[0].payload else { panic!("{:?}", messages[0]) };
        assert!(jpeg.starts_with(&[0xFF, 0xD8]));
    }
}

#[test]
fn a_rate_is_exact_over_its_time() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let seconds = Duration::from_millis(500);
    let report = publish(options(&server.url(), 10, timing(30.0), End::After(seconds)));
    assert_eq!((report.counts.sent, report.counts.unsent_total()), (150, 0), "{report:?}");
    let bursts = Bursts { factor: 10.0, length: seconds / 5, every: seconds, cameras: 1 };
    let timing = Timing { bursts: Some(bursts), jitter: 0.5, ..timing(50.0) };
    let report = publish(options(&server.url(), 2, timing, End::After(seconds)));
    assert_eq!(report.sent_by_camera, [70, 25], "of 400 ms at 50 and 100 ms at 500, and of 500 ms at 50");
}

#[test]
fn handles_lead_to_the_pictures() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let name = format!("publish-test-{}", std::process::id());
    let nv12 = Form::Raw(PixelFormat::Nv12);
    let pictures = Pictures::synthetic(1, 1, SIZE, nv12).expect("pictures");
    let Payload::Raw(first) = pictures.show(0, 0).clone() else { panic!("raw expected") };
    let publisher = Publisher::start(Options {
        pictures,
        carry: Carry::Handles { name, ring: RingOptions::new(1 << 20) },
        ..options(&server.url(), 1, timing(1000.0), End::Frames(5))
    })
    .expect("started");
    let mut rings = Rings::new(RingsOptions::default());
    until(|| publisher.finished());
    let messages = messages_with(&server, "f:0", Wire::Own, &mut rings);
    assert_eq!(sequences(&messages), [0, 1, 2, 3, 4]);
    let Payload::Handle(handle) = &messages[0].payload else { panic!("{:?}", messages[0]) };
    let mut seen = Vec::new();
    let read = handle.segment.read(handle.generation, &mut |view| match view {
        PictureView::Raw(raw) => {
            assert_eq!((raw.size, raw.format), (SIZE, PixelFormat::Nv12));
            seen = raw.bytes.to_vec();
        }
        PictureView::Encoded(_) => panic!("raw expected"),
    });
    assert_eq!((read, &seen[..]), (Ok(()), &first.bytes[..]));
    publisher.join().expect("a report");
}

#[test]
fn the_python_pipeline_reads_its_own_fields() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    publish(Options { wire: Wire::Compat, ..options(&server.url(), 1, timing(1000.0), End::Frames(3)) });
    let messages = messages(&server, "f:0", Wire::Compat);
    assert_eq!(sequences(&messages), [0, 1, 2]);
    assert!(matches!(messages[0].payload, Payload::Encoded(_)));
    let names = server.client().ok(&["XRANGE", "f:0", "-", "+", "COUNT", "1"]);
    let fields: Vec<String> = names.items()[0].items()[1].items().iter().step_by(2).map(Reply::text).collect();
    assert_eq!(fields, ["frame_id", "ts_ns", "content"]);
}

#[test]
fn streams_are_trimmed() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    publish(Options { entries_max: Some(10), ..options(&server.url(), 1, timing(1000.0), End::Frames(500)) });
    let Reply::Int(kept) = server.client().ok(&["XLEN", "f:0"]) else { panic!("a length") };
    assert!((10..=120).contains(&kept), "MAXLEN ~ trims by whole nodes, {kept} are kept");
}

#[test]
fn a_cluster_gets_each_camera_where_its_slot_is() {
    let Some(cluster) = RedisCluster::start(3, false, &RedisSetup::default()) else { return };
    let streams = (0..20).map(|camera| format!("f:{{s{:02}}}:cam-{camera}", camera % 4)).collect();
    let base = options(&cluster.nodes[0].url(), 20, timing(200.0), End::Frames(10));
    let redis = RedisOptions { cluster: true, ..base.redis.clone() };
    let report = publish(Options { redis, streams, ..base });
    assert_eq!((report.counts.sent, report.counts.unsent_total()), (200, 0), "{report:?}");
    for camera in 0..20 {
        let stream = format!("f:{{s{:02}}}:cam-{camera}", camera % 4);
        assert_eq!(cluster.command(&[b"XLEN", stream.as_bytes()]), Reply::Int(10), "{stream}");
    }
}

/// Waits until this publisher's counts are so.
fn counts(publisher: &Publisher, mut so: impl FnMut(&Counts) -> bool) {
    until(|| so(&publisher.counts()));
}

#[test]
fn what_comes_due_while_redis_is_away_is_counted_and_not_kept() {
    let Some(mut server) = RedisServer::start(&RedisSetup::default()) else { return };
    let publisher = Publisher::start(options(&server.unix_url(), 10, timing(50.0), End::Never)).expect("started");
    counts(&publisher, |counts| counts.sent > 100);
    server.kill();
    counts(&publisher, |counts| counts.unsent(Unsent::Disconnected) > 500);
    server.restart();
    let sent = publisher.counts().sent;
    counts(&publisher, |counts| counts.sent > sent + 100);
    publisher.stop();
    let report = publisher.join().expect("a report");
    let unconfirmed = report.counts.unsent(Unsent::Unconfirmed);
    assert!(unconfirmed <= 2 * 512, "no more than the pipelines that were on their way: {unconfirmed}");
    assert!(report.said.contains_key(&Unsent::Disconnected), "{:?}", report.said);
    // The gap shows in the camera's own count, and what was missed did not come in a rush.
    let sequences = sequences(&messages(&server, "f:0", Wire::Own));
    assert!(sequences.is_sorted() && sequences[0] > 50, "{:?}", sequences.first());
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "after the restart nothing is missing");
}

#[test]
fn a_server_that_stops_answering_costs_what_comes_too_late() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let base = options(&server.unix_url(), 10, timing(50.0), End::Never);
    // Patient enough that the connection survives the pause.
    let redis = RedisOptions { reply_timeout: Duration::from_secs(30), ..base.redis.clone() };
    let publisher = Publisher::start(Options { redis, ..base }).expect("started");
    counts(&publisher, |counts| counts.sent > 100);
    server.pause();
    let paused = Instant::now();
    until(|| paused.elapsed() > Duration::from_millis(1500));
    server.resume();
    counts(&publisher, |counts| counts.unsent(Unsent::Behind) > 0);
    let sent = publisher.counts().sent;
    counts(&publisher, |counts| counts.sent > sent + 100);
    publisher.stop();
    let report = publisher.join().expect("a report");
    assert!(report.counts.late > 0 && report.lag_max > Duration::from_millis(500), "{report:?}");
    assert_eq!(report.counts.unsent_total(), report.counts.unsent(Unsent::Behind));
}

#[test]
fn a_server_out_of_memory_is_named() {
    let setup = RedisSetup { bytes_max: Some(2 << 20), ..RedisSetup::default() };
    let Some(server) = RedisServer::start(&setup) else { return };
    let publisher = Publisher::start(options(&server.url(), 4, timing(500.0), End::Never)).expect("started");
    counts(&publisher, |counts| counts.unsent(Unsent::OutOfMemory) > 100);
    publisher.stop();
    let report = publisher.join().expect("a report");
    assert!(report.said[&Unsent::OutOfMemory].starts_with("OOM"), "{:?}", report.said);
    assert!(report.counts.sent > 0);
}

#[test]
fn a_refusal_concerns_one_camera() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    server.client().ok(&["SET", "f:1", "no stream"]);
    let report = publish(options(&server.url(), 3, timing(500.0), End::Frames(10)));
    assert_eq!(report.sent_by_camera, [10, 0, 10]);
    assert_eq!(report.counts.reasons().collect::<Vec<_>>(), [(Unsent::Refused, 10)]);
    assert!(report.said[&Unsent::Refused].starts_with("WRONGTYPE"), "{:?}", report.said);
}

#[test]
fn a_picture_larger_than_the_ring_is_named() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let name = format!("publish-small-{}", std::process::id());
    let report = publish(Options {
        pictures: Pictures::synthetic(1, 1, SIZE, Form::Raw(PixelFormat::Rgb)).expect("pictures"),
        carry: Carry::Handles { name, ring: RingOptions::new(4096) },
        ..options(&server.url(), 1, timing(1000.0), End::Frames(5))
    });
    assert_eq!((report.counts.sent, report.counts.unsent(Unsent::Ring)), (0, 5));
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let Some(server) = RedisServer::start(&RedisSetup { password: Some("p".into()), ..RedisSetup::default() }) else {
        return;
    };
    let handles = Carry::Handles { name: "x".into(), ring: RingOptions::new(4096) };
    let base = |url: &str| options(url, 1, timing(1.0), End::Never);
    for (options, expected) in [
        (base("redis://127.0.0.1:1"), "127.0.0.1:1"),
        (base("http://127.0.0.1"), "expected a URL that begins with"),
        (base(&server.url()), "NOAUTH"),
        (Options { wire: Wire::Compat, carry: handles, ..base(&server.url()) }, "encoded pictures only"),
    ] {
        let error = Publisher::start(options).err().expect(expected);
        assert!(error.contains(expected), "{error}");
    }
}
