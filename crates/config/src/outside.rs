//! What a configuration refers to outside of itself: the environment, files, the number of cores. A trait, so that a
//! configuration can be checked for another machine, and tested without touching this one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File,
    Folder,
    /// A device, a socket, a pipe.
    Special,
    Missing,
    /// It could not be looked at, and why.
    Unreadable(String),
}

pub trait Outside {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// Cores that this process may use.
    fn cores(&self) -> usize;

    fn entry(&self, path: &Path) -> Entry;

    /// The whole of a regular file.
    ///
    /// # Errors
    /// It cannot be read, or is larger than `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
}

/// This process, on this machine.
pub struct ThisMachine;

impl Outside for ThisMachine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn entry(&self, path: &Path) -> Entry {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => match File::open(path) {
                Ok(_) => Entry::File,
                Err(error) => Entry::Unreadable(error.to_string()),
            },
            Ok(metadata) if metadata.is_dir() => Entry::Folder,
            Ok(_) => Entry::Special,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Entry::Missing,
            Err(error) => Entry::Unreadable(error.to_string()),
        }
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        // Asked before opening: opening a pipe without a writer waits for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_files_from_folders_and_bounds_what_it_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("f");
        fs::write(&file, b"12345").expect("a file");
        let machine = ThisMachine;
        assert_eq!(machine.entry(folder.path()), Entry::Folder);
        assert_eq!(machine.entry(&file), Entry::File);
        assert_eq!(machine.entry(&folder.path().join("none")), Entry::Missing);
        assert_eq!(machine.entry(Path::new("/dev/null")), Entry::Special);
        assert_eq!(machine.read(&file, 5).expect("five bytes"), b"12345");
        assert_eq!(machine.read(&file, 4).expect_err("one too many").to_string(), "larger than 4 bytes");
        assert_eq!(machine.read(folder.path(), 4).expect_err("a folder").to_string(), "not a regular file");
        assert_eq!(machine.variable("A=B"), None);
        assert!(machine.cores() >= 1);
    }
}
