//! Where lines go: a file that can be put right again after half a line, or a stream (standard output) that cannot.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::VERSION;

/// The longest tail of a file that is looked through for the end of its last whole line.
const TAIL_BYTES_MAX: u64 = 64 << 20;

const TAIL_STEP: u64 = 64 << 10;

/// The bytes' way out. A seam: the tests' own version fails when told to.
pub(super) trait Lines: Send {
    /// As [`Write::write`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Takes back the last `bytes` bytes that were written; `false` if this is no file.
    fn take_back(&mut self, bytes: u64) -> io::Result<bool>;
    /// Returns once everything written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A regular file, open for appending and locked against a second writer; or anything else that can be written.
pub(super) struct Target {
    file: File,
    regular: bool,
}

/// Why a file cannot be a sink.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: cannot open it: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("{}: another writer has it open, expected a file for each sink", path.display())]
    Busy { path: PathBuf },
    #[error("{}: its last line is no result and has no end, expected an empty file or one that omma wrote; move it away", path.display())]
    Foreign { path: PathBuf },
    #[error("cannot use the standard output: {error}")]
    Stdout { error: io::Error },
}

impl Target {
    /// Opens for appending, creating the file if there is none. Half a line at its end, which a crash of the machine
    /// can leave, is cut off; returns how many bytes that were.
    pub fn append(path: &Path) -> Result<(Self, u64), OpenError> {
        let failed = |error| OpenError::Open { path: path.to_owned(), error };
        // What is no file is only written: a pipe opened for reading as well would be its own reader, and never break.
        let regular = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let mut file = OpenOptions::new().create(true).append(true).read(regular).open(path).map_err(failed)?;
        if !regular {
            return Ok((Self { file, regular }, 0));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Busy { path: path.to_owned() }),
            // A file system without locks: the files still work.
            Err(TryLockError::Error(_)) => {}
        }
        let half = half_line(&mut file).map_err(failed)?.ok_or_else(|| OpenError::Foreign { path: path.to_owned() })?;
        if half > 0 {
            let length = file.metadata().map_err(failed)?.len();
            file.set_len(length - half).map_err(failed)?;
        }
        Ok((Self { file, regular }, half))
    }

    /// The standard output of the process.
    pub fn stdout() -> Result<Self, OpenError> {
        // A descriptor of its own, without the line buffer of `std::io::Stdout` in between: one write per call. It may
        // be a regular file (`> results.jsonl`), but one that others write to as well: nothing is ever taken back.
        let descriptor = io::stdout().as_fd().try_clone_to_owned().map_err(|error| OpenError::Stdout { error })?;
        Ok(Self { file: File::from(descriptor), regular: false })
    }
}

impl Lines for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn take_back(&mut self, bytes: u64) -> io::Result<bool> {
        if self.regular {
            // From the length as it is now: somebody may have emptied the file in the meantime.
            let length = self.file.metadata()?.len();
            self.file.set_len(length.saturating_sub(bytes))?;
        }
        Ok(self.regular)
    }

    fn sync(&mut self) -> io::Result<()> {
        // A pipe has no disk to reach.
        if self.regular { self.file.sync_data() } else { Ok(()) }
    }
}

/// Bytes after the last newline, if they look like the beginning of a result (or there are none); `None` if they do not.
fn half_line(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    let mut start = length;
    while start > 0 && length - start < TAIL_BYTES_MAX {
        let step = TAIL_STEP.min(start);
        start -= step;
        let mut block = vec![0; step as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(newline) = memchr::memrchr(b'\n', &block) {
            tail.splice(..0, block.drain(newline + 1..));
            return Ok(is_ours(&tail).then_some(tail.len() as u64));
        }
        tail.splice(..0, block);
    }
    Ok((start == 0 && is_ours(&tail)).then_some(tail.len() as u64))
}

fn is_ours(tail: &[u8]) -> bool {
    let start = format!("{{\"v\":{VERSION},\"camera\":");
    let common = tail.len().min(start.len());
    tail[..common] == start.as_bytes()[..common]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn half_a_line_is_cut_off_and_a_foreign_file_is_left_alone() {
        let line = "{\"v\":1,\"camera\":\"a\"}\n";
        let long = format!("{line}{{\"v\":1,\"camera\":\"{}", "x".repeat(200_000));
        let table = [
            ("", Some("")),
            (line, Some(line)),
            ("{\"v\":1,\"camera\":\"a\"}\n{\"v\":1,\"came", Some(line)),
            ("{\"v\":1,\"camera\":\"a\"}\n{", Some(line)),
            ("{\"v\":1,\"camera\":\"a", Some("")),
            (long.as_str(), Some(line)),
            ("[sink]\npath = \"x\"", None),
            ("something else", None),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        for (content, expected) in table {
            let path = folder.path().join("results.jsonl");
            fs::write(&path, content).expect("written");
            let opened = Target::append(&path);
            match expected {
                Some(left) => {
                    assert_eq!(opened.expect("opens").1, (content.len() - left.len()) as u64, "{content:.40}")
                }
                None => assert!(matches!(opened, Err(OpenError::Foreign { .. })), "{content:.40}"),
            }
            assert_eq!(fs::read_to_string(&path).expect("read"), expected.unwrap_or(content));
        }
    }

    #[test]
    fn a_file_has_one_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("results.jsonl");
        let first = Target::append(&path).expect("opens");
        assert!(matches!(Target::append(&path), Err(OpenError::Busy { .. })));
        drop(first);
        assert!(Target::append(&path).is_ok());
    }
}
