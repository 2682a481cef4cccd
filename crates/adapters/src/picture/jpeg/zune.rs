//! zune-jpeg: pure Rust, for builds without native libraries. Decodes the whole picture, into memory of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use omma_engine::picture::{Color, PictureError};
use omma_frame::Size;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Header, JpegRead, Reduced, SCANS_MAX};
use crate::picture::error::{corrupt, unfit};
use crate::picture::limits::SIDE_MAX;
use crate::picture::place::Region;

/// What follows the data of a picture with one scan in the place of its end marker: see [`Zune::read`]. The decoder
/// reads at most eight bytes ahead.
const TAIL: [u8; 16] = [0; 16];

#[derive(Default)]
pub(super) struct Zune {
    /// The picture without its end marker.
    open_ended: Vec<u8>,
}

impl JpegRead for Zune {
    fn reduced(&self, header: &Header, _: Size) -> Reduced {
        Reduced::to(header.size, header.size)
    }

    /// Grey from a colour picture goes by way of RGB: the picture may be stored as RGB, which it cannot make grey. BGR
    /// has no SIMD code here, and the last pass swaps for nothing or almost.
    fn color(&self, header: &Header, _: Color) -> Color {
        if header.components == 1 { Color::Gray } else { Color::Rgb }
    }

    fn takes_pitch(&self) -> bool {
        false
    }

    fn read(
        &mut self,
        bytes: &[u8],
        header: &Header,
        _: &Reduced,
        color: Color,
        region: &mut Region,
    ) -> Result<(), PictureError> {
        check_sampling(header)?;
        check_scans(&bytes[header.data_at..header.end_at])?;
        // A picture that was cut and then closed with an end marker (as receivers do after packet loss) would be
        // filled up in silence, even in strict mode: an end marker means endless zeros to this decoder, only the end
        // of the input is an error. So a picture of one scan gets no end marker but a few bytes to read ahead into.
        let one_scan = !header.progressive && header.scan_components == header.components;
        let input = if one_scan {
            self.open_ended.clear();
            self.open_ended.extend_from_slice(&bytes[..header.end_at]);
            self.open_ended.extend_from_slice(&TAIL);
            &self.open_ended[..]
        } else {
            bytes
        };
        let options = DecoderOptions::default()
            .set_strict_mode(true)
            .set_max_width(SIDE_MAX as usize)
            .set_max_height(SIDE_MAX as usize)
            .jpeg_set_max_scans(SCANS_MAX as usize)
            .jpeg_set_out_colorspace(if color == Color::Gray { ColorSpace::Luma } else { ColorSpace::RGB });
        // The decoder holds its state by value and is gone after a panic, so nothing half-done is seen again.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut decoder = JpegDecoder::new_with_options(ZCursor::new(input), options);
            decoder.decode_headers().map_err(|error| error.to_string())?;
            let (seen, said) = (decoder.output_buffer_size(), region.bytes.len());
            if seen != Some(said) {
                return Err(format!("{seen:?} bytes of pixels where {said} were expected"));
            }
            decoder.decode_into(region.bytes).map_err(|error| error.to_string())
        }));
        match decoded {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(corrupt(format!("the JPEG is damaged: {text}"))),
            Err(_) => Err(corrupt("the JPEG is damaged in a way that its decoder does not survive".to_owned())),
        }
    }
}

/// The decoder makes something else of 4:1:0 and its like, without an error.
fn check_sampling(header: &Header) -> Result<(), PictureError> {
    if header.components == 1 || matches!(header.sampling, [0x11 | 0x21 | 0x12 | 0x22 | 0x41, 0x11, 0x11]) {
        return Ok(());
    }
    let factors = header.sampling.map(|factors| format!("{}x{}", factors >> 4, factors & 15)).join(", ");
    Err(unfit(format!(
        "the JPEG samples its components {factors}, expected 4:4:4, 4:2:2, 4:2:0, 4:4:0 or 4:1:1 (a build with libjpeg-turbo reads all)"
    )))
}

/// The decoder bounds the scans of progressive pictures only. A byte pair inside a table may look like a scan's
/// marker; that only makes the bound a little tighter.
fn check_scans(data: &[u8]) -> Result<(), PictureError> {
    let more = data.windows(2).filter(|pair| pair == &[0xFF, 0xDA]).count();
    if more >= SCANS_MAX as usize {
        return Err(corrupt(format!("the JPEG has {} scans, expected at most {SCANS_MAX}", more + 1)));
    }
    Ok(())
}
