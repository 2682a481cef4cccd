//! The do-nothing reader: what the workloads are held against. The least that anybody must do who reads frames from
//! Redis, acknowledges them and writes a result for each, as fast as a client can be made.
//!
//! Its design: threads with a connection each, every camera's stream belonging to one of them. A thread has its streams
//! in chunks and goes round over them. Per turn it sends one pipeline - an XADD of a constant result under the frame's
//! own id for each entry it has just read, one XACK for each of their streams, the next multi-stream XREADGROUP - and
//! keeps so many pipelines on their way that Redis never waits for it. Answers are walked where they lie in the receive
//! buffer; payloads are never copied, decoded or looked at (unless told to touch them in shared memory). The same bounds
//! per read, and the same pause after a round that brought little, as omma's source has. It does what omma may not:
//! acknowledges in the same pipeline as the result, before it knows that the result was taken; keeps no order, no
//! ledger, no sequence; and its result is the same bytes every time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use omma_frame::PictureView;
use omma_ring::{Rings, RingsOptions};
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::resp::{Answer, Commands, Connection, Piece};
use super::role;
use super::stand::{GROUP, frames_stream, results_stream};

/// What the reader is told.
#[derive(Serialize, Deserialize, Clone)]
pub struct Told {
    pub socket: PathBuf,
    pub board: PathBuf,
    pub cameras: usize,
    pub threads: usize,
    /// Streams of one read.
    pub streams: usize,
    /// Entries of one stream that a read takes at most.
    pub count: usize,
    /// Pipelines on their way.
    pub depth: usize,
    pub pause_us: u64,
    /// Reads every byte of what a handle points to.
    pub touch: bool,
    /// Writes results; without, it only reads and acknowledges.
    pub results: bool,
}

/// What it did.
#[derive(Serialize, Deserialize)]
pub struct Said {
    pub read: u64,
    /// Handles that could not be read.
    pub unreadable: u64,
}

/// As long as what the JSON sink writes for a frame of the null model.
const RESULT: &[u8] = br#"{"v":1,"camera":"cam-00000","sequence":1041,"captured_at":"2025-12-31T23:59:59.123456789Z","captured_at_ns":1767225599123456789,"size":{"width":1,"height":1},"model":"bench","timing_ms":{"wait":2.114,"prepare":1.702,"infer":9.87,"total":13.686}}"#;

pub fn run(told: Told, stop: Arc<AtomicBool>) -> Result<Said, String> {
    let board = Board::open(&told.board).map_err(|error| error.to_string())?;
    let threads = told.threads.max(1);
    let mut readers = (0..threads)
        .map(|thread| Reader::open(&told, (thread..told.cameras).step_by(threads), board))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| error.to_string())?;
    role::say("ready")?;
    let outcomes: Vec<io::Result<Said>> = std::thread::scope(|scope| {
        let running: Vec<_> = readers.iter_mut().map(|reader| scope.spawn(|| reader.run(&stop))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
            .collect()
    });
    let mut said = Said { read: 0, unreadable: 0 };
    for outcome in outcomes {
        let one = outcome.map_err(|error| error.to_string())?;
        said.read += one.read;
        said.unreadable += one.unreadable;
    }
    Ok(said)
}

struct Reader {
    connection: Connection,
    board: Board,
    chunks: Vec<Chunk>,
    depth: usize,
    pause: Duration,
    results: bool,
    rings: Option<Rings>,
}

/// Streams that are read together.
struct Chunk {
    streams: Vec<Stream>,
    read: Commands,
}

struct Stream {
    frames: Vec<u8>,
    results: Vec<u8>,
}

impl Reader {
    fn open(told: &Told, cameras: impl Iterator<Item = usize>, board: Board) -> io::Result<Self> {
        let mut connection = Connection::open(&told.socket)?;
        let streams: Vec<Stream> = cameras
            .map(|camera| Stream {
                frames: frames_stream(camera).into_bytes(),
                results: results_stream(camera).into_bytes(),
            })
            .collect();
        let mut create = Commands::default();
        for stream in &streams {
            create.push(&[b"XGROUP", b"CREATE", &stream.frames, GROUP.as_bytes(), b"0", b"MKSTREAM"]);
        }
        connection.send(&create)?;
        connection.skip(create.len())?;
        let mut chunks: Vec<Chunk> = Vec::new();
        for stream in streams {
            match chunks.last_mut() {
                Some(chunk) if chunk.streams.len() < told.streams.max(1) => chunk.streams.push(stream),
                _ => chunks.push(Chunk { streams: vec![stream], read: Commands::default() }),
            }
        }
        let count = told.count.to_string();
        for chunk in &mut chunks {
            let read = &mut chunk.read;
            read.begin(7 + 2 * chunk.streams.len());
            for word in
                [&b"XREADGROUP"[..], b"GROUP", GROUP.as_bytes(), b"reader", b"COUNT", count.as_bytes(), b"STREAMS"]
            {
                read.argument(word);
            }
            chunk.streams.iter().for_each(|stream| read.argument(&stream.frames));
            chunk.streams.iter().for_each(|_| read.argument(b">"));
        }
        Ok(Self {
            connection,
            board,
            depth: told.depth.clamp(1, chunks.len().max(1)),
            chunks,
            pause: Duration::from_micros(told.pause_us),
            results: told.results,
            rings: told.touch.then(|| Rings::new(RingsOptions::default())),
        })
    }

    fn run(&mut self, stop: &AtomicBool) -> io::Result<Said> {
        let mut said = Said { read: 0, unreadable: 0 };
        // By pipeline on its way: answers before that of its read, and entries that they settle.
        let mut sent: std::collections::VecDeque<(usize, usize, u64)> = std::collections::VecDeque::new();
        let mut pipeline = Commands::default();
        let (mut next, mut round) = (0, 0);
        let mut settled = 0;
        while !stop.load(Ordering::Acquire) || !sent.is_empty() {
            while sent.len() < self.depth && !stop.load(Ordering::Acquire) {
                let before = pipeline.len();
                pipeline.append(&self.chunks[next].read);
                self.connection.send(&pipeline)?;
                pipeline.clear();
                sent.push_back((next, before, std::mem::take(&mut settled)));
                next = (next + 1) % self.chunks.len();
            }
            let Some((number, before, done)) = sent.pop_front() else { break };
            self.connection.skip(before)?;
            self.board.add_done(done);
            let chunk = &self.chunks[number];
            let found = take(
                self.connection.answer()?,
                chunk,
                self.results,
                &mut pipeline,
                self.rings.as_mut(),
                &mut said.unreadable,
            )?;
            said.read += found;
            settled += found;
            round += found;
            // A whole round that brought less than an entry of every other stream: let some gather.
            if number + 1 == self.chunks.len() {
                let streams: usize = self.chunks.iter().map(|chunk| chunk.streams.len()).sum();
                if (round as usize) < streams / 2 && !self.pause.is_zero() {
                    std::thread::sleep(self.pause);
                }
                round = 0;
            }
        }
        // What was read last is settled too.
        self.connection.send(&pipeline)?;
        self.connection.skip(pipeline.len())?;
        self.board.add_done(settled);
        Ok(said)
    }
}

/// Walks an answer of XREADGROUP and adds what settles its entries.
fn take(
    mut answer: Answer<'_>,
    chunk: &Chunk,
    results: bool,
    pipeline: &mut Commands,
    mut rings: Option<&mut Rings>,
    unreadable: &mut u64,
) -> io::Result<u64> {
    let streams = match answer.next() {
        Some(Piece::Array(streams)) => streams,
        Some(Piece::Error(text)) => return Err(io::Error::other(String::from_utf8_lossy(text).into_owned())),
        _ => 0,
    };
    let mut found = 0;
    let mut place = 0;
    let mut ids: Vec<&[u8]> = Vec::new();
    for _ in 0..streams {
        answer.array();
        let key = answer.bytes();
        // In the order in which they were asked for, those without entries left out.
        while chunk.streams.get(place).is_some_and(|stream| stream.frames != key) {
            place += 1;
        }
        let Some(stream) = chunk.streams.get(place) else {
            return Err(io::Error::other("a stream that was not asked for"));
        };
        ids.clear();
        for _ in 0..answer.array() {
            answer.array();
            let id = answer.bytes();
            let fields = answer.array();
            match &mut rings {
                Some(rings) => {
                    if !touch(&mut answer, fields, rings) {
                        *unreadable += 1;
                    }
                }
                None => (0..fields).for_each(|_| {
                    let _ = answer.next();
                }),
            }
            if results {
                pipeline.push(&[b"XADD", &stream.results, id, b"data", RESULT]);
            }
            ids.push(id);
        }
        pipeline.begin(3 + ids.len());
        for argument in [b"XACK", &stream.frames[..], GROUP.as_bytes()].into_iter().chain(ids.iter().copied()) {
            pipeline.argument(argument);
        }
        found += ids.len() as u64;
    }
    Ok(found)
}

/// Reads every byte of a frame's payload: in the message, or in shared memory.
fn touch(answer: &mut Answer<'_>, fields: usize, rings: &mut Rings) -> bool {
    let (mut segment, mut generation, mut length) = (&b""[..], 0, 0);
    let mut seen = false;
    for _ in 0..fields / 2 {
        let (name, value) = (answer.bytes(), answer.bytes());
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        match name {
            b"data" => {
                std::hint::black_box(sum(value));
                seen = true;
            }
            b"seg" => segment = value,
            b"gen" => generation = number(),
            b"len" => length = number(),
            _ => {}
        }
    }
    if seen {
        return true;
    }
    let Ok(handle) = rings.handle(&String::from_utf8_lossy(segment), generation, length) else { return false };
    handle
        .segment
        .read(handle.generation, &mut |view| {
            let bytes = match view {
                PictureView::Encoded(bytes) => bytes,
                PictureView::Raw(raw) => raw.bytes,
            };
            std::hint::black_box(sum(bytes));
        })
        .is_ok()
}

/// Every byte, eight at a time.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
