//! The Redis sink on a real server: what it writes, that each result is there once whatever is lost on the way, and what
//! it says when it cannot go on.
#![cfg(feature = "redis")]

use std::sync::Arc;
use std::time::Duration;

use omma_adapters::redis::{Password, RedisOptions};
use omma_adapters::sink::encode::ModelLabels;
use omma_adapters::sink::redis::{Form, RedisSink, RedisSinkOptions, ResultNames};
use omma_engine::cameras::Camera;
use omma_engine::sink::{Retry, Sink, SinkError};
use omma_frame::{CameraIndex, FrameResult, Outcome, Output, OwnedTensor, Token};
use omma_testkit::redis_proxy::{Network, Proxy};
use omma_testkit::redis_server::{RedisClient, RedisCluster, RedisServer, RedisSetup, Reply};
use omma_testkit::sink::{self, Mark, conformance, result};
use serde_json::Value;

const IDS: [&str; 3] = ["cam-a", "cam \"b\"", "каме\u{301}ра/3"];

fn server() -> Option<RedisServer> {
    RedisServer::start(&RedisSetup::default())
}

fn options(url: &str, pattern: &str) -> RedisSinkOptions {
    let redis = RedisOptions { reply_timeout: Duration::from_millis(500), ..RedisOptions::new(url) };
    RedisSinkOptions::new(redis, ResultNames::parse(pattern).expect("a pattern"))
}

fn sink_of(options: RedisSinkOptions) -> RedisSink {
    let models = vec![ModelLabels { name: "yolo".into(), labels: vec!["person".into()] }];
    RedisSink::new(options, models).expect("options that can be")
}

/// Cameras whose frames come out of Redis, or do not.
fn cameras(ids: &[&str], entry_ids: bool) -> Arc<Vec<Arc<Camera>>> {
    if entry_ids { sink::cameras_out_of_redis(ids) } else { sink::cameras(ids) }
}

fn frame(camera: u32, sequence: u64) -> FrameResult {
    let mut frame = result(CameraIndex(camera), sequence, Outcome::Inferred(Output::Nothing));
    frame.token = Token(1000 + sequence, 1);
    frame
}

fn frames(camera: u32, sequences: std::ops::Range<u64>) -> Vec<FrameResult> {
    sequences.map(|sequence| frame(camera, sequence)).collect()
}

/// Entries of a stream: ids, and the fields by name.
fn entries(client: &mut RedisClient, stream: &str) -> Vec<(String, Vec<(String, Vec<u8>)>)> {
    let reply = client.ok(&["XRANGE", stream, "-", "+"]);
    let entry = |entry: &Reply| {
        let [id, fields] = entry.items() else { panic!("an entry: {entry:?}") };
        let field = |pair: &[Reply]| match pair {
            [name, Reply::Bulk(value)] => (name.text(), value.clone()),
            other => panic!("a field: {other:?}"),
        };
        (id.text(), fields.items().chunks(2).map(field).collect())
    };
    reply.items().iter().map(entry).collect()
}

fn data(fields: &[(String, Vec<u8>)]) -> Value {
    let (_, data) = fields.iter().find(|(name, _)| name == "data").expect("data");
    if data[0] == b'{' {
        serde_json::from_slice(data).expect("JSON")
    } else {
        rmp_serde::from_slice(data).expect("MessagePack")
    }
}

fn sequences(client: &mut RedisClient, stream: &str) -> Vec<u64> {
    entries(client, stream).iter().map(|(_, fields)| data(fields)["sequence"].as_u64().expect("a number")).collect()
}

/// As the engine does: what is not done with is given again.
fn publish_all(
    sink: &mut RedisSink,
    results: &[FrameResult],
    cameras: &[Arc<Camera>],
    mut between: impl FnMut(&SinkError),
) {
    let mut left = results;
    let mut attempts = 0;
    while let Err(error) = sink.publish(left, cameras) {
        left = &left[error.published..];
        if left.is_empty() {
            return;
        }
        between(&error);
        attempts += 1;
        assert!(attempts < 1000, "{error}");
    }
}

#[test]
fn conforms() {
    let Some(server) = server() else { return };
    for (pattern, form) in [
        ("omma:results:{camera}", Form::Json),
        ("omma:results:{camera}", Form::MessagePack),
        ("omma:results:{camera}", Form::Compat),
        ("omma:results:{shard}", Form::Json),
        ("omma:results:{shard}", Form::MessagePack),
    ] {
        conformance(
            || {
                server.client().ok(&["FLUSHALL"]);
                sink_of(RedisSinkOptions { form, ..options(&server.unix_url(), pattern) })
            },
            |_| {
                // Streams do not tell the order between cameras; the suite's sequences rise in the order given.
                let mut client = server.client();
                let keys = client.ok(&["KEYS", "omma:results:*"]);
                let mut marks: Vec<Mark> = Vec::new();
                for key in keys.items() {
                    for (_, fields) in entries(&mut client, &key.text()) {
                        let data = data(&fields);
                        let result = if form == Form::Compat { &data["post_processing_result"] } else { &data };
                        let camera = result["camera"].as_str().expect("a camera").to_owned();
                        let sequence = result["sequence"].as_u64().expect("a number");
                        let own = marks.iter().rev().find(|(other, _)| *other == camera);
                        assert!(own.is_none_or(|(_, before)| *before < sequence), "{camera}: in its order");
                        marks.push((camera, sequence));
                    }
                }
                marks.sort_by_key(|(_, sequence)| *sequence);
                marks
            },
        );
    }
}

#[test]
fn a_frame_out_of_redis_has_its_own_id_and_others_the_servers() {
    let Some(server) = server() else { return };
    for (entry_ids, expected) in [(true, Some(["1000-1", "1001-1"])), (false, None)] {
        let mut client = server.client();
        client.ok(&["FLUSHALL"]);
        let mut sink = sink_of(options(&server.url(), "r:{camera}"));
        sink.publish(&frames(0, 0..2), &cameras(&["a"], entry_ids)).expect("published");
        let ids: Vec<String> = entries(&mut client, "r:a").into_iter().map(|(id, _)| id).collect();
        match expected {
            Some(expected) => assert_eq!(ids, expected),
            None => assert!(ids.iter().all(|id| id.starts_with("1") && id.len() > 13), "{ids:?}"),
        }
    }
}

#[test]
fn compat_entries_have_the_fields_of_the_python_pipeline() {
    let Some(server) = server() else { return };
    let mut sink = sink_of(RedisSinkOptions { form: Form::Compat, ..options(&server.url(), "{camera}_out") });
    sink.publish(&frames(0, 7..8), &cameras(&["gate"], true)).expect("published");
    let entries = entries(&mut server.client(), "gate_out");
    let names: Vec<&str> = entries[0].1.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["frame_id", "camera_id", "message_key", "data"]);
    let texts: Vec<String> =
        entries[0].1[..3].iter().map(|(_, value)| String::from_utf8(value.clone()).expect("UTF-8")).collect();
    assert_eq!(texts, ["7", "gate", "7"]);
    let data = data(&entries[0].1);
    let keys: Vec<&String> = data.as_object().expect("an object").keys().collect();
    let expected = ["frame_id", "metadata", "model_result", "post_processing_result", "processing_time", "stream_key"];
    assert_eq!(keys, expected);
}

#[test]
fn streams_are_trimmed_to_about_what_is_asked() {
    let Some(server) = server() else { return };
    for pattern in ["r:{camera}", "r:{shard}"] {
        let cameras = cameras(&["a"], true);
        let mut client = server.client();
        client.ok(&["FLUSHALL"]);
        let mut sink = sink_of(RedisSinkOptions { entries_max: Some(100), ..options(&server.url(), pattern) });
        sink.publish(&frames(0, 0..3000), &cameras).expect("published");
        let keys = client.ok(&["KEYS", "r:?"]);
        let length = client.ok(&["XLEN", &keys.items()[0].text()]);
        assert!(matches!(length, Reply::Int(100..=300)), "{length:?}");
        // What has been trimmed counts as published when it comes again.
        sink.publish(&frames(0, 2000..3000), &cameras).expect("published before");
        assert_eq!(client.ok(&["XLEN", &keys.items()[0].text()]), length);
    }
}

#[test]
fn what_comes_again_is_there_once() {
    let Some(server) = server() else { return };
    for pattern in ["r:{camera}", "r:{shard}"] {
        let cameras = cameras(&["a", "b"], true);
        let mut client = server.client();
        client.ok(&["FLUSHALL"]);
        // As after kill -9: the next process knows nothing, and gets everything that was not acknowledged again.
        for range in [0..50, 20..80, 0..100] {
            let mut sink = sink_of(options(&server.url(), pattern));
            let results: Vec<_> = [frames(0, range.clone()), frames(1, range)].concat();
            sink.publish(&results, &cameras).expect("published");
        }
        let keys = client.ok(&["KEYS", "r:?"]);
        let mut all: Vec<u64> = keys.items().iter().flat_map(|key| sequences(&mut client, &key.text())).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).flat_map(|n| [n, n]).collect::<Vec<_>>(), "{pattern}");
    }
}

#[test]
fn a_result_behind_later_ones_is_appended_once_under_its_name() {
    let Some(server) = server() else { return };
    let cameras = cameras(&["a"], true);
    let mut first = sink_of(options(&server.url(), "r:{camera}"));
    let mut second = sink_of(options(&server.url(), "r:{camera}"));
    first.publish(&frames(0, 0..5), &cameras).expect("published");
    // Another process has written 8 and 9 before this one comes to 5, 6 and 7, twice.
    second.publish(&frames(0, 8..10), &cameras).expect("published");
    first.publish(&frames(0, 5..8), &cameras).expect("published late");
    second.publish(&frames(0, 5..9), &cameras).expect("published before");
    // The next frame has the very id that was given to a late one.
    let mut next = frame(0, 10);
    next.token = Token(1009, 2);
    first.publish(&[next], &cameras).expect("published late");
    first.publish(&frames(0, 11..12), &cameras).expect("published");
    let mut client = server.client();
    assert_eq!(sequences(&mut client, "r:a"), [0, 1, 2, 3, 4, 8, 9, 5, 6, 7, 10, 11]);
    let late: Vec<String> = entries(&mut client, "r:a")
        .iter()
        .filter_map(|(_, fields)| fields.iter().find(|(name, _)| name == "entry"))
        .map(|(_, value)| String::from_utf8(value.clone()).expect("UTF-8"))
        .collect();
    assert_eq!(late, ["1005-1", "1006-1", "1007-1", "1009-2"]);
}

#[test]
fn a_result_behind_later_ones_is_appended_once_to_its_shards_stream() {
    let Some(server) = server() else { return };
    let cameras = cameras(&["a", "b"], true);
    let shard = cameras[0].shard;
    let stream = format!("r:{shard}");
    let mut first = sink_of(options(&server.url(), "r:{shard}"));
    let mut second = sink_of(options(&server.url(), "r:{shard}"));
    first.publish(&frames(0, 0..5), &cameras).expect("published");
    second.publish(&frames(0, 8..10), &cameras).expect("published");
    first.publish(&frames(0, 5..8), &cameras).expect("published late");
    second.publish(&frames(0, 4..10), &cameras).expect("published before");
    second.publish(&frames(1, 2..3), &cameras).expect("another camera's ids are its own");
    // An id of fewer digits is lower, whatever its first digit.
    let short = FrameResult { token: Token(999, 0), ..frame(0, 20) };
    first.publish(&[short.clone(), frame(0, 10), short], &cameras).expect("published late, once");
    let mut client = server.client();
    let of_camera: Vec<u64> = entries(&mut client, &stream)
        .iter()
        .map(|(_, fields)| data(fields))
        .filter(|data| data["camera"] == "a")
        .map(|data| data["sequence"].as_u64().expect("a number"))
        .collect();
    assert_eq!(of_camera, [0, 1, 2, 3, 4, 8, 9, 5, 6, 7, 20, 10]);
    // What is remembered is bounded, also where everything comes late.
    first.publish(&frames(0, 5000..9000), &cameras).expect("published");
    first.publish(&frames(0, 1000..3000), &cameras).expect("published late");
    let length = client.ok(&["LLEN", &format!("{{{stream}}}:seen:a")]);
    assert!(matches!(length, Reply::Int(1024..=1100)), "{length:?}");
}

#[test]
fn what_a_shards_stream_has_refused_is_not_taken_for_written() {
    let Some(server) = server() else { return };
    let cameras = cameras(&["a"], true);
    let stream = format!("r:{}", cameras[0].shard);
    let mut client = server.client();
    let mut sink = sink_of(options(&server.url(), "r:{shard}"));
    sink.publish(&[frames(0, 0..2), frames(0, 6..8)].concat(), &cameras).expect("published");
    for command in ["xadd", "rpush"] {
        client.ok(&["ACL", "SETUSER", "default", &format!("-{command}")]);
        let late_and_new = [frames(0, 2..4), frames(0, 8..10)].concat();
        sink.publish(&late_and_new, &cameras).expect_err("not allowed");
        client.ok(&["ACL", "SETUSER", "default", &format!("+{command}")]);
    }
    assert_eq!(sequences(&mut client, &stream), [0, 1, 6, 7]);
    sink.publish(&[frames(0, 2..4), frames(0, 8..10)].concat(), &cameras).expect("published");
    assert_eq!(sequences(&mut client, &stream), [0, 1, 6, 7, 2, 3, 8, 9]);
}

#[test]
fn a_refused_result_costs_its_camera_alone() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    client.ok(&["SET", "r:b", "no stream"]);
    let cameras = cameras(&["a", "b", "c"], true);
    let mut sink = sink_of(RedisSinkOptions { result_bytes_max: 4096, ..options(&server.url(), "r:{camera}") });
    let mut large = frame(2, 1);
    let tensor = OwnedTensor { name: "t".into(), shape: vec![4000], values: vec![0.5; 4000] };
    large.outcome = Outcome::Inferred(Output::Tensors(vec![tensor]));
    let results = [frame(0, 0), frame(1, 0), frame(0, 1), frame(1, 1), frame(2, 0), large, frame(2, 2)];
    let error = sink.publish(&results, &cameras).expect_err("some are refused");
    assert_eq!((error.published, error.refused.clone()), (7, vec![1, 3, 5]));
    let said = error.to_string();
    assert!(said.starts_with("r:{camera}: camera "), "{said}");
    assert!(said.contains("wrong kind of value") || said.contains("result_bytes_max"), "{said}");
    assert!(said.ends_with("(3 results are refused)"), "{said}");
    assert_eq!((sequences(&mut client, "r:a"), sequences(&mut client, "r:c")), (vec![0, 1], vec![0, 2]));

    // A shard's stream of the wrong type costs the cameras of that shard.
    let shard = cameras[0].shard;
    client.ok(&["SET", &format!("s:{shard}"), "no stream"]);
    let mut sink = sink_of(options(&server.url(), "s:{shard}"));
    let error = sink.publish(&[frame(0, 0)], &cameras[..1]).expect_err("refused");
    assert_eq!((error.published, error.refused.clone()), (1, vec![0]));
    assert!(error.to_string().contains("wrong kind of value"), "{error}");
}

/// What the server does to the sink, how it says so, and how it is put right.
struct Trouble {
    name: &'static str,
    begin: fn(&RedisServer),
    said: &'static str,
    /// The same within a script, if servers have other words for it there: Redis', Valkey's.
    said_in_script: &'static [&'static str],
    end: fn(&RedisServer),
}

const TROUBLES: [Trouble; 7] = [
    Trouble {
        name: "a script that does not end",
        begin: |server| {
            let mut other = server.client();
            other.ok(&["CONFIG", "SET", "busy-reply-threshold", "1"]);
            std::thread::spawn(move || other.command(&["EVAL", "while true do end", "0"]));
            let mut client = server.client();
            while !matches!(client.command(&["PING"]), Ok(Reply::Error(text)) if text.starts_with("BUSY")) {
                std::thread::yield_now();
            }
        },
        said: "is busy running a script",
        said_in_script: &[],
        end: |server| drop(server.client().ok(&["SCRIPT", "KILL"])),
    },
    Trouble {
        name: "out of memory",
        begin: |server| drop(server.client().ok(&["CONFIG", "SET", "maxmemory", "1"])),
        said: "OOM command not allowed",
        said_in_script: &[],
        end: |server| drop(server.client().ok(&["CONFIG", "SET", "maxmemory", "0"])),
    },
    Trouble {
        name: "a replica",
        begin: |server| drop(server.client().ok(&["REPLICAOF", "127.0.0.1", "1"])),
        said: "READONLY You can't write against a read only replica",
        said_in_script: &[],
        end: |server| drop(server.client().ok(&["REPLICAOF", "NO", "ONE"])),
    },
    Trouble {
        name: "too few replicas",
        begin: |server| {
            let mut client = server.client();
            client.ok(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        },
        said: "NOREPLICAS",
        said_in_script: &[],
        end: |server| drop(server.client().ok(&["CONFIG", "SET", "min-replicas-to-write", "0"])),
    },
    Trouble {
        name: "a password that omma does not have",
        begin: |server| {
            let mut client = server.client();
            client.ok(&["CONFIG", "SET", "requirepass", "secret"]);
            client.ok(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        },
        said: "NOAUTH Authentication required",
        said_in_script: &[],
        end: |server| {
            let mut client = RedisClient::connect(&server.socket()).expect("a socket");
            client.ok(&["AUTH", "secret"]);
            client.ok(&["CONFIG", "SET", "requirepass", ""]);
        },
    },
    Trouble {
        name: "a user that may not write",
        begin: |server| drop(server.client().ok(&["ACL", "SETUSER", "default", "-@write"])),
        said: "NOPERM",
        said_in_script: &["can't run this command", "ACL failure in script"],
        end: |server| drop(server.client().ok(&["ACL", "SETUSER", "default", "+@all"])),
    },
    Trouble {
        name: "a user that may not touch these streams yet",
        begin: |server| drop(server.client().ok(&["ACL", "SETUSER", "default", "-xadd", "-eval"])),
        said: "NOPERM",
        said_in_script: &["can't run this command", "ACL failure in script"],
        end: |server| drop(server.client().ok(&["ACL", "SETUSER", "default", "+@all"])),
    },
];

#[test]
fn trouble_of_the_server_is_said_and_waited_out() {
    let Some(server) = server() else { return };
    for pattern in ["r:{camera}", "r:{shard}"] {
        for entry_ids in [true, false] {
            for Trouble { name, begin, said, said_in_script, end } in TROUBLES {
                let mut client = server.client();
                client.ok(&["FLUSHALL"]);
                let cameras = cameras(&["a", "b"], entry_ids);
                let mut sink = sink_of(options(&server.url(), pattern));
                sink.publish(&frames(0, 0..2), &cameras).expect("published");
                begin(&server);
                let results = [frames(0, 2..5), frames(1, 0..5)].concat();
                let mut heard = Vec::new();
                publish_all(&mut sink, &results, &cameras, |error| {
                    assert_eq!(error.published, 0, "{name}: {error}");
                    heard.push((error.to_string(), error.retry));
                    if heard.len() == 3 {
                        end(&server);
                    }
                });
                let said_so = |text: &str| text.contains(said) || said_in_script.iter().any(|said| text.contains(said));
                assert!(heard.iter().any(|(text, _)| said_so(text)), "{name}: {heard:?}");
                assert_eq!(heard.last().map(|(_, retry)| *retry), Some(Retry::Backoff), "{name}");
                let mut client = server.client();
                let keys = client.ok(&["KEYS", "r:?"]);
                let mut all: Vec<u64> =
                    keys.items().iter().flat_map(|key| sequences(&mut client, &key.text())).collect();
                all.sort_unstable();
                assert_eq!(all, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "{name}, {pattern}");
            }
        }
    }
}

#[test]
fn a_wrong_password_is_said_without_it() {
    let Some(server) = RedisServer::start(&RedisSetup { password: Some("right".into()), ..RedisSetup::default() })
    else {
        return;
    };
    let mut options = options(&server.url(), "r:{camera}");
    for (password, said) in [(Some("hunter2"), "WRONGPASS"), (None, "NOAUTH")] {
        options.redis.password = password.map(Password::new);
        let error = sink_of(options.clone()).publish(&frames(0, 0..1), &cameras(&["a"], true)).expect_err("refused");
        assert_eq!((error.published, error.retry), (0, Retry::Backoff));
        assert!(error.to_string().contains(said) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn whatever_is_lost_on_the_way_each_result_is_there_once_and_in_order() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port());
    for pattern in ["r:{camera}", "r:{shard}"] {
        for entry_ids in [true, false] {
            let mut client = server.client();
            client.ok(&["FLUSHALL"]);
            let cameras = cameras(&IDS, entry_ids);
            let mut sink = sink_of(options(&proxy.url(), pattern));
            for round in 0..40_u64 {
                let range = round * 10..round * 10 + 10;
                let results: Vec<_> = range.flat_map(|n| (0..3).map(move |camera| frame(camera, n))).collect();
                // Answers break off at all kinds of places, also within those of the questions that follow.
                proxy.set(Network::BreaksAfter(round * 37 % 900));
                let mut breaks = 0;
                publish_all(&mut sink, &results, &cameras, |_| {
                    breaks += 1;
                    if breaks < 3 {
                        proxy.set(Network::BreaksAfter(breaks * round * 101 % 700));
                    }
                });
                proxy.set(Network::Passes);
            }
            let keys = client.ok(&["KEYS", "r:*"]);
            let mut by_camera: Vec<Vec<u64>> = vec![Vec::new(); 3];
            for key in keys.items() {
                for (_, fields) in entries(&mut client, &key.text()) {
                    let data = data(&fields);
                    let camera = IDS.iter().position(|id| data["camera"] == *id).expect("one of ours");
                    by_camera[camera].push(data["sequence"].as_u64().expect("a number"));
                }
            }
            for sequences in by_camera {
                assert_eq!(sequences, (0..400).collect::<Vec<_>>(), "{pattern}, own ids: {entry_ids}");
            }
        }
    }
}

/// As a server that was killed behind the transaction and before its answer, and is loading when it is back.
#[test]
fn a_result_whose_answer_was_lost_stays_in_doubt_while_the_server_refuses_to_say() {
    let Some(server) = server() else { return };
    let proxy = Proxy::start(server.port());
    for pattern in ["r:{camera}", "r:{shard}"] {
        let mut client = server.client();
        client.ok(&["FLUSHALL"]);
        let cameras = cameras(&["a"], false);
        let mut sink = sink_of(options(&proxy.url(), pattern));
        sink.publish(&frames(0, 0..1), &cameras).expect("published");
        proxy.set(Network::BreaksAfter(2));
        sink.publish(&frames(0, 1..4), &cameras).expect_err("the answer is lost");
        proxy.set(Network::Passes);
        client.ok(&["ACL", "SETUSER", "default", "-xrevrange"]);
        for _ in 0..3 {
            let error = sink.publish(&frames(0, 1..4), &cameras).expect_err("nothing is known");
            assert_eq!((error.published, error.retry), (0, Retry::Backoff));
            assert!(error.to_string().contains("NOPERM"), "{error}");
        }
        client.ok(&["ACL", "SETUSER", "default", "+xrevrange"]);
        sink.publish(&frames(0, 1..4), &cameras).expect("they are there");
        let keys = client.ok(&["KEYS", "r:?"]);
        assert_eq!(sequences(&mut client, &keys.items()[0].text()), [0, 1, 2, 3], "{pattern}");
    }
}

#[test]
fn a_server_that_is_away_or_frozen_is_said_within_its_timeout() {
    let Some(mut server) = server() else { return };
    let cameras = cameras(&["a"], true);
    let mut sink = sink_of(options(&server.url(), "r:{camera}"));
    sink.publish(&frames(0, 0..1), &cameras).expect("published");
    server.pause();
    let error = sink.publish(&frames(0, 1..2), &cameras).expect_err("no answer");
    assert!(error.to_string().contains("no answer within the timeout"), "{error}");
    server.resume();
    publish_all(&mut sink, &frames(0, 1..2), &cameras, |_| {});
    assert_eq!(sequences(&mut server.client(), "r:a"), [0, 1]);
    server.kill();
    let mut heard = Vec::new();
    publish_all(&mut sink, &frames(0, 2..3), &cameras, |error| {
        heard.push((error.to_string(), error.retry));
        if heard.len() == 3 {
            server.restart();
        }
    });
    assert_eq!(heard[0].1, Retry::Now, "a connection that worked may only have been closed");
    assert_eq!(heard[1].1, Retry::Backoff);
    assert!(heard[2].0.contains("Connection refused"), "{heard:?}");
}

#[test]
fn in_a_cluster_each_stream_is_at_its_node_and_slots_may_move() {
    let Some(cluster) = RedisCluster::start(3, false, &RedisSetup::default()) else { return };
    let ids: Vec<String> = (0..30).map(|n| format!("{{s{:02}}}:cam-{n}", n % 10)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let cameras = cameras(&ids, true);
    let [first, second, _] = &cluster.nodes[..] else { panic!("three masters") };
    for (pattern, from, to) in [("r:{camera}", first, second), ("{r{shard}}", second, first)] {
        let mut options = options(&cluster.nodes[0].url(), pattern);
        options.redis.cluster = true;
        let mut sink = sink_of(options);
        let all = |range: std::ops::Range<u64>| -> Vec<FrameResult> {
            range.flat_map(|n| (0..30).map(move |camera| frame(camera, n))).collect()
        };
        sink.publish(&all(0..5), &cameras).expect("published");
        // The first slots move to another master; the sink only knows the old map.
        let target = to.client().text(&["CLUSTER", "MYID"]);
        let owner = from.client().text(&["CLUSTER", "MYID"]);
        for slot in 0..2000 {
            to.client().ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "IMPORTING", &owner]);
            from.client().ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "MIGRATING", &target]);
            let keys = from.client().ok(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"]);
            for key in keys.items() {
                let port = to.port().to_string();
                from.client().ok(&["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "5000"]);
            }
        }
        let mut clients: Vec<_> = cluster.nodes.iter().map(RedisServer::client).collect();
        for slot in 0..2000 {
            clients.iter_mut().rev().for_each(|client| {
                client.ok(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &target]);
            });
        }
        publish_all(&mut sink, &all(0..8), &cameras, |_| {});
        let mut seen: Vec<(String, u64)> = Vec::new();
        for node in &cluster.nodes {
            let mut client = node.client();
            for key in client.ok(&["KEYS", "*r*"]).items().iter().map(Reply::text).filter(|key| !key.contains(":seen"))
            {
                for (_, fields) in entries(&mut client, &key) {
                    let data = data(&fields);
                    seen.push((
                        data["camera"].as_str().expect("a camera").into(),
                        data["sequence"].as_u64().expect("n"),
                    ));
                }
                client.ok(&["DEL", &key]);
            }
        }
        seen.sort();
        let mut expected: Vec<(String, u64)> =
            ids.iter().flat_map(|id| (0..8).map(|n| ((*id).to_owned(), n))).collect();
        expected.sort();
        assert_eq!(seen, expected, "{pattern}");
    }
}
