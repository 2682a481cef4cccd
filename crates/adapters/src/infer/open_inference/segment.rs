//! Memory that a server on this machine sees too: segments in `/dev/shm`, pooled, with names that no process has had before.
//!
//! A segment is written by this process alone while it holds a batch's input, and by the server alone while it is to take
//! a request's outputs. Its pages are reserved when it is made, so that a full `/dev/shm` is an error then and not a signal
//! later. Its owner holds a lock on the file; the lock dies with the process, whatever ended it, and [`sweep`] removes what
//! nobody holds.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use omma_engine::tensor::TensorMemory;
use parking_lot::Mutex;

const FOLDER: &str = "/dev/shm";
const PREFIX: &str = "omma-oip-";
/// A segment whose owner has had no time to lock it is younger than this.
const YOUNG: Duration = Duration::from_secs(10);
/// Segments of one size that wait for use, at most.
const SPARE_MAX: usize = 64;

/// One segment, mapped.
pub(super) struct Segment {
    name: String,
    start: NonNull<u8>,
    len: usize,
    /// Holds the lock.
    _file: File,
}

// SAFETY: the mapping belongs to the segment and goes wherever it goes.
unsafe impl Send for Segment {}
// SAFETY: it is written through a tensor that borrows it exclusively, or by the server while nobody here reads it.
unsafe impl Sync for Segment {}

impl Segment {
    fn create(len: usize) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Process ids come again; the time of the first use tells this one from an earlier one's leftovers.
        static BORN: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
        let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let born = BORN.get_or_init(|| since(std::time::SystemTime::now()).as_micros());
        let name = format!("{PREFIX}{}-{born:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(FOLDER).join(&name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o666).open(&path)?;
        let made = Self::map(name, file, len);
        if made.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        made
    }

    fn map(name: String, file: File, len: usize) -> io::Result<Self> {
        let size = libc::off_t::try_from(len).map_err(io::Error::other)?;
        if !lock(&file) {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a valid descriptor; reserves the pages or fails.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size) } {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: a fresh shared mapping of a file that has `len` bytes.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { name, start, len, _file: file })
    }

    /// What the server is told to call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As `shm_open` takes it.
    pub(super) fn key(&self) -> String {
        format!("/{}", self.name)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Its bytes. Whoever asks knows that the server has finished writing them.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `len` bytes for as long as the segment lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and nobody borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        let _ = std::fs::remove_file(Path::new(FOLDER).join(&self.name));
    }
}

fn lock(file: &File) -> bool {
    // SAFETY: a valid descriptor.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Removes segments whose owners are gone, and says how many.
pub(super) fn sweep() -> usize {
    sweep_in(Path::new(FOLDER), YOUNG)
}

fn sweep_in(folder: &Path, young: Duration) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    ours.filter(|entry| abandoned(&entry.path(), young))
        .filter(|entry| std::fs::remove_file(entry.path()).is_ok())
        .count()
}

fn abandoned(path: &PathBuf, young: Duration) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let age = file.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age >= young) && lock(&file)
}

/// Segments that are used again, and the names of those that no server needs to know any more.
#[derive(Default)]
pub(super) struct Pool {
    spare: Mutex<Vec<Segment>>,
    /// For each segment that is gone, its name, until the servers have been told.
    gone: Mutex<Vec<String>>,
}

impl Pool {
    /// A segment of at least `len` bytes.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> io::Result<Lease> {
        // Whole pages, so that sizes that hardly differ share their spares.
        let len = len.max(1).next_multiple_of(4096);
        let spare = {
            let mut spare = self.spare.lock();
            spare.iter().position(|segment| segment.len == len).map(|at| spare.swap_remove(at))
        };
        let segment = spare.map_or_else(|| Segment::create(len), Ok)?;
        let held = Held { segment: Some(segment), pool: Arc::clone(self), tainted: AtomicBool::new(false) };
        Ok(Lease(Arc::new(held)))
    }

    /// Names that the servers have not been told are gone.
    pub(super) fn gone(&self) -> Vec<String> {
        std::mem::take(&mut self.gone.lock())
    }

    fn give_back(&self, segment: Segment, tainted: bool) {
        let mut spare = self.spare.lock();
        if tainted || spare.len() >= SPARE_MAX {
            drop(spare);
            self.gone.lock().push(segment.name.clone());
            return;
        }
        spare.push(segment);
    }
}

/// A segment in use. Clones share it; it goes back to its pool with the last of them.
#[derive(Clone)]
pub(super) struct Lease(Arc<Held>);

struct Held {
    /// `None` only while it is dropped.
    segment: Option<Segment>,
    pool: Arc<Pool>,
    tainted: AtomicBool,
}

impl Lease {
    pub(super) fn segment(&self) -> Option<&Segment> {
        self.0.segment.as_ref()
    }

    /// A server that nothing has been heard of may still write into it: it is never used again.
    pub(super) fn taint(&self) {
        self.0.tainted.store(true, Ordering::Release);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.pool.give_back(segment, self.tainted.load(Ordering::Acquire));
        }
    }
}

// SAFETY: the mapping is aligned to pages and lives as long as the lease; servers only read the inputs that they are given.
unsafe impl TensorMemory for Lease {
    fn start(&self) -> NonNull<u8> {
        self.segment().map_or(NonNull::dangling(), |segment| segment.start)
    }

    fn len(&self) -> usize {
        self.segment().map_or(0, Segment::len)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_used_again_unless_they_are_tainted() {
        let pool = Arc::new(Pool::default());
        let name = |lease: &Lease| lease.segment().expect("held").name().to_owned();
        let first = pool.take(10_000).expect("shared memory");
        let (also, called) = (first.clone(), name(&first));
        assert_eq!((first.len(), first.start().as_ptr().align_offset(64)), (12_288, 0));
        drop(first);
        let second = pool.take(12_000).expect("shared memory");
        assert_ne!(name(&second), called, "the first is still held");
        drop(also);
        let third = pool.take(9_000).expect("shared memory");
        assert_eq!(name(&third), called, "a spare one of the same number of pages");
        third.taint();
        drop(third);
        assert_eq!(pool.gone(), std::slice::from_ref(&called));
        assert!(!Path::new(FOLDER).join(called).exists());
        assert_eq!(pool.gone(), [""; 0], "told once");
        let path = Path::new(FOLDER).join(name(&second));
        assert!(path.exists());
        drop((second, pool));
        assert!(!path.exists(), "a pool takes its segments with it");
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let (held, _left, _other) = (file("omma-oip-1-a-0"), file("omma-oip-2-b-0"), file("somebody-else"));
        assert!(lock(&held));
        assert_eq!(sweep_in(folder.path(), Duration::from_secs(600)), 0, "too young to tell");
        assert_eq!(sweep_in(folder.path(), Duration::ZERO), 1);
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["omma-oip-1-a-0", "somebody-else"]);
    }
}
