//! The bytes of a ring, as `docs/ref/frame-handles.md` describes them: pure, no memory but what it is given.
//!
//! A file header of 4096 bytes, then the data area, in which slots follow one another: 64 bytes of header, the payload,
//! padding up to the next multiple of 64. Positions count the blocks of 64 bytes ever laid into the ring; a position's
//! place in the data area is its remainder by the area's blocks, and a slot's position is its *generation*. All numbers
//! are little endian.

use omma_frame::{PixelFormat, Size, UnixNanos};

pub const FILE_HEADER_BYTES: usize = 4096;
pub const SLOT_HEADER_BYTES: usize = 64;

/// What positions count. Blocks, not bytes: so positions that begin with the time of day are ahead of whatever a producer
/// can have written since (`producer.rs`).
pub(crate) const BLOCK_BYTES: u64 = 64;

const MAGIC: [u8; 8] = *b"OMMARING";
const VERSION: u32 = 1;

/// Where the producer's two counters and its last write's time stand: each counter in a cache line of its own.
pub(crate) const RESERVED_AT: usize = 64;
pub(crate) const WRITTEN_AT: usize = 128;
pub(crate) const WRITTEN_TIME_AT: usize = 136;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Raw(PixelFormat),
}

impl Format {
    const ALL: [(u32, Self); 7] = [
        (1, Self::Jpeg),
        (2, Self::Png),
        (3, Self::Raw(PixelFormat::Rgb)),
        (4, Self::Raw(PixelFormat::Bgr)),
        (5, Self::Raw(PixelFormat::Gray)),
        (6, Self::Raw(PixelFormat::Nv12)),
        (7, Self::Raw(PixelFormat::I420)),
    ];

    fn code(self) -> u32 {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or(0, |(code, _)| *code)
    }

    fn of_code(code: u32) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == code).map(|(_, format)| *format)
    }

    /// How many bytes a payload of this format and size has; `None` for encoded ones, which say so themselves, and for
    /// sizes beyond counting.
    pub(crate) fn byte_len(self, size: Size) -> Option<u64> {
        let pixels = u64::from(size.width) * u64::from(size.height);
        match self {
            Self::Jpeg | Self::Png => None,
            Self::Raw(PixelFormat::Rgb | PixelFormat::Bgr) => pixels.checked_mul(3),
            Self::Raw(PixelFormat::Gray) => Some(pixels),
            Self::Raw(PixelFormat::Nv12 | PixelFormat::I420) => (pixels / 2).checked_mul(3),
        }
    }
}

/// What a producer says about a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub sequence: u64,
    /// Zero: not known.
    pub captured_at: UnixNanos,
    pub format: Format,
    /// Of raw pixels; encoded pictures say it themselves, and zero is fine.
    pub size: Size,
}

impl Meta {
    /// An encoded picture.
    #[must_use]
    pub fn encoded(format: Format, sequence: u64, captured_at: UnixNanos) -> Self {
        Self { sequence, captured_at, format, size: Size::default() }
    }

    /// Raw pixels.
    #[must_use]
    pub fn raw(format: PixelFormat, size: Size, sequence: u64, captured_at: UnixNanos) -> Self {
        Self { sequence, captured_at, format: Format::Raw(format), size }
    }
}

/// How many bytes of a ring a payload takes: its header, itself, padding. `None` if they cannot be counted.
#[must_use]
pub const fn slot_bytes(byte_len: u64) -> Option<u64> {
    match byte_len.checked_add(SLOT_HEADER_BYTES as u64) {
        Some(bytes) => bytes.checked_next_multiple_of(BLOCK_BYTES),
        None => None,
    }
}

/// A data area's extent in blocks: how positions become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    blocks: u64,
}

impl Extent {
    /// Of so many bytes, which a header or the producer's options have been checked to be a multiple of 64, not zero.
    pub(crate) fn of_bytes(capacity: u64) -> Self {
        Self { blocks: (capacity / BLOCK_BYTES).max(1) }
    }

    pub(crate) fn bytes(self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// Where a slot begins that comes after `position`: there, or at the data area's next beginning if it does not fit
    /// before its end. `None` beyond the last position.
    pub(crate) fn slot_start(self, position: u64, slot_blocks: u64) -> Option<u64> {
        match position % self.blocks {
            at if slot_blocks <= self.blocks - at => Some(position),
            at => position.checked_add(self.blocks - at),
        }
    }

    /// Where in the file the block at a position lies.
    pub(crate) fn place(self, position: u64) -> usize {
        FILE_HEADER_BYTES + (position % self.blocks * BLOCK_BYTES) as usize
    }

    /// Whether the producer may have begun to write over the slot at `generation`.
    pub(crate) fn overwritten(self, generation: u64, reserved: u64) -> bool {
        reserved.saturating_sub(generation) > self.blocks
    }
}

/// The unchanging part of the file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Bytes of the data area; a multiple of 64.
    pub capacity: u64,
    /// The producer's, for people.
    pub pid: u32,
    pub created_at: UnixNanos,
}

/// What stands in the beginning of a file that is to be a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Short { bytes: u64 },
    Magic,
    Version { found: u32 },
    Capacity { found: u64, file_bytes: u64 },
}

impl FileHeader {
    pub(crate) fn bytes(&self) -> [u8; SLOT_HEADER_BYTES] {
        let mut bytes = [0; SLOT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(FILE_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created_at.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.pid.to_le_bytes());
        bytes
    }

    /// Reads the first 64 bytes of a file of `file_bytes`.
    ///
    /// # Errors
    /// It is no ring, or one whose data area the file does not hold.
    pub(crate) fn read(bytes: &[u8; SLOT_HEADER_BYTES], file_bytes: u64) -> Result<Self, HeaderFault> {
        if file_bytes < FILE_HEADER_BYTES as u64 {
            return Err(HeaderFault::Short { bytes: file_bytes });
        }
        if bytes[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let (version, data_at, capacity) = (u32_at(bytes, 8), u32_at(bytes, 12), u64_at(bytes, 16));
        if version != VERSION || data_at as usize != FILE_HEADER_BYTES {
            return Err(HeaderFault::Version { found: version });
        }
        let room = file_bytes - FILE_HEADER_BYTES as u64;
        if capacity < BLOCK_BYTES || !capacity.is_multiple_of(BLOCK_BYTES) || capacity > room {
            return Err(HeaderFault::Capacity { found: capacity, file_bytes });
        }
        Ok(Self { capacity, pid: u32_at(bytes, 32), created_at: UnixNanos(u64_at(bytes, 24)) })
    }
}

impl std::fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short { bytes } => {
                write!(f, "the file has {bytes} bytes, expected a ring of at least {FILE_HEADER_BYTES}")
            }
            Self::Magic => write!(f, "the file does not begin with {:?}: it is no ring", "OMMARING"),
            Self::Version { found } => write!(f, "the ring is of version {found}, expected {VERSION}"),
            Self::Capacity { found, file_bytes } => write!(
                f,
                "the ring's header says a capacity of {found} bytes, expected a multiple of 64 that the file of \
                 {file_bytes} bytes holds behind its header"
            ),
        }
    }
}

/// The 64 bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotHeader {
    pub generation: u64,
    pub byte_len: u64,
    pub meta: Meta,
}

/// Why a slot cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotFault {
    /// Another slot, or none, is there.
    Generation {
        found: u64,
    },
    /// The payload would reach beyond the data area, or beyond what is written.
    Length {
        found: u64,
    },
    Format {
        found: u32,
    },
    /// Raw pixels of another number of bytes than their size and format have.
    Pixels {
        found: u64,
        size: Size,
    },
}

impl SlotHeader {
    pub(crate) fn bytes(&self) -> [u8; SLOT_HEADER_BYTES] {
        let mut bytes = [0; SLOT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.meta.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.meta.captured_at.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.byte_len.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.meta.format.code().to_le_bytes());
        bytes[36..40].copy_from_slice(&self.meta.size.width.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.meta.size.height.to_le_bytes());
        bytes
    }

    /// Reads the header that stands where `generation` belongs, in a ring of an extent whose producer has written up to
    /// `written`. What passes lies wholly inside the data area, and is whole if it is not overwritten.
    ///
    /// # Errors
    /// It is not that slot's, or contradicts the ring or itself.
    pub(crate) fn read(
        bytes: &[u8; SLOT_HEADER_BYTES],
        generation: u64,
        extent: Extent,
        written: u64,
    ) -> Result<Self, SlotFault> {
        let found = u64_at(bytes, 0);
        if found != generation {
            return Err(SlotFault::Generation { found });
        }
        let byte_len = u64_at(bytes, 24);
        let inside = slot_bytes(byte_len)
            .map(|bytes| bytes / BLOCK_BYTES)
            .filter(|blocks| extent.slot_start(generation, *blocks) == Some(generation))
            .and_then(|blocks| generation.checked_add(blocks))
            .is_some_and(|end| end <= written);
        if !inside {
            return Err(SlotFault::Length { found: byte_len });
        }
        let code = u32_at(bytes, 32);
        let format = Format::of_code(code).ok_or(SlotFault::Format { found: code })?;
        let size = Size { width: u32_at(bytes, 36), height: u32_at(bytes, 40) };
        if matches!(format, Format::Raw(_)) && format.byte_len(size) != Some(byte_len) {
            return Err(SlotFault::Pixels { found: byte_len, size });
        }
        let meta = Meta { sequence: u64_at(bytes, 8), captured_at: UnixNanos(u64_at(bytes, 16)), format, size };
        Ok(Self { generation, byte_len, meta })
    }
}

impl std::fmt::Display for SlotFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generation { found } => write!(f, "the slot's header says generation {found}"),
            Self::Length { found } => {
                write!(f, "the slot's header says {found} bytes, more than lie between it and the written end")
            }
            Self::Format { found } => write!(f, "the slot's header says format {found}, expected 1 to 7"),
            Self::Pixels { found, size: Size { width, height } } => write!(
                f,
                "the slot's header says raw pixels of {width}x{height} in {found} bytes, which they do not have"
            ),
        }
    }
}

fn u32_at(bytes: &[u8; SLOT_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; SLOT_HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
