//! Where a picture comes to lie in the model's input, in whole pixels, and the resize that brings it there.

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x2, U8x3};
use fast_image_resize::{FilterType, ImageViewMut, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use omma_engine::picture::{Color, Fit, PictureError};
use omma_frame::Size;

use super::error::unfit;
use super::fill::Filler;

/// The part of the input that the picture covers; the rest is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) size: Size,
}

impl Placement {
    /// The pixels that `fit` means: it was made of whole ones, so that rounding finds them again exactly.
    pub(super) fn of(fit: &Fit, input: Size) -> Self {
        let side = |original: u32, scale: f32, max: u32| ((original as f32 * scale).round() as u32).clamp(1, max);
        let size = Size {
            width: side(fit.original.width, fit.scale_x, input.width),
            height: side(fit.original.height, fit.scale_y, input.height),
        };
        let offset = |offset: f32, room: u32| (offset.max(0.0) as u32).min(room) as usize;
        Self {
            left: offset(fit.offset_x, input.width - size.width),
            top: offset(fit.offset_y, input.height - size.height),
            size,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.size.width as usize
    }

    pub(super) fn height(&self) -> usize {
        self.size.height as usize
    }
}

/// The first `len` bytes of a scratch that is made longer if it must be. Never shorter: growing a vector writes zeros,
/// and cameras of two sizes would have them written for every other picture.
pub(super) fn grown(scratch: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    &mut scratch[..len]
}

/// Interleaved `u8` pixels, rows without gaps; there may be more bytes than pixels.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) size: Size,
    /// How much of `size` the original picture fills, from the top left.
    pub(super) extent: (f64, f64),
    pub(super) color: Color,
}

impl<'a> Pixels<'a> {
    pub(super) fn whole(bytes: &'a [u8], size: Size, color: Color) -> Self {
        Self { bytes, size, extent: (size.width.into(), size.height.into()), color }
    }
}

/// Interleaved `u8` pixels to be written.
pub(super) struct Region<'a> {
    /// From the first pixel to the last.
    pub(super) bytes: &'a mut [u8],
    pub(super) size: Size,
    /// Bytes from one row to the next.
    pub(super) pitch: usize,
}

impl<'a> Region<'a> {
    pub(super) fn scratch(scratch: &'a mut Vec<u8>, size: Size, color: Color) -> Self {
        let pitch = size.width as usize * color.channels();
        Self { bytes: grown(scratch, pitch * size.height as usize), size, pitch }
    }

    pub(super) fn of_slot(slot: &'a mut [u8], input: Size, at: Placement, color: Color) -> Self {
        let channels = color.channels();
        let pitch = input.width as usize * channels;
        let from = at.top * pitch + at.left * channels;
        let len = (at.height() - 1) * pitch + at.width() * channels;
        Self { bytes: &mut slot[from..from + len], size: at.size, pitch }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.pitch * self.size.height as usize == self.bytes.len()
    }
}

/// Brings decoded pixels into the slot. Owns the resized picture of the way between.
#[derive(Default)]
pub(super) struct Placer {
    pub(super) resizer: Scaler,
    placed: Vec<u8>,
}

impl Placer {
    pub(super) fn place(
        &mut self,
        pixels: &Pixels,
        at: Placement,
        filler: &mut Filler,
        slot: &mut [u8],
    ) -> Result<(), PictureError> {
        if pixels.size == at.size {
            filler.fill(slot, at, pixels.bytes, pixels.color);
        } else if filler.is_interleaved(pixels.color) {
            let input = filler.size();
            match pixels.color {
                Color::Rgb | Color::Bgr => self.resizer.within_slot::<U8x3>(pixels, slot, input, at)?,
                Color::Gray => self.resizer.within_slot::<U8>(pixels, slot, input, at)?,
            }
        } else {
            let placed = grown(&mut self.placed, at.width() * at.height() * pixels.color.channels());
            match pixels.color {
                Color::Rgb | Color::Bgr => self.resizer.packed::<U8x3>(pixels, placed, at.size)?,
                Color::Gray => self.resizer.packed::<U8>(pixels, placed, at.size)?,
            }
            filler.fill(slot, at, placed, pixels.color);
        }
        filler.pad(slot, at);
        Ok(())
    }

    pub(super) fn give_back(&mut self, bytes_kept: usize) {
        if self.placed.capacity() > bytes_kept {
            self.placed = Vec::new();
        }
        self.resizer.give_back(bytes_kept);
    }
}

/// Resizes with a triangle filter as wide as the reduction: bilinear when it enlarges, an average when it reduces, so
/// that small things do not flicker in and out between rows. SIMD chosen at run time.
#[derive(Default)]
pub(super) struct Scaler(Resizer);

impl Scaler {
    /// One plane of `u8` samples.
    pub(super) fn plane(
        &mut self,
        from: &[u8],
        from_size: Size,
        to: &mut [u8],
        to_size: Size,
    ) -> Result<(), PictureError> {
        self.packed::<U8>(&Pixels::whole(from, from_size, Color::Gray), to, to_size)
    }

    /// One plane of pairs of `u8` samples.
    pub(super) fn plane_of_pairs(
        &mut self,
        from: &[u8],
        from_size: Size,
        to: &mut [u8],
        to_size: Size,
    ) -> Result<(), PictureError> {
        self.packed::<U8x2>(&Pixels::whole(from, from_size, Color::Gray), to, to_size)
    }

    fn packed<P: PixelTrait>(&mut self, from: &Pixels, to: &mut [u8], to_size: Size) -> Result<(), PictureError> {
        let mut view =
            TypedImage::<P>::from_buffer(to_size.width, to_size.height, to).map_err(|error| refused(&error))?;
        self.resize(from, &mut view)
    }

    fn within_slot<P: PixelTrait>(
        &mut self,
        from: &Pixels,
        slot: &mut [u8],
        input: Size,
        at: Placement,
    ) -> Result<(), PictureError> {
        let whole = TypedImage::<P>::from_buffer(input.width, input.height, slot).map_err(|error| refused(&error))?;
        let mut view = TypedCroppedImageMut::new(whole, at.left as u32, at.top as u32, at.size.width, at.size.height)
            .map_err(|error| refused(&error))?;
        self.resize(from, &mut view)
    }

    fn resize<P: PixelTrait + InnerPixel>(
        &mut self,
        from: &Pixels,
        to: &mut impl ImageViewMut<Pixel = P>,
    ) -> Result<(), PictureError> {
        let view = TypedImageRef::<P>::from_buffer(from.size.width, from.size.height, from.bytes)
            .map_err(|error| refused(&error))?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            0.0,
            0.0,
            from.extent.0,
            from.extent.1,
        );
        self.0.resize_typed(&view, to, &options).map_err(|error| refused(&error))
    }

    fn give_back(&mut self, bytes_kept: usize) {
        if self.0.size_of_internal_buffers() > bytes_kept {
            self.0.reset_internal_buffers();
        }
    }
}

/// Every view above is made to fit; a frame would be dropped by this name if one ever did not.
#[cold]
fn refused(error: &dyn std::fmt::Display) -> PictureError {
    unfit(format!("the picture cannot be resized: {error}"))
}

#[cfg(test)]
mod tests {
    use omma_engine::picture::Resize;

    use super::*;

    #[test]
    fn a_placement_is_the_fit_in_whole_pixels() {
        let sides = [1, 2, 3, 7, 16, 99, 320, 321, 480, 640, 641, 719, 1080, 1279, 1920, 4096, 65_535];
        let inputs = [(1, 1), (32, 32), (320, 192), (640, 640), (333, 777)];
        for (width, height) in sides.iter().flat_map(|&w| sides.map(|h| (w, h))) {
            for (input, resize) in
                inputs.iter().flat_map(|&i| [(i, Resize::Letterbox { pad: 0 }), (i, Resize::Stretch)])
            {
                let input = Size { width: input.0, height: input.1 };
                let fit = Fit::new(Size { width, height }, input, resize);
                let at = Placement::of(&fit, input);
                let context = format!("{width}x{height} in {input:?}: {fit:?} {at:?}");
                assert!((fit.original.width as f32 * fit.scale_x - at.size.width as f32).abs() < 0.01, "{context}");
                assert!((fit.original.height as f32 * fit.scale_y - at.size.height as f32).abs() < 0.01, "{context}");
                assert_eq!((at.left as f32, at.top as f32), (fit.offset_x, fit.offset_y), "{context}");
                assert!(
                    at.left + at.width() <= input.width as usize && at.top + at.height() <= input.height as usize,
                    "{context}"
                );
                if resize == Resize::Stretch {
                    assert_eq!(at.size, input, "{context}");
                }
            }
        }
    }
}
