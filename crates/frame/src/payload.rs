//! What a frame carries: an encoded picture, or raw pixels.

use bytes::Bytes;

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
    Raw(RawPicture),
}

impl Payload {
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Raw(picture) => picture.bytes.len(),
        }
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
