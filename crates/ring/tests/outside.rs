//! Producers in other languages: what `python/omma/ring.py` and `examples/producer.c` write is read back byte for byte,
//! torn by nobody, and their names are given and taken by the same rules.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use omma_frame::{DropReason, PictureView, PixelFormat, Size, UnixNanos};
use omma_ring::{CreateError, Format, Meta, Producer, RingOptions, RingSegment, Rings, RingsOptions, sweep};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm")
}

fn rings(folder: &Path) -> Rings {
    Rings::new(RingsOptions { folder: folder.to_owned(), ..RingsOptions::default() })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether a program is there. Where runtimes are required (in CI) it must be.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what they did not test")]
fn present(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    let required = std::env::var_os("OMMA_REQUIRE_RUNTIMES").is_some_and(|value| value == "1");
    assert!(found || !required, "{program} is missing, and OMMA_REQUIRE_RUNTIMES=1 says that it must be there");
    if !found {
        eprintln!("NOT RUN: {program} is missing, so nothing is known about producers that need it");
    }
    found
}

/// A program that writes; killed when it is dropped.
struct Outside {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Outside {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn python(script: &str, arguments: &[&str]) -> Self {
        Self::start(
            Command::new("python3").args(["-c", script]).args(arguments).env("PYTHONPATH", root().join("python")),
        )
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// The numbers of the next line.
    fn numbers(&mut self) -> Vec<u64> {
        let line = self.line();
        line.split(' ').map(|number| number.parse().unwrap_or_else(|_| panic!("{line:?}"))).collect()
    }

    /// Lets it end by itself.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("an end").success());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn payload(sequence: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| (sequence * 31 + at * 7) as u8).collect()
}

/// Every format, at some sizes, around the ring several times; each picture is asked for at once.
const EVERY_FORMAT: &str = r#"
import sys
from omma.ring import Producer
folder = sys.argv[1]
with Producer("python", 60_000, folder=folder) as ring:
    table = [("jpeg", 1000, 0, 0), ("png", 1, 0, 0), ("rgb", 144, 8, 6), ("bgr", 9600, 80, 40), ("gray", 48, 8, 6),
             ("nv12", 72, 8, 6), ("i420", 4800, 80, 40)]
    for sequence in range(210):
        format, length, width, height = table[sequence % len(table)]
        payload = bytes((sequence * 31 + at * 7) & 0xFF for at in range(length))
        if sequence % 3 == 1:
            payload = memoryview(bytearray(payload))
        handle = ring.write(payload, format=format, sequence=sequence, captured_at=sequence + 7, width=width, height=height)
        assert handle.segment == "omma-python" and handle.fields()["gen"] == handle.generation
        print(handle.generation, handle.length, sequence % len(table), flush=True)
        sys.stdin.readline()
    sys.stdin.read()
"#;

#[test]
fn what_python_writes_is_read_back_byte_for_byte() {
    if !present("python3") {
        return;
    }
    let folder = folder();
    let mut python = Outside::python(EVERY_FORMAT, &[folder.path().to_str().expect("UTF-8")]);
    let (small, large) = (Size { width: 8, height: 6 }, Size { width: 80, height: 40 });
    let table = [
        (Format::Jpeg, Size::default()),
        (Format::Png, Size::default()),
        (Format::Raw(PixelFormat::Rgb), small),
        (Format::Raw(PixelFormat::Bgr), large),
        (Format::Raw(PixelFormat::Gray), small),
        (Format::Raw(PixelFormat::Nv12), small),
        (Format::Raw(PixelFormat::I420), large),
    ];
    let mut segment = None;
    for sequence in 0..210 {
        let numbers = python.numbers();
        let (generation, len, (format, size)) = (numbers[0], numbers[1], table[numbers[2] as usize]);
        let segment = segment.get_or_insert_with(|| {
            let file = std::fs::File::open(folder.path().join("omma-python")).expect("the segment");
            RingSegment::open(&file, "omma-python").expect("a ring")
        });
        let mut seen = None;
        let shown = segment.read_slot(generation, &mut |meta, view| {
            let bytes = match view {
                PictureView::Encoded(bytes) => bytes,
                PictureView::Raw(raw) => raw.bytes,
            };
            seen = Some((*meta, bytes.to_vec()));
        });
        shown.expect("it is there");
        let meta = Meta { sequence, captured_at: UnixNanos(sequence + 7), format, size };
        assert_eq!(seen, Some((meta, payload(sequence, len))));
        use std::io::Write;
        python.child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("it lives");
    }
    python.end();
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left");
}

/// Says handles to whoever reads fast enough, and never waits.
const RACE: &str = r#"
import os, sys
from omma.ring import Producer
os.set_blocking(1, False)
ring = Producer("python", 1 << 20, folder=sys.argv[1])
sequence = 0
while True:
    width, height = 64 * (1 + sequence % 7), 64 + sequence * 37 % 270
    word = (sequence * 0x9E3779B97F4A7C15 + 1 & (1 << 64) - 1).to_bytes(8, "little")
    handle = ring.write(word * (width * height // 8), format="gray", sequence=sequence, width=width, height=height)
    sequence += 1
    try:
        os.write(1, b"%d %d\n" % (handle.generation, handle.length))
    except BlockingIOError:
        pass
"#;

#[test]
fn what_python_overwrites_while_it_is_read_is_never_shown_torn() {
    if !present("python3") {
        return;
    }
    let folder = folder();
    let mut rings = rings(folder.path());
    let (mut whole, mut overwritten) = (0_u64, 0_u64);
    for _ in 0..20 {
        let mut python = Outside::python(RACE, &[folder.path().to_str().expect("UTF-8")]);
        let pipe = std::mem::replace(&mut python.lines, BufReader::new(empty_pipe()));
        let (latest, ended) = (Mutex::new(None), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for line in pipe.lines().map_while(Result::ok) {
                    let numbers: Option<Vec<u64>> = line.split(' ').map(|number| number.parse().ok()).collect();
                    *latest.lock().expect("no panic") = numbers.filter(|numbers| numbers.len() == 2);
                }
                ended.store(true, Ordering::SeqCst);
            });
            // Killed when this closure is left, however: the thread above ends with it, in the middle of whatever it does.
            let _python = python;
            let begun = Instant::now();
            let (whole_before, overwritten_before) = (whole, overwritten);
            // Until both have happened, however busy the machine is.
            while whole < whole_before + 100 || overwritten < overwritten_before + 5 {
                assert!(begun.elapsed() < Duration::from_secs(60), "{whole} whole, {overwritten} overwritten");
                assert!(!ended.load(Ordering::SeqCst), "python must write");
                let Some(numbers) = latest.lock().expect("no panic").take() else { continue };
                // Again and again, so that its end comes while it is read.
                for _ in 0..20 {
                    let mut torn = false;
                    let read = rings.handle("omma-python", numbers[0], numbers[1]).and_then(|handle| {
                        handle.segment.read(numbers[0], &mut |view| {
                            let PictureView::Raw(raw) = view else { panic!("not what was written") };
                            let (word, rest) = raw.bytes.split_at(8);
                            torn = raw.bytes.len() as u64 != numbers[1] || rest.chunks(8).any(|chunk| chunk != word);
                        })
                    });
                    match read {
                        Ok(()) => {
                            assert!(!torn, "a torn picture was accepted: {numbers:?}");
                            whole += 1;
                        }
                        Err(what) => {
                            assert_eq!(what.reason, DropReason::HandleOverwritten, "{}", what.message);
                            overwritten += 1;
                            break;
                        }
                    }
                }
            }
        });
    }
    let swept = sweep(folder.path(), Duration::ZERO).expect("the folder");
    assert_eq!(swept.removed.len(), 1, "each took over from the one before");
}

/// Something to put in the place of a pipe that is taken.
fn empty_pipe() -> ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().expect("a child");
    let pipe = child.stdout.take().expect("a pipe");
    let _ = child.wait();
    pipe
}

/// What must be refused; and a fork, which must not keep the name.
const REFUSALS: &str = r#"
import os, sys
from omma.ring import Producer, RingError
folder = sys.argv[1]
def refused(text, action):
    try:
        action()
    except RingError as error:
        assert text in str(error), str(error)
    else:
        raise AssertionError(text)
refused("a producer's name is", lambda: Producer("a/b", 4096, folder=folder))
refused("a ring of 0 bytes", lambda: Producer("a", 0, folder=folder))
refused("no ring of ours", lambda: Producer("text", 4096, folder=folder))
refused("no ring of ours", lambda: Producer("folder", 4096, folder=folder))
refused("is alive", lambda: Producer("rust", 4096, folder=folder))
assert Producer("empty", 4096, folder=folder).capacity == 4096
ring = Producer("python", 5000, folder=folder)
assert ring.capacity == 8192
refused("is alive", lambda: Producer("python", 4096, folder=folder))
refused("no bytes", lambda: ring.write(b"", format="jpeg"))
refused("format is 'gif'", lambda: ring.write(b"x", format="gif"))
refused("has 11 bytes, expected 12: rgb of 2x2", lambda: ring.write(bytes(11), format="rgb", width=2, height=2))
refused("expected at most 8128", lambda: ring.write(bytes(8129), format="jpeg"))
first = ring.write(b"first", format="jpeg")
child = os.fork()
if child == 0:
    refused("is closed", lambda: ring.write(b"x", format="jpeg"))
    sys.stdin.read()
    os._exit(0)
ring.close(keep=True)
refused("is closed", lambda: ring.write(b"x", format="jpeg"))
with Producer("python", 4096, folder=folder) as again:
    second = again.write(b"second", format="jpeg")
    assert second.generation > first.generation
print("all refused", flush=True)
sys.stdin.read()
"#;

#[test]
fn python_refuses_what_rust_refuses_and_takes_over_by_the_same_rules() {
    if !present("python3") {
        return;
    }
    let folder = folder();
    std::fs::write(folder.path().join("omma-text"), vec![b'x'; 10_000]).expect("a file");
    std::fs::write(folder.path().join("omma-empty"), "").expect("a file");
    std::fs::create_dir(folder.path().join("omma-folder")).expect("a folder");
    let options = RingOptions { folder: folder.path().to_owned(), ..RingOptions::new(4096) };
    let rust = Producer::create("rust", &options).expect("a ring");
    let mut python = Outside::python(REFUSALS, &[folder.path().to_str().expect("UTF-8")]);
    assert_eq!(python.line(), "all refused");
    python.end();
    drop(rust);
    // The other way round.
    let python = "import sys\nfrom omma.ring import Producer\nring = Producer('python', 4096, folder=sys.argv[1])\n\
                  print(ring.write(b'old', format='jpeg').generation, flush=True)\nsys.stdin.read()\nring.close(keep=True)";
    let mut python = Outside::python(python, &[folder.path().to_str().expect("UTF-8")]);
    let old = python.numbers()[0];
    let refused = Producer::create("python", &options).expect_err("alive");
    assert!(matches!(refused, CreateError::InUse { pid, .. } if pid == python.child.id()), "{refused}");
    python.end();
    let mut rust = Producer::create("python", &options).expect("a ring");
    let new = rust.write(&Meta::encoded(Format::Jpeg, 0, UnixNanos(0)), b"new").expect("room");
    assert!(new > old);
    let handle = rings(folder.path()).handle("omma-python", old, 3).expect("a handle");
    let read = handle.segment.read(old, &mut |_| panic!("nothing to show"));
    assert_eq!(read.expect_err("long gone").reason, DropReason::HandleOverwritten);
}

#[test]
fn what_c_writes_is_read_back_byte_for_byte() {
    if !present("cc") {
        return;
    }
    let folder = folder();
    let program = folder.path().join("producer");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/producer.c");
    let built = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .status()
        .expect("cc runs");
    assert!(built.success());
    let mut c = Outside::start(Command::new(&program).arg(folder.path()).args(["c", "40000", "100"]));
    let mut rings = rings(folder.path());
    let handles: Vec<(u64, u64)> = (0..100)
        .map(|_| {
            let numbers = c.numbers();
            (numbers[0], numbers[1])
        })
        .collect();
    // 3136 bytes each with its header: 13 in a ring of 40,960.
    for (sequence, (generation, len)) in (0..).zip(handles) {
        let handle = rings.handle("omma-c", generation, len).expect("a handle");
        let mut seen = Vec::new();
        let read = handle.segment.read(generation, &mut |view| {
            let PictureView::Raw(raw) = view else { panic!("not what was written") };
            assert_eq!((raw.size, raw.format), (Size { width: 64, height: 48 }, PixelFormat::Gray));
            seen = raw.bytes.to_vec();
        });
        match read {
            Ok(()) => assert!(sequence >= 87 && seen == payload(sequence, len), "{sequence}"),
            Err(what) => assert!(sequence < 88 && what.reason == DropReason::HandleOverwritten, "{sequence}: {what:?}"),
        }
    }
    c.end();
    assert!(!folder.path().join("omma-c").exists());
}
