//! `omma run` with Redis in and out: its configuration, processes that are signalled, and the law that holds afterwards:
//! what is in the frames' streams is in the results' streams, each frame once and each camera in order.

#![allow(dead_code)] // each test file uses its part

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use omma_testkit::redis_server::{RedisClient, RedisCluster, RedisServer, Reply};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub const FRAMES: &str = "omma:frames:";
pub const RESULTS: &str = "omma:results:";

pub fn omma() -> Command {
    Command::new(env!("CARGO_BIN_EXE_omma"))
}

pub fn publish(url: &str, more: &[&str]) -> Command {
    let mut command = omma();
    command.args(["publish", "--url", url, "--size", "64x64", "--maxlen", "0"]).args(more).stderr(Stdio::null());
    command
}

/// What a test's configuration has beside the usual: further lines of each table.
#[derive(Default)]
pub struct Lines<'a> {
    pub engine: &'a str,
    pub model: &'a str,
    pub source: &'a str,
    pub sink: &'a str,
}

/// A model whose batches are in it for a while, so that a fault meets them there.
pub const MODEL: &str = "runtime = \"simulated\"\nbase_ms = 2\nper_item_ms = 0.1\ninput = { width = 32, height = 32 }";

/// A folder with a configuration that reads frames from one server and writes results to another, or to the same.
pub fn folder(from: &str, to: &str, lines: &Lines) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let model = if lines.model.is_empty() { MODEL } else { lines.model };
    let text = format!(
        "[engine]\nhttp = \"off\"\n{}\n[[models]]\nname = \"eyes\"\n{model}\n\
         [[sources]]\ntype = \"redis\"\nurl = \"{from}\"\nlease_ms = 1000\nreply_timeout_ms = 500\ndiscover_ms = 50\n{}\n\
         [[sinks]]\ntype = \"redis\"\nname = \"results\"\nurl = \"{to}\"\nreply_timeout_ms = 500\nbackoff_ms_max = 200\n\
         entries_max = \"all\"\n{}\n",
        lines.engine, lines.source, lines.sink
    );
    fs::write(folder.path().join("omma.toml"), text).expect("written");
    folder
}

/// Takes out of a folder's configuration the timings that make tests quick: those of the documentation hold again.
pub fn as_it_comes(folder: &Path) {
    let path = folder.join("omma.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let quick =
        |line: &&str| ["lease_ms", "reply_timeout_ms", "backoff_ms_max"].iter().any(|key| line.starts_with(key));
    let usual: Vec<&str> = text.lines().filter(|line| !quick(line)).collect();
    assert_eq!(usual.len() + 4, text.lines().count(), "{text}");
    fs::write(path, usual.join("\n")).expect("written");
}

/// A running `omma run`, killed if the test fails.
pub struct Run {
    child: Child,
    /// What it says, a line for each event.
    said: Arc<Mutex<Vec<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Run {
    pub fn start(folder: &Path) -> Self {
        let mut command = omma();
        command.args(["run", "-c", "omma.toml", "--json"]).current_dir(folder);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (errors, lines) = (child.stderr.take().expect("piped"), Arc::clone(&said));
        let listener = std::thread::spawn(move || {
            BufReader::new(errors).lines().map_while(Result::ok).for_each(|line| lines.lock().push(line));
        });
        Self { child, said, listener: Some(listener) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a call without pointers; the process is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.child.id()).expect("a pid"), signal) }, 0);
    }

    /// Whether it has said this.
    pub fn said(&self, text: &str) -> bool {
        self.said.lock().iter().any(|line| line.contains(text))
    }

    /// Ends it in order, and gives its last word: drained, nothing in flight, the ledger balanced.
    pub fn end(mut self) -> Value {
        self.signal(libc::SIGTERM);
        let code = self.child.wait().expect("ends").code();
        self.listener.take().expect("listens").join().expect("listened");
        let said = self.said.lock();
        assert_eq!(code, Some(0), "{}", said.join("\n"));
        let end: Value = serde_json::from_str(said.last().expect("events")).expect("an event");
        assert_eq!((&end["balanced"], &end["in_flight"]), (&true.into(), &0.into()), "{end}");
        end
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("ends");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.said.lock().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whoever answers commands: a server, or a cluster.
pub trait Ask {
    fn ask(&mut self, words: &[&str]) -> Reply;
}

impl Ask for RedisClient {
    fn ask(&mut self, words: &[&str]) -> Reply {
        self.ok(words)
    }
}

impl Ask for &RedisCluster {
    fn ask(&mut self, words: &[&str]) -> Reply {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.command(&words)
    }
}

/// `cam-0000` and so on: what [`publish`] calls them too.
pub fn camera(number: usize) -> String {
    format!("cam-{number:04}")
}

/// The fields of a whole frame: one grey pixel.
pub const PICTURE: [&str; 8] = ["fmt", "gray", "w", "1", "h", "1", "data", "x"];

/// Writes frames of a camera whose sequences are these.
pub fn write(client: &mut RedisClient, camera: &str, sequences: std::ops::Range<u64>) {
    let stream = format!("{FRAMES}{camera}");
    let command = |seq: u64| [&["XADD", &stream, "*", "seq", &seq.to_string()], &PICTURE[..]].concat().join(" ");
    let commands: Vec<String> = sequences.map(command).collect();
    let commands: Vec<Vec<&str>> = commands.iter().map(|words| words.split(' ').collect()).collect();
    let replies = client.pipeline(&commands).expect("the server answers");
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Bulk(_))), "{replies:?}");
}

/// Id and fields of each entry of a stream.
pub fn entries(redis: &mut impl Ask, stream: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let list = redis.ask(&["XRANGE", stream, "-", "+"]);
    let read = |entry: &Reply| {
        let [id, fields] = entry.items() else { panic!("{entry:?} in the place of an entry") };
        let fields = fields.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect();
        (id.text(), fields)
    };
    list.items().iter().map(read).collect()
}

/// The sequences of the frames in a camera's stream.
pub fn came_in(redis: &mut impl Ask, camera: &str) -> Vec<u64> {
    let entries = entries(redis, &format!("{FRAMES}{camera}"));
    entries.iter().map(|(_, fields)| fields["seq"].parse().expect("a number")).collect()
}

/// The results in a stream, in its order.
pub fn results(redis: &mut impl Ask, stream: &str) -> Vec<Value> {
    let entries = entries(redis, &format!("{RESULTS}{stream}"));
    entries.iter().map(|(_, fields)| serde_json::from_str(&fields["data"]).expect("a result")).collect()
}

/// The sequences of the results in a camera's stream.
pub fn came_out(redis: &mut impl Ask, camera: &str) -> Vec<u64> {
    results(redis, camera).iter().map(|result| result["sequence"].as_u64().expect("a number")).collect()
}

/// How many results these cameras have.
pub fn count(redis: &mut impl Ask, cameras: &[String]) -> usize {
    let length = |camera: &String| match redis.ask(&["XLEN", &format!("{RESULTS}{camera}")]) {
        Reply::Int(count) => usize::try_from(count).expect("a length"),
        // A part of a cluster that is away.
        _ => 0,
    };
    cameras.iter().map(length).sum()
}

/// Nothing is pending any more; acknowledgements go with the next read, so this may be a moment away.
pub fn wait_settled(redis: &mut impl Ask, cameras: &[String]) {
    for camera in cameras {
        wait("nothing is pending", || {
            let pending = redis.ask(&["XPENDING", &format!("{FRAMES}{camera}"), "omma"]);
            pending.items().first() == Some(&Reply::Int(0))
        });
    }
}

/// Each frame that is in its camera's stream gave one result, and each camera's are in its order.
pub fn assert_each_once(from: &mut impl Ask, to: &mut impl Ask, cameras: &[String]) {
    for camera in cameras {
        let frames = came_in(from, camera);
        assert!(!frames.is_empty(), "{camera}");
        assert_eq!(came_out(to, camera), frames, "{camera}");
    }
}

/// Waits until each of so many frames of each camera has its result, and nothing is pending; then the law must hold.
pub fn wait_each_once(server: &RedisServer, cameras: &[String], frames: usize) {
    let mut client = server.client();
    wait("all results", || count(&mut client, cameras) >= frames * cameras.len());
    wait_settled(&mut client, cameras);
    assert_each_once(&mut server.client(), &mut client, cameras);
}
