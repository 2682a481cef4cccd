//! The Redis source on a real server, undisturbed: the suite of all sources, groups, batches, discovery, leases, wires.

#![cfg(feature = "redis")]

mod redis_rig;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use omma_adapters::redis::StreamNames;
use omma_adapters::redis::wire::Wire;
use omma_adapters::source::redis::{CameraInbox, RedisSource, RedisSourceOptions};
use omma_engine::cameras::Delivery;
use omma_engine::source::{Fate, Settlement, Source};
use omma_frame::{CameraId, CameraIndex, DropReason, Payload};
use omma_testkit::redis_server::{RedisServer, RedisSetup, Reply};
use omma_testkit::source::{Specimen, TestDemand, conformance};
use redis_rig::{
    Had, LATEST, PATIENCE, camera, drive, drive_with, open, options, pending, plan, published, rest, write,
};

fn server() -> Option<RedisServer> {
    RedisServer::start(&RedisSetup::default())
}

#[test]
fn the_source_conforms_over_tcp_and_unix_sockets() {
    let Some(server) = server() else { return };
    let urls = [server.url(), server.unix_url()];
    let mut run = 0;
    conformance(|| {
        run += 1;
        let mut options = options(&urls[run % 2], Delivery::Every);
        // Each specimen has streams of its own.
        options.names = StreamNames::parse(&format!("run-{run}:{{camera}}")).expect("a pattern");
        options.name = format!("run-{run}");
        let mut client = server.client();
        for number in 0..5 {
            for seq in 0..30_u64 {
                let stream = format!("run-{run}:{}", camera(number));
                client.ok(&["XADD", &stream, "*", "seq", &seq.to_string(), "data", "x"]);
            }
        }
        let (source, cameras) = open(&options, 5);
        Specimen { source: Box::new(source), cameras, frames: 30, lossless: true, ends: false, keep: None }
    });
}

#[test]
fn every_frame_comes_once_in_order_and_is_acknowledged_when_it_is_settled() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..20).for_each(|number| write(&mut client, &camera(number), 0..100));
    let (mut source, cameras) = open(&options(&server.unix_url(), Delivery::Every), 20);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 2000);
    let expected: Vec<u64> = (0..100).collect();
    cameras.iter().for_each(|camera| assert_eq!(had.frames[camera], expected));
    rest(&mut source, || (0..20).all(|number| pending(&mut client, &camera(number)) == 0));
    assert!(had.errors.is_empty(), "{}", had.said());
}

#[test]
fn what_is_not_settled_or_settled_as_shutdown_is_delivered_again_to_the_next() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..30);
    let options = options(&server.url(), Delivery::Every);
    let (mut source, _) = open(&options, 1);
    let mut had = Had::default();
    let fate = |arrival: &omma_engine::source::Arrival| {
        let fate = match arrival.sequence {
            Some(seq) if seq % 3 == 0 => Fate::Dropped(DropReason::Shutdown),
            Some(seq) if seq % 3 == 1 => Fate::Dropped(DropReason::PictureCorrupt),
            _ => Fate::Published,
        };
        Settlement { fate, ..published(arrival) }
    };
    drive_with(&mut source, &mut had, &TestDemand::new(32, 64), |had| had.total() == 30, fate);
    drop(source);
    assert_eq!(pending(&mut client, "cam-0000"), 10);
    let (mut source, cameras) = open(&options, 1);
    let mut had = Had::default();
    write(&mut client, "cam-0000", 30..32);
    drive(&mut source, &mut had, |had| had.total() == 12);
    // What is pending comes before what is new.
    assert_eq!(had.frames[&cameras[0]], [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31]);
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
}

#[test]
fn a_batch_is_up_to_so_many_messages_within_the_time() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..4).for_each(|number| write(&mut client, &camera(number), 0..25));
    let (mut source, _) = open(&options(&server.unix_url(), Delivery::Every), 4);
    let mut sizes = Vec::new();
    let begin = Instant::now();
    while sizes.iter().sum::<usize>() < 100 {
        let batch = source.get_messages_batch(Duration::from_millis(500), 32).expect("an undisturbed source");
        sizes.push(batch.len());
        assert!(batch.len() <= 32 && begin.elapsed() < PATIENCE, "{sizes:?}");
    }
    assert_eq!(sizes, [32, 32, 32, 4]);
    let begin = Instant::now();
    let none = source.get_messages_batch(Duration::from_millis(50), 32).expect("an undisturbed source");
    assert!(none.is_empty() && begin.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_new_group_begins_at_the_start_or_at_the_end() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..3);
    for (group, from_start, expected) in [("old", true, vec![0, 1, 2, 3]), ("new", false, vec![3])] {
        let options =
            RedisSourceOptions { group: group.to_owned(), from_start, ..options(&server.url(), Delivery::Every) };
        let (mut source, cameras) = open(&options, 1);
        let groups = |client: &mut omma_testkit::redis_server::RedisClient| {
            client.ok(&["XINFO", "GROUPS", "omma:frames:cam-0000"]).items().len()
        };
        let before = groups(&mut client);
        rest(&mut source, || groups(&mut client) > before);
        if from_start {
            write(&mut client, "cam-0000", 3..4);
        } else {
            client.ok(&["XADD", "omma:frames:cam-0000", "*", "seq", "3", "data", "x"]);
        }
        let mut had = Had::default();
        drive(&mut source, &mut had, |had| had.total() >= expected.len());
        assert_eq!(had.frames[&cameras[0]], expected, "{group}");
        client.ok(&["XTRIM", "omma:frames:cam-0000", "MAXLEN", "3"]);
    }
}

#[test]
fn of_live_cameras_the_newest_frame_comes_and_the_overtaken_are_counted() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..3).for_each(|number| write(&mut client, &camera(number), 0..1000));
    let (mut source, cameras) = open(&options(&server.unix_url(), LATEST), 4);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 3);
    for camera in &cameras[..3] {
        assert_eq!((had.frames[camera].clone(), had.overtaken[camera]), (vec![999], 999));
    }
    // A burst while nobody reads.
    (0..3).for_each(|number| write(&mut client, &camera(number), 1000..1500));
    drive(&mut source, &mut had, |had| cameras[..3].iter().all(|camera| had.frames[camera].last() == Some(&1499)));
    for camera in &cameras[..3] {
        let received = had.frames[camera].len() as u64 + had.overtaken[camera];
        assert_eq!(received, 1500, "each frame is counted once");
        assert!(had.frames[camera].len() < 100, "{} frames were transferred", had.frames[camera].len());
    }
    // Frames that come as they are read are read like any other.
    for seq in 1500..1520 {
        write(&mut client, "cam-0000", seq..seq + 1);
        drive(&mut source, &mut had, |had| had.frames[&cameras[0]].last() == Some(&seq));
    }
    assert_eq!(had.frames[&cameras[0]].len() as u64 + had.overtaken[&cameras[0]], 1520);
    assert!(had.errors.is_empty(), "{}", had.said());
}

#[test]
fn streams_that_omma_writes_are_not_found_as_cameras() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    for stream in ["omma:gate", "omma:results:gate", "omma:results:results:gate", "omma:dead", "omma:yard"] {
        client.ok(&["XADD", stream, "*", "seq", "0", "data", "x"]);
    }
    let pattern = |text: &str| StreamNames::parse(text).expect("a pattern");
    let options = RedisSourceOptions {
        names: pattern("omma:{camera}"),
        not_cameras: vec![pattern("omma:results:{camera}")],
        discover_interval: Some(Duration::from_millis(20)),
        ..options(&server.url(), Delivery::Every)
    };
    let (mut source, _) = open(&options, 0);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 2);
    // Everything there was has been looked at when a camera that came later is found.
    client.ok(&["XADD", "omma:zoo", "*", "seq", "0", "data", "x"]);
    drive(&mut source, &mut had, |had| had.total() >= 3);
    let found: Vec<String> = options.cameras.snapshot().iter().map(|camera| camera.plan.id.to_string()).collect();
    let mut found: Vec<&str> = found.iter().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, ["gate", "yard", "zoo"]);
}

#[test]
fn cameras_are_found_by_their_streams_and_added_through_the_inbox() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "early", 0..2);
    client.ok(&["SET", "omma:frames:a-string", "x"]);
    client.ok(&["XADD", "omma:results:early", "*", "a", "b"]);
    let (inbox, mut ends) = CameraInbox::new(32, 1);
    let options = RedisSourceOptions {
        discover_interval: Some(Duration::from_millis(20)),
        inbox: ends.pop(),
        ..options(&server.url(), Delivery::Every)
    };
    let mut source = RedisSource::open(options.clone(), &[]).expect("the options are right");
    let mut frames: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut known: Vec<CameraIndex> = Vec::new();
    let mut written = false;
    let begin = Instant::now();
    while frames.values().map(Vec::len).sum::<usize>() < 6 {
        let mut arrivals = Vec::new();
        source.poll(&TestDemand::new(9, 99), &mut arrivals).expect("an undisturbed source");
        known.extend(source.found());
        for arrival in arrivals {
            assert!(known.contains(&arrival.camera), "found before it delivers");
            let id = options.cameras.snapshot()[arrival.camera.slot()].plan.id.to_string();
            frames.entry(id).or_default().push(arrival.sequence.expect("numbered"));
            source.settle(&[]).expect("accepted");
        }
        if known.len() == 1 && frames.len() == 1 && !written {
            written = true;
            write(&mut client, "late", 0..2);
            write(&mut client, "told", 0..2);
            inbox.add(CameraId::new("told").expect("an id")).expect("room");
            inbox.add(CameraId::new("early").expect("an id")).expect("room");
        }
        assert!(begin.elapsed() < PATIENCE, "{frames:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    let expected = ["early", "late", "told"].map(|id| (id.to_owned(), vec![0, 1]));
    assert_eq!(frames, BTreeMap::from(expected));
    assert_eq!(known.len(), 3);
}

#[test]
fn messages_of_the_python_pipeline_are_read_as_it_writes_them() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let jpeg: &[u8] = b"\xFF\xD8jpeg\xFF\xD9";
    let messages: [Vec<&[u8]>; 3] = [
        vec![b"XADD", b"cam1_input_topic", b"*", b"frame_id", b"1", b"content", jpeg, b"ts_ns", b"1764090000000000000"],
        vec![
            b"XADD",
            b"cam1_input_topic",
            b"*",
            b"frame_id",
            b"8d5f",
            b"input_stream__content",
            jpeg,
            b"width",
            b"1920",
            b"height",
            b"1080",
            b"input_stream",
            b"{\"ip_key_name\": \"default\"}",
        ],
        vec![
            b"XADD",
            b"cam1_input_topic",
            b"*",
            b"frame_id",
            b"3",
            b"shm_mode",
            b"1",
            b"shm_name",
            b"psm",
            b"frame_idx",
            b"0",
        ],
    ];
    for message in &messages {
        assert!(matches!(client.command(message), Ok(Reply::Bulk(_))));
    }
    let options = RedisSourceOptions {
        wire: Wire::Compat,
        names: StreamNames::parse("{camera}_input_topic").expect("a pattern"),
        ..options(&server.url(), Delivery::Every)
    };
    let indexes = options.cameras.add([plan("cam1", Delivery::Every)]);
    let mut source = RedisSource::open(options, &indexes).expect("the options are right");
    let mut batch = Vec::new();
    let begin = Instant::now();
    while batch.len() < 3 && begin.elapsed() < PATIENCE {
        batch.extend(source.get_messages_batch(Duration::from_millis(20), 3 - batch.len()).expect("undisturbed"));
    }
    let said: Vec<String> = batch
        .iter()
        .map(|arrival| match &arrival.payload {
            Payload::Encoded(bytes) => format!("{:?} {:?} {}", arrival.sequence, arrival.captured_at, bytes == jpeg),
            Payload::Unreadable(why) => format!("{:?} {}", arrival.sequence, why.reason.name()),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(said, ["Some(1) Some(UnixNanos(1764090000000000000)) true", "None None true", "Some(3) handle_invalid"]);
}

#[test]
fn the_stream_of_a_found_camera_that_is_deleted_is_not_made_again_and_read_on_when_it_is_back() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let exists = |client: &mut omma_testkit::redis_server::RedisClient, camera: &str| {
        client.ok(&["EXISTS", &format!("omma:frames:{camera}")]) == Reply::Int(1)
    };
    for delivery in [Delivery::Every, LATEST] {
        client.ok(&["FLUSHALL"]);
        let discover_interval = Some(Duration::from_millis(20));
        let options = RedisSourceOptions { discover_interval, ..options(&server.url(), delivery) };
        // One is named; another is found, and its gateway ends its session.
        let (mut source, cameras) = open(&options, 1);
        let mut had = Had::default();
        write(&mut client, "session", 0..3);
        drive(&mut source, &mut had, |had| had.frames.values().any(|frames| frames.contains(&2)));
        let session = options.cameras.find(&CameraId::new("session").expect("an id")).expect("found");
        client.ok(&["DEL", "omma:frames:session", "omma:frames:cam-0000"]);
        // That of the camera that was named is made again; the other's is looked at with the same command.
        drive(&mut source, &mut had, |_| exists(&mut client, "cam-0000"));
        write(&mut client, "cam-0000", 0..3);
        drive(&mut source, &mut had, |had| had.frames.get(&cameras[0]).is_some_and(|frames| frames.contains(&2)));
        assert!(!exists(&mut client, "session"), "{delivery:?}");
        assert!(had.errors.is_empty(), "a camera that has left is no fault: {}", had.said());
        write(&mut client, "session", 3..6);
        drive(&mut source, &mut had, |had| had.frames[&session].contains(&5));
        assert_eq!(options.cameras.len(), 2, "it is the same camera");
    }
}
