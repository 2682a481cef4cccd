//! The reading side of one ring: looks at a slot where it lies, and checks before and after.
//!
//! The rules of a seqlock, with positions in the place of a sequence number. Before: `written`, acquired, must be behind
//! the slot; `reserved` must not have come around to it. Then the slot's header is copied and checked against the numbers
//! taken when the file was mapped; only then is anything shown. After: an acquire fence, and `reserved` once more. If the
//! reader has seen one byte that the producer wrote over this slot, the producer's fence before that byte and this one
//! make the new `reserved` visible too. Whatever was concluded in between is then forgotten, for it may have been
//! concluded from a mixture.

use std::fs::File;
use std::io;
use std::sync::atomic::{Ordering, fence};

use omma_frame::{DropReason, PictureView, RawView, Segment, Unreadable};

use crate::claim;
use crate::layout::{
    Extent, FILE_HEADER_BYTES, Format, Meta, RESERVED_AT, SLOT_HEADER_BYTES, SlotFault, SlotHeader, WRITTEN_AT,
};
use crate::mapping::Mapping;

/// A ring, mapped for reading.
#[derive(Debug)]
pub struct RingSegment {
    name: Box<str>,
    mapping: Mapping,
    /// As the file's header said when it was mapped, and the file had it. Never read again.
    extent: Extent,
}

pub(crate) fn invalid(name: &str, what: impl std::fmt::Display) -> Unreadable {
    Unreadable { reason: DropReason::HandleInvalid, message: format!("segment {name}: {what}") }
}

impl RingSegment {
    /// Maps a ring that is open already: one found by name, or one whose file came another way.
    ///
    /// # Errors
    /// `handle_invalid`: the file is no ring, does not hold what its header says, or cannot be mapped.
    pub fn open(file: &File, name: &str) -> Result<Self, Unreadable> {
        let fault = |what: io::Error| invalid(name, format_args!("cannot be mapped: {what}"));
        let file_bytes = file.metadata().map_err(fault)?.len();
        let header = claim::inspect(file, file_bytes).map_err(|what| invalid(name, what))?.header;
        let bytes = usize::try_from(FILE_HEADER_BYTES as u64 + header.capacity)
            .map_err(|_| invalid(name, "larger than this machine's addresses"))?;
        let mapping = Mapping::new(file, bytes, false).map_err(fault)?;
        Ok(Self { name: name.into(), mapping, extent: Extent::of_bytes(header.capacity) })
    }

    /// Up to where the producer has written. A generation beyond it is another ring's, or a lie.
    pub(crate) fn written(&self) -> u64 {
        self.mapping.counter(WRITTEN_AT).load(Ordering::Acquire)
    }

    /// What its file must have for all of it to be there.
    pub(crate) fn file_bytes(&self) -> u64 {
        FILE_HEADER_BYTES as u64 + self.extent.bytes()
    }

    pub(crate) fn lost(&self) -> bool {
        self.mapping.lost()
    }

    /// As [`Segment::read`], with all that the slot's header says.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub fn read_slot(&self, generation: u64, read: &mut dyn FnMut(&Meta, PictureView<'_>)) -> Result<(), Unreadable> {
        let shown = self.show(generation, read);
        // Everything above is done before what follows is looked at.
        fence(Ordering::Acquire);
        if self.mapping.lost() {
            return Err(invalid(&self.name, "it was truncated while it was in use"));
        }
        let reserved = self.mapping.counter(RESERVED_AT).load(Ordering::Relaxed);
        if self.extent.overwritten(generation, reserved) {
            return Err(Unreadable {
                reason: DropReason::HandleOverwritten,
                message: format!(
                    "segment {}: generation {generation} is overwritten: its ring of {} bytes is reserved up to {reserved}",
                    self.name,
                    self.extent.bytes()
                ),
            });
        }
        shown.map_err(|what| invalid(&self.name, format_args!("generation {generation}: {what}")))
    }

    /// Shows the slot, if there is one to show.
    fn show(&self, generation: u64, read: &mut dyn FnMut(&Meta, PictureView<'_>)) -> Result<(), Fault> {
        let written = self.written();
        let reserved = self.mapping.counter(RESERVED_AT).load(Ordering::Relaxed);
        if reserved < written {
            return Err(Fault::Counters { written, reserved });
        }
        if generation >= written {
            return Err(Fault::NotWritten { written });
        }
        if self.extent.overwritten(generation, reserved) {
            return Err(Fault::Overwritten);
        }
        // A header is one block, and so never reaches over the end.
        let at = self.extent.place(generation);
        let header = SlotHeader::read(&self.mapping.header(at), generation, self.extent, written)?;
        let bytes = self.mapping.bytes(at + SLOT_HEADER_BYTES, header.byte_len as usize);
        let view = match header.meta.format {
            Format::Jpeg | Format::Png => PictureView::Encoded(bytes),
            Format::Raw(format) => PictureView::Raw(RawView { bytes, size: header.meta.size, format }),
        };
        read(&header.meta, view);
        Ok(())
    }
}

impl Segment for RingSegment {
    fn read(&self, generation: u64, read: &mut dyn FnMut(PictureView<'_>)) -> Result<(), Unreadable> {
        self.read_slot(generation, &mut |_, view| read(view))
    }
}

/// Why nothing was shown.
enum Fault {
    Counters {
        written: u64,
        reserved: u64,
    },
    NotWritten {
        written: u64,
    },
    /// The check afterwards says so too, because counters only grow.
    Overwritten,
    Slot(SlotFault),
}

impl From<SlotFault> for Fault {
    fn from(fault: SlotFault) -> Self {
        Self::Slot(fault)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counters { written, reserved } => {
                write!(f, "the ring says that it is written up to {written} and reserved up to {reserved}")
            }
            Self::NotWritten { written } => write!(f, "not written yet, the ring is written up to {written}"),
            Self::Overwritten => f.write_str("overwritten, and the ring's counters went back"),
            Self::Slot(fault) => fault.fmt(f),
        }
    }
}
