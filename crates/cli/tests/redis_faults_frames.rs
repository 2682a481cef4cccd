//! `omma run` with Redis in and out, and frames that are lost, too large, garbage or too many: what is missing is
//! counted, what is wrong is dropped by name, the others never notice.

#![cfg(feature = "redis")]

mod redis_rig;

use std::collections::BTreeMap;
use std::fs;

use omma_frame::{PixelFormat, Size, UnixNanos};
use omma_ring::{Meta, Producer, RingOptions};
use omma_testkit::redis_server::{RedisClient, RedisServer, RedisSetup, Reply};
use redis_rig::{
    FRAMES, Lines, PICTURE, RESULTS, Run, came_out, camera, count, entries, folder, publish, results, wait,
    wait_settled, write,
};

fn server() -> Option<RedisServer> {
    RedisServer::start(&RedisSetup::default())
}

fn add(client: &mut RedisClient, camera: &str, fields: &[&str]) {
    client.ok(&[&["XADD", &format!("{FRAMES}{camera}"), "*"], fields].concat());
}

#[test]
fn what_redis_trims_or_deletes_before_it_is_read_is_counted_as_lost() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), [camera(0), camera(1), camera(2)]);
    let [trimmed, deleted, whole] = &cameras;
    let lines = Lines {
        model: "runtime = \"simulated\"\nbase_ms = 20\ninstances = 1\nbatch_size = 4\nbatch_size_max = 4",
        source: "max_waiting_frames = 4\nin_flight_frames_max = 8",
        ..Lines::default()
    };
    let folder = folder(&server.unix_url(), &server.unix_url(), &lines);
    let run = Run::start(folder.path());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..1));
    wait("the first results", || count(&mut client, &cameras) == 3);
    cameras[..2].iter().for_each(|camera| write(&mut client, camera, 1..400));
    write(&mut client, whole, 1..60);
    wait("results", || count(&mut client, &cameras) >= 20);
    // Some of what goes is read already, some is pending.
    client.ok(&["XTRIM", &format!("{FRAMES}{trimmed}"), "MAXLEN", "20"]);
    client.ok(&["DEL", &format!("{FRAMES}{deleted}")]);
    write(&mut client, deleted, 400..420);
    let last = |client: &mut RedisClient, camera: &String| came_out(client, camera).last().copied();
    wait("the newest", || {
        (last(&mut client, trimmed), last(&mut client, deleted), last(&mut client, whole))
            == (Some(399), Some(419), Some(59))
    });
    wait_settled(&mut client, &cameras);
    let end = run.end();
    let frames = cameras.each_ref().map(|camera| came_out(&mut client, camera));
    frames.iter().for_each(|frames| assert!(frames.is_sorted_by(|a, b| a < b), "each once, in order: {frames:?}"));
    assert_eq!(frames[2], (0..60).collect::<Vec<_>>());
    assert!(frames[0].ends_with(&(380..400).collect::<Vec<_>>()) && frames[0].len() < 400, "{:?}", frames[0]);
    assert!(frames[1].ends_with(&(400..420).collect::<Vec<_>>()) && frames[1].len() < 420, "{:?}", frames[1]);
    assert_eq!(end["lost_upstream"], 400 + 420 - frames[0].len() - frames[1].len(), "{end}");
}

#[test]
fn an_entry_of_512_megabytes_is_passed_over_without_taking_memory() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), [camera(0), camera(1)]);
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    let run = Run::start(folder.path());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..50));
    wait("results", || count(&mut client, &cameras) == 100);
    let before = peak_mib(run.id());
    let stream = format!("{FRAMES}{}", cameras[0]);
    // The most that a server takes.
    let huge = vec![b'x'; 512 << 20];
    let added = client.command(&[b"XADD", stream.as_bytes(), b"*", b"seq", b"50", b"data", &huge]);
    assert!(matches!(added, Ok(Reply::Bulk(_))));
    drop(huge);
    cameras.iter().for_each(|camera| write(&mut client, camera, 51..100));
    wait("results", || count(&mut client, &cameras) == 198);
    wait_settled(&mut client, &cameras);
    let grown = peak_mib(run.id()) - before;
    assert!(grown < 64.0, "{grown} MiB");
    let end = run.end();
    assert_eq!(end["dropped"], serde_json::json!({ "payload_too_large": 1 }), "{end}");
    let expected: Vec<u64> = (0..50).chain(51..100).collect();
    cameras.iter().for_each(|camera| assert_eq!(came_out(&mut client, camera), expected));
}

/// The most memory that a process has had at once.
fn peak_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

#[test]
fn garbage_and_handles_to_nowhere_are_dropped_by_name_and_cost_nobody_else() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), [camera(0), camera(1)]);
    let [bad, good] = &cameras;
    let ring = |name: &str| {
        let name = format!("test-{name}-{}", std::process::id());
        Producer::create(&name, &RingOptions::new(8192)).expect("a ring")
    };
    let size = Size { width: 16, height: 16 };
    let picture = |producer: &mut Producer, number: u8| {
        let meta = Meta::raw(PixelFormat::Gray, size, u64::from(number), UnixNanos(0));
        producer.write(&meta, &[number; 256]).expect("room")
    };
    let [mut whole, mut truncated, mut gone] = ["whole", "truncated", "gone"].map(ring);
    let overwritten = picture(&mut whole, 0);
    let newest = (1..100).map(|number| picture(&mut whole, number)).last().expect("pictures");
    let of_truncated = picture(&mut truncated, 0);
    fs::OpenOptions::new().write(true).open(truncated.path()).expect("a segment").set_len(4096).expect("truncated");
    let of_gone = picture(&mut gone, 0);
    let of_nobody = gone.segment().to_owned();
    drop(gone);

    let mut seq = 0;
    let mut send = |fields: &[&str]| {
        let number = seq.to_string();
        add(&mut client, bad, &[&["seq", &number], fields].concat());
        seq += 1;
    };
    let handle = |segment: &str, generation: u64| {
        ["seg", segment, "gen", &generation.to_string(), "len", "256"].map(str::to_owned).to_vec()
    };
    let texts = |words: &[String]| words.to_vec();
    for fields in [
        handle(whole.segment(), newest),
        handle(whole.segment(), overwritten),
        handle(whole.segment(), newest + 1_000_000),
        handle(truncated.segment(), of_truncated),
        handle(&of_nobody, of_gone),
        handle("../../etc/passwd", 1),
        texts(&["data".to_owned(), "no picture".to_owned()]),
        texts(&["nothing".to_owned(), "known".to_owned()]),
        handle(whole.segment(), newest),
    ] {
        send(&fields.iter().map(String::as_str).collect::<Vec<_>>());
    }
    send(&PICTURE);
    write(&mut client, good, 0..50);

    let lines = Lines { engine: "error_results = true", ..Lines::default() };
    let folder = folder(&server.unix_url(), &server.unix_url(), &lines);
    let run = Run::start(folder.path());
    wait("results", || came_out(&mut client, bad).last() == Some(&9) && came_out(&mut client, good).len() == 50);
    wait_settled(&mut client, &cameras);
    let end = run.end();
    let said: Vec<(u64, String)> = results(&mut client, bad)
        .iter()
        .map(|result| {
            let reason = result["error"]["reason"].as_str().unwrap_or("inferred");
            (result["sequence"].as_u64().expect("a number"), reason.to_owned())
        })
        .collect();
    let expected = [
        "inferred",
        "handle_overwritten",
        "handle_invalid",
        "handle_invalid",
        "handle_invalid",
        "handle_invalid",
        "picture_corrupt",
        "entry_unreadable",
        "inferred",
        "inferred",
    ];
    assert_eq!(said, (0..).zip(expected.map(str::to_owned)).collect::<Vec<_>>(), "{end}");
    assert_eq!(came_out(&mut client, good), (0..50).collect::<Vec<_>>());
}

/// What a while of publishing came to.
struct While {
    frames: usize,
    /// From a frame's entry to its result's, by the server's clock: the 99th percentile of the cameras from the 100th on.
    calm_p99_ms: u64,
}

/// Publishes frames of 140 cameras for two seconds and looks at their results, which lie in streams of shards: there ids
/// are the server's time.
fn publish_a_while(server: &RedisServer, bursts: &[&str]) -> While {
    let mut client = server.client();
    let time = client.ok(&["TIME"]);
    let begin =
        time.items()[0].text() + &format!("{:06}", time.items()[1].text().parse::<u64>().expect("a number"))[..3];
    let begin_ms: u64 = begin.parse().expect("a number");
    let args = ["--cameras", "140", "--fps", "4", "--seconds", "2"];
    assert!(publish(&server.unix_url(), &[&args, bursts].concat()).status().expect("runs").success());
    let ms = |id: &str| id.split('-').next().and_then(|ms| ms.parse::<u64>().ok()).expect("an id");
    let shards: Vec<String> = (0..32).map(|shard| shard.to_string()).collect();
    let length = |client: &mut RedisClient, number| match client.ok(&["XLEN", &format!("{FRAMES}{}", camera(number))]) {
        Reply::Int(length) => usize::try_from(length).expect("a length"),
        other => panic!("{other:?}"),
    };
    let all: usize = (0..140).map(|number| length(&mut client, number)).sum();
    wait("all results", || count(&mut client, &shards) == all);
    let (mut delays, mut frames) = (Vec::new(), BTreeMap::<String, Vec<u64>>::new());
    for shard in &shards {
        for (id, fields) in entries(&mut client, &format!("{RESULTS}{shard}")) {
            let result: serde_json::Value = serde_json::from_str(&fields["data"]).expect("a result");
            let sent_ms = ms(result["entry"].as_str().expect("an id"));
            if sent_ms < begin_ms {
                continue;
            }
            let name = result["camera"].as_str().expect("a camera").to_owned();
            if name >= camera(100) {
                delays.push(ms(&id) - sent_ms);
            }
            frames.entry(name).or_default().push(result["sequence"].as_u64().expect("a number"));
        }
    }
    for (camera, frames) in &frames {
        assert_eq!(*frames, (frames[0]..frames[0] + frames.len() as u64).collect::<Vec<_>>(), "{camera}");
    }
    delays.sort_unstable();
    While { frames: frames.values().map(Vec::len).sum(), calm_p99_ms: delays[delays.len() * 99 / 100] }
}

#[test]
fn a_hundred_cameras_that_burst_do_not_delay_the_others() {
    let Some(server) = server() else { return };
    let model = "runtime = \"null\"\ninput = { width = 32, height = 32 }";
    let lines = Lines { model, sink: "stream = \"omma:results:{shard}\"", ..Lines::default() };
    let folder = folder(&server.unix_url(), &server.unix_url(), &lines);
    let run = Run::start(folder.path());
    let before = publish_a_while(&server, &[]);
    let during = publish_a_while(&server, &["--bursts", "50x0.25/1@100"]);
    assert!(during.frames > 5 * before.frames, "{} and {} frames", before.frames, during.frames);
    // Twice as long, and what a scheduler may add while publisher, Redis and an unoptimised omma share two cores with
    // whatever else runs there. Behind the bursts, ten thousand frames, the calm cameras would wait for a second and more.
    let (before_ms, during_ms) = (before.calm_p99_ms, during.calm_p99_ms);
    assert!(during_ms <= 2 * before_ms + 500, "p99 of the calm cameras {before_ms} ms, {during_ms} ms with bursts");
    let end = run.end();
    assert_eq!(end["published"], before.frames + during.frames, "{end}");
}
