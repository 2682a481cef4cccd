//! `omma run` that reads from a real Redis and writes to it, while processes, servers and networks fail: each frame's
//! result is there once, each camera's in order, nothing stays pending, the ledger balances.

#![cfg(feature = "redis")]

mod redis_rig;

use std::time::Duration;

use omma_adapters::redis::link::slot_of;
use omma_testkit::redis_proxy::{Network, Proxy};
use omma_testkit::redis_server::{RedisCluster, RedisServer, RedisSetup, Reply};
use redis_rig::{
    FRAMES, Lines, PICTURE, Run, as_it_comes, assert_each_once, came_in, came_out, camera, count, folder, publish,
    results, wait, wait_each_once, wait_settled, write,
};

fn server() -> Option<RedisServer> {
    RedisServer::start(&RedisSetup::default())
}

fn cameras(count: usize) -> Vec<String> {
    (0..count).map(camera).collect()
}

#[test]
fn killed_in_the_middle_of_batches_and_started_again() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(8));
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..400));
    for killed_at in [1, 500, 501, 1200, 2000] {
        let run = Run::start(folder.path());
        wait("results", || count(&mut client, &cameras) >= killed_at);
        run.kill();
    }
    let run = Run::start(folder.path());
    wait_each_once(&server, &cameras, 400);
    run.end();
}

#[test]
fn of_two_processes_on_one_group_one_is_killed() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(40));
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    let mut publisher =
        publish(&server.unix_url(), &["--cameras", "40", "--fps", "50", "--frames", "100"]).spawn().expect("starts");
    let [first, second] = [(); 2].map(|()| Run::start(folder.path()));
    wait("half of the results", || count(&mut client, &cameras) >= 2000);
    first.kill();
    assert!(publisher.wait().expect("ends").success());
    wait_each_once(&server, &cameras, 100);
    let end = second.end();
    assert!(end["published"].as_u64().is_some_and(|published| published < 4000), "both had cameras: {end}");
    assert_eq!(end["lost_upstream"], 0, "what the other has read is not lost: {end}");
}

#[test]
fn a_process_that_wakes_up_after_another_has_its_cameras() {
    // Whether ids are the frames' own, or the server's and a script keeps account.
    for pattern in ["{camera}", "{shard}"] {
        let Some(server) = server() else { return };
        let (mut client, cameras) = (server.client(), cameras(4));
        let sink = format!("stream = \"omma:results:{pattern}\"");
        let lines = Lines { sink: &sink, ..Lines::default() };
        let folder = folder(&server.unix_url(), &server.unix_url(), &lines);
        cameras.iter().for_each(|camera| write(&mut client, camera, 0..600));
        let shards: Vec<String> = (0..32).map(|shard| shard.to_string()).collect();
        let streams = if pattern == "{camera}" { &cameras } else { &shards };
        let sleeper = Run::start(folder.path());
        wait("results", || count(&mut client, streams) >= 200);
        sleeper.signal(libc::SIGSTOP);
        // It has frames in hand, its leases run out, and its process is alive.
        let heir = Run::start(folder.path());
        wait("the heir's results", || count(&mut client, streams) >= 2000);
        sleeper.signal(libc::SIGCONT);
        wait("all results", || count(&mut client, streams) >= 2400);
        wait_settled(&mut client, &cameras);
        sleeper.end();
        heir.end();
        for camera in &cameras {
            let all: Vec<_> = streams.iter().flat_map(|stream| results(&mut client, stream)).collect();
            let own = all.iter().filter(|result| result["camera"] == **camera);
            let sequences: Vec<u64> = own.map(|result| result["sequence"].as_u64().expect("a number")).collect();
            assert_eq!(sequences, (0..600).collect::<Vec<_>>(), "{camera} in {pattern}");
        }
    }
}

#[test]
fn a_consumer_of_another_name_dies_with_frames_that_are_taken_over_while_new_ones_flow() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(2));
    let stream = format!("{FRAMES}{}", cameras[0]);
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..1200));
    client.ok(&["XGROUP", "CREATE", &stream, "omma", "0"]);
    client.ok(&["XREADGROUP", "GROUP", "omma", "stranger", "COUNT", "1150", "STREAMS", &stream, ">"]);
    let lines = Lines { source: "claim_idle_ms = 3600000", ..Lines::default() };
    let folder = folder(&server.unix_url(), &server.unix_url(), &lines);
    let run = Run::start(folder.path());
    wait("results of what the dead one has not taken", || count(&mut client, &cameras[..1]) == 50);
    client.left_alone(&stream, "omma", "stranger");
    // New frames flow until those of the dead are there.
    let mut flowing = 1200;
    wait("results of what the dead one has taken", || {
        let had = count(&mut client, &cameras[..1]);
        if had as u64 >= flowing - 1150 && had < 1200 {
            cameras.iter().for_each(|camera| write(&mut client, camera, flowing..flowing + 1));
            flowing += 1;
        }
        had as u64 == flowing
    });
    wait("the other camera's results", || count(&mut client, &cameras) as u64 == 2 * flowing);
    wait_settled(&mut client, &cameras);
    let end = run.end();
    let mut frames = came_out(&mut client, &cameras[0]);
    frames.sort_unstable();
    assert_eq!(frames, (0..flowing).collect::<Vec<_>>(), "each once");
    assert_eq!(came_out(&mut client, &cameras[1]), frames, "and of the other in order");
    assert_eq!((&end["published"], &end["lost_upstream"]), (&(2 * flowing).into(), &0.into()), "{end}");
}

#[test]
fn a_server_that_answers_nobody_for_longer_than_all_timeouts() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(8));
    let folder = folder(&server.url(), &server.url(), &Lines::default());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..400));
    let run = Run::start(folder.path());
    wait("results", || count(&mut client, &cameras) >= 500);
    let begin = std::time::Instant::now();
    server.pause();
    wait("it is said, and leases end", || run.said("no answer") && begin.elapsed() > Duration::from_secs(2));
    server.resume();
    wait_each_once(&server, &cameras, 400);
    run.end();
}

#[test]
fn a_server_frozen_for_ten_seconds_under_two_processes_one_of_which_is_killed_later() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(16));
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    as_it_comes(folder.path());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..400));
    let runs = [Run::start(folder.path()), Run::start(folder.path())];
    wait("results", || count(&mut client, &cameras) >= 500);
    let begin = std::time::Instant::now();
    server.pause();
    wait("ten seconds are over", || begin.elapsed() > Duration::from_secs(10));
    server.resume();
    wait("results again", || count(&mut client, &cameras) >= 3000);
    let [stays, dies] = runs;
    dies.kill();
    cameras.iter().for_each(|camera| write(&mut client, camera, 400..500));
    wait_each_once(&server, &cameras, 500);
    stays.end();
}

#[test]
fn a_server_that_is_killed_and_has_everything_on_disk() {
    let setup = RedisSetup { append_only: true, ..RedisSetup::default() };
    let Some(mut server) = RedisServer::start(&setup) else { return };
    let cameras = cameras(8);
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    cameras.iter().for_each(|camera| write(&mut server.client(), camera, 0..200));
    let run = Run::start(folder.path());
    for killed_at in [200, 900] {
        let mut client = server.client();
        wait("results", || count(&mut client, &cameras) >= killed_at);
        server.restart();
    }
    wait_each_once(&server, &cameras, 200);
    run.end();
}

#[test]
fn a_server_that_is_killed_and_forgets_what_was_since_its_snapshot() {
    let (Some(mut server), Some(keeper)) = (server(), server()) else { return };
    let cameras = cameras(4);
    let folder = folder(&server.unix_url(), &keeper.unix_url(), &Lines::default());
    let (mut client, mut kept) = (server.client(), keeper.client());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..10));
    let run = Run::start(folder.path());
    wait("the first results", || count(&mut kept, &cameras) == 40);
    wait_settled(&mut client, &cameras);
    cameras.iter().for_each(|camera| write(&mut client, camera, 10..100));
    wait("some results", || count(&mut kept, &cameras) >= 100);
    // The snapshot has frames that are under way, and not what becomes of them.
    client.ok(&["SAVE"]);
    wait("all results", || count(&mut kept, &cameras) == 400);
    cameras.iter().for_each(|camera| write(&mut client, camera, 100..200));
    wait("results of what the snapshot has not", || count(&mut kept, &cameras) >= 500);
    server.restart();
    cameras.iter().for_each(|camera| write(&mut server.client(), camera, 200..300));
    wait("the newest", || cameras.iter().all(|camera| came_out(&mut kept, camera).last() == Some(&299)));
    wait_settled(&mut server.client(), &cameras);
    let end = run.end();
    let mut lost = 0;
    for camera in &cameras {
        let frames = came_out(&mut kept, camera);
        assert!(frames.is_sorted_by(|a, b| a < b), "each once and in order: {frames:?}");
        let (old, new) = (frames.iter().filter(|&&frame| frame < 100), frames.iter().filter(|&&frame| frame >= 200));
        assert_eq!((old.count(), new.count()), (100, 100), "what Redis had: {frames:?}");
        lost += 300 - frames.len() as u64;
    }
    assert_eq!(end["lost_upstream"], lost, "what Redis has lost is reported: {end}");
}

#[test]
fn a_network_that_drops_delays_and_truncates_on_both_sides() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(6));
    let [before, behind] = [(); 2].map(|()| Proxy::start(server.port()));
    let folder = folder(&before.url(), &behind.url(), &Lines::default());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..500));
    let run = Run::start(folder.path());
    for (round, bytes) in [1, 40, 333, 1000, 4001, 20_000].into_iter().enumerate() {
        before.set(Network::BreaksAfter(bytes));
        behind.set(Network::BreaksAfter(bytes / 3));
        wait("results", || count(&mut client, &cameras) >= 200 * (round + 1));
    }
    for network in [Network::Cut, Network::Frozen] {
        [&before, &behind].iter().for_each(|proxy| proxy.set(network));
        let (begin, had) = (std::time::Instant::now(), count(&mut client, &cameras));
        wait("a while", || begin.elapsed() > Duration::from_millis(700));
        [&before, &behind].iter().for_each(|proxy| proxy.set(Network::Slow(Duration::from_millis(10))));
        wait("results again", || count(&mut client, &cameras) >= had + 100);
    }
    wait_each_once(&server, &cameras, 500);
    run.end();
}

#[test]
fn a_server_without_memory_for_results() {
    let Some(server) = server() else { return };
    let (mut client, cameras) = (server.client(), cameras(8));
    let folder = folder(&server.unix_url(), &server.unix_url(), &Lines::default());
    cameras.iter().for_each(|camera| write(&mut client, camera, 0..400));
    let run = Run::start(folder.path());
    wait("results", || count(&mut client, &cameras) >= 300);
    client.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    wait("it is said", || run.said("maxmemory"));
    client.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_each_once(&server, &cameras, 400);
    run.end();
}

#[test]
fn of_a_cluster_one_of_whose_masters_hangs_and_is_replaced_the_others_go_on() {
    let Some(cluster) = RedisCluster::start(3, true, &RedisSetup::default()) else { return };
    let url = cluster.nodes[0].url();
    let lines = Lines { source: "cluster = true", sink: "cluster = true", ..Lines::default() };
    let folder = folder(&url, &url, &lines);
    as_it_comes(folder.path());
    let cameras: Vec<String> = (0..12).map(|number| format!("{{s{:02}}}:cam-{number:04}", number % 32)).collect();
    let hangs = |camera: &&String| (16_384 / 3..16_384 * 2 / 3).contains(&usize::from(slot_of(camera.as_bytes())));
    let others: Vec<String> = cameras.iter().filter(|camera| !hangs(camera)).cloned().collect();
    assert!((1..cameras.len()).contains(&others.len()), "cameras on both sides of the fault");
    let frame = |camera: &String, sequence: u64| {
        let (stream, sequence) = (format!("{FRAMES}{camera}"), sequence.to_string());
        let words = [&["XADD", &stream, "*", "seq", &sequence][..], &PICTURE[..]].concat();
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        assert!(matches!(cluster.command(&words), Reply::Bulk(_)));
    };
    cameras.iter().for_each(|camera| (0..10).for_each(|sequence| frame(camera, sequence)));
    let run = Run::start(folder.path());
    wait("results", || count(&mut &cluster, &cameras) == 10 * cameras.len());
    cluster.nodes[1].pause();
    let (begin, mut longest, mut next) = (std::time::Instant::now(), Duration::ZERO, 10);
    while begin.elapsed() < Duration::from_secs(8) {
        let sent = std::time::Instant::now();
        others.iter().for_each(|camera| frame(camera, next));
        next += 1;
        wait("results of the others", || count(&mut &cluster, &others) == next as usize * others.len());
        longest = longest.max(sent.elapsed());
    }
    // A third of a lease, for each of the few questions of a turn that wait for the one that hangs.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    // By now its replica has its slots.
    cameras.iter().filter(hangs).for_each(|camera| (10..20).for_each(|sequence| frame(camera, sequence)));
    let frames: usize = cameras.iter().map(|camera| came_in(&mut &cluster, camera).len()).sum();
    wait("all results", || count(&mut &cluster, &cameras) >= frames);
    cluster.nodes[1].resume();
    cluster.wait_for("cluster_state:ok");
    wait_settled(&mut &cluster, &cameras);
    assert_each_once(&mut &cluster, &mut &cluster, &cameras);
    run.end();
}

#[test]
fn of_a_cluster_one_of_whose_masters_is_killed_and_comes_back_the_others_go_on() {
    let setup = RedisSetup { append_only: true, ..RedisSetup::default() };
    let Some(mut cluster) = RedisCluster::start(3, false, &setup) else { return };
    let url = cluster.nodes[0].url();
    let lines = Lines { source: "cluster = true", sink: "cluster = true", ..Lines::default() };
    let folder = folder(&url, &url, &lines);
    let cameras: Vec<String> = (0..12).map(|number| format!("{{s{:02}}}:cam-{number:04}", number % 32)).collect();
    let dead = |camera: &&String| (16_384 / 3..16_384 * 2 / 3).contains(&usize::from(slot_of(camera.as_bytes())));
    let others: Vec<String> = cameras.iter().filter(|camera| !dead(camera)).cloned().collect();
    assert!((1..cameras.len()).contains(&others.len()), "cameras on both sides of the fault");
    let args = ["--cluster", "--id", "{{s{tag:02}}}:cam-{n:04}", "--cameras", "12", "--fps", "50", "--frames", "500"];
    let mut publisher = publish(&url, &args).spawn().expect("starts");
    let run = Run::start(folder.path());
    wait("results", || count(&mut &cluster, &cameras) >= 300);
    cluster.nodes[1].kill();
    // Whatever it met first: a connection that ended, or one that was refused.
    let dead_node = cluster.nodes[1].url().replace("redis://", "redis at ");
    wait("it is said", || run.said(&dead_node));
    // The dead master's results wait, and no others'.
    let had = count(&mut &cluster, &others);
    wait("results of the others", || count(&mut &cluster, &others) >= had + 20 * others.len());
    cluster.nodes[1].restart();
    cluster.wait_for("cluster_state:ok");
    // What could not be sent meanwhile it says with its exit code.
    publisher.wait().expect("ends");
    let frames: usize = cameras.iter().map(|camera| came_in(&mut &cluster, camera).len()).sum();
    wait("all results", || count(&mut &cluster, &cameras) >= frames);
    wait_settled(&mut &cluster, &cameras);
    assert_each_once(&mut &cluster, &mut &cluster, &cameras);
    run.end();
}
