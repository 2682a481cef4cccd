//! The Redis source on a real server that is disturbed: nothing is lost that Redis still has, nothing comes twice to one
//! process without a reason, one camera's trouble is its own, and what went wrong is said.

#![cfg(feature = "redis")]

mod redis_rig;

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use omma_adapters::redis::Password;
use omma_adapters::redis::names::StreamNames;
use omma_adapters::source::redis::{RedisSource, RedisSourceOptions};
use omma_engine::cameras::{Cameras, Delivery};
use omma_engine::source::{Arrival, Fate, Settlement, SourceError};
use omma_frame::{DropReason, PixelFormat, Size, UnixNanos};
use omma_ring::{Meta, Producer, RingOptions, RingsOptions};
use omma_testkit::redis_proxy::{Network, Proxy};
use omma_testkit::redis_server::{RedisCluster, RedisServer, RedisSetup, Reply};
use omma_testkit::source::TestDemand;
use redis_rig::{Had, camera, drive, drive_with, open, options, pending, published, rest, write};

fn server() -> Option<RedisServer> {
    RedisServer::start(&RedisSetup::default())
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

/// All texts of an answer.
fn flat(reply: &Reply) -> String {
    match reply {
        Reply::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(" "),
        other => other.text(),
    }
}

#[test]
fn a_stream_that_is_deleted_while_it_is_read_goes_on_when_it_is_written_again() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..3).for_each(|number| write(&mut client, &camera(number), 0..10));
    let (mut source, cameras) = open(&options(&server.url(), Delivery::Every), 3);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 30);
    client.ok(&["DEL", "omma:frames:cam-0001"]);
    client.ok(&["XGROUP", "DESTROY", "omma:frames:cam-0002", "omma"]);
    for number in 0..3 {
        write(&mut client, &camera(number), 10..20);
    }
    // Of a group that is gone Redis knows no more what was acknowledged: those frames come again, as duplicates.
    drive(&mut source, &mut had, |had| cameras.iter().all(|camera| had.frames[camera].ends_with(&numbers(10..20))));
    assert_eq!(had.frames[&cameras[0]], numbers(0..20), "others see nothing of it");
    assert_eq!(had.frames[&cameras[1]], numbers(0..20));
    rest(&mut source, || (0..3).all(|number| pending(&mut client, &camera(number)) == 0));
}

#[test]
fn pending_entries_whose_bodies_were_trimmed_are_given_up() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..100);
    let options = options(&server.url(), Delivery::Every);
    let (mut source, _) = open(&options, 1);
    let mut had = Had::default();
    let again = |arrival: &_| Settlement { fate: Fate::Dropped(DropReason::Shutdown), ..published(arrival) };
    drive_with(&mut source, &mut had, &TestDemand::new(20, 20), |had| had.total() >= 20, again);
    drop(source);
    let left = pending(&mut client, "cam-0000");
    assert!(left >= 20, "{left}");
    client.ok(&["XTRIM", "omma:frames:cam-0000", "MAXLEN", "5"]);
    let (mut source, cameras) = open(&options, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 5);
    assert_eq!(had.frames[&cameras[0]], numbers(95..100), "what Redis still has");
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
    assert!(had.errors.is_empty(), "{}", had.said());
}

#[test]
fn entries_that_make_no_frame_are_told_by_name_and_the_next_is_whole() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let large = "x".repeat(3 << 20);
    let long = "9".repeat(5000);
    let entries: [(&[&str], Option<DropReason>); 8] = [
        (&["seq", "0", "data", "x"], None),
        (&["seq", "1"], Some(DropReason::EntryUnreadable)),
        (&["nothing", "known"], Some(DropReason::EntryUnreadable)),
        (&["seq", "minus one", "data", "x"], Some(DropReason::EntryUnreadable)),
        (&["seq", &long, "data", "x"], Some(DropReason::EntryUnreadable)),
        (&["seq", "5", "data", &large], Some(DropReason::PayloadTooLarge)),
        (&["seq", "7", "seg", "../../etc/passwd", "gen", "1", "len", "9"], Some(DropReason::HandleInvalid)),
        (&["seq", "8", "data", "x"], None),
    ];
    for (fields, _) in &entries {
        client.ok(&[&["XADD", "omma:frames:cam-0000", "*"], *fields].concat());
    }
    let options = RedisSourceOptions { payload_bytes_max: 1 << 20, ..options(&server.unix_url(), Delivery::Every) };
    let (mut source, _) = open(&options, 1);
    let mut had = Had::default();
    let mut reasons = Vec::new();
    drive_with(&mut source, &mut had, &TestDemand::new(32, 64), |had| had.total() == entries.len(), published);
    reasons.extend(had.unreadable.iter().map(|(reason, _)| *reason));
    let expected: Vec<DropReason> = entries.iter().filter_map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, expected, "{:?}", had.unreadable);
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
}

#[test]
fn a_batch_of_messages_comes_whole_and_what_went_wrong_beside_it_is_said_afterwards() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..100);
    client.ok(&["SET", "omma:frames:cam-0001", "no stream"]);
    let (mut source, cameras) = open(&options(&server.url(), Delivery::Every), 2);
    let (begin, mut frames, mut errors) = (Instant::now(), Vec::new(), Vec::new());
    while frames.len() < 100 || errors.is_empty() {
        match source.get_messages_batch(Duration::from_millis(100), 10) {
            Ok(messages) => frames.extend(messages.iter().filter_map(|message| message.sequence)),
            Err(error) => errors.push(error),
        }
        assert!(begin.elapsed() < redis_rig::PATIENCE, "{frames:?}, {errors:?}");
    }
    assert_eq!(frames, numbers(0..100));
    let wrong = |error: &SourceError| error.camera == Some(cameras[1]) && error.message.contains("cam-0001");
    assert!(errors.iter().all(wrong), "{errors:?}");
}

#[test]
fn a_frame_that_nobody_ever_settles_goes_to_the_dead_letters() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..3);
    let options = RedisSourceOptions { deliveries_max: 2, ..options(&server.url(), Delivery::Every) };
    // Whoever takes frame 1 dies of it.
    for _ in 0..2 {
        let (mut source, _) = open(&options, 1);
        let fate = |arrival: &Arrival| (arrival.sequence != Some(1)).then(|| published(arrival));
        let mut had = Had::default();
        let demand = TestDemand::new(32, 64);
        drive_with(&mut source, &mut had, &demand, |had| had.frames.values().any(|frames| frames.contains(&1)), fate);
    }
    assert_eq!(pending(&mut client, "cam-0000"), 1);
    let (mut source, _) = open(&options, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 1);
    assert_eq!(had.unreadable.first().map(|(reason, _)| *reason), Some(DropReason::Poisoned), "{:?}", had.unreadable);
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
    let letters = flat(&client.ok(&["XRANGE", "omma:dead", "-", "+"]));
    for part in ["omma:frames:cam-0000", "poisoned", "field.data", "cam-0000/1"] {
        assert!(letters.contains(part), "{part} in {letters}");
    }
    drop(source);
}

#[test]
fn frames_that_are_given_back_untried_are_never_poison() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..3);
    let options = RedisSourceOptions { deliveries_max: 2, ..options(&server.url(), Delivery::Every) };
    // As when results cannot be written, and omma is stopped in order again and again.
    for _ in 0..6 {
        let (mut source, _) = open(&options, 1);
        let back = |arrival: &Arrival| Settlement { fate: Fate::Dropped(DropReason::Shutdown), ..published(arrival) };
        drive_with(&mut source, &mut Had::default(), &TestDemand::new(32, 64), |had| had.total() == 3, back);
    }
    assert_eq!(pending(&mut client, "cam-0000"), 3);
    let (mut source, _) = open(&options, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 3);
    assert_eq!(had.unreadable, []);
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
}

#[test]
fn poison_that_cannot_be_put_aside_stays_pending_and_stops_nobody() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..2).for_each(|number| write(&mut client, &camera(number), 0..3));
    client.ok(&["SET", "omma:dead", "no stream"]);
    let options = RedisSourceOptions { deliveries_max: 1, ..options(&server.url(), Delivery::Every) };
    {
        // Whoever takes frame 1 of the first camera dies of it.
        let (mut source, cameras) = open(&options, 2);
        let dies = |arrival: &Arrival| arrival.camera == cameras[0] && arrival.sequence == Some(1);
        let fate = |arrival: &Arrival| (!dies(arrival)).then(|| published(arrival));
        drive_with(&mut source, &mut Had::default(), &TestDemand::new(32, 64), |had| had.total() == 6, fate);
    }
    let (mut source, _) = open(&options, 2);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.said().contains("1 poisoned entries stay pending until they can be copied"));
    assert!(had.said().contains("omma:dead") && had.said().contains("WRONGTYPE"), "{}", had.said());
    // Longer than a lease: they are renewed all the same.
    let begin = Instant::now();
    let mut next = 3;
    while begin.elapsed() < options.lease * 2 {
        (0..2).for_each(|number| write(&mut client, &camera(number), next..next + 1));
        next += 1;
        let expected = 1 + 2 * (next as usize - 3);
        drive(&mut source, &mut had, |had| had.total() >= expected);
    }
    // Nothing is acknowledged that is not put aside.
    rest(&mut source, || pending(&mut client, &camera(0)) == 1);
    client.ok(&["DEL", "omma:dead"]);
    rest(&mut source, || pending(&mut client, &camera(0)) == 0);
    assert!(flat(&client.ok(&["XRANGE", "omma:dead", "-", "+"])).contains("poisoned"));
}

#[test]
fn who_shares_cameras_out_otherwise_or_reads_other_streams_takes_nothing_from_others() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..8).for_each(|number| write(&mut client, &camera(number), 0..5));
    let all = options(&server.url(), Delivery::Every);
    let (mut source, _) = open(&all, 8);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 40);
    // As many shards in another process, but of other streams.
    (0..8).for_each(|number| {
        let stream = format!("site-b:{}", camera(number));
        client.ok(&["XADD", &stream, "*", "seq", "0", "data", "x"]);
    });
    let names = StreamNames::parse("site-b:{camera}").expect("a pattern");
    let other = RedisSourceOptions { names, identity: Some("other".into()), ..options(&server.url(), Delivery::Every) };
    let (mut elsewhere, _) = open(&other, 8);
    let mut there = Had::default();
    drive(&mut elsewhere, &mut there, |had| had.total() == 8);
    // Another number of shards: it says so, and the first goes on.
    let mut odd = options(&server.url(), Delivery::Every);
    (odd.shards, odd.cameras, odd.identity) = (16, Arc::new(Cameras::new(16)), Some("odd".into()));
    let (mut late, _) = open(&odd, 8);
    let mut nothing = Had::default();
    drive(&mut late, &mut nothing, |had| !had.errors.is_empty());
    let said = nothing.said();
    assert!(said.contains("another process has 32 shards") && said.contains("max_consumer_shards"), "{said}");
    (0..8).for_each(|number| write(&mut client, &camera(number), 5..10));
    drive(&mut source, &mut had, |had| had.total() == 80);
    assert_eq!(nothing.total(), 0);
    // Once the first has left, its cameras are the other's.
    drop(source);
    (0..8).for_each(|number| write(&mut client, &camera(number), 10..12));
    drive(&mut late, &mut nothing, |had| had.total() == 16);
}

#[test]
fn a_server_that_is_killed_comes_back_with_what_it_had_on_disk() {
    for append_only in [true, false] {
        let setup = RedisSetup { append_only, ..RedisSetup::default() };
        let Some(mut server) = RedisServer::start(&setup) else { return };
        let mut client = server.client();
        (0..4).for_each(|number| write(&mut client, &camera(number), 0..50));
        let (mut source, cameras) = open(&options(&server.unix_url(), Delivery::Every), 4);
        let mut had = Had::default();
        drive(&mut source, &mut had, |had| had.total() >= 60);
        server.kill();
        let before = had.errors.len();
        drive(&mut source, &mut had, |had| had.errors.len() > before);
        server.restart();
        let mut client = server.client();
        (0..4).for_each(|number| write(&mut client, &camera(number), 50..60));
        drive(&mut source, &mut had, |had| {
            cameras.iter().all(|camera| had.frames.get(camera).is_some_and(|frames| frames.contains(&59)))
        });
        for camera in &cameras {
            let mut frames = had.frames[camera].clone();
            frames.sort_unstable();
            frames.dedup();
            if append_only {
                assert_eq!(frames, numbers(0..60), "nothing is lost");
            } else {
                assert!(frames.ends_with(&numbers(50..60)), "what Redis has lost is lost, what comes then is read");
            }
        }
        rest(&mut source, || (0..4).all(|number| pending(&mut client, &camera(number)) == 0));
    }
}

#[test]
fn a_server_that_stops_for_a_while_costs_time_and_no_frames() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    (0..4).for_each(|number| write(&mut client, &camera(number), 0..200));
    let (mut source, cameras) = open(&options(&server.url(), Delivery::Every), 4);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() >= 100);
    server.pause();
    // The answer that is owed does not come: it is said, and the leases run out.
    let (begin, before) = (Instant::now(), had.errors.len());
    drive(&mut source, &mut had, |had| had.errors.len() > before && begin.elapsed() > Duration::from_secs(3));
    server.resume();
    drive(&mut source, &mut had, |had| cameras.iter().all(|camera| had.frames[camera].contains(&199)));
    for camera in &cameras {
        let mut frames = had.frames[camera].clone();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames, numbers(0..200));
    }
    rest(&mut source, || (0..4).all(|number| pending(&mut client, &camera(number)) == 0));
}

#[test]
fn a_network_that_breaks_anywhere_in_an_answer_loses_nothing() {
    // Cameras, frames of each, bytes of an answer: all streams at once, and few in each of reads that overlap.
    for (count, frames, reply_bytes) in [(4, 300, 4 << 20), (40, 30, 2 << 10)] {
        let Some(server) = server() else { return };
        let mut client = server.client();
        let proxy = Proxy::start(server.port());
        (0..count).for_each(|number| write(&mut client, &camera(number), 0..frames));
        let usual = options(&proxy.url(), Delivery::Every);
        let options = RedisSourceOptions { read_frames_max: 4, reply_bytes, ..usual };
        let (mut source, cameras) = open(&options, count);
        let mut had = Had::default();
        for bytes in [1, 40, 333, 1000, 2500, 4001, 7000] {
            proxy.set(Network::BreaksAfter(bytes));
            let aim = (had.total() + 100).min(1200);
            drive(&mut source, &mut had, |had| had.total() >= aim);
        }
        proxy.set(Network::Cut);
        let before = had.errors.len();
        drive(&mut source, &mut had, |had| had.errors.len() > before);
        proxy.set(Network::Slow(Duration::from_millis(20)));
        let last = frames - 1;
        let all = |had: &Had| cameras.iter().all(|camera| had.frames.get(camera).is_some_and(|f| f.contains(&last)));
        drive(&mut source, &mut had, all);
        for camera in &cameras {
            assert_eq!(had.frames[camera], numbers(0..frames), "each once and in order");
        }
        rest(&mut source, || (0..count).all(|number| pending(&mut client, &camera(number)) == 0));
    }
}

#[test]
fn who_may_not_read_a_stream_is_told_and_the_others_are_read() {
    let setup = RedisSetup { password: Some("sesame".into()), ..RedisSetup::default() };
    let Some(server) = RedisServer::start(&setup) else { return };
    let mut client = server.client();
    client.ok(&["ACL", "SETUSER", "eyes", "on", ">look", "+@all", "~omma:lease:*", "~omma:frames:cam-0000"]);
    (0..2).for_each(|number| write(&mut client, &camera(number), 0..10));
    let mut options = options(&server.url(), Delivery::Every);
    for (username, password, expected) in [
        (None, None, "password_env"),
        (None, Some("wrong-one"), "look at username and password"),
        (Some("eyes"), Some("look"), "NOPERM"),
    ] {
        options.redis.username = username.map(str::to_owned);
        options.redis.password = password.map(Password::new);
        let (mut source, cameras) = open(&options, 2);
        let mut had = Had::default();
        drive(&mut source, &mut had, |had| had.said().contains(expected));
        assert!(!had.said().contains("wrong-one"));
        if username.is_some() {
            drive(&mut source, &mut had, |had| had.total() == 10);
            assert_eq!(had.frames[&cameras[0]], numbers(0..10));
        }
    }
}

#[test]
fn of_a_cluster_whose_master_is_killed_the_others_go_on_and_its_replica_takes_over() {
    let setup = RedisSetup::default();
    let Some(mut cluster) = RedisCluster::start(3, true, &setup) else { return };
    let add = |cluster: &RedisCluster, number: usize, range: std::ops::Range<u64>| {
        let stream = format!("omma:frames:{}", camera(number));
        for seq in range {
            let reply =
                cluster.command(&[b"XADD", stream.as_bytes(), b"*", b"seq", seq.to_string().as_bytes(), b"data", b"x"]);
            assert!(matches!(reply, Reply::Bulk(_)), "{reply:?}");
        }
    };
    (0..12).for_each(|number| add(&cluster, number, 0..10));
    let mut options = options(&cluster.nodes[0].url(), Delivery::Every);
    options.redis.cluster = true;
    let (mut source, cameras) = open(&options, 12);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 120);
    assert!(had.errors.is_empty(), "{}", had.said());
    // What is acknowledged reaches the replica a moment later; what is not comes again.
    cluster.nodes[1].kill();
    drive(&mut source, &mut had, |had| !had.errors.is_empty());
    cluster.wait_for("cluster_size:3");
    let replica = format!(":{}@", cluster.nodes[4].port());
    let is_master = |nodes: String| nodes.lines().any(|line| line.contains(&replica) && line.contains("master"));
    let taken_over = |cluster: &RedisCluster| {
        let living = cluster.nodes.iter().filter(|node| node.process().is_some());
        living.map(|node| node.client().text(&["CLUSTER", "NODES"])).all(&is_master)
    };
    drive(&mut source, &mut had, |_| taken_over(&cluster));
    cluster.wait_for("cluster_state:ok");
    (0..12).for_each(|number| add(&cluster, number, 10..20));
    drive(&mut source, &mut had, |had| cameras.iter().all(|camera| had.frames[camera].contains(&19)));
    for camera in &cameras {
        let mut frames = had.frames[camera].clone();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames, numbers(0..20));
    }
}

#[test]
fn a_backlog_of_a_million_entries_comes_through_in_order() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let count = 250_000;
    (0..4).for_each(|number| write(&mut client, &camera(number), 0..count));
    let (mut source, cameras) = open(&options(&server.unix_url(), Delivery::Every), 4);
    let mut had = Had::default();
    drive_with(&mut source, &mut had, &TestDemand::new(1024, 4096), |had| had.total() == 4 * count as usize, published);
    for camera in &cameras {
        assert!(had.frames[camera].iter().copied().eq(0..count), "each once and in order");
    }
    rest(&mut source, || (0..4).all(|number| pending(&mut client, &camera(number)) == 0));
}

#[test]
fn two_processes_share_the_cameras_and_one_that_leaves_hands_its_own_over() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let options = options(&server.unix_url(), Delivery::Every);
    let named = |name: &str| RedisSourceOptions { identity: Some(name.to_owned()), ..options.clone() };
    let (mut first, cameras) = open(&named("first"), 40);
    let mut had = [Had::default(), Had::default()];
    (0..40).for_each(|number| write(&mut client, &camera(number), 0..10));
    drive(&mut first, &mut had[0], |had| had.total() == 400);
    let (mut second, _) = open(&named("second"), 40);
    // Leases move to the second one, a few at a time, as the first is drained of them.
    let mut seq = 10;
    let begin = Instant::now();
    while had[1].frames.len() < 15 {
        assert!(begin.elapsed() < redis_rig::PATIENCE, "{} cameras of 40", had[1].frames.len());
        (0..40).for_each(|number| write(&mut client, &camera(number), seq..seq + 1));
        seq += 1;
        let aim = 40 * seq as usize - had[1].total();
        let both = |first: &Had, second: &Had| first.total() + second.total();
        let total = 40 * seq as usize;
        while both(&had[0], &had[1]) < total {
            let until = Instant::now() + Duration::from_millis(20);
            drive(&mut first, &mut had[0], |had| had.total() >= aim || Instant::now() > until);
            let until = Instant::now() + Duration::from_millis(20);
            drive(&mut second, &mut had[1], |_| Instant::now() > until);
            assert!(begin.elapsed() < redis_rig::PATIENCE, "frames are missing");
        }
    }
    drop(first);
    (0..40).for_each(|number| write(&mut client, &camera(number), seq..seq + 5));
    seq += 5;
    let before = had[0].total();
    drive(&mut second, &mut had[1], |had| before + had.total() >= 40 * seq as usize);
    for camera in &cameras {
        let mut frames: Vec<u64> = had.iter().filter_map(|had| had.frames.get(camera)).flatten().copied().collect();
        assert!(had.iter().all(|had| had.frames.get(camera).is_none_or(|frames| frames.is_sorted())), "in order");
        frames.sort_unstable();
        assert_eq!(frames, numbers(0..seq), "each once");
    }
}

#[test]
fn what_another_consumer_has_left_is_taken_over() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    write(&mut client, "cam-0000", 0..10);
    client.ok(&["XGROUP", "CREATE", "omma:frames:cam-0000", "omma", "0"]);
    let stream = "omma:frames:cam-0000";
    client.ok(&["XREADGROUP", "GROUP", "omma", "stranger", "COUNT", "4", "STREAMS", stream, ">"]);
    let options =
        RedisSourceOptions { claim_idle: Duration::from_millis(1), ..options(&server.url(), Delivery::Every) };
    let (mut source, cameras) = open(&options, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 10);
    assert_eq!(had.frames[&cameras[0]], numbers(0..10));
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
}

#[test]
fn what_another_consumer_has_left_is_taken_over_while_new_frames_flow() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let stream = "omma:frames:cam-0000";
    write(&mut client, "cam-0000", 0..2000);
    client.ok(&["XGROUP", "CREATE", stream, "omma", "0"]);
    client.ok(&["XREADGROUP", "GROUP", "omma", "stranger", "COUNT", "1990", "STREAMS", stream, ">"]);
    let options =
        RedisSourceOptions { claim_idle: Duration::from_secs(3600), ..options(&server.url(), Delivery::Every) };
    let (mut source, cameras) = open(&options, 1);
    let mut had = Had::default();
    drive(&mut source, &mut had, |had| had.total() == 10);
    // Now they have been left alone for long enough.
    client.left_alone(stream, "omma", "stranger");
    let mut flowing = 2000;
    drive(&mut source, &mut had, |had| {
        if had.total() as u64 >= flowing - 1990 {
            write(&mut client, "cam-0000", flowing..flowing + 1);
            flowing += 1;
        }
        had.redelivered.len() == 1990
    });
    drive(&mut source, &mut had, |had| had.total() as u64 == flowing);
    assert_eq!(had.redelivered, numbers(0..1990), "each once, in order, and told from those that flow");
    let (mut frames, mut new) = (had.frames[&cameras[0]].clone(), had.frames[&cameras[0]].clone());
    new.retain(|&frame| frame >= 1990);
    assert_eq!(new, numbers(1990..flowing), "these flow in their order");
    frames.sort_unstable();
    assert_eq!(frames, numbers(0..flowing), "each once");
    rest(&mut source, || pending(&mut client, "cam-0000") == 0);
}

#[test]
fn what_a_dead_producer_has_left_is_kept_until_its_handles_are_read_and_then_removed() {
    let Some(server) = server() else { return };
    let mut client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    let options = RedisSourceOptions {
        rings: RingsOptions { folder: folder.path().to_owned(), ..RingsOptions::default() },
        discover_interval: Some(Duration::from_millis(20)),
        ..options(&server.url(), Delivery::Every)
    };
    let ring = RingOptions { folder: folder.path().to_owned(), ..RingOptions::new(1 << 20) };
    let mut producer = Producer::create("gateway", &ring).expect("a ring");
    for seq in 0..100_u64 {
        let meta = Meta::raw(PixelFormat::Gray, Size { width: 16, height: 16 }, seq, UnixNanos(0));
        let generation = producer.write(&meta, &[7; 256]).expect("room").to_string();
        let handle = ["seg", producer.segment(), "gen", &generation, "len", "256"];
        client.ok(&[&["XADD", "omma:frames:cam-0000", "*", "seq", &seq.to_string()], &handle[..]].concat());
    }
    let path = producer.path().to_owned();
    producer.leave();
    // Nobody was there to read for two hours: its creation and its last picture lie so far back.
    let then = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") - Duration::from_secs(7200);
    let then = u64::try_from(then.as_nanos()).expect("before 2554").to_le_bytes();
    let segment = std::fs::OpenOptions::new().write(true).open(&path).expect("a segment");
    [24, 136].into_iter().for_each(|at| segment.write_all_at(&then, at).expect("written"));
    drop(segment);

    let mut source = RedisSource::open(options, &[]).expect("the options are right");
    let mut had = Had::default();
    // With room for few at a time, so that it takes many turns.
    drive_with(&mut source, &mut had, &TestDemand::new(3, 3), |had| had.total() == 100, published);
    assert_eq!(had.unreadable, [], "no picture was removed unread");
    drive(&mut source, &mut had, |_| !path.exists());
}
