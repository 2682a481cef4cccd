//! Segments of shared memory whose every byte another process chose.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use omma_frame::DropReason::{HandleInvalid, HandleOverwritten};
use omma_frame::{PictureView, PixelFormat, Segment};
use omma_ring::{FILE_HEADER_BYTES, Format, RingSegment, SLOT_HEADER_BYTES, slot_bytes};

use crate::input::Input;

/// What a file's data area holds: some slots, or one.
const DATA_BYTES: usize = 1024;

/// A file that nobody else sees.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a folder for temporary files");
    file.write_all(bytes).expect("room");
    file
}

/// A segment as the input wants it: the header's numbers, the counters, the data area; cut anywhere.
fn segment(input: Input) -> (Vec<u8>, u64) {
    let mut input = input;
    let sound = input.byte();
    let capacity = if sound & 1 == 0 { DATA_BYTES as u64 } else { u64::from(input.u32()) << (sound >> 4) };
    let base = if sound & 2 == 0 { 0 } else { u64::from(input.u32()) << 31 };
    // Near one another as a rule: where something can be read.
    let mut near = |by: u64| if by == 0 { base.wrapping_add(u64::from(input.byte())) } else { u64::MAX - by };
    let (reserved, written) = (near(u64::from(sound & 4)), near(u64::from(sound & 8)));
    let generation = base.wrapping_add(u64::from(input.byte()));
    let cut = input.byte();
    let rest = input.rest();
    let mut bytes = vec![0; FILE_HEADER_BYTES];
    bytes[..8].copy_from_slice(b"OMMARING");
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(FILE_HEADER_BYTES as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&capacity.to_le_bytes());
    bytes[64..72].copy_from_slice(&reserved.to_le_bytes());
    bytes[128..136].copy_from_slice(&written.to_le_bytes());
    bytes.extend((0..DATA_BYTES).map(|at| rest.get(at).copied().unwrap_or_default()));
    // The slot that is asked for says so itself as a rule; the rest of its header is the input's.
    let at = FILE_HEADER_BYTES + (generation % (capacity / 64).max(1) * 64) as usize;
    if sound & 16 == 0 && bytes.len() >= at + 8 {
        bytes[at..at + 8].copy_from_slice(&generation.to_le_bytes());
    }
    if cut & 1 == 1 {
        bytes.truncate(usize::from(cut) * 32);
    }
    (bytes, generation)
}

/// The number that stands in the bytes.
fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// A ring's file, and one generation in it.
pub fn ring_header(bytes: &[u8]) {
    let (bytes, generation) = segment(Input::new(bytes));
    let file = file(&bytes);
    let segment = match RingSegment::open(&file, "fuzzed") {
        Ok(segment) => segment,
        Err(what) => return assert_eq!(what.reason, HandleInvalid, "{}", what.message),
    };
    let capacity = number(&bytes, 16);
    let mut seen = None;
    let read = segment.read_slot(generation, &mut |meta, view| {
        let (shown, format) = match view {
            PictureView::Encoded(shown) => (shown, meta.format),
            PictureView::Raw(raw) => (raw.bytes, Format::Raw(raw.format)),
        };
        assert_eq!(format, meta.format);
        seen = Some((*meta, shown.to_vec()));
    });
    let Some((meta, shown)) = seen else {
        let what = read.expect_err("nothing was shown");
        assert!(matches!(what.reason, HandleInvalid | HandleOverwritten), "{}", what.message);
        return;
    };
    assert_eq!(read, Ok(()), "nobody has changed anything");
    let blocks = capacity / 64;
    let at = FILE_HEADER_BYTES + (generation % blocks * 64) as usize;
    let (begin, end) = (at + SLOT_HEADER_BYTES, at + SLOT_HEADER_BYTES + shown.len());
    assert_eq!(shown, bytes[begin..end], "what is shown lies behind its header, inside the data area");
    assert!(end <= FILE_HEADER_BYTES + capacity as usize);
    assert_eq!((number(&bytes, at), number(&bytes, at + 24)), (generation, shown.len() as u64));
    let span = slot_bytes(shown.len() as u64).expect("countable");
    assert!(generation + span / 64 <= number(&bytes, 128) && number(&bytes, 64) - generation <= blocks);
    if let Format::Raw(format) = meta.format {
        let pixels = u64::from(meta.size.width) * u64::from(meta.size.height);
        let halves = match format {
            PixelFormat::Rgb | PixelFormat::Bgr => 6,
            PixelFormat::Gray => 2,
            PixelFormat::Nv12 | PixelFormat::I420 => 3,
        };
        assert_eq!(pixels / 2 * halves + pixels % 2 * (halves / 3 + halves / 6), shown.len() as u64);
    }
    // The producer gets on while it is read: whatever was shown is then worth nothing.
    let later = generation.saturating_add(blocks).saturating_add(1);
    let read = segment.read(generation, &mut |_| {
        file.write_all_at(&later.to_le_bytes(), 64).expect("room");
    });
    assert_eq!(read.expect_err("overwritten").reason, HandleOverwritten);
}

pub(crate) fn ring_header_seeds() -> Vec<Vec<u8>> {
    let slot = |length: u64, format: u32, width: u32, height: u32| {
        let mut bytes = vec![0; 24];
        bytes.extend(length.to_le_bytes());
        for number in [format, width, height] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0xA5; 200]);
        bytes
    };
    // Which numbers are sound, the counters, the generation, where the file ends.
    let with = |head: &[u8], slot: Vec<u8>| [head, &slot].concat();
    vec![
        with(&[0, 4, 4, 0, 0], slot(100, 1, 0, 0)),
        with(&[0, 16, 16, 0, 0], slot(144, 3, 8, 6)),
        with(&[0, 20, 16, 16, 0], slot(72, 7, 8, 6)),
        with(&[0, 9, 10, 0, 0], slot(48, 5, 8, 6)),
        with(&[1, 0, 4, 0, 0, 4, 4, 0, 0], slot(64, 2, 0, 0)),
        with(&[2, 9, 0, 0, 0, 4, 4, 0, 0], slot(64, 1, 0, 0)),
        with(&[0, 4, 4, 0, 129], slot(u64::MAX, 1, 0, 0)),
        with(&[12, 0, 0, 0], slot(100, 3, u32::MAX, u32::MAX)),
    ]
}
