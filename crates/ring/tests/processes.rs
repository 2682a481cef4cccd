//! Real processes and real signals: producers and readers are killed at any point, hundreds of times, and what is read is
//! whole or refused.
//!
//! The children are this test's own program, started again with a role in the environment.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use omma_frame::{DropReason, PictureView, PixelFormat, Size, UnixNanos};
use omma_ring::{Meta, Producer, RingOptions, Rings, RingsOptions, sweep};

const ROLE: &str = "OMMA_RING_TEST_ROLE";
const FOLDER: &str = "OMMA_RING_TEST_FOLDER";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ring that holds about twelve of the pictures that go into it.
const RING_BYTES: u64 = 1 << 20;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm")
}

fn options(folder: &Path) -> RingOptions {
    RingOptions { folder: folder.to_owned(), ..RingOptions::new(RING_BYTES) }
}

fn rings(folder: &Path) -> Rings {
    Rings::new(RingsOptions { folder: folder.to_owned(), ..RingsOptions::default() })
}

/// Marsaglia's xorshift: the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A picture that says who and which it is in every row: one that is mixed of two contradicts itself.
fn draw(seed: u64, sequence: u64, pixels: &mut [u8]) {
    let word = (seed ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
    pixels.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&word[..chunk.len()]));
}

fn is_whole(pixels: &[u8]) -> bool {
    let (word, rest) = pixels.split_at(8);
    rest.chunks(8).all(|chunk| *chunk == word[..chunk.len()])
}

/// Sizes from 4 KB to 150 KB, so that slots begin anywhere.
fn size_of(sequence: u64) -> Size {
    Size { width: 64 * (1 + (sequence % 7) as u32), height: 64 + (sequence * 37 % 270) as u32 }
}

/// Not a test: what the children of the tests do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    match role.as_str() {
        "producer" => produce(&folder),
        "reader" => consume(&folder),
        role => panic!("no such role: {role}"),
    }
}

/// Writes pictures until it is killed, and says their handles to whoever listens, waiting for nobody.
fn produce(folder: &Path) {
    let mut producer = Producer::create("gate", &options(folder)).expect("a ring");
    // Without the standard library's buffer: a record goes into the pipe whole or not at all.
    let mut pipe = File::from(std::io::stdout().as_fd().try_clone_to_owned().expect("a pipe"));
    // SAFETY: a call on an open file.
    assert_eq!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
    let seed = u64::from(std::process::id()) << 32;
    for sequence in 0.. {
        let size = size_of(sequence);
        let len = size.width as usize * size.height as usize;
        let meta = Meta::raw(PixelFormat::Gray, size, sequence, UnixNanos(0));
        let generation = producer.write_with(&meta, len, |room| draw(seed, sequence, room)).expect("room");
        let mut record = [0; 16];
        record[..8].copy_from_slice(&generation.to_le_bytes());
        record[8..].copy_from_slice(&(len as u64).to_le_bytes());
        let _ = pipe.write(&record);
    }
}

/// Reads whatever handles come in, until it is killed.
fn consume(folder: &Path) {
    let mut rings = rings(folder);
    let mut record = [0; 16];
    let mut stdin = std::io::stdin().lock();
    while stdin.read_exact(&mut record).is_ok() {
        let (generation, len) = parsed(&record);
        if let Ok(handle) = rings.handle("omma-gate", generation, len) {
            let _ = handle.segment.read(generation, &mut |view| assert!(matches!(view, PictureView::Raw(_))));
        }
    }
}

fn parsed(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| record[at + i]));
    (number(0), number(8))
}

/// A child with one of the roles above; killed when it is dropped.
struct Role {
    child: Child,
}

impl Role {
    fn start(role: &str, folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        Self { child }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// SIGKILL, and gone when this returns.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn handles(&mut self) -> Handles {
        let pipe = self.child.stdout.take().expect("a pipe");
        // SAFETY: a call on an open file.
        assert_eq!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
        Handles { pipe, bytes: Vec::new(), text: true }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a producer says.
struct Handles {
    pipe: ChildStdout,
    bytes: Vec<u8>,
    /// The test's harness prints some lines before the child begins.
    text: bool,
}

impl Handles {
    /// Those that have come since the last call.
    fn new_ones(&mut self) -> Vec<(u64, u64)> {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a pipe: {error}"),
            }
        }
        if self.text {
            let start = b"running 1 test\n";
            let Some(at) = self.bytes.windows(start.len()).position(|window| window == start) else {
                return Vec::new();
            };
            self.bytes.drain(..at + start.len());
            self.text = false;
        }
        // "test child ... " follows without a line's end.
        let prefix = b"test child ... ";
        if self.bytes.starts_with(prefix) {
            self.bytes.drain(..prefix.len());
        } else if prefix.starts_with(&self.bytes) {
            return Vec::new();
        }
        let whole = self.bytes.len() / 16 * 16;
        self.bytes.drain(..whole).collect::<Vec<u8>>().chunks(16).map(parsed).collect()
    }
}

/// What became of the handles that were read.
#[derive(Debug, Default)]
struct Tally {
    whole: u64,
    overwritten: u64,
    invalid: u64,
}

impl Tally {
    /// # Panics
    /// A picture passed both checks and is not whole.
    fn read(&mut self, rings: &mut Rings, generation: u64, len: u64) {
        let mut whole = false;
        let mut found = (0, false);
        let read = rings.handle("omma-gate", generation, len).and_then(|handle| {
            handle.segment.read(generation, &mut |view| {
                let PictureView::Raw(raw) = view else { panic!("not what was written") };
                whole = raw.bytes.len() as u64 == len && is_whole(raw.bytes);
                found = (raw.bytes.len() as u64, is_whole(raw.bytes));
            })
        });
        match read {
            Ok(()) => {
                assert!(
                    whole,
                    "a torn picture was accepted: generation {generation}, {len} bytes expected, found (bytes, whole) {found:?}"
                );
                self.whole += 1;
            }
            Err(what) if what.reason == DropReason::HandleOverwritten => self.overwritten += 1,
            Err(what) => {
                assert_eq!(what.reason, DropReason::HandleInvalid, "{}", what.message);
                self.invalid += 1;
            }
        }
    }
}

#[test]
fn producers_killed_at_any_point_leave_nothing_torn_and_nothing_behind() {
    let folder = folder();
    let mut rings = rings(folder.path());
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut tally, mut after_death) = (Tally::default(), Tally::default());
    let mut old: Vec<(u64, u64)> = Vec::new();
    for round in 0..300 {
        let mut producer = Role::start("producer", folder.path());
        let mut handles = producer.handles();
        // Every fourth is killed some time after its start, wherever that is: before, while or after it makes its ring.
        let waits = round % 4 != 0;
        let begun = Instant::now();
        let mut first = (!waits).then_some(begun);
        let life = Duration::from_micros(dice.roll() % if waits { 6000 } else { 9000 });
        while first.is_none_or(|first| first.elapsed() < life) {
            assert!(begun.elapsed() < PATIENCE, "round {round}: a restarted producer must work");
            for (generation, len) in handles.new_ones() {
                first.get_or_insert_with(Instant::now);
                tally.read(&mut rings, generation, len);
                old.push((generation, len));
            }
        }
        producer.kill();
        // What it said last is still there, unless it had begun to write over it.
        for (generation, len) in handles.new_ones() {
            after_death.read(&mut rings, generation, len);
            old.push((generation, len));
        }
        // Handles of all that came before never show what came after.
        let again = old.len().saturating_sub(50);
        old.drain(..again);
        let mut before = Tally::default();
        old.iter().for_each(|(generation, len)| before.read(&mut rings, *generation, *len));
        let left = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert!(left <= 1, "round {round}: {left} files of one producer");
    }
    assert!(tally.whole > 100 && after_death.whole > 100, "{tally:?} {after_death:?}");
    assert!(tally.overwritten > 0, "{tally:?}: nothing was raced");
    assert_eq!(after_death.invalid, 0);
    let swept = sweep(folder.path(), Duration::ZERO).expect("the folder");
    assert!(swept.refused.is_empty() && swept.removed.len() <= 1, "{swept:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_producer_stopped_in_the_middle_blocks_nobody() {
    let folder = folder();
    let mut rings = rings(folder.path());
    let mut producer = Role::start("producer", folder.path());
    let mut handles = producer.handles();
    let (begun, mut tally) = (Instant::now(), Tally::default());
    for _ in 0..200 {
        let mut seen = Vec::new();
        while seen.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{tally:?}");
            seen = handles.new_ones();
        }
        producer.signal(libc::SIGSTOP);
        seen.extend(handles.new_ones());
        seen.iter().for_each(|(generation, len)| tally.read(&mut rings, *generation, *len));
        producer.signal(libc::SIGCONT);
    }
    assert!(tally.whole > 200 && tally.invalid == 0, "{tally:?}");
}

#[test]
fn a_killed_reader_is_nothing_to_its_producer() {
    let folder = folder();
    let mut producer = Producer::create("gate", &options(folder.path())).expect("a ring");
    let (mut dice, mut sequence) = (Dice(7), 0);
    for _ in 0..30 {
        let mut reader = Role::start("reader", folder.path());
        let mut pipe: File = File::from(OwnedFd::from(reader.child.stdin.take().expect("a pipe")));
        let (begun, life) = (Instant::now(), Duration::from_micros(dice.roll() % 8000));
        while begun.elapsed() < life {
            let size = size_of(sequence);
            let len = size.width as usize * size.height as usize;
            let meta = Meta::raw(PixelFormat::Gray, size, sequence, UnixNanos(0));
            let generation = producer.write_with(&meta, len, |room| draw(1, sequence, room)).expect("room");
            let record = [generation.to_le_bytes(), (len as u64).to_le_bytes()].concat();
            pipe.write_all(&record).expect("the reader lives");
            sequence += 1;
        }
        reader.kill();
    }
    assert!(sequence > 30);
    drop(producer);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn many_producers_that_want_one_name_get_it_one_after_the_other() {
    let folder = folder();
    let (alive, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let begun = Instant::now();
                while made.load(SeqCst) < 200 && begun.elapsed() < PATIENCE {
                    let Ok(producer) = Producer::create("gate", &options(folder.path())) else { continue };
                    assert_eq!(alive.fetch_add(1, SeqCst), 0, "two at once");
                    let number = made.fetch_add(1, SeqCst);
                    let _ = sweep(folder.path(), Duration::ZERO).expect("the folder");
                    assert!(producer.path().exists(), "a living one's segment was removed");
                    assert_eq!(alive.fetch_sub(1, SeqCst), 1);
                    if number.is_multiple_of(2) { producer.leave() } else { drop(producer) }
                }
            });
        }
    });
    assert!(made.load(SeqCst) >= 200, "{made:?}");
    let _ = sweep(folder.path(), Duration::ZERO).expect("the folder");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}
