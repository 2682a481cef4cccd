//! Synthetic cameras: drawn scenes ([`DrawnSource`]), or a handful of pictures shared by all ([`StillSource`]).
//!
//! Both follow one timetable: every camera goes at the same pace, and their phases are spread over the period, so that
//! the load is even however many there are. A picture's number is its sequence, and with it the truth of what a drawn
//! scene shows can be had again by whoever knows the seed.

mod agenda;
mod drawn;
mod scene;
mod still;

use std::sync::atomic::{AtomicU64, Ordering};

use omma_engine::source::SourceError;
use omma_frame::{CameraIndex, Mono, UnixNanos};

pub use drawn::{DrawnSource, Painter};
pub use scene::{Encode, scene_painter, scene_stills};
pub use still::StillSource;

use super::{Keep, Pace};

/// The cameras of one synthetic source.
#[derive(Debug, Clone)]
pub struct SyntheticOptions {
    pub cameras: Vec<SyntheticCamera>,
    pub pace: Pace,
    /// Each camera ends after this many pictures; `None`: never.
    pub frames: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub struct SyntheticCamera {
    pub camera: CameraIndex,
    /// With [`Pace::Unlimited`] all pictures are kept whatever this says: a camera without a pace has no newest one.
    pub keep: Keep,
}

impl SyntheticOptions {
    fn checked(mut self) -> Result<Self, SourceError> {
        if !self.pace.is_valid() {
            return Err(refused(format!("the pace is {:?}, expected a finite number of frames/s above 0", self.pace)));
        }
        if self.pace == Pace::Unlimited {
            self.cameras.iter_mut().for_each(|camera| camera.keep = Keep::All);
        }
        Ok(self)
    }
}

/// What became of the pictures that never reached the engine, and of those that did so late. Shared with whoever
/// reports; counts only grow.
#[derive(Debug, Default)]
pub struct SyntheticCounts {
    delivered: AtomicU64,
    late: AtomicU64,
    overtaken: AtomicU64,
    failed: AtomicU64,
}

impl SyntheticCounts {
    /// Pictures handed to the engine.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Pictures that were ready more than a period after they were due: the machine cannot draw that fast, or a
    /// camera that keeps all had to wait for room.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Pictures of live cameras that a newer one replaced before they were read. Each is a gap in its sequence.
    pub fn overtaken(&self) -> u64 {
        self.overtaken.load(Ordering::Relaxed)
    }

    /// Pictures that could not be drawn.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

fn add(count: &AtomicU64, n: u64) {
    if n > 0 {
        count.fetch_add(n, Ordering::Relaxed);
    }
}

/// The wall clock's time at an earlier moment of the steady clock, by what both say now.
fn unix_at(due: Mono, now: Mono, unix_now: UnixNanos) -> UnixNanos {
    UnixNanos(unix_now.0.saturating_sub(now.0.saturating_sub(due.0)))
}

fn refused(message: String) -> SourceError {
    SourceError { source: NAME.into(), camera: None, message, retry_after: None }
}

const NAME: &str = "synthetic cameras";
