//! Memory that omma and a worker both see: an anonymous file in memory, mapped by both.
//!
//! The file has no name, so nothing is left behind whoever is killed; its size is sealed, so a worker cannot take
//! pages away from under omma's feet. Pages that nobody has touched cost nothing: an output memory may be large.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use omma_engine::tensor::{DType, TensorMemory, Values};

/// One mapping of such a file.
pub(super) struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
    file: OwnedFd,
    /// Unlike that of any other in this process, and never 0.
    pub(super) number: u64,
}

// SAFETY: plain memory; who writes when is agreed with the worker by requests and answers.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// At least `bytes`, whole pages, zeroed.
    ///
    /// # Errors
    /// The system has no memory or no descriptors left.
    pub(super) fn create(bytes: usize) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        const PAGE: usize = 4096;
        let len = bytes.max(1).checked_next_multiple_of(PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: calls with valid arguments; the descriptor is owned at once.
        let file = unsafe {
            let file = libc::memfd_create(c"omma-tensor".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
            if file < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(file)
        };
        let size = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a descriptor of our own.
        let sized = unsafe {
            libc::ftruncate(file.as_raw_fd(), size) == 0 && libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
        };
        if !sized {
            return Err(io::Error::last_os_error());
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
        // SAFETY: a new mapping of a file that is as long; nothing else is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len, file, number: NUMBER.fetch_add(1, Ordering::Relaxed) })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Copies `bytes` to the front; those that do not fit are left out. For a memory that the caller alone fills, while
    /// no worker has a request about it.
    pub(super) fn fill(&self, bytes: &[u8]) {
        let count = bytes.len().min(self.len);
        // SAFETY: inside the mapping, of which there are no slices but those that `values` gives of outputs.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), count) };
    }

    /// Values that the worker has written; `None` if they are not inside or not aligned.
    pub(super) fn values(&self, dtype: DType, offset: usize, count: usize) -> Option<Values<'_>> {
        let end = count.checked_mul(dtype.byte_len())?.checked_add(offset)?;
        if end > self.len || !offset.is_multiple_of(dtype.byte_len()) {
            return None;
        }
        // SAFETY: inside the mapping, aligned (the mapping begins at a page), every pattern of bits is a value; the
        // worker has answered and writes again only with the next request.
        unsafe {
            let at = self.start.as_ptr().add(offset);
            Some(match dtype {
                // No worker gives them.
                DType::F16 => return None,
                DType::U8 => Values::U8(std::slice::from_raw_parts(at, count)),
                DType::F32 => Values::F32(std::slice::from_raw_parts(at.cast(), count)),
                DType::I32 => Values::I32(std::slice::from_raw_parts(at.cast(), count)),
                DType::I64 => Values::I64(std::slice::from_raw_parts(at.cast(), count)),
            })
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A batch tensor's memory. Workers remember it weakly and are told when it is gone.
pub(super) struct Region(pub(super) Arc<SharedMemory>);

// SAFETY: a mapping is page-aligned and lives as long as the object; the workers do not write to batches while the
// engine fills them.
unsafe impl TensorMemory for Region {
    fn start(&self) -> NonNull<u8> {
        self.0.start
    }

    fn len(&self) -> usize {
        self.0.len
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_whole_pages_sealed_and_bounds_what_is_read() {
        let memory = SharedMemory::create(5000).expect("memory");
        assert_eq!(memory.len(), 8192);
        memory.fill(&[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(memory.values(DType::I32, 0, 2), Some(Values::I32(&[1, 2])));
        assert_eq!(memory.values(DType::I64, 0, 1), Some(Values::I64(&[0x2_0000_0001])));
        for (dtype, offset, count) in [(DType::F32, 2, 1), (DType::U8, 8192, 1), (DType::I64, 8, usize::MAX / 4)] {
            assert_eq!(memory.values(dtype, offset, count), None);
        }
        // SAFETY: a descriptor of our own.
        let cut = unsafe { libc::ftruncate(memory.file().as_raw_fd(), 0) };
        assert_eq!(cut, -1, "nobody can take the pages away");
        assert_ne!(memory.number, SharedMemory::create(1).expect("memory").number);
    }
}
