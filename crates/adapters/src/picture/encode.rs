//! JPEG encoding, for synthetic cameras and contact sheets: 4:2:0, as cameras send it.

use std::fmt;

use omma_frame::Size;

use super::limits::SIDE_MAX;

/// Why pixels cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// A side is zero or longer than 65,535.
    Size(Size),
    /// The pixels are not `width * height * 3` bytes.
    Length { found: usize, expected: usize },
    /// Not 1 to 100.
    Quality(u8),
    /// The library's own words.
    Library(String),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(
                f,
                "a picture of {}x{} cannot be a JPEG, expected 1 to {SIDE_MAX} pixels on each side",
                size.width, size.height
            ),
            Self::Length { found, expected } => write!(f, "the pixels have {found} bytes, expected {expected}"),
            Self::Quality(quality) => write!(f, "the JPEG quality is {quality}, expected 1 to 100"),
            Self::Library(text) => write!(f, "the JPEG cannot be encoded: {text}"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Encodes one picture with an encoder of its own; who encodes many keeps a [`JpegEncoder`].
///
/// # Errors
/// As [`JpegEncoder::encode`].
pub fn encode_jpeg(rgb: &[u8], size: Size, quality: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    JpegEncoder::default().encode(rgb, size, quality, out)
}

/// Encodes pictures, with memory that is reused. Uses libjpeg-turbo if this build has it.
#[derive(Default)]
pub struct JpegEncoder {
    #[cfg(feature = "turbojpeg")]
    turbo: Option<turbo::Encoder>,
}

impl JpegEncoder {
    /// Replaces `out`'s content by the JPEG of `rgb`: rows of 3 bytes a pixel without gaps. `quality` is 1 to 100.
    ///
    /// # Errors
    /// Size, length or quality are not what they must be; the library's own errors do not occur with sound memory.
    pub fn encode(&mut self, rgb: &[u8], size: Size, quality: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (Ok(width @ 1..), Ok(height @ 1..)) = (u16::try_from(size.width), u16::try_from(size.height)) else {
            return Err(EncodeError::Size(size));
        };
        let expected = usize::from(width) * usize::from(height) * 3;
        if rgb.len() != expected {
            return Err(EncodeError::Length { found: rgb.len(), expected });
        }
        if !(1..=100).contains(&quality) {
            return Err(EncodeError::Quality(quality));
        }
        out.clear();
        #[cfg(feature = "turbojpeg")]
        return turbo::encode(&mut self.turbo, rgb, size, quality, out)
            .map_err(|error| EncodeError::Library(error.to_string()));
        #[cfg(not(feature = "turbojpeg"))]
        return pure(rgb, width, height, quality, out);
    }
}

#[cfg(not(feature = "turbojpeg"))]
fn pure(rgb: &[u8], width: u16, height: u16, quality: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut encoder = jpeg_encoder::Encoder::new(out, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder
        .encode(rgb, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| EncodeError::Library(error.to_string()))
}

#[cfg(feature = "turbojpeg")]
mod turbo {
    use omma_frame::Size;
    use turbojpeg::{Compressor, Image, PixelFormat, Result, Subsamp, compressed_buf_len};

    pub(super) struct Encoder {
        compressor: Compressor,
        /// As large as the worst case of the largest picture so far. Never shortened: growing a vector writes zeros.
        scratch: Vec<u8>,
    }

    pub(super) fn encode(
        kept: &mut Option<Encoder>,
        rgb: &[u8],
        size: Size,
        quality: u8,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let encoder = match kept {
            Some(encoder) => encoder,
            None => {
                let mut compressor = Compressor::new()?;
                compressor.set_subsamp(Subsamp::Sub2x2)?;
                kept.insert(Encoder { compressor, scratch: Vec::new() })
            }
        };
        let (width, height) = (size.width as usize, size.height as usize);
        let longest = compressed_buf_len(width, height, Subsamp::Sub2x2)?;
        if encoder.scratch.len() < longest {
            encoder.scratch.resize(longest, 0);
        }
        encoder.compressor.set_quality(quality.into())?;
        let image = Image { pixels: rgb, width, height, pitch: width * 3, format: PixelFormat::RGB };
        let len = encoder.compressor.compress_to_slice(image, &mut encoder.scratch)?;
        out.extend_from_slice(&encoder.scratch[..len]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_picture() {
        let size = |width, height| Size { width, height };
        let cases = [
            (size(0, 4), 0, 80, "a picture of 0x4 cannot be a JPEG, expected 1 to 65535 pixels on each side"),
            (
                size(65_536, 1),
                196_608,
                80,
                "a picture of 65536x1 cannot be a JPEG, expected 1 to 65535 pixels on each side",
            ),
            (size(4, 4), 47, 80, "the pixels have 47 bytes, expected 48"),
            (size(4, 4), 48, 0, "the JPEG quality is 0, expected 1 to 100"),
            (size(4, 4), 48, 101, "the JPEG quality is 101, expected 1 to 100"),
        ];
        for (size, bytes, quality, message) in cases {
            let error = encode_jpeg(&vec![0; bytes], size, quality, &mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_kept_encoder_gives_what_a_fresh_one_gives() {
        let mut kept = JpegEncoder::default();
        let mut out = vec![1, 2, 3];
        for (width, height, quality) in [(64, 48, 90), (16, 16, 50), (33, 17, 75)] {
            let size = Size { width, height };
            let rgb: Vec<u8> = (0..width * height * 3).map(|i| (i * 7) as u8).collect();
            kept.encode(&rgb, size, quality, &mut out).unwrap();
            let mut fresh = Vec::new();
            encode_jpeg(&rgb, size, quality, &mut fresh).unwrap();
            assert_eq!(out, fresh);
            assert!(out.starts_with(&[0xFF, 0xD8, 0xFF]) && out.ends_with(&[0xFF, 0xD9]));
        }
    }
}
