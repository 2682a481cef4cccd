//! PNG: every depth, palette and interlacing becomes 8-bit grey or RGB; transparency is laid over black.
//!
//! For pictures in folders and tests; the library allocates its state for each one. The whole file is read and its
//! checksums are checked, so that a cut or flipped file does not pass.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use omma_engine::picture::{Color, PictureError};
use omma_frame::Size;
use png::{ColorType, DecodingError, Transformations};

use super::error::corrupt;
use super::place::grown;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A];

/// Deflate makes at most 1032 bytes of one.
const INFLATION_MAX: u64 = 1032;

/// What the library may allocate beyond the pixels: a few rows and the palette.
const LIBRARY_BYTES_MAX: usize = 16 << 20;

pub(super) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE[..4])
}

pub(super) struct Header {
    pub(super) size: Size,
    bits_per_pixel: u64,
}

impl Header {
    /// # Errors
    /// `PictureCorrupt` if there is no header where it must be.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PictureError> {
        if !bytes.starts_with(&SIGNATURE) {
            return Err(corrupt("the PNG's signature is damaged, as by a transfer in text mode".to_owned()));
        }
        let Some(&[0, 0, 0, 13, b'I', b'H', b'D', b'R', w3, w2, w1, w0, h3, h2, h1, h0, depth, color, ..]) =
            bytes.get(8..33)
        else {
            return Err(corrupt(format!(
                "the PNG of {} bytes has no whole header (IHDR) behind its signature",
                bytes.len()
            )));
        };
        let samples = match color {
            0 | 3 => 1,
            2 => 3,
            4 => 2,
            6 => 4,
            other => return Err(corrupt(format!("the PNG has colour type {other}, expected 0, 2, 3, 4 or 6"))),
        };
        let size = Size { width: u32::from_be_bytes([w3, w2, w1, w0]), height: u32::from_be_bytes([h3, h2, h1, h0]) };
        Ok(Self { size, bits_per_pixel: samples * u64::from(depth) })
    }

    /// Whether so few bytes can hold the picture at all, before memory is taken for it. The size has been checked.
    pub(super) fn check_length(&self, bytes: &[u8]) -> Result<(), PictureError> {
        let Size { width, height } = self.size;
        let raw = u64::from(width) * u64::from(height) * self.bits_per_pixel / 8;
        let least = raw / INFLATION_MAX;
        if (bytes.len() as u64) < least {
            return Err(corrupt(format!(
                "the PNG has {} bytes, at least {least} are needed for {width}x{height}",
                bytes.len()
            )));
        }
        Ok(())
    }
}

/// Decodes into the beginning of `pixels` (packed) and says whether they are grey or RGB.
///
/// # Errors
/// `PictureCorrupt`.
pub(super) fn read(bytes: &[u8], header: &Header, pixels: &mut Vec<u8>) -> Result<Color, PictureError> {
    // The library asserts what it believes about its input; a file that proves it wrong costs one frame, no thread.
    match catch_unwind(AssertUnwindSafe(|| decode(bytes, header, pixels))) {
        Ok(Ok(color)) => Ok(color),
        Ok(Err(text)) => Err(corrupt(format!("the PNG is damaged: {text}"))),
        Err(_) => Err(corrupt("the PNG is damaged in a way that its decoder does not survive".to_owned())),
    }
}

fn decode(bytes: &[u8], header: &Header, pixels: &mut Vec<u8>) -> Result<Color, String> {
    let text = |error: DecodingError| error.to_string();
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: LIBRARY_BYTES_MAX });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(text)?;
    let needed = reader.output_buffer_size().ok_or("its size is beyond memory")?;
    let pixels = grown(pixels, needed);
    let info = reader.next_frame(pixels).map_err(text)?;
    if (info.width, info.height) != (header.size.width, header.size.height) {
        return Err(format!(
            "its first animation frame is {}x{}, its header says {}x{}",
            info.width, info.height, header.size.width, header.size.height
        ));
    }
    reader.finish().map_err(text)?;
    Ok(match info.color_type {
        ColorType::Rgb | ColorType::Indexed => Color::Rgb,
        ColorType::Grayscale => Color::Gray,
        ColorType::Rgba => {
            over_black::<4, 3>(pixels);
            Color::Rgb
        }
        ColorType::GrayscaleAlpha => {
            over_black::<2, 1>(pixels);
            Color::Gray
        }
    })
}

/// Multiplies by the last channel and drops it, in place.
fn over_black<const WITH: usize, const WITHOUT: usize>(pixels: &mut [u8]) {
    for i in 0..pixels.len() / WITH {
        let alpha = u16::from(pixels[i * WITH + WITHOUT]);
        for channel in 0..WITHOUT {
            let value = u16::from(pixels[i * WITH + channel]);
            pixels[i * WITHOUT + channel] = ((value * alpha + 127) / 255) as u8;
        }
    }
}
