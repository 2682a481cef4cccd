//! A look at a model file before any runtime sees it: is it there, is it whole, is it ONNX at all?
//!
//! The runtimes answer a web page that was saved as `model.onnx` with "protobuf parsing failed"; people deserve to
//! read what the file is. Reads a few bytes per top-level field and skips the rest: no cost for large models.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What is wrong with a model file, whatever the runtime.
#[derive(Debug, PartialEq, Eq)]
pub enum FileProblem {
    Missing,
    Unreadable(String),
    NotAFile,
    Empty,
    /// The file ends inside the part that starts at byte `at`, which claims to go on to byte `expected`.
    Truncated {
        at: u64,
        expected: u64,
        found: u64,
    },
    /// Well known, but not ONNX; the text says what it is and what to do.
    Other(&'static str),
    NotOnnx,
    /// ONNX without a graph: an empty shell.
    NoGraph,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::NotAFile => f.write_str("it is a folder, expected an .onnx file"),
            Self::Empty => f.write_str("the file is empty"),
            Self::Truncated { at, expected, found } => {
                write!(
                    f,
                    "the file is cut off: its part at byte {at} goes on to byte {expected}, the file ends at byte {found}"
                )
            }
            Self::Other(what) => f.write_str(what),
            Self::NotOnnx => f.write_str("it is not an ONNX model: its bytes are no protocol buffer"),
            Self::NoGraph => f.write_str("it is not an ONNX model: it holds no graph"),
        }
    }
}

/// How files begin that are often taken for ONNX models.
const LOOKALIKES: [(&[u8], &str); 8] = [
    (b"version https://git-lfs", "it is a Git LFS pointer, not the model itself: run `git lfs pull`"),
    (b"PK\x03\x04", "it is a zip archive, as PyTorch checkpoints (.pt) are: export the model to ONNX first"),
    (b"\x80\x02", "it is a Python pickle, as PyTorch checkpoints (.pt, .pth) are: export the model to ONNX first"),
    (b"\x89HDF", "it is an HDF5 file, as Keras models (.h5) are: export the model to ONNX first"),
    (b"<?xml", "it is an XML file, as OpenVINO's IR models are: give the ONNX file it was made from"),
    (b"<!DOCTYPE", "it is a web page: the download did not give the model"),
    (b"<html", "it is a web page: the download did not give the model"),
    (b"RTEN", "it is a model in rten's own format: give the ONNX file it was made from"),
];

/// `ModelProto.graph` in the ONNX schema.
const GRAPH_FIELD: u64 = 7;

/// # Errors
/// The file cannot be a complete ONNX model.
pub(super) fn inspect(path: &Path) -> Result<(), FileProblem> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing,
        _ => FileProblem::Unreadable(error.to_string()),
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(FileProblem::NotAFile);
    }
    look(&mut BufReader::new(file), metadata.len())
}

/// The look itself, at whatever can be read.
pub(crate) fn look(reader: &mut (impl Read + Seek), length: u64) -> Result<(), FileProblem> {
    let unreadable = |error: io::Error| FileProblem::Unreadable(error.to_string());
    let mut start = Vec::with_capacity(32);
    reader.by_ref().take(32).read_to_end(&mut start).map_err(unreadable)?;
    if start.is_empty() {
        return Err(FileProblem::Empty);
    }
    if let Some((_, what)) = LOOKALIKES.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(FileProblem::Other(what));
    }
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    walk(reader, length)
}

/// Steps over the fields of the outermost message, which must end where the file ends.
fn walk(reader: &mut (impl Read + Seek), length: u64) -> Result<(), FileProblem> {
    let mut at = 0;
    let mut has_graph = false;
    while at < length {
        let field_start = at;
        let cut_off = |expected| FileProblem::Truncated { at: field_start, expected, found: length };
        let tag = varint(reader, &mut at)?.ok_or(cut_off(length + 1))?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let skip = match wire_type {
            0 => {
                varint(reader, &mut at)?.ok_or(cut_off(length + 1))?;
                0
            }
            1 => 8,
            2 => varint(reader, &mut at)?.ok_or(cut_off(length + 1))?,
            5 => 4,
            _ => return Err(FileProblem::NotOnnx),
        };
        // The schema's fields end at 26; a far higher number is text or noise that happens to parse.
        if field == 0 || field > 1000 {
            return Err(FileProblem::NotOnnx);
        }
        let end = at.checked_add(skip).ok_or(FileProblem::NotOnnx)?;
        if end > length {
            // A length that no file has is a sign of noise, not of a file cut off.
            return Err(if has_graph || field == GRAPH_FIELD { cut_off(end) } else { FileProblem::NotOnnx });
        }
        has_graph |= field == GRAPH_FIELD && wire_type == 2 && skip > 0;
        let step = i64::try_from(skip).map_err(|_| FileProblem::NotOnnx)?;
        reader.seek(SeekFrom::Current(step)).map_err(|error| FileProblem::Unreadable(error.to_string()))?;
        at = end;
    }
    if has_graph { Ok(()) } else { Err(FileProblem::NoGraph) }
}

/// One protocol-buffer integer; `None` if the file ends inside it.
fn varint(reader: &mut impl Read, at: &mut u64) -> Result<Option<u64>, FileProblem> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(FileProblem::Unreadable(error.to_string())),
        }
        *at += 1;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Err(FileProblem::NotOnnx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// `ir_version`, a producer name, and a graph of `graph_bytes` bytes.
    fn model(graph_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0x08, 8, 0x12, 4];
        bytes.extend(b"omma");
        bytes.extend([0x3a, (graph_bytes & 0x7f) as u8 | 0x80, (graph_bytes >> 7) as u8]);
        bytes.extend(vec![0; graph_bytes]);
        bytes
    }

    fn walked(bytes: &[u8]) -> Result<(), FileProblem> {
        walk(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_whole_model_passes_and_a_cut_one_says_where() {
        let whole = model(1000);
        assert_eq!(walked(&whole), Ok(()));
        assert_eq!(
            walked(&whole[..500]),
            Err(FileProblem::Truncated { at: 8, expected: whole.len() as u64, found: 500 })
        );
        assert_eq!(walked(&model(0)), Err(FileProblem::NoGraph));
    }

    #[test]
    fn every_file_that_is_no_model_says_what_it_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes, expected) in [
            ("empty.onnx", b"".as_slice(), "the file is empty"),
            ("page.onnx", b"<!DOCTYPE html><html>", "it is a web page: the download did not give the model"),
            (
                "lfs.onnx",
                b"version https://git-lfs.github.com/spec/v1\n",
                "it is a Git LFS pointer, not the model itself: run `git lfs pull`",
            ),
            (
                "checkpoint.onnx",
                b"PK\x03\x04....",
                "it is a zip archive, as PyTorch checkpoints (.pt) are: export the model to ONNX first",
            ),
            ("text.onnx", b"hello, this is no model", "it is not an ONNX model: its bytes are no protocol buffer"),
            ("shell.onnx", b"\x08\x08", "it is not an ONNX model: it holds no graph"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            assert_eq!(inspect(&path).expect_err(name).to_string(), expected, "{name}");
        }
        assert_eq!(inspect(&folder.path().join("none.onnx")), Err(FileProblem::Missing));
        assert_eq!(inspect(folder.path()), Err(FileProblem::NotAFile));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = walked(&bytes);
        }

        #[test]
        fn every_cut_of_a_model_is_noticed(cut in 1_usize..1011) {
            prop_assert!(walked(&model(1000)[..cut]).is_err());
        }
    }
}
