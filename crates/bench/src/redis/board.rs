//! Two counters that processes share through a mapped file: how many frames were sent, and how many have results.
//!
//! They let the producer run ahead of whoever consumes by a bounded number of frames, without asking Redis.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use omma_publish::Gate;

const BYTES: usize = 4096;
/// Apart, so that the two writers do not share a cache line.
const SENT: usize = 0;
const DONE: usize = 16;

/// A mapping of the file; it stays mapped until the process ends.
#[derive(Clone, Copy)]
pub struct Board {
    counters: &'static [AtomicU64; BYTES / 8],
}

impl Board {
    /// A new board, all zero.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(BYTES as u64)?;
        Self::map(&file)
    }

    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(&OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        // SAFETY: a fresh shared mapping of a file of that many bytes; nobody shortens it.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: page-aligned, of the array's size, never unmapped; all processes touch it by atomics only.
        Ok(Self { counters: unsafe { &*at.cast() } })
    }

    pub fn clear(&self) {
        self.counters.iter().for_each(|counter| counter.store(0, Ordering::Release));
    }

    pub fn sent(&self) -> u64 {
        self.counters[SENT].load(Ordering::Acquire)
    }

    pub fn done(&self) -> u64 {
        self.counters[DONE].load(Ordering::Acquire)
    }

    pub fn add_done(&self, frames: u64) {
        self.counters[DONE].fetch_add(frames, Ordering::AcqRel);
    }
}

/// Lets the producer be at most `frames` ahead of the results.
pub struct Ahead {
    pub board: Board,
    pub frames: u64,
}

impl Gate for Ahead {
    fn take(&self, most: usize) -> usize {
        let limit = self.board.done() + self.frames;
        let sent = &self.board.counters[SENT];
        let mut taken = 0;
        // Several workers take at once.
        let _ = sent.fetch_update(Ordering::AcqRel, Ordering::Acquire, |sent| {
            taken = limit.saturating_sub(sent).min(most as u64);
            (taken > 0).then_some(sent + taken)
        });
        taken as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_ahead_by_so_much_and_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("board");
        let (board, other) = (Board::create(&path).expect("a board"), Board::open(&path).expect("the same"));
        let ahead = Ahead { board, frames: 10 };
        assert_eq!((ahead.take(4), ahead.take(100), ahead.take(100)), (4, 6, 0));
        other.add_done(3);
        assert_eq!((ahead.take(2), ahead.take(2), ahead.take(2)), (2, 1, 0));
        assert_eq!(board.done(), 3);
    }
}
