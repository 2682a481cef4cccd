//! A machine that is not this one: four cores, three variables, a few files under `/c`.

use std::io;
use std::path::Path;

use omma_config::{Entry, Outside};

pub struct OtherMachine;

const FILES: [(&str, &[u8]); 8] = [
    ("/c/m.onnx", b""),
    ("/c/labels.txt", b"person\ncar\n"),
    ("/c/gap.txt", b"person\n\ncar\n"),
    ("/c/empty.txt", b""),
    ("/c/latin1.txt", b"caf\xe9\n"),
    ("/c/password", b"from the file\n"),
    ("/c/clip.mjpeg", b""),
    ("/c/results.jsonl", b""),
];

impl Outside for OtherMachine {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "CAMERA_PASSWORD" => Some("from the environment".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn cores(&self) -> usize {
        4
    }

    fn entry(&self, path: &Path) -> Entry {
        match path.to_str() {
            Some("/c" | "/c/pictures") => Entry::Folder,
            Some("/c/pipe") => Entry::Special,
            Some("/c/locked") => Entry::Unreadable("permission denied".to_owned()),
            Some(path) if FILES.iter().any(|(file, _)| *file == path) => Entry::File,
            _ => Entry::Missing,
        }
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> io::Result<Vec<u8>> {
        let found = FILES.iter().find(|(file, _)| path == Path::new(file));
        found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}
