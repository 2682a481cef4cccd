//! Segments of the Python pipeline that omma replaces (`shm_mode` in its messages), read only.
//!
//! One camera's ring is two files: `NAME` with a header of 768 bytes and 48 bytes for each slot, and `NAME_frames` with
//! slots of one size. Frame `i` (from 1) lies in slot `(i - 1) % slots`; two counters in the slot's 48 bytes are odd while
//! it is written and equal and even otherwise.
//!
//! What can be told: a frame that was overwritten before or while it was read; a segment that is missing, truncated or
//! contradicts itself; a producer that was restarted, from the moment it has made its new files (each handle costs one
//! system call for that). What cannot, because a message says nothing that would tell it: its frames are numbered from 1
//! again after a restart, so that a message from before it may mean a frame from after it; and a writer that gives fewer
//! bytes than a frame has leaves the rest of an older one behind. Its writer also has no memory barriers: on x86-64 the
//! order of its plain stores is kept by the processor, with streaming stores of large copies as the exception that nobody
//! can exclude from outside.
//!
//! What is absent: the writing of such segments, the registry of readers in them (nothing depends on it), raw messages
//! (format 3), pictures on a GPU.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use omma_frame::{DropReason, Handle, Payload, PictureView, PixelFormat, RawView, Segment, Size, Unreadable};

use crate::RingsOptions;
use crate::claim::{self, Identity};
use crate::layout::Format;
use crate::mapping::Mapping;
use crate::name::check_compat;
use crate::segment::invalid;

const HEADER_BYTES: u64 = 768;
const SLOT_BYTES: u64 = 48;
const MAGIC: u32 = 0x4D41_5452;
const VERSION: u32 = 2;

/// Offsets in the header.
const WRITE_INDEX_AT: usize = 0;
const SLOTS_AT: usize = 36;
const WIDTH_AT: usize = 40;
const HEIGHT_AT: usize = 44;
const FORMAT_AT: usize = 664;
const FRAME_BYTES_AT: usize = 668;
const STRIDE_AT: usize = 672;
const MAGIC_AT: usize = 676;
const VERSION_AT: usize = 680;

/// Offsets in a slot's 48 bytes.
const FRAME_INDEX_AT: usize = 0;
const SEQUENCE_BEGUN_AT: usize = 28;
const SEQUENCE_ENDED_AT: usize = 32;

/// What the header says, checked against the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    slots: u64,
    /// From one slot to the next.
    stride: u64,
    frame_bytes: u64,
    size: Size,
    format: PixelFormat,
}

impl Shape {
    /// # Errors
    /// With what is wrong.
    fn read(header: &[u8; HEADER_BYTES as usize], meta_bytes: u64, frames_bytes: u64) -> Result<Self, String> {
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        if number(MAGIC_AT) != MAGIC || number(VERSION_AT) != VERSION {
            let (magic, version) = (number(MAGIC_AT), number(VERSION_AT));
            return Err(format!(
                "its header says {magic:#x}, version {version}, expected {MAGIC:#x}, version {VERSION}"
            ));
        }
        let (slots, stride) = (u64::from(number(SLOTS_AT)), u64::from(number(STRIDE_AT)));
        let frame_bytes = u64::from(number(FRAME_BYTES_AT));
        let size = Size { width: number(WIDTH_AT), height: number(HEIGHT_AT) };
        let format = match number(FORMAT_AT) {
            0 => PixelFormat::Nv12,
            1 => PixelFormat::Rgb,
            2 => PixelFormat::Bgr,
            other => return Err(format!("its header says format {other}, expected 0 (NV12), 1 (RGB) or 2 (BGR)")),
        };
        if frame_bytes == 0 || Format::Raw(format).byte_len(size) != Some(frame_bytes) {
            let Size { width, height } = size;
            return Err(format!(
                "its header says frames of {frame_bytes} bytes, which {width}x{height} pixels do not have"
            ));
        }
        // Products of two numbers of 32 bits.
        let (meta_needed, frames_needed) = (HEADER_BYTES + slots * SLOT_BYTES, slots * stride);
        if slots == 0 || stride < frame_bytes || meta_needed > meta_bytes || frames_needed > frames_bytes {
            return Err(format!(
                "its header says {slots} slots of {stride} bytes for frames of {frame_bytes}, which its files of \
                 {meta_bytes} and {frames_bytes} bytes do not hold"
            ));
        }
        Ok(Self { slots, stride, frame_bytes, size, format })
    }
}

/// One camera's ring, mapped for reading.
#[derive(Debug)]
pub struct CompatSegment {
    name: Box<str>,
    meta: Mapping,
    frames: Mapping,
    shape: Shape,
}

impl CompatSegment {
    /// # Errors
    /// `handle_invalid`: the files are no such ring, or cannot be mapped.
    fn open(name: &str, meta: &File, frames: &File) -> Result<Self, Unreadable> {
        let fault = |what: std::io::Error| invalid(name, format_args!("cannot be mapped: {what}"));
        let meta_bytes = meta.metadata().map_err(fault)?.len();
        let frames_bytes = frames.metadata().map_err(fault)?.len();
        let mut header = [0; HEADER_BYTES as usize];
        meta.read_exact_at(&mut header, 0).map_err(|_| {
            invalid(name, format_args!("it has {meta_bytes} bytes, expected a header of {HEADER_BYTES}"))
        })?;
        let shape = Shape::read(&header, meta_bytes, frames_bytes).map_err(|what| invalid(name, what))?;
        let mapped = |file: &File, bytes: u64| {
            let bytes = usize::try_from(bytes).map_err(std::io::Error::other)?;
            Mapping::new(file, bytes, false)
        };
        Ok(Self {
            name: name.into(),
            meta: mapped(meta, HEADER_BYTES + shape.slots * SLOT_BYTES).map_err(fault)?,
            frames: mapped(frames, shape.slots * shape.stride).map_err(fault)?,
            shape,
        })
    }

    fn lost(&self) -> bool {
        self.meta.lost() || self.frames.lost()
    }

    /// The slot's two counters and the frame that it says it holds.
    fn slot(&self, at: usize) -> (u32, u32, u64) {
        let begun = self.meta.counter32(at + SEQUENCE_BEGUN_AT).load(Ordering::Acquire);
        let ended = self.meta.counter32(at + SEQUENCE_ENDED_AT).load(Ordering::Acquire);
        (begun, ended, self.meta.counter(at + FRAME_INDEX_AT).load(Ordering::Acquire))
    }

    fn overwritten(&self, index: u64, how: &str) -> Unreadable {
        let message = format!("segment {}: frame {index} {how}", self.name);
        Unreadable { reason: DropReason::HandleOverwritten, message }
    }

    fn show(&self, index: u64, read: &mut dyn FnMut(PictureView<'_>)) -> Result<(), Unreadable> {
        let latest = self.meta.counter(WRITE_INDEX_AT).load(Ordering::Acquire);
        if index == 0 || index > latest {
            let what = format_args!("frame {index} is not written yet, the ring is written up to {latest}");
            return Err(invalid(&self.name, what));
        }
        if latest - index >= self.shape.slots {
            return Err(self.overwritten(index, "is overwritten"));
        }
        let slot = (index - 1) % self.shape.slots;
        let at = (HEADER_BYTES + slot * SLOT_BYTES) as usize;
        let before = self.slot(at);
        let (begun, ended, found) = before;
        if begun != ended || begun % 2 != 0 || found > index {
            return Err(self.overwritten(index, "is being overwritten"));
        }
        if found != index {
            return Err(invalid(
                &self.name,
                format_args!("the slot of frame {index} says that it holds frame {found}"),
            ));
        }
        let Shape { stride, frame_bytes, size, format, .. } = self.shape;
        let bytes = self.frames.bytes((slot * stride) as usize, frame_bytes as usize);
        read(PictureView::Raw(RawView { bytes, size, format }));
        // Everything above is done before what follows is looked at.
        fence(Ordering::Acquire);
        if self.slot(at) == before { Ok(()) } else { Err(self.overwritten(index, "was overwritten while it was read")) }
    }
}

impl Segment for CompatSegment {
    fn read(&self, index: u64, read: &mut dyn FnMut(PictureView<'_>)) -> Result<(), Unreadable> {
        let shown = self.show(index, read);
        if self.lost() {
            return Err(invalid(&self.name, "it was truncated while it was in use"));
        }
        shown
    }
}

/// As [`crate::Rings`], for these segments.
#[derive(Debug)]
pub struct CompatRings {
    options: RingsOptions,
    mapped: HashMap<Box<str>, Mapped>,
    uses: u64,
    uses_refreshed: u64,
}

#[derive(Debug)]
struct Mapped {
    segment: Arc<CompatSegment>,
    /// Tell whether the name still means this file. No open file is kept for it: there may be a ring for each camera.
    path: PathBuf,
    identity: Identity,
    used: u64,
}

impl Mapped {
    fn current(&self) -> bool {
        !self.segment.lost() && claim::names(&self.path, self.identity)
    }
}

impl CompatRings {
    #[must_use]
    pub fn new(options: RingsOptions) -> Self {
        Self { options, mapped: HashMap::new(), uses: 0, uses_refreshed: 0 }
    }

    /// The handle that a message's `shm_name` and `frame_idx` mean; with the message's `width` and `height`, which must
    /// be the segment's, if they are given.
    ///
    /// # Errors
    /// `handle_invalid`: no such name, no such segment, or one of another kind or size.
    pub fn handle(&mut self, name: &str, frame_index: u64, size: Option<Size>) -> Result<Handle, Unreadable> {
        self.uses += 1;
        let known = self.mapped.get_mut(name).filter(|known| known.current());
        let segment = match known {
            Some(known) => {
                known.used = self.uses;
                Arc::clone(&known.segment)
            }
            None => self.find(name)?,
        };
        let found = segment.shape.size;
        if let Some(expected) = size.filter(|expected| *expected != found) {
            let (Size { width, height }, Size { width: w, height: h }) = (found, expected);
            return Err(invalid(name, format_args!("its frames are {width}x{height}, the message says {w}x{h}")));
        }
        let byte_len = segment.shape.frame_bytes as usize;
        Ok(Handle { segment, generation: frame_index, byte_len })
    }

    /// As [`CompatRings::handle`], as what a source hands over.
    pub fn payload(&mut self, name: &str, frame_index: u64, size: Option<Size>) -> Payload {
        match self.handle(name, frame_index, size) {
            Ok(handle) => Payload::Handle(handle),
            Err(what) => Payload::Unreadable(Arc::new(what)),
        }
    }

    fn find(&mut self, name: &str) -> Result<Arc<CompatSegment>, Unreadable> {
        // Shown only if it is a name: then it is short and harmless.
        check_compat(name)
            .map_err(|what| Unreadable { reason: DropReason::HandleInvalid, message: what.to_string() })?;
        self.mapped.remove(name);
        let folder = &self.options.folder;
        let open = |path: &Path| {
            claim::open(path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => invalid(name, format_args!("there is no {}", path.display())),
                _ => invalid(name, format_args!("{} cannot be opened: {error}", path.display())),
            })
        };
        let frames_path = folder.join(format!("{name}_frames"));
        let path = folder.join(name);
        let (meta, meta_metadata) = open(&path)?;
        let (frames, metadata) = open(&frames_path)?;
        let segment = Arc::new(CompatSegment::open(name, &meta, &frames)?);
        // A producer that starts makes both files anew and writes the header last: if the frames still have their name
        // after the header was read, the two belong together.
        if !claim::names(&frames_path, claim::identity(&metadata)) {
            return Err(invalid(name, "its producer is just starting"));
        }
        if self.mapped.len() >= self.options.mapped_max.max(1) {
            let oldest = self.mapped.iter().min_by_key(|(_, mapped)| mapped.used).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.mapped.remove(&oldest));
        }
        let identity = claim::identity(&meta_metadata);
        let mapped = Mapped { segment: Arc::clone(&segment), path, identity, used: self.uses };
        self.mapped.insert(name.into(), mapped);
        Ok(segment)
    }

    /// Lets go of segments that are gone or lost, and of those without a handle since the last call; returns how many.
    pub fn refresh(&mut self) -> usize {
        let (before, since) = (self.mapped.len(), self.uses_refreshed);
        self.mapped.retain(|_, mapped| mapped.used > since && mapped.current());
        self.uses_refreshed = self.uses;
        before - self.mapped.len()
    }

    /// How many segments are mapped.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.mapped.len()
    }
}
