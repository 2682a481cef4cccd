//! A folder or glob of JPEG and PNG files as one camera, in natural order of their paths.
//!
//! Files are listed once, at opening, and read when they are due, on the reader thread: a regular file cannot be read
//! without blocking, and a thread of its own for each folder would be one for each camera. A poll reads at least one
//! due file and stops after [`POLL_BYTES_MAX`].
//!
//! A file that cannot be read, or is larger than allowed, is still a frame: it is handed over as an empty payload, so
//! that it keeps its place in the sequence and the ledger drops it as `payload_empty`, and an error names its path.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Payload, Token};

use super::natural::natural;
use super::pace::Timetable;
use super::{AtEnd, Pace};

/// A pattern that matches more is a mistake, or wants several cameras.
const FILES_MAX: usize = 1_000_000;

/// Read in one poll at most, beyond the first file.
const POLL_BYTES_MAX: usize = 4 << 20;

/// How late a picture may be before the timetable gives way instead of catching up.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

#[derive(Debug, Clone)]
pub struct ImagesOptions {
    pub camera: CameraIndex,
    /// A folder (its `.jpg`, `.jpeg` and `.png` files, not those of folders in it), a file, or a glob pattern.
    pub path: String,
    pub pace: Pace,
    pub at_end: AtEnd,
    /// The largest file that is read.
    pub bytes_max: usize,
}

pub struct ImagesSource {
    options: ImagesOptions,
    files: Vec<PathBuf>,
    table: Timetable,
    /// Number of the next frame; its file is that number modulo the number of files.
    next: u64,
    /// Files in a row that could not be read.
    unreadable: usize,
    ended: bool,
    buffer: Vec<u8>,
    clock: Arc<dyn Clock>,
}

impl ImagesSource {
    /// Lists the files.
    ///
    /// # Errors
    /// The pattern is malformed, the folder cannot be read, or there is no picture in it.
    pub fn open(options: ImagesOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let refused = |message: String| SourceError {
            source: options.path.clone(),
            camera: Some(options.camera),
            message,
            retry_after: None,
        };
        if !options.pace.is_valid() {
            return Err(refused(format!(
                "the pace is {:?}, expected a finite number of frames/s above 0",
                options.pace
            )));
        }
        let mut files = list(&options.path).map_err(&refused)?;
        files.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()).then_with(|| a.cmp(b)));
        let table = Timetable::new(clock.mono(), options.pace, 0.0);
        Ok(Self { options, files, table, next: 0, unreadable: 0, ended: false, buffer: Vec::new(), clock })
    }

    /// How many files one round has.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    fn error(&self, source: String, message: String, given_up: bool) -> SourceError {
        let retry_after = if given_up { None } else { Some(Duration::ZERO) };
        SourceError { source, camera: Some(self.options.camera), message, retry_after }
    }
}

impl Source for ImagesSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        if self.ended {
            return Ok(Polled::Ended);
        }
        let now = self.clock.mono();
        self.table.forgive(self.next, now, CATCH_UP_MAX);
        let mut read = 0;
        for _ in 0..demand.room(self.options.camera).min(demand.total()) {
            if self.table.due(self.next) > now || read >= POLL_BYTES_MAX {
                break;
            }
            let count = self.files.len() as u64;
            let path = &self.files[(self.next % count) as usize];
            let content = read_file(path, self.options.bytes_max, &mut self.buffer);
            let (payload, fault) = match content {
                Ok(()) => (Bytes::copy_from_slice(&self.buffer), None),
                Err(message) => (Bytes::new(), Some(message)),
            };
            read += payload.len();
            arrivals.push(Arrival {
                camera: self.options.camera,
                sequence: Some(self.next),
                captured_at: None,
                payload: Payload::Encoded(payload),
                token: Token(self.next, 0),
                overtaken: 0,
                redelivered: false,
                name: None,
            });
            self.next += 1;
            self.unreadable = if fault.is_some() { self.unreadable + 1 } else { 0 };
            // A loop in which nothing can be read would only spin.
            let hopeless = self.unreadable >= self.files.len();
            self.ended = hopeless || (self.options.at_end == AtEnd::Stop && self.next >= count);
            if let Some(message) = fault {
                return Err(self.error(
                    self.files[((self.next - 1) % count) as usize].display().to_string(),
                    message,
                    hopeless,
                ));
            }
            if self.ended {
                break;
            }
        }
        Ok(if self.ended { Polled::Ended } else { Polled::Open })
    }

    /// Nothing to acknowledge: the files stay where they are.
    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}

fn list(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = Path::new(pattern);
    let mut files = Vec::new();
    let mut add = |path: PathBuf| {
        if files.len() >= FILES_MAX {
            return Err(format!("more than {FILES_MAX} files, expected fewer: split them into several cameras"));
        }
        files.push(path);
        Ok(())
    };
    if path.is_dir() {
        let unlistable = |error: io::Error| format!("cannot list the folder: {error}");
        for entry in fs::read_dir(path).map_err(unlistable)? {
            let path = entry.map_err(unlistable)?.path();
            if is_picture(&path) {
                add(path)?;
            }
        }
        if files.is_empty() {
            return Err(format!("no picture in this folder, expected files that end in {}", EXTENSIONS.join(", ")));
        }
    } else if path.is_file() {
        add(path.to_owned())?;
    } else {
        let bad = |error: glob::PatternError| format!("not a glob pattern: {} at character {}", error.msg, error.pos);
        for found in glob::glob(pattern).map_err(bad)? {
            // A folder on the way that cannot be listed is an error: its pictures would be missing in silence.
            let path = found.map_err(|error| format!("cannot list {}: {}", error.path().display(), error.error()))?;
            if !path.is_dir() {
                add(path)?;
            }
        }
        if files.is_empty() {
            return Err("no such folder or file, and as a glob pattern it matches nothing".into());
        }
    }
    Ok(files)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Reads a whole regular file into the buffer. A pipe or a device is refused: reading it could block for ever.
fn read_file(path: &Path, bytes_max: usize, buffer: &mut Vec<u8>) -> Result<(), String> {
    buffer.clear();
    let unreadable = |error: io::Error| format!("cannot read it: {error}; handed over without a picture");
    // Asked before opening, because opening a pipe already blocks.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("not a regular file; handed over without a picture".into());
    }
    let limit = bytes_max as u64;
    let too_large = |bytes: u64| format!("{bytes} bytes, expected at most {limit}; handed over without a picture");
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    let file = File::open(path).map_err(unreadable)?;
    // It may have grown since.
    file.take(limit + 1).read_to_end(buffer).map_err(unreadable)?;
    if buffer.len() > bytes_max {
        return Err(too_large(buffer.len() as u64));
    }
    Ok(())
}
