//! Results as JSON lines, to a file or the standard output.
//!
//! One write per call (one per [`WRITE_BYTES_MAX`] of a very large one), no allocation per result once the buffers have
//! grown. Whatever fails in between, the output never holds half a line for good, nor a line twice: half a line is taken
//! back from a file, and finished first by the next call on a stream.

mod file;

use std::io;
use std::path::Path;
use std::sync::Arc;

use omma_engine::cameras::Camera;
use omma_engine::sink::{Retry, Sink, SinkError};
use omma_frame::{CameraIndex, FrameResult, Token};

pub use super::encode::{ModelLabels, ResultEncoder, VERSION};
pub use file::OpenError;
use file::{Lines, Target};

/// Lines are written out whenever this much has gathered.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// When a result counts as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The system has it: it outlives this process, not a crash of the machine.
    #[default]
    Written,
    /// The disk has it (`fdatasync` once per call). On what is not a regular file the same as [`Self::Written`].
    Synced,
}

/// Publishes results as JSON lines.
pub struct JsonlSink {
    name: String,
    out: Box<dyn Lines>,
    encoder: ResultEncoder,
    durability: Durability,
    /// The lines of the write that is being prepared, and where each ends.
    lines: Vec<u8>,
    ends: Vec<usize>,
    owed: Option<Owed>,
}

/// A line of which only the front is out, on an output that takes nothing back.
struct Owed {
    result: Mark,
    rest: Vec<u8>,
}

type Mark = (CameraIndex, u64, Token);

fn mark(result: &FrameResult) -> Mark {
    (result.camera, result.sequence, result.token)
}

impl JsonlSink {
    /// Appends to a file, which is created if it is not there. `models` in the order of the plan's. Also returns how
    /// many bytes of half a line, left by a crash, were cut off.
    ///
    /// # Errors
    /// The file cannot be opened, has another writer, or ends in something that is not a result.
    pub fn append(path: &Path, durability: Durability, models: Vec<ModelLabels>) -> Result<(Self, u64), OpenError> {
        let (target, cut_bytes) = Target::append(path)?;
        Ok((Self::to(path.display().to_string(), Box::new(target), durability, models), cut_bytes))
    }

    /// Writes to the standard output.
    ///
    /// # Errors
    /// The process has none.
    pub fn stdout(models: Vec<ModelLabels>) -> Result<Self, OpenError> {
        Ok(Self::to("stdout".into(), Box::new(Target::stdout()?), Durability::Written, models))
    }

    fn to(name: String, out: Box<dyn Lines>, durability: Durability, models: Vec<ModelLabels>) -> Self {
        let encoder = ResultEncoder::new(models);
        Self { name, out, encoder, durability, lines: Vec::new(), ends: Vec::new(), owed: None }
    }

    /// Finishes the half line, if there is one.
    fn finish_owed(&mut self) -> io::Result<Option<Mark>> {
        let Some(owed) = &mut self.owed else { return Ok(None) };
        let (written, outcome) = write_all(&mut *self.out, &owed.rest);
        owed.rest.drain(..written);
        outcome?;
        Ok(self.owed.take().map(|owed| owed.result))
    }

    /// Writes the gathered lines, which are those of `results`. Returns how many of them are out whole, and the error
    /// that stopped the rest.
    fn write_lines(&mut self, results: &[FrameResult]) -> (usize, io::Result<()>) {
        let (written, outcome) = write_all(&mut *self.out, &self.lines);
        if outcome.is_ok() {
            return (results.len(), Ok(()));
        }
        let whole = self.ends.partition_point(|&end| end <= written);
        let whole_bytes = if whole == 0 { 0 } else { self.ends[whole - 1] };
        let half_bytes = (written - whole_bytes) as u64;
        if half_bytes > 0 && !matches!(self.out.take_back(half_bytes), Ok(true)) {
            self.owed =
                Some(Owed { result: mark(&results[whole]), rest: self.lines[written..self.ends[whole]].to_vec() });
        }
        (whole, outcome)
    }

    fn error(&self, published: usize, what: &str, error: &io::Error) -> SinkError {
        // Only a reader that has gone is gone for good. Everything else (a full disk, a quota, a limit, a device in
        // trouble) may be put right while the results wait.
        let retry = if error.kind() == io::ErrorKind::BrokenPipe { Retry::Never } else { Retry::Backoff };
        SinkError {
            sink: self.name.clone(),
            published,
            refused: Vec::new(),
            message: format!("{what}: {error}"),
            retry,
        }
    }
}

impl Sink for JsonlSink {
    fn publish(&mut self, results: &[FrameResult], cameras: &[Arc<Camera>]) -> Result<(), SinkError> {
        let finished = self.finish_owed().map_err(|error| self.error(0, "cannot write", &error))?;
        // The line just finished is normally the first of this call, whose front went out with the last one. If its
        // result was dropped in between, its line is out all the same: whole, and once.
        let owed = usize::from(finished.is_some() && finished == results.first().map(mark));
        let (mut published, mut bytes) = (owed, 0);
        let mut failure = None;
        while failure.is_none() && published < results.len() {
            self.lines.clear();
            self.ends.clear();
            let first = published;
            for result in &results[first..] {
                self.encoder.line(result, &cameras[result.camera.slot()], &mut self.lines);
                self.ends.push(self.lines.len());
                if self.lines.len() >= WRITE_BYTES_MAX {
                    break;
                }
            }
            let (whole, outcome) = self.write_lines(&results[first..first + self.ends.len()]);
            published += whole;
            bytes += if whole == 0 { 0 } else { self.ends[whole - 1] as u64 };
            failure = outcome.err();
        }
        let synced = self.durability == Durability::Written || published == 0;
        if let Err(error) = if synced { Ok(()) } else { self.out.sync() } {
            // What became of these bytes nobody can say, and a second sync would say "fine". So they are taken back
            // and written anew. If even that fails, lines may appear twice: better than to lose them.
            let half = self.owed.is_some();
            if !half && !matches!(self.out.take_back(bytes), Ok(true)) {
                return Err(self.error(owed, "cannot sync, and lines may appear twice", &error));
            }
            return Err(self.error(if half { published } else { owed }, "cannot sync", &error));
        }
        match failure {
            None => Ok(()),
            Some(error) => Err(self.error(published, "cannot write", &error)),
        }
    }
}

impl Drop for JsonlSink {
    fn drop(&mut self) {
        // The last chance for half a line; if it fails, its reader has a broken last line and sees as much.
        let _ = self.finish_owed();
    }
}

/// Writes until everything is out or an error stops it; says how much is out in either case.
fn write_all(out: &mut dyn Lines, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests;
