//! One measurement: a producer and a consumer on a redis-server, everything looked at from outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use omma_testkit::redis_server::{RedisServer, RedisSetup};

use super::board::Board;
use super::consumers::Consumer;
use super::offer::{self, Load, Rate};
use super::omma::Window;
use super::resp::{Connection, Piece};
use super::role::Role;
use crate::figures::Figures;
use crate::load::rest;
use crate::usage::{ProcessUsage, context_switches};

/// The consumer group of whoever consumes.
pub const GROUP: &str = "omma";

pub fn camera_id(camera: usize) -> String {
    format!("cam-{camera:05}")
}

pub fn frames_stream(camera: usize) -> String {
    format!("omma:frames:{}", camera_id(camera))
}

pub fn results_stream(camera: usize) -> String {
    format!("omma:results:{}", camera_id(camera))
}

/// How long frames may take that are on their way when the producer has stopped.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// Until rates are steady: groups are made, caches warm.
pub const WARM_UP: Duration = Duration::from_millis(1500);

/// Memory is looked at so many times in a span.
const LOOKS: u32 = 200;

/// A server without persistence, and the board, in a temporary folder.
pub struct Stand {
    server: RedisServer,
    _folder: tempfile::TempDir,
    board_path: PathBuf,
    board: Board,
}

/// What is measured.
#[derive(Clone)]
pub struct Run {
    pub cameras: usize,
    pub load: Load,
    pub ring_bytes: Option<u64>,
    pub rate: Rate,
    /// Entries that Redis keeps of each camera's frames.
    pub entries_max: u64,
    /// And of its results; `None`: all. The do-nothing reader keeps all.
    pub results_max: Option<u64>,
    pub warm_up: Duration,
    pub span: Duration,
    /// Latencies are told for parts of the span.
    pub window: Duration,
}

/// What was found, of the span alone where nothing else is said.
#[derive(Debug)]
pub struct Measured {
    pub results_per_s: f64,
    /// Of the whole run: frames that Redis took from the producer and that have no entry in their camera's result stream
    /// (or, where no results are written, were not read).
    pub lost: u64,
    /// Of the whole run: entries beyond one for each frame.
    pub repeated: u64,
    /// Of the whole run: cameras that have sent frames and have no result.
    pub silent: u64,
    /// CPU microseconds for each result.
    pub consumer_us: f64,
    pub server_us: f64,
    pub producer_us: f64,
    /// Of the whole machine.
    pub switches_per_s: f64,
    pub consumer_mib: f64,
    pub server_mib: f64,
    /// Cores that the server was busy.
    pub server_cores: f64,
    pub payload_bytes: f64,
    /// Of the whole run: frames that the producer could not send.
    pub unsent: u64,
    /// What the consumer counted besides.
    pub unreadable: u64,
    /// By part of the span, from XADD to the acknowledged result; omma's only.
    pub windows: Vec<Window>,
    /// Hours since the span began; resident memory of the consumer and of the server.
    pub memory: Vec<(f64, f64, f64)>,
}

/// How a consumer came up to date with frames that had gathered.
pub struct CaughtUp {
    /// Until its last result.
    pub took: Duration,
    /// What the server sent, and its time.
    pub server_bytes: f64,
    pub server_cpu: Duration,
    pub results: u64,
    /// Frames that it has not accounted for.
    pub unsettled: u64,
    /// Cameras whose newest frame has no result, if it writes results.
    pub newest_missing: u64,
}

impl Measured {
    /// What stands in each report beside a workload's own figures.
    pub fn add_costs(&self, figures: &mut Figures) {
        figures.add("cpu_us_per_frame", "us", self.consumer_us);
        figures.add("redis_cpu_us_per_frame", "us", self.server_us);
        figures.add("producer_cpu_us_per_frame", "us", self.producer_us);
        figures.add("redis_cores", "1", self.server_cores);
        figures.add("context_switches_per_s", "1/s", self.switches_per_s);
        figures.add("rss_mb", "MB", self.consumer_mib);
        figures.add("redis_rss_mb", "MB", self.server_mib);
        figures.add("payload_bytes", "bytes", self.payload_bytes);
        figures.add("unsent", "1", self.unsent as f64);
        figures.add("repeated", "1", self.repeated as f64);
    }
}

impl Stand {
    pub fn start() -> Result<Self, String> {
        // Workers of the test kit panic where a server does not come up; the bench says the same and ends.
        let server = RedisServer::start(&RedisSetup::default())
            .ok_or("redis-server is not installed: scripts/setup.sh test installs it")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let board_path = folder.path().join("board");
        let board = Board::create(&board_path).map_err(|error| format!("{}: {error}", board_path.display()))?;
        Ok(Self { server, _folder: folder, board_path, board })
    }

    pub fn socket(&self) -> PathBuf {
        self.server.socket()
    }

    /// Empties the server.
    fn clear(&self) -> Result<(), String> {
        self.board.clear();
        let mut connection = Connection::open(&self.socket()).map_err(|error| error.to_string())?;
        let cleared = connection.call(&[b"FLUSHALL"]).map(|_| ());
        cleared.map_err(|error| format!("FLUSHALL: {error}"))
    }

    /// Runs a consumer, then a producer, measures a span, stops both and looks at what came out.
    pub fn run(&self, run: &Run, consumer: &Consumer) -> Result<Measured, String> {
        self.clear()?;
        let consuming = consumer.start(&self.socket(), &self.board_path, run)?;
        let producing = self.producer(run)?;
        rest(run.warm_up);
        let server = self.server.process().ok_or("redis-server has ended")?;
        let processes = [consuming.pid(), server, producing.pid()];
        let usage = || processes.map(ProcessUsage::of);
        let (begun, before, done, switches) = (Instant::now(), usage(), self.board.done(), context_switches());
        let mut memory = Vec::new();
        while begun.elapsed() < run.span {
            rest((run.span / LOOKS).clamp(Duration::from_millis(100), Duration::from_secs(10)));
            let [consumer, server, _] = usage().map(|usage| usage.rss_mib);
            memory.push((begun.elapsed().as_secs_f64() / 3600.0, consumer, server));
        }
        let (wall, after, done) = (begun.elapsed().as_secs_f64(), usage(), self.board.done() - done);
        let switches = context_switches().saturating_sub(switches);
        let offered: offer::Said = producing.stop()?;
        let sent: u64 = offered.sent.iter().sum();
        let until = Instant::now() + SETTLE_MAX;
        while self.board.done() < sent && Instant::now() < until {
            rest(Duration::from_millis(20));
        }
        let consumed = consuming.stop()?;
        if done == 0 {
            return Err(format!("no frame within {:?}; {sent} were sent; {}", run.span, offered.why));
        }
        let counted = match consumer.writes_results() {
            true => self.count_results(&offered.sent)?,
            false => Counted { lost: sent.saturating_sub(consumed.done), ..Counted::default() },
        };
        let cpu_us = |process: usize| after[process].cpu.saturating_sub(before[process].cpu).as_secs_f64() * 1e6;
        Ok(Measured {
            results_per_s: done as f64 / wall,
            lost: counted.lost,
            repeated: counted.repeated,
            silent: counted.silent,
            consumer_us: cpu_us(0) / done as f64,
            server_us: cpu_us(1) / done as f64,
            producer_us: cpu_us(2) / done as f64,
            switches_per_s: switches as f64 / wall,
            consumer_mib: after[0].rss_mib,
            server_mib: after[1].rss_mib,
            server_cores: cpu_us(1) / 1e6 / wall,
            payload_bytes: offered.payload_bytes,
            unsent: offered.unsent,
            unreadable: consumed.unreadable,
            windows: consumed.windows,
            memory,
        })
    }

    /// Lets frames gather, then starts a consumer and looks until nothing more comes out of it.
    pub fn catch_up(&self, run: &Run, frames: u64, consumer: &Consumer) -> Result<CaughtUp, String> {
        /// So long without a result: it has caught up.
        const QUIET: Duration = Duration::from_millis(500);
        self.clear()?;
        let producing = self.producer(&Run { rate: Rate::Ahead(frames), ..run.clone() })?;
        let until = Instant::now() + SETTLE_MAX * 4;
        while self.board.sent() < frames && Instant::now() < until {
            rest(Duration::from_millis(10));
        }
        let offered: offer::Said = producing.stop()?;
        let server = self.server.process().ok_or("redis-server has ended")?;
        let mut connection = Connection::open(&self.socket()).map_err(|error| error.to_string())?;
        let (before, given) = (ProcessUsage::of(server), bytes_given(&mut connection)?);
        let consuming = consumer.start(&self.socket(), &self.board_path, run)?;
        let begun = Instant::now();
        let (mut done, mut last) = (0, begun);
        while (done == 0 || last.elapsed() < QUIET) && begun.elapsed() < SETTLE_MAX * 4 {
            rest(Duration::from_millis(2));
            let now = self.board.done();
            if now != done {
                (done, last) = (now, Instant::now());
            }
        }
        let (after, given) = (ProcessUsage::of(server), bytes_given(&mut connection)? - given);
        let consumed = consuming.stop()?;
        let mut newest_missing = 0;
        if consumer.writes_results() {
            for camera in 0..run.cameras {
                let newest = |stream: String| in_stream(&mut connection, &stream, b"last-generated-id");
                let [frame, result] = [frames_stream(camera), results_stream(camera)].map(newest);
                newest_missing += u64::from(frame? != result?);
            }
        }
        Ok(CaughtUp {
            took: last - begun,
            server_bytes: given as f64,
            server_cpu: after.cpu.saturating_sub(before.cpu),
            results: done,
            unsettled: offered.sent.iter().sum::<u64>().saturating_sub(consumed.done),
            newest_missing,
        })
    }

    fn producer(&self, run: &Run) -> Result<Role, String> {
        let (socket, board) = (self.socket(), self.board_path.clone());
        Role::start(
            "producer",
            &offer::Told {
                socket,
                board,
                cameras: run.cameras,
                load: run.load,
                ring_bytes: run.ring_bytes,
                rate: run.rate,
                entries_max: run.entries_max,
                workers: 2,
            },
        )
    }

    /// Holds what Redis has ever been given as results against what was sent, camera by camera.
    fn count_results(&self, sent: &[u64]) -> Result<Counted, String> {
        let mut connection = Connection::open(&self.socket()).map_err(|error| error.to_string())?;
        let mut counted = Counted::default();
        for (camera, &sent) in sent.iter().enumerate() {
            let results = entries_added(&mut connection, &results_stream(camera))?;
            counted.lost += sent.saturating_sub(results);
            counted.repeated += results.saturating_sub(sent);
            counted.silent += u64::from(sent > 0 && results == 0);
        }
        Ok(counted)
    }
}

/// What became of frames, as their result streams show it.
#[derive(Default)]
struct Counted {
    lost: u64,
    repeated: u64,
    silent: u64,
}

/// Entries that a stream has ever been given; none of one that does not exist.
fn entries_added(connection: &mut Connection, stream: &str) -> Result<u64, String> {
    let count = in_stream(connection, stream, b"entries-added")?;
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// What Redis says of a stream under this name; nothing of one that does not exist.
fn in_stream(connection: &mut Connection, stream: &str, name: &[u8]) -> Result<Option<String>, String> {
    let mut answer =
        connection.call(&[b"XINFO", b"STREAM", stream.as_bytes()]).map_err(|error| format!("XINFO: {error}"))?;
    while let Some(piece) = answer.next() {
        match piece {
            Piece::Bulk(found) if found == name => {
                return match answer.next() {
                    Some(Piece::Int(count)) => Ok(Some(count.to_string())),
                    Some(Piece::Bulk(text)) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
                    other => Err(format!("XINFO {stream}: {other:?} in the place of a value")),
                };
            }
            Piece::Error(text) if text.starts_with(b"ERR no such key") => return Ok(None),
            _ => {}
        }
    }
    let name = String::from_utf8_lossy(name);
    Err(format!("XINFO {stream}: no {name}, expected Redis 7 or newer"))
}

/// Bytes that the server has ever sent to anybody.
fn bytes_given(connection: &mut Connection) -> Result<u64, String> {
    let mut answer = connection.call(&[b"INFO", b"stats"]).map_err(|error| format!("INFO: {error}"))?;
    let Some(Piece::Bulk(text)) = answer.next() else { return Err("INFO stats: no text".to_owned()) };
    let text = String::from_utf8_lossy(text);
    let bytes = text.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    bytes.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| "INFO stats: no total_net_output_bytes".to_owned())
}
