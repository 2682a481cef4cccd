//! A `.mjpeg` file (JPEGs one after the other) as one camera, read as a stream: its length does not matter.
//!
//! Read on the reader thread, at most [`POLL_BYTES_MAX`] a poll beyond the first picture. Bytes that belong to no whole
//! picture are left out and reported once per run of them, with their offset; they are not frames, because nobody can
//! say how many they were.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omma_engine::clock::Clock;
use omma_engine::source::{Arrival, Demand, Polled, Settlement, Source, SourceError};
use omma_frame::{CameraIndex, Payload, Token};

use super::jpeg_scan::{Found, JpegScanner};
use super::pace::Timetable;
use super::{AtEnd, Pace};

const READ_BYTES: usize = 64 << 10;
const POLL_BYTES_MAX: usize = 4 << 20;

/// How late a picture may be before the timetable gives way instead of catching up.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct MjpegFileOptions {
    pub camera: CameraIndex,
    pub path: PathBuf,
    pub pace: Pace,
    pub at_end: AtEnd,
    /// The largest picture that is taken; a larger one is left out and reported.
    pub bytes_max: usize,
}

pub struct MjpegFileSource {
    options: MjpegFileOptions,
    file: File,
    scanner: JpegScanner,
    table: Timetable,
    next: u64,
    pictures_this_round: u64,
    garbage: Option<Garbage>,
    garbage_bytes: Arc<AtomicU64>,
    at_eof: bool,
    ended: bool,
    buffer: Box<[u8]>,
    clock: Arc<dyn Clock>,
}

/// A run of bytes that belong to no picture.
struct Garbage {
    at: u64,
    bytes: u64,
    why: &'static str,
}

impl MjpegFileSource {
    /// # Errors
    /// The file cannot be opened or is not a regular file.
    pub fn open(options: MjpegFileOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        let refused = |message: String| SourceError {
            source: options.path.display().to_string(),
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
        let unopened = |error: io::Error| refused(format!("cannot open it: {error}"));
        // Asked before opening, because opening a pipe already blocks.
        if !std::fs::metadata(&options.path).map_err(unopened)?.is_file() {
            return Err(refused("not a regular file, expected JPEGs one after the other in a file".into()));
        }
        let file = File::open(&options.path).map_err(unopened)?;
        Ok(Self {
            scanner: JpegScanner::new(options.bytes_max),
            table: Timetable::new(clock.mono(), options.pace, 0.0),
            options,
            file,
            next: 0,
            pictures_this_round: 0,
            garbage: None,
            garbage_bytes: Arc::default(),
            at_eof: false,
            ended: false,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            clock,
        })
    }

    /// Bytes that belonged to no whole picture, so far. Stays readable after the source has moved into the engine.
    #[must_use]
    pub fn garbage_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.garbage_bytes)
    }

    /// Notes garbage, joined with what it follows; gives back a run that is over.
    fn note(&mut self, at: u64, bytes: u64, why: &'static str) -> Option<Garbage> {
        self.garbage_bytes.fetch_add(bytes, Ordering::Relaxed);
        match &mut self.garbage {
            Some(run) if run.at + run.bytes == at => {
                run.bytes += bytes;
                None
            }
            garbage => garbage.replace(Garbage { at, bytes, why }),
        }
    }

    fn error(&self, message: String, given_up: bool) -> SourceError {
        SourceError {
            source: self.options.path.display().to_string(),
            camera: Some(self.options.camera),
            message,
            retry_after: if given_up { None } else { Some(Duration::ZERO) },
        }
    }

    fn garbage_error(&self, run: &Garbage) -> SourceError {
        let Garbage { at, bytes, why } = run;
        self.error(format!("{bytes} bytes at offset {at} left out: {why}"), false)
    }

    /// At the end of the file: ends, or begins again.
    fn turn(&mut self) -> Result<(), SourceError> {
        self.at_eof = false;
        if self.pictures_this_round == 0 {
            self.ended = true;
            let bytes = self.scanner.offset();
            return Err(
                self.error(format!("no picture in its {bytes} bytes, expected JPEGs one after the other"), true)
            );
        }
        self.pictures_this_round = 0;
        if self.options.at_end == AtEnd::Stop {
            self.ended = true;
            return Ok(());
        }
        self.scanner.restart();
        self.file.rewind().map_err(|error| {
            self.ended = true;
            self.error(format!("cannot begin again: {error}"), true)
        })
    }
}

impl Source for MjpegFileSource {
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError> {
        if self.ended {
            return Ok(Polled::Ended);
        }
        let now = self.clock.mono();
        self.table.forgive(self.next, now, CATCH_UP_MAX);
        let mut room = demand.room(self.options.camera).min(demand.total());
        let mut read = 0;
        while room > 0 && self.table.due(self.next) <= now && !self.ended {
            match if self.at_eof { self.scanner.finish() } else { self.scanner.next() } {
                Found::Picture { bytes, at } => {
                    arrivals.push(Arrival {
                        camera: self.options.camera,
                        sequence: Some(self.next),
                        captured_at: None,
                        payload: Payload::Encoded(bytes),
                        token: Token(self.next, at),
                        overtaken: 0,
                        redelivered: false,
                        name: None,
                    });
                    room -= 1;
                    self.next += 1;
                    self.pictures_this_round += 1;
                    if let Some(run) = self.garbage.take() {
                        return Err(self.garbage_error(&run));
                    }
                }
                Found::Garbage { at, bytes, why } => {
                    if let Some(run) = self.note(at, bytes, why) {
                        return Err(self.garbage_error(&run));
                    }
                }
                Found::Nothing if self.at_eof => {
                    let run = self.garbage.take();
                    self.turn()?;
                    if let Some(run) = run {
                        return Err(self.garbage_error(&run));
                    }
                }
                Found::Nothing if read >= POLL_BYTES_MAX => break,
                Found::Nothing => match self.file.read(&mut self.buffer) {
                    Ok(0) => self.at_eof = true,
                    Ok(bytes) => {
                        read += bytes;
                        self.scanner.feed(&self.buffer[..bytes]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.ended = true;
                        let at = self.scanner.offset();
                        return Err(self.error(format!("cannot read on after offset {at}: {error}"), true));
                    }
                },
            }
        }
        Ok(if self.ended { Polled::Ended } else { Polled::Open })
    }

    /// Nothing to acknowledge: the file stays as it is.
    fn settle(&mut self, _: &[Settlement]) -> Result<(), SourceError> {
        Ok(())
    }
}
