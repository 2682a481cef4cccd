//! The door through which crates/fuzzing reaches the parsers of outside bytes that are nobody else's business.
//!
//! Only there with the feature `fuzzing`. No parser is changed by it: each function calls one and hands on its answer.

use std::io::Cursor;

use bytes::Bytes;

use crate::infer::{FileProblem, look};
use crate::source::jpeg_scan::{Found, JpegScanner};

#[cfg(feature = "triton")]
pub use crate::infer::open_inference::fuzzing::answer as server_answer;
pub use crate::infer::python::fuzzing::{Said, answer as worker_answer};
pub use crate::source::mjpeg_http::fuzzing::{Address, Head, Response, answers, head, part_head, response, url};

/// What was found in a stream of JPEGs.
#[derive(Debug)]
pub struct Scanned {
    /// Offset and bytes.
    pub pictures: Vec<(u64, Bytes)>,
    /// Offset, and how many bytes belong to no picture.
    pub garbage: Vec<(u64, u64)>,
    /// The most that was kept between two pieces.
    pub held_bytes_max: u64,
}

/// Feeds a stream to the scanner, piece by piece, up to its end.
pub fn mjpeg<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, bytes_max: usize) -> Scanned {
    let mut scanner = JpegScanner::new(bytes_max);
    let mut scanned = Scanned { pictures: Vec::new(), garbage: Vec::new(), held_bytes_max: 0 };
    let mut note = |found| match found {
        Found::Picture { bytes, at } => {
            scanned.pictures.push((at, bytes));
            true
        }
        Found::Garbage { at, bytes, .. } => {
            scanned.garbage.push((at, bytes));
            true
        }
        Found::Nothing => false,
    };
    let mut fed = 0;
    for piece in pieces {
        scanner.feed(piece);
        fed += piece.len() as u64;
        while note(scanner.next()) {}
        scanned.held_bytes_max = scanned.held_bytes_max.max(fed - scanner.offset());
    }
    note(scanner.finish());
    scanned
}

/// The look at a model file before a runtime sees it.
///
/// # Errors
/// It is no whole ONNX file.
pub fn model_file(bytes: &[u8]) -> Result<(), FileProblem> {
    look(&mut Cursor::new(bytes), bytes.len() as u64)
}

/// Gives its bytes in pieces of this size.
#[cfg(feature = "redis")]
struct Pieces<'a>(&'a [u8], usize);

#[cfg(feature = "redis")]
impl std::io::Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(into.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// A connection that brings these bytes, and its end.
#[cfg(feature = "redis")]
fn replies(bytes: &[u8], piece: usize, value_bytes_max: usize) -> crate::redis::link::reply::Replies<Pieces<'_>> {
    crate::redis::link::reply::Replies::new(Pieces(bytes, piece), std::time::Duration::from_secs(60), value_bytes_max)
}

/// Redis' answers as they come in pieces, each as text, and last what was wrong.
#[cfg(feature = "redis")]
#[must_use]
pub fn redis_answers(bytes: &[u8], piece: usize, value_bytes_max: usize) -> Vec<String> {
    let mut replies = replies(bytes, piece, value_bytes_max);
    let mut said = Vec::new();
    loop {
        match replies.value() {
            Ok(value) => said.push(format!("{value:?}")),
            Err(error) => {
                said.push(error.to_string());
                return said;
            }
        }
    }
}

/// How many of Redis' answers can be passed over.
#[cfg(feature = "redis")]
#[must_use]
pub fn redis_passed_over(bytes: &[u8], piece: usize) -> usize {
    let mut replies = replies(bytes, piece, 0);
    std::iter::from_fn(|| replies.skip_piece().ok()).count()
}
