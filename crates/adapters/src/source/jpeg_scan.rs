//! Finds the pictures in a stream of concatenated JPEGs: a pure scanner over a bounded buffer.
//!
//! It walks the markers instead of searching for an end: a thumbnail inside a picture's metadata has an end marker of
//! its own. Where the walk finds what cannot be a JPEG, or more than allowed, it goes on at the next start marker.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// Searches a picture at a time. Memory: what was fed and not yet given out, at most the largest picture and one feed.
pub(crate) struct JpegScanner {
    buffer: BytesMut,
    /// Offset in the stream of the buffer's first byte.
    offset: u64,
    state: State,
    bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The buffer may begin with garbage.
    Searching,
    /// It begins with a picture, whose markers are walked up to `at`; `segment` is where the last one walked began.
    Marker { at: usize, segment: usize },
    /// As before, inside entropy-coded data.
    Scan { at: usize, segment: usize },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Picture {
        bytes: Bytes,
        at: u64,
    },
    /// Bytes that belong to no picture, and why.
    Garbage {
        at: u64,
        bytes: u64,
        why: &'static str,
    },
    /// Feed more.
    Nothing,
}

enum Walk {
    More,
    End(usize),
    Broken(&'static str),
}

const START: [u8; 2] = [0xFF, 0xD8];

impl JpegScanner {
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), offset: 0, state: State::Searching, bytes_max }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Call until it finds nothing more in what was fed.
    pub fn next(&mut self) -> Found {
        if matches!(self.state, State::Searching) {
            let start = find_start(&self.buffer);
            // A last FF may be the first half of a start marker.
            let garbage = start.unwrap_or_else(|| self.buffer.len() - usize::from(self.buffer.last() == Some(&0xFF)));
            if start.is_some() {
                self.state = State::Marker { at: 2, segment: 0 };
            }
            if garbage > 0 {
                return self.skip(garbage, "not the start of a picture");
            }
            if start.is_none() {
                return Found::Nothing;
            }
        }
        match self.walk() {
            Walk::More if self.buffer.len() > self.bytes_max => self.broken("a picture larger than allowed"),
            Walk::More => Found::Nothing,
            Walk::End(end) if end > self.bytes_max => self.broken("a picture larger than allowed"),
            Walk::End(end) => {
                let at = self.offset;
                self.offset += end as u64;
                self.state = State::Searching;
                Found::Picture { bytes: self.buffer.split_to(end).freeze(), at }
            }
            Walk::Broken(why) => self.broken(why),
        }
    }

    /// The stream has ended (or begins again): what is left belongs to no whole picture.
    pub fn finish(&mut self) -> Found {
        let left = self.buffer.len();
        self.state = State::Searching;
        if left == 0 { Found::Nothing } else { self.skip(left, "the last picture is cut off") }
    }

    /// Offset in the stream of the next byte that was not given out.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A new stream.
    pub fn restart(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    fn skip(&mut self, bytes: usize, why: &'static str) -> Found {
        let at = self.offset;
        self.buffer.advance(bytes);
        self.offset += bytes as u64;
        Found::Garbage { at, bytes: bytes as u64, why }
    }

    /// Gives up the picture at the front. The next one may begin inside the last segment that was walked (the cut-off
    /// picture's segment swallowed it), never before: what stands before was followed by markers as it should be. So
    /// each byte is walked a bounded number of times, whatever the stream holds.
    fn broken(&mut self, why: &'static str) -> Found {
        let (State::Marker { segment, .. } | State::Scan { segment, .. }) = self.state else { return Found::Nothing };
        let from = segment.max(2).min(self.buffer.len());
        let rest = &self.buffer[from..];
        // A last FF may be the first half of a start marker.
        let none = rest.len() - usize::from(rest.last() == Some(&0xFF));
        let garbage = from + find_start(rest).unwrap_or(none);
        self.state = State::Searching;
        self.skip(garbage, why)
    }

    fn walk(&mut self) -> Walk {
        let bytes = &self.buffer[..];
        loop {
            match self.state {
                State::Searching => return Walk::Broken("not the start of a picture"),
                State::Marker { at, segment } => {
                    let Some(&first) = bytes.get(at) else { return Walk::More };
                    let Some(&marker) = bytes.get(at + 1) else { return Walk::More };
                    match (first, marker) {
                        // Fill bytes before a marker.
                        (0xFF, 0xFF) => self.state = State::Marker { at: at + 1, segment },
                        (0xFF, 0xD9) => return Walk::End(at + 2),
                        // Markers without a segment.
                        (0xFF, 0x01 | 0xD0..=0xD7) => self.state = State::Marker { at: at + 2, segment },
                        (0xFF, 0xC0..=0xCF | 0xDA..=0xFE) => {
                            let Some(length) = bytes.get(at + 2..at + 4) else { return Walk::More };
                            let length = usize::from(length[0]) << 8 | usize::from(length[1]);
                            if length < 2 {
                                self.state = State::Marker { at, segment: at };
                                return Walk::Broken("a picture with a segment shorter than its own length");
                            }
                            let next = at + 2 + length;
                            self.state = if marker == 0xDA {
                                State::Scan { at: next, segment: at }
                            } else {
                                State::Marker { at: next, segment: at }
                            };
                        }
                        (0xFF, 0xD8) => {
                            self.state = State::Marker { at, segment: at };
                            return Walk::Broken("a picture cut off by the start of the next");
                        }
                        _ => return Walk::Broken("a picture with a byte where a marker should be"),
                    }
                }
                State::Scan { at, segment } => {
                    let Some(rest) = bytes.get(at..) else { return Walk::More };
                    let Some(found) = memchr(0xFF, rest) else {
                        self.state = State::Scan { at: bytes.len(), segment };
                        return Walk::More;
                    };
                    let at = at + found;
                    self.state = match bytes.get(at + 1) {
                        None => {
                            self.state = State::Scan { at, segment };
                            return Walk::More;
                        }
                        // A stuffed FF or a restart marker: still inside.
                        Some(0x00 | 0xD0..=0xD7) => State::Scan { at: at + 2, segment },
                        Some(_) => State::Marker { at, segment: at },
                    };
                }
            }
        }
    }
}

fn find_start(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, &START)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The smallest thing with a JPEG's bones; `fill` is its entropy-coded data.
    fn jpeg(fill: &[u8]) -> Vec<u8> {
        [&[0xFF, 0xD8, 0xFF, 0xDA, 0, 4, 9, 9][..], fill, &[0xFF, 0xD9]].concat()
    }

    /// Offset, bytes, and why.
    type Garbage = (u64, u64, &'static str);

    fn scan(stream: &[u8], chunk: usize, bytes_max: usize) -> (Vec<Vec<u8>>, Vec<Garbage>) {
        let mut scanner = JpegScanner::new(bytes_max);
        let (mut pictures, mut garbage) = (Vec::new(), Vec::new());
        let mut note = |found| match found {
            Found::Picture { bytes, at } => {
                assert_eq!(&stream[at as usize..at as usize + bytes.len()], &bytes[..]);
                pictures.push(bytes.to_vec());
                true
            }
            Found::Garbage { at, bytes, why } => {
                garbage.push((at, bytes, why));
                true
            }
            Found::Nothing => false,
        };
        for chunk in stream.chunks(chunk.max(1)) {
            scanner.feed(chunk);
            while note(scanner.next()) {}
            assert!(scanner.buffer.len() <= bytes_max + chunk.len(), "the buffer is bounded");
        }
        note(scanner.finish());
        assert_eq!(scanner.offset(), stream.len() as u64);
        (pictures, garbage)
    }

    #[test]
    fn streams() {
        let (a, b) = (jpeg(b"aaa"), jpeg(&[1, 0xFF, 0, 2, 0xFF, 0xD3, 3]));
        let thumbnail =
            [&[0xFF, 0xD8, 0xFF, 0xE1, 0, 15][..], &jpeg(b"xyz"), &[0xFF, 0xFF, 0xDA, 0, 2, 5, 0xFF, 0xD9]].concat();
        let two_scans =
            [&[0xFF, 0xD8, 0xFF, 0xDA, 0, 2, 1, 0xFF, 0xC4, 0, 3, 7, 0xFF, 0xDA, 0, 2, 2, 0xFF, 0xD9][..]].concat();
        let cut = &a[..a.len() - 2];
        let no_start = "not the start of a picture";
        type Row<'a> = (&'a str, Vec<u8>, Vec<&'a [u8]>, Vec<&'a str>);
        let table: Vec<Row> = vec![
            ("nothing", vec![], vec![], vec![]),
            ("one after the other", [&a[..], &b].concat(), vec![&a, &b], vec![]),
            ("a thumbnail with its own end", [&thumbnail[..], &a].concat(), vec![&thumbnail, &a], vec![]),
            ("a progressive one", two_scans.clone(), vec![&two_scans], vec![]),
            (
                "garbage before, between and after",
                [b"head", &a[..], b"\r\n--x\r\n", &b, b"tail"].concat(),
                vec![&a, &b],
                vec![no_start; 3],
            ),
            (
                "cut off inside its scan",
                [cut, &b].concat(),
                vec![&b],
                vec!["a picture cut off by the start of the next"],
            ),
            ("cut off at the end", [&b[..], cut].concat(), vec![&b], vec!["the last picture is cut off"]),
            (
                "cut off inside a segment that swallows the next one's start",
                [&[0xFF, 0xD8, 0xFF, 0xE0, 0, 12, 1][..], &a, &b].concat(),
                vec![&a, &b],
                vec!["a picture with a byte where a marker should be"],
            ),
            (
                "a segment of no length",
                [&[0xFF, 0xD8, 0xFF, 0xE0, 0, 1][..], &a].concat(),
                vec![&a],
                vec!["a picture with a segment shorter than its own length"],
            ),
            (
                "larger than allowed",
                [&jpeg(&[7; 100])[..], &a].concat(),
                vec![&a],
                vec!["a picture larger than allowed"],
            ),
            ("only FF", vec![0xFF; 50], vec![], vec![]),
        ];
        for (name, stream, pictures, why) in table {
            let (found, garbage) = scan(&stream, usize::MAX, 64);
            assert_eq!(found, pictures, "{name}");
            if name != "only FF" {
                assert_eq!(garbage.iter().map(|(_, _, why)| *why).collect::<Vec<_>>(), why, "{name}");
            }
        }
    }

    #[test]
    fn a_start_marker_that_comes_in_halves_behind_a_broken_picture_is_found() {
        let stream = [&[0xFF, 0xD8, 0xEF, 0xE0, 1][..], &jpeg(b"aaa")].concat();
        for chunk in 1..stream.len() {
            assert_eq!(scan(&stream, chunk, 1 << 16).0, [jpeg(b"aaa")], "in pieces of {chunk}");
        }
    }

    proptest! {
        #[test]
        fn any_chunking_finds_the_same_pictures(
            parts in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..20)), 0..8), chunk in 1usize..50,
        ) {
            let stream: Vec<u8> = parts.iter().flat_map(|(kind, bytes)| match kind {
                0 => bytes.clone(),
                1 => jpeg(&[1, 2, 3])[..5].to_vec(),
                _ => jpeg(&bytes.iter().map(|byte| byte & 0x7F).collect::<Vec<_>>()),
            }).collect();
            prop_assert_eq!(scan(&stream, chunk, 1 << 16).0, scan(&stream, usize::MAX, 1 << 16).0);
        }

        #[test]
        fn every_byte_is_given_out_once(
            stream in prop::collection::vec(prop_oneof![Just(0xFFu8), Just(0xD8), Just(0xDA), Just(0xD9), Just(0xE0), any::<u8>()], 0..300),
            chunk in 1usize..50, bytes_max in 4usize..80,
        ) {
            let (pictures, garbage) = scan(&stream, chunk, bytes_max);
            let bytes = pictures.iter().map(Vec::len).sum::<usize>() as u64 + garbage.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
            prop_assert_eq!(bytes, stream.len() as u64);
        }
    }
}
