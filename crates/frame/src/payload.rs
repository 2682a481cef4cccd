//! What a frame carries: an encoded picture, raw pixels, or a handle to either in shared memory.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::DropReason;

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// How raw pixels lie in memory. Planar formats (NV12, I420) have even width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    Rgb,
    Bgr,
    Gray,
    Nv12,
    I420,
}

/// Raw pixels, rows packed without padding.
#[derive(Debug, Clone)]
pub struct RawPicture {
    pub bytes: Bytes,
    pub size: Size,
    pub format: PixelFormat,
}

/// A frame's picture. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub enum Payload {
    /// JPEG or PNG, told apart by their first bytes.
    Encoded(Bytes),
    /// Apart, because a payload is moved some ten times on its way, and this is the largest of them.
    Raw(Box<RawPicture>),
    Handle(Handle),
    /// What came in a picture's place. It goes the frame's way up to the decoder and is dropped there by name, so that
    /// its place in the camera's order and its error result are those of any other failed frame.
    Unreadable(Arc<Unreadable>),
}

/// A picture that lies in a shared-memory ring. Whoever reads it may find it overwritten: the producer never waits.
#[derive(Debug, Clone)]
pub struct Handle {
    pub segment: Arc<dyn Segment>,
    /// Which use of which slot of the ring is meant; never used twice in a segment's life.
    pub generation: u64,
    /// As the message says that brought the handle; the ring's own header decides.
    pub byte_len: usize,
}

/// A mapped ring of pictures, written by another process while this one reads.
pub trait Segment: fmt::Debug + Send + Sync {
    /// Shows the payload of `generation` where it lies, and checks before and after that it is still the one meant.
    /// The bytes may change while they are read: what `read` makes of them is worth nothing unless `Ok` comes back, and
    /// no decoder that trusts what it has read before may be given them.
    ///
    /// # Errors
    /// [`DropReason::HandleOverwritten`], or [`DropReason::HandleInvalid`] with what is wrong.
    fn read(&self, generation: u64, read: &mut dyn FnMut(PictureView<'_>)) -> Result<(), Unreadable>;
}

/// A picture's bytes, borrowed.
#[derive(Debug, Clone, Copy)]
pub enum PictureView<'a> {
    Encoded(&'a [u8]),
    Raw(RawView<'a>),
}

/// Raw pixels, borrowed; as [`RawPicture`].
#[derive(Debug, Clone, Copy)]
pub struct RawView<'a> {
    pub bytes: &'a [u8],
    pub size: Size,
    pub format: PixelFormat,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub reason: DropReason,
    /// What was found and what would be right.
    pub message: String,
}

impl Payload {
    /// Bytes of the picture; `None` if there is none.
    #[must_use]
    pub fn byte_len(&self) -> Option<usize> {
        match self {
            Self::Encoded(bytes) => Some(bytes.len()),
            Self::Raw(picture) => Some(picture.bytes.len()),
            Self::Handle(handle) => Some(handle.byte_len),
            Self::Unreadable(_) => None,
        }
    }

    /// Bytes of this process's memory that the payload keeps; none of a picture in a producer's ring.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Raw(picture) => picture.bytes.len(),
            Self::Handle(_) | Self::Unreadable(_) => 0,
        }
    }
}

impl RawPicture {
    #[must_use]
    pub fn view(&self) -> RawView<'_> {
        RawView { bytes: &self.bytes, size: self.size, format: self.format }
    }
}

impl PixelFormat {
    /// How many bytes a packed picture of this format has.
    #[must_use]
    pub fn byte_len(self, size: Size) -> usize {
        let pixels = size.width as usize * size.height as usize;
        match self {
            Self::Rgb | Self::Bgr => pixels * 3,
            Self::Gray => pixels,
            Self::Nv12 | Self::I420 => pixels / 2 * 3,
        }
    }
}
