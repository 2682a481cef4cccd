//! Raw pixels: their sizes checked, and NV12 and I420 made RGB at the placed size.
//!
//! The planes are resized before they are converted: a 1080p picture for a 640x640 model costs a ninth of the colour
//! conversions, and no RGB picture of the original size is ever made. Video range BT.601 is taken, as OpenCV does;
//! the payload does not say.

use omma_engine::picture::{Color, PictureError};
use omma_frame::{PixelFormat, RawView, Size};

use super::error::unfit;
use super::kernel::{double, double_pairs, full_range, rgb_of_pairs, rgb_of_planes};
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
pub(super) fn planes<'a>(picture: &RawView<'a>) -> Result<Planes<'a>, PictureError> {
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
        full_range(pixels);
        return Ok(Color::Gray);
    }
    if to == yuv.size {
        convert_rows(yuv, grown(pixels, count * 5));
        return Ok(Color::Rgb);
    }
    // The pixels first, then the planes that they are made of.
    let (out, planes) = grown(pixels, count * 6).split_at_mut(count * 3);
    let (luma, chroma) = planes.split_at_mut(count);
    scaler.plane(yuv.luma, yuv.size, luma, to)?;
    let half = Size { width: yuv.size.width / 2, height: yuv.size.height / 2 };
    match yuv.chroma {
        Chroma::Pairs(pairs) => {
            scaler.plane_of_pairs(pairs, half, chroma, to)?;
            rgb_of_pairs(luma, chroma, out);
        }
        Chroma::Planes(u, v) => {
            let (to_u, to_v) = chroma.split_at_mut(count);
            scaler.plane(u, half, to_u, to)?;
            scaler.plane(v, half, to_v, to)?;
            rgb_of_planes(luma, to_u, to_v, out);
        }
    }
    Ok(Color::Rgb)
}

/// At the original's size each chroma sample serves four pixels, as OpenCV does it: to resize the chroma planes to
/// twice their size would cost several times the conversion.
fn convert_rows(yuv: &Yuv, pixels: &mut [u8]) {
    let width = yuv.size.width as usize;
    let (out, row) = pixels.split_at_mut(yuv.luma.len() * 3);
    let row = &mut row[..width * 2];
    let pairs_of_rows = yuv.luma.chunks_exact(width * 2).zip(out.chunks_exact_mut(width * 6));
    for (i, (luma, out)) in pairs_of_rows.enumerate() {
        let lines = luma.chunks_exact(width).zip(out.chunks_exact_mut(width * 3));
        match yuv.chroma {
            Chroma::Pairs(pairs) => {
                double_pairs(&pairs[i * width..][..width], row);
                lines.for_each(|(luma, out)| rgb_of_pairs(luma, row, out));
            }
            Chroma::Planes(u, v) => {
                let (row_u, row_v) = row.split_at_mut(width);
                let half = i * width / 2..(i + 1) * width / 2;
                double(&u[half.clone()], row_u);
                double(&v[half], row_v);
                lines.for_each(|(luma, out)| rgb_of_planes(luma, row_u, row_v, out));
            }
        }
    }
}
