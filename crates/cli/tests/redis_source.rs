//! `omma run` that reads from a real redis-server, fed by `omma publish`.

#![cfg(feature = "redis")]

mod redis_rig;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use omma_testkit::redis_server::{RedisServer, RedisSetup};
use redis_rig::{Run, camera, publish, wait, wait_settled};
use serde_json::Value;
use tempfile::TempDir;

fn folder(source: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "[engine]\nhttp = \"off\"\n[[models]]\nname = \"eyes\"\nruntime = \"null\"\n\
         [[sources]]\ntype = \"redis\"\nlease_ms = 1000\n{source}\n\
         [[sinks]]\ntype = \"jsonl\"\nname = \"out\"\npath = \"results.jsonl\"\n"
    );
    fs::write(folder.path().join("omma.toml"), text).expect("written");
    folder
}

/// By camera the sequences of its results, in the order of the file.
fn results(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut cameras: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let text = fs::read_to_string(folder.join("results.jsonl")).unwrap_or_default();
    for line in text.lines() {
        // The last line may be half of one while it is written.
        let Ok(result) = serde_json::from_str::<Value>(line) else { continue };
        let camera = result["camera"].as_str().expect("a camera").to_owned();
        cameras.entry(camera).or_default().push(result["sequence"].as_u64().expect("a number"));
    }
    cameras
}

#[test]
fn what_is_published_is_found_read_in_order_and_acknowledged_once_it_is_in_the_sink() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let folder = folder(&format!("url = \"{url}\"\ndiscover_ms = 50"));
    let published = publish(&url, &["--cameras", "20", "--fps", "200", "--frames", "50"]).status().expect("runs");
    assert!(published.success());
    let run = Run::start(folder.path());
    let count = || results(folder.path()).values().map(Vec::len).sum::<usize>();
    wait("a thousand results", || count() >= 1000);
    // A camera that comes while it runs.
    let late = ["--first", "20", "--cameras", "1", "--fps", "200", "--frames", "50"];
    assert!(publish(&url, &late).status().expect("runs").success());
    wait("the late camera's results", || count() >= 1050);
    let end = run.end();
    assert_eq!(end["published"], 1050);
    let results = results(folder.path());
    assert_eq!(results.len(), 21);
    let first = results.values().next().and_then(|frames| frames.first().copied()).expect("frames");
    let expected: Vec<u64> = (first..first + 50).collect();
    results.iter().for_each(|(camera, frames)| assert_eq!(*frames, expected, "{camera}"));
    wait_settled(&mut server.client(), &(0..21).map(camera).collect::<Vec<_>>());
}

#[test]
fn cameras_that_are_added_to_the_file_are_read_from_the_next_sighup_on() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let source = |cameras: &str| format!("url = \"{url}\"\ncamera_ids = [{cameras}]");
    let folder = folder(&source("\"cam-0000\""));
    let published = publish(&url, &["--cameras", "3", "--fps", "200", "--frames", "20"]).status().expect("runs");
    assert!(published.success());
    let run = Run::start(folder.path());
    wait("the first camera's results", || results(folder.path()).values().map(Vec::len).sum::<usize>() == 20);
    let file = folder.path().join("omma.toml");
    let text = fs::read_to_string(&file).expect("its configuration");
    fs::write(&file, text.replace("[\"cam-0000\"]", "[\"cam-0002\", \"cam-0000\", \"cam-0001\"]")).expect("written");
    run.signal(libc::SIGHUP);
    wait("all cameras' results", || results(folder.path()).values().map(Vec::len).sum::<usize>() == 60);
    wait("word of them", || run.said("2 cameras added"));
    assert!(!run.said("from the next start"));
    // A camera less waits for the next start.
    let text = fs::read_to_string(&file).expect("its configuration");
    fs::write(&file, text.replace(", \"cam-0001\"", "")).expect("written");
    run.signal(libc::SIGHUP);
    wait("a warning", || run.said("from the next start only: [[sources]]"));
    assert_eq!(run.end()["published"], 60);
    assert_eq!(results(folder.path()).len(), 3);
}

#[test]
fn handles_through_redis_lead_to_pictures_in_shared_memory() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.url();
    let folder = folder(&format!("url = \"{url}\"\ncamera_ids = [\"cam-0000\", \"cam-0001\"]\ndelivery = \"latest\""));
    let ring = format!("test-{}", std::process::id());
    let args = ["--cameras", "2", "--fps", "50", "--handles", "--format", "rgb", "--ring", &ring];
    let mut publisher = publish(&url, &args).spawn().expect("starts");
    let run = Run::start(folder.path());
    wait("results", || results(folder.path()).values().filter(|frames| frames.len() >= 20).count() == 2);
    let end = run.end();
    // SAFETY: a call without pointers; the process is ours and not yet waited for.
    unsafe {
        libc::kill(i32::try_from(publisher.id()).expect("a pid"), libc::SIGTERM);
    }
    publisher.wait().expect("ends");
    assert!(end["published"].as_u64().is_some_and(|published| published >= 40), "{end}");
}
