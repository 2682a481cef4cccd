//! Segments as the Python pipeline writes them, written here in exactly its form and order.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use omma_frame::{DropReason, Handle, Payload, PictureView, PixelFormat, Size, Unreadable};
use omma_ring::{CompatRings, RingsOptions};

const SIZE: Size = Size { width: 80, height: 50 };
const FRAME: usize = 80 * 50 * 3;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm")
}

fn rings(folder: &Path) -> CompatRings {
    CompatRings::new(RingsOptions { folder: folder.to_owned(), ..RingsOptions::default() })
}

/// Writes through the files, which a mapping of them sees as well.
struct Writer {
    meta: File,
    frames: File,
    slots: u64,
    stride: u64,
    index: u64,
    sequences: Vec<u32>,
}

impl Writer {
    fn new(folder: &Path, name: &str, slots: u64, format: u32, frame_bytes: u64) -> Self {
        let fresh = |path: PathBuf, bytes: u64| {
            let _ = std::fs::remove_file(&path);
            let file = OpenOptions::new().create_new(true).read(true).write(true).open(path).expect("a file");
            file.set_len(bytes).expect("room");
            file
        };
        let stride = frame_bytes.next_multiple_of(4096);
        let meta = fresh(folder.join(name), 768 + 48 * slots);
        let frames = fresh(folder.join(format!("{name}_frames")), slots * stride);
        let mut header = vec![0; 768];
        let mut put = |at: usize, value: u64| header[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        put(36, slots);
        put(40, u64::from(SIZE.width));
        put(44, u64::from(SIZE.height));
        put(48, 3);
        put(128, 32);
        put(664, u64::from(format));
        put(668, frame_bytes);
        put(672, stride);
        put(676, 0x4D41_5452);
        put(680, 2);
        meta.write_all_at(&header, 0).expect("the header");
        Self { meta, frames, slots, stride, index: 0, sequences: vec![0; slots as usize] }
    }

    fn bgr(folder: &Path, slots: u64) -> Self {
        Self::new(folder, "shm_rb_gate", slots, 2, FRAME as u64)
    }

    /// `halfway` is called when a part of the frame is written.
    fn write_with(&mut self, bytes: &[u8], halfway: impl FnOnce()) -> u64 {
        self.index += 1;
        let slot = (self.index - 1) % self.slots;
        let at = 768 + slot * 48;
        self.sequences[slot as usize] += 1;
        let odd = self.sequences[slot as usize];
        let meta = |bytes: &[u8], at: u64| self.meta.write_all_at(bytes, at).expect("written");
        meta(&odd.to_le_bytes(), at + 28);
        let (one, other) = bytes.split_at(bytes.len() / 2);
        self.frames.write_all_at(one, slot * self.stride).expect("written");
        halfway();
        self.frames.write_all_at(other, slot * self.stride + one.len() as u64).expect("written");
        let mut record = [0; 48];
        record[..8].copy_from_slice(&self.index.to_le_bytes());
        record[28..32].copy_from_slice(&odd.to_le_bytes());
        record[32..36].copy_from_slice(&odd.to_le_bytes());
        meta(&record, at);
        let even = (odd + 1).to_le_bytes();
        meta(&even, at + 32);
        meta(&even, at + 28);
        let index = self.index.to_le_bytes();
        meta(&[index, [0; 8], index, [1; 8]].concat(), 0);
        self.sequences[slot as usize] += 1;
        self.index
    }

    fn write(&mut self, bytes: &[u8]) -> u64 {
        self.write_with(bytes, || {})
    }
}

fn picture(number: u64) -> Vec<u8> {
    vec![number as u8; FRAME]
}

fn read(handle: &Handle) -> Result<Vec<u8>, Unreadable> {
    let mut copied = Vec::new();
    handle.segment.read(handle.generation, &mut |view| {
        let PictureView::Raw(raw) = view else { panic!("raw pixels") };
        copied = raw.bytes.to_vec();
    })?;
    Ok(copied)
}

fn reason<T: std::fmt::Debug>(result: Result<T, Unreadable>) -> DropReason {
    result.expect_err("nothing to read").reason
}

#[test]
fn frames_are_read_until_they_are_overwritten() {
    let folder = folder();
    let mut writer = Writer::bgr(folder.path(), 4);
    let mut rings = rings(folder.path());
    for number in 1..=10 {
        assert_eq!(writer.write(&picture(number)), number);
        for index in 1..=number {
            let read = read(&rings.handle("shm_rb_gate", index, Some(SIZE)).expect("a handle"));
            if number - index < 4 {
                assert_eq!(read, Ok(picture(index)));
            } else {
                assert_eq!(reason(read), DropReason::HandleOverwritten);
            }
        }
    }
    for (index, text) in [(0, "not written yet"), (11, "not written yet"), (u64::MAX, "not written yet")] {
        let refused = read(&rings.handle("shm_rb_gate", index, None).expect("a handle")).expect_err("no such frame");
        assert!(refused.reason == DropReason::HandleInvalid && refused.message.contains(text), "{refused:?}");
    }
    assert!(matches!(rings.payload("shm_rb_gate", 10, None), Payload::Handle(handle) if handle.byte_len == FRAME));
    assert!(matches!(rings.payload("shm_rb_none", 10, None), Payload::Unreadable(_)));
}

#[test]
fn each_format_is_what_its_number_says() {
    let pixels = u64::from(SIZE.width * SIZE.height);
    let table = [
        (0, pixels / 2 * 3, Some(PixelFormat::Nv12)),
        (1, pixels * 3, Some(PixelFormat::Rgb)),
        (2, pixels * 3, Some(PixelFormat::Bgr)),
        (3, pixels * 3, None),
        (2, pixels * 2, None),
    ];
    for (format, frame_bytes, expected) in table {
        let folder = folder();
        let mut writer = Writer::new(folder.path(), "shm_cam_1", 2, format, frame_bytes);
        let index = writer.write(&vec![7; frame_bytes as usize]);
        let handle = rings(folder.path()).handle("shm_cam_1", index, Some(SIZE));
        let Some(expected) = expected else {
            assert_eq!(reason(handle), DropReason::HandleInvalid);
            continue;
        };
        let mut seen = None;
        let read = handle.expect("a handle").segment.read(index, &mut |view| {
            let PictureView::Raw(raw) = view else { panic!("raw pixels") };
            seen = Some((raw.format, raw.size, raw.bytes.len() as u64));
        });
        assert_eq!((read, seen), (Ok(()), Some((expected, SIZE, frame_bytes))));
    }
}

#[test]
fn a_frame_that_is_written_while_it_is_read_is_refused() {
    let folder = folder();
    let mut writer = Writer::bgr(folder.path(), 2);
    let first = writer.write(&picture(1));
    writer.write(&picture(2));
    let handle = rings(folder.path()).handle("shm_rb_gate", first, None).expect("a handle");
    // Found so.
    writer.write_with(&picture(3), || assert_eq!(reason(read(&handle)), DropReason::HandleOverwritten));
    // Become so.
    let second = Handle { generation: 2, ..handle };
    let read = second.segment.read(2, &mut |_| {
        writer.write(&picture(4));
    });
    assert_eq!(reason(read), DropReason::HandleOverwritten);
}

#[test]
fn no_torn_frame_is_accepted_from_a_writer_that_never_stops() {
    let folder = folder();
    let mut writer = Writer::bgr(folder.path(), 3);
    let (latest, stop) = (Mutex::new(None), AtomicBool::new(false));
    let mut rings = rings(folder.path());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                let index = writer.write(&picture(number));
                *latest.lock().expect("no panic") = Some(index);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let (begun, mut whole, mut overwritten) = (Instant::now(), 0, 0);
        while whole < 2000 || overwritten < 100 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{whole} whole, {overwritten} overwritten");
            let Some(index) = latest.lock().expect("no panic").take() else { continue };
            let handle = rings.handle("shm_rb_gate", index, Some(SIZE)).expect("a handle");
            for _ in 0..10 {
                match read(&handle) {
                    Ok(bytes) => {
                        assert!(bytes.iter().all(|byte| *byte == index as u8), "a torn frame was accepted: {index}");
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
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_restarted_producer_is_noticed_with_the_next_handle() {
    let folder = folder();
    let mut rings = rings(folder.path());
    let mut first = Writer::bgr(folder.path(), 4);
    first.write(&picture(1));
    let old = rings.handle("shm_rb_gate", 1, None).expect("a handle");
    let mut second = Writer::bgr(folder.path(), 4);
    second.write(&picture(100));
    assert_eq!(read(&rings.handle("shm_rb_gate", 1, None).expect("a handle")), Ok(picture(100)));
    assert_eq!(read(&old), Ok(picture(1)), "what is mapped stays");
    assert_eq!((rings.mapped(), rings.refresh(), rings.refresh(), rings.mapped()), (1, 0, 1, 0));
}

#[test]
fn what_is_no_such_segment_is_refused_by_name() {
    let slots = |count: u32| (36, count.to_le_bytes());
    let table = [
        ("magic", (676, [0; 4]), "its header says 0x0"),
        ("version", (680, [1, 0, 0, 0]), "version 1"),
        ("no slots", slots(0), "0 slots"),
        ("more slots than there are", slots(5), "5 slots"),
        ("slots that overflow", slots(u32::MAX), "4294967295 slots"),
        ("width", (40, u32::MAX.to_le_bytes()), "pixels do not have"),
        ("stride below a frame", (672, [0, 1, 0, 0]), "slots of 256 bytes"),
        ("stride beyond the file", (672, u32::MAX.to_le_bytes()), "slots of 4294967295 bytes"),
    ];
    for (what, (at, bytes), text) in table {
        let folder = folder();
        let mut writer = Writer::bgr(folder.path(), 4);
        writer.write(&picture(1));
        writer.meta.write_all_at(&bytes, at).expect("a change");
        let refused = rings(folder.path()).handle("shm_rb_gate", 1, None).expect_err(what);
        assert_eq!(refused.reason, DropReason::HandleInvalid);
        assert!(refused.message.contains(text), "{what}: {}", refused.message);
    }
    let folder = folder();
    let mut writer = Writer::bgr(folder.path(), 4);
    let index = writer.write(&picture(1));
    let mut rings = rings(folder.path());
    let other = Size { width: 81, ..SIZE };
    for (name, size, text) in [
        ("shm_rb_gate", Some(other), "the message says 81x50"),
        ("shm_rb_none", None, "there is no"),
        ("omma-gate", None, "begins with something else than"),
        ("shm_../x", None, "'/'"),
    ] {
        let refused = rings.handle(name, index, size).expect_err(name);
        assert!(refused.reason == DropReason::HandleInvalid && refused.message.contains(text), "{}", refused.message);
    }
    // Truncated while it is mapped, either file.
    let handle = rings.handle("shm_rb_gate", index, None).expect("a handle");
    assert_eq!(read(&handle), Ok(picture(1)));
    writer.frames.set_len(0).expect("truncated");
    let refused = read(&handle).expect_err("truncated");
    assert!(
        refused.reason == DropReason::HandleInvalid && refused.message.contains("truncated"),
        "{}",
        refused.message
    );
    let mut writer = Writer::bgr(folder.path(), 4);
    let index = writer.write(&picture(1));
    let handle = rings.handle("shm_rb_gate", index, None).expect("a handle");
    writer.meta.set_len(0).expect("truncated");
    assert_eq!(reason(read(&handle)), DropReason::HandleInvalid);
    std::fs::remove_file(folder.path().join("shm_rb_gate_frames")).expect("removed");
    let refused = CompatRings::new(RingsOptions { folder: folder.path().to_owned(), ..RingsOptions::default() })
        .handle("shm_rb_gate", 1, None);
    assert_eq!(reason(refused), DropReason::HandleInvalid);
}
