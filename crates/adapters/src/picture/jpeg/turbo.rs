//! libjpeg-turbo. Its warnings count as damage, but for one that whole pictures of common cameras give.

use omma_engine::picture::{Color, PictureError};
use omma_frame::Size;
use turbojpeg::{Decompressor, Error, Image, PixelFormat, ScalingFactor};

use super::{Header, JpegRead, Reduced, SCANS_MAX};
use crate::picture::error::corrupt;
use crate::picture::place::Region;

pub(super) struct Turbo {
    decompressor: Decompressor,
}

impl Turbo {
    pub(super) fn new() -> Self {
        Self { decompressor: Self::decompressor() }
    }

    fn decompressor() -> Decompressor {
        // Fails for want of memory only, where any other allocation would end the process too.
        let mut decompressor = Decompressor::new().expect("libjpeg-turbo gives a decompressor while there is memory");
        decompressor.set_scan_limit(SCANS_MAX).expect("libjpeg-turbo takes any limit that is not negative");
        decompressor
    }
}

impl JpegRead for Turbo {
    fn reduced(&self, header: &Header, placed: Size) -> Reduced {
        Reduced::to(header.size, placed)
    }

    fn color(&self, _: &Header, wanted: Color) -> Color {
        wanted
    }

    fn takes_pitch(&self) -> bool {
        true
    }

    fn read(
        &mut self,
        bytes: &[u8],
        header: &Header,
        reduced: &Reduced,
        color: Color,
        region: &mut Region,
    ) -> Result<(), PictureError> {
        let done = self.decompress(bytes, header, reduced, color, region);
        if done.is_err() {
            // After an error in a header the library goes on where it stood with whatever it is given next, and so
            // would refuse every picture for ever. A new one costs a damaged picture some microseconds.
            self.decompressor = Self::decompressor();
        }
        done
    }
}

impl Turbo {
    fn decompress(
        &mut self,
        bytes: &[u8],
        header: &Header,
        reduced: &Reduced,
        color: Color,
        region: &mut Region,
    ) -> Result<(), PictureError> {
        // Were the library to see a smaller picture than we did, the rest would be the picture before this one.
        let seen = self.decompressor.read_header(bytes).map_err(|error| damaged(&error))?;
        if (seen.width, seen.height) != (header.size.width as usize, header.size.height as usize) {
            return Err(corrupt(format!(
                "the JPEG has two sizes, {}x{} and {}x{}",
                header.size.width, header.size.height, seen.width, seen.height
            )));
        }
        let factor = ScalingFactor::new(1, reduced.denominator as usize);
        if self.decompressor.scaling_factor() != factor {
            self.decompressor.set_scaling_factor(factor).map_err(|error| damaged(&error))?;
        }
        let image = Image {
            width: region.size.width as usize,
            height: region.size.height as usize,
            pitch: region.pitch,
            format: match color {
                Color::Rgb => PixelFormat::RGB,
                Color::Bgr => PixelFormat::BGR,
                Color::Gray => PixelFormat::GRAY,
            },
            pixels: &mut *region.bytes,
        };
        match self.decompressor.decompress(bytes, image) {
            Ok(()) => Ok(()),
            Err(Error::TurboJpegError(text)) if is_harmless(&text) => Ok(()),
            Err(error) => Err(damaged(&error)),
        }
    }
}

#[cold]
fn damaged(error: &Error) -> PictureError {
    match error {
        Error::TurboJpegError(text) => corrupt(format!("the JPEG is damaged: {text}")),
        other => corrupt(format!("the JPEG is damaged: {other}")),
    }
}

/// A few stray bytes before the end marker: common webcams put them into every picture. The library reports its first
/// warning, so nothing was wrong before these bytes; nothing comes after them; and all rows have been written.
/// Many stray bytes are what a flipped bit leaves behind.
fn is_harmless(text: &str) -> bool {
    text.strip_prefix("Corrupt JPEG data: ")
        .and_then(|rest| rest.strip_suffix(" extraneous bytes before marker 0xd9"))
        .and_then(|count| count.parse::<u32>().ok())
        .is_some_and(|count| count <= 16)
}
