//! From a payload to a slot of the batch tensor. A trait here, implemented outside: decoders are C libraries.

use std::fmt;

use omma_frame::{DropReason, Payload, Size};

use crate::tensor::DType;

/// Where the channels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Channel planes: `[channels, height, width]`.
    Nchw,
    /// Interleaved: `[height, width, channels]`.
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Color {
    Rgb,
    Bgr,
    Gray,
}

impl Color {
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resize {
    /// Keep the aspect ratio, centre, fill the rest with `pad`.
    Letterbox { pad: u8 },
    /// Fill the input, whatever becomes of the aspect ratio.
    Stretch,
}

/// How the model wants its pictures. A value is `(pixel * scale - mean) / std` per channel, where `pixel` is 0 to 255,
/// in the order of `color`; for `u8` inputs scale, mean and std are 1, 0 and 1 and nothing is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureSpec {
    pub size: Size,
    pub dtype: DType,
    pub layout: Layout,
    pub color: Color,
    pub resize: Resize,
    pub scale: f32,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl PictureSpec {
    /// Bytes of one slot.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        self.size.width as usize * self.size.height as usize * self.color.channels() * self.dtype.byte_len()
    }
}

/// How the original picture lies in the model's input: `input = original * scale + offset`, per axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    pub original: Size,
    pub scale_x: f32,
    pub scale_y: f32,
    pub offset_x: f32,
    pub offset_y: f32,
}

impl Fit {
    /// Where a picture of size `original` comes to lie in an input of size `input`.
    #[must_use]
    pub fn new(original: Size, input: Size, resize: Resize) -> Self {
        let scale_x = input.width as f32 / original.width.max(1) as f32;
        let scale_y = input.height as f32 / original.height.max(1) as f32;
        match resize {
            Resize::Stretch => Self { original, scale_x, scale_y, offset_x: 0.0, offset_y: 0.0 },
            Resize::Letterbox { .. } => {
                let scale = scale_x.min(scale_y);
                // The placed picture has whole pixels; the scale that the boxes are mapped back with is the one
                // that was really applied, not the ideal one.
                let width = (original.width as f32 * scale).round().max(1.0);
                let height = (original.height as f32 * scale).round().max(1.0);
                Self {
                    original,
                    scale_x: width / original.width.max(1) as f32,
                    scale_y: height / original.height.max(1) as f32,
                    offset_x: ((input.width as f32 - width) / 2.0).floor(),
                    offset_y: ((input.height as f32 - height) / 2.0).floor(),
                }
            }
        }
    }

    /// A point of the input in pixels of the original picture, not clipped.
    #[must_use]
    pub fn to_original(&self, x: f32, y: f32) -> (f32, f32) {
        ((x - self.offset_x) / self.scale_x, (y - self.offset_y) / self.scale_y)
    }
}

/// Why a picture has no place in the batch.
#[derive(Debug)]
pub struct PictureError {
    /// One of `PayloadEmpty`, `PayloadTooLarge`, `PictureCorrupt`, `PictureUnfit`.
    pub reason: DropReason,
    pub message: String,
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PictureError {}

/// Decodes, resizes, converts and normalises one picture into one slot. Each preparing thread has its own.
pub trait PictureDecoder: Send {
    /// Fills `slot` (of [`PictureSpec::slot_bytes`]) completely.
    ///
    /// # Errors
    /// The slot's content is then undefined and the frame is dropped by the reason given.
    fn decode(&mut self, payload: &Payload, slot: &mut [u8]) -> Result<Fit, PictureError>;
}

/// Makes the decoders of one model.
pub trait PictureDecoderFactory: Send + Sync {
    fn open(&self) -> Box<dyn PictureDecoder>;
}
