//! A JPEG's markers up to its first scan: its size, its kind, and whether it has an end. Costs less than a
//! microsecond, allocates nothing.

use omma_engine::picture::PictureError;
use omma_frame::Size;

use crate::picture::error::{corrupt, unfit};

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Each block of 8x8 samples costs at least one bit, and the sampling factors let a block stand for at most 128 pixels.
const PIXELS_PER_BYTE_MAX: u64 = 1024;

pub(in crate::picture) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::picture) struct Header {
    pub(in crate::picture) size: Size,
    /// 1 (grey) or 3.
    pub(in crate::picture) components: u8,
    /// Horizontal and vertical factor of each component, one hexadecimal digit each, as they stand in the header.
    pub(super) sampling: [u8; 3],
    pub(super) progressive: bool,
    /// How many of the components the first scan holds.
    pub(super) scan_components: u8,
    /// Where the first scan's header ends and its entropy-coded data begin.
    pub(super) data_at: usize,
    /// Where the end marker is; behind it may be anything.
    pub(super) end_at: usize,
}

impl Header {
    /// # Errors
    /// `PictureCorrupt` if the markers cannot be followed to the first scan, or no end marker comes after it;
    /// `PictureUnfit` if the picture is a kind of JPEG that no camera sends.
    pub(in crate::picture) fn read(bytes: &[u8]) -> Result<Self, PictureError> {
        let mut frame: Option<Frame> = None;
        let mut at = 2;
        loop {
            let (marker, body_at) = next_marker(bytes, at)?;
            match marker {
                0x01 | 0xD0..=0xD7 => {
                    at = body_at;
                    continue;
                }
                0xD8 => return Err(corrupt(format!("the JPEG begins a second time at byte {at}"))),
                END_OF_IMAGE => return Err(corrupt(format!("the JPEG ends at byte {at} before any picture data"))),
                _ => {}
            }
            let body = segment(bytes, body_at)?;
            match marker {
                0xC0..=0xC2 if frame.is_some() => {
                    return Err(corrupt(format!("the JPEG has a second frame header at byte {at}")));
                }
                0xC0..=0xC2 => frame = Some(Frame::read(body, marker == 0xC2, at)?),
                0xC3 | 0xCB => return Err(kind_unfit("lossless")),
                0xC5..=0xC7 | 0xCD..=0xCF => return Err(kind_unfit("hierarchical")),
                0xC9 | 0xCA | 0xCC => return Err(kind_unfit("arithmetic-coded")),
                START_OF_SCAN => {
                    let Some(frame) = frame else {
                        return Err(corrupt(format!(
                            "the JPEG's first scan at byte {at} comes before its frame header"
                        )));
                    };
                    let data_at = body_at + 2 + body.len();
                    return Ok(Self {
                        size: frame.size,
                        components: frame.components,
                        sampling: frame.sampling,
                        progressive: frame.progressive,
                        scan_components: body.first().copied().unwrap_or(0),
                        data_at,
                        end_at: end_marker(bytes, data_at)?,
                    });
                }
                _ => {}
            }
            at = body_at + 2 + body.len();
        }
    }

    /// Whether so few bytes can hold the picture at all: a header costs its sender nothing, the memory for its size
    /// would be ours.
    pub(in crate::picture) fn check_length(&self, bytes: &[u8]) -> Result<(), PictureError> {
        let Size { width, height } = self.size;
        let least = u64::from(width) * u64::from(height) / PIXELS_PER_BYTE_MAX;
        let data = self.end_at.saturating_sub(self.data_at);
        if (data as u64) < least {
            return Err(corrupt(format!(
                "the JPEG has {data} bytes of picture data in {}, at least {least} are needed for {width}x{height}",
                bytes.len()
            )));
        }
        Ok(())
    }
}

struct Frame {
    size: Size,
    components: u8,
    sampling: [u8; 3],
    progressive: bool,
}

impl Frame {
    fn read(body: &[u8], progressive: bool, at: usize) -> Result<Self, PictureError> {
        let &[precision, h1, h0, w1, w0, components, ref rest @ ..] = body else {
            return Err(corrupt(format!(
                "the JPEG's frame header at byte {at} has {} bytes, expected at least 6",
                body.len()
            )));
        };
        if precision != 8 {
            return Err(unfit(format!("the JPEG has {precision} bits a sample, expected 8")));
        }
        if rest.len() != usize::from(components) * 3 {
            return Err(corrupt(format!(
                "the JPEG's frame header at byte {at} is too short or too long for {components} components"
            )));
        }
        match components {
            1 | 3 => {}
            4 => return Err(unfit("the JPEG is CMYK or YCCK (print colours), expected grey, YCbCr or RGB".to_owned())),
            _ => {
                return Err(unfit(format!(
                    "the JPEG has {components} components, expected 1 (grey) or 3 (YCbCr or RGB)"
                )));
            }
        }
        let size = Size { width: u16::from_be_bytes([w1, w0]).into(), height: u16::from_be_bytes([h1, h0]).into() };
        let mut sampling = [0x11; 3];
        for (sampling, component) in sampling.iter_mut().zip(rest.chunks_exact(3)) {
            *sampling = component[1];
        }
        Ok(Self { size, components, sampling, progressive })
    }
}

#[cold]
fn kind_unfit(kind: &str) -> PictureError {
    unfit(format!("the JPEG is {kind}, expected baseline or progressive"))
}

#[cold]
fn ends_early(bytes: &[u8]) -> PictureError {
    corrupt(format!("the JPEG ends after {} bytes, inside its header", bytes.len()))
}

/// The marker at `at`, and where it ends.
fn next_marker(bytes: &[u8], at: usize) -> Result<(u8, usize), PictureError> {
    match bytes.get(at) {
        None => return Err(ends_early(bytes)),
        Some(0xFF) => {}
        Some(other) => return Err(corrupt(format!("the JPEG has {other:02x} at byte {at}, expected a marker (ff)"))),
    }
    // A marker may be preceded by any number of fill bytes.
    let fill = bytes[at..].iter().take_while(|&&b| b == 0xFF).count();
    match bytes.get(at + fill) {
        None => Err(ends_early(bytes)),
        Some(&marker) => Ok((marker, at + fill + 1)),
    }
}

/// What is in the segment whose length stands at `at`, without the length.
fn segment(bytes: &[u8], at: usize) -> Result<&[u8], PictureError> {
    let Some(&[high, low]) = bytes.get(at..at + 2) else { return Err(ends_early(bytes)) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < 2 {
        return Err(corrupt(format!("the JPEG has a segment of {length} bytes at byte {at}, expected at least 2")));
    }
    bytes.get(at + 2..at + length).ok_or_else(|| ends_early(bytes))
}

/// Searched from the end, where it is in any sound picture; a picture that was cut has none behind its first scan
/// (an embedded thumbnail's end marker lies before that).
fn end_marker(bytes: &[u8], data_at: usize) -> Result<usize, PictureError> {
    let data = bytes.get(data_at..).unwrap_or(&[]);
    match data.windows(2).rposition(|pair| pair == [0xFF, END_OF_IMAGE]) {
        Some(at) => Ok(data_at + at),
        None => Err(corrupt(format!("the JPEG ends after {} bytes without an end marker: it was cut", bytes.len()))),
    }
}

#[cfg(test)]
mod tests {
    use omma_frame::DropReason::{self, PictureCorrupt, PictureUnfit};

    use super::*;

    fn frame(marker: u8, precision: u8, width: u16, height: u16, components: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF, marker, 0, 8 + 3 * components, precision];
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes.push(components);
        bytes.extend((0..components).flat_map(|c| [c + 1, 0x11, 0]));
        bytes
    }

    fn jpeg(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8];
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    const SCAN: [u8; 10] = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0];
    const END: [u8; 2] = [0xFF, 0xD9];

    #[test]
    fn says_what_the_frame_header_says() {
        let bytes = jpeg(&[
            &[0xFF, 0xE0, 0, 4, 1, 2],
            &[0xFF, 0xFF],
            &frame(0xC2, 8, 640, 480, 3),
            &SCAN,
            &[1, 2, 3],
            &END,
            b"tail",
        ]);
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.size, Size { width: 640, height: 480 });
        assert_eq!(
            (header.components, header.sampling, header.progressive, header.scan_components),
            (3, [0x11; 3], true, 1)
        );
        assert_eq!(&bytes[header.data_at..header.end_at], &[1, 2, 3]);
    }

    #[test]
    fn refuses_what_it_cannot_follow() {
        let sound = frame(0xC0, 8, 16, 16, 3);
        let thumbnail = [&[0xFF, 0xE1, 0, 6][..], &[0xFF, 0xD8], &END].concat();
        let cases: Vec<(Vec<u8>, DropReason, &str)> = vec![
            (jpeg(&[]), PictureCorrupt, "the JPEG ends after 2 bytes, inside its header"),
            (jpeg(&[&END]), PictureCorrupt, "the JPEG ends at byte 2 before any picture data"),
            (jpeg(&[&[0xFF, 0xE0, 0, 9, 1]]), PictureCorrupt, "the JPEG ends after 7 bytes, inside its header"),
            (
                jpeg(&[&[0xFF, 0xE0, 0, 1]]),
                PictureCorrupt,
                "the JPEG has a segment of 1 bytes at byte 4, expected at least 2",
            ),
            (jpeg(&[&[0x12, 0x34]]), PictureCorrupt, "the JPEG has 12 at byte 2, expected a marker (ff)"),
            (jpeg(&[&SCAN, &END]), PictureCorrupt, "the JPEG's first scan at byte 2 comes before its frame header"),
            (jpeg(&[&sound, &sound]), PictureCorrupt, "the JPEG has a second frame header at byte 21"),
            (
                jpeg(&[&thumbnail, &sound, &SCAN, &[1, 2]]),
                PictureCorrupt,
                "the JPEG ends after 41 bytes without an end marker: it was cut",
            ),
            (
                jpeg(&[&frame(0xC0, 8, 16, 16, 4)]),
                PictureUnfit,
                "the JPEG is CMYK or YCCK (print colours), expected grey, YCbCr or RGB",
            ),
            (
                jpeg(&[&frame(0xC0, 8, 16, 16, 2)]),
                PictureUnfit,
                "the JPEG has 2 components, expected 1 (grey) or 3 (YCbCr or RGB)",
            ),
            (jpeg(&[&frame(0xC1, 12, 16, 16, 3)]), PictureUnfit, "the JPEG has 12 bits a sample, expected 8"),
            (
                jpeg(&[&frame(0xC3, 8, 16, 16, 3)]),
                PictureUnfit,
                "the JPEG is lossless, expected baseline or progressive",
            ),
            (
                jpeg(&[&frame(0xC9, 8, 16, 16, 3)]),
                PictureUnfit,
                "the JPEG is arithmetic-coded, expected baseline or progressive",
            ),
            (
                jpeg(&[&frame(0xC5, 8, 16, 16, 3)]),
                PictureUnfit,
                "the JPEG is hierarchical, expected baseline or progressive",
            ),
        ];
        for (bytes, reason, message) in cases {
            let error = Header::read(&bytes).unwrap_err();
            assert_eq!((error.reason, error.message.as_str()), (reason, message));
        }
    }

    #[test]
    fn refuses_a_size_that_the_bytes_cannot_hold() {
        let bytes = jpeg(&[&frame(0xC0, 8, 8000, 8000, 3), &SCAN, &[0; 100], &END]);
        let error = Header::read(&bytes).unwrap().check_length(&bytes).unwrap_err();
        assert_eq!(
            error.message,
            "the JPEG has 100 bytes of picture data in 133, at least 62500 are needed for 8000x8000"
        );
    }
}
