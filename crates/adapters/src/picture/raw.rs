//! Raw pixels: their sizes checked, and NV12 and I420 made RGB at the placed size.
//!
//! The planes are resized before they are converted: a 1080p picture for a 640x640 model costs a ninth of the colour
//! conversions, and no RGB picture of the original size is ever made. Video range BT.601 is taken, as OpenCV does;
//! the payload does not say.

use omma_engine::picture::{Color, PictureError};
use omma_frame::{PixelFormat, RawPicture, Size};

use super::error::unfit;
use super::place::{Scaler, grown};

pub(super) enum Planes<'a> {
    /// Interleaved already.
    Packed(Color),
    Yuv(Yuv<'a>),
}

pub(super) struct Yuv<'a> {
    size: Size,
    luma: &'a [u8],
    chroma: Chroma<'a>,
}

enum Chroma<'a> {
    Pairs(&'a [u8]),
    Planes(&'a [u8], &'a [u8]),
}

fn name(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Rgb => "RGB",
        PixelFormat::Bgr => "BGR",
        PixelFormat::Gray => "grey",
        PixelFormat::Nv12 => "NV12",
        PixelFormat::I420 => "I420",
    }
}

/// What the bytes are. The size has been checked against the limits.
///
/// # Errors
/// `PictureUnfit` if their number is not what format and size say.
pub(super) fn planes(picture: &RawPicture) -> Result<Planes<'_>, PictureError> {
    let Size { width, height } = picture.size;
    let halved = matches!(picture.format, PixelFormat::Nv12 | PixelFormat::I420);
    if halved && (width % 2 != 0 || height % 2 != 0) {
        return Err(unfit(format!(
            "the raw {} picture is {width}x{height}, expected even sides",
            name(picture.format)
        )));
    }
    let expected = picture.format.byte_len(picture.size);
    let found = picture.bytes.len();
    if found != expected {
        return Err(unfit(format!(
            "the raw {} picture of {width}x{height} has {found} bytes, expected {expected}",
            name(picture.format)
        )));
    }
    let (luma, chroma) = picture.bytes.split_at(if halved { expected / 3 * 2 } else { expected });
    Ok(match picture.format {
        PixelFormat::Rgb => Planes::Packed(Color::Rgb),
        PixelFormat::Bgr => Planes::Packed(Color::Bgr),
        PixelFormat::Gray => Planes::Packed(Color::Gray),
        PixelFormat::Nv12 => Planes::Yuv(Yuv { size: picture.size, luma, chroma: Chroma::Pairs(chroma) }),
        PixelFormat::I420 => {
            let (u, v) = chroma.split_at(chroma.len() / 2);
            Planes::Yuv(Yuv { size: picture.size, luma, chroma: Chroma::Planes(u, v) })
        }
    })
}

/// Makes the beginning of `pixels` the picture at size `to`, grey or RGB, and says which.
///
/// # Errors
/// Those of the resize.
pub(super) fn convert(
    yuv: &Yuv,
    to: Size,
    gray: bool,
    scaler: &mut Scaler,
    pixels: &mut Vec<u8>,
) -> Result<Color, PictureError> {
    let count = to.width as usize * to.height as usize;
    if gray {
        let pixels = grown(pixels, count);
        scaler.plane(yuv.luma, yuv.size, pixels, to)?;
        pixels.iter_mut().for_each(|luma| *luma = full_range(*luma));
        return Ok(Color::Gray);
    }
    // The pixels first, then the planes that they are made of.
    let (out, planes) = grown(pixels, count * 6).split_at_mut(count * 3);
    let (luma, chroma) = planes.split_at_mut(count);
    scaler.plane(yuv.luma, yuv.size, luma, to)?;
    let half = Size { width: yuv.size.width / 2, height: yuv.size.height / 2 };
    let out = out.as_chunks_mut::<3>().0;
    match yuv.chroma {
        Chroma::Pairs(pairs) => {
            scaler.plane_of_pairs(pairs, half, chroma, to)?;
            let pairs = chroma.as_chunks::<2>().0;
            out.iter_mut().zip(luma.iter().zip(pairs)).for_each(|(pixel, (y, [u, v]))| *pixel = rgb(*y, *u, *v));
        }
        Chroma::Planes(u, v) => {
            let (to_u, to_v) = chroma.split_at_mut(count);
            scaler.plane(u, half, to_u, to)?;
            scaler.plane(v, half, to_v, to)?;
            out.iter_mut()
                .zip(luma.iter().zip(to_u.iter().zip(to_v.iter())))
                .for_each(|(pixel, (y, (u, v)))| *pixel = rgb(*y, *u, *v));
        }
    }
    Ok(Color::Rgb)
}

fn full_range(luma: u8) -> u8 {
    ((298 * (i32::from(luma) - 16) + 128) >> 8).clamp(0, 255) as u8
}

/// BT.601, video range, in 256ths.
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let y = 298 * (i32::from(y) - 16) + 128;
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [y + 409 * v, y - 100 * u - 208 * v, y + 516 * u].map(|sum| (sum >> 8).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_range_colours_are_those_of_bt601() {
        let cases = [
            ((16, 128, 128), [0, 0, 0]),
            ((235, 128, 128), [255, 255, 255]),
            ((81, 90, 240), [255, 0, 0]),
            ((145, 54, 34), [0, 255, 0]),
            ((41, 240, 110), [0, 0, 255]),
            ((0, 128, 128), [0, 0, 0]),
            ((255, 128, 128), [255, 255, 255]),
        ];
        for ((y, u, v), expected) in cases {
            let found = rgb(y, u, v);
            let far = found.iter().zip(expected).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max().unwrap();
            assert!(far <= 2, "{y} {u} {v}: {found:?}, expected {expected:?}");
            assert_eq!(full_range(235), 255);
            assert_eq!(full_range(16), 0);
        }
    }
}
