//! Where frames come from. A reader thread owns some shards and the sources that feed their cameras, and polls many
//! cameras with one call: there is never a task or a thread per camera.

use std::fmt;
use std::time::Duration;

use omma_frame::CameraIndex;
pub use omma_frame::{Arrival, Fate, Settlement};

/// How many frames each camera may deliver now. A source must not exceed it: a camera without room is not read
/// (its frames stay where they are), and the others never notice.
pub trait Demand {
    /// Frames of this camera that have room now.
    fn room(&self, camera: CameraIndex) -> usize;
    /// Frames of all cameras together that one poll may append.
    fn total(&self) -> usize;
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// It gave what was there (perhaps nothing); ask again.
    Open,
    /// Every camera of this source has ended for good: a file was read to its end.
    Ended,
}

/// Where the frames of some cameras come from. Lives on one reader thread.
pub trait Source: Send {
    /// Appends what is there for the cameras that have room, oldest first for each camera (but for what is marked as
    /// `redelivered`), without waiting for more than a system call takes. Threads that a source needs (to draw, to connect) are its own.
    ///
    /// # Errors
    /// [`SourceError`] when a camera or the whole source failed. Frames appended before the error stand. A source
    /// that can mend itself (reconnect) reports the error once and goes on at the next poll.
    fn poll(&mut self, demand: &dyn Demand, arrivals: &mut Vec<Arrival>) -> Result<Polled, SourceError>;

    /// Cameras that the source has found since it was last asked and has added to the table of cameras, all of shards of
    /// its reader. From now on they have room.
    fn found(&mut self) -> Vec<CameraIndex> {
        Vec::new()
    }

    /// Cameras some of whose frames another process has read since this source gave the last one: the next tells where
    /// the camera's count stands, and what lies between is not lost.
    fn resumed(&mut self) -> Vec<CameraIndex> {
        Vec::new()
    }

    /// Hears what became of frames that it gave, many at a time, in the order of each camera's settlements.
    ///
    /// # Errors
    /// The acknowledgement could not be sent; the source keeps it and tries again with the next one.
    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), SourceError>;
}

/// What went wrong, and where. Counted and reported by the reader; the process goes on.
#[derive(Debug)]
pub struct SourceError {
    /// The source's own name: a path, a URL without its password.
    pub source: String,
    pub camera: Option<CameraIndex>,
    pub message: String,
    /// How long the source will leave this camera (or itself) alone before it tries again; zero: it goes on at once;
    /// `None`: it has given up.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)?;
        match self.retry_after {
            Some(Duration::ZERO) => f.write_str("; going on"),
            Some(wait) => write!(f, "; trying again in {:.1} s", wait.as_secs_f64()),
            None => f.write_str("; given up"),
        }
    }
}

impl std::error::Error for SourceError {}
