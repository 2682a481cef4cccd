//! `omma run` that reads from a real redis-server, fed by `omma publish`.

#![cfg(feature = "redis")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use omma_testkit::redis_server::{RedisClient, RedisServer, RedisSetup, Reply};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn omma() -> Command {
    Command::new(env!("CARGO_BIN_EXE_omma"))
}

fn publish(url: &str, more: &[&str]) -> Command {
    let mut command = omma();
    command.args(["publish", "--url", url, "--size", "64x64", "--maxlen", "0"]).args(more);
    command
}

/// A running `omma run`, killed if the test fails.
struct Run(Child);

impl Run {
    fn start(folder: &Path) -> Self {
        let mut command = omma();
        command.args(["run", "-c", "omma.toml", "--json"]).current_dir(folder);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts"))
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a call without pointers; the process is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.0.id()).expect("a pid"), signal) }, 0);
    }

    /// Ends it in order, and gives its last word.
    fn end(mut self) -> Value {
        self.signal(libc::SIGTERM);
        let errors = self.0.stderr.take().expect("piped");
        let lines = std::io::read_to_string(errors).expect("UTF-8");
        assert_eq!(self.0.wait().expect("ends").code(), Some(0), "{lines}");
        serde_json::from_str(lines.lines().last().expect("events")).expect("an event")
    }

    fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.0.wait().expect("ends");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

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

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

fn pending(client: &mut RedisClient, stream: &str) -> i64 {
    match client.ok(&["XPENDING", stream, "omma"]).items().first() {
        Some(Reply::Int(count)) => *count,
        other => panic!("{other:?} in answer to XPENDING"),
    }
}

#[test]
fn what_is_published_is_found_read_in_order_and_acknowledged_once_it_is_in_the_sink() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let folder = folder(&format!("url = \"{url}\"\ndiscover_ms = 50"));
    let published = publish(&url, &["--cameras", "20", "--fps", "200", "--frames", "50"]).output().expect("runs");
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let run = Run::start(folder.path());
    let count = || results(folder.path()).values().map(Vec::len).sum::<usize>();
    wait("a thousand results", || count() >= 1000);
    // A camera that comes while it runs.
    let late = ["--first", "20", "--cameras", "1", "--fps", "200", "--frames", "50"];
    assert!(publish(&url, &late).status().expect("runs").success());
    wait("the late camera's results", || count() >= 1050);
    let end = run.end();
    assert_eq!((&end["published"], &end["balanced"], &end["in_flight"]), (&1050.into(), &true.into(), &0.into()));
    let results = results(folder.path());
    assert_eq!(results.len(), 21);
    let first = results.values().next().and_then(|frames| frames.first().copied()).expect("frames");
    let expected: Vec<u64> = (first..first + 50).collect();
    results.iter().for_each(|(camera, frames)| assert_eq!(*frames, expected, "{camera}"));
    let mut client = server.client();
    for number in 0..21 {
        assert_eq!(pending(&mut client, &format!("omma:frames:cam-{number:04}")), 0);
    }
}

#[test]
fn handles_through_redis_lead_to_pictures_in_shared_memory() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.url();
    let folder = folder(&format!("url = \"{url}\"\ncamera_ids = [\"cam-0000\", \"cam-0001\"]\ndelivery = \"latest\""));
    let ring = format!("test-{}", std::process::id());
    let args = ["--cameras", "2", "--fps", "50", "--handles", "--format", "rgb", "--ring", &ring];
    let mut publisher = publish(&url, &args).stderr(Stdio::null()).spawn().expect("starts");
    let run = Run::start(folder.path());
    wait("results", || results(folder.path()).values().filter(|frames| frames.len() >= 20).count() == 2);
    let end = run.end();
    // SAFETY: as above.
    unsafe {
        libc::kill(i32::try_from(publisher.id()).expect("a pid"), libc::SIGTERM);
    }
    publisher.wait().expect("ends");
    assert_eq!((&end["balanced"], &end["in_flight"]), (&true.into(), &0.into()), "{end}");
    assert!(end["published"].as_u64().is_some_and(|published| published >= 40), "{end}");
}

#[test]
fn a_process_that_was_killed_leaves_nothing_unread() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let folder = folder(&format!("url = \"{url}\"\ndiscover_ms = 50"));
    assert!(publish(&url, &["--cameras", "8", "--fps", "1000", "--frames", "500"]).status().expect("runs").success());
    let lines = || fs::read_to_string(folder.path().join("results.jsonl")).map_or(0, |text| text.lines().count());
    for killed_at in [200, 1000, 2000] {
        let run = Run::start(folder.path());
        wait("results", || lines() >= killed_at);
        run.kill();
    }
    let run = Run::start(folder.path());
    let frames = || results(folder.path());
    // A file cannot tell what it has already, so frames between sink and acknowledgement may come twice; none is missing.
    let distinct = |frames: &[u64]| frames.iter().collect::<std::collections::BTreeSet<_>>().len();
    wait("all frames", || frames().values().map(|frames| distinct(frames)).sum::<usize>() == 4000);
    let end = run.end();
    assert_eq!((&end["balanced"], &end["in_flight"]), (&true.into(), &0.into()), "{end}");
    let mut client = server.client();
    for number in 0..8 {
        assert_eq!(pending(&mut client, &format!("omma:frames:cam-{number:04}")), 0);
    }
}

#[test]
fn of_two_processes_that_share_the_cameras_one_may_be_killed() {
    let Some(server) = RedisServer::start(&RedisSetup::default()) else { return };
    let url = server.unix_url();
    let folders = [0, 1].map(|_| folder(&format!("url = \"{url}\"\ndiscover_ms = 50")));
    let mut publisher = publish(&url, &["--cameras", "40", "--fps", "50", "--frames", "200"]).spawn().expect("starts");
    let [first, second] = folders.each_ref().map(|folder| Run::start(folder.path()));
    let has = |number: usize| results(folders[number].path());
    wait("both have cameras", || has(0).len() >= 10 && has(1).len() >= 10);
    first.kill();
    // Each camera's frames in either file; a file cannot tell what the other has already.
    let all = || {
        let mut all: BTreeMap<String, std::collections::BTreeSet<u64>> = BTreeMap::new();
        (0..2).flat_map(has).for_each(|(camera, frames)| all.entry(camera).or_default().extend(frames));
        all
    };
    assert!(publisher.wait().expect("ends").success());
    wait("all frames", || all().values().map(std::collections::BTreeSet::len).sum::<usize>() == 8000);
    let end = second.end();
    assert_eq!((&end["balanced"], &end["in_flight"]), (&true.into(), &0.into()), "{end}");
    for number in 0..2 {
        has(number).iter().for_each(|(camera, frames)| assert!(frames.is_sorted(), "{camera}: {frames:?}"));
    }
    let mut client = server.client();
    for number in 0..40 {
        assert_eq!(pending(&mut client, &format!("omma:frames:cam-{number:04}")), 0);
    }
}
