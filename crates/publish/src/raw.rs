//! From packed RGB to the raw formats that cameras send. NV12 and I420 are video range BT.601, as they are read.

use omma_frame::{PixelFormat, Size};

/// The picture in another format. `rgb` is `width * height * 3` bytes; sides are even where the format halves them.
pub(crate) fn from_rgb(rgb: &[u8], size: Size, format: PixelFormat) -> Vec<u8> {
    let (width, height) = (size.width as usize, size.height as usize);
    let pixels = || rgb.as_chunks::<3>().0.iter();
    match format {
        PixelFormat::Rgb => rgb.to_vec(),
        PixelFormat::Bgr => pixels().flat_map(|[r, g, b]| [*b, *g, *r]).collect(),
        PixelFormat::Gray => pixels().map(|[r, g, b]| weigh([77, 150, 29], [*r, *g, *b], 0)).collect(),
        PixelFormat::Nv12 | PixelFormat::I420 => {
            let mut out: Vec<u8> = pixels().map(|pixel| weigh([66, 129, 25], *pixel, 16)).collect();
            let mut chroma = Vec::with_capacity(width * height / 2);
            for y in (0..height).step_by(2) {
                for x in (0..width).step_by(2) {
                    let mean = |channel: usize| {
                        let at = |x: usize, y: usize| u32::from(rgb[(y * width + x) * 3 + channel]);
                        ((at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1) + 2) / 4) as u8
                    };
                    let pixel = [mean(0), mean(1), mean(2)];
                    chroma.push([weigh([-38, -74, 112], pixel, 128), weigh([112, -94, -18], pixel, 128)]);
                }
            }
            if format == PixelFormat::Nv12 {
                out.extend(chroma.iter().flatten());
            } else {
                out.extend(chroma.iter().map(|pair| pair[0]));
                out.extend(chroma.iter().map(|pair| pair[1]));
            }
            out
        }
    }
}

/// A weighted sum in 256ths, rounded, and moved.
fn weigh(weights: [i32; 3], pixel: [u8; 3], offset: i32) -> u8 {
    let sum: i32 = weights.iter().zip(pixel).map(|(weight, value)| weight * i32::from(value)).sum();
    (((sum + 128) >> 8) + offset).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_its_bytes() {
        let size = Size { width: 2, height: 2 };
        let rgb = [[255, 0, 0], [255, 0, 0], [255, 0, 0], [255, 0, 0]].concat();
        for (format, expected) in [
            (PixelFormat::Rgb, vec![255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0]),
            (PixelFormat::Bgr, vec![0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255]),
            (PixelFormat::Gray, vec![77; 4]),
            // Red in BT.601 video range: 82, 90, 240.
            (PixelFormat::Nv12, vec![82, 82, 82, 82, 90, 240]),
            (PixelFormat::I420, vec![82, 82, 82, 82, 90, 240]),
        ] {
            assert_eq!(from_rgb(&rgb, size, format), expected, "{format:?}");
        }
    }

    #[test]
    fn planes_are_apart_in_i420_and_in_pairs_in_nv12() {
        let size = Size { width: 4, height: 2 };
        // Red and green: chroma (90, 240) and (54, 34).
        let row = [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 255, 0]].concat();
        let rgb = [row.clone(), row].concat();
        let (pairs, planes) = (from_rgb(&rgb, size, PixelFormat::Nv12), from_rgb(&rgb, size, PixelFormat::I420));
        assert_eq!(pairs[8..], [90, 240, 54, 34], "u v, u v");
        assert_eq!(planes[8..], [90, 54, 240, 34], "u u, v v");
    }
}
