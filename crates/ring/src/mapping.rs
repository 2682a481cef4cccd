//! A file in memory: mapped once, unmapped with its last user.
//!
//! Other processes write what is read here. The rules that make this sound to work with: numbers that decide anything are
//! read once, as atomics or as copies; bytes of a payload are only ever handed to code that makes values of values and
//! decides nothing by them before the check afterwards ([`omma_frame::Segment::read`]).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::guard::Guarded;
use crate::layout::SLOT_HEADER_BYTES;

#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
    /// Dropped by hand, before the memory is unmapped.
    guarded: Option<Guarded>,
}

// SAFETY: the memory belongs to no thread; it is read through atomics and shared slices, and written only through
// `&mut`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Errors
    /// The system's, or there are too many mappings.
    pub(crate) fn new(file: &File, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping wherever the system likes; nothing of ours is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or_else(|| io::Error::other("a mapping at address zero"))?;
        let mut mapping = Self { start, bytes, writable, guarded: None };
        mapping.guarded = Some(Guarded::new(start.as_ptr() as usize, bytes, writable)?);
        Ok(mapping)
    }

    /// Whether the file was truncated and that was noticed by touching it: everything read since is worth nothing.
    pub(crate) fn lost(&self) -> bool {
        self.guarded.as_ref().is_none_or(Guarded::lost)
    }

    /// A counter of the file header.
    ///
    /// # Panics
    /// `at` is none.
    pub(crate) fn counter(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at.checked_add(8).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the mapping and aligned; other processes access it in one piece too, or else they harm only
        // what they say about their own pictures.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// As [`Mapping::counter`], of 32 bits.
    ///
    /// # Panics
    /// `at` is none.
    pub(crate) fn counter32(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at.checked_add(4).is_some_and(|end| end <= self.bytes));
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// A copy of a header, which stays as it is whatever other processes do.
    ///
    /// # Panics
    /// It does not lie inside.
    pub(crate) fn header(&self, at: usize) -> [u8; SLOT_HEADER_BYTES] {
        assert!(at.checked_add(SLOT_HEADER_BYTES).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the mapping; volatile, so that it is read once and now.
        unsafe { self.start.as_ptr().add(at).cast::<[u8; SLOT_HEADER_BYTES]>().read_volatile() }
    }

    /// Bytes that may change while they are looked at.
    ///
    /// # Panics
    /// They do not lie inside.
    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the mapping, which lives as long as `self`; see the module's head for what may be done with it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), len) }
    }

    /// # Panics
    /// They do not lie inside, or the mapping is only for reading.
    pub(crate) fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(self.writable && at.checked_add(len).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside the mapping, which is borrowed for as long; other processes only read it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(at), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guarded = None;
        // SAFETY: our own mapping, which nobody borrows any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
