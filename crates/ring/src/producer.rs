//! The writing side: one ring, one producer, no waiting.
//!
//! Belongs to whichever thread holds it. A write is: where does it go; *publish that this may be overwritten now*; write;
//! *publish that it is written*. Two fences keep the three steps apart, for each reader and for every kind of store:
//!
//! 1. `reserved` is stored, then a full fence. A reader that has seen any byte of the new slot, and looks at `reserved`
//!    behind an acquire fence of its own, finds the new value: it knows that it may have read two pictures mixed. The
//!    fence is a full one because large copies use streaming stores, which x86 does not order behind earlier ordinary
//!    ones.
//! 2. The slot is copied, then a full fence (for streaming stores again), then `written` is stored with release order. A
//!    reader that acquires `written` sees every byte before it.
//!
//! A kill between any two instructions leaves `reserved` at or after all that was touched, and `written` at or before all
//! that is whole.

use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::{SystemTime, UNIX_EPOCH};

use omma_frame::{Size, UnixNanos};

use crate::claim::{self, Identity, identity};
use crate::layout::{
    BLOCK_BYTES, Extent, FILE_HEADER_BYTES, FileHeader, Format, RESERVED_AT, SLOT_HEADER_BYTES, SlotHeader, WRITTEN_AT,
    WRITTEN_TIME_AT, slot_bytes,
};
use crate::mapping::Mapping;
use crate::{CreateError, DEFAULT_FOLDER, Meta, SegmentName, WriteError};

/// What a data area may have: one slot's header at least, a tebibyte at most.
const BYTES_MIN: u64 = 4096;
const BYTES_MAX: u64 = 1 << 40;

/// How a ring is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingOptions {
    /// Where the segment lies; readers must look there too. It must be on a tmpfs or another file system that knows
    /// files without a name.
    pub folder: PathBuf,
    /// Bytes of memory for slots, taken at once; rounded up to a multiple of 4096. How long a picture can be read is how
    /// long the producer takes to write so many.
    pub bytes: u64,
    /// Who may open it; readers must be able to read.
    pub mode: u32,
}

impl RingOptions {
    /// In the usual folder, for this user only.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { folder: DEFAULT_FOLDER.into(), bytes, mode: 0o600 }
    }

    /// Room for so many pictures of so many bytes each, one of which may be in the writing.
    #[must_use]
    pub fn for_pictures(pictures: u64, byte_len: u64) -> Self {
        let each = slot_bytes(byte_len).unwrap_or(u64::MAX);
        Self::new(each.saturating_mul(pictures.saturating_add(2)))
    }
}

/// The one that writes a ring. Dropping it removes the segment: who has it mapped may go on reading.
#[derive(Debug)]
pub struct Producer {
    name: SegmentName,
    path: PathBuf,
    identity: Identity,
    /// Its lock says that the producer lives.
    _file: std::fs::File,
    mapping: Mapping,
    extent: Extent,
    /// Up to where slots have been begun, and where the next may begin.
    position: u64,
    keep: bool,
}

impl Producer {
    /// Creates the segment `omma-NAME`. What a dead producer of this name has left is removed first; its generations are
    /// not used again, so that handles to its pictures never show others.
    ///
    /// # Errors
    /// The name is none or in use, or there is no room.
    pub fn create(name: &str, options: &RingOptions) -> Result<Self, CreateError> {
        let name = SegmentName::of_producer(name)?;
        let capacity = options.bytes.checked_next_multiple_of(4096).unwrap_or(u64::MAX).max(BYTES_MIN);
        if options.bytes == 0 || capacity > BYTES_MAX {
            return Err(CreateError::Bytes { found: options.bytes, min: 1, max: BYTES_MAX });
        }
        let path = options.folder.join(name.as_str());
        claim::claim(&path, |reserved| {
            let file_bytes = FILE_HEADER_BYTES as u64 + capacity;
            let file = claim::nameless(&options.folder, file_bytes, options.mode)?;
            let io = |what| move |source| CreateError::Io { path: options.folder.clone(), what, source };
            let identity = identity(&file.metadata().map_err(io("look at a new segment"))?);
            let bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
            let mut mapping = Mapping::new(&file, bytes, true).map_err(io("map a new segment"))?;
            let created_at = now();
            let start = first_position(reserved, created_at);
            let header = FileHeader { capacity, pid: std::process::id(), created_at };
            mapping.bytes_mut(0, SLOT_HEADER_BYTES).copy_from_slice(&header.bytes());
            mapping.counter(RESERVED_AT).store(start, Ordering::Relaxed);
            mapping.counter(WRITTEN_AT).store(start, Ordering::Release);
            // The name comes last, with a system call in between: whoever opens it finds all of the above.
            let linked = claim::link(&file, &path)?;
            Ok(linked.then(|| Self {
                name: name.clone(),
                path: path.clone(),
                identity,
                _file: file,
                mapping,
                extent: Extent::of_bytes(capacity),
                position: start,
                keep: false,
            }))
        })
    }

    /// What a message calls the segment.
    #[must_use]
    pub fn segment(&self) -> &str {
        self.name.as_str()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that slots share.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.extent.bytes()
    }

    /// Writes a payload, over the oldest ones if need be, and gives its generation: together with the segment's name and
    /// the payload's length that is its handle.
    ///
    /// # Errors
    /// The payload is empty, larger than the ring, or not what `meta` says; or the segment is lost.
    pub fn write(&mut self, meta: &Meta, payload: &[u8]) -> Result<u64, WriteError> {
        self.write_with(meta, payload.len(), |room| room.copy_from_slice(payload))
    }

    /// As [`Producer::write`], but the payload is made where it will lie. `fill` finds bytes of older pictures there and
    /// must write every one.
    ///
    /// # Errors
    /// As [`Producer::write`].
    pub fn write_with(
        &mut self,
        meta: &Meta,
        byte_len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, WriteError> {
        let bytes = byte_len as u64;
        self.check(meta, bytes)?;
        let capacity = self.capacity();
        let too_large = WriteError::TooLarge { bytes, max: capacity - SLOT_HEADER_BYTES as u64 };
        let slot = slot_bytes(bytes).filter(|slot| *slot <= capacity).ok_or_else(|| too_large.clone())?;
        let blocks = slot / BLOCK_BYTES;
        // Positions begin below 2^63: no machine gets to their end.
        let generation = self.extent.slot_start(self.position, blocks).ok_or_else(|| too_large.clone())?;
        let end = generation.checked_add(blocks).ok_or(too_large)?;

        // Even if `fill` panics: what it has touched then belongs to a slot that no handle names.
        self.position = end;
        self.mapping.counter(RESERVED_AT).store(end, Ordering::Relaxed);
        fence(Ordering::SeqCst);

        let at = self.extent.place(generation);
        fill(self.mapping.bytes_mut(at + SLOT_HEADER_BYTES, byte_len));
        // The header last: without it there is no slot.
        let header = SlotHeader { generation, byte_len: bytes, meta: *meta };
        self.mapping.bytes_mut(at, SLOT_HEADER_BYTES).copy_from_slice(&header.bytes());

        fence(Ordering::SeqCst);
        self.mapping.counter(WRITTEN_TIME_AT).store(now().0, Ordering::Relaxed);
        self.mapping.counter(WRITTEN_AT).store(end, Ordering::Release);
        if self.mapping.lost() { Err(WriteError::Lost) } else { Ok(generation) }
    }

    fn check(&self, meta: &Meta, bytes: u64) -> Result<(), WriteError> {
        if bytes == 0 {
            return Err(WriteError::Empty);
        }
        let Size { width, height } = meta.size;
        match (meta.format, meta.format.byte_len(meta.size)) {
            (Format::Jpeg | Format::Png, _) => Ok(()),
            (Format::Raw(_), Some(expected)) if expected == bytes => Ok(()),
            (Format::Raw(_), expected) => {
                Err(WriteError::Pixels { bytes, expected: expected.unwrap_or(u64::MAX), width, height })
            }
        }
    }

    /// Ends, but leaves the segment for readers that are behind. The next producer of the name removes it, or a sweep
    /// once nothing has been written for its grace.
    pub fn leave(mut self) {
        self.keep = true;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // We hold the lock: nobody but us may remove the file, and so the name means ours or, if somebody removed it
        // against the rules, perhaps another.
        if !self.keep && claim::names(&self.path, self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Where a ring's positions begin: after all that its predecessor has used, and, because the predecessor's file may be
/// gone, after all that it can have used. The time in units of a 2^31st of a second is that: a predecessor began at its
/// own time or later, and has laid fewer than 2^31 blocks, 128 GiB, into its ring in each second since, or no memory could
/// have taken them. Not rounded up to a round place in the ring: two rings made one after the other would begin alike.
fn first_position(reserved: u64, at: UnixNanos) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let by_time = ((at.0 / SECOND) << 31).saturating_add((at.0 % SECOND) << 1);
    // Counters beyond are nonsense that a stranger wrote; to go on from there would end in the end of all positions.
    if reserved < 1 << 63 { by_time.max(reserved) } else { by_time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_begin_behind_all_that_may_have_been_used() {
        const YEAR_2026: u64 = 1_800_000_000;
        let at = |seconds: u64, nanos: u64| UnixNanos(seconds * 1_000_000_000 + nanos);
        let first = first_position(0, at(YEAR_2026, 0));
        assert_eq!(first, YEAR_2026 << 31);
        // A predecessor that is known to have used more: its clock was ahead, perhaps.
        assert_eq!(first_position(first + 1000, at(YEAR_2026, 0)), first + 1000);
        // One whose file is gone, a tenth of a millisecond after it began: 12 MiB at least are behind us.
        assert!(first_position(0, at(YEAR_2026, 100_000)) - first >= (12 << 20) / BLOCK_BYTES);
        assert!(first_position(0, at(YEAR_2026 + 1, 0)) > first_position(0, at(YEAR_2026, 999_999_999)));
        // One whose counters are nonsense.
        assert_eq!(first_position(u64::MAX, at(YEAR_2026, 0)), first);
        // The year 2100 is in bounds.
        assert!(first_position(0, at(4_102_444_800, 0)) < 1 << 63);
    }
}
