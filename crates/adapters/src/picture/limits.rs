//! What a payload may ask of us before anything is allocated for it.

use omma_engine::picture::PictureError;
use omma_frame::{DropReason, Size};

use super::error::{corrupt, too_large, unfit};

/// The longest side of any picture: JPEG's own limit, held for every format, so that sizes multiply without overflow.
pub(super) const SIDE_MAX: u32 = 65_535;

/// What one picture may cost, and what a model's cameras are expected to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// Of an encoded payload. Raw payloads are bounded by `pixels_max`.
    pub bytes_max: usize,
    /// Of the original picture, as its header says.
    pub pixels_max: u64,
    /// If given, pictures of any other size are refused.
    pub expect_size: Option<Size>,
}

impl Default for PictureLimits {
    /// 32 MiB, 64 megapixels (a decode of 8K takes half of that), any size.
    fn default() -> Self {
        Self { bytes_max: 32 << 20, pixels_max: 64_000_000, expect_size: None }
    }
}

impl PictureLimits {
    pub(super) fn check_bytes(&self, bytes: usize) -> Result<(), PictureError> {
        if bytes == 0 {
            return Err(PictureError {
                reason: DropReason::PayloadEmpty,
                message: "the picture has no bytes".to_owned(),
            });
        }
        if bytes > self.bytes_max {
            return Err(too_large(format!("the picture has {bytes} bytes, expected at most {}", self.bytes_max)));
        }
        Ok(())
    }

    pub(super) fn check_size(&self, size: Size) -> Result<(), PictureError> {
        let Size { width, height } = size;
        if width == 0 || height == 0 {
            return Err(corrupt(format!("the picture says that it is {width}x{height}, expected at least one pixel")));
        }
        if width > SIDE_MAX || height > SIDE_MAX {
            return Err(too_large(format!(
                "the picture is {width}x{height}, expected at most {SIDE_MAX} pixels on a side"
            )));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.pixels_max {
            return Err(too_large(format!(
                "the picture is {width}x{height}, {pixels} pixels, expected at most {}",
                self.pixels_max
            )));
        }
        match self.expect_size {
            Some(expected) if expected != size => Err(unfit(format!(
                "the camera delivered {width}x{height}, the configuration expects {}x{}",
                expected.width, expected.height
            ))),
            _ => Ok(()),
        }
    }
}
