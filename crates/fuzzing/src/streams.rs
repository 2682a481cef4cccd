//! Streams of pictures: MJPEG over HTTP and in files. However a stream is cut into pieces, the same comes out.

use omma_adapters::fuzzing::{Response, mjpeg, response};
use omma_testkit::picture_fixtures::{Canvas, JpegKind};

use crate::input::Input;

/// What the multipart parser may keep beyond header and part: a line end, the boundary (which is bounded by the texts of
/// a header) and a delimiter's or chunk's line.
const DELIMITER_BYTES_MAX: usize = 2 + 800 + 256;

/// An HTTP response of a camera.
pub fn multipart(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = 1 + input.below(64);
    let (header_max, part_max) = input.pick(&[(1024, 4096), (64, 256), (1 << 14, 1 << 20), (300, 16)]);
    let stream = input.rest();
    let whole = response([stream], header_max, part_max);
    let pieces = response(stream.chunks(piece), header_max, part_max);
    let single = response(stream.chunks(1), header_max, part_max);
    let held = header_max + part_max + DELIMITER_BYTES_MAX;
    for (found, fed) in [(&whole, stream.len()), (&pieces, piece), (&single, 1)] {
        let Response { parts, fault, offset, skipped_bytes, held_bytes_max } = found;
        assert!(parts.iter().all(|part| part.len() <= part_max), "a part of more than {part_max} bytes");
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(total as u64 + skipped_bytes <= *offset && *offset <= stream.len() as u64);
        assert!(*held_bytes_max <= held + fed, "{held_bytes_max} bytes held in pieces of {fed}");
        assert!(fault.as_ref().is_none_or(|fault| !fault.is_empty() && fault.len() < 4000), "{fault:?}");
        assert_eq!(found.parts, whole.parts, "in pieces of {fed}");
        assert_eq!(fault.is_some(), whole.fault.is_some(), "{fault:?} in pieces of {fed}, {:?} at once", whole.fault);
    }
}

/// A file of JPEGs one after the other.
pub fn mjpeg_file(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let piece = 1 + input.below(64);
    let small = 4 + input.below(200);
    let stream = input.rest();
    for (bytes_max, piece) in [(usize::MAX / 2, piece), (usize::MAX / 2, usize::MAX), (small, piece), (small, 1)] {
        let found = mjpeg(stream.chunks(piece), bytes_max);
        let mut given: Vec<(u64, u64)> = found.garbage.clone();
        for (at, picture) in &found.pictures {
            let start = usize::try_from(*at).expect("inside the stream");
            assert!(stream[start..].starts_with(picture), "the picture at {at} is not what stands there");
            assert!(picture.starts_with(&[0xFF, 0xD8]) && picture.ends_with(&[0xFF, 0xD9]) && picture.len() >= 4);
            assert!(picture.len() <= bytes_max);
            given.push((*at, picture.len() as u64));
        }
        given.sort_unstable();
        let end = given.iter().fold(0, |end, &(at, bytes)| {
            assert_eq!(at, end, "each byte is given out once");
            at + bytes
        });
        assert_eq!(end, stream.len() as u64);
        assert!(found.held_bytes_max <= bytes_max.saturating_add(piece) as u64);
    }
    let whole = mjpeg([stream], usize::MAX / 2);
    let pieces = mjpeg(stream.chunks(piece), usize::MAX / 2);
    assert_eq!(whole.pictures, pieces.pictures, "in pieces of {piece}");
}

fn picture(seed: u32) -> Vec<u8> {
    Canvas::noise(omma_frame::Size { width: 3, height: 2 }, seed).jpeg(JpegKind { quality: 20, ..JpegKind::default() })
}

/// The smallest thing with a JPEG's bones.
const BONES: [u8; 11] = [0xFF, 0xD8, 0xFF, 0xDA, 0, 4, 9, 9, 1, 0xFF, 0xD9];

pub(crate) fn mjpeg_file_seeds() -> Vec<Vec<u8>> {
    let thumbnail = [&[0xFF, 0xD8, 0xFF, 0xE1, 0, 13][..], &BONES, &BONES[2..]].concat();
    let streams = [
        [picture(1), picture(2)].concat(),
        [&BONES[..], &BONES, b"garbage", &BONES].concat(),
        [&thumbnail[..], &BONES].concat(),
        [&BONES[..9], &BONES].concat(),
        [&[0xFF, 0xD8, 0xFF, 0xE0, 0, 12, 1][..], &BONES, &BONES].concat(),
        [&[0xFF, 0xD8, 0xFF, 0xE0, 0, 1][..], &[0xFF; 20], &BONES].concat(),
    ];
    streams.iter().map(|stream| [&[7, 40], &stream[..]].concat()).collect()
}

pub(crate) fn multipart_seeds() -> Vec<Vec<u8>> {
    let head =
        |more: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary={more}\r\n\r\n");
    let counted = "--f\r\nContent-Type: image/jpeg\r\nContent-Length: 4\r\n\r\nAAAA\r\n--f\r\nContent-Length: 2\r\n\r\nBB\r\n--f--\r\n";
    let open = "--f\r\n\r\nAAAA\r\n--f\r\nContent-Type: audio/x\r\n\r\nBB\n--f\n\nC\r\n--f\r\n";
    let chunks: String = counted.as_bytes().chunks(7).fold(String::new(), |mut text, chunk| {
        text += &format!("{:x};a=b\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
        text
    });
    let responses = [
        head("f") + counted,
        head("\"--f\"") + counted,
        head("--f") + open,
        head("f") + "prologue\r\n" + open,
        head("f\r\nTransfer-Encoding: chunked") + &chunks + "0\r\n\r\n",
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\nContent-Type: multipart/mixed\n\n{open}"),
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_owned(),
        head("f") + "--f\r\n\r\nAA\r\n" + &"-".repeat(300) + "f\r\n--f" + &" ".repeat(300) + "\r\nB\r\n--f\r\n",
    ];
    let with = |(at, response): (usize, &String)| [&[at as u8 * 5, at as u8], response.as_bytes()].concat();
    responses.iter().enumerate().map(with).collect()
}
